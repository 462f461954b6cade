"""Small partitions, images, views, batches, runs and tasks for the tests of training and of the methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur.method import Batch, Method, View
from robustbench_spur.networks import Classifier, build
from robustbench_spur.parameters import Training
from robustbench_spur.stage import Stage
from robustbench_spur.task import Task
from robustbench_spur.training import Run
from robustbench_spur.types import Groups, Partition

Ints = NDArray[np.int64]
CPU = torch.device("cpu")
SIZE = 10
DATASET = Path(__file__).parent / "toy_dataset.py"


def universe(classes: int = 2, values: int = 2) -> Groups:
    """Groups named ``c0@v0``, ``c0@v1``, ..."""
    return Groups(tuple(f"c{k}" for k in range(classes)), "site", tuple(f"v{k}" for k in range(values)))


def partition(labels: Any, attributes: Any, *, slices: int = 1) -> Partition:
    """Rows with made-up ids; a patient has ``slices`` of them."""
    labels, attributes = np.asarray(labels, np.int64), np.asarray(attributes, np.int64)
    ids = np.array([f"x{i}" for i in range(len(labels))], dtype=np.str_)
    clusters = np.array([f"p{i // slices}" for i in range(len(labels))], dtype=np.str_)
    return Partition(ids, labels, attributes, clusters)


def of_groups(counts: Any, values: int = 2, *, slices: int = 1) -> Partition:
    """Rows of a partition with so many examples in each group, in index order."""
    groups = np.repeat(np.arange(len(counts)), counts)
    return partition(groups // values, groups % values, slices=slices)


def mixed(examples: int, classes: int = 2, values: int = 2, *, conflict: float = 0.25, seed: int = 0) -> Partition:
    """Rows whose attribute is that of the label but for a share of conflicts, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(examples) % classes)
    free = rng.random(examples) < conflict
    return partition(labels, np.where(free, rng.integers(0, values, examples), labels % values))


def paint(rows: Partition, *, size: int = SIZE, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, a faint row of pixels that tells the label, and a bright column that tells the attribute."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (len(rows), channels, size, size))
    for image, label, attribute in zip(images, rows.labels, rows.attributes, strict=True):
        image[:, 1 + 2 * label, :] += 60
        image[:, :, 1 + 2 * (attribute % (size // 2 - 1))] += 150
    return np.minimum(images, 255).astype(np.uint8)


def view_of(method: Method, rows: Partition, groups: Groups | None = None, *, seed: int = 0) -> View:
    """The training rows as the engine would show them to a method."""
    return View(rows, groups or universe(), "train_attributes" in method.needs, method.name, seed)


def batch_of(view: View, rows: Any, images: torch.Tensor | None = None) -> Batch:
    """Some rows as a batch; without images, 2 x 2 zeros."""
    index = torch.as_tensor(np.asarray(rows))
    labels, attributes = (torch.from_numpy(c)[index] for c in (view.partition.labels, view.partition.attributes))
    return Batch(torch.zeros(len(index), 1, 2, 2) if images is None else images, labels, index, attributes, view)


def network(channels: int = 1, *, seed: int = 0, classes: int = 2) -> Classifier:
    """The project's own network, normalised by 0.3 and 0.25."""
    spec = {"backbone": "smallcnn", "channels": channels, "seed": seed, "pretrained": False}
    return build({**spec, "mean": [0.3] * channels, "std": [0.25] * channels}, classes)


def linear(size: int = SIZE, classes: int = 2) -> Classifier:
    """Logistic regression on the pixels, from weights of zero: smooth, so that rounding does not grow."""
    model = Classifier(torch.nn.Flatten(), size * size, classes, [0.3], [0.25])
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


def run_of(
    method: Method,
    folder: Path,
    rows: Partition | None = None,
    groups: Groups | None = None,
    *,
    seed: int = 0,
    selection: str = "last",
    precision: str = "float32",
    augmentations: tuple[str, ...] = ("horizontal_flip", "shift"),
    model: Classifier | None = None,
    **training: Any,
) -> Run:
    """A training run on toy images: 3 epochs with batches of 32 unless told otherwise."""
    rows, groups = mixed(96) if rows is None else rows, groups or universe()
    held = mixed(40, len(groups.classes), len(groups.values), seed=1)
    return Run(
        method=method,
        model=model or network(seed=seed, classes=len(groups.classes)),
        view=view_of(method, rows, groups, seed=seed),
        train=paint(rows),
        validation=paint(held, seed=1),
        validation_labels=held.labels,
        augmentations=augmentations,
        training=Training(**{"epochs": 3, "batch_size": 32, "averaging": 0.9, **training}),
        selection=selection,
        seed=seed,
        device=CPU,
        precision=precision,
        folder=folder,
    )


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def task_of(
    owner: Method,
    *,
    training: Training | None = None,
    selection: str = "last",
    seed: int = 0,
    partitions: tuple[str, ...] = ("train", "validation", "adapt", "test"),
    substitutes: Mapping[str, Stage] | None = None,
    identify: Callable[[Method], dict[str, Any]] | None = None,
) -> Task:
    """A task on made-up data: stages can be built, not computed."""

    def settings_of(method: Method) -> dict[str, Any]:
        return {"name": method.name, "settings": method.hyper.model_dump(mode="json")}

    return Task(
        owner=owner,
        training=training or Training(epochs=4),
        data={
            "split": {name: {"dataset": "toy"} for name in partitions},
            "partitions": {name: f"rows of {name}" for name in partitions},
            "chooser": None,
        },
        network={"backbone": "smallcnn"},
        seed=seed,
        selection=selection,
        identify=identify or settings_of,
        pixels={name: Stage("pixels", {"partition": name}, (), name) for name in partitions},
        substitutes=substitutes or {},
        numerics={"device": "cpu", "precision": "float32"},
    )


def passthrough(width: int, classes: int = 2, *, seed: int = 0) -> Classifier:
    """A network whose features are its pixels, behind a random last layer."""
    model = Classifier(torch.nn.Flatten(), width, classes, [0.0], [1.0])
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.head.weight, generator=generator)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.bias, generator=generator)  # type: ignore[arg-type]
    return model


def drawn_features(count: int, width: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Features of some examples, shape (count, width)."""
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def as_images(features: NDArray[Any]) -> torch.Tensor:
    """Features as images for :func:`passthrough`, shape (count, width, 1, 1)."""
    return torch.from_numpy(np.ascontiguousarray(features, np.float32))[:, :, None, None]


def value(loss: torch.Tensor) -> float:
    """A loss as a number; it must have a slope."""
    assert loss.requires_grad
    return float(loss.detach())
