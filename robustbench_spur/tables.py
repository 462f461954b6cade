"""The board as text: a table for the terminal, or Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustbench_spur.arranging import Shown, columns_of
from robustbench_spur.board import Board, Row
from robustbench_spur.cellwords import cell_text, gaps, method_text, plain, remark, two_lines

RANK_WIDTH, NAME_WIDTH, NUMBER_WIDTH, DIFFERENCE_WIDTH = map(len, ("11-12", "tumour", "98..100", "-61..-43"))
"""Widths of columns, of names the least one: a number that is cut is another number, and names give way."""
FIXED_WIDTHS = {"rank": RANK_WIDTH, "difference": DIFFERENCE_WIDTH}
LEAST_WIDTHS = {name: len("reweight") for name in ("method", "track")} | {
    "tier": len("reproduced"),
    "remark": len("unranked: 1 of"),
}
FAMILY_WIDTH = len("tumour@1.5T 98.0")
BELOW = ("seeds", "remark")
"""Columns that the terminal leaves out unless they are asked for; remarks stand below its tables."""
TRACK_WORDS = {
    "none": "no attributes used",
    "selection": "attributes on validation",
    "train": "attributes in training",
    "reweight": "a small unbiased set with attributes",
    "targeted": "knowledge of the shortcut",
}


# The terminal


def print_board(board: Board, console: Console, columns: Sequence[Shown] = ()) -> None:
    """Print a table for every split and network, with remarks below it; as it is without ``columns``, it fits 80 columns.

    Args:
        board: best rows first.
        console: to print on.
        columns: to show, as :func:`~robustbench_spur.arranging.columns_of` gives them.
    """
    if not board.rows:
        console.print(f"No results yet. Run: spurbench run --method all --split {board.manifest.splits[0].name}")
        return
    shown = columns or [one for one in columns_of(board.manifest) if one.column is not None or one.name not in BELOW]
    for (split, backbone, size), rows in board.tables.items():
        title = f"{split}, {backbone}, {size} pixels, board {board.manifest.board} ({board.manifest.status})"
        in_table = rows if _has(shown, "remark") else [row for row in rows if row.seeds]
        if in_table:
            _print_whole(_terminal_table(title, in_table, board, shown), console)
        else:
            console.print(escape(plain(title)))
        for line in notes(rows, shown, board):
            console.print(escape(line))
        console.print()
    confidence = 100 * board.manifest.bootstrap.confidence
    console.print(
        f"Per cent; below each number its {confidence:.0f} % interval over patients. Ranks are within a track;"
        " 1-2 is a tie that the patients do not resolve."
    )
    tracks = dict.fromkeys(row.first.track for row in board.rows)
    words = "; ".join(f"{plain(track)} ({TRACK_WORDS.get(track, 'unknown')})" for track in tracks)
    console.print(escape(f"Tracks: {words}."))


def _has(columns: Iterable[Shown], name: str) -> bool:
    """Whether one of the fixed columns is among those shown."""
    return any(one.name == name and one.column is None for one in columns)


def _print_whole(table: Table, console: Console) -> None:
    """Print a table; where it does not fit, let its lines run on."""
    needed = sum(column.width or column.min_width or 0 for column in table.columns) + 2 * len(table.columns) - 1
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def _terminal_table(title: str, rows: list[Row], board: Board, columns: Sequence[Shown]) -> Table:
    table = Table(
        title=escape(plain(title)),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    joined = _has(columns, "track") and _has(columns, "method")
    kept = [one for one in columns if not (joined and one.name == "track" and one.column is None)]
    for one in kept:
        _add_column(table, one, joined=joined)
    sections = in_blocks([row.first.track for row in rows])
    for before, row in zip([None, *rows], rows, strict=False):
        if sections and before is not None and before.first.track != row.first.track:
            table.add_section()
        table.add_row(*(_terminal_cell(row, one, board, joined=joined) for one in kept))
    return table


def in_blocks(tracks: list[str]) -> bool:
    """Whether rows of one track stand together, as they do unless they were sorted otherwise."""
    changes = sum(before != after for before, after in pairwise(tracks))
    return changes == len(set(tracks)) - 1


def _add_column(table: Table, shown: Shown, *, joined: bool) -> None:
    """A column that is as wide as its longest number, or at least as wide as its shortest name."""
    title = escape(plain(shown.title))
    if shown.column is not None:
        width, least = (NUMBER_WIDTH if shown.numeric else None), (FAMILY_WIDTH if shown.column.family else NAME_WIDTH)
    else:
        width, least = FIXED_WIDTHS.get(shown.name), LEAST_WIDTHS.get(shown.name, NAME_WIDTH)
        title = f"{title}\n[dim]track[/dim]" if joined and shown.name == "method" else title
    table.add_column(title, overflow="fold", width=width, min_width=None if width else least)


def _terminal_cell(row: Row, shown: Shown, board: Board, *, joined: bool) -> str:
    if shown.column is not None:
        if shown.numeric:
            return escape(two_lines(row.values.get(shown.column.name)))
        text = cell_text(row, shown, board.manifest)
        return escape(text.replace("; ", "\n") if shown.column.family else _at_its_sign(text))
    if shown.name == "difference":
        return escape(two_lines(row.difference))
    text = escape(cell_text(row, shown, board.manifest))
    return f"{text}\n[dim]{escape(plain(row.first.track))}[/dim]" if joined and shown.name == "method" else text


def _at_its_sign(name: str) -> str:
    """A group's name on two lines, class and value."""
    return name.replace("@", "\n@", 1)


def notes(rows: Iterable[Row], columns: Sequence[Shown], board: Board) -> list[str]:
    """What the cells of a table do not say: which rows are not plainly ranked, and why cells of others are missing.

    Returns:
        Lines such as ``this, that: unranked: 1 of 3 seeds``, each about all rows that it holds for. Remarks are left out
        where a column has them.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        own = "" if _has(columns, "remark") else remark(row, board.manifest.seeds)
        for text in filter(None, [own, *gaps(row, columns, board.manifest)]):
            found.setdefault(text, []).append(method_text(row))
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in found.items()]


# Markdown


def markdown(board: Board, columns: Sequence[Shown] = ()) -> str:
    """The board as Markdown tables, with a list below each of why cells are missing.

    Args:
        board: best rows first.
        columns: to show; those that :func:`~robustbench_spur.arranging.columns_of` gives where empty.
    """
    shown, parts = columns or columns_of(board.manifest), []
    for (split, backbone, size), rows in board.tables.items():
        titles = [in_markdown(one.title) for one in shown]
        lines = [f"### {in_markdown(split)}, {in_markdown(backbone)}, {size} pixels", ""]
        lines += [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        for row in rows:
            texts = ((one, cell_text(row, one, board.manifest)) for one in shown)
            lines.append(f"| {' | '.join(text if one.numeric else in_markdown(text) for one, text in texts)} |")
        below = [f"- {in_markdown(line)}" for line in notes(rows, shown, board)]
        parts.append("\n".join([*lines, *([""] if below else []), *below]))
    return "\n\n".join(parts) + "\n"


def in_markdown(text: str) -> str:
    r"""A text that stays text in a cell: no link, picture, tag, code or further cell.

    >>> in_markdown("a | <b>")
    'a \\| \\<b\\>'
    """
    return "".join(f"\\{letter}" if letter in r"\`*[]<>|" else letter for letter in plain(text))
