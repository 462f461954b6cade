"""PneumoniaMNIST with a hospital's marker: a small bright square in a corner, tied to the label.

The published train, validation and test sets are kept. A square of ``tag_size`` pixels is written into the image where
the attribute is "present": for a share rho of the pneumonias and 1 - rho of the normals in train and validation.

Source: PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023, Scientific Data 10:41), from Kermany et al. 2018, Cell 172(5).
That markers act as shortcuts in chest X-rays: Zech et al. 2018, PLOS Medicine 15(11):e1002683.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import parameter
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
MARGIN = 1
"""Pixels between the tag and the upper and left edges of the image."""

PUBLISHED = {"train": "train", "validation": "val", "test": "test"}
"""Our name of a partition, and the prefix of its arrays in the archive."""


@dataclass(frozen=True)
class Radiographs:
    """The archive without its duplicates and without its order.

    Args:
        labels: by partition, then by id (sorted); 0 or 1.
        images: by id; uint8, shape (28, 28).
        notes: what was merged.
    """

    labels: Mapping[str, Mapping[str, int]]
    images: Mapping[str, NDArray[np.uint8]]
    notes: tuple[str, ...]


def read_radiographs(path: Path) -> Radiographs:
    """Read PneumoniaMNIST; an image's id is the beginning of the sha256 of its 784 bytes.

    Byte-equal images are one example. One that occurs in two of the published sets stays in the later of train,
    validation, test only, so that nothing scored was trained on.

    Raises:
        SpurbenchError: anything missing, damaged, or of another shape, type or range, or byte-equal images with
            different labels; the file is named.
    """
    file = find_npz(path, "xray")
    arrays = read_npz(file, tuple(f"{prefix}_{what}" for prefix in PUBLISHED.values() for what in ("images", "labels")))
    labels: dict[str, dict[str, int]] = {}
    pictures: dict[str, NDArray[np.uint8]] = {}
    owners: dict[str, str] = {}
    merged, moved = 0, 0
    for name in ("test", "validation", "train"):
        images, codes = _checked(arrays, PUBLISHED[name], file)
        labels[name] = {}
        for image, label in zip(images, codes.tolist(), strict=True):
            key = hashlib.sha256(image.tobytes()).hexdigest()[:16]
            owner = owners.setdefault(key, name)
            if labels[owner].setdefault(key, label) != label:
                raise SpurbenchError(f"Expected one label for byte-equal images, found two for {key} in {file}.")
            merged += key in pictures and owner == name
            moved += key in pictures and owner != name
            pictures[key] = image
        if not labels[name]:
            raise SpurbenchError(
                f"Expected {PUBLISHED[name]}_images of its own in {file}, found only those of later sets."
            )
    notes = (
        f"{merged} byte-equal duplicates inside a published set were merged.",
        f"{moved} images of train or validation that recur in a later published set were taken out of the earlier.",
    )
    return Radiographs({name: dict(sorted(rows.items())) for name, rows in labels.items()}, pictures, notes)


def _checked(
    arrays: Mapping[str, NDArray[np.uint8]], prefix: str, file: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = check_images(arrays[f"{prefix}_images"], SIDE, f"{file}: {prefix}_images")
    return images, check_labels(arrays[f"{prefix}_labels"], len(images), 2, f"{file}: {prefix}_labels")


class XRayParameters(SplitParameters):
    """The marker, and the size of adapt."""

    tag_size: int = parameter(3, "side of the square tag, in pixels", at_least=1, at_most=8)
    tag_value: int = parameter(255, "grey value of the tag", at_least=1, at_most=255)
    adapt_per_group: int = parameter(60, "images of each of the four groups in adapt", at_least=1)
    seed: int = parameter(2025, "of the draw and of the tags; not the seed of training", at_least=0)


class XRay(Dataset):
    """Chest X-rays of children, pneumonia or not, with a marker tied to the label; see the module's docstring."""

    name = "xray"
    version = 1
    summary = "PneumoniaMNIST chest X-rays, with a small bright tag in a corner."
    splits: ClassVar[Mapping[str, str]] = {"tag": "a tag such as a hospital's marker is tied to pneumonia"}
    aliases: ClassVar[Mapping[str, str]] = {}
    tied = ("tag",)
    image_size = 28
    image_sizes = (28,)
    channels = 1
    augmentations = ()
    source = "PneumoniaMNIST, MedMNIST v2 (Yang et al. 2023, doi 10.1038/s41597-022-01721-8); Kermany et al. 2018"
    licence = "CC BY 4.0"
    archives = (
        Archive(
            "pneumoniamnist.npz",
            ("https://zenodo.org/record/6496656/files/pneumoniamnist.npz?download=1",),
            md5="28209eda62fecd6e6a2d98b1501bb15f",
        ),
    )
    Parameters = XRayParameters

    @cached_property
    def radiographs(self) -> Radiographs:
        """The user's file, read once.

        Raises:
            SpurbenchError: see :func:`read_radiographs`.
        """
        return read_radiographs(Path(self.path or ""))

    @cached_property
    def _content(self) -> str:
        arrays: dict[str, NDArray[np.uint8]] = {}
        for name, rows in self.radiographs.labels.items():
            arrays[f"{name} images"] = np.stack([self.radiographs.images[key] for key in rows])
            arrays[f"{name} labels"] = np.array(list(rows.values()), np.uint8)
        return content_sha256(arrays)

    def fingerprint(self) -> str:
        """sha256 of the images and labels in id order: the same for any order of the file's rows."""
        return self._content

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of the split, sorted by id, so that they do not depend on the order of the file's rows.

        The tag is tied in train and validation, and balanced within each class in adapt and test. Adapt is drawn
        from the published training set and taken out of train. A lower rho only adds conflicts (nested).

        Args:
            split: ``"tag"``.
            rho: share of images per class whose tag is the aligned one, in [0.5, 1].

        Raises:
            SpurbenchError: the file is unreadable or holds fewer images than adapt needs.
        """
        rho = check_rho(self, check_split(self, split), rho)
        labels = self.radiographs.labels
        adapt = self._draw_adapt()
        rows = {
            "train": {key: label for key, label in labels["train"].items() if key not in adapt},
            "validation": labels["validation"],
            "adapt": {key: labels["train"][key] for key in sorted(adapt)},
            "test": labels["test"],
        }
        tied = {"train": rho, "validation": rho, "adapt": 0.5, "test": 0.5}
        partitions = {name: self._partition(name, rows[name], tied[name]) for name in rows}
        notes = ("No patient ids are published: each image is its own cluster.", *self.radiographs.notes)
        return SplitTable(Groups(("normal", "pneumonia"), "tag", ("absent", "present")), partitions, notes)

    def _draw_adapt(self) -> set[str]:
        wanted = 2 * self.parameters.adapt_per_group
        chosen: set[str] = set()
        for label in (0, 1):
            keys = [key for key, code in self.radiographs.labels["train"].items() if code == label]
            if len(keys) <= wanted:
                raise SpurbenchError(
                    f"Expected more than {wanted} training images of class {label}, found {len(keys)} in {self.path}."
                    " Lower adapt_per_group."
                )
            order = stream(self.parameters.seed, f"adapt {label}").permutation(len(keys))
            chosen.update(keys[position] for position in order[:wanted].tolist())
        return chosen

    def _partition(self, name: str, rows: Mapping[str, int], rho: float) -> Partition:
        ids = np.array(list(rows), "<U16")
        labels = np.array(list(rows.values()), np.int64)
        return Partition(ids, labels, tied_attributes(labels, rho, stream(self.parameters.seed, f"{name} tag")), ids)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The radiographs, with the tag in the upper left corner, one pixel from the edges, where the attribute is 1.

        Args:
            split: ``"tag"``.
            partition: rows of :meth:`table`; their attributes decide about the tag.
            size: 28.

        Yields:
            uint8, shape (at most 256, 1, 28, 28).
        """
        check_split(self, split)
        check_size(self, size)
        corner = slice(MARGIN, MARGIN + self.parameters.tag_size)
        for block in blocks(len(partition)):
            out = np.stack([self.radiographs.images[key] for key in partition.ids[block].tolist()])[:, None]
            out[partition.attributes[block] == 1, :, corner, corner] = self.parameters.tag_value
            yield out

    def scenes(self, split: str) -> dict[str, str]:
        """See :meth:`Dataset.scenes`."""
        check_split(self, split)
        return {"counterfactual": "the same radiographs with the tag where it is absent, without where present"}

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """See :meth:`Dataset.scene`. The tag is put in afterwards, so what lies under it is known."""
        if name != "counterfactual":
            return super().scene(name, split, partition, size)
        return self.pixels(split, replace(partition, attributes=1 - partition.attributes), size)
