"""From the records of a home to the folder of an entry."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, manifest_sha256
from robustbench_spur.record import ROWS, Record, RecordStore
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.rows import newest
from robustbench_spur.scoring import load_evaluators
from robustbench_spur.store import file_sha256, write_arrays
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
    slug,
)
from robustbench_spur.submission.predictionchecks import partitions_of
from robustbench_spur.types import SpurbenchError

BUILT_IN = "built-in"


@dataclass(frozen=True)
class About:
    """What the team says of its entry.

    Args:
        team: its name; it is published.
        method_source: address where the method's source can be read.
        training_data: everything that was trained on.
        deviations: from the method's paper.
        contact: an address for questions; it is published.
    """

    team: str
    method_source: str
    training_data: str = "the split's training partition"
    deviations: str = "none known"
    contact: str = ""


Weights = Callable[[Record, Path], None]
"""Writes the weights of a record's model to a file."""


def chosen(home: Home, manifest: Manifest, method: str, splits: Sequence[str], seeds: Sequence[int]) -> list[Record]:
    """The records of a home that an entry is made of: the newest by the board's rules, of each split and seed.

    Raises:
        SpurbenchError: there is none for a split and seed, or they are of several configurations.
    """
    records = [r for r in RecordStore(home.records, home.predictions) if r.method.name == method]
    own = [r for r in records if r.board == manifest.board and r.board_status == manifest.status and not r.off_board]
    found: dict[tuple[str, int], Record] = {}
    for row in newest(own, manifest).values():
        for record in row:
            key = str(record.identity.split["name"]), record.seed
            if key not in found or found[key].finished < record.finished:
                found[key] = record
    wanted = [(split, seed) for split in splits for seed in seeds]
    missing = [f"{split}, seed {seed}" for split, seed in wanted if (split, seed) not in found]
    if missing:
        names = " ".join(dict.fromkeys(split for split, seed in wanted if (split, seed) not in found))
        raise SpurbenchError(
            f"Expected finished cells of {method} with the board's settings, found none on {'; '.join(missing[:4])}"
            f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}."
            f" Run: spurbench run --method {method} --split {names} --seed {' '.join(map(str, seeds))}"
        )
    return [found[key] for key in wanted]


def ran_on(home: Home, manifest: Manifest, method: str) -> list[str]:
    """The board's splits on which a method has finished cells with the board's settings, in the board's order.

    Raises:
        SpurbenchError: on none.
    """
    records = RecordStore(home.records, home.predictions)
    names = {str(r.identity.split["name"]) for r in records if r.method.name == method and not r.off_board}
    found = [pin.name for pin in manifest.splits if pin.name in names]
    if not found:
        raise SpurbenchError(
            f"Expected finished cells of {method} with the board's settings, found none. Run: spurbench run --method {method}"
        )
    return found


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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpurbenchError(
            f"Expected an empty folder or none at {folder}, found something there. Name another with --out."
        )
    first = records[0]
    for record in records:
        if (record.method.version, record.method.sha256) != (first.method.version, first.method.sha256):
            raise SpurbenchError(
                f"Expected one version of {first.method.name}, found v{first.method.version} and v{record.method.version}"
                f" (files {first.method.sha256[:12]} and {record.method.sha256[:12]}). Run the older cells again."
            )
    source = _source(first, plugin, folder)
    store = RecordStore(home.records, home.predictions)
    cells = [_cell(record, store, manifest, folder, weights) for record in records]
    entry = Entry(
        board=manifest.board,
        manifest_sha256=manifest_sha256(manifest.board),
        method=EntryMethod(
            name=first.method.name, version=first.method.version, sha256=first.method.sha256, origin=first.method.origin
        ),
        track=first.track,
        team=about.team,
        contact=about.contact,
        method_source=about.method_source,
        training_data=about.training_data,
        deviations=about.deviations,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        package=importlib.metadata.version("robustbench-spur"),
        cells=tuple(cells),
        plugin=source,
    )
    write_json(folder / ENTRY, entry.model_dump(mode="json"))
    return entry


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


def _cell(record: Record, store: RecordStore, manifest: Manifest, folder: Path, weights: Weights | None) -> Cell:
    """Write a cell's record and predictions."""
    split = str(record.identity.split["name"])
    place = folder / RECORDS / slug(split)
    place.mkdir(parents=True, exist_ok=True)
    partitions, predictions, given = partitions_of(manifest), None, None
    evaluators = tuple(pin.name for pin in manifest.evaluators)
    if record.status == "done" and record.predictions is not None:
        target = place / f"seed{record.seed}.npz"
        write_arrays(target, _kept(store.arrays(record), partitions, manifest))
        predictions = _file(target, folder)
        if weights is not None:
            path = folder / WEIGHTS / slug(split) / f"seed{record.seed}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            weights(record, path)
            given = _file(path, folder)
    target = place / f"seed{record.seed}.json"
    write_json(target, excerpt(record, predictions, partitions, evaluators).model_dump(mode="json"))
    return Cell(split=split, seed=record.seed, record=_file(target, folder), predictions=predictions, weights=given)


def _kept(arrays: Mapping[str, Any], partitions: Sequence[str], manifest: Manifest) -> dict[str, Any]:
    """The arrays that the board's columns are computed from."""
    collected = [name for one in load_evaluators(Registry(), manifest.evaluators) for name in one.collects]
    wanted = {f"{partition}/{name}" for partition in partitions for name in (*ROWS, *collected)}
    return {name: array for name, array in arrays.items() if name in wanted}
