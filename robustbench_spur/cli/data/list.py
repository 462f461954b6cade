"""``spurbench data list``: data sets, where they lie, and what can be downloaded, at once and without importing any."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_json, add_plugins, home_of, print_json

if TYPE_CHECKING:
    from robustbench_spur.download import Seen
    from robustbench_spur.registry import Plugin
    from robustbench_spur.splits.base import Archive

INDENT = 2
"""Of what stands below the name of a data set."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print one row per data set, with its archives."""
    from robustbench_spur.registry import Registry

    home = home_of()
    places = home.places({})
    rows = [
        row(plugin, places.get(plugin.name), home.data / plugin.name)
        for plugin in Registry(tuple(options.plugin)).entries("dataset")
    ]
    if options.json:
        print_json(rows)
    else:
        _print(rows)
    return 0


def row(plugin: Plugin, place: Path | None, default: Path) -> dict[str, Any]:
    """What there is to say about a data set.

    Args:
        plugin: of the data set.
        place: where its files lie; None where that is not known.
        default: where its archives are downloaded to.
    """
    from robustbench_spur.download import seen_in

    seen = seen_in(default)
    archives: tuple[Archive, ...] = plugin.literal("archives", ())
    return {
        "name": plugin.name,
        "status": "ok" if plugin.source else "broken",
        "reason": plugin.reason,
        "summary": plugin.literal("summary", ""),
        "embedded": bool(plugin.literal("embedded", False)),
        "place": None if place is None else str(place),
        "splits": list(plugin.literal("splits", {})),
        "source": plugin.literal("source", ""),
        "licence": plugin.literal("licence", ""),
        "archives": [archive_row(archive, default, seen.get(archive.name)) for archive in archives],
    }


def archive_row(archive: Archive, folder: Path, seen: Seen | None) -> dict[str, Any]:
    """What there is to say about an archive; nothing is read but the folder.

    Args:
        archive: what the data set states.
        folder: where it would lie.
        seen: the record of it, if any.
    """
    published = bool(archive.sha256 or archive.md5)
    size = archive.size if archive.size is not None or seen is None else seen.size
    return {
        "name": archive.name,
        "size": size,
        "hash": "published" if published else "seen" if seen else "none",
        "sha256": archive.sha256 or (seen.sha256 if seen else None),
        "md5": archive.md5 or (seen.md5 if seen else None),
        "state": _state(archive.name, folder),
        "splits": list(archive.splits),
        "urls": list(archive.urls),
        "note": archive.note,
    }


def _state(name: str, folder: Path) -> str:
    """``present``, ``partial``, ``unpacked`` (and removed since) or ``absent``."""
    if (folder / name).is_file():
        return "present"
    if (folder / f"{name}.part").is_file():
        return "partial"
    return "unpacked" if (folder / f".{name}.unpacked").is_file() else "absent"


def _print(rows: list[dict[str, Any]]) -> None:
    """One heading per data set, and below it what is known of it and a table of its archives, indented."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for one in rows:
        console.print(Text(one["name"], style="bold"))
        console.print(Padding.indent(Text(one["summary"] or one["reason"]), INDENT))
        console.print(f"{' ' * INDENT}files: {_where(one)}", soft_wrap=True, markup=False)
        if one["licence"]:
            console.print(Padding.indent(Text(f"licence: {one['licence']}"), INDENT))
        if one["archives"]:
            console.print(archive_table(one["archives"]))
        console.print()
    console.print("Next: spurbench data download NAME/SPLIT\nFor files that you have: --data NAME=PATH")


def _where(one: dict[str, Any]) -> str:
    if one["embedded"]:
        return "none needed: its images are made here"
    return one["place"] or f"not here; give --data {one['name']}=PATH"


def archive_table(archives: list[dict[str, Any]]) -> Any:
    """A table of :func:`archive_row` rows, for the terminal, with their notes below it, each once and by number."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    notes = list(dict.fromkeys(archive["note"] for archive in archives if archive["note"]))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for heading in ("hash", "here", *(["note"] if notes else [])):
        table.add_column(heading, no_wrap=True)
    for archive in archives:
        size = "?" if archive["size"] is None else f"{archive['size'] / 1e6:.1f} MB"
        cells = [archive["name"], size, archive["hash"], archive["state"]]
        number = f"({notes.index(archive['note']) + 1})" if archive["note"] else ""
        table.add_row(*map(Text, (*cells, number) if notes else cells))
    below = Table.grid(padding=(0, 1, 0, 0))
    for place, note in enumerate(notes, 1):
        below.add_row(Text(f"({place})"), Text(note))
    return Padding.indent(Group(table, below) if notes else table, INDENT)
