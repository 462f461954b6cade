"""The page's plots as plain geometry: paths and labels with coordinates, which a template turns into SVG.

Nothing is drawn or escaped here, and no colour is fixed: a path names a slot of the palette, and the style sheet has a
light and a dark colour for it. A series has a marker of its own too, so that no plot depends on colour alone. All
shares are in [0, 1] and are labelled in per cent; all coordinates are pixels of the plot's own box, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_spur.types import Estimate

COLOURS = 7
"""Slots of the palette beside slot 0, which is neutral and the baseline's."""
SHAPES = ((0, 1.0, 0.0), (4, 1.0, 45.0), (3, 1.0, 0.0), (4, 1.0, 0.0), (3, 1.0, 180.0), (5, 0.45, 0.0), (4, 0.4, 45.0))
"""Markers: corners (0 for a circle), radius of the inner corners (1 for none), and turn in degrees."""
WIDTH = 380.0
LETTER, LINE = 6.3, 13.0
"""Width of a letter and height of a line at the plots' text size, 12 pixels, on the safe side for common fonts."""
LANE = 9.0
"""Height of a group's lane in the plot of groups."""
LONGEST = 20
"""Letters of a name that a plot shows; the tables have it in full."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def number(value: float) -> str:
    """A coordinate with one decimal at most.

    >>> number(12.0), number(3.14159), number(-0.04)
    ('12', '3.1', '0')
    """
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def percent(value: float) -> str:
    """A share in per cent with one decimal and a true minus sign.

    >>> percent(0.4312), percent(-0.05)
    ('43.1', '−5.0')
    """
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def in_words(estimate: Estimate) -> str:
    """An estimate with its interval, or the reason why there is none.

    >>> in_words(Estimate(0.5, 0.4, 0.6)), in_words(Estimate(None, reason="not evaluated"))
    ('50.0 (40.0 to 60.0)', 'none: not evaluated')
    """
    if estimate.value is None:
        return f"none: {estimate.reason or 'undefined'}"
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value) + (f" ({estimate.reason})" if estimate.reason else "")
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name cut to ``longest`` letters."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


@dataclass(frozen=True)
class Series:
    """How a row looks in every plot.

    Args:
        name: for labels.
        colour: slot of the palette; 0 is neutral.
        shape: index into :data:`SHAPES`, taken modulo its length.
        faint: whether it is drawn paler (rows that are not ranked).
    """

    name: str
    colour: int = 0
    shape: int = 0
    faint: bool = False


@dataclass(frozen=True)
class Path:
    """A line or an area: SVG path data, a kind that the style sheet knows, a slot of the palette, and a tooltip."""

    d: str
    kind: str
    colour: int | None = None
    faint: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Label:
    """A text; ``anchor`` is ``start``, ``middle`` or ``end``, ``turn`` an angle in degrees about its place."""

    x: str
    y: str
    text: str
    kind: str = "tick"
    anchor: str = "start"
    turn: int = 0


@dataclass
class Chart:
    """A plot, and the same numbers as a table for those who cannot see it.

    Args:
        kind: ``scatter``, ``dots``, ``curves`` or ``reliability``: how the template explains it.
        titles: of x and of y.
        width: of its box.
        height: of its box.
        head: column titles of the table.
        rows: texts of the table.
        missing: series that could not be drawn, each with the reason.
        name: of the series, where the plot shows one alone.
    """

    kind: str
    titles: tuple[str, str]
    width: float
    height: float
    head: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    name: str = ""
    paths: list[Path] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def line(self, points: Sequence[Point], kind: str, series: Series | None = None) -> None:
        """Add a line through points; nothing where there is none."""
        if points:
            d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
            self.paths.append(Path(d, kind, series.colour if series else None, bool(series and series.faint)))

    def marker(self, at: Point, series: Series, *, size: float = 5.0, kind: str = "mark", tip: str = "") -> None:
        """Add the marker of a series."""
        self.paths.append(Path(marker_path(*at, series.shape, size), kind, series.colour, series.faint, tip))

    def text(self, x: float, y: float, text: str, kind: str = "tick", anchor: str = "start", turn: int = 0) -> None:
        """Add a text."""
        self.labels.append(Label(number(x), number(y), text, kind, anchor, turn))


@dataclass(frozen=True)
class Scale:
    """A linear map from values ``low`` to ``high`` onto coordinates ``start`` to ``stop``; values outside are clipped."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round shares on the scale, seven at most."""
        step = next(s for s in (0.02, 0.05, 0.1, 0.2) if (self.high - self.low) / s <= 6.01)
        first = math.ceil(round(self.low / step, 6))
        return [round(step * k, 4) for k in range(first, math.floor(round(self.high / step, 6)) + 1)]


def domain(values: Iterable[float | None]) -> tuple[float, float]:
    """From the tenth below the least value, with a margin, up to 1; from 0 where there is no value.

    >>> domain([0.71, None, 0.95]), domain([0.02])
    ((0.6, 1.0), (0.0, 1.0))
    """
    least = min((value for value in values if value is not None), default=0.0)
    return max(0.0, min(0.8, math.floor(round(10 * (least - 0.02), 6)) / 10)), 1.0


def marker_path(x: float, y: float, shape: int, size: float) -> str:
    """Path data of a marker about a point, of equal weight to the eye for all shapes."""
    corners, inner, turn = SHAPES[shape % len(SHAPES)]
    if not corners:
        r = number(size)
        return (
            f"M{number(x - size)} {number(y)}a{r} {r} 0 1 0 {number(2 * size)} 0a{r} {r} 0 1 0 {number(-2 * size)} 0z"
        )
    size *= {3: 1.35, 4: 1.2, 5: 1.4}[corners] * (1.15 if inner < 1 and corners == 4 else 1)
    radii = [size] if inner == 1 else [size, size * inner]
    steps = corners * len(radii)
    points = []
    for k in range(steps):
        angle, radius = math.radians(turn + 360 * k / steps), radii[k % len(radii)]
        points.append(f"{number(x + radius * math.sin(angle))} {number(y - radius * math.cos(angle))}")
    return f"M{'L'.join(points)}z"


def _ends(estimate: Estimate) -> list[float]:
    """Both ends of an interval, or none."""
    return [] if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]


def _in_percent(scale: Scale) -> dict[float, str]:
    return {scale(tick): f"{100 * tick:.0f}" for tick in scale.ticks()}


def _axes(chart: Chart, span: tuple[float, float], ticks: Mapping[float, str], up: Scale) -> None:
    """Grid, ticks and titles of a plot from ``span[0]`` to ``span[1]``, with labels at places on x."""
    left, right = span
    for tick in up.ticks():
        chart.line([(left, up(tick)), (right, up(tick))], "grid")
        chart.text(left - 7, up(tick) + 4, f"{100 * tick:.0f}", anchor="end")
    for x, text in ticks.items():
        chart.text(x, up.start + 17, text, anchor="middle")
    chart.text((left + right) / 2, up.start + 36, chart.titles[0], "axis", "middle")
    chart.text(left - 34, (up.start + up.stop) / 2, chart.titles[1], "axis", "middle", turn=-90)


def scatter(points: Sequence[tuple[Series, Estimate, Estimate]], x_title: str, y_title: str) -> Chart:
    """One estimate against another, with interval bars and labels that keep clear of each other.

    Args:
        points: of each series the estimate on x, and on y.
        x_title: what x is.
        y_title: what y is.
    """
    chart = Chart("scatter", (f"{x_title}, %", f"{y_title}, %"), WIDTH, 330)
    chart.head = ("method", *reversed(chart.titles))
    chart.rows = [(series.name, in_words(y), in_words(x)) for series, x, y in points]
    chart.missing = [f"{s.name} ({x.reason or y.reason})" for s, x, y in points if x.value is None or y.value is None]
    shown = [(series, x, y) for series, x, y in points if x.value is not None and y.value is not None]
    across = Scale(*domain(v for _, x, _ in shown for v in (x.value, x.low)), 46, WIDTH - 14)
    up = Scale(*domain(v for _, _, y in shown for v in (y.value, y.low)), 280, 14)
    _axes(chart, (across.start, across.stop), _in_percent(across), up)
    start = max(across.low, up.low)
    chart.line([(across(start), up(start)), (across(1), up(1))], "guide")
    centres = [(across(float(x.value or 0)), up(float(y.value or 0))) for _, x, y in shown]
    bars: list[Box] = []
    for (series, x, y), (cx, cy) in zip(shown, centres, strict=True):
        chart.line([(across(end), cy) for end in _ends(x)], "bar", series)
        chart.line([(cx, up(end)) for end in _ends(y)], "bar", series)
        bars += [(across(x.low), cy - 1, across(x.high), cy + 1)] if x.low is not None and x.high is not None else []
        bars += [(cx - 1, up(y.high), cx + 1, up(y.low))] if y.low is not None and y.high is not None else []
    for (series, x, y), at in zip(shown, centres, strict=True):
        chart.marker(at, series, tip=f"{series.name}: {y_title} {in_words(y)}, {x_title} {in_words(x)}")
    names = [shortened(series.name) for series, _, _ in shown]
    _name_points(chart, centres, names, bars, (across.start + 2, up.stop, WIDTH - 2, up.start - 2))
    return chart


def _name_points(chart: Chart, at: Sequence[Point], names: Sequence[str], bars: Sequence[Box], area: Box) -> None:
    for (x, y), name, box in zip(at, names, place_labels(at, names, bars, area), strict=True):
        near = min(max(x, box[0]), box[2]), min(max(y, box[1] + 2), box[3] - 2)
        if math.dist((x, y), near) > 16:
            chart.line([(x, y), near], "leader")
        chart.text(box[0], box[3] - 3, name, "name")


def overlap(a: Box, b: Box) -> float:
    """Area that two boxes (left, top, right, bottom) share.

    >>> overlap((0, 0, 2, 2), (1, 1, 3, 3)), overlap((0, 0, 1, 1), (2, 0, 3, 1))
    (1, 0)
    """
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def place_labels(at: Sequence[Point], names: Sequence[str], bars: Sequence[Box], area: Box) -> list[Box]:
    """Find room for the name of each point: greedily, the nearest place that hides no marker and no other name.

    Args:
        at: the points.
        names: of the points.
        bars: boxes that are better left free.
        area: box that no name may leave.

    Returns:
        The box of each name.
    """
    markers = [(x - 6, y - 6, x + 6, y + 6) for x, y in at]
    taken: list[Box] = []
    for (x, y), name in zip(at, names, strict=True):
        width = LETTER * len(name) + 2

        def cost(item: tuple[Box, float]) -> tuple[float, float]:
            box, distance = item
            lost = (box[2] - box[0]) * (box[3] - box[1]) - overlap(box, area) + sum(overlap(box, o) for o in taken)
            hidden = 5 * sum(overlap(box, o) for o in markers) + 0.4 * sum(overlap(box, o) for o in bars)
            return round(lost, 3), distance + hidden

        taken.append(min(_around(x, y, width), key=cost)[0])
    return taken


def _around(x: float, y: float, width: float) -> list[tuple[Box, float]]:
    """Boxes for a name about a point, each with its distance."""
    found = []
    for distance in (9.0, 15.0, 24.0, 36.0, 50.0, 66.0, 84.0, 104.0):
        for angle in range(0, 360, 30):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            cx, cy = x + dx * (distance + width / 2), y + dy * (distance + LINE / 2)
            found.append(((cx - width / 2, cy - LINE / 2, cx + width / 2, cy + LINE / 2), distance))
    return found


def spread_out(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as a simple pass can until they are ``gap`` apart, in their order, within the ends.

    >>> spread_out([10, 10, 50], 5, 0, 100), spread_out([99, 100], 5, 0, 100)
    ([10, 15, 50], [95, 100])
    """
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda k: positions[k])
    out = list(positions)
    for before, k in zip([None, *order], order, strict=False):
        out[k] = max(out[k], low if before is None else out[before] + gap)
    for after, k in zip([None, *order[::-1]], order[::-1], strict=False):
        out[k] = min(out[k], high if after is None else out[after] - gap)
    return out


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
    top, pitch = 24 + LINE * _legend_lines(groups), LANE * len(groups) + 11
    across, bottom = Scale(0, 1, left, WIDTH - 16), top + pitch * len(rows)
    chart = Chart("dots", (f"{title}, %", ""), WIDTH, bottom + 40, ("method", *(f"{group}, %" for group in groups)))
    chart.rows = [(s.name, *(in_words(by.get(g, Estimate(None))) for g in groups)) for s, by in rows]
    for x, text in _in_percent(across).items():
        chart.line([(x, top - 6), (x, bottom)], "grid")
        chart.text(x, bottom + 17, text, anchor="middle")
    chart.text((left + WIDTH - 16) / 2, bottom + 36, chart.titles[0], "axis", "middle")
    styles = [_group_style(g, values) for g in range(len(groups))]
    _legend(chart, groups, styles)
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


def _legend_lines(names: Sequence[str]) -> int:
    return 1 + max((line for _, line in _legend_places(names)), default=0)


def _legend_places(names: Sequence[str]) -> list[tuple[float, int]]:
    """X and line of each entry of a legend that wraps."""
    places, x, line = [], 10.0, 0
    for name in names:
        width = LETTER * len(name) + 26
        if x > 10 and x + width > WIDTH:
            x, line = 10.0, line + 1
        places.append((x, line))
        x += width
    return places


def _legend(chart: Chart, names: Sequence[str], styles: Sequence[tuple[int, str]]) -> None:
    for name, (x, line), (shape, kind) in zip(names, _legend_places(names), styles, strict=True):
        y = 10 + (LINE + 2) * line
        chart.marker((x, y), Series(name, 0, shape), size=4, kind=kind)
        chart.text(x + 9, y + 4, name, "tick")


def curves(lines: Sequence[tuple[Series, Mapping[float, Estimate]]], ticks: Mapping[float, str], title: str) -> Chart:
    """Estimates against a dose, a line per method with its name at the end; bars stand apart where methods meet.

    Args:
        lines: of each series the estimate by dose.
        ticks: label of each dose, by rising dose.
        title: what is shown.
    """
    chart = Chart("curves", ("radius of the attack", f"{title}, %"), WIDTH, 330)
    chart.head = ("method", *(f"radius {label}, %" for label in ticks.values()))
    chart.rows = [(s.name, *(in_words(by.get(dose, Estimate(None))) for dose in ticks)) for s, by in lines]
    known = [[(d, by[d]) for d in ticks if d in by and by[d].value is not None] for _, by in lines]
    chart.missing = [_why_missing(*line) for line, points in zip(lines, known, strict=True) if not points]
    shown = [(series, points) for (series, _), points in zip(lines, known, strict=True) if points]
    room = LETTER * max((len(shortened(series.name, 14)) for series, _ in shown), default=0)
    across = Scale(min(ticks), max(*ticks, min(ticks) + 1e-9), 60, WIDTH - 40 - room)
    up = Scale(0, 1, 280, 14)
    _axes(chart, (46, across.stop + 14), {across(dose): text for dose, text in ticks.items()}, up)
    step, ends = min(5.0, 24 / max(1, len(shown))), []
    for place, (series, points) in enumerate(shown):
        shift = step * (place - (len(shown) - 1) / 2)
        at = [(across(dose) + shift, up(float(e.value or 0))) for dose, e in points]
        chart.line(at, "curve", series)
        for (x, y), (dose, e) in zip(at, points, strict=True):
            chart.line([(x, up(end)) for end in _ends(e)], "bar", series)
            chart.marker((x, y), series, size=4.2, tip=f"{series.name}, radius {ticks[dose]}: {in_words(e)}")
        ends.append((at[-1], series))
    _name_ends(chart, ends, across.stop + 18, up)
    return chart


def _why_missing(series: Series, by: Mapping[float, Estimate]) -> str:
    return f"{series.name} ({next((e.reason for e in by.values() if e.reason), 'undefined')})"


def _name_ends(chart: Chart, ends: Sequence[tuple[Point, Series]], left: float, up: Scale) -> None:
    """Names right of the lines' ends, apart from each other, each with its marker."""
    heights = spread_out([y for (_, y), _ in ends], LINE, up.stop, up.start)
    for ((x, y), series), height in zip(ends, heights, strict=True):
        chart.line([(x + 6, y), (left, height)], "leader")
        chart.marker((left + 5, height), series, size=3.2)
        chart.text(left + 12, height + 4, shortened(series.name, 14), "name")


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
