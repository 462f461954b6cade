"""Scenes on disk: slices rendered otherwise, and masks, made once for all models and evaluators that look at them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.runtime import Runtime
from robustbench_spur.stage import Stage
from robustbench_spur.store import content_hash

BLOCKS = "blocks.npy"
BLOCK = 256
"""Rows that are given at a time when a scene is read again."""


def kept_scene(
    runtime: Runtime, pixels: Stage, name: str, code: str, count: int, render: Callable[[], Iterator[NDArray[Any]]]
) -> Callable[[], Iterator[NDArray[Any]]]:
    """A scene that is rendered when it is first looked at, and read from then on.

    It is kept beside the images, under a name that holds theirs (files, rows, size) and the data set's code.

    Args:
        runtime: where it is kept.
        pixels: the stage of the partition's images.
        name: of the scene.
        code: hash of the data set's file.
        count: rows of the partition.
        render: gives its blocks, see :meth:`Dataset.scene`.

    Returns:
        What gives the blocks. Only a scene that has come to its end, with as many rows as there should be, is kept.
    """
    store, key = runtime.pixels, content_hash(["scene", pixels.key, name, code])

    def blocks() -> Iterator[NDArray[Any]]:
        if store.has(key):
            # a copy, since what takes the blocks may want to write to them
            rows = np.load(store.folder(key) / BLOCKS, mmap_mode="r")
            yield from (np.array(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
            return
        with contextlib.ExitStack() as stack:
            folder, about = stack.enter_context(store.making(key))
            written = _Written(folder / BLOCKS, count)
            for block in render():
                written.add(block)
                yield block
            if not written.complete:
                raise _IncompleteError
            about |= {"title": f"scene {name!r} of {pixels.title}"}

    def whole() -> Iterator[NDArray[Any]]:
        with contextlib.suppress(_IncompleteError):  # who looks at it says what is wrong with it
            yield from blocks()

    return whole


class _IncompleteError(Exception):
    """A scene has ended with other rows than it should have."""


class _Written:
    """An array file that is filled block by block.

    Args:
        path: of the file.
        count: rows that it will have.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.done = path, count, 0
        self.fits = True
        self._rows: Any = None

    def add(self, block: NDArray[Any]) -> None:
        """Write the next rows; nothing where they do not fit those before."""
        if self._rows is None:
            shape = (self.count, *block.shape[1:])
            self._rows = np.lib.format.open_memmap(self.path, mode="w+", dtype=block.dtype, shape=shape)
        stop = self.done + len(block)
        alike = block.shape[1:] == self._rows.shape[1:] and block.dtype == self._rows.dtype
        self.fits = self.fits and alike and stop <= self.count
        if self.fits:
            self._rows[self.done : stop] = block
            self.done = stop

    @property
    def complete(self) -> bool:
        """Whether all rows are there; they are on disk then."""
        if self.fits and self.done == self.count and self._rows is not None:
            self._rows.flush()
            return True
        return False
