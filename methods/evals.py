"""EVaLS: fit the last layer on held-out points of high and of low loss, and choose settings by inferred environments.

1. A model is trained by ERM; the validation patients are cut in two halves.
2. In the first half, of every class the k points of highest loss and the k of lowest loss make a set, on which the last
   layer is fitted by logistic regression with an L1 penalty of inverse strength c.
3. In the second half, environments are inferred: the two parts between which the model's scale is least invariant
   (EIIL). k and c are those with the best accuracy of the worst (class, environment).

Source: Ghaznavi et al. 2024 (arXiv 2410.05345), "Trained models tell us how to make them robust to spurious correlation
    without group annotation".
Deviations: halves hold different patients; the penalty of EIIL is maximised in closed form, see ``eiil.py``.
Needs: labels of the training and the validation set, no attributes.
"""

from typing import Any

import numpy as np
from scipy.special import log_softmax

from robustbench_spur import Hyperparameters, SpurbenchError, Stage, Task, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, Scale, held_out
from robustbench_spur.methods.dfr import fit_logistic
from robustbench_spur.methods.eiil import scale_derivatives
from robustbench_spur.methods.erm import ERM


class EVaLSHyperparameters(Hyperparameters):
    """Settings of EVaLS."""

    counts: tuple[int, ...] = parameter((5, 10, 20, 50), "numbers k of points that are tried")
    strengths: tuple[float, ...] = parameter((1.0, 0.1, 0.01), "inverse strengths c of the penalty that are tried")


class EVaLS(ERM):
    """The last layer, fitted on a set that is balanced by loss."""

    name = "evals"
    version = 1
    summary = "fits the last layer on held-out points of high and of low loss"
    source = "Ghaznavi et al. 2024, Trained models tell us how to make them robust"
    needs = ()
    Hyperparameters = EVaLSHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; fit the last layer on validation."""
        model = task.train(ERM())
        outputs = task.outputs(model, "validation", features=True)
        return task.replace_head(model, task.compute(self.last_layer, outputs, on="validation"))

    def last_layer(self, view: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias of the new last layer.

        Raises:
            SpurbenchError: a half of the validation patients lacks a class.
        """
        scale, second = Scale(outputs["features"]), held_out(view, 0.5, view.generator())
        features = scale.to(outputs["features"])
        for half in (second, ~second):
            if len(np.unique(view.labels[half])) < view.classes:
                raise SpurbenchError(
                    "Expected all classes in each half of the validation patients, found fewer. Use a split with more."
                )
        groups = 2 * view.labels[second] + (scale_derivatives(outputs["logits"][second], view.labels[second]) > 0)
        losses = -log_softmax(outputs["logits"].astype(np.float64), axis=1)[np.arange(len(view)), view.labels]
        first = np.flatnonzero(~second)
        found: dict[tuple[float, int], tuple[int, float, Arrays]] = {}
        for count in self.hyper.counts:
            rows = first[extremes(losses[first], view.labels[first], count)]
            for strength in self.hyper.strengths:
                weight, bias = fit_logistic(features[rows], view.labels[rows], strength)
                right = (features[second] @ weight.T + bias).argmax(axis=1) == view.labels[second]
                worst = min(float(right[groups == group].mean()) for group in np.unique(groups))
                found[worst, -len(found)] = (count, strength, {"weight": weight, "bias": bias})
        best = max(found)
        count, strength, head = found[best]
        return scale.back(head), {"count": count, "strength": strength, "worst_environment": best[0]}


def extremes(losses: Floats, labels: Ints, count: int) -> Ints:
    """Rows of the highest and of the lowest losses of each class: ``count`` each, or half of the class where it is small."""
    rows = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        ordered, each = own[np.argsort(losses[own], kind="stable")], min(count, max(1, len(own) // 2))
        rows += [ordered[:each], ordered[-each:]]
    return np.unique(np.concatenate(rows))
