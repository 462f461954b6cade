"""Focal findings: the index lesion, benign masses, cysts and foci, as masks and concentrations of contrast agent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.anatomy import HARMONICS, Findings, Lesions
from robustbench_spur.phantom.draws import Map
from robustbench_spur.phantom.geometry import Frame, Outline, soft


def lesion(at: Frame, lines: Outline, lesions: Lesions) -> tuple[Map, Map]:
    """The index lesion: its mask, exactly 0 away from it, and its concentration of contrast agent in mM.

    Args:
        at: the slices.
        lines: their outlines.
        lesions: of each slice's patient, one row per slice (not planes).

    Returns:
        Two arrays of shape (slices, size, size).
    """
    z = at.z[:, 0, 0]
    cut = np.flatnonzero(np.abs(z - lesions.z) < lesions.half_height)
    mask, concentration = np.zeros_like(lines.body), np.zeros_like(lines.body)
    if len(cut):
        one = lesions.rows(cut).planes()
        height = np.sqrt(np.clip(1 - ((at.z[cut] - one.z) / one.half_height) ** 2, 0, 1))
        size = np.maximum(height * one.radius, 1)
        radius = _rounded_distance(at, cut, one) / size
        share = soft((radius - 1) * size, max(0.8 * at.edge, 1.2)) * soft(lines.body[cut] + 3, at.edge)
        mask[cut] = np.where(share < 1e-3, np.float32(0), share)
        core = 1 - one.rim * np.exp(-((radius / 0.6) ** 2))
        concentration[cut] = one.contrast * core * (1 + one.heterogeneity * at.texture.strands[cut])
    return mask, concentration


def _rounded_distance(at: Frame, cut: NDArray[np.int64], one: Lesions) -> Map:
    """Distance from the lesion's centre, divided by the outline's deviation from a circle, for the slices ``cut``."""
    x, y, grain = at.x[cut] - one.x, at.y[cut] - one.y, at.texture.grain[cut]
    cosine, sine = np.cos(one.angle), np.sin(one.angle)
    along, across = (cosine * x + sine * y) / one.aspect, (cosine * y - sine * x) * one.aspect
    radius = np.sqrt(along * along + across * across) + 1e-3
    angle = np.arctan2(across, along)
    outline = 1 + 0.12 * grain + 0.05 * at.texture.fine[cut]
    outline += one.spiculation * np.cos(one.spicules * angle + 2.5 * grain)
    for order, amplitude, phase in zip(HARMONICS, one.amplitudes, one.phases, strict=True):
        outline += amplitude * np.cos(order * angle + phase)
    return np.asarray(radius / np.maximum(outline, 0.3))


def findings(at: Frame, items: Findings) -> tuple[Map, Map, Map]:
    """Benign findings of one kind: mask of the solid ones, their concentration in mM, and mask of the cysts.

    Args:
        at: the slices.
        items: of each slice's patient, one row per slice (not planes).

    Returns:
        Three arrays of shape (slices, size, size); of two that overlap, the one that fills more of a pixel counts.
    """
    solid, concentration, cysts = (np.zeros_like(at.x) for _ in range(3))
    width = max(0.8 * at.edge, 1.2)
    squared = items.radius**2 - (at.z[:, :, 0] - items.z) ** 2
    for column in range(items.x.shape[1]):
        cut = np.flatnonzero((squared[:, column] > 0) & (items.present[:, column] > 0))
        if len(cut) == 0:
            continue
        one = items.rows((cut, column)).planes()
        radius = np.sqrt(squared[cut, column]).astype(np.float32)[:, None, None]
        distance = np.sqrt((at.x[cut] - one.x) ** 2 * one.aspect + (at.y[cut] - one.y) ** 2 / one.aspect) - radius
        share = soft(distance, width)
        cysts[cut] = np.maximum(cysts[cut], share * one.cyst)
        share = share * (1 - one.cyst)
        concentration[cut] = np.where(share > solid[cut], one.contrast, concentration[cut])
        solid[cut] = np.maximum(solid[cut], share)
    return solid, concentration, cysts
