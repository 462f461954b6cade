"""The page of a method: what it is, its rows on all splits, its plots across them, and where its records come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from robustbench_spur.page.dossier import Dossier, dossier_of
from robustbench_spur.page.geometry import COLOURS, SHAPES, Chart, Series
from robustbench_spur.page.lines import Line
from robustbench_spur.page.plots import ROOM, group_chart, panels_of, radius_charts
from robustbench_spur.page.provenance import counted, number_and_days, origins
from robustbench_spur.page.render import Page, sweeps_of
from robustbench_spur.page.riskplot import risk_plot
from robustbench_spur.page.sections import Section
from robustbench_spur.page.texts import setting
from robustbench_spur.ranking import trust
from robustbench_spur.record import Record


@dataclass(frozen=True)
class Place:
    """A row of the method, with the table that it stands in and how many of its track are ranked there."""

    section: Section
    line: Line
    ranked: int


@dataclass(frozen=True)
class MethodView:
    """What the page of a method shows.

    Args:
        name: of the method.
        about: what its plugin says.
        track: that its rows are on.
        places: its rows, in the order of the board's splits.
        sweeps: the ranking column over rho, by split, beside the baseline's.
        charts: over all splits, a line for each.
        groups: accuracy by group, by split, beside the baseline's.
        panels: a reliability diagram for every split, and the seeds that they pool.
        records: how many there are, and from when.
        origins: titles with texts: code, machines, libraries, training, settings.
    """

    name: str
    about: Dossier
    track: str
    places: list[Place]
    sweeps: list[tuple[str, Chart]]
    charts: list[Chart]
    groups: list[tuple[str, Chart]]
    panels: tuple[list[Chart], str]
    records: str
    origins: list[tuple[str, list[str]]]

    def cost(self, records: list[Record], name: str) -> str:
        """Mean cost of the finished records, in whole seconds; empty where none noted it."""
        costs = [record.cost[name] for record in records if record.status == "done" and name in record.cost]
        return f"{sum(costs) / len(costs):,.0f}" if costs else ""

    def told(self, settings: dict[str, Any]) -> str:
        """Settings in a line."""
        return settings_text(settings)


def method_view(name: str, page: Page) -> MethodView:
    """The view of a method's page.

    Args:
        name: of a method that has rows.
        page: of the board.
    """
    words, places = page.words, _places(name, page)
    own = [place for place in places if not place.line.variant] or places
    alone = [relabelled for relabelled in _by_split(own) if relabelled.row.values]
    drawn, left_out = alone[:ROOM], len(alone) - ROOM
    charts = [*radius_charts(words, drawn), *([risk] if (risk := risk_plot(words, drawn)) else [])]
    for chart in charts:
        chart.head = ("split", *chart.head[1:])
    for chart in charts if left_out > 0 else ():
        chart.missing.append(f"{left_out} more splits, for want of room; their own pages have them")
    records = [record for place in places for record in place.line.row.records]
    names = {place.line.series.name for place in own}
    baselines = {id(line) for section in page.sections for line in _baseline(section, page)}
    swept = sweeps_of(page, lambda line: line.series.name in names or id(line) in baselines)
    return MethodView(
        name=name,
        about=dossier_of(name, words),
        track=places[0].line.row.first.track,
        places=places,
        sweeps=[(split, chart) for split, chart in swept if any(row[0] in names for row in chart.rows)],
        charts=charts,
        groups=[(place.section.split, by) for place in _first_each(own) if (by := _groups(place, own, page))],
        panels=panels_of(words, drawn),
        records=number_and_days(records),
        origins=[
            *origins(records),
            ("Training", counted(settings_text(record.training) for record in records)),
            ("Its settings", counted(settings_text(record.method.settings) for record in records)),
        ],
    )


def _places(name: str, page: Page) -> list[Place]:
    found = []
    for section in page.sections:
        for lines in section.lines.values():
            ranked = sum(line.row.rank is not None for line in lines)
            found += [Place(section, line, ranked) for line in lines if line.row.first.method.name == name]
    return found


def _baseline(section: Section, page: Page) -> list[Line]:
    """The baseline's line in a section, of several rows the one that all others are held against; none where it has none."""
    every = [line for own in section.lines.values() for line in own]
    rows = [line for line in every if line.row.first.method.name == page.manifest.baseline and line.row.values]
    return [min(rows, key=lambda line: (line.variant, *trust(line.row)))] if rows else []


def _first_each(places: list[Place]) -> list[Place]:
    """The first place of every section."""
    return list({id(place.section): place for place in reversed(places)}.values())[::-1]


def _by_split(places: list[Place]) -> list[Line]:
    """Lines that look, in plots, like their splits: named by them, each with a colour and a marker of its own."""
    short = short_names([place.section.split for place in places])
    lines = []
    for k, place in enumerate(places):
        line, method = place.line, place.line.row.first.method.name
        mark = line.series.name.removeprefix(method).strip(" ·")
        several = sum(other.section is place.section for other in places) > 1
        name = short[place.section.split] + (f" · {mark}" if several and mark else "")
        shape = (k % COLOURS + k // COLOURS) % len(SHAPES)
        lines.append(replace(line, series=Series(name, 1 + k % COLOURS, shape, line.series.faint)))
    return lines


def short_names(splits: list[str]) -> dict[str, str]:
    """Splits without their dataset, where that leaves them apart.

    >>> short_names(["a/x@0.9", "b/y"]), short_names(["a/x", "b/x"])
    ({'a/x@0.9': 'x@0.9', 'b/y': 'y'}, {'a/x': 'a/x', 'b/x': 'b/x'})
    """
    whole = list(dict.fromkeys(splits))
    short = {name: name.partition("/")[2] or name for name in whole}
    return short if len(set(short.values())) == len(whole) else {name: name for name in whole}


def _groups(place: Place, own: list[Place], page: Page) -> Chart | None:
    """Accuracy by group of the method's rows in a section, below the baseline's."""
    lines = [other.line for other in own if other.section is place.section]
    own_lines = {id(line) for line in lines}
    baseline = [line for line in _baseline(place.section, page) if id(line) not in own_lines]
    shown = [line for line in (*baseline, *lines) if line.row.values]
    return group_chart(page.words, shown, place.section.part) if shown and place.section.part else None


def settings_text(settings: dict[str, Any]) -> str:
    """Settings in a line; ``none`` where there are none.

    >>> settings_text({"eta": 0.1, "steps": 3}), settings_text({})
    ('eta 0.1, steps 3', 'none')
    """
    return ", ".join(f"{name} {setting(value)}" for name, value in settings.items()) or "none"
