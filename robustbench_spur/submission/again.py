"""Computing cells of an entry again: from the weights that it brings, or by training anew. Needs torch, and runs for long.

A method's own file is a stranger's code. It runs only here, and only where whoever calls says so.
"""

from __future__ import annotations

import datetime
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.examining import Ask, examine
from robustbench_spur.home import Home
from robustbench_spur.manifest import Column, Manifest
from robustbench_spur.plan import Request, make_plan
from robustbench_spur.published import Attestation, Submitted
from robustbench_spur.record import Record, RecordStore, read_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.runner import Watcher, carry_out
from robustbench_spur.scoring import load_evaluators, point
from robustbench_spur.submission.entry import Cell, read_record, weights_path
from robustbench_spur.submission.remarks import Remark, quoted
from robustbench_spur.submission.safely import check_file
from robustbench_spur.types import SpurbenchError

LOGITS = 1e-2
"""Greatest difference between logits of the same weights on two machines, absolute and relative."""
Found = tuple[Attestation | None, list[Remark]]


class Again:
    """Computes cells again.

    Args:
        manifest: of the board.
        watcher: is told how it goes on.
        home: where images are kept, which are made once for all cells.
        data: place of the user's files, by dataset.
        device: such as ``"auto"``.
    """

    def __init__(
        self,
        manifest: Manifest,
        watcher: Watcher,
        home: Home,
        data: Mapping[str, Path] | None = None,
        device: str = "auto",
    ) -> None:
        self.manifest, self.data, self.device = manifest, dict(data or {}), device
        self.watcher, self.home = watcher, home
        self.evaluators = load_evaluators(Registry(), manifest.evaluators)

    def from_weights(self, one: Submitted, cell: Cell, beside: Path | None = None) -> Found:
        """Predictions and collections of a cell again, from its weights.

        Args:
            one: the entry.
            cell: of it.
            beside: a folder of weights, laid out like the entry's own, for an entry that has none.

        Returns:
            What can be attested, None where there is a fault; and remarks.
        """
        if cell.predictions is None:
            return None, []
        if beside is not None:
            path = weights_path(beside, cell.split, cell.seed)
            if not path.is_file():
                return None, []
        elif cell.weights is not None:
            path = check_file(one.folder, cell.weights.file, cell.weights.sha256, cell.weights.bytes)
        else:
            return None, []
        collecting = tuple(e.name for e in self.evaluators if e.collects)
        setup = self.manifest.setup(cell.split.split("/", maxsplit=1)[0])
        ask = Ask(
            path,
            (cell.split,),
            arch=setup.backbone if setup else None,  # the board's, whatever the file says of itself
            image_size=setup.image_size if setup else None,
            evaluators=collecting,
            board=self.manifest.board,
            data=self.data,
            device=self.device,
            home=self.home,
        )
        name = path.name if beside is not None else path.relative_to(one.folder).as_posix()
        try:
            (found,) = examine(ask, self.watcher)
        except (SpurbenchError, ValueError, TypeError, LookupError, RuntimeError) as error:  # a stranger's file
            expected = "weights of the board's network for the split"
            return None, [Remark("warning", name, quoted(error), expected, "Its numbers need a repeated run.")]
        again = {result.evaluator.name: result.predictions[0] for result in found.measured.findings}
        record = self._record(one, cell)
        rows = read_predictions(one.arrays(record), _part(record), "test")
        return self._compared(cell, rows, again, name, "weights")

    def by_training(self, one: Submitted, cell: Cell, *, trust_code: bool = False) -> Found:
        """Train a cell again, in an empty home, and compare.

        Args:
            one: the entry.
            cell: of it.
            trust_code: whether the method's own file may run.

        Raises:
            SpurbenchError: the method's file may not run, or the method is not here in the version that ran.
        """
        name, record = one.entry.method.name, self._record(one, cell)
        if cell.predictions is None:
            raise SpurbenchError(
                f"Expected a cell with predictions to compare with, found none of {cell.split}, seed {cell.seed}. Name another."
            )
        files: tuple[Path, ...] = ()
        if one.entry.plugin is not None:
            if not trust_code:
                raise SpurbenchError(
                    f"Expected a built-in method, found {name} with code of its own, {one.folder / one.entry.plugin.file}."
                    " Read it; then give --trust-code to run it."
                )
            files = (one.folder / one.entry.plugin.file,)
        plugin = Registry(files).find("method", name)
        if (plugin.version, plugin.sha256) != (one.entry.method.version, one.entry.method.sha256):
            raise SpurbenchError(
                f"Expected {name} v{one.entry.method.version} ({one.entry.method.sha256[:12]}), found v{plugin.version}"
                f" ({plugin.sha256[:12]}). Install the version that ran: the entry was packed by {one.entry.package}."
            )
        with tempfile.TemporaryDirectory(prefix="spurbench-") as folder:
            home = Home(Path(folder))
            request = Request(
                methods=(name,),
                splits=(cell.split,),
                seeds=(cell.seed,),
                settings=record.method.given,
                data=self.data,
                plugin_files=files,
                home=home,
                board=self.manifest.board,
                device=self.device,
            )
            (done,) = carry_out(make_plan(request), self.watcher)
            made = done.record
            if made.status != "done":
                told = f"{made.status.replace('_', ' ')}: {made.reason}"
                return None, [
                    Remark("fault", cell.record.file, quoted(told), "a cell that can be run again", "Mend it.")
                ]
            arrays = RecordStore(home.records, home.predictions).arrays(made)
        rows = read_predictions(arrays, _part(made), "test")
        stated = read_predictions(one.arrays(record), _part(record), "test")
        return self._compared(
            cell, stated, {e.name: rows for e in self.evaluators}, cell.record.file, "reproduced", made
        )

    def _record(self, one: Submitted, cell: Cell) -> Record:
        return read_record(one.folder / cell.record.file, cell.record.file)

    def _compared(
        self,
        cell: Cell,
        stated: Predictions,
        again: Mapping[str, Predictions],
        name: str,
        kind: Any,
        made: Record | None = None,
    ) -> Found:
        """Differences by column, and whether they are within what the board allows."""
        remarks = []
        if kind == "weights":
            first = next(iter(again.values()), None)
            same = first is not None and np.array_equal(first.ids, stated.ids)
            if first is None or not same or not np.allclose(first.logits, stated.logits, rtol=LOGITS, atol=LOGITS):
                told = "no logits of the same examples"
                if first is not None and same:
                    told = f"logits that differ by {np.abs(first.logits - stated.logits).max():.3g}"
                remedy = "Give the weights that made the predictions."
                return None, [
                    Remark("fault", name, f"{told} on {cell.split}, seed {cell.seed}", "those of the entry", remedy)
                ]
        differences = self._differences(stated, again)
        ranking = self.manifest.column(self.manifest.rank_by)
        tolerance = self.manifest.tolerances[f"reproduced_{ranking.metric}"]
        collected = {column.name for column in self.manifest.columns if self._evaluator(column).collects}
        for column, difference in differences.items():
            if column in {ranking.name, *collected} and difference > tolerance:
                apart = (
                    f"{difference:.4f} from the entry's" if math.isfinite(difference) else "not to be computed again"
                )
                told = f"{column} {apart} on {cell.split}, seed {cell.seed}"
                remarks.append(Remark("fault", name, told, f"at most {tolerance:g}", "Submit what the method gives."))
        if remarks:
            return None, remarks
        if kind == "weights" and (told := self._apart(stated, again, tolerance)):
            remedy = "State what the weights give."
            found = f"{told} on {cell.split}, seed {cell.seed}"
            return None, [Remark("fault", name, found, f"at most {tolerance:g} from the entry's", remedy)]
        differences = {name: difference for name, difference in differences.items() if math.isfinite(difference)}
        provenance = made.provenance if made is not None else {}
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        return Attestation(
            split=cell.split, seed=cell.seed, kind=kind, day=day, differences=differences, provenance=provenance
        ), []

    def _differences(self, stated: Predictions, again: Mapping[str, Predictions]) -> dict[str, float]:
        """Absolute difference of every column on the test partition that the entry has; infinite where it is undefined now."""
        found = {}
        for column in self.manifest.columns:
            evaluator, rows = self._evaluator(column), again.get(column.evaluator)
            if column.metric is None or column.partition != "test" or (rows is None and not evaluator.collects):
                continue
            before = _value(evaluator, stated, column.metric)
            if math.isfinite(before):
                now = math.nan if rows is None else _value(evaluator, rows, column.metric)
                found[column.name] = round(abs(before - now), 9) if math.isfinite(now) else math.inf
        return found

    def _apart(self, stated: Predictions, again: Mapping[str, Predictions], tolerance: float) -> str:
        """The metric, of all that are taken from the model, that is furthest from the entry's; empty where none is too far."""
        furthest, name = tolerance, ""
        for evaluator in self.evaluators:
            rows = again.get(evaluator.name)
            if rows is None or any(array not in part.arrays for part in (stated, rows) for array in evaluator.collects):
                continue
            before, now = point(evaluator, stated), point(evaluator, rows)
            for metric, value in before.items():
                scale = max(1.0, abs(value)) if math.isfinite(value) else 1.0
                apart = 0.0 if math.isnan(value) and math.isnan(now[metric]) else abs(value - now[metric]) / scale
                if not apart <= furthest:
                    furthest, name = apart, f"{metric} {apart:.4f} apart"
        return name

    def _evaluator(self, column: Column) -> Evaluator:
        return next(one for one in self.evaluators if one.name == column.evaluator)


def _part(record: Record) -> Any:
    if record.split is None:
        raise SpurbenchError("Expected a record that has met the data, found none.")
    return record.split


def _value(evaluator: Evaluator, rows: Predictions, metric: str) -> float:
    if any(array not in rows.arrays for array in evaluator.collects):
        return math.nan
    return point(evaluator, rows, (metric,))[metric]
