"""Resampling of patients, paired comparisons and ranks, in numpy alone.

Slices of one patient are not independent, so patients are resampled, not slices. A resampling is a row of counts:
how often each patient was drawn. Every statistic here is a function of such rows, computed from one sum per
patient and a matrix product, so that 2,000 resamplings cost milliseconds and compare methods in pairs.

Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993 (cluster, percentile); A. Davison and
D. Hinkley, Bootstrap Methods and their Application, 1997, chapters 3 (strata), 4 (the +1 of a p value) and 5 (basic
interval); S. Holm, Scandinavian Journal of Statistics 6, 1979 (step-down adjustment).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.intervals import MINIMUM_DEFINED, contracted, expanded
from robustbench_spur.intervals import estimate as estimate
from robustbench_spur.types import SpurbenchError

Floats = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)

BLOCK_BYTES = 8_000_000
"""Size of the intermediate arrays of a block of resamplings, in bytes: about a processor's cache."""

MINIMUM_STRATUM = 10
"""Fewest patients of a stratum. Resampling n patients shows (n - 1) / n of their variance, and of a single one none."""

SUMS_BYTES = 24_000_000
"""The same where sums over sorted examples are kept, an addition per example and block."""

COUNTS_BYTES = 128_000_000
"""Size that the counts of resamplings drawn together may have, in bytes."""

WIDE = 256
"""Columns from which rows are added up one by one."""

KEPT_BYTES = 8_000_000
"""Size of counts that are kept for the next evaluator, in bytes; drawing them takes as long as measuring does."""


def blocks(rows: int, bytes_per_row: int, limit: int = BLOCK_BYTES) -> Iterator[slice]:
    """Cut ``rows`` resamplings into slices whose arrays stay below ``limit`` bytes (or hold a single row).

    >>> [(part.start, part.stop) for part in blocks(5, 40, limit=80)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, limit // max(1, bytes_per_row))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def resample_counts(
    patients: int, replicates: int, seed: int, strata: NDArray[Any] | None = None, *, first: int = 0
) -> Floats:
    """Draw patients with replacement, and count how often each was drawn.

    The counts depend on these arguments only, so that two methods (and two evaluators) meet the same resamplings.
    Resampling ``r`` is the same however many are drawn: many can be drawn in parts, by ``first``. The draws are made
    from the raw words of Philox, whose stream numpy keeps from release to release (NEP 19).

    Args:
        patients: number of patients, at least 0.
        replicates: number of resamplings.
        seed: key of the Philox generator, at least 0.
        strata: code of each patient's stratum, shape (patients,); each stratum keeps its number of patients. None
            for a single stratum.
        first: number of the first resampling.

    Returns:
        Counts, shape (replicates, patients); every row sums to ``patients``.

    Raises:
        SpurbenchError: a negative argument, or strata of another length.

    >>> resample_counts(3, 2, seed=0).sum(axis=1).tolist()
    [3.0, 3.0]
    >>> bool((resample_counts(3, 4, seed=0)[2:] == resample_counts(3, 2, seed=0, first=2)).all())
    True
    """
    if min(patients, replicates, seed, first) < 0:
        raise SpurbenchError(f"Expected no negative number, found {patients=}, {replicates=}, {seed=}, {first=}.")
    if strata is not None and len(strata) != patients:
        raise SpurbenchError(f"Expected a stratum for each of {patients} patients, found {len(strata)}.")
    codes = np.zeros(patients, np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    members = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    size, start = (np.repeat(column, sizes) for column in (sizes, np.cumsum(sizes) - sizes))
    steps = -(-patients // 4)  # a step of Philox's counter gives four words
    counts = np.empty((replicates, patients))
    for part in blocks(replicates, 32 * patients):
        rows = part.stop - part.start
        generator = np.random.Philox(key=seed).advance((first + part.start) * steps)
        words = generator.random_raw((rows, 4 * steps))[:, :patients]
        uniform = (words >> np.uint64(11)) * 2.0**-53
        drawn = members[start + (uniform * size).astype(np.int64)] + patients * np.arange(rows)[:, None]
        counts[part] = np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients)
    return counts


def strata_of(
    patient: NDArray[np.int64], patients: int, codes: NDArray[np.int64], cells: int, smallest: int = MINIMUM_STRATUM
) -> NDArray[np.int64]:
    """The stratum of each patient: patients who have examples of the same groups are drawn for one another.

    A resampling then has as many patients with examples of this and that group as the partition has. Strata of fewer than
    ``smallest`` patients are joined to one; where that one is still too small, the smallest of the others joins it.

    Args:
        patient: patient of each example, shape (n,), 0 to ``patients - 1``.
        patients: number of patients.
        codes: group of each example, shape (n,), 0 to ``cells - 1``.
        cells: number of groups.
        smallest: fewest patients of a stratum.

    Returns:
        Codes from 0 in the order of each stratum's first patient, shape (patients,).

    >>> whom, group = np.array([0, 0, 1, 2, 2, 3, 4]), np.array([0, 2, 0, 2, 0, 0, 1])
    >>> strata_of(whom, 5, group, 3, smallest=1).tolist(), strata_of(whom, 5, group, 3, smallest=2).tolist()
    ([0, 1, 0, 1, 2], [0, 1, 0, 1, 1])
    """
    has = np.zeros((patients, cells), bool)
    has[patient, codes] = True
    pattern = np.unique(np.packbits(has, axis=1), axis=0, return_inverse=True)[1].ravel()
    sizes = np.bincount(pattern)
    order = np.argsort(sizes, kind="stable")
    small = int(np.count_nonzero(sizes < smallest))
    if small and sizes[order[:small]].sum() < smallest:
        small += 1
    joined = np.arange(len(sizes))
    joined[order[:small]] = joined[order[:1]]
    _, first, stratum = np.unique(joined[pattern], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[stratum].astype(np.int64)


def resample(
    measure: Callable[[Floats], dict[str, Floats]],
    patients: int,
    replicates: int,
    seed: int,
    strata: NDArray[Any] | None = None,
    *,
    first: int = 0,
) -> dict[str, Floats]:
    """Every metric under every resampling, drawn and measured in blocks of bounded memory.

    Args:
        measure: from counts of shape (resamples, patients) to metrics of shape (resamples,).
        patients: number of patients.
        replicates: number of resamplings, at least 1.
        seed: see :func:`resample_counts`.
        strata: see :func:`resample_counts`.
        first: see :func:`resample_counts`.

    Returns:
        For each metric an array of shape (replicates,).

    >>> means = resample(lambda counts: {"mean": counts @ np.array([0.0, 1.0]) / 2}, 2, 500, seed=0)
    >>> sorted(set(means["mean"].tolist()))
    [0.0, 0.5, 1.0]
    """
    if replicates < 1:
        raise SpurbenchError(f"Expected at least one resampling, found {replicates}.")
    stratum = None if strata is None else np.asarray(strata, np.int64).tobytes()
    parts = []
    for part in blocks(replicates, 8 * patients, COUNTS_BYTES):
        rows, start = part.stop - part.start, first + part.start
        if 8 * patients * rows <= KEPT_BYTES:
            parts.append(measure(_kept_counts(patients, rows, seed, stratum, start)))
        else:
            parts.append(measure(_of_many(patients, rows, seed, stratum, start).astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@lru_cache(maxsize=40)
def _kept_counts(patients: int, replicates: int, seed: int, strata: bytes | None, first: int) -> Floats:
    """The counts of :func:`resample_counts`, for reading only: all evaluators and methods of a split meet the same."""
    counts = _small_counts(patients, replicates, seed, strata, first).astype(np.float64)
    counts.setflags(write=False)
    return counts


def _drawn(patients: int, replicates: int, seed: int, strata: bytes | None, first: int) -> NDArray[np.uint8] | Floats:
    """The counts in bytes, where they fit: drawing takes ten times as long as reading them again."""
    codes = None if strata is None else np.frombuffer(strata, np.int64)
    counts = resample_counts(patients, replicates, seed, codes, first=first)
    return counts.astype(np.uint8) if counts.max(initial=0) < 256 else counts


_small_counts = lru_cache(maxsize=200)(_drawn)
"""The same of few patients, for all methods of a split."""
_of_many = lru_cache(maxsize=4)(_drawn)
"""The same of many patients, for the evaluators of the predictions at hand."""


def check_counts(counts: Floats, patients: int) -> Floats:
    """``counts`` if its shape is (resamples, patients) and no number is negative.

    Raises:
        SpurbenchError: otherwise.
    """
    if counts.ndim != 2 or counts.shape[1] != patients:
        raise SpurbenchError(f"Expected counts of shape (resamples, {patients}), found {counts.shape}.")
    if counts.flags.writeable and counts.size and counts.min() < 0:  # those for reading only were drawn here
        raise SpurbenchError(f"Expected counts of 0 or more, found {counts.min()}.")
    return counts


def patient_sums(
    patient: NDArray[np.int64],
    patients: int,
    codes: NDArray[np.int64],
    cells: int,
    weights: NDArray[Any] | None = None,
) -> Floats:
    """Sum ``weights`` over the examples of each patient in each cell.

    Args:
        patient: patient of each example, shape (n,), 0 to ``patients - 1``.
        patients: number of patients.
        codes: cell of each example (a group, a bin), shape (n,), 0 to ``cells - 1``.
        cells: number of cells.
        weights: shape (n,); ones if None.

    Returns:
        Shape (patients, cells). For resampling counts c, ``c @ sums`` are the sums over the resampled examples.

    >>> patient_sums(np.array([0, 0, 1]), 2, np.array([0, 1, 1]), 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    sums = np.bincount(patient * cells + codes, weights, minlength=patients * cells)
    return sums.astype(np.float64).reshape(patients, cells)


def running_sums(rows: NDArray[Number], order: NDArray[np.int64]) -> NDArray[Number]:
    """Sums of the first k of the rows that are named one by one, for k from 0.

    Args:
        rows: shape (r, columns).
        order: indices of rows, some perhaps more than once, shape (n,).

    Returns:
        Shape (n + 1, columns), of the same type.

    >>> running_sums(np.array([[1, 10], [2, 20]]), np.array([1, 0, 1])).tolist()
    [[0, 0], [2, 20], [3, 30], [5, 50]]
    """
    out = np.empty((len(order) + 1, rows.shape[1]), rows.dtype)
    out[0] = 0
    if rows.shape[1] < WIDE:
        np.cumsum(rows[order], axis=0, out=out[1:])
        return out
    for place, row in enumerate(order.tolist()):  # numpy's sum down columns takes ten times as long
        np.add(out[place], rows[row], out=out[place + 1])
    return out


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """``numerator / denominator`` element by element, NaN where the denominator is 0.

    >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def group_means(
    values: NDArray[Any],
    patient: NDArray[np.int64],
    group: NDArray[np.int64],
    groups: int,
    counts: Floats,
) -> Floats:
    """Mean of ``values`` in each group under each resampling; of 0/1 correctness it is the group accuracy.

    Args:
        values: shape (n,), finite numbers or booleans.
        patient: patient of each example, shape (n,).
        group: group of each example, shape (n,), 0 to ``groups - 1``.
        groups: number of declared groups.
        counts: draws of each patient, shape (resamples, patients).

    Returns:
        Shape (resamples, groups); NaN where a resampling holds no example of a group.

    >>> correct, nobody = np.array([True, False, True]), np.zeros(3, int)
    >>> group_means(correct, np.array([0, 0, 1]), nobody, 2, np.array([[1.0, 1.0], [2.0, 0.0]])).tolist()
    [[0.6666666666666666, nan], [0.5, nan]]
    """
    # at once: going through the counts is what takes time
    both = counts @ sums_and_sizes(values, patient, group, groups, counts.shape[1])
    return ratio(both[:, :groups], both[:, groups:])


def sums_and_sizes(
    values: NDArray[Any], patient: NDArray[np.int64], group: NDArray[np.int64], groups: int, patients: int
) -> Floats:
    """Each patient's sum of ``values`` in each group, then the number of examples in each, shape (patients, 2 * groups)."""
    sums = (patient_sums(patient, patients, group, groups, weights) for weights in (values, None))
    return np.concatenate(list(sums), axis=1)


def paired_p_value(
    differences: NDArray[Any], minimum_defined: float = MINIMUM_DEFINED, *, patients: int | None = None
) -> float:
    """Two-sided bootstrap p value of no difference: twice the smaller tail beyond zero, with one added to each.

    Args:
        differences: of two methods under the same resamplings, shape (resamples,); NaN is left out.
        minimum_defined: least share of defined differences, in [0, 1].
        patients: number behind the difference: few of them make the p value larger, as they make intervals wider.

    Returns:
        In (0, 1]; NaN where too few differences are defined.

    >>> paired_p_value(np.array([0.1] * 19)), paired_p_value(np.zeros(19))
    (0.1, 1.0)
    """
    defined = differences[np.isfinite(differences)]
    if not len(defined) or len(defined) < minimum_defined * len(differences):
        return math.nan
    tail = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    share = (int(tail) + 1) / (len(defined) + 1)
    return min(1.0, 2 * (contracted(share, patients) if share < 0.5 else share))


def holm(p_values: Sequence[float] | NDArray[Any]) -> Floats:
    """Holm's step-down adjusted p values, shape (tests,); NaN stays NaN and is no test.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(p.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def replicates_to_rank(methods: int, alpha: float = 0.05) -> int:
    """Fewest resamplings with which Holm's correction over all pairs of ``methods`` can find a difference.

    >>> replicates_to_rank(4), replicates_to_rank(20)
    (266, 8444)
    """
    return replicates_to_test(methods * (methods - 1) // 2, alpha)


def replicates_to_test(tests: int, alpha: float = 0.05, patients: int | None = None) -> int:
    """Fewest resamplings with which Holm's correction over ``tests`` comparisons can find a difference.

    Args:
        tests: number of comparisons, at least 1 for a meaningful answer.
        alpha: level of all of them together.
        patients: as :func:`paired_p_value` takes them; of five or fewer no number may be enough.

    >>> replicates_to_test(1), replicates_to_test(6), replicates_to_test(6, patients=70)
    (44, 266, 357)
    """
    tail = alpha / max(1, 2 * tests)
    if patients is not None:
        tail = expanded(tail, patients) * (1 - 1e-6)  # the two quantile functions agree to some nine digits
    return max(1, math.ceil(round((1 / max(tail, 1e-9) - 1) / MINIMUM_DEFINED, 6)))


def ranks(
    values: Sequence[float] | NDArray[Any],
    replicates: NDArray[Any],
    better: Literal["higher", "lower", "neither"],
    alpha: float = 0.05,
) -> list[tuple[int, int] | None]:
    """Between which ranks each method lies, as far as the patients can tell.

    Two methods differ where the paired bootstrap says so, Holm-corrected over all pairs, and the values point the
    same way.

    Args:
        values: one per method, shape (methods,); NaN for a method that is not ranked.
        replicates: under the same resamplings for all, shape (methods, resamples); NaN where undefined.
        better: ``"higher"`` or ``"lower"``.
        alpha: level of the whole table, in (0, 1).

    Returns:
        For each method ``(rank, rank_high)``: one more than the number of methods that are significantly better, and
        the number of ranked methods less those that are significantly worse; None where the value is NaN.

    Raises:
        SpurbenchError: a metric without direction, or too few resamplings for so many methods.

    >>> noise = np.random.default_rng(0).normal(0, 0.01, (3, 2000))
    >>> ranks([0.9, 0.9, 0.5], noise + [[0.9], [0.9], [0.5]], "higher")
    [(1, 2), (1, 2), (3, 3)]
    """
    if better == "neither":
        raise SpurbenchError("Expected a metric of which higher or lower is better, found one of which neither is.")
    value = np.asarray(values, np.float64) * (1 if better == "higher" else -1)
    ranked = np.flatnonzero(~np.isnan(value))
    needed = replicates_to_rank(len(ranked), alpha)
    if replicates.shape[1] < needed:
        raise SpurbenchError(
            f"Expected at least {needed} resamplings to rank {len(ranked)} methods at {alpha}, "
            f"found {replicates.shape[1]}. Draw more (replicates_to_rank says how many)."
        )
    wins = _wins(value[ranked], replicates[ranked] * (1 if better == "higher" else -1), alpha)
    out: list[tuple[int, int] | None] = [None] * len(value)
    for place, method in enumerate(ranked.tolist()):
        out[method] = (1 + int(wins[:, place].sum()), len(ranked) - int(wins[place].sum()))
    return out


def _wins(value: Floats, replicates: Floats, alpha: float) -> NDArray[np.bool_]:
    """Whether method i is significantly higher than method j, shape (methods, methods)."""
    first, second = np.triu_indices(len(value), k=1)
    p_values, above = np.ones(len(first)), np.zeros(len(first), bool)
    for pair in range(len(first)):  # one at a time: all differences together would take gigabytes
        difference = replicates[first[pair]] - replicates[second[pair]]
        p_values[pair] = paired_p_value(difference)
        above[pair] = np.count_nonzero(difference > 0) > np.count_nonzero(difference < 0)
    wins = np.zeros((len(value), len(value)), bool)
    for pair in np.flatnonzero(holm(p_values) <= alpha).tolist():
        better, worse = (first[pair], second[pair]) if above[pair] else (second[pair], first[pair])
        wins[better, worse] = value[better] > value[worse]
    return wins
