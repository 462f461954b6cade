"""Penalties on the distance between the features of every two environments of one class."""

import torch

from robustbench_spur import Batch, Classifier, Sampling, View
from robustbench_spur.methods._environments import Penalised


class Matched(Penalised):
    """ERM plus the mean distance between the features of every two attribute values, within classes if so set."""

    def sampling(self, train: View) -> Sampling:
        """Every group equally often: between sets of other classes the distance would be that of the classes."""
        return Sampling.balanced(train.groups)

    def distance(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Between two sets of features, each of shape (n, width) with at least two rows."""
        raise NotImplementedError

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Mean over the pairs of environments that have at least two examples each in the batch."""
        values = len(batch.view.universe.values)
        sets = [features[batch.attributes == value] for value in range(values)]
        found = [
            self.distance(sets[one], sets[other])
            for one in range(values)
            for other in range(one)
            if min(len(sets[one]), len(sets[other])) > 1
        ]
        return torch.stack(found).mean() if found else features.new_zeros(())
