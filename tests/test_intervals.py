"""Intervals of a proportion, of a minimum and of a mean over seeds: against scipy, by hand, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, gamma, norm
from scipy.stats import t as student

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.intervals import across_seeds, adjusted, contracted, estimate, expanded, minimum, wilson
from robustbench_spur.statistics import group_means, resample_counts
from robustbench_spur.types import Estimate, SpurbenchError

ACCURACY = Metric("share of right answers")
ERROR = Metric("biased upward", better="lower", interval="basic")
SPREAD = np.linspace(-0.1, 0.1, 2001)


# A proportion


@given(st.integers(1, 200_000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_scipy_and_exact_at_the_ends(trials: int, share: float, confidence: float) -> None:
    right, tail = round(share * trials), (1 - confidence) / 2
    kind = "exact" if right in (0, trials) else "wilson"
    expected = binomtest(right, trials).proportion_ci(confidence, kind)
    assert wilson(right, trials, (tail, tail)) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends_have_errors_of_their_own() -> None:
    low, high = wilson(30, 40, (0.2, 0.01))
    assert low == pytest.approx(binomtest(30, 40).proportion_ci(0.6, "wilson").low)
    assert high == pytest.approx(binomtest(30, 40).proportion_ci(0.98, "wilson").high)


@pytest.mark.parametrize(("right", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_proportion(right: int, trials: int) -> None:
    with pytest.raises(SpurbenchError, match="successes of at least one trial"):
        wilson(right, trials)


def test_wilson_covers_and_the_textbook_interval_does_not() -> None:
    trials, share = 30, 0.9
    chance = [math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    ours = sum(p for k, p in enumerate(chance) if wilson(k, trials)[0] <= share <= wilson(k, trials)[1])
    reach = [1.96 * math.sqrt(k / trials * (1 - k / trials) / trials) for k in range(trials + 1)]
    textbook = sum(p for k, p in enumerate(chance) if abs(k / trials - share) <= reach[k])
    assert ours == pytest.approx(0.974, abs=0.001)
    assert textbook == pytest.approx(0.809, abs=0.001)


def test_an_estimate_of_independent_examples_is_wilsons() -> None:
    found = estimate(ACCURACY, 0.75, np.full(9, np.nan), trials=40, patients=40)
    assert (found.value, found.low, found.high) == (0.75, *wilson(30, 40))
    assert estimate(ACCURACY, 1.0, np.ones(9), trials=40).low == pytest.approx(0.025 ** (1 / 40))
    assert estimate(ACCURACY, math.nan, np.ones(9), trials=40).value is None


# Few patients


@pytest.mark.parametrize("patients", [3, 10, 75, 10_000])
def test_an_expanded_quantile_makes_a_normal_spread_students(patients: int) -> None:
    tail = 0.025
    # resampled means of n normal values have the variance s^2 (n - 1) / n^2; Student's interval is t s / sqrt(n)
    reach = -norm.ppf(expanded(tail, patients)) * math.sqrt((patients - 1) / patients)
    assert reach == pytest.approx(student.ppf(1 - tail, patients - 1))
    assert contracted(expanded(tail, patients), patients) == pytest.approx(tail)


def test_one_patient_or_none_known_changes_no_quantile() -> None:
    assert [expanded(0.1, one) for one in (None, 0, 1)] == [0.1] * 3
    assert [contracted(0.1, one) for one in (None, 0, 1)] == [0.1] * 3
    assert (contracted(0.0, 9), contracted(1.0, 9)) == (0.0, 1.0)
    assert expanded(0.025, 2) < 1e-12  # the lowest of all replicates


@pytest.mark.parametrize("patients", [20, 400])
def test_a_skewed_variance_has_the_degrees_of_freedom_of_satterthwaite(patients: int) -> None:
    """2 / (its squared coefficient of variation), of gamma values: variance (kurtosis - 1) / n, kurtosis 3 + 1.5 skew^2."""
    shape = 0.5
    of_values = 2 / np.sqrt(shape)
    kurtosis = 3 + float(gamma.stats(shape, moments="k"))
    assert kurtosis == pytest.approx(3 + 1.5 * of_values**2)
    degrees = (patients - 1) / patients * 2 * patients / (kurtosis - 1)
    reach = -norm.ppf(expanded(0.025, patients, of_values / np.sqrt(patients))) * math.sqrt((patients - 1) / patients)
    assert reach == pytest.approx(student.ppf(0.975, degrees))


@pytest.mark.parametrize("metric", [ACCURACY, ERROR])
def test_intervals_of_few_patients_are_wider(metric: Metric) -> None:
    ends = [estimate(metric, 0.5, 0.5 + SPREAD, patients=n) for n in (4, 10, 50, None)]
    widths = [float(one.high or 0) - float(one.low or 0) for one in ends]
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 4
    low, high = np.quantile(0.5 + SPREAD, [expanded(0.025, 10), 1 - expanded(0.025, 10)])
    assert (ends[1].low, ends[1].high) == pytest.approx((low, high))


def test_skewed_means_have_the_interval_of_scipys_bca() -> None:
    from scipy.stats import bootstrap

    sample = np.random.default_rng(1).exponential(size=200)
    found = {
        kind: bootstrap((sample,), np.mean, n_resamples=20_000, method=kind, rng=np.random.default_rng(2))
        for kind in ("BCa", "percentile")
    }
    ends = found["BCa"].confidence_interval
    metric, spread = Metric("mean", high=math.inf), found["BCa"].bootstrap_distribution
    ours = estimate(metric, float(sample.mean()), spread, patients=200)
    width, shift = ends.high - ends.low, ends.low - found["percentile"].confidence_interval.low
    assert shift > 0.02 * width  # or this would say nothing
    assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), abs=0.015 * width)


def test_quantiles_by_hand_and_where_they_end() -> None:
    symmetric = np.linspace(-1, 1, 101)
    assert adjusted((0.1, 0.2), None, symmetric) == (0.1, 0.8)
    assert adjusted((0.1, 0.2), 1, symmetric) == (0.1, 0.8)
    assert adjusted((0.1, 0.2), 30, symmetric) == pytest.approx((expanded(0.1, 30), 1 - expanded(0.2, 30)))
    assert adjusted((0.025, 0.025), 2, symmetric) == pytest.approx((0, 1))
    # one in three: skewness (1 - 2 p) / sqrt(p (1 - p)) = sqrt(1/2), a sixth of it for a
    skewness, spike = math.sqrt(1 / 2), np.repeat([0.0, 1.0], [60, 30])
    a, z = skewness / 6, norm.ppf(expanded(0.1, 50, skewness))
    low, high = adjusted((0.1, 0.1), 50, spike)
    assert low == pytest.approx(norm.cdf(a + (a + z) / (1 - a * (a + z))))
    assert high == pytest.approx(norm.cdf(a + (a - z) / (1 - a * (a - z))))
    rare = np.repeat([0.0, 1.0], [90, 10])
    assert adjusted((0.01, 0.01), 50, rare)[1] == 1  # 1 - a (a + 2.4) is below 0
    assert adjusted((0.01, 0.01), 50, -rare)[0] == 0


@given(st.integers(0, 10_000), st.integers(2, 300), st.floats(0.001, 0.4))
def test_quantiles_are_ordered_and_mirror_the_values(seed: int, patients: int, tail: float) -> None:
    values = np.random.default_rng(seed).gamma(0.3, size=50)
    low, high = adjusted((tail, tail), patients, values)
    assert 0 <= low <= high <= 1
    assert adjusted((tail, tail), patients, -values) == pytest.approx((1 - high, 1 - low), abs=1e-9)


# The minimum over groups


def test_the_minimum_of_one_group_is_that_group() -> None:
    for value, spread, patients in ((0.5, 0.5 + SPREAD, 12), (1.0, np.ones(9), 12), (0.5, 0.5 + SPREAD, None)):
        alone = estimate(ACCURACY, value, spread, patients=patients)
        found = minimum(ACCURACY, [value], spread[:, None], patients=[patients])
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def test_the_minimum_by_hand() -> None:
    found = minimum(ACCURACY, [0.6, 0.58, 0.9], np.stack([0.6 + 2 * SPREAD, 0.58 + SPREAD, 0.9 + SPREAD], axis=1))
    # errors: 0.05 * 3 / 4 below, 0.05 / 4 above; SPREAD is uniform on [-0.1, 0.1]
    assert found.value == 0.58
    assert found.low == pytest.approx(0.6 + 2 * (-0.1 + 0.2 * 0.0375))
    assert found.high == pytest.approx(0.58 - 0.1 + 0.2 * (1 - 0.0125))


def test_a_minimum_without_spread_is_exact_and_one_of_independent_examples_wilsons() -> None:
    right = minimum(ACCURACY, [1.0, 1.0], np.ones((50, 2)), patients=[20, 30])
    assert (right.value, right.high) == (1.0, 1.0)
    assert right.low == pytest.approx((0.05 * 2 / 3) ** (1 / 20))
    shares = minimum(ACCURACY, [0.5, 0.9], np.full((50, 2), np.nan), trials=[20, 30])
    assert shares.low == pytest.approx(wilson(10, 20, (0.05 * 2 / 3, 0.05 / 3))[0])
    assert shares.high == pytest.approx(wilson(10, 20, (0.05 * 2 / 3, 0.05 / 3))[1])


def test_an_undefined_minimum_says_why() -> None:
    spread = np.tile(SPREAD[:, None], 2) + 0.5
    assert minimum(ACCURACY, [0.5, math.nan], spread, reason="b is empty") == Estimate(None, reason="b is empty")
    assert "no example" in minimum(ACCURACY, [math.nan, 0.5], spread).reason
    spread[::3, 1] = np.nan
    assert minimum(ACCURACY, [0.5, 0.5], spread) == Estimate(
        0.5, reason="no interval: undefined in 667 of 2001 resamplings"
    )
    with pytest.raises(SpurbenchError, match=r"shape \(resamples, 3 groups\), found \(2001, 2\)"):
        minimum(ACCURACY, [0.1, 0.2, 0.3], spread)
    with pytest.raises(SpurbenchError, match="0 groups"):
        minimum(ACCURACY, [], np.ones((9, 0)))


@given(st.integers(0, 10_000), st.integers(1, 10))
def test_a_minimum_lies_in_its_interval_and_this_in_the_range(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random(groups)
    spread = np.clip(points + rng.normal(0, 0.1, (400, groups)), 0, 1)
    found = minimum(ACCURACY, points, spread, patients=[9] * groups)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= points.min() <= found.high <= 1


def _clustered_groups(rng: np.random.Generator, accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right answers of 30 patients with 20 slices in each of four groups, shape (120,); group = patient // 30."""
    share = rng.beta(np.repeat(2 * accuracy, 30), np.repeat(2 * (1 - accuracy), 30))
    return rng.binomial(20, share).astype(np.float64)


@pytest.mark.parametrize("accuracy", [(0.7, 0.7, 0.7, 0.7), (0.6, 0.8, 0.8, 0.9)])
def test_the_minimum_covers_where_quantiles_of_it_do_not(accuracy: tuple[float, ...]) -> None:
    rng, group, times = np.random.default_rng(3), np.repeat(np.arange(4), 30), 300
    counts = resample_counts(120, 400, 0, group)
    hits = {"ours": 0, "quantiles": 0}
    for _ in range(times):
        right = _clustered_groups(rng, np.array(accuracy)) / 20
        spread = group_means(right, np.arange(120), group, 4, counts)
        found = minimum(ACCURACY, right.reshape(4, 30).mean(axis=1), spread, patients=[30] * 4)
        low, high = np.quantile(spread.min(axis=1), [0.025, 0.975])
        hits["ours"] += float(found.low or 0) <= min(accuracy) <= float(found.high or 0)
        hits["quantiles"] += low <= min(accuracy) <= high
    assert hits["ours"] >= 0.93 * times
    if len(set(accuracy)) == 1:
        assert hits["quantiles"] <= 0.7 * times


# Seeds


def test_mean_and_deviation_over_seeds_by_hand() -> None:
    spread = np.stack([value + SPREAD for value in (0.5, 0.6, 0.7)])
    found = across_seeds(ACCURACY, [0.5, 0.6, 0.7], spread)
    assert found.sd == pytest.approx(0.1)
    assert found.mean.value == pytest.approx(0.6)
    assert (found.mean.low, found.mean.high) == pytest.approx((0.505, 0.695))
    reach = math.hypot(0.095, 4.302653 * 0.1 / math.sqrt(3))
    assert (found.joint.low, found.joint.high) == pytest.approx((0.6 - reach, 0.6 + reach), rel=1e-6)


def test_seeds_that_agree_add_nothing_and_one_seed_says_so() -> None:
    same = across_seeds(ACCURACY, [0.5, 0.5], np.stack([0.5 + SPREAD] * 2), patients=20)
    assert same.sd == 0
    assert (same.joint.low, same.joint.high) == pytest.approx((same.mean.low, same.mean.high))
    one = across_seeds(ACCURACY, [0.5], 0.5 + SPREAD[None])
    assert one.mean.low is not None
    assert (one.sd, one.joint) == (None, Estimate(0.5, reason="no interval: one seed says nothing of others"))


def test_seeds_without_an_interval_over_patients_have_none_at_all() -> None:
    flat = across_seeds(ACCURACY, [0.4, 0.6], np.full((2, 9), 0.5))
    assert flat.sd == pytest.approx(0.1414, abs=1e-4)
    assert flat.joint == Estimate(0.5, reason="no interval: every resampling gives the same value")
    lost = across_seeds(ACCURACY, [0.4, math.nan], np.full((2, 9), 0.5))
    assert (lost.mean.value, lost.sd, lost.joint.value) == (None, None, None)
    with pytest.raises(SpurbenchError, match=r"shape \(2 seeds, resamples\), found \(9,\)"):
        across_seeds(ACCURACY, [0.4, 0.6], np.ones(9))


def test_a_joint_interval_stays_in_the_range() -> None:
    found = across_seeds(ACCURACY, [0.8, 0.99], np.stack([0.8 + SPREAD, 0.99 + np.minimum(SPREAD, 0.01)]))
    assert (found.joint.low, found.joint.high) == (0.0, 1.0)


def test_the_joint_interval_covers_where_that_of_patients_does_not() -> None:
    """Normal seeds and patients, 3 and 40 of them: the truth is 0, and both parts count alike."""
    rng, counts, times = np.random.default_rng(0), resample_counts(40, 400, 0), 400
    metric, hits = Metric("mean", low=-math.inf, high=math.inf), {"joint": 0, "patients": 0}
    for _ in range(times):
        values = rng.normal(0, 1, 40) + rng.normal(0, 1 / math.sqrt(13), (3, 1)) + rng.normal(0, 0.5, (3, 40))
        found = across_seeds(metric, values.mean(axis=1), values @ counts.T / 40, patients=40)
        hits["joint"] += float(found.joint.low or 0) <= 0 <= float(found.joint.high or 0)
        hits["patients"] += float(found.mean.low or 0) <= 0 <= float(found.mean.high or 0)
    assert hits["joint"] >= 0.94 * times
    assert hits["patients"] <= 0.9 * times
