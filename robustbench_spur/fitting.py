"""Weights of strangers made to fit: a safetensors file of a whole classifier, this project's or a plain one such as timm's.

A plain file has the backbone's weights and a last layer under the name that the library gives it (``fc``, ``head``,
``classifier``), but not how images were normalised: timm's values for the network are taken where none are given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.types import SpurbenchError

Shape = tuple[int, ...]
WRAPPERS = ("module.", "model.", "_orig_mod.", "backbone.")
"""What names of weights begin with where a network lay inside another."""
LAST_LAYERS = ("head", "fc", "classifier", "head.fc", "last_linear")
COUNTER = "num_batches_tracked"
"""A count that old files lack and evaluation does not read."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, of which the header has been read.

    Args:
        path: of the file.
        shapes: of the weights, by name.
        network: what its metadata say of the network (``backbone``, ``image_size``); empty where nothing.
        method: name of the method it was trained with, by the metadata; empty where they do not say.
    """

    path: Path
    shapes: Mapping[str, Shape]
    network: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""


def read_weights(path: Path) -> WeightsFile:
    """Read the header of a safetensors file.

    Raises:
        SpurbenchError: it is missing, or no safetensors file.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise SpurbenchError(f"Expected a safetensors file at {path}, found none. Check --weights.")
    try:
        with safe_open(path, framework="numpy") as archive:
            shapes = {name: tuple(archive.get_slice(name).get_shape()) for name in archive.keys()}  # noqa: SIM118
            about = archive.metadata() or {}
    except Exception as error:  # a damaged header raises an error of the library's own
        raise SpurbenchError(
            f"Expected a safetensors file, found {path}: {error}. Check --weights; files of pickled weights are not read."
        ) from error
    try:
        identity = json.loads(about.get("identity", "{}"))
        return WeightsFile(
            path, shapes, dict(identity.get("network", {})), str(identity.get("method", {}).get("name", ""))
        )
    except (ValueError, AttributeError, TypeError):  # metadata of another program under the same name
        return WeightsFile(path, shapes)


def fitted(
    file: WeightsFile,
    *,
    backbone: str,
    channels: int,
    classes: Sequence[str],
    normalisation: tuple[Sequence[float], Sequence[float]],
    place: Path,
) -> tuple[Path, tuple[str, ...]]:
    """A file of weights that fits a classifier, after checking that it does; the file itself where it is whole.

    Args:
        file: the weights.
        backbone: name of the network.
        channels: of the images.
        classes: names of the classes.
        normalisation: mean and standard deviation by channel, of images in [0, 1]; empty where they are not given.
        place: where a file is written, if one must be.

    Returns:
        The path, and what was assumed.

    Raises:
        SpurbenchError: weights are missing, left over or of another shape, or are for other classes.
    """
    expected = _expected(backbone, channels, len(classes))
    if "mean" in file.shapes and "head.weight" in file.shapes:
        if any(normalisation):
            raise SpurbenchError(f"{file.path} holds how images are normalised. Leave out --mean and --std.")
        _check(file, file.shapes, expected, backbone, classes)
        return file.path, ()
    names = _renamed(file, backbone, expected)
    needed = {name: shape for name, shape in expected.items() if name not in ("mean", "std")}
    needed = {name: shape for name, shape in needed.items() if not name.endswith(COUNTER) or name in names}
    _check(file, {own: file.shapes[theirs] for own, theirs in names.items()}, needed, backbone, classes)
    mean, std, note = _normalisation(normalisation, backbone, channels)
    _write(file, names, expected, (mean, std), place)
    return place, (note,) if note else ()


def _expected(backbone: str, channels: int, classes: int) -> dict[str, Shape]:
    """Names and shapes of the weights of a classifier; nothing is computed."""
    import torch

    from robustbench_spur.networks import build

    network = {"backbone": backbone, "channels": channels, "seed": 0, "pretrained": False}
    with torch.device("meta"):
        model = build({**network, "mean": [0.0] * channels, "std": [1.0] * channels}, classes)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _renamed(file: WeightsFile, backbone: str, expected: Mapping[str, Shape]) -> dict[str, str]:
    """Names in the file by the classifier's names."""
    plain = {name: name for name in file.shapes}
    for _ in WRAPPERS:
        for wrapper in WRAPPERS:
            if plain and all(name.startswith(wrapper) for name in plain):
                plain = {name.removeprefix(wrapper): theirs for name, theirs in plain.items()}
    plain = {name.removeprefix("backbone."): theirs for name, theirs in plain.items()}
    last = next(
        (one for one in _last_layers(backbone) if len(file.shapes.get(plain.get(f"{one}.weight", ""), ())) == 2), None
    )
    if last is None or f"backbone.{last}.weight" in expected:
        raise SpurbenchError(
            f"Expected a last layer in {file.path} beside the backbone, such as fc.weight, found none. A backbone alone says"
            " nothing of classes: train on it with spurbench run --weights."
        )
    heads = {f"head.{part}": plain.pop(f"{last}.{part}") for part in ("weight", "bias") if f"{last}.{part}" in plain}
    return {**{f"backbone.{name}": theirs for name, theirs in plain.items()}, **heads}


def _last_layers(backbone: str) -> Iterator[str]:
    """What the last layer of a network may be called, timm's own name for it first."""
    import timm

    published = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    stated = getattr(published, "classifier", None)
    yield from (stated,) if isinstance(stated, str) else ()
    yield from LAST_LAYERS


def _check(
    file: WeightsFile, found: Mapping[str, Shape], expected: Mapping[str, Shape], backbone: str, classes: Sequence[str]
) -> None:
    head = found.get("head.weight", ())
    if len(head) == 2 and head[0] != len(classes) and head[1:] == expected["head.weight"][1:]:
        raise SpurbenchError(
            f"Expected weights for {len(classes)} classes ({', '.join(classes)}), found a last layer for {head[0]} in"
            f" {file.path}. Choose the split that it was trained on."
        )
    missing = [name for name in expected if name not in found]
    strange = [name for name in found if name not in expected]
    other = [name for name in found if name in expected and found[name] != expected[name]]
    if not (missing or strange or other):
        return
    told = []
    if missing:
        told.append(f"lacks {len(missing)} weights, such as {missing[0]!r}")
    if strange:
        told.append(f"has {len(strange)} that {backbone} does not have, such as {strange[0]!r}")
    if other:
        name = other[0]
        told.append(f"has {len(other)} of another shape, such as {name!r} ({found[name]} for {expected[name]})")
    hint = f" The metadata say that it is of method {file.method!r}." if file.method else ""
    raise SpurbenchError(
        f"The weights in {file.path} do not fit {backbone}: it {', and '.join(told)}. Check --arch.{hint}"
    )


def _normalisation(
    given: tuple[Sequence[float], Sequence[float]], backbone: str, channels: int
) -> tuple[Sequence[float], Sequence[float], str]:
    """Mean and standard deviation by channel, and a note where they were assumed."""
    mean, std = given
    if mean or std:
        if len(mean) != channels or len(std) != channels or min(std, default=0) <= 0:
            raise SpurbenchError(
                f"Expected {channels} numbers each in --mean and --std, those of --std above 0, found {list(mean)} and"
                f" {list(std)}."
            )
        return mean, std, ""
    import timm

    published = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    if published is None or len(published.mean) != channels:
        raise SpurbenchError(
            f"Expected to know how the images were normalised in training; these weights do not say, and timm has no values"
            f" for {backbone} with {channels} channel(s). Give --mean and --std, of images in [0, 1] (0 and 1 for none)."
        )
    mean, std = tuple(published.mean), tuple(published.std)
    note = f"Images are normalised with timm's values for {backbone}, mean {mean} and std {std}; others: --mean, --std."
    return mean, std, note


def _write(
    file: WeightsFile,
    names: Mapping[str, str],
    expected: Mapping[str, Shape],
    normalisation: tuple[Sequence[float], Sequence[float]],
    place: Path,
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    state = load_file(file.path)
    ready = {own: state[theirs] for own, theirs in names.items()}
    ready = {name: value.float() if value.is_floating_point() else value for name, value in ready.items()}
    counters = [name for name in expected if name.endswith(COUNTER) and name not in ready]
    ready |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    for name, values in zip(("mean", "std"), normalisation, strict=True):
        ready[name] = torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in sorted(ready.items())}, place)
