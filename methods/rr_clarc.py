"""RR-ClArC: train on with a penalty on how much the logits change along the direction of the shortcut.

1. A model is trained by ERM, and the attribute's directions v in its features are found as in P-ClArC.
2. It is trained for ``tuning_epochs`` more on the cross-entropy plus ``strength`` times the mean of (grad_a [sum_k s_k
   z_k] . v)^2, where z are the logits, a the features and s_k random signs, +1 or -1.

Source: Dreyer et al., AAAI 2024 (arXiv 2308.09437), "From hope to safety", section 3.
Deviations: at the input of the last layer, where the gradient is the layer's weight, so that the penalty acts on it
    directly and on the features through it; the directions are taken within classes of ``adapt``, on which nothing is
    trained.
Needs: labels and attributes of the ``adapt`` partition.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Share,
    Stage,
    Task,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.p_clarc import concept_directions

Arrays = dict[str, NDArray[Any]]


class RRClArCHyperparameters(Hyperparameters):
    """Settings of RR-ClArC."""

    strength: float = parameter(10.0, "weight of the penalty", at_least=0, search=LogUniform(1e-1, 1e4))
    tuning_epochs: int = parameter(
        Share(0.4, "epochs"), "epochs of the second training; the paper has 10", at_least=1, search=Uniform(1, 8)
    )


class RRClArC(ERM):
    """ERM, then training on with a penalty along the attribute's direction."""

    name = "rr_clarc"
    version = 1
    summary = "trains on with a penalty on the logits' slope along the attribute's direction"
    source = "Dreyer et al. 2024, From hope to safety, section 3"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = RRClArCHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; find the direction; train on."""
        model = task.train(ERM())
        directions = task.compute(self.directions, task.outputs(model, "adapt", features=True), on="adapt")
        return task.train(self, epochs=self.hyper.tuning_epochs, given=directions, start=model)

    def directions(self, adapt: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The attribute's directions, of length 1, shape (values - 1, features)."""
        found = concept_directions(outputs["features"].astype(np.float64), adapt, "pattern")
        return {"directions": found.astype(np.float32)}, {}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy and penalty."""
        features = model.features(batch.images)
        logits = model.head(features)
        signs = 2.0 * torch.randint(0, 2, logits.shape, device=logits.device) - 1
        (slope,) = torch.autograd.grad((signs * logits).sum(), features, create_graph=True)
        penalty = ((slope @ self.tensors["directions"].T) ** 2).sum(dim=1).mean()
        strength: float = self.hyper.strength
        return cross_entropy(logits, batch.labels) + strength * penalty
