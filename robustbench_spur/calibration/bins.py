"""Bins of probabilities: of equal width, or holding equally many examples.

All bins are closed on the left, and the last one on both sides, as in netcal.

Source: Naeini, Cooper and Hauskrecht, AAAI 2015 (equal width); Nguyen and O'Connor, EMNLP 2015, section 3.1 (equal mass).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats

Codes = NDArray[np.int64]


def index_in(values: Floats, edges: Floats) -> Codes:
    """Bin of each value.

    Args:
        values: shape (n,), in [0, 1].
        edges: ascending, from 0 to 1, shape (bins + 1,); where some are equal, the bins between them stay empty.

    Returns:
        Shape (n,), 0 to ``bins - 1``.

    >>> index_in(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.5, 0.5, 1.0])).tolist()
    [0, 2, 2]
    """
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def equal_width_edges(bins: int) -> Floats:
    """Edges of ``bins`` bins of the same width in [0, 1], shape (bins + 1,)."""
    return np.linspace(0, 1, bins + 1)


def equal_mass_edges(values: Floats, bins: int) -> Floats:
    """Edges of ``bins`` bins in [0, 1] that hold equally many of the values, as far as ties allow.

    Args:
        values: shape (n,), in [0, 1]; without any, the bins are of equal width.
        bins: number of bins.

    Returns:
        Shape (bins + 1,): 0, the quantiles between, and 1.

    >>> equal_mass_edges(np.array([0.6, 0.7, 0.8, 0.9]), 2).tolist()
    [0.0, 0.75, 1.0]
    """
    edges = equal_width_edges(bins)
    if len(values):
        edges[1:-1] = np.quantile(values, edges[1:-1])
    return edges


def bin_index(values: Floats, bins: int) -> Codes:
    """Bin of each value, of bins of equal width.

    Args:
        values: shape (n,), in [0, 1].
        bins: number of bins.

    Returns:
        Shape (n,), 0 to ``bins - 1``.

    >>> bin_index(np.array([0.0, 0.25, 0.999, 1.0]), 4).tolist()
    [0, 1, 3, 3]
    """
    return index_in(values, equal_width_edges(bins))
