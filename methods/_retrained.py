"""Classifier re-training: the features of ERM are kept, and a new last layer is trained on the training set in batches."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Scale, batches, descend, zeros
from robustbench_spur.methods.erm import ERM


class RetrainedHyperparameters(Hyperparameters):
    """Settings of the second training."""

    passes: int = parameter(10, "passes over the training set's features", at_least=1, search=Uniform(3, 30))
    rate: float = parameter(0.01, "step size of Adam, on standardised features", above=0, search=LogUniform(1e-3, 1e-1))
    batch: int = parameter(128, "examples per step", at_least=2)


class Retrained(ERM):
    """A new last layer; the subclass says how examples are drawn and weighed."""

    def fit(self, task: Task) -> Stage:
        """Train by ERM; train another last layer on its features."""
        model = task.train(ERM())
        features = task.outputs(model, "train", features=True)
        return task.replace_head(model, task.compute(self.last_layer, features, on="train"))

    def draws(self, train: View) -> Floats | None:
        """Probabilities of the examples, in proportion; None for passes over all of them."""
        return None

    def weights(self, train: View) -> Floats:
        """Weights of the examples' losses."""
        return np.ones(len(train))

    def last_layer(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer."""
        scale, size = Scale(outputs["features"]), len(train)
        batch = min(self.hyper.batch, size)
        steps = self.hyper.passes * max(1, size // batch)
        order = batches(size, steps, batch, train.generator(), self.draws(train))
        weights = torch.from_numpy(self.weights(train))

        def weighted(losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return (weights[rows] * losses).mean()

        features = scale.to(outputs["features"])
        start = zeros(train.classes, features.shape[1])
        head = descend(features, train.labels, start, steps=steps, rate=self.hyper.rate, loss=weighted, order=order)
        return scale.back(head), {}


def inverse_sizes(groups: NDArray[np.int64]) -> Floats:
    """One over the size of each example's group, scaled to a mean of 1."""
    raw = 1.0 / np.bincount(groups)[groups]
    return np.asarray(raw / raw.mean(), np.float64)
