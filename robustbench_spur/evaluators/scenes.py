"""What evaluators share that look at scenes: slices that the data set renders otherwise, and what the model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack import as_floats, attackable, logits_of
from robustbench_spur.evaluators.base import Floats, Predictions, Subject
from robustbench_spur.statistics import patient_sums, ratio
from robustbench_spur.types import SpurbenchError

BATCH = 256
"""Images that a model sees at once, as in a prediction pass."""


class Tie(NamedTuple):
    """Which attribute value goes with class 1.

    Args:
        value: its code.
        known: whether training says so; otherwise it is the last value.
    """

    value: int
    known: bool


def tie_of(predictions: Predictions) -> Tie:
    """The attribute value that goes with class 1, of two classes and two values.

    The groups that training contradicts lie on one diagonal of the table of label and attribute: those of class 0 at the
    tied value, and of class 1 at the other.

    >>> from robustbench_spur.types import Groups
    >>> groups, rows = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T")), np.arange(2)
    >>> one = Predictions(rows.astype(str), rows, rows, rows.astype(str), np.eye(2, dtype=np.float32), groups)
    >>> tie_of(one), tie_of(replace(one, conflict=(0, 3)))
    (Tie(value=1, known=False), Tie(value=0, known=True))
    """
    codes = {predictions.groups.codes[group] for group in predictions.conflict}
    last, first = codes & {1, 2}, codes & {0, 3}
    if bool(last) == bool(first):
        return Tie(1, known=False)
    return Tie(1 if last else 0, known=True)


def two_by_two(predictions: Predictions) -> str:
    """Why a direction of the shortcut is not defined: more or fewer than two classes or values. Empty where it is."""
    classes, values = len(predictions.groups.classes), len(predictions.groups.values)
    if (classes, values) == (2, 2):
        return ""
    return f"defined for two classes and two values, the split has {classes} and {values}"


def rows_of_blocks(blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], what: str) -> Iterator[NDArray[Any]]:
    """The blocks, after checking that together they are an array of this shape.

    Args:
        blocks: arrays that make up the whole, first axis first.
        shape: of the whole.
        what: for messages.

    Raises:
        SpurbenchError: a block of another shape, or more or fewer rows.
    """
    count = 0
    for block in blocks:
        count += len(block)
        if block.shape[1:] != shape[1:] or count > shape[0]:
            raise SpurbenchError(f"Expected {what} of shape {shape} in all, found a block of shape {block.shape}.")
        yield block
    if count != shape[0]:
        raise SpurbenchError(f"Expected {shape[0]} rows of {what}, found {count}.")


def said_of(model: Any, blocks: Iterable[NDArray[np.uint8]], classes: int, device: str) -> NDArray[np.float32]:
    """What the model says of images that come in blocks, which are forgotten as they pass.

    Args:
        model: a torch module from images in [0, 1] to logits; its flags are given back.
        blocks: uint8, shape (block, channels, height, width).
        classes: that it must tell apart.
        device: where it is.

    Returns:
        Logits, float32, shape (n, classes).

    Raises:
        SpurbenchError: logits that are not finite.
    """
    import torch

    where, found = torch.device(device), [np.empty((0, classes), np.float32)]
    with attackable(model, where):
        for block in blocks:
            for start in range(0, len(block), BATCH):
                rows = np.arange(start, min(start + BATCH, len(block)))
                found.append(logits_of(model, as_floats(block, rows, where)))
    return np.concatenate(found)


def said_anew(subject: Subject, rows: NDArray[np.int64], forms: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the subject's model says of some images in another form; what it said before where the form is the image itself.

    Args:
        subject: gives model, images and predictions.
        rows: of the partition.
        forms: of these images, shape (rows, channels, height, width).

    Returns:
        Logits, float32, shape (rows, classes).

    Raises:
        SpurbenchError: logits that are not finite.
    """
    said = subject.predictions.logits[rows].astype(np.float32)
    changed = (forms != np.asarray(subject.images[rows])).any(axis=(1, 2, 3))
    if changed.any():
        said[changed] = said_of(subject.model, [forms[changed]], said.shape[1], subject.device)
    return said


def scene_logits(subject: Subject, name: str) -> NDArray[np.float32]:
    """What the subject's model says of a scene, shape (n, classes).

    Raises:
        SpurbenchError: a scene of another shape than the images, or logits that are not finite.
    """
    total, classes, done = len(subject.predictions), len(subject.predictions.groups.classes), 0
    found = [np.empty((0, classes), np.float32)]
    for block in rows_of_blocks(subject.scene(name), subject.images.shape, f"scene {name!r}"):
        found.append(said_anew(subject, np.arange(done, done + len(block)), block))
        done += len(block)
        subject.progress(done, total)
    return np.concatenate(found)


def with_logits(predictions: Predictions, array: str, evaluator: str) -> Predictions:
    """The same rows with logits that an evaluator collected.

    Raises:
        SpurbenchError: they are not there, of another shape, or not finite.
    """
    if array not in predictions.arrays:
        raise SpurbenchError(
            f"Evaluator {evaluator!r} needs the array {array!r}, which these predictions do not have. Collect it."
        )
    return replace(predictions, logits=np.asarray(predictions.arrays[array], np.float32))


class Means(NamedTuple):
    """Means under each resampling; NaN where a resampling holds no example.

    Args:
        overall: shape (resamples,).
        value: by attribute value, shape (resamples, values).
        group: by declared group, shape (resamples, groups).
    """

    overall: Floats
    value: Floats
    group: Floats


def means_of(values: NDArray[Any], rows: NDArray[np.bool_], predictions: Predictions, counts: Floats) -> Means:
    """Mean of a value per example over all examples, those of an attribute value, and those of a group.

    Args:
        values: shape (n,), numbers or booleans.
        rows: the examples that count, shape (n,).
        predictions: of them all.
        counts: draws of each patient, shape (resamples, patients).
    """
    groups, patients = predictions.groups, counts.shape[1]
    patient, group = predictions.patient[rows], predictions.group[rows]
    total = counts @ patient_sums(patient, patients, group, len(groups), values[rows])
    size = counts @ patient_sums(patient, patients, group, len(groups))
    at = np.array([[float(code % len(groups.values) == v) for v in range(len(groups.values))] for code in groups.codes])
    return Means(ratio(total.sum(axis=1), size.sum(axis=1)), ratio(total @ at, size @ at), ratio(total, size))
