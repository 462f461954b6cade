"""``spurbench curate split``: from a table and a list of images to a folder that can be run on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from robustbench_spur.cli import main
from robustbench_spur.splits.curated import Curated
from tests.curation.test_split import collection

SIZES = ["--train-patients", "4", "--validation-patients", "2", "--test-patients", "4", "--slices-per-patient", "4"]
RHOS = ["--rho", "1.0", "0.5"]


def table(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """What ``curate render`` leaves: images of 16 patients, ``slices.csv``, ``volumes.csv``; either has a patient more."""
    slices, codes = collection(16)
    root = tmp_path / "rendered"
    for file in slices.files.tolist():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    columns = (slices.files, slices.patients, slices.labels, slices.positions)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    listed = ((file, patient, 1, 18, place, label) for file, patient, label, place in rows)
    table(root / "slices.csv", [("file", "patient", "slice", "count", "position", "label"), *listed])
    (root / "extra.png").write_bytes(b"")
    with (root / "slices.csv").open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerow(("extra.png", "P998", 1, 18, 0.5, 1))
    attributes = [(patient, (3, 1.5)[code]) for patient, code in codes.items()]
    table(root / "volumes.csv", [("patient", "field_strength"), *attributes, ("P999", 7)])
    return root


def command(root: Path, out: Path, *more: str) -> list[str]:
    given = [str(root / "volumes.csv"), "--attribute", "field_strength", "--slices", str(root / "slices.csv")]
    return ["curate", "split", *given, "--out", str(out), "--classes", "clear", "tumour", *SIZES, *more]


def test_the_output_says_what_was_drawn_and_what_comes_next(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "split"
    assert main(command(rendered, out, *RHOS, "--values", "3.0", "1.5")) == 0
    text = capsys.readouterr().out
    assert "field_strength: 3 is tied to clear, 1.5 to tumour. The values were given." in text
    assert "Left out: 1 patients, another value of field_strength." in text
    assert "Left out: 1 patients, in the list, but not in the table." in text
    lines = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in text.splitlines() if "\u2502" in line]
    assert [line[:6] for line in lines] == [
        ["all", "test", "2 (4)", "2 (4)", "2 (4)", "2 (4)"],
        ["1.0", "train", "4 (16)", "0 (0)", "0 (0)", "4 (16)"],
        ["1.0", "validation", "2 (8)", "0 (0)", "0 (0)", "2 (8)"],
        ["0.5", "train", "2 (8)", "2 (8)", "2 (8)", "2 (8)"],
        ["0.5", "validation", "1 (4)", "1 (4)", "1 (4)", "1 (4)"],
    ]
    assert lines[1][6] == "1.00"
    assert "--match-position" in text
    assert f"spurbench data check curated/linked@1.0 --data curated={out}" in text
    assert f"spurbench run --split curated/linked@1.0 curated/linked@0.5 --data curated={out}" in text
    described = json.loads((out / "split.json").read_bytes())
    assert described["images"] == "../rendered"
    assert described["options"]["left_out_by_value"] == {
        "another value of field_strength": 1,
        "in the list, but not in the table": 1,
    }
    assert [source["file"] for source in described["sources"]] == ["volumes.csv", "slices.csv"]
    assert described["recipe"]["seed"] == 0
    assert Curated(path=out).table("linked", 0.5).groups.classes == ("clear", "tumour")


def test_the_same_command_again_changes_nothing_and_another_is_refused(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "split"
    assert main(command(rendered, out, *RHOS)) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "Written to" in capsys.readouterr().out
    assert main(command(rendered, out, *RHOS)) == 0
    assert "The same split was there already" in capsys.readouterr().out
    assert main(command(rendered, out, *RHOS, "--seed", "1")) == 2
    assert "found another" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_json_has_what_a_board_pins(rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "split"
    assert main(command(rendered, out, "--match-position", "--json")) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["rho"] for row in rows] == [1.0, 0.99, 0.95, 0.9, 0.8, 0.5]
    dataset = Curated(path=out)
    for row in rows:
        split = dataset.table("linked", row["rho"])
        assert row["split"] == f"curated/linked@{row['rho']}"
        assert row["split_sha256"] == split.sha256()
        assert row["counts"] == split.counts()
        alone = row["position_alone"]["test"]
        assert alone["after"]["middle"] <= alone["before"]["middle"]


def test_a_table_may_list_the_images_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Radiographs: one per patient, healthy or not, with the hospital as the attribute."""
    rows = []
    for number in range(48):
        name = f"x{number}.png"
        (tmp_path / name).write_bytes(b"")
        rows.append((name, f"P{number}", ("normal", "ill")[number % 2], ("north", "south")[number // 2 % 2]))
    path = table(tmp_path / "all.csv", [("Image", "Who", "Finding", "Hospital"), *rows])
    given = ["--path", "Image", "--patient", "Who", "--label", "Finding", "--attribute", "Hospital"]
    sizes = [*SIZES[:-1], "1", *RHOS, "--classes", "normal", "ill"]
    assert main(["curate", "split", str(path), *given, *sizes, "--out", str(tmp_path / "split"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["values"] == ["north", "south"]
    assert [group["patients"] for group in first["counts"]["train"].values()] == [4, 0, 0, 4]
    assert [group["patients"] for group in second["counts"]["train"].values()] == [2, 2, 2, 2]
    assert [group["patients"] for group in first["counts"]["test"].values()] == [1, 1, 1, 1]
    assert json.loads((tmp_path / "split" / "split.json").read_bytes())["images"] == ".."


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rho", "0.7"], "Expected values of --rho among 1.0, 0.99, 0.95, 0.9, 0.8, 0.5, found 0.7"),
        (["--train-patients", "50"], "The largest draw in these proportions is --train-patients"),
        (["--values", "3", "9"], "found '3' and '9'"),
        (["--images", "nowhere"], "Expected the image P0"),
        (["--attribute", "vendor"], "Expected a column 'vendor'"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(command(rendered, tmp_path / "split", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "split").exists()
