"""CROIS: learn features on one part of the training set without group labels, and the last layer by GroupDRO on the other part.

1. A model is trained by ERM on the share ``share`` of the training patients.
2. On the features of the others, a last layer is trained by GroupDRO: weights of the groups grow with their mean
   losses, q_g <- q_g exp(``eta`` l_g), and the weighted sum of the l_g is minimised.

Source: Nguyen, Zhang and Nguyen 2022 (arXiv 2204.09583), "Improved group robustness via classifier retraining on
    independent splits".
Deviations: the parts hold different patients; full-batch Adam on standardised features; no generalisation adjustment.
Needs: group labels of the training set, in the second stage; examples in every group.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import one_hot

from robustbench_spur import Hyperparameters, LogUniform, Sampling, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Scale, descend, held_out, zeros
from robustbench_spur.methods.erm import ERM


class CROISHyperparameters(Hyperparameters):
    """Settings of CROIS."""

    share: float = parameter(0.7, "share of the patients for the features", above=0, below=1, search=Uniform(0.3, 0.8))
    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    steps: int = parameter(500, "steps on all held-out examples", at_least=1)
    rate: float = parameter(0.01, "step size of Adam, on standardised features", above=0, search=LogUniform(1e-3, 1e-1))


class CROIS(ERM):
    """The last layer by GroupDRO on patients that the features have not seen."""

    name = "crois"
    version = 1
    summary = "learns features on one part of the training set and the last layer by GroupDRO on the other"
    source = "Nguyen et al. 2022, Improved group robustness via classifier retraining on independent splits"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = CROISHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train on one part; fit the last layer on the other."""
        model = task.train(self)
        outputs = task.outputs(model, "train", features=True)
        return task.replace_head(model, task.compute(self.last_layer, outputs, on="train"))

    def sampling(self, train: View) -> Sampling:
        """Only patients that are not held out."""
        return Sampling(repeats=(~self.part(train)).astype(np.int64))

    def part(self, train: View) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The held-out rows, which follow from the seed."""
        return held_out(train, 1 - self.hyper.share, train.generator())

    def last_layer(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias, fitted on the held-out rows."""
        rows = self.part(train)
        features, labels, groups = outputs["features"][rows], train.labels[rows], train.groups[rows]
        member = one_hot(torch.from_numpy(groups), len(train.universe)).double()
        sizes = member.sum(0)
        weights = (sizes > 0).double() / (sizes > 0).sum()

        def worst(losses: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
            nonlocal weights
            means = losses @ member / sizes.clamp(min=1)
            weights = weights * torch.exp(self.hyper.eta * means.detach())
            weights = weights / weights.sum()
            return weights @ means

        scale = Scale(features)
        start = zeros(train.classes, features.shape[1])
        head = descend(scale.to(features), labels, start, steps=self.hyper.steps, rate=self.hyper.rate, loss=worst)
        return scale.back(head), {"group_weights": weights.tolist(), "held_out_group_sizes": sizes.int().tolist()}
