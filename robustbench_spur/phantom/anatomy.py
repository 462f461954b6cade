"""Who a patient is: body, breasts, index lesion, benign findings. Lengths in mm, contrast agent in mmol/l (mM).

Axes: x to the image's right, y from front (negative) to back, z along the body; the origin is the centre of the image
and of the breasts. Every patient has one malignant lesion, as in the Duke cohort, where all have biopsy-proven cancer:
a tumour-free slice is a slice beside it. Sizes are choices, made so that a small network reaches about 84 %; lesion
diameters (12, 21 and 37 mm at 5, 50 and 95 %) lie below Duke's annotation boxes, which have margins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.draws import Columns, Floats, Stream, Uniforms, uniforms

LESION_REACH = 41.0
"""Index lesions have their centre within this many mm of the middle slice."""

MASSES = 4
FOCI = 12
HARMONICS = (2, 3, 4, 5)
"""Angular orders of a lesion's outline."""

_ANATOMY_COLUMNS = 32
_LESION_COLUMNS = 24


@dataclass(frozen=True)
class Anatomy(Columns):
    """Body and breasts of each patient; every field has shape (patients,).

    Args:
        chest_y: centre of the chest's ellipse.
        chest_half_width: of that ellipse.
        chest_half_depth: of that ellipse.
        breast_x: distance of a breast's axis from the midline.
        breast_half_width: at its base.
        breast_length: from base to nipple, in the middle slice.
        asymmetry: right breast longer, left shorter, as a share.
        breast_exponent: of the breast's outline; 2 is an ellipse.
        tilt: outward shift of the nipple.
        breast_half_height: along z.
        fat_depth: of the subcutaneous fat over the chest wall.
        density: fibroglandular tissue, 0 (fatty) to 3 (dense), continuous.
        background: parenchymal enhancement, as contrast agent in the gland.
        vascular: contrast agent in the blood.
        heart_x: shift of the heart.
        heart_size: relative.
        heart_z: shift of heart and liver along z.
        vessel_threshold: the higher, the fewer vessels.
        roll: rotation of the body, in radians.
        shift_x: of the body in the image.
        shift_y: of the body in the image.
    """

    chest_y: Floats
    chest_half_width: Floats
    chest_half_depth: Floats
    breast_x: Floats
    breast_half_width: Floats
    breast_length: Floats
    asymmetry: Floats
    breast_exponent: Floats
    tilt: Floats
    breast_half_height: Floats
    fat_depth: Floats
    density: Floats
    background: Floats
    vascular: Floats
    heart_x: Floats
    heart_size: Floats
    heart_z: Floats
    vessel_threshold: Floats
    roll: Floats
    shift_x: Floats
    shift_y: Floats


@dataclass(frozen=True)
class Extent(Columns):
    """Where an index lesion lies along z; every field has shape (patients,).

    Args:
        radius: in its middle slice.
        z: of its centre.
        half_height: along z.
    """

    radius: Floats
    z: Floats
    half_height: Floats


@dataclass(frozen=True)
class Lesions(Extent):
    """The index lesion of each patient; shape (patients,), or (patients, harmonics) for the last two.

    Args:
        x: of its centre.
        y: of its centre.
        contrast: agent in its tissue.
        aspect: ratio of its axes.
        angle: of its axes, in radians.
        rim: how much less its core enhances, 0 to 0.8.
        heterogeneity: of the enhancement.
        spiculation: amplitude of the spicules, relative to the radius.
        spicules: their number.
        amplitudes: of the outline's harmonics, relative to the radius.
        phases: of these, in radians.
    """

    x: Floats
    y: Floats
    contrast: Floats
    aspect: Floats
    angle: Floats
    rim: Floats
    heterogeneity: Floats
    spiculation: Floats
    spicules: Floats
    amplitudes: Floats
    phases: Floats


@dataclass(frozen=True)
class Findings(Columns):
    """Benign masses, cysts or foci: what makes brightness alone a poor sign of cancer. Fields: (patients, findings).

    Args:
        x: of the centre.
        y: of the centre.
        z: of the centre.
        radius: of a sphere.
        aspect: ratio of the in-plane axes, squared.
        contrast: agent in it.
        present: 1 where the patient has it.
        cyst: 1 where it is a cyst: dark, without contrast agent.
    """

    x: Floats
    y: Floats
    z: Floats
    radius: Floats
    aspect: Floats
    contrast: Floats
    present: Floats
    cyst: Floats


def draw_anatomy(seed: int, patients: NDArray[np.int64]) -> Anatomy:
    """Bodies of the given patients.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
    """
    take = Uniforms(uniforms(seed, Stream.ANATOMY, patients, (_ANATOMY_COLUMNS,)))
    enhancement = np.array((0.05, 0.11, 0.19, 0.30))
    return Anatomy(
        chest_y=take.normal(72.0, 5.0),
        chest_half_width=take.normal(146.0, 8.0, 128.0, 158.0),
        chest_half_depth=take.normal(92.0, 7.0, 78.0, 108.0),
        breast_x=take.normal(70.0, 5.0, 60.0, 82.0),
        breast_half_width=take.normal(54.0, 6.0, 42.0, 66.0),
        breast_length=take.normal(92.0, 17.0, 60.0, 128.0),
        asymmetry=take.normal(0.0, 0.05),
        breast_exponent=take.uniform(1.7, 3.0),
        tilt=take.normal(0.0, 9.0),
        breast_half_height=take.uniform(78.0, 92.0),
        fat_depth=take.uniform(6.0, 18.0),
        density=take.category((0.10, 0.40, 0.40, 0.10)) + take.uniform(-0.45, 0.45),
        background=enhancement[take.category((0.35, 0.35, 0.20, 0.10))] * take.lognormal(1.0, 0.2),
        vascular=take.lognormal(1.1, 0.2),
        heart_x=take.normal(14.0, 6.0),
        heart_size=take.normal(1.0, 0.1),
        heart_z=take.normal(0.0, 10.0),
        vessel_threshold=take.uniform(0.35, 1.25),
        roll=take.normal(0.0, 0.03),
        shift_x=take.normal(0.0, 5.0),
        shift_y=take.normal(0.0, 6.0),
    )


def _extent(take: Uniforms) -> Extent:
    radius = take.lognormal(10.5, 0.35, 5.5, 24.0)
    return Extent(
        radius=radius, z=take.uniform(-LESION_REACH, LESION_REACH), half_height=radius * take.uniform(0.8, 1.3)
    )


def draw_extents(seed: int, patients: NDArray[np.int64]) -> Extent:
    """Only where the index lesions lie along z: all that a table of slices needs, and quick.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
    """
    return _extent(Uniforms(uniforms(seed, Stream.LESION, patients, (_LESION_COLUMNS,))))


def extent_quantiles() -> Floats:
    """Half heights in mm at evenly spaced quantiles of radius and ratio: their distribution without chance, shape (64,)."""
    steps = (np.arange(8) + 0.5) / 8
    radius, ratio = np.meshgrid(steps, steps)
    middle = np.full(64, 0.5)
    return _extent(Uniforms(np.stack([radius.ravel(), middle, ratio.ravel()], axis=-1))).half_height


def draw_lesions(seed: int, patients: NDArray[np.int64], anatomy: Anatomy) -> Lesions:
    """Index lesions of the given patients, in their breasts.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
        anatomy: their bodies.
    """
    take = Uniforms(uniforms(seed, Stream.LESION, patients, (_LESION_COLUMNS,)))
    extent = _extent(take)
    x, y = _place(take, anatomy, extent.z, spread=1.25)
    return Lesions(
        radius=extent.radius,
        z=extent.z,
        half_height=extent.half_height,
        x=x,
        y=y,
        contrast=take.lognormal(0.66, 0.35),
        aspect=take.uniform(0.75, 1.25),
        angle=take.uniform(0.0, np.pi),
        rim=np.where(take.uniform() < 0.4, take.uniform(0.3, 0.8), 0.0),
        heterogeneity=take.uniform(0.15, 0.45),
        spiculation=np.where(take.uniform() < 0.55, take.uniform(0.10, 0.28), 0.03),
        spicules=7.0 + np.floor(take.uniform(0.0, 4.0)),
        amplitudes=take.several(len(HARMONICS), -0.17, 0.17),
        phases=take.several(len(HARMONICS), 0.0, 2 * np.pi),
    )


def draw_masses(seed: int, patients: NDArray[np.int64], anatomy: Anatomy) -> Findings:
    """Benign masses: 1.2 per patient on average, a quarter of them cysts.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
        anatomy: their bodies.
    """
    take = Uniforms(uniforms(seed, Stream.MASSES, patients, (MASSES, 9)))
    z = take.uniform(-55.0, 55.0)
    x, y = _place(take, anatomy, z, spread=1.25)
    return Findings(
        x=x,
        y=y,
        z=z,
        radius=take.lognormal(6.5, 0.35, 3.5, 14.0),
        aspect=take.uniform(0.65, 1.35),
        contrast=take.lognormal(0.34, 0.35),
        present=_first(take.poisson(1.2, MASSES), MASSES),
        cyst=(take.uniform() < 0.25).astype(np.float64),
    )


def draw_foci(seed: int, patients: NDArray[np.int64], anatomy: Anatomy) -> Findings:
    """Small enhancing foci: 5 per patient on average; a larger one is also brighter.

    Args:
        seed: of the data.
        patients: their numbers, shape (patients,).
        anatomy: their bodies.
    """
    take = Uniforms(uniforms(seed, Stream.FOCI, patients, (FOCI, 6)))
    z = take.uniform(-60.0, 60.0)
    x, y = _place(take, anatomy, z, spread=1.6)
    size = take.uniform()
    return Findings(
        x=x,
        y=y,
        z=z,
        radius=2.6 * (0.7 + 0.6 * size),
        aspect=np.ones_like(size),
        contrast=0.8 * (0.6 + 0.8 * size),
        present=_first(take.poisson(5.0, FOCI), FOCI),
        cyst=np.zeros_like(size),
    )


def _first(counts: NDArray[np.int64], size: int) -> Floats:
    """1 for as many findings as the patient's count (the first column of ``counts``) says, then 0."""
    return (np.arange(size) < counts[:, :1]).astype(np.float64)


def _place(take: Uniforms, anatomy: Anatomy, z: Floats, spread: float) -> tuple[Floats, Floats]:
    """A point inside a breast at height ``z``: x and y, of the shape of ``z`` (patients, ...)."""
    body = {name: column.reshape(-1, *([1] * (z.ndim - 1))) for name, column in vars(anatomy).items()}
    side = np.where(take.uniform() < 0.5, -1.0, 1.0)
    depth = take.uniform(0.12, 0.85)
    taper = np.sqrt(np.clip(1 - 0.85 * (z / body["breast_half_height"]) ** 2, 0.1, 1.0))
    length = body["breast_length"] * (1 + side * body["asymmetry"]) * taper
    width = body["breast_half_width"] * np.sqrt(taper) * np.sqrt(1 - depth ** body["breast_exponent"])
    x = side * body["breast_x"] + body["tilt"] * side * depth + take.uniform(-0.5, 0.5) * spread * width
    y = body["chest_y"] - 0.62 * body["chest_half_depth"] - depth * length
    return x, y
