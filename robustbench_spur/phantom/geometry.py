"""The pixel grid in a patient's coordinates, and the large outlines of the body: signed distances in mm.

A mask is the share of a pixel that a tissue fills, 0 to 1: a logistic function of the distance from its outline, about
as wide as the pixel (the partial-volume effect). Distances are negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.anatomy import Anatomy
from robustbench_spur.phantom.draws import Map
from robustbench_spur.phantom.texture import Textures

FIELD_OF_VIEW = 320.0
"""Side of an image in mm."""


@dataclass(frozen=True)
class Frame:
    """A batch of slices on its grid, in the patient's coordinates.

    Args:
        x: mm to the image's right of the midline, shape (slices, size, size).
        y: mm from front to back.
        z: mm along the body, shape (slices, 1, 1).
        edge: width of a mask's edge in mm.
        anatomy: of each slice's patient, as planes.
        texture: random fields on the grid.
    """

    x: Map
    y: Map
    z: Map
    edge: float
    anatomy: Anatomy
    texture: Textures


@dataclass(frozen=True)
class Outline:
    """Signed distances of the body's large outlines, each of shape (slices, size, size), in mm.

    Args:
        body: breasts and chest, smoothly joined.
        breast: of the nearer breast.
        chest: of the chest's ellipse.
        nipple: of the nearer nipple.
        gland: not a distance: where gland can be, 1 at the centre of a breast, falling outwards.
    """

    body: Map
    breast: Map
    chest: Map
    nipple: Map
    gland: Map


def soft(distance: Map, width: float) -> Map:
    """Share of a pixel that lies inside, from the signed distance: 1 / (1 + exp(distance / width))."""
    share = distance * float(1 / width)
    np.clip(share, -12, 12, out=share)
    np.exp(share, out=share)
    share += 1
    return np.asarray(np.reciprocal(share, out=share))


def pixel_axis(size: int) -> NDArray[np.float32]:
    """Centres of the pixels along one axis in mm, shape (size,)."""
    pixel = FIELD_OF_VIEW / size
    return ((np.arange(size) + 0.5) * pixel - FIELD_OF_VIEW / 2).astype(np.float32)


def frame(anatomy: Anatomy, z: Map, texture: Textures, size: int) -> Frame:
    """Lay the pixel grid over each patient: shifted, and rolled by a small angle.

    Args:
        anatomy: of each slice's patient, as planes.
        z: in mm, shape (slices, 1, 1).
        texture: on the same grid.
        size: of the matrix.
    """
    axis = pixel_axis(size)
    x = axis[None, None, :] - anatomy.shift_x
    y = axis[None, :, None] - anatomy.shift_y + 4
    x, y = x + anatomy.roll * y, y - anatomy.roll * x
    return Frame(x, y, z, 0.42 * FIELD_OF_VIEW / size, anatomy, texture)


def outline(at: Frame) -> Outline:
    """Body, breasts and chest of each slice."""
    chest = _chest(at)
    left, right = (_breast(at, side) for side in (-1.0, 1.0))
    nipple = np.minimum(left[1], right[1])
    breast = np.minimum(np.minimum(left[0], right[0]), nipple)
    bridge = 8 * np.exp(-(((breast - chest) / 14) ** 2)) * (chest > -30)
    return Outline(np.minimum(breast, chest) - bridge, breast, chest, nipple, np.maximum(left[2], right[2]))


def _chest(at: Frame) -> Map:
    """First-order distance of the chest's ellipse: level over gradient."""
    body = at.anatomy
    width, depth, y = body.chest_half_width, body.chest_half_depth, at.y - body.chest_y
    radius = np.sqrt((at.x / width) ** 2 + (y / depth) ** 2)
    gradient = np.sqrt(((depth * at.x / width) ** 2 + (width * y / depth) ** 2) / np.maximum(radius, 0.2) ** 2 + 1)
    return np.asarray((radius - 1) * (width * depth) / gradient)


def _breast(at: Frame, side: float) -> tuple[Map, Map, Map]:
    """Distances of one breast and its nipple, and the bump where its gland lies. ``side`` is -1 (image's left) or 1."""
    body = at.anatomy
    taper = np.sqrt(np.clip(1 - 0.85 * (at.z / body.breast_half_height) ** 2, 0.1, 1))
    length = body.breast_length * (1 + side * body.asymmetry) * taper
    width = body.breast_half_width * np.sqrt(taper)
    depth = (body.chest_y - 0.62 * body.chest_half_depth - at.y) / length
    across = (at.x - side * body.breast_x - side * body.tilt * np.clip(depth, 0, 1.1)) / width
    reach = np.maximum(np.maximum(depth, depth / -0.35), 1e-4)  # behind its base, a breast closes within the chest
    power = np.exp(body.breast_exponent * np.log(reach))
    distance = (np.sqrt(across * across + power) - 1) * (0.55 * width + 0.2 * length)
    tip = np.sqrt((at.x - side * (body.breast_x + body.tilt)) ** 2 + ((1 - depth) * length) ** 2)
    nipple = 5 * np.where(np.abs(at.z) < 9, np.float32(1), np.float32(-2))
    gland = np.exp(-((across / 0.62) ** 2) - ((depth - 0.56) / 0.36) ** 2)
    return distance, tip - nipple, gland
