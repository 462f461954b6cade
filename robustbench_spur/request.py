"""What a user asks for, and the checks of all that can be set: budget, network, method, seeds, files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.manifest import DEFAULT_BOARD, Manifest, Setup
from robustbench_spur.parameters import Training
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splitref import OpenSplit, SplitRef
from robustbench_spur.store import file_sha256
from robustbench_spur.tuning.presets import TUNED, TunedPreset, find_preset
from robustbench_spur.types import SpurbenchError, nearest
from robustbench_spur.wrapping import wrap_base

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
        preset: name of a method's preset to start from; ``"tuned"`` is the one that a search chose for the split.
        evaluators: names; ``board`` for the board's, which none stands for too, and ``all`` for every one.
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


def in_a_line(error: BaseException) -> str:
    """Kind and first line of an error that comes from other people's code."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".rstrip(".: ")


def setup_of(request: Request, manifest: Manifest, split: OpenSplit) -> Setup:
    """What the board trains the dataset with, with the request's changes.

    Raises:
        SpurbenchError: a size that dataset or network does not take, or an unknown backbone.
    """
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
    backbone = board.backbone if request.backbone is None else request.backbone
    setup = Setup(
        backbone=_tagged(backbone) if pretrained and request.weights is None else backbone,
        image_size=size,
        pretrained=pretrained and request.weights is None,
        training=board.training,
    )
    _check_network(setup, dataset.channels)
    return setup


def _tagged(backbone: str) -> str:
    """The name with the tag of its published weights: which those are changes with timm's version otherwise."""
    import timm

    if "." in backbone or not timm.is_model_pretrained(backbone):
        return backbone
    published = timm.get_pretrained_cfg(backbone)
    return f"{backbone}.{published.tag}" if published is not None and published.tag else backbone


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
        raise SpurbenchError(
            f"Backbone {name!r} takes no images of {size} x {size} pixels: {in_a_line(error)}. Choose another --image-size."
        ) from error
    if setup.pretrained:
        import timm

        if name == SMALL or not timm.is_model_pretrained(name):
            raise SpurbenchError(f"Backbone {name!r} has no published weights. Use --no-pretrained, or --weights FILE.")


def check_settings(request: Request, plugins: list[Plugin]) -> None:
    """Every setting must be known to the budget or to one of the methods, and the selection rule must be one.

    Raises:
        SpurbenchError: it is not; the nearest names are given.
    """
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
    if request.selection is not None and request.selection not in SELECTIONS:
        raise SpurbenchError(f"Unknown selection rule {request.selection!r}. {nearest(request.selection, SELECTIONS)}")


def configure(
    request: Request, plugin: Plugin, training: Training, preset: Mapping[str, Any]
) -> tuple[Training, Any, dict[str, Any]]:
    """The budget, the method, and the settings that were given for both.

    Args:
        request: its settings go before the preset's.
        plugin: of the method.
        training: the board's budget.
        preset: settings to start from; see :func:`preset_of`.

    Raises:
        SpurbenchError: a value out of range or of the wrong type, or a broken method.
    """
    fields = plugin.load().Hyperparameters.model_fields
    shared = Training.model_fields.keys() - fields.keys()
    given = {name: value for name, value in preset.items() if name not in shared}
    given |= {name: value for name, value in request.settings.items() if name in fields}
    changes = {n: v for n, v in {**preset, **request.settings}.items() if n in shared}
    training = Training.parse({**training.model_dump(), **changes}, "training") if changes else training
    method, own = make_method(plugin, given, training)
    wrap_base(method, Registry(request.plugin_files), training)
    of_budget = {name: value for name, value in training.model_dump(mode="json").items() if name in changes}
    return training, method, {**own, **of_budget}


def make_method(plugin: Plugin, given: Mapping[str, Any], training: Training) -> tuple[Any, dict[str, Any]]:
    """A method with its settings, shares of the budget worked out, and those of them that were given.

    Raises:
        SpurbenchError: a value out of range or of the wrong type, or a broken method.
    """
    method_class = plugin.load()
    try:
        parsed = method_class.Hyperparameters.parse(given, plugin.name)
        hyper = parsed.resolved(training)
        method = method_class(type(hyper).parse(hyper.model_dump(), plugin.name))
    except SpurbenchError:
        raise
    except (Exception, SystemExit) as error:  # other people's constructors
        raise SpurbenchError(f"method {plugin.name!r} is broken: {in_a_line(error)} ({plugin.where})") from error
    return method, {name: value for name, value in parsed.model_dump(mode="json").items() if name in given}


def preset_of(request: Request, plugin: Plugin, ref: SplitRef) -> tuple[Mapping[str, Any], TunedPreset | None]:
    """The settings of the preset asked for, and the evidence for them where a search chose them for this split.

    Raises:
        SpurbenchError: the method has no such preset, or no tuned one for the split.
    """
    if request.preset is None:
        return {}, None
    if request.preset == TUNED:
        tuned = find_preset(plugin, ref, request.home)
        return tuned.settings, tuned
    presets: Mapping[str, Mapping[str, Any]] = plugin.literal("presets", {})
    if request.preset not in presets:
        raise SpurbenchError(
            f"Method {plugin.name!r} has no preset {request.preset!r}. {nearest(request.preset, list(presets))}"
        )
    return presets[request.preset], None


def seeds_of(request: Request) -> tuple[int, ...]:
    """The seeds asked for, each once.

    Raises:
        SpurbenchError: none, or one that is negative, too large or no whole number.
    """
    for seed in request.seeds:
        if not (isinstance(seed, int) and 0 <= seed < 2**31):
            raise SpurbenchError(f"Expected seeds from 0 to 2147483647, found {seed!r}.")
    if not request.seeds:
        raise SpurbenchError("Expected at least one seed, found none.")
    return tuple(dict.fromkeys(request.seeds))


def hash_of(path: Path, option: str) -> str:
    """sha256 of a file of weights.

    Args:
        path: of a safetensors file.
        option: that named it, for the message.

    Raises:
        SpurbenchError: it is missing, or no safetensors file.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise SpurbenchError(f"Expected a safetensors file at {path}, found none. Check {option}.")
    try:
        with safe_open(path, framework="numpy") as archive:
            archive.keys()
    except Exception as error:  # a damaged header raises an error of the library's own
        raise SpurbenchError(f"Expected a safetensors file, found {path}: {error}. Check {option}.") from error
    return file_sha256(path)
