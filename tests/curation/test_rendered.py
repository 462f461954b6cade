"""What rendering leaves on disk after failures and kills, and how it goes on from there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.curation import labelled
from robustbench_spur.curation.boxes import Box
from robustbench_spur.curation.render import render
from robustbench_spur.curation.series import Choice
from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import (
    NATIVE,
    PATIENTS,
    collection_boxes,
    collection_job,
    read_table,
)


def tree(out: Path) -> dict[str, bytes]:
    """All that lies in a folder, but for the lock."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


# Failures


def damage(root: Path, what: str) -> None:
    """Spoil patient 2 of a copy of the collection."""
    folder = root / "Breast_MRI_002" / "post_1"
    file = folder / "1-003.dcm"
    if what == "pixels":
        file.write_bytes(file.read_bytes()[:-100])
    elif what == "header":
        file.write_bytes(b"x" * 500)
    elif what == "slice":
        file.unlink()
    elif what == "patient":
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes().replace(b"Breast_MRI_002", b"Breast_MRI_003"))
    else:
        for path in folder.iterdir():
            path.write_bytes(b"")


@pytest.fixture
def copied(collection: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(collection, tmp_path / "copied"))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("pixels", r"1-003\.dcm"),
        ("header", r"1-003\.dcm unreadable .no DICOM header."),
        ("slice", r"slices 1 to 24 in .*post_1, found none for 3"),
        ("patient", "'Breast_MRI_002' as PatientID, as the folder says, found 'Breast_MRI_003'"),
        ("all", r"1-001\.dcm unreadable"),
    ],
)
def test_a_damaged_patient_is_a_failure_that_is_told_and_the_others_go_on(
    collection: Path, copied: Path, tmp_path: Path, what: str, reason: str
) -> None:
    """Mended, it alone is done again, and what lies there is as if nothing had been."""
    damage(copied, what)
    out = tmp_path / "out"
    outcome = render(collection_job(copied, out))
    assert (outcome.made, outcome.present, [one.patient for one in outcome.failures]) == (3, 0, ["Breast_MRI_002"])
    (row,) = read_table(out / "failures.csv")
    assert row == {"patient": "Breast_MRI_002", "reason": outcome.failures[0].reason}
    assert re.search(reason, row["reason"])
    assert "Breast_MRI_002" not in {
        row["patient"] for name in ("slices", "volumes") for row in read_table(out / f"{name}.csv")
    }
    assert not (out / "images" / "2").exists()
    assert json.loads((out / "render.json").read_text())["failures"] == [row]
    outcome = render(collection_job(copied, out))
    assert (outcome.made, outcome.present, len(outcome.failures)) == (0, 3, 1)
    before = {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.png")}
    outcome = render(collection_job(collection, out))
    assert (outcome.made, outcome.present, outcome.failures) == (1, 3, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    render(collection_job(collection, tmp_path / "whole"))
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"counts": {"Breast_MRI_002": 25}}, "Expected 25 slices in .*, found 24"),
        (
            {"boxes": {**collection_boxes(), "Breast_MRI_002": Box(1, 2, 1, 2, 24, 25)}},
            "ends at slice 25 .Breast_MRI_002",
        ),
        ({"boxes": {**collection_boxes(), "Breast_MRI_002": Box(1, 2, 1, 41, 3, 5)}}, "ends at column 41"),
        ({"choice": Choice(listed=dict.fromkeys(PATIENTS, "post_1"), faults={"Breast_MRI_002": "odd"})}, "odd"),
        (
            {"choice": Choice(listed={name: "post_1" for name in PATIENTS if name != "Breast_MRI_002"})},
            "is listed, found 0 of 2",
        ),
    ],
)
def test_a_volume_that_was_not_annotated_is_a_failure(
    collection: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    outcome = render(collection_job(collection, tmp_path / "out", **changes))
    assert (outcome.made, [failure.patient for failure in outcome.failures]) == (3, ["Breast_MRI_002"])
    assert re.search(reason, outcome.failures[0].reason)


# Going on


def test_what_is_done_is_not_done_again(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out))
    before = tree(out)
    monkeypatch.setattr(labelled, "read_slice", lambda *given: pytest.fail("a slice was read"))
    outcome = render(collection_job(collection, out))
    assert (outcome.made, outcome.present) == (0, 4)
    assert outcome.slices == {label: before["slices.csv"].count(b",%d\r\n" % label) for label in (0, 1)}
    assert tree(out) == before
    monkeypatch.undo()
    lost = next((out / "images" / "12").iterdir())
    lost.unlink()
    outcome = render(collection_job(collection, out))
    assert (outcome.made, outcome.present) == (1, 3)
    assert tree(out) == before


KILLED = """
import os, pickle, signal, sys
from robustbench_spur.curation import labelled, render, rendered

job, where, after = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2], int(sys.argv[3])
module, _, name = where.rpartition(".")
module = {"labelled": labelled, "rendered": rendered}[module]
real, calls = getattr(module, name), []

def deadly(*given, **more):
    calls.append(0)
    if len(calls) > after:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **more)

setattr(module, name, deadly)
render.render(job)
"""


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(collection: Path, tmp_path: Path) -> None:
    """By SIGKILL: amid the slices of the second patient, between its pictures and its record, and amid the lists."""
    import pickle

    out = tmp_path / "out"
    out.mkdir()
    (out / ".render.json.0123456789abcdef").write_text("{")  # as one killed amid the first file leaves it
    code = pickle.dumps(collection_job(collection, out)).hex()
    left = []
    for where, after in (("labelled.picture", 20), ("rendered._write_json", 2), ("rendered._slice_rows", 2)):
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, code, where, str(after)], check=False, capture_output=True, timeout=120
        )
        assert ended.returncode == -9, ended.stderr
        assert json.loads((out / "render.json").read_text())["complete"] is False
        left.append((len(list((out / "patients").iterdir())), len(list((out / "images").iterdir()))))
    assert left == [(1, 1), (2, 3), (4, 4)]
    outcome = render(collection_job(collection, out))
    assert (outcome.made, outcome.present) == (0, 4)
    render(collection_job(collection, tmp_path / "whole"))
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": replace(NATIVE, window="volume")},
        {"settings": replace(NATIVE, buffer=3)},
        {"choice": Choice("pre")},
        {"excluded": frozenset(["Breast_MRI_012"])},
    ],
)
def test_a_folder_that_was_begun_with_other_options_is_refused(
    collection: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out, patients=frozenset(["Breast_MRI_001"])))
    before = tree(out)
    with pytest.raises(SpurbenchError, match=r"as .*out was begun with, found .* Choose another folder"):
        render(collection_job(collection, out, **changes))
    assert tree(out) == before


def test_a_folder_with_something_else_or_somebody_else_is_refused(collection: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("x")
    with pytest.raises(SpurbenchError, match=r"empty or a new folder at .*a, found other files"):
        render(collection_job(collection, tmp_path / "a"))
    with pytest.raises(SpurbenchError, match="found other files"):
        render(collection_job(collection, tmp_path / "a" / "thesis.txt"))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["thesis.txt"]
    (tmp_path / "b").mkdir()
    with FileLock(tmp_path / "b" / ".lock"), pytest.raises(SpurbenchError, match="Another process is rendering to"):
        render(collection_job(collection, tmp_path / "b"))
    for text in ("{", "[]", "{}"):
        (tmp_path / "b" / "render.json").write_text(text)
        with pytest.raises(SpurbenchError, match=r"description of rendered slices, found .*render\.json unreadable"):
            render(collection_job(collection, tmp_path / "b"))


def test_a_patient_whose_box_changed_is_a_failure(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out))
    moved = {**collection_boxes(), "Breast_MRI_001": replace(collection_boxes()["Breast_MRI_001"], start_slice=3)}
    (failure,) = render(collection_job(collection, out, boxes=moved)).failures
    assert failure.patient == "Breast_MRI_001" and "Expected annotated" in failure.reason


def test_a_record_that_cannot_be_read_is_made_again(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out))
    before = tree(out)
    (out / "patients" / "2.json").write_text("{}")
    with pytest.raises(SpurbenchError, match=r"the record of a patient, found .*2\.json unreadable"):
        render(collection_job(collection, out, patients=frozenset(["Breast_MRI_001"])))
    outcome = render(collection_job(collection, out))
    assert (outcome.made, outcome.present, outcome.failures) == (1, 3, [])
    assert tree(out) == before
