"""Clusters of each class's features or outputs, as many as fit: what George and SPARE share."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_samples

MOST_POINTS = 2000
"""Of larger classes, the silhouette is worked out on so many points, drawn at random."""


def best_clusters(
    points: NDArray[np.float64], counts: range, rng: np.random.Generator
) -> tuple[NDArray[np.int64], float]:
    """K-means clusters with the number of clusters of largest mean silhouette (Rousseeuw 1987).

    Args:
        points: shape (n, width).
        counts: numbers of clusters that are tried.
        rng: for initial centres and for the points of the silhouette.

    Returns:
        Codes from 0, shape (n,), and the silhouette; all 0 and NaN where there are too few different points.
    """
    different = len(np.unique(points, axis=0))
    found: list[tuple[float, int, NDArray[np.int64]]] = []
    seed = int(rng.integers(2**31))
    rows = rng.permutation(len(points))[:MOST_POINTS]
    for count in counts:
        if count < min(different, len(points)):
            codes = KMeans(count, n_init=3, random_state=seed).fit_predict(points).astype(np.int64)
            if len(np.unique(codes[rows])) > 1:
                found.append((float(silhouette_samples(points[rows], codes[rows]).mean()), -count, codes))
    if not found:
        return np.zeros(len(points), np.int64), float("nan")
    score, _, codes = max(found, key=lambda one: one[:2])
    return codes, score


def within_classes(
    points: NDArray[np.float64], labels: NDArray[np.int64], counts: range, rng: np.random.Generator
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Clusters of every class by itself.

    Returns:
        Codes within the class, shape (n,), and the silhouette of each class.
    """
    clusters, scores = np.zeros(len(labels), np.int64), {}
    for label in np.unique(labels):
        rows = labels == label
        clusters[rows], scores[f"class {label}"] = best_clusters(points[rows], counts, rng)
    return clusters, scores
