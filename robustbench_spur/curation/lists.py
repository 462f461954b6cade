"""Lists that a user gives about patients: which series is meant, how many slices it has, who is left out.

The mapping that Duke's owners publish beside the images says the first two: for every slice, its original path
(``DICOM_Images/Breast_MRI_001/post_1/Breast_MRI_001_post_1_017.dcm``, where ``post_1`` is the phase) and what TCIA calls the
file (``classic_path``, whose last folder is the SeriesInstanceUID). Boxes are counted by the number in the original name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from robustbench_spur.curation.boxes import EXCEL
from robustbench_spur.reading import reading
from robustbench_spur.spreadsheet import words
from robustbench_spur.types import SpurbenchError, nearest

ORIGINAL, CLASSIC = "original_path_and_filename", "classic_path"


def read_pairs(path: Path, value: str) -> dict[str, str]:
    """Read a CSV file with the columns ``patient`` and ``value``; a row may be repeated.

    Raises:
        SpurbenchError: the file is unreadable or empty, lacks a column or a value, or has two values of one patient.
    """
    pairs: dict[str, str] = {}
    with (
        reading(path, f"a CSV file with the columns patient and {value}"),
        path.open(encoding="utf-8-sig", newline="") as stream,
    ):
        rows = csv.DictReader(stream, restval="")
        if not {"patient", value} <= set(rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "none"
            raise SpurbenchError(f"Expected the columns patient and {value} in {path}, found {found}.")
        for row in rows:
            patient, text = row["patient"].strip(), row[value].strip()
            if not patient or not text or pairs.setdefault(patient, text) != text:
                raise SpurbenchError(
                    f"Expected one {value} per patient, found {text!r} of {patient!r} (line {rows.line_num} of {path})."
                )
    if not pairs:
        raise SpurbenchError(f"Expected patients in {path}, found none.")
    return pairs


def read_counts(path: Path) -> dict[str, int]:
    """Read how many slices patients' volumes have, from a CSV file with the columns ``patient`` and ``count``.

    Raises:
        SpurbenchError: as :func:`read_pairs`, or a count is no whole number.
    """
    found = read_pairs(path, "count")
    for patient, text in found.items():
        if not (text.isascii() and text.isdigit()):
            raise SpurbenchError(f"Expected a whole number of slices, found {text!r} of {patient!r} in {path}.")
    return {patient: int(text) for patient, text in found.items()}


def read_ids(path: Path) -> frozenset[str]:
    """Read ids of patients, one per line.

    Raises:
        SpurbenchError: the file is unreadable or has none.
    """
    with reading(path, "a list of patients, one id per line"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    found = frozenset(line.strip() for line in lines if line.strip())
    if not found:
        raise SpurbenchError(f"Expected ids of patients in {path}, one per line, found none.")
    return found


@dataclass
class Phase:
    """What a mapping says about one phase, by patient.

    Args:
        series: folder in TCIA's classic layout.
        counts: slices listed.
        faults: why the mapping cannot be used.
    """

    series: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, patient: str, original: str, classic: str) -> None:
        """Take in a slice."""
        folder = str(PurePosixPath(classic).parent)
        known = self.series.setdefault(patient, folder)
        self.counts[patient] = self.counts.get(patient, 0) + 1
        if known != folder:
            fault = f"Expected one series of {patient!r} in the mapping, found {known} and {folder}."
        elif (wanted := _number(original)) != _number(classic):
            fault = f"Expected the files of {patient!r} in the order of the boxes, found slice {wanted} as {classic}."
        else:
            return
        self.faults.setdefault(patient, f"{fault} Choose its series by --series-file.")


def read_mapping(path: Path, phase: str) -> Phase:
    """Read Duke's mapping of file names, row by row.

    Args:
        path: of a CSV file, or of an Excel file's first sheet, with the columns ``original_path_and_filename`` and
            ``classic_path`` among others. A table of as many rows as Duke's, 773,888, took 7 s and 40 MB as CSV, and 57 s
            and 0.8 GB as xlsx.
        phase: ``pre``, ``post_1``, ..., as the folders of the original paths are called.

    Raises:
        SpurbenchError: the file is unreadable, lacks a column, or has no slice of that phase.
    """
    found, phases = Phase(), set[str]()
    with reading(path, f"a mapping of file names with the columns {ORIGINAL} and {CLASSIC}"):
        rows = _excel_rows(path) if path.suffix.lower() in EXCEL else _csv_rows(path)
        names = [words(cell) for cell in next(rows, ())]
        for name in (ORIGINAL, CLASSIC):
            if name not in names:
                raise SpurbenchError(f"Expected a column {name!r} in {path}, found none. {nearest(name, names)}")
        places = names.index(ORIGINAL), names.index(CLASSIC)
        for row in rows:
            original, classic = (words(row[place]) if place < len(row) else "" for place in places)
            parts = original.split("/")
            if len(parts) < 3 or not classic:
                continue
            phases.add(parts[-2])
            if parts[-2] == phase:
                found.add(parts[-3], original, classic)
    if not found.series:
        there = ", ".join(sorted(phases)[:8]) or "none"
        raise SpurbenchError(f"Expected slices of the phase {phase!r} in {path}, found {there}. Give another --phase.")
    return found


def _number(path: str) -> int:
    """The last number in a path, -1 if there is none.

    >>> _number("DICOM_Images/Breast_MRI_001/post_1/Breast_MRI_001_post_1_017.dcm"), _number("1.2.3/1-17.dcm")
    (17, 17)
    """
    numbers = re.findall(r"\d+", PurePosixPath(path).stem, re.ASCII)
    return int(numbers[-1]) if numbers else -1


def _csv_rows(path: Path) -> Iterator[Sequence[Any]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.reader(stream)


def _excel_rows(path: Path) -> Iterator[Sequence[Any]]:
    import openpyxl  # type: ignore[import-untyped]

    try:
        book = openpyxl.load_workbook(path, read_only=True)  # row by row: all cells at once take gigabytes
    except (KeyError, openpyxl.utils.exceptions.InvalidFileException) as error:
        raise ValueError(str(error)) from error
    try:
        yield from book.worksheets[0].iter_rows(values_only=True)
    finally:
        book.close()
