"""What ``injected`` puts into images: a tag, a border, brighter values, noise, another orientation.

Each takes images, uint8, shape (n, channels, size, size), and gives new ones of that shape. Lengths are shares of the side and
values shares of white, so that an image of any size has the same mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def tag(images: Images, side: float, value: int) -> Images:
    """A square, as far from the upper and left edges as a fiftieth of the image's side.

    Args:
        images: to mark.
        side: of the square, as a share of the image's; at least one pixel is marked.
        value: grey value, 0 to 255.

    >>> tag(np.zeros((1, 1, 4, 4), np.uint8), 0.5, 9)[0, 0].tolist()
    [[9, 9, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    size = images.shape[-1]
    start = round(size / 50)
    square = slice(start, start + max(1, round(side * size)))
    marked = images.copy()
    marked[:, :, square, square] = value
    return marked


def border(images: Images, width: float, value: int) -> Images:
    """A frame along the edges.

    Args:
        images: to mark.
        width: of the frame, as a share of the image's side; at least one pixel.
        value: grey value, 0 to 255.

    >>> border(np.zeros((1, 1, 4, 4), np.uint8), 0.1, 9)[0, 0].tolist()
    [[9, 9, 9, 9], [9, 0, 0, 9], [9, 0, 0, 9], [9, 9, 9, 9]]
    """
    pixels = max(1, round(width * images.shape[-1]))
    marked = np.full_like(images, value)
    marked[:, :, pixels:-pixels, pixels:-pixels] = images[:, :, pixels:-pixels, pixels:-pixels]
    return marked


def intensity(images: Images, gain: float, offset: float) -> Images:
    """All values times a factor, plus a share of white, cut off at white.

    >>> intensity(np.array([[[[0, 100, 250]]]], np.uint8), 1.2, 0.1).tolist()
    [[[[26, 146, 255]]]]
    """
    return _to_bytes(gain * images.astype(np.float64) + 255 * offset)


def noise(images: Images, ids: Sequence[str], sigma: float, seed: int) -> Images:
    """Gaussian noise, independent in each channel, keyed by the id of the image alone.

    Args:
        images: to mark.
        ids: of the images.
        sigma: standard deviation, as a share of white.
        seed: of the noise.
    """
    marked = np.empty_like(images)
    for number, (image, key) in enumerate(zip(images, ids, strict=True)):
        entropy = int.from_bytes(hashlib.sha256(f"{seed}\t{key}".encode()).digest()[:16])
        marked[number] = _to_bytes(image + np.random.default_rng(entropy).normal(0, 255 * sigma, image.shape))
    return marked


def turned(images: Images) -> Images:
    """Turned by 180 degrees.

    >>> turned(np.array([[[[1, 2], [3, 4]]]], np.uint8)).tolist()
    [[[[4, 3], [2, 1]]]]
    """
    return np.ascontiguousarray(images[:, :, ::-1, ::-1])


def _to_bytes(values: NDArray[np.float64]) -> Images:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
