"""How each kind of stage is computed. Every function is pure: (spec, results of the parents) to files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.gathered import Images
from robustbench_spur.method import Method, View, code_of
from robustbench_spur.parameters import Training
from robustbench_spur.pixels import ARRAYS, Progress, gather, images_of, make_pixels
from robustbench_spur.registry import Registry
from robustbench_spur.runtime import Runtime
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import Stage
from robustbench_spur.store import content_hash, file_sha256, write_arrays
from robustbench_spur.types import Partition, SpurbenchError, finite

WEIGHTS = "weights.safetensors"


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


def split_of(stage: Stage, runtime: Runtime) -> OpenSplit:
    """The split that a stage is about; its table must be the one that was planned."""
    return runtime.split(stage.spec["trajectory"]["split"] if "trajectory" in stage.spec else stage.spec["split"])


# methods


def method_of(identity: dict[str, Any], runtime: Runtime) -> Method:
    """The method that an identity names, with its settings.

    Raises:
        SpurbenchError: its code is not what it was when the plan was made.
    """
    plugin_class = Registry(runtime.plugin_files).find("method", identity["name"]).load()
    if code_of(plugin_class) != identity["code"]:
        raise SpurbenchError(f"The file of method {identity['name']!r} changed since the plan was made. Run again.")
    loaded: Method = plugin_class(plugin_class.Hyperparameters.parse(identity["settings"], identity["name"]))
    return loaded


def view_of(method: Method, split: OpenSplit, partition: str, seed: int) -> View:
    """The rows of a partition as the method may see them."""
    needs = {"train": "train_attributes", "adapt": "adapt"}
    need = needs.get(partition, "validation_attributes")
    rows = split.table.partitions[partition]
    declared = need in method.needs
    # what was not declared is not there: neither attributes, nor columns that would give them away
    attributes = rows.attributes if declared else np.full_like(rows.attributes, -1)
    seen = Partition(rows.ids, rows.labels, attributes, rows.clusters)
    return View(seen, split.table.groups, declared, method.name, seed)


def train(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the training loop and keep the weights of the selected epoch."""
    import torch
    from safetensors.torch import save_file

    from robustbench_spur.training import Run

    spec: Any = stage.spec["trajectory"]
    split, method = split_of(stage, runtime), method_of(spec["method"], runtime)
    method.given = runtime.artifacts.arrays(stage.parents[2].key) if spec["given"] else {}
    training = Training.model_validate({**spec["training"], "epochs": stage.spec["epochs"]})
    images = [images_of(parent, runtime) for parent in stage.parents[:2]]
    prepare_torch(runtime)
    run = Run(
        method=method,
        model=_initial(spec, split, images[0], runtime),
        view=view_of(method, split, "train", int(spec["seed"])),
        train=images[0],
        validation=images[1],
        validation_labels=split.table.partitions["validation"].labels,
        augmentations=tuple(split.dataset.augmentations),
        training=training,
        selection=str(stage.spec["selection"]),
        seed=int(spec["seed"]),
        device=torch.device(runtime.device),
        precision=str(spec["precision"]),
        folder=runtime.home.root / "trajectories" / content_hash([spec, [p.key for p in stage.parents]]),
        chooser=_chooser(spec["chooser"], stage.parents[-1], runtime) if "chooser" in spec else None,
    )
    weights, history, chosen = run.fit(progress)
    save_file(weights, folder / WEIGHTS)
    count = sum(parameter.numel() for parameter in run.model.parameters())
    return {"history": history, "selected_epoch": chosen, "network": dict(spec["network"]), "parameters": count}


def _chooser(spec: Any, pixels: Stage, runtime: Runtime) -> Any:
    from robustbench_spur.training import Chooser

    table = runtime.split(spec["split"]).table
    rows = table.partitions[spec["partition"]]
    return Chooser(images_of(pixels, runtime), rows.labels, table.groups.index(rows.labels, rows.attributes))


def _initial(spec: Any, split: OpenSplit, images: Images, runtime: Runtime) -> Any:
    from robustbench_spur.networks import build

    mean, std = channel_statistics(images)
    network = {**spec["network"], "seed": spec["seed"], "mean": mean, "std": std}
    weights = runtime.weights if network["weights_sha256"] else None
    if weights is not None:
        _check_unchanged(weights, network["weights_sha256"])
    return build(network, len(split.table.groups.classes), weights=weights)


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


def prepare_torch(runtime: Runtime) -> None:
    """The one place that sets torch's global switches: threads, and results that repeat on a GPU."""
    import torch

    torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # evaluation and attacks are in float32 proper: TF32 would round their products to 10 bits
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _check_unchanged(path: Path, sha256: str) -> None:
    if not path.is_file() or file_sha256(path) != sha256:
        raise SpurbenchError(f"{path} changed since the plan was made. Run again.")


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


def import_weights(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Take a checkpoint of the user's as the model, after checking that it fits the network."""
    from safetensors.torch import load_file, save_file

    from robustbench_spur.networks import load_classifier

    path = Path(stage.place["weights"])
    _check_unchanged(path, str(stage.spec["sha256"]))
    try:
        state = load_file(path)
    except Exception as error:
        raise SpurbenchError(f"Expected a safetensors file at {path}: {error}") from error
    model = _empty_model(stage, runtime, dict(stage.spec["network"]))
    load_classifier(model, state, str(path))
    save_file(state, folder / WEIGHTS)
    progress(1, 1)
    return {"network": dict(stage.spec["network"])}


def _empty_model(stage: Stage, runtime: Runtime, network: dict[str, Any]) -> Any:
    from robustbench_spur.networks import build

    split = split_of(stage, runtime)
    channels = split.dataset.channels
    bare = {**network, "seed": 0, "pretrained": False, "mean": [0.0] * channels, "std": [1.0] * channels}
    return build(bare, len(split.table.groups.classes))


def replace_head(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write the parent's weights with another last layer."""
    import torch
    from safetensors.torch import load_file, save_file

    model, head = stage.parents
    weights = load_file(runtime.artifacts.folder(model.key) / WEIGHTS)
    arrays = runtime.artifacts.arrays(head.key)
    for name in ("weight", "bias"):
        new = torch.from_numpy(arrays[name]).to(torch.float32).contiguous()
        if new.shape != weights[f"head.{name}"].shape:
            raise SpurbenchError(
                f"Expected a last layer's {name} of shape {tuple(weights[f'head.{name}'].shape)}, found {tuple(new.shape)}."
            )
        weights[f"head.{name}"] = new
    save_file(weights, folder / WEIGHTS)
    progress(1, 1)
    return {"network": runtime.artifacts.about(model.key)["network"]}


def load_model(stage: Stage, runtime: Runtime) -> Any:
    """The model of a train, import or head stage: on the device, eval mode, float32, channels last."""
    import torch
    from safetensors.torch import load_file

    from robustbench_spur.networks import load_classifier

    root = next(ancestor for ancestor in stage.ancestry() if ancestor.kind in ("train", "import"))
    prepare_torch(runtime)
    network = runtime.artifacts.about(stage.key)["network"]
    model = _empty_model(root, runtime, network)
    weights = load_file(runtime.artifacts.folder(stage.key) / WEIGHTS)
    load_classifier(model, weights, stage.title)
    ready = model.to(runtime.device, memory_format=torch.channels_last).eval()
    return ready.requires_grad_(False)


# arrays


def outputs(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """One prediction pass over a partition."""
    import torch

    from robustbench_spur.feeding import Feed
    from robustbench_spur.training import predict

    model, pixels = stage.parents
    feed = Feed(images_of(pixels, runtime), torch.device(runtime.device))
    wanted = bool(stage.spec["features"])
    logits, features = predict(load_model(model, runtime), feed, features=wanted, progress=progress)
    arrays = {"logits": logits.numpy()}
    if features is not None:
        arrays["features"] = features.numpy()
    write_arrays(folder / ARRAYS, arrays)
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
    model, pixels, logits = stage.parents
    plugin = Registry(runtime.plugin_files).find("evaluator", spec["evaluator"])
    evaluator_class = plugin.load()
    if plugin.sha256 != spec["code"]:
        raise SpurbenchError(f"The file of evaluator {plugin.name!r} changed since the plan was made. Run again.")
    evaluator = evaluator_class(evaluator_class.Parameters.model_validate(spec["parameters"]))
    split = split_of(stage, runtime)
    predictions = predictions_of(split, spec["partition"], runtime.artifacts.arrays(logits.key)["logits"], {})
    images = images_of(pixels, runtime)
    loaded = load_model(model, runtime)
    arrays = evaluator.collect(loaded, images, predictions, device=runtime.device, progress=progress)
    if sorted(arrays) != sorted(evaluator.collects):
        raise SpurbenchError(
            f"Evaluator {evaluator.name!r} promises to collect {list(evaluator.collects)}, found {sorted(arrays)}."
        )
    write_arrays(folder / ARRAYS, {name: np.asarray(array) for name, array in arrays.items()})
    return {}


def predictions_of(
    split: OpenSplit, partition: str, logits: NDArray[np.float32], arrays: dict[str, NDArray[Any]]
) -> Predictions:
    """Logits of a partition together with what is true of it."""
    rows, groups = split.table.partitions[partition], split.table.groups_in(partition)
    return Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, logits, groups, arrays)


STAGES: dict[str, Callable[[Stage, Runtime, Path, Progress], dict[str, Any]]] = {
    "pixels": make_pixels,
    "gather": gather,
    "train": train,
    "import": import_weights,
    "head": replace_head,
    "outputs": outputs,
    "compute": compute,
    "collect": collect,
}
