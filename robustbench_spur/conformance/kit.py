"""The kit itself: from a name or a file to reports."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from robustbench_spur.conformance import (
    evaluator_cases,
    evaluator_collects,
    evaluator_measures,
    evaluator_stated,
    stated,
)
from robustbench_spur.conformance.behaviour import examine
from robustbench_spur.conformance.report import Check, Ledger, Report
from robustbench_spur.conformance.runs import Lab, place_of, same_threads
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.request import in_a_line
from robustbench_spur.types import SpurbenchError

LOADED = "it can be loaded"
MADE = "it can be made"
ASKED: dict[str, dict[str, Callable[[Plugin, type[Any]], str]]] = {
    "method": {
        "docstring": stated.docstring,
        "summary, source, version and needs": stated.literals,
        "settings": stated.settings,
        "bad values of settings": stated.bad_values,
    },
    "evaluator": {
        "docstring": evaluator_stated.docstring,
        "summary, source, version and partitions": evaluator_stated.literals,
        "metrics": evaluator_stated.metrics,
        "settings": evaluator_stated.settings,
        "bad values of settings": evaluator_stated.bad_values,
        "heavy libraries are imported where they are used": evaluator_stated.light,
    },
}
"""What is asked of what a file states, by kind of plugin."""


def check(what: str | Path) -> Report:
    """Check one method or evaluator.

    Args:
        what: its name where it is installed, or path of a file with one.

    Returns:
        What was found; ``report.passed`` says whether nothing failed.

    Raises:
        SpurbenchError: nothing of that name, or a file that cannot be read, or one with none or with several.
    """
    plugins, files = _find([what])
    if len(plugins) != 1:
        raise SpurbenchError(f"Expected one method or evaluator in {what}, found {len(plugins)}. Use check_all.")
    return _report(plugins[0], files)


def check_all(what: Sequence[str | Path]) -> list[Report]:
    """Check several methods and evaluators, by name or by file; all of a file with several.

    Raises:
        SpurbenchError: nothing of that name, or a file that cannot be read, or one without any.
    """
    plugins, files = _find(what)
    return [_report(plugin, files) for plugin in plugins]


def _find(what: Sequence[str | Path]) -> tuple[list[Plugin], tuple[Path, ...]]:
    """The methods asked for, each once, and the files that were given."""
    files = tuple(Path(one).expanduser() for one in what if _is_file(one))
    for file in files:
        if not file.is_file():
            raise SpurbenchError(f"Expected a file with a method or evaluator at {file}, found none. Check the path.")
    registry = Registry(files)
    found: dict[tuple[str, str], Plugin] = {}
    for one in what:
        plugins = _in_file(Path(one).expanduser(), registry) if _is_file(one) else [_named(str(one), registry)]
        found |= {(plugin.kind, plugin.name): plugin for plugin in plugins}
    for plugin in found.values():
        if plugin.source is None:
            raise SpurbenchError(plugin.reason if plugin.rivals else f"{plugin.where} is broken: {plugin.reason}.")
    return list(found.values()), files


def _is_file(what: str | Path) -> bool:
    return isinstance(what, Path) or what.endswith(".py") or "/" in what


def _named(name: str, registry: Registry) -> Plugin:
    if any(one.name == name for one in registry.entries("evaluator")):
        return registry.find("evaluator", name)
    if any(one.name == name for one in registry.entries("dataset")):
        raise SpurbenchError(
            f"Expected a method or an evaluator, found the dataset {name!r}. Run: spurbench data check {name}"
        )
    return registry.find("method", name)


def _in_file(path: Path, registry: Registry) -> list[Plugin]:
    def of(kind: str) -> list[Plugin]:
        return [
            entry
            for entry in registry.entries(kind)
            if any(one.path is not None and one.path.resolve() == path.resolve() for one in (entry, *entry.rivals))
        ]

    unread = [one for one in of("method") if one.source is None]
    found = unread or [*of("method"), *of("evaluator")]
    if not found:
        hint = " It has datasets: spurbench data check examines their data." if of("dataset") else ""
        raise SpurbenchError(f"Expected a method or an evaluator in {path}, found none.{hint}")
    return found


def _report(plugin: Plugin, files: tuple[Path, ...]) -> Report:
    ledger = Ledger()
    try:
        loaded = plugin.load()
    except SpurbenchError as error:
        cause = error.__cause__
        fault = f"{in_a_line(cause)} ({place_of(cause, plugin)})" if cause is not None else str(error)
        return Report(plugin.name, plugin.where, (Check(LOADED, "failed", fault, round(ledger.lap(), 3)),))
    ledger.note(LOADED)
    asked = ASKED[plugin.kind]
    for name, find in asked.items():
        try:
            ledger.note(name, find(plugin, loaded))
        except Exception as error:  # other people's settings classes
            ledger.note(name, f"{in_a_line(error)} ({place_of(error, plugin)})")
    if plugin.kind == "evaluator":
        _examine_evaluator(plugin, loaded, ledger)
        return Report(plugin.name, plugin.where, tuple(ledger.checks))
    with same_threads(), tempfile.TemporaryDirectory(prefix="spurbench-check-") as folder:
        examine(Lab(plugin, files, Path(folder)), ledger)
    return Report(plugin.name, plugin.where, tuple(ledger.checks))


def _examine_evaluator(plugin: Plugin, evaluator: type[Any], ledger: Ledger) -> None:
    """How it collects, where it does, and how it measures."""
    try:
        ready = evaluator(evaluator.Parameters.model_validate(plugin.literal("quick", {})))
    except ValidationError as error:
        first = error.errors()[0]
        ledger.note(
            MADE,
            f"Expected quick settings that are allowed, found {first['loc'][0]}={first['input']!r}: {first['msg']}.",
        )
        return
    except Exception as error:  # other people's constructors
        ledger.note(MADE, f"{in_a_line(error)} ({place_of(error, plugin)})")
        return
    cases = evaluator_cases.every()
    if ready.collects:
        with same_threads(), torch.enable_grad():
            cases = evaluator_collects.examine(plugin, ready, ledger)
    if cases:
        evaluator_measures.examine(plugin, ready, cases, ledger)
