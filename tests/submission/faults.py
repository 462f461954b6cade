"""What a fault of the corpus is, and what makers of faults share."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.submission.entry import ENTRY, slug
from robustbench_spur.submission.remarks import Level
from tests.submission.makers import SPLIT, Copy

CELL = f"records/{slug(SPLIT)}/seed0"
RECORD, ARRAYS = f"{CELL}.json", f"{CELL}.npz"
__all__ = [
    "ARRAYS",
    "CELL",
    "ENTRY",
    "RECORD",
    "UNFORESEEN",
    "Copy",
    "Fault",
    "nested",
    "npy",
    "put",
    "raw_members",
    "zipped",
]


UNFORESEEN = "an entry that can be verified"
"""What the verifier expects where no check has words for what it met: no fault of the corpus may end there."""


@dataclass(frozen=True)
class Fault:
    """A bad submission.

    Args:
        name: in a few words.
        damage: makes it of a copy of a sound entry.
        file: that the message has to name.
        says: what the message has to say, beginning with the word expected or found.
        level: of the remark.
    """

    name: str
    damage: Callable[[Copy], object]
    file: str
    says: str
    level: Level = "fault"


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of JSON: sets what lies at a path."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def npy(array: np.ndarray[Any, Any] | None = None, *, header: str = "", data: bytes = b"", magic: bytes = b"") -> bytes:
    """An npy file, or one with a header of one's own."""
    if array is not None:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, allow_pickle=True)
        return stream.getvalue()
    text = header.encode("latin-1") + b"\n"
    return (magic or b"\x93NUMPY\x01\x00") + len(text).to_bytes(2, "little") + text + data


def raw_members(path: Path) -> dict[str, bytes]:
    """The members of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {one: archive.read(one) for one in archive.namelist()}


def zipped(
    copy: Copy, changes: Mapping[str, bytes | None], more: Callable[[zipfile.ZipFile], object] | None = None
) -> None:
    """Replace members of the first cell's predictions; None leaves one out; ``more`` writes others of its own."""
    path = copy.path(ARRAYS)
    members: dict[str, bytes | None] = {**raw_members(path), **changes}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
        if more is not None:
            more(archive)
    copy.list_anew()


def nested(levels: int) -> str:
    """JSON of lists in lists."""
    return "[" * levels + "]" * levels
