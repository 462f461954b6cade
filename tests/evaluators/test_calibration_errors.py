"""The further calibration errors, the debiased one, and the parts of the Brier score, against plain versions and netcal."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.calibration.bins import bin_index, equal_mass_edges, index_in
from robustbench_spur.calibration.gaps import Gaps
from robustbench_spur.calibration.libraries import by_netcal
from robustbench_spur.calibration.part import extremes
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.statistics import estimate, resample_counts
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe


def point(predictions: Predictions, bins: int = 15) -> dict[str, float]:
    measured = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, once(predictions))
    return {name: float(value[0]) for name, value in measured.items()}


def of_positive(
    positive: list[float], labels: list[int], attributes: list[int] | None = None, clusters: list[int] | None = None
) -> Predictions:
    """Two classes, with the given probabilities of class 1; a patient per row unless given."""
    p, rows = np.array(positive), np.arange(len(positive))
    values = np.array(attributes) if attributes else np.zeros_like(rows)
    patients = np.array(clusters) if clusters else rows
    return predictions_of(np.array(labels), values, patients, np.log(np.stack([1 - p, p], axis=1)), universe())


# Bins


def test_bins_of_equal_mass_by_hand() -> None:
    assert equal_mass_edges(np.array([0.9, 0.6, 0.7, 0.8]), 2).tolist() == [0, 0.75, 1]
    values = np.random.default_rng(0).random(900)
    assert np.bincount(index_in(values, equal_mass_edges(values, 9))).tolist() == [100] * 9


def test_ties_share_a_bin() -> None:
    values = np.repeat([0.5, 1.0], [6, 2])
    assert index_in(values, equal_mass_edges(values, 4)).tolist() == [2] * 6 + [3] * 2
    assert equal_mass_edges(np.array([]), 2).tolist() == [0, 0.5, 1]


# By hand


def test_by_hand() -> None:
    # top label: 0.9 right and 0.8 wrong at the top of two bins of equal mass, 0.7 wrong and 0.6 right below
    predictions = of_positive([0.9, 0.8, 0.3, 0.4], [1, 0, 1, 0])
    numbers = point(predictions, bins=2)
    assert numbers["ece_mass"] == pytest.approx((abs(1.7 - 1) + abs(1.3 - 1)) / 4)
    assert numbers["ece"] == pytest.approx(abs(3.0 - 2) / 4)
    # class 1: 0.3 and 0.4 with one of two, 0.8 and 0.9 with one of two; class 0 mirrors it
    positive = (abs(0.7 - 1) + abs(1.7 - 1)) / 4
    for name in ("ece_positive", "ece_positive_mass", "ece_classwise", "ece_classwise_mass"):
        assert numbers[name] == pytest.approx(positive), name
    assert [numbers["ace"], numbers["mce"]] == pytest.approx([0.25, 0.25])  # all in one bin


def test_average_and_largest_are_over_filled_bins() -> None:
    gaps = Gaps(np.array([[0.6, 0.0, -0.3]]), np.array([[3.0, 0.0, 1.0]]))
    ones = np.ones((1, 1))
    assert gaps.average(ones).item() == pytest.approx((0.2 + 0.3) / 2)
    assert gaps.largest(ones).item() == pytest.approx(0.3)
    assert gaps.mean(ones).item() == pytest.approx(0.9 / 4)
    for value in (gaps.average, gaps.largest, gaps.mean, gaps.squared, gaps.debiased):
        assert math.isnan(value(np.zeros((1, 1))).item())


def test_an_overconfident_and_an_underconfident_value_hide_each_other() -> None:
    rows = np.arange(200)
    attribute, labels = rows % 2, np.zeros(200, int)
    labels[attribute == 0] = rows[attribute == 0] % 10 < 6  # 60 % are class 1 at v0
    labels[attribute == 1] = 1  # all are at v1; said is 80 % everywhere
    predictions = of_positive([0.8] * 200, labels.tolist(), attribute.tolist())
    numbers = point(predictions)
    at = {value: abs(0.8 - labels[attribute == code].mean()) for code, value in enumerate(("v0", "v1"))}
    assert numbers["ece"] == pytest.approx(abs(0.8 - labels.mean()), abs=1e-6)
    for value, expected in at.items():
        assert numbers[f"ece_at:{value}"] == pytest.approx(expected, abs=1e-6)
    assert numbers["ece_gap"] == pytest.approx(abs(at["v0"] - at["v1"]), abs=1e-6)


def test_gaps_keep_the_values_they_name() -> None:
    predictions = of_positive([0.9, 0.9, 0.6, 0.6], [0, 1, 1, 1], [0, 0, 1, 1])
    counts = np.array([[1.0, 1, 1, 1], [0, 2, 1, 1]])
    measured = Calibration().measure(predictions, counts)
    for name in ("ece", "nll", "brier"):
        at = measured[f"{name}_at:v0"] - measured[f"{name}_at:v1"]
        sign = 1 if at[0] > 0 else -1
        assert measured[f"{name}_gap"].tolist() == pytest.approx((sign * at).tolist())
    # the ece of v0, 0.4, and of v1, 0.4, change places when the wrong one is never drawn
    assert Calibration().details(predictions)["gap_between"]["nll_gap"] == ["v0", "v1"]
    assert measured["nll_gap"][1] < 0 < measured["nll_gap"][0]


def test_extremes() -> None:
    assert extremes({"a": 1.0, "b": 3.0, "c": 0.5}) == ("b", "c")
    assert extremes({"a": 1.0, "b": 1.0}) == ("a", "b")
    assert extremes({"a": 1.0}) is None
    assert extremes({"a": 1.0, "b": math.nan}) is None


def test_more_than_two_classes_have_no_positive_one_and_say_so() -> None:
    predictions = reference.random(0, classes=3)
    undefined = Calibration().details(predictions)["undefined"]
    assert set(undefined.values()) == {"defined for two classes, the split has 3"}
    assert {name for name, value in point(predictions).items() if math.isnan(value)} == set(undefined)
    assert {name.split("_at")[0] for name in undefined} == {"ece_positive", "ece_positive_mass"}


def test_one_value_has_no_gap_and_says_so() -> None:
    predictions = reference.random(0, values=1)
    reasons = Calibration().details(predictions)["undefined"]
    assert reasons == {f"{name}_gap": "site has one value only" for name in ("ece", "ece_debiased", "nll", "brier")}


# Plain versions, under resampling


def plain_debiased(predictions: Predictions, counts: np.ndarray, bins: int) -> float:
    """Every pair of examples of different patients, one by one."""
    sure = predictions.probabilities.max(axis=1)
    index, gap, weight = bin_index(sure, bins), sure - predictions.correct, counts[predictions.patient]
    total, parts = 0.0, []
    for b in range(bins):
        rows = np.flatnonzero(index == b)
        product = pairs = 0.0
        for i, j in itertools.permutations(rows.tolist(), 2):
            if predictions.patient[i] != predictions.patient[j]:
                product += weight[i] * weight[j] * gap[i] * gap[j]
                pairs += weight[i] * weight[j]
        if pairs:
            parts.append(weight[rows].sum() * product / pairs)
            total += weight[rows].sum()
    return math.sqrt(max(0.0, sum(parts) / total)) if total else math.nan


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 8))
def test_debiased_is_the_mean_over_pairs_of_different_patients(seed: int, rows: int, bins: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=6)
    counts = resample_counts(len(predictions.patients), 2, seed)
    numbers = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, counts)["ece_debiased"]
    for row, times in enumerate(counts):
        assert numbers[row] == pytest.approx(plain_debiased(predictions, times, bins), nan_ok=True, abs=1e-7)


def test_debiased_is_kumars_where_a_bin_has_one_probability_and_a_patient_one_example() -> None:
    rng = np.random.default_rng(0)
    stated = np.repeat([0.6, 0.75, 0.95], [40, 30, 50])
    right = rng.random(120) < stated - 0.15
    expected = 0.0
    for level in np.unique(stated):  # Kumar et al. 2019, definition 4.1
        mine = right[stated == level]
        noise = mine.mean() * (1 - mine.mean()) / (len(mine) - 1)
        expected += len(mine) / 120 * ((level - mine.mean()) ** 2 - noise)
    assert point(of_positive(stated.tolist(), right.astype(int).tolist()))["ece_debiased"] == pytest.approx(
        math.sqrt(expected), abs=1e-6
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 10]), st.integers(2, 40), st.integers(1, 12))
def test_mass_keeps_its_edges_under_resampling(seed: int, classes: int, rows: int, bins: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=8, classes=classes)
    counts = resample_counts(len(predictions.patients), 2, seed)
    numbers = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, counts)

    def plain(probability: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> float:
        index = index_in(probability, equal_mass_edges(probability, bins))
        each = [abs((weight * (probability - outcome))[index == b].sum()) for b in range(bins)]
        return float(sum(each) / weight.sum())

    stated, labels = predictions.probabilities, predictions.labels
    for row, times in enumerate(counts):
        weight = times[predictions.patient]
        top = plain(stated.max(axis=1), predictions.correct, weight)
        assert numbers["ece_mass"][row] == pytest.approx(top)
        each = [plain(stated[:, k], labels == k, weight) for k in range(classes)]
        assert numbers["ece_classwise_mass"][row] == pytest.approx(np.mean(each))
        if classes == 2:
            assert numbers["ece_positive_mass"][row] == pytest.approx(each[1])


@pytest.mark.parametrize("classes", [2, 10])
def test_classwise_as_netcal_class_by_class(classes: int) -> None:
    predictions = reference.random(3, classes=classes, rows=900, step=0)
    numbers = point(predictions)
    for name, mass in (("ece_classwise", False), ("ece_classwise_mass", True)):
        columns = [(predictions.probabilities[:, k], predictions.labels == k) for k in range(classes)]
        each = [by_netcal(*column, 15, "mean", mass=mass) for column in columns]
        assert numbers[name] == pytest.approx(np.mean([value for value in each if value is not None]), abs=1e-6), name


# Parts of the Brier score


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 10]), st.integers(1, 60), st.integers(1, 20))
def test_the_parts_add_up_to_the_brier_score(seed: int, classes: int, rows: int, bins: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=9, classes=classes)
    counts = resample_counts(len(predictions.patients), 4, seed)
    numbers = Calibration(Calibration.Parameters(bins=bins)).measure(predictions, counts)
    for at in ("", "_at:v0", "_at:v1"):
        part = {name: numbers[f"brier_{name}{at}"] for name in ("reliability", "resolution", "uncertainty", "within")}
        total = part["reliability"] - part["resolution"] + part["uncertainty"] + part["within"]
        assert total.tolist() == pytest.approx(numbers[f"brier{at}"].tolist(), abs=1e-12, nan_ok=True)


def test_the_terms_within_bins_by_their_own_definition() -> None:
    predictions = reference.random(4, rows=300, classes=3)
    expected, uncertainty, resolution = 0.0, 0.0, 0.0
    for k in range(3):
        p, o = predictions.probabilities[:, k], predictions.labels == k
        uncertainty += o.mean() * (1 - o.mean())
        index = bin_index(p, 15)
        for b in np.unique(index):
            mine = index == b
            expected += mine.mean() * (p[mine].var() - 2 * np.cov(p[mine], o[mine], bias=True)[0, 1])
            resolution += mine.mean() * (o[mine].mean() - o.mean()) ** 2
    numbers = point(predictions)
    assert numbers["brier_within"] == pytest.approx(expected)
    assert numbers["brier_uncertainty"] == pytest.approx(uncertainty)
    assert numbers["brier_resolution"] == pytest.approx(resolution)


def test_one_probability_per_bin_is_murphys_decomposition() -> None:
    # 0.9 (right 8 of 10) and 0.2 (positive 3 of 10): Murphy's three parts, twice, for class 1 and for class 0
    predictions = of_positive([0.9] * 10 + [0.2] * 10, [1] * 8 + [0] * 2 + [1] * 3 + [0] * 7)
    numbers = point(predictions)
    assert numbers["brier_within"] == pytest.approx(0, abs=1e-7)
    assert numbers["brier_reliability"] == pytest.approx(2 * (0.1**2 + 0.1**2) / 2, abs=1e-6)
    assert numbers["brier_resolution"] == pytest.approx(2 * 0.25**2)
    assert numbers["brier_uncertainty"] == pytest.approx(2 * 0.55 * 0.45)


def test_known_predictors() -> None:
    for predictions in (reference.constant(0), reference.shortcut_only()):
        numbers = point(predictions)
        for name in ("ece_mass", "ece_positive", "ece_positive_mass", "ece_classwise", "ace", "mce"):
            assert numbers[name] == pytest.approx(0.5), name
        assert numbers["ece_debiased"] == pytest.approx(0.5, abs=0.02)
        assert numbers["ece_gap"] == numbers["brier_gap"] == 0
        assert numbers["brier_resolution"] == pytest.approx(0)


# The debiased error's interval


def clustered(seed: int, patients: int, slope: float, slices: int = 6, share: float = 0.5) -> Predictions:
    """A patient's slices share a part of logits and outcomes; ``slope`` above 1 is overconfidence."""
    rng = np.random.default_rng(seed)
    own, patient = rng.normal(size=(2, patients, slices)), rng.normal(size=(2, patients, 1))
    shared = math.sqrt(share) * patient + math.sqrt(1 - share) * own
    true = 1 / (1 + np.exp(-1.5 * shared[0]))
    # the standard normal's distribution function makes a uniform of the second, so that labels come with probability true
    uniform = np.vectorize(math.erf)(shared[1] / math.sqrt(2)) / 2 + 0.5
    labels, logits = (uniform < true).astype(int).ravel(), slope * 1.5 * shared[0].ravel()
    rows = np.arange(labels.size)
    return predictions_of(labels, rows % 2, rows // slices, np.stack([0 * logits, logits], axis=1), universe())


def test_the_debiased_error_of_a_calibrated_model_has_zero_in_its_interval() -> None:
    counts, holds = resample_counts(60, 300, 0), 0
    for seed in range(60):
        predictions = clustered(seed, 60, 1.0)
        draws = Calibration().measure(predictions, counts)["ece_debiased"]
        holds += estimate(Calibration.metrics["ece_debiased"], point(predictions)["ece_debiased"], draws).low == 0
    assert holds >= 56


def test_the_squared_error_of_a_calibrated_model_is_zero_on_average_and_slices_alone_are_not_enough() -> None:
    square: list[float] = []
    alone: list[float] = []
    for seed in range(200):
        predictions = clustered(seed, 30, 1.0, slices=20, share=0.9)
        sure = predictions.probabilities.max(axis=1)
        for patient, out in ((predictions.patient, square), (np.arange(len(sure)), alone)):
            patients = int(patient.max()) + 1
            gaps = Gaps.of(sure, predictions.correct, bin_index(sure, 15), 15, patient, patients)
            out.append(gaps.squared(np.ones((1, patients))).item())
    error = np.std(square) / math.sqrt(200)
    assert abs(np.mean(square)) < 2.5 * error
    assert np.mean(alone) > 10 * error  # what the slices of a patient share passes for miscalibration


def test_the_debiased_error_of_an_overconfident_model_is_found() -> None:
    predictions = clustered(0, 200, 2.0)
    draws = Calibration().measure(predictions, resample_counts(200, 500, 0))["ece_debiased"]
    interval = estimate(Calibration.metrics["ece_debiased"], point(predictions)["ece_debiased"], draws)
    assert interval.low is not None and interval.high is not None
    assert 0 < interval.low < 0.108 < interval.high  # 0.108: of 400,000 slices, with the true probabilities


# The test of calibration


def test_the_p_value_counts_all_signs_of_few_patients() -> None:
    gaps = Gaps(np.array([[0.1], [0.3], [0.2]]), np.ones((3, 1)))
    # squared is (S^2 - 0.14) / 6 with S one of 0.6, 0.0, 0.2, 0.4 and their negatives: all alike only in 1 of 4
    assert gaps.p_value(4000) == pytest.approx(0.25, abs=0.02)
    assert gaps.p_value() == gaps.p_value()
    assert math.isnan(Gaps(np.zeros((1, 2)), np.ones((1, 2))).p_value())
    assert math.isnan(Gaps(np.zeros((0, 2)), np.zeros((0, 2))).p_value())
    assert Gaps(np.zeros((5, 1)), np.ones((5, 1))).p_value() == 1


def test_the_p_value_holds_its_level_with_slices_that_hang_together() -> None:
    low: dict[str, list[bool]] = {"calibrated": [], "overconfident": []}
    for seed in range(300):
        for name, slope in (("calibrated", 1.0), ("overconfident", 2.0)):
            part = Calibration()._examples(clustered(seed, 60, slope, share=0.9))
            low[name].append(part.top().p_value(199) <= 0.05)
    assert 0.02 < np.mean(low["calibrated"]) < 0.09  # two standard errors are 0.025
    assert np.mean(low["overconfident"]) > 0.5


def test_details_give_the_p_value() -> None:
    details = Calibration().details(clustered(0, 200, 2.0))
    assert details["calibrated_p"] == pytest.approx(0.001)
    assert set(details["calibrated_p_at"]) == {"v0", "v1"}
    assert Calibration().details(reference.random(0, rows=0))["calibrated_p"] is None
