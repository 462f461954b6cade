"""Environments: the attribute's values as the parts of the training data between which something is to be alike."""

import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Classifier, Sampling, View
from robustbench_spur.methods.erm import ERM


def environment_means(values: torch.Tensor, codes: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the examples of each environment, and how many there are.

    Args:
        values: shape (b,).
        codes: environment of each example, shape (b,).
        count: number of environments.

    Returns:
        Means, 0 where there is no example, and sizes, both of shape (count,).
    """
    member = one_hot(codes, count).to(values.dtype)
    sizes = member.sum(dim=0)
    return (values @ member) / sizes.clamp(min=1), sizes


class Penalised(ERM):
    """ERM plus a penalty on what differs between environments, which are drawn equally often.

    A subclass has the settings ``strength`` and ``warmup_epochs``, the time before which the strength is 1 at most.
    """

    def sampling(self, train: View) -> Sampling:
        """Every environment equally often."""
        return Sampling.balanced(train.attributes)

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """What is to be small."""
        raise NotImplementedError

    def risk(self, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        """The mean over the environments present of their mean cross-entropies."""
        losses = cross_entropy(logits, batch.labels, reduction="none")
        means, sizes = environment_means(losses, batch.attributes, len(batch.view.universe.values))
        return means.sum() / (sizes > 0).sum()

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Risk plus weighted penalty; once the weight is above 1, all is divided by it, so that steps stay of one size."""
        features = model.features(batch.images)
        logits = model.head(features)
        strength = self.hyper.strength if batch.epoch >= self.hyper.warmup_epochs else min(1.0, self.hyper.strength)
        whole = self.risk(batch, logits) + strength * self.penalty(model, batch, features, logits)
        return whole / max(1.0, strength)
