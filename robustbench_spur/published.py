"""Boards as they are published: a folder with a manifest, entries, and what the maintainers note about them.

board.json                       the manifest, frozen
entries/<method>/<entry id>/     see :mod:`robustbench_spur.submission.entry`
attested/<entry id>.json         runs that were repeated, and attacks that were run again from the weights
withdrawn.json                   entries that no longer count, each with the reason and the day
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from robustbench_spur.board import Board, Source, score_board
from robustbench_spur.manifest import Manifest, read_manifest
from robustbench_spur.record import Part, Record, read_partitions
from robustbench_spur.rows import Row
from robustbench_spur.standing import Standing
from robustbench_spur.store import Store
from robustbench_spur.submission.archives import read_arrays
from robustbench_spur.submission.entry import SHORT, Cell, Entry, load_entry, read_record
from robustbench_spur.submission.remarks import FaultError
from robustbench_spur.submission.safely import LIMITS
from robustbench_spur.types import SpurbenchError

MANIFEST, ENTRIES, ATTESTED, WITHDRAWN = "board.json", "entries", "attested", "withdrawn.json"


class Attestation(Part):
    """A cell that the maintainers have computed again."""

    split: str = Field(max_length=SHORT)
    seed: int
    kind: Literal["reproduced", "weights"] = Field(
        description="reproduced: trained again; weights: attacks and the like run again from the weights"
    )
    day: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    differences: dict[str, float] = Field(description="greatest difference from the entry's, by column")
    provenance: dict[str, Any] = Field(default_factory=dict, description="code, libraries and machine")


class Withdrawal(Part):
    """An entry that no longer counts. It stays where it is."""

    entry: str = Field(max_length=SHORT)
    day: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    reason: str = Field(min_length=1, max_length=2000)


@dataclass(frozen=True)
class Submitted:
    """An entry where it lies.

    Args:
        folder: of it.
        entry: what it states.
        attested: what the maintainers computed again.
    """

    folder: Path
    entry: Entry
    attested: tuple[Attestation, ...] = ()

    @cached_property
    def records(self) -> list[Record]:
        """The records of all its cells."""
        return [read_record(self.folder / cell.record.file, cell.record.file) for cell in self.entry.cells]

    @cached_property
    def _cells(self) -> dict[tuple[str, int], Cell]:
        return {(cell.split, cell.seed): cell for cell in self.entry.cells}

    def arrays(self, record: Record) -> dict[str, NDArray[Any]]:
        """The predictions of a record.

        Raises:
            SpurbenchError: it has none, or they are damaged.
        """
        cell = self._cells[str(record.identity.split["name"]), record.seed]
        if cell.predictions is None:
            raise SpurbenchError(f"Entry {self.entry.id} has no predictions on {cell.split}, seed {cell.seed}.")
        try:
            return read_arrays(self.folder / cell.predictions.file, cell.predictions.file)
        except FaultError as fault:
            raise SpurbenchError(f"{self.folder.name}: {fault}") from fault

    def source(self, manifest: Manifest) -> Source:
        """Its records as the board takes them."""
        return Source(
            self.records,
            lambda record: read_partitions(record, self.arrays(record), manifest.partitions),
            self.standing,
        )

    def standing(self, row: Row) -> Standing:
        """How far the numbers of one of its rows can be trusted."""
        done = {(str(one.identity.split["name"]), one.seed) for one in row.records if one.status == "done"}
        of = {(one.split, one.seed) for one in self.attested}
        rescored = all(self._cells[key].predictions is not None for key in done)
        reproduced = any((one.split, one.seed) in done for one in self.attested if one.kind == "reproduced")
        return Standing(
            entry=self.entry.id,
            team=self.entry.team,
            source=self.entry.method_source,
            tier="reproduced" if reproduced and rescored else "rescored" if rescored else "claimed",
            collected=all(key in of for key in done),
        )


@dataclass(frozen=True)
class Published:
    """A published board.

    Args:
        folder: of it.
        manifest: of it.
        entries: that count, by method and id.
        withdrawn: that no longer do, by id.
    """

    folder: Path
    manifest: Manifest
    entries: tuple[Submitted, ...]
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)

    def board(self, scores: Store | None = None) -> Board:
        """Score and rank the entries. Imports no torch."""
        return score_board([one.source(self.manifest) for one in self.entries], self.manifest, scores)


def entry_folders(folder: Path) -> Iterator[Path]:
    """The folders of all entries of a board, withdrawn ones too."""
    for method in sorted((folder / ENTRIES).iterdir()) if (folder / ENTRIES).is_dir() else ():
        if _is_folder(method):
            yield from (one for one in sorted(method.iterdir()) if _is_folder(one))


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder that counts: no link, which could lead out of the board, and not hidden."""
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def open_published(folder: Path) -> Published:
    """Read a board's folder. Its entries are those that were verified before they were taken in; they are not verified here.

    Raises:
        SpurbenchError: no board, an entry that cannot be read, or a note of the maintainers that cannot.
    """
    if not (folder / MANIFEST).is_file():
        raise SpurbenchError(f"Expected a board's folder with {MANIFEST} at {folder}, found none.")
    manifest, withdrawn = read_manifest(folder / MANIFEST), read_withdrawn(folder)
    entries = []
    for place in entry_folders(folder):
        try:
            entry = load_entry(place)
            if entry.id not in withdrawn:
                entries.append(Submitted(place, entry, read_attested(folder, entry.id)))
        except FaultError as fault:
            raise SpurbenchError(f"{place.relative_to(folder)}: {fault}") from fault
    return Published(folder, manifest, tuple(entries), withdrawn)


def read_withdrawn(folder: Path) -> dict[str, Withdrawal]:
    """The withdrawals of a board, by entry.

    Raises:
        SpurbenchError: the file holds something else, or an entry twice.
    """
    found = _read(folder / WITHDRAWN, TypeAdapter(list[Withdrawal]))
    names = [one.entry for one in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise SpurbenchError(f"Expected every entry once in {folder / WITHDRAWN}, found {twice!r} twice. Remove one.")
    return {one.entry: one for one in found}


def read_attested(folder: Path, entry: str) -> tuple[Attestation, ...]:
    """What was computed again of an entry.

    Raises:
        SpurbenchError: the file holds something else.
    """
    return tuple(_read(folder / ATTESTED / f"{entry}.json", TypeAdapter(list[Attestation])))


def _read(path: Path, adapter: TypeAdapter[list[Any]]) -> list[Any]:
    if not path.is_file():
        return []
    if path.stat().st_size > LIMITS.json_bytes:
        raise SpurbenchError(f"Expected notes of at most {LIMITS.json_bytes} bytes, found more in {path}.")
    try:
        return adapter.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpurbenchError(
            f"Expected notes of the maintainers in {path}, found in {where}: {first['msg']}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SpurbenchError(f"Expected notes of the maintainers in {path}, found no JSON: {error}.") from error
