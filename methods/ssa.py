"""SSA: learn the attribute from a small set that has it, label the training set with it, then GroupDRO.

1. A model is trained by ERM; its features are the input of a predictor of the attribute.
2. The predictor is fitted on ``adapt``; then, ``rounds`` times, on ``adapt`` and on those training examples whose
   attribute it predicts with a probability above ``confidence``, of every (class, predicted value) only as many, the
   surest, as the smallest of these groups has.
3. A new model is trained by GroupDRO on the groups (class, predicted value).

Source: Nam, Kim, Lee and Shin, ICLR 2022 (arXiv 2204.02070), "Spread spurious attribute: improving worst-group accuracy
    with spurious attribute estimation", section 3, algorithm 1.
Deviations: the predictor is a linear layer on ERM's features, not a network of its own; thresholds follow from equal
    numbers in place of the paper's search; no cross-fitting, since the predictor's inputs do not depend on a split.
Needs: labels and attributes of the ``adapt`` partition, labels of the training set; examples in every group of
    ``adapt``.
"""

from typing import Any

import numpy as np
from scipy.special import softmax

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, class_parts
from robustbench_spur.methods._lastlayer import Floats, Ints, Scale, descend, scores, zeros
from robustbench_spur.methods.erm import ERM


class SSAHyperparameters(Hyperparameters):
    """Settings of SSA."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    confidence: float = parameter(
        0.95,
        "probability from which a predicted attribute is learned from",
        at_least=0,
        below=1,
        search=Uniform(0.7, 0.99),
    )
    rounds: int = parameter(5, "times that the predictor learns from its own predictions", at_least=0)
    steps: int = parameter(200, "steps of each fit", at_least=1)


class SSA(InferredGroupDRO):
    """GroupDRO on attributes that were learned from a small set."""

    name = "ssa"
    version = 1
    summary = "learns the attribute from a small set, labels the training set with it, then GroupDRO"
    source = "Nam et al. 2022, Spread spurious attribute, algorithm 1"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = SSAHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; predict the attribute; train by GroupDRO."""
        model = task.train(ERM())
        labelled = task.outputs(model, "adapt", features=True)
        large = task.compute(self.with_labels, task.outputs(model, "train", features=True), on="train")
        return task.train(self, given=task.compute(self.groups_of, labelled, large, on="adapt"))

    def with_labels(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The training set's features beside its labels."""
        return {"features": outputs["features"], "labels": train.labels}, {}

    def groups_of(self, adapt: View, labelled: Arrays, large: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, predicted value) of the training set, shape (n,)."""
        scale = Scale(large["features"])
        first, second = scale.to(labelled["features"]), scale.to(large["features"])
        values = len(adapt.universe.values)
        predictor = self._fit(first, adapt.attributes, values)
        for _ in range(self.hyper.rounds):
            likely = softmax(scores(second, predictor), axis=1)
            rows = surest(likely, large["labels"], self.hyper.confidence)
            known = np.concatenate([adapt.attributes, likely[rows].argmax(axis=1)])
            predictor = self._fit(np.concatenate([first, second[rows]]), known, values)
        groups, notes = class_parts(large["labels"], scores(second, predictor).argmax(axis=1))
        return {"groups": groups}, notes

    def _fit(self, features: Floats, attributes: Ints, values: int) -> Arrays:
        start = zeros(values, features.shape[1])
        return descend(features, attributes, start, steps=self.hyper.steps, rate=0.01)


def surest(likely: Floats, labels: Ints, confidence: float) -> Ints:
    """Rows whose attribute is predicted with confidence, the surest of each group, in equal numbers.

    Args:
        likely: probabilities of the attribute's values, shape (n, values).
        labels: class codes, shape (n,).
        confidence: least probability.
    """
    chosen, top = likely.argmax(axis=1), likely.max(axis=1)
    sure = np.flatnonzero(top > confidence)
    groups = labels[sure] * likely.shape[1] + chosen[sure]
    if not len(sure):
        return sure
    members = [sure[groups == group] for group in np.unique(groups)]
    smallest = min(map(len, members))
    return np.concatenate([rows[np.argsort(-top[rows], kind="stable")[:smallest]] for rows in members])
