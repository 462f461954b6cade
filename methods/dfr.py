"""Deep feature reweighting: keep ERM's features, and fit the last layer again on a small set with balanced groups.

The features of ERM on the ``adapt`` partition are standardised. Logistic regression with an L1 penalty of inverse strength c is
fitted on a random subset with equal counts in every group: first on subsets of one half of the patients, to pick the c with the
best worst group on the other half; then, for that c, on ``draws`` subsets of all patients. The coefficients are averaged.

Source: Kirichenko, Izmailov and Wilson, ICLR 2023 (arXiv 2204.02937), "Last layer re-training is sufficient", section 6 and
    appendix B; their DFR-val, with ``adapt`` in the part of the validation set.
Deviations: the halves hold different patients; features are standardised by all of ``adapt`` throughout (the released code
    tunes under another standardisation than it fits with); c is tuned on ``tuning_draws`` subsets, where the released code
    has one; more than two classes are fitted by one softmax (the released code's solver fits each against the rest).
Needs: labels and group labels of the ``adapt`` partition; examples in every group there.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator
from sklearn.linear_model import LogisticRegression

from robustbench_spur import Hyperparameters, SpurbenchError, Stage, Task, View, parameter
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]


class DFRHyperparameters(Hyperparameters):
    """Settings of DFR; defaults are the paper's."""

    draws: int = parameter(20, "balanced subsets whose coefficients are averaged", at_least=1)
    tuning_draws: int = parameter(3, "balanced subsets per strength while tuning", at_least=1)
    strengths: tuple[float, ...] = parameter(
        (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01), "inverse strengths c of the L1 penalty that are tried, each above 0"
    )

    @field_validator("strengths")
    @classmethod
    def _positive(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if not strengths or min(strengths) <= 0:
            raise ValueError("expected at least one strength, each above 0")
        return strengths


class DFR(ERM):
    """Last layer fitted again on group-balanced subsets."""

    name = "dfr"
    version = 1
    summary = "fits ERM's last layer again on a small group-balanced set"
    source = "Kirichenko et al. 2023, Last layer re-training is sufficient, section 6"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    presets: ClassVar = {"quick": {"draws": 3, "tuning_draws": 1, "strengths": (1.0, 0.1)}}
    Hyperparameters = DFRHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; take its features on ``adapt``; fit the last layer on them."""
        model = task.train(ERM())
        features = task.outputs(model, "adapt", features=True)
        head = task.compute(self.last_layer, features, on="adapt")
        return task.replace_head(model, head)

    def last_layer(self, adapt: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer, for features as they are (not standardised).

        Raises:
            SpurbenchError: ``adapt``, or one half of its patients, lacks a class.
        """
        return self.balanced(adapt, adapt.groups, outputs)

    def balanced(self, view: View, groups: NDArray[np.int64], outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The same for any groups, such as inferred ones: shape (n,), codes from 0."""
        raw = outputs["features"].astype(np.float64)
        mean, scale = raw.mean(axis=0), raw.std(axis=0)
        scale[scale == 0] = 1.0
        features = (raw - mean) / scale
        rng = view.generator()
        strength, scores = self._tune(features, view, groups, rng)
        subsets = [balanced_subset(groups, rng) for _ in range(self.hyper.draws)]
        weight, bias = average_fit(features, view.labels, subsets, strength)
        weight = weight / scale
        notes = {"strength": strength, "worst_group_by_strength": scores}
        return {"weight": weight, "bias": bias - weight @ mean}, notes

    def _tune(
        self, features: NDArray[np.float64], view: View, groups: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[float, dict[str, float]]:
        """The strength whose fit on one half of the patients has the best worst group on the other half."""
        patients = rng.permutation(np.unique(view.clusters))
        first = np.isin(view.clusters, patients[: len(patients) // 2])
        for half in (first, ~first):
            found = np.unique(view.labels[half])
            if len(found) < view.classes:
                raise SpurbenchError(
                    f"Expected all {view.classes} classes in each half of the {len(patients)} patients, found"
                    f" classes {found.tolist()} in one. Use a split with more patients."
                )
        # every strength meets the same subsets, so that they differ in nothing else
        subsets = [balanced_subset(groups[first], rng) for _ in range(self.hyper.tuning_draws)]
        scores = {}
        for strength in self.hyper.strengths:
            weight, bias = average_fit(features[first], view.labels[first], subsets, strength)
            right = (features[~first] @ weight.T + bias).argmax(axis=1) == view.labels[~first]
            held = groups[~first]
            scores[str(strength)] = min(float(right[held == g].mean()) for g in np.unique(held))
        return float(max(scores, key=lambda s: scores[s])), scores


def balanced_subset(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a random subset with as many examples of every group that occurs as the smallest has."""
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    smallest = min(map(len, members))
    return np.concatenate([rng.permutation(rows)[:smallest] for rows in members])


def average_fit(
    features: NDArray[np.float64], labels: NDArray[np.int64], subsets: list[NDArray[np.int64]], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean weight and bias of logistic regressions on subsets of rows."""
    fits = [fit_logistic(features[rows], labels[rows], strength) for rows in subsets]
    weights, biases = zip(*fits, strict=True)
    return np.mean(weights, axis=0), np.mean(biases, axis=0)


def fit_logistic(
    features: NDArray[np.float64], labels: NDArray[np.int64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """L1 logistic regression as weight (classes, features) and bias (classes,) of a softmax over the classes."""
    two = len(np.unique(labels)) == 2
    solver = "liblinear" if two else "saga"
    # saga takes up to 2,000 passes where there are fewer examples than features
    model = LogisticRegression(C=strength, l1_ratio=1.0, solver=solver, max_iter=10_000, random_state=0)
    model.fit(features, labels)
    if two:
        # softmax over (-z/2, z/2) is the sigmoid of z
        return np.vstack([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return model.coef_, model.intercept_
