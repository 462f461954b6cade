"""Which images patients have: a folder whose names say whose they are, or a list."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError, nearest

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
EXPECTED = "a folder of images or a list of them (CSV in UTF-8)"

Items = list[tuple[str, Path]]


@dataclass(frozen=True)
class Images:
    """Images of patients.

    Args:
        items: patient and file, ordered by file.
        how: how the patients were found, for a report.
        unclaimed: files of nobody in the table.
    """

    items: tuple[tuple[str, Path], ...] = field(repr=False)
    how: str
    unclaimed: int

    @cached_property
    def patients(self) -> Mapping[str, int]:
        """How many images each patient has."""
        return Counter(patient for patient, _ in self.items)


def list_images(place: Path, patients: Sequence[str]) -> Images:
    """Find the images of patients.

    A list is a CSV file with the columns ``patient`` and ``path`` (or ``file``); a path is taken from the list's folder. In a
    folder, one rule holds for all files, that which finds most: the patient is the name of a folder on the way, the file's
    name, or what stands in it before the first or after the last hyphen. Hidden files and folders are passed over. Letters
    with accents agree however they are encoded.

    Args:
        place: a list or a folder.
        patients: ids in the table.

    Raises:
        SpurbenchError: neither is there, the list is not as it must be, or no image belongs to a patient of the table.
    """
    known = {_composed(patient): str(patient) for patient in patients}
    if place.is_dir():
        items, how, every = _in_folder(place, known)
    else:
        items, how = _in_list(place), f"the list {place.name}"
        every = len(items)
        items = [(known[_composed(patient)], path) for patient, path in items if _composed(patient) in known]
    if not items:
        shown = next(iter(known.values()), "nobody")
        raise SpurbenchError(
            f"Expected images of the table's patients (such as {shown!r}) in {place}, found {every} of others."
            " Give a CSV file with the columns patient and path: --images FILE"
        )
    return Images(tuple(sorted(items, key=lambda item: item[1])), how, every - len(items))


def _composed(name: str) -> str:
    """A name with its accents composed: some file systems take them apart."""
    return normalize("NFC", str(name))


def _in_list(place: Path) -> Items:
    """Patients and files of a list; rows that are blank throughout say nothing."""
    with reading(place, EXPECTED), place.open(encoding="utf-8-sig", newline="") as stream:
        try:
            rows = list(_rows(csv.DictReader(stream, restval=""), place))
        except csv.Error as error:
            raise SpurbenchError(f"Expected {EXPECTED}, found {place} unreadable ({error}). Write it again.") from error
    items: dict[Path, str] = {}
    for number, patient, text in rows:
        path = Path(os.path.normpath(place.parent / text.replace("\\", "/")))
        if patient or text:
            fault = _fault(patient, text, path, items)
            if fault:
                raise SpurbenchError(f"Expected {fault} in line {number} of {place}, found {text!r} of {patient!r}.")
            items[path] = patient
    return [(patient, path) for path, patient in items.items()]


def _rows(lines: csv.DictReader[str], place: Path) -> Iterator[tuple[int, str, str]]:
    """Number, patient and path of every line."""
    names = list(lines.fieldnames or ())
    column = next((name for name in ("path", "file") if name in names), "path")
    for name in ("patient", column):
        if name not in names:
            raise SpurbenchError(f"Expected a column {name!r} in {place}, found none. {nearest(name, names)}")
    for line in lines:
        yield lines.line_num, line["patient"].strip(), line[column].strip()


def _fault(patient: str, text: str, path: Path, seen: Container[Path]) -> str:
    """What a line of a list should hold and does not; nothing where it does."""
    if not (patient and text):
        return "a patient and a path"
    if path in seen:
        return "each path once"
    return "" if path.is_file() else "a file that is there"


def _in_folder(place: Path, known: Mapping[str, str]) -> tuple[Items, str, int]:
    """Patients and files by the rule that finds most, the rule, and how many files there are.

    Args:
        place: the folder.
        known: ids of the table by their composed form.
    """

    def folder(path: Path) -> str:
        parts = map(_composed, path.relative_to(place).parts[:-1])
        return next((part for part in parts if part in known), "")

    rules: Mapping[str, Callable[[Path], str]] = {
        "folders": folder,
        "names of files": lambda path: path.stem,
        "names of files, after the last hyphen": lambda path: path.stem.rpartition("-")[2],
        "names of files, before the first hyphen": lambda path: path.stem.partition("-")[0],
    }
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    files = [path for path in files if not any(part[0] == "." for part in path.relative_to(place).parts)]
    found: dict[str, Items] = {}
    for how, rule in rules.items():
        named = ((_composed(rule(path)), path) for path in files)
        found[how] = [(known[name], path) for name, path in named if name in known]
    how = max(found, key=lambda name: len(found[name]))
    return found[how], how, len(files)
