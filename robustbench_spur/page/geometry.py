"""What a plot is made of: paths and labels with coordinates, scales and markers, which a template turns into SVG.

Nothing is drawn or escaped here, and no colour is fixed: a path names a slot of the palette, and the style sheet has a
light and a dark colour for it. A series has a marker of its own too, so that no plot depends on colour alone. All
coordinates are pixels of the plot's own box, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COLOURS = 7
"""Slots of the palette beside slot 0, which is neutral and the baseline's."""
SHAPES = ((0, 1.0, 0.0), (4, 1.0, 45.0), (3, 1.0, 0.0), (4, 1.0, 0.0), (3, 1.0, 180.0), (5, 0.45, 0.0), (4, 0.4, 45.0))
"""Markers: corners (0 for a circle), radius of the inner corners (1 for none), and turn in degrees."""
WIDTH = 380.0

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate with one decimal at most.

    >>> number(12.0), number(3.14159), number(-0.04)
    ('12', '3.1', '0')
    """
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


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
