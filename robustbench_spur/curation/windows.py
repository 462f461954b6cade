"""Stored values to 8-bit grey: which become black and white, and the picture that comes of it. Nothing is turned.

Source: the extractor of Duke's owners (mazurowski-lab, MRI-parameter-prediction, data/dbc/png_extractor.py): each slice times
255 over its maximum, cut to whole numbers, inverted for MONOCHROME1. Windows over the volume are this project's.
Deviations: values below 0 are black (there they wrap around), and the rescale of the header is applied. Duke's slices are then
resized; with which filter SpurBreast did that is not published: here it is Pillow's antialiased bilinear one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.dicomfile import read_slice
from robustbench_spur.curation.volumes import Volume

if TYPE_CHECKING:
    from PIL.Image import Image

Window = Literal["slice", "volume", "percentile"]
Values = NDArray[np.float64]
PERCENTILES = (0.5, 99.5)


def scale(values: Values, low: float, high: float) -> NDArray[np.uint8]:
    """Values as 8 bits: ``low`` and less is 0, ``high`` and more is 255, and fractions are cut off.

    Where ``high`` is not above ``low``, all are 0.

    >>> scale(np.array([-1.0, 0.0, 1.0, 2.0, 9.0]), 0, 2).tolist()
    [0, 0, 127, 255, 255]
    """
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    grey = np.clip((values - low) * 255.0 / (high - low), 0, 255).astype(np.uint8)
    grey[values >= high] = 255  # what rounding leaves just below 255 would be cut to 254
    return grey


def percentiles(slices: Iterable[Values], shares: Sequence[float]) -> list[float]:
    """Percentiles of a volume, exact, from one slice at a time.

    The distinct values are kept: of stored whole numbers with one rescale, at most 65,536, however many slices there are.

    Args:
        slices: values, each of any shape.
        shares: in percent, 0 to 100.

    Returns:
        For each, the least value that at least this share of all values does not exceed (numpy's ``inverted_cdf``).

    >>> percentiles([np.arange(50.0), np.arange(50.0, 100.0)], (0.5, 50, 99.5))
    [0.0, 49.0, 99.0]
    """
    known, counts = np.empty(0), np.empty(0, np.int64)
    for values in slices:
        new, times = np.unique(values, return_counts=True)
        known, place = np.unique(np.concatenate([known, new]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times])).astype(np.int64)
    reached = np.cumsum(counts)
    ranks = np.maximum(1, np.ceil(np.round(np.asarray(shares) / 100 * reached[-1], 9)))
    return [float(value) for value in known[np.searchsorted(reached, ranks)]]


def limits(volume: Volume, window: Window) -> tuple[float, float] | None:
    """The values of a volume that become 0 and 255; None where every slice has its own.

    Reads the whole volume, one slice at a time, unless ``window`` is ``"slice"``.

    Args:
        volume: whose slices are read.
        window: ``"slice"``; ``"volume"``, 0 and the maximum; ``"percentile"``, the percentiles :data:`PERCENTILES`.

    Raises:
        SpurbenchError: a slice is damaged.
    """
    if window == "slice":
        return None
    slices = (read_slice(file, volume.shape) for file in volume.files)
    if window == "volume":
        return 0.0, max(float(values.max()) for values in slices)
    low, high = percentiles(slices, PERCENTILES)
    return low, high


def picture(values: Values, window: tuple[float, float] | None, size: int, *, inverted: bool) -> Image:
    """A slice as it is written, a greyscale image of Pillow's; black margins make square what is not.

    Args:
        values: of the slice, shape (rows, columns).
        window: values that become 0 and 255; None for 0 and the slice's maximum.
        size: height and width of the picture in pixels.
        inverted: whether small values are bright (MONOCHROME1).
    """
    from PIL import Image

    low, high = window or (0.0, float(values.max()))
    grey = scale(values, low, high)
    if inverted:
        grey = 255 - grey
    rows, columns = grey.shape
    side = max(rows, columns)
    if rows != columns:
        top, left = (side - rows) // 2, (side - columns) // 2
        grey = np.pad(grey, ((top, side - rows - top), (left, side - columns - left)))
    image = Image.fromarray(grey)
    return image if side == size else image.resize((size, size), Image.Resampling.BILINEAR)
