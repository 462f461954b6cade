"""George: cluster each class's features into subclasses, then GroupDRO on the clusters.

1. A model is trained by ERM.
2. In every class its features are standardised, reduced to ``dimensions`` and clustered by k-means, with the number of
   clusters from 2 to ``most_clusters`` whose mean silhouette is largest.
3. Every cluster is split into ``factor`` sub-clusters. One of them becomes a cluster of its own if the split raises its mean
   silhouette, to above 0; if its mean loss is at least the cluster's; and if it has enough examples.
4. A new model is trained by GroupDRO on the clusters.

Source: Sohoni, Dunnmon, Angus, Gu and Re, NeurIPS 2020 (arXiv 2011.12945), "No subclass left behind", section 4,
    algorithm 1; step 3 as in the authors' released code, its sizes included.
Deviations: principal components in place of UMAP, which is another dependency; k-means in place of a mixture of Gaussians;
    the largest mean silhouette is the one over examples, in the released code over clusters; silhouettes of larger classes
    are worked out on a random part; sub-clusters need examples in training alone, not on validation too.
Needs: labels only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from robustbench_spur import Stage, Task, View, parameter
from robustbench_spur.methods._clusters import best_clusters, overclustered
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, InferredHyperparameters, class_parts
from robustbench_spur.methods.erm import ERM


class GeorgeHyperparameters(InferredHyperparameters):
    """Settings of George."""

    dimensions: int = parameter(2, "principal components that are clustered", at_least=1)
    most_clusters: int = parameter(9, "largest number of clusters of a class, before any is split", at_least=2)
    factor: int = parameter(5, "sub-clusters that a cluster is split into; 1 for no splitting", at_least=1)
    smallest: int = parameter(25, "examples of a sub-cluster, and at least 0.5 % of its class", at_least=1)


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
        logs = log_softmax(outputs["logits"].astype(np.float64), axis=1)
        losses = -logs[np.arange(len(train)), train.labels]
        rng, scores = train.generator(), {}
        clusters = np.zeros(len(train), np.int64)
        for label in np.unique(train.labels):
            rows = train.labels == label
            points = reduced(outputs["features"][rows], self.hyper.dimensions)
            found, score = best_clusters(points, range(2, self.hyper.most_clusters + 1), rng)
            smallest = max(self.hyper.smallest, round(0.005 * len(points)))
            clusters[rows] = overclustered(
                points, found, losses[rows], factor=self.hyper.factor, smallest=smallest, rng=rng
            )
            scores[f"class {label}"] = score
        groups, notes = class_parts(train.labels, clusters)
        return {"groups": groups}, {**notes, "silhouettes": scores}


def reduced(features: NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    """Principal components of standardised features, shape (n, dimensions), or narrower where the features are."""
    own = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    scale = own.std(axis=0)
    own /= np.where(scale > 0, scale, 1.0)
    _, directions = np.linalg.eigh(own.T @ own)
    return np.asarray(own @ directions[:, ::-1][:, :dimensions], np.float64)
