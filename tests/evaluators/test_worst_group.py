"""Group accuracies and their summaries against hand-computed cases, scikit-learn and torchmetrics."""

from __future__ import annotations

import json
import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.worst_group import WorstGroup, weighted_auroc
from robustbench_spur.statistics import estimate, resample, resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe

RATES = ("sensitivity", "specificity", "ppv", "npv", "auroc")


def point(predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in WorstGroup().measure(predictions, once(predictions)).items()}


def eight_rows() -> Predictions:
    """Patients p0 to p3; accuracy by group 2/2, 1/2, 1/3, 1/1."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    attributes = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    predicted = np.array([0, 0, 0, 1, 1, 0, 0, 1])
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    return predictions_of(labels, attributes, clusters, said(predicted, 2, margin=2.0), universe())


# By hand


def test_one_metric_alone_is_the_same_as_among_all() -> None:
    predictions = reference.random(3)
    counts = resample_counts(len(predictions.patients), 50, 1)
    every = WorstGroup().measure(predictions, counts)
    for metrics in (
        ("worst_group_accuracy",),
        ("micro_accuracy", "worst_group_accuracy"),
        ("auroc", "micro_accuracy"),
        (),
    ):
        found = WorstGroup().measure_only(predictions, counts, metrics)
        assert found.keys() == set(metrics)
        for metric in metrics:
            np.testing.assert_array_equal(found[metric], every[metric])


def test_by_hand() -> None:
    numbers = point(eight_rows())
    assert numbers == pytest.approx(
        {
            "worst_group_accuracy": 1 / 3,
            "lowest_group_accuracy": 1 / 3,
            "group_accuracy:c0@v0": 1.0,
            "group_accuracy:c0@v1": 1 / 2,
            "group_accuracy:c1@v0": 1 / 3,
            "group_accuracy:c1@v1": 1.0,
            "balanced_accuracy": (1 + 1 / 2 + 1 / 3 + 1) / 4,
            "micro_accuracy": 5 / 8,
            "patient_macro_accuracy": (1 + 1 / 2 + 0 + 1) / 4,
            "sensitivity": 2 / 4,
            "specificity": 3 / 4,
            "ppv": 2 / 3,
            "npv": 3 / 5,
            "auroc": (2 * 3 + 2 * 0.5 * 1 + 2 * 0.5 * 3) / 16,
            "positive_rate_gap": 2 / 3 - 1 / 5,
        }
    )


def test_under_resampling_by_hand() -> None:
    numbers = WorstGroup().measure(eight_rows(), np.array([[2.0, 0, 1, 1], [0, 0, 4, 0], [1, 1, 0, 2]]))
    assert numbers["worst_group_accuracy"].tolist() == [0.0, 0.0, 1.0]  # group c1@v0, also where it is not the lowest
    assert numbers["lowest_group_accuracy"].tolist() == pytest.approx([0.0, math.nan, 1 / 2], nan_ok=True)
    assert numbers["group_accuracy:c0@v0"].tolist() == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert numbers["balanced_accuracy"].tolist() == pytest.approx([3 / 4, math.nan, 7 / 8], nan_ok=True)
    assert numbers["micro_accuracy"].tolist() == [7 / 9, 0.0, 6 / 7]
    assert numbers["patient_macro_accuracy"].tolist() == [3 / 4, 0.0, 3.5 / 4]


def test_details_by_hand() -> None:
    details = WorstGroup().details(eight_rows())
    assert details["groups"][2] == {"group": "c1@v0", "examples": 3, "patients": 2, "accuracy": pytest.approx(1 / 3)}
    assert details["groups_with_examples"] == "4 of 4 groups have examples"
    assert (details["worst_group"], details["worst_group_patients"]) == ("c1@v0", 2)
    assert details["confusion"] == [[3, 1], [2, 2]]
    assert details["positive_rates"] == {"v0": pytest.approx(1 / 5), "v1": pytest.approx(2 / 3)}
    assert details["positive_rate_gap_between"] == ["v1", "v0"]
    assert details["undefined"] == {}
    assert len(details["warnings"]) == 4
    assert details["warnings"][0] == "c0@v0 has 1 patient(s), fewer than 5: shown, not ranked on"


def test_support_by_hand() -> None:
    assert WorstGroup().support(eight_rows()) == {
        "worst_group_accuracy": 2,
        "group_accuracy:c0@v0": 1,
        "group_accuracy:c0@v1": 2,
        "group_accuracy:c1@v0": 2,
        "group_accuracy:c1@v1": 1,
        "balanced_accuracy": 1,
        "micro_accuracy": 4,
        "patient_macro_accuracy": 4,
        "sensitivity": 3,
        "specificity": 2,
        "ppv": 2,  # p1 and p3
        "npv": 2,  # p0 and p2
    }


def test_few_patients_is_a_parameter() -> None:
    few = WorstGroup(WorstGroup.Parameters(minimum_patients=2)).details(eight_rows())["warnings"]
    assert [line.split()[0] for line in few] == ["c0@v0", "c1@v1"]
    with pytest.raises(ValueError, match="minimum_patients"):
        WorstGroup.Parameters(minimum_patients=0)


# Predictors whose numbers are known


def test_perfect() -> None:
    numbers = point(reference.perfect())
    assert {name: value for name, value in numbers.items() if value != 1.0} == {"positive_rate_gap": 0.0}


def test_constant() -> None:
    numbers = point(reference.constant(0))
    assert numbers["worst_group_accuracy"] == 0
    assert numbers["micro_accuracy"] == numbers["balanced_accuracy"] == numbers["patient_macro_accuracy"] == 0.5
    assert (numbers["sensitivity"], numbers["specificity"]) == (0, 1)
    assert math.isnan(numbers["ppv"])
    assert (numbers["npv"], numbers["auroc"], numbers["positive_rate_gap"]) == (0.5, 0.5, 0)
    assert WorstGroup().details(reference.constant(0))["undefined"] == {"ppv": "no example is predicted as c1"}


def test_shortcut_only() -> None:
    numbers = point(reference.shortcut_only())
    assert numbers["worst_group_accuracy"] == 0
    assert numbers["micro_accuracy"] == numbers["balanced_accuracy"] == numbers["auroc"] == 0.5
    assert numbers["group_accuracy:c0@v0"] == numbers["group_accuracy:c1@v1"] == 1
    assert numbers["group_accuracy:c0@v1"] == numbers["group_accuracy:c1@v0"] == 0
    assert numbers["positive_rate_gap"] == 1


def test_random() -> None:
    numbers = point(reference.random(0, rows=20_000, patients=20_000, step=0))
    gap = numbers.pop("positive_rate_gap")
    assert gap == pytest.approx(0, abs=0.03)
    assert list(numbers.values()) == pytest.approx([0.5] * len(numbers), abs=0.03)


def test_ten_classes_and_five_values() -> None:
    predictions = reference.random(3, rows=3000, patients=100, classes=10, values=5, step=0)
    numbers = point(predictions)
    assert len([name for name in numbers if name.startswith("group_accuracy:")]) == 50
    assert numbers["micro_accuracy"] == pytest.approx(0.1, abs=0.03)
    assert numbers["worst_group_accuracy"] < numbers["balanced_accuracy"]
    assert all(math.isnan(numbers[name]) for name in (*RATES, "positive_rate_gap"))
    undefined = WorstGroup().details(predictions)["undefined"]
    assert undefined["auroc"] == "defined for two classes, the split has 10"
    assert set(undefined) == {*RATES, "positive_rate_gap"}


def test_the_gap_of_three_values_is_between_the_named_two() -> None:
    attributes = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 0, 0, 1])
    labels = np.array([0, 1, 0, 1, 0, 1])
    predictions = predictions_of(labels, attributes, np.arange(6), said(predicted, 2), universe(values=3))
    counts = np.array([[1.0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 2, 2], [0, 2, 1, 1, 0, 2]])
    assert WorstGroup().measure(predictions, counts)["positive_rate_gap"].tolist() == pytest.approx(
        [1.0, math.nan, 1.0], nan_ok=True
    )
    assert WorstGroup().details(predictions)["positive_rate_gap_between"] == ["v0", "v1"]


# Nothing is dropped, nothing crashes


def test_an_empty_group_leaves_the_worst_undefined_and_says_so() -> None:
    perfect = reference.perfect()
    biased = reference.rearranged(perfect, np.flatnonzero(perfect.labels == perfect.attributes))
    numbers, details = point(biased), WorstGroup().details(biased)
    for name in ("worst_group_accuracy", "balanced_accuracy", "group_accuracy:c0@v1", "group_accuracy:c1@v0"):
        assert math.isnan(numbers[name])
    assert (numbers["group_accuracy:c0@v0"], numbers["micro_accuracy"], numbers["auroc"]) == (1, 1, 1)
    assert details["empty_groups"] == ["c0@v1", "c1@v0"]
    assert details["groups_with_examples"] == "2 of 4 groups have examples"
    assert details["undefined"] == {
        "worst_group_accuracy": "2 of 4 declared groups have no examples: c0@v1, c1@v0",
        "lowest_group_accuracy": "2 of 4 declared groups have no examples: c0@v1, c1@v0",
        "balanced_accuracy": "2 of 4 declared groups have no examples: c0@v1, c1@v0",
        "group_accuracy:c0@v1": "no examples",
        "group_accuracy:c1@v0": "no examples",
    }
    assert details["worst_group"] is None
    assert details["groups"][1] == {"group": "c0@v1", "examples": 0, "patients": 0, "accuracy": None}


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(("classes", "values"), [(2, 2), (1, 1), (10, 5), (2, 1)])
def test_few_rows_give_numbers_or_nan(rows: int, classes: int, values: int) -> None:
    predictions = reference.random(1, rows=rows, patients=1, classes=classes, values=values)
    counts = resample_counts(len(predictions.patients), 7, 0)
    numbers = WorstGroup().measure(predictions, counts)
    assert all(value.shape == (7,) for value in numbers.values())
    assert set(WorstGroup().support(predictions)) <= set(numbers)
    details = WorstGroup().details(predictions)
    missing = {name for name, value in numbers.items() if np.isnan(value).any()}
    assert missing == set(details["undefined"])
    assert all(details["undefined"].values())
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert all(value is None or math.isfinite(value) for value in WorstGroup().cross_check(predictions).values())


def test_a_single_class_has_no_auroc() -> None:
    predictions = reference.rearranged(reference.perfect(), np.arange(20))
    numbers = point(predictions)
    assert [name for name in RATES if math.isnan(numbers[name])] == ["sensitivity", "ppv", "auroc"]
    assert WorstGroup().details(predictions)["undefined"]["auroc"] == "needs examples of both c0 and c1"


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"\(resamples, 4\)"):
        WorstGroup().measure(eight_rows(), np.ones((1, 5)))


# Properties


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (2, 3), (4, 2)]), st.integers(2, 40))
def test_resampling_is_measuring_the_repeated_rows(seed: int, shape: tuple[int, int], rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=8, classes=shape[0], values=shape[1])
    counts = resample_counts(len(predictions.patients), 3, seed)
    numbers = WorstGroup().measure(predictions, counts)
    worst = WorstGroup().details(predictions)["worst_group"]
    for row, times in enumerate(counts):
        expected = point(reference.repeated(predictions, times))
        if worst is not None:
            assert numbers["worst_group_accuracy"][row] == pytest.approx(
                expected[f"group_accuracy:{worst}"], nan_ok=True
            )
        named_on_all_patients = {"worst_group_accuracy", *(["positive_rate_gap"] if shape[1] > 2 else [])}
        for name in set(expected) - named_on_all_patients:
            assert numbers[name][row] == pytest.approx(expected[name], nan_ok=True), name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_order_of_rows_and_names_of_patients_do_not_matter(seed: int) -> None:
    predictions = reference.random(seed, rows=30, patients=6, values=3)
    order = np.random.default_rng(seed).permutation(30)
    renamed = np.array([f"new{9 - int(name[1:])}" for name in predictions.clusters[order]], dtype=np.str_)
    other = reference.rearranged(predictions, order, renamed)
    counts = resample_counts(len(predictions.patients), 5, seed)
    ours, theirs = WorstGroup().measure(predictions, counts), WorstGroup().measure(other, counts[:, ::-1])
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], nan_ok=True), name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_numbers_lie_in_their_ranges(seed: int, rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=9)
    numbers = WorstGroup().measure(predictions, resample_counts(len(predictions.patients), 5, seed))
    for name, value in numbers.items():
        family = name.split(":")[0] + ":" if ":" in name else name
        metric = WorstGroup.metrics[family]
        known = value[~np.isnan(value)]
        assert ((known >= metric.low) & (known <= metric.high)).all()
    groups = np.array([value for name, value in numbers.items() if name.startswith("group_accuracy:")])
    assert not (numbers["worst_group_accuracy"] < groups.min(axis=0)).any()


def test_the_point_estimate_is_a_row_of_ones() -> None:
    predictions = reference.random(5)
    counts = np.concatenate([once(predictions), resample_counts(len(predictions.patients), 3, 0)])
    measured = {name: value[0] for name, value in WorstGroup().measure(predictions, counts).items()}
    assert measured == pytest.approx(point(predictions), rel=1e-12)


def test_blocks_do_not_change_the_auroc(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = reference.random(8)
    counts = resample_counts(len(predictions.patients), 50, 0)
    whole = WorstGroup().measure(predictions, counts)["auroc"]
    monkeypatch.setattr("robustbench_spur.evaluators.worst_group.SUMS_BYTES", 16 * 401 * 3)
    assert WorstGroup().measure(predictions, counts)["auroc"].tolist() == whole.tolist()


def test_auroc_tells_apart_confident_scores() -> None:
    scores = np.array([0.0, 500.0, 501.0, 1e30])  # as probabilities all but the first are 1
    positive = np.array([False, True, False, True])
    assert weighted_auroc(scores, positive, np.arange(4), np.ones((1, 4))).tolist() == [0.75]


# Other libraries


@pytest.mark.parametrize("seed", range(4))
def test_as_scikit_learn(seed: int) -> None:
    from sklearn import metrics  # type: ignore[import-untyped]

    predictions = reference.random(seed)
    numbers = WorstGroup().measure(predictions, np.stack([np.ones(40), resample_counts(40, 1, seed)[0]]))
    margin = predictions.logits[:, 1].astype(np.float64) - predictions.logits[:, 0]
    labels, predicted = predictions.labels, predictions.predicted
    for row, weight in enumerate((np.ones(len(labels)), resample_counts(40, 1, seed)[0][predictions.patient])):
        expected = {
            "auroc": metrics.roc_auc_score(labels, margin, sample_weight=weight),
            "micro_accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weight),
            "sensitivity": metrics.recall_score(labels, predicted, sample_weight=weight),
            "specificity": metrics.recall_score(labels, predicted, pos_label=0, sample_weight=weight),
            "ppv": metrics.precision_score(labels, predicted, sample_weight=weight),
            "npv": metrics.precision_score(labels, predicted, pos_label=0, sample_weight=weight),
            "balanced_accuracy": metrics.balanced_accuracy_score(
                predictions.group, predictions.groups.index(predicted, predictions.attributes), sample_weight=weight
            ),
        }
        assert {name: float(numbers[name][row]) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "values"), [(2, 2), (10, 5)])
def test_as_torchmetrics(classes: int, values: int) -> None:
    predictions = reference.random(11, rows=1500, classes=classes, values=values)
    numbers = point(predictions)
    checked = WorstGroup().cross_check(predictions)
    assert len(checked) == classes * values + 4
    for name, value in checked.items():
        ours = numbers[name.removeprefix("torchmetrics/")]
        assert math.isnan(ours) if value is None else value == pytest.approx(ours, abs=1e-6), name


def test_cross_check_leaves_out_what_is_undefined() -> None:
    checked = WorstGroup().cross_check(reference.rearranged(reference.perfect(), np.arange(10)))
    assert checked["torchmetrics/group_accuracy:c0@v0"] == 1.0
    assert [checked[f"torchmetrics/{name}"] for name in ("worst_group_accuracy", "balanced_accuracy", "auroc")] == [
        None,
        None,
        None,
    ]


# Intervals, cost


def test_the_named_groups_interval_is_wider_by_patients_than_by_slices() -> None:
    rng = np.random.default_rng(4)
    patients, slices = 80, 15
    clusters = np.repeat(np.arange(patients), slices)
    labels, attributes = np.arange(patients) % 2, np.arange(patients) // 2 % 2
    right = rng.random(patients * slices) < rng.beta(1.4, 0.6, patients)[clusters]
    predicted = np.where(right, labels[clusters], 1 - labels[clusters])
    widths = []
    for unit in (clusters, np.arange(patients * slices)):
        predictions = predictions_of(labels[clusters], attributes[clusters], unit, said(predicted, 2), universe())
        draws = resample(partial(WorstGroup().measure, predictions), len(predictions.patients), 1000, 0)
        value = point(predictions)["worst_group_accuracy"]
        interval = estimate(WorstGroup.metrics["worst_group_accuracy"], value, draws["worst_group_accuracy"])
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= value <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[0] > 1.8 * widths[1]


def test_memory_is_bounded_for_two_hundred_thousand_rows() -> None:
    predictions = reference.random(0, rows=200_000, patients=2000, step=0)
    counts = resample_counts(2000, 200, 0)
    WorstGroup().measure(predictions, counts[:1])
    tracemalloc.start()
    WorstGroup().measure(predictions, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000  # replicates x rows would take 320 MB
