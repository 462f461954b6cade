"""``spurbench curate scan``: from a table and images to a ranking, a page and what the shortcut costs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustbench_spur.cli import main
from robustbench_spur.curation import frozen, kept
from tests.page.reading import Tree

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
DUKE = DATA / "duke_breast_mri_metadata" / "Clinical_and_Other_Features.xlsx"
QUICK = ["--permutations", "99", "--replicates", "99"]
HOSTILE = "<script>alert(1)</script>"
PATIENTS, SIDE = 120, 24


def write(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def pool(tmp_path: Path, home: Any) -> Path:
    """A table of 120 patients: brightness (tied to the label, seen), ward (tied, unseen), a hostile name (random)."""
    rng = np.random.default_rng(3)
    label = np.arange(PATIENTS) % 2
    bright = label ^ (rng.random(PATIENTS) < 0.2)
    ward = label ^ (rng.random(PATIENTS) < 0.15)
    rows = [
        (f"P{n:03d}", ("no", "yes")[label[n]], ("low", "high")[bright[n]], f"W{ward[n]}", f"R{rng.integers(30)}")
        for n in range(PATIENTS)
    ]
    (tmp_path / "images").mkdir()
    for n in range(PATIENTS):
        for k in range(2):
            pixels = rng.normal(90 + 40 * bright[n], 12, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / f"1-{k}-P{n:03d}.png")
    return write(tmp_path / "patients.csv", ("patient", "tumour", "brightness", "ward", HOSTILE), rows)


def command(pool: Path, *more: str, images: bool = True) -> list[str]:
    seen = ["--images", str(pool.parent / "images"), "--image-size", str(SIDE)] if images else []
    return ["curate", "scan", str(pool), "--label", "tumour", *QUICK, *seen, *more]


def rows_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


# What it finds


def test_a_tied_column_that_is_seen_comes_before_one_that_is_not(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(pool, "--json")) == 0
    rows = rows_of(capsys)
    assert next(iter(rows)) == "brightness"
    assert rows["brightness"]["detectability"]["value"] > 0.9
    assert rows["ward"]["utility"]["value"] > rows["brightness"]["utility"]["value"] > 0.1
    assert rows["ward"]["risk"]["low"] == rows[HOSTILE]["risk"]["low"] == 0.0
    assert all(row["damage"] is None for row in rows.values())


def test_without_images_the_risk_is_utility(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(pool, "--json", images=False)) == 0
    rows = rows_of(capsys)
    assert next(iter(rows)) == "ward"
    assert rows["ward"]["risk"] == rows["ward"]["utility"]
    assert rows["ward"]["detectability"] == {"value": None, "low": None, "high": None, "reason": "no images"}


def test_the_terminal_shows_the_ranking_and_where_the_rest_is(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(command(pool, "--top", "2", "--out", str(tmp_path / "out"))) == 0
    out = capsys.readouterr().out
    assert out.startswith("120 patients, 3 columns. tumour: no 60, yes 60.\n240 images of 120 patients")
    assert max(len(line) for line in out.splitlines() if "\u2502" in line) <= 80
    cells = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in out.splitlines() if "\u2502" in line]
    assert [row[:2] for row in cells] == [["1", "brightness"], ["2", "ward"]]
    assert "1 more columns: --top 3" in out
    assert f"Written to {tmp_path / 'out'}: index.html (the page), scan.csv, scan.json." in out


def test_files_and_page_say_what_the_json_says(pool: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(command(pool, "--json", "--out", str(out))) == 0
    rows = rows_of(capsys)
    with (out / "scan.csv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert [row["column"] for row in listed] == list(rows)
    for row in listed:
        for name in ("risk", "utility", "detectability"):
            assert float(row[name]) == pytest.approx(rows[row["column"]][name]["value"], abs=1e-6)
            assert float(row[f"{name}_low"]) == pytest.approx(rows[row["column"]][name]["low"], abs=1e-6)
    everything = json.loads((out / "scan.json").read_text(encoding="utf-8"))
    assert everything["table"]["file"] == "patients.csv" and str(tmp_path) not in json.dumps(everything)
    place = [everything["names"].index(name) for name in ("brightness", "ward")]
    association = everything["association"][place[0]][place[1]]
    page = (out / "index.html").read_text(encoding="utf-8")
    root = Tree(page).root
    assert [cell.text.split(" ")[0] for cell in root.all("table", "scan")[0].all("th", "method")] == [
        "brightness", "ward", HOSTILE.split(" ", maxsplit=1)[0],
    ]  # fmt: skip
    assert HOSTILE not in page and not root.all("script")
    heat = root.one("table", "pairs")
    assert heat.all("tr")[2].all("td")[0].text == f"{100 * association:.0f}"
    (svg,) = root.all("svg")
    assert sum("mark" in path.attributes["class"].split() for path in svg.all("path")) == 3 + 1  # one in the legend


def test_the_same_scan_is_the_same_page(pool: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(command(pool, "--out", str(tmp_path / name))) == 0
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()


@pytest.mark.skipif(not DUKE.is_file(), reason=f"no Duke spreadsheet at {DUKE}")
def test_dukes_sections_can_be_chosen_and_left_out(
    home: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["curate", "scan", str(DUKE), "--patient", "Patient ID", "--label", "ER", *QUICK]
    chosen = ["--only", "MRI Technical Information", "demographics", "--without", "Columns", "--json"]
    assert main([*given, *chosen, "--out", str(tmp_path)]) == 0
    rows = rows_of(capsys)
    named = {name.removesuffix(" (missing)") for name in rows}
    assert {"Field Strength (Tesla)", "Manufacturer", "Race and Ethnicity"} <= named
    assert not {"Columns", "ER", "PR", "Surgery"} & named
    assert rows["Field Strength (Tesla)"]["support"] == {"1.5": 468, "2.8936": 1, "3": 453}
    assert Tree((tmp_path / "index.html").read_text(encoding="utf-8")).root.one("table", "pairs")


# Features are kept


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every image that is read from now on."""
    seen: list[Path] = []
    real = frozen.read_picture

    def counting(path: Path, *args: Any, **more: Any) -> Any:
        seen.append(path)
        return real(path, *args, **more)

    monkeypatch.setattr(frozen, "read_picture", counting)
    return seen


def test_images_are_read_once_and_a_changed_one_again(
    pool: Path, reads: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(pool, "--json")) == 0
    before = rows_of(capsys)
    assert len(reads) == 2 * PATIENTS
    assert main(command(pool, "--json")) == 0
    assert len(reads) == 2 * PATIENTS and rows_of(capsys) == before
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(pool.parent / "images" / "1-0-P000.png")
    assert main(command(pool, "--json")) == 0
    assert len(reads) == 2 * PATIENTS + 2 * kept.TOGETHER


def test_a_killed_scan_goes_on_with_the_features_that_are_there(
    pool: Path, reads: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = kept.features_of

    def killed(items: Any, *more: Any) -> Any:
        if len(reads) >= 4 * kept.TOGETHER:
            raise KeyboardInterrupt
        return real(items, *more)

    monkeypatch.setattr(kept, "features_of", killed)
    assert main(command(pool, "--json")) == 130
    assert len(reads) == 4 * kept.TOGETHER
    monkeypatch.setattr(kept, "features_of", real)
    capsys.readouterr()
    assert main(command(pool, "--json")) == 0
    assert len(reads) == 2 * PATIENTS
    resumed = rows_of(capsys)
    assert main(["clean"]) == 0
    capsys.readouterr()
    assert main(command(pool, "--json")) == 0
    assert rows_of(capsys) == resumed


# Damage


def test_damage_is_measured_written_and_not_measured_twice(
    pool: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    more = ["--damage", "3", "--epochs", "3", "--device", "cpu", "--out", str(out), "--json"]
    assert main(command(pool, *more)) == 0
    rows = rows_of(capsys)
    damage = rows["brightness"]["damage"]
    assert damage["values"] == ["low", "high"] and damage["split"] == "curated/linked@1.0"
    assert damage["fall"]["value"] == pytest.approx(damage["validation"]["value"] - damage["test"]["value"])
    assert damage["validation"]["value"] > 0.9, "brightness tells the label there"
    assert damage["test"]["value"] == pytest.approx(0.5, abs=0.05), "and nothing in the image does here"
    reason = rows[HOSTILE]["damage"]["reason"]
    assert "needs 5 patients of every pair" in reason
    records = sorted(path.name for path in (out / "home" / "records").rglob("*.json"))
    assert len(records) == 2
    page = Tree((out / "index.html").read_text(encoding="utf-8")).root
    assert "brightness low | high" in page.all("table", "scan")[1].text
    assert reason in page.all("table", "scan")[1].text
    assert main(command(pool, *more)) == 0
    assert rows_of(capsys) == rows
    assert sorted(path.name for path in (out / "home" / "records").rglob("*.json")) == records


# Mistakes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--damage", "1"], "Expected --out FOLDER with --damage"),
        (["--top", "-1"], "Expected --top of at least 0, found -1"),
        (["--weights", "w.safetensors"], "Expected --backbone NAME with --weights"),
        (["--backbone", "smallcnn"], "Expected weights of the backbone 'smallcnn'"),
        (["--only", "bright"], "Did you mean 'brightness'?"),
        (["--without", "ward", "brightness", HOSTILE], "Expected a column besides the label"),
        (["--permutations", "0"], "Expected permutations of at least 1, found 0"),
        (["--patient", "who"], "Expected one patient column 'who'"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    out = [] if "--damage" in more else ["--out", str(tmp_path / "out")]
    assert main(command(pool, *out, *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--damage", "1"], ["--pretrained"], ["--backbone", "resnet18"]])
def test_what_needs_images_says_so(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert main(command(pool, *option, "--out", str(tmp_path / "out"), images=False)) == 2
    assert f"Expected --images with {option[0]}, found none" in capsys.readouterr().err


def test_a_damaged_image_is_named(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = pool.parent / "images" / "1-1-P007.png"
    place.write_bytes(place.read_bytes()[:60])
    assert main(command(pool)) == 2
    assert "1-1-P007.png" in capsys.readouterr().err
