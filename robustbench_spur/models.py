"""Stages whose result is a model, and how a model is put together again from what they left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustbench_spur.code import code_of
from robustbench_spur.method import Method
from robustbench_spur.parameters import Training
from robustbench_spur.pixels import ARRAYS, Progress
from robustbench_spur.registry import Registry
from robustbench_spur.runtime import Runtime
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import Stage
from robustbench_spur.store import file_sha256, write_arrays
from robustbench_spur.types import SpurbenchError
from robustbench_spur.wrapping import wrap_base

WEIGHTS = "weights.safetensors"


def split_of(stage: Stage, runtime: Runtime) -> OpenSplit:
    """The split that a stage is about; its table must be the one that was planned."""
    return runtime.split(stage.spec["trajectory"]["split"] if "trajectory" in stage.spec else stage.spec["split"])


def method_of(identity: dict[str, Any], runtime: Runtime) -> Method:
    """The method that an identity names, with its settings.

    Raises:
        SpurbenchError: its code is not what it was when the plan was made.
    """
    plugin_class = Registry(runtime.plugin_files).find("method", identity["name"]).load()
    if code_of(plugin_class) != identity["code"]:
        raise SpurbenchError(f"The file of method {identity['name']!r} changed since the plan was made. Run again.")
    loaded: Method = plugin_class(plugin_class.Hyperparameters.parse(identity["settings"], identity["name"]))
    wrap_base(loaded, Registry(runtime.plugin_files), Training())
    return loaded


def prepare_torch(runtime: Runtime) -> None:
    """The one place that sets torch's global switches: threads, and results that repeat on a GPU."""
    import torch

    torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # evaluation and attacks are in float32 proper: TF32 would round their products to 10 bits
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def check_unchanged(path: Path, sha256: str) -> None:
    """Refuse a file that is not the one that was planned with.

    Raises:
        SpurbenchError: it is missing or has changed.
    """
    if not path.is_file() or file_sha256(path) != sha256:
        raise SpurbenchError(f"{path} changed since the plan was made. Run again.")


def import_weights(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Take a checkpoint of the user's as the model, after checking that it fits the network."""
    from safetensors.torch import load_file, save_file

    from robustbench_spur.networks import load_classifier

    path = Path(stage.place["weights"])
    check_unchanged(path, str(stage.spec["sha256"]))
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


def _skeleton(stage: Stage, runtime: Runtime) -> Any:
    """The network of a model's stage, with weights yet to be loaded."""
    import torch

    from robustbench_spur.heads import Ensemble, make_head
    from robustbench_spur.randomness import initial

    if stage.kind == "ensemble":
        return Ensemble([_skeleton(parent, runtime) for parent in stage.parents])
    network = runtime.artifacts.about(stage.key)["network"]
    if stage.kind == "head":
        model = _skeleton(stage.parents[0], runtime)
        classes = len(split_of(_root(stage), runtime).table.groups.classes)
        head = network.get("head")
        with initial(0):
            model.head = make_head(head, classes, model.width) if head else torch.nn.Linear(model.width, classes)
        return model
    model = _empty_model(stage, runtime, network)
    if stage.kind == "train":
        with initial(0):
            method_of(stage.spec["trajectory"]["method"], runtime).prepare(model)
    return model


def _root(stage: Stage) -> Stage:
    """The stage that gave a model its backbone."""
    return stage if stage.kind in ("train", "import") else _root(stage.parents[0])


def replace_head(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write the parent's weights with another last layer."""
    import torch
    from safetensors.torch import load_file, save_file

    from robustbench_spur.heads import describe_head

    model, head = stage.parents
    weights = load_file(runtime.artifacts.folder(model.key) / WEIGHTS)
    arrays = runtime.artifacts.arrays(head.key)
    classes = len(split_of(_root(model), runtime).table.groups.classes)
    about = describe_head(arrays, classes, _skeleton(model, runtime).width)
    weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    for name, array in arrays.items():
        weights[f"head.{name}"] = torch.from_numpy(array).to(torch.float32).contiguous()
    save_file(weights, folder / WEIGHTS)
    progress(1, 1)
    network = {name: value for name, value in runtime.artifacts.about(model.key)["network"].items() if name != "head"}
    return {"network": {**network, **({"head": about} if about else {})}}


def head_weights(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Take the last layer out of a model."""
    from safetensors.torch import load_file

    weights = load_file(runtime.artifacts.folder(stage.parents[0].key) / WEIGHTS)
    head = {name.removeprefix("head."): value.numpy() for name, value in weights.items() if name.startswith("head.")}
    write_arrays(folder / ARRAYS, head)
    progress(1, 1)
    return {}


def ensemble(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Put the weights of several models into one file."""
    from safetensors.torch import load_file, save_file

    weights: dict[str, Any] = {}
    for number, parent in enumerate(stage.parents):
        own = load_file(runtime.artifacts.folder(parent.key) / WEIGHTS)
        weights |= {f"members.{number}.{name}": value for name, value in own.items()}
        progress(number + 1, len(stage.parents))
    save_file(weights, folder / WEIGHTS)
    return {"network": {"members": [runtime.artifacts.about(parent.key)["network"] for parent in stage.parents]}}


def load_model(stage: Stage, runtime: Runtime) -> Any:
    """The model of a stage: on the device, eval mode, float32, channels last."""
    import torch
    from safetensors.torch import load_file

    from robustbench_spur.networks import load_classifier

    prepare_torch(runtime)
    model = _skeleton(stage, runtime)
    weights = load_file(runtime.artifacts.folder(stage.key) / WEIGHTS)
    load_classifier(model, weights, stage.title)
    ready = model.to(runtime.device, memory_format=torch.channels_last).eval()
    return ready.requires_grad_(False)
