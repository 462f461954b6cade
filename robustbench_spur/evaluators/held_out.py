"""What evaluators share that ask probes about held-out patients: AUROC within folds, alignment, a change of the worst group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.evaluators.worst_group import weighted_auroc
from robustbench_spur.probing import MOST, Column
from robustbench_spur.statistics import group_means, patient_sums, ratio
from robustbench_spur.types import SpurbenchError

Codes = NDArray[np.int64]
Rows = NDArray[np.bool_]


def auroc_in_folds(scores: NDArray[Any], positive: Rows, patient: Codes, fold: Codes, counts: Floats) -> Floats:
    """AUROC over the pairs of examples that share a fold, under each resampling.

    Args:
        scores: shape (n,).
        positive: shape (n,).
        patient: of each example, shape (n,).
        fold: of each example, shape (n,).
        counts: shape (resamples, patients).

    Returns:
        Shape (resamples,), in [0, 1]; NaN where no fold has both kinds.

    >>> scores, positive = np.array([1.0, 2.0, 11.0, 12.0]), np.array([False, True, False, True])
    >>> auroc_in_folds(scores, positive, np.arange(4), np.array([0, 0, 1, 1]), np.ones((1, 4))).tolist()
    [1.0]
    """
    wins, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    for one in np.unique(fold).tolist():
        rows = fold == one
        sums = counts @ patient_sums(patient[rows], counts.shape[1], positive[rows].astype(np.int64), 2)
        number = sums[:, 0] * sums[:, 1]
        share = weighted_auroc(scores[rows], positive[rows], patient[rows], counts) if number.any() else number
        wins += np.where(number > 0, share, 0) * number
        pairs += number
    return ratio(wins, pairs)


def level_auroc(odds: NDArray[Any], codes: Codes, rows: Rows, patient: Codes, fold: Codes, counts: Floats) -> Floats:
    """AUROC of held-out log odds, averaged over the levels that ``rows`` have, each against the rest.

    Args:
        odds: of each level, shape (n, levels); NaN where a probe did not learn the level: such examples are left out.
        codes: shape (n,); -1 where unknown: left out.
        rows: the examples asked about, shape (n,).
        patient: of each example, shape (n,).
        fold: of each example, shape (n,).
        counts: shape (resamples, patients).

    Returns:
        Shape (resamples,), NaN where fewer than two levels can be compared.
    """
    present = np.unique(codes[rows & (codes >= 0)])
    # of two levels, one against the other says it all
    levels = present[1:] if odds.shape[1] == 2 else present
    found = []
    for level in levels.tolist() if len(present) > 1 else []:
        used = rows & (codes >= 0) & np.isfinite(odds[:, level])
        found.append(auroc_in_folds(odds[used, level], codes[used] == level, patient[used], fold[used], counts))
    return np.mean(found, axis=0) if found else np.full(len(counts), np.nan)


def alignment(odds: NDArray[Any], margin: Floats, patient: Codes, cell: Codes, counts: Floats) -> Floats:
    """Correlation of two scores within cells, under each resampling, shape (resamples,); NaN where one is constant.

    Args:
        odds: shape (n,), finite.
        margin: shape (n,).
        patient: of each example, shape (n,).
        cell: of each example, codes from 0, shape (n,).
        counts: shape (resamples, patients).
    """
    cells = int(cell.max()) + 1
    scores = [np.asarray(score, np.float64) - score.mean() for score in (odds, margin)]

    def total(values: Floats | None = None) -> Floats:
        return counts @ patient_sums(patient, counts.shape[1], cell, cells, values)

    size, sums = total(), [total(score) for score in scores]

    def within(i: int, j: int) -> Floats:
        product = total(scores[i] * scores[j])
        between = np.divide(sums[i] * sums[j], size, out=np.zeros_like(size), where=size > 0)
        return np.asarray((product - between).sum(axis=1))

    first, second = within(0, 0), within(1, 1)
    varies = [
        part > 1e-12 * len(score) * max(float(np.square(score).max()), 1e-300)
        for part, score in zip((first, second), scores, strict=True)
    ]
    spread = np.where(varies[0] & varies[1], first * second, 0)
    return ratio(within(0, 1), np.sqrt(spread))


@dataclass(frozen=True)
class Change:
    """Accuracy of the worst group before and after something is taken out, each group named on all patients.

    Args:
        before: whether each example is right, shape (n,).
        after: likewise.
        patient: of each, shape (n,).
        group: of each, shape (n,).
        groups: how many.
    """

    before: Rows
    after: Rows
    patient: Codes
    group: Codes
    groups: int

    def accuracies(self, right: Rows, counts: Floats) -> Floats:
        """Of each group, shape (resamples, groups)."""
        return group_means(right, self.patient, self.group, self.groups, counts)

    def worst(self, right: Rows, patients: int) -> int | None:
        """Index of the group with the lowest accuracy, the first of equals; None if one is empty."""
        accuracy = self.accuracies(right, np.ones((1, patients)))[0]
        return None if np.isnan(accuracy).any() else int(accuracy.argmin())

    def effect(self, counts: Floats) -> Floats:
        """Accuracy of the worst group after, less that of the worst before, shape (resamples,); NaN if a group is empty."""
        return np.asarray(self.of(self.after, counts) - self.of(self.before, counts))

    def micro(self, counts: Floats) -> Floats:
        """Share of right examples after, less that before, shape (resamples,)."""
        gained = self.after.astype(np.float64) - self.before
        return group_means(gained, self.patient, np.zeros_like(self.group), 1, counts)[:, 0]

    def of(self, right: Rows, counts: Floats) -> Floats:
        """Accuracy of the worst group, shape (resamples,); NaN if one is empty."""
        worst = self.worst(right, counts.shape[1])
        return np.full(len(counts), np.nan) if worst is None else self.accuracies(right, counts)[:, worst]


@dataclass(frozen=True)
class Held:
    """What was collected.

    Args:
        fold: of each example, shape (n,).
        attribute: log odds of each value, shape (n, values).
        label: log odds of each class, shape (n, classes).
        projected: logits without the attribute, shape (n, classes).
        columns: the further columns, each with its log odds and with the logits without it.
    """

    fold: Codes
    attribute: NDArray[Any]
    label: NDArray[Any]
    projected: NDArray[Any]
    columns: tuple[tuple[Column, NDArray[Any], NDArray[Any]], ...]


def column_arrays(
    columns: list[Column],
    odds: list[NDArray[np.float32]],
    projected: list[NDArray[np.float32]],
    predictions: Predictions,
) -> dict[str, NDArray[Any]]:
    """What was collected of the further columns, side by side along the second axis; there may be none."""
    rows, classes = predictions.logits.shape
    levels = [column.levels + ("",) * (MOST - len(column.levels)) for column in columns]
    return {
        "encoding_column_names": np.array([column.name for column in columns], np.str_),
        "encoding_column_levels": np.array(levels, np.str_).reshape(len(columns), MOST),
        "encoding_column_codes": np.array([column.codes for column in columns], np.int8).reshape(len(columns), rows).T,
        "encoding_column_odds": np.array(odds, np.float32).reshape(len(columns), rows, MOST).swapaxes(0, 1),
        "encoding_column_projected": np.array(projected, np.float32)
        .reshape(len(columns), rows, classes)
        .swapaxes(0, 1),
    }


def held_of(predictions: Predictions, names: Sequence[str]) -> Held:
    """The collected arrays.

    Raises:
        SpurbenchError: one is missing, or of another shape.
    """
    missing = [name for name in names if name not in predictions.arrays]
    if missing:
        raise SpurbenchError(f"Evaluator 'encoding' needs the arrays {missing}, which these predictions do not have.")
    fold, attribute, label, projected, known, levels, codes, odds, without = (
        np.asarray(predictions.arrays[name]) for name in names
    )
    rows, classes = predictions.logits.shape
    expected = {
        "encoding_fold": (rows,),
        "encoding_attribute": (rows, len(predictions.groups.values)),
        "encoding_label": (rows, classes),
        "encoding_projected": (rows, classes),
        "encoding_column_levels": (len(known), MOST),
        "encoding_column_codes": (rows, len(known)),
        "encoding_column_odds": (rows, len(known), MOST),
        "encoding_column_projected": (rows, len(known), classes),
    }
    for name, shape in expected.items():
        if predictions.arrays[name].shape != shape:
            raise SpurbenchError(
                f"Expected {name} of shape {shape}, found {predictions.arrays[name].shape}. Collect again."
            )
    columns = []
    for place, name in enumerate(known.tolist()):
        own = tuple(level for level in levels[place].tolist() if level)
        column = Column(name, own, codes[:, place].astype(np.int64))
        columns.append((column, odds[:, place, : len(own)], without[:, place]))
    return Held(fold.astype(np.int64), attribute, label, projected, tuple(columns))


def sklearn_auroc(scores: NDArray[Any], positive: Codes, fold: Codes) -> float | None:
    """AUROC by scikit-learn, of each fold that has both kinds, weighed by its pairs; None where there is none."""
    from sklearn.metrics import roc_auc_score

    total, pairs = 0.0, 0
    for one in np.unique(fold).tolist():
        rows = (fold == one) & np.isfinite(scores)
        ones = int(positive[rows].sum())
        number = ones * (int(rows.sum()) - ones)
        total += number * float(roc_auc_score(positive[rows], scores[rows])) if number else 0.0
        pairs += number
    return total / pairs if pairs else None
