"""Results of stages, named by the hash of what determines them: done means that the artifact exists."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import SpurbenchError

DONE = "done.json"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def content_hash(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it replaces ``path`` at once, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not tempfile, whose files nobody else may read
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Store:
    """A folder of artifacts, each a folder of files, written as a whole or not at all.

    Args:
        root: place of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """Where the artifact of ``key`` lies, or would lie."""
        return self.root / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether the artifact is complete."""
        return (self.folder(key) / DONE).is_file()

    def about(self, key: str) -> dict[str, Any]:
        """What was noted when the artifact was made: title, notes, cost."""
        loaded: dict[str, Any] = json.loads((self.folder(key) / DONE).read_text())
        return loaded

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Give an empty folder to fill and a dictionary to note things in; publish both when the block ends well."""
        final = self.folder(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{key[:12]}.{secrets.token_hex(8)}")
        temporary.mkdir()
        about: dict[str, Any] = {}
        try:
            yield temporary, about
            (temporary / DONE).write_text(json.dumps(about, allow_nan=False, indent=1))
            try:
                temporary.rename(final)
            except OSError:
                if not self.has(key):  # else another process was first; its artifact is as good
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def arrays(self, key: str) -> dict[str, NDArray[Any]]:
        """The arrays of an artifact, read without pickle."""
        return read_arrays(self.folder(key) / "arrays.npz")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to an npz file, compressed, refusing objects."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **dict[str, Any](arrays))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an npz file without pickle.

    Raises:
        SpurbenchError: the file is damaged.
    """
    try:
        # opened here: numpy leaves a file open that it cannot read
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SpurbenchError(f"Expected arrays in {path}, found it damaged ({error}). Run: spurbench clean") from error
