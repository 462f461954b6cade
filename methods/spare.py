"""SPARE: cluster what a model says that has hardly begun to learn, and draw small clusters more often.

1. A model is trained by ERM for ``id_epochs``: what it tells apart by then is easy.
2. In every class its probabilities are clustered by k-means, with the number of clusters up to ``most_clusters`` whose mean
   silhouette is largest.
3. A new model is trained by ERM on examples drawn with replacement, with probability in proportion to 1 / n^a, n being the
   size of the example's cluster. The exponent a is 1 in a class whose silhouette is at least ``threshold``, so that its
   clusters are drawn equally often; it is ``power`` in a class whose clusters are less distinct. Classes are drawn equally
   often.

Source: Yang, Gan, Dziugaite and Mirzasoleiman, AISTATS 2024 (arXiv 2305.18761), "Identifying spurious biases early in
    training through the lens of simplicity bias", section 5, algorithm 1; threshold and power: the authors' library SpuCo.
Deviations: ``id_epochs`` defaults to a share of the board's budget; the largest number of clusters is this project's.
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
        2.0, "exponent of the sizes where clusters are not distinct", at_least=0, search=Choice((1.0, 2.0, 3.0))
    )
    threshold: float = parameter(0.9, "silhouette from which clusters are distinct", at_least=-1, at_most=1)
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
        return task.train(self, given=task.compute(self.importance, task.outputs(early, "train"), on="train"))

    def importance(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Probability of each example in a draw from its class, shape (n,)."""
        likely = softmax(outputs["logits"].astype(np.float64), axis=1)
        counts = range(2, self.hyper.most_clusters + 1)
        clusters, scores = within_classes(likely, train.labels, counts, train.generator())
        groups, notes = class_parts(train.labels, clusters)
        exponents = np.full(train.classes, self.hyper.power)
        exponents[[label for label, score in scores.items() if score >= self.hyper.threshold]] = 1.0
        weights = np.bincount(groups)[groups] ** -exponents[train.labels]
        by_class = np.bincount(train.labels, weights=weights, minlength=train.classes)
        silhouettes = {f"class {label}": score for label, score in scores.items()}
        return {"weights": weights / by_class[train.labels]}, {**notes, "silhouettes": silhouettes}

    def sampling(self, train: View) -> Sampling:
        """Small clusters more often."""
        return Sampling(weights=self.given["weights"])
