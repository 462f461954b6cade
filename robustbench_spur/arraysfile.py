"""Reads npz files of strangers: no pickle, and no array whose claimed size was not held against the file's before."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

MAX_BYTES = 2**30
MAX_ARRAYS = 10_000
SUFFIX = ".npy"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, by name.

    Args:
        path: of the file.
        max_bytes: that its arrays may take together, unpacked, by the zip's directory; zlib is not asked for more.

    Raises:
        SpurbenchError: missing, damaged, too large, or with something else than arrays of numbers and texts.
    """
    with reading(path, "an npz file"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_members(members, path, max_bytes)
        return {one.filename.removesuffix(SUFFIX): _read(archive, one, path) for one in members}


def _check_members(members: list[zipfile.ZipInfo], path: Path, max_bytes: int) -> None:
    names = [one.filename for one in members]
    total = sum(one.file_size for one in members)
    if len(names) > MAX_ARRAYS or total > max_bytes:
        raise SpurbenchError(
            f"Expected at most {MAX_ARRAYS} arrays and {max_bytes // 2**20} MiB in {path}, found {len(names)} arrays and"
            f" {total // 2**20} MiB unpacked."
        )
    for name in names:
        if not name.endswith(SUFFIX) or names.count(name) > 1:
            found = "twice" if names.count(name) > 1 else "there"
            raise SpurbenchError(
                f"Expected different arrays in {path}, found {name!r} {found}. Write it with numpy.savez."
            )


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    name = member.filename.removesuffix(SUFFIX)
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise SpurbenchError(f"Expected plain arrays in {path}, found {name!r} of format {version}.")
        shape, by_columns, dtype = HEADERS[version](stream)
        if dtype.hasobject or dtype.kind not in "biufU":
            raise SpurbenchError(
                f"Expected arrays of numbers or texts in {path}, found {name!r} of {dtype}. Python objects are not read."
            )
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or stream.tell() + size != member.file_size:
            raise SpurbenchError(f"Expected {size} bytes of {name!r} in {path}, found another number: it is damaged.")
        flat = np.frombuffer(stream.read(), dtype) if size else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")
