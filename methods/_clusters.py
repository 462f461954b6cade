"""Clusters of each class's features or outputs, as many as fit: what George and SPARE share."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_samples

MOST_POINTS = 2000
"""Of larger sets, silhouettes are worked out on so many points, drawn at random."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def split(points: Floats, count: int, seed: int) -> Ints:
    """K-means clusters, codes from 0, shape (n,); fewer where there are fewer different points.

    Args:
        points: shape (n, width).
        count: number of clusters.
        seed: of the initial centres.
    """
    count = min(count, len(np.unique(points, axis=0)))
    return np.asarray(KMeans(count, n_init=3, random_state=seed).fit_predict(points), np.int64)


def silhouettes(points: Floats, codes: Ints, rows: Ints) -> Floats:
    """Silhouette of the points in some rows among each other (Rousseeuw 1987); 0 for all where they have a single cluster.

    Args:
        points: shape (n, width).
        codes: of the clusters, shape (n,).
        rows: at most :data:`MOST_POINTS` positions, shape (m,).

    Returns:
        In the order of ``rows``, from -1 to 1, shape (m,); 0 for a point that is alone in its cluster.
    """
    found = len(np.unique(codes[rows]))
    if not 1 < found < len(rows):
        return np.zeros(len(rows))
    return np.asarray(silhouette_samples(points[rows], codes[rows]), np.float64)


def best_clusters(points: Floats, counts: range, rng: np.random.Generator) -> tuple[Ints, float]:
    """K-means clusters with the number of clusters of largest mean silhouette.

    Args:
        points: shape (n, width).
        counts: numbers of clusters that are tried.
        rng: for initial centres and for the points of the silhouette.

    Returns:
        Codes from 0, shape (n,), and the silhouette; all 0 and NaN where there are too few different points.
    """
    different = len(np.unique(points, axis=0))
    found: list[tuple[float, int, Ints]] = []
    seed = int(rng.integers(2**31))
    rows = rng.permutation(len(points))[:MOST_POINTS]
    for count in counts:
        if count < min(different, len(points)):
            codes = split(points, count, seed)
            if len(np.unique(codes[rows])) > 1:
                found.append((float(silhouettes(points, codes, rows).mean()), -count, codes))
    if not found:
        return np.zeros(len(points), np.int64), float("nan")
    score, _, codes = max(found, key=lambda one: one[:2])
    return codes, score


def within_classes(
    points: Floats, labels: Ints, counts: range, rng: np.random.Generator
) -> tuple[Ints, dict[int, float]]:
    """Clusters of every class by itself.

    Returns:
        Codes within the class, shape (n,), and the silhouette of each class that occurs.
    """
    clusters, scores = np.zeros(len(labels), np.int64), {}
    for label in np.unique(labels):
        rows = labels == label
        clusters[rows], scores[int(label)] = best_clusters(points[rows], counts, rng)
    return clusters, scores


def overclustered(
    points: Floats, codes: Ints, losses: Floats, *, factor: int, smallest: int, rng: np.random.Generator
) -> Ints:
    """Clusters with those sub-clusters taken out that are worth it.

    Every cluster is split into ``factor`` sub-clusters. One of them stands for itself if its points' mean silhouette among
    the sub-clusters is above 0 and above that among the clusters, if its mean loss is at least its cluster's, and if it has
    at least ``smallest`` points; its points return to the cluster if not.

    Args:
        points: shape (n, width).
        codes: of the clusters, from 0, shape (n,).
        losses: of the points, shape (n,).
        factor: sub-clusters of a cluster.
        smallest: number of points.
        rng: for initial centres and for the points of the silhouette.

    Returns:
        Codes from 0, maybe with gaps, shape (n,): those of the clusters, then one for each sub-cluster.
    """
    seed, rows = int(rng.integers(2**31)), rng.permutation(len(points))[:MOST_POINTS]
    finer = codes * factor
    for cluster in np.unique(codes):
        finer[codes == cluster] += split(points[codes == cluster], factor, seed)
    before, after = silhouettes(points, codes, rows), silhouettes(points, finer, rows)
    result = codes.copy()
    for sub in np.unique(finer):
        own, seen = finer == sub, finer[rows] == sub
        large = own.sum() >= smallest and seen.any()
        hard = losses[own].mean() >= losses[codes == sub // factor].mean()
        if large and hard and after[seen].mean() > max(0.0, before[seen].mean()):
            result[own] = codes.max() + 1 + sub
    return result
