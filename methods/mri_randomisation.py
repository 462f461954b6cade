"""MRI randomisation: vary in training what differs between scanners, so that none of it can tell the class.

Every image gets its own noise level, contrast and shading, and is flipped along either axis with probability 1/2: x' =
|x^g exp(s f) + n|, with log g uniform in +-``contrast``, f a smooth random field of size s up to ``shading``, and n
complex Gaussian noise of a standard deviation up to ``noise`` (Rician in magnitude).

Source: Billot et al., Medical Image Analysis 2023, "SynthSeg", section 3 (domain randomisation of contrast, bias field,
    noise and orientation), applied to real images; Pérez-García et al. 2021, "TorchIO", for the ranges of bias field
    and contrast.
Deviations: nothing is synthesised from label maps: images are changed; no resampling of the resolution.
Needs: labels only; but to know that such a feature is the shortcut: its changes were chosen for field strength and
    orientation.
"""

import torch

from robustbench_spur import Hyperparameters, Uniform, parameter
from robustbench_spur.methods._mri import Varied, between, contrast, flipped, rician, shading


class MRIRandomisationHyperparameters(Hyperparameters):
    """Settings of the randomisation."""

    noise: float = parameter(
        0.05, "largest standard deviation of the noise, images being in [0, 1]", at_least=0, search=Uniform(0.0, 0.15)
    )
    contrast: float = parameter(
        0.3, "largest absolute logarithm of the exponent of the grey values", at_least=0, search=Uniform(0.0, 0.6)
    )
    shading: float = parameter(
        0.3, "largest absolute logarithm of the smooth factor", at_least=0, search=Uniform(0.0, 0.6)
    )
    flips: bool = parameter(True, "whether images are turned over along either axis")


class MRIRandomisation(Varied):
    """Random noise, contrast, shading and flips in training."""

    name = "mri_randomisation"
    version = 1
    summary = "varies noise, contrast, shading and orientation in training"
    source = "Billot et al. 2023, SynthSeg, section 3, on real images"
    needs = ("shortcut",)
    Hyperparameters = MRIRandomisationHyperparameters

    def vary(self, images: torch.Tensor) -> torch.Tensor:
        """Other contrast, then shading, then noise, as in a scanner; then flips."""
        hyper = self.hyper
        images = contrast(images, torch.exp(between(-hyper.contrast, hyper.contrast, images)))
        images = shading(images, between(0, hyper.shading, images))
        images = rician(images, between(0, hyper.noise, images))
        return flipped(flipped(images, 2), 3) if hyper.flips else images
