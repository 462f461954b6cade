"""What ``evaluate`` shows: the groups, then a table per evaluator, the board's columns first."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustbench_spur.types import Estimate

if TYPE_CHECKING:
    from robustbench_spur.evaluators.base import Predictions
    from robustbench_spur.manifest import Manifest
    from robustbench_spur.measuring import Measured, Result

LARGE = 1000
LONGEST = 44
"""Columns that the name of a metric is given at most before a remark beside it is."""
WIDE = 100
"""Columns of the output where it is no terminal, so that a file has the same text whatever window it was made in."""


def group_rows(predictions: Predictions) -> list[dict[str, Any]]:
    """Examples and patients of each declared group."""
    return [{"group": name, "examples": n, "patients": m} for name, n, m in predictions.group_sizes()]


def number(value: float | None) -> str:
    """A value for people; a dash where it is undefined.

    >>> number(0.61549), number(27182.8), number(None)
    ('0.615', '2.718e+04', '-')
    """
    if value is None:
        return "-"
    # the sum makes a zero of -0.0
    return f"{round(value, 3) + 0.0:.3f}" if abs(value) < LARGE else f"{value:.4g}"


def interval(estimate: Estimate) -> str:
    """The interval of an estimate; empty where there is none.

    >>> interval(Estimate(0.6, 0.5, 0.71)), interval(Estimate(0.6))
    ('0.500..0.710', '')
    """
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}..{number(estimate.high)}"


def in_order(finding: Result, manifest: Manifest) -> list[str]:
    """The metrics of a finding: those that are columns of the board, then single ones, then families."""
    name, defined = finding.evaluator.name, list(finding.evaluator.metrics)
    columns = [column.metric for column in manifest.columns if column.evaluator == name and column.metric]

    def place(metric: str) -> tuple[int, int]:
        if metric in columns:
            return 0, columns.index(metric)
        family = metric.partition(":")[0] + ":"
        known = metric if metric in defined else family
        return (2 if known.endswith(":") else 1), defined.index(known)

    return sorted(finding.headline, key=place)


def show(title: str, measured: Measured, notes: Sequence[str], manifest: Manifest) -> None:
    """Print all that was found to standard output."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    out = Console(highlight=False, width=width)
    first = measured.seeds[0].predictions
    out.print(f"[bold]{escape(title)}[/bold]: {len(first)} examples of {len(first.patients)} patients", soft_wrap=True)
    out.print(_groups(first))
    for finding in measured.findings:
        out.print(f"[bold]{escape(finding.evaluator.name)}[/bold] {escape(finding.evaluator.summary)}", soft_wrap=True)
        out.print(_table(finding, measured, manifest))
    confidence = 100 * manifest.bootstrap.confidence
    out.print(f"Intervals of {confidence:.0f} % over patients. spurbench describe NAME says what a metric is.")
    for line in (*_warnings(measured, manifest), *notes, *_left_out(measured)):
        out.print(escape(line), soft_wrap=True)
    out.print()


def _plain(**options: Any) -> Table:
    return Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), **options)


def _groups(predictions: Predictions) -> Table:
    table = _plain()
    for heading in (f"group (class@{predictions.groups.attribute})", "examples", "patients"):
        table.add_column(escape(heading), overflow="fold", justify="left" if heading.startswith("group") else "right")
    for row in group_rows(predictions):
        table.add_row(escape(row["group"]), str(row["examples"]), str(row["patients"]))
    return table


def _table(finding: Result, measured: Measured, manifest: Manifest) -> Table:
    several = len(measured.seeds) > 1
    table = _plain()
    names = in_order(finding, manifest)
    table.add_column("metric", overflow="fold", min_width=min(max(map(len, names), default=0), LONGEST))
    table.add_column("mean" if several else "value", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("better", no_wrap=True)
    for seed in measured.seeds if several else ():
        table.add_column(escape(Path(seed.name).stem), justify="right", overflow="fold")
    table.add_column("remark", overflow="fold")
    for metric in names:
        estimate = finding.headline[metric]
        seeds = [number(one[metric].value) for one in finding.estimates] if several else []
        cells = [
            metric,
            number(estimate.value),
            interval(estimate),
            _direction(finding, metric),
            *seeds,
            estimate.reason,
        ]
        table.add_row(*map(escape, cells))
    return table


def _direction(finding: Result, metric: str) -> str:
    from robustbench_spur.scoring import metric_of

    better = metric_of(finding.evaluator, metric).better
    return "" if better == "neither" else better


def _warnings(measured: Measured, manifest: Manifest) -> Iterator[str]:
    """Groups with few patients, and what evaluators warn of, each once."""
    least = manifest.minimum_patients
    few = [row for row in group_rows(measured.seeds[0].predictions) if 0 < row["patients"] < least]
    told = [f"{row['group']} has {row['patients']} patient(s), fewer than {least}: shown, not ranked on" for row in few]
    for finding in measured.findings:
        for details in finding.details:
            told += [str(line) for line in details.get("warnings", ())]
    for line in dict.fromkeys(told):
        yield f"Warning: {line}"


def _left_out(measured: Measured) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name, why in measured.left_out.items():
        reasons.setdefault(why.rstrip("."), []).append(name)
    for why, names in reasons.items():
        yield f"Left out {', '.join(names)}: {why}."
    for name, why in measured.failed.items():
        yield f"FAILED {name}: {why}"
