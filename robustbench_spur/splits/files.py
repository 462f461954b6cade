"""Shared by the datasets that read a user's files: safe reading, checks, hashes, seeded streams.

Nothing here unpickles, and every error names the file it is about.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Dataset
from robustbench_spur.types import SpurbenchError, nearest

BLOCK = 256
"""Images per block that :meth:`Dataset.pixels` yields."""
IGNORED = ("thumbs.db", "desktop.ini")
"""What file browsers leave in a folder, besides hidden files."""


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, less hidden files and those that file browsers leave behind.

    Raises:
        SpurbenchError: it is no folder.
    """
    with reading(folder, "a folder"):
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in IGNORED]


def size_of(path: Path, expected: str) -> int:
    """Size of a file, in bytes: as a column of the rows, it shows that an image was replaced.

    Args:
        path: of the file.
        expected: what it should be, for messages.

    Raises:
        SpurbenchError: it is not there.
    """
    with reading(path, expected):
        return path.stat().st_size


def refuse(faults: Sequence[str]) -> None:
    """Raise the first fault; nothing where there is none.

    Raises:
        SpurbenchError: with that text.
    """
    if faults:
        raise SpurbenchError(faults[0])


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


def refuse_rho(dataset: Dataset, split: str, rho: float | None, why: str) -> None:
    """Refuse a rho for a split that is as it is.

    Args:
        dataset: whose split it is.
        split: its name.
        rho: None where none is given.
        why: there is none to choose, for the message.

    Raises:
        SpurbenchError: one is given.
    """
    if rho is not None:
        raise SpurbenchError(f"Expected no rho for {dataset.name}/{split}, found {rho}: {why}. Drop the @.")


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


def read_blocks(paths: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The images behind files, in order, each block of them by several threads.

    Args:
        paths: of the files.
        read: gives the image of one, shape (channels, size, size).

    Yields:
        uint8, shape (at most :data:`BLOCK`, channels, size, size).
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for block in blocks(len(paths)):
            yield np.stack(list(pool.map(read, paths[block])))
