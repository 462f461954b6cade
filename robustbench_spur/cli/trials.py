"""A search as text: tables of its trials and of what each rule chose, a CSV file, and JSON."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustbench_spur.cli.options import print_json
from robustbench_spur.plan import Plan
from robustbench_spur.store import replacing
from robustbench_spur.tuning.choice import Choice, state_of
from robustbench_spur.tuning.results import OracleResult, TrialResult
from robustbench_spur.tuning.rules import RULES
from robustbench_spur.tuning.study import CHOOSING, Study, planned
from robustbench_spur.types import SpurbenchError

LAYOUT: dict[str, Any] = {
    "title_justify": "left",
    "title_style": "bold",
    "box": SIMPLE_HEAD,
    "show_edge": False,
    "padding": (0, 1, 0, 0),
}


def percent(value: float | None) -> str:
    """A share in per cent, a dash where there is none.

    >>> percent(0.615), percent(None)
    ('61.5', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings of a trial in a line.

    >>> settings_text({"eta": 0.01, "adjustment": 2.0}), settings_text({})
    ('eta=0.01, adjustment=2.0', 'defaults')
    """
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "defaults"


def print_plan(study: Study) -> None:
    """Print what would be tried, and how much there is to compute."""
    out, options = Console(highlight=False), study.options
    table = Table(title=f"Trials of {escape(study.plugin.name)} on {escape(study.split)}", **LAYOUT)
    table.add_column("trial", justify="right")
    table.add_column("settings", overflow="fold")
    cells = planned("reference", study.references, CHOOSING)
    for number in range(options.trials):
        if options.sampler != "random" and number:
            table.add_row(f"1-{options.trials - 1}", "proposed from the results of the trials before")
            break
        settings = study.draw(number, [])
        table.add_row(str(number), escape(settings_text(settings)))
        try:
            cells += study.cells(number, settings)
        except SpurbenchError as error:
            out.print(escape(f"trial {number} fails: {error}"))
    out.print(table)
    plan = Plan(tuple(cells), study.base.runtime, study.base.manifest, {}, {})
    missing = sum(not plan.runtime.store_of(stage.kind).has(stage.key) for stage in plan.stages())
    out.print(
        f"{missing} of {len(plan.stages())} stages to compute, {plan.epochs()[0]} epochs of training, all trials whole."
    )
    out.print(_pruning(study))


def _pruning(study: Study) -> str:
    if study.cuts:
        return (
            f"All trials go to a third of their last training; the better half by {study.rule.name} and trial 0 go on to the"
            " end."
        )
    return f"Every trial goes to its end: {study.why_whole}."


def print_trials(study: Study, results: Sequence[TrialResult], choices: Sequence[Choice], out: Console) -> None:
    """Print every trial with what each rule says of it on validation, and what each rule chooses."""
    chosen = {choice.rule.name: choice.trial for choice in choices}
    names = [one.name for one in study.space.dimensions]
    table = Table(title=f"Trials of {escape(study.plugin.name)} on {escape(study.split)}, on validation", **LAYOUT)
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(
            escape(name.replace("_", "_\n")), overflow="fold", min_width=max(map(len, name.split("_"))) + 1
        )
    for rule in RULES:
        table.add_column(rule.replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("status", overflow="fold")
    for result in results:
        values = study.all_settings(result.settings) if result.status == "done" else result.settings
        texts = [
            f"{percent(result.measured(rule).value)}{' *' if chosen[rule] == result.number else ''}" for rule in RULES
        ]
        own = [escape(str(values.get(name, "-"))) for name in names]
        style = "bold" if chosen[study.rule.name] == result.number else None
        table.add_row(
            str(result.number), *own, *texts, escape(_status(result, _twin(study, result, results))), style=style
        )
    out.print(table)
    if failed := sum(result.status == "failed" for result in results):
        out.print(f"{failed} of {len(results)} trials failed; --retry runs them once more.")
    out.print(f"Per cent; * is the choice of that rule. {_pruning(study)}")
    out.print(_choices(study, choices))
    for choice in choices:
        for text in filter(None, (choice.warning, choice.measured.reason)):
            out.print(escape(f"{choice.rule.name}: {text}"))


def _twin(study: Study, result: TrialResult, results: Sequence[TrialResult]) -> int | None:
    """The number of an earlier trial with the same settings: its stages are the same, and nothing was computed twice."""
    if result.status == "failed":
        return None
    own = study.all_settings(result.settings)
    earlier = (other for other in results if other.number < result.number and other.status == "done")
    return next((other.number for other in earlier if study.all_settings(other.settings) == own), None)


def _status(result: TrialResult, twin: int | None) -> str:
    state = state_of(result)
    text = {"failed": f"failed: {result.reason}", "pruned": f"pruned after {result.epochs} epochs"}.get(state, state)
    return text if twin is None else f"{text}, as trial {twin}"


def _choices(study: Study, choices: Sequence[Choice]) -> Table:
    table = Table(title="What each rule chooses", **LAYOUT)
    for heading in ("rule", "trial", "value", "of", "patients", "95 % interval", "track"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "rule")
    for choice in choices:
        measured, ends = choice.measured, choice.measured.interval
        table.add_row(
            choice.rule.name,
            "-" if choice.trial is None else str(choice.trial),
            percent(measured.value),
            escape(measured.part or "-"),
            "-" if measured.patients is None else str(measured.patients),
            "-" if ends is None else f"{100 * ends[0]:.0f}..{100 * ends[1]:.0f}",
            choice.track,
            style="bold" if choice.rule is study.rule else None,
        )
    return table


def print_regret(
    results: Sequence[TrialResult], choices: Sequence[Choice], oracle: Mapping[int, OracleResult], out: Console
) -> None:
    """Print, apart, what each rule's choice gives on test, and the trial that nobody may choose by."""
    table = Table(title="Selection regret: worst group on test", **LAYOUT)
    for heading in ("rule", "trial", "worst group", "regret"):
        table.add_column(heading, overflow="fold")
    for choice in choices:
        trial = "-" if choice.trial is None else str(choice.trial)
        table.add_row(choice.rule.name, trial, percent(choice.test), percent(choice.regret))
    out.print(table)
    values = {number: one.measured for number, one in oracle.items() if one.measured.value is not None}
    if values:
        best = max(values, key=lambda number: (values[number].value or 0.0, -number))
        settings = next(one.settings for one in results if one.number == best)
        out.print(
            escape(
                f"Oracle, for comparison only and never ranked: trial {best} ({settings_text(settings)}), worst group"
                f" {percent(values[best].value)} ({values[best].part}) on test."
            )
        )
    elif oracle:
        out.print(escape(f"No oracle: {next(iter(oracle.values())).measured.reason}."))


def rows_of(
    study: Study, results: Sequence[TrialResult], choices: Sequence[Choice], oracle: Mapping[int, OracleResult]
) -> list[dict[str, Any]]:
    """A dictionary per trial: settings, status, every rule's value, and by which rules it was chosen."""
    rows = []
    for result in results:
        full = study.all_settings(result.settings) if result.status == "done" else result.settings
        row = {
            "trial": result.number,
            "status": state_of(result),
            "reason": result.reason,
            "epochs": result.epochs,
            "seconds": result.seconds,
            **{one.name: full.get(one.name) for one in study.space.dimensions},
            **{f"validation:{rule}": result.measured(rule).value for rule in RULES},
            "chosen_by": [choice.rule.name for choice in choices if choice.trial == result.number],
        }
        tested = oracle.get(result.number)
        rows.append({**row, **({"test:worst_of_groups": tested.measured.value} if tested else {})})
    return rows


def write_csv(
    path: Path,
    study: Study,
    results: Sequence[TrialResult],
    choices: Sequence[Choice],
    oracle: Mapping[int, OracleResult],
) -> None:
    """Write the trials as a table, one per line.

    Raises:
        OSError: the file cannot be written.
    """
    rows = rows_of(study, results, choices, oracle)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows({**row, "chosen_by": " ".join(row["chosen_by"])} for row in rows)


def print_study(
    study: Study,
    results: Sequence[TrialResult],
    choices: Sequence[Choice],
    oracle: Mapping[int, OracleResult],
    path: Path,
) -> None:
    """Print all of it as a JSON list of one study."""
    chosen = [
        {
            "rule": choice.rule.name,
            "trial": choice.trial,
            **choice.measured.model_dump(),
            "interval": choice.measured.interval,
            "track": choice.track,
            "warning": choice.warning,
            "test": choice.test,
            "regret": choice.regret,
        }
        for choice in choices
    ]
    about = {
        "method": study.plugin.name,
        "split": study.split,
        "select": study.rule.name,
        "sampler": study.options.sampler,
        "tuning_seed": study.options.tuning_seed,
        "pruning": study.why_whole or "the worse half after a third",
        "preset": path,
        "folder": study.store.folder,
    }
    print_json([{**about, "trials": rows_of(study, results, choices, oracle), "choices": chosen}])
