"""How much of a map's relevance lies where it should: in the lesion, in the body, at the maximum; and what that looks like.

Relevance is the positive part of a map.

Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop, International Journal of Computer Vision 126, 2018,
section 4.1 (pointing game); Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979 (threshold).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

BODY_BLUR = 1.5 / 64
"""Width of the blur before the body is cut out, as a share of the image's side: noise would fray its edge."""
BODY_LEVEL = 0.5
"""Share of Otsu's threshold above which a pixel is body: that threshold divides bright from dark tissue."""


def otsu(levels: NDArray[np.uint8]) -> int:
    """The grey level that divides dark (up to it) from bright with the largest variance between the two; 0 if all are equal.

    >>> otsu(np.array([10, 12, 11, 90, 95], np.uint8))
    12
    """
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above, total = below[-1] - below, sums[-1]
    between = np.zeros(256)
    both = (below > 0) & (above > 0)
    between[both] = (total * below - sums * below[-1])[both] ** 2 / (below * above)[both]
    return int(between.argmax())


def body_mask(image: NDArray[np.uint8]) -> Mask:
    """Where the body is: brighter than half of Otsu's threshold after a blur, holes filled, the largest piece.

    Args:
        image: grey levels, shape (height, width).

    Returns:
        Shape (height, width); nowhere where the image is of one level.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image.astype(np.float64), BODY_BLUR * max(image.shape))
    threshold = otsu(np.round(smooth).astype(np.uint8))
    bright = smooth > BODY_LEVEL * threshold if threshold else np.zeros(image.shape, bool)
    pieces, count = ndimage.label(ndimage.binary_fill_holes(bright))
    return np.asarray(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count else bright)


def relevance_share(maps: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """Share of a map's relevance that lies in a region, shape (b,); NaN where nothing is relevant.

    Args:
        maps: shape (b, height, width); what is negative counts as 0.
        weights: the share of each pixel that belongs to the region, in [0, 1], same shape.

    >>> relevance_share(np.array([[[3.0, 1.0], [-5.0, 0.0]]]), np.array([[[1.0, 0.5], [1.0, 0.0]]])).tolist()
    [0.875]
    """
    relevance = np.maximum(maps.astype(np.float64), 0)
    total = relevance.sum(axis=(1, 2))
    share = np.full(len(maps), np.nan)
    np.divide((relevance * weights).sum(axis=(1, 2)), total, out=share, where=total > 0)
    return share


def near(mask: NDArray[Any], tolerance: float) -> Mask:
    """Pixels within a distance of a lesion: of those that it fills by half, or else of that which it fills most.

    Args:
        mask: share of each pixel that the lesion fills, shape (height, width), with something in it.
        tolerance: in pixels, between their centres.
    """
    from scipy import ndimage

    inside = mask >= min(0.5, mask.max())
    return np.asarray(ndimage.distance_transform_edt(~inside) <= tolerance)


def pointing(maps: NDArray[Any], targets: Mask) -> Floats:
    """Whether each map's maximum lies on its target, shape (b,); of tied maxima their share; NaN where nothing is relevant.

    >>> at = np.array([[[True, False]]])
    >>> [pointing(np.array([[values]]), at).tolist() for values in ([2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [0.0, -1.0])]
    [[1.0], [0.0], [0.5], [nan]]
    """
    highest = maps.max(axis=(1, 2), keepdims=True)
    tied = maps == highest
    hit = (tied & targets).sum(axis=(1, 2)) / tied.sum(axis=(1, 2))
    return np.asarray(np.where(highest[:, 0, 0] > 0, hit, np.nan))


def placed(maps: NDArray[Any], lesions: NDArray[Any], targets: Mask, bodies: Mask) -> Floats:
    """Where the relevance of maps lies: share in the lesion, whether the maximum hits, share outside the body, shape (b, 3).

    Args:
        maps: shape (b, height, width).
        lesions: share of each pixel that the lesion fills, same shape.
        targets: of the pointing game: see :func:`near`, same shape.
        bodies: see :func:`body_mask`, same shape.
    """
    columns = (relevance_share(maps, lesions), pointing(maps, targets), relevance_share(maps, ~bodies))
    return np.stack(columns, axis=1)


def grey_of(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over the channels, shape (b, height, width), of images of shape (b, channels, height, width)."""
    return np.asarray(np.round(np.asarray(images).mean(axis=1)), np.uint8)


def levels_of(one: NDArray[Any]) -> NDArray[np.uint8]:
    """The positive part of a map as grey levels, its largest value 255."""
    positive = np.maximum(one, 0)
    return np.asarray(np.round(255 * positive / (positive.max() or 1)), np.uint8)


def beside(image: NDArray[np.uint8], lesion: NDArray[np.uint8], maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image, then its relevance by each method in red over it, all with the outline of the lesion in green.

    Args:
        image: shape (height, width).
        lesion: share of each pixel that it fills, in 255ths, same shape.
        maps: relevance as grey levels, shape (methods, height, width).

    Returns:
        Shape (height, (1 + methods) * width, 3), enlarged by whole numbers to a height of about 200.
    """
    from scipy import ndimage

    times = max(1, round(200 / len(image)))
    grey, inside, *red = (np.kron(one, np.ones((times, times))) for one in (image, lesion, *maps))
    outline = (inside >= 128) & ~ndimage.binary_erosion(inside >= 128)
    panels = []
    for heat in (np.zeros_like(grey), *red):
        panel = np.stack([np.maximum(grey, heat), *[grey * (1 - heat / 255)] * 2], axis=2)
        panel[outline] = 60, 230, 90
        panels.append(panel)
    return np.asarray(np.round(np.concatenate(panels, axis=1)), np.uint8)
