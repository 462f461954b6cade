"""From the records of a home to the folder of an entry."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, manifest_sha256
from robustbench_spur.record import ROWS, Record, RecordStore
from robustbench_spur.registry import BUILT_IN, Plugin, Registry
from robustbench_spur.scoring import load_evaluators
from robustbench_spur.store import file_sha256, write_arrays
from robustbench_spur.submission.choosing import Arrays
from robustbench_spur.submission.entry import (
    ENTRY,
    PLUGIN,
    RECORDS,
    WEIGHTS,
    Cell,
    Entry,
    EntryMethod,
    File,
    excerpt,
    fault_of,
    slug,
    weights_path,
)
from robustbench_spur.submission.predictionchecks import measured_by
from robustbench_spur.types import SpurbenchError


@dataclass(frozen=True)
class About:
    """What the team says of its entry.

    Args:
        team: its name; it is published.
        method_source: address where the method's source can be read; empty for one of the project's own.
        training_data: everything that was trained on; what the records say where empty.
        deviations: from the method's paper.
        contact: an address for questions; it is published.
    """

    team: str
    method_source: str = ""
    training_data: str = ""
    deviations: str = "none known"
    contact: str = ""


Weights = Callable[[Record, Path], None]
"""Writes the weights of a record's model to a file."""


def pack(
    records: Sequence[Record],
    home: Home,
    manifest: Manifest,
    plugin: Plugin,
    about: About,
    folder: Path,
    weights: Weights | None = None,
) -> Entry:
    """Write an entry into an empty folder.

    Args:
        records: of one method and version.
        home: where their predictions are.
        manifest: of the board.
        plugin: of the method.
        about: what the team says.
        folder: made; must not exist, or be empty.
        weights: writes the weights of a record; None leaves them out.

    Raises:
        SpurbenchError: the folder is not empty, the records are of several versions, or the method's file is another now.
    """
    return pack_records(
        records, RecordStore(home.records, home.predictions).arrays, manifest, plugin, about, folder, weights
    )


def pack_records(
    records: Sequence[Record],
    arrays: Arrays,
    manifest: Manifest,
    plugin: Plugin,
    about: About,
    folder: Path,
    weights: Weights | None = None,
) -> Entry:
    """Write an entry into an empty folder, of records that may be from anywhere; see :func:`pack`.

    Args:
        records: of one method and version.
        arrays: gives the predictions of a record.
        manifest: of the board.
        plugin: of the method.
        about: what the team says.
        folder: made; must not exist, or be empty. It appears as a whole or not at all.
        weights: writes the weights of a record; None leaves them out.

    Raises:
        SpurbenchError: as :func:`pack`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpurbenchError(
            f"Expected an empty folder or none at {folder}, found something there. Name another with --out."
        )
    _check_one_method(records)
    _stated(records, manifest, about, (_NO_CELL,), None)  # what the team says is refused before anything is written
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        made = Path(place) / "entry"
        source = _source(records[0], plugin, made)
        cells = tuple(_cell(record, arrays, manifest, made, weights) for record in records)
        entry = _stated(records, manifest, about, cells, source)
        write_json(made / ENTRY, entry.model_dump(mode="json"))
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return entry


def _check_one_method(records: Sequence[Record]) -> None:
    if not records:
        raise SpurbenchError("Expected finished cells to pack, found none. Run: spurbench run")
    first = records[0].method
    for own in (record.method for record in records):
        if own.name != first.name:
            raise SpurbenchError(
                f"Expected records of one method, found {first.name} and {own.name}. Submit each as an entry of its own."
            )
        if (own.version, own.sha256) != (first.version, first.sha256):
            raise SpurbenchError(
                f"Expected one version of {first.name}, found v{first.version} and v{own.version}"
                f" (files {first.sha256[:12]} and {own.sha256[:12]}). Run the older cells again."
            )


_NO_CELL = Cell(split="", seed=0, record=File(file="none", sha256="0" * 64, bytes=0))


def _trained_on(records: Sequence[Record]) -> str:
    """The partitions that records name, and whether the network was trained before."""
    names = dict.fromkeys(name for record in records for name in record.training_partitions)
    before = "; weights that were trained before" if any(record.network.pretrained for record in records) else ""
    return f"of the split: {', '.join(names)}{before}"


def _stated(
    records: Sequence[Record], manifest: Manifest, about: About, cells: tuple[Cell, ...], source: File | None
) -> Entry:
    """What the entry states of itself."""
    first = records[0]
    part = first.method
    if part.origin != BUILT_IN and not about.method_source:
        raise SpurbenchError(
            f"Expected the address of the source of {part.name}, which is not one of the project's own methods, found none."
            " Give --method-source URL."
        )
    try:
        return Entry(
            board=manifest.board,
            manifest_sha256=manifest_sha256(manifest.board),
            method=EntryMethod(name=part.name, version=part.version, sha256=part.sha256, origin=part.origin),
            track=first.track,
            team=about.team,
            contact=about.contact,
            method_source=about.method_source,
            training_data=about.training_data or _trained_on(records),
            deviations=about.deviations,
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            package=importlib.metadata.version("robustbench-spur"),
            cells=cells,
            plugin=source,
        )
    except ValidationError as error:
        remark = fault_of("", error).remark
        raise SpurbenchError(f"Expected {remark.expected} of the entry, found {remark.found}. Correct it.") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON object or list with a line per item of it, so that a change shows where it is, and the file stays small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [_line(value) for value in content]
    if isinstance(content, Mapping):
        lines = [f"{_line(key)}: {_line(value)}" for key, value in content.items()]
    start, end = "{}" if isinstance(content, Mapping) else "[]"
    path.write_text(f"{start}\n" + ",\n".join(lines) + f"\n{end}\n", encoding="utf-8")


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _file(path: Path, folder: Path) -> File:
    return File(file=path.relative_to(folder).as_posix(), sha256=file_sha256(path), bytes=path.stat().st_size)


def _source(record: Record, plugin: Plugin, folder: Path) -> File | None:
    """The method's source, where it is not one of the project's own."""
    if record.method.origin == BUILT_IN:
        return None
    if plugin.path is None or plugin.sha256 != record.method.sha256:
        raise SpurbenchError(
            f"Expected the file of {record.method.name} that ran ({record.method.sha256[:12]}), found {plugin.sha256[:12]}."
            " Run the cells again with the file as it is now."
        )
    target = folder / PLUGIN
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plugin.path, target)
    return _file(target, folder)


def _cell(record: Record, arrays: Arrays, manifest: Manifest, folder: Path, weights: Weights | None) -> Cell:
    """Write a cell's record and predictions."""
    split = str(record.identity.split["name"])
    place = folder / RECORDS / slug(split)
    place.mkdir(parents=True, exist_ok=True)
    partitions, predictions, given = manifest.partitions, None, None
    evaluators = tuple(pin.name for pin in manifest.evaluators)
    if record.status == "done" and record.predictions is not None:
        target = place / f"seed{record.seed}.npz"
        write_arrays(target, _kept(arrays(record), partitions, manifest))
        predictions = _file(target, folder)
        if weights is not None:
            path = weights_path(folder / WEIGHTS, split, record.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            weights(record, path)
            given = _file(path, folder)
    target = place / f"seed{record.seed}.json"
    write_json(target, excerpt(record, predictions, measured_by(manifest), evaluators).model_dump(mode="json"))
    return Cell(split=split, seed=record.seed, record=_file(target, folder), predictions=predictions, weights=given)


def _kept(arrays: Mapping[str, Any], partitions: Sequence[str], manifest: Manifest) -> dict[str, Any]:
    """The arrays that the board's columns are computed from."""
    collected = [name for one in load_evaluators(Registry(), manifest.evaluators) for name in one.collects]
    wanted = {f"{partition}/{name}" for partition in partitions for name in (*ROWS, *collected)}
    return {name: array for name, array in arrays.items() if name in wanted}
