"""Cross-entropy with a weight for every group, or for every class: what the reweighting methods share."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, View
from robustbench_spur.methods.erm import ERM


def normalised(weights: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of groups scaled so that their mean over the training examples is 1; 0 for a group without examples.

    Args:
        weights: of the groups, in any scale, shape (groups,).
        counts: examples of each, shape (groups,).

    >>> normalised(np.array([1.0, 1.0, 9.0]), np.array([3, 1, 0])).tolist()
    [1.0, 1.0, 0.0]
    """
    there = np.where(counts > 0, weights, 0.0)
    return np.asarray(there * counts.sum() / (there * counts).sum(), np.float64)


class Weighted(ERM):
    """ERM with a weight for every group."""

    def group_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weights in any scale, for groups that have so many examples, at least one each."""
        raise NotImplementedError

    def start(self, train: View) -> None:
        """Work out the weights: they change the mixture of the groups, not the size of the steps."""
        counts = train.group_counts
        weights = normalised(self.group_weights(np.maximum(counts, 1)), counts)
        self.state["weights"] = torch.from_numpy(weights).float()

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean over the batch of weight times cross-entropy."""
        losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
        return (self.state["weights"][batch.groups] * losses).mean()
