"""What makes a file the archive that was asked for: its published hash, or else that of the first file that was seen.

Where no SHA-256 is published, the first file is trusted, recorded in ``SEEN.json`` beside it, and every later one is held to
that record.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Archive
from robustbench_spur.store import replacing
from robustbench_spur.types import SpurbenchError

SEEN = "SEEN.json"
ZIPPED = (".zip", ".npz", ".xlsx")
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Seen:
    """A file as it was found.

    Args:
        name: of the archive.
        sha256: of its bytes, in hexadecimal digits.
        md5: likewise.
        size: in bytes.
        url: where it came from; empty for a file that was put there by hand.
        date: when it was first looked at, UTC, ISO 8601.
    """

    name: str
    sha256: str
    md5: str
    size: int
    url: str
    date: str


def seen_in(folder: Path) -> dict[str, Seen]:
    """What was seen first, by name of the archive; nothing where nothing is recorded.

    Raises:
        SpurbenchError: the record cannot be read.
    """
    path = folder / SEEN
    if not path.is_file():
        return {}
    from pydantic import TypeAdapter

    with reading(path, "a record of what was downloaded"):
        found = TypeAdapter(list[Seen]).validate_json(path.read_bytes())
    return {seen.name: seen for seen in found}


def check_file(archive: Archive, path: Path, folder: Path, url: str = "") -> Seen:
    """Hold a file to the published hashes, and to the record where no SHA-256 is published; a first one is recorded.

    Args:
        archive: what it should be.
        path: of the file.
        folder: of the dataset, whose record counts.
        url: where it came from.

    Raises:
        SpurbenchError: it is another file, or none.
    """
    seen, fault = examine(archive, path, folder, url)
    if fault:
        raise SpurbenchError(f"Expected {archive.name}, found another file at {path}: {fault}.")
    return recorded(archive, seen, folder)


def examine(archive: Archive, path: Path, folder: Path, url: str = "") -> tuple[Seen, str]:
    """What a file is, and how it differs from what it should be; the latter is empty where it does not.

    Args:
        archive: what it should be.
        path: of the file.
        folder: of the dataset, whose record counts.
        url: where it came from.

    Raises:
        SpurbenchError: the file or the record cannot be read.
    """
    with reading(path, archive.name):
        seen = _hashed(archive.name, path, url)
    first = seen_in(folder).get(archive.name)
    return seen, _difference(archive, seen, first, folder) or _strange(archive, path)


def recorded(archive: Archive, seen: Seen, folder: Path) -> Seen:
    """The record of a file where its SHA-256 is not published, made now if there is none."""
    if archive.sha256:
        return seen
    folder.mkdir(parents=True, exist_ok=True)
    with _record(folder) as there:
        return there.setdefault(archive.name, seen)


def forget(archive: Archive, folder: Path) -> None:
    """Take what was seen first off the record: the next file of that name is trusted as the first one was."""
    if archive.name in seen_in(folder):
        with _record(folder) as there:
            there.pop(archive.name, None)


def _hashed(name: str, path: Path, url: str) -> Seen:
    from pooch import file_hash

    sha256, md5 = (file_hash(str(path), alg=algorithm) for algorithm in ("sha256", "md5"))
    return Seen(name, sha256, md5, path.stat().st_size, url, datetime.now(UTC).isoformat(timespec="seconds"))


def _difference(archive: Archive, seen: Seen, first: Seen | None, folder: Path) -> str:
    """How a file differs from what is published, or else from what was seen first; empty where it does not."""
    for what in ("sha256", "md5", "size"):
        expected, found = getattr(archive, what), getattr(seen, what)
        if expected is not None and str(expected).lower() != str(found):
            return f"expected {what} {expected}, found {found}"
    if archive.sha256 is None and first is not None and first.sha256 != seen.sha256:
        return (
            f"expected sha256 {first.sha256} as first seen on {first.date[:10]} ({folder / SEEN}),"
            f" found {seen.sha256}; to take the new file from now on: --accept"
        )
    return ""


def _strange(archive: Archive, path: Path) -> str:
    """Whether a file that nothing is published about is not even of the kind that its name says; empty where it is."""
    if archive.sha256 or archive.md5:
        return ""
    if archive.name.endswith(ZIPPED) and not zipfile.is_zipfile(path):
        return "expected a whole zip archive, found something else"
    if archive.name.endswith(".gz"):
        with path.open("rb") as stream:
            if stream.read(2) != GZIP:
                return "expected a gzip file, found something else"
    return ""


@contextlib.contextmanager
def _record(folder: Path) -> Iterator[dict[str, Seen]]:
    """What was seen, to be changed; written as a whole when the block ends well."""
    from filelock import FileLock

    with FileLock(folder / f".{SEEN}.lock", timeout=30):
        there = seen_in(folder)
        before = dict(there)
        yield there
        if there != before:
            rows: list[dict[str, Any]] = [asdict(there[name]) for name in sorted(there)]
            with replacing(folder / SEEN) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
