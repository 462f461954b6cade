"""Mixup: train on blends of two images and of their labels.

With a share t drawn from Beta(alpha, alpha) for every batch, minimises the cross-entropy of t x_i + (1 - t) x_j to the
labels y_i and y_j in the same shares; j is a random permutation of the batch.

Source: Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018 (arXiv 1710.09412), "mixup: beyond empirical risk minimization",
    equation 1 and section 2.
Deviations: none known.
Needs: labels only.
"""

import torch

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, parameter
from robustbench_spur.methods._mixing import beta_share, blend, mixed_loss
from robustbench_spur.methods.erm import ERM


class MixupHyperparameters(Hyperparameters):
    """Settings of mixup."""

    alpha: float = parameter(0.2, "of the Beta distribution of shares", above=0, search=LogUniform(0.1, 10.0))


class Mixup(ERM):
    """ERM on blends of images."""

    name = "mixup"
    version = 1
    summary = "trains on blends of two images and their labels"
    source = "Zhang et al. 2018, mixup, equation 1"
    needs = ()
    Hyperparameters = MixupHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mixed cross-entropy of the blended images."""
        partner = torch.randperm(len(batch.labels), device=batch.labels.device)
        share = beta_share(self.hyper.alpha, 1, batch.images.device).expand(len(partner))
        return mixed_loss(model(blend(batch.images, partner, share)), batch.labels, partner, share)
