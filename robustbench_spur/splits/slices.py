"""The released folders of SpurBreast: which slices there are, from names and sizes of the files alone; none is opened.

The layout is told in :mod:`robustbench_spur.splits.spurbreast`; what does not follow it is refused, not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from robustbench_spur.splits.duke import patient_id
from robustbench_spur.splits.files import entries_of, refuse, size_of
from robustbench_spur.types import SpurbenchError

FOLDERS = {"train": "training", "validation": "validation", "test": "test"}
"""Our name of a partition, and its folder's."""

LABELS = ("0", "1")
FILE_NAME = re.compile(r"([^-]+)-([^-]+)-(\d+)\.png", re.IGNORECASE | re.ASCII)


class Slice(NamedTuple):
    """One file, ordered by patient, then slice.

    Args:
        patient: Duke's number, 1 to 922.
        order: slice number, for sorting; texts come after numbers.
        prefix: the file name's first part.
        slice: the slice as the file name writes it.
        label: 1 where the slice has an annotated tumour.
        file: relative to the split's folder, with ``/``.
        bytes: its size.
    """

    patient: int
    order: tuple[int, int, str]
    prefix: str
    slice: str
    label: int
    file: str
    bytes: int


class Scan(NamedTuple):
    """What the folders of a partition hold.

    Args:
        slices: that are named as the layout says, sorted by (patient, slice).
        strangers: what is missing, empty or there without belonging there, as whole error messages.
        repeated: slices that are there twice, likewise.
    """

    slices: list[Slice]
    strangers: list[str]
    repeated: list[str]


def scan_slices(folder: Path, partition: str) -> Scan:
    """The files of one partition, and all that is wrong with them.

    Args:
        folder: of the split.
        partition: ``"training"``, ``"validation"`` or ``"test"``.
    """
    place = folder / partition
    slices: list[Slice] = []
    strangers: list[str] = []
    try:
        strangers += [
            f"Expected only the folders 0 and 1 in {place}, found {entry}. Move it elsewhere."
            for entry in entries_of(place)
            if entry.name not in LABELS
        ]
    except SpurbenchError as error:
        return Scan([], [str(error)], [])
    for label in LABELS:
        _scan_label(place / label, folder, slices, strangers)
    slices.sort()
    repeated = [
        f"Expected each slice once, found {one.file} and {other.file} in {folder}. Remove one."
        for one, other in pairwise(slices)
        if one[:3] == other[:3]
    ]
    return Scan(slices, strangers, repeated)


def _scan_label(place: Path, folder: Path, slices: list[Slice], strangers: list[str]) -> None:
    """Add the files of a label's folder to what was found."""
    try:
        entries = entries_of(place)
    except SpurbenchError as error:
        strangers.append(str(error))
        return
    if not entries:
        strangers.append(f"Expected PNG files in {place}, found none. Unpack the archive again.")
    for entry in entries:
        try:
            slices.append(_parse(entry, folder, int(place.name)))
        except SpurbenchError as error:
            strangers.append(str(error))


def list_slices(folder: Path, partition: str) -> list[Slice]:
    """The files of one partition, sorted by (patient, slice).

    Args:
        folder: of the split.
        partition: ``"training"``, ``"validation"`` or ``"test"``.

    Raises:
        SpurbenchError: a folder is missing or empty, a file is not named as the layout says, or a slice is there twice.
    """
    found = scan_slices(folder, partition)
    refuse((*found.strangers, *found.repeated))
    return found.slices


def _parse(entry: Path, folder: Path, label: int) -> Slice:
    match = FILE_NAME.fullmatch(entry.name)
    if match is None:
        raise SpurbenchError(f"Expected files named <prefix>-<slice>-<patient>.png, found {entry}. Move it elsewhere.")
    prefix, text, patient = match.groups()
    number = text.isascii() and text.isdigit()
    order = (0, int(text), "") if number else (1, 0, text)
    file, size = entry.relative_to(folder).as_posix(), size_of(entry, "a slice")
    return Slice(int(patient), order, prefix, text, label, file, size)


def check_disjoint(listed: Mapping[str, list[Slice]], folder: Path) -> None:
    """Refuse a patient in two partitions.

    Raises:
        SpurbenchError: one file of each partition is named.
    """
    owners: dict[int, tuple[str, str]] = {}
    for name, slices in listed.items():
        for row in slices:
            owner, file = owners.setdefault(row.patient, (name, row.file))
            if owner != name:
                raise SpurbenchError(
                    f"Expected each patient in one partition, found {patient_id(row.patient)} in {file} and {row.file}"
                    f" of {folder}. Remove one of the two."
                )
