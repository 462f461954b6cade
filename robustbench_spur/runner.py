"""Carries out a plan and writes a record for every cell, as the cell ends."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.cell import CellSpec, Stages, lacking
from robustbench_spur.engine import predictions_of
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.executor import Executor, LocalExecutor, Outcome, describe_error
from robustbench_spur.parameters import BUDGET
from robustbench_spur.plan import Plan, PlannedCell
from robustbench_spur.provenance import provenance
from robustbench_spur.record import Record, RecordStore, SplitPart, StagePart, predictions_arrays
from robustbench_spur.runtime import Runtime, require_writable
from robustbench_spur.scoring import Scorer, as_json, load_evaluators
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import IMAGE_KINDS, Stage, in_order
from robustbench_spur.store import canonical
from robustbench_spur.tuning.tuned import TunedCell
from robustbench_spur.types import PARTITIONS


class Watcher(Protocol):
    """Who is told how a run goes on. Every method may be left empty."""

    def planned(self, plan: Plan) -> None:
        """The plan, before anything is computed."""

    def progress(self, stage: Stage, done: int, total: int) -> None:
        """A stage has done a part of its work."""

    def finished_stage(self, outcome: Outcome) -> None:
        """A stage has ended."""

    def finished_cell(self, cell: PlannedCell, record: Record) -> None:
        """A cell has ended, or was there already."""


@dataclass(frozen=True)
class Finished:
    """A cell that has ended.

    Args:
        cell: of the plan.
        record: what it left.
        fresh: whether it was computed now.
    """

    cell: PlannedCell
    record: Record
    fresh: bool


def carry_out(plan: Plan, watcher: Watcher, executor: Executor | None = None) -> Iterator[Finished]:
    """Run every cell of a plan.

    Args:
        plan: what to do.
        watcher: is told how it goes on.
        executor: carries out the stages; this process unless given.

    Yields:
        One entry per cell: those that were there or are not applicable first, the others as they end.

    Raises:
        SpurbenchError: the home cannot be written to.
    """
    require_writable(plan.runtime.home)
    records = RecordStore(plan.runtime.home.records, plan.runtime.home.predictions)
    watcher.planned(plan)
    waiting = []
    for cell in plan.cells:
        if cell.record is not None:
            watcher.finished_cell(cell, cell.record)
            yield Finished(cell, cell.record, False)
        elif cell.stages is None:
            yield _finish(cell, plan, records, watcher, {})
        else:
            waiting.append(cell)
    for cell, outcomes in carry_out_stages(plan, waiting, watcher, executor):
        yield _finish(cell, plan, records, watcher, outcomes)


def carry_out_stages(
    plan: Plan, cells: Sequence[PlannedCell], watcher: Watcher, executor: Executor | None = None
) -> Iterator[tuple[PlannedCell, Mapping[str, Outcome]]]:
    """Carry out the stages of a plan, and write no record.

    Args:
        plan: what to do.
        cells: of the plan, each with stages.
        watcher: is told how it goes on.
        executor: carries out the stages; this process unless given.

    Yields:
        Each cell as soon as its stages have ended, with the outcomes so far by key: its own are among them.
    """
    waiting = list(cells)
    needs = {cell.key: {s.key for s in in_order(cell.stages.all())} for cell in waiting if cell.stages}
    outcomes: dict[str, Outcome] = {}
    for outcome in (executor or LocalExecutor()).run(plan.stages(), plan.runtime, watcher.progress):
        outcomes[outcome.stage.key] = outcome
        watcher.finished_stage(outcome)
        for cell in [cell for cell in waiting if needs[cell.key] <= outcomes.keys()]:
            waiting.remove(cell)
            yield cell, outcomes


def _finish(
    cell: PlannedCell, plan: Plan, records: RecordStore, watcher: Watcher, outcomes: Mapping[str, Outcome]
) -> Finished:
    record = make_record(cell, plan, records, outcomes)
    records.add(record)
    watcher.finished_cell(cell, record)
    return Finished(cell, record, True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def make_record(cell: PlannedCell, plan: Plan, records: RecordStore, outcomes: Mapping[str, Outcome]) -> Record:
    """The record of a cell whose stages have ended; its predictions are written."""
    spec, runtime = cell.spec, plan.runtime
    stages = in_order(cell.stages.all()) if cell.stages else []
    error = cell.error or next((outcomes[s.key].error for s in stages if outcomes[s.key].error), None)
    body: dict[str, Any] = {"status": "not_applicable" if cell.reason else "done", "reason": cell.reason}
    if error is None and cell.stages:
        try:
            measured = _measure(cell, plan, records) | _about(cell.stages, runtime)
            # other people's evaluators: refused here, it fails this cell alone
            canonical([measured["details"], measured["cross_checks"]])
            body |= {**measured, "pixel_means": _pixel_means(cell.stages, runtime)}
        except (Exception, SystemExit) as failure:
            error = describe_error(failure, "scoring", runtime)
    if error is not None:
        body |= {"status": "failed", "reason": error.message.splitlines()[0], "error": error}
    done = [s for s in stages if error is None or runtime.store_of(s.kind).has(s.key)]
    parts = [_stage_part(s, outcomes[s.key], runtime) for s in done]
    return Record(
        board=plan.manifest.board,
        board_status=plan.manifest.status,
        cell=cell.key,
        config_hash=spec.identity.sha256,
        identity=spec.identity,
        method=spec.method_part(),
        split=_split_part(spec.split, body.pop("pixel_means", {})),
        network=spec.network_part(body.pop("parameters", None)),
        training=spec.used_training.model_dump(mode="json"),
        selection=spec.selection,
        seed=spec.seed,
        track=spec.track,
        off_board=off_board(spec, degenerate=cell.degenerate),
        degenerate=cell.degenerate,
        training_partitions=trained_on(cell),
        evaluators={pin.name: {"version": pin.version, "parameters": pin.parameters} for pin in spec.evaluators},
        stages=parts,
        cost=_total_cost(parts),
        provenance=provenance(runtime.device, str(spec.numerics.get("precision", ""))),
        started=plan.started,
        finished=_now(),
        **body,
    )


def _measure(cell: PlannedCell, plan: Plan, records: RecordStore) -> dict[str, Any]:
    """Metrics and details of a cell, from its predictions, which are written first."""
    spec, runtime = cell.spec, plan.runtime
    predictions = _predictions(cell, runtime)
    arrays = [predictions_arrays(partition, rows) for partition, rows in predictions.items()]
    part = records.add_predictions(cell.key, {name: array for each in arrays for name, array in each.items()})
    scorer = Scorer(runtime.scores, plan.manifest.bootstrap)
    evaluators = load_evaluators(spec.registry, spec.evaluators)
    metrics: dict[str, Any] = {}
    details: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    for partition, rows in predictions.items():
        for evaluator in (e for e in evaluators if partition in e.partitions):
            if why := lacking(spec.split, evaluator.reads, evaluator.requires):
                details.setdefault(partition, {})[evaluator.name] = {"not_applicable": why}
                continue
            scored = scorer.score(evaluator, rows, f"{part.sha256}/{partition}")
            metrics.setdefault(partition, {})[evaluator.name] = as_json(scored)
            details.setdefault(partition, {})[evaluator.name] = evaluator.details(rows)
            if checked := evaluator.cross_check(rows):
                checks.setdefault(partition, {})[evaluator.name] = checked
    return {"predictions": part, "metrics": metrics, "details": details, "cross_checks": checks}


def _predictions(cell: PlannedCell, runtime: Runtime) -> dict[str, Predictions]:
    """What the model said about every partition, with what evaluators collected there."""
    found = {}
    stages = cell.stages
    for partition, stage in stages.outputs.items() if stages else ():
        collected: dict[str, NDArray[Any]] = {}
        for (_, where), collection in stages.collected.items() if stages else ():
            if where == partition:
                collected |= runtime.artifacts.arrays(collection.key)
        logits = runtime.artifacts.arrays(stage.key)["logits"]
        found[partition] = predictions_of(cell.spec.split, partition, logits, collected)
    return found


def off_board(spec: CellSpec, *, degenerate: bool) -> tuple[str, ...]:
    """What of a cell is not the board's, in words; empty where the cell may be ranked."""
    manifest, pin = spec.manifest, spec.manifest.pin(spec.split.ref.full)
    setup = manifest.setup(spec.split.ref.dataset)
    found = []
    if pin is None or setup is None:
        found.append(f"split {spec.split.ref.full} is not on the board")
    elif pin.version != spec.split.ref.plugin.version or pin.sha256 not in (None, spec.split.sha256):
        found.append(f"split {spec.split.ref.full} v{spec.split.ref.plugin.version} has another table than the board's")
    if setup is not None:
        own = {"backbone": spec.backbone, "image_size": spec.image_size, "pretrained": spec.pretrained}
        own |= {**spec.training.model_dump(), **{name: getattr(spec.used_training, name) for name in BUDGET}}
        board = {**setup.model_dump(), **setup.training.model_dump()}
        found += [f"{name}={value}" for name, value in own.items() if value != board[name]]
    default = type(spec.method.hyper)().resolved(spec.training).model_dump(mode="json")
    settings = spec.method.hyper.model_dump(mode="json")
    found += [f"{name}={value}" for name, value in settings.items() if value != default[name]]
    found += [f"selection={spec.selection}"] if spec.selection != manifest.selection else []
    lacks = [pin.name for pin in manifest.evaluators if pin not in spec.evaluators]
    found += [f"not measured by the board's {', '.join(lacks)}"] if lacks else []
    found += [f"initial weights {spec.weights_sha256[:12]}"] if spec.weights_sha256 else []
    found += [f"checkpoint for {name}" for name in spec.checkpoints]
    found += [f"settings chosen by {spec.rule}"] if isinstance(spec, TunedCell) else []
    found += ["forced where it is not applicable"] if degenerate else []
    return tuple(found)


def trained_on(cell: PlannedCell) -> tuple[str, ...]:
    """Partitions that the model was made from: their metrics are training metrics."""
    if cell.stages is None:
        return cell.spec.training_partitions
    seen = {str(stage.spec["on"]) for stage in cell.stages.model.ancestry() if stage.kind == "compute"}
    return tuple(name for name in PARTITIONS if name == "train" or name in seen)


def _about(stages: Stages, runtime: Runtime) -> dict[str, Any]:
    """What the stages noted: history of the last training, notes, number of trained numbers."""
    ancestry = [s for s in stages.model.ancestry() if s.kind not in IMAGE_KINDS]
    about = {stage.key: runtime.artifacts.about(stage.key) for stage in ancestry}
    trained = [about[stage.key] for stage in ancestry if stage.kind == "train"]
    notes = {stage.title: about[stage.key]["notes"] for stage in ancestry if about[stage.key].get("notes")}
    return {
        "history": trained[-1]["history"] if trained else [],
        "selected_epoch": trained[-1]["selected_epoch"] if trained else None,
        "notes": notes,
        "model": stages.model.key,
        "parameters": trained[-1].get("parameters") if trained else None,
    }


def _stage_part(stage: Stage, outcome: Outcome, runtime: Runtime) -> StagePart:
    about = runtime.store_of(stage.kind).about(stage.key)
    return StagePart(key=stage.key, kind=stage.kind, title=stage.title, cached=outcome.cached, cost=about["cost"])


def _total_cost(parts: list[StagePart]) -> dict[str, float]:
    totals = {
        name: round(sum(part.cost.get(name, 0.0) for part in parts if part.kind not in IMAGE_KINDS), 3)
        for name in ("wall_seconds", "cpu_seconds")
    }
    peaks = [part.cost["peak_memory_bytes"] for part in parts]
    device = [part.cost["peak_device_bytes"] for part in parts if "peak_device_bytes" in part.cost]
    most = {"peak_memory_bytes": max(peaks, default=0.0), **({"peak_device_bytes": max(device)} if device else {})}
    return {**totals, **most}


def _pixel_means(stages: Stages, runtime: Runtime) -> dict[str, list[list[float]]]:
    """Mean 8 x 8 table of the images of each partition."""
    means = {}
    for partition, stage in stages.pixels.items():
        table = runtime.pixels.arrays(stage.key)["means"].mean(axis=0, dtype=np.float64)
        means[partition] = np.round(table, 2).tolist()
    return means


def _split_part(split: OpenSplit, pixel_means: dict[str, list[list[float]]]) -> SplitPart:
    groups = split.table.groups
    return SplitPart(
        name=split.ref.full,
        version=int(split.ref.plugin.version or 0),
        sha256=split.sha256,
        fingerprint=split.dataset.fingerprint(),
        classes=groups.classes,
        attribute=groups.attribute,
        values=groups.values,
        counts=split.table.counts(),
        pixel_means=pixel_means,
        notes=tuple(map(str, split.table.notes)),
    )
