"""Which plots a table has, and their numbers: what its columns and records allow, over the seeds that there are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from robustbench_spur.manifest import Column
from robustbench_spur.page.charts import curves, dots, reliability, scatter
from robustbench_spur.page.geometry import Chart, Series
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.lines import Line
from robustbench_spur.page.noted import Places, has_numbers, measured, number
from robustbench_spur.page.riskplot import risk_plot
from robustbench_spur.record import SplitPart
from robustbench_spur.types import Estimate

ROOM, FEW = 14, 8
"""Rows that a plot has room for; lines that a reader can follow across each other."""


def charts_of(words: Glossary, lines: list[Line], part: SplitPart | None) -> list[Chart]:
    """The plots of a table that have a row of their own.

    Args:
        words: of the page.
        lines: of the table; those without numbers are left out.
        part: what a record says of the split; None where none has met the data.
    """
    lines = [line for line in lines if line.row.values]
    if not lines or part is None:
        return []
    some = featured(lines, words.manifest.baseline)
    drawn = [group_chart(words, some, part), *radius_charts(words, some), risk_plot(words, some)]
    charts = [chart for chart in drawn if chart]
    for chart in charts if len(some) < len(lines) else ():
        chart.missing.append(f"{len(lines) - len(some)} more rows, for want of room; the table above has them")
    scattered = scatter_chart(words, lines, some)
    return [*([scattered] if scattered else []), *charts]


def featured(lines: list[Line], baseline: str, most: int = ROOM) -> list[Line]:
    """The lines that plots have room for, in their order: the baseline, and the first of every track in turn.

    Args:
        lines: of a table, the best of each track first.
        baseline: name of a method.
        most: number of lines.
    """
    if len(lines) <= most:
        return lines
    chosen = {id(line) for line in lines if line.row.first.method.name == baseline}
    tracks: dict[str, list[Line]] = {}
    for line in lines:
        if id(line) not in chosen:
            tracks.setdefault(line.row.first.track, []).append(line)
    for turn in itertools.zip_longest(*tracks.values()):
        for line in turn:
            if line is not None and len(chosen) < most:
                chosen.add(id(line))
    return [line for line in lines if id(line) in chosen]


def scatter_chart(words: Glossary, lines: list[Line], named: list[Line]) -> Chart | None:
    """The ranking column against the average of the same evaluator and partition; None where there is no average.

    Only some are named, and have bars: all others are markers.
    """
    ranking = words.ranking
    alike = [c for c in words.manifest.columns if c.metric and c.better == "higher" and c is not ranking]
    average = next((c for c in alike if (c.evaluator, c.partition) == (ranking.evaluator, ranking.partition)), None)
    if average is None:
        return None
    points = [(line.series, line.row.values[average.name], line.row.values[ranking.name]) for line in lines]
    names = {line.series.name for line in named}
    return scatter(points, words.heading(average), words.heading(ranking), names)


def group_chart(words: Glossary, lines: list[Line], part: SplitPart) -> Chart | None:
    """Accuracy of every group; None where no column has the groups."""
    family = next((c for c in words.manifest.columns if c.family and c.evaluator == words.ranking.evaluator), None)
    if family is None:
        return None
    by_group = [
        (line.series, {name: as_estimate(value) for name, value in line.row.values[family.name].items()})
        for line in lines
        if line.row.values[family.name] is not None
    ]
    groups = part.groups_in(family.partition)
    # of an incomplete design, the place of a group does not tell its class and value
    values = len(part.values) if groups.members is None else 1
    return dots(by_group, groups.names, values, "accuracy by group")


def radius_charts(words: Glossary, lines: list[Line]) -> list[Chart]:
    """Accuracy against radius, for every column shown whose evaluator noted it."""
    return [chart for column in words.columns if (chart := curve_chart(words, column, lines))]


def curve_chart(words: Glossary, column: Column, lines: list[Line]) -> Chart | None:
    """Accuracy against radius, where the column's evaluator noted such a curve; None where it did not."""
    ticks: dict[float, str] = {}
    drawn = []
    for line in lines:
        value = line.row.values.get(column.name)
        if not isinstance(value, Estimate) or value.value is None:
            continue  # a curve of numbers that the table leaves blank
        by_dose: dict[float, list[Estimate]] = {}
        for record, curve in measured(line, column, "curve"):
            known = record.metrics.get(column.partition, {}).get(column.evaluator, {})
            for place in (one for one in curve if has_numbers(one, "radius") and isinstance(one.get("label"), str)):
                ticks[place["radius"]] = place["label"]
                stated = {"value": unattacked(place, column), "low": None, "high": None}
                there = known.get(f"{column.metric}:{place['label']}", stated)
                one = as_estimate(there)
                if line.row.standing.entry:
                    one = Estimate(one.value)  # its value was computed again, its interval is the team's word
                by_dose.setdefault(place["radius"], []).append(one)
        if by_dose:
            drawn.append((line.series, {dose: mean_estimate(by_dose[dose]) for dose in sorted(by_dose)}))
    return curves(drawn, dict(sorted(ticks.items())), words.heading(column)) if drawn else None


def sweep_chart(words: Glossary, sections: Mapping[float, list[Line]]) -> Chart | None:
    """The ranking column against rho, for methods that ran at several; None where none did.

    Args:
        words: of the page.
        sections: lines of a split's tables, by rho.
    """
    by: dict[str, tuple[Series, dict[float, Estimate]]] = {}
    for rho, lines in sorted(sections.items()):
        for line in lines:
            value = line.row.values.get(words.ranking.name) if line.row.values and not line.variant else None
            if isinstance(value, Estimate):
                by.setdefault(line.series.name, (line.series, {}))[1][rho] = value
    most = max(sections.values(), key=len)
    named = {line.series.name for line in featured(most, words.manifest.baseline, FEW)}
    several = [line for line in by.values() if len(line[1]) > 1]
    left_out = sum(series.name not in named for series, _ in several) if len(several) > FEW else 0
    several = [line for line in several if line[0].name in named or not left_out]
    ticks = {rho: f"{rho:g}" for rho in sorted({rho for _, values in several for rho in values})}
    dose = ("rho, share of patients with the tied value", "rho")
    if not several:
        return None
    chart = curves(several, ticks, words.heading(words.ranking), dose)
    chart.missing += [f"{left_out} more methods, for want of room"] if left_out else []
    return chart


def panels_of(words: Glossary, lines: list[Line]) -> tuple[list[Chart], str]:
    """A reliability diagram per method, its seeds pooled, and which seeds these are: of the first column that has any."""
    some = featured(lines, words.manifest.baseline)
    for place, column in enumerate(words.columns):
        drawn = [panel for line in some if (panel := reliability_panel(words.heading(column), line, place))]
        if drawn:
            seeds = {seed for _, own in drawn for seed in own}
            return [chart for chart, _ in drawn], ", ".join(map(str, sorted(seeds)))
    return [], ""


def reliability_panel(heading: str, line: Line, place: int) -> tuple[Chart, set[int]] | None:
    """The reliability diagram of a row and the seeds it pools; None where its records noted no bins.

    Args:
        heading: of the column.
        line: the row.
        place: of the column among those shown.
    """
    value = line.values[place]
    noted = [(record, bins) for record, bins in measured(line, value.column, "reliability") if all(map(_is_bin, bins))]
    if not noted or noted[0][0].split is None:
        return None
    alike = [(record, bins) for record, bins in noted if len(bins) == len(noted[0][1])]
    caption = f"{heading} {value.text or value.note}"
    classes = len(noted[0][0].split.classes)
    chart = reliability(line.series, pooled([bins for _, bins in alike]), classes, caption)
    return chart, {record.seed for record, _ in alike}


def _is_bin(one: Mapping[str, Any]) -> bool:
    filled = ("confidence", "accuracy") if one.get("count") else ()
    return has_numbers(one, "low", "high", "count", *filled)


def unattacked(place: Mapping[str, Any], column: Column) -> Any:
    """What a place of a curve says in the column's terms: the longest of its names that the metric's name ends with."""
    names = [name for name in place if str(column.metric).endswith(name)]
    return place[max(names, key=len)] if names else None


def as_estimate(stated: Any) -> Estimate:
    """An estimate from its JSON value; one without a value from everything that is none."""
    if not isinstance(stated, Mapping):
        return Estimate(None)
    value, low, high = (number(stated.get(name)) for name in ("value", "low", "high"))
    return Estimate(value, low, high, str(stated.get("reason", "")))


def mean_estimate(estimates: list[Estimate]) -> Estimate:
    """Mean over seeds; the interval's ends are averaged too, which makes it no narrower than that of the mean."""
    values = [e.value for e in estimates if e.value is not None]
    if not estimates or len(values) < len(estimates):
        return Estimate(None, reason=next((e.reason for e in estimates if e.reason), "not evaluated"))
    lows, highs = [e.low for e in estimates if e.low is not None], [e.high for e in estimates if e.high is not None]
    value = sum(values) / len(values)
    if len(lows) < len(values) or len(highs) < len(values):
        return Estimate(value, reason=next((e.reason for e in estimates if e.reason), ""))
    return Estimate(value, sum(lows) / len(lows), sum(highs) / len(highs))


def pooled(bins_by_seed: list[Places]) -> list[dict[str, Any]]:
    """Reliability bins of several seeds taken together: means weighted by the number of images."""
    out = []
    for bins in zip(*bins_by_seed, strict=True):
        count = sum(b["count"] for b in bins)
        means = {
            name: sum(b["count"] * b[name] for b in bins if b["count"]) / count if count else None
            for name in ("confidence", "accuracy")
        }
        out.append({"low": bins[0]["low"], "high": bins[0]["high"], "count": count, **means})
    return out
