"""Calibration against hand-computed cases, netcal, torchmetrics and scikit-learn."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.calibration.bins import bin_index
from robustbench_spur.calibration.scores import brier_scores, negative_log_likelihood
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.statistics import estimate, resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe


def point(predictions: Predictions, bins: int = 15) -> dict[str, float]:
    measured = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, once(predictions))
    return {name: float(value[0]) for name, value in measured.items()}


def of_probabilities(positive: list[float], labels: list[int], attributes: list[int] | None = None) -> Predictions:
    """Two classes, a patient per row, with the given probabilities of class 1."""
    p = np.array(positive)
    rows = np.arange(len(p))
    values = np.array(attributes) if attributes else np.zeros_like(rows)
    return predictions_of(np.array(labels), values, rows, np.log(np.stack([1 - p, p], axis=1)), universe())


# By hand


def test_by_hand() -> None:
    # Bins of 0.2. At v0: 0.9 right and 0.85 wrong in the last, 0.7 right; at v1: class 0 at 0.95, wrong, in the last.
    predictions = of_probabilities([0.9, 0.85, 0.7, 0.05], [1, 0, 1, 1], [0, 0, 0, 1])
    expected = {
        "ece": (abs(0.9 + 0.85 + 0.95 - 1) + abs(0.7 - 1)) / 4,
        "ece_at:v0": (abs(0.9 + 0.85 - 1) + abs(0.7 - 1)) / 3,
        "ece_at:v1": 0.95,
        "nll": -math.log(0.9 * 0.15 * 0.7 * 0.05) / 4,
        "nll_at:v0": -math.log(0.9 * 0.15 * 0.7) / 3,
        "nll_at:v1": -math.log(0.05),
        "brier": 2 * (0.1**2 + 0.85**2 + 0.3**2 + 0.95**2) / 4,
        "brier_at:v0": 2 * (0.1**2 + 0.85**2 + 0.3**2) / 3,
        "brier_at:v1": 2 * 0.95**2,
    }
    numbers = point(predictions, bins=5)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_one_bin_is_the_gap_of_the_means() -> None:
    predictions = reference.random(2)
    gap = predictions.probabilities.max(axis=1).mean() - predictions.correct.mean()
    assert point(predictions, bins=1)["ece"] == pytest.approx(abs(gap))


def test_bins_are_closed_on_the_left_and_one_belongs_to_the_last() -> None:
    edges = np.linspace(0, 1, 16)
    assert bin_index(edges, 15).tolist() == [*range(15), 14]
    assert bin_index(np.nextafter(edges[1:], 0), 15).tolist() == list(range(15))
    assert bin_index(np.array([1.0]), 1).tolist() == [0]


def test_it_is_the_top_label_and_not_the_positive_class() -> None:
    # The probabilities of the positive class lie in two bins, those of the top label in one.
    predictions = of_probabilities([0.9, 0.1, 0.9, 0.1], [1, 0, 0, 0])
    assert point(predictions)["ece"] == pytest.approx(0.9 - 3 / 4)


def test_log_loss_stays_finite() -> None:
    logits = np.array([[0, 3e38], [-3e38, 3e38], [0, 800]], np.float32)
    scores = negative_log_likelihood(logits, np.array([0, 0, 1]))
    assert np.isfinite(scores).all()
    assert scores.tolist() == pytest.approx([3e38, 6e38, 0.0], rel=1e-6)


def test_brier_score_is_twice_the_squared_error_of_two_classes() -> None:
    probabilities = np.array([[0.3, 0.7], [1.0, 0.0], [0.0, 1.0]])
    assert brier_scores(probabilities, np.array([1, 0, 0])).tolist() == pytest.approx([2 * 0.09, 0.0, 2.0])
    assert probabilities[0].tolist() == [0.3, 0.7]


def test_details_by_hand() -> None:
    predictions = of_probabilities([0.9, 0.85, 0.7, 0.05], [1, 0, 1, 1], [0, 0, 0, 1])
    details = Calibration(Calibration.Parameters(bins=5)).details(predictions)
    assert details["bins"] == 5
    assert "top-label" in details["definition"]
    assert "5 equal-width bins" in details["definition"]
    last = {"low": 0.8, "high": 1.0, "count": 3, "confidence": 2.7 / 3, "accuracy": 1 / 3}
    assert details["reliability"][4] == pytest.approx(last)
    assert details["reliability"][0] == {"low": 0.0, "high": 0.2, "count": 0, "confidence": None, "accuracy": None}
    assert [row["count"] for row in details["reliability_at"]["v0"]] == [0, 0, 0, 1, 2]
    assert [row["count"] for row in details["reliability_at"]["v1"]] == [0, 0, 0, 0, 1]
    assert details["gap_between"]["ece_gap"] == ["v1", "v0"]
    assert details["undefined"] == {
        "ece_debiased_at:v1": "no bin holds examples of two patients",
        "ece_debiased_gap": "needs examples at each value of site, of two patients in some bin",
    }


def test_the_reliability_diagram_gives_the_ece() -> None:
    predictions = reference.random(7)
    for value, rows in Calibration().details(predictions)["reliability_at"].items():
        filled = [row for row in rows if row["count"]]
        error = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in filled)
        total = sum(row["count"] for row in filled)
        assert error / total == pytest.approx(point(predictions)[f"ece_at:{value}"])


# Predictors whose numbers are known


def test_perfect() -> None:
    numbers = point(reference.perfect())
    halves = {"brier_resolution", "brier_uncertainty"}
    halves |= {f"{name}_at:v{k}" for name in halves for k in range(2)}
    expected = {name: 0.5 if name in halves else 0.0 for name in numbers}
    assert numbers == pytest.approx(expected, abs=1e-15)


def test_constant() -> None:
    numbers = point(reference.constant(0))
    assert numbers["ece"] == numbers["ece_at:v0"] == pytest.approx(0.5)
    assert numbers["nll"] == pytest.approx(20)
    assert numbers["brier"] == pytest.approx(1)


def test_undecided() -> None:
    labels, attributes, clusters, groups = reference.balanced(classes=10, values=5)
    numbers = point(predictions_of(labels, attributes, clusters, np.zeros((len(labels), 10)), groups))
    for name, expected in (("ece", 0.0), ("nll", math.log(10)), ("brier", 0.9)):
        assert [numbers[name], numbers[f"{name}_at:v4"]] == pytest.approx([expected] * 2)


def test_shortcut_only() -> None:
    numbers = point(reference.shortcut_only())
    assert [numbers[name] for name in ("ece", "ece_at:v0", "ece_at:v1")] == pytest.approx([0.5] * 3)
    assert [numbers[name] for name in ("nll", "brier")] == pytest.approx([20, 1])


def test_random() -> None:
    predictions = reference.random(0, rows=40_000, patients=40_000, step=0)
    overconfidence = predictions.probabilities.max(axis=1).mean() - 0.5
    numbers = point(predictions)
    for name in ("ece", "ece_at:v0", "ece_at:v1"):
        assert numbers[name] == pytest.approx(overconfidence, abs=0.01)


# Nothing is dropped, nothing crashes


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(("classes", "values"), [(2, 2), (1, 1), (10, 5)])
def test_few_rows_give_numbers_or_nan(rows: int, classes: int, values: int) -> None:
    predictions = reference.random(1, rows=rows, patients=1, classes=classes, values=values)
    numbers = Calibration().measure(predictions, resample_counts(len(predictions.patients), 7, 0))
    assert all(value.shape == (7,) for value in numbers.values())
    details = Calibration().details(predictions)
    assert {name for name, value in numbers.items() if np.isnan(value).any()} == set(details["undefined"])
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    checked = Calibration().cross_check(predictions)
    assert {name.split("/")[1] for name in checked} <= set(numbers)
    assert {f"{library}/ece{where}" for library in ("netcal", "torchmetrics") for where in ("", "_at:v0")} <= set(
        checked
    )
    assert all(value is None or 0 <= value <= 1 for value in checked.values())


def test_an_attribute_value_without_examples_is_undefined_and_says_so() -> None:
    predictions = of_probabilities([0.9, 0.8], [1, 0], [0, 0])
    numbers = point(predictions)
    undefined = {name for name, value in numbers.items() if math.isnan(value)}
    # a patient per row, so that each of the two bins holds one patient: no pair of different patients
    assert undefined - {"ece_debiased", "ece_debiased_at:v0"} == {
        name for name in numbers if name.endswith(("_at:v1", "_gap"))
    }
    reasons = Calibration().details(predictions)["undefined"]
    assert set(reasons) == undefined
    assert reasons["ece_at:v1"] == "no example has site v1"
    assert reasons["ece_gap"] == "needs examples at each value of site, has none at v1"
    assert reasons["ece_debiased"] == "no bin holds examples of two patients"


def test_a_resampling_that_loses_a_value_is_undefined_there() -> None:
    predictions = of_probabilities([0.9, 0.8], [1, 1], [0, 1])
    numbers = Calibration().measure(predictions, np.array([[2.0, 0.0]]))
    assert numbers["ece"][0] == numbers["ece_at:v0"][0] == pytest.approx(0.1)
    assert math.isnan(numbers["ece_at:v1"][0])


def test_bad_settings_and_counts_are_refused() -> None:
    for bins in (0, 1001):
        with pytest.raises(ValueError, match="bins"):
            Calibration.Parameters(bins=bins)
    with pytest.raises(SpurbenchError, match="Expected counts"):
        Calibration().measure(reference.perfect(), np.ones((1, 3)))


# Properties


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (10, 5)]), st.integers(2, 40), st.integers(1, 20))
def test_resampling_is_measuring_the_repeated_rows(seed: int, shape: tuple[int, int], rows: int, bins: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=8, classes=shape[0], values=shape[1])
    counts = resample_counts(len(predictions.patients), 3, seed)
    numbers = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, counts)
    # the others keep something of all patients: edges, pairs of different patients, or which values a gap is between
    plain = [name for name in numbers if not ("mass" in name or "debiased" in name or name.endswith("_gap"))]
    for row, times in enumerate(counts):
        repeated = point(reference.repeated(predictions, times), bins)
        for name, value in ((name, repeated[name]) for name in plain):
            assert numbers[name][row] == pytest.approx(value, nan_ok=True, abs=1e-12), name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_order_of_rows_and_names_of_patients_do_not_matter(seed: int) -> None:
    predictions = reference.random(seed, rows=30, patients=6, values=3)
    order = np.random.default_rng(seed).permutation(30)
    renamed = np.array([f"new{9 - int(name[1:])}" for name in predictions.clusters[order]], dtype=np.str_)
    counts = resample_counts(len(predictions.patients), 5, seed)
    ours = Calibration().measure(predictions, counts)
    theirs = Calibration().measure(reference.rearranged(predictions, order, renamed), counts[:, ::-1])
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], nan_ok=True, abs=1e-12), name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_numbers_lie_in_their_ranges(seed: int, rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=9, classes=3)
    counts = resample_counts(len(predictions.patients), 5, seed)
    for name, value in Calibration().measure(predictions, counts).items():
        metric = Calibration.metrics[name.split(":")[0] + ":" if ":" in name else name]
        known = value[~np.isnan(value)]
        low = (
            -metric.high if name.endswith("_gap") else metric.low
        )  # under resampling the named values can change places
        assert ((known >= low - 1e-12) & (known <= metric.high + 1e-12)).all(), name


def test_the_point_estimate_is_a_row_of_ones() -> None:
    predictions = reference.random(5)
    counts = np.concatenate([once(predictions), resample_counts(len(predictions.patients), 3, 0)])
    measured = {name: value[0] for name, value in Calibration().measure(predictions, counts).items()}
    assert measured == pytest.approx(point(predictions), rel=1e-12)


# Other libraries


@pytest.mark.parametrize(("classes", "values", "bins"), [(2, 2, 15), (2, 3, 10), (10, 5, 15), (3, 2, 1)])
def test_as_netcal_and_torchmetrics(classes: int, values: int, bins: int) -> None:
    predictions = reference.random(13, rows=1200, classes=classes, values=values, step=0)
    evaluator = Calibration(Calibration.Parameters(bins=bins))
    numbers, checked = point(predictions, bins), evaluator.cross_check(predictions)
    assert len(checked) == 2 * (1 + values) + 4 + 2 * (classes == 2)
    for name, value in checked.items():
        assert value == pytest.approx(numbers[name.split("/")[1]], abs=1e-6), name


def test_a_confidence_of_one_is_in_the_last_bin_for_all_three() -> None:
    # torchmetrics would put the 1.0 of the saturated rows in a bin of its own: (0.05 + 0.5) / 2 and not |0.45| / 2.
    saturated = predictions_of(
        np.array([0, 1, 0, 0]),
        np.zeros(4, np.int64),
        np.arange(4),
        np.array([[200.0, 0.0], [200.0, 0.0], [3.0, 0.0], [3.0, 0.0]]),
        universe(),
    )
    sure = 1 / (1 + math.exp(-3))
    expected = abs(2 + 2 * sure - 3) / 4
    assert point(saturated)["ece"] == pytest.approx(expected)
    checked = Calibration().cross_check(saturated)
    assert [checked["netcal/ece"], checked["torchmetrics/ece"]] == pytest.approx([expected] * 2, abs=1e-6)


@pytest.mark.parametrize(("classes", "values"), [(2, 2), (10, 5)])
def test_as_scikit_learn(classes: int, values: int) -> None:
    from sklearn.metrics import brier_score_loss, log_loss  # type: ignore[import-untyped]

    predictions = reference.random(17, classes=classes, values=values)
    counts = resample_counts(len(predictions.patients), 2, 1)
    numbers = Calibration().measure(predictions, counts)
    codes = np.arange(classes)
    for row, times in enumerate(counts):
        weight = times[predictions.patient]
        options = {"sample_weight": weight, "labels": codes}
        loss = log_loss(predictions.labels, predictions.probabilities, **options)
        brier = brier_score_loss(predictions.labels, predictions.probabilities, scale_by_half=False, **options)
        assert numbers["nll"][row] == pytest.approx(loss)
        assert numbers["brier"][row] == pytest.approx(brier)


# Intervals, cost


def test_the_basic_interval_of_a_calibrated_model_mostly_includes_zero() -> None:
    counts = resample_counts(60, 400, 0)
    includes = {"basic": 0, "percentile": 0}
    for seed in range(100):
        predictions = reference.perfectly_calibrated(seed, patients=60, slices=6)
        draws = Calibration().measure(predictions, counts)["ece"]
        interval = estimate(Calibration.metrics["ece"], point(predictions)["ece"], draws)
        includes["basic"] += interval.low == 0
        includes["percentile"] += bool(np.quantile(draws, 0.025) <= 1e-6)
    assert includes["basic"] > 55  # bootstrapping an absolute value at zero is not consistent, so not 95
    assert includes["percentile"] == 0


def test_memory_is_bounded_for_two_hundred_thousand_rows() -> None:
    predictions = reference.random(0, rows=200_000, patients=2000, classes=10, values=5, step=0)
    counts = resample_counts(2000, 2000, 0)
    Calibration().measure(predictions, counts[:1])
    tracemalloc.start()
    Calibration().measure(predictions, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000  # replicates x rows would take 3.2 GB
