"""PDE: the balanced subset, what joins it and when, and which examples an epoch draws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.feeding import epoch_order
from robustbench_spur.methods.pde import PDE, PDEHyperparameters
from robustbench_spur.parameters import Training
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import of_groups, view_of

COUNTS = [40, 4, 10, 26]


def pde(balanced: int = 3, every: int = 1, expansion: float = 0.05) -> PDE:
    return PDE(PDEHyperparameters(balanced_epochs=balanced, every_epochs=every, expansion=expansion))


def inside(method: PDE, epoch: int, counts: list[int] | None = None, seed: int = 0) -> np.ndarray:
    repeats = method.sampling_in(view_of(method, of_groups(counts or COUNTS), seed=seed), epoch).repeats
    assert repeats is not None and set(repeats.tolist()) <= {0, 1}
    return np.asarray(repeats, bool)


def test_the_subset_has_as_many_of_every_group_as_the_smallest() -> None:
    groups = np.repeat(np.arange(4), COUNTS)
    first = inside(pde(), 0)
    assert np.bincount(groups[first]).tolist() == [4, 4, 4, 4]
    assert (inside(pde(), 2) == first).all()


def test_sizes_by_hand() -> None:
    """Of 80 examples 16 are balanced; 5 per cent are 4; they join in epochs 3, 5 and 7."""
    sizes = [int(inside(pde(every=2), epoch).sum()) for epoch in range(8)]
    assert sizes == [16, 16, 16, 20, 20, 24, 24, 28]


def test_the_whole_set_is_the_end() -> None:
    assert inside(pde(balanced=0, expansion=1.0), 0).all()
    assert inside(pde(expansion=0.4), 30).all()


def test_without_expansion_it_stays_the_subset() -> None:
    assert inside(pde(expansion=0.0), 50).sum() == 16


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any),
    seed=st.integers(0, 9),
    every=st.integers(1, 3),
)
def test_what_is_in_stays_in(counts: list[int], seed: int, every: int) -> None:
    method = pde(balanced=1, every=every, expansion=0.15)
    subsets = [inside(method, epoch, counts, seed) for epoch in range(7)]
    for earlier, later in pairwise(subsets):
        assert (later >= earlier).all()


def test_what_joins_is_drawn_from_all_groups_alike() -> None:
    """Over many seeds a group's share of what joins is its share of what was left."""
    joined = np.zeros(4)
    groups = np.repeat(np.arange(4), COUNTS)
    for seed in range(200):
        new = inside(pde(expansion=0.1), 3, seed=seed) & ~inside(pde(expansion=0.1), 0, seed=seed)
        joined += np.bincount(groups[new], minlength=4)
    assert joined[1] == 0
    np.testing.assert_allclose(joined / joined.sum(), np.array([36, 0, 6, 22]) / 64, atol=0.03)


def test_an_epoch_draws_from_the_subset_alone() -> None:
    method = pde()
    view = view_of(method, of_groups(COUNTS))
    drawn = np.bincount(epoch_order(80, method.sampling_in(view, 1), 0, 1), minlength=80)
    assert drawn.sum() == 80 and (drawn > 0).tolist() == inside(method, 1).tolist()


def test_one_example_per_group() -> None:
    assert inside(pde(), 0, [1, 1, 1, 1]).tolist() == [True] * 4


def test_default_is_half_of_the_budget() -> None:
    assert [PDEHyperparameters().resolved(Training(epochs=n)).balanced_epochs for n in (1, 4, 12)] == [1, 2, 6]


@pytest.mark.parametrize("wrong", [{"expansion": -0.1}, {"expansion": 1.1}, {"every_epochs": 0}])
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {next(iter(wrong))}="):
        PDEHyperparameters.parse(wrong, "pde")
