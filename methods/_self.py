"""SELF: fine-tune the last layer on the held-out points on which two views of the model disagree; what its variants share."""

from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, Scale, descend
from robustbench_spur.methods.erm import ERM


class SelfHyperparameters(Hyperparameters):
    """Settings of SELF."""

    points: int = parameter(100, "number of points, the same of every class", at_least=2, search=Uniform(20, 500))
    steps: int = parameter(250, "steps on all of them", at_least=1)
    rate: float = parameter(0.01, "step size of Adam, on standardised features", above=0, search=LogUniform(1e-3, 1e-1))


class Self(ERM):
    """Fine-tuning on the points of largest disagreement; a subclass says what that is."""

    def disagreement(self, view: View, outputs: Arrays, *others: Arrays) -> Floats:
        """What the points are ranked by, shape (n,); from the outputs of the model, and what :meth:`views` gave."""
        raise NotImplementedError

    def views(self, task: Task, model: Stage) -> list[Stage]:
        """Further stages that the disagreement is worked out from."""
        return []

    def fit(self, task: Task) -> Stage:
        """Train by ERM; find the points of ``validation``; fine-tune on them."""
        model = task.train(ERM())
        outputs, head = task.outputs(model, "validation", features=True), task.head(model)
        new = task.compute(self.last_layer, outputs, head, *self.views(task, model), on="validation")
        return task.replace_head(model, new)

    def last_layer(self, view: View, outputs: Arrays, head: Arrays, *others: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias after the fine-tuning."""
        rows = largest_of_each_class(self.disagreement(view, outputs, *others), view.labels, self.hyper.points)
        scale = Scale(outputs["features"])
        features, labels = scale.to(outputs["features"][rows]), view.labels[rows]
        new = descend(features, labels, scale.into(head), steps=self.hyper.steps, rate=self.hyper.rate)
        wrong = outputs["logits"][rows].argmax(axis=1) != labels
        return scale.back(new), {"points": len(rows), "wrong_points": int(wrong.sum())}


def largest_of_each_class(score: Floats, labels: Ints, points: int) -> Ints:
    """Rows with the largest scores: in every class that occurs as many, at most ``points`` in all, at least one each."""
    present = np.unique(labels)
    each = max(1, min(points // len(present), int(np.bincount(labels)[present].min())))
    members = [np.flatnonzero(labels == label) for label in present]
    return np.concatenate([rows[np.argsort(-score[rows], kind="stable")[:each]] for rows in members])


def divergence(first: Floats, second: Floats) -> Floats:
    """KL(softmax(first) || softmax(second)) of each row, shape (n,)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return np.asarray((softmax(first, axis=1) * (log_softmax(first, axis=1) - log_softmax(second, axis=1))).sum(axis=1))
