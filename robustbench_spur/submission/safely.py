"""Reading files of strangers: what lies in a folder, and JSON, within limits that are checked before reading.

Nothing here follows a link, leaves the folder, or runs anything. Arrays and weights are read in :mod:`.archives`.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_spur.store import file_sha256
from robustbench_spur.submission.remarks import FaultError, quoted

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")
"""A name of a file or a folder that every system can hold, and no shell or page misreads."""
VALUES = 100_000
"""Most values of JSON, keys among them: a record has some ten thousand, and each takes a hundred times its bytes."""
DEPTH = 32
"""Most levels of JSON: beyond some hundred, reading and writing it end in an error of the interpreter."""
WHOLE = 2**63
"""Whole numbers of JSON are smaller: larger ones have no place in a table, and not even a float."""
STRANGE = re.compile(rb"[0-9]{19}|[eE]\+?[0-9]{3}|\\u[dD][89a-fA-F]")
"""Bytes without which no number of JSON reaches :data:`WHOLE` or infinity, and no text holds half a character."""


@dataclass(frozen=True)
class Limits:
    """How much of a stranger's is read at all.

    Args:
        files: in a folder.
        folders: in a folder.
        depth: of folders in it.
        file_bytes: of one file.
        total_bytes: of all files.
        json_bytes: of a JSON file.
        arrays: in a file of predictions.
        unpacked_bytes: of a file of predictions, decompressed.
    """

    files: int = 20_000
    folders: int = 5_000
    depth: int = 4
    file_bytes: int = 2_000_000_000
    total_bytes: int = 20_000_000_000
    json_bytes: int = 2_000_000
    arrays: int = 200
    unpacked_bytes: int = 1_000_000_000


LIMITS = Limits()


def listed(folder: Path, limits: Limits = LIMITS) -> dict[str, int]:
    """Size in bytes of every file below a folder, by its path relative to it with ``/``; what is no plain file is a fault.

    Raises:
        FaultError: a link, a special file, a name that not every system can hold, two that differ in case alone, an empty
            folder, too many files, too deep, or too large.
    """
    found: dict[str, int] = {}
    waiting, total, folders, seen = [("", folder)], 0, 0, set[str]()
    while waiting:
        place, here = waiting.pop()
        folders += 1
        if folders > limits.folders:
            told = f"at most {limits.folders} folders"
            raise FaultError("", "more folders than that", told, "Submit what belongs to the entry alone.")
        before = len(found) + len(waiting)
        for entry in _scanned(here, place, limits):
            name = f"{place}{entry.name}"
            _check_name(place, entry.name, seen)
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(mode.st_mode):
                if name.count("/") + 1 > limits.depth:
                    raise FaultError(name, "a folder deeper than that", f"at most {limits.depth} levels", "Move it up.")
                waiting.append((f"{name}/", Path(entry.path)))
                continue
            if not stat.S_ISREG(mode.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode.st_mode) else "a special file"
                raise FaultError(name, kind, "plain files", "Put the file itself in its place.")
            found[name], total = mode.st_size, total + mode.st_size
            _check_sizes(name, found, total, limits)
        if place and len(found) + len(waiting) == before:
            raise FaultError(place, "an empty folder", "folders with files", "Remove it.")
    return dict(sorted(found.items()))


def _scanned(folder: Path, place: str, limits: Limits) -> list[os.DirEntry[str]]:
    """What is in a folder, by name."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found.append(entry)
            if len(found) > limits.files:
                told = f"at most {limits.files} files"
                raise FaultError(place, "more files than that", told, "Submit what belongs to the entry alone.")
    return sorted(found, key=lambda one: one.name)


def _check_name(place: str, name: str, seen: set[str]) -> None:
    """Refuse a name that not every system can hold beside those that were seen."""
    if not NAME.fullmatch(name) or name.endswith("."):
        raise FaultError(place, f"the name {quoted(name)}", "names of letters, numbers, _ . @ + -", "Rename it.")
    folded = f"{place}{name}".casefold()
    if folded in seen:
        told = f"{quoted(name)} beside a name that differs in case alone"
        raise FaultError(place, told, "names that every system keeps apart", "Rename one.")
    seen.add(folded)


def _check_sizes(name: str, found: Mapping[str, int], total: int, limits: Limits) -> None:
    if found[name] > limits.file_bytes:
        raise FaultError(name, f"{found[name]} bytes", f"at most {limits.file_bytes}", "Make it smaller.")
    if len(found) > limits.files:
        raise FaultError(
            "", "more files than that", f"at most {limits.files} files", "Submit what belongs to the entry alone."
        )
    if total > limits.total_bytes:
        raise FaultError("", "more than that in all", f"at most {limits.total_bytes} bytes", "Leave the weights out.")


def check_file(folder: Path, name: str, sha256: str, size: int) -> Path:
    """A file of a folder, once its size and hash are known to be what was stated.

    Raises:
        FaultError: it is missing, or another.
    """
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise FaultError(name, "no such file", "the file that the entry lists", "Add it, or pack the entry again.")
    there = path.stat().st_size
    if there != size:
        raise FaultError(name, f"{there} bytes", f"{size} bytes, as the entry lists", "Pack the entry again.")
    digest = file_sha256(path)
    if digest != sha256:
        raise FaultError(name, f"sha256 {digest[:16]}", f"{sha256[:16]}, as the entry lists", "Pack the entry again.")
    return path


def read_json(path: Path, name: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FaultError: too large, no UTF-8, no JSON object, NaN or infinity, a key twice, nested beyond reason, or numbers and
            texts that other programs cannot read.
    """
    size = path.stat().st_size
    if size > limits.json_bytes:
        raise FaultError(
            name, f"{size} bytes", f"at most {limits.json_bytes} bytes of JSON", "Remove what does not belong."
        )
    return parse_json(path.read_bytes(), name)


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """A JSON object from its bytes; see :func:`read_json`."""
    try:
        content = json.loads(raw.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise FaultError(name, "JSON nested beyond reason", "a plain object", "Pack the entry again.") from None
    except ValueError as error:
        raise FaultError(
            name, f"no JSON ({quoted(error)})", "a JSON object in UTF-8", "Pack the entry again."
        ) from None
    if not isinstance(content, dict):
        raise FaultError(name, f"a {type(content).__name__}", "a JSON object", "Pack the entry again.")
    _check_values(content, name, every=STRANGE.search(raw) is not None)
    return content


def _check_values(content: dict[str, Any], name: str, *, every: bool) -> None:
    """Refuse values that are JSON by its grammar, and yet not what every program reads alike.

    Args:
        content: that was read.
        name: of the file.
        every: whether each number and text has to be looked at, or the bytes have shown that none of them can be strange.
    """
    level: list[Any] = [content]
    count = 1
    for _ in range(DEPTH):
        below: list[Any] = []
        for one in level:
            inside = [*one, *one.values()] if isinstance(one, dict) else one
            count += len(inside)
            below += [value for value in inside if isinstance(value, dict | list)]
            for value in inside if every else ():
                if found := _unreadable(value):
                    raise FaultError(name, found, "numbers of 64 bits and texts of Unicode", "Pack the entry again.")
        if count > VALUES:
            raise FaultError(
                name, f"JSON of {count} values or more", f"at most {VALUES}", "Remove what does not belong."
            )
        if not below:
            return
        level = below
    raise FaultError(name, "JSON nested beyond reason", f"at most {DEPTH} levels", "Pack the entry again.")


def _unreadable(value: Any) -> str:
    """What is wrong with a number or text; empty where nothing is."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"half a character in {quoted(value, 60)}"
    elif isinstance(value, float) and not math.isfinite(value):
        return "a number beyond all floats"
    elif isinstance(value, int) and abs(value) >= WHOLE:
        return f"a whole number of {value.bit_length()} bits"
    return ""


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} twice")
    return found
