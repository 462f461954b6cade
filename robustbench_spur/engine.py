"""How each kind of stage is computed. Every function is pure: (spec, results of the parents) to files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Part, Predictions, Subject
from robustbench_spur.gathered import Images, together
from robustbench_spur.method import Method, View
from robustbench_spur.models import (
    WEIGHTS,
    check_unchanged,
    ensemble,
    head_weights,
    import_weights,
    load_model,
    method_of,
    prepare_torch,
    replace_head,
    split_of,
)
from robustbench_spur.parameters import Training
from robustbench_spur.pixels import ARRAYS, Progress, gather, images_of, make_pixels
from robustbench_spur.registry import Registry
from robustbench_spur.rerendered import kept_scene
from robustbench_spur.runtime import Runtime
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import Stage
from robustbench_spur.store import content_hash, write_arrays
from robustbench_spur.types import Partition, SpurbenchError, conflict_groups, finite


def execute(stage: Stage, runtime: Runtime, progress: Progress) -> dict[str, Any]:
    """Compute a stage whose parents are there, and publish its artifact.

    Args:
        stage: what to compute.
        runtime: where.
        progress: called with (done, total) now and then.

    Returns:
        What was noted about it: title, cost, notes.
    """
    with runtime.store_of(stage.kind).making(stage.key) as (folder, about):
        _reset_device_memory(runtime)
        wall, cpu = time.perf_counter(), time.process_time()
        about |= STAGES[stage.kind](stage, runtime, folder, progress)
        about["title"], about["kind"] = stage.title, stage.kind
        about["cost"] = {
            "wall_seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "peak_memory_bytes": float(peak_memory()),
            **_device_memory(runtime),
        }
    return about


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:  # not on Windows, which does not say
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset_device_memory(runtime: Runtime) -> None:
    if runtime.device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(runtime.device)


def _device_memory(runtime: Runtime) -> dict[str, float]:
    if not runtime.device.startswith("cuda"):
        return {}
    import torch

    return {"peak_device_bytes": float(torch.cuda.max_memory_allocated(runtime.device))}


# methods


NEEDED = {"train": "train_attributes", "adapt": "adapt"}
"""What a method must declare to see the attributes of a partition; of all others, those of validation."""


def view_of(method: Method, split: OpenSplit, partitions: str | Sequence[str], seed: int) -> View:
    """The rows of one or several partitions as the method may see them."""
    names = (partitions,) if isinstance(partitions, str) else tuple(partitions)
    declared = {name: NEEDED.get(name, "validation_attributes") in method.needs for name in names}
    # what was not declared is not there: neither attributes, nor columns that would give them away
    parts = [_seen(split.table.partitions[name], declared[name]) for name in names]
    ids, labels, attributes, clusters = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    seen = Partition(ids, labels, attributes, clusters)
    return View(seen, split.table.groups, any(declared.values()), method.name, seed)


def _seen(rows: Partition, declared: bool) -> tuple[NDArray[Any], ...]:
    attributes = rows.attributes if declared else np.full_like(rows.attributes, -1)
    return rows.ids, rows.labels, attributes, rows.clusters


def train(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the training loop and keep the weights of the selected epoch."""
    import torch
    from safetensors.torch import save_file

    from robustbench_spur.training import Run

    spec: Any = stage.spec["trajectory"]
    split, method = split_of(stage, runtime), method_of(spec["method"], runtime)
    on, parents = spec.get("on", ["train"]), list(stage.parents)
    images = together([images_of(parents.pop(0), runtime) for _ in on])
    validation = images_of(parents.pop(0), runtime)
    method.phase = spec.get("phase", "")
    method.given = runtime.artifacts.arrays(parents.pop(0).key) if spec["given"] else {}
    start = parents.pop(0) if "start" in spec else None
    training = Training.model_validate({**spec["training"], "epochs": stage.spec["epochs"]})
    prepare_torch(runtime)
    run = Run(
        method=method,
        model=_initial(spec, method, split, images, start, runtime),
        view=view_of(method, split, on, int(spec["seed"])),
        train=images,
        validation=validation,
        validation_labels=split.table.partitions["validation"].labels,
        augmentations=tuple(split.dataset.augmentations),
        training=training,
        selection=str(stage.spec["selection"]),
        seed=int(spec["seed"]),
        device=torch.device(runtime.device),
        precision=str(spec["precision"]),
        folder=runtime.home.root / "trajectories" / content_hash([spec, [p.key for p in stage.parents]]),
        chooser=_chooser(spec["chooser"], parents.pop(0), runtime) if "chooser" in spec else None,
        only_head=bool(spec.get("only_head")),
    )
    weights, history, chosen = run.fit(progress)
    save_file(weights, folder / WEIGHTS)
    write_arrays(folder / ARRAYS, {name: value.numpy() for name, value in run.state.items()})
    count = sum(parameter.numel() for parameter in run.model.parameters())
    return {"history": history, "selected_epoch": chosen, "network": dict(spec["network"]), "parameters": count}


def _chooser(spec: Any, pixels: Stage, runtime: Runtime) -> Any:
    from robustbench_spur.training import Chooser

    table = runtime.split(spec["split"]).table
    rows = table.partitions[spec["partition"]]
    return Chooser(images_of(pixels, runtime), rows.labels, table.groups.index(rows.labels, rows.attributes))


def _initial(spec: Any, method: Method, split: OpenSplit, images: Images, start: Stage | None, runtime: Runtime) -> Any:
    """The network before the first step: from the seed, with the user's backbone, or with another model's weights."""
    from robustbench_spur.networks import build, load_classifier
    from robustbench_spur.randomness import BESIDE, initial

    mean, std = channel_statistics(images)
    network = {**spec["network"], "seed": spec["seed"], "mean": mean, "std": std}
    weights = runtime.weights if network["weights_sha256"] else None
    if weights is not None:
        check_unchanged(weights, network["weights_sha256"])
    model = build(network, len(split.table.groups.classes), weights=weights)
    with initial(int(spec["seed"]), BESIDE, 1):
        method.prepare(model)
    if start is not None:
        load_classifier(model, load_model(start, runtime).state_dict(), start.title)
        model.requires_grad_(True)
    return model


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images in [0, 1], computed in blocks."""
    count, total, squares = 0, np.zeros(images.shape[1]), np.zeros(images.shape[1])
    for start in range(0, len(images), 512):
        block = images[start : start + 512].astype(np.float64) / 255
        count += block.shape[0] * block.shape[2] * block.shape[3]
        total += block.sum(axis=(0, 2, 3))
        squares += (block**2).sum(axis=(0, 2, 3))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
    return mean.tolist(), std.tolist()


def without_nan(value: Any) -> Any:
    """A method's notes with numbers that JSON has not (NaN, infinity) as None.

    >>> without_nan({"loss": [float("nan"), 1.0]})
    {'loss': [None, 1.0]}
    """
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return finite(value) if isinstance(value, float) else value


# arrays


def outputs(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """One prediction pass over a partition."""
    import torch

    from robustbench_spur.feeding import Feed
    from robustbench_spur.passes import predict

    model, pixels = stage.parents
    feed = Feed(images_of(pixels, runtime), torch.device(runtime.device))
    wanted = bool(stage.spec["features"])
    logits, features = predict(load_model(model, runtime), feed, features=wanted, progress=progress)
    arrays = {"logits": logits.numpy()}
    if features is not None:
        arrays["features"] = features.numpy()
    write_arrays(folder / ARRAYS, arrays)
    return {}


def attributions(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Gradient times input of every image of a partition."""
    import torch

    from robustbench_spur.feeding import Feed
    from robustbench_spur.passes import gradient_times_input

    model, pixels = stage.parents
    feed = Feed(images_of(pixels, runtime), torch.device(runtime.device))
    maps = gradient_times_input(load_model(model, runtime), feed, progress)
    write_arrays(folder / ARRAYS, {"maps": maps.to(torch.float16).numpy()})
    return {}


def compute(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Call the method's own function on the arrays of the parents."""
    spec: Any = stage.spec
    method = method_of(spec["method"], runtime)
    view = view_of(method, split_of(stage, runtime), spec["on"], int(spec["seed"]))
    inputs = [runtime.artifacts.arrays(parent.key) for parent in stage.parents]
    arrays, notes = getattr(method, spec["function"])(view, *inputs)
    write_arrays(folder / ARRAYS, {name: np.asarray(array) for name, array in arrays.items()})
    progress(1, 1)
    return {"notes": without_nan(notes)}


def collect(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Let an evaluator collect what it needs of the model."""
    spec: Any = stage.spec
    plugin = Registry(runtime.plugin_files).find("evaluator", spec["evaluator"])
    evaluator_class = plugin.load()
    if plugin.sha256 != spec["code"]:
        raise SpurbenchError(f"The file of evaluator {plugin.name!r} changed since the plan was made. Run again.")
    evaluator = evaluator_class(evaluator_class.Parameters.model_validate(spec["parameters"]))
    arrays = evaluator.collect(_subject(stage, runtime, progress))
    if sorted(arrays) != sorted(evaluator.collects):
        raise SpurbenchError(
            f"Evaluator {evaluator.name!r} promises to collect {list(evaluator.collects)}, found {sorted(arrays)}."
        )
    write_arrays(folder / ARRAYS, {name: np.asarray(array) for name, array in arrays.items()})
    return {}


def _subject(stage: Stage, runtime: Runtime, progress: Progress) -> Subject:
    """What an evaluator may look at: parents are the model, then images and predictions of each partition."""
    spec: Any = stage.spec
    split, model = split_of(stage, runtime), stage.parents[0]
    names = (spec["partition"], *spec["reads"])
    parts = {}
    for name, pixels, logits in zip(names, stage.parents[1::2], stage.parents[2::2], strict=True):
        predictions = predictions_of(split, name, runtime.artifacts.arrays(logits.key)["logits"], {})
        parts[name] = Part(predictions, images_of(pixels, runtime))
    subject = subject_of(split, names[0], parts, spec["reads"], spec["requires"], runtime, stage.parents[1])
    return replace(subject, load=lambda: load_model(model, runtime), device=runtime.device, progress=progress)


def subject_of(
    split: OpenSplit,
    partition: str,
    parts: Mapping[str, Part],
    reads: Sequence[str],
    requires: Sequence[str],
    runtime: Runtime,
    pixels: Stage,
) -> Subject:
    """What an evaluator may look at of a split, without the model.

    Args:
        split: which.
        partition: that is measured.
        parts: it, and those of ``reads``, by name, with images.
        reads: see :attr:`Evaluator.reads`.
        requires: see :attr:`Evaluator.requires`.
        runtime: where scenes are kept.
        pixels: the stage of the partition's images.
    """
    own, rows = parts[partition], split.table.partitions[partition]
    size, code = own.images.shape[-1], split.ref.plugin.sha256
    scenes = {name: partial(split.dataset.scene, name, split.ref.split, rows, size) for name in requires}
    return Subject(
        own.predictions,
        own.images,
        others={name: parts[name] for name in reads},
        scenes={name: kept_scene(runtime, pixels, name, code, len(rows), render) for name, render in scenes.items()},
        columns=rows.extra,
    )


def predictions_of(
    split: OpenSplit, partition: str, logits: NDArray[np.float32], arrays: dict[str, NDArray[Any]]
) -> Predictions:
    """Logits of a partition together with what is true of it."""
    rows, groups = split.table.partitions[partition], split.table.groups_in(partition)
    conflict = conflict_groups(split.table.counts()["train"], groups)
    return Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, logits, groups, arrays, conflict)


STAGES: dict[str, Callable[[Stage, Runtime, Path, Progress], dict[str, Any]]] = {
    "pixels": make_pixels,
    "gather": gather,
    "train": train,
    "import": import_weights,
    "head": replace_head,
    "ensemble": ensemble,
    "weights": head_weights,
    "outputs": outputs,
    "attributions": attributions,
    "compute": compute,
    "collect": collect,
}
