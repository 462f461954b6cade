"""Images with a region blanked, or with nothing but it, and the masks that say where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import SpurbenchError

Images = NDArray[np.uint8]
Region = NDArray[np.bool_]

VIEWS = ("without:lesion", "without:body", "with_only:body", "with_only:lesion")
"""The forms of an image that are looked at, in the order of the collected logits."""


def grown(region: Region, reach: int) -> Region:
    """A region and all pixels that lie at most ``reach`` rows and ``reach`` columns from it.

    >>> grown(np.array([[[[True, False, False], [False, False, False]]]]), 1).astype(int).tolist()
    [[[[1, 1, 0], [1, 1, 0]]]]
    """
    for axis in (-2, -1):
        line = np.moveaxis(region, axis, -1)
        wide = line.copy()
        for step in range(1, min(reach, line.shape[-1] - 1) + 1):
            wide[..., step:] |= line[..., :-step]
            wide[..., :-step] |= line[..., step:]
        region = np.moveaxis(wide, -1, axis)
    return region


def mean_grey(images: Images, region: Region) -> Images:
    """Mean of each channel over a region, rounded, 0 where the region is empty, shape (n, channels, 1, 1)."""
    total = (images * region).sum(axis=(2, 3), keepdims=True, dtype=np.float64)
    mean = total / np.maximum(region.sum(axis=(2, 3), keepdims=True), 1)
    return np.asarray(np.round(mean), np.uint8)


def blanked(images: Images, lesion: Region, body: Region, reach: int) -> dict[str, Images]:
    """The images in the four forms of :data:`VIEWS`.

    Args:
        images: shape (n, channels, height, width).
        lesion: where the lesion is, shape (n, 1, height, width).
        body: where the body is, of the same shape.
        reach: width in pixels of the ring whose mean fills the lesion; where the ring holds no body, it is the rest of the
            body, and where there is none, 0.

    >>> row = np.array([[[[1, 10, 30, 8]]]], np.uint8)
    >>> lesion, body = row == 30, row > 5
    >>> {view: form.ravel().tolist() for view, form in blanked(row, lesion, body, 1).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'without:lesion': [1, 10, 9, 8], 'without:body': [1, 0, 0, 0], 'with_only:body': [0, 10, 30, 8],
     'with_only:lesion': [0, 0, 30, 0]}
    """
    rest = body & ~lesion
    ring = rest & grown(lesion, reach)
    ring = np.where(ring.any(axis=(1, 2, 3), keepdims=True), ring, rest)
    nothing = np.uint8(0)
    return {
        "without:lesion": np.where(lesion, mean_grey(images, ring), images),
        "without:body": np.where(body, nothing, images),
        "with_only:body": np.where(body, images, nothing),
        "with_only:lesion": np.where(lesion, images, nothing),
    }


def region_of(mask: NDArray[Any], threshold: float, what: str) -> Region:
    """Where a mask reaches the threshold.

    Args:
        mask: shares, shape (n, 1, height, width).
        threshold: in (0, 1].
        what: for messages.

    Raises:
        SpurbenchError: no shares: another type, NaN, or outside 0 to 1.
    """
    if mask.dtype.kind != "f":
        raise SpurbenchError(f"Expected mask {what!r} as shares of type float32, found {mask.dtype}.")
    inside = (mask >= 0) & (mask <= 1)
    if not inside.all():
        raise SpurbenchError(f"Expected shares from 0 to 1 in mask {what!r}, found {mask[~inside][0]}.")
    return np.asarray(mask >= threshold)


def in_batches(blocks: Iterable[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """The rows of the blocks, cut anew into batches of ``size`` rows; the last may be smaller.

    >>> [batch.tolist() for batch in in_batches([np.array([1, 2, 3]), np.array([4]), np.array([5])], 2)]
    [[1, 2], [3, 4], [5]]
    """
    held: list[NDArray[Any]] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count >= size:
            rows = np.concatenate(held)
            yield rows[:size]
            held, count = [rows[size:]], count - size
    if count:
        yield np.concatenate(held)
