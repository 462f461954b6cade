"""Changes of magnitude images as an MR scanner makes them, drawn per image: for the methods that vary or undo them.

All take and give images in [0, 1] of shape (b, channels, height, width); amounts have shape (b,).
"""

import math

import torch
from torch.nn.functional import conv2d, pad

from robustbench_spur import Batch, Classifier
from robustbench_spur.methods.erm import ERM

WAVES = 2
"""Half waves across the image of the finest part of a receive or transmit field."""


def rician(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Magnitude of a signal with Gaussian noise in its real and imaginary part (Gudbjartsson and Patz 1995, equation 1)."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    real = images + sigma * torch.randn_like(images)
    return torch.hypot(real, sigma * torch.randn_like(images)).clamp(0, 1)


def contrast(images: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Images to a power: another contrast between dark and bright tissue, black and white staying what they are."""
    # the slope of a power below 1 is infinite at 0
    return images.clamp(min=1e-6) ** exponent.reshape(-1, 1, 1, 1)


def shading(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """A smooth multiplicative field: exp of random cosines of up to :data:`WAVES` half waves, ``strength`` its size.

    The brightest point of an image keeps its value, as where slices are scaled to their maximum.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) / height
    columns = torch.arange(width, device=images.device) / width
    waves = torch.arange(WAVES + 1, device=images.device)
    down, across = (torch.cos(math.pi * waves[:, None] * place) for place in (rows, columns))
    weights = torch.randn(len(images), WAVES + 1, WAVES + 1, device=images.device)
    weights[:, 0, 0] = 0  # a constant factor is no shading
    field = torch.einsum("bij,ih,jw->bhw", weights, down, across)
    field = field / field.abs().amax((1, 2), keepdim=True).clamp(min=1e-6)
    shaded = images * torch.exp(strength.reshape(-1, 1, 1) * field)[:, None]
    peak, before = (x.amax((1, 2, 3), keepdim=True) for x in (shaded, images))
    return (shaded * before / peak.clamp(min=1e-6)).clamp(0, 1)


def smooth(images: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with a standard deviation of ``width`` pixels for each image; 0 leaves it as it is."""
    reach = 4
    place = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (place / width.reshape(-1, 1).clamp(min=1e-3)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    batch, channels, height, columns = images.shape
    kernel = kernel.repeat_interleave(channels, dim=0)
    flat = images.reshape(1, batch * channels, height, columns)
    flat = pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = conv2d(flat, kernel[:, None, :, None], groups=batch * channels)
    flat = conv2d(flat, kernel[:, None, None, :], groups=batch * channels)
    return flat.reshape(images.shape)


def noise_level(images: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each image's noise, shape (b,): Immerkaer 1996, "Fast noise variance estimation"."""
    mask = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], device=images.device)
    channels = images.shape[1]
    response = conv2d(images, mask.expand(channels, 1, 3, 3), groups=channels).abs()
    return math.sqrt(math.pi / 2) / 6 * response.mean((1, 2, 3))


def flipped(images: torch.Tensor, dimension: int) -> torch.Tensor:
    """Half of the images, drawn at random, turned over along a dimension."""
    turn = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(turn.reshape(-1, 1, 1, 1), images.flip(dimension), images)


def between(low: float, high: float, images: torch.Tensor) -> torch.Tensor:
    """One number for each image, uniform between two bounds, shape (b,)."""
    return low + (high - low) * torch.rand(len(images), device=images.device)


class Varied(ERM):
    """ERM on images that :meth:`vary` changes at random in training."""

    def vary(self, images: torch.Tensor) -> torch.Tensor:
        """The images of a batch, changed."""
        raise NotImplementedError

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the changed images."""
        with torch.no_grad():
            images = self.vary(batch.images).contiguous(memory_format=torch.channels_last)
        return torch.nn.functional.cross_entropy(model(images), batch.labels)
