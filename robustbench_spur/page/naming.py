"""What the rows of a board are called, so that no two of a table have the same name."""

from __future__ import annotations

from collections import Counter

from robustbench_spur.board import Board, Row
from robustbench_spur.page.credit import credit_of

IN_HEADING = ("split ", "evaluators ", "backbone=", "image_size=")
"""Beginnings of remarks that concern a whole table."""


def variant(row: Row) -> str:
    """What of a row is not the board's, less what the heading of its table says; empty for the board's own."""
    return ", ".join(part for part in row.first.off_board if not part.startswith(IN_HEADING))


def label(row: Row) -> str:
    """Name of a row: the method's, with the settings that are not the board's."""
    return f"{row.first.method.name} {variant(row)}".strip()


def labels_of(board: Board) -> dict[int, str]:
    """Name of every row, by its ``id()``: with its team and its entry where it takes them to tell rows of a table apart.

    Rows of one origin that are alike, such as one that failed beside one that is ranked, have their hashes, but for the
    first, which bears the same name in every table.
    """
    names = {id(row): label(row) for row in board.rows}
    credits = {id(row): credit_of(row) for row in board.rows}
    for mark in ("team", "entry"):
        count = Counter((row.table, names[id(row)]) for row in board.rows)
        alike = {name for (_, name), number in count.items() if number > 1}
        for key, credit in credits.items():
            text = getattr(credit, mark, "")
            if names[key] in alike and text:
                names[key] += f" · {text}"
    taken = set()
    for row in board.rows:
        if (row.table, names[id(row)]) in taken:
            names[id(row)] += f" · {row.first.config_hash[:8]}"
        taken.add((row.table, names[id(row)]))
    return names
