"""From records to the ranked table: rescored from their predictions, rows of one configuration over its seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.coverage import belongs
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.ranking import rank_table
from robustbench_spur.record import RecordStore
from robustbench_spur.registry import Registry
from robustbench_spur.rows import Latest, Measured, Row, make_row, newest
from robustbench_spur.scoring import Scorer, load_evaluators
from robustbench_spur.store import Store
from robustbench_spur.types import Estimate

__all__ = ["Board", "Row", "build_board"]


@dataclass
class Board:
    """All rows of a board version.

    Args:
        manifest: its rules.
        rows: best first within split, network and track.
    """

    manifest: Manifest
    rows: list[Row]

    def only(self, splits: Iterable[str] = (), methods: Iterable[str] = ()) -> Board:
        """The board reduced to some splits and methods; empty means all. Ranks stay as they are."""
        wanted, named = set(splits), set(methods)
        rows = [r for r in self.rows if not wanted or r.split in wanted]
        return Board(self.manifest, [r for r in rows if not named or r.first.method.name in named])

    @cached_property
    def tables(self) -> dict[tuple[str, str, int], list[Row]]:
        """Rows by split, backbone and image size."""
        grouped: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
        for row in self.rows:
            grouped[row.table].append(row)
        return dict(grouped)

    def as_list(self) -> list[dict[str, Any]]:
        """All rows as JSON values."""
        return [row.as_dict(self.manifest.columns) for row in self.rows]


def build_board(home: Home, manifest: Manifest, plugin_files: tuple[Path, ...] = ()) -> Board:
    """Score and rank the records of a home by a manifest. Imports no torch.

    Raises:
        SpurbenchError: a record or its predictions are damaged.
    """
    store = RecordStore(home.records, home.predictions)
    evaluators = {e.name: e for e in load_evaluators(Registry(plugin_files), manifest.evaluators)}
    scorer = Scorer(Store(home.root / "scores"), manifest.bootstrap)
    records = [record for record in store if belongs(record, manifest)]
    latest = Latest(records)
    made = [make_row(own, manifest, latest) for own in newest(records, manifest).values()]
    rows = [row for row in made if row is not None]
    for row in rows:
        if row.seeds:
            Measured(row, store, scorer, evaluators, manifest).fill()
    for table in Board(manifest, rows).tables.values():
        rank_table(table, manifest)
    return Board(manifest, sorted(rows, key=lambda row: _order(row, manifest)))


def _order(row: Row, manifest: Manifest) -> tuple[Any, ...]:
    """By split, network and track; ranked rows before others, and those with the better value first."""
    known = [pin.name for pin in manifest.splits]
    name = str(row.first.identity.split["name"])
    place = known.index(name) if name in known else len(known)
    track = manifest.tracks.index(row.first.track) if row.first.track in manifest.tracks else len(manifest.tracks)
    value = row.values.get(manifest.rank_by)
    number = value.value if isinstance(value, Estimate) and value.value is not None else math.inf
    sign = -1 if manifest.column(manifest.rank_by).better == "higher" and math.isfinite(number) else 1
    return place, row.table, track, row.rank is None, sign * number, row.first.method.name
