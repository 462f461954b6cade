"""What the collections of chest radiographs share: findings in words, and what is left out of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustbench_spur.splits.tabular.listing import Asked, Listing
from robustbench_spur.types import SpurbenchError

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
"""Columns of CheXpert's labeller: 1 present, 0 absent, -1 uncertain, empty not mentioned."""


def without(finding: str) -> str:
    """The other class of a finding.

    >>> without("Edema"), without("No Finding")
    ('no Edema', 'any finding')
    """
    return "any finding" if finding == "No Finding" else f"no {finding}"


def order_of(name: str, values: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Both classes of one of the labeller's findings; of another column, ``values``."""
    return (without(name), name) if name in FINDINGS else values


def in_words(name: str, cells: Sequence[str], asked: Asked, place: Path) -> list[str]:
    """One of the labeller's columns in words, ``""`` where it is uncertain and so left out; another column as it is.

    Args:
        name: of the column.
        cells: of it.
        asked: what uncertain means.
        place: of the table, for messages.

    Raises:
        SpurbenchError: a cell of a finding is none of 1, 0, -1 and nothing.
    """
    if name not in FINDINGS:
        return list(cells)
    absent = without(name)
    uncertain = {"present": name, "absent": absent}.get(asked.uncertain, "")
    meanings = {"1": name, "0": absent, "": absent, "-1": uncertain}
    words = {cell: meanings.get(re.sub(r"\.0+$", "", cell)) for cell in set(cells)}
    strange = next((cell for cell in cells if words[cell] is None), None)
    if strange is not None:
        where = f"row {cells.index(strange) + 2} of {place}"
        raise SpurbenchError(f"Expected 1, 0, -1 or nothing in {name!r}, found {strange!r} ({where}).")
    return [words[cell] or "" for cell in cells]


def keep_usable(listing: Listing, label: str, looked_at: Sequence[bool]) -> Listing:
    """The listing without other views, without unknown labels, and without attribute values that are not among its own.

    Args:
        listing: all rows.
        label: the finding, for the notes.
        looked_at: by row, whether its view is one that was asked for.

    Returns:
        The listing with a note about each reason for which rows were left out.
    """
    left: Counter[str] = Counter()
    rows = []
    for row, looked in zip(listing.rows, looked_at, strict=True):
        if not looked:
            left["of a lateral or unknown view"] += 1
        elif not row.label:
            left[f"whose {label} is uncertain or not known"] += 1
        elif not row.attribute or (listing.values and row.attribute not in listing.values):
            left[f"whose {listing.attribute} is {row.attribute or 'unknown'}"] += 1
        else:
            rows.append(row)
    notes = tuple(f"Left out: {count} images {why}." for why, count in sorted(left.items()))
    return replace(listing, rows=rows, notes=(*listing.notes, *notes))
