"""P-ClArC: project the direction of the shortcut out of the features, without any training.

The direction is a concept activation vector v: the mean over classes of the differences between the mean features of
the two values of the attribute within a class (``pattern``), or the normal of a ridge classifier of the attribute
(``ridge``). Every feature vector then gets the same amount of it, a' = a + (m - v.a) v / (v.v), where m is the mean of
v.a over the set. Before a linear layer that is another linear layer: W' = W (I - v v^T / v.v), b' = b + m W v / (v.v).
With more than two attribute values the differences to the mean of all span the space that is projected out.

Source: Anders et al., Information Fusion 2022 (arXiv 1912.11425), "Finding and removing Clever Hans", section 3.3; the
    pattern CAV: Pahde et al. 2022 (arXiv 2202.03482), "Navigating neural space".
Deviations: at the input of the last layer alone (the paper's layer is chosen); differences are taken within classes, so
    that v is not the direction of the class; m is the mean of both values in place of the clean ones', since here
    neither is clean.
Needs: labels and attributes of the ``adapt`` partition.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from robustbench_spur import Choice, Hyperparameters, SpurbenchError, Stage, Task, View, parameter
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


class PClArCHyperparameters(Hyperparameters):
    """Settings of P-ClArC."""

    direction: Literal["pattern", "ridge"] = parameter(
        "pattern", "how the direction is found", search=Choice(("pattern", "ridge"))
    )


class PClArC(ERM):
    """ERM with the attribute's direction projected out of its features."""

    name = "p_clarc"
    version = 1
    summary = "projects the attribute's direction out of ERM's features"
    source = "Anders et al. 2022, Finding and removing Clever Hans, section 3.3"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = PClArCHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; find the direction on ``adapt``; fold the projection into the last layer."""
        model = task.train(ERM())
        features = task.outputs(model, "adapt", features=True)
        return task.replace_head(model, task.compute(self.projected, features, task.head(model), on="adapt"))

    def projected(self, adapt: View, outputs: Arrays, head: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the last layer behind the projection."""
        features = outputs["features"].astype(np.float64)
        basis = concept_directions(features, adapt, self.hyper.direction)
        weight, bias = head["weight"].astype(np.float64), head["bias"].astype(np.float64)
        removed = weight @ basis.T
        notes = {"removed_share_of_weight": float((removed**2).sum() / (weight**2).sum())}
        return {"weight": weight - removed @ basis, "bias": bias + removed @ (basis @ features.mean(axis=0))}, notes


def concept_directions(features: Floats, view: View, kind: str) -> Floats:
    """Orthonormal directions in which the features tell the attribute, within classes.

    Args:
        features: shape (n, width).
        view: of the same rows, with attributes.
        kind: ``"pattern"`` or ``"ridge"``.

    Returns:
        Shape (values - 1, width): one direction for two attribute values.

    Raises:
        SpurbenchError: no class has two attribute values.
    """
    values = np.unique(view.attributes)
    centred, within = np.zeros_like(features), []
    for label in np.unique(view.labels):
        rows = view.labels == label
        centred[rows] = features[rows] - features[rows].mean(axis=0)
        if len(np.unique(view.attributes[rows])) == len(values):
            means = np.stack([features[rows & (view.attributes == value)].mean(axis=0) for value in values])
            within.append(means - means.mean(axis=0))
    if len(values) < 2 or not within:
        raise SpurbenchError(
            "Expected a class with every attribute value in adapt, found none: its direction cannot be told from the class's."
        )
    if kind == "ridge":
        target = np.eye(len(values))[np.searchsorted(values, view.attributes)]
        for label in np.unique(view.labels):
            target[view.labels == label] -= target[view.labels == label].mean(axis=0)
        vectors = np.atleast_2d(Ridge(alpha=1.0).fit(centred, target).coef_)
    else:
        vectors = np.mean(within, axis=0)
    # the rows sum to zero: there is one direction less than there are values
    _, sizes, directions = np.linalg.svd(vectors, full_matrices=False)
    return np.asarray(directions[: len(values) - 1][sizes[: len(values) - 1] > 1e-10], np.float64)
