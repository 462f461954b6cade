"""Intervals: of one number, of a minimum over groups, and of a mean over seeds.

Where patients have several examples each, an interval comes from resampling them. Where every example is a patient of
its own, a share of right answers is a plain proportion, and has Wilson's. What the resampled values do not show (nobody
was wrong) has the exact bound. ``benchmarks/coverage.py`` counts how often each contains the truth.

Source: E. B. Wilson, JASA 22, 1927 (a proportion); C. Clopper and E. Pearson, Biometrika 26, 1934 (exact bounds);
B. Efron, JASA 82, 1987 (skewness, equations 2.3 and 4.4); T. Hesterberg, The American Statistician 69, 2015, section 4.2
(the expanded percentile interval); F. Satterthwaite, Biometrics Bulletin 2, 1946 (degrees of freedom); R. Berger, Technometrics
24, 1982 (intersection-union, the lower end of a minimum); W. Howe, JASA 69, 1974 and G. Zou and A. Donner, Statistics in
Medicine 27, 2008 (the interval of a sum from those of its parts).
Deviations: Efron's bias constant is set to his acceleration, as it is for a mean, and both are a sixth of the skewness of
the resampled values; kurtosis goes with skewness as in a gamma distribution, which makes intervals of values that are 0 or 1,
one to a patient, wider than need be; how the error is shared between the ends of a minimum is ours: see :func:`minimum`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.types import Estimate, SpurbenchError, finite

Ends = tuple[float, float]
NORMAL = NormalDist()

MINIMUM_DEFINED = 0.9
"""Share of resamplings that must be defined. A group of three patients is lost in 5 % of them, one of two in 13 %:
an interval from one or two patients would be an interval over those two values, and is refused."""


def wilson(right: int, trials: int, tails: Ends = (0.025, 0.025)) -> Ends:
    """Wilson's score interval of a proportion; where all trials end alike, the exact (Clopper-Pearson) bound.

    Args:
        right: number of successes, 0 to ``trials``.
        trials: number of independent trials, at least 1.
        tails: error below the interval and above it, each in (0, 0.5).

    Raises:
        SpurbenchError: no trial, or more successes than trials.

    >>> [round(end, 4) for end in wilson(8, 10)], [round(end, 4) for end in wilson(10, 10)]
    ([0.4902, 0.9433], [0.6915, 1.0])
    """
    if not 0 <= right <= trials or trials < 1:
        raise SpurbenchError(f"Expected 0 to {trials} successes of at least one trial, found {right}.")
    if right in (0, trials):
        return _exact(right / trials, trials, tails)
    share, ends = right / trials, []
    for sign, tail in zip((-1, 1), tails, strict=True):
        z = -NORMAL.inv_cdf(tail)
        reach = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
        ends.append((share + z**2 / (2 * trials) + sign * reach) / (1 + z**2 / trials))
    return ends[0], ends[1]


def _exact(share: float, trials: int, tails: Ends) -> Ends:
    """Clopper and Pearson's bound where all trials failed (``share`` 0) or succeeded (1)."""
    return (0.0, 1 - tails[1] ** (1 / trials)) if share == 0 else (tails[0] ** (1 / trials), 1.0)


def expanded(tail: float, patients: int | None, skewness: float = 0.0) -> float:
    """The quantile of resampled values that bounds with error ``tail`` for so few patients; in [0, ``tail``].

    Resampled means of n patients spread by (n - 1) / n of what they should, and the normal quantile is not Student's: a
    quantile further out makes up for both.

    A variance that rests on few of the patients, those who have errors where nearly everybody is right, is known as badly as
    one of fewer patients: of Student's degrees of freedom there are 2 n / (kurtosis - 1), of n - 1 at most. The kurtosis is
    that which goes with the skewness in a gamma distribution, 3 + 1.5 skewness^2, since that of resampled means cannot be
    told from theirs.

    Args:
        tail: error of the bound, in (0, 0.5).
        patients: n; None leaves the quantile as it is.
        skewness: of the resampled values: that of the patients' by the root of n.

    >>> round(expanded(0.025, 10), 4), round(expanded(0.025, 100), 4), expanded(0.025, None)
    (0.0086, 0.0231, 0.025)
    >>> round(expanded(0.025, 70, -0.4), 4)
    0.0092
    """
    if patients is None or patients < 2:
        return tail
    from scipy.special import stdtrit

    degrees = (patients - 1) / (1 + 0.75 * patients * skewness**2)
    return NORMAL.cdf(math.sqrt(patients / (patients - 1)) * float(stdtrit(degrees, tail)))


def adjusted(tails: Ends, patients: int | None, replicates: NDArray[Any]) -> Ends:
    """Which quantiles of resampled values bound with these errors.

    For few patients, or a skewed distribution, they lie further out (:func:`expanded`), and of a skewed one further on its
    long side: where nearly everybody is right, one patient more who is wrong would cost more than one fewer would gain. A
    quantile beyond all that were drawn is the extreme one, which lies further out the more are drawn.

    Args:
        tails: error below the interval and above it.
        patients: number behind the value; None leaves the quantiles as they are.
        replicates: shape (resamples,), finite and not all equal.

    Returns:
        The lower and the upper quantile, each in [0, 1].

    >>> skewed = np.linspace(0, 1, 1001) ** 2
    >>> [round(float(end), 3) for end in adjusted((0.025, 0.025), 50, skewed)]
    [0.013, 1.0]
    """
    if patients is None or patients < 2:
        return tails[0], 1 - tails[1]
    centred = replicates - replicates.mean()
    skewness = float((centred**3).mean() / (centred**2).mean() ** 1.5)
    pull, ends = skewness / 6, []
    for sign, tail in zip((-1, 1), tails, strict=True):
        outside = expanded(tail, patients, skewness)
        shifted = pull - sign * NORMAL.inv_cdf(outside) if outside > 0 else sign * math.inf
        scale = 1 - pull * shifted
        ends.append(NORMAL.cdf(pull + shifted / scale) if scale > 0 and outside > 0 else (1 + sign) / 2)
    return ends[0], ends[1]


def contracted(tail: float, patients: int | None) -> float:
    """The error of a bound at the quantile ``tail`` of resampled values for so few patients: undoes :func:`expanded`.

    >>> round(contracted(expanded(0.025, 10), 10), 6), contracted(0.025, None)
    (0.025, 0.025)
    """
    if patients is None or patients < 2 or not 0 < tail < 1:
        return tail
    from scipy.special import stdtr

    return float(stdtr(patients - 1, math.sqrt((patients - 1) / patients) * NORMAL.inv_cdf(tail)))


def estimate(
    metric: Metric,
    point: float,
    replicates: NDArray[Any],
    confidence: float = 0.95,
    minimum_defined: float = MINIMUM_DEFINED,
    *,
    patients: int | None = None,
    trials: int | None = None,
    reason: str = "",
) -> Estimate:
    """A value with its bootstrap interval, or with the reason why there is none.

    A percentile interval is [q_low, q_high] of the replicates. A basic interval, [2 point - q_high, 2 point - q_low],
    takes away the upward bias of statistics such as ECE; it may therefore lie below the value. Both are clipped to
    the metric's range. Where ``patients`` is known, the quantiles allow for their number, and those of a percentile interval
    for skewness: see :func:`adjusted`. Where no replicate differs (every patient
    right, say), the bootstrap knows no interval: if ``patients`` is given and the value is an end of the metric's range,
    the exact (Clopper-Pearson) bound for as many patients that are all alike is given, and otherwise none.

    Args:
        metric: gives range and kind of interval.
        point: value on the patients themselves; NaN where undefined.
        replicates: values under resampling, shape (resamples,); NaN where undefined, and then left out.
        confidence: in (0, 1).
        minimum_defined: least share of defined replicates for an interval, in [0, 1].
        patients: number of patients that the value is a mean over.
        trials: of a share of examples of which each is a patient of its own: their number. The interval is then
            :func:`wilson`'s.
        reason: why the point is undefined, where the caller knows.

    >>> accuracy, spread = Metric("share of right answers"), np.arange(9) / 8
    >>> estimate(accuracy, 0.5, spread, confidence=0.5)
    Estimate(value=0.5, low=0.25, high=0.75, reason='')
    >>> round(estimate(accuracy, 1.0, np.ones(11), patients=30).low, 3)
    0.884
    >>> round(estimate(accuracy, 0.8, np.ones(11), trials=10).low, 3)
    0.49
    """
    value = finite(point)
    if value is None:
        return Estimate(None, reason=reason or "undefined: a group, class or value that it needs has no example")
    tail = (1 - confidence) / 2
    ends = _ends(metric, value, replicates, (tail, tail), minimum_defined, patients, trials)
    return Estimate(value, reason=ends) if isinstance(ends, str) else Estimate(value, *ends)


def _ends(
    metric: Metric,
    value: float,
    replicates: NDArray[Any],
    tails: Ends,
    minimum_defined: float,
    patients: int | None,
    trials: int | None,
) -> Ends | str:
    """Both ends with an error of their own, or why there are none."""
    if trials:
        return wilson(round(value * trials), trials, tails)
    defined = replicates[np.isfinite(replicates)]
    if not len(defined) or len(defined) < minimum_defined * len(replicates):
        return f"no interval: undefined in {len(replicates) - len(defined)} of {len(replicates)} resamplings"
    span = metric.high - metric.low
    if np.ptp(defined) <= 1e-12 * max(1.0, abs(value)):
        if not patients or value not in (metric.low, metric.high) or not math.isfinite(span):
            return "no interval: every resampling gives the same value"
        low, high = _exact(0.0 if value == metric.low else 1.0, patients, tails)
        return (value, value + span * high) if value == metric.low else (value - span * (1 - low), value)
    if metric.interval == "basic":
        low_tail, high_tail = (expanded(tail, patients) for tail in tails)
        high, low = 2 * value - np.quantile(defined, [high_tail, 1 - low_tail])
    else:
        low, high = np.quantile(defined, adjusted(tails, patients, defined))
    return float(np.clip(low, metric.low, metric.high)), float(np.clip(high, metric.low, metric.high))


def minimum(
    metric: Metric,
    points: Sequence[float] | NDArray[Any],
    replicates: NDArray[Any],
    confidence: float = 0.95,
    *,
    patients: Sequence[int | None] = (),
    trials: Sequence[int | None] = (),
    reason: str = "",
) -> Estimate:
    """The lowest of several groups' values, with an interval for the lowest of their true values.

    The lowest value is too low on average, the more so the more groups are alike, and so are its resampled values: their
    percentile interval misses the truth in up to half of all cases. Here every group has an interval, whose ends are
    combined. The lower end is the lowest of the groups' lower ends, each with error a: it lies above the truth only if
    that of the truly lowest group does. The upper end is the lowest of the groups' upper ends, each with error b: it lies
    below the truth if any of them lies below its group's value, by chance in at most g b of cases for g groups. The two
    do not happen together: many groups that are alike pull the lower end down, and where they are not alike only one
    can pull the upper end down too far. So the error is max(g b, a + b) about, and a = g b = (1 - confidence) g / (g + 1)
    makes both equal to 1 - confidence, about. Simulated on four groups of 70 to 80 patients, 95 % intervals cover in 95 % (one
    group clearly lowest) to 99 %, in 97 % where all are alike; see benchmarks/README.md. One group has the interval of
    :func:`estimate`.

    Args:
        metric: of the groups' values.
        points: value of each group, shape (groups,); NaN where a group has no example.
        replicates: shape (resamples, groups); NaN where a resampling lost the group.
        confidence: in (0.5, 1).
        patients: of each group, as :func:`estimate` takes them.
        trials: of each group, as :func:`estimate` takes them.
        reason: why the point is undefined, where the caller knows.

    Returns:
        No interval where a group has none.

    Raises:
        SpurbenchError: no group, or shapes that do not agree.

    >>> spread = np.linspace(-0.1, 0.1, 201)[:, None]
    >>> found = minimum(Metric("accuracy"), [0.5, 0.9], spread + [0.5, 0.9])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.5, 0.407, 0.597)
    """
    groups = len(points)
    if not groups or replicates.shape[1:] != (groups,):
        raise SpurbenchError(f"Expected replicates of shape (resamples, {groups} groups), found {replicates.shape}.")
    value = finite(min(points, key=lambda point: -math.inf if math.isnan(point) else point))
    if value is None:
        return Estimate(None, reason=reason or "undefined: a group, class or value that it needs has no example")
    upper = (1 - confidence) / (groups + 1)
    lows, highs = [], []
    for group, (people, count) in enumerate(
        zip(patients or [None] * groups, trials or [None] * groups, strict=True),
    ):
        tails = (groups * upper, upper)
        ends = _ends(metric, float(points[group]), replicates[:, group], tails, MINIMUM_DEFINED, people, count)
        if isinstance(ends, str):
            return Estimate(value, reason=ends)
        lows.append(ends[0])
        highs.append(ends[1])
    return Estimate(value, min(lows), min(highs))


@dataclass(frozen=True)
class AcrossSeeds:
    """What several trainings of one method say together.

    Args:
        mean: over the seeds, with the interval of that mean over patients: the seeds are taken as they are.
        sd: standard deviation over the seeds, with n - 1; None for one seed.
        joint: the mean with the interval that joins both: another training, measured on other patients.
    """

    mean: Estimate
    sd: float | None
    joint: Estimate


def across_seeds(
    metric: Metric,
    points: Sequence[float] | NDArray[Any],
    replicates: NDArray[Any],
    confidence: float = 0.95,
    *,
    patients: int | None = None,
) -> AcrossSeeds:
    """Mean and standard deviation over seeds, and the interval that joins the variance of seeds and of patients.

    The recipe: (1) average the replicates over the seeds, resampling by resampling, and take the interval [l, u] of the
    mean m over patients as :func:`estimate` does; (2) the reach of the seeds is r = t s / sqrt(n), with the standard
    deviation s over n seeds and Student's quantile t of n - 1 degrees of freedom (4.30 for three seeds and 95 %); (3)
    join them as independent parts of a sum: from m - sqrt((m - l)^2 + r^2) to m + sqrt((u - m)^2 + r^2), clipped to the
    metric's range. What a seed and a patient do together is in both parts: the interval is wide rather than narrow.

    Args:
        metric: gives range and kind of interval.
        points: value of each seed, shape (seeds,); NaN where undefined.
        replicates: under the same resamplings for all seeds, shape (seeds, resamples).
        confidence: in (0, 1).
        patients: number of patients that the value is a mean over, of the seed that has the fewest.

    Raises:
        SpurbenchError: no seed, or shapes that do not agree.

    >>> same = np.tile(np.linspace(0.4, 0.8, 201), (3, 1))
    >>> found = across_seeds(Metric("accuracy"), [0.58, 0.6, 0.62], same)
    >>> round(found.sd, 3), round(found.mean.low, 3), round(found.joint.low, 3)
    (0.02, 0.41, 0.404)
    """
    seeds = len(points)
    if not seeds or replicates.shape[:1] != (seeds,) or replicates.ndim != 2:
        raise SpurbenchError(f"Expected replicates of shape ({seeds} seeds, resamples), found {replicates.shape}.")
    values = np.asarray(points, np.float64)
    mean = estimate(metric, float(values.mean()), replicates.mean(axis=0), confidence, patients=patients)
    if seeds < 2 or mean.value is None:
        why = mean.reason if mean.value is None else "no interval: one seed says nothing of others"
        return AcrossSeeds(mean, None, Estimate(mean.value, reason=why))
    sd = float(values.std(ddof=1))
    if mean.low is None or mean.high is None:
        return AcrossSeeds(mean, sd, mean)
    from scipy.special import stdtrit

    reach = float(stdtrit(seeds - 1, (1 + confidence) / 2)) * sd / math.sqrt(seeds)
    low = mean.value - math.hypot(max(0.0, mean.value - mean.low), reach)
    high = mean.value + math.hypot(max(0.0, mean.high - mean.value), reach)
    return AcrossSeeds(mean, sd, Estimate(mean.value, max(low, metric.low), min(high, metric.high)))
