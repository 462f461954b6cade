"""Verifying an entry: nothing of it is run, nothing that it states is believed.

What can be recomputed from the predictions is recomputed. What cannot (attacks, slices rendered otherwise) is left to the
weights, which :mod:`robustbench_spur.submission.weights` looks at, or to a repeated run.
"""

from __future__ import annotations

import ast
import hashlib
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
from robustbench_spur.submission.entry import ENTRY, Cell, Entry, load_entry, read_record
from robustbench_spur.submission.predictionchecks import check_metrics, predictions_of
from robustbench_spur.submission.recordchecks import check_record
from robustbench_spur.submission.remarks import FaultError, Remark, quoted
from robustbench_spur.submission.safely import LIMITS, Limits, check_file, listed, read_arrays

PLUGIN_BYTES = 1_000_000


@dataclass(frozen=True)
class Known:
    """What the board's other entries say, to hold a new one against.

    Args:
        logits: hash of the predictions of a cell, by what it is of; the value names the entry.
        best: highest value of the ranking column, by split and track.
    """

    logits: Mapping[str, str] = field(default_factory=dict)
    best: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass
class Verdict:
    """What was found.

    Args:
        folder: that was verified.
        entry: what it states; None where that cannot be read.
        remarks: all that was noticed.
        cells: number of cells whose numbers were recomputed.
        logits: hash of the predictions on the ranking column's partition, by split and seed.
        ranking: value of the ranking column, by split and seed.
    """

    folder: Path
    entry: Entry | None = None
    remarks: list[Remark] = field(default_factory=list)
    cells: int = 0
    logits: dict[tuple[str, int], str] = field(default_factory=dict)
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
            "folder": str(self.folder),
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
    """

    def __init__(self, manifest: Manifest, known: Known | None = None, limits: Limits = LIMITS) -> None:
        self.manifest, self.known, self.limits = manifest, known or Known(), limits
        self.ranking = manifest.column(manifest.rank_by)

    @cached_property
    def evaluators(self) -> list[Evaluator]:
        """Those of the board, with its settings."""
        return load_evaluators(Registry(), self.manifest.evaluators)

    def verify(self, folder: Path) -> Verdict:
        """Everything that can be said of an entry without running anything of it."""
        verdict = Verdict(folder)
        try:
            there = listed(folder, self.limits)
            entry = verdict.entry = load_entry(folder, self.limits)
            verdict.remarks += self._check_entry(entry, folder, there)
            for cell in entry.cells:
                verdict.remarks += self._check_cell(cell, entry, folder, verdict)
            verdict.remarks += self._check_whole(entry, verdict)
        except FaultError as fault:
            verdict.remarks.append(fault.remark)
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
        if entry.plugin is not None:
            yield from _check_plugin(entry, folder)
        elif entry.method.origin != "built-in":
            yield Remark(
                "fault",
                ENTRY,
                f"a method of origin {quoted(entry.method.origin)} without its source",
                "plugin.py",
                remedy,
            )

    def _check_cell(self, cell: Cell, entry: Entry, folder: Path, verdict: Verdict) -> list[Remark]:
        """A cell's record and predictions."""
        try:
            record = self._record(cell, folder)
            found = list(check_record(record, cell, entry, self.manifest))
            if record.status != "done":
                return found
            if cell.predictions is None:
                told = "numbers without predictions"
                return [
                    *found,
                    Remark("warning", cell.record.file, told, "predictions", "It is shown as claimed, unranked."),
                ]
            if any(one.level == "fault" for one in found):
                return found  # of another split or board: there is nothing to hold its predictions against
            predictions = self._predictions(cell, record, folder)
            tolerance = self.manifest.tolerances["metric"]
            found += check_metrics(record, predictions, self.evaluators, tolerance, cell.record.file)
            self._note(cell, predictions, verdict)
            verdict.cells += 1
            return found
        except FaultError as fault:
            return [fault.remark]

    def _record(self, cell: Cell, folder: Path) -> Record:
        path = check_file(folder, cell.record.file, cell.record.sha256, cell.record.bytes)
        record = read_record(path, cell.record.file, self.limits)
        stated, file = record.predictions, cell.predictions
        if (stated is None) != (file is None) or (stated and file and stated.sha256 != file.sha256):
            remedy = "Pack the entry again."
            raise FaultError(cell.record.file, "another file of predictions", "the one that the entry lists", remedy)
        return record

    def _predictions(self, cell: Cell, record: Record, folder: Path) -> dict[str, Predictions]:
        file = cell.predictions
        if file is None:
            raise FaultError(cell.record.file, "no predictions", "a file of predictions", "Add it.")
        path = check_file(folder, file.file, file.sha256, file.bytes)
        return predictions_of(record, read_arrays(path, file.file, self.limits), self.manifest, file.file)

    def _note(self, cell: Cell, predictions: Mapping[str, Predictions], verdict: Verdict) -> None:
        """What of a cell is held against other entries."""
        rows = predictions.get(self.ranking.partition)
        if rows is None:
            return
        verdict.logits[cell.split, cell.seed] = logits_hash(rows)
        evaluator = next(one for one in self.evaluators if one.name == self.ranking.evaluator)
        verdict.ranking[cell.split, cell.seed] = point(evaluator, rows)[str(self.ranking.metric)]

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
        yield from self.held_against_others(entry, verdict)

    def held_against_others(self, entry: Entry, verdict: Verdict) -> Iterator[Remark]:
        """Copies, and results that are too good, by what is known of other entries."""
        yield from self._copies(verdict)
        yield from self._too_good(entry, verdict)

    def _copies(self, verdict: Verdict) -> Iterator[Remark]:
        """Predictions that are another cell's."""
        own: dict[str, tuple[str, int]] = {}
        for key, digest in verdict.logits.items():
            split, seed = key
            other = self.known.logits.get(digest, "")
            if other:
                told = f"the logits of entry {other} on {split}, seed {seed}"
                yield Remark("flag", ENTRY, told, "predictions of its own", "Say why they are equal; a person decides.")
            elif digest in own and own[digest][0] == split:
                told = f"the same logits for seeds {own[digest][1]} and {seed} of {split}"
                yield Remark("flag", ENTRY, told, "a run per seed", "Say why they are equal; a person decides.")
            own.setdefault(digest, key)

    def _too_good(self, entry: Entry, verdict: Verdict) -> Iterator[Remark]:
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


def logits_hash(rows: Predictions) -> str:
    """Hash of what was said of which examples."""
    digest = hashlib.sha256("\n".join(rows.ids.tolist()).encode())
    digest.update(rows.logits.tobytes())
    return digest.hexdigest()


def _check_plugin(entry: Entry, folder: Path) -> Iterator[Remark]:
    """The source of a method: its hash, and what it states of itself, read and never run."""
    file = entry.plugin
    if file is None:
        return
    path = check_file(folder, file.file, file.sha256, file.bytes)
    if file.sha256 != entry.method.sha256:
        yield Remark(
            "fault",
            file.file,
            f"sha256 {file.sha256[:16]}",
            f"{entry.method.sha256[:16]}, that of the method",
            "Add the file that ran.",
        )
    if file.bytes > PLUGIN_BYTES:
        raise FaultError(
            file.file, f"{file.bytes} bytes", f"at most {PLUGIN_BYTES}", "Add the method's own file alone."
        )
    stated: dict[str, Any] = {}
    try:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                stated |= {
                    one.id: node.value.value
                    for one in node.targets
                    if isinstance(one, ast.Name) and one.id in ("name", "version")
                }
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        remedy = "Add the file that ran."
        raise FaultError(file.file, f"no Python ({quoted(error)})", "the method's source", remedy) from None
    expected = {"name": entry.method.name, "version": entry.method.version}
    if stated != expected:
        yield Remark(
            "fault", file.file, f"a method that states {quoted(stated)}", quoted(expected), "Add the file that ran."
        )


def known_of(verdicts: Iterable[Verdict], better: str = "higher") -> Known:
    """What entries say, to hold further ones against.

    Args:
        verdicts: of entries that were taken in.
        better: direction of the ranking column.
    """
    extreme = max if better == "higher" else min
    logits: dict[str, str] = {}
    best: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        if verdict.entry is None:
            continue
        logits |= dict.fromkeys(verdict.logits.values(), verdict.entry.id)
        for split in {key[0] for key in verdict.ranking}:
            values = [value for key, value in verdict.ranking.items() if key[0] == split]
            place, mean = (split, verdict.entry.track), sum(values) / len(values)
            best[place] = extreme(mean, best.get(place, mean))
    return Known(logits, best)
