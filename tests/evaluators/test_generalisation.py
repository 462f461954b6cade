"""Validation minus test accuracy against hand-computed cases, rearranged rows and predictors that are known."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.evaluators import generalisation
from robustbench_spur.evaluators.base import Part, Predictions, Subject
from robustbench_spur.evaluators.generalisation import Generalisation
from robustbench_spur.literals import read_plugins
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Groups, SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe


def joined(test: Predictions, validation: Predictions) -> Predictions:
    """The test's predictions with what is collected of the validation set."""
    arrays = Generalisation().collect(Subject(test, others={"validation": Part(validation)}))
    assert tuple(arrays) == Generalisation.collects
    return dataclasses.replace(test, arrays=arrays)


def point(predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in Generalisation().measure(predictions, once(predictions)).items()}


def rows_of(
    cells: list[tuple[int, int, int]], groups: Groups | None = None, clusters: list[int] | None = None
) -> Predictions:
    """Rows of (label, attribute, predicted), each its own patient unless given."""
    labels, attributes, predicted = np.array(cells, dtype=np.int64).reshape(-1, 3).T
    who = np.arange(len(cells)) if clusters is None else np.array(clusters)
    groups = universe() if groups is None else groups
    return predictions_of(labels, attributes, who, said(predicted, len(groups.classes)), groups)


def validation_by_hand() -> Predictions:
    """Accuracy by group 2/2, 0/1, 1/1, 3/4; 6 of 8; patients 0 to 2."""
    cells = [(0, 0, 0), (0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 0)]
    return rows_of(cells, clusters=[0, 0, 0, 1, 1, 1, 2, 2])


def test_by_hand() -> None:
    """The test: 1/1, 1/2, 0/1, 1/1, patients 0 to 3 (the second has both of c0@v1's)."""
    test = rows_of([(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1)], clusters=[0, 1, 1, 2, 3])
    predictions = joined(test, validation_by_hand())
    assert predictions.arrays["generalisation_right"].tolist() == [[2, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    assert predictions.arrays["generalisation_examples"].tolist() == [[2, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 2]]
    numbers = Generalisation().measure(predictions, np.array([[1.0, 1, 1, 1], [3, 1, 0, 0], [0, 0, 1, 2]]))
    nan = math.nan
    expected = {
        "generalisation_gap": [6 / 8 - 3 / 5, 6 / 8 - 4 / 5, 6 / 8 - 2 / 3],
        "generalisation_worst_group_gap": [0, nan, 0],  # c0@v1 on validation, c1@v0 in the test
        "generalisation_gap_at:c0@v0": [0, 0, nan],
        "generalisation_gap_at:c0@v1": [-1 / 2, -1 / 2, nan],
        "generalisation_gap_at:c1@v0": [1, nan, 1],
        "generalisation_gap_at:c1@v1": [-1 / 4, nan, -1 / 4],
    }
    assert set(numbers) == set(expected)
    for name, values in expected.items():
        assert numbers[name].tolist() == pytest.approx(values, nan_ok=True), name
    details = Generalisation().details(predictions)
    assert details["validation"]["accuracy"] == 0.75
    assert (details["validation"]["patients"], details["validation"]["worst_group"]) == (3, "c0@v1")
    assert details["test"] == {"accuracy": 0.6, "examples": 5, "patients": 4, "worst_group": "c1@v0"}
    assert details["groups"][3] == {
        "group": "c1@v1",
        "validation": 0.75,
        "validation_examples": 4,
        "test": 1.0,
        "test_examples": 1,
    }
    assert details["undefined"] == {}
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_the_interval_of_validation_is_that_of_its_patients() -> None:
    """Patients with 2 of 3, 3 of 3 and 1 of 2: all 27 draws of three, against the details' resampling."""
    predictions = joined(reference.perfect(), validation_by_hand())
    low, high = Generalisation(Generalisation.Parameters(replicates=4000)).details(predictions)["validation"][
        "interval"
    ]
    right, examples = np.array([2, 3, 1]), np.array([3, 3, 2])
    draws = np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3)
    every = np.repeat(right[draws].sum(axis=1) / examples[draws].sum(axis=1), 1000)  # each is as likely
    assert (low, high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])))


# Predictors whose numbers are known


def test_predictors_that_are_the_same_on_both() -> None:
    for predictions in (reference.perfect(), reference.constant(0), reference.shortcut_only()):
        assert set(point(joined(predictions, predictions)).values()) == {0}


def test_random() -> None:
    predictions = [reference.random(seed, rows=20_000, patients=500, step=0) for seed in (0, 1)]
    assert all(abs(value) < 0.03 for value in point(joined(*predictions)).values())


def test_a_shortcut_that_holds_on_validation_alone() -> None:
    """Validation's design has the aligned groups only: it promises 1, and the test gives 1/2, and 0 in the worst group."""
    test = reference.shortcut_only()
    aligned = np.flatnonzero(test.labels == test.attributes)
    columns = (test.labels[aligned], test.attributes[aligned], test.patient[aligned])
    designed = predictions_of(*columns, test.logits[aligned].astype(np.float64), universe().only((0, 3)))
    numbers, details = point(joined(test, designed)), Generalisation().details(joined(test, designed))
    assert (numbers["generalisation_gap"], numbers["generalisation_worst_group_gap"]) == (0.5, 1)
    assert numbers["generalisation_gap_at:c0@v0"] == numbers["generalisation_gap_at:c1@v1"] == 0
    assert details["undefined"] == dict.fromkeys(
        ("generalisation_gap_at:c0@v1", "generalisation_gap_at:c1@v0"), "validation's design does not have the group"
    )
    empty = reference.rearranged(test, aligned)  # the same rows, where the design has all groups
    assert Generalisation().details(joined(test, empty))["undefined"] == {
        "generalisation_worst_group_gap": "2 of validation's declared groups have no examples: c0@v1, c1@v0",
        "generalisation_gap_at:c0@v1": "no examples in validation",
        "generalisation_gap_at:c1@v0": "no examples in validation",
    }


def test_a_test_without_some_groups() -> None:
    test = rows_of([(0, 0, 0), (1, 0, 0), (1, 1, 1)], universe().only((0, 2, 3)))
    numbers = point(joined(test, validation_by_hand()))
    assert numbers["generalisation_gap_at:c1@v0"] == 1
    assert numbers["generalisation_gap_at:c1@v1"] == -0.25
    assert "generalisation_gap_at:c0@v1" not in numbers
    lacking = rows_of([(0, 0, 0)], universe().only((0, 2)))
    assert Generalisation().details(joined(lacking, validation_by_hand()))["undefined"] == {
        "generalisation_worst_group_gap": "a declared group of the test has no examples",
        "generalisation_gap_at:c1@v0": "no examples in the test",
    }


def test_many_rows_and_ten_classes() -> None:
    test, validation = (reference.random(seed, rows=200_000, patients=500, classes=10, values=5) for seed in (0, 1))
    numbers = Generalisation().measure(joined(test, validation), resample_counts(500, 50, 0))
    assert len(numbers) == 52
    assert all((np.abs(value) < 0.1).all() for value in numbers.values())


# Nothing is dropped, nothing crashes


@pytest.mark.parametrize(("rows", "known"), [(0, 0), (0, 3), (3, 0), (1, 1), (3, 3)])
@pytest.mark.parametrize(("classes", "values"), [(2, 2), (1, 1), (10, 5)])
def test_few_rows_give_numbers_or_nan(rows: int, known: int, classes: int, values: int) -> None:
    test, validation = (reference.random(1, rows=n, patients=1, classes=classes, values=values) for n in (rows, known))
    predictions = joined(test, validation)
    numbers = Generalisation().measure(predictions, resample_counts(len(predictions.patients), 7, 0))
    assert all(value.shape == (7,) for value in numbers.values())
    details = Generalisation().details(predictions)
    assert {name for name, value in numbers.items() if np.isnan(value).any()} == set(details["undefined"])
    assert json.loads(json.dumps(details, allow_nan=False)) == details


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_resampling_is_measuring_the_repeated_rows(seed: int, rows: int) -> None:
    test, validation = (reference.random(seed + k, rows=rows, patients=6, values=3) for k in (0, 1))
    predictions = joined(test, validation)
    counts = resample_counts(len(predictions.patients), 3, seed)
    numbers, named = Generalisation().measure(predictions, counts), Generalisation().details(predictions)
    worst = named["test"]["worst_group"]
    for row, times in enumerate(counts):
        drawn = reference.repeated(test, times)
        right, group = drawn.correct, drawn.group
        mean = validation.correct.mean() - right.mean()
        assert numbers["generalisation_gap"][row] == pytest.approx(mean)
        for g, name in enumerate(test.groups.names):
            before, after = validation.correct[validation.group == g], right[group == g]
            both = before.mean() - after.mean() if len(before) and len(after) else math.nan
            assert numbers[f"generalisation_gap_at:{name}"][row] == pytest.approx(both, nan_ok=True)
            if name == worst and not np.isnan(numbers["generalisation_worst_group_gap"][row]):
                lowest = min(validation.correct[validation.group == k].mean() for k in range(6))
                assert numbers["generalisation_worst_group_gap"][row] == pytest.approx(lowest - after.mean())


def test_what_does_not_fit_is_refused() -> None:
    predictions = joined(reference.perfect(), validation_by_hand())
    arrays = predictions.arrays
    cases: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"generalisation_right": arrays["generalisation_right"][:, :3]}, "in 4 groups"),
        ({"generalisation_declared": np.ones(3)}, "in 4 groups"),
        ({"generalisation_right": arrays["generalisation_examples"] + 1}, "no more right"),
        ({"generalisation_declared": np.zeros(4)}, "its design lacks"),
    ]
    for changed, said_of_it in cases:
        broken = dataclasses.replace(predictions, arrays={**arrays, **changed})
        with pytest.raises(SpurbenchError, match=said_of_it):
            Generalisation().measure(broken, once(broken))
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        Generalisation().measure(reference.perfect(), once(reference.perfect()))
    with pytest.raises(SpurbenchError, match=r"\(resamples, 20\)"):
        Generalisation().measure(predictions, np.ones((1, 3)))
    for parameters in ({"replicates": 0}, {"seed": -1}, {"folds": 2}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            Generalisation.Parameters(**parameters)


def test_listing_reads_it_without_running_it() -> None:
    source = read_plugins(Path(str(generalisation.__file__)))
    assert [plugin.literals["name"] for plugin in source] == ["generalisation"]
    assert source[0].literals["metrics"] == Generalisation.metrics
    assert source[0].literals["reads"] == ("validation",)
    script = "import robustbench_spur.evaluators.generalisation, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
