"""From what the user asked for to cells and stages, checked before anything is computed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.cell import CellSpec, Stages, build_stages, verdict
from robustbench_spur.coverage import belongs
from robustbench_spur.executor import describe_error
from robustbench_spur.home import Home
from robustbench_spur.manifest import DEFAULT_BOARD, EvaluatorPin, Manifest, Setup, load_manifest
from robustbench_spur.parameters import Training
from robustbench_spur.record import ErrorPart, Record, RecordStore
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.runtime import Runtime, choose_device, numerics
from robustbench_spur.scoring import load_evaluators, pins_of
from robustbench_spur.splitref import OpenSplit, SplitRef, parse_split
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.store import file_sha256
from robustbench_spur.types import SpurbenchError, nearest

ALL = "all"
IMAGE_SIZES = range(8, 4097)
"""Image sizes that a cell may have, in pixels: smaller ones leave the networks nothing, larger ones are a slip."""


@dataclass(frozen=True)
class Request:
    """What to run.

    Args:
        methods: names, or ``("all",)`` for those that are in order.
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


def make_plan(request: Request) -> Plan:
    """Check a request and say what it takes. Reads tables, and one image of each split.

    Raises:
        SpurbenchError: anything in the request that cannot be done.
    """
    manifest = load_manifest(request.board)
    registry = Registry(request.plugin_files)
    methods, broken = _methods(request, registry)
    _check_settings(request, methods)
    device = choose_device(request.device)
    runtime = Runtime(
        request.home, device, plugin_files=request.plugin_files, data=dict(request.data), weights=request.weights
    )
    make_spec = partial(
        CellSpec,
        manifest=manifest,
        registry=registry,
        preset=request.preset,
        weights_sha256=_hash_of(request.weights, "--weights") if request.weights else None,
        selection=request.selection or manifest.selection,
        evaluators=_evaluators(request, registry, manifest),
        checkpoints=_checkpoints(request, registry),
        numerics=numerics(device),
    )
    seeds = _seeds(request)
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
    setup = _setup(request, make_spec.keywords["manifest"], split)
    for plugin in methods:
        training, method, given = _configure(request, plugin, setup.training)
        for seed in seeds:
            yield make_spec(
                plugin=plugin,
                method=method,
                given=given,
                split=split,
                backbone=setup.backbone,
                image_size=setup.image_size,
                pretrained=setup.pretrained,
                training=training,
                seed=seed,
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
            plugin.load()
        return plugins, {}
    working, broken = [], {}
    for plugin in registry.entries("method"):
        try:
            plugin.load()
        except SpurbenchError as error:
            broken[plugin.name] = str(error)
        else:
            working.append(plugin)
    if not working:
        raise SpurbenchError("Expected a method that is in order, found none. Run: spurbench list methods --check")
    return working, broken


def _evaluators(request: Request, registry: Registry, manifest: Manifest) -> tuple[EvaluatorPin, ...]:
    pins = manifest.evaluators
    if request.evaluators and ALL not in request.evaluators:
        pins = pins_of(request.evaluators, registry, manifest)
    load_evaluators(registry, pins)
    return pins


def _checkpoints(request: Request, registry: Registry) -> dict[str, tuple[Path, str]]:
    for name in request.checkpoints:
        registry.find("method", name)
    return {name: (path, _hash_of(path, "--checkpoint")) for name, path in request.checkpoints.items()}


# splits


def _splits(
    request: Request, registry: Registry, manifest: Manifest
) -> tuple[list[OpenSplit], dict[str, str], dict[str, str]]:
    """The splits asked for; why some of "all" were left out; what bare names were taken for."""
    for name, path in request.data.items():
        registry.find("dataset", name)
        if not path.exists():
            raise SpurbenchError(f"Expected the {name!r} data at {path}, found nothing there. Check --data.")
    skipped: dict[str, str] = {}
    texts = list(request.splits)
    if ALL in texts:
        refs = [parse_split(pin.name, registry) for pin in manifest.splits]
        for ref in refs:
            if not ref.embedded and ref.dataset not in request.data:
                skipped[ref.full] = f"no data: give --data {ref.dataset}=PATH"
        texts = [ref.full for ref in refs if ref.full not in skipped]
    found = {text: parse_split(text, registry) for text in texts}
    _check_split_settings(request, found)
    found = {t: parse_split(t, registry, _known_settings(ref, request.split_settings)) for t, ref in found.items()}
    resolved = {text: ref.full for text, ref in found.items() if "/" not in text}
    return [_open(ref, request) for ref in {ref.full: ref for ref in found.values()}.values()], skipped, resolved


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


def _open(ref: SplitRef, request: Request) -> OpenSplit:
    split = ref.open(request.data.get(ref.dataset))
    try:
        _ = split.sha256
    except SpurbenchError:
        raise
    except Exception as error:
        raise SpurbenchError(f"The rows of {ref.full} cannot be read: {type(error).__name__}: {error}") from error
    return split


def _check_pixels(split: OpenSplit, size: int) -> None:
    """Make one image, so that a size or a file that will not do is found before the work begins."""
    rows = next((rows for rows in split.table.partitions.values() if len(rows)), None)
    if rows is None:
        raise SpurbenchError(f"Expected examples in {split.ref.full}, found none.")
    try:
        for _ in split.dataset.pixels(split.ref.split, rows.take(np.array([0])), size):
            pass
    except SpurbenchError:
        raise
    except Exception as error:
        raise SpurbenchError(
            f"The first image of {split.ref.full} cannot be made: {type(error).__name__}: {error}"
        ) from error


# settings


def _setup(request: Request, manifest: Manifest, split: OpenSplit) -> Setup:
    """What the board trains the dataset with, with the request's changes."""
    dataset = split.dataset
    board = manifest.setup(split.ref.dataset) or Setup(
        backbone="smallcnn", image_size=dataset.image_size, training=Training()
    )
    size = board.image_size if request.image_size is None else request.image_size
    if dataset.image_sizes and size not in dataset.image_sizes:
        raise SpurbenchError(
            f"Expected an image size among {list(dataset.image_sizes)} for {split.ref.full}, found {size}."
        )
    if size not in IMAGE_SIZES:
        raise SpurbenchError(f"Expected an image size from {IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]} pixels, found {size}.")
    pretrained = board.pretrained if request.pretrained is None else request.pretrained
    setup = Setup(
        backbone=request.backbone or board.backbone,
        image_size=size,
        pretrained=pretrained and request.weights is None,
        training=board.training,
    )
    _check_network(setup, dataset.channels)
    return setup


def _check_network(setup: Setup, channels: int) -> None:
    """The backbone must exist, take images of the size, and have published weights if they are asked for."""
    import torch

    from robustbench_spur.networks import SMALL, build, check_backbone

    name, size = setup.backbone, setup.image_size
    check_backbone(name)
    network = {"backbone": name, "channels": channels, "seed": 0, "pretrained": False}
    statistics = {"mean": [0.0] * channels, "std": [1.0] * channels}
    try:
        with torch.device("meta"):  # shapes alone: nothing is computed
            build({**network, **statistics}, 2).eval()(torch.zeros(1, channels, size, size))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpurbenchError(
            f"Backbone {name!r} takes no images of {size} x {size} pixels: {reason} Choose another --image-size."
        ) from error
    if setup.pretrained:
        import timm

        if name == SMALL or not timm.is_model_pretrained(name):
            raise SpurbenchError(f"Backbone {name!r} has no published weights. Use --no-pretrained, or --weights FILE.")


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
    training = Training.parse({**training.model_dump(), **changes}, "training") if changes else training
    try:
        parsed = method_class.Hyperparameters.parse(given, plugin.name)
        hyper = parsed.resolved(training)
        method = method_class(type(hyper).parse(hyper.model_dump(), plugin.name))
    except SpurbenchError:
        raise
    except Exception as error:
        raise SpurbenchError(
            f"method {plugin.name!r} is broken: {type(error).__name__}: {error} ({plugin.where})"
        ) from error
    own = {name: value for name, value in parsed.model_dump(mode="json").items() if name in given}
    shared = {name: value for name, value in training.model_dump(mode="json").items() if name in changes}
    return training, method, {**own, **shared}


def _preset(request: Request, plugin: Plugin) -> Mapping[str, Any]:
    if request.preset is None:
        return {}
    presets: Mapping[str, Mapping[str, Any]] = plugin.literal("presets", {})
    if request.preset not in presets:
        raise SpurbenchError(
            f"Method {plugin.name!r} has no preset {request.preset!r}. {nearest(request.preset, list(presets))}"
        )
    return presets[request.preset]


def _seeds(request: Request) -> tuple[int, ...]:
    for seed in request.seeds:
        if not (isinstance(seed, int) and 0 <= seed < 2**31):
            raise SpurbenchError(f"Expected seeds from 0 to 2147483647, found {seed!r}.")
    if not request.seeds:
        raise SpurbenchError("Expected at least one seed, found none.")
    return tuple(dict.fromkeys(request.seeds))


def _hash_of(path: Path, option: str) -> str:
    from safetensors import safe_open

    if not path.is_file():
        raise SpurbenchError(f"Expected a safetensors file at {path}, found none. Check {option}.")
    try:
        with safe_open(path, framework="numpy") as archive:
            archive.keys()
    except Exception as error:  # a damaged header raises an error of the library's own
        raise SpurbenchError(f"Expected a safetensors file, found {path}: {error}. Check {option}.") from error
    return file_sha256(path)
