"""SPARE: cluster what a model says that has hardly begun to learn, and draw small clusters more often.

1. A model is trained by ERM for ``id_epochs``: what it tells apart by then is easy.
2. In every class its outputs are clustered by k-means, with the number of clusters up to ``most_clusters`` whose mean
   silhouette is largest.
3. A new model is trained by ERM on examples drawn with replacement, with probability in proportion to 1 / n^``power``,
   n being the size of the example's cluster; every class is drawn equally often.

Source: Yang, Gan, Dziugaite and Mirzasoleiman, AISTATS 2024 (arXiv 2305.18761), "Identifying spurious biases early in
    training through the lens of simplicity bias", section 5, algorithm 1.
Deviations: one power for all classes, where the paper has one for each by its silhouette.
Needs: labels only.
"""

from typing import Any

import numpy as np
from scipy.special import softmax

from robustbench_spur import Choice, Hyperparameters, Sampling, Share, Stage, Task, View, parameter
from robustbench_spur.methods._clusters import within_classes
from robustbench_spur.methods._inferred import Arrays, class_parts
from robustbench_spur.methods.erm import ERM


class SPAREHyperparameters(Hyperparameters):
    """Settings of SPARE."""

    id_epochs: int = parameter(Share(0.1, "epochs"), "epochs of the first model", at_least=1, search=Choice((1, 2)))
    power: float = parameter(
        1.0, "of the clusters' sizes; 1 draws all equally", at_least=0, search=Choice((1.0, 2.0, 3.0))
    )
    most_clusters: int = parameter(5, "largest number of clusters of a class", at_least=2)


class SPARE(ERM):
    """ERM on balanced clusters of early outputs."""

    name = "spare"
    version = 1
    summary = "clusters the outputs of an early model and draws small clusters more often"
    source = "Yang et al. 2024, Identifying spurious biases early in training, algorithm 1"
    needs = ()
    Hyperparameters = SPAREHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train briefly; cluster; train with importance sampling."""
        early = task.train(ERM(), epochs=self.hyper.id_epochs)
        return task.train(self, given=task.compute(self.clusters, task.outputs(early, "train"), on="train"))

    def clusters(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, cluster), shape (n,)."""
        likely = softmax(outputs["logits"].astype(np.float64), axis=1)
        counts = range(2, self.hyper.most_clusters + 1)
        clusters, scores = within_classes(likely, train.labels, counts, train.generator())
        groups, notes = class_parts(train.labels, clusters)
        return {"groups": groups}, {**notes, "silhouettes": scores}

    def sampling(self, train: View) -> Sampling:
        """Probability by cluster, every class as often."""
        groups = self.given["groups"]
        weights = 1.0 / np.bincount(groups)[groups] ** self.hyper.power
        by_class = np.bincount(train.labels, weights=weights, minlength=train.classes)
        return Sampling(weights=weights / by_class[train.labels])
