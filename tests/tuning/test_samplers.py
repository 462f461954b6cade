"""Proposals: the same for the same past, inside the ranges, and better than chance where there is something to learn."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from robustbench_spur.parameters import Choice, LogUniform, Uniform
from robustbench_spur.tuning.samplers import STARTUP, check_sampler, propose
from robustbench_spur.tuning.space import Dimension, Space
from robustbench_spur.types import SpurbenchError

SPACE = Space(
    (
        Dimension("rate", LogUniform(1e-4, 1.0), False),
        Dimension("width", Uniform(-1.0, 1.0), False),
        Dimension("layers", Uniform(1, 6), True),
        Dimension("power", LogUniform(1, 64), True),
        Dimension("kind", Choice(("a", (1, 2), None)), False),
    )
)


def value(settings: dict[str, Any]) -> float:
    """Highest at width 0.5."""
    return -abs(settings["width"] - 0.5)


def searched(trials: int, seed: int = 0) -> list[tuple[dict[str, Any], float]]:
    default = {"rate": 5.0, "width": 0.0, "layers": 2, "power": 1, "kind": "a"}  # the rate is outside its range
    history = [(default, value(default))]
    for number in range(1, trials):
        settings = propose(SPACE, "tpe", seed, number, history, maximise=True)
        history.append((settings, value(settings)))
    return history


def test_a_proposal_follows_from_seed_number_and_past() -> None:
    first, again = searched(14), searched(14)
    assert first == again
    assert searched(14, seed=1)[-1] != first[-1]


def test_the_first_trials_are_those_of_the_random_search() -> None:
    drawn = [propose(SPACE, "random", 0, number, [], maximise=True) for number in range(1, STARTUP)]
    assert [settings for settings, _ in searched(STARTUP)][1:] == drawn
    assert propose(SPACE, "tpe", 0, 0, searched(STARTUP + 1), maximise=True) == {}


def test_proposals_are_in_their_ranges() -> None:
    for settings, _ in searched(20)[STARTUP:]:
        assert 1e-4 <= settings["rate"] <= 1.0
        assert isinstance(settings["layers"], int)
        assert 1 <= settings["layers"] <= 6
        assert isinstance(settings["power"], int)
        assert 1 <= settings["power"] <= 64
        assert settings["kind"] in ("a", (1, 2), None)


@pytest.mark.parametrize("maximise", [True, False])
def test_it_learns(maximise: bool) -> None:
    space = Space((Dimension("width", Uniform(-1.0, 1.0), False),))
    history: list[tuple[dict[str, Any], float]] = []
    for number in range(1, 31):
        settings = propose(space, "tpe", 0, number, history, maximise=maximise)
        history.append((settings, value(settings) if maximise else -value(settings)))
    late = [abs(settings["width"] - 0.5) for settings, _ in history[20:]]
    # by chance, the mean distance is 0.625
    assert sum(late) / len(late) < 0.3


def test_without_optuna_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else find(name))
    check_sampler("random")
    with pytest.raises(SpurbenchError, match=r"Run: pip install 'robustbench-spur\[tune\]'"):
        check_sampler("tpe")
