"""Predicts a feature of patients from their images: a linear probe on frozen features, out of fold.

A row is a patient. The images' features are standardised and turned to their leading principal components; a logistic
regression then learns the levels from four fifths of the patients and scores the others. Each pair of level and class
weighs the same in learning, so that what the image says of the label is of no use for the level.

Standardisation and components are those of all patients, the held-out ones too. They see no level: where images say nothing
of a feature, its levels can be exchanged among the patients of a class and all scores with them, so that detectability stays
at chance. One decomposition then serves all columns.

The folds hold as many patients of each pair of level and class as can be. So a patient's fold depends on its level, but the
scores of a fold come from the levels of the others alone.

Source: N. Drenkow et al., G-AUDIT, arXiv 2503.09969 (attributes predicted out of fold from images).
Deviations: a linear probe on frozen features in place of a fine-tuned network; folds and rows are patients; one model with
balanced weights in place of one per class, which would leave the rarer level of a class a handful of patients.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.features import FeatureTable
from robustbench_spur.curation.frozen import Features
from robustbench_spur.types import SpurbenchError

COMPONENTS = 128
"""Most principal components that a probe learns from."""
FOLDS = 5
LEAST = 5
"""Patients that a level needs for the probe to learn it."""
STRENGTH = 0.1
"""Inverse of the weight of the squared coefficients, against losses summed over patients."""

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def of_table(table: FeatureTable, label: str, features: Features) -> tuple[FeatureTable, Floats]:
    """The table reduced to the patients who have a label and images, with a note of the others, and their features.

    Raises:
        SpurbenchError: there are none.
    """
    places = {patient: place for place, patient in enumerate(features.patients)}
    target = table.find(label)
    rows = np.flatnonzero(~target.missing).tolist()
    kept = [row for row in rows if str(table.patients[row]) in places]
    if not kept:
        raise SpurbenchError(
            f"Expected patients with {label!r} and images in {table.path}, found none. Check --images."
        )
    notes = list(table.notes)
    if len(rows) < len(table):
        notes.append(f"{len(table) - len(rows)} patients without {target.name!r} are left out.")
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} patients have no images, and are left out.")
    columns = tuple(replace(column, values=column.values[kept]) for column in table.columns)
    reduced = replace(table, patients=table.patients[kept], columns=columns, notes=tuple(notes))
    return reduced, features.values[[places[str(patient)] for patient in reduced.patients]]


@dataclass(frozen=True)
class Probe:
    """A linear probe on features of patients.

    Args:
        values: finite features, shape (n, d).
        seed: of the folds, at least 0.
        folds: at least 2.

    >>> level, classes = np.arange(40) % 2, np.arange(40) // 20
    >>> probe = Probe(level[:, None] + 0.0)
    >>> probe.scores(level, classes).shape, bool((probe.detector(level, classes) == level).all())
    ((40, 2), True)
    """

    values: Floats = field(repr=False)
    seed: int = 2025
    folds: int = FOLDS

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise SpurbenchError(f"Expected at least 2 folds, found {self.folds}.")

    @cached_property
    def points(self) -> Floats:
        """Leading principal components of the standardised features, shape (n, at most COMPONENTS)."""
        spread = self.values.std(axis=0)
        moving = spread > 1e-9 * (1 + np.abs(self.values).max(axis=0))
        scaled = (self.values - self.values.mean(axis=0))[:, moving] / spread[moving]
        left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
        out: Floats = (left * sizes)[:, :COMPONENTS]
        return out

    def detector(self, levels: Codes, classes: Codes) -> Codes:
        """Predict the level of every patient from the others: that of the highest of :meth:`scores`, shape (n,).

        Arguments and errors are those of :meth:`scores`.
        """
        return np.asarray(self.scores(levels, classes).argmax(axis=1), np.int64)

    def scores(self, levels: Codes, classes: Codes) -> Floats:
        """Probability of each level for every patient, told from the others.

        A level of fewer than :data:`LEAST` patients is not learned, and scores 0. Where fewer than two levels are left, the
        most frequent level scores 1 for all, which tells nothing.

        Args:
            levels: of a feature, codes from 0, shape (n,).
            classes: of the label, codes from 0, shape (n,).

        Returns:
            Shape (n, levels), in [0, 1]; the pairs of level and class weighed the same in learning, so that these are not
            the probabilities of a patient drawn from the table.

        Raises:
            SpurbenchError: another number of patients than there are features.
        """
        if not len(levels) == len(classes) == len(self.values):
            raise SpurbenchError(
                f"Expected levels and classes of {len(self.values)} patients with features, found {len(levels)}"
                f" and {len(classes)}."
            )
        counts = np.bincount(levels)
        learned = counts[levels] >= LEAST
        out = np.zeros((len(levels), len(counts)))
        if len(np.unique(levels[learned])) < 2 or not self.points.shape[1]:
            out[:, counts.argmax()] = 1.0
            return out
        fold = folds_of(levels, classes, self.folds, self.seed)
        for held in np.unique(fold).tolist():
            train, test = learned & (fold != held), fold == held
            known, found = _fit(self.points[train], levels[train], classes[train], self.points[test])
            out[np.ix_(test, known)] = found
        return out


def folds_of(levels: Codes, classes: Codes, folds: int, seed: int) -> Codes:
    """Fold of each patient, every pair of level and class spread evenly over them, shape (n,).

    >>> folds_of(np.array([0, 0, 0, 0, 1, 1]), np.zeros(6, np.int64), 2, seed=0)[:4].sum()
    np.int64(2)
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(levels))
    order = order[np.lexsort((classes[order], levels[order]))]
    fold = np.empty(len(levels), np.int64)
    fold[order] = np.arange(len(levels)) % folds
    return fold


def _fit(points: Floats, levels: Codes, classes: Codes, others: Floats) -> tuple[Codes, Floats]:
    """The levels that were learned, shape (k,), and their probabilities for the others, shape (others, k)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    cell = levels * (int(classes.max()) + 1) + classes
    weight = 1 / np.bincount(cell)[cell]
    model = LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is nearly done predicts as well
        model.fit(points, levels, sample_weight=weight * len(weight) / weight.sum())
    return model.classes_, model.predict_proba(others)


def auroc_within(levels: Codes, scores: Floats, classes: Codes) -> float | None:
    """How well scores order the patients of a class by level: AUROC, averaged over classes by their patients.

    Of more than two levels it is that of each level against the rest, averaged by the level's patients in the class.

    Args:
        levels: of a feature, codes from 0, shape (n,).
        scores: of each level, higher where it is likelier, shape (n, levels).
        classes: of the label, codes from 0, shape (n,).

    Returns:
        From 0 to 1, 0.5 by chance; None where the feature is constant in every class.

    >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    >>> auroc_within(np.array([0, 1, 1, 1]), scores, np.array([0, 0, 0, 1]))
    1.0
    """
    from sklearn.metrics import roc_auc_score

    total, weight = 0.0, 0
    for label in np.unique(classes).tolist():
        rows = classes == label
        present, counts = np.unique(levels[rows], return_counts=True)
        if len(present) < 2:
            continue
        found = [roc_auc_score(levels[rows] == level, scores[rows, level]) for level in present.tolist()]
        total += float(np.dot(found, counts))
        weight += int(counts.sum())
    return total / weight if weight else None
