"""From what the user asked for to cells and stages, checked before anything is computed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.cell import CellSpec, Stages, build_stages, verdict
from robustbench_spur.home import Home
from robustbench_spur.manifest import DEFAULT_BOARD, EvaluatorPin, Manifest, Setup, load_manifest
from robustbench_spur.parameters import Training
from robustbench_spur.record import Record, RecordStore
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.runtime import Runtime, choose_device, numerics
from robustbench_spur.scoring import pins_of
from robustbench_spur.splitref import OpenSplit, SplitRef, parse_split
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.store import file_sha256
from robustbench_spur.types import SpurbenchError, nearest

ALL = "all"


@dataclass(frozen=True)
class Request:
    """What to run.

    Args:
        methods: names, or ``("all",)``.
        splits: names, or ``("all",)`` for the board's splits whose data are present.
        seeds: of training.
        settings: of the methods or of the training budget, by name; texts are converted.
        split_settings: of the datasets, by name.
        preset: name of a method's preset to start from.
        evaluators: names; all of the board's where empty.
        backbone: another network than the board's.
        image_size: another size than the board's, in pixels.
        pretrained: start from timm's published weights; the board's choice where None.
        weights: safetensors file of backbone weights to start from.
        checkpoints: safetensors files that stand in for a method's full training, by its name.
        selection: another rule than the board's.
        board: board version.
        data: place of the user's files, by dataset.
        plugin_files: drafts of plugins.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        force: run also where a method is not applicable; the record is marked degenerate.
        again: run cells that are done already.
        home: folder of results.
    """

    methods: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    split_settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    evaluators: tuple[str, ...] = ()
    backbone: str | None = None
    image_size: int | None = None
    pretrained: bool | None = None
    weights: Path | None = None
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    selection: str | None = None
    board: str = DEFAULT_BOARD
    data: Mapping[str, Path] = field(default_factory=dict)
    plugin_files: tuple[Path, ...] = ()
    device: str = "auto"
    force: bool = False
    again: bool = False
    home: Home = field(default_factory=Home.default)


@dataclass(frozen=True)
class PlannedCell:
    """A cell of the plan.

    Args:
        spec: what it is.
        key: what a finished cell is found by.
        reason: why the method is not applicable; empty where it is, or where it is forced.
        degenerate: whether it runs although it is not applicable.
        record: the record of a finished cell; None where it has to run.
        stages: what has to be there; None where it does not run.
    """

    spec: CellSpec
    key: str
    reason: str
    degenerate: bool
    record: Record | None
    stages: Stages | None

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
        started: when the plan was made, ISO 8601 in UTC.
    """

    cells: tuple[PlannedCell, ...]
    runtime: Runtime
    manifest: Manifest
    skipped: Mapping[str, str]
    resolved: Mapping[str, str]
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


def make_plan(request: Request) -> Plan:
    """Check a request and say what it takes. Reads tables, not pixels.

    Raises:
        SpurbenchError: anything in the request that cannot be done.
    """
    manifest = load_manifest(request.board)
    registry = Registry(request.plugin_files)
    methods = _methods(request, registry)
    evaluators = _evaluators(request, registry, manifest)
    splits, skipped = _splits(request, registry, manifest)
    device = choose_device(request.device)
    runtime = Runtime(
        request.home, device, plugin_files=request.plugin_files, data=dict(request.data), weights=request.weights
    )
    _check_seeds(request.seeds)
    weights_sha = _hash_of(request.weights, "--weights") if request.weights else None
    checkpoints = {}
    for name, path in request.checkpoints.items():
        registry.find("method", name)
        checkpoints[name] = (path, _hash_of(path, "--checkpoint"))
    _check_settings(request, methods)
    done = RecordStore(request.home.records, request.home.predictions).latest()
    cells = []
    for split in splits:
        setup = _setup(request, manifest, split)
        for plugin in methods:
            for seed in request.seeds:
                training, method, given = _configure(request, plugin, setup.training)
                spec = CellSpec(
                    manifest=manifest,
                    registry=registry,
                    plugin=plugin,
                    method=method,
                    given=given,
                    preset=request.preset,
                    split=split,
                    backbone=setup.backbone,
                    image_size=setup.image_size,
                    pretrained=setup.pretrained,
                    weights_sha256=weights_sha,
                    training=training,
                    selection=request.selection or manifest.selection,
                    evaluators=evaluators,
                    seed=seed,
                    checkpoints=checkpoints,
                    numerics=numerics(device),
                )
                cells.append(_plan_cell(spec, request, done))
    resolved = {t: s.ref.full for t, s in zip(request.splits, splits, strict=False) if ALL not in request.splits}
    resolved = {text: full for text, full in resolved.items() if "/" not in text}
    return Plan(tuple(cells), runtime, manifest, skipped, resolved)


def _plan_cell(spec: CellSpec, request: Request, done: Mapping[str, Record]) -> PlannedCell:
    why_not = verdict(spec.method, spec.split.table)
    degenerate = bool(why_not) and request.force
    reason = "" if degenerate else why_not
    key = spec.key(forced=degenerate)
    record = None if request.again else done.get(key)
    if record is not None and record.status == "failed":
        record = None
    stages = None if reason or record else build_stages(spec)
    return PlannedCell(spec, key, reason, degenerate, record, stages)


def _methods(request: Request, registry: Registry) -> list[Plugin]:
    if ALL in request.methods:
        plugins = [plugin for plugin in registry.entries("method") if plugin.source is not None]
        return plugins or [registry.find("method", ALL)]
    plugins = [registry.find("method", name) for name in dict.fromkeys(request.methods)]
    for plugin in plugins:
        plugin.load()
    return plugins


def _evaluators(request: Request, registry: Registry, manifest: Manifest) -> tuple[EvaluatorPin, ...]:
    if not request.evaluators or ALL in request.evaluators:
        return manifest.evaluators
    return pins_of(request.evaluators, registry, manifest)


def _splits(request: Request, registry: Registry, manifest: Manifest) -> tuple[list[OpenSplit], dict[str, str]]:
    for name in request.data:
        registry.find("dataset", name)
    skipped: dict[str, str] = {}
    if ALL not in request.splits:
        refs = [parse_split(text, registry, request.split_settings) for text in request.splits]
        return [_open(ref, request) for ref in {ref.full: ref for ref in refs}.values()], skipped
    opened = []
    for pin in manifest.splits:
        ref = parse_split(pin.name, registry)
        if not ref.embedded and ref.dataset not in request.data:
            skipped[pin.name] = f"no data: give --data {ref.dataset}=PATH"
            continue
        ref = parse_split(pin.name, registry, _known_settings(ref, request.split_settings))
        opened.append(_open(ref, request))
    return opened, skipped


def _known_settings(ref: SplitRef, given: Mapping[str, Any]) -> dict[str, Any]:
    fields = {setting.name for setting in ref.plugin.source.settings} if ref.plugin.source else set()
    return {name: value for name, value in given.items() if name in fields}


def _open(ref: SplitRef, request: Request) -> OpenSplit:
    path = request.data.get(ref.dataset)
    if path is not None and not path.exists():
        raise SpurbenchError(f"Expected the {ref.dataset!r} data at {path}, found nothing there. Check --data.")
    split = ref.open(path)
    _ = split.sha256
    return split


def _setup(request: Request, manifest: Manifest, split: OpenSplit) -> Setup:
    """What the board trains the dataset with, with the request's changes."""
    dataset = split.dataset
    board = manifest.setup(split.ref.dataset) or Setup(
        backbone="smallcnn", image_size=dataset.image_size, training=Training()
    )
    size = request.image_size or board.image_size
    if dataset.image_sizes and size not in dataset.image_sizes:
        raise SpurbenchError(
            f"Expected an image size among {list(dataset.image_sizes)} for {split.ref.full}, found {size}."
        )
    if size < 8:
        raise SpurbenchError(f"Expected an image size of at least 8 pixels, found {size}.")
    backbone = request.backbone or board.backbone
    if request.backbone:
        from robustbench_spur.networks import check_backbone

        check_backbone(backbone)
    pretrained = board.pretrained if request.pretrained is None else request.pretrained
    return Setup(backbone=backbone, image_size=size, pretrained=pretrained, training=board.training)


def _check_settings(request: Request, plugins: list[Plugin]) -> None:
    """Every setting must be known to the budget or to one of the methods."""
    from robustbench_spur.training import SELECTIONS

    known = set(Training.model_fields)
    for plugin in plugins:
        known |= set(plugin.load().Hyperparameters.model_fields)
    names = plugins[0].name if len(plugins) == 1 else "None of these methods"
    for name in request.settings:
        if name not in known:
            raise SpurbenchError(
                f"{names} has {'no' if len(plugins) == 1 else 'a'} setting {name!r}. {nearest(name, list(known))}"
            )
    if request.selection and request.selection not in SELECTIONS:
        raise SpurbenchError(f"Unknown selection rule {request.selection!r}. {nearest(request.selection, SELECTIONS)}")


def _configure(request: Request, plugin: Plugin, training: Training) -> tuple[Training, Any, dict[str, Any]]:
    """The budget and the method with the request's settings."""
    method_class = plugin.load()
    fields = method_class.Hyperparameters.model_fields
    given = dict(_preset(request, plugin))
    given |= {name: value for name, value in request.settings.items() if name in fields}
    changes = {n: v for n, v in request.settings.items() if n in Training.model_fields and n not in fields}
    training = Training.parse({**training.model_dump(), **changes}, "the training budget") if changes else training
    hyper = method_class.Hyperparameters.parse(given, plugin.name).resolved(training)
    hyper = type(hyper).parse(hyper.model_dump(), plugin.name)
    return training, method_class(hyper), {**given, **changes}


def _preset(request: Request, plugin: Plugin) -> Mapping[str, Any]:
    if request.preset is None:
        return {}
    presets: Mapping[str, Mapping[str, Any]] = plugin.literal("presets", {})
    if request.preset not in presets:
        raise SpurbenchError(
            f"Method {plugin.name!r} has no preset {request.preset!r}. {nearest(request.preset, list(presets))}"
        )
    return presets[request.preset]


def _check_seeds(seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        if not 0 <= seed < 2**31:
            raise SpurbenchError(f"Expected seeds from 0 to 2147483647, found {seed}.")
    if not seeds:
        raise SpurbenchError("Expected at least one seed, found none.")


def _hash_of(path: Path, option: str) -> str:
    if not path.is_file():
        raise SpurbenchError(f"Expected a safetensors file at {path}, found none. Check {option}.")
    return file_sha256(path)
