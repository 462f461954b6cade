"""Penalties on the distance between the features of every two values of the attribute: what CORAL and MMD share."""

import torch
from torch.nn.functional import one_hot

from robustbench_spur import Batch, Classifier, Sampling, View
from robustbench_spur.methods._environments import Penalised


class Matched(Penalised):
    """ERM plus the mean distance between the features of every two attribute values."""

    def sampling(self, train: View) -> Sampling:
        """Every group equally often: between sets of other classes the distance would be that of the classes."""
        return Sampling.balanced(train.groups)

    def distances(self, features: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
        """Distances of every two sets of features, shape (values, values).

        Args:
            features: shape (b, width).
            member: 1 where an example is in a set, else 0, shape (b, values); what is said of a set with fewer than two
                examples does not count, but must be finite.
        """
        raise NotImplementedError

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Mean over the pairs of environments that have at least two examples each in the batch."""
        member = one_hot(batch.attributes, len(batch.view.universe.values)).to(features.dtype)
        enough = member.sum(0) > 1
        pairs = (enough[:, None] & enough[None]).triu(1)
        return (self.distances(features, member) * pairs).sum() / pairs.sum().clamp(min=1)
