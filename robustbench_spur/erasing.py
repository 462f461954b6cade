"""Takes an attribute out of a model's features, by the map that changes them least.

    r(x) = x - S pinv(S' C^-1 S) S' C^-1 (x - m)

with m the mean, C the covariance of the features, and S that of the features with the attribute's indicators. After it no
linear probe finds the attribute. For two levels it moves every point along the difference of their means, until the linear
discriminant of the levels is constant.

Source: N. Belrose et al., LEACE: Perfect linear concept erasure in closed form, NeurIPS 2023, arXiv 2306.03819, section 4.
Deviations: m, C and S are taken with weights that make every pair of class and level weigh the same, C and S about the means
of the classes, so that nothing of the class is taken out with the attribute; and C is shrunk towards a multiple of the
identity (O. Ledoit and M. Wolf, Journal of Multivariate Analysis 88, 2004), since patients are often fewer than features.
That formula takes rows for independent, which slices of a patient are not: it shrinks too little rather than too much.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robustbench_spur.probing import Codes, Floats, Scale, pair_weights, untied
from robustbench_spur.types import SpurbenchError


@dataclass(frozen=True)
class Eraser:
    """The map r: ``x - (x - mean) @ read @ along``.

    Args:
        mean: shape (width,).
        read: what the attribute is read by, shape (width, levels).
        along: what every point is moved along, shape (levels, width).
    """

    mean: Floats = field(repr=False)
    read: Floats = field(repr=False)
    along: Floats = field(repr=False)

    def __call__(self, points: Floats) -> Floats:
        """Points without the attribute, shape (n, width)."""
        return np.asarray(points - (points - self.mean) @ self.read @ self.along)


def fit_eraser(points: Floats, codes: Codes, labels: Codes) -> Eraser:
    """The map that takes an attribute out of features.

    Args:
        points: shape (n, width).
        codes: levels of the attribute, from 0, shape (n,).
        labels: class codes, shape (n,).

    Returns:
        After it, no feature is correlated with a level within the classes, in the weighted mean over them.

    Raises:
        SpurbenchError: no class has two levels.

    >>> points = np.array([[0.0, 1.0], [4.0, 1.0], [0.0, 3.0], [4.0, 3.0]])
    >>> fit_eraser(points, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))(points).round(6).tolist()
    [[2.0, 1.0], [2.0, 1.0], [2.0, 3.0], [2.0, 3.0]]
    """
    from sklearn.covariance import ledoit_wolf

    if not untied(codes, labels):
        raise SpurbenchError("Expected a class with two levels of the attribute, found none. Give other patients.")
    weight, scale = pair_weights(codes, labels), Scale.of(points)
    width, scaled = points.shape[1], scale(points)
    mean = np.average(points, axis=0, weights=weight)
    levels = (codes[:, None] == np.unique(codes)).astype(np.float64)
    if not scaled.shape[1]:
        return Eraser(mean, np.zeros((width, levels.shape[1])), np.zeros((levels.shape[1], width)))
    root = np.sqrt(weight)[:, None]
    inner, indicators = root * _centred(scaled, labels, weight), root * _centred(levels, labels, weight)
    cross = inner.T @ indicators / len(points)
    covariance, _ = ledoit_wolf(inner, assume_centered=True)
    # a direction that the shrunk covariance lacks is one in which nothing moves
    solved = np.linalg.lstsq(covariance, cross, rcond=None)[0]
    read, along = np.zeros((width, levels.shape[1])), np.zeros((levels.shape[1], width))
    read[scale.moving] = solved / scale.spread[scale.moving, None]
    along[:, scale.moving] = np.linalg.pinv(cross.T @ solved, rcond=1e-9, hermitian=True) @ cross.T
    along[:, scale.moving] *= scale.spread[scale.moving]
    return Eraser(mean, read, along)


def _centred(values: Floats, labels: Codes, weight: Floats) -> Floats:
    """Values less the weighted mean of their class, shape (n, columns)."""
    out = values.copy()
    for label in np.unique(labels).tolist():
        rows = labels == label
        out[rows] -= np.average(values[rows], axis=0, weights=weight[rows])
    return out


def held_out_erased(points: Floats, codes: Codes, labels: Codes, fold: Codes) -> Floats:
    """Every point without the attribute, by a map that was fitted on the other folds.

    Args:
        points: shape (n, width).
        codes: levels of the attribute, from 0, or -1 where unknown: erased like the others, not fitted on; shape (n,).
        labels: class codes, shape (n,).
        fold: of each example, shape (n,).

    Returns:
        Shape (n, width); NaN where the other folds have no class with two levels.
    """
    out = np.full(points.shape, np.nan)
    for held in np.unique(fold).tolist():
        train = (fold != held) & (codes >= 0)
        if untied(codes[train], labels[train]):
            out[fold == held] = fit_eraser(points[train], codes[train], labels[train])(points[fold == held])
    return out
