"""``spurbench leaderboard diff``: what moved between two boards, and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING

from robustbench_spur.cli.leaderboard.opening import HELP, resolve
from robustbench_spur.cli.options import add_board, print_json

if TYPE_CHECKING:
    from robustbench_spur.changes import Change

NOTHING = "Nothing moved."
HEADINGS = ("what", "method", "was", "now", "why")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("old", metavar="OLD", help=HELP)
    parser.add_argument("new", metavar="NEW", help="the same")
    formats = parser.add_mutually_exclusive_group()
    for name, words in {"json": "print a JSON list", "markdown": "print Markdown"}.items():
        # without a default, lest it take away what was given before the verb
        formats.add_argument(
            f"--{name}", action="store_true", default=argparse.SUPPRESS, help=f"{words} in place of tables"
        )
    add_board(parser)


def main(options: argparse.Namespace) -> int:
    """Compare two boards and print what moved; the exit code is 0 whether anything did or not."""
    from robustbench_spur.changes import changes

    with ExitStack() as stack:
        old, new = (resolve(text, options.board, stack) for text in (options.old, options.new))
        found = changes(old.board, new.board, new.withdrawn)
    if options.json:
        print_json([change.as_dict() for change in found])
    elif options.markdown:
        from robustbench_spur.cli.leaderboard import print_text

        print_text(markdown(found))
    else:
        _print(found)
    return 0


def by_table(found: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    """The changes of each split and network, under its title."""
    for (split, backbone, size), own in groupby(found, key=lambda one: (one.split, one.backbone, one.image_size)):
        yield f"{split}, {backbone}, {size} pixels" if split else "The board's rules", list(own)


def cells(change: Change) -> list[str]:
    """Texts of a change, under :data:`HEADINGS`."""
    from robustbench_spur.cellwords import plain

    method = f"{change.method} ({change.team})" if change.team else change.method
    sides = [_side(one) for one in (change.was, change.now)]
    return [plain(text) for text in (change.kind, method or "-", *sides, "; ".join(change.why))]


def _side(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{100 * value:.2f} %"
    return value or "-"


def markdown(found: Sequence[Change]) -> str:
    """The changes as Markdown tables."""
    from robustbench_spur.tables import in_markdown

    parts = []
    for title, own in by_table(found):
        lines = [f"### {in_markdown(title)}", "", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
        lines += [f"| {' | '.join(map(in_markdown, cells(change)))} |" for change in own]
        parts.append("\n".join(lines))
    return "\n\n".join(parts or [NOTHING]) + "\n"


def _print(found: Sequence[Change]) -> None:
    """Print a table for every split and network."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not found:
        console.print(NOTHING)
    for title, own in by_table(found):
        table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        for change in own:
            table.add_row(*map(escape, cells(change)))
        console.print(table)
        console.print()
