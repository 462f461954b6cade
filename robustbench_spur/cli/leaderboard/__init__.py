"""``spurbench leaderboard``: the ranked table in the terminal, as JSON, CSV, Markdown, LaTeX or a page; and verbs below it."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_spur.cli import nested
from robustbench_spur.cli.leaderboard.opening import HELP, resolve
from robustbench_spur.cli.options import add_board, add_plugins, home_of, named, print_json
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.board import Board

VERBS = {
    "diff": "what moved between two boards, and why",
    "build": "the table and the site of a published board, from its entries",
    "withdraw": "note that an entry of a published board no longer counts, and why",
}
EPILOG = """\
columns: those of the board's manifest by name or title, also such as the table leaves out, and rank, track, method,
difference, seeds, remark, tier, team, entry.

Without a verb the table is shown. Ranks are those among all rows, whatever is left out. The records of $SPURBENCH_HOME
are scored again; nothing is trained.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options, and the verbs below it, which may be left out."""
    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    _add_filters(parser)
    parser.add_argument("--sort", metavar="COLUMN", help="best first in a column; --sort=-COLUMN turns it round")
    parser.add_argument("--reverse", action="store_true", help="turn the order of --sort round")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names or titles of the columns to show, or all; --json is always complete (default: the board's)",
    )
    _add_formats(parser)
    add_board(parser)
    add_plugins(parser)
    parser.add_argument("--source", metavar="BOARD", help=f"{HELP} (default: $SPURBENCH_HOME)")
    nested.add_verbs(parser, __name__, VERBS, required=False)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="[dataset/]split[@rho] (default: all)")
    for name, help_text in {
        "method": "names (default: all)",
        "track": "what a method is told of the shortcut (default: all)",
        "backbone": "networks (default: all)",
        "status": "ranked, provisional, unranked, failed or not_applicable (default: all)",
        "team": "who submitted the entry (default: all)",
    }.items():
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="NAME", help=help_text)


def _add_formats(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print a JSON list in place of a table")
    formats.add_argument(
        "--csv", action="store_true", help="print a line per row, plain numbers with their intervals, all columns"
    )
    formats.add_argument("--markdown", action="store_true", help="print Markdown in place of a table")
    formats.add_argument("--latex", action="store_true", help="print tables to be pasted into a paper")
    formats.add_argument(
        "--html", nargs="?", const=True, default=False, metavar="FILE", help="write the page, and print its path"
    )


def main(options: argparse.Namespace) -> int:
    """Build the board from the records and show it, or carry out the verb that was given."""
    if options.below is not None:
        return nested.carry_out(options, __name__)
    from robustbench_spur.arranging import columns_of
    from robustbench_spur.manifest import load_manifest

    columns = columns_of(load_manifest(options.board), options.columns)
    board = _board(options)
    if options.json:
        print_json(board.as_list())
    elif options.html:
        from robustbench_spur.page import write_page

        path = None if options.html is True else Path(options.html)
        print(write_page(board, home_of(), path, tuple(options.plugin)))
    elif options.csv or options.markdown or options.latex:
        print_text(_text(board, options))
    elif not board.rows and _narrowed(options):
        print("No row is left. Leave out some of the filters.")
    else:
        from rich.console import Console

        from robustbench_spur.tables import print_board

        print_board(board, Console(highlight=False), columns if options.columns else ())
    return 0


def _narrowed(options: argparse.Namespace) -> bool:
    """Whether any filter was given."""
    return any(map(named, (options.track, options.backbone, options.status, options.team)))


def _board(options: argparse.Namespace) -> Board:
    """The rows that were asked for, in the order that was asked for."""
    from robustbench_spur.arranging import filtered, find_column, sort_rows
    from robustbench_spur.board import build_board
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    manifest, plugins = load_manifest(options.board), tuple(options.plugin)
    registry = Registry(plugins)
    splits = [ref.family for text in named(options.split) for ref in parse_splits(text, registry)]
    methods = [registry.find("method", name).name for name in named(options.method)]
    turned = bool(options.sort) and options.sort.startswith("-")
    if options.reverse and not options.sort:
        raise SpurbenchError("Expected --sort COLUMN with --reverse, found none. Add it, such as --sort rank.")
    if options.sort:
        find_column(manifest, options.sort.removeprefix("-"))  # a wrong name is told before anything is scored
    if options.source:
        with ExitStack() as stack:
            whole = resolve(options.source, options.board, stack).board
    else:
        whole = build_board(home_of(), manifest, plugins)
    narrow = filtered(whole, *map(named, (options.track, options.backbone, options.status, options.team)))
    board = narrow.only(splits, methods)
    if not options.sort:
        return board
    return sort_rows(board, options.sort.removeprefix("-"), reverse=options.reverse != turned)


def _text(board: Board, options: argparse.Namespace) -> str:
    """The board in one of the formats for files; what a format shows by itself, it says."""
    from robustbench_spur.arranging import columns_of

    columns = columns_of(board.manifest, options.columns) if options.columns else ()
    if options.csv:
        from robustbench_spur.tablecsv import csv_text

        return csv_text(board, columns)
    if options.latex:
        from robustbench_spur.tablelatex import latex

        return latex(board, columns)
    from robustbench_spur.tables import markdown

    return markdown(board, columns)


def print_text(text: str) -> None:
    """Print a text; letters that the terminal's encoding lacks are written by their number."""
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text.replace("\r\n", "\n") if os.linesep == "\r\n" else text, end="")
