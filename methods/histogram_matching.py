"""Histogram matching: before the network, every image is mapped to one standard histogram, in training and in the test.

The grey values p_1 < ... < p_m at the percentiles 1, 10, 20, ..., 90, 99 of an image's foreground (what is above its
mean times ``foreground``) are mapped to standard landmarks s_1 < ... < s_m, which are the mean of those of the training
images once p_1 is moved to 0.1 and p_m to 0.9, and straight lines are drawn between them. Then the image is smoothed by
``smoothing`` pixels, which brings noise levels together as well. The map is part of the model, and attacks go through
it.

Source: Nyul, Udupa and Zhang, IEEE Trans. Med. Imaging 2000, "New variants of a method of MRI scale standardization",
    section II; the smoothing is the project's own.
Deviations: the standard landmarks are learned while training, as a running mean, not before it; no N4 correction of the
    bias field.
Needs: labels only; but to know that the shortcut is in the grey values.
"""

import torch

from robustbench_spur import Classifier, Hyperparameters, Uniform, parameter
from robustbench_spur.methods._mri import smooth
from robustbench_spur.methods.erm import ERM

ENDS = (0.1, 0.9)
"""Where the first and the last landmark go."""
PERCENTILES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


class HistogramMatchingHyperparameters(Hyperparameters):
    """Settings of the harmonisation."""

    foreground: float = parameter(
        0.5, "share of an image's mean above which a pixel counts as foreground", at_least=0, search=Uniform(0.2, 1.0)
    )
    smoothing: float = parameter(
        0.0, "width of the smoothing afterwards, in pixels", at_least=0, search=Uniform(0.0, 1.5)
    )


class Standardise(torch.nn.Module):
    """Images in [0, 1] to images with the standard histogram, channel by channel.

    Args:
        foreground: share of the mean above which a pixel counts.
        smoothing: in pixels.
    """

    standard: torch.Tensor
    seen: torch.Tensor

    def __init__(self, foreground: float, smoothing: float) -> None:
        super().__init__()
        self.foreground, self.smoothing = foreground, smoothing
        self.register_buffer("standard", torch.linspace(0, 1, len(PERCENTILES)))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def learn(self, marks: torch.Tensor) -> None:
        """Take the landmarks of training images into the mean, the first one at 0 and the last one at 1."""
        first, last = marks[..., :1], marks[..., -1:]
        relative = ((marks - first) / (last - first).clamp(min=1e-4)).flatten(0, -2)
        self.seen += len(relative)
        self.standard += (relative.mean(dim=0) - self.standard) * (len(relative) / self.seen)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The mapped images, same shape."""
        # of a channel that is cut off by nothing, every pixel is foreground
        flat = images.flatten(2)
        inside = flat >= self.foreground * flat.mean(dim=2, keepdim=True)
        marks = landmarks(flat, inside)
        if self.training:
            self.learn(marks)
        ends = torch.zeros_like(marks[..., :1]), torch.ones_like(marks[..., :1])
        at = torch.cat([ends[0], marks, ends[1]], dim=-1)
        standard = ENDS[0] + (ENDS[1] - ENDS[0]) * self.standard
        to = torch.cat([standard.new_zeros(1), standard, standard.new_ones(1)])
        piece = (torch.searchsorted(at.detach(), flat.detach().contiguous(), right=True) - 1).clamp(0, len(to) - 2)
        low, high = at.gather(2, piece), at.gather(2, piece + 1)
        share = ((flat - low) / (high - low).clamp(min=1e-4)).clamp(0, 1)
        mapped: torch.Tensor = (to[piece] + share * (to[piece + 1] - to[piece])).reshape(images.shape)
        if not self.smoothing:
            return mapped
        return smooth(mapped, torch.full((len(images),), self.smoothing, device=images.device))


def landmarks(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Grey values at the percentiles of what is inside, between neighbours in rank by straight lines.

    Args:
        values: shape (b, channels, pixels).
        inside: which of them count, the same shape, at least one of each channel.

    Returns:
        Shape (b, channels, percentiles), in ascending order.
    """
    ordered = torch.where(inside, values, torch.inf).sort(dim=2).values
    last = (inside.sum(dim=2, keepdim=True) - 1).to(values.dtype)
    place = torch.tensor(PERCENTILES, device=values.device, dtype=values.dtype) * last
    below, above = place.floor(), place.ceil()
    low, high = ordered.gather(2, below.long()), ordered.gather(2, above.long())
    return low + (place - below) * (high - low)


class HistogramMatching(ERM):
    """ERM behind a standardisation of the grey values."""

    name = "histogram_matching"
    version = 1
    summary = "maps every image to one standard histogram before the network"
    source = "Nyul, Udupa and Zhang 2000, New variants of a method of MRI scale standardization, section II"
    needs = ("shortcut",)
    Hyperparameters = HistogramMatchingHyperparameters

    def prepare(self, model: Classifier) -> None:
        """Put the standardisation before the network."""
        model.front = Standardise(self.hyper.foreground, self.hyper.smoothing)
