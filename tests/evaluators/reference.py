"""Makers of predictions whose metrics are known, and slow, plain versions of resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.types import Groups

Ints = NDArray[np.int64]


def universe(classes: int = 2, values: int = 2) -> Groups:
    """Groups named ``c0@v0``, ``c0@v1``, ..."""
    return Groups(tuple(f"c{k}" for k in range(classes)), "site", tuple(f"v{k}" for k in range(values)))


def predictions_of(
    labels: Ints, attributes: Ints, clusters: Ints, logits: NDArray[np.float64], groups: Groups
) -> Predictions:
    """Predictions from arrays, with made-up ids; patient 7 is named ``p0000007``."""
    return Predictions(
        ids=np.array([f"id{i}" for i in range(len(labels))], dtype=np.str_),
        labels=labels.astype(np.int64),
        attributes=attributes.astype(np.int64),
        clusters=np.array([f"p{c:07d}" for c in clusters.tolist()], dtype=np.str_),
        logits=logits.astype(np.float32),
        groups=groups,
    )


def said(predicted: Ints, classes: int, margin: float = 40.0) -> NDArray[np.float64]:
    """Logits of ``margin`` for the predicted class and 0 for the others."""
    return margin * np.eye(classes)[predicted]


def balanced(
    per_group: int = 10, classes: int = 2, values: int = 2, slices: int = 2
) -> tuple[Ints, Ints, Ints, Groups]:
    """Labels, attributes and patients of a set with equally large groups; a patient has ``slices`` rows."""
    group = np.repeat(np.arange(classes * values), per_group)
    return group // values, group % values, np.arange(len(group)) // slices, universe(classes, values)


def constant(predicted: int = 0, *, classes: int = 2, values: int = 2) -> Predictions:
    """Always the same class, on a group-balanced set."""
    labels, attributes, clusters, groups = balanced(classes=classes, values=values)
    return predictions_of(labels, attributes, clusters, said(np.full(len(labels), predicted), classes), groups)


def perfect(*, classes: int = 2, values: int = 2) -> Predictions:
    """Always the true class, on a group-balanced set."""
    labels, attributes, clusters, groups = balanced(classes=classes, values=values)
    return predictions_of(labels, attributes, clusters, said(labels, classes), groups)


def shortcut_only() -> Predictions:
    """The class whose code is the attribute's, on a group-balanced set of two classes and two values."""
    labels, attributes, clusters, groups = balanced()
    return predictions_of(labels, attributes, clusters, said(attributes, 2), groups)


def random(
    seed: int, *, rows: int = 400, patients: int = 40, classes: int = 2, values: int = 2, step: float = 0.125
) -> Predictions:
    """Labels, attributes, patients and logits drawn independently; multiples of ``step`` make ties, 0 makes none."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, classes))
    logits = np.round(logits / step) * step if step else logits
    labels, attributes = rng.integers(0, classes, rows), rng.integers(0, values, rows)
    return predictions_of(labels, attributes, rng.integers(0, patients, rows), logits, universe(classes, values))


def repeated(predictions: Predictions, counts: NDArray[np.float64]) -> Predictions:
    """The rows of every patient as often as he was drawn, each time as a patient of a new name."""
    rows, names = [], []
    for patient, times in enumerate(counts.astype(int).tolist()):
        mine = np.flatnonzero(predictions.patient == patient)
        for copy in range(times):
            rows.append(mine)
            names += [f"{patient}-{copy}"] * len(mine)
    return rearranged(predictions, np.concatenate(rows), np.array(names, dtype=np.str_))


def rearranged(predictions: Predictions, rows: Ints, clusters: NDArray[np.str_] | None = None) -> Predictions:
    """The given rows, in that order, with new patient names if given."""
    return Predictions(
        ids=np.array([f"row{i}" for i in range(len(rows))], dtype=np.str_),
        labels=predictions.labels[rows],
        attributes=predictions.attributes[rows],
        clusters=predictions.clusters[rows] if clusters is None else clusters,
        logits=predictions.logits[rows],
        groups=predictions.groups,
    )


def once(predictions: Predictions) -> NDArray[np.float64]:
    """The counts of the point estimate."""
    return np.ones((1, len(predictions.patients)))


def perfectly_calibrated(seed: int, *, patients: int, slices: int) -> Predictions:
    """Labels drawn with exactly the probabilities that the logits state."""
    rng = np.random.default_rng(seed)
    rows = patients * slices
    margin = rng.normal(0, 1.5, rows).astype(np.float32).astype(np.float64)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    logits = np.stack([np.zeros(rows), margin], axis=1)
    return predictions_of(labels, np.arange(rows) % 2, np.arange(rows) // slices, logits, universe())
