"""From records to the rows of a table: which records count, whether the row may be ranked, and its values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.coverage import departure
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.protocols import FOLDS
from robustbench_spur.record import Record
from robustbench_spur.scoring import Patients, Scorer, metric_of, point, population
from robustbench_spur.standing import Standing
from robustbench_spur.statistics import estimate
from robustbench_spur.types import Estimate

Floats = NDArray[np.float64]
UNCHECKED = "needs the weights, or a run repeated by the maintainers"
"""Why a number is missing that cannot be computed again from predictions."""
FAILED, DEPARTING, RULED = range(3)
"""How a record counts: not done; done, but not by the board's rules; done by them."""


@dataclass
class Row:
    """One configuration (method with settings, split, network, selection) over its seeds, and over the folds of a protocol.

    Args:
        records: the newest record of each seed and fold; of a row that follows the board's rules, those that do, and failures.
        status: ``"ranked"``, ``"provisional"`` (ranked, but seeds of the board are missing), ``"unranked"``, ``"failed"``,
            ``"not_applicable"``.
        reason: why it is not ranked, or what to beware of.
        values: of every column, by its name.
        rank: the best rank that the patients allow.
        rank_high: the worst rank that the patients allow.
        difference: from the baseline on the same patients and seeds, in the column that ranks.
        ranking: value in the column that ranks, and its replicates, shape (replicates,); None where it has none.
        support: patients behind that value, of the seed that has the fewest; None where the evaluator does not say.
        standing: whose it is, and how far it can be trusted.
        more: gives as many replicates of that column as it is asked for.
    """

    records: list[Record]
    status: str
    reason: str
    values: dict[str, Any] = field(default_factory=dict)
    rank: int | None = None
    rank_high: int | None = None
    difference: Estimate = field(default_factory=lambda: Estimate(None, reason="no baseline with the same seeds"))
    ranking: tuple[float, Floats] | None = None
    support: int | None = None
    standing: Standing = field(default_factory=Standing)
    more: Callable[[int], Floats] | None = None

    @property
    def first(self) -> Record:
        """Any of its records: they differ in the seed alone."""
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """Seeds that have been measured, on every fold where the split is cut into folds."""
        return sorted(seed for seed, folds in self.folds_by_seed().items() if len(folds) == self.folds)

    @property
    def folds(self) -> int:
        """Number of folds that are averaged; 1 for a split as it is."""
        return FOLDS if "family" in self.first.identity.split else 1

    def folds_by_seed(self) -> dict[int, set[str]]:
        """Names of the folds that have been measured, by seed."""
        done: dict[int, set[str]] = defaultdict(set)
        for record in self.records:
            if record.status == "done":
                done[record.seed].add(str(record.identity.split["name"]))
        return done

    @property
    def measured(self) -> list[Record]:
        """The records that the values are means of: those that are done, of the seeds that have every fold."""
        return [record for record in self.records if record.status == "done" and record.seed in self.seeds]

    @property
    def split(self) -> str:
        """The split in full, without the number of the fold where folds are averaged."""
        return self.first.identity.family

    @property
    def table(self) -> tuple[str, str, int]:
        """What must be equal for two rows to be compared: split, backbone, image size."""
        return self.split, self.first.network.backbone, self.first.network.image_size

    def as_dict(self, columns: Sequence[Column] = ()) -> dict[str, Any]:
        """The row as JSON values: the contract of ``leaderboard --json``.

        Args:
            columns: of the board; those that the row has no value for are null.
        """
        record = self.first
        nothing = Estimate(None, reason="not measured")
        values = {column.name: nothing if column.metric else None for column in columns} | self.values
        values = {name: v.as_dict() if isinstance(v, Estimate) else v for name, v in values.items()}
        return {
            "method": record.method.name,
            "split": self.split,
            "seeds": self.seeds,
            "track": record.track,
            "backbone": record.network.backbone,
            "image_size": record.network.image_size,
            "device": record.identity.numerics.get("device"),
            "selection": record.selection,
            "settings": record.method.given,
            "tier": self.standing.tier,
            "entry": self.standing.entry,
            "team": self.standing.team,
            "status": self.status,
            "reason": self.reason,
            "rank": self.rank,
            "rank_high": self.rank_high,
            "config_hash": record.config_hash,
            "difference_from_baseline": self.difference.as_dict(),
            **values,
        }


class Latest:
    """What was run last under a name: of a method its version (of a draft its text), of a split its table.

    Args:
        records: oldest first.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._codes: dict[str, tuple[int, str]] = {}
        self._tables: dict[str, str] = {}
        self._engine = 0
        for record in records:
            self._codes[record.method.name] = _code(record)
            self._engine = max(self._engine, record.identity.engine)
            self._tables[record.identity.split["name"]] = record.identity.split["sha256"]

    def outdated(self, record: Record) -> str:
        """Why a record may not stand beside the newest ones; empty where it may."""
        code, now = _code(record), self._codes[record.method.name]
        if record.identity.engine != self._engine:
            return f"engine v{record.identity.engine}, run since with v{self._engine}"
        if code[0] != now[0]:
            return f"method v{code[0]}, run since as v{now[0]}"
        if code != now:
            return "the method's file was changed since"
        if record.identity.split["sha256"] != self._tables[record.identity.split["name"]]:
            return "the split's table was changed since"
        return ""


def _code(record: Record) -> tuple[int, str]:
    """Version of the method and, of a draft, the hash of its text: what is part of the identity."""
    return record.method.version, str(record.identity.method.get("sha256", ""))


def newest(records: Iterable[Record], manifest: Manifest) -> dict[str, list[Record]]:
    """The record that counts for each seed, and for each fold of a protocol, by configuration.

    It is the newest of those that follow the board's rules, else the newest that is done, else the newest. Where one of
    a configuration follows the rules, those that do not (measured by a part of the evaluators, say) are left out, and so
    are seeds beyond the board's: a row that everybody can compare with has the board's seeds.

    Args:
        records: oldest first.
        manifest: of the board.
    """
    chosen: dict[str, dict[tuple[int, str], tuple[int, Record]]] = defaultdict(dict)
    for record in records:
        standing, cell = _standing(record, manifest), (record.seed, str(record.identity.split["name"]))
        row = chosen[record.identity.configuration]
        other, _ = row.get(cell, (FAILED, record))
        if standing >= other:
            row[cell] = standing, record
    rows = {}
    for key, cells in chosen.items():
        best = max(standing for standing, _ in cells.values())
        left_out = DEPARTING if best == RULED else None
        kept = [record for _, (standing, record) in sorted(cells.items()) if standing != left_out]
        own = [record for record in kept if record.seed in manifest.seeds]
        rows[key] = own if own and best == RULED else kept
    return rows


def _standing(record: Record, manifest: Manifest) -> int:
    if record.status != "done":
        return FAILED
    return DEPARTING if record.off_board or departure(record, manifest) else RULED


def make_row(records: list[Record], manifest: Manifest, latest: Latest) -> Row | None:
    """The row of a configuration, its values still empty.

    Args:
        records: of the configuration, as :func:`newest` gives them.
        manifest: of the board.
        latest: what else was run.

    Returns:
        None where nothing was measured and the method or the board has changed since: what was run then says nothing.
    """
    done = [record for record in records if record.status == "done"]
    record = done[0] if done else records[0]
    old = latest.outdated(record) or ("" if record.off_board else departure(record, manifest))
    if not done:
        return None if old else Row(records, record.status, record.reason)
    if record.off_board:
        return Row(records, "unranked", f"not the board's: {', '.join(record.off_board)}")
    row = Row(records, "ranked", "")
    if not row.seeds and not old:
        most = max(map(len, row.folds_by_seed().values()))
        return Row(records, "unranked", f"{most} of {row.folds} folds")
    return Row(records, "unranked", f"stale: {old}; run again") if old else row


def claim(row: Row, manifest: Manifest) -> None:
    """Give a row the numbers that its records state, without intervals and without a rank: there is nothing to compute with.

    Args:
        row: of records without predictions.
        manifest: of the board.
    """
    row.status, row.reason = "unranked", "claimed: no predictions were given"
    done = [record for record in row.records if record.status == "done"]
    for column in manifest.columns:
        stated = [record.metrics.get(column.partition, {}).get(column.evaluator, {}) for record in done]
        values = [one.get(column.metric, {}).get("value") for one in stated] if column.metric else []
        if column.metric and values and all(isinstance(value, int | float) for value in values):
            row.values[column.name] = Estimate(float(np.mean(values)), reason="claimed")
        else:
            row.values[column.name] = Estimate(None, reason="not claimed") if column.metric else None


Seed = tuple[dict[str, float], dict[str, Floats], dict[str, int]]
"""Of the predictions of one seed: point values, replicates and patients behind them, by metric."""


class Measured:
    """Fills the values of a row from the predictions of its records.

    Args:
        row: to fill.
        predictions: gives those of a record, by partition.
        scorer: gives resampled values.
        evaluators: of the board, by name.
        manifest: of the board.
    """

    def __init__(
        self,
        row: Row,
        predictions: Callable[[Record], Mapping[str, Predictions]],
        scorer: Scorer,
        evaluators: Mapping[str, Evaluator],
        manifest: Manifest,
    ) -> None:
        self.row, self.predictions, self.scorer = row, predictions, scorer
        self.evaluators, self.manifest = evaluators, manifest
        self._done = row.measured
        self._patients_of: dict[str, Patients] = {}
        self._predictions: dict[str, list[tuple[str, Predictions]]] = {}
        self._seeds: dict[tuple[str, str], list[Seed]] = {}

    def fill(self) -> None:
        """Set ``values`` and what the ranking needs."""
        files = [self.predictions(record) for record in self._done]
        for partition in self.manifest.partitions:
            if all(partition in own for own in files):
                self._predictions[partition] = self._named(partition, files)
                self._patients_of[partition] = self._resampled(partition)
        self.row.values = {column.name: self._value(column) for column in self.manifest.columns}
        ranking = self.manifest.column(self.manifest.rank_by)
        if ranking.metric and self._has(ranking):
            value, spread = self._mean(ranking, ranking.metric)
            self.row.ranking, self.row.more = (value, spread), partial(self._more, ranking, ranking.metric)
            self.row.support = self._patients(ranking, ranking.metric)
            self._check_support()
        elif self.row.status == "ranked":
            self.row.status, self.row.reason = "unranked", f"no {ranking.title} on {ranking.partition}"
        self._predictions.clear()  # they are read again in the rare case that more replicates are needed

    def _resampled(self, partition: str) -> Patients:
        """The patients of all folds together, so that a resampling counts each alike in all of them; None for one fold."""
        if self.row.folds == 1:
            return None
        return population([rows for _, rows in self._predictions[partition]])

    def _named(self, partition: str, files: Sequence[Mapping[str, Predictions]]) -> list[tuple[str, Predictions]]:
        """The predictions of a partition, seed by seed, with the name that their replicates are kept under."""
        return [
            (f"{record.predictions.sha256}/{partition}", own[partition])
            for record, own in zip(self._done, files, strict=True)
            if record.predictions is not None
        ]

    def _has(self, column: Column) -> bool:
        """Whether the column can be computed: what collects of the model must have done so with the board's settings."""
        for record in self._done:
            about = record.evaluators.get(column.evaluator)
            pin = next(pin for pin in self.manifest.evaluators if pin.name == column.evaluator)
            collected = self.evaluators[column.evaluator].collects
            if about is None or (collected and about != {"version": pin.version, "parameters": pin.parameters}):
                return False
            if collected and not self.row.standing.collected:
                return False
            if any(
                array not in rows.arrays
                for _, rows in self._predictions.get(column.partition, ())
                for array in collected
            ):
                return False
        return column.partition in self._predictions

    def _why_absent(self, column: Column) -> str:
        """Why a column has no value: what a record says, as of an evaluator that the data set offers nothing to."""
        if self.evaluators[column.evaluator].collects and not self.row.standing.collected:
            return UNCHECKED
        noted = [record.details.get(column.partition, {}).get(column.evaluator, {}) for record in self._done]
        return next((str(about["not_applicable"]) for about in noted if "not_applicable" in about), "not evaluated")

    def _of(self, column: Column) -> list[Seed]:
        """What a column's evaluator gives, seed by seed."""
        key, evaluator = (column.evaluator, column.partition), self.evaluators[column.evaluator]
        if key not in self._seeds:
            found: list[Seed] = []
            for name, rows in self._predictions[column.partition]:
                needed, among = self._needed(column, evaluator, rows), self._patients_of[column.partition]
                points = point(evaluator, rows, needed)
                spread = self.scorer.replicates(evaluator, rows, name, among, needed)
                found.append((points, spread, evaluator.support(rows)))
            self._seeds[key] = found
        return self._seeds[key]

    def _needed(self, column: Column, evaluator: Evaluator, rows: Predictions) -> list[str]:
        """The metrics that columns of the same evaluator and partition show; only families have to be measured to be known."""
        kin = [c for c in self.manifest.columns if (c.evaluator, c.partition) == (column.evaluator, column.partition)]
        families = tuple(family for c in kin if (family := c.family or c.lowest))
        members = [name for name in point(evaluator, rows) if name.startswith(families)] if families else []
        return sorted({*members, *(c.metric for c in kin if c.metric)})

    def _mean(self, column: Column, metric: str) -> tuple[float, Floats]:
        """Mean over the seeds of a metric, and of its replicates."""
        seeds = self._of(column)
        value = float(np.mean([points[metric] for points, _, _ in seeds]))
        return value, np.mean([spread[metric] for _, spread, _ in seeds], axis=0)

    def _more(self, column: Column, metric: str, count: int) -> Floats:
        """Mean over the seeds of ``count`` replicates of a metric."""
        read = self._named(column.partition, [self.predictions(record) for record in self._done])
        among = self._patients_of[column.partition]
        spread = self.scorer.more_replicates(self.evaluators[column.evaluator], read, metric, count, among)
        return np.asarray(spread.mean(axis=0))

    def _value(self, column: Column) -> Any:
        if column.parameter is not None:
            return getattr(self.evaluators[column.evaluator].parameters, column.parameter)
        if not self._has(column):
            return Estimate(None, reason=self._why_absent(column)) if column.metric else None
        if column.metric is not None:
            return self._estimate(column, column.metric)
        family = str(column.family or column.lowest)
        names = [name for name in self._of(column)[0][0] if name.startswith(family)]
        members = {name.removeprefix(family): self._estimate(column, name) for name in names}
        if column.family is not None:
            return {member: one.as_dict() for member, one in members.items()}
        defined = {member: one.value for member, one in members.items() if one.value is not None}
        return min(defined, key=lambda member: defined[member]) if len(defined) == len(members) and defined else None

    def _estimate(self, column: Column, metric: str) -> Estimate:
        """Mean over the seeds, with the interval of that mean over the patients."""
        value, spread = self._mean(column, metric)
        definition = metric_of(self.evaluators[column.evaluator], metric)
        confidence = self.scorer.bootstrap.confidence
        return estimate(definition, value, spread, confidence, patients=self._patients(column, metric))

    def _patients(self, column: Column, metric: str) -> int | None:
        """Patients behind a metric, of the seed that has the fewest."""
        return min((support[metric] for _, _, support in self._of(column) if metric in support), default=None)

    def _check_support(self) -> None:
        fewest, least = self.row.support, self.manifest.minimum_patients
        if fewest is not None and fewest < least and self.row.status == "ranked":
            self.row.status = "unranked"
            self.row.reason = f"the worst group has {fewest} patients, fewer than {least}"
