"""The board as CSV: a line for every row, plain numbers, for a data frame or a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustbench_spur.arranging import Shown, columns_of, standing_text
from robustbench_spur.board import Board, Row
from robustbench_spur.cellwords import as_estimate, plain, why_missing
from robustbench_spur.types import Estimate

FORMULA = tuple(
    "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
"""What a cell begins with that a spreadsheet may carry out."""
DECIMALS = 6
Cells = dict[str, str]


def csv_text(board: Board, columns: Sequence[Shown] = ()) -> str:
    """The board by RFC 4180, with a header, whatever the number of rows.

    Split, network and the hash of the configuration come first, so that each line tells what it is about. A metric ``m``
    has the columns ``m``, ``m_low``, ``m_high``, as fractions; so has each member of a family, as ``family:member``. The
    last column, ``missing``, says why numbers of the line are not there.

    Args:
        board: best rows first.
        columns: to write; every one where empty.
    """
    shown = list(columns) or columns_of(board.manifest, ["all"])
    members = {one.name: _members(board.rows, one) for one in shown}
    lines = [_line(row, shown, members) for row in board.rows]
    header = list(lines[0]) if lines else list(_names(shown, members))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, header, restval="", lineterminator="\r\n")
    writer.writerow({name: text_cell(name) for name in header})
    writer.writerows(lines)
    return out.getvalue()


def text_cell(text: str) -> str:
    """A text on one line that no spreadsheet takes for a formula: one that could be begins with an apostrophe.

    The apostrophe is how spreadsheets themselves mark a text. It is put before texts alone, never before a number, so that
    differences below zero stay numbers; leaving the sign out, or a space before it, would be a change that nobody sees.

    >>> text_cell("=1+1"), text_cell("tumour@1.5T")
    ("'=1+1", 'tumour@1.5T')
    """
    text = plain(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def number_cell(number: Any) -> str:
    """A number without exponent, with up to six decimals; nothing where it is undefined.

    >>> number_cell(0.5), number_cell(-1e-9), number_cell(None)
    ('0.5', '0', '')
    """
    if number is None or not math.isfinite(number):
        return ""
    text = f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _line(row: Row, columns: Iterable[Shown], members: Mapping[str, Sequence[str]]) -> Cells:
    record = row.first
    texts = {"split": row.split, "backbone": record.network.backbone}
    line = {name: text_cell(text) for name, text in texts.items()}
    line |= {"image_size": str(record.network.image_size), "config_hash": text_cell(record.config_hash)}
    missing = []
    for one in columns:
        line |= _fixed(row, one) if one.column is None else _own(row, one, members[one.name])
        if row.seeds and one.column is not None:
            missing.append(why_missing(row.values.get(one.name), one.name, numeric=one.numeric))
        elif row.seeds and one.name == "difference":
            missing.append(why_missing(row.difference, one.name, numeric=True))
    reason = "" if row.seeds else f"{row.status.replace('_', ' ')}: {row.reason}"
    return {**line, "missing": text_cell(reason or "; ".join(filter(None, missing)))}


def _names(columns: Iterable[Shown], members: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """The header of a board without rows."""
    yield from ("split", "backbone", "image_size", "config_hash")
    for one in columns:
        if one.column is None:
            yield from FIXED_NAMES.get(one.name, (one.name,))
        else:
            yield from _estimate(one.name, None) if one.numeric else () if one.column.family else (one.name,)
    yield "missing"


FIXED_NAMES = {
    "rank": ("rank", "rank_high"),
    "method": ("method", "settings"),
    "remark": ("status", "reason"),
    "difference": tuple(f"difference_from_baseline{end}" for end in ("", "_low", "_high")),
}
"""Columns of those that every board has, where one becomes several; as ``--json`` names them."""


def _fixed(row: Row, shown: Shown) -> Cells:
    record, names = row.first, FIXED_NAMES.get(shown.name, (shown.name,))
    if shown.name == "rank":
        return dict(zip(names, map(number_cell, (row.rank, row.rank_high)), strict=True))
    if shown.name == "difference":
        return _estimate(names[0], row.difference)
    settings = json.dumps(record.method.given, sort_keys=True, ensure_ascii=False) if record.method.given else ""
    ways = {
        "track": (record.track,),
        "method": (record.method.name, settings),
        "seeds": (" ".join(map(str, row.seeds)),),
        "remark": (row.status, row.reason),
    }
    texts = ways.get(shown.name) or (standing_text(row, shown.name),)
    return dict(zip(names, map(text_cell, texts), strict=True))


def _own(row: Row, shown: Shown, members: Sequence[str]) -> Cells:
    """The cells of a column of the manifest."""
    value = row.values.get(shown.name)
    if shown.numeric:
        return _estimate(shown.name, value)
    if shown.column is not None and shown.column.family is not None:
        family = value if isinstance(value, Mapping) else {}
        whole: Cells = {}
        for member in members:
            whole |= _estimate(f"{shown.name}:{member}", as_estimate(family.get(member)))
        return whole
    if value is None or isinstance(value, str):
        return {shown.name: text_cell(value or "")}
    return {shown.name: json.dumps(value)}


def _estimate(name: str, value: Any) -> Cells:
    numbers = (value.value, value.low, value.high) if isinstance(value, Estimate) else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(number_cell, numbers), strict=True))


def _members(rows: Iterable[Row], shown: Shown) -> list[str]:
    """The members that a family has in any row, in the order in which they come."""
    families = (row.values.get(shown.name) for row in rows) if shown.column is not None else ()
    return list(dict.fromkeys(str(name) for one in families if isinstance(one, Mapping) for name in one))
