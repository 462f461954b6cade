"""Slices of a few pixels whose scanner is one pixel and whose lesion is another, and models that look at one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.evaluators.base import Evaluator, Predictions, Subject
from robustbench_spur.types import Groups
from tests.evaluators.reference import once, predictions_of

Images = NDArray[np.uint8]
GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
SIDE = 6
AIR, CENTRE = (0, 0), (3, 3)
"""Row and column of the pixel that shows the scanner, and of the one that shows the lesion."""
BRIGHT = {0: 51, 1: 204}
"""Grey value of the scanner's pixel at each attribute value: 0.2 and 0.8."""
TISSUE, TUMOUR = 102, 255
"""Grey values of the body, and of the lesion in it: 0.4 and 1."""


class Looks(nn.Module):
    """Logits 0 and ``slope * (pixel - threshold)`` for the value in [0, 1] of one pixel."""

    def __init__(self, at: tuple[int, int], threshold: float, slope: float = 4.0) -> None:
        super().__init__()
        self.at, self.threshold, self.slope = at, threshold, slope

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = self.slope * (images[:, 0, self.at[0], self.at[1]] - self.threshold)
        return torch.stack([torch.zeros_like(score), score], dim=1)


class NoiseLevel(nn.Module):
    """Says tumour where the upper corners, which are air, are brighter than a threshold: 1.5 T is noisier than 3 T."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        corners = torch.cat([images[:, 0, :6, :12], images[:, 0, :6, -12:]], dim=2)
        score = 255 * corners.mean((1, 2)) - 12.5
        return torch.stack([torch.zeros_like(score), score], dim=1)


def scanner_reader() -> Looks:
    """Says tumour where the air is bright: the shortcut and nothing else."""
    return Looks(AIR, 0.5)


def lesion_reader() -> Looks:
    """Says tumour where there is one: perfect."""
    return Looks(CENTRE, 0.7)


def always_clear() -> Looks:
    """The same of every image."""
    return Looks(AIR, 0.0, slope=0.0)


def scene(labels: Any, attributes: Any) -> Images:
    """Slices with a body in the middle, the lesion in it where the label is 1, and the scanner's mark in the air."""
    images = np.zeros((len(labels), 1, SIDE, SIDE), np.uint8)
    images[:, :, 1:5, 1:5] = TISSUE
    images[:, 0, CENTRE[0], CENTRE[1]] = np.where(np.asarray(labels) == 1, TUMOUR, TISSUE)
    images[:, 0, AIR[0], AIR[1]] = np.where(np.asarray(attributes) == 1, BRIGHT[1], BRIGHT[0])
    return images


def masks(labels: Any) -> dict[str, NDArray[np.float32]]:
    """Where the lesion and the body of :func:`scene` are."""
    lesion, body = (np.zeros((len(labels), 1, SIDE, SIDE), np.float32) for _ in range(2))
    lesion[:, 0, CENTRE[0], CENTRE[1]] = np.asarray(labels) == 1
    body[:, :, 1:5, 1:5] = 1
    return {"lesion": lesion, "body": body}


def balanced_rows(per_group: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and attributes of a set with equally large groups."""
    group = np.repeat(np.arange(4), per_group)
    return group // 2, group % 2


def said(model: nn.Module, images: Images) -> NDArray[np.float32]:
    """The model's logits."""
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(images).float() / 255).numpy(), np.float32)


def in_blocks(array: NDArray[Any], size: int = 5) -> Callable[[], Iterator[NDArray[Any]]]:
    """A scene that comes in blocks."""
    return lambda: (array[start : start + size] for start in range(0, len(array), size))


def subject_of(
    model: nn.Module,
    images: Images,
    labels: Any,
    attributes: Any,
    scenes: Mapping[str, NDArray[Any]],
    groups: Groups = GROUPS,
    *,
    slices: int = 1,
) -> Subject:
    """What an evaluator gets to see; every patient has so many slices in a row."""
    logits = said(model, images).astype(np.float64)
    predictions = predictions_of(
        np.asarray(labels), np.asarray(attributes), np.arange(len(labels)) // slices, logits, groups
    )
    return Subject(
        predictions, images, lambda: model, scenes={name: in_blocks(array) for name, array in scenes.items()}
    )


def toy_subject(model: nn.Module, per_group: int = 3) -> Subject:
    """The slices of :func:`scene`, balanced, with all scenes that can be rendered of them."""
    labels, attributes = balanced_rows(per_group)
    scenes: dict[str, NDArray[Any]] = {
        "counterfactual": scene(labels, 1 - attributes),
        "without_lesion": scene(np.zeros_like(labels), attributes),
        **masks(labels),
    }
    return subject_of(model, scene(labels, attributes), labels, attributes, scenes)


def collected(evaluator: Evaluator, subject: Subject) -> Predictions:
    """The predictions with what the evaluator collects."""
    arrays = {**subject.predictions.arrays, **evaluator.collect(subject)}
    return dataclasses.replace(subject.predictions, arrays=arrays)


def numbers(evaluator: Evaluator, predictions: Predictions) -> dict[str, float]:
    """The point estimates."""
    return {name: float(value[0]) for name, value in evaluator.measure(predictions, once(predictions)).items()}


def drawn_again(predictions: Predictions, counts: NDArray[Any]) -> Predictions:
    """The rows of every patient as often as he was drawn, arrays included, each time as a new patient."""
    rows, names = [], []
    for patient, times in enumerate(counts.astype(int).tolist()):
        mine = np.flatnonzero(predictions.patient == patient)
        for copy in range(times):
            rows.append(mine)
            names += [f"{patient}-{copy}"] * len(mine)
    take = np.concatenate(rows)
    return dataclasses.replace(
        predictions,
        ids=np.array([f"row{i}" for i in range(len(take))], np.str_),
        labels=predictions.labels[take],
        attributes=predictions.attributes[take],
        clusters=np.array(names, np.str_),
        logits=predictions.logits[take],
        arrays={name: array[take] for name, array in predictions.arrays.items()},
    )
