"""Reads a file of columns, in any of its formats, before anything is made of its cells.

A table is CSV, TSV, Parquet or an Excel sheet, with one header row or with three (section, name, coding; see
:mod:`robustbench_spur.spreadsheet`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.spreadsheet import HEADER_ROWS, Spreadsheet, excel_cells, is_three_header_form, words
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RawTable:
    """The columns of a file, each with one entry in every list.

    Args:
        path: of the file.
        names: as the file has them, with single spaces; several may be equal.
        sections: from the first of three header rows, or "".
        cells: as they were read, each of shape (rows,), dtype object.
        codings: meanings by code, from the third header row; empty where there is none.
        notes: why a coding was left out, or "".
        first: line of the first row of data, from 1.
    """

    path: Path
    names: list[str]
    sections: list[str]
    cells: list[NDArray[Any]]
    codings: list[dict[str, str]]
    notes: list[str]
    first: int

    def titles(self) -> list[str]:
        """One name for every column, no two equal."""
        return _unique(self.names, self.sections)

    def position(self, patient: str) -> int:
        """Place of the column of patients.

        Raises:
            SpurbenchError: there is none, or several, or the file is empty.
        """
        if not self.names:
            raise SpurbenchError(f"Expected a header row and patients in {self.path}, found an empty file.")
        found = [place for place, name in enumerate(self.names) if name == words(patient)]
        if len(found) != 1:
            hint = nearest_names(patient, self.names) if not found else "Rename all but one."
            raise SpurbenchError(f"Expected one patient column {patient!r} in {self.path}, found {len(found)}. {hint}")
        return found[0]

    def patients(self, position: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The patient of every row that is not blank throughout, shape (rows kept,), and which rows those are.

        Args:
            position: of the column of patients.

        Raises:
            SpurbenchError: a row has values and no patient.
        """
        ids = np.array([words(cell) for cell in self.cells[position].tolist()], dtype=object)
        kept = np.ones(len(ids), np.bool_)
        for row in np.flatnonzero(ids == ""):
            if any(words(cells[row]) for cells in self.cells):
                raise SpurbenchError(
                    f"Expected a patient id in every row of {self.path}, found none in row {self.first + row}."
                    " Fill it in or remove the row."
                )
            kept[row] = False
        return ids[kept], kept


def read_raw(path: Path, patient: str, sheet: str | int | None) -> RawTable:
    """Read the columns of a file.

    Args:
        path: a file that ends in csv, tsv, txt (tabs), parquet, xlsx or xlsm.
        patient: name of the column of patient ids, by which three header rows are known.
        sheet: of an Excel file, by name or position from 0; the first if None.

    Raises:
        SpurbenchError: the file is unreadable or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".xlsm"):
        return _from_rows(path, excel_cells(path, 0 if sheet is None else sheet), patient)
    if sheet is not None:
        raise SpurbenchError(f"Expected an Excel file for sheet {sheet!r}, found {path}. Leave the sheet out.")
    if suffix in (".csv", ".tsv", ".txt"):
        return _from_text(path, "," if suffix == ".csv" else "\t", patient)
    if suffix == ".parquet":
        return _from_parquet(path)
    raise SpurbenchError(f"Expected a csv, tsv, txt, parquet, xlsx or xlsm file, found {path}. Convert it.")


def nearest_names(name: str, names: Sequence[str]) -> str:
    """The names nearest to one that is not there, or the first few, as the tail of an error message.

    >>> nearest_names("Menopaus", ["Age", "Menopause"]), nearest_names("qq", ["Age", "Menopause"])
    ("Did you mean 'Menopause'?", "It has 2 columns: 'Age', 'Menopause'.")
    """
    folded = {known.casefold(): known for known in names}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    close += [known for known in names if name.casefold() in known.casefold() and known not in close][:3]
    if close:
        return f"Did you mean {' or '.join(repr(match) for match in close)}?"
    shown = ", ".join(repr(known) for known in names[:5])
    return f"It has {len(names)} columns: {shown}{', ...' if len(names) > 5 else ''}."


# formats


def _from_rows(path: Path, rows: list[list[Any]], patient: str) -> RawTable:
    if is_three_header_form(rows[:HEADER_ROWS], words(patient)):
        return _from_three(Spreadsheet(path, rows))
    table = np.empty((len(rows), len(rows[0]) if rows else 0), dtype=object)
    for number, row in enumerate(rows):
        table[number] = row
    return _plain(path, [words(name) for name in table[0]] if rows else [], list(table[1:].T), first=2)


def _from_text(path: Path, separator: str, patient: str) -> RawTable:
    import pandas as pd

    with reading(path, "a table of text"):
        try:
            frame = pd.read_csv(
                path, sep=separator, header=None, dtype=object, keep_default_na=False, encoding="utf-8-sig"
            )
        except pd.errors.EmptyDataError:
            return _plain(path, [], [], first=2)
    head = frame.head(HEADER_ROWS).to_numpy().tolist()
    if is_three_header_form(head, words(patient)):
        return _from_three(Spreadsheet(path, frame.to_numpy().tolist()))
    return _plain(path, [words(name) for name in head[0]], _columns(frame.iloc[1:]), first=2)


def _from_parquet(path: Path) -> RawTable:
    import pandas as pd

    with reading(path, "a Parquet table"):
        frame = pd.read_parquet(path)
    return _plain(path, [words(name) for name in frame.columns], _columns(frame), first=1)


def _columns(frame: pd.DataFrame) -> list[NDArray[Any]]:
    return [np.asarray(frame.iloc[:, place].astype(object), dtype=object) for place in range(frame.shape[1])]


def _plain(path: Path, names: list[str], cells: list[NDArray[Any]], *, first: int) -> RawTable:
    names = [name or f"column {place}" for place, name in enumerate(names, start=1)]
    blank = [""] * len(names)
    return RawTable(path, names, blank, cells, [{} for _ in names], list(blank), first)


def _from_three(sheet: Spreadsheet) -> RawTable:
    codings: list[dict[str, str]] = []
    notes: list[str] = []
    for place in range(len(sheet.names)):
        try:
            codings.append(sheet.coding(place))
            notes.append("")
        except SpurbenchError:
            codings.append({})
            notes.append("nothing tells the codes of its coding from the meanings, so its cells are taken as they are")
    cells = [np.array([row[place] for row in sheet.rows], dtype=object) for place in range(len(sheet.names))]
    return RawTable(sheet.path, list(sheet.names), list(sheet.sections), cells, codings, notes, HEADER_ROWS + 1)


# names


def _unique(names: Sequence[str], sections: Sequence[str]) -> list[str]:
    """One name for every column.

    >>> _unique(["Age", "Shape", "Shape", "Age", "Age"], ["", "Mammo", "US", "", ""])
    ['Age', 'Mammo / Shape', 'US / Shape', 'Age (2)', 'Age (3)']
    """
    repeated = Counter(names)
    pairs = zip(names, sections, strict=True)
    wanted = [f"{section} / {name}" if repeated[name] > 1 and section else name for name, section in pairs]
    taken, out = set(wanted), list[str]()
    for name, first in zip(wanted, _is_first(wanted), strict=True):
        number, unique = 1, name
        while not first and unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        out.append(unique)
    return out


def _is_first(names: Sequence[str]) -> Iterator[bool]:
    seen: set[str] = set()
    for name in names:
        yield name not in seen
        seen.add(name)
