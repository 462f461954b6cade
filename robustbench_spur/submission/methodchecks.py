"""Whether an entry's method is what its source states; the source is read and never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from robustbench_spur.method import track_of
from robustbench_spur.parameters import BUDGET
from robustbench_spur.record import Record
from robustbench_spur.registry import BUILT_IN, Plugin, Registry
from robustbench_spur.submission.entry import ENTRY, Entry
from robustbench_spur.submission.remarks import FaultError, Remark, quoted
from robustbench_spur.submission.safely import check_file
from robustbench_spur.types import SpurbenchError

PLUGIN_BYTES = 1_000_000
STATED = ("name", "version", "needs", "wraps")
RAN = "Add the file that ran."
SCALARS = (bool, int, float, str)


def check_method(entry: Entry, folder: Path) -> Iterator[Remark]:
    """What is wrong with what an entry says of its method.

    Args:
        entry: as it states itself.
        folder: of the entry.

    Raises:
        FaultError: the source is missing, another file, too large, or no Python.
    """
    if entry.plugin is not None:
        yield from _check_plugin(entry, folder)
    elif entry.method.origin != BUILT_IN:
        told = f"a method of origin {quoted(entry.method.origin)} without its source"
        yield Remark("fault", ENTRY, told, "the method's source as plugin.py", "Pack the entry again with --plugin.")
    else:
        yield from _check_built_in(entry)


def _check_plugin(entry: Entry, folder: Path) -> Iterator[Remark]:
    file = entry.plugin
    if file is None:
        return
    if entry.method.origin == BUILT_IN:
        told = f"a method of origin {BUILT_IN} with a source of its own"
        yield Remark("fault", ENTRY, told, "the origin of the file", "Pack the entry again with --plugin.")
    if any(one.name == entry.method.name and one.origin == BUILT_IN for one in Registry().entries("method")):
        told = f"a source of its own for {entry.method.name}, a method of the project"
        yield Remark("fault", file.file, told, "a name that no other method has", "Name the method otherwise.")
    if file.bytes > PLUGIN_BYTES:
        raise FaultError(file.file, f"{file.bytes} bytes", f"at most {PLUGIN_BYTES}", "Add the method's file alone.")
    path = check_file(folder, file.file, file.sha256, file.bytes)
    if file.sha256 != entry.method.sha256:
        expected = f"{entry.method.sha256[:16]}, that of the method"
        yield Remark("fault", file.file, f"sha256 {file.sha256[:16]}", expected, RAN)
    found = [one for one in _classes(path, file.file) if one.get("name") == entry.method.name]
    if not found:
        raise FaultError(file.file, "no class that states the name", f"name = {entry.method.name!r}", RAN)
    for one in found:
        if type(one.get("version")) is not int or one["version"] != entry.method.version:
            told = f"version {quoted(one.get('version'), 60)}" if "version" in one else "no version"
            yield Remark("fault", file.file, told, f"version {entry.method.version}, as the entry states", RAN)
        yield from _check_track(entry, one.get("needs", ()), one.get("wraps", ""), file.file)


def _classes(path: Path, name: str) -> list[dict[str, Any]]:
    """What each class of a file states by literals. Names that stand for others are not followed: that can take for ever."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stranger's text, not ours to mend
            tree = ast.parse(path.read_bytes())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise FaultError(name, f"no Python ({quoted(error)})", "the method's source", RAN) from None
    return [dict(_literals(node)) for node in tree.body if isinstance(node, ast.ClassDef)]


def _literals(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for line in node.body:
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = getattr(line, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id in STATED and value is not None:
                try:
                    yield target.id, ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                    yield target.id, None


def _check_track(entry: Entry, needs: Any, wraps: Any, name: str) -> Iterator[Remark]:
    """Whether the method's declared needs put it on the entry's track; of one that wraps another, a person has to look."""
    remedy = "A person looks at what the method is given."
    if not isinstance(needs, tuple) or not all(isinstance(one, str) for one in needs) or wraps:
        told = "needs that cannot be told from the source alone"
        yield Remark("flag", name, told, f"those of track {quoted(entry.track)}", remedy)
    elif track_of(needs) != entry.track:
        told = f"needs of track {track_of(needs)}"
        yield Remark("fault", name, told, f"those of track {quoted(entry.track)}, as the entry states", RAN)


def built_in(entry: Entry) -> Plugin | None:
    """The project's own method that an entry is of; None where it is another's, or is not here."""
    if entry.method.origin != BUILT_IN:
        return None
    return _own(entry.method.name)


@lru_cache(maxsize=512)
def _own(name: str) -> Plugin | None:
    """The project's own method of a name; all cells of an entry ask for it."""
    try:
        plugin = Registry().find("method", name)
    except SpurbenchError:
        return None
    return plugin if plugin.origin == BUILT_IN and plugin.source is not None else None


def _check_built_in(entry: Entry) -> Iterator[Remark]:
    """Whether the project has the method, in a version as new as the entry's."""
    plugin, method = built_in(entry), entry.method
    if plugin is None:
        remedy = "Pack the entry again with --plugin, so that its source is there."
        told = f"method {quoted(method.name)} of origin {BUILT_IN}"
        yield Remark("fault", ENTRY, told, "a method that this version has", remedy)
    elif method.version > int(plugin.version or 0):
        told = f"{method.name} v{method.version}"
        yield Remark("fault", ENTRY, told, f"at most v{plugin.version}, which is here", "Upgrade robustbench-spur.")
    elif method.version == plugin.version:
        if not plugin.literal("wraps", ""):
            yield from _check_track(entry, plugin.literal("needs", ()), "", ENTRY)
        if method.sha256 != plugin.sha256:
            told = f"another text of {method.name} v{method.version}, {method.sha256[:12]}"
            remedy = "Say what differs; a version is raised where numbers can change."
            yield Remark("warning", ENTRY, told, f"that of this version, {plugin.sha256[:12]}", remedy)


def check_settings(record: Record, entry: Entry, name: str) -> Iterator[Remark]:
    """Whether a record's settings are the defaults of the project's own method, unless it says which were given.

    Shares of the budget, and what a method shares with it, are not looked at: they depend on the board.

    Args:
        record: of the entry.
        entry: that it is of.
        name: of the record's file, for messages.
    """
    plugin = built_in(entry)
    if plugin is None or plugin.source is None or plugin.version != record.method.version or record.off_board:
        return
    known = {setting.name for setting in plugin.source.settings}
    for more in sorted(record.method.settings.keys() - known):
        told = f"a setting {quoted(more, 60)}"
        yield Remark("fault", name, told, f"the settings of {plugin.name}", "Pack the records as they were written.")
    for setting in plugin.source.settings:
        if setting.name in record.method.given or setting.name in BUDGET or type(setting.default) not in SCALARS:
            continue
        found = record.method.settings.get(setting.name)
        if found != setting.default:
            told = f"setting {setting.name}={quoted(found, 60)} that was not given"
            expected = f"{setting.name}={setting.default!r}, the default"
            yield Remark("fault", name, told, expected, "Pack the entry again from records as they were written.")
