"""The embedded data set: slices of a simulated breast MRI, where field strength or orientation can be a shortcut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustbench_spur.phantom.cohort import Plan, plan_slices
from robustbench_spur.phantom.draws import Stream, generator
from robustbench_spur.phantom.render import Slices, body_masks, check, lesion_masks, render
from robustbench_spur.phantom.workers import blocks
from robustbench_spur.splits.base import Dataset, SplitParameters, tied_attributes
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError, nearest

DRAWN = ("train", "validation", "adapt", "test")
"""Its partitions; their places are part of the seeds that patients are drawn from."""

PATIENTS_PER_PARTITION = 100_000
"""Each partition has its own range of patient numbers, so that its patients do not change with another's size."""

CLASSES = ("clear", "tumour")
FIELD_STRENGTH = Groups(CLASSES, "field strength", ("3T", "1.5T"))
ORIENTATION = Groups(CLASSES, "orientation", ("rotated", "upright"))


class PhantomParameters(SplitParameters):
    """Sizes of the partitions, and the seed of everything in them."""

    train_patients: int = Field(1000, ge=4, le=100_000, multiple_of=2, description="Half per label.")
    train_slices: int = Field(4, ge=1, le=16, description="Per patient, all of one label.")
    validation_patients: int = Field(120, ge=4, le=100_000, multiple_of=2, description="Half per label.")
    validation_slices: int = Field(6, ge=1, le=16, description="Per patient, all of one label.")
    adapt_patients: int = Field(120, ge=4, le=100_000, multiple_of=2, description="Half per attribute.")
    adapt_slices: int = Field(6, ge=2, le=32, multiple_of=2, description="Per patient, half per label.")
    test_patients: int = Field(200, ge=4, le=100_000, multiple_of=2, description="Half per attribute.")
    test_slices: int = Field(8, ge=2, le=32, multiple_of=2, description="Per patient, half per label.")
    seed: int = Field(
        2025, ge=0, lt=4_294_967_296, description="Of patients, scanners and noise; the run's seed is another."
    )


class Assignment(NamedTuple):
    """What the patients of one partition were given, each of shape (patients,).

    Args:
        positive: tumour slices.
        negative: tumour-free slices.
        attribute: code of the split's attribute.
        nuisance: 1 where the field strength is 1.5 T, in a split about orientation.
    """

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]
    attribute: NDArray[np.int64]
    nuisance: NDArray[np.int64]


class Phantom(Dataset):
    """Axial, fat-suppressed, post-contrast breast MRI slices, rendered from a physical model; nothing to download.

    The label says whether a slice holds the patient's tumour. In train and validation a patient gives slices of one
    label, as in SpurBreast's field split; in adapt and test, half of each. The patients are the same at every rho
    and in every split, and those of test stay the same when train grows.
    """

    name = "phantom"
    version = 1
    summary = "Simulated breast MRI slices: tumour or clear, with field strength or orientation as the shortcut."
    splits: ClassVar[dict[str, str]] = {
        "field": "1.5 T scanners go with tumour, 3 T scanners with clear; all slices upright.",
        "orientation": "Upright slices go with tumour, slices turned by 180 degrees with clear; both field strengths.",
        "clean": "No shortcut: field strength is drawn independently of the label.",
    }
    tied = ("field", "orientation")
    embedded = True
    image_size = 64
    channels = 1
    shared_images = True
    images_sha256 = "f5baa692f7857ff21eda94b38e7aa2fdf64892d607ba1a2676a48b3fb6a2196b"
    augmentations = ("horizontal_flip", "shift")
    source = (
        "The project's own model; field strength, orientation and one label per patient as in SpurBreast "
        "(Won et al., MICCAI 2025, arXiv 2510.02109)."
    )
    licence = "Apache-2.0"
    Parameters = PhantomParameters

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split, without a pixel.

        The extra columns ``patient``, ``z`` (mm), ``field_strength`` (tesla) and ``rotated`` say what to render.

        Args:
            split: ``field``, ``orientation`` or ``clean``.
            rho: share of patients per class with the aligned attribute, in train and validation; None for ``clean``.

        Raises:
            SpurbenchError: an unknown split, or a rho that it does not have.
        """
        self._known(split)
        known = self.rhos if split in self.tied else (None,)
        if rho not in known:
            named = ", ".join(str(value) for value in known)
            raise SpurbenchError(f"Expected rho of {self.name}/{split} among {named}, found {rho}. Name one of these.")
        groups = ORIENTATION if split == "orientation" else FIELD_STRENGTH
        partitions = {name: self._partition(split, name, 0.5 if rho is None else rho) for name in DRAWN}
        return SplitTable(groups, partitions)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images of a partition, in row order, in blocks of uint8, shape (block, 1, size, size).

        Args:
            split: which; the rows already say everything that matters for it.
            partition: of a table of this dataset, or some rows of one.
            size: of the matrix, at least 16; 320 mm at any size.

        Raises:
            SpurbenchError: an unknown split, a size below 16, or rows of another dataset.
        """
        return self._render(self._slices(split, partition), size)

    def counterfactual(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The same slices with the split's attribute swapped: other field strength, or turned by 180 degrees.

        Patient, lesion and noise draws stay, as does the scanner's place among its kind. Arguments, blocks and errors
        are those of :meth:`pixels`.
        """
        slices = self._slices(split, partition)
        if split == "orientation":
            return self._render(replace(slices, rotated=~slices.rotated), size)
        return self._render(replace(slices, field_strength=4.5 - slices.field_strength), size)

    def without_lesion(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The same slices of patients who have no tumour; a tumour-free slice stays what it is.

        Arguments, blocks and errors are those of :meth:`pixels`.
        """
        return self._render(self._slices(split, partition), size, lesions=False)

    def lesion_masks(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.float32]]:
        """Share of each pixel that the tumour fills, 0 to 1, in blocks of float32, shape (block, 1, size, size).

        Arguments and errors are those of :meth:`pixels`.
        """
        return self._masks(lesion_masks, self._slices(split, partition), size)

    def body_masks(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.float32]]:
        """Share of each pixel that the body fills, breasts included, in blocks like those of :meth:`lesion_masks`.

        It is drawn from the outline that the image is drawn from, not found in the image. Arguments and errors are those
        of :meth:`pixels`.
        """
        return self._masks(body_masks, self._slices(split, partition), size)

    def scenes(self, split: str) -> dict[str, str]:
        """See :meth:`Dataset.scenes`; a split without an attribute to swap has the field strength."""
        self._known(split)
        swapped = "turned by 180 degrees" if split == "orientation" else "at the other field strength"
        return {
            "counterfactual": f"the same slices {swapped}",
            "without_lesion": "the same slices of patients who have no tumour",
            "lesion": "share of each pixel that the tumour fills",
            "body": "share of each pixel that the body fills, breasts included: all but air",
        }

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """See :meth:`Dataset.scene`."""
        offered: dict[str, Callable[[str, Partition, int], Iterator[NDArray[Any]]]] = {
            "counterfactual": self.counterfactual,
            "without_lesion": self.without_lesion,
            "lesion": self.lesion_masks,
            "body": self.body_masks,
        }
        return offered[name](split, partition, size) if name in offered else super().scene(name, split, partition, size)

    def _render(self, slices: Slices, size: int, *, lesions: bool = True) -> Iterator[NDArray[np.uint8]]:
        check(slices, size)
        job = partial(render, self.parameters.seed, size=size, lesions=lesions)
        return (np.asarray(block[:, None], np.uint8) for block in blocks(job, slices, size))

    def _masks(
        self, draw: Callable[..., NDArray[np.float32]], slices: Slices, size: int
    ) -> Iterator[NDArray[np.float32]]:
        check(slices, size)
        job = partial(draw, self.parameters.seed, size=size)
        return (np.asarray(block[:, None], np.float32) for block in blocks(job, slices, size))

    def _known(self, split: str) -> None:
        if split not in self.splits:
            raise SpurbenchError(f"Unknown split {split!r} of {self.name!r}. {nearest(split, list(self.splits))}")

    def _slices(self, split: str, partition: Partition) -> Slices:
        self._known(split)
        columns = partition.extra
        missing = sorted({"patient", "z", "field_strength", "rotated"} - set(columns))
        if missing:
            raise SpurbenchError(f"Expected a partition of {self.name!r}, found no columns {missing}. Use its table().")
        return Slices(columns["patient"], columns["z"], columns["field_strength"], columns["rotated"])

    def _partition(self, split: str, name: str, rho: float) -> Partition:
        first = DRAWN.index(name) * PATIENTS_PER_PARTITION
        patients = first + np.arange(getattr(self.parameters, f"{name}_patients"), dtype=np.int64)
        given = self._assign(split, name, rho, len(patients))
        plan = plan_slices(self.parameters.seed, patients, given.positive, given.negative)
        return _rows(split, patients, given, plan)

    def _assign(self, split: str, name: str, rho: float, count: int) -> Assignment:
        """Labels and attributes of the patients of a partition.

        Of every two patients, one has either label, so that a larger partition begins like a smaller one. What is tied
        to nothing is balanced within each label, or each attribute value, so that chance ties nothing either.
        """
        slices = getattr(self.parameters, f"{name}_slices")
        coins = self._generator(Stream.LABEL, name).integers(0, 2, count // 2)
        labels = np.column_stack([coins, 1 - coins]).ravel()
        order = self._generator(Stream.NUISANCE, name)
        if name in ("adapt", "test"):
            half = np.full(count, slices // 2)
            balanced = self._generator(Stream.ATTRIBUTE, name, "orientation" if split == "orientation" else "field")
            attribute = tied_attributes(np.zeros(count, np.int64), 0.5, balanced)
            return Assignment(half, half, attribute, tied_attributes(attribute, 0.5, order))
        attribute = tied_attributes(labels, rho, self._generator(Stream.ATTRIBUTE, name, split))
        return Assignment(labels * slices, (1 - labels) * slices, attribute, tied_attributes(labels, 0.5, order))

    def _generator(self, stream: Stream, partition: str, split: str = "field") -> np.random.Generator:
        part = list(self.splits).index(split)
        return generator(self.parameters.seed, stream, DRAWN.index(partition), part)


def _rows(split: str, patients: NDArray[np.int64], given: Assignment, plan: Plan) -> Partition:
    """The table of a partition: one row per slice."""
    attribute = given.attribute[plan.row]
    low_field = given.nuisance[plan.row] if split == "orientation" else attribute
    names = np.array([f"P{patient:06d}" for patient in patients.tolist()])[plan.row]
    ids = np.array(
        [f"{name}-z{tenths:+05d}" for name, tenths in zip(names.tolist(), plan.tenths.tolist(), strict=True)]
    )
    extra = {
        "patient": patients[plan.row],
        "z": plan.z,
        "field_strength": np.where(low_field == 1, 1.5, 3.0),
        "rotated": (attribute == 0) if split == "orientation" else np.zeros(len(ids), np.bool_),
    }
    return Partition(ids, plan.label, attribute, names, extra)
