"""Slices to pixels: tissues layered from back to front, the coil, the noise, the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom import focal, geometry, tissue
from robustbench_spur.phantom.anatomy import (
    Anatomy,
    Findings,
    Lesions,
    draw_anatomy,
    draw_foci,
    draw_lesions,
    draw_masses,
)
from robustbench_spur.phantom.draws import Columns, Floats, Map, Stream, generator
from robustbench_spur.phantom.scanner import (
    FIELD_STRENGTHS,
    Acquisition,
    acquisition,
    draw_quantiles,
    scanners,
    sensitivity,
    window_scale,
)
from robustbench_spur.phantom.texture import Textures, Waves, draw_waves, textures
from robustbench_spur.types import SpurbenchError

LEAST_SIZE = 16
LEAST_SHARE = 1e-3
"""A smaller share of a pixel is none: as for the lesion, a soft edge would else have no end."""
BATCH_PIXELS = 2**17
"""Pixels worked on at a time: so few that the maps of a batch stay in a processor's cache."""


@dataclass(frozen=True)
class Slices(Columns):
    """What to render; every field has shape (slices,).

    Args:
        patient: numbers of the patients.
        z: position along the body in mm.
        field_strength: 1.5 or 3.0 tesla.
        rotated: whether the image is turned by 180 degrees.
    """

    patient: NDArray[np.int64]
    z: Floats
    field_strength: Floats
    rotated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.patient)


@dataclass(frozen=True)
class Patients:
    """Everything drawn for the patients of some slices, one row per slice."""

    anatomy: Anatomy
    lesions: Lesions
    masses: Findings
    foci: Findings
    waves: Waves
    quantiles: Floats


def draw_patients(seed: int, patient: NDArray[np.int64]) -> Patients:
    """Draw the patients of some slices, each once.

    Args:
        seed: of the data.
        patient: number of each slice's patient, shape (slices,).
    """
    numbers, row = np.unique(patient, return_inverse=True)
    anatomy = draw_anatomy(seed, numbers)
    return Patients(
        anatomy=anatomy.rows(row),
        lesions=draw_lesions(seed, numbers, anatomy).rows(row),
        masses=draw_masses(seed, numbers, anatomy).rows(row),
        foci=draw_foci(seed, numbers, anatomy).rows(row),
        waves=draw_waves(seed, numbers).rows(row),
        quantiles=draw_quantiles(seed, numbers)[row],
    )


def render(seed: int, slices: Slices, size: int, *, lesions: bool = True) -> NDArray[np.uint8]:
    """Images of the slices. A slice comes out the same alone and in any batch, bit for bit.

    Args:
        seed: of the data.
        slices: what to render.
        size: of the matrix, at least 16; the field of view is 320 mm at any size.
        lesions: whether patients have their index lesion.

    Returns:
        Shape (slices, size, size).

    Raises:
        SpurbenchError: a size or a field strength that cannot be.
    """
    check(slices, size)
    images = [_render_batch(seed, batch, size, lesions) for batch in _batches(slices, size)]
    return np.concatenate(images) if images else np.empty((0, size, size), np.uint8)


def lesion_masks(seed: int, slices: Slices, size: int) -> NDArray[np.float32]:
    """Share of each pixel that the index lesion fills, 0 to 1, turned like the image, shape (slices, size, size)."""
    check(slices, size)
    masks = []
    for batch in _batches(slices, size):
        patients = draw_patients(seed, batch.patient)
        at = _frame(patients, batch, size)
        masks.append(_turn(focal.lesion(at, geometry.outline(at), patients.lesions)[0], batch.rotated))
    return np.concatenate(masks) if masks else np.empty((0, size, size), np.float32)


def body_masks(seed: int, slices: Slices, size: int) -> NDArray[np.float32]:
    """Share of each pixel that the body fills, breasts included, exactly 0 in the air, shape (slices, size, size).

    Turned like the image. The outline follows from the patient alone: it is the same on every scanner, and with and
    without the lesion, which lies inside it.
    """
    check(slices, size)
    flat = np.zeros((1, 1, 1), np.float32)
    masks = []
    for batch in _batches(slices, size):
        numbers, row = np.unique(batch.patient, return_inverse=True)
        anatomy = draw_anatomy(seed, numbers).rows(row).planes()
        z = batch.z.astype(np.float32)[:, None, None]
        # no texture moves the outline of the body
        at = geometry.frame(anatomy, z, Textures(flat, flat, flat, flat, flat), size)
        share = geometry.soft(geometry.outline(at).body, at.edge)
        masks.append(_turn(np.where(share < LEAST_SHARE, np.float32(0), share), batch.rotated))
    return np.concatenate(masks) if masks else np.empty((0, size, size), np.float32)


def check(slices: Slices, size: int) -> None:
    """Refuse what cannot be rendered.

    Raises:
        SpurbenchError: a size below 16, or a field strength other than 1.5 and 3.0 tesla.
    """
    if size < LEAST_SIZE:
        raise SpurbenchError(
            f"Expected an image size of at least {LEAST_SIZE} pixels, found {size}. Choose 64 or more."
        )
    strange = np.setdiff1d(slices.field_strength, FIELD_STRENGTHS)
    if len(strange):
        raise SpurbenchError(f"Expected field strengths of 1.5 or 3.0 tesla, found {strange[0]}. Change that row.")


def _batches(slices: Slices, size: int) -> Iterator[Slices]:
    step = max(1, BATCH_PIXELS // size**2)
    for start in range(0, len(slices), step):
        yield slices.rows(np.arange(start, min(start + step, len(slices))))


def _frame(patients: Patients, slices: Slices, size: int) -> geometry.Frame:
    fields = textures(patients.waves, geometry.pixel_axis(size), slices.z)
    z = slices.z.astype(np.float32)[:, None, None]
    return geometry.frame(patients.anatomy.planes(), z, fields, size)


def _render_batch(seed: int, slices: Slices, size: int, lesions: bool) -> NDArray[np.uint8]:
    patients = draw_patients(seed, slices.patient)
    scanner = scanners(patients.quantiles, slices.field_strength).planes()
    at = _frame(patients, slices, size)
    scan = acquisition(scanner, at.x, at.y)
    signal = _tissues(at, scan, patients, lesions) * sensitivity(scanner, at.x, at.y)
    noise = scanner.sigma * _noise(seed, slices, size)
    magnitude = np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2)
    grey = np.clip(magnitude * window_scale(scanner) + 0.5, 0, 255)
    return _turn(grey.astype(np.uint8), slices.rotated)


def _tissues(at: geometry.Frame, scan: Acquisition, patients: Patients, lesions: bool) -> Map:
    """Signal of the body without noise: each layer replaces its share of what lies below it."""
    lines = geometry.outline(at)
    trunk = tissue.trunk(at, lines)
    failure = np.clip(0.35 + 0.5 * at.texture.broad + 0.7 * np.exp(lines.body / 9), 0, 2) * scan.scanner.field_error
    signal = scan.fat(failure) * trunk.body
    layers = [_breast(at, scan, lines, trunk, patients), _chest(at, scan, lines, trunk)]
    if lesions:
        layers.append(_lesion(at, scan, lines, patients))
    for layer in layers:
        for mask, value in layer:
            signal += mask * (value - signal)
    return signal


def _breast(
    at: geometry.Frame, scan: Acquisition, lines: geometry.Outline, trunk: tissue.Trunk, patients: Patients
) -> Iterator[tuple[Map, Map]]:
    """Layers of the breast, from back to front: mask and signal."""
    body = at.anatomy
    yield (
        tissue.gland(at, lines, trunk.breast),
        scan.signal("gland", body.background * (1 + 0.35 * at.texture.broad + 0.15 * at.texture.fine)),
    )
    yield tissue.vessels(at, trunk.breast), scan.signal("blood", body.vascular * 0.8)
    for items in (patients.masses, patients.foci):
        solid, concentration, cysts = focal.findings(at, items)
        yield cysts * trunk.breast, scan.signal("cyst")
        yield solid * trunk.breast, scan.signal("gland", concentration)
    yield trunk.skin * 0.9, scan.signal("skin", 0.18)


def _chest(
    at: geometry.Frame, scan: Acquisition, lines: geometry.Outline, trunk: tissue.Trunk
) -> Iterator[tuple[Map, Map]]:
    """Layers of the chest, from back to front: mask and signal."""
    body, texture = at.anatomy, at.texture
    organs = tissue.organs(at, lines, trunk)
    yield trunk.inner, scan.signal("muscle", 0.10) * (1 + 0.12 * texture.strands + 0.10 * texture.fine)
    yield organs.ribs, scan.signal("marrow", 0.05) * 0.6
    yield organs.lung, 0.0035 * (1 + 0.6 * texture.grain)
    yield organs.lung * np.clip(2 * texture.grain - 3, 0, 1), scan.signal("blood", body.vascular * 0.1)
    yield organs.mediastinum * 0.8, scan.signal("fat") * scan.scanner.fat_residual * 1.6
    yield organs.liver, scan.signal("liver", 0.30) * (1 + 0.06 * texture.grain)
    yield organs.heart, scan.signal("blood", body.vascular * 0.55) * (1 + 0.10 * texture.lobes + 0.06 * texture.grain)
    yield organs.wall, scan.signal("muscle", 0.30)
    yield organs.back, scan.signal("muscle", 0.08)
    yield organs.spine, scan.signal("marrow", 0.06)
    yield organs.vessels, scan.signal("blood", body.vascular)


def _lesion(
    at: geometry.Frame, scan: Acquisition, lines: geometry.Outline, patients: Patients
) -> Iterator[tuple[Map, Map]]:
    """The index lesion, in front of everything else."""
    mask, concentration = focal.lesion(at, lines, patients.lesions)
    if mask.any():
        yield mask, scan.signal("tumour", concentration)


def _noise(seed: int, slices: Slices, size: int) -> Map:
    """Unit Gaussian noise of the real and the imaginary channel, shape (2, slices, size, size).

    Keyed by patient and position alone, so that a counterfactual slice meets the same noise.
    """
    noise = np.empty((2, len(slices), size, size), np.float32)
    for row, (patient, z) in enumerate(zip(slices.patient.tolist(), slices.z.tolist(), strict=True)):
        stream = generator(seed, Stream.NOISE, patient, round(z * 100) + 100_000)
        noise[:, row] = stream.standard_normal((2, size, size), np.float32)
    return noise


def _turn(images: NDArray[Any], rotated: NDArray[np.bool_]) -> NDArray[Any]:
    """Turn the marked images by 180 degrees, in place."""
    images[rotated] = images[rotated][:, ::-1, ::-1]
    return images
