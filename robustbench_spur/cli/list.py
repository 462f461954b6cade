"""``spurbench list``: what there is, at once, without importing any plugin."""

from __future__ import annotations

import argparse
from typing import Any

from robustbench_spur.cli.options import add_json, add_plugins, print_json

KINDS = {"methods": "method", "splits": "dataset", "evaluators": "evaluator"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("kind", nargs="?", choices=[*KINDS, "all"], default="all", help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="import every plugin and show what is broken")
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print the rows; exit code 1 where ``--check`` finds a broken plugin, 2 where two plugins have one name."""
    from robustbench_spur.registry import Registry

    registry = Registry(tuple(options.plugin))
    kinds = list(KINDS) if options.kind == "all" else [options.kind]
    listed = [row for kind in kinds for row in rows(registry, KINDS[kind], check=options.check)]
    if options.json:
        print_json(listed)
    else:
        _print_tables(listed)
    if any(plugin.rivals for kind in kinds for plugin in registry.entries(KINDS[kind])):
        return 2
    return 1 if options.check and any(row["status"] == "broken" for row in listed) else 0


def rows(registry: Any, kind: str, *, check: bool) -> list[dict[str, Any]]:
    """One row per method or evaluator; one per split for a dataset.

    Args:
        registry: where to look.
        kind: ``"method"``, ``"evaluator"`` or ``"dataset"``.
        check: import every plugin.
    """
    found = []
    for plugin in registry.entries(kind):
        reason = plugin.reason or (_import_error(plugin) if check else "")
        status = "broken" if reason else "ok"
        if kind != "dataset" or plugin.source is None:
            found.append(_row(plugin, plugin.name, "split" if kind == "dataset" else kind, status, reason))
            continue
        needs_data = not plugin.literal("embedded", False)
        for split, summary in plugin.literal("splits", {}).items():
            state = status if reason or not needs_data else "needs_data"
            why = reason or (f"give --data {plugin.name}=PATH" if needs_data else "")
            found.append({**_row(plugin, f"{plugin.name}/{split}", "split", state, why), "summary": summary})
    return found


def _row(plugin: Any, name: str, kind: str, status: str, reason: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "version": plugin.version,
        "origin": plugin.origin,
        "status": status,
        "reason": reason,
        "summary": plugin.literal("summary", ""),
    }


def _import_error(plugin: Any) -> str:
    from robustbench_spur.types import SpurbenchError

    try:
        plugin.load()
    except SpurbenchError as error:
        return str(error)
    return ""


def _print_tables(listed: list[dict[str, Any]]) -> None:
    """One table per kind; what is said of most rows alike (built-in, in order) is left out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    for kind in dict.fromkeys(row["kind"] for row in listed):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(kind, no_wrap=True)
        table.add_column("version", no_wrap=True)
        table.add_column("what it is", overflow="fold")
        for row in (row for row in listed if row["kind"] == kind):
            origin = "" if row["origin"] == "built-in" else f"from {row['origin']}"
            state = "broken: " if row["status"] == "broken" else ""
            remarks = "; ".join(text for text in (origin, f"{state}{row['reason']}") if text)
            what = f"{row['summary']} ({remarks})" if remarks and row["summary"] else row["summary"] or remarks
            table.add_row(*(escape(str(text)) for text in (row["name"], row["version"] or "-", what)))
        console.print(table)
