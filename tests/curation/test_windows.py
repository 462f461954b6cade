"""Values to pictures, against numpy and against a bilinear filter written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.curation.series import find_series
from robustbench_spur.curation.volumes import open_volume
from robustbench_spur.curation.windows import limits, percentiles, picture, scale
from tests.curation.dicoms import Written, write_volume

RNG = np.random.default_rng(3)


def reference(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Resampling with a triangle as wide as a pixel of the coarser grid, along rows and then along columns."""
    for _ in range(2):
        step = len(values) / size
        centres = (np.arange(size) + 0.5) * step - 0.5
        weights = np.clip(1 - np.abs(np.arange(len(values)) - centres[:, None]) / max(step, 1), 0, None)
        values = (weights / weights.sum(axis=1, keepdims=True) @ values).T
    return values


def test_the_owners_window_is_what_they_wrote() -> None:
    """img * 255. / img.max(), cut to uint8."""
    values = RNG.integers(0, 4096, (50, 50)).astype(float)
    assert (scale(values, 0, values.max()) == (values * 255.0 / values.max()).astype(np.uint8)).all()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ends_of_a_window_are_black_and_white_for_all_numbers(low: float, width: float) -> None:
    high = low + width
    grey = scale(np.array([low - 1, low, (low + high) / 2, high, high + 1]), low, high).tolist()
    assert (grey[:2], grey[3:]) == ([0, 0], [255, 255])
    assert 126 <= grey[2] <= 128 or width < 1e-3


def test_a_window_without_width_is_black() -> None:
    assert scale(np.array([-1.0, 0.0, 1.0]), 0, 0).tolist() == [0, 0, 0]


@given(
    st.lists(st.lists(st.integers(-5, 40), min_size=1, max_size=30), min_size=1, max_size=6),
    st.lists(st.sampled_from([0, 0.5, 10, 50, 99.5, 100]), min_size=1, max_size=4),
)
def test_percentiles_of_slices_are_those_of_the_volume(slices: list[list[int]], shares: list[float]) -> None:
    found = percentiles([np.array(values, float) for values in slices], shares)
    assert found == np.percentile(np.concatenate(slices), shares, method="inverted_cdf").tolist()


@pytest.mark.parametrize("slope", [None, 0.37])
def test_limits_are_those_of_the_whole_volume_with_the_rescale(tmp_path: Path, slope: float | None) -> None:
    stored = RNG.integers(-300, 3000, (6, 12, 12))
    tags = {"RescaleSlope": slope, "RescaleIntercept": None if slope is None else -7}
    write_volume(tmp_path / "v", stored, Written("P", dtype="<i2", tags=tags))
    volume = open_volume(next(find_series(tmp_path)))
    values = stored if slope is None else stored * slope - 7
    assert limits(volume, "slice") is None
    assert limits(volume, "volume") == (0.0, values.max())
    assert limits(volume, "percentile") == tuple(np.percentile(values, (0.5, 99.5), method="inverted_cdf"))


@pytest.mark.parametrize(("side", "size"), [(32, 32), (24, 40), (40, 24), (64, 20)])
@pytest.mark.parametrize("inverted", [False, True])
def test_pictures_keep_the_stored_orientation_at_every_size(side: int, size: int, inverted: bool) -> None:
    values = np.arange(side)[:, None] * 3.0 + np.arange(side) + RNG.uniform(0, 20, (side, side))
    found = np.asarray(picture(values, (10.0, 150.0), size, inverted=inverted)).astype(float)
    wanted = np.floor(np.clip((values - 10) * 255 / 140, 0, 255))
    wanted = reference(255 - wanted if inverted else wanted, size)
    assert found.shape == (size, size)
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize("shape", [(10, 16), (16, 11)])
def test_margins_are_black_and_alike_for_inverted_pictures_too(shape: tuple[int, int]) -> None:
    values: Any = RNG.uniform(10, 90, shape)
    for inverted in (False, True):
        found = np.asarray(picture(values, (0.0, 100.0), 16, inverted=inverted))
        top, left = (16 - shape[0]) // 2, (16 - shape[1]) // 2
        inner = found[top : top + shape[0], left : left + shape[1]]
        assert (inner == (255 - scale(values, 0, 100) if inverted else scale(values, 0, 100))).all()
        assert found.astype(int).sum() == inner.astype(int).sum()
