"""DISPEL: the last layer is fitted on training features that are mixed with those of a small group-balanced set.

From the features of the training set and of ``adapt`` together, as many of every class are drawn. With probability
``alpha`` the features x' of a row become s x + (1 - s) x', where x are the features of a random example of the same
class from a group-balanced subset of ``adapt``. On these, logistic regression with an L1 penalty is fitted. s and the
inverse strength of the penalty are chosen by the worst group on the other half of the ``adapt`` patients; then the
coefficients of ``draws`` fits on all of ``adapt`` are averaged. With s = 1 and alpha = 1 this is close to DFR.

Source: Xue, Payani, Yang and Mirzasoleiman 2023 (arXiv 2305.14521, version 1), "Eliminating spurious correlations from
    pre-trained models via data mixing"; draws, grids and averaging as in the library SpuCo.
Deviations: at most ``size`` rows, and fewer strengths are tried, both for speed; alpha is not tuned; the halves hold
    different patients; more than two classes are fitted by one softmax.
Needs: labels and group labels of the ``adapt`` partition, labels of the training set; examples in every group of
    ``adapt``.
"""

from typing import Any, ClassVar

import numpy as np

from robustbench_spur import Hyperparameters, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, Scale, held_out
from robustbench_spur.methods.dfr import balanced_subset, fit_logistic
from robustbench_spur.methods.erm import ERM

Examples = tuple[Floats, Ints]
"""Features, shape (n, width), and labels, shape (n,)."""


class DISPELHyperparameters(Hyperparameters):
    """Settings of DISPEL."""

    shares: tuple[float, ...] = parameter((1.0, 0.9, 0.8, 0.7), "shares s of the balanced features that are tried")
    alpha: float = parameter(1.0, "share of the rows that is mixed", at_least=0, at_most=1, search=Uniform(0.3, 1.0))
    strengths: tuple[float, ...] = parameter((1.0, 0.1, 0.01), "inverse strengths c of the L1 penalty that are tried")
    size: int = parameter(1000, "largest number of rows that are fitted on", at_least=2)
    draws: int = parameter(20, "fits whose coefficients are averaged", at_least=1)


class DISPEL(ERM):
    """A last layer fitted on mixed features."""

    name = "dispel"
    version = 1
    summary = "fits the last layer on unbalanced features mixed with balanced ones"
    source = "Xue et al. 2023, Eliminating spurious correlations via data mixing"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    presets: ClassVar = {"quick": {"shares": (1.0, 0.8), "strengths": (1.0, 0.1), "size": 60, "draws": 3}}
    Hyperparameters = DISPELHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; take its features on both sets; fit the last layer on mixtures."""
        model = task.train(ERM())
        large = task.compute(self.with_labels, task.outputs(model, "train", features=True), on="train")
        features = task.outputs(model, "adapt", features=True)
        return task.replace_head(model, task.compute(self.last_layer, features, large, on="adapt"))

    def with_labels(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The training set's features with their labels."""
        return {"features": outputs["features"], "labels": train.labels}, {}

    def last_layer(self, adapt: View, outputs: Arrays, large: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer."""
        scale, rng = Scale(outputs["features"]), adapt.generator()
        features = scale.to(outputs["features"])
        train = scale.to(large["features"]), large["labels"]
        second = held_out(adapt, 0.5, rng)
        first, held = np.flatnonzero(~second), adapt.groups[second]
        found: dict[tuple[float, float], float] = {}
        for share in self.hyper.shares:
            for strength in self.hyper.strengths:
                weight, bias = fit_logistic(*self.mixture(adapt, first, features, train, share, rng), strength)
                right = (features[second] @ weight.T + bias).argmax(axis=1) == adapt.labels[second]
                found[share, strength] = min(float(right[held == group].mean()) for group in np.unique(held))
        share, strength = max(found, key=lambda pair: found[pair])
        every = np.arange(len(adapt))
        mixtures = [self.mixture(adapt, every, features, train, share, rng) for _ in range(self.hyper.draws)]
        weights, biases = zip(*(fit_logistic(*mixture, strength) for mixture in mixtures), strict=True)
        head = {"weight": np.mean(weights, axis=0), "bias": np.mean(biases, axis=0)}
        return scale.back(head), {"share": share, "strength": strength, "worst_group": found[share, strength]}

    def mixture(
        self, adapt: View, rows: Ints, features: Floats, train: Examples, share: float, rng: np.random.Generator
    ) -> Examples:
        """What is fitted on, from some rows of ``adapt`` and the training set."""
        chosen = rows[balanced_subset(adapt.groups[rows], rng)]
        union = np.concatenate([features[rows], train[0]]), np.concatenate([adapt.labels[rows], train[1]])
        return mix((features[chosen], adapt.labels[chosen]), union, share, self.hyper.alpha, self.hyper.size, rng)


def mix(
    balanced: Examples, large: Examples, share: float, alpha: float, size: int, rng: np.random.Generator
) -> Examples:
    """Rows of ``large``, as many of every class, mixed with rows of their class of ``balanced`` with probability ``alpha``.

    Rows of a class that ``balanced`` lacks stay as they are.
    """
    classes, counts = np.unique(large[1], return_counts=True)
    each = max(1, min(int(counts.min()), size // len(classes)))
    parts = []
    for label in classes:
        own = large[0][rng.permutation(np.flatnonzero(large[1] == label))[:each]]
        pool = np.flatnonzero(balanced[1] == label)
        mixed = rng.random(each) < (alpha if len(pool) else 0)
        own[mixed] = share * balanced[0][rng.choice(pool, int(mixed.sum()))] + (1 - share) * own[mixed]
        parts.append(own)
    return np.concatenate(parts), np.repeat(classes, each)
