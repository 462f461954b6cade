"""What rendering leaves on disk: pictures, a record per patient that is done, and the lists that are made of the records.

``images/STEM/`` holds a patient's pictures, and ``patients/STEM.json``, written last, says that they are all there.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustbench_spur.curation.boxes import NEGATIVE, POSITIVE
from robustbench_spur.curation.volumes import ATTRIBUTES
from robustbench_spur.download.guard import alone
from robustbench_spur.reading import reading
from robustbench_spur.store import file_sha256, replacing
from robustbench_spur.types import SpurbenchError

VERSION = 1
"""Raised whenever a pixel or a label can change."""

SCHEMA = 1
IMAGES, RECORDS, UNFINISHED, LOCK = "images", "patients", ".unfinished", ".lock"
SLICES, VOLUMES, FAILURES, MANIFEST = "slices.csv", "volumes.csv", "failures.csv", "render.json"
COLUMNS = ("file", "patient", "slice", "count", "position", "label")
LIBRARIES = ("pydicom", "pillow", "numpy")
KEYS = {"patient", "stem", "count", "slices", "pixels_sha256", "attributes", "libraries"}
"""What the lists are made of, in every record."""


@contextmanager
def claimed(out: Path, options: Mapping[str, Any]) -> Iterator[None]:
    """Have a folder for oneself, for these options; what a killed run left half done is cleared.

    Args:
        out: folder, new, empty, or begun with the same options.
        options: what all patients of a folder must share, as JSON has it.

    Raises:
        SpurbenchError: it holds something else or was begun with other options, or another process writes to it.
    """
    _check_folder(out, options)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / LOCK, f"rendering to {out}"):
        _check_folder(out, options)  # again: another process may have begun it in the meantime
        _write_json(out / MANIFEST, {"schema_version": SCHEMA, "options": options, "complete": False})
        _clear(out)
        yield
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def _clear(out: Path) -> None:
    """Remove what a killed run left: temporary files, pictures on their way, and pictures without a record."""
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    for name in (IMAGES, RECORDS, UNFINISHED):
        (out / name).mkdir(exist_ok=True)
    for folder in (out / IMAGES).iterdir():
        if folder.is_dir() and not _record_place(out, folder.name).exists():
            shutil.rmtree(folder)
    for place in (*out.iterdir(), *(out / RECORDS).iterdir()):
        if re.fullmatch(r"\..+\.[0-9a-f]{16}", place.name):  # as store.replacing names them
            place.unlink()


def _check_folder(out: Path, options: Mapping[str, Any]) -> None:
    place = out / MANIFEST
    if place.exists():
        known = _read_json(place, "the description of rendered slices", {"options"})["options"]
        for name, value in options.items():
            if known.get(name) != value:
                raise SpurbenchError(
                    f"Expected {name} {known.get(name)!r} as {out} was begun with, found {value!r}."
                    " Choose another folder, or the same options."
                )
    elif out.exists() and (not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())):
        raise SpurbenchError(f"Expected an empty or a new folder at {out}, found other files. Choose another.")


def is_done(out: Path, stem: str, source: Mapping[str, Any]) -> bool:
    """Whether a patient's record and the images that it lists are there; a record that is unreadable is none.

    Args:
        out: the claimed folder.
        stem: of the patient.
        source: what the record must have been made from.

    Raises:
        SpurbenchError: the record is of something else.
    """
    place = _record_place(out, stem)
    try:
        record = _read_record(place)
    except SpurbenchError:
        return False
    for name, value in source.items():
        if record.get(name) != value:
            raise SpurbenchError(
                f"Expected {name} {record.get(name)!r}, as {place} says, found {value!r}. Choose another folder."
            )
    return all((out / IMAGES / stem / name).is_file() for name, _, _ in record["slices"])


def room(out: Path, stem: str) -> Path:
    """A new folder for the pictures of a patient, to be published when all are there."""
    folder = out / UNFINISHED / stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def publish(out: Path, stem: str, record: Mapping[str, Any]) -> None:
    """Put a patient's finished pictures into their place, and then the record.

    Whoever is killed in between leaves pictures without a record, which are made again.
    """
    images = out / IMAGES / stem
    if images.exists():
        shutil.rmtree(images)
    (out / UNFINISHED / stem).rename(images)
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    _write_json(_record_place(out, stem), {**record, "libraries": libraries})


def _record_place(out: Path, stem: str) -> Path:
    return out / RECORDS / f"{stem}.json"


def _read_record(place: Path) -> dict[str, Any]:
    return _read_json(place, "the record of a patient", KEYS)


def write_lists(out: Path, manifest: Mapping[str, Any], failures: Sequence[Mapping[str, str]]) -> Counter[int]:
    """Write the lists of all patients that are done, from one record at a time, and the description last.

    Args:
        out: the claimed folder.
        manifest: what the description says besides.
        failures: rows of ``failures.csv``, which is removed where there are none.

    Returns:
        Slices of all patients, by label.

    Raises:
        SpurbenchError: a record is unreadable.
    """
    labels: Counter[int] = Counter()
    pixels, libraries, patients = hashlib.sha256(), set[str](), 0
    with _table(out / SLICES, COLUMNS) as slices, _table(out / VOLUMES, ("patient", *ATTRIBUTES)) as volumes:
        for record in _records(out):
            volumes.writerow((record["patient"], *(record["attributes"][name] for name in ATTRIBUTES)))
            slices.writerows(_slice_rows(record))
            labels.update(label for _, _, label in record["slices"])
            pixels.update(bytes.fromhex(record["pixels_sha256"]))
            libraries |= {f"{name} {version}" for name, version in record["libraries"].items()}
            patients += 1
    _write_failures(out / FAILURES, failures)
    described = {
        "schema_version": SCHEMA,
        **manifest,
        "complete": True,
        "patients": patients,
        "positive": labels[POSITIVE],
        "negative": labels[NEGATIVE],
        "pixels_sha256": pixels.hexdigest(),
        "files": {name: file_sha256(out / name) for name in (SLICES, VOLUMES)},
        "libraries": sorted(libraries),
        "failures": list(failures),
    }
    _write_json(out / MANIFEST, described)
    return labels


@contextmanager
def _table(place: Path, columns: Sequence[str]) -> Iterator[Any]:
    with replacing(place) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(columns)
        yield rows


def _records(out: Path) -> Iterator[dict[str, Any]]:
    """The records, in the order of the patients' numbers."""
    for place in sorted((out / RECORDS).glob("*.json"), key=lambda place: _by_number(place.stem)):
        yield _read_record(place)


def _by_number(stem: str) -> tuple[int, str]:
    """Sorts 2 before 12, and what begins with no number first.

    >>> sorted(["12", "2", "control"], key=_by_number)
    ['control', '2', '12']
    """
    match = re.match(r"\d+", stem, re.ASCII)
    return (int(match[0]) if match else -1, stem)


def _slice_rows(record: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    folder = f"{IMAGES}/{record['stem']}"
    for name, number, label in record["slices"]:
        position = round((number - 1) / (record["count"] - 1), 6)
        yield f"{folder}/{name}", record["patient"], number, record["count"], position, label


def _write_failures(place: Path, failures: Sequence[Mapping[str, str]]) -> None:
    if not failures:
        place.unlink(missing_ok=True)
        return
    with _table(place, tuple(failures[0])) as rows:
        rows.writerows(failure.values() for failure in failures)


def _read_json(place: Path, expected: str, keys: Set[str]) -> dict[str, Any]:
    with reading(place, expected):
        value: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or not keys <= value.keys():
            raise ValueError("it lacks some of its keys")
    return value


def _write_json(place: Path, value: Any) -> None:
    with replacing(place) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
