"""Sheets with three header rows: the section, the name and the coding of every column, then one row per patient or visit.

A coding is written by people, and in several ways: ``SIEMENS=2``, ``0 = pre``, ``{0=no 1=yes}``, over several lines,
after a remark, or not at all. It is read only where every ``=`` in it stands between a code and a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

HEADER_ROWS = 3
UNKNOWN = " (no known code)"
"""What follows the text of a cell that a coding does not know: ``1.5`` as a code is not the meaning ``1.5``."""

_CODE = re.compile(r"(?:(?<![^\s,;])|(?<=[({]))(-?\d+|[A-Z]{1,3})\s*=")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LAST = re.compile(r"[\s,;]*([^=]*?)\s*=\s*(-?\d+)\s*(?:[,;\n]|$)")


def words(cell: Any) -> str:
    r"""A cell as text with single spaces; None gives "", and a whole number has no decimal point.

    >>> words(" Slice  Thickness\n"), words(None), words(3.0), words(1.5)
    ('Slice Thickness', '', '3', '1.5')
    """
    if cell is None or cell is True or cell is False:
        return "" if cell is None else str(cell)
    return " ".join(re.sub(r"^(-?\d+)\.0$", r"\1", str(cell)).split())


def inside(text: str) -> str:
    """What a coding cell holds between its first braces with a ``=``, or all of it; what follows them is a remark.

    >>> inside("Bilateral? { 0=no 1=yes}, see 2=unsure"), inside("1=low 2=high"), inside("score {#}")
    (' 0=no 1=yes', '1=low 2=high', 'score {#}')
    """
    match = re.search(r"\{([^{}]*=[^{}]*)(?:\}|$)", text)
    return match[1] if match else text


def _closed(meaning: str) -> str:
    """Without the bracket that closes the coding, as of ``(0=no, 1=yes)``."""
    return meaning.removesuffix(")") if meaning.count(")") > meaning.count("(") else meaning


def _code_first(text: str) -> dict[str, str]:
    """Codes and meanings of ``0 = pre, 1 = post``; empty where the text does not read so."""
    marks = list(_CODE.finditer(text))
    if not marks or len(marks) != text.count("="):
        return {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    meanings = [_closed(words(text[mark.end() : end]).strip(" ,;")) for mark, end in zip(marks, ends, strict=True)]
    codes = [words(mark[1]) for mark in marks]
    return dict(zip(codes, meanings, strict=True)) if all(meanings) and len(set(codes)) == len(codes) else {}


def _code_last(text: str) -> dict[str, str]:
    """Codes and meanings of ``GE=0, SIEMENS=2``; empty where the text does not read so."""
    position, found = 0, []
    while match := _LAST.match(text, position):
        found.append((match[2], words(match[1])))
        position = match.end()
    codes = {code for code, _ in found}
    broken = text[position:].strip(" ,;\n") or not all(meaning for _, meaning in found) or len(codes) != len(found)
    return {} if broken else dict(found)


def _in_sequence(codes: Iterable[str]) -> bool:
    numbers = [int(code) for code in codes if re.fullmatch(r"-?\d+", code)]
    return len(numbers) == len(list(codes)) and max(numbers) - min(numbers) == len(numbers) - 1


def parse_coding(text: str, cells: Sequence[Any] = (), *, code_first: bool | None = None) -> dict[str, str]:
    r"""What the codes of a column mean.

    Where both sides of a coding could be the codes (``7=0, 8=1, 10=2``), they are the side that counts up without a
    gap, and else the side that more of the cells are on.

    Args:
        text: of the cell in the third header row.
        cells: of the column.
        code_first: whether the coding reads ``0 = pre`` (True) or ``SIEMENS=2`` (False); found out if None.

    Returns:
        Meanings by code; empty where the text is no coding.

    Raises:
        SpurbenchError: nothing tells which side the codes are.

    >>> parse_coding("{0 = luminal-like,\n1 = ER/PR pos, HER2 pos}")
    {'0': 'luminal-like', '1': 'ER/PR pos, HER2 pos'}
    >>> parse_coding("7=0,8=1,10=2"), parse_coding("days, negative = before diagnosis")
    ({'0': '7', '1': '8', '2': '10'}, {})
    """
    text = inside(text)
    first = _code_first(text) if code_first is not False else {}
    last = _code_last(text) if code_first is not True else {}
    if not first or not last:
        return first or last
    if _in_sequence(first) != _in_sequence(last):
        return first if _in_sequence(first) else last
    found = [words(cell) for cell in cells]
    on_first, on_last = (sum(cell in coding for cell in found) for coding in (first, last))
    if on_first == on_last:
        raise SpurbenchError(f"Expected a coding that tells codes from meanings, found {words(text)!r}.")
    return first if on_first > on_last else last


def decode(cell: Any, coding: dict[str, str]) -> str:
    """The meaning of a cell's code; where the coding has none, the cell's text and that remark.

    >>> decode(1, {"1": "post"}), decode(1.5, {"1": "post"}), decode(None, {"1": "post"})
    ('post', '1.5 (no known code)', 'blank (no known code)')
    """
    text = words(cell)
    return coding.get(text) or f"{text or 'blank'}{UNKNOWN}"


def is_three_header_form(cells: Sequence[Sequence[Any]], key: str) -> bool:
    """Whether rows 1 to 3 are sections, names and codings: ``key`` names a column in the second, and a code is given.

    Args:
        cells: the first rows of a sheet.
        key: name of a column that every sheet must have, the patient's.

    >>> is_three_header_form([["Who", "MRI"], ["ID", "Vendor"], ["", "GE=0"], ["p1", 0]], "ID")
    True
    >>> is_three_header_form([["ID", "Vendor"], ["p1", 0], ["p2", 1], ["p3", 1]], "ID")
    False
    """
    if len(cells) < HEADER_ROWS:
        return False
    sections, names, codings = ([words(cell) for cell in row] for row in cells[:HEADER_ROWS])
    return key in names and key not in sections and not codings[names.index(key)] and any("=" in c for c in codings)


@dataclass(frozen=True)
class Spreadsheet:
    """A table with three header rows (section, name, coding), then the data.

    Args:
        path: of the file.
        cells: all rows, header rows included; blank cells are None or "". A section stands above its first column.
    """

    path: Path
    cells: list[list[Any]] = field(repr=False)

    @classmethod
    def read(cls, path: Path, sheet: str | int = "Data") -> Self:
        """Read a sheet of an Excel file.

        Args:
            path: of the file.
            sheet: its name, or its position from 0.

        Raises:
            SpurbenchError: the file is unreadable, has no such sheet, or has no row below the headers.
        """
        cells = excel_cells(path, sheet)
        if len(cells) <= HEADER_ROWS:
            raise SpurbenchError(
                f"Expected {HEADER_ROWS} header rows and then patients in {path}, found {len(cells)} rows."
            )
        return cls(path, cells)

    @property
    def rows(self) -> list[list[Any]]:
        """The rows below the headers."""
        return self.cells[HEADER_ROWS:]

    @cached_property
    def sections(self) -> tuple[str, ...]:
        """Section of each column."""
        current, found = "", []
        for head in self.cells[0]:
            current = words(head) or current
            found.append(current)
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each column; where that is blank, the words before its coding, its section head, or its number."""
        found = []
        for position, (head, name, coding) in enumerate(zip(*self.cells[:HEADER_ROWS], strict=True), start=1):
            title = words(str(coding or "").partition("{")[0])
            found.append(words(name) or title or words(head) or f"column {position}")
        return tuple(found)

    def position(self, section: str, column: str) -> int:
        """Position of a column that is named in a section.

        Raises:
            SpurbenchError: there is no such column, or more than one.
        """
        found = [i for i, pair in enumerate(zip(self.sections, self.names, strict=True)) if pair == (section, column)]
        if len(found) != 1:
            raise SpurbenchError(
                f"Expected one column {column!r} in section {section!r} of {self.path}, found {len(found)}."
            )
        return found[0]

    def coding(self, position: int, *, code_first: bool | None = None) -> dict[str, str]:
        """Meanings by code of a column; empty where its third header row is blank or a remark.

        ``day 0 = diagnosis`` above a column of days reads like a coding; what most of the numbers below it do not
        follow is a remark, unless ``code_first`` says that the column is coded.

        Raises:
            SpurbenchError: nothing tells which side the codes are.
        """
        cells = [row[position] for row in self.rows]
        try:
            coding = parse_coding(str(self.cells[2][position] or ""), cells, code_first=code_first)
        except SpurbenchError as error:
            raise SpurbenchError(f"{error} Column {self.names[position]!r} of {self.path}.") from None
        found = [words(cell) for cell in cells]
        known = sum(cell in coding for cell in found)
        strange = sum(cell not in coding and bool(_NUMBER.fullmatch(cell)) for cell in found)
        return coding if known > strange or code_first is not None else {}


def excel_cells(path: Path, sheet: str | int = 0) -> list[list[Any]]:
    """All cells of a sheet, row by row; blank cells are "".

    Args:
        path: of the file.
        sheet: its name, or its position from 0.

    Raises:
        SpurbenchError: the file is unreadable or has no such sheet.
    """
    import pandas as pd

    with reading(path, "a spreadsheet" + (f" with a sheet {sheet!r}" if isinstance(sheet, str) else "")):
        frame = pd.read_excel(
            path, sheet_name=sheet, header=None, dtype=object, keep_default_na=False, engine="openpyxl"
        )
    cells: list[list[Any]] = frame.to_numpy().tolist()
    return cells
