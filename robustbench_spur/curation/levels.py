"""Levels of a feature: its categories, or quantile bins of its numbers; a missing value is a level of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.features import Column
from robustbench_spur.spreadsheet import words

MISSING_LEVEL = "missing"


@dataclass(frozen=True)
class Levels:
    """A feature in levels.

    Args:
        names: of the levels that occur, numbers in ascending order, texts by alphabet, "missing" last.
        codes: level of each patient, shape (n,), 0 to ``len(names) - 1``.
        edges: greatest number of each bin but the last; empty where nothing was binned.
        missing: code of the missing level, or None.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64] = field(repr=False)
    edges: tuple[float, ...] = ()
    missing: int | None = None

    @property
    def constant(self) -> bool:
        """Whether all patients have the same level."""
        return len(self.names) < 2

    @property
    def support(self) -> dict[str, int]:
        """Patients of each level."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


def quantile_edges(numbers: NDArray[Any], bins: int) -> tuple[float, ...]:
    """Greatest number of each bin but the last, for at most ``bins`` bins of about as many numbers.

    A number that holds more than a bin's share gets a bin of its own, as far as there are bins.

    Args:
        numbers: finite, shape (n,), n at least 1.
        bins: at least 2.

    >>> quantile_edges(np.arange(10.0), 5)
    (1.0, 3.0, 5.0, 7.0)
    >>> quantile_edges(np.array([1.0, 2, 3, 4] + [9.0] * 96), 3), quantile_edges(np.ones(4), 3)
    ((4.0,), ())
    """
    distinct = np.unique(numbers)
    cuts, times = np.unique(np.quantile(numbers, np.arange(1, bins) / bins, method="inverted_cdf"), return_counts=True)
    places = np.searchsorted(distinct, cuts)
    heavy = places[(times > 1) | (places == len(distinct) - 1)]
    edges = np.union1d(places, heavy - 1)
    return tuple(distinct[edges[(edges >= 0) & (edges < len(distinct) - 1)]].tolist())


def levels(column: Column, bins: int = 5, rows: NDArray[Any] | None = None) -> Levels:
    """Put a column in levels.

    Args:
        column: of the table.
        bins: most bins of a numeric column; with no more different numbers than that, each is a level.
        rows: the patients that the bins are fixed on, indices or a mask; all if None.

    >>> column = Column("age", np.array([31.0, None, 47.0, 31.0], dtype=object), "numeric")
    >>> levels(column).names, levels(column).codes.tolist()
    (('31', '47', 'missing'), [0, 2, 1, 0])
    """
    missing = column.missing
    present = column.values[~missing]
    edges: tuple[float, ...] = ()
    if column.kind == "numeric":
        present = present.astype(np.float64)
        fixed = (column.values if rows is None else column.values[rows]).tolist()
        known = np.array([value for value in fixed if value is not None], np.float64)
        if len(np.unique(known)) > bins:
            edges = quantile_edges(known, bins)
    if edges:
        names, codes = _binned(present, edges)
    else:
        uniques, codes = np.unique(present.astype(object) if len(present) else present, return_inverse=True)
        names = [words(value) for value in uniques.tolist()]
    out = np.full(len(missing), len(names), np.int64)
    out[~missing] = codes
    lost = bool(missing.any())
    return Levels((*names, *[MISSING_LEVEL] * lost), out, edges, len(names) if lost else None)


def _binned(numbers: NDArray[Any], edges: Sequence[float]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the bins that occur, and the bin of each number."""
    ends = [f"{edge:g}" for edge in edges]
    if len(set(ends)) < len(ends):
        ends = [words(edge) for edge in edges]
    middle = [f"above {low}, to {high}" for low, high in pairwise(ends)]
    names = [f"to {ends[0]}", *middle, f"above {ends[-1]}"]
    found, codes = np.unique(np.searchsorted(edges, numbers, side="left"), return_inverse=True)
    return [names[place] for place in found.tolist()], codes


def missingness(column: Column) -> Column | None:
    """Whether a value is there, as a feature of its own; None where that is the same for all patients."""
    missing = column.missing
    if missing.all() or not missing.any():
        return None
    values = np.where(missing, MISSING_LEVEL, "known").astype(object)
    return Column(f"{column.name} (missing)", values, "categorical", column.section)
