"""The released folders of SpurBreast: which slices there are, from the names of the files alone.

The layout is told in :mod:`robustbench_spur.splits.spurbreast`; what does not follow it is refused, not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from robustbench_spur.splits.duke import patient_id
from robustbench_spur.splits.files import reading
from robustbench_spur.types import SpurbenchError

FOLDERS = {"train": "training", "validation": "validation", "test": "test"}
"""Our name of a partition, and its folder's."""

LABELS = ("0", "1")
IGNORED = ("thumbs.db", "desktop.ini")
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
    """

    patient: int
    order: tuple[int, int, str]
    prefix: str
    slice: str
    label: int
    file: str


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, less hidden files and those that file browsers leave behind."""
    with reading(folder, "a folder"):
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in IGNORED]


def list_slices(folder: Path, partition: str) -> list[Slice]:
    """The files of one partition, sorted by (patient, slice).

    Args:
        folder: of the split.
        partition: ``"training"``, ``"validation"`` or ``"test"``.

    Raises:
        SpurbenchError: a folder is missing or empty, a file is not named as the layout says, or a slice is there twice.
    """
    place = folder / partition
    stray = [entry for entry in entries_of(place) if entry.name not in LABELS]
    if stray:
        raise SpurbenchError(f"Expected only the folders 0 and 1 in {place}, found {stray[0]}. Move it elsewhere.")
    slices = []
    for label in LABELS:
        entries = entries_of(place / label)
        if not entries:
            raise SpurbenchError(f"Expected PNG files in {place / label}, found none. Unpack the archive again.")
        slices += [_parse(entry, folder, int(label)) for entry in entries]
    slices.sort()
    for one, other in pairwise(slices):
        if one[:3] == other[:3]:
            raise SpurbenchError(
                f"Expected each slice once, found {one.file} and {other.file} in {folder}. Remove one."
            )
    return slices


def _parse(entry: Path, folder: Path, label: int) -> Slice:
    match = FILE_NAME.fullmatch(entry.name)
    if match is None:
        raise SpurbenchError(f"Expected files named <prefix>-<slice>-<patient>.png, found {entry}. Move it elsewhere.")
    prefix, text, patient = match.groups()
    number = text.isascii() and text.isdigit()
    order = (0, int(text), "") if number else (1, 0, text)
    return Slice(int(patient), order, prefix, text, label, entry.relative_to(folder).as_posix())


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
