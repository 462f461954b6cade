"""Focal loss: examples that the model gets right with confidence count less.

Minimises the mean of (1 - p_i)^gamma (-log p_i), where p_i is the probability of example i's label.

Source: Lin, Goyal, Girshick, He and Dollar, ICCV 2017 (arXiv 1708.02002), "Focal loss for dense object detection",
    equation 4.
Deviations: without the class weight alpha of its equation 5; default gamma 1, of Yang et al. 2023, in place of 2.
Needs: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, parameter
from robustbench_spur.methods.erm import ERM


class FocalHyperparameters(Hyperparameters):
    """Settings of the focal loss."""

    gamma: float = parameter(1.0, "focusing exponent; 0 is ERM", at_least=0, search=LogUniform(0.5, 5.0))


class Focal(ERM):
    """Cross-entropy with less weight on easy examples."""

    name = "focal"
    version = 1
    summary = "weighs down examples that are right with confidence"
    source = "Lin et al. 2017, Focal loss for dense object detection, equation 4"
    needs = ()
    Hyperparameters = FocalHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean of (1 - p)^gamma times the cross-entropy."""
        losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
        # 1 - p without loss of precision near p = 1, and kept from 0, where a power below 1 has no slope
        missed = (-torch.expm1(-losses)).clamp(min=1e-12)
        return (missed**self.hyper.gamma * losses).mean()
