"""``spurbench status``: every cell of the board, and what became of it."""

from __future__ import annotations

import argparse
from typing import Any

from robustbench_spur.cli.options import add_board, add_json, add_plugins, home_of, named, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--split", nargs="+", default=[], metavar="SPLIT", help="(default: all of the board)")
    parser.add_argument("--method", nargs="+", default=[], metavar="NAME", help="(default: all)")
    parser.add_argument("--seed", nargs="+", type=int, default=[], metavar="N", help="(default: the board's)")
    add_json(parser)
    add_board(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print one row per cell, and a count of each state."""
    from robustbench_spur.coverage import coverage
    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.registry import Registry
    from robustbench_spur.splitref import parse_splits

    manifest, registry = load_manifest(options.board), Registry(tuple(options.plugin))
    splits = [ref.full for text in named(options.split) for ref in parse_splits(text, registry)] or [
        p.name for p in manifest.splits
    ]
    methods = [registry.find("method", name) for name in named(options.method)] or registry.entries("method")
    seeds = options.seed or list(manifest.seeds)
    rows = coverage(home_of(), manifest, registry, methods, splits, seeds)
    if options.json:
        print_json(rows)
    else:
        _print(rows, manifest)
    return 0


def _print(rows: list[dict[str, Any]], manifest: Any) -> None:
    from collections import Counter

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=f"Board {manifest.board} ({manifest.status})", title_justify="left")
    for heading in ("method", "split", "seed", "state", "why"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if row["status"] != "missing":
            table.add_row(*(escape(str(row[n])) for n in ("method", "split", "seed", "status", "reason")))
    if table.row_count:
        console.print(table)
    counts = Counter(row["status"] for row in rows)
    console.print(
        ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items()) + f" of {len(rows)} cells."
    )
