"""Masks of skin, fat, gland, chest wall, heart and liver in a slice: the share of each pixel that a tissue fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustbench_spur.phantom.draws import Map
from robustbench_spur.phantom.geometry import Frame, Outline, soft

SKIN = 2.6
"""Thickness of the skin in mm."""

WALL = 15.0
"""Thickness of the chest wall (muscle and ribs) in mm."""


@dataclass(frozen=True)
class Trunk:
    """Masks of the large compartments, each of shape (slices, size, size).

    Args:
        body: everything but air.
        skin: its outermost layer, and the nipples.
        inner: inside the muscles of the chest wall.
        cage: inside the ribs.
        breast: under the skin, in front of the chest wall.
    """

    body: Map
    skin: Map
    inner: Map
    cage: Map
    breast: Map


def trunk(at: Frame, lines: Outline) -> Trunk:
    """The large compartments of each slice."""
    body = soft(lines.body, at.edge)
    inner = soft(lines.chest + at.anatomy.fat_depth, at.edge)
    return Trunk(
        body=body,
        skin=np.maximum(body - soft(lines.body + SKIN, at.edge), soft(lines.nipple, at.edge)),
        inner=inner,
        cage=soft(lines.chest + at.anatomy.fat_depth + WALL + 3 * at.texture.broad, at.edge),
        breast=soft(lines.breast + SKIN, at.edge) * (1 - inner),
    )


def gland(at: Frame, lines: Outline, breast: Map) -> Map:
    """Fibroglandular tissue: lobes where a texture exceeds a threshold that density lowers, and thin strands."""
    threshold = 0.78 - 0.17 * at.anatomy.density
    level = lines.gland + 0.24 * at.texture.lobes + 0.20 * at.texture.strands + 0.07 * at.texture.fine
    lobes = soft(threshold - level, 0.09) * breast
    strands = np.exp(-((at.texture.strands / 0.16) ** 2)) * 0.35 * breast * np.clip(lines.gland * 2, 0, 1)
    return np.asarray(np.maximum(lobes, strands))


def vessels(at: Frame, breast: Map) -> Map:
    """Vessels of the breast: sheets where a texture crosses zero, which a slice cuts to lines, in some regions."""
    lines = np.exp(-((at.texture.lobes / 0.075) ** 2))
    regions = soft((at.anatomy.vessel_threshold - at.texture.broad) * 12, 2.0)
    return np.asarray(lines * regions * breast * 0.8)


@dataclass(frozen=True)
class Organs:
    """Masks of what lies inside the chest and behind it, each of shape (slices, size, size).

    Args:
        heart: chambers and wall.
        wall: the muscle of the left ventricle.
        mediastinum: fat around heart and vessels.
        liver: its dome.
        lung: what the others leave of the chest.
        vessels: aorta and internal mammary arteries.
        ribs: their marrow.
        back: paraspinal muscle.
        spine: a vertebral body.
    """

    heart: Map
    wall: Map
    mediastinum: Map
    liver: Map
    lung: Map
    vessels: Map
    ribs: Map
    back: Map
    spine: Map


def organs(at: Frame, lines: Outline, compartments: Trunk) -> Organs:
    """Inner organs of each slice."""
    body, cage, y = at.anatomy, compartments.cage, at.y - at.anatomy.chest_y
    heart, wall = _heart(at, y, cage)
    mediastinum = soft(np.abs(at.x) - 20, 4.0) * cage
    liver = _liver(at, y) * cage
    depth = lines.chest + body.fat_depth + 11
    segments = soft(-at.texture.lobes * 20, 4.0)
    return Organs(
        heart=heart,
        wall=wall,
        mediastinum=mediastinum * (1 - heart),
        liver=liver,
        lung=cage * (1 - np.maximum(np.maximum(heart, mediastinum), liver)),
        vessels=_vessels(at, y, compartments.inner),
        ribs=soft(np.abs(depth) - 4, at.edge) * segments * np.clip(compartments.inner - cage, 0, 1),
        back=compartments.inner * soft(0.62 * body.chest_half_depth - y, 4.0) * soft(np.abs(at.x) - 62, 5.0),
        spine=soft(np.sqrt((at.x / 21) ** 2 + ((y - 0.56 * body.chest_half_depth) / 18) ** 2) * 19 - 19, at.edge),
    )


def _heart(at: Frame, y: Map, cage: Map) -> tuple[Map, Map]:
    """The heart, and the wall of its left ventricle: ellipses that shrink away from the heart's middle."""
    x, height = at.x - at.anatomy.heart_x, at.z + at.anatomy.heart_z
    scale = np.sqrt(np.clip(1 - ((height + 15) / 75) ** 2, 0.12, 1)) * at.anatomy.heart_size
    bumps = 2.5 * at.texture.lobes + 1.0 * at.texture.strands
    heart = soft((np.sqrt((x / 52) ** 2 + ((y + 22) / 38) ** 2) - scale) * 44 + bumps, at.edge) * cage
    radius = np.sqrt(((x - 15 * scale + 0.35 * y) / 52) ** 2 + ((y + 14) / 52) ** 2)
    wall = soft(np.abs((radius - 0.5 * scale) * 50 + bumps) - 5.5 - 2 * at.texture.broad, at.edge) * heart
    return heart, wall


def _liver(at: Frame, y: Map) -> Map:
    """The dome of the liver, which grows downwards from 18 mm below the middle."""
    height = at.z + at.anatomy.heart_z
    radius = np.sqrt(np.clip(-(height + 18) / 42, 0.0, 1.2))
    dome = (np.sqrt(((at.x + 62) / 66) ** 2 + ((y - 6) / 66) ** 2) - radius) * 60 + 4 * at.texture.broad
    return soft(dome, at.edge) * (height < -18)


def _vessels(at: Frame, y: Map, inner: Map) -> Map:
    """Descending aorta, and the internal mammary arteries beside the sternum."""
    body = at.anatomy
    aorta = soft(np.sqrt((at.x - 24) ** 2 + (y - 0.38 * body.chest_half_depth) ** 2) - 11, at.edge)
    front = y + body.chest_half_depth - body.fat_depth - 17
    left, right = (soft(np.sqrt((at.x - x) ** 2 + front**2) - 2.6, 1.5) for x in (-17.0, 17.0))
    return np.asarray(np.clip(aorta + (left + right) * (inner > 0.1), 0, 1))
