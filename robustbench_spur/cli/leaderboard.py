"""``spurbench leaderboard``: the ranked table in the terminal, as JSON, as Markdown, or as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from robustbench_spur.cli.options import add_board, add_json, add_plugins, home_of, named, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="[dataset/]split[@rho] (default: all)")
    parser.add_argument("--method", nargs="+", default=[], metavar="NAME", help="names (default: all)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown in place of a table")
    parser.add_argument(
        "--html", nargs="?", const=True, default=False, metavar="FILE", help="write the page, and print its path"
    )
    add_json(parser)
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Build the board from the records and show it."""
    from robustbench_spur.board import build_board
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    home, manifest = home_of(), load_manifest(options.board)
    registry = Registry(tuple(options.plugin))
    splits = [ref.family for text in named(options.split) for ref in parse_splits(text, registry)]
    methods = [registry.find("method", name).name for name in named(options.method)]
    board = build_board(home, manifest, tuple(options.plugin)).only(splits, methods)
    if options.json:
        print_json(board.as_list())
    elif options.markdown:
        from robustbench_spur.tables import markdown

        print(markdown(board), end="")
    elif options.html:
        from robustbench_spur.page import write_page

        path = None if options.html is True else Path(options.html)
        print(write_page(board, home, path, tuple(options.plugin)))
    else:
        from rich.console import Console

        from robustbench_spur.tables import print_board

        print_board(board, Console(highlight=False))
    return 0
