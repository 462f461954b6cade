"""DISPEL: DFR on features of a balanced set that are mixed with those of the large unbalanced one.

The last layer is fitted on group-balanced subsets of ``adapt`` as in DFR, but a share ``alpha`` of the rows is replaced
by s x + (1 - s) x', where x' are the features of a random training example of the same class. s and the penalty's
strength are chosen by the worst group on the other half of the ``adapt`` patients.

Source: Yang et al., the library SpuCo (arXiv 2306.11957), method DISPEL, as its documentation describes it.
Deviations: x' is drawn within the class; the grids are shorter; standardisation and halves are those of DFR here.
Needs: labels and group labels of the ``adapt`` partition, labels of the training set; examples in every group of
    ``adapt``.
"""

from typing import Any

import numpy as np

from robustbench_spur import Hyperparameters, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, Scale, held_out
from robustbench_spur.methods.dfr import balanced_subset, fit_logistic
from robustbench_spur.methods.erm import ERM


class DISPELHyperparameters(Hyperparameters):
    """Settings of DISPEL."""

    shares: tuple[float, ...] = parameter((1.0, 0.9, 0.8, 0.7), "shares s of the balanced features that are tried")
    alpha: float = parameter(1.0, "share of the rows that is mixed", at_least=0, at_most=1, search=Uniform(0.3, 1.0))
    strengths: tuple[float, ...] = parameter((1.0, 0.1, 0.01), "inverse strengths c of the L1 penalty that are tried")
    draws: int = parameter(10, "balanced subsets whose coefficients are averaged", at_least=1)


class DISPEL(ERM):
    """DFR on mixed features."""

    name = "dispel"
    version = 1
    summary = "fits the last layer on balanced features mixed with unbalanced ones"
    source = "Yang et al. 2023, SpuCo (arXiv 2306.11957), method DISPEL"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = DISPELHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; take its features on both sets; fit the last layer on mixtures."""
        model = task.train(ERM())
        large = task.compute(self.by_class, task.outputs(model, "train", features=True), on="train")
        features = task.outputs(model, "adapt", features=True)
        return task.replace_head(model, task.compute(self.last_layer, features, large, on="adapt"))

    def by_class(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The training set's features with their labels."""
        return {"features": outputs["features"], "labels": train.labels}, {}

    def last_layer(self, adapt: View, outputs: Arrays, large: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer."""
        scale, rng = Scale(outputs["features"]), adapt.generator()
        features, other = scale.to(outputs["features"]), scale.to(large["features"])
        second = held_out(adapt, 0.5, rng)
        first, held = np.flatnonzero(~second), adapt.groups[second]
        found: dict[tuple[float, float], float] = {}
        for share in self.hyper.shares:
            rows = first[balanced_subset(adapt.groups[first], rng)]
            mixed = self.mix(features[rows], adapt.labels[rows], other, large["labels"], share, rng)
            for strength in self.hyper.strengths:
                weight, bias = fit_logistic(mixed, adapt.labels[rows], strength)
                right = (features[second] @ weight.T + bias).argmax(axis=1) == adapt.labels[second]
                found[share, strength] = min(float(right[held == group].mean()) for group in np.unique(held))
        share, strength = max(found, key=lambda pair: found[pair])
        fits = []
        for _ in range(self.hyper.draws):
            rows = balanced_subset(adapt.groups, rng)
            mixed = self.mix(features[rows], adapt.labels[rows], other, large["labels"], share, rng)
            fits.append(fit_logistic(mixed, adapt.labels[rows], strength))
        weights, biases = zip(*fits, strict=True)
        head = {"weight": np.mean(weights, axis=0), "bias": np.mean(biases, axis=0)}
        return scale.back(head), {"share": share, "strength": strength}

    def mix(
        self, features: Floats, labels: Ints, other: Floats, other_labels: Ints, share: float, rng: np.random.Generator
    ) -> Floats:
        """A share ``alpha`` of the rows mixed with others of their class; a class that the others lack stays as it is."""
        mixed = features.copy()
        for label in np.unique(labels):
            pool = np.flatnonzero(other_labels == label)
            rows = np.flatnonzero((labels == label) & (rng.random(len(labels)) < self.hyper.alpha))
            if len(pool) and len(rows):
                mixed[rows] = share * features[rows] + (1 - share) * other[rng.choice(pool, len(rows))]
        return mixed
