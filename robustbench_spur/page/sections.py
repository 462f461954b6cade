"""The tables of a board as views: one per split, backbone and image size, with its groups, rows and plots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from robustbench_spur.board import Row
from robustbench_spur.page.geometry import Chart, Series
from robustbench_spur.page.glossary import Glossary
from robustbench_spur.page.lines import Line, line_of
from robustbench_spur.page.plots import charts_of, panels_of
from robustbench_spur.record import SplitPart
from robustbench_spur.types import PARTITIONS, Groups


@dataclass(frozen=True)
class Section:
    """A table of the board with its plots: one split, backbone and image size.

    Args:
        anchor: fragment of its address.
        split: in full.
        network: backbone and image size, in words.
        about: what the split is, in sentences.
        part: of a record that has met the data; None where none has.
        notes: of that record; none of strangers' records, which could say anything in the name of the board.
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
    notes: tuple[str, ...]
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

    @cached_property
    def groups(self) -> list[str]:
        """Names of the groups that some partition has by the split's design, in index order; all where it declares none."""
        own = {name for partition in self.partitions for name in self._designed[partition]}
        every = Groups(self.part.classes, self.part.attribute, self.part.values).names if self.part else ()
        return [name for name in every if name in own]

    @cached_property
    def _designed(self) -> dict[str, tuple[str, ...]]:
        return {name: self.part.groups_in(name).names for name in self.partitions} if self.part else {}

    @property
    def incomplete(self) -> bool:
        """Whether a partition leaves out, by the split's design, groups that another has."""
        return any(len(names) < len(self.groups) for names in self._designed.values())

    def designed(self, partition: str, group: str) -> bool:
        """Whether a partition has a group by the split's design: if not, that it has no image there is no gap."""
        return group in self._designed[partition]

    def share(self, partition: str, group: str) -> float:
        """Share of a partition's images that a group has, in per cent."""
        groups = self.part.counts[partition] if self.part else {}
        return round(100 * groups[group]["examples"] / max(1, sum(n["examples"] for n in groups.values())), 1)


def section_of(number: int, rows: list[Row], words: Glossary, styles: Mapping[str, Series]) -> Section:
    """The view of a table.

    Args:
        number: of the table on the page, for its address.
        rows: all of one split, backbone and image size.
        words: of the page.
        styles: of the rows, by name.
    """
    split, backbone, size = rows[0].table
    part = next((record.split for row in rows for record in row.records if record.split), None)
    own = all(not row.standing.entry for row in rows)
    lines: dict[str, list[Line]] = {}
    for row in rows:
        lines.setdefault(row.first.track, []).append(line_of(row, words, styles))
    flat = [line for track in lines.values() for line in track]
    panels, seeds = panels_of(words, flat)
    return Section(
        anchor=f"{number}-{re.sub('[^a-z0-9]+', '-', split.lower()).strip('-')}",
        split=split,
        network=f"{backbone}, {size} × {size} pixels",
        about=words.about_split(split),
        part=part,
        notes=part.notes if part and own else (),
        lines=lines,
        charts=charts_of(words, flat, part),
        panels=panels,
        seeds=seeds,
    )
