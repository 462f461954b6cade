"""Where a plot's names go, so that they hide no marker and no other name: beside points, after lines, in a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustbench_spur.page.geometry import WIDTH, Chart, Point, Scale, Series
from robustbench_spur.page.texts import shortened

LETTER, LINE = 6.3, 13.0
"""Width of a letter and height of a line at the plots' text size, 12 pixels, on the safe side for common fonts."""
ENDS = 18
"""Letters of a name after a line's end."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


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


def name_points(chart: Chart, at: Sequence[Point], names: Sequence[str], bars: Sequence[Box], area: Box) -> None:
    """Write the name of each point near it, with a leader where it had to go far; see :func:`place_labels`."""
    for (x, y), name, box in zip(at, names, place_labels(at, names, bars, area), strict=True):
        near = min(max(x, box[0]), box[2]), min(max(y, box[1] + 2), box[3] - 2)
        if math.dist((x, y), near) > 16:
            chart.line([(x, y), near], "leader")
        chart.text(box[0], box[3] - 3, name, "name")


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


def name_ends(chart: Chart, ends: Sequence[tuple[Point, Series]], left: float, up: Scale) -> None:
    """Write names right of the lines' ends, apart from each other, each with its marker."""
    heights = spread_out([y for (_, y), _ in ends], LINE, up.stop, up.start)
    for ((x, y), series), height in zip(ends, heights, strict=True):
        chart.line([(x + 6, y), (left, height)], "leader")
        chart.marker((left + 5, height), series, size=3.2)
        chart.text(left + 12, height + 4, shortened(series.name, ENDS), "name")


def legend_lines(names: Sequence[str]) -> int:
    """Lines that the legend of these names takes, at least one."""
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


def legend(chart: Chart, names: Sequence[str], styles: Sequence[tuple[int, str]]) -> None:
    """Write a legend at the top.

    Args:
        chart: to write on.
        names: of the entries.
        styles: shape and kind of each entry's marker.
    """
    for name, (x, line), (shape, kind) in zip(names, _legend_places(names), styles, strict=True):
        y = 10 + (LINE + 2) * line
        chart.marker((x, y), Series(name, 0, shape), size=4, kind=kind)
        chart.text(x + 9, y + 4, name, "tick")
