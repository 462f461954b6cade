"""Proper scores of single examples: log loss and Brier score.

Source: Brier, Monthly Weather Review 78, 1950 (the sum over all classes); Good, Journal of the Royal Statistical Society B 14,
1952 (the logarithm).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats


def log_softmax(logits: NDArray[Any]) -> Floats:
    """Logarithms of the softmax in float64, shape (n, classes), finite however large the logits are."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def negative_log_likelihood(logits: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """Minus the log of the true class's softmax probability, finite however large the logits are.

    Args:
        logits: shape (n, classes), finite.
        labels: shape (n,).

    Returns:
        Shape (n,), 0 or more, in nats.

    >>> negative_log_likelihood(np.array([[0.0, 0.0], [0.0, 1e4]]), np.array([1, 0])).round(3).tolist()
    [0.693, 10000.0]
    """
    # 0 less the logarithm: a certain and right prediction gives 0 and not -0
    return np.asarray(0 - log_softmax(logits)[np.arange(len(labels)), labels])


def brier_scores(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Squared distance between the probabilities and the true class's unit vector, summed over all classes.

    For two classes this is twice the squared error of the positive class.

    Args:
        probabilities: shape (n, classes), rows sum to 1.
        labels: shape (n,).

    Returns:
        Shape (n,), in [0, 2].

    >>> brier_scores(np.array([[0.8, 0.2], [1.0, 0.0]]), np.array([0, 1])).round(3).tolist()
    [0.08, 2.0]
    """
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return np.asarray((errors**2).sum(axis=1))
