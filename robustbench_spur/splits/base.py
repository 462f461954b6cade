"""What a dataset is: a plugin that names its splits, lists their rows, and makes their pixels.

The table comes first and is cheap: planning, applicability and identity need no pixel. Pixels are made once,
in blocks, and then read from a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

RHOS = (1.0, 0.99, 0.95, 0.9, 0.8, 0.5)
"""The shares of aligned patients per class that a tied split is offered at."""


@dataclass(frozen=True)
class Archive:
    """A file that can be downloaded for a dataset. The hash is its identity, the addresses are where it may be found.

    Args:
        name: file name it is kept under.
        urls: addresses, tried in order.
        sha256: published hash; None where none is: what is seen first is then recorded and held to.
        md5: published hash, checked too where there is one.
        size: in bytes; None where unknown.
        splits: what it serves; empty for all splits.
        unpack: whether it is unpacked beside itself; else the dataset reads it as it is.
        note: what a user must know before, such as an address that is a guess.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    splits: tuple[str, ...] = ()
    unpack: bool = False
    note: str = ""


@dataclass(frozen=True)
class Inventory:
    """What is there of a split, read without stopping at the first fault; what the data doctor examines.

    Args:
        rows: by partition; the attribute is -1 where it is missing, and a patient may be in several partitions.
        groups: the declared universe.
        faults: what went wrong in reading, by what it is about ("files and folders"); one text per fault.
        notes: as in :class:`~robustbench_spur.types.SplitTable`.
        one_size: whether all images must have one mode and one size.
    """

    rows: Mapping[str, Partition]
    groups: Groups
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    one_size: bool = False

    @classmethod
    def unread(cls, error: SpurbenchError) -> Inventory:
        """That of a split whose rows cannot be read."""
        return cls({}, Groups((), "", ()), {"rows": (str(error),)})


class SplitParameters(BaseModel):
    """Base of a dataset's own settings (sizes, noise). Unknown names, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Dataset:
    """A plugin that provides splits. Subclass it in one file; the literals are read without running that file.

    Attributes:
        name: unique, lower case; a split is written ``name/split``.
        version: integer, raised whenever a table or a pixel can change.
        summary: one line for ``list``.
        splits: one line about each split, by its name.
        aliases: short names of splits.
        tied: the splits that carry a shortcut and are offered at several rho.
        rhos: the values of rho of the tied splits.
        default_rho: the one that a bare name means.
        embedded: whether it needs no files of the user's.
        image_size: default matrix size, in pixels.
        image_sizes: the sizes it can be made at; empty for any.
        channels: of its images.
        shared_images: whether an image follows from its row (extra columns included), whatever split it is asked for, so that
            splits with the same rows share the images.
        images_sha256: hash of the plugin's file as it was when its images last changed, for one that goes on changing without
            them: images that are kept are found by it. Where none is stated, every change of the file makes them anew.
        augmentations: what training may do to an image without changing its label or the shortcut: any of
            ``"horizontal_flip"``, ``"shift"``.
        source: where data and model come from.
        licence: of the data.
        archives: what can be downloaded.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    splits: ClassVar[Mapping[str, str]]
    aliases: ClassVar[Mapping[str, str]] = {}
    tied: ClassVar[tuple[str, ...]] = ()
    rhos: ClassVar[tuple[float, ...]] = RHOS
    default_rho: ClassVar[float] = 0.95
    embedded: ClassVar[bool] = False
    image_size: ClassVar[int]
    image_sizes: ClassVar[tuple[int, ...]] = ()
    channels: int = 1
    shared_images: ClassVar[bool] = False
    images_sha256: ClassVar[str] = ""
    augmentations: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    archives: ClassVar[tuple[Archive, ...]] = ()
    Parameters: ClassVar[type[SplitParameters]] = SplitParameters

    def __init__(self, parameters: SplitParameters | None = None, path: Path | None = None) -> None:
        self.parameters: Any = parameters if parameters is not None else self.Parameters()
        if path is None and not self.embedded:
            raise SpurbenchError(f"Expected the place of the {self.name!r} data. Give it: --data {self.name}=PATH")
        self.path = path

    def fingerprint(self) -> str:
        """sha256 (or another content hash) of the source files; empty for an embedded dataset.

        Raises:
            SpurbenchError: the path is missing or is not what was expected.
        """
        return ""

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split. Must be deterministic, must not depend on the image size, and should take seconds.

        Args:
            split: one of :attr:`splits`.
            rho: share of patients per class with the aligned attribute, in train and validation; None if not tied.
        """
        raise NotImplementedError

    def inventory(self, split: str, rho: float | None) -> Inventory:
        """The rows of a split with all that is wrong with them; an error of :meth:`table` is the one fault here.

        A dataset of a user's files overrides it, so that all faults are told at once.
        """
        try:
            table = self.table(split, rho)
        except SpurbenchError as error:
            return Inventory.unread(error)
        return Inventory(table.partitions, table.groups, notes=table.notes)

    def files(self, split: str, partition: Partition) -> list[Path] | None:
        """The image file behind each row, in row order; None where images do not lie in files of their own."""
        return None

    def scenes(self, split: str) -> dict[str, str]:
        """What :meth:`scene` can render for a split: the name of each, and one line about it.

        ``counterfactual``: the same slices with the split's attribute changed. ``without_lesion``: the same slices of patients
        who have none. ``lesion`` and ``body``: masks.
        """
        return {}

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """The partition's slices rendered otherwise, in row order, in blocks like those of :meth:`pixels`.

        Slices are uint8, shape (block, channels, size, size); masks float32 in [0, 1], shape (block, 1, size, size).

        Raises:
            SpurbenchError: the data set does not offer it for the split.
        """
        raise SpurbenchError(f"Data set {self.name!r} offers no {name!r} for {split}.")

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images of a partition, in row order, in blocks of uint8, shape (block, channels, size, size).

        Raises:
            SpurbenchError: an image is unreadable; the message names the file.
        """
        raise NotImplementedError


def tied_attributes(labels: NDArray[np.int64], rho: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give each unit (a patient) a binary attribute that equals its label for a share ``rho`` of each class.

    The units are put in a seeded order once per class, and the first ``(1 - rho) n`` of it, rounded half
    up, get the conflicting value: a lower rho adds conflict units to the same set (nested in rho).

    Args:
        labels: 0 or 1 per unit, shape (n,).
        rho: in [0.5, 1].
        rng: consumed alike for every rho.

    Returns:
        Attribute codes, shape (n,): 1 is the value tied to label 1.

    >>> labels = np.array([0] * 20 + [1] * 20)
    >>> strong, weak = (tied_attributes(labels, rho, np.random.default_rng(0)) for rho in (0.95, 0.9))
    >>> [int(x.sum()) for x in (strong != labels, weak != labels, (strong != labels) & (weak == labels))]
    [2, 4, 0]
    """
    attributes = labels.astype(np.int64).copy()
    for label in (0, 1):
        units = rng.permutation(np.flatnonzero(labels == label))
        conflicting = int(np.floor(round((1 - rho) * len(units), 9) + 0.5))
        attributes[units[:conflicting]] = 1 - label
    return attributes
