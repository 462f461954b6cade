"""Gaps and shares of errors against hand-computed cases, scikit-learn's confusion matrices and predictors that are known."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.evaluators import fairness
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.fairness import RATES, Fairness
from robustbench_spur.literals import read_plugins
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe

TWO_CLASS = ("equalised_odds", *RATES)
CONFLICT = ("conflict_error_share", "conflict_error_excess")


def against(predictions: Predictions, *groups: int) -> Predictions:
    """The same, where training contradicts these groups; c0@v1 and c1@v0 unless others are given."""
    return dataclasses.replace(predictions, conflict=groups or (1, 2))


def point(predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in Fairness().measure(predictions, once(predictions)).items()}


def eight_rows() -> Predictions:
    """Patients p0 to p3; accuracy by group 2/2, 1/2, 1/3, 1/1; three errors, all in the conflict groups."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    attributes = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    predicted = np.array([0, 0, 0, 1, 1, 0, 0, 1])
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    return against(predictions_of(labels, attributes, clusters, said(predicted, 2, margin=2.0), universe()))


# By hand


def test_by_hand() -> None:
    """True-positive rates 1/3 and 1, false-positive rates 0 and 1/2."""
    assert point(eight_rows()) == pytest.approx(
        {
            "equalised_odds": (2 / 3 + 1 / 2) / 2,
            "true_positive_rate_gap": 2 / 3,
            "false_positive_rate_gap": 1 / 2,
            "accuracy_gap": 1 - 1 / 3,
            "conflict_error_share": 1,
            "conflict_error_excess": 1 - 5 / 8,
        }
    )


def test_under_resampling_by_hand() -> None:
    """The ends stay c1@v1 and c1@v0, c0@v0 and c0@v1, whatever is drawn."""
    numbers = Fairness().measure(eight_rows(), np.array([[2.0, 0, 1, 1], [1, 1, 0, 2], [0, 0, 4, 0]]))
    assert numbers["true_positive_rate_gap"].tolist() == pytest.approx([1, 0, math.nan], nan_ok=True)
    assert numbers["false_positive_rate_gap"].tolist() == pytest.approx([0, 1 / 2, math.nan], nan_ok=True)
    assert numbers["accuracy_gap"].tolist() == pytest.approx([1, 0, math.nan], nan_ok=True)
    assert numbers["conflict_error_share"].tolist() == [1, 1, 1]
    assert numbers["conflict_error_excess"].tolist() == pytest.approx([1 - 4 / 9, 1 - 3 / 7, 0])


def test_a_gap_may_be_negative_under_resampling() -> None:
    labels, attributes = np.array([1, 1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0, 1])
    predictions = predictions_of(labels, attributes, np.arange(6), said(np.array([1, 1, 1, 0, 0, 0]), 2), universe())
    counts = np.array([[1.0, 1, 1, 1, 1, 1], [1, 1, 2, 0, 1, 1], [1, 1, 0, 2, 1, 1]])
    assert Fairness().measure(predictions, counts)["true_positive_rate_gap"].tolist() == [0.5, 0, 1]
    turned = predictions_of(labels, attributes, np.arange(6), said(np.array([1, 0, 1, 1, 0, 0]), 2), universe())
    lost = Fairness().measure(turned, np.array([[2.0, 0, 1, 1, 1, 1], [0, 2, 1, 1, 1, 1]]))
    assert lost["true_positive_rate_gap"].tolist() == [0, 1]


def test_details_by_hand() -> None:
    details = Fairness().details(eight_rows())
    assert details["rates"] == {
        "v0": {"false_positive_rate": 0.0, "true_positive_rate": pytest.approx(1 / 3)},
        "v1": {"false_positive_rate": 0.5, "true_positive_rate": 1.0},
    }
    assert details["between"] == {
        "true_positive_rate_gap": ["c1@v1", "c1@v0"],
        "false_positive_rate_gap": ["c0@v0", "c0@v1"],
        "accuracy_gap": ["c0@v0", "c1@v0"],
    }
    assert details["errors"][2] == {
        "group": "c1@v0",
        "examples": 3,
        "errors": 2,
        "share_of_examples": 3 / 8,
        "share_of_errors": pytest.approx(2 / 3),
        "conflict": True,
    }
    assert [row["conflict"] for row in details["errors"]] == [False, True, True, False]
    assert details["undefined"] == {}
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_support_by_hand() -> None:
    """Patients by group: c0@v0 p0; c0@v1 p0 and p1; c1@v0 p1 and p2; c1@v1 p3. Errors are p1's and p2's."""
    assert Fairness().support(eight_rows()) == {
        "true_positive_rate_gap": 1,
        "false_positive_rate_gap": 1,
        "equalised_odds": 1,
        "accuracy_gap": 1,
        "conflict_error_share": 2,
    }


# Predictors whose numbers are known


def test_perfect() -> None:
    numbers, details = point(against(reference.perfect())), Fairness().details(against(reference.perfect()))
    assert [numbers[name] for name in (*TWO_CLASS, "accuracy_gap")] == [0, 0, 0, 0]
    assert all(math.isnan(numbers[name]) for name in CONFLICT)
    assert details["undefined"] == dict.fromkeys(CONFLICT, "no error")


def test_constant() -> None:
    """All of one class are wrong, at both values alike: odds are equal, accuracies are not, and errors are spread."""
    numbers = point(against(reference.constant(0)))
    assert [numbers[name] for name in TWO_CLASS] == [0, 0, 0]
    assert (numbers["accuracy_gap"], numbers["conflict_error_share"], numbers["conflict_error_excess"]) == (1, 0.5, 0)


def test_shortcut_only() -> None:
    numbers = point(against(reference.shortcut_only()))
    assert [numbers[name] for name in (*TWO_CLASS, "accuracy_gap", "conflict_error_share")] == [1] * 5
    assert numbers["conflict_error_excess"] == 0.5


def test_random() -> None:
    numbers = point(against(reference.random(0, rows=20_000, patients=20_000, step=0)))
    assert numbers.pop("conflict_error_share") == pytest.approx(0.5, abs=0.03)
    assert list(numbers.values()) == pytest.approx([0] * len(numbers), abs=0.03)


def test_ten_classes_and_five_values() -> None:
    predictions = against(reference.random(3, rows=3000, patients=100, classes=10, values=5), 4, 9, 49)
    numbers, details = point(predictions), Fairness().details(predictions)
    assert details["undefined"] == dict.fromkeys(TWO_CLASS, "defined for two classes, the split has 10")
    assert details["rates"] == {}
    accuracy = [np.mean(predictions.correct[predictions.group == g]) for g in range(50)]
    assert numbers["accuracy_gap"] == pytest.approx(max(accuracy) - min(accuracy))
    inside = np.isin(predictions.group, (4, 9, 49))
    assert numbers["conflict_error_share"] == pytest.approx(np.mean(inside[~predictions.correct]))
    assert numbers["conflict_error_excess"] == pytest.approx(np.mean(inside[~predictions.correct]) - inside.mean())


def test_two_hundred_thousand_rows() -> None:
    predictions = against(reference.random(0, rows=200_000, patients=500, step=0))
    numbers = Fairness().measure(predictions, resample_counts(500, 200, 0))
    assert all(np.isfinite(value).all() for value in numbers.values())


# Other libraries


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_as_scikit_learn(seed: int, values: int) -> None:
    predictions = reference.random(seed, values=values)
    theirs = Fairness().cross_check(predictions)["sklearn/equalised_odds"]
    assert point(predictions)["equalised_odds"] == pytest.approx(theirs)


# Nothing is dropped, nothing crashes


def test_no_association_has_no_conflict() -> None:
    reasons = Fairness().details(dataclasses.replace(eight_rows(), conflict=()))["undefined"]
    assert set(reasons) == set(CONFLICT)
    assert reasons["conflict_error_share"].startswith("training contradicts no group: class and site")


def test_an_empty_group_is_undefined_and_says_so() -> None:
    rows = eight_rows()
    without = np.flatnonzero(rows.group != 2)
    predictions = against(reference.rearranged(rows, without))
    details = Fairness().details(predictions)
    assert details["undefined"] == {
        "equalised_odds": "1 of 4 declared groups have no examples: c1@v0",
        "true_positive_rate_gap": "1 of 2 declared groups have no examples: c1@v0",
        "accuracy_gap": "1 of 4 declared groups have no examples: c1@v0",
    }
    assert point(predictions)["false_positive_rate_gap"] == 0.5
    assert details["between"]["accuracy_gap"] is None
    assert set(Fairness().support(predictions)) == {"false_positive_rate_gap", "conflict_error_share"}
    aligned = against(reference.rearranged(rows, np.flatnonzero((rows.group == 0) | (rows.group == 3))))
    assert Fairness().details(aligned)["undefined"]["conflict_error_share"] == (
        "no example is in a group that training contradicts"
    )


def test_a_design_without_some_groups() -> None:
    """With c0 at v0 only, its rates cannot be compared; those of c1 can."""
    rows = eight_rows()
    kept = np.flatnonzero(rows.group != 1)
    groups = universe().only((0, 2, 3))
    predictions = predictions_of(
        rows.labels[kept], rows.attributes[kept], rows.patient[kept], rows.logits[kept].astype(np.float64), groups
    )
    numbers, details = point(against(predictions, 1)), Fairness().details(against(predictions, 1))
    assert numbers["true_positive_rate_gap"] == pytest.approx(2 / 3)
    assert details["between"]["true_positive_rate_gap"] == ["c1@v1", "c1@v0"]
    assert details["undefined"] == dict.fromkeys(
        ("equalised_odds", "false_positive_rate_gap"), "needs two groups to compare, of each class that it is about"
    )
    assert numbers["conflict_error_share"] == 1
    assert details["rates"]["v1"] == {"true_positive_rate": 1.0}
    assert Fairness().cross_check(predictions) == {"sklearn/equalised_odds": None}


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(("classes", "values"), [(2, 2), (1, 1), (10, 5), (2, 1)])
def test_few_rows_give_numbers_or_nan(rows: int, classes: int, values: int) -> None:
    predictions = reference.random(1, rows=rows, patients=1, classes=classes, values=values)
    predictions = against(predictions, classes * values - 1)
    numbers = Fairness().measure(predictions, resample_counts(len(predictions.patients), 7, 0))
    assert set(numbers) == set(Fairness.metrics)
    assert all(value.shape == (7,) for value in numbers.values())
    details = Fairness().details(predictions)
    assert {name for name, value in numbers.items() if np.isnan(value).any()} == set(details["undefined"])
    assert all(details["undefined"].values())
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert set(Fairness().support(predictions)) <= set(numbers)


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"\(resamples, 4\)"):
        Fairness().measure(eight_rows(), np.ones((1, 5)))


# Properties


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (2, 3), (4, 2)]), st.integers(1, 60))
def test_resampling_is_weighting_the_rows(seed: int, shape: tuple[int, int], rows: int) -> None:
    predictions = against(reference.random(seed, rows=rows, patients=8, classes=shape[0], values=shape[1]))
    counts = resample_counts(len(predictions.patients), 3, seed)
    numbers, between = Fairness().measure(predictions, counts), Fairness().details(predictions)["between"]
    names = predictions.groups.names
    for row, times in enumerate(counts):
        drawn = np.repeat(np.arange(rows), times[predictions.patient].astype(int))
        group, right = predictions.group[drawn], predictions.correct[drawn]
        for metric, ends in between.items():
            if ends is not None and all((group == names.index(end)).any() for end in ends):
                high, low = (right[group == names.index(end)].mean() for end in ends)
                assert numbers[metric][row] == pytest.approx(high - low)
            else:
                assert math.isnan(numbers[metric][row])
        inside = np.isin(group, predictions.conflict)
        known = inside.any() and not right.all()
        share = inside[~right].mean() if known else math.nan
        assert numbers["conflict_error_share"][row] == pytest.approx(share, nan_ok=True)
        assert numbers["conflict_error_excess"][row] == pytest.approx(share - inside.mean(), nan_ok=True)
    for name, value in numbers.items():
        known_values = value[~np.isnan(value)]
        metric_of = Fairness.metrics[name]
        assert ((known_values >= metric_of.low) & (known_values <= metric_of.high)).all()


def test_listing_reads_it_without_running_it() -> None:
    source = read_plugins(Path(str(fairness.__file__)))
    assert [plugin.literals["name"] for plugin in source] == ["fairness"]
    assert source[0].literals["metrics"] == Fairness.metrics
    script = "import robustbench_spur.evaluators.fairness, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
