"""Reading files of strangers: what lies in a folder, JSON, and arrays, each within limits that are checked before reading.

Nothing here follows a link, leaves the folder, unpickles, decompresses more than a header states, or runs anything.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.store import file_sha256
from robustbench_spur.submission.remarks import FaultError, quoted

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")
"""A name of a file or a folder that every system can hold, and no shell or page misreads."""
MEMBER = re.compile(r"[a-z]{1,20}/[a-z][a-z0-9_]{0,60}\.npy")
"""A member of a file of predictions: the partition, and the array."""
KINDS = "biufU"
"""Kinds of numbers and texts that arrays may hold; objects, which are pickles, are not among them."""
HEADER = 4096
"""Most bytes of the header of an array."""


@dataclass(frozen=True)
class Limits:
    """How much of a stranger's is read at all.

    Args:
        files: in a folder.
        depth: of folders in it.
        file_bytes: of one file.
        total_bytes: of all files.
        json_bytes: of a JSON file.
        arrays: in a file of predictions.
        unpacked_bytes: of a file of predictions, decompressed.
    """

    files: int = 20_000
    depth: int = 4
    file_bytes: int = 2_000_000_000
    total_bytes: int = 20_000_000_000
    json_bytes: int = 8_000_000
    arrays: int = 200
    unpacked_bytes: int = 1_000_000_000


LIMITS = Limits()


def listed(folder: Path, limits: Limits = LIMITS) -> dict[str, int]:
    """Size in bytes of every file below a folder, by its path relative to it with ``/``; what is no plain file is a fault.

    Raises:
        FaultError: a link, a special file, a name that not every system can hold, too many files, too deep, or too large.
    """
    found: dict[str, int] = {}
    waiting = [("", folder)]
    while waiting:
        place, here = waiting.pop()
        for entry in sorted(os.scandir(here), key=lambda one: one.name):
            name = f"{place}{entry.name}"
            if not NAME.fullmatch(entry.name):
                raise FaultError(
                    place, f"the name {quoted(entry.name)}", "names of letters, digits, _ . @ + -", "Rename it."
                )
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(mode.st_mode):
                if name.count("/") + 1 > limits.depth:
                    raise FaultError(name, "a folder deeper than that", f"at most {limits.depth} levels", "Move it up.")
                waiting.append((f"{name}/", Path(entry.path)))
                continue
            if not stat.S_ISREG(mode.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode.st_mode) else "a special file"
                raise FaultError(name, kind, "plain files", "Put the file itself in its place.")
            found[name] = mode.st_size
            _check_sizes(name, found, limits)
    return dict(sorted(found.items()))


def _check_sizes(name: str, found: Mapping[str, int], limits: Limits) -> None:
    if found[name] > limits.file_bytes:
        raise FaultError(name, f"{found[name]} bytes", f"at most {limits.file_bytes}", "Make it smaller.")
    if len(found) > limits.files:
        raise FaultError(
            "", "more files than that", f"at most {limits.files} files", "Submit what belongs to the entry alone."
        )
    if sum(found.values()) > limits.total_bytes:
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
        FaultError: too large, no UTF-8, no JSON object, NaN or infinity, a key twice, or nested beyond reason.
    """
    size = path.stat().st_size
    if size > limits.json_bytes:
        raise FaultError(
            name, f"{size} bytes", f"at most {limits.json_bytes} bytes of JSON", "Remove what does not belong."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise FaultError(name, "JSON nested beyond reason", "a plain object", "Pack the entry again.") from None
    except ValueError as error:
        raise FaultError(
            name, f"no JSON ({quoted(error)})", "a JSON object in UTF-8", "Pack the entry again."
        ) from None
    if not isinstance(content, dict):
        raise FaultError(name, f"a {type(content).__name__}", "a JSON object", "Pack the entry again.")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in [other for other, _ in pairs[:place]])
        raise ValueError(f"the key {twice[:60]!r} twice")
    return found


def read_arrays(path: Path, name: str, limits: Limits = LIMITS) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file: sizes are read from headers and held against what the archive states before anything is
    decompressed.

    Args:
        path: of the file.
        name: for messages.
        limits: how much is read.

    Raises:
        FaultError: no archive, a member of another name or twice, an array of objects, a header that disagrees with the
            archive, or more than the limits allow.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, name, limits)
            return {one.filename.removesuffix(".npy"): _array(archive, one, name) for one in members}
    except FaultError:
        raise
    except (ValueError, EOFError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        remedy = "Pack the entry again."
        raise FaultError(name, f"a damaged archive ({quoted(error)})", "an npz file", remedy) from error
    except Exception as error:  # zlib and bz2 have errors of their own
        raise FaultError(
            name, f"a damaged archive ({quoted(error)})", "an npz file", "Pack the entry again."
        ) from error


def _check_members(members: list[zipfile.ZipInfo], name: str, limits: Limits) -> None:
    remedy = "Pack the entry again with spurbench submit."
    if len(members) > limits.arrays:
        raise FaultError(name, f"{len(members)} arrays", f"at most {limits.arrays}", remedy)
    seen: set[str] = set()
    for one in members:
        if not MEMBER.fullmatch(one.filename):
            raise FaultError(name, f"the member {quoted(one.filename)}", "members such as test/logits.npy", remedy)
        if one.filename in seen:
            raise FaultError(name, f"the member {one.filename} twice", "every array once", remedy)
        seen.add(one.filename)
        if one.flag_bits & 1 or one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FaultError(
                name, f"{one.filename} encrypted or packed in another way", "arrays packed by deflate", remedy
            )
    total = sum(one.file_size for one in members)
    if total > limits.unpacked_bytes:
        raise FaultError(name, f"{total} bytes unpacked", f"at most {limits.unpacked_bytes}", remedy)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    """One array, whose header states as many bytes as the archive does."""
    with archive.open(member) as stream:
        start = stream.read(10)
        if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00",):
            raise FaultError(
                name, f"{member.filename} with another header", "arrays in npy format 1.0", "Pack it again."
            )
        length = int.from_bytes(start[8:10], "little")
        if length > HEADER:
            raise FaultError(
                name, f"a header of {length} bytes in {member.filename}", f"at most {HEADER}", "Pack it again."
            )
        dtype, shape = _header(stream.read(length), member.filename, name)
        expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if expected != member.file_size - 10 - length:
            found = f"{member.filename} of {expected} bytes by its header and {member.file_size - 10 - length} in the archive"
            raise FaultError(name, found, "as many bytes as the header states", "Pack the entry again.")
        content = stream.read(expected + 1)
    if len(content) != expected:
        raise FaultError(name, f"{member.filename} cut short", f"{expected} bytes", "Pack the entry again.")
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _header(text: bytes, member: str, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape from a header, in C order."""
    remedy = "Pack the entry again."
    try:
        about = ast.literal_eval(text.decode("latin-1").strip())
        dtype, shape, fortran = np.dtype(about["descr"]), about["shape"], about["fortran_order"]
    except Exception as error:  # whatever a stranger writes in there
        raise FaultError(name, f"a header that cannot be read in {member}", "an npy header", remedy) from error
    if dtype.kind not in KINDS or dtype.hasobject or dtype.names or dtype.subdtype:
        raise FaultError(name, f"{member} of type {quoted(about['descr'])}", "numbers or texts, never objects", remedy)
    if fortran is not False or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise FaultError(name, f"{member} of shape {quoted(shape)}", "an array in C order", remedy)
    return dtype, shape
