"""Weights and data to what evaluators say: predictions and collections as in a run, without training and without a record.

The weights stand in for the training of the board's baseline, so that images, predictions and collections are the stages
of a plan: those that are there already are not made again. Evaluation is in float32, whatever the file holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustbench_spur.cell import CellSpec, Stages, build_stages, lacking
from robustbench_spur.engine import predictions_of
from robustbench_spur.evaluators.base import Evaluator
from robustbench_spur.executor import Outcome
from robustbench_spur.fitting import WeightsFile, fitted, read_weights
from robustbench_spur.home import Home
from robustbench_spur.manifest import DEFAULT_BOARD, Manifest, load_manifest
from robustbench_spur.measuring import Measured, Seed, available, measure
from robustbench_spur.pixels import images_of
from robustbench_spur.plan import Plan, PlannedCell, make_plan
from robustbench_spur.registry import Registry
from robustbench_spur.request import Request, hash_of
from robustbench_spur.runner import Watcher, carry_out_stages
from robustbench_spur.runtime import Runtime, require_writable
from robustbench_spur.store import content_hash
from robustbench_spur.types import SpurbenchError

PARTITION = "test"


@dataclass(frozen=True)
class Ask:
    """Which weights to look at, and on what.

    Args:
        weights: safetensors file of a whole classifier; None where the model is somebody's code.
        splits: names.
        arch: of the network; what the file's metadata say where None.
        image_size: in pixels; what the metadata say, else the board's, where None.
        evaluators: names; all that are installed where empty.
        costly: whether those are among all that take minutes.
        mean: by channel, of images in [0, 1], where the weights do not hold it.
        std: likewise.
        board: version.
        data: place of the user's files, by dataset.
        split_settings: of the datasets, by name.
        plugin_files: drafts of plugins.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        home: folder of results; images and predictions are kept there.
    """

    weights: Path | None
    splits: tuple[str, ...]
    arch: str | None = None
    image_size: int | None = None
    evaluators: tuple[str, ...] = ()
    costly: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    board: str = DEFAULT_BOARD
    data: Mapping[str, Path] = field(default_factory=dict)
    split_settings: Mapping[str, Any] = field(default_factory=dict)
    plugin_files: tuple[Path, ...] = ()
    device: str = "auto"
    home: Home = field(default_factory=Home.default)


@dataclass(frozen=True)
class Examined:
    """What was found on one split.

    Args:
        split: in full.
        measured: by all evaluators, on the test partition.
        notes: what was assumed, for people.
        images: of the test partition, uint8, shape (n, channels, height, width), perhaps a memory map.
    """

    split: str
    measured: Measured
    notes: tuple[str, ...]
    images: Any = None


def examine(ask: Ask, watcher: Watcher) -> Iterator[Examined]:
    """Look at weights on every split that is asked for, one after the other.

    Args:
        ask: what.
        watcher: is told how it goes on.

    Yields:
        One entry per split; the folds of a protocol are splits of their own.

    Raises:
        SpurbenchError: unknown network, weights that do not fit it or the split's classes, or anything else in the request
            that cannot be done.
    """
    if ask.weights is None:
        raise SpurbenchError("Expected a file of weights, found none. Give --weights.")
    file = read_weights(ask.weights)
    manifest, registry = load_manifest(ask.board), Registry(ask.plugin_files)
    evaluators, left_out = available(registry, manifest, ask.evaluators, costly=ask.costly)
    plan = make_plan(_request(ask, file, manifest, tuple(one.name for one in evaluators)))
    require_writable(ask.home)
    with tempfile.TemporaryDirectory(prefix="spurbench-") as folder:
        cells, notes = [], {}
        for number, cell in enumerate(plan.cells):
            place = Path(folder) / str(number) / file.path.name
            ready, told = _with_weights(cell, file, ask, place)
            cells.append(ready)
            notes[ready.key] = told
        plan = replace(plan, cells=tuple(cells))
        watcher.planned(plan)
        for cell, outcomes in carry_out_stages(plan, plan.cells, watcher):
            yield Examined(
                cell.spec.split.ref.full,
                _measured(cell, outcomes, plan, evaluators, left_out),
                notes[cell.key],
                images_of(cell.stages.pixels[PARTITION], plan.runtime) if cell.stages else None,
            )


def _request(ask: Ask, file: WeightsFile, manifest: Manifest, evaluators: tuple[str, ...]) -> Request:
    arch = ask.arch or file.network.get("backbone")
    if arch is None:
        raise SpurbenchError(f"Expected the name of the network, and {file.path} does not say it. Give --arch.")
    return Request(
        methods=(manifest.baseline,),
        splits=ask.splits,
        evaluators=evaluators,
        backbone=arch,
        image_size=ask.image_size or file.network.get("image_size"),
        pretrained=False,
        checkpoints={manifest.baseline: file.path},
        split_settings=ask.split_settings,
        board=ask.board,
        data=ask.data,
        plugin_files=ask.plugin_files,
        device=ask.device,
        force=True,
        again=True,
        home=ask.home,
    )


def _with_weights(cell: PlannedCell, file: WeightsFile, ask: Ask, place: Path) -> tuple[PlannedCell, tuple[str, ...]]:
    """The cell with weights that fit its network, reduced to what evaluators on the test partition need."""
    spec = cell.spec
    path, notes = fitted(
        file,
        backbone=spec.backbone,
        channels=spec.split.dataset.channels,
        classes=spec.split.table.groups.classes,
        normalisation=(ask.mean, ask.std),
        place=place,
    )
    spec = replace(spec, checkpoints={spec.plugin.name: (path, hash_of(path, "--weights"))})
    return replace(cell, spec=spec, stages=_reduced(spec)), notes


def _reduced(spec: CellSpec) -> Stages:
    whole = build_stages(spec)
    collected = {key: stage for key, stage in whole.collected.items() if key[1] == PARTITION}
    return replace(whole, outputs={PARTITION: whole.outputs[PARTITION]}, collected=collected)


def _measured(
    cell: PlannedCell,
    outcomes: Mapping[str, Outcome],
    plan: Plan,
    evaluators: list[Evaluator],
    left_out: Mapping[str, str],
) -> Measured:
    """What evaluators say of a cell whose stages have ended."""
    spec, stages = cell.spec, cell.stages
    if stages is None:
        raise SpurbenchError(cell.error.message if cell.error else cell.reason)
    if error := outcomes[stages.outputs[PARTITION].key].error:
        raise SpurbenchError(error.message)
    told, failed, sound = dict(left_out), dict[str, str](), list[Evaluator]()
    for one in evaluators:
        collection = stages.collected.get((one.name, PARTITION))
        if why := _why_not(one, spec):
            told[one.name] = why
        elif collection is not None and (error := outcomes[collection.key].error):
            failed[one.name] = error.message
        else:
            sound.append(one)
    seed = _seed(spec, stages, plan.runtime, [one.name for one in sound])
    found = measure([seed], sound, plan.manifest.bootstrap, cache=plan.runtime.scores, left_out=told)
    return replace(found, failed={**failed, **found.failed})


def _why_not(evaluator: Evaluator, spec: CellSpec) -> str:
    if PARTITION not in evaluator.partitions:
        return f"is about {', '.join(evaluator.partitions)}, not about {PARTITION}"
    return lacking(spec.split, evaluator.reads, evaluator.requires)


def _seed(spec: CellSpec, stages: Stages, runtime: Runtime, names: list[str]) -> Seed:
    """The predictions with what the evaluators named collected."""
    collections = [stage for (name, _), stage in stages.collected.items() if name in names]
    arrays = {name: array for stage in collections for name, array in runtime.artifacts.arrays(stage.key).items()}
    outputs = stages.outputs[PARTITION]
    logits = runtime.artifacts.arrays(outputs.key)["logits"]
    key = content_hash([outputs.key, sorted(stage.key for stage in collections)])
    return Seed(spec.split.ref.full, predictions_of(spec.split, PARTITION, logits, arrays), key)
