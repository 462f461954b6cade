"""Columns of a CSV, TSV or Parquet file, as texts."""

from __future__ import annotations

import csv
import gzip
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    """The wanted columns as texts without outer spaces.

    Args:
        path: of a CSV or TSV (perhaps gzipped) in UTF-8 with a header line, or of a Parquet file. A CSV has commas, or
            semicolons where its header has no comma.
        wanted: names of columns.

    Returns:
        One list per wanted column, of one length. Whole numbers of Parquet have no decimal point, nothing is ``""``.

    Raises:
        SpurbenchError: missing, damaged, no UTF-8, a column that is not there, or a line with too few or too many cells.
    """
    names = list(dict.fromkeys(wanted))
    if _is_parquet(path):
        return _read_parquet(path, names)
    with _lines(path) as lines:
        header = _header(lines)
        places = [place_of(name, header, path) for name in names]
        columns: list[list[str]] = [[] for _ in names]
        for cells in _complete(lines, len(header), path):
            for column, place in zip(columns, places, strict=True):
                column.append(cells[place].strip())
    return dict(zip(names, columns, strict=True))


def header_of(path: Path) -> list[str]:
    """Names of the columns.

    Raises:
        SpurbenchError: the file is missing or unreadable.
    """
    if _is_parquet(path):
        with reading(path, "a Parquet table"):
            return list(_parquet().read_schema(path).names)
    with _lines(path) as lines:
        return _header(lines)


def place_of(name: str, header: Sequence[str], path: Path, *, todo: str = "Say which column is meant.") -> int:
    """Where a column stands.

    Args:
        name: of the column.
        header: of the table.
        path: of the table, for messages.
        todo: what to do where it is not there.

    Raises:
        SpurbenchError: it is not there, or several times.
    """
    if header.count(name) != 1:
        found = f"it {header.count(name)} times" if name in header else ", ".join(header[:20]) or "an empty file"
        raise SpurbenchError(f"Expected a column {name!r} in {path}, found {found}. {todo}")
    return header.index(name)


def _header(lines: Iterator[list[str]]) -> list[str]:
    return [name.strip() for name in next(lines, [])]


def _complete(lines: Iterator[list[str]], width: int, path: Path) -> Iterator[list[str]]:
    """The lines below the header, each as wide as that; empty lines may stand at the end only."""
    empty = 0
    for number, cells in enumerate(lines, 2):
        if not cells:
            empty = empty or number
        elif empty or len(cells) != width:
            found, row = ("none", empty) if empty else (str(len(cells)), number)
            raise SpurbenchError(f"Expected {width} cells as in the header, found {found} (row {row} of {path}).")
        else:
            yield cells


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[list[str]]]:
    open_text: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    tabs = ".tsv" in [suffix.lower() for suffix in path.suffixes]
    with (
        reading(path, "a table"),
        _in_utf8(path),
        open_text(path, "rt", encoding="utf-8-sig", newline="") as opened,
    ):
        first = opened.readline()
        separator = "\t" if tabs else ";" if ";" in first and "," not in first else ","
        yield csv.reader(chain([first] if first else [], opened), delimiter=separator, strict=True)


@contextmanager
def _in_utf8(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise SpurbenchError(f"Expected a table in UTF-8, found {path} unreadable so ({error}). Save it so.") from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _parquet() -> Any:
    """The library's module, which has no types."""
    return importlib.import_module("pyarrow.parquet")


def _read_parquet(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    header = header_of(path)
    for name in wanted:
        place_of(name, header, path)
    with reading(path, "a Parquet table"):
        table = _parquet().read_table(path, columns=list(wanted))
        return {name: [_as_text(cell, name, path) for cell in table.column(name).to_pylist()] for name in wanted}


def _as_text(cell: Any, name: str, path: Path) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if not isinstance(cell, str | int | float):
        raise SpurbenchError(f"Expected texts or numbers in {name!r} of {path}, found {type(cell).__name__}.")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
