"""Annotation boxes: where a volume's lesion lies, and what that says about each of its slices.

A box is counted as Duke's ``Annotation_Boxes`` are: from 1, both ends included, in pixels of the native matrix as it is
stored, and in slices of the order in which the file names number them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.spreadsheet import excel_cells, words
from robustbench_spur.types import SpurbenchError, nearest

COLUMNS = ("Patient ID", "Start Row", "End Row", "Start Column", "End Column", "Start Slice", "End Slice")
EXCEL = (".xlsx", ".xlsm")
POSITIVE, NEGATIVE, BUFFER = 1, 0, -1
"""What a slice is: it shows the lesion, it lies well clear of it, or it is too close to say."""


@dataclass(frozen=True)
class Box:
    """A lesion's extent; from 1, both ends included.

    Args:
        start_row: from the top of the stored matrix.
        end_row: at least ``start_row``.
        start_column: from the left of the stored matrix.
        end_column: at least ``start_column``.
        start_slice: in the order of the file names.
        end_slice: at least ``start_slice``.
    """

    start_row: int
    end_row: int
    start_column: int
    end_column: int
    start_slice: int
    end_slice: int

    def check_within(self, rows: int, columns: int, count: int, where: str) -> None:
        """Refuse a volume that the box does not fit in: it is another one than was annotated.

        Raises:
            SpurbenchError: an end lies outside.
        """
        for what, end, most in (
            ("row", self.end_row, rows),
            ("column", self.end_column, columns),
            ("slice", self.end_slice, count),
        ):
            if end > most:
                raise SpurbenchError(
                    f"Expected a box within {most} {what}s, found one that ends at {what} {end} ({where})."
                    " Choose the series that was annotated."
                )


def read_boxes(path: Path) -> dict[str, Box]:
    """Read a table of boxes, one per patient; a row may be repeated.

    Args:
        path: of a CSV file, or of an Excel file's first sheet, with the columns :data:`COLUMNS` in any order.

    Returns:
        By patient id, as it is written.

    Raises:
        SpurbenchError: the file is unreadable or empty, lacks a column, has a row that is no box, or has two boxes of one
            patient.
    """
    cells = excel_cells(path) if path.suffix.lower() in EXCEL else _csv_cells(path)
    names = [words(cell) for cell in cells[0]] if cells else []
    for name in COLUMNS:
        if name not in names:
            raise SpurbenchError(f"Expected a column {name!r} in {path}, found none. {nearest(name, names)}")
    places = [names.index(name) for name in COLUMNS]
    boxes: dict[str, Box] = {}
    for line, row in enumerate(cells[1:], start=2):
        texts = [words(row[place]) if place < len(row) else "" for place in places]
        if not any(texts):
            continue
        box = _box(texts, f"row {line} of {path}")
        if boxes.setdefault(texts[0], box) != box:
            raise SpurbenchError(f"Expected one box of {texts[0]!r}, found another in row {line} of {path}. Keep one.")
    if not boxes:
        raise SpurbenchError(f"Expected boxes in {path}, found none.")
    return boxes


def _csv_cells(path: Path) -> Sequence[Sequence[Any]]:
    with reading(path, "annotation boxes as CSV in UTF-8 or as xlsx"):
        if path.is_dir():
            raise ValueError("it is a folder")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))


def _box(texts: Sequence[str], where: str) -> Box:
    if not texts[0]:
        raise SpurbenchError(f"Expected a patient id, found none ({where}).")
    for name, text in zip(COLUMNS[1:], texts[1:], strict=True):
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            raise SpurbenchError(f"Expected a whole number of at least 1 as {name}, found {text!r} ({where}).")
    numbers = [int(text) for text in texts[1:]]
    for what, start, end in zip(("Row", "Column", "Slice"), numbers[::2], numbers[1::2], strict=True):
        if start > end:
            raise SpurbenchError(f"Expected Start {what} up to End {what}, found {start} and {end} ({where}).")
    return Box(*numbers)


def label_slices(count: int, box: Box, buffer: int = 5, *, half_open: bool = True) -> NDArray[np.int64]:
    """Label of every slice, by the rule of Duke's owners (mazurowski-lab, MRI-parameter-prediction).

    Slice s is positive where start <= s < end, negative where s + buffer <= start or s - buffer > end, and else in the
    buffer, as is the box's last slice. The rule is not symmetric: apply it in the order that the box is counted in, and
    turn the labels, not the box.

    Args:
        count: slices of the volume.
        box: of its lesion.
        buffer: slices on either side that are neither, at least 0.
        half_open: whether the box's last slice is left out; if False, it is positive.

    Returns:
        :data:`POSITIVE`, :data:`NEGATIVE` or :data:`BUFFER` of slices 1 to ``count``, shape (count,).

    >>> label_slices(12, Box(1, 9, 1, 9, 5, 7), buffer=3).tolist()
    [0, 0, -1, -1, 1, 1, -1, -1, -1, -1, 0, 0]
    >>> label_slices(12, Box(1, 9, 1, 9, 5, 7), buffer=3, half_open=False).tolist()
    [0, 0, -1, -1, 1, 1, 1, -1, -1, -1, 0, 0]
    """
    if buffer < 0:
        raise SpurbenchError(f"Expected a buffer of at least 0 slices, found {buffer}.")
    numbers = np.arange(1, count + 1)
    labels = np.full(count, BUFFER, np.int64)
    labels[(numbers + buffer <= box.start_slice) | (numbers - buffer > box.end_slice)] = NEGATIVE
    inside = (box.start_slice <= numbers) & (numbers <= box.end_slice)
    labels[inside] = np.where(numbers[inside] <= box.end_slice - half_open, POSITIVE, BUFFER)
    return labels


def turn_box(box: Box, rows: int, columns: int) -> Box:
    """The box in a picture that was turned by 180 degrees; turning twice gives it back.

    Args:
        box: in the picture as it was.
        rows: of the picture.
        columns: of the picture.

    >>> turn_box(Box(1, 3, 2, 5, 7, 8), rows=10, columns=20)
    Box(start_row=8, end_row=10, start_column=16, end_column=19, start_slice=7, end_slice=8)
    """
    return replace(
        box,
        start_row=rows - box.end_row + 1,
        end_row=rows - box.start_row + 1,
        start_column=columns - box.end_column + 1,
        end_column=columns - box.start_column + 1,
    )


def flip_slices(box: Box, count: int) -> Box:
    """The box in a volume whose slices are counted from the other end; flipping twice gives it back.

    Args:
        box: as it was counted.
        count: slices of the volume.

    >>> flip_slices(Box(1, 3, 2, 5, 7, 8), count=10)
    Box(start_row=1, end_row=3, start_column=2, end_column=5, start_slice=3, end_slice=4)
    """
    return replace(box, start_slice=count - box.end_slice + 1, end_slice=count - box.start_slice + 1)


def as_row(box: Box) -> Mapping[str, int]:
    """The box by the names of its columns.

    >>> as_row(Box(1, 3, 2, 5, 7, 8))["End Column"]
    5
    """
    return dict(zip(COLUMNS[1:], astuple(box), strict=True))
