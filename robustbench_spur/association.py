"""How strongly two categorical columns go together: contingency tables, entropy, mutual information, Cramer's V.

Source: Cover and Thomas, Elements of Information Theory, chapter 2; Cramer 1946, Mathematical Methods of Statistics.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


def contingency(x: NDArray[Any], y: NDArray[Any]) -> Table:
    """Counts of every pair of values that occur, shape (values of x, values of y), both sorted.

    Args:
        x: any values that can be sorted, shape (n,).
        y: likewise.

    >>> contingency(np.array(["a", "a", "b"]), np.array([0, 1, 1])).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    rows, i = np.unique(x, return_inverse=True)
    columns, j = np.unique(y, return_inverse=True)
    counts = np.bincount(i * len(columns) + j, minlength=len(rows) * len(columns))
    return counts.reshape(len(rows), len(columns)).astype(np.float64)


def entropy(counts: NDArray[Any]) -> float:
    """Entropy of a distribution given by counts, in bits; 0 for no counts.

    >>> entropy(np.array([5, 5])), entropy(np.array([7, 0]))
    (1.0, 0.0)
    """
    values = np.asarray(counts, np.float64).ravel()
    total = values.sum()
    shares = values[values > 0] / total if total else values[:0]
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def mutual_information(table: Table) -> float:
    """Mutual information of the two columns of a contingency table, in bits, at least 0.

    >>> mutual_information(np.array([[5.0, 0.0], [0.0, 5.0]])), mutual_information(np.ones((2, 2)))
    (1.0, 0.0)
    """
    return max(0.0, entropy(table.sum(axis=0)) + entropy(table.sum(axis=1)) - entropy(table))


def cramers_v(table: Table) -> float | None:
    """Cramer's V, from 0 (independent) to 1 (one decides the other); None where a column has a single value.

    >>> cramers_v(np.array([[5.0, 0.0], [0.0, 5.0]])), cramers_v(np.ones((2, 2))), cramers_v(np.ones((1, 2)))
    (1.0, 0.0, None)
    """
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    degrees = min(kept.shape) - 1
    if degrees < 1:
        return None
    expected = kept.sum(axis=1, keepdims=True) * kept.sum(axis=0, keepdims=True) / kept.sum()
    chi_squared = float(((kept - expected) ** 2 / expected).sum())
    return min(1.0, math.sqrt(chi_squared / (kept.sum() * degrees)))
