"""Tables of patient, device and protocol features: one row per patient, every column known by one name.

:mod:`robustbench_spur.curation.rawtable` reads the file. Here its cells are understood: codes are replaced by their meanings,
numbers are numbers, and what stands for "not known" is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.rawtable import nearest_names, read_raw
from robustbench_spur.spreadsheet import UNKNOWN, decode, words
from robustbench_spur.types import SpurbenchError

MISSING = ("", "NA", "N/A", "NC", "NP", "nan", "None", "<NA>", "NaT")
"""What stands for a value that is not known (NC not collected, NP not pertinent), in any case of letters."""

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Column:
    """One feature of every patient.

    Args:
        name: unique in its table.
        values: text, number or None (missing), one per patient, shape (n,), dtype object; numbers only, or texts only.
        kind: what the values are.
        section: from the first of three header rows, or "".
        note: what was decided in reading it, or "".
    """

    name: str
    values: NDArray[Any] = field(repr=False)
    kind: Kind
    section: str = ""
    note: str = ""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which patients have no value, shape (n,)."""
        return np.fromiter((value is None for value in self.values), np.bool_, len(self.values))

    @property
    def texts(self) -> NDArray[Any]:
        """The values as text (``3.0`` is ``"3"``), None where missing, shape (n,), dtype object."""
        return np.array([None if value is None else words(value) for value in self.values.tolist()], dtype=object)


@dataclass(frozen=True)
class FeatureTable:
    """Features by patient.

    Args:
        path: of the file.
        patients: ids in the order in which they first occur, shape (n,), dtype object (str).
        columns: all columns but the patient's.
        rows: of the file, at least as many as patients.
        varying: names of the columns whose values differ between rows of one patient.
        notes: facts about the reading that a report must repeat.
    """

    path: Path
    patients: NDArray[Any] = field(repr=False)
    columns: tuple[Column, ...]
    rows: int
    varying: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.patients)

    def find(self, name: str) -> Column:
        """The column of that name; capitals and spaces need not agree, and a section may be left out where it can.

        Raises:
            SpurbenchError: there is none, or several; with the nearest names.
        """
        written = [column for column in self.columns if column.name == words(name)]
        if written:
            return written[0]
        wanted = words(name).casefold()
        exact = [column for column in self.columns if column.name.casefold() == wanted]
        if len(exact) == 1:
            return exact[0]
        alike = [c for c in self.columns if c.name.casefold().rpartition(" / ")[2] == wanted]
        if len(alike) == 1:
            return alike[0]
        if alike:
            names = " or ".join(repr(column.name) for column in alike)
            raise SpurbenchError(f"Expected one column {name!r} in {self.path}, found {len(alike)}. Say {names}.")
        hint = nearest_names(name, [column.name for column in self.columns])
        raise SpurbenchError(f"Expected a column {name!r} in {self.path}, found none. {hint}")


def read_table(
    path: Path | str, *, patient: str, sheet: str | int | None = None, missing: Sequence[str] = MISSING
) -> FeatureTable:
    """Read a table of features, one row per patient.

    Rows of one patient are merged: a column takes the mean of its numbers or the first of its texts, in row order.

    Args:
        path: a file that ends in csv, tsv, txt (tabs), parquet, xlsx or xlsm.
        patient: name of the column of patient ids.
        sheet: of an Excel file, by name or position from 0; the first if None.
        missing: texts that stand for a missing value, before and after decoding, in any case of letters.

    Raises:
        SpurbenchError: the file is unreadable or empty, or its patient column is absent, double or has a blank.
    """
    path = Path(path)
    raw = read_raw(path, patient, sheet)
    position = raw.position(patient)
    ids, kept = raw.patients(position)
    if not len(ids):
        raise SpurbenchError(f"Expected patients in {path}, found a header and no rows.")
    patients, groups = _factorized(ids)
    tokens = {token.casefold() for token in missing}
    columns, varying = [], []
    titles = raw.titles()
    for place, cells in enumerate(raw.cells):
        if place == position:
            continue
        column = _column(titles[place], raw.sections[place], cells[kept], raw.codings[place], raw.notes[place], tokens)
        if len(patients) < len(ids):
            column, differs = _merged(column, groups, len(patients))
            varying += [column.name] if differs else []
        columns.append(column)
    notes = [f"{column.name}: {column.note}." for column in columns if column.note]
    if len(patients) < len(ids):
        what = "a column takes the mean of a patient's numbers or the first of the texts"
        notes.insert(0, f"{len(ids)} rows of {len(patients)} patients: {what} ({len(varying)} columns vary).")
    return FeatureTable(path, patients, tuple(columns), len(ids), tuple(varying), tuple(notes))


# cells


def _factorized(cells: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Different cells in order of occurrence, and the code of each; NaN and None have the code -1."""
    import pandas as pd

    codes, uniques = pd.factorize(cells)
    return np.asarray(uniques, dtype=object), np.asarray(codes, dtype=np.int64)


def _number(value: Any) -> float | None:
    """A finite number, or None. Python would also read ``1_000`` and ``infinity``."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and "_" not in str(value) else None


def _numbers(uniques: NDArray[Any], tokens: set[str]) -> NDArray[Any] | None:
    """The cells as numbers, with None for the missing and at the end; None if one is neither: the quick way."""
    import pandas as pd

    if any(isinstance(cell, bool | np.bool_) for cell in uniques.tolist()):
        return None
    found = pd.to_numeric(pd.Series(uniques, dtype=object), errors="coerce").to_numpy(np.float64)
    missing = np.isin(found, [number for number in map(_number, tokens) if number is not None])
    table = np.empty(len(found) + 1, dtype=object)
    kept = np.isfinite(found) & ~missing
    table[:-1][kept] = found[kept].tolist()
    others = (words(cell).casefold() for cell in uniques[~kept & ~missing].tolist())
    return table if all(text in tokens for text in others) else None


def _column(
    name: str, section: str, cells: NDArray[Any], coding: Mapping[str, str], note: str, tokens: set[str]
) -> Column:
    """Understand the cells of one column; each different cell once."""
    uniques, codes = _factorized(cells)
    fast = None if coding else _numbers(uniques, tokens)
    if fast is not None:
        return Column(name, fast[codes], "numeric", section, note)
    meanings: list[Any] = []
    for cell in uniques.tolist():
        missing = words(cell).casefold() in tokens
        text = decode(cell, dict(coding)) if coding and not missing else words(cell)
        meanings.append(None if missing or text.casefold() in tokens else text)
    numbers = [_number(text) for text in meanings]
    numeric = all((number is None) == (text is None) for number, text in zip(numbers, meanings, strict=True))
    if not coding and not numeric and any(number is not None for number in numbers):
        note = note or "holds numbers and texts, and is taken as categories"
    unknown = [code for code, text in enumerate(meanings) if coding and text is not None and text.endswith(UNKNOWN)]
    if unknown:
        note = f"cells that hold no code of its coding and keep their text: {int(np.isin(codes, unknown).sum())}"
    table = np.empty(len(meanings) + 1, dtype=object)  # the last place is that of the code -1
    table[:-1] = numbers if numeric else meanings
    return Column(name, table[codes], "numeric" if numeric else "categorical", section, note)


def _merged(column: Column, groups: NDArray[np.int64], patients: int) -> tuple[Column, bool]:
    """One value per patient, and whether a patient had several.

    Args:
        column: by row.
        groups: patient of each row, shape (rows,).
        patients: how many there are.
    """
    rows = np.flatnonzero(~column.missing)
    owners, codes = groups[rows], _factorized(column.values[rows])[1]
    owner, first = np.unique(owners, return_index=True)
    lead = np.full(patients, -1)
    lead[owner] = codes[first]
    values = np.full(patients, None, dtype=object)
    if column.kind == "numeric":
        sums = np.bincount(owners, column.values[rows].astype(np.float64), minlength=patients)
        counts = np.bincount(owners, minlength=patients)
        values[owner] = (sums[owner] / counts[owner]).tolist()
    else:
        values[owner] = column.values[rows][first]
    differs = bool((codes != lead[owners]).any())
    return Column(column.name, values, column.kind, column.section, column.note), differs
