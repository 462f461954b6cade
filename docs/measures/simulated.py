"""Simulated models that rely on the attribute more or less: what several pictures in this folder are made of.

A slice has a score of 1.5 for its label (plus or minus), ``use`` for its attribute value, noise of its patient and noise of
its own, each of standard deviation 0.7; the margin is twice the score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.types import Groups

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "none"}
GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
COLOURS = {"clear@3T": "#0072b2", "clear@1.5T": "#56b4e9", "tumour@3T": "#e69f00", "tumour@1.5T": "#d55e00"}
CONFLICT = (1, 2)
"""Training has mostly clear slices at 3 T and tumours at 1.5 T."""
USES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SLICES = 4


def score(use: float, labels: NDArray[Any], values: NDArray[Any], patient: NDArray[Any], seed: int) -> Floats:
    """Scores of slices, shape (n,)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.7, int(patient.max()) + 1)[patient] + rng.normal(0, 0.7, len(patient))
    return np.asarray(1.5 * (2 * labels - 1) + use * (2 * values - 1) + noise)


def predictions_from(scores: Floats, labels: NDArray[Any], values: NDArray[Any], patient: NDArray[Any]) -> Predictions:
    """Predictions with these scores."""
    logits = np.stack([-scores, scores], axis=1).astype(np.float32)
    ids = np.array([f"s{row:05d}" for row in range(len(labels))])
    clusters = np.array([f"p{number:05d}" for number in patient])
    return Predictions(ids, labels, values, clusters, logits, GROUPS, conflict=CONFLICT)


def rows(patients: int = 400, aligned: float = 0.5) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Labels, attribute values and patients of slices; a share of each class's patients has the aligned value."""
    number = np.arange(patients)
    label, place = number % 2, number // 2 / (patients // 2)
    value = np.where(place < aligned, label, 1 - label)
    return tuple(np.repeat(column, SLICES) for column in (label, value, number))  # type: ignore[return-value]


def model(use: float, seed: int = 0, *, patients: int = 400, aligned: float = 0.5) -> Predictions:
    """What a model says of patients of whom a share is aligned, one half for a balanced test."""
    columns = rows(patients, aligned)
    return predictions_from(score(use, *columns, seed), *columns)


def save(figure: Any, path: Path) -> None:
    """Write the picture as SVG; the same bytes each time with one version of matplotlib."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
