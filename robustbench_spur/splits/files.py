"""Shared by the datasets that read a user's files: safe reading, checks, hashes, seeded streams.

Nothing here unpickles, and every error names the file it is about.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.pictures import PNG_END
from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Dataset
from robustbench_spur.types import SpurbenchError, nearest

BLOCK = 256
"""Images per block that :meth:`Dataset.pixels` yields."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COLOURS = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
"""Colour types of a PNG header (ISO/IEC 15948, table 11.1)."""


def find_npz(path: Path, dataset: str) -> Path:
    """The npz archive that ``path`` means: the file itself, or the only npz in a folder.

    Args:
        path: what the user gave.
        dataset: name of the dataset, for messages.

    Raises:
        SpurbenchError: there is nothing at ``path``, or the folder holds no npz or several.
    """
    if not path.is_dir():
        if not path.exists():
            raise SpurbenchError(f"Expected an npz file at {path}, found nothing. Check --data {dataset}=PATH")
        return path
    found = sorted(
        entry for entry in path.iterdir() if entry.suffix.lower() == ".npz" and not entry.name.startswith(".")
    )
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found) or "none"
        raise SpurbenchError(f"Expected one npz file in {path}, found {names}. Name it: --data {dataset}=FILE")
    return found[0]


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The named arrays of an npz archive, read without pickle.

    Raises:
        SpurbenchError: the file is missing, is no npz, is damaged, lacks a name, or holds pickled objects.
    """
    expected = "an npz archive of plain arrays"
    with reading(path, expected), path.open("rb") as file:  # numpy leaks a file that it opens itself and cannot read
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise SpurbenchError(f"Expected {expected}, found a single array in {path}. Save it with numpy.savez.")
        with archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                found = ", ".join(archive.files) or "none"
                raise SpurbenchError(f"Expected the arrays {', '.join(names)} in {path}, found {found}.")
            return {name: archive[name] for name in names}


def check_images(images: NDArray[Any], side: int, where: str) -> NDArray[np.uint8]:
    """``images`` if they are 8-bit greyscale.

    Args:
        images: expected of shape (n, side, side), uint8, n at least 1.
        side: height and width, in pixels.
        where: file and name of the array, for messages.

    Raises:
        SpurbenchError: another shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (side, side) or not len(images):
        raise SpurbenchError(
            f"Expected 8-bit images of shape (n, {side}, {side}) in {where}, found {images.dtype} {images.shape}."
        )
    return images


def check_labels(labels: NDArray[Any], count: int, classes: int, where: str) -> NDArray[np.int64]:
    """``labels`` as int64, shape (count,), if they are class codes.

    Args:
        labels: expected of an integer type, shape (count,) or (count, 1), values 0 to ``classes - 1``.
        count: number of images they belong to.
        classes: number of classes.
        where: file and name of the array, for messages.

    Raises:
        SpurbenchError: another shape, type or range.
    """
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        raise SpurbenchError(
            f"Expected {count} integer labels, one per image, in {where}, found {labels.dtype} {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise SpurbenchError(
            f"Expected labels 0 to {classes - 1} in {where}, found {int(labels.min())} to {int(labels.max())}."
        )
    return labels.reshape(-1).astype(np.int64)


def content_sha256(arrays: Mapping[str, NDArray[Any]]) -> str:
    """sha256 of named arrays: the same whatever file format they came from.

    >>> a = content_sha256({"x": np.zeros(3, np.uint8)})
    >>> a == content_sha256({"x": np.zeros(3, np.uint8)}), a == content_sha256({"y": np.zeros(3, np.uint8)})
    (True, False)
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


@dataclass(frozen=True)
class PngHeader:
    """The first chunk of a PNG.

    Args:
        width: in pixels.
        height: in pixels.
        depth: bits per sample.
        colour: colour type, a key of :data:`PNG_COLOURS`.
    """

    width: int
    height: int
    depth: int
    colour: int


def png_header(head: bytes, path: Path) -> PngHeader:
    """Size and kind of a PNG from its first 26 bytes.

    Raises:
        SpurbenchError: the bytes are not the beginning of a PNG.
    """
    if len(head) < 26 or head[:8] != PNG_SIGNATURE or head[12:16] != b"IHDR":
        found = "an empty file" if not head else "something else"
        raise SpurbenchError(f"Expected a PNG, found {found} at {path}. Get the file again.")
    return PngHeader(*struct.unpack(">IIBB", head[16:26]))


def square_side(path: Path, *, at_least: int) -> int:
    """Side, in pixels, of a square 8-bit greyscale PNG, from its header alone.

    Raises:
        SpurbenchError: the file is unreadable, of another kind, not square, or smaller than ``at_least``.
    """
    with reading(path, "a PNG"), path.open("rb") as stream:
        header = png_header(stream.read(26), path)
    _check_grey(header, path)
    if header.width != header.height or header.width < at_least:
        raise SpurbenchError(
            f"Expected a square image of at least {at_least} x {at_least} pixels,"
            f" found {header.width} x {header.height} in {path}."
        )
    return header.width


def _check_grey(header: PngHeader, path: Path) -> None:
    if (header.depth, header.colour) != (8, 0):
        kind = PNG_COLOURS.get(header.colour, f"colour type {header.colour}")
        raise SpurbenchError(f"Expected an 8-bit greyscale PNG, found {header.depth}-bit {kind} in {path}.")


def read_grey_png(path: Path, side: int, size: int) -> NDArray[np.uint8]:
    """An 8-bit greyscale PNG, resampled if it has another size than asked for.

    The resampling is Pillow's bilinear filter, whose support grows with the reduction (antialiased): what the released
    SpurBreast loader's ``torchvision`` ``Resize`` does to a Pillow image.

    Args:
        path: of the file; every chunk's checksum is verified.
        side: height and width that it must have, in pixels.
        size: height and width of the result, in pixels.

    Returns:
        uint8, shape (size, size).

    Raises:
        SpurbenchError: the file is unreadable, damaged, of another kind or of another size.
    """
    from PIL import Image

    with reading(path, "a PNG"):
        data = path.read_bytes()
    header = png_header(data, path)
    _check_grey(header, path)
    if (header.width, header.height) != (side, side):
        raise SpurbenchError(
            f"Expected {side} x {side} pixels as in the split's first image,"
            f" found {header.width} x {header.height} in {path}."
        )
    if PNG_END not in data:
        raise SpurbenchError(f"Expected a complete PNG, found {path} truncated or damaged. Get the file again.")
    with reading(path, "an undamaged PNG"):
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            resized = image if size == side else image.resize((size, size), Image.Resampling.BILINEAR)
            return np.array(resized, np.uint8)


def check_split(dataset: Dataset, split: str) -> str:
    """The full name of a split of ``dataset``.

    Raises:
        SpurbenchError: no such split; the nearest names are given.
    """
    split = dataset.aliases.get(split, split)
    if split not in dataset.splits:
        raise SpurbenchError(f"Unknown split {split!r} of {dataset.name}. {nearest(split, list(dataset.splits))}")
    return split


def check_rho(dataset: Dataset, split: str, rho: float | None) -> float:
    """The share of aligned examples that a tied split is asked for.

    Raises:
        SpurbenchError: none is given, or one outside [0.5, 1].
    """
    if rho is None or not 0.5 <= rho <= 1:
        raise SpurbenchError(
            f"Expected rho from 0.5 to 1 for {dataset.name}/{split}, found {rho}."
            f" Write for example {dataset.name}/{split}@{dataset.default_rho}"
        )
    return float(rho)


def check_size(dataset: Dataset, size: int) -> None:
    """Refuse an image size that the dataset is not made at.

    Raises:
        SpurbenchError: the size is not among :attr:`Dataset.image_sizes`, or not positive.
    """
    if size < 1 or (dataset.image_sizes and size not in dataset.image_sizes):
        known = " or ".join(map(str, dataset.image_sizes)) or "at least 1"
        raise SpurbenchError(f"Expected image size {known} for {dataset.name}, found {size}.")


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A random stream of its own for each purpose, so that one draw never shifts another.

    >>> int(stream(1, "train colour").integers(100)) == int(stream(1, "train colour").integers(100))
    True
    """
    return np.random.default_rng([seed, *purpose.encode()])


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most :data:`BLOCK` rows that cover ``count`` rows.

    >>> list(blocks(300))
    [slice(0, 256, None), slice(256, 300, None)]
    """
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))
