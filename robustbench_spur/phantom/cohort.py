"""Which slices of which patients: positions along the body that say nothing about the label.

A tumour-free slice drawn anywhere outside the lesion lies further out than a tumour slice, and position alone would
tell the label in 72 % of the slices. So the positions of tumour-free slices are weighted such that, over all
patients, they are distributed as those of tumour slices are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.anatomy import LESION_REACH, draw_extents, extent_quantiles
from robustbench_spur.phantom.draws import Floats, Stream, generator
from robustbench_spur.types import SpurbenchError

BUFFER = 6.0
"""Tumour-free slices lie at least this many mm beyond either end of the lesion."""

CORE = 0.72
"""Tumour slices lie within this share of the lesion's half height, where it fills some of the slice."""

MOST_SLICES = 16
"""Slices per patient and label that always find distinct positions, a tenth of a mm apart."""

TENTHS = np.arange(-640, 641)
"""Every position that a tumour slice can have, in tenths of a mm: none lies further than 41 + 0.72 x 31.2 mm out."""


@dataclass(frozen=True)
class Plan:
    """Slices of a set of patients, by patient and then by position; every field has shape (slices,).

    Args:
        row: position of the slice's patient in the set.
        tenths: position along the body in tenths of a mm, distinct within a patient.
        label: 1 where the slice holds tumour.
    """

    row: NDArray[np.int64]
    tenths: NDArray[np.int64]
    label: NDArray[np.int64]

    @property
    def z(self) -> Floats:
        """Position along the body in mm."""
        return self.tenths / 10


def plan_slices(
    seed: int, patients: NDArray[np.int64], positive: NDArray[np.int64], negative: NDArray[np.int64]
) -> Plan:
    """Choose slices with and without tumour for each patient.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
        positive: tumour slices of each patient, at most 16.
        negative: tumour-free slices of each patient, at most 16.

    Raises:
        SpurbenchError: more slices than a small lesion has room for.
    """
    most = max(positive.max(initial=0), negative.max(initial=0))
    if most > MOST_SLICES:
        raise SpurbenchError(
            f"Expected at most {MOST_SLICES} slices per patient and label, found {most}. Ask for fewer."
        )
    extents = draw_extents(seed, patients)
    rows: list[tuple[int, int, int]] = []
    for row, patient in enumerate(patients.tolist()):
        stream = generator(seed, Stream.SLICES, patient)
        centre, reach = float(extents.z[row]), float(extents.half_height[row])
        with_tumour = _tumour(stream, centre, reach, int(positive[row]))
        without = _tumour_free(stream, centre, reach, int(negative[row]))
        rows += sorted([(row, z, 1) for z in with_tumour] + [(row, z, 0) for z in without])
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Plan(columns[:, 0], columns[:, 1], columns[:, 2])


def _tumour(stream: np.random.Generator, centre: float, reach: float, count: int) -> list[int]:
    """One position in each of ``count`` equal parts of the lesion's core, in tenths of a mm."""
    chosen: list[int] = []
    for part in range(count):
        tenths = None
        while tenths is None or tenths in chosen:
            share = 2 * (part + stream.random()) / count - 1
            tenths = round(10 * (centre + CORE * reach * share))
        chosen.append(tenths)
    return chosen


def _tumour_free(stream: np.random.Generator, centre: float, reach: float, count: int) -> list[int]:
    """Weighted positions that clear the lesion and its buffer, in tenths of a mm."""
    weights = np.where(np.abs(TENTHS / 10 - centre) > reach + BUFFER, tumour_free_weights(), 0.0)
    cumulative = np.cumsum(weights)
    chosen: list[int] = []
    while len(chosen) < count:
        tenths = int(TENTHS[np.searchsorted(cumulative, cumulative[-1] * stream.random(), side="right")])
        if tenths not in chosen:
            chosen.append(tenths)
    return chosen


@cache
def tumour_free_weights() -> Floats:
    """Weight of each position of :data:`TENTHS` among those that a patient's lesion leaves free.

    Weights w are sought with mean over lesions of w(z) free(z) / sum(w free) = f(z), the density of tumour slices. The
    fixed point w <- w f / mean, as in iterative proportional fitting, is within 1e-3 of it after 30 rounds.
    """
    positions = TENTHS[::10] / 10
    half_height = extent_quantiles()
    centre = (np.arange(82) + 0.5) - LESION_REACH
    free = np.abs(positions - centre[:, None, None]) > half_height[:, None] + BUFFER
    free_share = free.reshape(-1, len(positions)).astype(np.float64)
    target = _tumour_density(positions, half_height)
    weights = target.copy()
    for _ in range(30):
        achieved = weights * (1 / (free_share @ weights) @ free_share) / len(free_share)
        weights *= np.divide(target, achieved, out=np.zeros_like(target), where=target > 0)
    return np.interp(TENTHS / 10, positions, weights)


def _tumour_density(positions: Floats, half_height: Floats) -> Floats:
    """Share of all tumour slices at each position: a lesion's centre and a place in its core, both uniform."""
    core = CORE * half_height[:, None]
    overlap = np.minimum(positions + core, LESION_REACH) - np.maximum(positions - core, -LESION_REACH)
    density = (np.maximum(overlap, 0.0) / core).mean(axis=0)
    return np.asarray(density / density.sum())
