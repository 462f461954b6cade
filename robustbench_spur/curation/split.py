"""Draws a split from a collection: patients by a two-valued attribute, a fixed number of slices from each, nested in rho.

The unbiased test is drawn first, then ``adapt``, validation and train; none depends on rho. Within train and validation a
patient gives slices of one label. An attribute belongs to a patient, so that a conflict patient of a class is one with the
other value. The patients of a value and partition are put in a seeded order once; at a given rho its first ``(1 - rho) n``,
rounded half up, give the label that their value is not tied to, and the rest the label that it is tied to. So conflict
patients are only added as rho falls and aligned ones only taken away, and where patients have slices of both labels, they
are the same ``n`` patients per value at every rho. Where a patient has one label only, two share a place: one for either.

Source: Won et al. 2025, "SpurBreast" (MICCAI 2025), for the unbiased test drawn first and one label per patient.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.collection import Slices, Tied, read_slices, tie
from robustbench_spur.curation.picking import area_under_curve, choose, position_alone
from robustbench_spur.curation.seats import Gift, Recipe, seat_patients
from robustbench_spur.reading import reading
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.store import file_sha256, replacing
from robustbench_spur.types import PARTITIONS, Groups, Partition, SplitTable, SpurbenchError

FILE = "split.json"
"""What the folder of a drawn split is known by; the dataset that reads it states the same name as its ``manifest``."""
SCHEMA = 1
COLUMNS = ("partition", "id", "file", "label", "attribute", "patient", "position")

__all__ = [
    "Drawn",
    "Recipe",
    "Slices",
    "Tied",
    "area_under_curve",
    "contents",
    "draw",
    "full_name",
    "read_slices",
    "reader",
    "tie",
    "write",
]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """A split at every rho that was asked for.

    Args:
        tables: by rho; the extra columns are ``file`` and ``position``.
        position: by rho and partition, AUROC of the slice's place alone, ``before`` and ``after`` matching: that of
            nearness to the middle of the volume (``middle``) and that of the position (``position``). Empty where unknown.
        left_out: patients, by the reason.
        recipe: how much was drawn.
        notes: what a record must repeat.
    """

    tables: Mapping[float, SplitTable]
    position: Mapping[float, Mapping[str, Mapping[str, Mapping[str, float]]]]
    left_out: Mapping[str, int]
    recipe: Recipe
    notes: tuple[str, ...]


def _partition(slices: Slices, gifts: list[Gift], chosen: Mapping[tuple[str, int], Rows]) -> Partition:
    rows = np.concatenate([chosen[gift.patient, gift.label] for gift in gifts])
    attributes = np.repeat([gift.attribute for gift in gifts], [gift.slices for gift in gifts]).astype(np.int64)
    order = np.lexsort((slices.files[rows], slices.positions[rows], slices.patients[rows]))
    rows, attributes = rows[order], attributes[order]
    extra = {"file": slices.files[rows], "position": slices.positions[rows]}
    return Partition(slices.files[rows], slices.labels[rows], attributes, slices.patients[rows], extra)


def draw(slices: Slices, codes: Mapping[str, int], groups: Groups, recipe: Recipe) -> Drawn:
    """Draw a split; the same arguments give the same split, in whatever order the images and patients come.

    Args:
        slices: the collection.
        codes: attribute code, 0 or 1, of each patient that may be drawn.
        groups: two classes and two values; value 0 is tied to class 0, value 1 to class 1.
        recipe: how much.

    Raises:
        SpurbenchError: too few patients (the message says what there is, and the largest draw that works), or positions to
            match that are not known.
    """
    known = {patient: code for patient, code in codes.items() if any((patient, label) in slices.of for label in (0, 1))}
    if not known:
        raise SpurbenchError(
            f"Expected patients of the table in the list of images, found none of {len(codes)} (such as"
            f" {next(iter(codes), 'nobody')!r}; the list has {str(slices.patients[0])!r}). Check --patient."
        )
    if recipe.match_position and np.isnan(slices.positions).any():
        raise SpurbenchError("Expected a position of every slice to match them, found none of some. Add the column.")
    seating = seat_patients(slices, known, groups, recipe)
    plain = choose(slices, seating, match=False)
    chosen = {"before": plain, "after": choose(slices, seating, match=True) if recipe.match_position else plain}
    notes, tables, places = _notes(recipe, groups), {}, {}
    for rho in recipe.rhos:
        gifts = {name: seating.gifts(name, rho) for name in PARTITIONS if name in (*seating.even, *seating.tied)}
        parts = {when: {n: _partition(slices, gifts[n], rows) for n in gifts} for when, rows in chosen.items()}
        tables[rho] = SplitTable(groups, parts["after"], notes)
        places[rho] = {n: {when: alone for when in parts if (alone := position_alone(parts[when][n]))} for n in gifts}
    used = {gift.patient for name in (*seating.even, *seating.tied) for gift in seating.every(name)}
    left_out = {"no slice in the list": len(codes) - len(known), **_unused(slices, known, recipe, used)}
    return Drawn(tables, places, {why: n for why, n in left_out.items() if n}, recipe, notes)


def _unused(slices: Slices, known: Mapping[str, int], recipe: Recipe, used: set[str]) -> dict[str, int]:
    count = recipe.slices_per_patient
    enough = {patient for patient in known if any(slices.has(patient, label, count) for label in (0, 1))}
    return {
        f"fewer than {count} slices of either label": len(known) - len(enough | used),
        "enough slices, but not needed": len(enough - used),
    }


def _notes(recipe: Recipe, groups: Groups) -> tuple[str, ...]:
    matched = "matched to the positive slices by position" if recipe.match_position else "not matched by position"
    tie = " and ".join(f"{value} to {name}" for value, name in zip(groups.values, groups.classes, strict=True))
    return (
        f"Drawn by patient with seed {recipe.seed}: {groups.attribute} is tied, {tie}.",
        f"{recipe.slices_per_patient} slices per patient; the negative ones are {matched}.",
        "Every patient of train and validation gives slices of one label only, so that identity predicts it too.",
    )


# writing


def _bytes_of(table: SplitTable) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, part in table.partitions.items():
        places = ["" if np.isnan(place) else f"{place:.6g}" for place in part.extra["position"].tolist()]
        columns = (part.ids, part.extra["file"], part.labels, part.attributes, part.clusters)
        writer.writerows((name, *row) for row in zip(*(column.tolist() for column in columns), places, strict=True))
    return text.getvalue().encode()


def _relative(images: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(images.resolve(), folder.resolve())).as_posix()
    except ValueError as error:  # another drive on Windows
        raise SpurbenchError(f"Expected {images} on the drive of {folder}: {error}. Choose another folder.") from error


def contents(
    folder: Path, drawn: Drawn, images: Path, sources: Sequence[Path], options: Mapping[str, Any], *, channels: int = 1
) -> dict[str, bytes]:
    """The files of a drawn split, by name: ``split.json`` and one list of rows per rho.

    Args:
        folder: where they will lie; the folder of images is stored relative to it, so the two must move together.
        drawn: the split.
        images: folder that the files of the rows are named from.
        sources: tables that it was drawn from; their names and hashes are kept, not their places.
        options: what else was asked for, as JSON values.
        channels: 1 or 3, of the images.

    Raises:
        SpurbenchError: a source is unreadable, or the images are on another drive.
    """
    rows = {rho: (f"rows-{rho}.csv", _bytes_of(table)) for rho, table in drawn.tables.items()}
    groups = next(iter(drawn.tables.values())).groups
    hashes = []
    for path in sources:
        with reading(path, "a table"):
            hashes.append({"file": path.name, "sha256": file_sha256(path)})
    described = {
        "schema_version": SCHEMA,
        "name": folder.resolve().name,
        **asdict(groups),
        "channels": channels,
        "images": _relative(images, folder),
        "recipe": asdict(drawn.recipe),
        "options": dict(options),
        "sources": hashes,
        "left_out": dict(drawn.left_out),
        "notes": drawn.notes,
        "tables": {
            str(rho): {
                "file": file,
                "sha256": sha256(content).hexdigest(),
                "split_sha256": drawn.tables[rho].sha256(),
                "counts": drawn.tables[rho].counts(),
                "position_alone": drawn.position[rho],
            }
            for rho, (file, content) in rows.items()
        },
    }
    text = json.dumps(described, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {**dict(rows.values()), FILE: text.encode()}


def write(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write what :func:`contents` gave, the description last, so that a folder that has it is complete.

    Returns:
        False where the very same split was there already.

    Raises:
        SpurbenchError: another split lies there.
    """
    present = folder / FILE
    if present.exists():
        for name, content in files.items():
            place = folder / name
            with reading(place, "a file of the split that is there"):
                same = place.is_file() and place.read_bytes() == content
            if not same:
                raise SpurbenchError(
                    f"Expected an empty folder or this split at {folder}, found another ({name} differs)."
                )
        return False
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    return True


def reader(registry: Registry) -> Plugin:
    """The dataset that reads drawn splits: the one whose source states ``manifest`` as :data:`FILE`.

    Raises:
        SpurbenchError: there is none.
    """
    for plugin in registry.entries("dataset"):
        if plugin.literal("manifest") == FILE:
            return plugin
    raise SpurbenchError(f"Expected a dataset that states manifest = {FILE!r}, found none. Install the package again.")


def full_name(plugin: Plugin, rho: float) -> str:
    """How a drawn split is asked for, ``dataset/split@rho``."""
    return f"{plugin.name}/{plugin.literal('tied')[0]}@{rho}"
