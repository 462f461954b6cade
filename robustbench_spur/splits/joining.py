"""Joins Duke's attributes to the slices of SpurBreast by patient, and finds the value that is tied to tumour.

The release ships no attribute, and does not say which of its values goes with which label: the training folders do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustbench_spur.splits.duke import Attribute, Spreadsheet, patient_id
from robustbench_spur.splits.slices import FOLDERS, LABELS, Slice
from robustbench_spur.types import Partition, SpurbenchError

Listed = Mapping[str, list[Slice]]
"""The slices of each partition."""


class Joined(NamedTuple):
    """What the spreadsheet says of the patients of a split.

    Args:
        values: our name of each patient's value, by Duke's number; those without a known one are left out.
        notes: what a record must repeat about them.
        faults: one text for each patient who is left out.
    """

    values: dict[int, str]
    notes: list[str]
    faults: list[str]


def join(attribute: Attribute, listed: Listed, spreadsheet: Spreadsheet) -> Joined:
    """Look up every patient.

    Args:
        attribute: that is looked up.
        listed: slices of the patients.
        spreadsheet: Duke's clinical table.

    Raises:
        SpurbenchError: the spreadsheet has no such column, or is malformed.
    """
    column, sheet = spreadsheet.column(attribute), spreadsheet.path
    values: dict[int, str] = {}
    merged: set[str] = set()
    faults: list[str] = []
    for row in _first_of_patients(listed):
        who = f"{patient_id(row.patient)} ({row.file})"
        if row.patient not in column:
            faults.append(f"Expected patient {who} in {sheet}, found no such row. Get the file again.")
            continue
        meaning = column[row.patient]
        if meaning not in attribute.values:
            known = ", ".join(attribute.values)
            faults.append(f"Expected {attribute.column!r} of {who} to be one of {known}, found {meaning!r} in {sheet}.")
            continue
        values[row.patient] = attribute.values[meaning]
        if meaning in attribute.rounded:
            merged.add(f"{patient_id(row.patient)} ({meaning})")
    notes = [attribute.note] if attribute.note else []
    if merged:
        notes.append(f"Counted with the nearest nominal field strength: {', '.join(sorted(merged))}.")
    return Joined(values, notes, faults)


def order_of(
    attribute: Attribute, train: list[Slice], values: Mapping[int, str], folder: Path
) -> tuple[tuple[str, ...], str]:
    """Value names by attribute code, the one tied to tumour last, and a note about the tie.

    It is the value whose share among training's tumour slices exceeds its share among the clear ones.

    Args:
        attribute: that was joined.
        train: slices of the training set.
        values: of all its patients.
        folder: of the split, for messages.

    Raises:
        SpurbenchError: training has not two values, or not the tie that the split is defined by.
    """
    if not attribute.tied:
        return attribute.order, "No attribute is tied to the label by design."
    found = sorted({values[row.patient] for row in train})
    if len(found) != 2:
        raise SpurbenchError(
            f"Expected two values of {attribute.name} in {folder / FOLDERS['train']}, found {', '.join(found)}."
        )
    labels = np.array([row.label for row in train])
    shares = {name: np.array([values[row.patient] == name for row in train]) for name in found}
    excess = {name: float(has[labels == 1].mean() - has[labels == 0].mean()) for name, has in shares.items()}
    order = attribute.order or tuple(sorted(found, key=lambda name: excess[name]))
    if not excess[order[1]] > 0:
        raise SpurbenchError(
            f"Expected {attribute.name} {order[1]} to be more frequent among the tumour slices of"
            f" {folder / FOLDERS['train']} than among the clear ones, found no excess ({excess[order[1]]:.3f})."
        )
    has = shares[order[1]]
    how = "by the split's definition" if attribute.order else "inferred from the joined table"
    return order, (
        f"Tied to tumour, {how}: {attribute.name} {order[1]}, on {has[labels == 1].mean():.1%} of the tumour slices and"
        f" {has[labels == 0].mean():.1%} of the clear slices of training."
    )


def order_or_fault(
    attribute: Attribute, train: list[Slice], values: Mapping[int, str], folder: Path
) -> tuple[tuple[str, ...], list[str]]:
    """The same where something may be missing: if training does not tell, all values that are known, and why."""
    known = [row for row in train if row.patient in values]
    every = attribute.order or tuple(dict.fromkeys(attribute.values.values()))
    if len({row.label for row in known}) < len(LABELS):  # other faults say what is missing
        return every, []
    try:
        return order_of(attribute, known, values, folder)[0], []
    except SpurbenchError as error:
        return every, [str(error)]


def outside(listed: Listed, values: Mapping[int, str], order: tuple[str, ...], folder: Path) -> list[str]:
    """A fault for each patient whose value is known but is none of the split's."""
    return [
        f"Expected {patient_id(row.patient)} to have one of training's values ({', '.join(order)}),"
        f" found {values[row.patient]} ({folder / row.file})."
        for row in _first_of_patients(listed)
        if values.get(row.patient, order[0]) not in order
    ]


def rows_of(ids: list[str], slices: list[Slice], values: Mapping[int, str], order: tuple[str, ...]) -> Partition:
    """The rows of a partition, in the order of its slices.

    Args:
        ids: of the rows.
        slices: behind them.
        values: by patient.
        order: value names by attribute code; a patient without one of them gets the code -1.
    """
    codes = {value: code for code, value in enumerate(order)}
    return Partition(
        ids=np.array(ids, np.str_),
        labels=np.array([row.label for row in slices], np.int64),
        attributes=np.array([codes.get(values.get(row.patient, ""), -1) for row in slices], np.int64),
        clusters=np.array([patient_id(row.patient) for row in slices], np.str_),
        extra={
            "file": np.array([row.file for row in slices], np.str_),
            "slice": np.array([row.slice for row in slices], np.str_),
            "bytes": np.array([row.bytes for row in slices], np.int64),
        },
    )


def facts(listed: Listed) -> tuple[str, ...]:
    """What the folders show that a reader of a record must know."""
    notes = ["Class 'clear' means that this slice has no annotated tumour; every Duke patient has cancer."]
    for name in ("train", "validation"):
        labels: dict[int, set[int]] = {}
        for row in listed[name]:
            labels.setdefault(row.patient, set()).add(row.label)
        if all(len(both) == 1 for both in labels.values()):
            notes.append(f"Every patient of {name} has slices of one label only, so that identity predicts it too.")
    return tuple(notes)


def _first_of_patients(listed: Listed) -> list[Slice]:
    """The first slice of every patient."""
    first: dict[int, Slice] = {}
    for row in (row for slices in listed.values() for row in slices):
        first.setdefault(row.patient, row)
    return list(first.values())
