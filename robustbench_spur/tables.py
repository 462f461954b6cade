"""The board as text: a table for the terminal, or Markdown."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import Column
from robustbench_spur.types import Estimate

RANK_WIDTH, NAME_WIDTH, NUMBER_WIDTH, DIFFERENCE_WIDTH = map(len, ("11-12", "tumour", "98..100", "-61..-43"))
"""Widths of columns, of names the least one: a number that is cut is another number, and names give way."""
TRACK_WORDS = {
    "none": "no attributes used",
    "selection": "attributes on validation",
    "train": "attributes in training",
    "reweight": "a small unbiased set with attributes",
    "targeted": "knowledge of the shortcut",
}


def percent(estimate: Any) -> str:
    """An estimate as ``61.5 [55.0, 67.9]``, in per cent; a dash where it is undefined.

    >>> percent(Estimate(0.615, 0.55, 0.679)), percent(Estimate(None, reason="no patients"))
    ('61.5 [55.0, 67.9]', '-')
    """
    if not isinstance(estimate, Estimate) or estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def rank_text(row: Row) -> str:
    """``1`` for a rank that is resolved, ``1-2`` for a tie, a dash for a row that is not ranked.

    >>> rank_text(Row([], "ranked", "", rank=1, rank_high=2))
    '1-2'
    """
    if row.rank is None or row.rank_high is None:
        return "-"
    return str(row.rank) if row.rank == row.rank_high else f"{row.rank}-{row.rank_high}"


def cell_text(row: Row, column: Column) -> str:
    """A value of a row, for people."""
    value = row.values.get(column.name)
    if isinstance(value, Estimate):
        return percent(value)
    return "-" if value is None else str(value)


def method_text(row: Row) -> str:
    """The method with the settings that were given for it."""
    given = ", ".join(f"{name}={value}" for name, value in row.first.method.given.items())
    return f"{row.first.method.name} ({given})" if given else row.first.method.name


def remark(row: Row) -> str:
    """Status and reason of a row that is not plainly ranked."""
    if row.status == "ranked":
        return ""
    words = row.status.replace("_", " ")
    return f"{words}: {row.reason}" if row.reason else words


def headings(board: Board) -> list[str]:
    """Column titles of the text tables."""
    shown = [column.title for column in board.manifest.columns if column.shown]
    return ["rank", "track", "method", *shown, f"from {board.manifest.baseline}", "seeds", "remark"]


def cells(row: Row, board: Board) -> list[str]:
    """Texts of a row, under :func:`headings`."""
    shown = [cell_text(row, column) for column in board.manifest.columns if column.shown]
    seeds = ",".join(map(str, row.seeds)) or "-"
    return [rank_text(row), row.first.track, method_text(row), *shown, percent(row.difference), seeds, remark(row)]


def two_lines(estimate: Any) -> str:
    """An estimate with its interval in whole per cent below, for a narrow column.

    >>> two_lines(Estimate(0.615, 0.55, 0.679)).splitlines()
    ['61.5', '55..68']
    """
    value = percent(estimate).split(" ")[0]
    if not isinstance(estimate, Estimate) or estimate.low is None or estimate.high is None:
        return value
    return f"{value}\n{100 * estimate.low:.0f}..{100 * estimate.high:.0f}"


def print_board(board: Board, console: Console) -> None:
    """Print a table for every split and network, with remarks below it; it fits 80 columns."""
    if not board.rows:
        console.print(f"No results yet. Run: spurbench run --method all --split {board.manifest.splits[0].name}")
    for (split, backbone, size), rows in board.tables.items():
        title = f"{split}, {backbone}, {size} pixels, board {board.manifest.board} ({board.manifest.status})"
        if any(row.seeds for row in rows):
            _print_whole(_terminal_table(title, rows, board), console)
        else:
            console.print(escape(title))
        for text, names in _remarks(rows).items():
            console.print(escape(f"{', '.join(names)}: {text}"))
        console.print()
    if board.rows:
        confidence = 100 * board.manifest.bootstrap.confidence
        console.print(
            f"Per cent; below each number its {confidence:.0f} % interval over patients. Ranks are within a track;"
            " 1-2 is a tie that the patients do not resolve."
        )
        tracks = dict.fromkeys(row.first.track for row in board.rows)
        console.print(
            "Tracks: " + "; ".join(f"{track} ({TRACK_WORDS.get(track, 'unknown')})" for track in tracks) + "."
        )


def _print_whole(table: Table, console: Console) -> None:
    """Print a table; where it does not fit, let its lines run on."""
    needed = sum(column.width or column.min_width or 0 for column in table.columns) + 2 * len(table.columns) - 1
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def _terminal_table(title: str, rows: list[Row], board: Board) -> Table:
    columns = [column for column in board.manifest.columns if column.shown]
    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("rank", width=RANK_WIDTH)
    table.add_column("method\n[dim]track[/dim]", overflow="fold", min_width=len("reweight"))
    for column in columns:
        width, least = (NUMBER_WIDTH, None) if column.metric else (None, NAME_WIDTH)
        table.add_column(escape(column.title), overflow="fold", width=width, min_width=least)
    table.add_column(escape(f"from {board.manifest.baseline}"), overflow="fold", width=DIFFERENCE_WIDTH)
    track = None
    for row in (row for row in rows if row.seeds):
        if row.first.track != track:
            track = row.first.track
            table.add_section()
        texts = [two_lines(row.values.get(c.name)) if c.metric else _at_its_sign(cell_text(row, c)) for c in columns]
        method = f"{escape(method_text(row))}\n[dim]{track}[/dim]"
        table.add_row(rank_text(row), method, *map(escape, (*texts, two_lines(row.difference))))
    return table


def _at_its_sign(name: str) -> str:
    """A group's name on two lines, class and value."""
    return name.replace("@", "\n@", 1)


def _remarks(rows: list[Row]) -> dict[str, list[str]]:
    """Which rows each remark is about."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if text := remark(row):
            found.setdefault(text, []).append(method_text(row))
    return found


def markdown(board: Board) -> str:
    """The board as Markdown tables."""
    parts = []
    for (split, backbone, size), rows in board.tables.items():
        names = headings(board)
        lines = [f"### {split}, {backbone}, {size} pixels", "", f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines += [f"| {' | '.join(map(_in_a_cell, cells(row, board)))} |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
