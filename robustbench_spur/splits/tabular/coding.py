"""From texts to codes: classes and attribute values in their order, and rows by partition.

All that is wrong is collected, so that the data doctor can tell it at once; who wants to go on raises the first of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.splits.base import Inventory
from robustbench_spur.splits.tabular.listing import Listing, Row
from robustbench_spur.types import PARTITIONS, Groups, Partition, SpurbenchError

MISSING = ("", "nan", "na", "n/a", "<na>", "null")
"""What an empty cell may look like, in any case."""
MOST = 200
"""Classes, or attribute values: a column with more is a measurement or a name."""
WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def is_missing(cell: str) -> bool:
    """Whether a cell is empty."""
    return cell.lower() in MISSING


def canonical(cell: str) -> str:
    """A whole number without its decimal point, anything else as it is.

    >>> canonical("1.0"), canonical("+07"), canonical("1.50"), canonical("T1")
    ('1', '7', '1.50', 'T1')
    """
    match = WHOLE.fullmatch(cell)
    return str(int(match[1])) if match else cell


def code(listing: Listing, *, with_attribute: bool = True) -> Inventory:
    """The rows in codes, by partition, in the order of the table; those without a known label, or seen before, are left out.

    Args:
        listing: the rows in text.
        with_attribute: whether their attribute is read; else its code is 0 everywhere.

    Raises:
        SpurbenchError: there are no rows.
    """
    rows, place = listing.rows, listing.place
    if not rows:
        raise SpurbenchError(f"Expected rows in {place}, found none.")
    labels = code_column([(row.label, row.line) for row in rows], LABEL, listing.classes, place)
    values = Coded(("none",), np.zeros(len(rows), np.int64), ())
    if with_attribute:
        values = code_column([(row.attribute, row.line) for row in rows], ATTRIBUTE, listing.values, place)
    groups = Groups(
        tuple(listing.class_names.get(name, name) for name in labels.names),
        listing.attribute,
        tuple(listing.value_names.get(name, name) for name in values.names),
    )
    fresh, repeated = _repeated(rows, place)
    parts = np.array([row.partition for row in rows])
    kept = {name: np.flatnonzero(fresh & (labels.codes >= 0) & (parts == name)) for name in PARTITIONS if name in parts}
    found = {name: _partition(listing, at, labels.codes[at], values.codes[at]) for name, at in kept.items()}
    alone = not any(row.patient for row in rows)
    notes = ["No patient ids are given: each image is its own cluster."] if alone else []
    faults: dict[str, tuple[str, ...]] = {}
    for what, told in (("labels", labels.faults), (listing.attribute, values.faults), ("repeated images", repeated)):
        if told:  # an attribute may have any name, that of another kind of fault too
            faults[what] = (*faults.get(what, ()), *told)
    return Inventory(found, groups, faults, (*notes, *_empty_groups(found, groups), *listing.notes))


class Kind(NamedTuple):
    """What a column is, for messages and for what it may hold.

    Args:
        name: such as "a label".
        setting: by which its names can be given.
        decimals: whether numbers may be other than whole.
    """

    name: str
    setting: str
    decimals: bool


LABEL, ATTRIBUTE = Kind("a label", "classes", False), Kind("an attribute value", "values", True)


class Coded(NamedTuple):
    """A column in codes.

    Args:
        names: as they are written, in the order of their codes.
        codes: of each row; -1 where it has none.
        faults: what is wrong, one text per odd cell.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    faults: tuple[str, ...]


def code_column(cells: Sequence[tuple[str, int]], kind: Kind, given: tuple[str, ...], place: Path) -> Coded:
    """Names and codes of a column.

    Numbers are sorted as numbers, words as words. A column of both is refused unless its names are given.

    Args:
        cells: each with its row, for messages.
        kind: of the column.
        given: its names in the order of their codes; empty for sorted.
        place: of the table, for messages.
    """
    texts = [cell for cell, _ in cells]
    first: dict[str, int] = {}
    for cell, line in cells:
        first.setdefault(cell, line)
    known = {cell: canonical(cell) for cell in first if cell in given or not is_missing(cell)}
    faults = [
        f"Expected {kind.name} in every row, found {cell!r} ({texts.count(cell)} rows, the first is row {line} of {place})."
        for cell, line in first.items()
        if cell not in known
    ]
    if given:
        known = {cell: cell if cell in given else name for cell, name in known.items()}
        strange, names, expected = {cell for cell in known if known[cell] not in given}, given, _one_of(given)
    else:
        strange, names = _sorted(known, kind)
        expected = "whole numbers, or words, but not both,"
    todo = f"Correct it, or name them all: --split-set {kind.setting}=..."
    faults += [
        f"Expected {expected} as {kind.name}, found {cell!r} (row {first[cell]} of {place}). {todo}"
        for cell in known
        if cell in strange
    ]
    if len(set(names)) < len(names):
        faults.append(f"Expected {kind.setting} that are all different, found {', '.join(names)}. Name each once.")
    if not 2 <= len(names) <= MOST:
        hint = " It is a measurement or a name: put it into bins." if len(names) > MOST else ""
        faults.append(f"Expected {kind.name} to be one of 2 to {MOST}, found {len(names)} different in {place}.{hint}")
    index = {name: number for number, name in enumerate(names)}
    codes = {cell: -1 if cell in strange or cell not in known else index[known[cell]] for cell in first}
    return Coded(names, np.array([codes[cell] for cell in texts], np.int64), tuple(faults))


def _one_of(given: tuple[str, ...]) -> str:
    return f"one of {', '.join(given)},"


def _sorted(known: Mapping[str, str], kind: Kind) -> tuple[set[str], tuple[str, ...]]:
    """The cells that do not belong, and the names of the others in order."""
    numbers = {cell for cell in known if NUMBER.fullmatch(cell)}
    words = known.keys() - numbers
    strange = min(numbers, words, key=len) if numbers and words else set[str]()
    if not kind.decimals:
        strange = strange | {cell for cell in numbers if not WHOLE.fullmatch(cell)}
    names = {known[cell] for cell in known if cell not in strange}
    return strange, tuple(sorted(names, key=float if numbers and not words else None))


def _repeated(rows: Sequence[Row], place: Path) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Whether each row is the first of its image, and a fault for each that is not."""
    first: dict[str, int] = {}
    fresh = [first.setdefault(row.id, row.line) == row.line for row in rows]
    return np.array(fresh), tuple(
        f"Expected every image once, found {row.id} in rows {first[row.id]} and {row.line} of {place}."
        for row, new in zip(rows, fresh, strict=True)
        if not new
    )


def _partition(
    listing: Listing, at: NDArray[np.int64], labels: NDArray[np.int64], attributes: NDArray[np.int64]
) -> Partition:
    rows = [listing.rows[number] for number in at.tolist()]
    ids, clusters = ([row.id for row in rows], [row.patient or row.id for row in rows])
    files = [row.file for row in rows]
    extra: dict[str, NDArray[Any]] = {"file": np.array(files, np.str_)}
    if listing.sized:
        extra["bytes"] = _sizes(listing.images, files)
    return Partition(np.array(ids, np.str_), labels, attributes, np.array(clusters, np.str_), extra)


def _sizes(folder: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """Size of each file, in bytes; -1 where it is not there, which is told when it is read."""

    def look(some: Sequence[str]) -> list[int]:
        return [_size(f"{folder}/{file}") for file in some]

    many = [files[start : start + 1000] for start in range(0, len(files), 1000)]
    with ThreadPoolExecutor(max_workers=8) as pool:  # a folder on a network answers slowly, but many at once
        return np.array([size for sizes in pool.map(look, many) for size in sizes], np.int64)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - to make a Path takes longer than the answer
    except OSError:
        return -1


def _empty_groups(partitions: Mapping[str, Partition], groups: Groups) -> tuple[str, ...]:
    """A note about the groups that no partition has an image of."""
    there = [groups.index(part.labels, part.attributes)[part.attributes >= 0] for part in partitions.values()]
    empty = np.setdiff1d(np.arange(len(groups)), np.concatenate([np.zeros(0, np.int64), *there]))
    names = [groups.names[number] for number in empty.tolist()]
    if not names:
        return ()
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (
        f"No image of any partition is of {', '.join(names[:10])}{more}: the worst of all groups is undefined, and methods"
        " that need every group are not applicable. Merge or leave out values to have them.",
    )
