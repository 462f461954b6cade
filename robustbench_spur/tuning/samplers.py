"""What to try next: settings drawn by hash, or proposed by a tree-structured Parzen estimator from what was tried.

A proposal follows from the seed, the number of the trial and the results before it, and from nothing else: a search that was
killed goes on as if it had not been.

Source: Bergstra et al., NeurIPS 2011, "Algorithms for hyper-parameter optimization" (TPE), as Optuna has it.
Deviations: the first trials are those of the random search; the estimator is made anew for every trial, with a seed of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from robustbench_spur.parameters import Choice, LogUniform
from robustbench_spur.store import content_hash
from robustbench_spur.tuning.space import Dimension, Space, short
from robustbench_spur.types import SpurbenchError, nearest

RANDOM, TPE = "random", "tpe"
SAMPLERS = (RANDOM, TPE)
STARTUP = 10
"""Trials that are drawn by hash before the estimator has seen enough."""
Tried = tuple[dict[str, Any], float]
"""Settings that were tried, all of them, and their value."""


def check_sampler(name: str) -> None:
    """A sampler must be known, and what it needs be installed.

    Raises:
        SpurbenchError: it is not.
    """
    if name not in SAMPLERS:
        raise SpurbenchError(f"Unknown sampler {name!r}. {nearest(name, SAMPLERS)}")
    if name == TPE and importlib.util.find_spec("optuna") is None:
        raise SpurbenchError(
            "Sampler tpe needs Optuna, which is not installed. Run: pip install 'robustbench-spur[tune]'"
        )


def propose(
    space: Space, sampler: str, seed: int, number: int, history: Sequence[Tried], *, maximise: bool
) -> dict[str, Any]:
    """The settings of a trial.

    Args:
        space: what is searched.
        sampler: one of :data:`SAMPLERS`.
        seed: of the search.
        number: of the trial; trial 0 has the defaults.
        history: settings and values of the trials before it that ended well.
        maximise: whether a higher value is better.
    """
    if sampler == RANDOM or number == 0 or len(history) < STARTUP:
        return space.draw(seed, number)
    return _estimated(space, int(content_hash([seed, TPE, number])[:8], 16), history, maximise=maximise)


def _estimated(space: Space, seed: int, history: Sequence[Tried], *, maximise: bool) -> dict[str, Any]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=0),
            direction="maximize" if maximise else "minimize",
        )
        distributions = {one.name: _distribution(one) for one in space.dimensions}
        for settings, value in history:
            coded = {one.name: _coded(one, settings.get(one.name)) for one in space.dimensions}
            there = {name: code for name, code in coded.items() if code is not None}
            known = {name: distributions[name] for name in there}
            study.add_trial(optuna.trial.create_trial(value=value, params=there, distributions=known))
        asked = study.ask(distributions).params
    finally:
        optuna.logging.set_verbosity(before)
    return {one.name: _decoded(one, asked[one.name]) for one in space.dimensions}


def _distribution(one: Dimension) -> Any:
    from optuna import distributions

    if isinstance(one.search, Choice):
        return distributions.CategoricalDistribution(list(range(len(one.search.options))))
    log = isinstance(one.search, LogUniform)
    if one.whole:
        return distributions.IntDistribution(round(one.search.low), round(one.search.high), log=log)
    return distributions.FloatDistribution(one.search.low, one.search.high, log=log)


def _coded(one: Dimension, value: Any) -> Any:
    """A value as the estimator has it; None for one outside the range, such as a default may be."""
    if isinstance(one.search, Choice):
        return one.search.options.index(value) if value in one.search.options else None
    there = isinstance(value, int | float) and one.search.low <= value <= one.search.high
    return value if there else None


def _decoded(one: Dimension, code: Any) -> Any:
    if isinstance(one.search, Choice):
        return one.search.options[code]
    return int(code) if one.whole else short(float(code), one.search.low, one.search.high)
