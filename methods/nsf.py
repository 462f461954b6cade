"""NSF: move the features of each class together, until those on the wrong side come over, and fit the last layer there.

On ERM's features f of the validation set: a point is an outlier if another class's mean is nearer than its own. The
goal c_y of a class is the mean of the means of its inliers and outliers (of the inliers alone if there is at most one
outlier). A change T(f) = b * f + d, feature by feature, minimises the mean of ||T(f) - c_y|| plus ``sparsity`` times
the mean of |b|. Then a new last layer is fitted on T(f) with equal weight on the points that were wrong and come right,
and on those that were right. Both linear maps are one last layer.

Source: Li et al., CVPR 2025 (arXiv 2512.22874), "Let samples speak: mitigating spurious correlation by exploiting the
    clusterness of samples" (neutralizing spurious features), as its released code takes the steps.
Deviations: features are standardised; all points in every step, where the original has numbers of batches set by hand
    for each data set; the last layer begins anew.
Needs: labels of the training and the validation set, no attributes.
"""

from typing import Any, ClassVar

import numpy as np
import torch

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, Scale, descend, zeros
from robustbench_spur.methods.erm import ERM


class NSFHyperparameters(Hyperparameters):
    """Settings of NSF."""

    sparsity: float = parameter(10.0, "weight of the size of the factors", at_least=0, search=LogUniform(0.1, 100.0))
    change_steps: int = parameter(200, "steps of the change", at_least=1)
    change_rate: float = parameter(0.001, "step size of the change", above=0, search=LogUniform(1e-4, 1e-2))
    layer_steps: int = parameter(500, "steps of the last layer", at_least=1)
    rate: float = parameter(0.01, "step size of the last layer", above=0, search=LogUniform(1e-3, 1e-1))


class NSF(ERM):
    """A last layer behind features that were moved together."""

    name = "nsf"
    version = 1
    summary = "moves held-out features of a class together and fits the last layer on what comes right"
    source = "Li et al. 2025, Let samples speak (neutralizing spurious features)"
    needs = ()
    presets: ClassVar = {"quick": {"change_steps": 50, "layer_steps": 100}}
    Hyperparameters = NSFHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; find change and last layer on validation."""
        model = task.train(ERM())
        outputs = task.outputs(model, "validation", features=True)
        return task.replace_head(model, task.compute(self.last_layer, outputs, on="validation"))

    def last_layer(self, view: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of both maps in one."""
        scale, labels = Scale(outputs["features"]), view.labels
        features = scale.to(outputs["features"])
        goals, before = centres(features, labels, view.classes)
        factor, shift = self.change(features, goals[labels])
        moved = features * factor + shift
        after = nearest(moved, goals) != labels
        mended, right = before & ~after, ~before
        parts = [part for part in (mended, right) if part.any()]
        weights = torch.from_numpy(sum(part / part.sum() for part in parts) / len(parts))

        def weighted(losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return weights @ losses

        start = zeros(view.classes, features.shape[1])
        head = descend(moved, labels, start, steps=self.hyper.layer_steps, rate=self.hyper.rate, loss=weighted)
        folded = {"weight": head["weight"] * factor, "bias": head["bias"] + head["weight"] @ shift}
        return scale.back(folded), {"outliers": int(before.sum()), "mended": int(mended.sum())}

    def change(self, features: Floats, goals: Floats) -> tuple[Floats, Floats]:
        """Factor and shift of each feature."""
        x, goal = torch.from_numpy(features), torch.from_numpy(goals)
        factor = torch.ones(x.shape[1], dtype=torch.float64, requires_grad=True)
        shift = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([factor, shift], self.hyper.change_rate)
        for _ in range(self.hyper.change_steps):
            apart = ((x * factor + shift - goal).square().sum(1) + 1e-12).sqrt().mean()
            optimizer.zero_grad()
            torch.autograd.backward(apart + self.hyper.sparsity * factor.abs().mean())
            optimizer.step()
        return factor.detach().numpy(), shift.detach().numpy()


def nearest(features: Floats, means: Floats) -> Ints:
    """The class whose mean is nearest, shape (n,)."""
    return np.asarray((((features[:, None] - means[None]) ** 2).sum(-1)).argmin(axis=1), np.int64)


def centres(features: Floats, labels: Ints, classes: int) -> tuple[Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Goals of the classes, shape (classes, width), and which points are outliers, shape (n,)."""
    overall = features.mean(axis=0)
    means = np.stack([features[labels == k].mean(axis=0) if (labels == k).any() else overall for k in range(classes)])
    outlier = nearest(features, means) != labels
    goals = means.copy()
    for k in range(classes):
        inside, outside = (labels == k) & ~outlier, (labels == k) & outlier
        if inside.any():
            goals[k] = features[inside].mean(axis=0)
            if outside.sum() > 1:
                goals[k] = (goals[k] + features[outside].mean(axis=0)) / 2
    return goals, outlier
