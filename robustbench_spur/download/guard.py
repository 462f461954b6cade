"""What a transfer or an unpacking asks for before it begins: to be the only one, and room on the disk."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from robustbench_spur.types import SpurbenchError


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        lock: file that is made for it.
        what: the other process would be doing, as in "Another process is ...".

    Raises:
        SpurbenchError: another process holds it.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise SpurbenchError(f"Another process is {what}. Wait for it to end.") from None


def require_space(folder: Path, size: int) -> None:
    """Refuse to begin what cannot end.

    Args:
        folder: where it is to lie.
        size: in bytes.

    Raises:
        SpurbenchError: the disk has less free space.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SpurbenchError(
            f"Expected {size / 1e9:.2f} GB of free space for {folder}, found {free / 1e9:.2f} GB."
            " Free some, or name another place."
        )
