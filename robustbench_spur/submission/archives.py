"""Reading arrays and weights of strangers, within limits that are checked before reading.

Nothing here unpickles, decompresses more than a header states, or runs anything.
"""

from __future__ import annotations

import ast
import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.submission.remarks import FaultError, quoted
from robustbench_spur.submission.safely import LIMITS, Limits, parse_json

MEMBER = re.compile(r"[a-z]{1,20}/[a-z][a-z0-9_]{0,60}\.npy")
"""A member of a file of predictions: the partition, and the array."""
KINDS = "biufU"
"""Kinds of numbers and texts that arrays may hold; objects, which are pickles, are not among them."""
HEADER = 4096
"""Most bytes of the header of an array."""
END, END64 = b"PK\x05\x06", b"PK\x06\x07"
"""What the last record of an archive begins with, and what tells of a larger one before it."""
END_BYTES, END64_BYTES = 22, 20
MEMBER_BYTES = 256
"""Most bytes of a member's entry in an archive's directory."""
MAGIC = b"\x93NUMPY\x01\x00"
"""What an array in npy format 1.0 begins with."""
BLOCK = 2**20
"""Bytes that are decompressed at a time."""
WEIGHTS_HEADER = 1_000_000
"""Most bytes of the header of a file of weights."""


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
        _check_end(path, name, limits)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, name, limits)
            return {one.filename.removesuffix(".npy"): _array(archive, one, name) for one in members}
    except FaultError:
        raise
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        remedy = "Pack the entry again."
        raise FaultError(name, f"a damaged archive ({quoted(error)})", "an npz file", remedy) from error
    except Exception as error:  # zlib and bz2 have errors of their own
        raise FaultError(
            name, f"a damaged archive ({quoted(error)})", "an npz file", "Pack the entry again."
        ) from error


def _check_end(path: Path, name: str, limits: Limits) -> None:
    """Hold the size of an archive's directory, which is read as a whole, against the limits."""
    most = limits.arrays * MEMBER_BYTES
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - END_BYTES - END64_BYTES))
        last = stream.read()
    end, before = last[-END_BYTES:], last[:-END_BYTES]
    if end[:4] != END or end[-2:] != b"\0\0":
        raise FaultError(name, f"a damaged archive ({size} bytes, no end)", "an npz file", "Pack the entry again.")
    directory = int.from_bytes(end[12:16], "little")
    if before[:4] == END64 or directory > most:
        told = "larger than 4 GB" if before[:4] == END64 else f"of {directory} bytes"
        raise FaultError(name, f"an archive with a directory {told}", f"at most {most} bytes", "Pack the entry again.")


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
        if start[:8] != MAGIC:
            told = f"{member.filename} that begins with {start[:8]!r}"
            raise FaultError(name, told, "arrays in npy format 1.0", "Pack the entry again.")
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
        content, there = bytearray(expected), 0
        while part := stream.read(min(BLOCK, expected - there)):
            content[there : there + len(part)] = part
            there += len(part)
        more = stream.read(1)  # the checksum is compared at the end
    if there != expected or more:
        raise FaultError(name, f"{member.filename} cut short", f"{expected} bytes", "Pack the entry again.")
    return np.ndarray(shape, dtype, content)


def _header(text: bytes, member: str, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape from a header, in C order and in the byte order of this machine."""
    remedy = "Pack the entry again."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stranger's text, not ours to mend
            about = ast.literal_eval(text.decode("latin-1").strip())
            stated, shape, fortran = about["descr"], about["shape"], about["fortran_order"]
            dtype = np.dtype(stated)
    except Exception as error:  # whatever a stranger writes in there
        told = f"a header that cannot be read in {member}, {quoted(text.decode('latin-1'), 40)}"
        raise FaultError(name, told, "an npy header", remedy) from error
    plain = isinstance(stated, str) and dtype.kind in KINDS and dtype.itemsize > 0
    if not plain or dtype.hasobject or dtype.names or dtype.subdtype:
        raise FaultError(name, f"{member} of type {quoted(stated)}", "numbers or texts, never objects", remedy)
    if not dtype.isnative:
        raise FaultError(name, f"{member} of type {quoted(stated)}", f"{dtype.newbyteorder('=')}", remedy)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 2:
        raise FaultError(name, f"{member} of shape {quoted(shape)}", "a shape of one or two axes", remedy)
    if fortran is not False:
        raise FaultError(name, f"{member} in Fortran order", "an array in C order", remedy)
    return dtype, shape


def check_weights(path: Path, name: str) -> None:
    """Refuse a file that is no safetensors file: a header of JSON, whose tensors fill the rest. Nothing of it is loaded.

    Raises:
        FaultError: another kind of file, a pickle among others, or a header that disagrees with its size.
    """
    expected, remedy = "a safetensors file", "Export the weights with spurbench export."
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, WEIGHTS_HEADER):
            raise FaultError(name, f"no header of tensors in its {size} bytes", expected, remedy)
        header = parse_json(stream.read(length), f"the header of {name}")
    ends = [0]
    for about in (one for key, one in header.items() if key != "__metadata__"):
        place = about.get("data_offsets") if isinstance(about, dict) else None
        if not isinstance(place, list) or len(place) != 2 or not all(type(one) is int and one >= 0 for one in place):
            raise FaultError(name, "a tensor without its place", expected, remedy)
        ends.append(place[1])
    if len(ends) == 1 or max(ends) != size - 8 - length:
        found = f"tensors of {max(ends)} bytes in a file that has {size - 8 - length} for them"
        raise FaultError(name, found, expected, remedy)
