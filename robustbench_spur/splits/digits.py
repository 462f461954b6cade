"""Colored MNIST on the user's own MNIST files: two classes of digits, their colour tied to the label.

A digit x of class y (0: digits 0 to 4, 1: digits 5 to 9) is written into the channel of its colour a, the other
channel stays zero; a = y for a share rho of each class in train and validation.

Source: Arjovsky et al. 2019, "Invariant Risk Minimization" (arXiv 1907.02893), section 5.2; 14 x 14 pixels in two
channels as there. The images are MNIST (LeCun, Cortes and Burges).
Deviations: exact conflict counts in place of coin flips; no label noise by default (25 % there); one training
environment, not two.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import parameter
from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Archive, Dataset, SplitParameters, tied_attributes
from robustbench_spur.splits.files import (
    blocks,
    check_images,
    check_labels,
    check_rho,
    check_size,
    check_split,
    content_sha256,
    find_npz,
    read_npz,
    stream,
)
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

SIDE = 28
STEP = 2
STANDARD_COUNTS = (60_000, 10_000)
NPZ_NAMES = ("x_train", "y_train", "x_test", "y_test")
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_MAGIC = {1: 0x00000801, 3: 0x00000803}
"""First four bytes of an idx file of unsigned bytes, by its number of dimensions."""


@dataclass(frozen=True)
class Mnist:
    """The four arrays.

    Args:
        images: uint8, shape (n, 28, 28), by ``"train"`` and ``"test"``.
        digits: 0 to 9, shape (n,), int64, by ``"train"`` and ``"test"``.
    """

    images: Mapping[str, NDArray[np.uint8]]
    digits: Mapping[str, NDArray[np.int64]]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, plain or gzip.

    Args:
        path: of the file; one that ends in ``.gz`` is unpacked.
        dimensions: that it must have, 1 for labels and 3 for images.

    Raises:
        SpurbenchError: unreadable, wrong magic number, or more or fewer bytes than its header says.
    """
    with reading(path, "an idx file"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    header = data[: 4 + 4 * dimensions]
    magic, expected = int.from_bytes(header[:4], "big"), IDX_MAGIC[dimensions]
    if len(header) < 4 + 4 * dimensions or magic != expected:
        raise SpurbenchError(f"Expected an idx file with magic number {expected:#010x}, found {magic:#010x} in {path}.")
    shape = tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    body = len(data) - len(header)
    if body != math.prod(shape):
        raise SpurbenchError(
            f"Expected {math.prod(shape)} bytes after the header, found {body} in {path}. Get it again."
        )
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def read_mnist(path: Path) -> Mnist:
    """MNIST from an npz with the Keras names, from a folder that holds one, or from a folder of the four idx files.

    Raises:
        SpurbenchError: anything missing, damaged, or of another shape, type or range; the file is named.
    """
    files = {name: [path / f"{name}{end}" for end in ("", ".gz")] for name in IDX_NAMES}
    if path.is_dir() and any(file.exists() for both in files.values() for file in both):
        chosen = {name: next((file for file in both if file.exists()), None) for name, both in files.items()}
        missing = [name for name, file in chosen.items() if file is None]
        if missing:
            raise SpurbenchError(f"Expected {missing[0]} or {missing[0]}.gz in {path}, found neither.")
        where = [str(file) for file in chosen.values()]
        arrays = [read_idx(file, 3 if "idx3" in file.name else 1) for file in chosen.values() if file is not None]
    else:
        file = find_npz(path, "digits")
        where = [f"{file}: {name}" for name in NPZ_NAMES]
        arrays = list(read_npz(file, NPZ_NAMES).values())
    images = {"train": check_images(arrays[0], SIDE, where[0]), "test": check_images(arrays[2], SIDE, where[2])}
    digits = {
        "train": check_labels(arrays[1], len(arrays[0]), 10, where[1]),
        "test": check_labels(arrays[3], len(arrays[2]), 10, where[3]),
    }
    return Mnist(images, digits)


class DigitsParameters(SplitParameters):
    """How many digits are drawn, and how noisy their labels are."""

    train_size: int = parameter(5000, "training digits, drawn from the published training set", at_least=2)
    validation_size: int = parameter(1000, "validation digits, drawn from the published training set", at_least=2)
    adapt_per_group: int = parameter(500, "digits of each of the four groups in adapt", at_least=1)
    label_noise: float = parameter(
        0.0,
        "probability that a training or validation label is flipped before its colour is drawn",
        at_least=0,
        below=0.5,
    )
    seed: int = parameter(2025, "of the draw and of the colours; not the seed of training", at_least=0)


class Digits(Dataset):
    """MNIST digits whose colour is tied to their class; see the module's docstring."""

    name = "digits"
    version = 1
    summary = "MNIST digits 0-4 against 5-9, written in green or red (Colored MNIST)."
    splits: ClassVar[Mapping[str, str]] = {"colour": "red is tied to 5-9 and green to 0-4"}
    aliases: ClassVar[Mapping[str, str]] = {}
    tied = ("colour",)
    image_size = 14
    image_sizes = (14,)
    channels = 2
    augmentations = ()
    source = "MNIST (LeCun, Cortes and Burges 1998); Colored MNIST: Arjovsky et al. 2019, arXiv 1907.02893, section 5.2"
    licence = "MNIST: CC BY-SA 3.0"
    archives = (
        Archive(
            "train-images-idx3-ubyte.gz",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",),
            md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        Archive(
            "train-labels-idx1-ubyte.gz",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",),
            md5="d53e105ee54ea40749a09fcbcd1e9432",
        ),
        Archive(
            "t10k-images-idx3-ubyte.gz",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",),
            md5="9fb629c4189551a2d022fa330f9573f3",
        ),
        Archive(
            "t10k-labels-idx1-ubyte.gz",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",),
            md5="ec29112dd5afa0611ce80d1b7f02629c",
        ),
    )
    Parameters = DigitsParameters

    @cached_property
    def mnist(self) -> Mnist:
        """The user's files, read once.

        Raises:
            SpurbenchError: see :func:`read_mnist`.
        """
        return read_mnist(Path(self.path or ""))

    @cached_property
    def _content(self) -> str:
        parts = {f"{part} images": array for part, array in self.mnist.images.items()}
        return content_sha256({**parts, **{f"{part} digits": array for part, array in self.mnist.digits.items()}})

    def fingerprint(self) -> str:
        """sha256 of the images and digits themselves: the same for npz, idx and gzip files of one content."""
        return self._content

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of the split.

        Train, validation and adapt are disjoint draws from the published training digits; test is the published
        test set. Colour is tied in train and validation, and balanced within each class in adapt and test. The draw
        does not depend on rho, and a lower rho only adds conflicts (nested). Label noise flips the labels of train
        and validation before the colour is drawn, so that the colour is tied to the noisy label; adapt and test keep
        the true one.

        Args:
            split: ``"colour"``.
            rho: share of digits per class whose colour is the aligned one, in [0.5, 1].

        Raises:
            SpurbenchError: the files are unreadable or hold fewer digits than the parameters ask for.
        """
        rho = check_rho(self, check_split(self, split), rho)
        rows = self._draw()
        partitions = {
            "train": self._partition("train", "train", rows["train"], rho),
            "validation": self._partition("validation", "train", rows["validation"], rho),
            "adapt": self._partition("adapt", "train", rows["adapt"], 0.5),
            "test": self._partition("test", "test", np.arange(len(self.mnist.digits["test"])), 0.5),
        }
        return SplitTable(Groups(("0-4", "5-9"), "colour", ("green", "red")), partitions, self._notes())

    def _draw(self) -> dict[str, NDArray[np.int64]]:
        """Positions in the published training set, sorted, by partition; a larger train set contains a smaller one."""
        parameters = self.parameters
        labels = (self.mnist.digits["train"] >= 5).astype(np.int64)
        order = stream(parameters.seed, "draw").permutation(len(labels))
        wanted = 2 * parameters.adapt_per_group
        adapt = np.concatenate([order[labels[order] == label][:wanted] for label in (0, 1)])
        rest = order[~np.isin(order, adapt)]
        ends = (parameters.validation_size, parameters.validation_size + parameters.train_size)
        if len(adapt) < 2 * wanted or len(rest) < ends[1]:
            raise SpurbenchError(
                f"Expected at least {2 * wanted + ends[1]} training digits, {wanted} of each class for adapt, found"
                f" {np.bincount(labels, minlength=2).tolist()} in {self.path}. Lower train_size or adapt_per_group."
            )
        return {
            "train": np.sort(rest[ends[0] : ends[1]]),
            "validation": np.sort(rest[: ends[0]]),
            "adapt": np.sort(adapt),
        }

    def _partition(self, name: str, published: str, rows: NDArray[np.int64], rho: float) -> Partition:
        labels = (self.mnist.digits[published][rows] >= 5).astype(np.int64)
        if name in ("train", "validation"):
            flipped = stream(self.parameters.seed, f"{name} noise").random(len(rows)) < self.parameters.label_noise
            labels = np.where(flipped, 1 - labels, labels)
        colours = tied_attributes(labels, rho, stream(self.parameters.seed, f"{name} colour"))
        ids = np.array([f"{published}-{row:05d}" for row in rows.tolist()], np.str_)
        extra = {"published": np.full(len(rows), published, "<U5"), "row": rows.astype(np.int64)}
        return Partition(ids, labels, colours, ids, extra)

    def _notes(self) -> tuple[str, ...]:
        notes = ["Each image is its own cluster: the files do not say who wrote a digit."]
        if self.parameters.label_noise:
            notes.append(
                f"Label noise {self.parameters.label_noise}: labels of train and validation are flipped with that"
                " probability before the colour is drawn; adapt and test keep the true labels."
            )
        counts = tuple(len(self.mnist.digits[part]) for part in ("train", "test"))
        if counts != STANDARD_COUNTS:
            notes.append(
                f"The files hold {counts[0]} training and {counts[1]} test digits, not MNIST's 60000 and 10000."
            )
        return tuple(notes)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """Every second pixel of a digit, in the channel of its colour (0 green, 1 red); the other channel is zero.

        Args:
            split: ``"colour"``.
            partition: rows of :meth:`table`; their attributes decide the colour.
            size: 14.

        Yields:
            uint8, shape (at most 256, 2, 14, 14).
        """
        check_split(self, split)
        check_size(self, size)
        published, rows = partition.extra["published"], partition.extra["row"]
        for block in blocks(len(partition)):
            out = np.zeros((block.stop - block.start, self.channels, size, size), np.uint8)
            for part in ("train", "test"):
                here = np.flatnonzero(published[block] == part)
                digits = self.mnist.images[part][rows[block][here], ::STEP, ::STEP]
                out[here, partition.attributes[block][here]] = digits
            yield out

    def scenes(self, split: str) -> dict[str, str]:
        """See :meth:`Dataset.scenes`."""
        check_split(self, split)
        return {"counterfactual": "the same digits in the other colour"}

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """See :meth:`Dataset.scene`."""
        if name != "counterfactual":
            return super().scene(name, split, partition, size)
        return self.pixels(split, replace(partition, attributes=1 - partition.attributes), size)
