"""The page's plots, one function each: what is drawn where, as plain geometry.

All shares are in [0, 1] and are labelled in per cent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from robustbench_spur.page.geometry import WIDTH, Chart, Scale, Series, domain
from robustbench_spur.page.labels import ENDS, LETTER, LINE, Box, legend, legend_lines, name_ends, name_points
from robustbench_spur.page.texts import in_words, percent, shortened
from robustbench_spur.types import Estimate

LANE = 9.0
"""Height of a group's lane in the plot of groups."""


def _ends(estimate: Estimate) -> list[float]:
    """Both ends of an interval, or none."""
    return [] if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]


def in_percent(scale: Scale) -> dict[float, str]:
    """The scale's ticks in per cent, by place."""
    return {scale(tick): f"{100 * tick:.0f}" for tick in scale.ticks()}


def axes(chart: Chart, span: tuple[float, float], ticks: Mapping[float, str], up: Scale) -> None:
    """Grid, ticks and titles of a plot from ``span[0]`` to ``span[1]``, with labels at places on x."""
    left, right = span
    for tick in up.ticks():
        chart.line([(left, up(tick)), (right, up(tick))], "grid")
        chart.text(left - 7, up(tick) + 4, f"{100 * tick:.0f}", anchor="end")
    for x, text in ticks.items():
        chart.text(x, up.start + 17, text, anchor="middle")
    chart.text((left + right) / 2, up.start + 36, chart.titles[0], "axis", "middle")
    chart.text(left - 34, (up.start + up.stop) / 2, chart.titles[1], "axis", "middle", turn=-90)


def scatter(
    points: Sequence[tuple[Series, Estimate, Estimate]],
    x_title: str,
    y_title: str,
    named: Collection[str] | None = None,
) -> Chart:
    """One estimate against another, with interval bars and labels that keep clear of each other.

    Args:
        points: of each series the estimate on x, and on y.
        x_title: what x is.
        y_title: what y is.
        named: the series that have bars and a label; all where None.
    """
    chart = Chart("scatter", (f"{x_title}, %", f"{y_title}, %"), WIDTH, 330)
    chart.head = ("method", *reversed(chart.titles))
    chart.rows = [(series.name, in_words(y), in_words(x)) for series, x, y in points]
    chart.missing = [f"{s.name} ({x.reason or y.reason})" for s, x, y in points if x.value is None or y.value is None]
    shown = [(series, x, y) for series, x, y in points if x.value is not None and y.value is not None]
    across = Scale(*domain(v for _, x, _ in shown for v in (x.value, x.low)), 46, WIDTH - 14)
    up = Scale(*domain(v for _, _, y in shown for v in (y.value, y.low)), 280, 14)
    axes(chart, (across.start, across.stop), in_percent(across), up)
    start = max(across.low, up.low)
    chart.line([(across(start), up(start)), (across(1), up(1))], "guide")
    centres = [(across(float(x.value or 0)), up(float(y.value or 0))) for _, x, y in shown]
    bars: list[Box] = []
    full = [named is None or series.name in named for series, _, _ in shown]
    for (series, x, y), (cx, cy) in itertools.compress(zip(shown, centres, strict=True), full):
        chart.line([(across(end), cy) for end in _ends(x)], "bar", series)
        chart.line([(cx, up(end)) for end in _ends(y)], "bar", series)
        bars += [(across(x.low), cy - 1, across(x.high), cy + 1)] if x.low is not None and x.high is not None else []
        bars += [(cx - 1, up(y.high), cx + 1, up(y.low))] if y.low is not None and y.high is not None else []
    for (series, x, y), place in zip(shown, centres, strict=True):
        chart.marker(place, series, tip=f"{series.name}: {y_title} {in_words(y)}, {x_title} {in_words(x)}")
    names = [shortened(series.name) for series, _, _ in itertools.compress(shown, full)]
    name_points(
        chart,
        list(itertools.compress(centres, full)),
        names,
        bars,
        (across.start + 2, up.stop, WIDTH - 2, up.start - 2),
    )
    return chart


def dots(
    rows: Sequence[tuple[Series, Mapping[str, Estimate]]], groups: Sequence[str], values: int, title: str
) -> Chart:
    """A row per method with a marker and an interval for every group, each group on a lane of its own.

    Args:
        rows: of each series its estimate by group.
        groups: names, in index order (``label * values + attribute``).
        values: number of attribute values; with two, shape is the class and filling the value.
        title: what is shown.
    """
    left = 16 + LETTER * max((len(shortened(series.name, 16)) for series, _ in rows), default=0)
    top, pitch = 24 + LINE * legend_lines(groups), LANE * len(groups) + 11
    across, bottom = Scale(0, 1, left, WIDTH - 16), top + pitch * len(rows)
    chart = Chart("dots", (f"{title}, %", ""), WIDTH, bottom + 40, ("method", *(f"{group}, %" for group in groups)))
    chart.rows = [(s.name, *(in_words(by.get(g, Estimate(None))) for g in groups)) for s, by in rows]
    for x, text in in_percent(across).items():
        chart.line([(x, top - 6), (x, bottom)], "grid")
        chart.text(x, bottom + 17, text, anchor="middle")
    chart.text((left + WIDTH - 16) / 2, bottom + 36, chart.titles[0], "axis", "middle")
    styles = [_group_style(g, values) for g in range(len(groups))]
    legend(chart, groups, styles)
    for place, (series, by) in enumerate(rows):
        first = top + pitch * place + 5
        if place:
            chart.line([(4, first - 7), (WIDTH - 16, first - 7)], "rule")
        chart.text(left - 10, first + LANE * len(groups) / 2 + 3, shortened(series.name, 16), "name", "end")
        for g, group in enumerate(groups):
            style = Series(series.name, series.colour, styles[g][0], series.faint)
            _lane(chart, across, first + LANE * g + 4, style, styles[g][1], by.get(group, Estimate(None)), group)
    return chart


def _lane(chart: Chart, across: Scale, y: float, style: Series, kind: str, estimate: Estimate, group: str) -> None:
    if estimate.value is None:
        chart.text(across(0) + 3, y + 3, f"{group}: {shortened(estimate.reason or 'undefined', 40)}", "small")
        return
    chart.line([(across(end), y) for end in _ends(estimate)], "bar", style)
    tip = f"{style.name}, {group}: {in_words(estimate)}"
    chart.marker((across(estimate.value), y), style, size=3.7, kind=kind, tip=tip)


def _group_style(group: int, values: int) -> tuple[int, str]:
    """Marker and kind of a group: with two values shape is the class and filling the value."""
    return (group // 2, "mark" if group % 2 else "hollow") if values == 2 else (group, "mark")


def curves(
    lines: Sequence[tuple[Series, Mapping[float, Estimate]]],
    ticks: Mapping[float, str],
    title: str,
    dose: tuple[str, str] = ("radius of the attack", "radius"),
) -> Chart:
    """Estimates against a dose, a line per method with its name at the end; bars stand apart where methods meet.

    Args:
        lines: of each series the estimate by dose.
        ticks: label of each dose, by rising dose.
        title: what is shown.
        dose: what it is shown against, in full and in a word.
    """
    chart = Chart("curves", (dose[0], f"{title}, %"), WIDTH, 330)
    chart.head = ("method", *(f"{dose[1]} {label}, %" for label in ticks.values()))
    chart.rows = [(s.name, *(in_words(by.get(tick, Estimate(None))) for tick in ticks)) for s, by in lines]
    known = [[(d, by[d]) for d in ticks if d in by and by[d].value is not None] for _, by in lines]
    chart.missing = [_why_missing(*line) for line, points in zip(lines, known, strict=True) if not points]
    shown = [(series, points) for (series, _), points in zip(lines, known, strict=True) if points]
    room = LETTER * max((len(shortened(series.name, ENDS)) for series, _ in shown), default=0)
    across, where = places(ticks, (60, WIDTH - 40 - room))
    up = Scale(0, 1, 280, 14)
    axes(chart, (46, across.stop + 14), {where[tick]: text for tick, text in ticks.items()}, up)
    step, ends = min(5.0, 24 / max(1, len(shown))), []
    for place, (series, points) in enumerate(shown):
        shift = step * (place - (len(shown) - 1) / 2)
        at = [(where[tick] + shift, up(float(e.value or 0))) for tick, e in points]
        chart.line(at, "curve", series)
        for (x, y), (tick, e) in zip(at, points, strict=True):
            chart.line([(x, up(end)) for end in _ends(e)], "bar", series)
            chart.marker((x, y), series, size=4.2, tip=f"{series.name}, {dose[1]} {ticks[tick]}: {in_words(e)}")
        ends.append((at[-1], series))
    name_ends(chart, ends, across.stop + 18, up)
    return chart


def places(ticks: Mapping[float, str], span: tuple[float, float]) -> tuple[Scale, dict[float, float]]:
    """A scale over doses and the place of each: as far apart as the doses are, or evenly where labels would meet.

    >>> places({0.5: "0.5", 0.99: "0.99", 1.0: "1"}, (0, 100))[1]
    {0.5: 0.0, 0.99: 50.0, 1.0: 100.0}
    """
    across = Scale(min(ticks), max(*ticks, min(ticks) + 1e-9), *span)
    where = {tick: across(tick) for tick in ticks}
    if any(b - a < LETTER * 4 for a, b in itertools.pairwise(where.values())):
        step = (span[1] - span[0]) / (len(ticks) - 1)
        where = {tick: span[0] + step * k for k, tick in enumerate(ticks)}
    return across, where


def _why_missing(series: Series, by: Mapping[float, Estimate]) -> str:
    return f"{series.name} ({next((e.reason for e in by.values() if e.reason), 'undefined')})"


def reliability(series: Series, bins: Sequence[Mapping[str, Any]], classes: int, caption: str) -> Chart:
    """Accuracy against confidence by bin, for one method; the marker's area is the share of examples.

    Args:
        series: the method.
        bins: each with ``low``, ``high``, ``count``, ``confidence`` and ``accuracy`` (None where empty).
        classes: number of classes: no confidence is below 1 / classes.
        caption: the summary number, under the name.
    """
    across, up = Scale(1 / max(2, classes), 1, 30, 176), Scale(0, 1, 158, 36)
    filled = [(f"{100 * b['low']:.0f} to {100 * b['high']:.0f}", b) for b in bins if b["count"]]
    chart = Chart("reliability", ("confidence, %", "accuracy, %"), 184, 190, name=series.name)
    chart.head = ("confidence, %", "images", "mean confidence, %", "accuracy, %")
    chart.rows = [(text, str(b["count"]), percent(b["confidence"]), percent(b["accuracy"])) for text, b in filled]
    for tick in (0.0, 0.5, 1.0):
        chart.line([(across.start, up(tick)), (across.stop, up(tick))], "grid")
        chart.text(across.start - 5, up(tick) + 4, f"{100 * tick:.0f}", anchor="end")
    for tick in (across.low, (across.low + 1) / 2, 1.0):
        chart.text(across(tick), up.start + 14, f"{100 * tick:.0f}", anchor="end" if tick == 1 else "middle")
    chart.text((across.start + across.stop) / 2, up.start + 29, chart.titles[0], "axis", "middle")
    chart.text(across.start - 4, 12, shortened(series.name), "name")
    chart.text(across.start - 4, 27, caption, "small")
    chart.line([(across(across.low), up(across.low)), (across(1), up(1))], "guide")
    total = sum(b["count"] for _, b in filled)
    for text, b in filled:
        x, y = across(b["confidence"]), up(b["accuracy"])
        chart.line([(x, up(b["confidence"])), (x, y)], "bar", series)
        tip = f"confidence {text}: accuracy {percent(b['accuracy'])}, {b['count']} images"
        chart.marker((x, y), Series(series.name, series.colour), size=1.8 + 6 * math.sqrt(b["count"] / total), tip=tip)
    return chart
