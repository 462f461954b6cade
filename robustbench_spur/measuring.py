"""Evaluators on given predictions: of one model, or of several seeds of it. Imports no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.evaluators.base import Evaluator, Part, Predictions, Subject
from robustbench_spur.evaluators.subject import Features
from robustbench_spur.manifest import Bootstrap, Manifest
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import Scorer, as_json, load_evaluators, metric_of, pins_of
from robustbench_spur.statistics import estimate
from robustbench_spur.store import Store
from robustbench_spur.types import Estimate, SpurbenchError

Estimates = dict[str, Estimate]
BOARD = "board"
"""The name that stands for all evaluators of the board."""
NEEDS_MODEL = "needs the model"
"""Why an evaluator that collects is left out where there are predictions alone."""
NEEDS_FEATURES = "needs the model, or the features of its last layer"
"""Why one that features suffice for is left out where there are none."""
SLOW = "takes minutes, and was not asked for"
"""Why a costly evaluator is left out."""


@dataclass(frozen=True)
class Seed:
    """Predictions of one run of a model.

    Args:
        name: of the run, for people, such as its file's.
        predictions: with the arrays that evaluators collected.
        key: what resampled values are kept under; empty keeps none.
        features: the last layer's input, in the order of the predictions; None where it is not known.
    """

    name: str
    predictions: Predictions
    key: str = ""
    features: Features | None = None


@dataclass(frozen=True)
class Result:
    """What one evaluator said.

    Args:
        evaluator: with its settings.
        estimates: of each seed, by metric.
        details: of each seed.
        mean: over the seeds, with the interval of that mean over the patients; empty where there is one seed.
        predictions: of each seed, with what the evaluator collected.
    """

    evaluator: Evaluator
    estimates: tuple[Estimates, ...]
    details: tuple[dict[str, Any], ...]
    mean: Estimates
    predictions: tuple[Predictions, ...] = ()

    @property
    def headline(self) -> Estimates:
        """The mean over seeds, or the one seed's."""
        return self.mean or self.estimates[0]


@dataclass(frozen=True)
class Measured:
    """What all evaluators said.

    Args:
        seeds: of one model, on the same examples.
        findings: of each evaluator that was carried out, in order.
        left_out: why others were not, by name.
        failed: what went wrong in others, by name.
    """

    seeds: tuple[Seed, ...]
    findings: tuple[Result, ...]
    left_out: Mapping[str, str]
    failed: Mapping[str, str]

    def as_dicts(self) -> list[dict[str, Any]]:
        """For JSON: a dictionary per seed, and one of the mean where there are several."""

        def numbers(of: Sequence[tuple[Result, Estimates]]) -> dict[str, Any]:
            return {finding.evaluator.name: as_json(estimates) for finding, estimates in of}

        rows: list[dict[str, Any]] = [
            {
                "seed": seed.name,
                "metrics": numbers([(one, one.estimates[number]) for one in self.findings]),
                "details": {one.evaluator.name: one.details[number] for one in self.findings},
            }
            for number, seed in enumerate(self.seeds)
        ]
        if len(self.seeds) > 1:
            rows.append({"seed": "mean", "metrics": numbers([(one, one.mean) for one in self.findings]), "details": {}})
        about = {"left_out": dict(self.left_out), "failed": dict(self.failed)}
        return [{**row, **about} for row in rows]


def available(
    registry: Registry, manifest: Manifest, names: Sequence[str] = (), *, costly: bool = True
) -> tuple[list[Evaluator], dict[str, str]]:
    """The evaluators asked for, those of the board with its settings and the others with their own.

    Args:
        registry: where they are looked up.
        manifest: of the board.
        names: which, where ``board`` stands for the board's; all that are installed where empty, the board's first.
        costly: whether those are among all that take minutes.

    Returns:
        The evaluators; of all, why those that cannot be used are left out, by name.

    Raises:
        SpurbenchError: one that was named is unknown or broken.
    """
    if names:
        of_board = [pin.name for pin in manifest.evaluators]
        each = [one for name in names for one in (of_board if name == BOARD else [name])]
        return load_evaluators(registry, pins_of(each, registry, manifest)), {}
    there = [plugin.name for plugin in registry.entries("evaluator")]
    pinned = [pin.name for pin in manifest.evaluators if pin.name in there]
    loaded: list[Evaluator] = []
    left_out = {}
    for name in dict.fromkeys((*pinned, *there)):
        try:
            found = load_evaluators(registry, pins_of((name,), registry, manifest))
        except SpurbenchError as error:
            left_out[name] = str(error)
            continue
        if any(one.costly for one in found) and not costly:
            left_out[name] = SLOW
        else:
            loaded += found
    return loaded, left_out


def collected_from(evaluator: Evaluator, part: Part, others: Mapping[str, Part]) -> tuple[Predictions, str]:
    """Predictions with what an evaluator collects from predictions, or from features beside them, or why it cannot.

    Args:
        evaluator: which.
        part: the partition that is measured, with features if there are any.
        others: other partitions, by name.

    Returns:
        The predictions, and the reason why the evaluator is left out; empty where it is not.
    """
    predictions = part.predictions
    if why := _lacking(evaluator, part, others):
        return predictions, why
    if not evaluator.collects:
        return predictions, ""
    beside = {name: others[name] for name in evaluator.reads}
    subject = Subject(predictions, others=beside, features=part.features)
    try:
        arrays = evaluator.collect(subject)
    except SpurbenchError as error:  # what it says where it asks for the model
        return predictions, str(error)
    return replace(predictions, arrays={**predictions.arrays, **arrays}), ""


def _lacking(evaluator: Evaluator, part: Part, others: Mapping[str, Part]) -> str:
    """What an evaluator would have to be given beside these parts; empty where it collects nothing, or has all."""
    if not evaluator.collects:
        return ""
    looks = evaluator.on_features  # stated by those that features suffice for
    if evaluator.requires or not (evaluator.reads or looks):
        return NEEDS_MODEL
    if looks and part.features is None:
        return NEEDS_FEATURES
    if absent := [name for name in evaluator.reads if name not in others]:
        return f"needs {'features and ' if looks else ''}predictions on {' and '.join(absent)}"
    if looks and (absent := [name for name in evaluator.reads if others[name].features is None]):
        return f"needs features on {' and '.join(absent)}"
    return ""


def measure(
    seeds: Sequence[Seed],
    evaluators: Sequence[Evaluator],
    bootstrap: Bootstrap,
    *,
    others: Sequence[Mapping[str, Predictions | Part]] = (),
    cache: Store | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Measured:
    """Carry out evaluators; one that fails is told, and stops no other.

    Args:
        seeds: predictions of one model or of several seeds of it, on the same rows in the same order.
        evaluators: which.
        bootstrap: how intervals are made.
        others: predictions of each seed on other partitions, by name, for evaluators that read these; as a :class:`Part`
            where there are features too.
        cache: where resampled values are kept; nowhere where None.
        left_out: evaluators that were left out before, with the reason.
    """
    findings, told, failed = [], dict(left_out or {}), dict[str, str]()
    beside = [
        {name: one if isinstance(one, Part) else Part(one) for name, one in parts.items()}
        for parts in others or [{} for _ in seeds]
    ]
    with tempfile.TemporaryDirectory(prefix="spurbench-") as folder:
        # of several seeds the resampled values are needed twice
        kept = Store(Path(folder)) if cache is None and len(seeds) > 1 else cache
        scorer = Scorer(kept, bootstrap)
        for evaluator in evaluators:
            try:
                ready = _collect(evaluator, seeds, beside)
                if isinstance(ready, str):
                    told[evaluator.name] = ready
                else:
                    findings.append(_find(evaluator, ready, scorer))
            except (Exception, SystemExit) as error:  # other people's evaluators
                message = (str(error).splitlines() or [""])[0]
                failed[evaluator.name] = (
                    message if isinstance(error, SpurbenchError) else f"{type(error).__name__}: {message}"
                )
    return Measured(tuple(seeds), tuple(findings), told, failed)


def _collect(evaluator: Evaluator, seeds: Sequence[Seed], others: Sequence[Mapping[str, Part]]) -> list[Seed] | str:
    """The seeds with what the evaluator collects, or why it is left out."""
    ready = []
    for number, (seed, beside) in enumerate(zip(seeds, others, strict=True)):
        there = all(name in seed.predictions.arrays for name in evaluator.collects)
        part = Part(seed.predictions, features=seed.features)
        predictions, why = (seed.predictions, "") if there else collected_from(evaluator, part, beside)
        if why:
            return why
        ready.append(replace(seed, predictions=predictions, key=seed.key or str(number)))
    return ready


def _find(evaluator: Evaluator, seeds: Sequence[Seed], scorer: Scorer) -> Result:
    estimates = tuple(scorer.score(evaluator, seed.predictions, seed.key) for seed in seeds)
    details = tuple(evaluator.details(seed.predictions) for seed in seeds)
    mean = _mean(evaluator, seeds, estimates, scorer) if len(seeds) > 1 else {}
    return Result(evaluator, estimates, details, mean, tuple(seed.predictions for seed in seeds))


def _mean(evaluator: Evaluator, seeds: Sequence[Seed], estimates: Sequence[Estimates], scorer: Scorer) -> Estimates:
    """Mean over the seeds of every metric that all have; the patients are resampled alike in all."""
    spreads = [scorer.replicates(evaluator, seed.predictions, seed.key) for seed in seeds]
    support = [evaluator.support(seed.predictions) for seed in seeds]
    found = {}
    for metric, first in estimates[0].items():
        if any(metric not in one for one in estimates):
            continue
        values = [one[metric].value for one in estimates]
        undefined = next((one[metric] for one in estimates if one[metric].value is None), first)
        found[metric] = estimate(
            metric_of(evaluator, metric),
            float(np.mean([np.nan if value is None else value for value in values])),
            np.mean([spread[metric] for spread in spreads], axis=0),
            scorer.bootstrap.confidence,
            patients=min((one[metric] for one in support if metric in one), default=None),
            reason=undefined.reason,
        )
    return found
