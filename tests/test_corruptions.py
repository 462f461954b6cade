"""Each corruption against what its name says, measured otherwise; draws that follow from the example alone."""

from __future__ import annotations

import hashlib
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage, special, stats

from robustbench_spur.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    SPIKE_RADII,
    corrupt,
    draw_seed,
    gibbs_ringing,
    low_resolution,
    motion_ghosting,
)
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.types import SpurbenchError

Floats = NDArray[np.float64]
SIZE = 64
NAMES = tuple(CORRUPTIONS)


def names(count: int) -> list[str]:
    return [f"id{number}" for number in range(count)]


def flat(level: int, count: int = 1, *, channels: int = 1, size: int = SIZE) -> NDArray[np.uint8]:
    return np.full((count, channels, size, size), level, np.uint8)


def grey(seed: int, count: int = 1, *, low: int = 90, high: int = 150, size: int = SIZE) -> NDArray[np.uint8]:
    """Images of middle grey values, which nothing mild takes out of the range."""
    return np.random.default_rng(seed).integers(low, high, (count, 1, size, size)).astype(np.uint8)


@pytest.fixture(scope="module")
def slices() -> NDArray[np.uint8]:
    """Every hundredth test slice of the phantom."""
    phantom = Phantom()
    part = phantom.table("field", 0.95).partitions["test"]
    return np.concatenate(list(phantom.pixels("field", part.take(np.arange(0, len(part), 100)), SIZE)))


# What each does


@pytest.mark.parametrize("severity", SEVERITIES)
def test_rician_noise_has_the_moments_of_its_distribution(severity: int) -> None:
    sigma = CORRUPTIONS["rician_noise"].levels[severity - 1]
    air = corrupt(flat(0, 20), names(20), "rician_noise", severity, 0).astype(np.float64)
    assert air.std() == pytest.approx(sigma * math.sqrt(2 - math.pi / 2), rel=0.01)
    assert air.mean() == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.01)
    tissue = corrupt(flat(51, 5), names(5), "rician_noise", severity, 0).ravel()
    assert stats.kstest(tissue, stats.rice(0.2 / sigma, scale=sigma).cdf).pvalue > 0.001


def test_rician_noise_is_independent_from_pixel_to_pixel() -> None:
    air = corrupt(flat(0), names(1), "rician_noise", 3, 0)[0, 0]
    assert abs(np.corrcoef(air[:, 1:].ravel(), air[:, :-1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_bias_field_is_a_smooth_map_that_multiplies(severity: int) -> None:
    reach = CORRUPTIONS["bias_field"].levels[severity - 1]
    level = 8  # so dark that no field clips it
    field = np.log(corrupt(flat(level), ["one"], "bias_field", severity, 0)[0, 0].astype(np.float64) * 255 / level)
    axis = np.linspace(-1, 1, SIZE)
    basis = legendre.legvander2d(*(part.ravel() for part in np.meshgrid(axis, axis, indexing="ij")), [3, 3])
    low = [4 * i + j for i in range(4) for j in range(4) if j <= i]  # the ten that MONAI draws
    coefficients, *_ = np.linalg.lstsq(basis[:, low], field.ravel(), rcond=None)
    assert abs(basis[:, low] @ coefficients - field.ravel()).max() < 1e-5
    assert reach / 2 < abs(coefficients).max() <= reach + 1e-5
    image = grey(0, low=4, high=12)
    other = corrupt(image, ["one"], "bias_field", severity, 0)[0, 0]
    assert other == pytest.approx(image[0, 0] / 255 * np.exp(field), rel=1e-4)


def jacobi_anger(image: Floats, axis: int, cycles: int, phase: float, amplitude: float) -> Floats:
    """exp(-i z sin t) = sum over n of J_n(z) exp(-i n t): ghost n is filtered by J_n, and shifted by n cycles."""
    lines = image.shape[axis]
    frequency = np.fft.fftfreq(lines)
    shape = [-1 if place == axis else 1 for place in range(image.ndim)]
    spectrum, total = np.fft.fft(image, axis=axis), np.zeros(image.shape, complex)
    for n in range(-40, 41):
        weight = special.jv(n, 2 * math.pi * frequency * amplitude * lines).reshape(shape)
        # line j is read at time j, and line lines // 2 is that of zero frequency
        start = 2 * math.pi * cycles * (lines // 2) / lines + phase
        ghost = np.exp(-1j * n * start) * np.fft.ifft(spectrum * weight, axis=axis)
        total += np.roll(ghost, n * cycles, axis=axis) if n else ghost
    return np.asarray(np.abs(total))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("amplitude", [0.003, 0.025])
def test_ghosts_are_copies_weighted_by_bessel_functions(seed: int, amplitude: float) -> None:
    image = np.random.default_rng(100 + seed).random((1, 24, 40)).astype(np.float32)
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(1, 3))
    lines = image.shape[axis]
    cycles, phase = int(rng.integers(lines // 8, lines // 2 + 1)), rng.uniform(0, 2 * math.pi)
    expected = jacobi_anger(image.astype(np.float64), axis, cycles, phase, amplitude)
    assert motion_ghosting(image, amplitude, seed) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_ghosts_of_a_point_lie_along_one_axis_at_even_distances(severity: int) -> None:
    image = flat(0, 8)
    image[:, 0, 20, 30] = 255
    for one in corrupt(image, names(8), "motion_ghosting", severity, 0)[:, 0].astype(np.float64):
        assert (one**2).sum() == pytest.approx(1, abs=1e-4)  # motion moves signal, and loses none
        rows, columns = np.nonzero(one > 1e-3)
        assert (rows == 20).all() or (columns == 30).all()
        if severity > 3:
            continue  # so much has moved that the point itself is not the brightest any more
        profile = one[:, 30] if (columns == 30).all() else one[20]
        brightest = np.argsort(profile)[::-1]
        centre = 20 if (columns == 30).all() else 30
        assert brightest[0] == centre
        assert min((brightest[1] - centre) % SIZE, (centre - brightest[1]) % SIZE) >= SIZE // 8 - 1


def stripes(severity: int, example: str) -> NDArray[np.complex128]:
    image = grey(1)
    change = corrupt(image, [example], "spike", severity, 0)[0, 0] - image[0, 0] / np.float64(255)
    return np.asarray(np.fft.fft2(change) / SIZE**2)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_spike_is_one_bright_pair_in_k_space(severity: int) -> None:
    for example in names(10):
        power = abs(stripes(severity, example)) ** 2
        pair = np.argwhere(power > power.max() / 2)
        assert len(pair) == 2
        assert ((pair[0] + pair[1]) % SIZE == 0).all()
        assert power[tuple(pair.T)].sum() > 0.999 * power.sum()
        away = np.hypot(*np.where(pair[0] > SIZE / 2, pair[0] - SIZE, pair[0])) / SIZE
        assert SPIKE_RADII[0] - 0.015 < away < SPIKE_RADII[1] + 0.015
        # a cosine of amplitude a has two coefficients of a / 2; what was there before is lost
        assert 2 * math.sqrt(power.max()) == pytest.approx(CORRUPTIONS["spike"].levels[severity - 1], rel=0.1)


@pytest.mark.parametrize("voxel", [2, 4])
def test_low_resolution_averages_voxels_and_interpolates(voxel: int) -> None:
    image = np.random.default_rng(0).random((1, 32, 48)).astype(np.float32)
    coarse = image[0].reshape(32 // voxel, voxel, 48 // voxel, voxel).mean(axis=(1, 3))
    at = np.meshgrid(*((np.arange(side) + 0.5) / voxel - 0.5 for side in (32, 48)), indexing="ij")
    expected = ndimage.map_coordinates(coarse, at, order=1, mode="nearest")
    assert np.asarray(low_resolution(image, voxel, 0))[0] == pytest.approx(expected, abs=1e-5)


def test_low_resolution_takes_high_frequencies_away() -> None:
    image = grey(2, 8, low=0, high=256)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    kept = []
    for severity in (0, *SEVERITIES):
        power = abs(np.fft.fft2(corrupt(image, names(8), "low_resolution", severity, 0)[:, 0])) ** 2
        kept.append(power[:, radius > 0.25].sum())
    assert (np.diff(kept) < 0).all()
    assert kept[-1] < 0.02 * kept[0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gamma_is_a_power_of_the_image_within_its_range(severity: int) -> None:
    exponent, image = CORRUPTIONS["gamma"].levels[severity - 1], grey(3, 12)
    found = set()
    for before, after in zip(image / np.float64(255), corrupt(image, names(12), "gamma", severity, 0), strict=True):
        low, reach = before.min(), np.ptp(before)
        assert (after.min(), np.ptp(after)) == pytest.approx((low, reach), abs=1e-5)
        above = before > low
        x, y = np.log((before[above] - low) / reach), np.log((after[above] - low) / reach)
        slope = (x @ y) / (x @ x)
        assert y == pytest.approx(slope * x, abs=0.02)
        found.add(round(float(slope), 2))
    assert sorted(found) == pytest.approx([1 / exponent, exponent], abs=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gibbs_ringing_cuts_k_space_beyond_a_radius(severity: int) -> None:
    kept, image = CORRUPTIONS["gibbs_ringing"].levels[severity - 1], grey(4)
    before = np.fft.fft2(image[0, 0] / 255)
    after = np.fft.fft2(corrupt(image, ["one"], "gibbs_ringing", severity, 0)[0, 0].astype(np.float64))
    steps = np.fft.fftfreq(SIZE, 1 / SIZE)
    radius, edge = np.hypot(*np.meshgrid(steps, steps)), kept * SIZE / 2
    assert abs(after[radius > edge + 1]).max() < 1e-3
    assert after[radius < edge - 1] == pytest.approx(before[radius < edge - 1], abs=1e-3)


def test_gibbs_ringing_overshoots_an_edge_by_nine_per_cent() -> None:
    """The Wilbraham-Gibbs constant: Si(pi) / pi - 1/2 of the jump, at an edge far from its repetition."""
    image = np.full((1, 256, 256), 0.25, np.float32)
    image[:, :, 64:192] = 0.75
    ringing = np.asarray(gibbs_ringing(image, 0.2, 0))[0, 128]
    assert (ringing.max() - 0.75) / 0.5 == pytest.approx(special.sici(math.pi)[0] / math.pi - 0.5, abs=0.01)


# Severities


@pytest.mark.parametrize("name", NAMES)
def test_each_severity_is_further_from_the_image_than_the_last(name: str, slices: NDArray[np.uint8]) -> None:
    distances = [
        np.sqrt(np.mean((corrupt(slices, names(len(slices)), name, severity, 0) - slices / 255) ** 2))
        for severity in (0, *SEVERITIES)
    ]
    assert distances[0] < 1e-7
    assert (np.diff(distances) > 0).all()
    assert distances[-1] > 0.03


@pytest.mark.parametrize("name", NAMES)
def test_levels_are_five_and_in_order(name: str) -> None:
    levels = CORRUPTIONS[name].levels
    assert len(levels) == len(SEVERITIES)
    assert len({*np.sign(np.diff(levels))}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_severity_nought_is_the_image_itself(name: str) -> None:
    image = grey(5, 3, low=0, high=256)
    assert corrupt(image, names(3), name, 0, 0).tobytes() == (image.astype(np.float32) / np.float32(255)).tobytes()


# Draws


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(NAMES), st.sampled_from(SEVERITIES), st.permutations(range(5)), st.integers(1, 4))
def test_a_draw_depends_on_the_example_and_not_on_its_company(
    name: str, severity: int, order: list[int], cut: int
) -> None:
    images, ids = grey(6, 5), names(5)
    whole = corrupt(images, ids, name, severity, 7)
    for rows in (order[:cut], order[cut:]):
        part = corrupt(images[rows], [ids[row] for row in rows], name, severity, 7)
        assert part.tobytes() == whole[rows].tobytes()


DRAWN = ("rician_noise", "bias_field", "motion_ghosting", "spike")


@pytest.mark.parametrize("name", DRAWN)
def test_seed_severity_and_example_each_change_the_draw(name: str) -> None:
    image = grey(8)

    def draw(example: str, severity: int, seed: int) -> bytes:
        return corrupt(image, [example], name, severity, seed).tobytes()

    assert len({draw("a", 1, 0), draw("b", 1, 0), draw("a", 2, 0), draw("a", 1, 1)}) == 4


def test_the_seed_of_a_draw_is_the_first_four_bytes_of_a_hash() -> None:
    expected = int(hashlib.sha256(b"7:gamma:3:patient-1").hexdigest()[:8], 16)
    assert draw_seed(7, "gamma", 3, "patient-1") == expected


def test_no_random_state_but_its_own_is_touched(slices: NDArray[np.uint8]) -> None:
    import monai.transforms

    before = (random.getstate(), np.random.get_state(legacy=False), torch.random.get_rng_state())  # noqa: NPY002
    shared = monai.transforms.Randomizable.R.get_state(legacy=False)
    copy = slices.copy()
    for name in NAMES:
        corrupt(slices[:2], names(2), name, 3, 0)
    assert random.getstate() == before[0]
    assert str(np.random.get_state(legacy=False)) == str(before[1])  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert str(monai.transforms.Randomizable.R.get_state(legacy=False)) == str(shared)
    assert (slices == copy).all()


# Edges


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 5])
def test_any_image_gives_an_image(name: str, severity: int) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 37)).astype(np.uint8)
    for image in (flat(0), flat(255), flat(0, channels=3, size=16), wide, flat(1)[:0]):
        found = corrupt(image, names(len(image)), name, severity, 0)
        assert (found.dtype, found.shape) == (np.float32, image.shape)
        assert np.isfinite(found).all()
        assert not found.size or (found.min() >= 0 and found.max() <= 1)


def test_what_is_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"Unknown corruption 'spikes'. Did you mean 'spike'"):
        corrupt(flat(0), ["a"], "spikes", 1, 0)
    for severity in (-1, 6):
        with pytest.raises(SpurbenchError, match=f"Expected a severity from 0 to 5, found {severity}"):
            corrupt(flat(0), ["a"], "spike", severity, 0)
    for images in (flat(0) / 255, flat(0)[0], flat(0, 2), flat(0, size=15)):
        with pytest.raises(SpurbenchError, match=r"Expected uint8 images of shape \(1, channels, height, width\)"):
            corrupt(images, ["a"], "spike", 1, 0)  # type: ignore[arg-type]


def test_importing_it_loads_no_library() -> None:
    code = "import sys, robustbench_spur.corruptions; print({'torch', 'monai', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
