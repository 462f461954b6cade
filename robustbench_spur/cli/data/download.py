"""``spurbench data download``: fetch archives, checked by their hash."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_spur.cli.options import add_plugins, home_of
from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from robustbench_spur.registry import Plugin, Registry
    from robustbench_spur.splits.base import Archive

LINE_SECONDS = 10.0
"""How often a download says how far it is where there is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("dataset", metavar="NAME[/SPLIT]", help="a data set, or a split and what it needs")
    parser.add_argument("--archive", nargs="+", default=[], metavar="FILE", help="these archives only")
    parser.add_argument("--url", metavar="URL", help="take the one archive from this address")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="(default: data/NAME in the folder of results)")
    parser.add_argument(
        "--accept", action="store_true", help="trust a file that differs from the one that was seen first"
    )
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Fetch the archives one after the other; exit code 1 where one could not be had."""
    from rich.console import Console

    from robustbench_spur.download import check_url
    from robustbench_spur.registry import Registry

    console = Console(highlight=False, soft_wrap=True)
    plugin, split = find(options.dataset, Registry(tuple(options.plugin)))
    folder = options.to.expanduser() if options.to else home_of().data / plugin.name
    archives = chosen(plugin, split, options.archive)
    if not archives and plugin.literal("embedded", False):
        console.print(f"Nothing to download: the images of {plugin.name} are made here.", markup=False)
        return 0
    if not archives:
        _ask(plugin, folder, console)
    if options.url:
        if len(archives) > 1:
            names = ", ".join(archive.name for archive in archives)
            raise SpurbenchError(f"Expected one archive for --url, found {names}. Add --archive FILE.")
        check_url(options.url)
        archives = [replace(archives[0], urls=(options.url,))]
    console.print(f"Source: {plugin.literal('source', '')}\nLicence: {plugin.literal('licence', '')}", markup=False)
    failed = [archive for archive in archives if not _fetch(archive, folder, console, accept=options.accept)]
    if not failed:
        console.print(f"Next: {following(plugin, split, archives, options.to)}", markup=False)
    return 1 if failed else 0


def find(text: str, registry: Registry) -> tuple[Plugin, str]:
    """The data set that a text names, and the split, empty where it names none.

    Raises:
        SpurbenchError: no such data set or split, or one that is broken.
    """
    from robustbench_spur.splitref import parse_splits

    if "/" in text:
        ref = parse_splits(text, registry)[0]
        return ref.plugin, ref.split
    plugin = registry.find("dataset", text)
    if plugin.source is None:
        plugin.load()
    return plugin, ""


def chosen(plugin: Plugin, split: str, names: list[str]) -> list[Archive]:
    """The archives that were asked for: by name, or all that a split needs; none where that is left open.

    Args:
        plugin: of the data set.
        split: its name; empty for the data set as a whole, which is clear only where all archives serve all splits.
        names: of archives; empty for all that serve the split.

    Raises:
        SpurbenchError: the data set has no archive of such a name.
    """
    archives: dict[str, Archive] = {archive.name: archive for archive in plugin.literal("archives", ())}
    for name in names:
        if name not in archives:
            raise SpurbenchError(f"{plugin.name} has no archive {name!r}. {nearest(name, tuple(archives))}")
    if names:
        return [archives[name] for name in dict.fromkeys(names)]
    if split:
        return [archive for archive in archives.values() if not archive.splits or split in archive.splits]
    return [] if any(archive.splits for archive in archives.values()) else list(archives.values())


def following(plugin: Plugin, split: str, archives: list[Archive], to: Path | None) -> str:
    """The command that comes after a download."""
    splits = list(plugin.literal("splits", {}))
    served = split or next((archive.splits[0] for archive in archives if archive.splits), splits[0])
    several = not split and len(splits) > 1 and not any(archive.splits for archive in archives)
    files = f" --from {shlex.join(str(to / archive.name) for archive in archives)}" if to else ""
    return f"spurbench data prepare {plugin.name}/{'SPLIT' if several else served}{files}"


def _ask(plugin: Plugin, folder: Path, console: Any) -> None:
    """Show what there is to choose from.

    Raises:
        SpurbenchError: always; it says how to choose.
    """
    from robustbench_spur.cli.data.list import archive_row, archive_table
    from robustbench_spur.download import seen_in

    archives, seen = plugin.literal("archives", ()), seen_in(folder)
    if not archives:
        raise SpurbenchError(
            f"Expected a data set with archives, found that {plugin.name} states none."
            f" Give its files: --data {plugin.name}=PATH"
        )
    console.print(archive_table([archive_row(archive, folder, seen.get(archive.name)) for archive in archives]))
    splits = ", ".join(plugin.literal("splits", {}))
    raise SpurbenchError(f"Expected a choice of archives: write {plugin.name}/SPLIT ({splits}), or add --archive FILE.")


def _fetch(archive: Archive, folder: Path, console: Any, *, accept: bool) -> bool:
    """Fetch one archive and say what came of it; returns whether it is there."""
    from robustbench_spur.download import fetch, forget

    if archive.note:
        console.print(f"{archive.name}: {archive.note}", markup=False)
    if accept:
        forget(archive, folder)
    try:
        with Bar(archive.name, console) as bar:
            seen = fetch(archive, folder, bar)
    except SpurbenchError as error:
        print(f"FAILED {error}", file=sys.stderr)
        return False
    known = "as published" if archive.sha256 or archive.md5 else "recorded, as none is published"
    how = f"downloaded from {seen.url}" if bar.used else "there already"
    console.print(f"{folder / archive.name}: {how}; sha256 {seen.sha256}, {known}.", markup=False)
    return True


class Bar:
    """Shows how far a download is: a bar on a terminal, else a line now and then.

    Args:
        name: of what is downloaded.
        console: where it is shown.
    """

    def __init__(self, name: str, console: Any) -> None:
        self.name, self.console, self.used = name, console, False
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> Bar:
        from rich import progress

        if self.console.is_terminal:
            columns = (
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = progress.Progress(*columns, console=self.console, transient=True)
            self._bar.__enter__()
            self._task = self._bar.add_task(self.name, total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def __call__(self, done: int, total: int | None) -> None:
        """Show bytes that are there, and their total."""
        self.used = True
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            of = "" if total is None else f" of {total / 1e6:.1f}"
            self.console.print(f"{self.name}: {done / 1e6:.1f}{of} MB", markup=False)
