"""A tiny network that looks at tiny images, for evaluators that collect.

A bright row is the lesion of a class other than the first, a brighter column the attribute, and the rest is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.conformance.evaluator_cases import SOUND, drawn, taken
from robustbench_spur.evaluators.base import Part, Predictions, Subject
from robustbench_spur.networks import Classifier

SIZE, BLOCK, WIDTH = 16, 7, 8
OTHERS = {"train": 1, "validation": 2, "adapt": 3, "selection": 4}
"""Partitions beside the test, each with the seed of its noise."""
SCENES = ("counterfactual", "without_lesion", "lesion", "body")


@dataclass(frozen=True)
class Bench:
    """A model with its images, and what can be rendered of them.

    Args:
        model: in eval mode, on the CPU.
        subject: what an evaluator sees of it.
    """

    model: Classifier
    subject: Subject


class Tiny(nn.Module):
    """One convolution, and the strongest answer of each channel in each half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, WIDTH, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of shape (b, 4 * ``WIDTH``)."""
        maps = torch.relu(self.maps(images))
        return torch.cat(
            [maps.amax(2).unfold(2, 8, 8).mean(3).flatten(1), maps.amax(3).unfold(2, 8, 8).mean(3).flatten(1)], 1
        )


def images_of(
    predictions: Predictions, *, lesion: bool = True, other: bool = False, noise: int = 0
) -> NDArray[np.uint8]:
    """Images of a partition, shape (n, 1, 16, 16).

    Args:
        predictions: whose labels and attributes are drawn.
        lesion: whether the lesion is in them.
        other: draw the next attribute value in place of the true one.
        noise: seed of what else is in them.
    """
    values = len(predictions.groups.values)
    images = np.random.default_rng(noise).integers(0, 130, (len(predictions), 1, SIZE, SIZE))
    for image, label, value in zip(images, predictions.labels, (predictions.attributes + other) % values, strict=True):
        image[:, 2 + value, :] += 40
        image[:, :, 3 + label] += 30 * int(lesion and label > 0)
    return images.astype(np.uint8)


def bench_of(predictions: Predictions) -> Bench:
    """A bench whose test partition has the labels, attributes and patients given; its logits are the model's."""
    model = _trained(predictions)
    test = _seen(model, predictions, 0)
    others = {name: _seen(model, _others(predictions, name), seed) for name, seed in OTHERS.items()}
    scenes: dict[str, Callable[[], Iterator[NDArray[Any]]]] = {
        name: partial(_scene, name, test.predictions) for name in SCENES
    }
    columns = {"vendor": np.array(["A", "B"])[np.arange(len(predictions)) // 2 % 2]}
    subject = Subject(test.predictions, test.images, lambda: model, others=others, scenes=scenes, columns=columns)
    return Bench(model, subject)


def _others(predictions: Predictions, name: str) -> Predictions:
    """The rows as those of other patients."""
    rows = np.arange(len(predictions))
    moved = taken(predictions, rows, np.char.add(f"{name}-", predictions.clusters))
    return replace(moved, ids=np.char.add(f"{name}-", predictions.ids))


def _seen(model: Classifier, predictions: Predictions, noise: int) -> Part:
    images = images_of(predictions, noise=noise)
    with torch.no_grad():
        logits = model(torch.from_numpy(images).float() / 255).numpy()
    return Part(replace(predictions, logits=logits), images)


def _trained(predictions: Predictions) -> Classifier:
    """A network whose last layer is fitted by least squares; nothing is drawn from the global generators."""
    classes = len(predictions.groups.classes)
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        model = Classifier(Tiny(), 4 * WIDTH, classes, [0.3], [0.2])
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        features = model.features(torch.from_numpy(images_of(predictions, noise=OTHERS["train"])).float() / 255)
        wanted = 4.0 * torch.nn.functional.one_hot(torch.from_numpy(predictions.labels), classes).float()
        gram = features.T @ features + torch.eye(features.shape[1])
        model.head.weight.copy_(torch.linalg.solve(gram, features.T @ wanted).T)  # type: ignore[operator]
        model.head.bias.zero_()  # type: ignore[operator]
    return model.eval().requires_grad_(False)


def _scene(name: str, predictions: Predictions) -> Iterator[NDArray[Any]]:
    """A scene in blocks, as a data set renders it."""
    if name in ("lesion", "body"):
        whole: NDArray[Any] = np.zeros((len(predictions), 1, SIZE, SIZE), np.float32)
        if name == "body":
            whole[:, :, 1:-1, 1:-1] = 1
        for image, label in zip(whole, predictions.labels if name == "lesion" else (), strict=False):
            image[:, :, 3 + label] = float(label > 0)
    else:
        whole = images_of(predictions, lesion=name != "without_lesion", other=name == "counterfactual")
    for start in range(0, len(whole), BLOCK):
        yield whole[start : start + BLOCK]


def cases() -> dict[str, Predictions]:
    """Whose labels, attributes and patients the bench has; kept small, since attacks are slow."""
    return {
        SOUND: drawn(12),
        "an empty group": drawn(9, only=((0, 0), (0, 1), (1, 1))),
        "one patient": drawn(1),
        "one class": drawn(4, only=((1, 0), (1, 1))),
        "ten classes": drawn(20, 10, 2),
        "five attribute values": drawn(10, 2, 5),
    }
