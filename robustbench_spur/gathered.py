"""Images that lie in several arrays, read as if they lay in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Gathered:
    """Rows of several arrays of images, in any order. Nothing is copied until it is read.

    Args:
        arrays: each uint8, shape (n_i, channels, height, width), perhaps a memory map.
        source: which array each row is of, shape (n,).
        row: its position there, shape (n,).

    >>> two = Gathered([np.zeros((3, 1, 2, 2), np.uint8), np.ones((2, 1, 2, 2), np.uint8)], np.array([1, 0]), np.array([0, 2]))
    >>> two.shape, two[np.array([1, 0])][:, 0, 0, 0].tolist()
    ((2, 1, 2, 2), [0, 1])
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, arrays: list[Images], source: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        self._arrays, self._source, self._row = arrays, source, row

    def __len__(self) -> int:
        return len(self._row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all images, (n, channels, height, width)."""
        return (len(self), *self._arrays[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return int(np.prod(self.shape))

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        """The images of some rows (a slice, indices or a mask), shape (len(rows), channels, height, width)."""
        source, row = self._source[rows], self._row[rows]
        out = np.empty((len(source), *self.shape[1:]), np.uint8)
        for number, array in enumerate(self._arrays):
            own = source == number
            out[own] = array[row[own]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def together(arrays: list[Images]) -> Images:
    """Several arrays of images, one after the other."""
    if len(arrays) == 1:
        return arrays[0]
    sizes = [len(array) for array in arrays]
    return Gathered(
        arrays, np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])
    )


Images = NDArray[np.uint8] | Gathered
"""uint8, shape (n, channels, height, width): one array, or rows of several."""
