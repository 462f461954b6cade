"""Turns what readers raise on a missing or damaged file into one message that names it."""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robustbench_spur.types import SpurbenchError

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    struct.error,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers used here raise on a missing, truncated, corrupt or encrypted file."""


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn a reader's exception into an error that names the file.

    Args:
        path: the file that is read inside the block.
        expected: what it should be, as in "Expected ..., found ...".

    Raises:
        SpurbenchError: anything in :data:`DAMAGE` was raised inside the block.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise SpurbenchError(f"Expected {expected} at {path}, found no such file. Check the path.") from error
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SpurbenchError(f"Expected {expected}, found {path} unreadable ({reason}). Get the file again.") from error
