"""Which examples an epoch draws, how images are augmented, and where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from robustbench_spur import feeding
from robustbench_spur.feeding import SHIFT_SHARE, Feed, augment, epoch_order, to_unit
from robustbench_spur.method import Sampling
from robustbench_spur.randomness import FLIP, SHIFT_COLUMNS, SHIFT_ROWS, uniform
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import CPU

BOTH = ("horizontal_flip", "shift")


def pictures(count: int, height: int = 12, width: int = 12, channels: int = 1) -> NDArray[np.uint8]:
    """Random images without a zero, so that what a shift leaves behind can be told."""
    return np.random.default_rng(0).integers(1, 256, (count, channels, height, width)).astype(np.uint8)


# order


@given(size=st.integers(1, 60), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 99))
def test_plain_epochs_are_permutations(size: int, seed: int, epoch: int) -> None:
    order = epoch_order(size, None, seed, epoch)
    assert sorted(order.tolist()) == list(range(size))
    np.testing.assert_array_equal(order, epoch_order(size, None, seed, epoch))


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(epoch_order(30, None, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_example_comes_first_equally_often() -> None:
    first = np.bincount(
        [epoch_order(6, None, seed, epoch)[0] for seed in range(10) for epoch in range(300)], minlength=6
    )
    assert stats.chisquare(first).pvalue > 0.001


@settings(deadline=None)
@given(
    repeats=st.lists(st.integers(0, 7), min_size=1, max_size=20).filter(sum),
    seed=st.integers(0, 99),
    epochs=st.integers(1, 12),
)
def test_repeats_are_walked_through_in_passes_across_epochs(repeats: list[int], seed: int, epochs: int) -> None:
    """Every complete pass holds example i exactly ``repeats[i]`` times; an incomplete one never holds more."""
    size, sampling = len(repeats), Sampling(repeats=np.array(repeats))
    drawn = np.concatenate([epoch_order(size, sampling, seed, epoch) for epoch in range(epochs)])
    assert len(drawn) == size * epochs
    for start in range(0, len(drawn), sum(repeats)):
        block = drawn[start : start + sum(repeats)]
        counts = np.bincount(block, minlength=size)
        assert (counts <= repeats).all()
        assert len(block) < sum(repeats) or counts.tolist() == repeats


def test_passes_of_repeats_differ() -> None:
    sampling = Sampling(repeats=np.ones(20, np.int64))
    orders = {tuple(epoch_order(20, sampling, 0, epoch).tolist()) for epoch in range(6)}
    assert len(orders) == 6


def test_an_epoch_of_repeats_can_be_asked_for_alone() -> None:
    """Epoch 7 of a resumed run is epoch 7 of a whole one: nothing is carried from one epoch to the next."""
    sampling = Sampling(repeats=np.array([5, 1, 1, 9]))
    passes = np.concatenate([epoch_order(4, sampling, 1, epoch) for epoch in range(8)])
    np.testing.assert_array_equal(epoch_order(4, sampling, 1, 7), passes[28:32])


def test_weights_are_probabilities() -> None:
    weights = np.array([1.0, 0.0, 3.0, 0.5, 5.5])
    sampling = Sampling(weights=weights)
    drawn = np.concatenate([epoch_order(5, sampling, 3, epoch) for epoch in range(4000)])
    counts = np.bincount(drawn, minlength=5)
    assert counts[1] == 0
    assert stats.chisquare(np.delete(counts, 1), len(drawn) * np.delete(weights, 1) / 10).pvalue > 0.001


def test_weights_draw_with_replacement() -> None:
    sampling = Sampling(weights=np.ones(50))
    assert len(set(epoch_order(50, sampling, 0, 0).tolist())) < 50


def test_scale_of_the_weights_does_not_matter() -> None:
    one, other = (epoch_order(40, Sampling(weights=factor * np.arange(1.0, 41)), 0, 2) for factor in (1.0, 4.0))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"weights": np.ones(2), "repeats": np.ones(2, np.int64)},
        {"weights": np.zeros(3)},
        {"weights": np.array([1.0, np.nan])},
        {"weights": np.array([1.0, np.inf])},
        {"repeats": np.array([1, -1])},
        {"repeats": np.zeros(3, np.int64)},
    ],
)
def test_samplings_that_cannot_be(wrong: dict[str, NDArray[np.float64]]) -> None:
    with pytest.raises(SpurbenchError, match="Expected"):
        Sampling(**wrong)  # type: ignore[arg-type]


# augmentation


def one_by_one(
    images: NDArray[np.uint8], positions: NDArray[np.int64], kinds: tuple[str, ...], seed: int, epoch: int
) -> NDArray[np.uint8]:
    """The same draws, image by image and pixel by pixel: first the shift, then the flip."""
    draws = {s: uniform(torch.from_numpy(positions), seed, s, epoch) for s in (FLIP, SHIFT_ROWS, SHIFT_COLUMNS)}
    height, width = images.shape[-2:]
    reach = max(1, round(SHIFT_SHARE * width))
    out = np.zeros_like(images)
    for n, image in enumerate(images):
        down, right = (int(float(draws[s][n]) * (2 * reach + 1)) - reach for s in (SHIFT_ROWS, SHIFT_COLUMNS))
        moved = image if "shift" not in kinds else np.zeros_like(image)
        if "shift" in kinds:
            for r in range(height):
                for c in range(width):
                    if 0 <= r + down < height and 0 <= c + right < width:
                        moved[:, r, c] = image[:, r + down, c + right]
        flipped = "horizontal_flip" in kinds and float(draws[FLIP][n]) < 0.5
        out[n] = moved[:, :, ::-1] if flipped else moved
    return out


@pytest.mark.parametrize("kinds", [(), ("horizontal_flip",), ("shift",), BOTH])
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 8), (1, 6, 50), (2, 50, 6)])
def test_augmentation_pixel_by_pixel(kinds: tuple[str, ...], shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    images = pictures(24, height, width, channels)
    positions = np.arange(100, 124)
    ours = augment(torch.from_numpy(images), torch.from_numpy(positions), kinds, 3, 5)
    assert ours.dtype == torch.uint8
    np.testing.assert_array_equal(ours, one_by_one(images, positions, kinds, 3, 5))


def test_augmentation_of_floats_is_that_of_bytes() -> None:
    images, positions = torch.from_numpy(pictures(20)), torch.arange(20)
    torch.testing.assert_close(
        augment(images.float(), positions, BOTH, 0, 0), augment(images, positions, BOTH, 0, 0).float(), rtol=0, atol=0
    )


@given(size=st.integers(1, 30), seed=st.integers(0, 20), epoch=st.integers(0, 5))
def test_augmentation_does_not_depend_on_the_batch(size: int, seed: int, epoch: int) -> None:
    images, positions = torch.from_numpy(pictures(30)), torch.arange(60, 90)
    whole = augment(images, positions, BOTH, seed, epoch)
    cuts = [slice(start, start + size) for start in range(0, 30, size)]
    parts = [augment(images[cut], positions[cut], BOTH, seed, epoch) for cut in cuts]
    assert torch.equal(whole, torch.cat(parts))


def test_augmentation_depends_on_position_seed_and_epoch() -> None:
    image = torch.from_numpy(pictures(1, 64, 64)).expand(50, -1, -1, -1)
    results = [
        augment(image, torch.arange(start, start + 50), BOTH, seed, epoch)
        for start, seed, epoch in ((0, 0, 0), (50, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    for k, one in enumerate(results):
        # 2 flips and 49 shifts of one image: most of the 50 differ from one another
        assert len({picture.numpy().tobytes() for picture in one}) > 25
        assert not any(torch.equal(one, other) for other in results[:k])


def test_half_are_flipped_and_all_shifts_are_equally_likely() -> None:
    image = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    image[0, 0, 30, 20] = 255
    moved = augment(image.expand(9800, -1, -1, -1), torch.arange(9800), BOTH, 0, 0)
    row, column = (moved.flatten(1).argmax(1) // 64).numpy(), (moved.flatten(1).argmax(1) % 64).numpy()
    flipped = column > 31
    assert stats.binomtest(int(flipped.sum()), 9800).pvalue > 0.001
    # at 64 pixels the reach is 3
    places = np.stack([row - 30, np.where(flipped, 63 - column, column) - 20])
    assert set(np.unique(places).tolist()) == set(range(-3, 4))
    counts = np.unique(places, axis=1, return_counts=True)[1]
    assert len(counts) == 49 and stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(("width", "reach"), [(8, 1), (14, 1), (28, 1), (64, 3), (224, 10)])
def test_reach_of_the_shift(width: int, reach: int) -> None:
    columns = torch.arange(width, dtype=torch.float32).expand(200, 1, 2 * reach + 1, -1)
    moved = augment(columns, torch.arange(200), ("shift",), 0, 0)
    # the middle row of a band that is just high enough never leaves it
    shifts = moved[:, 0, reach, width // 2] - width // 2
    assert set(shifts.int().tolist()) == set(range(-reach, reach + 1))


def test_nothing_to_do_is_nothing_done() -> None:
    images = torch.from_numpy(pictures(3))
    assert augment(images, torch.arange(3), (), 0, 0) is images


# where images lie


@pytest.mark.parametrize("mapped", [False, True])
def test_resident_or_not_is_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mapped: bool) -> None:
    images: NDArray[np.uint8] = pictures(33, channels=2)
    if mapped:
        np.save(tmp_path / "images.npy", images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
    resident = Feed(images, CPU)
    monkeypatch.setattr(feeding.Feed, "_fits", lambda feed: False)
    streamed = Feed(images, CPU)
    assert resident._resident is not None and streamed._resident is None
    rows = torch.tensor([32, 0, 7, 7])
    assert torch.equal(resident.take(rows), streamed.take(rows))
    np.testing.assert_array_equal(streamed.take(rows), images[[32, 0, 7, 7]])
    assert streamed.take(rows).dtype == torch.uint8
    for size in (1, 8, 33, 100):
        pairs = list(zip(resident.batches(size), streamed.batches(size), strict=True))
        assert len(pairs) == -(-33 // size)
        assert all(torch.equal(a, b) for a, b in pairs)
        np.testing.assert_allclose(torch.cat([a for a, _ in pairs]), images / 255, rtol=1e-6)


def test_a_streamed_feed_holds_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees what is written to the array afterwards; a resident one does not."""
    images = pictures(4)
    resident = Feed(images, CPU)
    monkeypatch.setattr(feeding.Feed, "_fits", lambda feed: False)
    streamed = Feed(images, CPU)
    images[2] = 0
    rows = torch.tensor([2])
    assert not streamed.take(rows).any() and resident.take(rows).any()


def test_length() -> None:
    assert len(Feed(pictures(5), CPU)) == 5


def test_to_unit() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 4, 8, 8)
    unit = to_unit(images)
    assert unit.dtype == torch.float32 and unit.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(unit.flatten(), np.arange(256, dtype=np.float32) / np.float32(255))
    assert images.dtype == torch.uint8 and int(images.max()) == 255
