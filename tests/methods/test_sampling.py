"""RWG, RWY, SUBG and SUBY: how often each group is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.feeding import epoch_order
from robustbench_spur.method import Method, Sampling
from robustbench_spur.methods.rwg import RWG
from robustbench_spur.methods.rwy import RWY
from robustbench_spur.methods.subg import SUBG
from robustbench_spur.methods.suby import SUBY
from tests.methods.toy import of_groups, view_of

COUNTS = [40, 4, 10, 26]


def sampling_of(method: Method, counts: list[int], seed: int = 0) -> Sampling:
    sampling = method.sampling(view_of(method, of_groups(counts), seed=seed))
    assert sampling is not None
    return sampling


def test_rwg_gives_every_group_a_quarter() -> None:
    weights = sampling_of(RWG(), COUNTS).weights
    assert weights is not None
    groups = np.repeat(np.arange(4), COUNTS)
    np.testing.assert_allclose([weights[groups == g].sum() / weights.sum() for g in range(4)], 0.25)


def test_rwy_gives_every_class_a_half_and_leaves_the_groups_within_alone() -> None:
    weights = sampling_of(RWY(), COUNTS).weights
    assert weights is not None
    groups = np.repeat(np.arange(4), COUNTS)
    shares = [weights[groups == g].sum() / weights.sum() for g in range(4)]
    np.testing.assert_allclose(shares, [0.5 * 40 / 44, 0.5 * 4 / 44, 0.5 * 10 / 36, 0.5 * 26 / 36])


def test_draws_follow_the_weights() -> None:
    order = np.concatenate([epoch_order(80, sampling_of(RWG(), COUNTS), 0, epoch) for epoch in range(200)])
    found = np.bincount(np.repeat(np.arange(4), COUNTS)[order]) / len(order)
    np.testing.assert_allclose(found, 0.25, atol=0.02)


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(0, 12), min_size=4, max_size=4).filter(any), seed=st.integers(0, 20))
@pytest.mark.parametrize(("method", "by_class"), [(SUBG(), False), (SUBY(), True)])
def test_subsets_have_equal_counts(method: Method, by_class: bool, counts: list[int], seed: int) -> None:
    """As many of each group, or class, that is there as the smallest of these has; every example at most once."""
    repeats = sampling_of(method, counts, seed).repeats
    assert repeats is not None and repeats.max() <= 1
    codes = np.repeat(np.arange(4), counts) // (2 if by_class else 1)
    kept = np.bincount(codes, weights=repeats)
    there = np.bincount(codes)
    assert kept[there > 0].tolist() == [there[there > 0].min()] * int((there > 0).sum())


def test_the_subset_is_drawn_once_and_follows_from_the_seed() -> None:
    first, again, other = (sampling_of(SUBG(), COUNTS, seed).repeats for seed in (0, 0, 1))
    assert first is not None and again is not None and other is not None
    assert (first == again).all() and (first != other).any()
    order = np.concatenate([epoch_order(80, sampling_of(SUBG(), COUNTS), 0, epoch) for epoch in range(4)])
    drawn = np.bincount(order, minlength=80)
    assert (drawn[first == 0] == 0).all() and (drawn[first == 1] == 20).all()
