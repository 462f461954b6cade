"""CORAL: features with one mean and one covariance at every value of the attribute.

Minimises the mean of the environments' cross-entropies plus ``strength`` times the mean over pairs of attribute values
of the mean squared difference of the features' means plus that of their covariances.

Source: Sun and Saenko, ECCV 2016 workshops (arXiv 1607.01719), "Deep CORAL", equations 1 to 3, with the means of
    Gulrajani and Lopez-Paz 2021.
Deviations: mean squares in place of the paper's 1 / (4 d^2) times the squared norm; groups are drawn equally often.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: with one class at each
    value the difference that is minimised is that of the classes.
"""

import torch

from robustbench_spur import Hyperparameters, LogUniform, Share, Uniform, parameter
from robustbench_spur.methods._matching import Matched


class CORALHyperparameters(Hyperparameters):
    """Settings of CORAL."""

    strength: float = parameter(
        1.0, "weight of the penalty after the warm-up", at_least=0, search=LogUniform(1e-1, 1e1)
    )
    warmup_epochs: float = parameter(
        Share(0.0, "epochs"), "epochs in which the weight is 1 at most", at_least=0, search=Uniform(0.0, 6.0)
    )


class CORAL(Matched):
    """ERM plus the differences of means and covariances between attribute values."""

    name = "coral"
    version = 1
    summary = "matches the features' means and covariances at all attribute values"
    source = "Sun and Saenko 2016, Deep CORAL, equations 1 to 3"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = CORALHyperparameters

    def distances(self, features: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
        """Mean squared differences of the means plus those of the covariances."""
        sizes = member.sum(0)
        means = member.T @ features / sizes.clamp(min=1)[:, None]
        centred = [(features - mean) * inside[:, None] for mean, inside in zip(means, member.T, strict=True)]
        covariances = [one.T @ one / (size - 1).clamp(min=1) for one, size in zip(centred, sizes, strict=True)]
        apart = ((means[:, None] - means[None]) ** 2).mean(-1)
        rows = [torch.stack([((one - other) ** 2).mean() for other in covariances]) for one in covariances]
        return apart + torch.stack(rows)
