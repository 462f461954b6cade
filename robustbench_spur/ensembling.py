"""Predictions of models that are there already, taken together: the mean of their probabilities, and their disagreement.

Cells that differ in the seed alone are a deep ensemble that costs no training: its members said what they think of the
same examples, and all that is needed is kept.

Source: Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles, NeurIPS 2017, section 2.4 (the mean of the probabilities).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.types import SpurbenchError

Floats = NDArray[np.float64]

SAME = ("ids", "labels", "attributes", "clusters")
"""Columns in which the members must agree."""


def members(predictions: Sequence[Predictions]) -> Floats:
    """Probabilities of each member, shape (members, n, classes), for measures of their disagreement.

    Args:
        predictions: of one partition, one for each member.

    Raises:
        SpurbenchError: no member, or members that are not about the same examples in the same order.
    """
    check_alike(predictions)
    return np.stack([one.probabilities for one in predictions])


def ensemble(predictions: Sequence[Predictions]) -> Predictions:
    """The members as one model: the mean of their probabilities.

    Args:
        predictions: of one partition, one for each member.

    Returns:
        Predictions whose logits are the logs of the mean probabilities, finite however sure the members are. Arrays that
        evaluators collected from single members are left out.

    Raises:
        SpurbenchError: no member, or members that are not about the same examples in the same order.

    >>> from robustbench_spur.types import Groups
    >>> def member(logit):
    ...     logits = np.array([[0.0, logit]], np.float32)
    ...     zero = np.zeros(1, np.int64)
    ...     return Predictions(np.array(["a"]), zero, zero, np.array(["p"]), logits, Groups(("no", "yes"), "site", ("x",)))
    >>> ensemble([member(np.log(3)), member(-np.log(3))]).probabilities.round(6).tolist()
    [[0.5, 0.5]]
    """
    check_alike(predictions)
    first = predictions[0]
    logs = np.stack([_log_probabilities(one.logits) for one in predictions])
    mean = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
    limit = float(np.finfo(np.float32).max)
    logits = np.clip(mean, -limit, limit).astype(np.float32)
    return Predictions(
        first.ids, first.labels, first.attributes, first.clusters, logits, first.groups, conflict=first.conflict
    )


def check_alike(predictions: Sequence[Predictions]) -> None:
    """Check that there are members, all about the same examples.

    Raises:
        SpurbenchError: otherwise.
    """
    if not predictions:
        raise SpurbenchError("Expected the predictions of at least one member, found none.")
    first = predictions[0]
    for number, other in enumerate(predictions[1:], start=2):
        for column in SAME:
            if not np.array_equal(getattr(first, column), getattr(other, column)):
                raise SpurbenchError(
                    f"Expected members about the same examples in the same order, found other {column} in member {number}."
                    " Take cells of one split that differ in the seed alone."
                )
        if (first.groups, first.conflict) != (other.groups, other.conflict):
            raise SpurbenchError(
                f"Expected members on one split, found other groups in member {number}. Take cells of one split."
            )


def _log_probabilities(logits: NDArray[np.float32]) -> Floats:
    """Log softmax in float64, shape (n, classes)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
