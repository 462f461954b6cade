"""How much a feature tells of the label, how well it can be read from the images, and how sure that is.

A is a feature in levels, Y the label, A' what a detector that never saw the patient predicts for A. With I the mutual
information, H the entropy and m the mean of I when patients are permuted:

    adjusted(A, B) = (I(A; B) - m) / (sqrt(H(A) H(B)) - m)
    utility        = adjusted(A, Y), at least 0
    detectability  = sum over ALL classes y of p(y) adjusted(A, A' | Y = y), at least 0

Source: M. Pavlak et al., Data AUDIT, MICCAI 2023, and N. Drenkow et al., G-AUDIT, arXiv 2503.09969 (utility,
detectability, their product); N. Vinh et al., JMLR 11, 2010 (adjustment for chance); B. Phipson and G. Smyth,
Stat. Appl. Genet. Mol. Biol. 9, 2010 (p values of permutations); Y. Benjamini and Y. Hochberg, JRSS B 57, 1995;
W. Bergsma, Journal of the Korean Statistical Society 42, 2013 (bias-corrected Cramer's V).
Deviations: the rows are patients; chance is that of permuted patients, also in the bootstrap. A patient who is drawn
twice agrees with himself, so that a resample's information is too high even for independent columns, the more so the
more levels there are: what resamples of permuted patients reach on average is taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.statistics import blocks, resample_counts

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

WORK_BYTES = 32_000_000
"""Size of the intermediate arrays of a block of permutations, in bytes."""

_TINY = 1e-12


# Permutations and resamplings


@dataclass(frozen=True)
class Draws:
    """Permutations and resamplings of patients, shared by all columns.

    Args:
        permutations: rows of indices, shape (B, n).
        weights: how often each resampling drew each patient, shape (R, n).
    """

    permutations: NDArray[Any] = field(repr=False)
    weights: NDArray[Any] = field(repr=False)

    @classmethod
    def make(cls, patients: int, permutations: int, replicates: int, seed: int) -> Draws:
        """Draw them; the permutations and the resamplings are independent of each other.

        Args:
            patients: n, at least 1.
            permutations: B, at least 1.
            replicates: R, at least 1.
            seed: at least 0.
        """
        weights = np.empty((replicates, patients), np.uint16)
        for part in blocks(replicates, 8 * patients, WORK_BYTES):
            weights[part] = resample_counts(patients, part.stop - part.start, seed, first=part.start)
        return cls(permute(patients, permutations, seed), weights)

    def within(self, rows: NDArray[Any], seed: int) -> Draws:
        """Of some patients only, permuted among themselves.

        Args:
            rows: their indices, shape (m,).
            seed: of the permutations.
        """
        return Draws(permute(len(rows), len(self.permutations), seed), self.weights[:, rows])


def permute(patients: int, permutations: int, seed: int) -> NDArray[np.int32]:
    """Random orders of ``patients``, shape (permutations, patients).

    >>> sorted(permute(4, 2, seed=0)[1].tolist())
    [0, 1, 2, 3]
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, patients, 1))))
    out = np.empty((permutations, patients), np.int32)
    for part in blocks(permutations, 16 * patients, WORK_BYTES):
        out[part] = np.argsort(generator.random((part.stop - part.start, patients)), axis=1)
    return out


# Information of many tables at once


def _entropy(counts: Floats) -> Floats:
    """Entropy in bits of each row of counts, shape (rows, cells) to (rows,); NaN for a row without counts."""
    total = counts.sum(axis=1)
    logs = np.log2(counts, out=np.zeros_like(counts), where=counts > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log2(total) - (counts * logs).sum(axis=1) / total
    out: Floats = np.maximum(found, 0.0)
    return out


def _tables(x: Codes, y: NDArray[Any], levels: int, classes: int, weights: NDArray[Any] | None) -> Floats:
    """Contingency tables of ``x`` with each row of ``y``, shape (rows, levels, classes).

    Args:
        x: shape (n,), 0 to ``levels - 1``.
        y: shape (rows, n), 0 to ``classes - 1``.
        levels: of x.
        classes: of y.
        weights: shape (rows, n); ones if None.
    """
    rows, cells = len(y), levels * classes
    index = (np.arange(rows) * cells)[:, None] + x * classes + y
    flat = None if weights is None else weights.ravel()
    counts = np.bincount(index.ravel(), flat, minlength=rows * cells)
    return counts.astype(np.float64).reshape(rows, levels, classes)


def _information(tables: Floats) -> tuple[Floats, Floats]:
    """Mutual information and geometric mean of the entropies of each table, in bits, each of shape (tables,)."""
    x, y = _entropy(tables.sum(axis=2)), _entropy(tables.sum(axis=1))
    joint = _entropy(tables.reshape(len(tables), -1))
    return np.maximum(x + y - joint, 0.0), np.sqrt(x * y)


def _in_blocks(
    x: Codes, y: Callable[[slice], NDArray[Any]], rows: int, weights: NDArray[Any] | None
) -> tuple[Floats, Floats]:
    """:func:`_information` of ``x`` with many rows of ``y``, in blocks of bounded memory."""
    levels, classes = int(x.max()) + 1, int(y(slice(0, 1)).max()) + 1
    found = []
    for part in blocks(rows, 24 * (len(x) + levels * classes), WORK_BYTES):
        chosen = None if weights is None else weights[part]
        found.append(_information(_tables(x, y(part), levels, classes, chosen)))
    return np.concatenate([i for i, _ in found]), np.concatenate([h for _, h in found])


def _adjust(information: Floats, scale: Floats, chance: float) -> Floats:
    """(I - m) / (scale - m); 0 where the scale does not exceed chance, so that nothing could be told from it."""
    room = scale - chance
    out = np.zeros_like(information)
    np.divide(information - chance, room, out=out, where=room > _TINY)
    np.minimum(out, 1.0, out=out)
    out[np.isnan(information)] = np.nan
    return out


@dataclass(frozen=True)
class Adjusted:
    """Mutual information of two columns, adjusted for chance.

    Args:
        value: 1 where one column decides the other (and as many levels), about 0 where they are independent; it may
            be a little below 0. NaN where a column is constant.
        p: share of permutations that reach the information found, with one added to both numbers; NaN likewise.
        replicates: ``value`` under resampling of patients, shape (R,); NaN where the resample has no patient.
    """

    value: float
    p: float
    replicates: Floats = field(repr=False)


def adjusted_information(x: NDArray[Any], y: NDArray[Any], draws: Draws) -> Adjusted:
    """Mutual information of two columns of codes, adjusted for chance by permutation of the patients.

    Args:
        x: codes from 0, shape (n,).
        y: likewise.
        draws: of the n patients.

    >>> x = np.arange(60) % 2
    >>> found = adjusted_information(x, x, Draws.make(60, 99, 10, seed=0))
    >>> found.value, found.p, found.replicates.min()
    (1.0, 0.01, np.float64(1.0))
    """
    codes, other = (np.unique(column, return_inverse=True)[1].astype(np.int64) for column in (x, y))
    replicates = len(draws.weights)
    if not len(codes) or not codes.any() or not other.any():
        return Adjusted(float("nan"), float("nan"), np.full(replicates, np.nan))
    order = draws.permutations
    information, scale = _in_blocks(codes, lambda part: other[None, :], 1, None)
    null, _ = _in_blocks(codes, lambda part: other[order[part]], len(order), None)
    reached = int((null >= information - _TINY).sum())
    value = float(_adjust(information, scale, float(null.mean()))[0])

    def repeated(part: slice) -> NDArray[Any]:
        return np.broadcast_to(other, (len(draws.weights[part]), len(other)))

    def permuted(part: slice) -> NDArray[Any]:
        found: NDArray[Any] = other[order[np.arange(replicates)[part] % len(order)]]
        return found

    drawn, scales = _in_blocks(codes, repeated, replicates, draws.weights)
    chance, _ = _in_blocks(codes, permuted, replicates, draws.weights)
    mean = float(np.nanmean(chance)) if np.isfinite(chance).any() else 0.0
    return Adjusted(value, (1 + reached) / (1 + len(order)), _adjust(drawn, scales, mean))


# Detectability


@dataclass(frozen=True)
class Detection:
    """How well a detector reads a feature beyond the label.

    Args:
        value: at most 1, at least 0; NaN where the feature is constant.
        replicates: under resampling, shape (R,).
        undefined: classes in which the feature is constant, which say nothing of the detector.
        collinear: whether all of them are, and ``value`` therefore does not set the label apart.
    """

    value: float
    replicates: Floats = field(repr=False)
    undefined: tuple[int, ...] = ()
    collinear: bool = False


def detectability(
    levels: NDArray[Any], predicted: NDArray[Any], classes: NDArray[Any], draws: Draws, seed: int = 0
) -> Detection:
    """Adjusted information of a feature and its out-of-fold prediction within classes, weighted by their patients.

    Classes in which the feature is constant cannot be counted: the others' weights then sum to one, and where there
    is no other, the information over all patients takes its place and is marked collinear.

    Args:
        levels: of the feature, codes from 0, shape (n,).
        predicted: likewise, by a detector that did not see the patient.
        classes: of the label, codes from 0, shape (n,).
        draws: of the n patients.
        seed: of the permutations within classes.
    """
    undefined, total, weight = list[int](), 0.0, 0
    sums, sizes = np.zeros(len(draws.weights)), np.zeros(len(draws.weights))
    for label in np.unique(classes).tolist():
        rows = np.flatnonzero(classes == label)
        if len(np.unique(levels[rows])) < 2:
            undefined.append(int(label))
            continue
        found = _within(levels[rows], predicted[rows], draws.within(rows, seed))
        drawn = draws.weights[:, rows].sum(axis=1) * np.isfinite(found.replicates)
        total, weight = total + len(rows) * found.value, weight + len(rows)
        sums, sizes = sums + drawn * np.nan_to_num(found.replicates), sizes + drawn
    if not weight:
        whole = _within(levels, predicted, draws)
        return Detection(max(0.0, whole.value), np.maximum(whole.replicates, 0.0), tuple(undefined), collinear=True)
    replicates = np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0)
    return Detection(max(0.0, total / weight), np.maximum(replicates, 0.0), tuple(undefined))


def _within(levels: NDArray[Any], predicted: NDArray[Any], draws: Draws) -> Adjusted:
    """:func:`adjusted_information`; a detector that always says the same tells nothing, which is 0."""
    found = adjusted_information(levels, predicted, draws)
    if len(np.unique(predicted)) > 1 or len(np.unique(levels)) < 2:
        return found
    return Adjusted(0.0, 1.0, np.zeros(len(draws.weights)))


# Many columns


def benjamini_hochberg(p_values: Sequence[float] | NDArray[Any]) -> Floats:
    """Adjusted p values whose rejection at q keeps the expected share of false discoveries below q, shape (tests,).

    NaN stays NaN and is no test.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5, float("nan")]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5, nan]
    """
    p = np.asarray(p_values, np.float64)
    tests = int(np.count_nonzero(~np.isnan(p)))
    order = np.argsort(p, kind="stable")[:tests]
    out = np.full(p.shape, np.nan)
    stepped = p[order] * tests / np.arange(1, tests + 1)
    out[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return out


def associations(columns: Sequence[NDArray[Any]]) -> tuple[Floats, Floats]:
    """Cramer's V of every pair of columns: plain, and corrected for the bias that many levels bring.

    Args:
        columns: codes from 0, each of shape (n,).

    Returns:
        Two symmetric matrices, shape (columns, columns), from 0 to 1; NaN where a column is constant, and corrected
        also where a column has as many levels as patients.

    >>> plain, corrected = associations([np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])])
    >>> plain.tolist(), corrected[0, 1] <= 1
    ([[1.0, 1.0], [1.0, 1.0]], np.True_)
    """
    dense = [np.unique(column, return_inverse=True)[1].astype(np.int64) for column in columns]
    counts = [np.bincount(column).astype(np.float64) for column in dense]
    plain, corrected = (np.full((len(dense), len(dense)), np.nan) for _ in range(2))
    for i, x in enumerate(dense):
        for j in range(i, len(dense)):
            found = _cramer(x, dense[j], counts[i], counts[j])
            plain[i, j], corrected[i, j] = plain[j, i], corrected[j, i] = found
    return plain, corrected


def _cramer(x: Codes, y: Codes, in_x: Floats, in_y: Floats) -> tuple[float, float]:
    """Plain and bias-corrected V from the cells that occur alone: chi squared / n is sum(o o / (r c)) - 1."""
    n, degrees = len(x), min(len(in_x), len(in_y)) - 1
    if degrees < 1:
        return float("nan"), float("nan")
    cells, observed = np.unique(x * len(in_y) + y, return_counts=True)
    phi = float((observed**2 / (in_x[cells // len(in_y)] * in_y[cells % len(in_y)])).sum()) - 1
    surplus = (len(in_x) - 1) * (len(in_y) - 1) / (n - 1)
    room = min(size - (size - 1) ** 2 / (n - 1) for size in (len(in_x), len(in_y))) - 1
    fair = float(np.sqrt(min(1.0, max(0.0, phi - surplus) / room))) if room > _TINY else float("nan")
    return float(np.sqrt(min(1.0, max(0.0, phi) / degrees))), fair
