"""Randomness passed in, never reached for: every draw follows from (seed, stream, epoch, position)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

ORDER, FLIP, SHIFT_ROWS, SHIFT_COLUMNS, LAYERS, BESIDE = range(1, 7)
"""Streams of a training run."""

_MASK = (1 << 64) - 1


def generator(*key: int) -> np.random.Generator:
    """A Philox generator for whole numbers of at least 0, such as ``(seed, stream, epoch)``."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@contextlib.contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Let torch's own generators, from which layers such as dropout draw, follow from a key for a while.

    Those of the CPU and of a CUDA device are left as they were.

    Args:
        device: the one that computes.
        key: whole numbers of at least 0, such as ``(seed, stream, epoch)``.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(generator(*key).integers(1 << 63)))
        yield


@contextlib.contextmanager
def initial(*key: int) -> Iterator[None]:
    """Let weights that are drawn on the CPU follow from a key for a while; accelerators are left alone.

    Args:
        key: whole numbers of at least 0, such as ``(seed, stream)``.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the accelerators too, and nothing would put those back
        torch.default_generator.manual_seed(int(generator(*key).integers(1 << 63)))
        yield


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 64) if number >> 63 else number


def _mix(state: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, Figure 15), on one Python integer."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def uniform(positions: torch.Tensor, *key: int) -> torch.Tensor:
    """One number in [0, 1) for each position: the same on every device and whatever the batch size.

    Counter based: SplitMix64's finaliser applied to the position and a mixed key.

    Args:
        positions: int64 tensor of any shape.
        key: whole numbers, such as ``(seed, stream, epoch)``.

    Returns:
        float32 tensor of the same shape, multiples of 2**-24.
    """
    offset = 0
    for number in key:
        offset = _mix((offset + number + 0x9E3779B97F4A7C15) & _MASK)
    state = positions * _signed(0x9E3779B97F4A7C15) + _signed(offset)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ _shift_right(state, shift)) * _signed(factor)
    state = state ^ _shift_right(state, 31)
    return _shift_right(state, 40).to(torch.float32) * 2.0**-24


def _shift_right(state: torch.Tensor, by: int) -> torch.Tensor:
    """Logical shift: torch's ``>>`` copies the sign bit."""
    return (state >> by) & ((1 << (64 - by)) - 1)
