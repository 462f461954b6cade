"""From what the user asked for to cells and stages, checked before anything is computed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.cell import READ_ATTRIBUTES, CellData, CellSpec, Stages, build_stages, verdict
from robustbench_spur.coverage import belongs
from robustbench_spur.executor import describe_error
from robustbench_spur.manifest import EvaluatorPin, Manifest, load_manifest
from robustbench_spur.parameters import Training
from robustbench_spur.pixels import check_block
from robustbench_spur.protocols import CARVE
from robustbench_spur.record import ROWS, ErrorPart, Record, RecordStore
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.request import Request as Request
from robustbench_spur.request import (
    check_settings,
    configure,
    hash_of,
    in_a_line,
    make_method,
    preset_of,
    seeds_of,
    setup_of,
)
from robustbench_spur.runtime import Runtime, choose_device, numerics
from robustbench_spur.scoring import load_evaluators, pins_of
from robustbench_spur.splitref import OpenSplit, SplitRef, parse_split, parse_splits
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.store import content_hash
from robustbench_spur.tuning.tuned import TunedCell
from robustbench_spur.types import SpurbenchError, nearest

ALL, BOARD = "all", "board"


@dataclass(frozen=True, eq=False)
class PlannedCell:
    """A cell of the plan.

    Args:
        spec: what it is.
        key: what a finished cell is found by.
        reason: why the method is not applicable; empty where it is, or where it is forced.
        degenerate: whether it runs although it is not applicable.
        record: the record of a finished cell; None where it has to run.
        stages: what has to be there; None where it does not run.
        error: why the method's own ``fit`` could not say its stages; the cell fails.
    """

    spec: CellSpec
    key: str
    reason: str
    degenerate: bool
    record: Record | None
    stages: Stages | None
    error: ErrorPart | None = None

    @property
    def to_run(self) -> bool:
        """Whether it needs any work."""
        return self.record is None


@dataclass(frozen=True)
class Plan:
    """All cells, and where they are carried out.

    Args:
        cells: in order.
        runtime: where.
        manifest: of the board.
        skipped: the board's splits that were left out, with the reason.
        resolved: bare split names and what they were taken for.
        broken: methods that were left out since they are broken, with the reason.
        started: when the plan was made, ISO 8601 in UTC.
    """

    cells: tuple[PlannedCell, ...]
    runtime: Runtime
    manifest: Manifest
    skipped: Mapping[str, str]
    resolved: Mapping[str, str]
    broken: Mapping[str, str] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"))

    def stages(self) -> list[Stage]:
        """Stages of the cells that have to run, parents first, each once."""
        return in_order(tuple(s for cell in self.cells if cell.to_run and cell.stages for s in cell.stages.all()))

    def users(self) -> dict[str, int]:
        """How many of the cells that have to run need each stage, by its key."""
        count: dict[str, int] = {}
        for cell in self.cells:
            if cell.to_run and cell.stages:
                for stage in in_order(cell.stages.all()):
                    count[stage.key] = count.get(stage.key, 0) + 1
        return count

    def epochs(self) -> tuple[int, int]:
        """Epochs of training that have to be computed, and how many there would be if every cell trained its own models.

        A run that is the beginning of a longer one of the same trajectory counts once.
        """
        longest: dict[str, int] = {}
        alone, users = 0, self.users()
        for stage in self.stages():
            if stage.kind == "train":
                length = int(stage.spec["epochs"])
                alone += users[stage.key] * length
                if not self.runtime.artifacts.has(stage.key):
                    trajectory = content_hash([stage.spec["trajectory"], [parent.key for parent in stage.parents]])
                    longest[trajectory] = max(length, longest.get(trajectory, 0))
        return sum(longest.values()), alone


def make_plan(request: Request) -> Plan:
    """Check a request and say what it takes. Reads tables, and one image of each split.

    Raises:
        SpurbenchError: anything in the request that cannot be done.
    """
    manifest = load_manifest(request.board)
    registry = Registry(request.plugin_files)
    _check_data(request, registry)
    request = replace(request, data=request.home.places(request.data))
    methods, broken = _methods(request, registry)
    check_settings(request, methods)
    device = choose_device(request.device)
    runtime = Runtime(
        request.home, device, plugin_files=request.plugin_files, data=dict(request.data), weights=request.weights
    )
    make_spec = partial(
        CellSpec,
        manifest=manifest,
        registry=registry,
        preset=request.preset,
        weights_sha256=hash_of(request.weights, "--weights") if request.weights else None,
        selection=manifest.selection if request.selection is None else request.selection,
        evaluators=_evaluators(request, registry, manifest),
        checkpoints=_checkpoints(request, registry),
        numerics=numerics(device),
    )
    seeds = seeds_of(request)
    splits, skipped, resolved = _splits(request, registry, manifest)
    records = RecordStore(request.home.records, request.home.predictions)
    done = {record.cell: record for record in records if belongs(record, manifest)}
    cells: list[PlannedCell] = []
    for split in splits:
        specs = _specs(make_spec, request, split, methods, seeds)
        own = [_plan_cell(spec, request, runtime, done) for spec in specs]
        if any(cell.stages for cell in own):
            _check_pixels(split, own[0].spec.image_size)
        cells += own
    return Plan(tuple(cells), runtime, manifest, skipped, resolved, broken)


def _specs(
    make_spec: partial[CellSpec], request: Request, split: OpenSplit, methods: list[Plugin], seeds: tuple[int, ...]
) -> Iterator[CellSpec]:
    """The cells of a split."""
    setup = setup_of(request, make_spec.keywords["manifest"], split)
    data = CellData(split, setup.image_size)
    _check_choosable(make_spec.keywords["selection"], split)
    for plugin in methods:
        preset, tuned = preset_of(request, plugin, split.ref)
        training, method, given = configure(request, plugin, setup.training, preset)
        make_own = (
            partial(TunedCell, **make_spec.keywords, rule=tuned.rule, rule_needs=tuned.needs) if tuned else make_spec
        )
        for seed in seeds:
            yield make_own(
                plugin=plugin,
                method=method,
                given=given,
                data=data,
                backbone=setup.backbone,
                pretrained=setup.pretrained,
                training=training,
                seed=seed,
            )


def _check_choosable(selection: str, split: OpenSplit) -> None:
    """A rule that looks at every group needs examples of every group that the partition's design has.

    These need not be the groups that are trained on: to choose by the very groups in which the shortcut fails is its use.
    """
    if selection not in READ_ATTRIBUTES:
        return
    name = "selection" if "selection" in split.table.partitions else "validation"
    if empty := split.table.empty_in(name):
        raise SpurbenchError(
            f"Expected examples of every group in {name} of {split.ref.full} for --selection {selection}, found none of"
            f" {' and '.join(empty)}. Use {split.ref.base.full}+{CARVE}, which has a set to choose by."
        )


def _plan_cell(spec: CellSpec, request: Request, runtime: Runtime, done: Mapping[str, Record]) -> PlannedCell:
    why_not = verdict(spec.method, spec.split.table)
    degenerate = bool(why_not) and request.force
    reason = "" if degenerate else why_not
    key = spec.key(forced=degenerate)
    record = None if request.again else done.get(key)
    if record is not None and record.status == "failed":
        record = None
    stages = error = None
    if not reason and record is None:
        try:
            stages = build_stages(spec)
        except (Exception, SystemExit) as failure:  # the method's fit is other people's code
            error = describe_error(failure, f"plan {spec.plugin.name}", runtime)
    return PlannedCell(spec, key, reason, degenerate, record, stages, error)


# methods and evaluators


def _methods(request: Request, registry: Registry) -> tuple[list[Plugin], dict[str, str]]:
    """The methods asked for; of "all", those that are in order, and why the others are not."""
    if ALL not in request.methods:
        plugins = [registry.find("method", name) for name in dict.fromkeys(request.methods)]
        for plugin in plugins:
            make_method(plugin, {}, Training())
        return plugins, {}
    working, broken = [], {}
    for plugin in registry.entries("method"):
        try:
            make_method(plugin, {}, Training())
        except SpurbenchError as error:
            broken[plugin.name] = str(error)
        else:
            working.append(plugin)
    if not working:
        raise SpurbenchError("Expected a method that is in order, found none. Run: spurbench list methods --check")
    return working, broken


def _named_evaluators(asked: tuple[str, ...], registry: Registry, manifest: Manifest) -> list[str]:
    """The names asked for, where "board" stands for the board's evaluators and "all" for every one that is in order."""
    stands_for = {
        BOARD: [pin.name for pin in manifest.evaluators],
        ALL: [plugin.name for plugin in registry.entries("evaluator") if plugin.source is not None],
    }
    names = {one: None for name in asked for one in stands_for.get(name, [name])}
    # the board's first, in its order, so that the same evaluators make the same cell however they are asked for
    return [*(one for one in stands_for[BOARD] if one in names), *sorted(names.keys() - set(stands_for[BOARD]))]


def _evaluators(request: Request, registry: Registry, manifest: Manifest) -> tuple[EvaluatorPin, ...]:
    pins = manifest.evaluators
    if request.evaluators:
        try:
            pins = pins_of(_named_evaluators(request.evaluators, registry, manifest), registry, manifest)
        except SpurbenchError:
            raise
        except Exception as error:  # other people's settings classes
            names = " or ".join(map(repr, request.evaluators))
            raise SpurbenchError(f"evaluator {names} is broken: {in_a_line(error)}") from error
    taken = set(ROWS)
    for evaluator in load_evaluators(registry, pins):
        if clash := taken & set(evaluator.collects):
            raise SpurbenchError(
                f"Evaluator {evaluator.name!r} collects {min(clash)!r}, a name that is taken. Rename it."
            )
        taken |= set(evaluator.collects)
    return pins


def _checkpoints(request: Request, registry: Registry) -> dict[str, tuple[Path, str]]:
    for name in request.checkpoints:
        registry.find("method", name)
    return {name: (path, hash_of(path, "--checkpoint")) for name, path in request.checkpoints.items()}


# splits


def _splits(
    request: Request, registry: Registry, manifest: Manifest
) -> tuple[list[OpenSplit], dict[str, str], dict[str, str]]:
    """The splits asked for; why some of "all" were left out; what bare names were taken for."""
    skipped: dict[str, str] = {}
    texts = list(request.splits)
    if ALL in texts:
        refs = [parse_split(pin.name, registry) for pin in manifest.splits]
        for ref in refs:
            if why_not := _absent(ref, request):
                skipped[ref.full] = why_not
        texts = [ref.full for ref in refs if ref.full not in skipped]
        if not texts:
            raise SpurbenchError(
                f"Board {manifest.board} has no split whose data are present. Give --data DATASET=PATH."
            )
    first = {text: parse_splits(text, registry)[0] for text in texts}
    _check_split_settings(request, first)
    found = {t: parse_splits(t, registry, _known_settings(ref, request.split_settings)) for t, ref in first.items()}
    resolved = {text: " ".join(ref.full for ref in refs) for text, refs in found.items() if "/" not in text}
    every = {ref.full: ref for refs in found.values() for ref in refs}
    return [open_split(ref, request.data) for ref in every.values()], skipped, resolved


def _check_data(request: Request, registry: Registry) -> None:
    """The datasets whose place is given must be known, and something must be there."""
    for name, path in request.data.items():
        registry.find("dataset", name)
        if not path.exists():
            raise SpurbenchError(f"Expected the {name!r} data at {path}, found nothing there. Check --data.")


def _absent(ref: SplitRef, request: Request) -> str:
    """Why a split of the board cannot be had here; empty where it can."""
    if ref.embedded:
        return ""
    if ref.dataset not in request.data:
        return f"no data: give --data {ref.dataset}=PATH"
    try:
        open_split(ref, request.data)
    except SpurbenchError as error:
        return str(error)
    return ""


def _check_split_settings(request: Request, refs: Mapping[str, SplitRef]) -> None:
    """Every setting must be known to one of the datasets."""
    known = {name for ref in refs.values() for name in ref.plugin.load().Parameters.model_fields}
    for name in request.split_settings:
        if name not in known:
            datasets = " and ".join(sorted({repr(ref.dataset) for ref in refs.values()}))
            raise SpurbenchError(f"Dataset {datasets} has no setting {name!r}. {nearest(name, list(known))}")


def _known_settings(ref: SplitRef, given: Mapping[str, Any]) -> dict[str, Any]:
    fields = ref.plugin.load().Parameters.model_fields
    return {name: value for name, value in given.items() if name in fields}


def open_split(ref: SplitRef, data: Mapping[str, Path]) -> OpenSplit:
    """A split whose rows have been read and found in order.

    Args:
        ref: which.
        data: place of the user's files, by dataset.

    Raises:
        SpurbenchError: they cannot be read, or a partition is empty.
    """
    split = ref.open(data.get(ref.dataset))
    try:
        partitions, fingerprint = split.table.partitions, split.dataset.fingerprint()
    except SpurbenchError:
        raise
    except Exception as error:  # other people's datasets
        raise SpurbenchError(f"The rows of {ref.full} cannot be read: {in_a_line(error)}") from error
    for name, rows in partitions.items():
        if not len(rows):
            raise SpurbenchError(f"Expected examples in the {name} partition of {ref.full}, found none.")
    if not isinstance(fingerprint, str):
        raise SpurbenchError(f"Expected a text as the fingerprint of {ref.full}, found {fingerprint!r}.")
    return split


def _check_pixels(split: OpenSplit, size: int) -> None:
    """Make one image, so that a size or a file that will not do is found before the work begins."""
    rows = split.table.partitions["train"].take(np.array([0]))
    try:
        for block in split.dataset.pixels(split.ref.split, rows, size):
            check_block(block, split, size)
    except SpurbenchError:
        raise
    except Exception as error:
        raise SpurbenchError(f"The first image of {split.ref.full} cannot be made: {in_a_line(error)}") from error
