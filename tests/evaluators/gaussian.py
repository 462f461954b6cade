"""Features drawn from normal distributions, as images that a classifier turns back into these features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.evaluators.base import Part, Subject
from robustbench_spur.networks import Classifier
from robustbench_spur.types import Groups
from tests.evaluators.reference import predictions_of, universe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REACH = 8.0
"""Features are cut at this size; a grey level is 2 REACH / 255."""


def as_images(points: Floats) -> NDArray[np.uint8]:
    """Shape (n, features) to (n, 1, 1, features)."""
    return np.clip(np.round((points / REACH + 1) * 127.5), 0, 255).astype(np.uint8)[:, None, None, :]


def classifier(weight: Any, bias: Any = 0.0) -> Classifier:
    """Its features are those of the images; its head has these weights, shape (classes, features)."""
    weight = np.asarray(weight, np.float32)
    model = Classifier(nn.Flatten(), weight.shape[1], len(weight), [0.5], [0.5 / REACH])
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.as_tensor(bias, dtype=torch.float32).expand(len(weight)))
    return model.eval().requires_grad_(False)


def two_class(direction: Any, bias: float = 0.0) -> Classifier:
    """The margin of class 1 is ``direction @ x + bias``."""
    half = np.asarray(direction, np.float64) / 2
    return classifier([-half, half], [-bias / 2, bias / 2])


def part(model: Classifier, points: Floats, labels: Ints, attributes: Ints, clusters: Ints, groups: Groups) -> Part:
    """What the model says of these points."""
    images = as_images(points)
    with torch.no_grad():
        logits = model(torch.from_numpy(images).float() / 255).double().numpy()
    return Part(predictions_of(labels, attributes, clusters, logits, groups), images)


def subject(model: Classifier, test: Part, columns: Mapping[str, Any] | None = None, **others: Part) -> Subject:
    """What an evaluator looks at, with further columns if there are any."""
    found = Subject(test.predictions, test.images, lambda: model, others=others)
    if columns is not None:
        object.__setattr__(found, "columns", columns)
    return found


def drawn(
    seed: int,
    *,
    patients: int = 400,
    slices: int = 2,
    label_shift: float = 1.0,
    attribute_shift: float = 1.5,
    correlation: float = 0.0,
    rho: float = 0.5,
    noise: int = 0,
) -> tuple[Floats, Ints, Ints, Ints, Groups]:
    """Features, labels, attributes and patients of two classes and two values.

    The first feature has the mean -label_shift or +label_shift, the second that of the attribute; both have a variance of 1,
    and ``correlation``. ``noise`` further features say nothing. ``rho`` is the share of patients whose attribute is their
    label.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(patients) % 2
    aligned = np.zeros(patients, bool)
    for k in (0, 1):
        own = np.flatnonzero(label == k)
        aligned[own[: round(rho * len(own))]] = True
    attribute = np.where(aligned, label, 1 - label)
    labels, attributes = (np.repeat(column, slices) for column in (label, attribute))
    first, other = rng.normal(size=(2, len(labels)))
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    points = np.stack([first + label_shift * (2 * labels - 1), second + attribute_shift * (2 * attributes - 1)], axis=1)
    points = np.concatenate([points, rng.normal(size=(len(labels), noise))], axis=1)
    return points, labels, attributes, np.repeat(np.arange(patients), slices), universe()
