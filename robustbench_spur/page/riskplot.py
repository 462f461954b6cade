"""The plot of risk against coverage: what a model errs on among the images that it is surest of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustbench_spur.manifest import Column
from robustbench_spur.page.charts import axes, in_percent
from robustbench_spur.page.geometry import WIDTH, Chart, Scale, Series
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.labels import ENDS, LETTER, name_ends
from robustbench_spur.page.lines import Line
from robustbench_spur.page.noted import has_numbers, measured
from robustbench_spur.page.texts import percent, shortened

GRID = tuple(k / 50 for k in range(1, 51))
"""Coverages that the curves of several seeds are averaged at."""
TOLD = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Coverages of the table under the plot."""


def risk_plot(words: Glossary, lines: Sequence[Line]) -> Chart | None:
    """Risk against coverage, from the first column whose evaluator noted such curves; None where none did."""
    for column in [*words.columns, *words.more]:
        drawn = [(line.series, mean_risk(found)) for line in lines if (found := noted_curves(line, column))]
        if drawn:
            return risk_coverage(drawn)
    return None


def noted_curves(line: Line, column: Column) -> list[list[Mapping[str, Any]]]:
    """The risk-coverage curves of a row, one of each finished record."""
    curves = [curve for _, curve in measured(line, column, "curve")]
    return [curve for curve in curves if all(has_numbers(place, "coverage", "risk") for place in curve)]


def mean_risk(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
    """Mean over curves of the risk at the coverages of :data:`GRID`, between noted places on straight lines.

    >>> mean_risk([[{"coverage": 0.5, "risk": 0.0}, {"coverage": 1.0, "risk": 0.5}]])[-1]
    0.5
    """
    at = [np.interp(GRID, [place["coverage"] for place in one], [place["risk"] for place in one]) for one in curves]
    return [float(value) for value in np.mean(at, axis=0)]


def risk_coverage(lines: Sequence[tuple[Series, Sequence[float]]]) -> Chart:
    """Risk against coverage, a line per method with its name at the end.

    Args:
        lines: of each series the risks in [0, 1] at the coverages of :data:`GRID`.
    """
    chart = Chart("risk", ("coverage, %", "errors among the accepted, %"), WIDTH, 330)
    chart.head = ("method", *(f"coverage {100 * coverage:.0f}, %" for coverage in TOLD))
    chart.rows = [(s.name, *(percent(risks[round(50 * coverage) - 1]) for coverage in TOLD)) for s, risks in lines]
    highest = max(max(risks) for _, risks in lines)
    room = LETTER * max(len(shortened(series.name, ENDS)) for series, _ in lines)
    across = Scale(0, 1, 46, WIDTH - 40 - room)
    up = Scale(0, min(1.0, max(0.1, math.ceil(10 * highest + 0.2) / 10)), 280, 14)
    axes(chart, (46, across.stop + 8), in_percent(across), up)
    ends = []
    for series, risks in lines:
        at = [(across(coverage), up(risk)) for coverage, risk in zip(GRID, risks, strict=True)]
        chart.line(at, "curve", series)
        tip = f"{series.name}: {percent(risks[-1])} of all images, {percent(risks[24])} of the surest half"
        chart.marker(at[-1], series, size=4.2, tip=tip)
        ends.append((at[-1], series))
    name_ends(chart, ends, across.stop + 18, up)
    return chart
