"""Resampling, intervals, p values and ranks against hand-computed cases, scipy, and slow versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.statistics import (
    check_counts,
    estimate,
    group_means,
    holm,
    paired_p_value,
    patient_sums,
    ranks,
    replicates_to_rank,
    replicates_to_test,
    resample,
    resample_counts,
    running_sums,
    strata_of,
)
from robustbench_spur.types import Estimate, SpurbenchError

ACCURACY = Metric("share of right answers")
ERROR = Metric("biased upward", better="lower", interval="basic")
LOSS = Metric("unbounded", high=float("inf"), better="lower")


# Resampling


def test_counts_are_those_of_drawing_with_philox_words() -> None:
    patients, replicates, seed = 5, 3, 11
    words = np.random.Philox(key=seed).random_raw(8 * replicates).reshape(replicates, 8)  # 5 padded to 8
    expected = np.zeros((replicates, patients))
    for row in range(replicates):
        for word in words[row, :patients].tolist():
            expected[row, int((word >> 11) / 2**53 * patients)] += 1
    assert resample_counts(patients, replicates, seed).tolist() == expected.tolist()


@given(st.integers(0, 40), st.integers(0, 30), st.integers(0, 2**64), st.integers(0, 10))
def test_counts_sum_to_the_patients_and_join_up(patients: int, replicates: int, seed: int, cut: int) -> None:
    counts = resample_counts(patients, replicates, seed)
    assert counts.shape == (replicates, patients)
    assert counts.dtype == np.float64
    assert (counts.sum(axis=1) == patients).all()
    assert (counts >= 0).all()
    cut = min(cut, replicates)
    rest = resample_counts(patients, replicates - cut, seed, first=cut)
    assert (np.concatenate([resample_counts(patients, cut, seed), rest]) == counts).all()


def test_counts_have_the_moments_of_a_multinomial() -> None:
    counts = resample_counts(20, 20_000, 3)
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.03)
    covariance = np.cov(counts, rowvar=False)
    assert covariance == pytest.approx(np.eye(20) - 1 / 20, abs=0.05)


def test_counts_differ_between_seeds() -> None:
    assert (resample_counts(20, 5, 0) != resample_counts(20, 5, 1)).any()


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 5))
def test_strata_keep_their_number_of_patients(strata: list[str], seed: int) -> None:
    codes = np.array(strata)
    counts = resample_counts(len(codes), 20, seed, codes)
    for stratum in "abc":
        assert (counts[:, codes == stratum].sum(axis=1) == strata.count(stratum)).all()


def test_one_stratum_is_no_stratum() -> None:
    assert (resample_counts(9, 50, 4, np.full(9, 7)) == resample_counts(9, 50, 4)).all()


# Strata


def _strata(groups_of: list[str], smallest: int) -> list[int]:
    """Strata of patients given by the letters of their groups."""
    rows = [(whom, ord(letter) - ord("a")) for whom, letters in enumerate(groups_of) for letter in letters]
    patient, group = np.array(rows, np.int64).reshape(-1, 2).T
    return [int(code) for code in strata_of(patient, len(groups_of), group, 4, smallest)]


def test_patients_of_the_same_groups_are_a_stratum() -> None:
    assert _strata(["ac", "b", "ac", "caa", "bd", "b", "bd"], 1) == [0, 1, 0, 0, 2, 1, 2]


def test_small_strata_are_joined_and_a_rest_that_is_too_small_joins_the_smallest() -> None:
    whole = ["ac"] * 4 + ["bd"] * 3
    assert _strata([*whole, "a", "b", "c"], 3) == [0] * 4 + [1] * 3 + [2] * 3
    assert _strata([*whole, "a", "b"], 3) == [0] * 4 + [1] * 5
    assert _strata([*whole, "a"], 4) == [0] * 4 + [1] * 4
    assert _strata(["a", "b", "c"], 10) == [0, 0, 0]
    assert strata_of(np.zeros(0, np.int64), 0, np.zeros(0, np.int64), 4).tolist() == []


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1).map(sorted).map("".join), min_size=1, max_size=60))
def test_strata_are_large_enough_and_a_large_pattern_is_its_own(patterns: list[str]) -> None:
    strata = _strata(patterns, 5)
    sizes = np.bincount(strata)
    assert sizes.min() >= min(5, len(patterns))
    assert list(dict.fromkeys(strata)) == list(range(len(sizes)))
    for pattern in set(patterns):
        assert len({strata[i] for i, one in enumerate(patterns) if one == pattern}) == 1
    large = {one for one in patterns if patterns.count(one) >= 5}
    assert len(sizes) in (max(1, len(large)), len(large) + 1)


def test_a_stratum_keeps_its_patients_in_every_resampling_and_a_joined_group_can_be_lost() -> None:
    groups_of = ["ac"] * 30 + ["bd"] * 20 + ["d"] * 2
    strata = np.array(_strata(groups_of, 10))
    counts = resample_counts(52, 500, 1, strata)
    assert (counts[:, :30].sum(axis=1) == 30).all()
    assert 0.05 < (counts[:, 50:].sum(axis=1) == 0).mean() < 0.25  # 2 of 22 patients: lost in 12 %


def test_strata_take_away_the_variance_of_the_number_of_patients() -> None:
    """Two kinds of patients, all right and all wrong: what the design fixes has no spread within strata."""
    right, kind = np.repeat([1.0, 0.0], 20), np.repeat([0, 1], 20)
    assert np.ptp(resample_counts(40, 200, 0, kind) @ right) == 0
    assert np.ptp(resample_counts(40, 200, 0) @ right) > 5


@pytest.mark.parametrize("arguments", [(-1, 2, 0), (3, -2, 0), (3, 2, -1), (3, 2, 0, np.zeros(2))])
def test_counts_refuse_bad_arguments(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(SpurbenchError, match="Expected"):
        resample_counts(*arguments)


def test_resample_in_blocks_is_resample_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.arange(6.0)
    whole = resample_counts(6, 50, 2) @ weights
    monkeypatch.setattr("robustbench_spur.statistics.COUNTS_BYTES", 6 * 8 * 7)
    blocked = resample(lambda counts: {"sum": counts @ weights}, 6, 50, 2)["sum"]
    assert blocked.tolist() == whole.tolist()


def test_resample_refuses_none() -> None:
    with pytest.raises(SpurbenchError, match="at least one"):
        resample(lambda counts: {"sum": counts.sum(axis=1)}, 3, 0, 0)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_group_means_are_those_of_repeated_rows(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    values, patient, group = rng.normal(size=30), rng.integers(0, 6, 30), rng.integers(0, groups, 30)
    counts = resample_counts(6, 4, seed)
    means = group_means(values, patient, group, groups + 1, counts)
    for row, times in enumerate(counts):
        repeats = times[patient].astype(int)
        drawn, code = np.repeat(values, repeats), np.repeat(group, repeats)
        for g in range(groups + 1):
            expected = drawn[code == g].mean() if (code == g).any() else math.nan
            assert means[row, g] == pytest.approx(expected, nan_ok=True)


def test_patient_sums_of_nobody() -> None:
    nobody = np.zeros(0, np.int64)
    assert patient_sums(nobody, 2, nobody, 3).tolist() == [[0.0] * 3] * 2
    assert patient_sums(nobody, 0, nobody, 3).shape == (0, 3)


@pytest.mark.parametrize("counts", [np.ones(3), np.ones((2, 4)), np.array([[1.0, 3.0, -1.0]])])
def test_counts_are_checked(counts: NDArray[np.float64]) -> None:
    with pytest.raises(SpurbenchError, match="Expected counts"):
        check_counts(counts, 3)


# Intervals


def test_percentile_interval_by_hand() -> None:
    assert estimate(ACCURACY, 0.5, np.arange(9) / 8, confidence=0.5) == Estimate(0.5, 0.25, 0.75)


def test_basic_interval_by_hand_and_clipped() -> None:
    replicates = np.arange(9) / 8  # quartiles 0.25 and 0.75
    assert estimate(ERROR, 0.5, replicates, confidence=0.5) == Estimate(0.5, 0.25, 0.75)
    reflected = estimate(ERROR, 0.4, replicates, confidence=0.5)
    assert reflected.low == pytest.approx(0.05)
    assert reflected.high == pytest.approx(0.55)
    assert estimate(ERROR, 0.25, replicates, confidence=0.5) == Estimate(0.25, 0.0, 0.25)
    assert estimate(ERROR, 0.9, replicates, confidence=0.5) == Estimate(0.9, 1.0, 1.0)  # 1.05 to 1.55


@pytest.mark.parametrize("kind", ["percentile", "basic"])
def test_intervals_are_those_of_scipy(kind: str) -> None:
    from scipy.stats import bootstrap

    sample = np.random.default_rng(1).exponential(size=40)
    found = bootstrap((sample,), np.mean, n_resamples=999, method=kind, rng=np.random.default_rng(2))
    metric = Metric("mean", high=float("inf"), interval="basic" if kind == "basic" else "percentile")
    ours = estimate(metric, float(sample.mean()), found.bootstrap_distribution)
    assert ours.low == pytest.approx(found.confidence_interval.low)
    assert ours.high == pytest.approx(found.confidence_interval.high)


def test_undefined_replicates_are_left_out_unless_they_are_many() -> None:
    replicates = np.tile(np.arange(9) / 8, 20)
    few, many = replicates.copy(), replicates.copy()
    few[::20], many[::5] = np.nan, np.nan
    kept = estimate(ACCURACY, 0.5, few)
    assert (kept.low, kept.high) == tuple(np.nanquantile(few, [0.025, 0.975]))
    assert estimate(ACCURACY, 0.5, many) == Estimate(0.5, reason="no interval: undefined in 36 of 180 resamplings")
    assert estimate(ACCURACY, 0.5, many, minimum_defined=0.5).low is not None
    assert "undefined in 4 of 4" in estimate(ACCURACY, 0.5, np.full(4, np.nan), minimum_defined=0.0).reason
    assert "undefined in 0 of 0" in estimate(ACCURACY, 0.5, np.zeros(0)).reason


def test_an_undefined_point_has_a_reason() -> None:
    assert estimate(ACCURACY, math.nan, np.ones(9)).value is None
    assert "no example" in estimate(ACCURACY, math.nan, np.ones(9)).reason
    assert estimate(ACCURACY, math.nan, np.ones(9), reason="1 of 4 groups empty") == Estimate(
        None, reason="1 of 4 groups empty"
    )


def test_without_spread_there_is_no_interval_but_the_exact_one() -> None:
    from scipy.stats import binomtest

    assert estimate(ACCURACY, 1.0, np.ones(9)).low is None
    assert "same value" in estimate(ACCURACY, 1.0, np.ones(9)).reason
    for right, value in ((30, 1.0), (0, 0.0)):
        exact = binomtest(right, 30).proportion_ci(0.95, "exact")
        ours = estimate(ACCURACY, value, np.full(9, value), patients=30)
        assert ours.low == pytest.approx(exact.low)
        assert ours.high == pytest.approx(exact.high)
    assert estimate(ACCURACY, 0.5, np.full(9, 0.5), patients=30).low is None
    assert estimate(LOSS, 0.0, np.zeros(9), patients=30).low is None


@given(st.integers(0, 10_000), st.sampled_from([ACCURACY, ERROR]))
def test_intervals_lie_in_the_range_and_are_ordered(seed: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    found = estimate(metric, float(rng.random()), rng.beta(0.5, 0.5, 200))
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.high <= 1


# Clusters


def _clustered(seed: int, patients: int = 40, slices: int = 20) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Patients that differ in difficulty: patient codes, and whether each slice is right (true accuracy 0.7)."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), slices)
    return patient, rng.random(len(patient)) < rng.beta(1.4, 0.6, patients)[patient]


def test_cluster_interval_covers_and_the_naive_one_does_not() -> None:
    hits = {"cluster": 0, "naive": 0}
    widths: dict[str, list[float]] = {"cluster": [], "naive": []}
    draws = {40: resample_counts(40, 400, 0), 800: resample_counts(800, 400, 0)}
    for seed in range(100):
        patient, correct = _clustered(seed)
        for kind, unit in (("cluster", patient), ("naive", np.arange(800))):
            units = int(unit.max()) + 1
            found = group_means(correct, unit, np.zeros(800, np.int64), 1, draws[units])[:, 0]
            interval = estimate(ACCURACY, float(correct.mean()), found)
            assert interval.low is not None
            assert interval.high is not None
            hits[kind] += interval.low <= 0.7 <= interval.high
            widths[kind].append(interval.high - interval.low)
    assert np.mean(widths["cluster"]) > 2 * np.mean(widths["naive"])
    assert hits["cluster"] >= 88
    assert hits["naive"] <= 70


# Comparisons


def test_p_value_by_hand() -> None:
    assert paired_p_value(np.array([0.1] * 17 + [-0.1, 0.0])) == pytest.approx(2 * (2 + 1) / 20)
    assert paired_p_value(np.full(1999, 0.2)) == pytest.approx(2 / 2000)
    assert paired_p_value(np.zeros(99)) == 1.0
    assert math.isnan(paired_p_value(np.full(9, np.nan)))
    assert math.isnan(paired_p_value(np.zeros(0)))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=50))
def test_p_value_is_symmetric_and_ignores_a_few_nan(differences: list[int]) -> None:
    d = np.array(differences, np.float64)
    p = paired_p_value(d)
    assert 0 < p <= 1
    assert p == paired_p_value(-d)
    assert p == paired_p_value(np.concatenate([d, np.full(len(d) // 10, np.nan)]))


def test_p_value_of_few_patients_is_students() -> None:
    from scipy.stats import norm
    from scipy.stats import t as student

    rng = np.random.default_rng(0)
    for patients in (8, 20, 500):
        values = rng.normal(0.3, 1, patients)
        spread = values.std()  # of the resampled mean times sqrt(patients)
        resampled = values.mean() + spread / math.sqrt(patients) * norm.ppf((np.arange(99_999) + 0.5) / 99_999)
        expected = 2 * student.sf(abs(values.mean()) / (values.std(ddof=1) / math.sqrt(patients)), patients - 1)
        assert paired_p_value(resampled, patients=patients) == pytest.approx(expected, rel=0.05, abs=1e-4)
        assert paired_p_value(resampled, patients=patients) >= paired_p_value(resampled)
    assert paired_p_value(np.zeros(99), patients=9) == 1.0


def test_p_value_has_its_level_when_nothing_differs() -> None:
    counts = resample_counts(50, 500, 0)
    rng = np.random.default_rng(5)
    p = [paired_p_value(counts @ rng.normal(size=50)) for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
    assert 0.4 <= np.mean(p) <= 0.6


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),  # p.adjust(method = "holm") of R
        ([0.05, 0.001, 0.02], [0.05, 0.003, 0.04]),
        ([0.9, 0.6], [1.0, 1.0]),
        ([0.01, math.nan, 0.03], [0.02, math.nan, 0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values).tolist() == pytest.approx(adjusted, nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float], alpha: float) -> None:
    rejected = set()
    for step, test in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[test] * (len(p_values) - step) > alpha:
            break
        rejected.add(test)
    assert set(np.flatnonzero(holm(p_values) <= alpha).tolist()) == rejected


def _replicates(means: list[float], seed: int = 0) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(0, 0.01, (len(means), 2000))
    return np.asarray(noise + np.array(means)[:, None])


def test_ranks_of_separated_and_of_equal_methods() -> None:
    separated = [0.5, 0.9, 0.7]
    assert ranks(separated, _replicates(separated), "higher") == [(3, 3), (1, 1), (2, 2)]
    assert ranks(separated, _replicates(separated), "lower") == [(1, 1), (3, 3), (2, 2)]
    equal = [0.7, 0.7, 0.7]
    assert ranks(equal, _replicates(equal), "higher") == [(1, 3)] * 3
    assert ranks([0.9, 0.9, 0.5], _replicates([0.9, 0.9, 0.5]), "higher") == [(1, 2), (1, 2), (3, 3)]


def test_ranks_are_paired() -> None:
    shared = np.random.default_rng(0).normal(0, 0.2, 2000)
    replicates = np.stack([0.70 + shared, 0.72 + shared + np.random.default_rng(1).normal(0, 0.001, 2000)])
    assert ranks([0.70, 0.72], replicates, "higher") == [(2, 2), (1, 1)]


def test_ranks_overlap_where_neighbours_are_not_resolved() -> None:
    chain = [0.700, 0.720, 0.780]
    replicates = _replicates(chain)
    assert ranks(chain, replicates, "higher") == [(2, 3), (2, 3), (1, 1)]


def test_an_undefined_method_is_not_ranked_and_an_undefined_pair_is_a_tie() -> None:
    values = [0.9, math.nan, 0.5]
    replicates = _replicates([0.9, 0.0, 0.5])
    replicates[1] = np.nan
    assert ranks(values, replicates, "higher") == [(1, 1), None, (2, 2)]
    replicates[2] = np.nan
    assert ranks(values, replicates, "higher") == [(1, 2), None, (1, 2)]
    assert ranks([math.nan], replicates[1:2], "higher") == [None]
    assert ranks([0.4], replicates[:1], "higher") == [(1, 1)]


def test_a_difference_that_the_values_contradict_is_no_difference() -> None:
    assert ranks([0.5, 0.9], _replicates([0.9, 0.5]), "higher") == [(1, 2), (1, 2)]


def test_ranks_refuse_a_metric_without_direction_and_too_few_resamplings() -> None:
    with pytest.raises(SpurbenchError, match="neither"):
        ranks([0.5, 0.6], _replicates([0.5, 0.6]), "neither")
    many = [0.5 + 0.02 * k for k in range(11)]
    with pytest.raises(SpurbenchError, match="at least 2444 resamplings to rank 11 methods"):
        ranks(many, _replicates(many), "higher")


@pytest.mark.parametrize("methods", [1, 2, 3, 4, 7, 12])
def test_replicates_to_rank_can_resolve_every_pair_and_no_fewer_can(methods: int) -> None:
    enough = replicates_to_rank(methods)
    values = np.linspace(0.1, 0.9, methods)
    replicates = np.repeat(values[:, None], enough, axis=1)
    replicates[:, : int(0.1 * enough)] = np.nan
    assert ranks(values, replicates, "lower") == [(k + 1, k + 1) for k in range(methods)]
    if methods > 2:
        smallest = 2 / (math.floor(0.9 * (enough - 1)) + 1)
        assert smallest * methods * (methods - 1) / 2 > 0.05 - 1e-9


def test_replicates_to_test_let_holm_find_one_difference() -> None:
    for tests in (1, 6, 300):
        enough = replicates_to_test(tests, 0.05)
        one = paired_p_value(np.ones(math.ceil(0.9 * enough)))
        assert holm([one] + [1.0] * (tests - 1))[0] <= 0.05
        few = paired_p_value(np.ones(math.ceil(0.9 * replicates_to_test(tests, 0.05, 12))), patients=12)
        assert holm([few] + [1.0] * (tests - 1))[0] <= 0.05
    assert replicates_to_rank(4) == replicates_to_test(6)


@given(st.integers(0, 1000), st.integers(1, 6))
def test_ranks_are_ordered_and_in_range(seed: int, methods: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([0.5, 0.52, 0.6], methods)
    for low, high in filter(None, ranks(values, _replicates(values.tolist(), seed), "higher")):
        assert 1 <= low <= high <= methods


# Sums down columns


@pytest.mark.parametrize("columns", [1, 255, 256, 700])
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_running_sums_are_those_of_numpy(columns: int, dtype: type) -> None:
    rng = np.random.default_rng(columns)
    rows, order = rng.integers(0, 9, (6, columns)).astype(dtype), rng.integers(0, 6, 40)
    found = running_sums(rows, order)
    assert (found.dtype, found[0].any()) == (np.dtype(dtype), np.False_)
    np.testing.assert_array_equal(found[1:], np.cumsum(rows[order], axis=0))
    assert running_sums(rows, order[:0]).shape == (1, columns)
