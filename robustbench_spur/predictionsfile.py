"""Reads predictions that anyone can write: a table with a row per example, or an npz file with an array per column.

Columns are ``label``, ``attribute``, and a score of every class, ``logit_0``, ``logit_1``, ... or ``prob_0``, ``prob_1``, ...;
``id`` and ``patient`` may be left out, with a note. The input of the model's last layer may stand beside them, ``feature_0``,
``feature_1``, ... In an npz file scores and features may also be one array of shape (examples, columns) each, ``logits`` or
``probs``, and ``features``; the last layer may be there too, ``head_weight`` and ``head_bias``. Nothing is run, and nothing is
loaded whose size was not looked at before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.subject import Features, Part
from robustbench_spur.predictionscolumns import Columns, csv_columns, npz_columns
from robustbench_spur.probing import SAME_LOGITS
from robustbench_spur.types import Groups, SpurbenchError

MISSING = ("", "nan", "na", "n/a", "<na>", "null")
"""What an empty cell may look like, in any case."""
WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
MOST_VALUES = 200
"""Attribute values that a column may have unless they are declared: one with more is a measurement."""
FLOOR = 1e-12
"""Probabilities below it count as it: the log of 0 is not finite. A certain error then costs 27.6 nats of log loss."""
TOLERANCE = 0.01
"""How far from 1 the probabilities of an example may sum, since tables are rounded."""


@dataclass(frozen=True)
class Loaded:
    """Predictions from a file.

    Args:
        predictions: all rows of the file.
        notes: what was assumed, for people.
        features: in the same order; None where the file has none.
    """

    predictions: Predictions
    notes: tuple[str, ...]
    features: Features | None = None

    @property
    def part(self) -> Part:
        """What evaluators look at."""
        return Part(self.predictions, features=self.features)


def load_predictions(
    path: Path, *, classes: Sequence[str] = (), values: Sequence[str] = (), attribute: str = "attribute"
) -> Loaded:
    """Read the predictions of a CSV, TSV or npz file.

    Args:
        path: of the file. A table is UTF-8 with a header line, separated by commas, semicolons or tabs.
        classes: names of the classes, in the order of the score columns. Labels may then be names or codes; without, they
            are codes, 0 to the number of classes less one.
        values: the declared attribute values, those without examples too. Cells may be names or codes; without, the values
            are those that occur, sorted.
        attribute: name of the attribute.

    Returns:
        The predictions; probabilities became logits by their log, with those below :data:`FLOOR` raised to it.

    Raises:
        SpurbenchError: the file is missing, damaged or too large, or a cell is not what it has to be; it is named.
    """
    columns = npz_columns(path) if path.suffix.lower() == ".npz" else csv_columns(path)
    count, width = columns.scores.shape
    if classes and len(classes) != width:
        raise SpurbenchError(
            f"Expected a score of each of the {len(classes)} classes in {path}, found {width}. Correct --classes."
        )
    labels = _codes(columns, "label", classes, "--classes", count=width)
    declared = tuple(values) or _occurring(columns)
    attributes = _codes(columns, "attribute", declared, "--values")
    ids = _names(columns, "id") if "id" in columns.texts else [str(number) for number in range(count)]
    _check_ids(ids, columns)
    patients = _names(columns, "patient") if "patient" in columns.texts else ids
    logits, notes = _logits(columns)
    _check_head(columns, logits)
    if "patient" not in columns.texts:
        notes.append(
            f"{path.name} has no column 'patient': every example counts as a patient of its own. Intervals are too narrow"
            " where patients have several."
        )
    groups = Groups(tuple(classes) or tuple(map(str, range(width))), attribute, declared)
    rows = (np.array(ids, np.str_), labels, attributes, np.array(patients, np.str_), logits)
    return Loaded(Predictions(*rows, groups), tuple(notes), columns.features)


def aligned(one: Predictions, loaded: Loaded, where: Path) -> Loaded:
    """Predictions and features of another seed in the row order of the first.

    Args:
        one: of the first seed.
        loaded: of the other.
        where: the file of the other, for messages.

    Raises:
        SpurbenchError: they are not of the same examples, or do not agree on what is true of them.
    """
    two = loaded.predictions
    order = np.argsort(two.ids, kind="stable")
    if len(one) != len(two) or (np.sort(one.ids) != two.ids[order]).any():
        strange = sorted(set(two.ids.tolist()) ^ set(one.ids.tolist()))
        raise SpurbenchError(
            f"Expected the same examples in every file, found {len(strange)} that are not in {where} and the first alike,"
            f" such as {strange[0]!r}. Files of several seeds are of one set."
        )
    rows = order[np.searchsorted(two.ids[order], one.ids)]
    moved = replace(
        two,
        ids=two.ids[rows],
        labels=two.labels[rows],
        attributes=two.attributes[rows],
        clusters=two.clusters[rows],
        logits=two.logits[rows],
    )
    for what, mine, theirs in (
        ("labels", one.labels, moved.labels),
        ("attributes", one.attributes, moved.attributes),
        ("patients", one.clusters, moved.clusters),
    ):
        if (mine != theirs).any():
            name = str(one.ids[np.flatnonzero(mine != theirs)[0]])
            raise SpurbenchError(
                f"Expected the same {what} in every file, found others in {where}, such as of {name!r}."
            )
    return replace(loaded, predictions=moved, features=loaded.features and loaded.features.take(rows))


# from texts to codes


def _canonical(cell: str) -> str:
    """A whole number without its decimal point, anything else as it is.

    >>> _canonical("1.0"), _canonical("+07"), _canonical("1.50"), _canonical("T1")
    ('1', '7', '1.50', 'T1')
    """
    match = WHOLE.fullmatch(cell)
    return str(int(match[1])) if match else cell


def _distinct(names: Sequence[str], option: str) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise SpurbenchError(f"Expected different names in {option}, found {', '.join(names)}.")
    return tuple(names)


def _first_rows(cells: Sequence[str]) -> dict[str, int]:
    """The different cells, each with the first row that has it."""
    first: dict[str, int] = {}
    for number, cell in enumerate(cells):
        first.setdefault(cell, number)
    return first


def _present(columns: Columns, name: str, given: Sequence[str] = ()) -> dict[str, int]:
    """The different cells of a column in which none may be empty."""
    first = _first_rows(columns.texts[name])
    for cell, number in first.items():
        if cell not in given and cell.lower() in MISSING:
            count = columns.texts[name].count(cell)
            raise SpurbenchError(
                f"Expected {name!r} in every row, found {cell!r} ({columns.row(number)}, and {count - 1} more)."
            )
    return first


def _codes(
    columns: Columns, name: str, names: Sequence[str], option: str, *, count: int | None = None
) -> NDArray[np.int64]:
    """Codes of a column that holds names, or codes throughout; names go first."""
    names = _distinct(names, option)
    first = _present(columns, name, names)
    of_name = {one: code for code, one in enumerate(names)}
    code = {cell: of_name.get(cell, of_name.get(_canonical(cell))) for cell in first}
    numbers = [str(number) for number in range(len(names) or count or 0)]
    if all(found is None for found in code.values()):
        code = {cell: numbers.index(_canonical(cell)) if _canonical(cell) in numbers else None for cell in first}
    for cell, number in first.items():
        if code[cell] is None:
            expected = (
                f"one of {', '.join(names)}, or codes 0 to {len(names) - 1} throughout"
                if names
                else f"codes 0 to {numbers[-1]}"
            )
            hint = "" if names else f" Give the names in the order of the score columns: {option}."
            raise SpurbenchError(f"Expected {expected} in {name!r}, found {cell!r} ({columns.row(number)}).{hint}")
    return np.array([code[cell] for cell in columns.texts[name]], np.int64)


def _occurring(columns: Columns) -> tuple[str, ...]:
    """The attribute values that occur: numbers sorted as numbers, anything else as words."""
    names = {_canonical(cell) for cell in _present(columns, "attribute")}
    if len(names) > MOST_VALUES:
        raise SpurbenchError(
            f"Expected at most {MOST_VALUES} attribute values in {columns.place}, found {len(names)}: it is a measurement or a"
            " name. Put it into bins."
        )
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(sorted(names))


def _names(columns: Columns, name: str) -> list[str]:
    _present(columns, name)
    return columns.texts[name]


def _check_ids(ids: Sequence[str], columns: Columns) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(ids):
        if first.setdefault(name, number) != number:
            raise SpurbenchError(
                f"Expected every id once, found {name!r} in {columns.row(first[name])} and {columns.row(number)}."
            )


def _logits(columns: Columns) -> tuple[NDArray[np.float32], list[str]]:
    """Logits, and what was done to make them."""
    scores, notes = (columns.scores, []) if columns.kind == "logit" else _log(columns)
    with np.errstate(over="ignore"):  # refused in the next line
        logits = scores.astype(np.float32)
    beyond = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(beyond):
        raise SpurbenchError(
            f"Expected logits that float32 holds, found {scores[beyond[0]].tolist()} ({columns.row(beyond[0])})."
        )
    return logits, notes


def _log(columns: Columns) -> tuple[NDArray[np.float64], list[str]]:
    """Logs of probabilities, and what was done to those near 0."""
    scores = columns.scores
    strange = np.flatnonzero(((scores < 0) | (scores > 1)).any(axis=1))
    if len(strange):
        raise SpurbenchError(
            f"Expected probabilities from 0 to 1, found {scores[strange[0]].tolist()} ({columns.row(strange[0])}, and"
            f" {len(strange) - 1} more). Name the columns logit_0, ... where they are logits."
        )
    sums = scores.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if len(off):
        raise SpurbenchError(
            f"Expected probabilities that sum to 1 (within {TOLERANCE}), found a sum of {sums[off[0]]:.4g}"
            f" ({columns.row(off[0])}, and {len(off) - 1} more)."
        )
    low = int((scores < FLOOR).sum())
    note = (
        f"{low} probabilities of {columns.place.name} below {FLOOR:g} count as {FLOOR:g}: the log of 0 is not finite."
    )
    return np.log(np.maximum(scores, FLOOR)), [note] if low else []


def _check_head(columns: Columns, logits: NDArray[np.float32]) -> None:
    """The last layer that was given makes these logits of these features; a number added to all classes makes no odds."""
    given = columns.features
    if given is None or given.weight is None or given.bias is None:
        return
    made = given.points.astype(np.float64) @ given.weight.T + given.bias
    said = logits.astype(np.float64)
    gap = np.abs(made - made.mean(axis=1, keepdims=True) - (said - said.mean(axis=1, keepdims=True)))
    if gap.max() > SAME_LOGITS * max(1.0, float(np.abs(said).max())):
        row = int(gap.max(axis=1).argmax())
        raise SpurbenchError(
            f"Expected features @ head_weight.T + head_bias to give the {columns.kind}s, found a difference of {gap.max():.3g}"
            f" ({columns.row(row)}). Save all of one model and of one pass, or leave the last layer out."
        )
