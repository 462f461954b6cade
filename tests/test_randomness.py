"""Counter-based numbers against SplitMix64 in plain Python, their distribution, and the generators of other streams."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustbench_spur.randomness import FLIP, ORDER, SHIFT_COLUMNS, SHIFT_ROWS, _mix, generator, seeded, uniform

WORD = 1 << 64
GAMMA = 0x9E3779B97F4A7C15


def finalise(z: int) -> int:
    """Steele, Lea and Flood 2014, the function mix64variant13 of SplitMix64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


class SplitMix64:
    """The generator as published: a counter that grows by gamma, finalised."""

    def __init__(self, seed: int) -> None:
        self.state = seed % WORD

    def next(self) -> int:
        self.state = (self.state + GAMMA) % WORD
        return finalise(self.state)


def reference(position: int, *key: int) -> float:
    """Each number of the key seeds the next generator; the position is that of the last one's output."""
    seed = 0
    for number in key:
        seed = SplitMix64(seed + number).next()
    return (finalise((seed + position * GAMMA) % WORD) >> 40) / 2**24


def test_finaliser_against_published_outputs() -> None:
    """The first numbers for the seed 1234567, as given for the reference implementation."""
    numbers = SplitMix64(1234567)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [numbers.next() for _ in range(4)] == published
    assert [_mix((1234567 + k * GAMMA) % WORD) for k in (1, 2, 3, 4)] == published


@given(
    positions=st.lists(st.integers(0, 2**62), min_size=1, max_size=20),
    key=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=3),
)
def test_uniform_is_splitmix64(positions: list[int], key: list[int]) -> None:
    ours = uniform(torch.tensor(positions), *key)
    assert ours.dtype == torch.float32
    assert ours.tolist() == [reference(position, *key) for position in positions]


@given(cut=st.integers(0, 100), size=st.integers(1, 40))
def test_the_same_however_positions_are_split(cut: int, size: int) -> None:
    positions = torch.arange(100)
    whole = uniform(positions, 3, FLIP, 1)
    assert torch.equal(whole, torch.cat([uniform(positions[:cut], 3, FLIP, 1), uniform(positions[cut:], 3, FLIP, 1)]))
    assert torch.equal(whole, torch.cat([uniform(positions[k : k + size], 3, FLIP, 1) for k in range(0, 100, size)]))
    shuffled = torch.from_numpy(np.random.default_rng(cut).permutation(100))
    assert torch.equal(whole[shuffled], uniform(shuffled, 3, FLIP, 1))
    assert torch.equal(whole.reshape(4, 25), uniform(positions.reshape(4, 25), 3, FLIP, 1))


def test_in_zero_one_and_uniform() -> None:
    numbers = uniform(torch.arange(200_000), 5, SHIFT_ROWS, 2).double().numpy()
    assert 0 <= numbers.min() and numbers.max() < 1
    # standard errors: 0.00065 of the mean, 0.00017 of the variance
    assert numbers.mean() == pytest.approx(1 / 2, abs=0.003)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.001)
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert stats.chisquare(np.histogram(numbers, 64, (0, 1))[0]).pvalue > 0.001
    lagged = [np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1] for lag in (1, 2, 7, 64)]
    np.testing.assert_allclose(lagged, 0, atol=0.012)


def test_streams_seeds_and_epochs_are_unrelated() -> None:
    keys = [*itertools.product((0, 1, 2), (FLIP, SHIFT_ROWS, SHIFT_COLUMNS), (0, 1))]
    numbers = np.array([uniform(torch.arange(20_000), *key).numpy() for key in keys])
    correlation = np.corrcoef(numbers) - np.eye(len(keys))
    # 153 pairs with a standard error of 0.007
    assert np.abs(correlation).max() < 0.03


def test_order_and_length_of_the_key_matter() -> None:
    keys = [(1, 2), (2, 1), (1, 2, 0), (0, 1, 2), (1,), (2,), (3,), ()]
    drawn = {tuple(uniform(torch.arange(4), *key).tolist()) for key in keys}
    assert len(drawn) == len(keys)


def test_generators_repeat_and_differ() -> None:
    def draws(*key: int) -> tuple[int, ...]:
        return tuple(generator(*key).integers(1 << 40, size=4).tolist())

    assert draws(0, ORDER, 3) == draws(0, ORDER, 3)
    keys = list(itertools.product((0, 1), (ORDER, FLIP), (0, 1, 2)))
    assert len({draws(*key) for key in keys}) == len(keys)


def test_nothing_global_is_touched() -> None:
    def state() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002

    before = state()
    uniform(torch.arange(10), 1)
    generator(1, 2).random(3)
    with seeded(torch.device("cpu"), 4):
        torch.rand(3)
    assert state() == before


def test_seeded_layers_follow_from_the_key_alone() -> None:
    cpu = torch.device("cpu")

    def draw(*key: int) -> tuple[float, ...]:
        with seeded(cpu, *key):
            return tuple(torch.rand(3).tolist())

    torch.manual_seed(0)
    first = draw(1, 2)
    torch.manual_seed(1)
    assert draw(1, 2) == first != draw(1, 3)


def test_seeded_restores_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(torch.device("cpu"), 1):
        torch.rand(1)
        _ = 1 // 0
    assert torch.equal(before, torch.get_rng_state())
