"""Values drawn by hash: each setting by itself, in its range, and distributed as the range says."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from robustbench_spur.parameters import Choice, LogUniform, Uniform
from robustbench_spur.registry import Registry
from robustbench_spur.tuning.space import Dimension, Space, space_of, uniform
from robustbench_spur.types import SpurbenchError

names = some.text("abcdefgh_", min_size=1, max_size=6)
searches = some.one_of(
    some.builds(lambda low, ratio: LogUniform(low, low * ratio), some.floats(1e-6, 1e3), some.floats(1.5, 1e6)),
    some.builds(lambda low, width: Uniform(low, low + width), some.integers(-50, 50), some.integers(1, 50)),
    some.builds(lambda options: Choice(tuple(options)), some.lists(some.integers(), min_size=1, max_size=5)),
)
dimensions = some.builds(lambda name, search: Dimension(name, search, False), names, searches)
spaces = some.lists(dimensions, max_size=5, unique_by=lambda one: one.name)


@given(spaces, dimensions, some.integers(0, 9), some.integers(1, 99), some.randoms())
def test_one_more_setting_moves_no_other(
    own: list[Dimension], further: Dimension, seed: int, trial: int, random: Any
) -> None:
    before = Space(tuple(own)).draw(seed, trial)
    more = [*(one for one in own if one.name != further.name), further]
    random.shuffle(more)
    after = Space(tuple(more)).draw(seed, trial)
    assert {name: value for name, value in after.items() if name != further.name} == {
        name: value for name, value in before.items() if name != further.name
    }


@given(searches, some.booleans(), some.floats(0, 1, exclude_max=True))
def test_a_value_is_in_its_range(search: Any, whole: bool, share: float) -> None:
    if isinstance(search, LogUniform) and whole and round(search.high) < 1:
        return
    value = Dimension("x", search, whole).at(share)
    if isinstance(search, Choice):
        assert value in search.options
    else:
        low, high = (round(search.low), round(search.high)) if whole else (search.low, search.high)
        assert low <= value <= high
        assert isinstance(value, int) == whole


def test_the_hash_is_that_of_seed_name_and_trial() -> None:
    digest = hashlib.sha256(b'[3,"eta",17]').hexdigest()
    assert uniform(3, "eta", 17) == int(digest[:13], 16) / 2**52


def test_trial_0_has_the_defaults() -> None:
    space = Space((Dimension("x", Uniform(0, 1), False),))
    assert space.draw(0, 0) == {}
    assert space.draw(0, 1) != {}


def drawn(search: Any, *, whole: bool = False, count: int = 2000) -> np.ndarray[Any, Any]:
    one = Dimension("x", search, whole)
    return np.array([one.draw(0, trial) for trial in range(1, count + 1)])


def test_log_uniform_draws_are_uniform_in_the_logarithm() -> None:
    values = np.log(drawn(LogUniform(1e-4, 10.0)))
    ends = math.log(1e-4), math.log(10.0)
    assert stats.kstest(values, stats.uniform(ends[0], ends[1] - ends[0]).cdf).pvalue > 0.01


def test_uniform_draws_are_uniform() -> None:
    assert stats.kstest(drawn(Uniform(-2.0, 3.0)), stats.uniform(-2, 5).cdf).pvalue > 0.01


def test_seeds_trials_and_names_draw_apart() -> None:
    draws = np.array([[uniform(seed, name, trial) for trial in range(500)] for seed in (0, 1) for name in ("a", "b")])
    assert len(np.unique(draws)) == draws.size
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.15


def test_whole_numbers_of_a_uniform_range_are_equally_likely_up_to_both_ends() -> None:
    values, counts = np.unique(drawn(Uniform(2, 6), whole=True), return_counts=True)
    assert values.tolist() == [2, 3, 4, 5, 6]
    assert stats.chisquare(counts).pvalue > 0.01


def test_whole_numbers_of_a_log_uniform_range_are_rounded() -> None:
    """The chance of 3 among 1 to 100 is that of 2.5 to 3.5 on the logarithmic scale."""
    values = drawn(LogUniform(1, 100), whole=True)
    assert values.dtype.kind == "i"
    assert (values.min(), values.max()) == (1, 100)
    chance = math.log(3.5 / 2.5) / math.log(100)
    assert abs(np.mean(values == 3) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(values))


def test_the_options_of_a_choice_are_equally_likely() -> None:
    _, counts = np.unique(drawn(Choice((0.1, 0.2, 0.3, 0.4))), return_counts=True)
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 0.01


# which settings


def test_the_space_is_what_the_source_declares() -> None:
    registry = Registry()
    assert space_of(registry.find("method", "groupdro")).dimensions == (
        Dimension("eta", LogUniform(1e-3, 1e-1), False),
        Dimension("adjustment", Choice((0.0, 1.0, 2.0, 3.0, 4.0, 5.0)), False),
    )
    jtt = space_of(registry.find("method", "jtt"), {"upweight"})
    assert [(one.name, one.whole) for one in jtt.dimensions] == [("id_epochs", True)]


def test_the_budgets_own_ranges_are_searched_when_asked_for() -> None:
    erm = Registry().find("method", "erm")
    assert space_of(erm, training=True).dimensions == (
        Dimension("learning_rate", LogUniform(1e-5, 1e-2), False),
        Dimension("weight_decay", LogUniform(1e-6, 1e-1), False),
    )
    assert [one.name for one in space_of(erm, {"learning_rate"}, training=True).dimensions] == ["weight_decay"]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [((), "it declares no search range. Give --training"), (("eta", "adjustment"), r"given \(adjustment, eta\)")],
)
def test_nothing_to_search_is_refused(fixed: tuple[str, ...], message: str) -> None:
    plugin = Registry().find("method", "groupdro" if fixed else "erm")
    with pytest.raises(SpurbenchError, match=message):
        space_of(plugin, fixed)


@pytest.mark.parametrize(
    "declared",
    [
        "LogUniform(0.0, 1.0)",
        "LogUniform(2.0, 1.0)",
        "Uniform(1.0, 1.0)",
        "Choice(())",
        "ranges()",
        "Uniform(0.0, 1e999)",
    ],
)
def test_a_range_that_is_none_is_refused(draft: Any, declared: str) -> None:
    path: Path = draft(
        f"""
        from robustbench_spur import Choice, Hyperparameters, LogUniform, Uniform, parameter
        from robustbench_spur.methods.erm import ERM
        class Settings(Hyperparameters):
            x: float = parameter(1.0, "a number", search={declared})
        class Mine(ERM):
            name = "mine"
            version = 1
            needs = ()
            Hyperparameters = Settings
        """
    )
    with pytest.raises(SpurbenchError, match=r"as the search range of x.*mine\.py"):
        space_of(Registry((path,)).find("method", "mine"))
