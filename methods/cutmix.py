"""CutMix: train on images in which a rectangle is another image's, with labels in the shares of the area.

With a share t drawn from Beta(alpha, alpha) for every image, a rectangle of area 1 - t at a uniform place is replaced
by a random partner's; the labels count in proportion to the area that each really has.

Source: Yun et al., ICCV 2019 (arXiv 1905.04899), "CutMix", equations 1 and 2.
Deviations: shares and rectangles are drawn for every image in place of every batch.
Needs: labels only.
"""

import torch

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Uniform, parameter
from robustbench_spur.methods._mixing import beta_share, mixed_loss, patch
from robustbench_spur.methods.erm import ERM


class CutMixHyperparameters(Hyperparameters):
    """Settings of CutMix."""

    alpha: float = parameter(1.0, "of the Beta distribution of shares", above=0, search=LogUniform(0.1, 10.0))
    probability: float = parameter(
        0.5, "share of the images that are changed", at_least=0, at_most=1, search=Uniform(0.2, 1.0)
    )


class CutMix(ERM):
    """ERM on patched images."""

    name = "cutmix"
    version = 1
    summary = "trains on images with a rectangle of another"
    source = "Yun et al. 2019, CutMix, equations 1 and 2"
    needs = ()
    Hyperparameters = CutMixHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mixed cross-entropy of the patched images."""
        count, device = len(batch.labels), batch.images.device
        partner = torch.randperm(count, device=device)
        share = beta_share(self.hyper.alpha, count, device)
        share = torch.where(torch.rand(count, device=device) < self.hyper.probability, share, 1.0)
        images, left = patch(batch.images, partner, share)
        return mixed_loss(model(images.contiguous(memory_format=torch.channels_last)), batch.labels, partner, left)
