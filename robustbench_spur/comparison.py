"""Methods compared in pairs on the same patients and seeds, with the p values of a whole table corrected together.

The difference of two methods is taken resampling by resampling: what makes a patient hard for both of them cancels.

Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8 (pairs); S. Holm, Scandinavian Journal
of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.coverage import belongs
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.home import Home
from robustbench_spur.intervals import across_seeds
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Record, RecordStore, read_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.rows import Latest, Row, make_row, newest
from robustbench_spur.scoring import Scorer, load_evaluators, metric_of, point, population
from robustbench_spur.statistics import holm, paired_p_value, replicates_to_test
from robustbench_spur.store import Store
from robustbench_spur.types import Estimate, SpurbenchError, finite, nearest

Floats = NDArray[np.float64]
CHANGE = Metric("difference between two methods", low=-math.inf, high=math.inf)

MOST_REPLICATES = 20_000
"""Most resamplings that are drawn for p values: with a handful of patients no number resolves a table of many pairs."""


@dataclass(frozen=True)
class Quantity:
    """What is compared.

    Args:
        name: as it was asked for.
        evaluator: that measures it.
        metric: of the evaluator.
        partition: on which.
    """

    name: str
    evaluator: Evaluator
    metric: str
    partition: str

    @property
    def better(self) -> str:
        """``"higher"``, ``"lower"`` or ``"neither"``."""
        return metric_of(self.evaluator, self.metric).better


def quantity(text: str, manifest: Manifest, evaluators: Mapping[str, Evaluator]) -> Quantity:
    """A column of the board by its name, or any metric of its evaluators on test, as ``metric`` or ``evaluator/metric``.

    Raises:
        SpurbenchError: there is none, or several evaluators have it.
    """
    for column in manifest.columns:
        if column.name == text and column.metric is not None:
            return Quantity(text, evaluators[column.evaluator], column.metric, column.partition)
    owner, slash, metric = text.partition("/")
    if not (slash and owner in evaluators):
        owner, metric = "", text
    found = [e for e in evaluators.values() if owner in ("", e.name) and _has(e, metric)]
    if len(found) == 1:
        return Quantity(text, found[0], metric, "test")
    if found:
        raise SpurbenchError(f"Expected one metric, found {text!r} of several: {', '.join(_full(found, [metric]))}.")
    columns = [column.name for column in manifest.columns if column.metric]
    hint = nearest(text, list(dict.fromkeys(columns + _full(evaluators.values()))))
    if not hint.startswith("Did you mean"):
        hint = f"Known: {', '.join(columns)}, and EVALUATOR/METRIC as spurbench describe EVALUATOR lists them."
    raise SpurbenchError(f"Unknown metric {text!r}. {hint}")


def _has(evaluator: Evaluator, metric: str) -> bool:
    family, colon, member = metric.partition(":")
    return f"{family}:" in evaluator.metrics if colon and member else metric in evaluator.metrics and not colon


def _full(evaluators: Iterable[Evaluator], metrics: Sequence[str] = ()) -> list[str]:
    return [f"{one.name}/{metric}" for one in evaluators for metric in metrics or one.metrics]


@dataclass(frozen=True)
class Difference:
    """Two methods on one split.

    Args:
        split: in full.
        metric: as it was asked for.
        first: name of a method.
        second: name of the other.
        values: of both, means over the seeds.
        difference: first minus second, mean over the seeds, with its interval over patients.
        sd: standard deviation of the difference over the seeds; None for one seed.
        joint: the difference with the interval over patients and seeds; see
            :func:`~robustbench_spur.intervals.across_seeds`.
        p: two-sided, of no difference; None where it is undefined.
        p_holm: corrected for all comparisons of the table.
        better: name of the method that is better at the board's level; None where this is not resolved.
        seeds: that both have.
        patients: that were resampled.
        remark: what to beware of.
    """

    split: str
    metric: str
    first: str
    second: str
    values: tuple[float | None, float | None]
    difference: Estimate
    sd: float | None
    joint: Estimate
    p: float | None
    p_holm: float | None
    better: str | None
    seeds: tuple[int, ...]
    patients: int
    remark: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON values: the contract of ``compare --json``."""
        return {
            "split": self.split,
            "metric": self.metric,
            "first": self.first,
            "second": self.second,
            "first_value": self.values[0],
            "second_value": self.values[1],
            "difference": self.difference.as_dict(),
            "sd_over_seeds": self.sd,
            "difference_over_seeds": self.joint.as_dict(),
            "p": self.p,
            "p_holm": self.p_holm,
            "better": self.better,
            "seeds": list(self.seeds),
            "patients": self.patients,
            "remark": self.remark,
        }


@dataclass(frozen=True)
class Measurement:
    """One method on one split with one seed.

    Args:
        value: of the metric.
        spread: its replicates, shape (resamples,).
        patients: that were resampled.
        support: of them, those behind the metric, where the evaluator says how many.
    """

    value: float
    spread: Floats
    patients: int
    support: int | None


class Comparison:
    """Reads the records of a home and compares methods.

    Args:
        home: folder of results.
        manifest: of the board.
        plugin_files: drafts of plugins.
    """

    def __init__(self, home: Home, manifest: Manifest, plugin_files: tuple[Path, ...] = ()) -> None:
        self.manifest, self.store = manifest, RecordStore(home.records, home.predictions)
        self.evaluators = {e.name: e for e in load_evaluators(Registry(plugin_files), manifest.evaluators)}
        self.scorer = Scorer(Store(home.root / "scores"), manifest.bootstrap)
        records = [record for record in self.store if belongs(record, manifest)]
        latest = Latest(records)
        made = (make_row(own, manifest, latest) for own in newest(records, manifest).values())
        self.rows = [row for row in made if row is not None]
        self._kept: dict[tuple[str, str, int, int], Measurement] = {}

    def splits(self, methods: Sequence[str]) -> list[str]:
        """The splits on which all of the methods have been measured, in the board's order.

        Raises:
            SpurbenchError: there is none.
        """
        measured = {(row.split, row.first.method.name) for row in self.rows if row.seeds}
        order = [pin.name for pin in self.manifest.splits]
        found = [
            one for one in dict.fromkeys(row.split for row in self.rows) if {(one, m) for m in methods} <= measured
        ]
        if not found:
            seeds = " ".join(map(str, self.manifest.seeds))
            raise SpurbenchError(
                f"No split has records of all of {', '.join(methods)}. Run: spurbench run --method {' '.join(methods)}"
                f" --split {order[0]} --seed {seeds}"
            )
        return sorted(found, key=lambda split: (order.index(split) if split in order else len(order), split))

    def row(self, method: str, split: str) -> Row:
        """The row of a method on a split: that which follows the board's rules, with the method's own settings.

        Raises:
            SpurbenchError: there is none, or there are several.
        """
        own = [row for row in self.rows if (row.split, row.first.method.name) == (split, method)]
        measured = [row for row in own if row.seeds]
        if not measured:
            seeds = " ".join(map(str, self.manifest.seeds))
            state = f"No finished record of {method} on {split}"
            why = f" ({own[0].status.replace('_', ' ')}: {own[0].reason})" if own else ""
            raise SpurbenchError(f"{state}{why}. Run: spurbench run --method {method} --split {split} --seed {seeds}")
        ruled = [row for row in measured if row.status == "ranked"] or measured
        plain = [row for row in ruled if not row.first.method.given] or ruled
        if len(plain) > 1:
            raise SpurbenchError(
                f"Expected one configuration of {method} on {split}, found {len(plain)}, none of them the board's. Keep"
                " them in homes of their own (SPURBENCH_HOME), or run the board's."
            )
        return plain[0]

    def table(self, methods: Sequence[str], splits: Sequence[str], metrics: Sequence[str] = ()) -> list[Difference]:
        """Every pair of the methods on every split in every metric, p values corrected over all of them.

        Args:
            methods: at least two different names.
            splits: in full; empty for those on which all have been measured.
            metrics: as :func:`quantity` takes them; empty for the one that ranks the board.

        Raises:
            SpurbenchError: fewer than two methods, or records that are not there or cannot be paired.
        """
        names = list(dict.fromkeys(methods))
        if len(names) < 2:
            raise SpurbenchError(
                f"Expected at least two different methods to compare, found {' '.join(names) or 'none'}."
            )
        wanted = [quantity(text, self.manifest, self.evaluators) for text in metrics or (self.manifest.rank_by,)]
        rows = [
            (self.row(a, on), self.row(b, on)) for on in splits or self.splits(names) for a, b in combinations(names, 2)
        ]
        pairs = [(one, what) for one in rows for what in wanted]
        found = [self._difference(*one, what, len(pairs)) for one, what in pairs]
        corrected = holm([p for _, p in found]).tolist()
        return [self._judged(one, p, adjusted) for (one, p), adjusted in zip(found, corrected, strict=True)]

    def _difference(self, one: Row, two: Row, what: Quantity, tests: int) -> tuple[Difference, float]:
        """A pair before its p value is corrected for so many tests, and that p value."""
        seeds, count = _shared_seeds(one, two), self.manifest.bootstrap.replicates
        sides = [[self._measured(row, seed, what, count) for seed in seeds] for row in (one, two)]
        values = np.array([[of.value for of in side] for side in sides])
        fewest = min((of.support for side in sides for of in side if of.support is not None), default=None)
        spread = self._spread(one, two, what, count)
        over = across_seeds(CHANGE, values[0] - values[1], spread, self.manifest.bootstrap.confidence, patients=fewest)
        needed = min(replicates_to_test(tests, self.manifest.alpha, fewest), MOST_REPLICATES)
        if needed > count:
            spread = self._spread(one, two, what, needed)
        remarks = [f"{row.first.method.name}: {row.reason}" for row in (one, two) if row.reason]
        found = Difference(
            split=one.split,
            metric=what.name,
            first=one.first.method.name,
            second=two.first.method.name,
            values=(finite(values[0].mean()), finite(values[1].mean())),
            difference=over.mean,
            sd=over.sd,
            joint=over.joint,
            p=None,
            p_holm=None,
            better=None,
            seeds=seeds,
            patients=sides[0][0].patients,
            remark="; ".join(remarks),
        )
        defined = over.mean.value is not None
        return found, paired_p_value(spread.mean(axis=0), patients=fewest) if defined else math.nan

    def _spread(self, one: Row, two: Row, what: Quantity, count: int) -> Floats:
        """Replicates of the difference, shape (seeds, count)."""
        seeds = _shared_seeds(one, two)
        of_one, of_two = ([self._measured(row, seed, what, count).spread for seed in seeds] for row in (one, two))
        return np.array(of_one) - np.array(of_two)

    def _judged(self, found: Difference, p: float, corrected: float) -> Difference:
        """The pair with its p values, and which method is better."""
        better, change = quantity(found.metric, self.manifest, self.evaluators).better, found.difference.value
        winner = None
        if corrected <= self.manifest.alpha and change and better != "neither":
            winner = found.first if (change > 0) == (better == "higher") else found.second
        return Difference(**{**vars(found), "p": finite(p), "p_holm": finite(corrected), "better": winner})

    def _measured(self, row: Row, seed: int, what: Quantity, count: int) -> Measurement:
        """Value and replicates of a seed: those of the test patients, or the mean over the folds of a protocol."""
        key = (row.first.identity.configuration, what.name, seed, count)
        if key not in self._kept:
            records = [record for record in row.measured if record.seed == seed]
            parts = [self._predictions(record, what) for record in records]
            everybody = population([part for _, part in parts])
            among = everybody if len(parts) > 1 else None
            points = [point(what.evaluator, part) for _, part in parts]
            if what.metric not in points[0]:
                raise SpurbenchError(f"Unknown metric {what.name!r}. {nearest(what.metric, list(points[0]))}")
            spread = self.scorer.more_replicates(what.evaluator, parts, what.metric, count, among)
            value = float(np.mean([one[what.metric] for one in points]))
            behind = [what.evaluator.support(part).get(what.metric) for _, part in parts]
            support = min((one for one in behind if one is not None), default=None)
            self._kept[key] = Measurement(value, spread.mean(axis=0), len(everybody.patients), support)
        return self._kept[key]

    def _predictions(self, record: Record, what: Quantity) -> tuple[str, Predictions]:
        """The predictions of a record, with the name that their replicates are kept under."""
        pin = next(pin for pin in self.manifest.evaluators if pin.name == what.evaluator.name)
        pinned = record.evaluators.get(pin.name) == {"version": pin.version, "parameters": pin.parameters}
        if record.split is None or record.predictions is None or (what.evaluator.collects and not pinned):
            raise SpurbenchError(
                f"Expected {record.method.name} on {record.identity.split['name']} measured by {pin.name} with the board's"
                f" settings, found otherwise. Run: spurbench run --method {record.method.name} --split"
                f" {record.identity.split['name']} --seed {record.seed}"
            )
        part = read_predictions(self.store.arrays(record), record.split, what.partition)
        return f"{record.predictions.sha256}/{what.partition}", part


def _shared_seeds(one: Row, two: Row) -> tuple[int, ...]:
    """The seeds that both rows have, on the same patients and with networks of one kind.

    Raises:
        SpurbenchError: they have none in common, or cannot be paired.
    """
    names = " and ".join(row.first.method.name for row in (one, two))
    if one.table != two.table:
        raise SpurbenchError(
            f"Expected {names} with one network on {one.split}, found {one.table[1:]}, {two.table[1:]}."
        )
    tables = [{(r.identity.split["name"], r.identity.split["sha256"]) for r in row.measured} for row in (one, two)]
    if tables[0] != tables[1]:
        raise SpurbenchError(
            f"Expected {names} on the same patients of {one.split}, found different tables. Run the older of them again."
        )
    seeds = tuple(seed for seed in one.seeds if seed in two.seeds)
    if not seeds:
        missing = " ".join(map(str, one.seeds))
        raise SpurbenchError(
            f"Expected {names} on {one.split} with a seed in common, found {one.seeds} and {two.seeds}. Run: spurbench run"
            f" --method {two.first.method.name} --split {one.split} --seed {missing}"
        )
    return seeds
