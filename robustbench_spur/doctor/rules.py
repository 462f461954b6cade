"""What can be known without an image: how strong the shortcut is, and how far rules that see no pixel come.

Each rule is made from the training rows and scored on every partition, but the one that knows the patient: it has no
training, and predicts a slice from the others of the same patient in the same partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.association import contingency, cramers_v, mutual_information
from robustbench_spur.doctor.report import Rule, Score, Shift
from robustbench_spur.doctor.rows import patient_labels, with_attribute
from robustbench_spur.types import Groups, Partition

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 10
POSITIONS = ("position", "z", "slice")
"""Columns that say where in the volume a slice lies; the first that a data set has is used."""

UNKNOWN = -1
"""Prediction where a rule says nothing."""


# The shift


def shift(name: str, rows: Partition, groups: Groups) -> Shift:
    """How strongly attribute and label go together in a partition.

    Args:
        name: of the partition.
        rows: of it; those without an attribute value are left out.
        groups: of the split.
    """
    known = with_attribute(rows)
    table = contingency(known.attributes, known.labels)
    two = len(groups.classes) == len(groups.values) == 2
    return Shift(
        partition=name,
        slices=len(known),
        mutual_information=mutual_information(table),
        cramers_v=cramers_v(table) if len(known) else None,
        aligned=float((known.attributes == known.labels).mean()) if two and len(known) else None,
    )


# The rules


def rules(rows: Mapping[str, Partition], groups: Groups) -> tuple[Rule, ...]:
    """All rules, scored; none where there are no training rows.

    Args:
        rows: by partition.
        groups: of the split.
    """
    train = rows.get("train")
    if train is None or not len(train):
        return ()
    return (
        _majority_rule(train, rows, groups),
        _attribute_rule(train, rows, groups),
        _position_rule(train, rows, groups),
        _patient_rule(train, rows, groups),
    )


def score(name: str, rows: Partition, predicted: Codes, groups: Groups, scores: Floats | None = None) -> Score:
    """Count what a rule gets right.

    Args:
        name: of the partition.
        rows: of it.
        predicted: class codes, shape (n,); :data:`UNKNOWN` where the rule says nothing.
        groups: of the split.
        scores: the larger, the more likely is label 1, shape (n,).
    """
    said = predicted != UNKNOWN
    labels, calls = rows.labels[said], predicted[said]
    cells = np.bincount(2 * labels + calls, minlength=4).tolist() if len(groups.classes) == 2 else [None] * 4
    right = calls == labels
    return Score(
        partition=name,
        slices=int(said.sum()),
        accuracy=float(right.mean()) if len(right) else None,
        group_balanced_accuracy=_group_balanced(rows.take(said), right, groups),
        tn=cells[0],
        fp=cells[1],
        fn=cells[2],
        tp=cells[3],
        auroc=None if scores is None else rank_area(scores[said], labels == 1),
    )


def rank_area(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the share of pairs in which the positive scores higher, ties a half; None without pairs.

    >>> rank_area(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True]))
    0.875
    """
    from scipy.stats import rankdata

    many, few = int(positive.sum()), int((~positive).sum())
    if not many * few:
        return None
    wins = float(rankdata(scores)[positive].sum()) - many * (many + 1) / 2
    return wins / (many * few)


def _group_balanced(rows: Partition, right: NDArray[np.bool_], groups: Groups) -> float | None:
    known = rows.attributes >= 0
    index = groups.index(rows.labels[known], rows.attributes[known])
    designed = list(groups.only(rows.designed).codes)
    sizes = np.bincount(index, minlength=len(groups))[designed]
    if not sizes.all():
        return None
    return float((np.bincount(index, right[known], minlength=len(groups))[designed] / sizes).mean())


def _scored(rows: Mapping[str, Partition], groups: Groups, predict: Callable[[Partition], Codes]) -> tuple[Score, ...]:
    return tuple(score(name, part, predict(part), groups) for name, part in rows.items() if len(part))


def _most(labels: Codes, classes: int) -> int:
    """The most frequent label, the lowest of equals."""
    return int(np.bincount(labels, minlength=classes).argmax())


def _majority_rule(train: Partition, rows: Mapping[str, Partition], groups: Groups) -> Rule:
    most = _most(train.labels, len(groups.classes))
    return Rule(
        name="majority",
        definition=f"always the most frequent label of train, the first of equals: {groups.classes[most]}",
        scores=_scored(rows, groups, lambda part: np.full(len(part), most)),
    )


def _attribute_rule(train: Partition, rows: Mapping[str, Partition], groups: Groups) -> Rule:
    classes = len(groups.classes)
    most = _most(train.labels, classes)
    called = np.full(len(groups.values) + 1, most)  # the last one is for missing values, whose code is -1
    for value in np.unique(train.attributes[train.attributes >= 0]).tolist():
        called[value] = _most(train.labels[train.attributes == value], classes)
    said = ", ".join(f"{groups.classes[called[i]]} at {value}" for i, value in enumerate(groups.values))
    return Rule(
        name="attribute",
        definition=f"the most frequent label of train at the same {groups.attribute}: {said}",
        scores=_scored(rows, groups, lambda part: called[part.attributes]),
    )


def _position_rule(train: Partition, rows: Mapping[str, Partition], groups: Groups) -> Rule:
    column = next((name for name in POSITIONS if name in train.extra), None)
    places = (
        {} if column is None else {name: _numbers(part.extra.get(column), len(part)) for name, part in rows.items()}
    )
    known = np.isfinite(places["train"]) if places else np.zeros(len(train), np.bool_)
    if not known.any():
        why = "no column of slice positions" if column is None else f"no number in the column {column!r} of train"
        return Rule(name="position", definition=f"not made: {why}", scores=())
    edges = np.unique(np.quantile(places["train"][known], np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = {name: np.searchsorted(edges, place, "right") for name, place in places.items()}
    classes = len(groups.classes)
    counts = np.bincount(bins["train"][known] * classes + train.labels[known], minlength=(len(edges) + 1) * classes)
    table = counts.reshape(-1, classes)
    table[table.sum(axis=1) == 0] = table.sum(axis=0)  # below the first edge, where that is train's lowest position

    called, share = table.argmax(axis=1), table[:, -1] / table.sum(axis=1)

    def scored(name: str, part: Partition) -> Score:
        calls = np.where(np.isfinite(places[name]), called[bins[name]], UNKNOWN)
        return score(name, part, calls, groups, share[bins[name]] if classes == 2 else None)

    return Rule(
        name="position",
        definition=(
            f"the most frequent label of train in the same of {len(table)} bins of {column!r}, cut at train's quantiles;"
            " AUROC of that bin's share of label 1"
        ),
        scores=tuple(scored(name, part) for name, part in rows.items() if len(part)),
    )


def _numbers(column: NDArray[Any] | None, count: int) -> Floats:
    """A column as numbers, NaN where it holds none, shape (count,)."""
    if column is None:
        return np.full(count, np.nan)
    try:
        return np.asarray(column, np.float64)
    except ValueError:
        return np.array([float(text) if str(text).isdecimal() else np.nan for text in column.tolist()], np.float64)


def _patient_rule(train: Partition, rows: Mapping[str, Partition], groups: Groups) -> Rule:
    classes = len(groups.classes)
    tie = _most(train.labels, classes)

    def predict(part: Partition) -> Codes:
        owner = np.unique(part.clusters, return_inverse=True)[1]
        others = patient_labels(part, classes)[owner].astype(np.float64)
        others[np.arange(len(part)), part.labels] -= 1
        alone = others.sum(axis=1) == 0
        others[:, tie] += 0.5
        return np.where(alone, UNKNOWN, others.argmax(axis=1))

    scores = _scored(rows, groups, predict)
    if not any(one.slices for one in scores):
        return Rule(name="patient", definition="not made: no patient has two slices in a partition", scores=())
    return Rule(
        name="patient",
        definition=(
            "the most frequent label of the same patient's other slices in the partition, of equals train's; nothing for an"
            " only slice. 1 where identity tells the label, below one half where patients have evenly many of both"
        ),
        scores=scores,
    )
