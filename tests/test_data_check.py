"""``spurbench data check`` and ``data describe``: on a stand-in with the release's own counts, and on broken folders."""

import contextlib
import io
import json
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from robustbench_spur.cli import main
from robustbench_spur.doctor.report import Finding, Report, Score
from robustbench_spur.home import Home
from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from tests.conftest import TINY_SPLIT
from tests.splits.release import SIDE, TIED, png, stand_in, write_spreadsheet

# The audited release: partition, patients, clear slices, tumour slices, code of the field strength (1 is 1.5 T, 3 is 3 T).
AUDITED = (
    ("training", 200, 4781, 0, 3),
    ("training", 200, 0, 4781, 1),
    ("validation", 75, 1788, 0, 3),
    ("validation", 75, 0, 1788, 1),
    ("test", 71, 1684, 1394, 1),
    ("test", 79, 1710, 2000, 3),
)
FILES = 19_926


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


class Counted:
    """Tiny valid PNGs, no two alike: a number in the first pixels of an even grey."""

    def __init__(self) -> None:
        self.number = 0
        self.head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
        self.rest = (b"\0" + b"\x80" * 32) * 31

    def __call__(self) -> bytes:
        self.number += 1
        first = b"\0" + self.number.to_bytes(4, "big") + b"\x80" * 28
        return self.head + chunk(b"IDAT", zlib.compress(first + self.rest, 1)) + chunk(b"IEND", b"")


def shared(total: int, patients: int) -> list[int]:
    """A number of slices for each patient, as even as can be."""
    return np.diff(np.linspace(0, total, patients + 1).astype(int)).tolist()


def checked(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and JSON rows of ``data check``."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["data", "check", *map(str, arguments), "--json"])
    return code, json.loads(out.getvalue())


def report_of(row: dict[str, Any]) -> Report:
    """The report that a JSON row is, read back strictly."""
    return Report.model_validate({name: value for name, value in row.items() if name != "split"})


def roomy_memory() -> Path | None:
    """A folder in memory, where there is one with room for the stand-in: some disks take half a ms per file."""
    place = Path("/dev/shm")
    return place if place.is_dir() and shutil.disk_usage(place).free > 4e8 else None


@pytest.fixture(scope="session")
def audited() -> tuple[int, dict[str, Any]]:
    """What the doctor says about a folder of 19,926 images with the audited counts."""
    content = Counted()
    field: dict[int, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(dir=roomy_memory()) as root:
        for partition, patients, clear, tumour, code in AUDITED:
            folders = [Path(root, "field_strength", partition, label) for label in "01"]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            for numbers in zip(shared(clear, patients), shared(tumour, patients), strict=True):
                patient = len(field) + 1
                field[patient] = {"field": code}
                places = [folder for folder, number in zip(folders, numbers, strict=True) for _ in range(number)]
                for slice_number, folder in enumerate(places, start=1):
                    (folder / f"1-{slice_number:03d}-{patient}.png").write_bytes(content())
        write_spreadsheet(Path(root, SPREADSHEET), field)
        code, rows = checked("spurbreast/field", "--data", f"spurbreast={root}")
    return code, rows[0]


# The release


def test_the_released_split_is_sound_and_its_report_is_json_that_reads_back(
    audited: tuple[int, dict[str, Any]],
) -> None:
    code, row = audited
    report = report_of(row)
    assert (code, row["split"], report.faults) == (0, "spurbreast/field_strength", 0)
    assert (report.images.files, report.images.distinct, report.images.kind) == (FILES, FILES, "L 32 x 32")
    assert [one.code for one in report.findings] == ["empty_group"]
    assert report.not_examined == ()
    assert json.loads(report.model_dump_json()) == {name: value for name, value in row.items() if name != "split"}


def test_the_group_matrix_is_the_audited_table(audited: tuple[int, dict[str, Any]]) -> None:
    report = report_of(audited[1])
    assert {(cell.partition, cell.group): (cell.slices, cell.patients) for cell in report.groups} == {
        ("train", "clear@3T"): (4781, 200),
        ("train", "clear@1.5T"): (0, 0),
        ("train", "tumour@3T"): (0, 0),
        ("train", "tumour@1.5T"): (4781, 200),
        ("validation", "clear@3T"): (1788, 75),
        ("validation", "clear@1.5T"): (0, 0),
        ("validation", "tumour@3T"): (0, 0),
        ("validation", "tumour@1.5T"): (1788, 75),
        ("test", "clear@3T"): (1710, 79),
        ("test", "clear@1.5T"): (1684, 71),
        ("test", "tumour@3T"): (2000, 79),
        ("test", "tumour@1.5T"): (1394, 71),
    }
    assert report.empty_groups == tuple(
        f"{p} {g}" for p in ("train", "validation") for g in ("clear@1.5T", "tumour@3T")
    )
    sizes = {one.partition: (one.slices, one.patients, one.several, one.one_label) for one in report.partitions}
    assert sizes == {
        "train": (9562, 400, 400, 400),
        "validation": (3576, 150, 150, 150),
        "test": (6788, 150, 150, 0),
    }


def scores(report: Report, rule: str) -> dict[str, Score]:
    return {one.partition: one for found in report.rules if found.name == rule for one in found.scores}


def test_the_shortcut_rule_scores_as_audited(audited: tuple[int, dict[str, Any]]) -> None:
    report = report_of(audited[1])
    found = scores(report, "attribute")
    test = found["test"]
    assert (test.tp, test.fp, test.tn, test.fn) == (1394, 1684, 1710, 2000)
    assert test.accuracy is not None
    assert round(test.accuracy, 4) == 0.4573
    assert test.group_balanced_accuracy == 0.5
    assert (found["train"].accuracy, found["validation"].accuracy) == (1.0, 1.0)
    assert found["train"].group_balanced_accuracy is None  # two declared groups are empty
    majority = scores(report, "majority")["test"]
    assert (majority.tp, majority.fp, majority.tn, majority.fn) == (0, 0, 3394, 3394)
    assert majority.accuracy == 0.5
    assert scores(report, "patient")["train"].accuracy == 1.0
    assert scores(report, "position")["test"].slices == 6788


def test_the_shift_is_that_of_scipy_and_scikit_learn(audited: tuple[int, dict[str, Any]]) -> None:
    found = {one.partition: one for one in report_of(audited[1]).shift}
    for name in ("train", "validation"):
        assert (found[name].mutual_information, found[name].cramers_v, found[name].aligned) == (1.0, 1.0, 1.0)
    table = np.array([[1710, 2000], [1684, 1394]])  # 3 T and 1.5 T by clear and tumour
    cells = [(a, y) for a in (0, 1) for y in (0, 1) for _ in range(table[a, y])]
    nats = mutual_info_score([a for a, _ in cells], [y for _, y in cells])
    assert found["test"].mutual_information == pytest.approx(nats / np.log(2), abs=1e-12)
    assert found["test"].cramers_v == pytest.approx(association(table, method="cramer"), abs=1e-12)
    assert found["test"].aligned == pytest.approx((1710 + 1394) / 6788)


# Broken folders


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with one of each fault."""
    stand_in(tmp_path)
    folder = tmp_path / "field_strength"
    rng = np.random.default_rng(5)
    cut = folder / "training/0/1-8-1.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / "training/0/1-9-1.png")
    (folder / "training/1/1-8-3.png").write_bytes(png(rng, SIDE - 4))
    shutil.copy(folder / "training/1/1-9-3.png", folder / "validation/0/1-8-11.png")  # pixels in two partitions
    (folder / "test/0/1-20-12.png").write_bytes(png(rng))  # a patient of validation
    (folder / "test/1/1-8-21.png").write_bytes(png(rng))  # a slice that is there as clear too
    shutil.copy(folder / "test/0/1-8-23.png", folder / "test/1/1-8-24.png")  # pixels under two labels
    (folder / "test/1/notes.txt").write_text("x")
    (folder / "validation/spare").mkdir()
    (folder / "test/0/1-8-99.png").write_bytes(png(rng))  # a patient whom the spreadsheet does not know
    write_spreadsheet(
        tmp_path / SPREADSHEET, {p: {"field": "NC" if p == 22 else (3, 1)[tied]} for p, tied in TIED.items()}
    )
    return tmp_path


FOUND = {
    "unreadable": ["training/0/1-8-1.png"],
    "wrong_size": [
        f"training/0/1-9-1.png (RGB {SIDE} x {SIDE})",
        f"training/1/1-8-3.png (L {SIDE - 4} x {SIDE - 4})",
    ],
    "pixels_in_two_partitions": ["training/1/1-9-3.png = validation/0/1-8-11.png"],
    "pixels_under_two_labels": [
        "training/1/1-9-3.png = validation/0/1-8-11.png",
        "test/0/1-8-23.png = test/1/1-8-24.png",
    ],
    "pixels_repeated": ["test/0/1-8-23.png = test/1/1-8-24.png"],
    "patient_in_two_partitions": ["Breast_MRI_012 in validation and test"],
    "attribute_missing": ["test/1/1-8-22.png in test", "test/0/1-9-22.png in test", "test/0/1-8-99.png in test"],
}


def test_every_fault_is_told_in_one_run(broken: Path) -> None:
    code, (row,) = checked("spurbreast/field", "--data", f"spurbreast={broken}")
    report = report_of(row)
    assert code == 1
    found: dict[str, Finding] = {one.code: one for one in report.findings if one.code != "reading"}
    for name, examples in FOUND.items():
        assert found[name].count == len(examples), name
        for text, example in zip(sorted(found[name].examples), sorted(examples), strict=True):
            assert example in text
        assert found[name].severity == ("warning" if name == "pixels_repeated" else "fault")
    assert found.keys() == {*FOUND, "empty_group", "few_patients"}
    reading = {one.message: one.examples for one in report.findings if one.code == "reading"}
    about = {
        name: texts
        for message, texts in reading.items()
        for name in ("folders", "repeated", "field")
        if name in message
    }
    assert ["notes.txt" in text or "spare" in text for text in about["folders"]] == [True, True]
    assert "test/0/1-8-21.png and test/1/1-8-21.png" in about["repeated"][0]
    assert "found 'NC" in about["field"][0]
    assert "Breast_MRI_099" in about["field"][1]
    assert (len(about["repeated"]), len(about["field"])) == (1, 2)
    assert report.faults == 9
    assert [one.severity for one in report.findings] == ["fault"] * 9 + ["warning"] * report.warnings


def test_the_verdict_comes_first_and_the_exit_code_follows_it(spurbench: Any, broken: Path, tmp_path: Path) -> None:
    ended = spurbench("data", "check", "spurbreast/field", "--data", f"spurbreast={broken}")
    assert ended.code == 1
    assert ended.out.startswith("spurbreast/field_strength: FAULTS FOUND (9 kinds of fault,")
    for name, examples in FOUND.items():
        assert f"{name}, {len(examples)}:" in ended.out
        assert all(example in ended.out for example in examples)
    sound = tmp_path / "sound"
    sound.mkdir()
    stand_in(sound)
    ended = spurbench("data", "check", "spurbreast/field", "--data", f"spurbreast={sound}")
    assert ended.code == 0
    assert ended.out.startswith("spurbreast/field_strength: no fault found (no kinds of fault, 2 kinds of warning).")
    for heading in ("Slices (patients)", "Attribute and label", "Rules that see no image"):
        assert heading in ended.out


def test_ten_examples_are_shown_and_the_rest_counted(spurbench: Any, tmp_path: Path) -> None:
    stand_in(tmp_path)
    for number in range(13):
        (tmp_path / "field_strength/test/0" / f"stray{number}").write_bytes(b"")
    _, (row,) = checked("spurbreast/field", "--data", f"spurbreast={tmp_path}")
    finding = next(one for one in report_of(row).findings if one.code == "reading")
    assert (finding.count, len(finding.examples)) == (13, 10)
    assert "  and 3 more\n" in spurbench("data", "check", "spurbreast/field", "--data", f"spurbreast={tmp_path}").out


# Where data lie, and bad input


def test_files_in_the_home_need_no_option(spurbench: Any, home: Home) -> None:
    folder = home.data / "spurbreast"
    folder.mkdir(parents=True)
    stand_in(folder)
    assert checked("spurbreast/field")[0] == 0
    assert spurbench("data", "describe", "spurbreast/field").code == 0


@pytest.mark.parametrize("verb", ["check", "describe"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spurbreast/field"], "Give --data spurbreast=PATH"),
        (["spurbreast/field", "--data", "spurbreast=/nonexistent"], "found nothing there"),
        (["spurbreast/felid"], "field"),
        (["field", "--data", "spurbraest=."], "spurbreast"),
        (["field", "--split-set", "train_patients=0"], "train_patients"),
    ],
)
def test_bad_input_ends_with_2(spurbench: Any, home: Home, verb: str, arguments: list[str], message: str) -> None:
    ended = spurbench("data", verb, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") <= 2


def test_a_fold_of_a_protocol_is_described_but_not_checked(spurbench: Any, home: Home) -> None:
    tiny = ["--split-set", *(f"{name}={value}" for name, value in TINY_SPLIT.items())]
    ended = spurbench("data", "check", "field+carve.0", *tiny)
    assert ended.code == 2
    assert "Write: phantom/field@0.95[" in ended.err
    rows = spurbench("data", "describe", "field+carve", *tiny, "--json").rows
    assert len(rows) == 5
    assert "adapt" in rows[0]["partitions"]


def test_images_that_are_made_are_looked_at_only_where_asked(home: Home) -> None:
    tiny = ["--split-set", *(f"{name}={value}" for name, value in TINY_SPLIT.items())]
    code, (row,) = checked("field", *tiny)
    assert (code, row["images"]["arrays"]) == (0, 0)
    assert "--pixels" in row["not_examined"][0]
    code, rows = checked("field", "orientation", "--pixels", *tiny)
    assert code == 0
    for row in rows:
        total = sum(one["slices"] for one in row["partitions"])
        assert (row["images"]["arrays"], row["images"]["distinct"], row["not_examined"]) == (total, total, [])


# describe


def test_describe_tells_the_rows(spurbench: Any, tmp_path: Path) -> None:
    dataset = stand_in(tmp_path)
    (row,) = spurbench("data", "describe", "spurbreast/field", "--data", f"spurbreast={tmp_path}", "--json").rows
    table = SpurBreast(path=tmp_path).table("field", None)
    assert row["sha256"] == table.sha256()
    assert row["fingerprint"] == dataset.fingerprint()
    assert row["files"] == str(tmp_path)
    assert (row["classes"], row["values"]) == (["clear", "tumour"], ["3T", "1.5T"])
    assert {name: part["groups"] for name, part in row["partitions"].items()} == table.counts()
    assert {name: part["patients"] for name, part in row["partitions"].items()} == {
        "train": 4,
        "validation": 2,
        "test": 4,
    }
    assert row["notes"] == list(table.notes)
    out = spurbench("data", "describe", "spurbreast/field", "--data", f"spurbreast={tmp_path}").out
    assert table.sha256() in out
    assert all(note in out for note in table.notes)


def test_describe_refuses_what_check_would_explain(spurbench: Any, broken: Path) -> None:
    ended = spurbench("data", "describe", "spurbreast/field", "--data", f"spurbreast={broken}")
    assert ended.code == 2
    assert "Expected" in ended.err
