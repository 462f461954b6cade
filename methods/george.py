"""George: cluster each class's features into subclasses, then GroupDRO on the clusters.

1. A model is trained by ERM.
2. In every class its features are standardised, reduced to ``dimensions`` and clustered by k-means, with the number of
   clusters up to ``most_clusters`` whose mean silhouette is largest.
3. A new model is trained by GroupDRO on the clusters.

Source: Sohoni, Dunnmon, Angus, Gu and Re, NeurIPS 2020 (arXiv 2011.12945), "No subclass left behind", section 4,
    algorithm 1.
Deviations: principal components in place of UMAP, which is another dependency; clusters are not split further where
    their own silhouette is high.
Needs: labels only.
"""

from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, View, parameter
from robustbench_spur.methods._clusters import within_classes
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, class_parts
from robustbench_spur.methods.erm import ERM


class GeorgeHyperparameters(Hyperparameters):
    """Settings of George."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    dimensions: int = parameter(2, "principal components that are clustered", at_least=1)
    most_clusters: int = parameter(9, "largest number of clusters of a class", at_least=2)


class George(InferredGroupDRO):
    """GroupDRO on clusters of ERM's features."""

    name = "george"
    version = 1
    summary = "clusters ERM's features within classes, then GroupDRO"
    source = "Sohoni et al. 2020, No subclass left behind, algorithm 1"
    needs = ()
    Hyperparameters = GeorgeHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; cluster; train by GroupDRO."""
        outputs = task.outputs(task.train(ERM()), "train", features=True)
        return task.train(self, given=task.compute(self.subclasses, outputs, on="train"))

    def subclasses(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, cluster), shape (n,)."""
        features, rng = outputs["features"].astype(np.float64), train.generator()
        size = min(self.hyper.dimensions, *features.shape)
        reduced = np.zeros((len(features), size))
        for label in np.unique(train.labels):
            rows = train.labels == label
            own = features[rows] - features[rows].mean(axis=0)
            own /= np.where(own.std(axis=0) > 0, own.std(axis=0), 1.0)
            kept = min(size, *own.shape)
            reduced[rows, :kept] = PCA(kept, svd_solver="full").fit_transform(own)
        clusters, scores = within_classes(reduced, train.labels, range(2, self.hyper.most_clusters + 1), rng)
        groups, notes = class_parts(train.labels, clusters)
        return {"groups": groups}, {**notes, "silhouettes": scores}
