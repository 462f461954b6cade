"""Field-strength augmentation: half of the training images are made to look as if the other scanner had taken them.

Which field an image has is not looked at. Of the images that are changed, half lose signal-to-noise ratio, as from 3 T
to 1.5 T: Rician noise is added until the noise of the image is ``ratio`` times what it was, and the image is slightly
blurred. The other half gain it, as from 1.5 T to 3 T: the image is smoothed, its contrast grows by up to ``contrast``,
and a smooth field shades it by up to ``shading``, since the transmit field becomes uneven as the wave gets shorter.

Source: Soher, Dale and Merkle, Magn. Reson. Imaging Clin. 2007, "A review of MR physics: 3T versus 1.5T"
    (signal-to-noise ratio about proportional to the field; unevenness of the transmit field); the noise of an image
    after Immerkaer 1996, "Fast noise variance estimation".
Deviations: a construction of the project's own from these effects, in the spirit of the augmentations that fight shifts
    between scanners; T1, water-fat shift and susceptibility are not simulated.
Needs: labels only; but to know that field strength is the shortcut.
"""

import torch

from robustbench_spur import Hyperparameters, Uniform, parameter
from robustbench_spur.methods._mri import Varied, between, contrast, noise_level, rician, shading, smooth


class FieldAugmentationHyperparameters(Hyperparameters):
    """Settings of the augmentation."""

    share: float = parameter(
        0.5, "share of the images that are changed", at_least=0, at_most=1, search=Uniform(0.3, 0.9)
    )
    ratio: float = parameter(
        2.0, "largest factor by which the noise grows: the ratio of the fields", at_least=1, search=Uniform(1.5, 4.0)
    )
    blur: float = parameter(0.7, "largest width of the smoothing, in pixels", at_least=0, search=Uniform(0.0, 1.5))
    contrast: float = parameter(0.15, "largest logarithm of the exponent", at_least=0, search=Uniform(0.0, 0.4))
    shading: float = parameter(0.2, "largest logarithm of the smooth factor", at_least=0, search=Uniform(0.0, 0.5))


class FieldAugmentation(Varied):
    """Images as the other field strength would give them."""

    name = "field_augmentation"
    version = 1
    summary = "makes half of the training images look like the other field strength"
    source = "Soher et al. 2007, A review of MR physics: 3T versus 1.5T"
    needs = ("shortcut",)
    Hyperparameters = FieldAugmentationHyperparameters

    def vary(self, images: torch.Tensor) -> torch.Tensor:
        """Some images weaker, some stronger, the others as they are."""
        chance = torch.rand(len(images), 1, 1, 1, device=images.device) / max(self.hyper.share, 1e-6)
        changed = torch.where(chance < 0.5, self.weaker(images), self.stronger(images))
        return torch.where(chance < 1, changed, images)

    def weaker(self, images: torch.Tensor) -> torch.Tensor:
        """From the stronger field to the weaker one: more noise, and a little less sharp."""
        ratio = between(1, self.hyper.ratio, images)
        blurred = smooth(images, between(0, self.hyper.blur / 2, images))
        # variances add up: what is missing to the larger noise is added
        return rician(blurred, noise_level(images) * (ratio**2 - 1).clamp(min=0).sqrt())

    def stronger(self, images: torch.Tensor) -> torch.Tensor:
        """From the weaker field to the stronger one: less noise, more contrast, uneven."""
        smoothed = smooth(images, between(0, self.hyper.blur, images))
        deeper = contrast(smoothed, torch.exp(between(0, self.hyper.contrast, images)))
        return shading(deeper, between(0, self.hyper.shading, images))
