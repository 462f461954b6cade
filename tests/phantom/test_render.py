from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.phantom import geometry, tissue
from robustbench_spur.phantom.anatomy import draw_extents
from robustbench_spur.phantom.render import Slices, body_masks, draw_patients, lesion_masks, render
from robustbench_spur.phantom.scanner import SIGMA, SNR_RATIO, draw_quantiles, scanners, window_scale
from robustbench_spur.phantom.texture import textures
from robustbench_spur.types import SpurbenchError

SEED = 11


def make_slices(count: int = 40, *, field: float | None = None) -> Slices:
    """Two slices of each patient: through the lesion's centre, and well outside the lesion."""
    patient = np.repeat(np.arange(count // 2), 2)
    extent = draw_extents(SEED, patient)
    outside = np.where(extent.z > 0, extent.z - 40, extent.z + 40)
    z = np.asarray(np.round(np.where(np.arange(count) % 2 == 0, extent.z, outside), 1), np.float64)
    strength = np.where(patient % 2 == 0, 1.5, 3.0) if field is None else np.full(count, field)
    return Slices(patient, z, strength, patient % 3 == 0)


SLICES = make_slices()
IMAGES = render(SEED, SLICES, 64)


def test_rendering_is_deterministic() -> None:
    assert IMAGES.shape == (40, 64, 64) and IMAGES.dtype == np.uint8
    assert (render(SEED, SLICES, 64) == IMAGES).all()
    assert (render(SEED + 1, SLICES, 64) != IMAGES).mean() > 0.5


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=40))
def test_a_slice_is_the_same_in_any_batch(rows: list[int]) -> None:
    assert (render(SEED, SLICES.rows(np.array(rows)), 64) == IMAGES[rows]).all()


@pytest.mark.parametrize("size", [16, 63, 64, 128, 224])
def test_a_slice_alone_is_bitwise_that_of_a_batch(size: int) -> None:
    some = SLICES.rows(np.arange(6))
    batch, masks = render(SEED, some, size), lesion_masks(SEED, some, size)
    for row in range(6):
        alone = some.rows(np.array([row]))
        assert (render(SEED, alone, size)[0] == batch[row]).all()
        assert (lesion_masks(SEED, alone, size)[0] == masks[row]).all()


def test_no_slices_give_no_images() -> None:
    nothing = SLICES.rows(np.arange(0))
    assert render(SEED, nothing, 64).shape == (0, 64, 64) and lesion_masks(SEED, nothing, 64).shape == (0, 64, 64)


def test_another_matrix_size_shows_the_same_anatomy() -> None:
    some = SLICES.rows(np.arange(8))
    fine = render(SEED, some, 256).astype(float).reshape(8, 32, 8, 32, 8).mean(axis=(2, 4))
    coarse = IMAGES[:8].astype(float).reshape(8, 32, 2, 32, 2).mean(axis=(2, 4))
    for a, b in zip(fine, coarse, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95


def test_rotation_is_exactly_the_turned_image() -> None:
    turned = render(SEED, replace(SLICES, rotated=~SLICES.rotated), 64)
    assert (turned == IMAGES[:, ::-1, ::-1]).all()


def test_the_other_field_strength_keeps_the_anatomy() -> None:
    other = render(SEED, replace(SLICES, field_strength=4.5 - SLICES.field_strength), 64)
    for a, b in zip(IMAGES.astype(float), other.astype(float), strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9
    assert (other != IMAGES).mean() > 0.5


def test_noise_in_air_is_rayleigh_and_falls_with_field_strength() -> None:
    upright = replace(make_slices(200), rotated=np.zeros(200, bool))
    means = {}
    for field in (1.5, 3.0):
        slices = replace(upright, field_strength=np.full(200, field))
        images = render(SEED, slices, 64)
        air = np.concatenate([images[:, :6, :12], images[:, :6, -12:]], axis=2).mean(axis=(1, 2))
        scanner = scanners(draw_quantiles(SEED, slices.patient), slices.field_strength)
        # The magnitude of two Gaussian channels without signal is Rayleigh: mean sigma sqrt(pi / 2).
        expected = scanner.sigma * np.sqrt(np.pi / 2) * window_scale(scanner.planes()).ravel()
        assert air == pytest.approx(expected, rel=0.2)
        assert air.mean() == pytest.approx(expected.mean(), rel=0.01)
        means[field] = (air / window_scale(scanner.planes()).ravel()).mean()
    assert means[1.5] == pytest.approx(SIGMA * np.sqrt(np.pi / 2), rel=0.03)
    assert means[1.5] / means[3.0] == pytest.approx(SNR_RATIO, rel=0.03)


def test_erasing_the_lesion_leaves_everything_else() -> None:
    erased = render(SEED, SLICES, 64, lesions=False)
    masks = lesion_masks(SEED, SLICES, 64)
    through, beside = masks[::2], masks[1::2]
    assert (beside == 0).all() and (erased[1::2] == IMAGES[1::2]).all()
    assert (through.max(axis=(1, 2)) > 0.5).all()
    assert (erased[masks == 0] == IMAGES[masks == 0]).all()
    inside = through > 0.5
    assert IMAGES[::2][inside].mean() > erased[::2][inside].mean() + 10


def test_masks_are_shares_near_the_stated_lesion() -> None:
    upright = replace(SLICES, rotated=np.zeros(40, bool)).rows(np.arange(0, 40, 2))
    masks = lesion_masks(SEED, upright, 64)
    assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1
    radius = draw_extents(SEED, upright.patient).radius
    area = masks.sum(axis=(1, 2)) * 5.0**2
    # An outline that wobbles by a tenth or two about a circle; some lesions are cut by the skin.
    assert np.median(area / (np.pi * radius**2)) == pytest.approx(1.0, abs=0.2)


def test_masks_turn_with_the_image() -> None:
    turned = lesion_masks(SEED, replace(SLICES, rotated=~SLICES.rotated), 64)
    assert (turned == lesion_masks(SEED, SLICES, 64)[:, ::-1, ::-1]).all()


def test_images_use_the_range_without_saturating() -> None:
    assert (IMAGES == 255).mean() < 0.005
    assert 20 < IMAGES.mean() < 40


@pytest.mark.parametrize("size", [15, 0, -64])
def test_too_small_a_matrix_is_refused(size: int) -> None:
    with pytest.raises(SpurbenchError, match="at least 16 pixels"):
        render(SEED, SLICES, size)
    with pytest.raises(SpurbenchError, match="at least 16 pixels"):
        lesion_masks(SEED, SLICES, size)


def test_an_unknown_field_strength_is_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"1\.5 or 3\.0 tesla, found 7"):
        render(SEED, replace(SLICES, field_strength=np.full(40, 7.0)), 64)


def test_images_of_version_1() -> None:
    """Means of the image's quarters; if these change, raise the dataset's version."""
    expected = [
        [42.53, 40.55, 27.68, 23.19],
        [42.28, 31.18, 30.76, 23.04],
        [30.55, 34.10, 24.78, 37.89],
    ]
    quarters = IMAGES[:3].astype(float).reshape(3, 2, 32, 2, 32).mean(axis=(2, 4)).reshape(3, 4)
    assert quarters == pytest.approx(np.array(expected), abs=0.05)


def test_the_body_is_the_compartment_that_the_image_is_made_of() -> None:
    """The renderer's own mask of everything but air, in the renderer's coordinates, without the tail of its edge."""
    upright = replace(SLICES, rotated=np.zeros(40, bool))
    patients = draw_patients(SEED, upright.patient)
    z = upright.z.astype(np.float32)[:, None, None]
    fields = textures(patients.waves, geometry.pixel_axis(64), upright.z)
    at = geometry.frame(patients.anatomy.planes(), z, fields, 64)
    body = tissue.trunk(at, geometry.outline(at)).body
    masks = body_masks(SEED, upright, 64)
    assert masks.dtype == np.float32 and np.abs(masks - np.where(body < 1e-3, 0, body)).max() < 1e-6
    assert (masks == 0).any() and (masks > 0.99).any()
    assert (masks[lesion_masks(SEED, upright, 64) > 0.5] > 0.5).all()
    turned = body_masks(SEED, replace(upright, rotated=~upright.rotated), 64)
    assert (turned == masks[:, ::-1, ::-1]).all()


def test_body_masks_of_no_slices_and_of_any_batch() -> None:
    assert body_masks(SEED, SLICES.rows(np.arange(0)), 64).shape == (0, 64, 64)
    whole = body_masks(SEED, SLICES, 64)
    assert (body_masks(SEED, SLICES.rows(np.array([7, 3])), 64) == whole[[7, 3]]).all()
