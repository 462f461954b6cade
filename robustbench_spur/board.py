"""From records to the ranked table: rescored from their predictions, rows of one configuration over its seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator
from robustbench_spur.home import Home
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.record import Record, RecordStore, read_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import Scorer, load_evaluators, metric_of, point
from robustbench_spur.statistics import estimate, ranks, replicates_to_rank
from robustbench_spur.store import Store
from robustbench_spur.types import Estimate

Floats = NDArray[np.float64]
TIER = "rescored"
"""Tier of a row computed here: every metric comes from the predictions, none is taken from the record."""


@dataclass
class Row:
    """One configuration (method with settings, split, network, selection) over its seeds.

    Args:
        records: the newest record of each seed.
        status: ``"ranked"``, ``"provisional"`` (ranked, but seeds of the board are missing), ``"unranked"``, ``"failed"``,
            ``"not_applicable"``.
        reason: why it is not ranked, or what to beware of.
        values: of every column, by its name.
        rank: the best rank that the patients allow.
        rank_high: the worst rank that the patients allow.
        difference: from the baseline on the same patients and seeds, in the column that ranks.
    """

    records: list[Record]
    status: str
    reason: str
    values: dict[str, Any] = field(default_factory=dict)
    rank: int | None = None
    rank_high: int | None = None
    difference: Estimate = field(default_factory=lambda: Estimate(None, reason="no baseline with the same seeds"))
    ranking: tuple[float, Floats] | None = None

    @property
    def first(self) -> Record:
        """Any of its records: they differ in the seed alone."""
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """Seeds that have been measured."""
        return sorted(record.seed for record in self.records if record.status == "done")

    @property
    def split(self) -> str:
        """The split in full."""
        return str(self.first.identity.split["name"])

    @property
    def table(self) -> tuple[str, str, int]:
        """What must be equal for two rows to be compared: split, backbone, image size."""
        return self.split, self.first.network.backbone, self.first.network.image_size

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values: the contract of ``leaderboard --json``."""
        record = self.first
        values = {name: v.as_dict() if isinstance(v, Estimate) else v for name, v in self.values.items()}
        return {
            "method": record.method.name,
            "split": self.split,
            "seeds": self.seeds,
            "track": record.track,
            "backbone": record.network.backbone,
            "image_size": record.network.image_size,
            "selection": record.selection,
            "settings": record.method.given,
            "tier": TIER,
            "status": self.status,
            "reason": self.reason,
            "rank": self.rank,
            "rank_high": self.rank_high,
            "config_hash": record.config_hash,
            "difference_from_baseline": self.difference.as_dict(),
            **values,
        }


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
        return [row.as_dict() for row in self.rows]


def build_board(home: Home, manifest: Manifest, plugin_files: tuple[Path, ...] = ()) -> Board:
    """Score and rank the records of a home by a manifest. Imports no torch.

    Raises:
        SpurbenchError: a record or its predictions are damaged.
    """
    store = RecordStore(home.records, home.predictions)
    evaluators = {e.name: e for e in load_evaluators(Registry(plugin_files), manifest.evaluators)}
    scorer = Scorer(Store(home.root / "scores"), manifest.bootstrap)
    rows = [_row(records, manifest) for records in newest(store, manifest).values()]
    for row in rows:
        if row.seeds:
            Measured(row, store, scorer, evaluators, manifest).fill()
    for table in Board(manifest, rows).tables.values():
        rank_table(table, manifest)
    return Board(manifest, sorted(rows, key=lambda row: _order(row, manifest)))


def newest(records: Iterable[Record], manifest: Manifest) -> dict[str, list[Record]]:
    """The newest record of each seed by configuration; a finished one goes before a failed one."""
    chosen: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        if record.board != manifest.board or record.board_status != manifest.status:
            continue
        other = chosen[record.config_hash].get(record.seed)
        if other is None or other.status != "done" or record.status == "done":
            chosen[record.config_hash][record.seed] = record
    return {key: [seeds[seed] for seed in sorted(seeds)] for key, seeds in chosen.items()}


def _row(records: list[Record], manifest: Manifest) -> Row:
    done = [record for record in records if record.status == "done"]
    if not done:
        return Row(records, records[0].status, records[0].reason)
    off = done[0].off_board
    if off:
        return Row(records, "unranked", f"not the board's: {', '.join(off)}")
    pinned = {pin.name: pin.version for pin in manifest.evaluators}
    measured = {name: about["version"] for name, about in done[0].evaluators.items()}
    if measured != pinned:
        return Row(records, "unranked", "stale: evaluators of another version; run again")
    return Row(records, "ranked", "")


@dataclass
class Measured:
    """Fills the values of a row from the predictions of its records.

    Args:
        row: to fill.
        store: of the predictions.
        scorer: gives resampled values.
        evaluators: of the board, by name.
        manifest: of the board.
    """

    row: Row
    store: RecordStore
    scorer: Scorer
    evaluators: Mapping[str, Evaluator]
    manifest: Manifest

    def fill(self) -> None:
        """Set ``values`` and what the ranking needs."""
        done = [record for record in self.row.records if record.status == "done"]
        self._files = [self.store.arrays(record) for record in done]
        self._done = done
        self._cache: dict[tuple[str, str], list[tuple[dict[str, float], dict[str, Floats], dict[str, int]]]] = {}
        self.row.values = {column.name: self._value(column) for column in self.manifest.columns}
        ranking = self.manifest.column(self.manifest.rank_by)
        if ranking.metric and self._has(ranking):
            seeds = self._seeds(ranking)
            value = float(np.mean([points[ranking.metric] for points, _, _ in seeds]))
            self.row.ranking = (value, np.mean([spread[ranking.metric] for _, spread, _ in seeds], axis=0))
            self._check_support(ranking, seeds)

    def _check_support(self, column: Column, seeds: Any) -> None:
        fewest = min((support.get(str(column.metric), 10**9) for _, _, support in seeds), default=10**9)
        if fewest < self.manifest.minimum_patients and self.row.status == "ranked":
            self.row.status = "unranked"
            self.row.reason = f"the worst group has {fewest} patients, fewer than {self.manifest.minimum_patients}"

    def _has(self, column: Column) -> bool:
        evaluated = all(column.evaluator in record.evaluators for record in self._done)
        return evaluated and f"{column.partition}/logits" in self._files[0]

    def _seeds(self, column: Column) -> list[tuple[dict[str, float], dict[str, Floats], dict[str, int]]]:
        """Point values, resampled values and support of a column's evaluator, one entry per seed."""
        key = (column.evaluator, column.partition)
        if key not in self._cache:
            evaluator = self.evaluators[column.evaluator]
            self._cache[key] = []
            for record, arrays in zip(self._done, self._files, strict=True):
                if record.split is None or record.predictions is None:
                    continue
                predictions = read_predictions(arrays, record.split, column.partition)
                name = f"{record.predictions.sha256}/{column.partition}"
                spread = self.scorer.replicates(evaluator, predictions, name)
                self._cache[key].append((point(evaluator, predictions), spread, evaluator.support(predictions)))
        return self._cache[key]

    def _value(self, column: Column) -> Any:
        if column.parameter is not None:
            return getattr(self.evaluators[column.evaluator].parameters, column.parameter)
        if not self._has(column):
            return Estimate(None, reason="not evaluated") if column.metric else None
        if column.metric is not None:
            return self._estimate(column, column.metric)
        family = str(column.family or column.lowest)
        names = [name for name in self._seeds(column)[0][0] if name.startswith(family)]
        members = {name.removeprefix(family): self._estimate(column, name) for name in names}
        if column.family is not None:
            return {member: one.as_dict() for member, one in members.items()}
        defined = {member: one.value for member, one in members.items() if one.value is not None}
        return min(defined, key=lambda member: defined[member]) if len(defined) == len(members) and defined else None

    def _estimate(self, column: Column, metric: str) -> Estimate:
        """Mean over the seeds, with the interval of that mean over the patients."""
        seeds = self._seeds(column)
        value = float(np.mean([points[metric] for points, _, _ in seeds]))
        spread = np.mean([spread[metric] for _, spread, _ in seeds], axis=0)
        definition = metric_of(self.evaluators[column.evaluator], metric)
        support = [support[metric] for _, _, support in seeds if metric in support]
        confidence = self.scorer.bootstrap.confidence
        return estimate(definition, value, spread, confidence, patients=min(support) if support else None)


def rank_table(rows: list[Row], manifest: Manifest) -> None:
    """Rank the rows of one split and network within each track, and give all their difference from the baseline."""
    candidates = [row for row in rows if row.status == "ranked" and row.ranking is not None]
    required = _required_seeds(candidates, manifest)
    for row in candidates:
        if not required <= set(row.seeds):
            row.status, row.reason = "unranked", f"{len(required & set(row.seeds))} of {len(required)} seeds"
        elif required != set(manifest.seeds):
            row.status, row.reason = "provisional", f"{len(required)} of {len(manifest.seeds)} seeds"
    candidates = [row for row in candidates if row.status in ("ranked", "provisional")]
    for track in manifest.tracks:
        _rank([row for row in candidates if row.first.track == track], manifest)
    _differences(rows, candidates, manifest)


def _required_seeds(rows: list[Row], manifest: Manifest) -> set[int]:
    """The board's seeds if any row has them all; else the largest set that a row has."""
    board = set(manifest.seeds)
    own = [set(row.seeds) & board for row in rows]
    return max(own, key=len, default=board) or board


def _rank(rows: list[Row], manifest: Manifest) -> None:
    ranked = [(row, row.ranking) for row in rows if row.ranking is not None]
    if not ranked:
        return
    better = manifest.column(manifest.rank_by).better
    spread = np.array([spread for _, (_, spread) in ranked])
    if spread.shape[1] < replicates_to_rank(len(ranked), manifest.alpha):
        for row, _ in ranked:
            row.status, row.reason = "unranked", "too few resamplings to tell so many methods apart"
        return
    places = ranks([value for _, (value, _) in ranked], spread, better, manifest.alpha)
    for (row, _), place in zip(ranked, places, strict=True):
        if place is None:
            row.status, row.reason = "unranked", "a declared group has no test patients"
        else:
            row.rank, row.rank_high = place


def _differences(rows: list[Row], candidates: list[Row], manifest: Manifest) -> None:
    baseline = next((r for r in candidates if r.first.method.name == manifest.baseline and r.ranking is not None), None)
    if baseline is None or baseline.ranking is None:
        return
    definition = manifest.column(manifest.rank_by)
    from robustbench_spur.evaluators.metric import Metric

    change = Metric(f"difference in {definition.name}", low=-1.0, high=1.0)
    for row in rows:
        if row is baseline:
            row.difference = Estimate(None, reason="the baseline itself")
        elif row.ranking is not None and set(row.seeds) == set(baseline.seeds):
            value, spread = row.ranking[0] - baseline.ranking[0], row.ranking[1] - baseline.ranking[1]
            row.difference = estimate(change, value, spread, manifest.bootstrap.confidence)


def _order(row: Row, manifest: Manifest) -> tuple[Any, ...]:
    known = [pin.name for pin in manifest.splits]
    place = known.index(row.split) if row.split in known else len(known)
    track = manifest.tracks.index(row.first.track)
    value = row.values.get(manifest.rank_by)
    score = value.value if isinstance(value, Estimate) and value.value is not None else -1.0
    return place, row.table, track, row.rank is None, -score, row.first.method.name
