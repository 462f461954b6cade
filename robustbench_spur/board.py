"""From records to the ranked table: rescored from their predictions, rows of one configuration over its seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.coverage import belongs
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.ranking import rank_table
from robustbench_spur.record import Record, RecordStore, read_partitions
from robustbench_spur.registry import Registry
from robustbench_spur.rows import Latest, Measured, Row, claim, make_row, newest
from robustbench_spur.scoring import Scorer, load_evaluators
from robustbench_spur.standing import CLAIMED, Standing
from robustbench_spur.store import Store
from robustbench_spur.types import Estimate

__all__ = ["Board", "Row", "Source", "build_board", "ranked", "score_board", "source_rows"]


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


@dataclass(frozen=True)
class Source:
    """Records whose newest count: those of a home, or of an entry of a published board.

    Args:
        records: oldest first.
        predictions: gives those of a record, by partition.
        standing: whose a row is, and how far it can be trusted.
    """

    records: Sequence[Record]
    predictions: Callable[[Record], Mapping[str, Predictions]]
    standing: Callable[[Row], Standing] = lambda row: Standing()


def build_board(
    home: Home, manifest: Manifest, plugin_files: tuple[Path, ...] = (), splits: Collection[str] | None = None
) -> Board:
    """Score and rank the records of a home by a manifest. Imports no torch.

    Args:
        home: folder of results.
        manifest: of the board.
        plugin_files: drafts given by path.
        splits: in full, without a fold; all where None.

    Raises:
        SpurbenchError: a record or its predictions are damaged.
    """
    store = RecordStore(home.records, home.predictions)
    wanted = [record for record in store if splits is None or record.identity.family in splits]
    source = Source(wanted, lambda record: read_partitions(record, store.arrays(record), manifest.partitions))
    return score_board([source], manifest, Store(home.root / "scores"), plugin_files)


def score_board(
    sources: Iterable[Source], manifest: Manifest, scores: Store | None, plugin_files: tuple[Path, ...] = ()
) -> Board:
    """Score and rank records by a manifest. Imports no torch.

    Args:
        sources: of the records; a configuration that several have is a row of each.
        manifest: of the board.
        scores: where resampled values are kept; nowhere where None.
        plugin_files: drafts given by path.

    Raises:
        SpurbenchError: the predictions of a record are damaged.
    """
    return ranked([row for source in sources for row in source_rows(source, manifest, scores, plugin_files)], manifest)


def ranked(rows: list[Row], manifest: Manifest) -> Board:
    """The board of rows that have their values: each ranked within its table and track, in order."""
    for table in Board(manifest, rows).tables.values():
        rank_table(table, manifest)
    return Board(manifest, sorted(rows, key=lambda row: _order(row, manifest)))


def source_rows(
    source: Source,
    manifest: Manifest,
    scores: Store | None,
    plugin_files: tuple[Path, ...] = (),
    replicates: Callable[[Row], int] | None = None,
    evaluators: Sequence[Evaluator] = (),
) -> list[Row]:
    """The rows of a source, with their values and without ranks.

    Args:
        source: of records.
        manifest: of the board.
        scores: see :func:`score_board`.
        plugin_files: see :func:`score_board`.
        replicates: of a row's column that ranks, how many to have at once: rows can then be handed to another process.
        evaluators: of the board, with its settings; loaded where none are given.
    """
    loaded = evaluators or load_evaluators(Registry(plugin_files), manifest.evaluators)
    rows = list(_rows(source, manifest, Scorer(scores, manifest.bootstrap), {one.name: one for one in loaded}))
    if replicates is None:
        return rows
    for row in rows:
        count = replicates(row)
        if row.ranking is not None and row.more is not None and len(row.ranking[1]) < count:
            row.ranking = row.ranking[0], row.more(count)
        row.more = None
    return rows


def _rows(source: Source, manifest: Manifest, scorer: Scorer, evaluators: Mapping[str, Evaluator]) -> Iterator[Row]:
    """The rows of a source, one by one."""
    records = [record for record in source.records if belongs(record, manifest)]
    latest = Latest(records)
    for own in newest(records, manifest).values():
        row = make_row(own, manifest, latest)
        if row is not None:
            row.standing = source.standing(row)
            if row.standing.tier == CLAIMED:
                claim(row, manifest)
            elif row.standing.entry and _is_unpinned(row, manifest):
                row.status, row.reason = "unranked", "the board does not pin this split's table"
            if row.seeds and row.standing.tier != CLAIMED:
                Measured(row, source.predictions, scorer, evaluators, manifest).fill()
            yield row


def _is_unpinned(row: Row, manifest: Manifest) -> bool:
    """Whether whose rows a split has is the team's word: others may have been tested on other patients."""
    pins = [manifest.pin(str(record.identity.split["name"])) for record in row.records]
    return any(pin is not None and pin.sha256 is None for pin in pins)


def _order(row: Row, manifest: Manifest) -> tuple[Any, ...]:
    """By split, network and track; ranked rows before others, and those with the better value first."""
    known = [pin.name for pin in manifest.splits]
    name = str(row.first.identity.split["name"])
    place = known.index(name) if name in known else len(known)
    track = manifest.tracks.index(row.first.track) if row.first.track in manifest.tracks else len(manifest.tracks)
    value = row.values.get(manifest.rank_by)
    number = value.value if isinstance(value, Estimate) and value.value is not None else math.inf
    sign = -1 if manifest.column(manifest.rank_by).better == "higher" and math.isfinite(number) else 1
    return place, row.table, track, row.rank is None, sign * number, row.first.method.name, row.standing.entry
