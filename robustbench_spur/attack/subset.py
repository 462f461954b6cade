"""Whom an attack meets, a fixed group-balanced subset of a partition, and the accuracies of what stayed right of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.ball import SAME_RADIUS
from robustbench_spur.attack.tools import logits_of
from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.statistics import group_means
from robustbench_spur.types import SpurbenchError, finite

SAME_LOGITS = 1e-2
"""By how much, as a share of the largest, logits may differ between two passes over the same images."""


def quotas(predictions: Predictions, examples: int) -> NDArray[np.int64]:
    """How many examples of each declared group are attacked, shape (groups,): an equal share, or all there are.

    Raises:
        SpurbenchError: fewer examples than groups.
    """
    groups = len(predictions.groups)
    if examples < groups:
        raise SpurbenchError(f"Expected at least one example for each of {groups} groups, found examples={examples}.")
    return np.minimum(np.bincount(predictions.group, minlength=groups), examples // groups)


def balanced_subset(predictions: Predictions, examples: int, seed: int) -> NDArray[np.int64]:
    """Rows of an equal number of examples of each declared group, by :func:`quotas`.

    Returns:
        Shape (m,), in the order of the sha256 of ``seed:id``, so that neither a batch nor the subset depends on the
        order of the rows.

    Raises:
        SpurbenchError: fewer examples than groups.
    """
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in predictions.ids.tolist()]
    order = np.argsort(np.array(keys, dtype=np.str_))
    group = predictions.group[order]
    chosen = [np.flatnonzero(group == g)[:quota] for g, quota in enumerate(quotas(predictions, examples))]
    return order[np.sort(np.concatenate(chosen))]


def some_of_each_group(predictions: Predictions, examples: int, seed: int) -> NDArray[np.int64]:
    """All rows where there are no more than ``examples``, else a :func:`balanced_subset`, ascending, shape (m,)."""
    if len(predictions) <= examples:
        return np.arange(len(predictions))
    return np.sort(balanced_subset(predictions, examples, seed))


def halves(predictions: Predictions, rows: NDArray[np.int64], seed: int) -> list[NDArray[np.bool_]]:
    """Which of the rows belong to each half of the patients, who are dealt out in turn within every group.

    Args:
        predictions: of the partition.
        rows: of a subset of it, shape (m,).
        seed: of the order in which patients are dealt out.

    Returns:
        Two masks of shape (m,), each the other's complement.
    """
    patients, first = np.unique(predictions.patient[rows], return_index=True)
    names = predictions.patients[patients].tolist()
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in names]
    order = np.lexsort((np.array(keys, np.str_), predictions.group[rows[first]]))
    place = np.empty(len(patients), np.int64)
    place[order] = np.arange(len(patients)) % 2
    mine = place[np.searchsorted(patients, predictions.patient[rows])]
    return [mine == half for half in range(2)]


@dataclass(frozen=True)
class Attacked:
    """The subset, and which of it stayed right.

    Args:
        predictions: of the whole partition.
        rows: of the subset, ascending, shape (m,).
        right: without attack, then under each, shape (m, 1 + attacks).
    """

    predictions: Predictions
    rows: NDArray[np.int64]
    right: NDArray[np.bool_]

    def accuracy(self, column: int, counts: Floats) -> Floats:
        """Share of right examples, shape (resamples,)."""
        patient = self.predictions.patient[self.rows]
        return group_means(self.right[:, column], patient, np.zeros_like(patient), 1, counts)[:, 0]

    def by_group(self, column: int, counts: Floats) -> Floats:
        """Share of right examples of each declared group, shape (resamples, groups)."""
        patient, group = self.predictions.patient[self.rows], self.predictions.group[self.rows]
        return group_means(self.right[:, column], patient, group, len(self.predictions.groups), counts)

    def worst(self, column: int) -> int | None:
        """Index of the group with the lowest accuracy, the first of equals; None if a declared group is empty."""
        accuracy = self.by_group(column, once(self.predictions))[0]
        return None if np.isnan(accuracy).any() else int(accuracy.argmin())

    def patients(self, group: int | None = None) -> int:
        """Number of patients in the subset, or in one group of it."""
        rows = self.rows if group is None else self.rows[self.predictions.group[self.rows] == group]
        return len(np.unique(self.predictions.patient[rows]))

    def table_row(self, column: int) -> dict[str, Any]:
        """Accuracies on all patients, as JSON values."""
        counts, worst, names = once(self.predictions), self.worst(column), self.predictions.groups.names
        accuracy = [finite(value) for value in self.by_group(column, counts)[0]]
        return {
            "accuracy": finite(self.accuracy(column, counts)[0]),
            "worst_group": None if worst is None else names[worst],
            "worst_group_patients": None if worst is None else self.patients(worst),
            "worst_group_accuracy": None if worst is None else accuracy[worst],
            "group_accuracies": dict(zip(names, accuracy, strict=True)),
        }

    def group_sizes(self, examples: int) -> list[dict[str, Any]]:
        """Name, and number of examples and patients in the subset, of each declared group."""
        sizes = quotas(self.predictions, examples).tolist()
        return [
            {"group": name, "examples": sizes[g], "patients": self.patients(g)}
            for g, name in enumerate(self.predictions.groups.names)
        ]


def once(predictions: Predictions) -> Floats:
    """The counts that give the point estimate: every patient once, shape (1, patients)."""
    return np.ones((1, len(predictions.patients)))


def one_of(radius: float, radii: Sequence[float]) -> float:
    """The one of several radii that a radius means.

    Raises:
        ValueError: it is none of them.
    """
    for known in radii:
        if abs(known - radius) <= SAME_RADIUS:
            return float(known)
    raise ValueError(f"expected one of the radii {list(radii)}, found {radius}")


def as_number(value: Any) -> Any:
    """A decimal, or a fraction such as ``"1/255"``, as a float; of a list each; anything else as it is.

    Raises:
        ValueError: a text that is neither.
    """
    if isinstance(value, list | tuple):
        return tuple(as_number(part) for part in value)
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ArithmeticError):
        raise ValueError(f"expected a number or a fraction such as 1/255, found {value!r}") from None


def check_inputs(images: Any, predictions: Predictions, evaluator: str) -> None:
    """Check that the images are those of the predictions, and that there is a class to be led to.

    Raises:
        SpurbenchError: otherwise.
    """
    kind: Any = getattr(images, "dtype", type(images).__name__)
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if kind != np.uint8 or len(shape) != 4 or shape[0] != len(predictions):
        raise SpurbenchError(
            f"Expected uint8 images of shape ({len(predictions)}, channels, height, width), found {kind} of shape {shape}."
        )
    if len(predictions.groups.classes) < 2:
        raise SpurbenchError(f"Expected at least two classes to attack, found one. Leave out evaluator {evaluator!r}.")


def check_model(model: Any, clean: Any, predictions: Predictions, rows: NDArray[np.int64]) -> None:
    """Check that the model says of the clean images what the predictions say.

    Raises:
        SpurbenchError: otherwise.
    """
    known = predictions.logits[rows]
    gap = np.abs(logits_of(model, clean) - known).max(axis=1)
    if gap.max() > SAME_LOGITS * max(1.0, float(np.abs(known).max())):
        raise SpurbenchError(
            f"Expected predictions of this model on these images, found logits that differ by {gap.max():.3g} on"
            f" {str(predictions.ids[rows[gap.argmax()]])!r}. Predict again."
        )


def check_subset(rows: NDArray[Any], predictions: Predictions, examples: int, name: str) -> NDArray[np.int64]:
    """``rows`` if they may be the subset of these predictions.

    Args:
        rows: collected, shape (m,).
        predictions: of the partition.
        examples: see :func:`quotas`.
        name: of the array, for messages.

    Raises:
        SpurbenchError: otherwise.
    """
    if not np.isin(rows, np.arange(len(predictions))).all() or (np.diff(rows) <= 0).any():
        raise SpurbenchError(f"Expected {name} in ascending order, from 0 to {len(predictions) - 1} at most.")
    expected = quotas(predictions, examples)
    found = np.bincount(predictions.group[rows], minlength=len(expected))
    if (found != expected).any():
        raise SpurbenchError(
            f"Expected {expected.tolist()} attacked examples by group, found {found.tolist()}: collected with other"
            " settings. Collect again."
        )
    return rows.astype(np.int64)
