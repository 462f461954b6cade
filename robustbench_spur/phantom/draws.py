"""Random numbers by address: every stream is found from (seed, stream, patient, slice), whatever was drawn before.

That is what makes a counterfactual possible: the same patient under another scanner meets the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Map = NDArray[np.floating[Any]]
"""One value per pixel, shape (slices, size, size), or per slice, shape (slices, 1, 1); float32 when it runs."""


class Stream(IntEnum):
    """What a stream of random numbers is for. The numbers are part of the data's identity: never reuse one."""

    ANATOMY = 1
    LESION = 2
    SCANNER = 3
    SLICES = 4
    NOISE = 5
    TEXTURE = 6
    MASSES = 7
    FOCI = 8
    ATTRIBUTE = 9
    NUISANCE = 10
    LABEL = 11


def generator(seed: int, stream: Stream, address: int, part: int = 0) -> np.random.Generator:
    """The generator at an address, by counter-based Philox: distinct addresses are distinct keys, so never overlap.

    Args:
        seed: of the data, 0 to 2**63 - 1.
        stream: what for.
        address: a patient's number, 0 to 2**32 - 1.
        part: a slice of that patient, 0 to 2**20 - 1.

    >>> float(generator(1, Stream.NOISE, 7).random()) == float(generator(1, Stream.NOISE, 7).random())
    True
    """
    key = np.array([seed, (int(stream) << 56) | (address << 20) | part], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, stream: Stream, patients: NDArray[np.int64], shape: tuple[int, ...]) -> Floats:
    """Uniform numbers of each patient's own stream, shape (patients, *shape)."""
    out = np.empty((len(patients), *shape))
    for row, patient in enumerate(patients.tolist()):
        generator(seed, stream, patient).random(out=out[row])
    return out


def normal_quantile(probability: Floats) -> Floats:
    """Standard normal quantile, cut at one in a million on both sides; any shape."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(probability, 1e-6, 1 - 1e-6)))


class Uniforms:
    """Columns of uniform numbers, taken one after the other and turned into the distribution asked for.

    Args:
        values: in [0, 1), shape (patients, ..., columns). Each method takes the next column, shape (patients, ...).

    >>> take = Uniforms(np.array([[0.5, 0.25, 0.5]]))
    >>> take.normal(72.0, 5.0).tolist(), take.uniform(0.0, 8.0).tolist(), take.lognormal(2.0, 0.1).tolist()
    ([72.0], [2.0], [2.0])
    """

    def __init__(self, values: Floats) -> None:
        self._columns = iter(np.moveaxis(values, -1, 0))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Uniform between ``low`` and ``high``."""
        return np.asarray(low + (high - low) * next(self._columns))

    def normal(self, mean: float = 0.0, sd: float = 1.0, low: float = -np.inf, high: float = np.inf) -> Floats:
        """Normal, clipped to ``low`` and ``high``."""
        return np.clip(mean + sd * normal_quantile(next(self._columns)), low, high)

    def lognormal(self, median: float, sd: float, low: float = 0.0, high: float = np.inf) -> Floats:
        """Log-normal with standard deviation ``sd`` of the logarithm, clipped to ``low`` and ``high``."""
        return np.clip(median * np.exp(sd * normal_quantile(next(self._columns))), low, high)

    def category(self, probabilities: tuple[float, ...]) -> NDArray[np.int64]:
        """Codes 0, 1, ... with the given probabilities."""
        codes = np.searchsorted(np.cumsum(probabilities), next(self._columns))
        return np.asarray(np.minimum(codes, len(probabilities) - 1))

    def poisson(self, mean: float, most: int) -> NDArray[np.int64]:
        """Poisson counts, cut at ``most``."""
        from scipy.special import pdtr

        return np.asarray(np.searchsorted(pdtr(np.arange(most), mean), next(self._columns)))

    def several(self, count: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """``count`` uniform columns at once, shape (patients, ..., count)."""
        return np.stack([self.uniform(low, high) for _ in range(count)], axis=-1)


@dataclass(frozen=True)
class Columns:
    """Base of the records whose fields are arrays with one row per patient or per slice."""

    def rows(self, index: NDArray[Any] | tuple[NDArray[Any], int]) -> Self:
        """The record of the given rows, or of one column of these."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def planes(self) -> Self:
        """The record as float32 that broadcasts over maps: (n,) to (n, 1, 1), and (n, k) to (k, n, 1, 1)."""
        planes = {}
        for f in fields(self):
            values = np.asarray(getattr(self, f.name))
            planes[f.name] = np.moveaxis(values.astype(np.float32), 0, -1)[..., None, None]
        return type(self)(**planes)
