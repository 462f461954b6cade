"""How an evaluator measures: pure, in range, with a reason for what is undefined, and by patients as they are counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.conformance.evaluator_cases import (
    SOUND,
    TIES,
    by_rows,
    counts_of,
    draws_of,
    renamed,
    repeated,
    shuffled,
)
from robustbench_spur.conformance.report import Ledger
from robustbench_spur.conformance.runs import FaultError, global_state, place_of, reseeded
from robustbench_spur.evaluators.base import Evaluator, Floats, Predictions
from robustbench_spur.registry import Plugin
from robustbench_spur.request import in_a_line
from robustbench_spur.scoring import metric_of
from robustbench_spur.statistics import ratio
from robustbench_spur.store import canonical
from robustbench_spur.types import SpurbenchError

RUNS = "it measures whatever the predictions"
QUIET = "no warnings"
DOCUMENTED = "every metric it gives is defined"
RANGE = "values are in range or undefined"
REASONS = "what is undefined has a reason"
JSON = "details are JSON"
SUPPORT = "support names metrics and counts patients"
PURE = "same input, same output, and nothing else moves"
ALONE = "one metric alone is as among all"
COUNTED = "counts are patients that are there as often"
ORDERED = "the order of the rows does not matter"
NAMED = "the names of the patients do not matter"
TOLERANCE = 1e-8
COPIES = "its arrays have no entry per row that could go with it"


@dataclass(frozen=True)
class Said:
    """What an evaluator said of one case.

    Args:
        predictions: of the case.
        counts: resamplings, the point estimate first.
        values: by metric.
        details: see :meth:`Evaluator.details`.
        support: see :meth:`Evaluator.support`.
        warnings: that were given.
    """

    predictions: Predictions
    counts: Floats
    values: dict[str, Floats]
    details: Any
    support: Any
    warnings: list[str] = field(default_factory=list)


def said_of(evaluator: Evaluator, plugin: Plugin, predictions: Predictions, counts: Floats) -> Said:
    """Let an evaluator measure.

    Raises:
        FaultError: its code raised something.
    """
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("always")
        try:
            values = dict(evaluator.measure(predictions, counts))
            details, support = evaluator.details(predictions), evaluator.support(predictions)
        except (Exception, SystemExit) as error:
            raise FaultError(in_a_line(error), place_of(error, plugin)) from error
    told = [f"{one.category.__name__}: {one.message}" for one in caught]
    return Said(predictions, counts, values, details, support, told)


def examine(plugin: Plugin, evaluator: Evaluator, cases: Mapping[str, Predictions], ledger: Ledger) -> None:
    """Carry out all checks of measuring.

    Args:
        plugin: the evaluator's.
        evaluator: with its defaults.
        cases: predictions, with the arrays that it collects.
        ledger: what is found is noted there.
    """
    said: dict[str, Said] = {}
    fault = ""
    for name, predictions in cases.items():
        try:
            said[name] = said_of(evaluator, plugin, predictions, counts_of(predictions))
        except FaultError as error:
            fault = fault or f"{name}: {error}"
    ledger.note(RUNS, fault)
    asked: dict[str, Callable[[Evaluator, Said], str]] = {
        QUIET: lambda _, one: f"Expected no warning, found {one.warnings[0]}." if one.warnings else "",
        DOCUMENTED: _documented,
        RANGE: _in_range,
        REASONS: _reasons,
        JSON: _json,
        SUPPORT: _support,
    }
    for check, find in asked.items():
        found = ((name, find(evaluator, one)) for name, one in said.items())
        ledger.note(check, next((f"{name}: {text}" for name, text in found if text), ""))
    for check, look in {PURE: _pure, ALONE: _alone, COUNTED: _counted, ORDERED: _ordered, NAMED: _named}.items():
        first = [(name, said[name]) for name in (SOUND, TIES) if name in said]
        if not first:
            ledger.note(check, "it does not measure sound predictions", "skipped")
        elif look in (_counted, _ordered) and not all(by_rows(predictions) for predictions in cases.values()):
            ledger.note(check, COPIES, "skipped")
        else:
            ledger.note(check, _first_fault(look, evaluator, plugin, first))


def _first_fault(
    look: Callable[[Evaluator, Plugin, Said], str], evaluator: Evaluator, plugin: Plugin, said: list[tuple[str, Said]]
) -> str:
    for name, one in said:
        try:
            fault = look(evaluator, plugin, one)
        except FaultError as error:
            fault = str(error)
        if fault:
            return f"{name}: {fault}"
    return ""


# what a single answer has to be


def _documented(evaluator: Evaluator, said: Said) -> str:
    for name, values in said.values.items():
        try:
            metric_of(evaluator, name)
        except SpurbenchError as error:
            return str(error)
        if not isinstance(values, np.ndarray) or values.shape != (len(said.counts),) or values.dtype != np.float64:
            found = (
                f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            )
            return f"Expected a value of {name} per resampling, float64 of shape ({len(said.counts)},), found {found}."
    missing = [name for name in evaluator.metrics if not name.endswith(":") and name not in said.values]
    return (
        f"Expected every metric that is stated, found no {missing[0]}. Give NaN where it is undefined."
        if missing
        else ""
    )


def _in_range(evaluator: Evaluator, said: Said) -> str:
    for name, values in said.values.items():
        if _known(evaluator, name):
            metric, defined = metric_of(evaluator, name), np.asarray(values)[~np.isnan(values)]
            reach = TOLERANCE * max([1.0, *(abs(end) for end in (metric.low, metric.high) if np.isfinite(end))])
            wrong = defined[(defined < metric.low - reach) | (defined > metric.high + reach) | ~np.isfinite(defined)]
            if len(wrong):
                return f"Expected {name} from {metric.low} to {metric.high}, found {wrong[0]:.6g}."
    return ""


def _known(evaluator: Evaluator, name: str) -> bool:
    return name in evaluator.metrics or f"{name.partition(':')[0]}:" in evaluator.metrics


def _reasons(evaluator: Evaluator, said: Said) -> str:
    reasons = said.details.get("undefined", {}) if isinstance(said.details, dict) else {}
    for name, values in said.values.items():
        if np.isnan(values[0]) and not reasons.get(name):
            return f"Expected the reason why {name} is undefined in details()['undefined'], found none."
    strange = [name for name in reasons if name not in said.values or not np.isnan(said.values[name][0])]
    return f"Expected reasons for undefined metrics alone, found one for {strange[0]!r}." if strange else ""


def _json(evaluator: Evaluator, said: Said) -> str:
    try:
        canonical(said.details)
    except (TypeError, ValueError) as error:
        return f"Expected texts, numbers, lists and None in details, found otherwise: {error}."
    return "" if isinstance(said.details, dict) else f"Expected a dictionary, found {type(said.details).__name__}."


def _support(evaluator: Evaluator, said: Said) -> str:
    most = len(said.predictions.patients)
    for name, count in said.support.items():
        if name not in said.values:
            return f"Expected names of metrics, found {name!r}."
        if type(count) is not int or not 0 <= count <= most:
            return f"Expected the number of patients behind {name}, an int from 0 to {most}, found {count!r}."
    return ""


# what must make no difference


def differs(one: Mapping[str, Floats], other: Mapping[str, Floats], tolerance: float = TOLERANCE) -> str:
    """The first metric in which two answers differ, with both values; empty where there is none."""
    if one.keys() != other.keys():
        return f"the metrics {sorted(one.keys() ^ other.keys())[:3]} in one of them only"
    for name, expected in one.items():
        found = other[name]
        if not np.allclose(expected, found, rtol=tolerance, atol=tolerance, equal_nan=True):
            place = np.flatnonzero(~np.isclose(expected, found, rtol=tolerance, atol=tolerance, equal_nan=True))[0]
            return f"{name} = {found[place]:.9g} for {expected[place]:.9g}"
    return ""


def _columns(predictions: Predictions) -> dict[str, NDArray[Any]]:
    own = {name: getattr(predictions, name) for name in ("ids", "labels", "attributes", "clusters", "logits")}
    return {**own, **predictions.arrays}


def _pure(evaluator: Evaluator, plugin: Plugin, said: Said) -> str:
    columns, counts = _columns(said.predictions), said.counts
    kept, kept_counts = {name: array.copy() for name, array in columns.items()}, counts.copy()
    with reseeded(5):
        before = global_state()
        again = said_of(evaluator, plugin, said.predictions, counts)
        moved = global_state() != before
    if difference := differs(said.values, again.values, 0.0):
        return f"Expected the same output, found {difference}. Draw from a generator of the evaluator's own, with a fixed seed."
    # details that are no JSON are told by their own check
    if not _json(evaluator, said) and canonical(again.details) != canonical(said.details):
        return "Expected the same details, found others."
    changed = [name for name, array in columns.items() if array.tobytes() != kept[name].tobytes()]
    if changed or not np.array_equal(counts, kept_counts):
        return f"Expected the input as it was, found {(changed or ['counts'])[0]!r} changed. Work on a copy."
    return "Expected the global random state as it was, found it moved. Use numpy's default_rng." if moved else ""


def _alone(evaluator: Evaluator, plugin: Plugin, said: Said) -> str:
    for name, expected in said.values.items():
        try:
            found = {"measure_only": evaluator.measure_only(said.predictions, said.counts, (name,))[name]}
            sums = evaluator.quotient(said.predictions, name)
            if sums is not None:
                found["quotient"] = ratio(*(said.counts @ sums).T)
        except (Exception, SystemExit) as error:
            raise FaultError(in_a_line(error), place_of(error, plugin)) from error
        for way, values in found.items():
            if difference := differs({name: expected}, {name: np.asarray(values)}):
                return f"Expected of {way} what measure gives, found {difference}."
    return ""


def _counted(evaluator: Evaluator, plugin: Plugin, said: Said) -> str:
    """The independent reference of a resampling: the data set in which the patients are there as often as they were drawn."""
    for row in draws_of(said.predictions):
        weighted = said_of(evaluator, plugin, said.predictions, row[None])
        copies = repeated(said.predictions, row)
        alone = said_of(evaluator, plugin, copies, np.ones((1, len(copies.patients))))
        # what keeps something of all patients is not what the drawn ones alone would give
        kept = {name.rstrip(":") for name in evaluator.keeps}
        same = {name: value for name, value in weighted.values.items() if name.partition(":")[0] not in kept}
        if difference := differs({name: alone.values[name] for name in same}, same):
            return f"Expected what the same patients give who are there as often, found {difference}. Weight all by counts."
    return ""


def _ordered(evaluator: Evaluator, plugin: Plugin, said: Said) -> str:
    found = said_of(evaluator, plugin, shuffled(said.predictions), said.counts)
    difference = differs(said.values, found.values)
    return f"Expected the same of rows in another order, found {difference}." if difference else ""


def _named(evaluator: Evaluator, plugin: Plugin, said: Said) -> str:
    once = said.counts[:1]
    found = said_of(evaluator, plugin, renamed(said.predictions), once)
    difference = differs({name: values[:1] for name, values in said.values.items()}, found.values)
    return f"Expected the same point estimates under other names, found {difference}." if difference else ""
