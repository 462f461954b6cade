"""Groups without attributes: two environments that a reference model's logits on validation fall into.

Of a reference model, the gradient of example i's cross entropy with respect to a factor w on its logits, at w = 1, is
g_i = sum_k p_ik z_ik - z_iy. With soft assignments q in [0, 1] to one environment and 1 - q to the other, the IRMv1 penalties
of both are ((1/n) sum_i q_i g_i)^2 and ((1/n) sum_i (1 - q_i) g_i)^2. The assignment that maximises their mean is wanted.

The sum depends on q through a = sum_i q_i g_i alone, as a^2 + (S - a)^2 with S = sum_i g_i, which is convex in a. So it is
largest where a is largest or smallest: the examples with g > 0 are one environment, the others are the other. That is the exact
maximum, which gradient ascent tends to. Where g_i > 0 the reference model is wrong about example i; with two classes it is
right everywhere else.

Source: Creager, Jacobsen and Zemel, ICML 2021, "Environment inference for invariant learning", and the released
    code (the mean over all examples in both penalties); EVaLS (arXiv 2410.05345) chooses by the worst accuracy over such
    environments.
Deviations: the maximum is computed in closed form in place of thousands of steps from a random start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scale_gradients(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Floats:
    """Gradient of each example's cross entropy with respect to a factor on its logits, at 1.

    Args:
        logits: shape (n, classes).
        labels: class codes, shape (n,).

    Returns:
        Shape (n,), any number.

    >>> scale_gradients(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0, 0])).round(4).tolist()
    [0.0, -0.2384]
    """
    scores = logits.astype(np.float64)
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = (exponent / exponent.sum(axis=1, keepdims=True) * scores).sum(axis=1)
    return np.asarray(expected - scores[np.arange(len(labels)), labels])


def penalty(assignment: Floats, gradients: Floats) -> float:
    """Mean of the IRMv1 penalties of the two environments.

    Args:
        assignment: share of each example in the second environment, in [0, 1], shape (n,).
        gradients: as :func:`scale_gradients` gives them, shape (n,).
    """
    both = np.array([assignment @ gradients, (1 - assignment) @ gradients]) / len(gradients)
    return float(np.mean(both**2))


def infer_environments(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The two environments of the largest penalty, shape (n,): 1 where scaling the logits up makes the loss larger, else 0.

    Args:
        logits: of the reference model, shape (n, classes).
        labels: class codes, shape (n,).

    >>> infer_environments(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1])).tolist()
    [0, 1]
    """
    return (scale_gradients(logits, labels) > 0).astype(np.int64)
