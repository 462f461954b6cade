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
    """One heading per data set, and below it a table of its archives."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for one in rows:
        console.print(f"[bold]{escape(one['name'])}[/bold]  {escape(one['summary'] or one['reason'])}")
        console.print(f"  files: {escape(_where(one))}", soft_wrap=True)
        if one["licence"]:
            console.print(f"  licence: {escape(one['licence'])}")
        if one["archives"]:
            console.print(archive_table(one["archives"]))
        console.print()
    console.print("Next: spurbench data download NAME/SPLIT, or --data NAME=PATH for files that you have.")


def _where(one: dict[str, Any]) -> str:
    if one["embedded"]:
        return "none needed: its images are made here"
    return one["place"] or f"not here; give --data {one['name']}=PATH"


def archive_table(archives: list[dict[str, Any]]) -> Any:
    """A table of :func:`archive_row` rows, for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for heading in ("hash", "here", "note"):
        table.add_column(heading, overflow="fold")
    for archive in archives:
        size = "?" if archive["size"] is None else f"{archive['size'] / 1e6:.1f} MB"
        cells = (archive["name"], size, archive["hash"], archive["state"], archive["note"])
        table.add_row(*(escape(cell) for cell in cells))
    return table
