"""Every kind of bad submission is rejected with a message of its own, and nothing of it is run, followed or inflated."""

from __future__ import annotations

import builtins
import importlib
import os
import pickle
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.manifest import Manifest
from robustbench_spur.submission.entry import ENTRY
from robustbench_spur.submission.verifier import Verdict, Verifier
from tests.submission import faults_of_arrays, faults_of_entries, faults_of_files, faults_of_records
from tests.submission.faults import UNFORESEEN, Fault
from tests.submission.makers import Copy

FAULTS = [*faults_of_files.FAULTS, *faults_of_entries.FAULTS, *faults_of_records.FAULTS, *faults_of_arrays.FAULTS]
MEGABYTES = 200


@pytest.fixture(autouse=True)
def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing unpickles, and nothing is run or imported by path."""

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError(f"a submission was run: {arguments}")

    for module, name in ((pickle, "loads"), (pickle, "load"), (builtins, "eval"), (os, "system")):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(importlib.util, "spec_from_file_location", never)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A file beside the entry that must stay as it is."""
    path = tmp_path / "outside.txt"
    path.write_text("mine")
    yield path
    assert path.read_text() == "mine"


@pytest.fixture(scope="session")
def told() -> dict[str, str]:
    """The faults whose message was seen, by message."""
    return {}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def verified(copy: Copy, manifest: Manifest) -> Verdict:
    before, memory = state(copy.folder), peak()
    verdict = Verifier(manifest).verify(copy.folder)
    assert peak() - memory < MEGABYTES * 2**20
    assert state(copy.folder) == before
    return verdict


def test_the_corpus_has_at_least_sixty_faults_of_names_of_their_own() -> None:
    assert len(FAULTS) >= 60
    assert not [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1]


def test_the_entry_that_they_are_made_of_is_sound(copy: Copy, small_board: Manifest) -> None:
    verdict = verified(copy, small_board)
    assert (verdict.remarks, verdict.cells) == ([], 2)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.replace(" ", "-") for fault in FAULTS])
def test_a_bad_submission_is_rejected(
    fault: Fault, copy: Copy, small_board: Manifest, outside: Path, told: dict[str, str]
) -> None:
    fault.damage(copy)
    verdict = verified(copy, small_board)
    assert not verdict.sound
    assert verdict.as_dict()["verdict"] == "rejected"
    found = [one for one in verdict.of("fault") if one.file == fault.file and fault.says in str(one)]
    assert found, [str(one) for one in verdict.remarks]
    assert told.setdefault(str(found[0]), fault.name) == fault.name, "two faults have one message"
    for one in verdict.remarks:
        assert all((one.found, one.expected, one.remedy))
        assert one.expected != UNFORESEEN
        assert str(one).isprintable(), "a stranger's control characters reach a terminal"
        assert len(str(one)) < 1500
        assert str(one).endswith(".")
        assert str(copy.folder) not in str(one)


def test_whatever_no_check_foresaw_is_a_fault_and_no_crash(
    copy: Copy, small_board: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("\x1b[31m")

    monkeypatch.setattr("robustbench_spur.submission.verifier.check_record", broken)
    first, *_ = verified(copy, small_board).of("fault")
    assert (first.file, first.found) == (f"{copy.cell}.json", r"ZeroDivisionError: '\x1b[31m'")
    monkeypatch.setattr("robustbench_spur.submission.verifier.load_entry", broken)
    (only,) = verified(copy, small_board).remarks
    assert (only.file, only.expected) == (ENTRY, UNFORESEEN)


def test_a_folder_that_cannot_be_read_is_a_fault(copy: Copy, small_board: Manifest) -> None:
    (only,) = Verifier(small_board).verify(copy.folder / "nowhere").remarks
    assert only.found == "a file that cannot be read (No such file or directory)"
