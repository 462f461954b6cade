"""V-REx: equal risks in every environment, here the attribute's values.

Minimises the mean over environments e of R_e plus ``strength`` times the variance of the R_e, the cross-entropies of
the environments.

Source: Krueger et al., ICML 2021 (arXiv 2003.00688), "Out-of-distribution generalization via risk extrapolation",
    equation 8.
Deviations: environments are the attribute's values, so that the attribute itself meets the penalty where it tells
    equally much at each of them; the sum of the risks is their mean here; over the environments that a batch has.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: with one class at
    each value the risks that are made equal are those of the classes.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Share, Uniform, parameter
from robustbench_spur.methods._environments import Penalised, environment_means


class VRExHyperparameters(Hyperparameters):
    """Settings of V-REx."""

    strength: float = parameter(
        10.0, "weight of the penalty after the warm-up", at_least=0, search=LogUniform(1e-1, 1e5)
    )
    warmup_epochs: float = parameter(
        Share(0.25, "epochs"), "epochs in which the weight is 1 at most", at_least=0, search=Uniform(0.0, 6.0)
    )


class VREx(Penalised):
    """ERM plus the variance of the environments' risks."""

    name = "vrex"
    version = 1
    summary = "asks for equal losses at every attribute value"
    source = "Krueger et al. 2021, Risk extrapolation, equation 8"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = VRExHyperparameters

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Variance over the environments present."""
        losses = cross_entropy(logits, batch.labels, reduction="none")
        means, sizes = environment_means(losses, batch.attributes, len(batch.view.universe.values))
        there = (sizes > 0).to(means.dtype)
        centre = (means * there).sum() / there.sum()
        return (there * (means - centre) ** 2).sum() / there.sum()
