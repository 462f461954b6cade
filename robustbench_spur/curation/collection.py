"""What a split is drawn from: a list of images, and the attribute of each patient that is tied to the label."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.reading import reading
from robustbench_spur.spreadsheet import words
from robustbench_spur.types import SpurbenchError, nearest

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Slices:
    """The images of a collection.

    Args:
        files: places below the folder of images, shape (n,), unique.
        patients: whom each is of, shape (n,).
        labels: 0 or 1, shape (n,).
        positions: in the volume, 0 to 1, shape (n,); NaN where unknown.
    """

    files: NDArray[np.str_]
    patients: NDArray[np.str_]
    labels: Rows
    positions: NDArray[np.float64]

    @cached_property
    def of(self) -> Mapping[tuple[str, int], Rows]:
        """The images of each patient and label, in the order of position, then file."""
        order = np.lexsort((self.files, self.positions, self.labels, self.patients))
        found: dict[tuple[str, int], list[int]] = {}
        for row in order.tolist():
            found.setdefault((str(self.patients[row]), int(self.labels[row])), []).append(row)
        return {key: np.array(rows, np.int64) for key, rows in found.items()}

    def has(self, patient: str, label: int, count: int) -> bool:
        """Whether a patient has at least ``count`` slices of a label."""
        return len(self.of.get((patient, label), ())) >= count


def read_slices(path: Path, root: Path, classes: tuple[str, str], columns: Mapping[str, str]) -> Slices:
    """Read a list of images, one per row.

    Args:
        path: of a CSV file in UTF-8.
        root: folder of the images; a file is written from there, or in full below it.
        classes: names, by label code; a label is written as code or name.
        columns: the list's names of ``path``, ``patient``, ``label`` and ``position``; the last may be absent.

    Raises:
        SpurbenchError: the list is unreadable or empty, lacks a column, or has a row that does not say what it should.
    """
    with reading(path, "a list of images as CSV in UTF-8"), path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.DictReader(stream, restval="")
        names = _columns_of(path, lines.fieldnames or (), columns)
        rows = [tuple((line[name] or "").strip() if name else "" for name in names) for line in lines]
    if not rows:
        raise SpurbenchError(f"Expected images in {path}, found none.")
    codes = {name: code for code, name in enumerate(classes)}
    codes = {"0": 0, "1": 1, "0.0": 0, "1.0": 1} | codes
    files, positions, seen = [], [], set[str]()
    for line, (file, patient, label, position) in enumerate(rows, start=2):
        files.append(_below(file, root, path, line))
        if label not in codes:
            raise SpurbenchError(
                f"Expected {' or '.join(map(repr, codes))} as label, found {label!r} (row {line} of {path})."
            )
        if not patient or files[-1] in seen:
            raise SpurbenchError(
                f"Expected a patient and a new file, found {patient!r}, {file!r} (row {line} of {path})."
            )
        seen.add(files[-1])
        positions.append(_place(position, path, line))
    _, patients, labels, _ = zip(*rows, strict=True)
    codings = np.array([codes[label] for label in labels], np.int64)
    return Slices(np.array(files, np.str_), np.array(patients, np.str_), codings, np.array(positions, np.float64))


def _columns_of(path: Path, known: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    found = []
    for role in ("path", "patient", "label", "position"):
        name = columns[role]
        if name not in known and role in known:
            name = role  # the list need not call it what the table does
        if name not in known and role == "position" == name:
            name = ""
        elif name not in known:
            raise SpurbenchError(
                f"Expected a column {name!r} in {path}, found none. {nearest(name, list(known))} Say --{role}."
            )
        found.append(name)
    return found


def _below(file: str, root: Path, path: Path, line: int) -> str:
    """A file as it is written from the folder of images, with ``/``."""
    place = PurePosixPath(file.replace("\\", "/"))
    if place.is_absolute():
        with contextlib.suppress(ValueError):
            place = PurePosixPath(Path(file).relative_to(root.absolute()).as_posix())
    if place.is_absolute() or ".." in place.parts or not place.name or ":" in place.parts[0]:
        raise SpurbenchError(
            f"Expected a file below {root}, found {file!r} (row {line} of {path}). Give --images FOLDER."
        )
    return str(place)


def _place(text: str, path: Path, line: int) -> float:
    try:
        position = float(text or "nan")
    except ValueError:
        position = -1.0
    if position < 0 or position > 1:
        raise SpurbenchError(f"Expected a position from 0 to 1, found {text!r} (row {line} of {path}).")
    return position


@dataclass(frozen=True)
class Tied:
    """The attribute that is tied to the label.

    Args:
        attribute: its name.
        values: names of its two values; the first is tied to class 0.
        codes: 0 or 1 of each patient that has one of the two.
        left_out: patients that have neither, by the reason.
        how: in which way the values were chosen.
    """

    attribute: str
    values: tuple[str, str]
    codes: Mapping[str, int]
    left_out: Mapping[str, int]
    how: str


def tie(table: FeatureTable, name: str, values: Sequence[str] | None = None, threshold: float | None = None) -> Tied:
    """Two values of an attribute, and who has which.

    Args:
        table: attributes by patient.
        name: of the column.
        values: the two, the one tied to class 0 first; the two most frequent if None.
        threshold: cuts a column of numbers in two; numbers below it are tied to class 0.

    Raises:
        SpurbenchError: no such column; it varies within patients; both or a wrong choice of values and threshold.
    """
    column = table.find(name)
    if column.name in table.varying:
        raise SpurbenchError(
            f"Expected one {column.name!r} per patient in {table.path}, found patients with several. Choose another column."
        )
    if values and threshold is not None:
        raise SpurbenchError("Expected --values or --threshold, found both. Leave one out.")
    texts = column.texts.tolist() if threshold is None else _cut(column, threshold)
    counts = Counter(text for text in texts if text is not None)
    if threshold is None:
        (first, second), how = _two_of(counts, values, column)
    else:
        first, second, how = f"<{threshold:g}", f">={threshold:g}", "The threshold was given."
    codes = {
        str(patient): int(text == second)
        for patient, text in zip(table.patients, texts, strict=True)
        if text in (first, second)
    }
    other = sum(counts.values()) - len(codes)
    reasons = {f"no value of {column.name}": texts.count(None), f"another value of {column.name}": other}
    return Tied(column.name, (first, second), codes, {why: n for why, n in reasons.items() if n}, how)


def _cut(column: Column, threshold: float) -> list[str | None]:
    if column.kind != "numeric":
        raise SpurbenchError(f"Expected numbers in {column.name!r} to cut at {threshold:g}, found texts. Use --values.")
    return [
        None if value is None else f"{'<' if value < threshold else '>='}{threshold:g}"
        for value in column.values.tolist()
    ]


def _two_of(counts: Mapping[str, int], values: Sequence[str] | None, column: Column) -> tuple[tuple[str, str], str]:
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    known = ", ".join(f"{text} ({counts[text]})" for text in ranked[:8]) or "none"
    if values:
        first, second = (value if value in counts else _as_written(value) for value in map(words, values))
        if first == second or not {first, second} <= counts.keys():
            raise SpurbenchError(
                f"Expected two values of {column.name!r} ({known}), found {values[0]!r} and {values[1]!r}."
            )
        return (first, second), "The values were given."
    if len(ranked) < 2:
        raise SpurbenchError(f"Expected at least two values of {column.name!r}, found {known}. Choose another column.")
    if column.kind == "numeric" and 2 * (counts[ranked[0]] + counts[ranked[1]]) < sum(counts.values()):
        raise SpurbenchError(
            f"Expected two frequent values of {column.name!r}, found numbers ({known}, ...). Give --threshold T."
        )
    return (ranked[0], ranked[1]), f"They are the most frequent two: {known}."


def _as_written(value: str) -> str:
    """A value as the table's texts have it.

    >>> _as_written("3.0"), _as_written("SIEMENS")
    ('3', 'SIEMENS')
    """
    try:
        return words(float(value))
    except ValueError:
        return words(value)
