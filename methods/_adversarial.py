"""Adversaries that read the attribute from the features, through a reversed gradient: what DANN and CDANN share."""

import math

import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Classifier, View
from robustbench_spur.methods._environments import Penalised


class _Reversed(torch.autograd.Function):
    """The identity, with minus the gradient."""

    @staticmethod
    def forward(features: torch.Tensor) -> torch.Tensor:
        return features.view_as(features)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        return

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient


def reverse(features: torch.Tensor) -> torch.Tensor:
    """The features, whose gradient changes its sign on the way back (Ganin et al. 2016, equations 17 and 18)."""
    reversed_: torch.Tensor = _Reversed.apply(features)
    return reversed_


class Adversarial(Penalised):
    """ERM against a network that reads the attribute; the subclass says what of.

    The subclass has the settings ``strength``, ``width``, ``discriminator`` and ``ramp_epochs``.
    """

    conditional = False

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The adversary: two hidden layers."""
        inputs = model.width + (train.classes if self.conditional else 0)
        width = self.hyper.width
        layers = (torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU())
        return {"adversary": torch.nn.Sequential(*layers, torch.nn.Linear(width, len(train.universe.values)))}

    def adversary_loss(self, batch: Batch, features: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the attribute, which the adversary minimises."""
        if self.conditional:
            features = torch.cat([features, one_hot(batch.labels, batch.view.classes).float()], dim=1)
        return cross_entropy(self.beside["adversary"](features), batch.attributes)

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Risk, plus the adversary's loss with the features' part of its gradient reversed and scaled."""
        features = model.features(batch.images)
        # from 0 to strength, as in the paper's section 5.2.2
        progress = batch.epoch / max(self.hyper.ramp_epochs, 1e-9)
        weight = self.hyper.strength * (2 / (1 + math.exp(-10 * min(progress, 1.0))) - 1)
        scaled = weight * reverse(features) + (1 - weight) * features.detach()
        return self.risk(batch, model.head(features)) + self.adversary_loss(batch, scaled)
