"""Whether a whole board is in order: what a pull request has to pass."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustbench_spur.board import ranked
from robustbench_spur.building import GENERATED, PICTURES, Replicates, differing, entry_rows, replicates_for
from robustbench_spur.manifest import Manifest, load_manifest, manifest_sha256
from robustbench_spur.published import (
    ATTESTED,
    ENTRIES,
    MANIFEST,
    WITHDRAWN,
    entry_folders,
    open_published,
    read_attested,
    read_withdrawn,
)
from robustbench_spur.repository import git
from robustbench_spur.rows import Row
from robustbench_spur.sidebyside import side_by_side
from robustbench_spur.store import file_sha256
from robustbench_spur.submission.entry import ENTRY, Entry, load_entry
from robustbench_spur.submission.likeness import copied, likenesses
from robustbench_spur.submission.remarks import Remark, quoted, shown
from robustbench_spur.submission.verifier import Known, Verdict, Verifier, known_of, unforeseen
from robustbench_spur.types import SpurbenchError

Told = Callable[[int, int], None]
OWN = (MANIFEST, ENTRIES, ATTESTED, WITHDRAWN, PICTURES, *GENERATED)
"""What a board's folder holds."""


@dataclass(frozen=True)
class BoardVerdict:
    """What was found in a board's folder.

    Args:
        folder: of the board.
        remarks: about the board as a whole.
        entries: about each entry.
    """

    folder: Path
    remarks: tuple[Remark, ...]
    entries: tuple[Verdict, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not any(one.level == "fault" for one in self.remarks) and all(one.sound for one in self.entries)

    def as_dicts(self) -> list[dict[str, Any]]:
        """For JSON: the board, then its entries."""
        whole = {"folder": str(self.folder), "entry": None, "verdict": "verified" if self.sound else "rejected"}
        about = {"cells": sum(one.cells for one in self.entries), "remarks": [one.as_dict() for one in self.remarks]}
        return [{**whole, **about}, *(one.as_dict() for one in self.entries)]


def verify_board(
    folder: Path,
    against: str = "",
    told: Told | None = None,
    processes: int | None = None,
    *,
    pages: bool = True,
) -> BoardVerdict:
    """Verify every entry of a board, what the maintainers noted, and the generated files.

    Args:
        folder: of the board.
        against: a commit of the repository that holds the folder: what was there then must be there unchanged.
        told: is told how many entries of how many have been verified.
        processes: that verify side by side; as many as there are processors where None.
        pages: whether the generated files are held against the entries too.

    Raises:
        SpurbenchError: no board of an installed version, or a commit that is not there.
    """
    manifest = _installed(folder)
    remarks = [*_check_manifest(folder, manifest), *_check_tree(folder)]
    found = _verified(list(entry_folders(folder)), manifest, pages, told, processes)
    verdicts = [verdict for verdict, _ in found]
    remarks += _check_places(folder, verdicts)
    remarks += _check_notes(folder, verdicts)
    changed = set[str]()
    if against:
        changed, differing_since = _since(folder, against)
        remarks += differing_since
    if not any(one.level == "fault" for one in remarks):  # notes that cannot be read among them
        _hold_against_each_other(verdicts, folder, manifest, changed)
    sound = not any(one.level == "fault" for one in remarks) and all(one.sound for one in verdicts)
    if pages and sound:
        remarks += _check_generated(folder, {verdict.folder: rows for verdict, rows in found})
    return BoardVerdict(folder, tuple(remarks), tuple(verdicts))


def known_on(folder: Path, manifest: Manifest, entry: Path) -> Known:
    """What the other entries of a board say that are sound and count, to find copies among the predictions of one of them.

    Whether the entry is too good is not asked: which of them were there before it, only ``against`` tells.

    Args:
        folder: of the board.
        manifest: of it.
        entry: folder of the entry that is left out.

    Raises:
        SpurbenchError: notes of the maintainers that cannot be read.
    """
    withdrawn, verifier = read_withdrawn(folder), Verifier(manifest)
    others = (one for one in entry_folders(folder) if one.resolve() != entry.resolve())
    verdicts = (verifier.verify(one) for one in others if one.name not in withdrawn)
    return Known(tuple(cell for verdict in verdicts if verdict.sound for cell in verdict.said))


def _installed(folder: Path) -> Manifest:
    """The manifest of the installed version that has the folder's name: never what the folder itself brings."""
    if not (folder / MANIFEST).is_file():
        raise SpurbenchError(f"Expected a board's folder with {MANIFEST} at {folder}, found none.")
    return load_manifest(folder.resolve().name)


def _check_manifest(folder: Path, manifest: Manifest) -> Iterator[Remark]:
    here, expected = file_sha256(folder / MANIFEST), manifest_sha256(manifest.board)
    if here != expected:
        remedy = "A board is never edited: a change is a new board in a folder of its own."
        yield Remark("fault", MANIFEST, f"sha256 {here[:16]}", f"{expected[:16]}, that of {manifest.board}", remedy)


def _check_tree(folder: Path) -> Iterator[Remark]:
    """Whether nothing on the board is a link, nothing in it is strange, and folders of entries hold nothing else."""
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder).parts
        for name in sorted((*folders, *files)):
            path = Path(place, name)
            told = shown(path.relative_to(folder).as_posix())
            if path.is_symlink():
                yield Remark("fault", told, "a symbolic link", "plain files", "Put the file itself in its place.")
            elif not inside and name not in OWN:
                remedy = "Remove it: a board holds entries, notes, pictures, and what is generated from them."
                yield Remark("fault", told, "a stray file or folder on the board", ", ".join(OWN), remedy)
            elif inside[:1] == (ENTRIES,) and len(inside) < 3 and (name in files or name.startswith(".")):
                remedy = "Remove it: what belongs to an entry lies in the entry's folder."
                yield Remark("fault", told, "a stray file among the entries", "folders of entries alone", remedy)


def _verified(
    folders: Sequence[Path], manifest: Manifest, pages: bool, told: Told | None, processes: int | None
) -> list[tuple[Verdict, list[Row]]]:
    """The verdict on every entry and its rows, in the order of the folders, made side by side."""
    replicates = replicates_for(list(_readable(folders)), manifest.alpha) if pages else {}
    return side_by_side(partial(_verify_one, board=manifest.board, replicates=replicates), folders, told, processes)


def _readable(folders: Sequence[Path]) -> Iterator[Entry]:
    """What entries state, of those that can be read."""
    for folder in folders:
        with contextlib.suppress(Exception):  # told when it is verified
            yield load_entry(folder)


def _verify_one(folder: Path, board: str, replicates: Replicates) -> tuple[Verdict, list[Row]]:
    """Verify an entry; where it is sound and pages are asked for, give its rows too."""
    manifest, rows = load_manifest(board), list[Row]()
    verifier = Verifier(manifest)
    verdict = verifier.verify(folder)
    if replicates and verdict.sound:
        try:
            rows = entry_rows(folder, manifest, replicates, verifier.read, verifier.evaluators)
        except Exception as error:  # a stranger's entry stops no other's, as in the verifier
            verdict.remarks.append(unforeseen(ENTRY, error))
    return verdict, rows


def _check_places(folder: Path, verdicts: Sequence[Verdict]) -> Iterator[Remark]:
    """Whether every entry lies where its id and method say."""
    for verdict in verdicts:
        if verdict.entry is None:
            continue
        place = verdict.folder.relative_to(folder).as_posix()
        expected = f"{ENTRIES}/{verdict.entry.method.name}/{verdict.entry.id}"
        if place != expected:
            yield Remark("fault", shown(place), "an entry in this folder", expected, "Move it: its name is its hash.")


def _check_notes(folder: Path, verdicts: Sequence[Verdict]) -> Iterator[Remark]:
    """Whether the maintainers' notes can be read, and are about entries and cells that are there."""
    cells = {one.entry.id: {(c.split, c.seed) for c in one.entry.cells} for one in verdicts if one.entry}
    try:
        for name in read_withdrawn(folder):
            if name not in cells:
                told = f"entry {quoted(name)}"
                yield Remark("fault", WITHDRAWN, told, "entries that are there", "Entries stay: restore it.")
        for path in sorted((folder / ATTESTED).glob("*.json")):
            own = cells.get(path.stem)
            stated = {(one.split, one.seed) for one in read_attested(folder, path.stem)}
            if own is None or not stated <= own:
                file = shown(path.relative_to(folder).as_posix())
                yield Remark("fault", file, "cells that no entry has", "cells of an entry that is there", "Remove it.")
    except SpurbenchError as error:
        yield Remark(
            "fault",
            "",
            f"notes that cannot be read ({shown(str(error))})",
            "notes of the maintainers",
            "Mend the file.",
        )


def _hold_against_each_other(verdicts: Sequence[Verdict], folder: Path, manifest: Manifest, changed: set[str]) -> None:
    """Flag predictions that an earlier entry has as well, and new entries that are too good for what the board has.

    Those that are new come last, and the baseline comes first, so that the copy is flagged and not what it was copied from.
    """
    ordered = sorted(verdicts, key=lambda one: one.entry is None or one.entry.method.name != manifest.baseline)
    new = [one for one in ordered if _place(one, folder) in changed]
    old = [one for one in ordered if _place(one, folder) not in changed]
    withdrawn = read_withdrawn(folder)
    counting = [one for one in old if one.entry is not None and one.entry.id not in withdrawn]
    verifier = Verifier(manifest, known_of(counting, manifest.column(manifest.rank_by).better))
    for verdict in new:
        if verdict.entry is not None:
            verdict.remarks += verifier.too_good(verdict.entry, verdict)
    whose = {verdict.entry.id: verdict for verdict in verdicts if verdict.entry}
    for one in likenesses([cell for verdict in (*old, *new) for cell in verdict.said]):
        whose[one.own.entry].remarks.append(copied(one))


def _check_generated(folder: Path, rows: Mapping[Path, list[Row]]) -> Iterator[Remark]:
    """Whether the generated files are what the entries give."""
    try:
        published = open_published(folder)
        board = ranked([row for one in published.entries for row in rows[one.folder]], published.manifest)
        names = differing(published, board)
    except Exception as error:  # what no check of an entry foresaw
        yield unforeseen("", error)
        return
    for name in names:
        told, remedy = "another file than the entries give", f"Run: spurbench leaderboard build {folder}"
        yield Remark("fault", shown(name), told, "generated files that are up to date", remedy)


def _place(verdict: Verdict, folder: Path) -> str:
    return verdict.folder.relative_to(folder).as_posix()


def _since(folder: Path, commit: str) -> tuple[set[str], list[Remark]]:
    """Folders of entries that are new since a commit; faults where anything else of an entry changed.

    Notes that changed are flagged: a pull request that brings an entry brings none, and none is taken back.
    """
    changed, remarks = set(), []
    for status, name in _differences(folder, commit):
        parts = name.split("/")
        if name == MANIFEST:
            remedy = "A board is never edited: a change is a new board in a folder of its own."
            remarks.append(Remark("fault", name, "a manifest that was changed", f"that of {commit}", remedy))
        if parts[0] in (ATTESTED, WITHDRAWN):
            told, remedy = f"notes of the maintainers that changed since {commit}", "Only maintainers change them."
            remarks.append(Remark("flag", shown(name), told, "notes as they were, beside a new entry", remedy))
        if parts[0] != ENTRIES or len(parts) < 4:
            continue
        place = "/".join(parts[:3])
        if status == "A" and not _was_there(folder, commit, place):
            changed.add(place)
        else:
            what = {"A": "a file that was added", "D": "a file that was removed"}.get(status, "a file that was changed")
            remedy = "An entry is withdrawn, never edited: restore it, and add a new one."
            remarks.append(Remark("fault", shown(name), f"{what} since {commit}", "entries as they were", remedy))
    return changed, remarks


def _git(folder: Path, *arguments: str) -> str | None:
    printed = git(folder, *arguments, purpose="compare with a commit")
    return None if printed is None else printed.decode(errors="replace")


def _differences(folder: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Status letter and path, relative to the folder, of all that differs from a commit, files not yet added among it."""
    known = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    if commit.startswith("-") or known is None:
        raise SpurbenchError(
            f"Expected a commit, branch or tag to compare with, found {commit!r}. See: git log --oneline"
        )
    # from where the branches parted: what came to the other one since is not missing here
    parted = _git(folder, "merge-base", known.strip(), "HEAD") or known
    listed = _git(folder, "diff", "--name-status", "--no-renames", "--relative", "-z", parted.strip(), "--", ".") or ""
    fields = listed.split("\0")
    yield from zip(fields[0::2], fields[1::2], strict=False)
    others = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".") or ""
    yield from (("A", name) for name in others.split("\0") if name)


def _was_there(folder: Path, commit: str, place: str) -> bool:
    return bool(_git(folder, "ls-tree", "--name-only", commit, "--", f"./{place}/"))
