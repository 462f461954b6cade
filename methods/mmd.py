"""MMD: features that have one distribution at every value of the attribute, by the maximum mean discrepancy.

Minimises the mean of the environments' cross-entropies plus ``strength`` times the mean over pairs of attribute values
of mean k(a, a') + mean k(b, b') - 2 mean k(a, b), k being a sum of Gaussian kernels exp(-g |x - y|^2).

Source: Li, Pan, Wang and Kot, CVPR 2018, "Domain generalization with adversarial feature learning", equation 4 (without
    its autoencoder), with the kernels of Gulrajani and Lopez-Paz 2021 (g from 0.001 to 1000).
Deviations: squared distances are divided by the number of features; groups are drawn equally often.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: with one class at each
    value the distance that is minimised is that of the classes.
"""

import torch

from robustbench_spur import Hyperparameters, LogUniform, Share, Uniform, parameter
from robustbench_spur.methods._matching import Matched

GAMMAS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


class MMDHyperparameters(Hyperparameters):
    """Settings of MMD."""

    strength: float = parameter(
        1.0, "weight of the penalty after the warm-up", at_least=0, search=LogUniform(1e-1, 1e1)
    )
    warmup_epochs: float = parameter(
        Share(0.0, "epochs"), "epochs in which the weight is 1 at most", at_least=0, search=Uniform(0.0, 6.0)
    )


class MMD(Matched):
    """ERM plus the maximum mean discrepancy between attribute values."""

    name = "mmd"
    version = 1
    summary = "matches the features' distributions at all attribute values, by kernels"
    source = "Li et al. 2018, Domain generalization with adversarial feature learning, equation 4"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = MMDHyperparameters

    def distances(self, features: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
        """Squared maximum mean discrepancies."""
        share = member / member.sum(0).clamp(min=1)
        means = share.T @ kernel(features) @ share
        own = means.diagonal()
        return own[:, None] + own[None] - 2 * means


def kernel(features: torch.Tensor) -> torch.Tensor:
    """Sum of Gaussian kernels of every two of b rows, shape (b, b)."""
    lengths = (features**2).sum(1)
    squares = (lengths[:, None] + lengths[None] - 2 * features @ features.T).clamp(min=0) / features.shape[1]
    return torch.stack([torch.exp(-gamma * squares) for gamma in GAMMAS]).sum(0)
