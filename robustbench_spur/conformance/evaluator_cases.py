"""Predictions that evaluators are tried on: sound ones, ones whose metrics are known, and ones that are hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.types import Groups

Codes = NDArray[np.int64]
SLICES = 3
SOUND, TIES = "40 patients, two classes, two values", "logits with many ties"
MARGIN = 4.0


def universe(classes: int, values: int) -> Groups:
    """Groups named ``c0@v0``, ``c0@v1``, ..."""
    return Groups(tuple(f"c{k}" for k in range(classes)), "site", tuple(f"v{k}" for k in range(values)))


def made(
    labels: Sequence[int] | Codes, attributes: Sequence[int] | Codes, logits: Any, groups: Groups, **more: Any
) -> Predictions:
    """Predictions of patients with :data:`SLICES` rows each, of a label and an attribute value per patient.

    Args:
        labels: one per patient.
        attributes: one per patient.
        logits: shape (rows, classes).
        groups: the declared universe.
        more: further fields.
    """
    rows = len(labels) * SLICES
    return Predictions(
        ids=np.array([f"id{row}" for row in range(rows)], np.str_),
        labels=np.repeat(np.asarray(labels, np.int64), SLICES),
        attributes=np.repeat(np.asarray(attributes, np.int64), SLICES),
        clusters=np.repeat(np.array([f"p{number:03d}" for number in range(len(labels))], np.str_), SLICES),
        logits=np.asarray(logits, np.float32),
        groups=groups,
        **more,
    )


def drawn(
    patients: int, classes: int = 2, values: int = 2, *, step: float = 0.0, only: Sequence[tuple[int, int]] = ()
) -> Predictions:
    """Random patients of all groups in turn; the groups' accuracies lie far apart, so that none is confused with another.

    Args:
        patients: how many.
        classes: how many.
        values: of the attribute, how many.
        step: multiples of it make ties; 0 makes none.
        only: the groups that patients are of, as (class, value); all where empty.
    """
    rng = np.random.default_rng(patients + 100 * classes + 10_000 * values)
    every = list(only) or [(label, value) for label in range(classes) for value in range(values)]
    of = [every[number % len(every)] for number in range(patients)]
    labels, attributes = np.array([one[0] for one in of]), np.array([one[1] for one in of])
    logits = rng.normal(0, 1, (patients * SLICES, classes))
    pull = np.repeat(3.0 - 4.5 * (labels * values + attributes) / (classes * values), SLICES)
    logits[np.arange(len(logits)), np.repeat(labels, SLICES)] += pull
    logits = np.round(logits / step) * step if step else logits
    groups = universe(classes, values)
    # the groups that a shortcut from value to class gets wrong
    conflict = tuple(code for code in range(len(groups)) if code // values != code % values % classes)
    return made(labels, attributes, logits, groups, conflict=conflict)


def known() -> dict[str, Predictions]:
    """Predictors whose metrics are known: on 20 patients of equally large groups."""
    labels, attributes = np.tile([0, 0, 1, 1], 5), np.tile([0, 1, 0, 1], 5)
    said = {
        "the constant predictor": np.zeros_like(labels),
        "the perfect predictor": labels,
        "the predictor that is always wrong": 1 - labels,
        "the shortcut-only predictor": attributes,
    }
    made_of = {
        name: made(labels, attributes, MARGIN * np.eye(2)[np.repeat(codes, SLICES)], universe(2, 2), conflict=(1, 2))
        for name, codes in said.items()
    }
    noise = np.random.default_rng(7).normal(0, 1, (len(labels) * SLICES, 2))
    return {**made_of, "the random predictor": made(labels, attributes, noise, universe(2, 2), conflict=(1, 2))}


def hard() -> dict[str, Predictions]:
    """Predictions that lack something, or have much of it."""
    sound = drawn(24)
    extreme = replace(sound, logits=np.asarray(np.sign(sound.logits) * 1e4, np.float32))
    some = drawn(18, only=((0, 0), (1, 1)))
    return {
        "an empty group": drawn(18, only=((0, 0), (0, 1), (1, 1))),
        "groups left out by design": replace(some, groups=some.groups.only((0, 3)), conflict=()),
        "one patient": drawn(1),
        "one class": drawn(10, only=((1, 0), (1, 1))),
        "one attribute value": drawn(10, only=((0, 1), (1, 1))),
        "one declared value": drawn(12, 2, 1),
        "ten classes": drawn(40, 10, 2),
        "five attribute values": drawn(40, 2, 5),
        "logits of 10,000": extreme,
        "training that contradicts no group": replace(sound, conflict=()),
    }


def every() -> dict[str, Predictions]:
    """All cases, the sound ones first."""
    return {SOUND: drawn(40), TIES: drawn(24, step=1.0), **known(), **hard()}


def counts_of(predictions: Predictions) -> Floats:
    """Resamplings: every patient once, then drawn at random, then one patient alone."""
    patients = len(predictions.patients)
    rng = np.random.default_rng(patients)
    random = rng.multinomial(patients, np.full(patients, 1 / patients), 3).astype(np.float64)
    return np.concatenate([np.ones((1, patients)), random, patients * np.eye(patients)[:1]])


# the same patients in other words


def draws_of(predictions: Predictions) -> Floats:
    """Resamplings that lose one patient and no group, where there are more: what a lost group makes undefined differs."""
    patients = len(predictions.patients)
    draws = np.random.default_rng(patients).integers(1, 4, (3, patients)).astype(np.float64)
    draws[:, 0] = float(patients == 1)
    return np.concatenate([np.full((1, patients), 2.0), draws])


def repeated(predictions: Predictions, counts: Floats) -> Predictions:
    """The rows of every patient as often as he was drawn, each time as a patient of another name."""
    rows, names = [], []
    for patient, times in enumerate(counts.astype(int).tolist()):
        mine = np.flatnonzero(predictions.patient == patient)
        for copy in range(times):
            rows.append(mine)
            names += [f"{predictions.patients[patient]}-{copy}"] * len(mine)
    return taken(predictions, np.concatenate(rows), np.array(names, np.str_), fresh=True)


def shuffled(predictions: Predictions) -> Predictions:
    """The rows in another order."""
    return taken(predictions, np.random.default_rng(3).permutation(len(predictions)))


def renamed(predictions: Predictions) -> Predictions:
    """The patients under other names, which sort otherwise."""
    names = np.array([f"q{999 - number:03d}" for number in range(len(predictions.patients))], np.str_)
    return replace(predictions, clusters=names[predictions.patient])


def taken(
    predictions: Predictions, rows: Codes, clusters: NDArray[np.str_] | None = None, *, fresh: bool = False
) -> Predictions:
    """Some rows, with other patients where given, and other ids where rows repeat; arrays go with their rows."""
    return replace(
        predictions,
        ids=np.array([f"row{number}" for number in range(len(rows))], np.str_) if fresh else predictions.ids[rows],
        labels=predictions.labels[rows],
        attributes=predictions.attributes[rows],
        clusters=predictions.clusters[rows] if clusters is None else clusters,
        logits=predictions.logits[rows],
        arrays={name: array[rows] for name, array in predictions.arrays.items()},
    )


def by_rows(predictions: Predictions) -> bool:
    """Whether every collected array has an entry per row, and none names rows: then they can be rearranged together."""
    rows = np.arange(len(predictions))
    return all(
        array.shape[:1] == rows.shape and not np.array_equal(array, rows) for array in predictions.arrays.values()
    )
