"""Greyscale PNGs of 8 bits and one size, as SpurBreast's are: any other kind is refused, by its header alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.pictures import PNG_START, read_picture
from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

COLOURS = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
"""Colour types of a PNG header (ISO/IEC 15948, table 11.1)."""
HEADER = 26
"""Bytes from the beginning of a PNG to its colour type, inclusive."""


def square_side(path: Path, *, at_least: int) -> int:
    """Side, in pixels, of a square 8-bit greyscale PNG, from its header alone.

    Raises:
        SpurbenchError: the file is unreadable, of another kind, not square, or smaller than ``at_least``.
    """
    width, height = _size(path)
    if width != height or width < at_least:
        raise SpurbenchError(
            f"Expected a square image of at least {at_least} x {at_least} pixels, found {width} x {height} in {path}."
        )
    return width


def read_grey_png(path: Path, side: int, size: int) -> NDArray[np.uint8]:
    """An 8-bit greyscale PNG, resampled if it has another size than asked for.

    The resampling is :func:`~robustbench_spur.pictures.read_picture`'s, Pillow's antialiased bilinear filter: what the
    released SpurBreast loader's ``torchvision`` ``Resize`` does to a Pillow image.

    Args:
        path: of the file; every chunk's checksum is verified.
        side: height and width that it must have, in pixels.
        size: height and width of the result, in pixels.

    Returns:
        uint8, shape (1, size, size).

    Raises:
        SpurbenchError: the file is unreadable, damaged, of another kind or of another size.
    """
    width, height = _size(path)
    if (width, height) != (side, side):
        raise SpurbenchError(
            f"Expected {side} x {side} pixels as in the split's first image, found {width} x {height} in {path}."
        )
    return read_picture(path, channels=1, size=size)


def _size(path: Path) -> tuple[int, int]:
    """Width and height, in pixels, of an 8-bit greyscale PNG."""
    with reading(path, "a PNG"), path.open("rb") as stream:
        head = stream.read(HEADER)
    if len(head) < HEADER or not head.startswith(PNG_START) or head[12:16] != b"IHDR":
        found = "something else" if head else "an empty file"
        raise SpurbenchError(f"Expected a PNG, found {found} at {path}. Get the file again.")
    width, height, depth, colour = struct.unpack(">IIBB", head[16:])
    if (depth, colour) != (8, 0):
        kind = COLOURS.get(colour, f"colour type {colour}")
        raise SpurbenchError(f"Expected an 8-bit greyscale PNG, found {depth}-bit {kind} in {path}.")
    return width, height
