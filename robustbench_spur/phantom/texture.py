"""Smooth random textures that fill the body: sums of plane waves in three dimensions, one draw per patient.

A field is a function of place, so neighbouring slices agree and any matrix size samples the same tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.draws import Columns, Floats, Map, Stream, Uniforms, uniforms

WAVES = 40
BANDS = ((16.0, 55.0), (9.0, 24.0), (28.0, 90.0), (7.0, 16.0), (2.5, 7.0))
"""Wavelengths in mm of the fields, in the order of the fields of :class:`Textures`."""

STRETCH = ((1.15, 0.75), (1.15, 0.75), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
"""Factors on the wave numbers along x and y: lobes and strands of the gland run from the chest to the nipple."""


@dataclass(frozen=True)
class Waves(Columns):
    """The plane waves of each patient's fields.

    Args:
        numbers: wave vectors in rad/mm along x, y, z, shape (patients, fields, waves, 3).
        phases: in radians, shape (patients, fields, waves).
    """

    numbers: Floats
    phases: Floats


@dataclass(frozen=True)
class Textures:
    """Values of the fields at every pixel, mean 0 and variance 1, each of shape (slices, size, size).

    Args:
        lobes: wavelengths of 16 to 55 mm: lobes of the gland, and vessels where it is near 0.
        strands: 9 to 24 mm.
        broad: 28 to 90 mm: regions.
        grain: 7 to 16 mm.
        fine: 2.5 to 7 mm, as far as the matrix can show them; 0, of shape (slices, 1, 1), where it can show none.
    """

    lobes: Map
    strands: Map
    broad: Map
    grain: Map
    fine: Map


def draw_waves(seed: int, patients: NDArray[np.int64]) -> Waves:
    """Plane waves of the given patients: directions uniform on the sphere, wavelengths log-uniform in each band."""
    take = Uniforms(uniforms(seed, Stream.TEXTURE, patients, (len(BANDS), WAVES, 4)))
    low, high = (np.log(np.array(ends))[:, None] for ends in zip(*BANDS, strict=True))
    number = 2 * np.pi / np.exp(low + (high - low) * take.uniform())
    cosine = take.uniform(-1.0, 1.0)
    azimuth = take.uniform(0.0, 2 * np.pi)
    along_x, along_y = (np.array(factors)[:, None] for factors in zip(*STRETCH, strict=True))
    sine = np.sqrt(1 - cosine**2)
    direction = np.stack([along_x * sine * np.cos(azimuth), along_y * sine * np.sin(azimuth), cosine], axis=-1)
    return Waves(number[..., None] * direction, take.uniform(0.0, 2 * np.pi))


def textures(waves: Waves, axis: Map, z: Floats) -> Textures:
    """Sample the fields on a square grid.

    Args:
        waves: of the patient of each slice (one row per slice).
        axis: coordinates in mm of the columns, and of the rows, shape (size,).
        z: of each slice in mm, shape (slices,).
    """
    coarse = len(BANDS) - 1
    fields = _sample(waves.numbers[:, :coarse], waves.phases[:, :coarse], axis, z)
    pixel = float(axis[1] - axis[0])
    if BANDS[coarse][1] > 2 * pixel:
        numbers, phases = waves.numbers[:, coarse:], waves.phases[:, coarse:]
        length = 2 * np.pi / np.linalg.norm(numbers, axis=-1)
        fine = _sample(numbers, phases, axis, z, np.clip(length / pixel / 2 - 1, 0, 1))[:, 0]
    else:
        fine = np.zeros((len(z), 1, 1), np.float32)
    lobes, strands, broad, grain = np.moveaxis(fields, 1, 0)
    return Textures(lobes, strands, broad, grain, fine)


def _sample(numbers: Floats, phases: Floats, axis: Map, z: Floats, weights: Floats | float = 1.0) -> Map:
    """Fields of shape (slices, fields, size, size); ``weights`` damp waves too short for the pixel, which would alias.

    A wave is separable, cos(ax + by) = cos(ax) cos(by) - sin(ax) sin(by), so a field is a product of two
    thin matrices: 2 x waves x size cosines instead of waves x size x size.
    """
    phase = (phases + numbers[..., 2] * z[:, None, None])[..., None]
    along_x = (numbers[..., 0, None] * axis).astype(np.float32)
    along_y = (numbers[..., 1, None] * axis + phase).astype(np.float32)
    weight = np.asarray(weights * np.sqrt(2.0 / WAVES), np.float32)[..., None]
    rows = np.concatenate([np.cos(along_y) * weight, np.sin(along_y) * -weight], axis=2)
    columns = np.concatenate([np.cos(along_x), np.sin(along_x)], axis=2)
    return np.asarray(np.matmul(rows.swapaxes(2, 3), columns))
