"""The board as one self-contained page: it works offline and without JavaScript, and asks for nothing from anywhere.

A page is made in three steps that can grow apart: views (what is said, as texts and numbers), charts (plain geometry),
and templates (how it looks). Names come from other people's plugins and are hostile until escaped, which the templates
do for every text; a content security policy stands behind that. The same board gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.board import Board, Row
from robustbench_spur.charts import (
    COLOURS,
    SHAPES,
    Chart,
    Series,
    curves,
    dots,
    marker_path,
    percent,
    reliability,
    scatter,
)
from robustbench_spur.home import Home
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.record import Record, SplitPart
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.store import replacing
from robustbench_spur.types import PARTITIONS, Estimate

TRACKS = {
    "none": ("No attributes", "The method knows images and labels only."),
    "selection": (
        "Attributes for selection",
        "It sees the attribute on the validation set, to choose a model, not to train.",
    ),
    "train": ("Attributes in training", "It sees the attribute of every training image."),
    "reweight": (
        "A small unbiased set",
        "It trains on a small set in which all groups are alike, with their attributes.",
    ),
    "targeted": (
        "Knows the shortcut",
        "It is built against this very shortcut, or sees the attribute when it is tested.",
    ),
}
"""Each track's title, and which annotations it is about, in plain words."""

IN_HEADING = ("split ", "evaluators ", "backbone=", "image_size=")
"""Beginnings of remarks that concern a whole table."""


@dataclass(frozen=True)
class Value:
    """A share in a row, as texts; ``key`` sorts it, ``low`` to ``high`` is its bar, all in per cent."""

    column: Column
    text: str
    interval: str
    note: str
    key: float | None
    low: float | None
    high: float | None
    detail: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the ranked table.

    Args:
        row: the board's.
        series: how it looks in the plots.
        variant: what of it is not the board's, such as ``epochs=4``.
        about: the method in a line; empty where its plugin is not here.
        values: under the columns shown.
        difference: from the baseline, in points.
        clear: 1 or -1 where the interval of the difference excludes zero on that side, else 0.
        marker: path data of its marker.
    """

    row: Row
    series: Series
    variant: str
    about: str
    values: list[Value]
    difference: Value
    clear: int
    marker: str

    @property
    def rank(self) -> str:
        """The rank, or the range of ranks of a tie; empty for a row that is not ranked."""
        first, last = self.row.rank, self.row.rank_high
        if first is None:
            return ""
        return str(first) if last in (None, first) else f"{first}–{last}"

    @property
    def status(self) -> str:
        """The status as words."""
        return self.row.status.replace("_", " ")


@dataclass(frozen=True)
class Section:
    """A table of the board with its plots: one split, backbone and image size.

    Args:
        anchor: fragment of its address.
        split: in full.
        network: backbone and image size, in words.
        about: what the split is, in sentences.
        part: of a record that has met the data; None where none has.
        lines: rows by track.
        charts: plots with a row of their own.
        panels: a small plot per method.
        seeds: that the panels pool.
    """

    anchor: str
    split: str
    network: str
    about: list[str]
    part: SplitPart | None
    lines: dict[str, list[Line]]
    charts: list[Chart]
    panels: list[Chart]
    seeds: str

    @cached_property
    def partitions(self) -> list[str]:
        """Partitions that the split has, in the usual order."""
        return [name for name in PARTITIONS if self.part and name in self.part.counts]

    @cached_property
    def own_clusters(self) -> bool:
        """Whether every image counts as a patient of its own."""
        counts = self.part.counts if self.part else {}
        return all(n["examples"] == n["patients"] for groups in counts.values() for n in groups.values())

    def share(self, partition: str, group: str) -> float:
        """Share of a partition's images that a group has, in per cent."""
        groups = self.part.counts[partition] if self.part else {}
        return round(100 * groups[group]["examples"] / max(1, sum(n["examples"] for n in groups.values())), 1)


@dataclass
class Page:
    """All that the template needs.

    Args:
        board: to show.
        registry: where sentences about datasets, methods and metrics come from.
    """

    board: Board
    registry: Registry
    tracks: Mapping[str, tuple[str, str]] = field(default_factory=lambda: TRACKS)

    @property
    def manifest(self) -> Manifest:
        """The board's rules."""
        return self.board.manifest

    @cached_property
    def ranking(self) -> Column:
        """The column that ranks."""
        return self.manifest.column(self.manifest.rank_by)

    @cached_property
    def columns(self) -> list[Column]:
        """Columns of numbers, the ranking one first; names and settings are shown beside the numbers they belong to."""
        shown = [c for c in self.manifest.columns if c.shown and c.metric is not None and c is not self.ranking]
        return [self.ranking, *shown]

    @cached_property
    def series(self) -> dict[str, Series]:
        """Colour and marker by name: the same on the whole page, the baseline's neutral."""
        names = sorted({label(row) for row in self.board.rows} - {self.manifest.baseline})
        styles = {self.manifest.baseline: Series(self.manifest.baseline)}
        for k, name in enumerate(names):
            shape = 1 + (k % COLOURS + k // COLOURS) % (len(SHAPES) - 1)
            styles[name] = Series(name, 1 + k % COLOURS, shape)
        return styles

    @cached_property
    def plugins(self) -> dict[str, dict[str, Plugin]]:
        """Plugins by kind and name; what is not installed here is not described."""
        kinds = ("dataset", "method", "evaluator")
        return {kind: {plugin.name: plugin for plugin in self.registry.entries(kind)} for kind in kinds}

    def said(self, kind: str, name: str, attribute: str) -> Any:
        """What a plugin's source states, None where the plugin is not here."""
        plugin = self.plugins[kind].get(name)
        return plugin.literal(attribute) if plugin else None

    @cached_property
    def methods(self) -> list[tuple[str, str, str]]:
        """Name, summary and source of every method on the board."""
        names = sorted({row.first.method.name for row in self.board.rows})
        return [(n, self.said("method", n, "summary") or "", self.said("method", n, "source") or "") for n in names]

    @cached_property
    def datasets(self) -> list[dict[str, Any]]:
        """Name, summary, source, licence and whether it is generated, of every dataset that the board names."""
        full = [pin.name for pin in self.manifest.splits] + [row.split for row in self.board.rows]
        asked = ("summary", "source", "licence", "embedded")
        return [
            {"name": name, **{attribute: self.said("dataset", name, attribute) for attribute in asked}}
            for name in dict.fromkeys(name.partition("/")[0] for name in full)
        ]

    def heading(self, column: Column) -> str:
        """A column's name in full, in words; its title, which is short for a terminal, says how words are spelled."""
        spelled = {word.casefold(): word for word in re.findall(r"\w+", column.title)}
        return " ".join(spelled.get(word, word) for word in column.name.split("_"))

    def definition(self, column: Column) -> str:
        """What a column's metric is, in its evaluator's words."""
        metrics = self.said("evaluator", column.evaluator, "metrics")
        metric = metrics.get(column.metric) if isinstance(metrics, Mapping) else None
        return str(getattr(metric, "definition", ""))

    def beside(self, column: Column) -> list[str]:
        """Settings that belong to a column, such as the radius of an attack."""
        values = next((row.values for row in self.board.rows if row.values), {})
        kin = [c for c in self.manifest.columns if c.parameter and c.evaluator == column.evaluator]
        return [f"{c.title} {setting(values[c.name])}" for c in kin if values.get(c.name) is not None]

    @cached_property
    def sections(self) -> list[Section]:
        """A section for every table of the board."""
        return [self.section(number, rows) for number, rows in enumerate(self.board.tables.values(), start=1)]

    @cached_property
    def overview(self) -> list[tuple[str, list[Line | None]]]:
        """Every method under the board's own settings, with its row in every section or None."""
        found = {
            (number, line.series.name): line
            for number, section in enumerate(self.sections)
            for lines in section.lines.values()
            for line in lines
            if not line.variant
        }
        names = sorted({name for _, name in found}, key=lambda name: (name != self.manifest.baseline, name))
        return [(name, [found.get((number, name)) for number in range(len(self.sections))]) for name in names]

    def section(self, number: int, rows: list[Row]) -> Section:
        """The view of a table."""
        split, backbone, size = rows[0].table
        part = next((record.split for row in rows for record in row.records if record.split), None)
        lines: dict[str, list[Line]] = {}
        for row in rows:
            lines.setdefault(row.first.track, []).append(self.line(row))
        flat = [line for track in lines.values() for line in track]
        panels, seeds = panels_of(self, flat)
        anchor = f"{number}-{re.sub('[^a-z0-9]+', '-', split.lower()).strip('-')}"
        network = f"{backbone}, {size} × {size} pixels"
        return Section(
            anchor, split, network, self.about(split), part, lines, charts_of(self, flat, part), panels, seeds
        )

    def about(self, split: str) -> list[str]:
        """What a split is, from its dataset's own words and its name."""
        dataset, _, rest = split.partition("/")
        name = re.split(r"[@\[]", rest, maxsplit=1)[0]
        told = [self.said("dataset", dataset, "summary"), (self.said("dataset", dataset, "splits") or {}).get(name)]
        if rho := re.match(r"@([\d.]+)", rest.removeprefix(name)):
            told.append(
                f"In train and validation, {100 * float(rho[1]):g} % of the patients of each class carry the attribute value"
                " that is tied to the class."
            )
        return [sentence(text) for text in told if text]

    def line(self, row: Row) -> Line:
        """The view of a row."""
        name, style = label(row), self.series.get(label(row), Series(label(row)))
        ranked = row.rank is not None
        series = Series(name, style.colour, style.shape, faint=not ranked)
        change = row.difference
        low, high = change.low, change.high
        clear = 0 if low is None or high is None else int(low > 0) - int(high < 0)
        about = self.said("method", row.first.method.name, "summary") or ""
        values = [self.value(row, column) for column in self.columns]
        marker = marker_path(8, 8, series.shape, 4.6)
        return Line(
            row, series, variant(row), sentence(about), values, shown(self.ranking, change, signed=True), clear, marker
        )

    def value(self, row: Row, column: Column) -> Value:
        """A number of a row."""
        estimate = row.values.get(column.name)
        if not isinstance(estimate, Estimate):
            estimate = Estimate(None, reason=row.reason or "not evaluated")
        kin = [
            c
            for c in self.manifest.columns
            if c.lowest and (c.evaluator, c.partition) == (column.evaluator, column.partition)
        ]
        named = row.values.get(kin[0].name) if kin and column is self.ranking else None
        part = next((record.split for record in row.records if record.split), None)
        patients = part.counts[column.partition][named]["patients"] if part and named else None
        detail = f"{named}, {patients} patients" if patients is not None else str(named or "")
        if column.partition in row.first.training_partitions:
            detail = f"{detail}; trained on it".lstrip("; ")
        return shown(column, estimate, detail=detail)

    @cached_property
    def provenance(self) -> list[tuple[str, list[str]]]:
        """Which code and machines the records are from, each with the number of records."""
        records = [record for row in self.board.rows for record in row.records]
        return [
            ("Code", counted(code_of(record) for record in records)),
            ("Machines", counted(machine_of(record) for record in records)),
            ("Libraries", counted(libraries_of(record) for record in records)),
        ]

    @cached_property
    def records(self) -> str:
        """How many records there are, and from when."""
        records = [record for row in self.board.rows for record in row.records]
        days = sorted({record.finished[:10] for record in records})
        when = f", finished {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else ""
        return f"{len(records)} record{'s' if len(records) != 1 else ''}{when}"


def write_page(board: Board, home: Home, path: Path | None = None) -> Path:
    """Write the page of a board, at once. Imports no torch.

    Args:
        board: to show.
        home: folder of results.
        path: of the file; ``leaderboards/<board>/index.html`` in ``home`` unless given.

    Returns:
        The file.
    """
    target = path or home.pages / board.manifest.board / "index.html"
    text = render_page(board, Registry())
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)
    return target


def render_page(board: Board, registry: Registry) -> str:
    """The page of a board as HTML.

    Args:
        board: to show.
        registry: where sentences about datasets, methods and metrics come from.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("robustbench_spur", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = environment.get_template("sort.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        page=Page(board, registry), script=script, script_sha256=digest
    )


def variant(row: Row) -> str:
    """What of a row is not the board's, less what the heading of its table says; empty for the board's own."""
    return ", ".join(part for part in row.first.off_board if not part.startswith(IN_HEADING))


def label(row: Row) -> str:
    """Name of a row: the method's, with the settings that are not the board's."""
    return f"{row.first.method.name} {variant(row)}".strip()


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def setting(value: Any) -> str:
    """A setting as people write it; grey levels as fractions of 255.

    >>> setting(2 / 255), setting(0.5), setting("l1")
    ('2/255', '0.5', 'l1')
    """
    if not isinstance(value, float):
        return str(value)
    level = round(value * 255)
    return f"{level}/255" if level and abs(value - level / 255) < 1e-9 else f"{value:.4g}"


def shown(column: Column, estimate: Estimate, *, signed: bool = False, detail: str = "") -> Value:
    """An estimate as texts, with the reason for what is missing."""
    if estimate.value is None:
        return Value(column, "", "", estimate.reason or "undefined", None, None, None, detail)
    plus = "+" if signed and estimate.value > 0 else ""
    text, key = plus + percent(estimate.value), round(100 * estimate.value, 4)
    if estimate.low is None or estimate.high is None:
        return Value(column, text, "", estimate.reason or "no interval", key, None, None, detail)
    ends = round(100 * estimate.low, 1), round(100 * estimate.high, 1)
    between = " to " if signed else "–"
    return Value(column, text, f"{percent(estimate.low)}{between}{percent(estimate.high)}", "", key, *ends, detail)


def as_estimate(value: Any) -> Estimate:
    """An estimate from its JSON value."""
    return Estimate(value["value"], value["low"], value["high"], value.get("reason", ""))


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


def measured(line: Line, column: Column, kind: str) -> list[tuple[Record, Any]]:
    """What the evaluator of a column noted under ``kind``, by finished record."""
    done = [record for record in line.row.records if record.status == "done"]
    noted = [(r, r.details.get(column.partition, {}).get(column.evaluator, {}).get(kind)) for r in done]
    return [(record, value) for record, value in noted if value]


def charts_of(page: Page, lines: list[Line], part: SplitPart | None) -> list[Chart]:
    """The plots of a section: those that its columns and records allow."""
    lines = [line for line in lines if line.row.values]
    ranking = page.ranking
    if not lines or part is None:
        return []
    charts = []
    alike = [c for c in page.manifest.columns if c.metric and c.better == "higher" and c is not ranking]
    average = next((c for c in alike if (c.evaluator, c.partition) == (ranking.evaluator, ranking.partition)), None)
    if average:
        points = [(line.series, line.row.values[average.name], line.row.values[ranking.name]) for line in lines]
        charts.append(scatter(points, page.heading(average), page.heading(ranking)))
    family = next((c for c in page.manifest.columns if c.family and c.evaluator == ranking.evaluator), None)
    groups = [f"{one}@{value}" for one in part.classes for value in part.values]
    if family:
        by_group = [
            (line.series, {name: as_estimate(value) for name, value in line.row.values[family.name].items()})
            for line in lines
            if line.row.values[family.name] is not None
        ]
        charts.append(dots(by_group, groups, len(part.values), "accuracy by group"))
    charts += [chart for column in page.columns if (chart := curve_chart(page, column, lines))]
    return charts


def curve_chart(page: Page, column: Column, lines: list[Line]) -> Chart | None:
    """Accuracy against radius, where the column's evaluator noted a curve; None where it did not."""
    ticks: dict[float, str] = {}
    drawn = []
    for line in lines:
        by_dose: dict[float, list[Estimate]] = {}
        for record, curve in measured(line, column, "curve"):
            known = record.metrics.get(column.partition, {}).get(column.evaluator, {})
            for place in curve:
                ticks[place["radius"]] = place["label"]
                stated = {"value": unattacked(place, column), "low": None, "high": None}
                value = known.get(f"{column.metric}:{place['label']}", stated)
                by_dose.setdefault(place["radius"], []).append(as_estimate(value))
        if by_dose:
            drawn.append((line.series, {dose: mean_estimate(by_dose[dose]) for dose in sorted(by_dose)}))
    return curves(drawn, dict(sorted(ticks.items())), page.heading(column)) if drawn else None


def unattacked(place: Mapping[str, Any], column: Column) -> Any:
    """What a place of a curve says in the column's terms: the longest of its names that the metric's name ends with."""
    names = [name for name in place if str(column.metric).endswith(name)]
    return place[max(names, key=len)] if names else None


def panels_of(page: Page, lines: list[Line]) -> tuple[list[Chart], str]:
    """A reliability diagram per method, its seeds pooled, and which seeds these are."""
    panels: list[Chart] = []
    seeds: set[int] = set()
    for column in page.columns:
        for line in lines if not panels else []:
            noted = measured(line, column, "reliability")
            if not noted or noted[0][0].split is None:
                continue
            alike = [(record, curve) for record, curve in noted if len(curve) == len(noted[0][1])]
            bins = pooled([curve for _, curve in alike])
            seeds |= {record.seed for record, _ in alike}
            value = page.value(line.row, column)
            caption = f"{page.heading(column)} {value.text or value.note}"
            panels.append(reliability(line.series, bins, len(noted[0][0].split.classes), caption))
    return panels, ", ".join(map(str, sorted(seeds)))


def pooled(curves_by_seed: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Reliability bins of several seeds taken together: means weighted by the number of images."""
    out = []
    for bins in zip(*curves_by_seed, strict=True):
        count = sum(b["count"] for b in bins)
        means = {
            name: sum(b["count"] * b[name] for b in bins if b["count"]) / count if count else None
            for name in ("confidence", "accuracy")
        }
        out.append({"low": bins[0]["low"], "high": bins[0]["high"], "count": count, **means})
    return out


def counted(texts: Iterable[str]) -> list[str]:
    """Distinct texts, the most frequent first, with their number where there are several."""
    found = Counter(texts)
    ordered = sorted(found, key=lambda text: (-found[text], text))
    return ordered if len(ordered) < 2 else [f"{text} ({found[text]} records)" for text in ordered]


def code_of(record: Record) -> str:
    """Version and commit of the code that made a record."""
    about = record.provenance
    version = f"robustbench-spur {about.get('package') or 'not installed'}"
    commit = f", commit {str(about['git_commit'])[:12]}" if about.get("git_commit") else ""
    return version + commit + (" with uncommitted changes" if about.get("git_dirty") else "")


def machine_of(record: Record) -> str:
    """Where a record was made: accelerator or processor, number of CPUs, system."""
    about = record.provenance
    parts = [about.get("accelerator"), about.get("processor"), f"{about['cpus']} CPUs" if about.get("cpus") else None]
    return ", ".join(str(part) for part in (*parts, about.get("platform"), about.get("precision")) if part) or "unknown"


def libraries_of(record: Record) -> str:
    """Versions of Python and of the libraries that a record was made with."""
    about = record.provenance
    libraries = {"python": about.get("python"), **(about.get("libraries") or {})}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version) or "unknown"
