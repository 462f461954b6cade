"""Linear probes on a model's features, fitted on some patients and asked about the others.

A probe is a logistic regression with a penalty, on features that are standardised by the patients it is fitted on. Each pair
of class and level weighs the same in fitting, so that a level which goes with a class gains nothing from what the features
say of the class.

Source: G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes, arXiv 1610.01644.
Deviations: weights, a penalty, and patients that are held out together.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.statistics import patient_sums
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.evaluators.base import Part, Subject

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

BATCH = 256
SAME_LOGITS = 1e-2
"""By how much, as a share of the largest, logits may differ between two passes over the same images."""
LEAST = 5
"""Patients that a level of a further column needs to be told from the others."""
MOST = 10
"""Levels of a further column: more of them are names or measurements, not kinds."""
MISSING = ("", "nan", "none", "na", "unknown")
NARROW = 512
"""Features up to which products of matrices are done by one thread."""
MOVING = 1e-6
"""A feature whose spread is a smaller share of its size is a constant: float32 resolves no less."""


def features_of(subject: Subject, part: Part) -> NDArray[np.float32]:
    """The input of the model's last layer for every image of a partition; where there is no model, the features given.

    Args:
        subject: gives the model, its device, and whom to tell of the progress.
        part: images and predictions of the partition, or features and predictions.

    Returns:
        Shape (n, width).

    Raises:
        SpurbenchError: features that are not finite, or a model that did not make these predictions.
    """
    if subject.load is None and part.features is not None:
        features = part.features.points
        if features.ndim != 2 or len(features) != len(part.predictions):
            raise SpurbenchError(
                f"Expected features of shape ({len(part.predictions)}, width), a row per example, found {features.shape}."
            )
    else:
        features = _computed(subject, part)
    if not np.isfinite(features).all():
        raise SpurbenchError("Expected finite features, found NaN or infinity. Check the network.")
    return features


def _computed(subject: Subject, part: Part) -> NDArray[np.float32]:
    """The features of the images, shape (n, width), after the logits were held against the predictions."""
    import torch

    from robustbench_spur.feeding import Feed

    model, known, found = subject.model.eval(), part.predictions.logits, []
    done = 0
    with torch.no_grad():
        for images in Feed(part.images, torch.device(subject.device)).batches(BATCH):
            hidden = model.features(images)
            logits = model.head(hidden).float().cpu().numpy()
            gap = np.abs(logits - known[done : done + len(logits)]).max()
            if not gap <= SAME_LOGITS * max(1.0, float(np.abs(known).max())):
                raise SpurbenchError(
                    f"Expected predictions of this model on these images, found logits that differ by {gap:.3g}. Predict again."
                )
            found.append(hidden.float().cpu().numpy())
            done += len(logits)
            subject.progress(done, len(known))
    return np.concatenate(found)


def head_logits(subject: Subject, features: Floats) -> NDArray[np.float32] | None:
    """What the model's last layer says of features, shape (n, width) to (n, classes).

    Where there is no model, the last layer is the one given with the features, else the one that :func:`linear_head` finds.
    None where there is none of these.
    """
    if subject.load is None and subject.features is not None:
        given = subject.features
        if given.weight is not None and given.bias is not None:
            return np.asarray(features @ given.weight.T + given.bias, np.float32)
        found = linear_head(given.points.astype(np.float64), subject.predictions.logits)
        return None if found is None else np.asarray(features @ found[0].T + found[1], np.float32)

    import torch

    with torch.no_grad():
        points = torch.from_numpy(features.astype(np.float32)).to(subject.device)
        logits: NDArray[np.float32] = subject.model.head(points).float().cpu().numpy()
    return logits


def narrow_in_one_thread(width: int) -> AbstractContextManager[Any]:
    """One thread for matrices of few columns while it is entered; as many as there are for wide ones.

    Threads that wait for each other cost more than they save there: on a busy machine a probe of 128 features takes more than
    ten times as long with two of them.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1 if width <= NARROW else None, user_api="blas")
    return limits


def linear_head(points: Floats, logits: NDArray[Any]) -> tuple[Floats, Floats] | None:
    """The linear last layer that makes these logits of these features, by least squares.

    Only differences between the classes are looked at, so that logs of probabilities do as well: class 0 has the logit 0.

    Args:
        points: features, shape (n, width).
        logits: shape (n, classes).

    Returns:
        Weights of shape (classes, width), and biases of shape (classes,). None where the differences are not reproduced to
        within :data:`SAME_LOGITS` of the largest, or where there are fewer than two examples to each feature: some layer
        would then always fit.

    >>> points = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [5.0, 1.0], [2.0, 2.0]])
    >>> weight, bias = linear_head(points, np.stack([points[:, 0], 3 * points[:, 1] + 1], axis=1))
    >>> weight.round(6).tolist(), bias.round(6).tolist()
    ([[0.0, 0.0], [-1.0, 3.0]], [0.0, 1.0])
    >>> linear_head(points, np.stack([points[:, 0], points[:, 1] ** 2], axis=1)) is None
    True
    """
    scale, scores = Scale.of(points), logits.astype(np.float64)
    scores -= scores[:, :1]
    inner, middle = scale(points), scores.mean(axis=0)
    if len(points) < 2 * (inner.shape[1] + 1):
        return None
    # the normal equations: at 2,048 features a tenth of the time, and features are float32
    slope = np.linalg.lstsq(inner.T @ inner, inner.T @ (scores - middle), rcond=1e-12)[0]
    gap = np.abs(inner @ slope + middle - scores).max()
    if not gap <= SAME_LOGITS * max(1.0, float(np.abs(scores).max())):
        return None
    weight = np.zeros((scores.shape[1], points.shape[1]))
    weight[:, scale.moving] = slope.T / scale.spread[scale.moving]
    return weight, middle - weight @ scale.mean


def folds_by_patient(patient: Codes, group: Codes, folds: int) -> Codes:
    """The fold of every example: patients stay together, and those with the same groups are dealt evenly.

    Args:
        patient: of each example, codes from 0 without gaps, shape (n,).
        group: of each example, codes from 0, shape (n,).
        folds: how many, at least 1; no more than there are patients.

    >>> folds_by_patient(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 0, 0, 0]), 2).tolist()
    [1, 1, 0, 1, 0]
    """
    patients = int(patient.max()) + 1
    has = patient_sums(patient, patients, group, int(group.max()) + 1) > 0
    order = np.lexsort((np.arange(patients), *has.T))
    fold = np.empty(patients, np.int64)
    fold[order] = np.arange(patients) % min(folds, patients)
    return np.asarray(fold[patient])


def untied(codes: NDArray[Any], others: NDArray[Any]) -> bool:
    """Whether some value of ``others`` goes with two of ``codes``; -1 is unknown and counts for nothing.

    >>> untied(np.array([0, 1, 1]), np.array([0, 1, 1])), untied(np.array([0, 1, 1]), np.array([0, 0, 1]))
    (False, True)
    """
    known = (codes >= 0) & (others >= 0)
    pair, others_there = _paired(codes[known], others[known])
    return len(np.unique(pair)) > others_there


def _paired(codes: NDArray[Any], others: NDArray[Any]) -> tuple[Codes, int]:
    """A code for the pair of each example, shape (n,), and how many values of ``others`` there are."""
    first, (names, second) = np.unique(codes, return_inverse=True)[1], np.unique(others, return_inverse=True)
    return first * len(names) + second, len(names)


def pair_weights(codes: Codes, others: Codes) -> Floats:
    """Weights with which each pair that occurs weighs the same; their mean is 1, shape (n,).

    >>> pair_weights(np.array([0, 0, 0, 1]), np.array([1, 1, 1, 1])).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    """
    pair, _ = _paired(codes, others)
    size = np.bincount(pair)
    return np.asarray(len(codes) / (np.count_nonzero(size) * size[pair]), np.float64)


def held_out_scores(points: Floats, codes: Codes, others: Codes, levels: int, fold: Codes, strength: float) -> Floats:
    """How much a linear probe that was fitted on the other folds takes each example for each level.

    Args:
        points: features, shape (n, width).
        codes: what is probed for, 0 to ``levels - 1``, or -1 where it is unknown, shape (n,).
        others: what its pairs with ``codes`` weigh the same with, codes from 0, shape (n,).
        levels: how many there could be.
        fold: of each example, shape (n,).
        strength: inverse of the weight of the squared coefficients, against losses summed over examples; above 0.

    Returns:
        Log odds of each level against all others, shape (n, levels). NaN for a level that is not in the other folds, and for
        all levels where those tie them to ``others``.
    """
    out = np.full((len(points), levels), np.nan)
    for held in np.unique(fold).tolist():
        train = (fold != held) & (codes >= 0)
        if untied(codes[train], others[train]):
            scale = Scale.of(points[train])
            asked, fitted = scale(points[fold == held]), scale(points[train])
            known, odds = _fit(fitted, codes[train], pair_weights(codes[train], others[train]), asked, strength)
            out[np.ix_(fold == held, known)] = odds
    return out


def _fit(points: Floats, codes: Codes, weight: Floats, asked: Floats, strength: float) -> tuple[Codes, Floats]:
    """The levels that were learned, shape (k,), and their log odds for the points asked about, shape (asked, k)."""
    from scipy.special import logsumexp
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if not points.shape[1]:
        known = np.unique(codes)
        return known, np.zeros((len(asked), len(known)))
    model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is nearly done orders as well
        model.fit(points, codes, sample_weight=weight)
    score = model.decision_function(asked)
    if score.ndim == 1:
        return model.classes_, np.stack([-score, score], axis=1)
    rest = [logsumexp(np.delete(score, level, axis=1), axis=1) for level in range(score.shape[1])]
    return model.classes_, score - np.stack(rest, axis=1)


@dataclass(frozen=True)
class Scale:
    """Standardises points as those it was made of; features that were constant there are dropped.

    Args:
        mean: of each feature, shape (width,).
        spread: standard deviation of each, shape (width,).
        moving: which are not constant, shape (width,).
    """

    mean: Floats
    spread: Floats
    moving: NDArray[np.bool_]

    @classmethod
    def of(cls, points: Floats) -> Scale:
        """From points of shape (n, width)."""
        mean, spread = points.mean(axis=0), points.std(axis=0)
        return cls(mean, spread, spread > MOVING * (1e-12 + np.abs(points).max(axis=0)))

    def __call__(self, points: Floats) -> Floats:
        """Shape (n, width) to (n, those that move)."""
        return np.asarray((points - self.mean)[:, self.moving] / self.spread[self.moving])


@dataclass(frozen=True)
class Column:
    """What else is known of the examples, such as the vendor of the scanner.

    Args:
        name: of the column.
        levels: their names, in the order of the codes.
        codes: of each example, shape (n,); -1 where it is unknown.
    """

    name: str
    levels: tuple[str, ...]
    codes: Codes


def columns_of(columns: Mapping[str, NDArray[Any]], patient: Codes, known: tuple[Codes, ...]) -> list[Column]:
    """The further columns that have 2 to :data:`MOST` levels, in the order of their names.

    A level of fewer than :data:`LEAST` patients counts as unknown. A column that says the same as one of ``known`` in other
    words is left out.

    Args:
        columns: any values, each of shape (n,).
        patient: of each example, shape (n,).
        known: codes that are probed for already, each of shape (n,).

    >>> vendor = np.array(["GE", "GE", "Siemens", "Siemens"] * 5)
    >>> [column.levels for column in columns_of({"vendor": vendor}, np.arange(20), (np.zeros(20, np.int64),))]
    [('GE', 'Siemens')]
    """
    found = []
    for name in sorted(columns):
        texts = np.array([f"{value:g}" if isinstance(value, float) else str(value) for value in columns[name].tolist()])
        texts = np.where(np.isin(np.char.lower(np.char.strip(texts)), MISSING), "", texts)
        values, place = np.unique(texts, return_inverse=True)
        if len(values) > len(patient) // 2 and len(values) > 2 * MOST:
            continue  # a name of every image
        pairs = np.unique(np.stack([place, patient]), axis=1)
        enough = (np.bincount(pairs[0], minlength=len(values)) >= LEAST) & (values != "")
        codes = np.where(enough, np.cumsum(enough) - 1, -1)[place].astype(np.int64)
        if 2 <= enough.sum() <= MOST and not any(_same(codes, other) for other in known):
            found.append(Column(name, tuple(values[enough].tolist()), codes))
    return found


def _same(codes: Codes, other: Codes) -> bool:
    """Whether two columns say the same of the examples for which the first is known."""
    rows = codes >= 0
    return not untied(codes[rows], other[rows]) and not untied(other[rows], codes[rows])
