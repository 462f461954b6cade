"""ExMap: cluster the heat maps of a held-out set into pseudo groups, and fit the last layer again with these balanced.

1. A model is trained by ERM; its heat maps of the validation set are taken and made small (``map_size`` pixels wide).
2. In every class (``per_class``; else over all) the maps are clustered spectrally: a graph of nearest neighbours, as
   many clusters as the largest gap among its first ten eigenvalues says.
3. With (class, cluster) as groups the last layer is fitted again as DFR does.

Source: Chakraborty, Sletten and Kampffmeyer, CVPR 2024 (arXiv 2403.13870), "ExMap", section 3.
Deviations: heat maps are gradient times input, which is layer-wise relevance propagation with the z-rule, where the
    paper has the gamma-rule; they are averaged down to 16 pixels in place of 112 (of 224); heat maps are blind to a cue
    that is everywhere alike.
Needs: labels of the validation set, no attributes.
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from sklearn.neighbors import kneighbors_graph

from robustbench_spur import Stage, Task, View, parameter
from robustbench_spur.methods.dfr import DFR, DFRHyperparameters
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


class ExMapHyperparameters(DFRHyperparameters):
    """Settings of ExMap, those of DFR among them."""

    map_size: int = parameter(16, "width of the maps that are clustered, in pixels", at_least=2)
    most_clusters: int = parameter(10, "largest number of clusters", at_least=2)
    per_class: bool = parameter(True, "whether every class is clustered by itself (the paper's local variant)")


class ExMap(DFR):
    """DFR on clusters of heat maps."""

    name = "exmap"
    version = 1
    summary = "clusters heat maps into groups and balances them in the last layer"
    source = "Chakraborty et al. 2024, ExMap, section 3"
    needs = ()
    every_group_in = ()
    presets: ClassVar = {"quick": {"draws": 3, "tuning_draws": 1, "strengths": (1.0, 0.1)}}
    Hyperparameters = ExMapHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; cluster the maps of validation; fit the last layer on its features."""
        model = task.train(ERM())
        maps = task.attributions(model, "validation")
        features = task.outputs(model, "validation", features=True)
        return task.replace_head(model, task.compute(self.from_maps, maps, features, on="validation"))

    def from_maps(self, view: View, maps: Arrays, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer."""
        groups = self.pseudo_groups(view, maps["maps"])
        arrays, notes = self.balanced(view, groups, outputs)
        return arrays, {**notes, "pseudo_group_sizes": np.bincount(groups).tolist()}

    def pseudo_groups(self, view: View, maps: NDArray[np.float16]) -> NDArray[np.int64]:
        """Codes from 0 of (class, cluster), shape (n,)."""
        small = shrink(maps, self.hyper.map_size).reshape(len(maps), -1)
        small = small / np.abs(small).max(axis=1, keepdims=True).clip(min=1e-12)
        parts = (
            [view.labels == label for label in np.unique(view.labels)] if self.hyper.per_class else [view.labels >= 0]
        )
        clusters = np.zeros(len(maps), np.int64)
        for part in parts:
            clusters[part] = spectral(small[part], self.hyper.most_clusters, view.generator())
        codes = view.labels * (clusters.max() + 1) + clusters
        return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def shrink(maps: NDArray[np.float16], size: int) -> Floats:
    """Means over blocks, shape (n, size, size) or as small as the maps are."""
    height, width = maps.shape[1:]
    size = min(size, height, width)
    rows, columns = np.arange(size) * height // size, np.arange(size) * width // size
    total = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), rows, axis=1), columns, axis=2)
    area = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))
    return np.asarray(total / area, np.float64)


def spectral(points: Floats, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cluster of each point by the first eigenvectors of the graph of its floor(ln n) nearest neighbours.

    Args:
        points: shape (n, features).
        most: largest number of clusters.
        rng: for the initial centres.

    Returns:
        Codes, shape (n,); all 0 where there are too few points for two clusters.
    """
    count = len(points)
    if count < 2 * most:
        return np.zeros(count, np.int64)
    graph = kneighbors_graph(points, max(1, math.floor(math.log(count))), include_self=True)
    graph = 0.5 * (graph + graph.T)
    scale = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    # the largest eigenvalues of the normalised adjacency are the smallest of the Laplacian
    values, vectors = eigsh(scale @ graph @ scale, k=most + 1, which="LA", v0=np.full(count, 1.0))
    values, vectors = values[::-1], vectors[:, ::-1]
    clusters = int(np.argmax(values[1:-1] - values[2:])) + 2
    rows = vectors[:, :clusters] / np.linalg.norm(vectors[:, :clusters], axis=1, keepdims=True).clip(min=1e-12)
    means = KMeans(clusters, n_init=4, random_state=int(rng.integers(2**31)))
    return np.asarray(means.fit_predict(rows), np.int64)
