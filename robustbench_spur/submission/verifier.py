"""Verifying an entry: nothing of it is run, nothing that it states is believed.

What can be recomputed from the predictions is recomputed. What cannot (attacks, slices rendered otherwise) is left to the
weights, or to a repeated run: see :mod:`robustbench_spur.submission.again`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.manifest import Manifest, manifest_sha256
from robustbench_spur.record import Record
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import load_evaluators, point
from robustbench_spur.submission.archives import check_weights, read_arrays
from robustbench_spur.submission.entry import ENTRY, Cell, Entry, load_entry, read_record
from robustbench_spur.submission.likeness import Said, copied, likenesses
from robustbench_spur.submission.methodchecks import check_method, check_settings
from robustbench_spur.submission.predictionchecks import check_claims, check_metrics, predictions_of
from robustbench_spur.submission.recordchecks import check_record
from robustbench_spur.submission.remarks import FaultError, Remark, quoted, shown
from robustbench_spur.submission.safely import LIMITS, Limits, check_file, listed


@dataclass(frozen=True)
class Known:
    """What the board's other entries say, to hold a new one against.

    Args:
        said: what each of their cells says.
        best: highest value of the ranking column, by split and track.
    """

    said: tuple[Said, ...] = ()
    best: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass
class Verdict:
    """What was found.

    Args:
        folder: that was verified.
        entry: what it states; None where that cannot be read.
        remarks: all that was noticed.
        cells: number of cells whose numbers were recomputed.
        said: what the cells say on the ranking column's partition.
        ranking: value of the ranking column, by split and seed.
    """

    folder: Path
    entry: Entry | None = None
    remarks: list[Remark] = field(default_factory=list)
    cells: int = 0
    said: list[Said] = field(default_factory=list)
    ranking: dict[tuple[str, int], float] = field(default_factory=dict)

    def of(self, level: str) -> list[Remark]:
        """The remarks of a level."""
        return [one for one in self.remarks if one.level == level]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not self.of("fault")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": shown(str(self.folder)),
            "entry": self.entry.id if self.entry else None,
            "method": self.entry.method.name if self.entry else None,
            "team": self.entry.team if self.entry else None,
            "verdict": "rejected" if not self.sound else "for a person" if self.of("flag") else "verified",
            "cells": self.cells,
            "remarks": [one.as_dict() for one in self.remarks],
        }


class Verifier:
    """Verifies entries of one board.

    Args:
        manifest: of the board, as it is installed: never what a submission brings.
        known: what other entries say.
        limits: how much is read.

    Attributes:
        read: record and predictions by partition of every cell of the entry that was verified last.
    """

    def __init__(self, manifest: Manifest, known: Known | None = None, limits: Limits = LIMITS) -> None:
        self.manifest, self.known, self.limits = manifest, known or Known(), limits
        self.ranking = manifest.column(manifest.rank_by)
        self.read: dict[tuple[str, int], tuple[Record, Mapping[str, Predictions]]] = {}

    @cached_property
    def evaluators(self) -> list[Evaluator]:
        """Those of the board, with its settings."""
        return load_evaluators(Registry(), self.manifest.evaluators)

    def verify(self, folder: Path) -> Verdict:
        """Everything that can be said of an entry without running anything of it."""
        verdict = Verdict(folder)
        self.read.clear()
        try:
            there = listed(folder, self.limits)
            entry = verdict.entry = load_entry(folder, self.limits)
            verdict.remarks += self._check_entry(entry, folder, there)
            for cell in entry.cells:
                verdict.remarks += self._check_cell(cell, entry, folder, verdict)
            verdict.remarks += self._check_whole(entry, verdict)
        except FaultError as fault:
            verdict.remarks.append(fault.remark)
        except OSError as error:
            told = f"a file that cannot be read ({error.strerror})"
            verdict.remarks.append(Remark("fault", "", told, "readable files", "Check permissions and disk."))
        except Exception as error:  # a stranger's entry stops no other's: what no check foresaw is a fault, too
            verdict.remarks.append(unforeseen(ENTRY, error))
        return verdict

    def _check_entry(self, entry: Entry, folder: Path, there: Mapping[str, int]) -> Iterator[Remark]:
        """The entry against the manifest, and its list against what is there."""
        remedy = "Run the cells on this board, and pack the entry again."
        if entry.board != self.manifest.board:
            yield Remark("fault", ENTRY, f"board {quoted(entry.board)}", f"board {self.manifest.board}", remedy)
        elif entry.manifest_sha256 != manifest_sha256(self.manifest.board):
            expected = f"{manifest_sha256(self.manifest.board)[:16]}, that of {self.manifest.board}"
            yield Remark("fault", ENTRY, f"manifest {entry.manifest_sha256[:16]}", expected, remedy)
        listed_files = {one.file: one for one in entry.files} | {ENTRY: None}
        for name in there:
            if name not in listed_files:
                yield Remark("fault", name, "a file that the entry does not list", "what it lists alone", "Remove it.")
        yield from check_method(entry, folder)

    def _check_cell(self, cell: Cell, entry: Entry, folder: Path, verdict: Verdict) -> list[Remark]:
        """A cell's record and predictions."""
        try:
            record = self._record(cell, folder)
            found = list(check_record(record, cell, entry, self.manifest))
            found += check_settings(record, entry, cell.record.file)
            if cell.weights is not None:
                file = cell.weights
                check_weights(check_file(folder, file.file, file.sha256, file.bytes), file.file)
            self.read[cell.split, cell.seed] = record, {}
            if record.status != "done":
                return found
            if cell.predictions is None:
                told, remedy = "numbers without predictions", "It is shown as claimed, unranked."
                found += check_claims(record, self.evaluators, self.manifest, cell.record.file)
                return [*found, Remark("warning", cell.record.file, told, "predictions", remedy)]
            if any(one.level == "fault" for one in found):
                return found  # of another split or board: there is nothing to hold its predictions against
            predictions = self._predictions(cell, record, folder)
            found += check_metrics(record, predictions, self.evaluators, self.manifest, cell.record.file)
            if not any(one.level == "fault" for one in found):
                self._note(cell, predictions, verdict)
                verdict.cells += 1
            return found
        except FaultError as fault:
            return [fault.remark]
        except Exception as error:  # as in verify: the other cells are looked at all the same
            return [unforeseen(cell.record.file, error)]

    def _record(self, cell: Cell, folder: Path) -> Record:
        path = check_file(folder, cell.record.file, cell.record.sha256, cell.record.bytes)
        record = read_record(path, cell.record.file, self.limits)
        stated, file = record.predictions, cell.predictions
        found = f"predictions {quoted(stated.file)} ({quoted(stated.sha256[:12])})" if stated else "no predictions"
        listed = f"predictions {Path(file.file).name!r} ({file.sha256[:12]!r})" if file else "no predictions"
        if found != listed or (stated and file and stated.sha256 != file.sha256):
            raise FaultError(cell.record.file, found, f"{listed}, as the entry lists", "Pack the entry again.")
        return record

    def _predictions(self, cell: Cell, record: Record, folder: Path) -> dict[str, Predictions]:
        file = cell.predictions
        if file is None:
            raise FaultError(cell.record.file, "no predictions", "a file of predictions", "Add it.")
        path = check_file(folder, file.file, file.sha256, file.bytes)
        collected = [name for one in self.evaluators for name in one.collects]
        arrays = read_arrays(path, file.file, self.limits)
        found = predictions_of(record, arrays, self.manifest, file.file, collected)
        self.read[cell.split, cell.seed] = record, found
        return found

    def _note(self, cell: Cell, predictions: Mapping[str, Predictions], verdict: Verdict) -> None:
        """What of a cell is held against other entries."""
        rows = predictions.get(self.ranking.partition)
        if rows is None:
            return
        name = verdict.entry.id if verdict.entry else ""
        verdict.said.append(Said.of(name, cell.split, cell.seed, rows))
        metric = str(self.ranking.metric)
        evaluator = next(one for one in self.evaluators if one.name == self.ranking.evaluator)
        verdict.ranking[cell.split, cell.seed] = point(evaluator, rows, (metric,))[metric]

    def _check_whole(self, entry: Entry, verdict: Verdict) -> Iterator[Remark]:
        """Seeds, copies, and results that are too good."""
        seeds: dict[str, set[int]] = defaultdict(set)
        for cell in entry.cells:
            seeds[cell.split].add(cell.seed)
        for split, own in seeds.items():
            if missing := set(self.manifest.seeds) - own:
                told = f"seeds {', '.join(map(str, sorted(own)))} of {quoted(split)}"
                yield Remark(
                    "warning",
                    ENTRY,
                    told,
                    f"seeds {', '.join(map(str, self.manifest.seeds))}",
                    f"Without seed {min(missing)} the row is shown, unranked.",
                )
        yield from self._copies(verdict)
        yield from self.too_good(entry, verdict)

    def _copies(self, verdict: Verdict) -> Iterator[Remark]:
        """Predictions that are another cell's."""
        yield from (copied(one) for one in likenesses([*self.known.said, *verdict.said]) if one.own in verdict.said)
        yield from (copied(one) for one in likenesses(verdict.said, within=True))

    def too_good(self, entry: Entry, verdict: Verdict) -> Iterator[Remark]:
        """A ranking value far above the best that is known on the split and track."""
        margin = self.manifest.tolerances.get("suspiciously_good")
        sign = 1 if self.ranking.better == "higher" else -1
        for split in dict.fromkeys(key[0] for key in verdict.ranking) if margin is not None else ():
            values = [value for key, value in verdict.ranking.items() if key[0] == split]
            mean, best = sum(values) / len(values), self.known.best.get((split, entry.track))
            if best is not None and margin is not None and sign * (mean - best) > margin:
                told = f"{self.ranking.title} {mean:.3f} on {split}"
                yield Remark(
                    "flag",
                    ENTRY,
                    told,
                    f"at most {margin:g} beyond the best so far, {best:.3f}",
                    "A person looks at it.",
                )


def unforeseen(name: str, error: Exception) -> Remark:
    """A fault that no check has words for.

    Args:
        name: of the file.
        error: that a check ended in.
    """
    told, remedy = (
        f"{type(error).__name__}: {quoted(error)}",
        "Tell the maintainers: a check should have said what it is.",
    )
    return Remark("fault", name, told, "an entry that can be verified", remedy)


def known_of(verdicts: Iterable[Verdict], better: str = "higher") -> Known:
    """What entries say, to hold further ones against.

    Args:
        verdicts: of entries that were taken in.
        better: direction of the ranking column.
    """
    extreme = max if better == "higher" else min
    said: list[Said] = []
    best: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        if verdict.entry is None:
            continue
        said += verdict.said
        for split in {key[0] for key in verdict.ranking}:
            values = [value for key, value in verdict.ranking.items() if key[0] == split]
            place, mean = (split, verdict.entry.track), sum(values) / len(values)
            if math.isfinite(mean):
                best[place] = extreme(mean, best.get(place, mean))
    return Known(tuple(said), best)
