"""DPE: an ensemble of distance classifiers, each fitted on another class-balanced subset and kept apart from those before.

On ERM's features f of the validation set, member m has a prototype p_my for every class and a scale s_m. It minimises,
on a fresh class-balanced subset, -log softmax_y(-T |s_m| ||f/|f| - p_my/|p_my|| ||) plus ``diversity`` times the mean
squared correlation of its prototypes with those of the members before. The model is the mean of the members'
probabilities.

Source: To et al., ICML 2025 (arXiv 2505.23027), "Diverse prototypical ensembles improve robustness to subpopulation
    shift", algorithm 1.
Deviations: full-batch Adam, from near the class means, without weight decay; members are kept apart by squared
    correlations, where the released code has the size of covariances with a weight of 1e5 for 2,048 features; subsets are
    balanced by class, not by group, so that no attribute is needed.
Needs: labels of the training and the validation set, no attributes.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays
from robustbench_spur.methods.dfr import balanced_subset
from robustbench_spur.methods.erm import ERM


class DPEHyperparameters(Hyperparameters):
    """Settings of DPE."""

    members: int = parameter(16, "number of distance classifiers", at_least=1, search=Uniform(4, 16))
    steps: int = parameter(100, "steps of each", at_least=1)
    rate: float = parameter(0.01, "step size of Adam", above=0, search=LogUniform(1e-3, 1e-1))
    temperature: float = parameter(20.0, "T: factor of the distances", above=0, search=LogUniform(5.0, 50.0))
    diversity: float = parameter(
        10.0, "weight of the correlation with earlier members", at_least=0, search=LogUniform(0.1, 1e3)
    )


class DPE(ERM):
    """An ensemble of prototypes."""

    name = "dpe"
    version = 1
    summary = "an ensemble of distance classifiers on ERM's features, kept apart"
    source = "To et al. 2025, Diverse prototypical ensembles, algorithm 1"
    needs = ()
    presets: ClassVar = {"quick": {"members": 3, "steps": 30}}
    Hyperparameters = DPEHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; fit the prototypes on validation."""
        model = task.train(ERM())
        outputs = task.outputs(model, "validation", features=True)
        return task.replace_head(model, task.compute(self.prototypes, outputs, on="validation"))

    def prototypes(self, view: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Prototypes of length 1 and temperatures of all members."""
        rng = view.generator()
        unit = normalize(torch.from_numpy(outputs["features"].astype(np.float64)), dim=1)
        labels = torch.from_numpy(view.labels)
        found: list[torch.Tensor] = []
        temperatures = []
        for _ in range(self.hyper.members):
            rows = torch.from_numpy(balanced_subset(view.labels, rng))
            begin = torch.from_numpy(rng.normal(size=(view.classes, unit.shape[1])))
            prototypes, scale = self.member(unit[rows], labels[rows], begin, found)
            found.append(prototypes)
            temperatures.append(self.hyper.temperature * scale)
        return {"prototypes": torch.stack(found).numpy(), "temperature": np.array(temperatures)}, {}

    def member(
        self, unit: torch.Tensor, labels: torch.Tensor, begin: torch.Tensor, before: list[torch.Tensor]
    ) -> tuple[torch.Tensor, float]:
        """One member: its prototypes, shape (classes, width), and the size of its scale."""
        # from the class means, a little aside
        centres = torch.stack(
            [unit[labels == k].mean(0) if (labels == k).any() else unit.mean(0) for k in range(len(begin))]
        )
        raw = (normalize(centres, dim=1) + 0.1 * normalize(begin, dim=1)).requires_grad_(True)
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([raw, scale], self.hyper.rate)
        for _ in range(self.hyper.steps):
            prototypes = normalize(raw, dim=1)
            distances = (2 - 2 * unit @ prototypes.T).clamp(min=1e-8).sqrt()
            loss = cross_entropy(-self.hyper.temperature * scale.abs() * distances, labels)
            if before:
                loss = loss + self.hyper.diversity * correlation(prototypes, torch.stack(before))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        return normalize(raw, dim=1).detach(), float(scale.detach().abs())


def correlation(prototypes: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Mean squared correlation over features between each class's prototype and the earlier members' of the class.

    Args:
        prototypes: shape (classes, width).
        before: shape (members, classes, width).
    """
    own, other = (normalize(x - x.mean(-1, keepdim=True), dim=-1) for x in (prototypes, before))
    return (other * own).sum(-1).square().mean()
