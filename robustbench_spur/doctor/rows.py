"""What the rows show without any image: patients in two partitions, missing attributes, empty groups, odd folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.doctor.report import Finding, GroupCount, PartitionCount, finding
from robustbench_spur.splits.base import Inventory
from robustbench_spur.types import PARTITIONS, Groups, Partition

REQUIRED = ("train", "validation", "test")
ENOUGH = 5
"""Patients that a group of the test needs for its accuracy to be ranked on."""


def with_attribute(rows: Partition) -> Partition:
    """The rows whose attribute is not missing."""
    return rows.take(rows.attributes >= 0)


def partition_counts(rows: Mapping[str, Partition]) -> tuple[PartitionCount, ...]:
    """Size of each partition, and of how many patients the label is a constant."""
    out = []
    for name, partition in rows.items():
        counts = patient_labels(partition, int(partition.labels.max(initial=0)) + 1)
        several = counts.sum(axis=1) > 1
        one_label = several & ((counts > 0).sum(axis=1) == 1)
        out.append(
            PartitionCount(
                partition=name,
                slices=len(partition),
                patients=len(counts),
                several=int(several.sum()),
                one_label=int(one_label.sum()),
            )
        )
    return tuple(out)


def patient_labels(rows: Partition, classes: int) -> NDArray[np.int64]:
    """Slices of each patient (sorted) and label, shape (patients, classes)."""
    patients, owner = np.unique(rows.clusters, return_inverse=True)
    counts = np.bincount(owner * classes + rows.labels, minlength=len(patients) * classes)
    return counts.reshape(len(patients), classes).astype(np.int64)


def group_counts(rows: Mapping[str, Partition], groups: Groups) -> tuple[GroupCount, ...]:
    """Slices and patients of every declared group, empty ones and those that a design leaves out included."""
    out = []
    for name, partition in rows.items():
        known, designed = with_attribute(partition), groups.only(partition.designed).codes
        index = groups.index(known.labels, known.attributes)
        for code, group in enumerate(groups.names):
            there = index == code
            patients = len(np.unique(known.clusters[there]))
            count, own = int(there.sum()), code in designed
            out.append(GroupCount(partition=name, group=group, slices=count, patients=patients, designed=own))
    return tuple(out)


def row_findings(inventory: Inventory, files: Mapping[str, list[Path]]) -> tuple[Finding, ...]:
    """All that is wrong with the rows.

    Args:
        inventory: of the split.
        files: of each partition, in the order of its rows; empty where images lie in no files.
    """
    rows = inventory.rows
    return (
        *chain.from_iterable(
            finding("fault", "reading", f"Not as it should be: {about}.", faults)
            for about, faults in inventory.faults.items()
        ),
        *finding(
            "fault",
            "empty_partition",
            "Partitions without a row.",
            (name for name in REQUIRED if rows and not len(rows.get(name, ()))),
        ),
        *finding(
            "fault",
            "patient_in_two_partitions",
            "Patients in more than one partition.",
            _in_two_partitions(rows),
        ),
        *finding(
            "fault",
            "attribute_missing",
            f"Slices without a value of {inventory.groups.attribute}; they are in no group.",
            (f"{row} in {name}" for name, part in rows.items() for row in part.ids[part.attributes < 0].tolist()),
        ),
        *finding(
            "fault",
            "label_against_folder",
            "Images whose folder bears the name of another class than the row.",
            (
                text
                for name, paths in files.items()
                for text in against_folders(rows[name], paths, inventory.groups.classes)
            ),
        ),
    )


def group_findings(counts: tuple[GroupCount, ...]) -> tuple[Finding, ...]:
    """Groups that are empty or should be, and groups of the test that hold too few patients to rank on."""

    def named(test: bool, patients: range) -> Iterator[str]:
        for cell in counts:
            if cell.designed and (cell.partition == "test") is test and cell.patients in patients:
                yield f"{cell.partition} {cell.group}" + (f" ({cell.patients})" if cell.patients else "")

    return (
        *finding(
            "fault",
            "group_not_designed",
            "Groups with slices in a partition whose design leaves them out.",
            (f"{c.partition} {c.group} ({c.patients})" for c in counts if c.slices and not c.designed),
        ),
        *finding(
            "fault",
            "empty_test_group",
            "Groups without a slice in test: nothing can be said of them.",
            named(True, range(1)),
        ),
        *finding(
            "warning",
            "empty_group",
            "Groups without a slice outside test: by design where the attribute decides the label.",
            named(False, range(1)),
        ),
        *finding(
            "warning",
            "few_patients",
            f"Groups of the test with fewer than {ENOUGH} patients.",
            named(True, range(1, ENOUGH)),
        ),
    )


def against_folders(rows: Partition, paths: list[Path], classes: tuple[str, ...]) -> Iterator[str]:
    """Rows whose image lies in a folder named as a class, or as a class's code, which is not the row's.

    >>> rows = Partition(*(np.array(c) for c in (["a", "b", "c"], [1, 1, 0], [0, 0, 0], ["p", "q", "r"])))
    >>> list(against_folders(rows, [Path("x/1/a.png"), Path("x/Dog/b.png"), Path("x/misc/c.png")], ("dog", "cat")))
    ['Dog/b.png (the row says cat)']
    """
    codes = {str(code): code for code in range(len(classes))} | {name.lower(): i for i, name in enumerate(classes)}
    for path, label in zip(paths, rows.labels.tolist(), strict=True):
        if codes.get(path.parent.name.lower(), label) != label:
            yield f"{path.parent.name}/{path.name} (the row says {classes[label]})"


def _in_two_partitions(rows: Mapping[str, Partition]) -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for name in (name for name in PARTITIONS if name in rows):
        for patient in np.unique(rows[name].clusters).tolist():
            places.setdefault(patient, []).append(name)
    for patient, names in places.items():
        if len(names) > 1:
            yield f"{patient} in {' and '.join(names)}"
