"""Plots of a scan as plain geometry: utility against detectability, or utility alone; and the table of associations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_spur.curation.scanned import ColumnScan, Scan
from robustbench_spur.page.charts import axes, dots, in_percent
from robustbench_spur.page.geometry import Chart, Point, Scale, Series
from robustbench_spur.page.labels import Box, legend, name_points
from robustbench_spur.page.texts import in_words, shortened
from robustbench_spur.types import finite

KINDS = ("numeric", "categorical", "missingness")
WIDTH, HEIGHT = 520.0, 400.0
NAMED = 8
"""Columns that the plot names."""
RISKS = (0.01, 0.05, 0.2)
"""Risks that a line of the plot stands for."""
ALPHA = 0.05
LONGEST = 26


def style(row: ColumnScan) -> Series:
    """How a column looks: marker by kind, paler where independence of the label is not rejected."""
    kind = KINDS.index(row.kind)
    return Series(row.name, (1, 2, 7)[kind], kind, faint=row.q is None or row.q > ALPHA)


def scatter(rows: Sequence[ColumnScan]) -> Chart:
    """Utility of every column against its detectability, with intervals; the first few are named.

    Args:
        rows: of a scan, in its order.
    """
    chart = Chart(
        "scatter", ("utility, %", "detectability, %"), WIDTH, HEIGHT, ("column", "utility, %", "detectability, %")
    )
    shown = [row for row in rows if row.utility.value is not None and row.detectability.value is not None]
    chart.rows = [(row.name, in_words(row.utility), in_words(row.detectability)) for row in shown]
    chart.missing = [f"{r.name} ({r.utility.reason or r.detectability.reason})" for r in rows if r not in shown]
    most = max((v for row in shown for v in (row.utility.value, row.utility.high) if v is not None), default=0.0)
    across = Scale(0.0, next((end for end in (0.1, 0.2, 0.3, 0.5, 0.75) if 1.05 * most <= end), 1.0), 48, WIDTH - 16)
    up = Scale(0.0, 1.0, HEIGHT - 50, 34)
    axes(chart, (across.start, across.stop), in_percent(across), up)
    _risks(chart, across, up)
    at = [(across(row.utility.value or 0), up(row.detectability.value or 0)) for row in shown]
    bars = [box for row, point in zip(shown, at, strict=True) for box in _bars(chart, row, point, across, up)]
    for row, point in list(zip(shown, at, strict=True))[::-1]:
        tip = f"{row.name}: utility {in_words(row.utility)}, detectability {in_words(row.detectability)}"
        chart.marker(point, style(row), tip=tip)
    named = [place for place, row in enumerate(shown) if not style(row).faint][:NAMED] or list(
        range(min(3, len(shown)))
    )
    order = [*named, *(place for place in range(len(shown)) if place not in named)]
    texts = [shortened(shown[place].name, LONGEST) for place in named]
    _name(chart, [at[place] for place in order], texts, bars, (across.start + 2, up.stop, WIDTH - 2, up.start - 2))
    present = [kind for kind in KINDS if any(row.kind == kind for row in shown)]
    legend(chart, present, [(KINDS.index(kind), "mark") for kind in present])
    return chart


def _name(chart: Chart, at: Sequence[Point], texts: Sequence[str], bars: Sequence[Box], area: Box) -> None:
    """Write names at the first points; the others are in the way like intervals."""
    others = [(x - 5, y - 5, x + 5, y + 5) for x, y in at[len(texts) :]]
    name_points(chart, at[: len(texts)], texts, [*bars, *others, *others], area)


def _risks(chart: Chart, across: Scale, up: Scale) -> None:
    """Lines of equal risk, each with its value where it leaves the plot."""
    for risk in RISKS:
        if risk < 0.9 * across.high:
            places = np.geomspace(risk, across.high, 40).tolist()
            chart.line([(across(x), up(risk / x)) for x in places], "guide")
            chart.text(across.stop, up(risk / across.high) - 4, f"risk {100 * risk:.0f}", "small", "end")


def _bars(chart: Chart, row: ColumnScan, at: Point, across: Scale, up: Scale) -> list[Box]:
    """Draw both intervals; returns their boxes."""
    (x, y), found = at, list[Box]()
    u, d = row.utility, row.detectability
    if u.low is not None and u.high is not None:
        chart.line([(across(u.low), y), (across(u.high), y)], "bar", style(row))
        found.append((across(u.low), y - 1, across(u.high), y + 1))
    if d.low is not None and d.high is not None:
        chart.line([(x, up(d.low)), (x, up(d.high))], "bar", style(row))
        found.append((x - 1, up(d.high), x + 1, up(d.low)))
    return found


def utilities(rows: Sequence[ColumnScan], most: int = 20) -> Chart:
    """Utility of the first columns, with intervals: what there is to plot without images."""
    name = "utility"
    chart = dots([(style(row), {name: row.utility}) for row in rows[:most]], [name], 1, name)
    chart.head = ("column", f"{name}, %")
    return chart


@dataclass(frozen=True)
class Associations:
    """The lower triangle of the association matrix of the first columns.

    Args:
        names: of the columns, by rank.
        cells: of each row, V with the columns before it; None where undefined.
        others: columns that are left out.
    """

    names: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    others: int


def associations(scan: Scan, most: int = 25) -> Associations:
    """Bias-corrected Cramer's V between the most dangerous columns.

    Args:
        scan: of a table.
        most: columns that are shown.
    """
    ranked = [row.name for row in scan.rows if row.kind != "missingness" and row.utility.value is not None]
    places = [scan.names.index(name) for name in ranked[:most]]
    matrix = scan.association[np.ix_(places, places)]
    cells = tuple(tuple(finite(value) for value in matrix[row, :row].tolist()) for row in range(len(places)))
    return Associations(tuple(ranked[:most]), cells, len(ranked) - len(places))


def chart_of(scan: Scan) -> Chart:
    """The scan's plot: with detectability where there are images."""
    return scatter(scan.rows) if scan.settings["images"] else utilities(scan.rows)
