"""EIIL: split the training set into the two environments between which a model that trained briefly is least invariant.

1. A reference model is trained by ERM for ``id_epochs``.
2. With q_i as the share of example i in environment 1 and 1 - q_i in environment 2, the penalty of invariant risk minimisation,
   the sum over both of (d/ds of (1/n) sum_i q_i CE(s z_i, y_i), at s = 1) squared, is maximised over q, where z_i are the
   reference model's logits.
3. A new model is trained by GroupDRO on the groups (class, environment).

The derivative of one example is g_i = sum_k p_ik z_ik - z_iy. The penalty is convex in the sum of q_i g_i, so its maximum puts
all examples with g_i > 0 into one environment. Of two classes these are the examples that the reference model gets wrong.

Source: Creager, Jacobsen and Zemel, ICML 2021, "Environment inference for invariant learning", section 3, equations 4 and 5;
    GroupDRO on what was inferred: section 4.
Deviations: the maximum is taken directly, where the original climbs to it by Adam from random q; the second training does not
    take C of GroupDRO; ``id_epochs`` defaults to a share of the board's budget.
Needs: labels only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from robustbench_spur import Choice, Share, Stage, Task, View, parameter
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, InferredHyperparameters, class_parts
from robustbench_spur.methods.erm import ERM


class EIILHyperparameters(InferredHyperparameters):
    """Settings of EIIL."""

    id_epochs: int = parameter(
        Share(0.25, "epochs"), "epochs of the reference model", at_least=1, search=Choice((1, 2, 3, 4))
    )


class EIIL(InferredGroupDRO):
    """GroupDRO on environments that a reference model violates."""

    name = "eiil"
    version = 1
    summary = "splits the data where a brief model is least invariant, then GroupDRO"
    source = "Creager et al. 2021, Environment inference for invariant learning, section 3"
    needs = ()
    Hyperparameters = EIILHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train the reference model; infer environments; train by GroupDRO."""
        reference = task.train(ERM(), epochs=self.hyper.id_epochs)
        groups = task.compute(self.infer, task.outputs(reference, "train"), on="train")
        return task.train(self, given=groups)

    def infer(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, environment), codes without gaps, shape (n,)."""
        slopes = scale_derivatives(outputs["logits"], train.labels)
        groups, notes = class_parts(train.labels, (slopes > 0).astype(np.int64))
        penalty = float(slopes.clip(min=0).mean() ** 2 + slopes.clip(max=0).mean() ** 2)
        return {"groups": groups}, {**notes, "penalty": penalty}


def scale_derivatives(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The derivative of each example's cross-entropy by a factor s on its logits, at s = 1.

    Args:
        logits: shape (n, classes).
        labels: class codes, shape (n,).

    >>> scale_derivatives(np.array([[0.0, 0.0], [-1.0, 1.0]]), np.array([0, 0])).round(4).tolist()
    [0.0, 1.7616]
    """
    exact = logits.astype(np.float64)
    expected = (softmax(exact, axis=1) * exact).sum(axis=1)
    return np.asarray(expected - exact[np.arange(len(exact)), labels], np.float64)
