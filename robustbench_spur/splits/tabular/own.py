"""The rows of the user's own table.

What it does not say is refused, never guessed: a column that is not there, a partition by another name, a path that leaves
the folder of images.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from robustbench_spur.splits.tabular.cells import header_of, place_of, read_columns
from robustbench_spur.splits.tabular.coding import canonical, is_missing
from robustbench_spur.splits.tabular.description import IGNORE, NO_PATIENTS, Description, meanings
from robustbench_spur.splits.tabular.listing import Listing, Row
from robustbench_spur.types import SpurbenchError

OUTSIDE = re.compile(r"/|\.\./|[A-Za-z]:")
"""How a path begins that leaves the folder of images; the last is a drive of Windows."""


def read_own(folder: Path, said: Description, *, need_attribute: bool = True) -> Listing:
    """The rows, in the order of the table.

    Args:
        folder: of the table.
        said: how to read it.
        need_attribute: whether there must be a column of the attribute.

    Raises:
        SpurbenchError: a missing column, an unknown partition, an empty patient, or a path that leaves the folder of images.
    """
    table = folder / said.table
    used = _columns(table, said, need_attribute=need_attribute)
    cells = read_columns(table, list(used.values()))
    columns = {role: cells[name] for role, name in used.items()}
    nothing = [""] * len(columns["path"])
    parts = _partitions(columns["split"], said, table)
    patients = columns.get("patient", nothing)
    texts = zip(columns["path"], columns["label"], columns.get("attribute", nothing), parts, patients, strict=True)
    rows = [Row(row[0], *row, line) for line, row in enumerate(texts, 2) if row[3] != IGNORE]
    if "patient" in columns:
        _check_patients(rows, used["patient"], table)
    files = _inside(rows, said, table)
    ignored = len(nothing) - len(rows)
    notes = [f"Left out: {ignored} rows that the table says to ignore."] if ignored else []
    notes += [f"From {said.name or table.name}: {what}" for what in (said.licence, said.citation) if what]
    return Listing(
        [row._replace(id=file, file=file) for row, file in zip(rows, files, strict=True)],
        table,
        table.parent / said.images,
        said.attribute or said.columns.attribute,
        said.classes,
        said.values,
        sized=True,
        notes=tuple(notes),
    )


def _columns(table: Path, said: Description, *, need_attribute: bool) -> dict[str, str]:
    """Names of the columns to read, by what they are for."""
    header = header_of(table)
    used = {role: getattr(said.columns, role) for role in ("path", "label", "split")}
    if need_attribute:
        used["attribute"] = said.columns.attribute
    patient = said.columns.patient or ("patient" if "patient" in header else NO_PATIENTS)
    if patient != NO_PATIENTS:
        used["patient"] = patient
    for role, name in used.items():
        place_of(name, header, table, todo=f"Say which one is meant: --columns {role}=NAME")
    return used


def _check_patients(rows: Sequence[Row], column: str, table: Path) -> None:
    empty = [row.line for row in rows if is_missing(row.patient)]
    if empty:
        raise SpurbenchError(
            f"Expected a patient in {column!r}, found none in {len(empty)} rows, the first is row {empty[0]} of {table}."
            " Fill it, or read no patients: --columns patient=-"
        )


def _partitions(cells: Sequence[str], said: Description, table: Path) -> list[str]:
    known = meanings(said, table)
    found = {cell: known.get(cell if said.split else cell.lower()) or known.get(canonical(cell)) for cell in set(cells)}
    unknown = next((cell for cell in cells if found[cell] is None), None)
    if unknown is not None:
        raise SpurbenchError(
            f"Expected one of {', '.join(known)} in {said.columns.split!r}, found {unknown!r}"
            f" (row {cells.index(unknown) + 2} of {table}). Say what each means: --split-set split_names={unknown}:train,..."
        )
    return [found[cell] or "" for cell in cells]


def _inside(rows: Sequence[Row], said: Description, table: Path) -> list[str]:
    """The paths in one way of writing.

    Raises:
        SpurbenchError: one is empty, has backslashes, or leaves the folder of images without leave.
    """
    out = []
    for row in rows:
        path = posixpath.normpath(row.file) if row.file else ""
        where = f"found {row.file!r} (row {row.line} of {table})"
        if path in ("", ".", "..") or "\\" in path:
            raise SpurbenchError(f"Expected the path of an image, with '/', {where}.")
        if OUTSIDE.match(path) and not said.allow_outside:
            raise SpurbenchError(
                f"Expected paths below the folder of images, {where}. Set image_root, or say allow_outside = true in a"
                " TOML beside the table."
            )
        out.append(path)
    return out
