"""The first page of a site: every method by every split, and the ranked tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustbench_spur.page.lines import Line
from robustbench_spur.page.plots import featured
from robustbench_spur.page.render import Page
from robustbench_spur.page.sections import Section

ROWS = 1000
"""Rows that the tables of the index may have together, so that it opens at once; the pages of the splits have all."""
LEAST = 8
"""Rows that a table of the index shows at least, whatever there is."""


@dataclass(frozen=True)
class Strip:
    """A method in the table of all splits: a line for every section, None where it was not run there."""

    name: str
    lines: list[Line | None]

    @property
    def any(self) -> Line:
        """Some line of it."""
        return next(line for line in self.lines if line)

    @property
    def method(self) -> str:
        """Name of its method."""
        return self.any.row.first.method.name

    @property
    def measured(self) -> bool:
        """Whether it has a number anywhere."""
        return any(line and line.row.values for line in self.lines)

    @property
    def teams(self) -> str:
        """Teams and entries behind it, for who looks for them."""
        credits = [line.credit for line in self.lines if line and line.credit]
        return " ".join(dict.fromkeys(text for one in credits for text in (one.team, one.entry) if text))


@dataclass(frozen=True)
class Index:
    """What the index shows.

    Args:
        strips: methods under the board's own settings by track, in the order of the board's tracks.
        tables: sections without their plots, of a large board with the first rows alone; and the number of all rows.
        methods: number of methods.
        splits: names in full, in their order.
        tracks: that have rows.
    """

    strips: dict[str, list[Strip]]
    tables: list[tuple[Section, int]]
    methods: int
    splits: list[str]
    tracks: list[str]


def index_of(page: Page) -> Index:
    """The view of the index."""
    rows = page.words.board.rows
    known = [track for track in page.manifest.tracks if any(row.first.track == track for row in rows)]
    return Index(
        strips=_strips(page),
        tables=[_table(section, page) for section in page.sections],
        methods=len({row.first.method.name for row in rows}),
        splits=list(dict.fromkeys(section.split for section in page.sections)),
        tracks=list(dict.fromkeys([*known, *(row.first.track for row in rows)])),
    )


def _strips(page: Page) -> dict[str, list[Strip]]:
    """Methods by track, each in the order of the first table that it stands in.

    What measured nothing is left out where its method has other rows: the tables have it.
    """
    found: dict[str, dict[str, list[Line | None]]] = {track: {} for track in page.manifest.tracks}
    for number, section in enumerate(page.sections):
        for track, lines in section.lines.items():
            for line in lines:
                if not line.variant:
                    own = found.setdefault(track, {}).setdefault(line.series.name, [None] * len(page.sections))
                    own[number] = line
    made = {track: [Strip(*item) for item in strips.items()] for track, strips in found.items()}
    known = {strip.method for strips in made.values() for strip in strips if strip.measured}
    kept = {
        track: [strip for strip in strips if strip.measured or strip.method not in known]
        for track, strips in made.items()
    }
    return {track: strips for track, strips in kept.items() if strips}


def _table(section: Section, page: Page) -> tuple[Section, int]:
    flat = [line for lines in section.lines.values() for line in lines]
    most = max(LEAST, ROWS // len(page.sections))
    if len(page.words.board.rows) <= ROWS:
        return section, len(flat)
    chosen = {id(line) for line in featured(flat, page.manifest.baseline, most)}
    few = {track: [line for line in lines if id(line) in chosen] for track, lines in section.lines.items()}
    return replace(section, lines={track: lines for track, lines in few.items() if lines}), len(flat)
