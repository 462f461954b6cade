"""``spurbench leaderboard``: filters, order, columns and formats of the table; ``diff``, what moved between two boards."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_spur import manifest
from robustbench_spur.board import Board, Row
from robustbench_spur.cli.leaderboard import opening
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.types import Estimate
from tests.records import Laboratory, drawn, make_identity, make_manifest, make_record
from tests.test_cli import refused

LEVELS = {"erm": ("none", 0.2), "jtt": ("none", 0.6), "groupdro": ("train", 0.7)}
"""Track and accuracy in the worst group of the methods that are on the board."""
BASELINE = {"baseline": "erm"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home, whose methods have both seeds of the board ``t1`` but for one, and with the board."""
    folder = tmp_path_factory.mktemp("results")
    board = folder / "boards" / "t1"
    board.mkdir(parents=True)
    (board / "board.json").write_text(json.dumps(make_manifest(**BASELINE).model_dump(mode="json")))
    lab = Laboratory(Home(folder / "home"))
    for name, (track, level) in LEVELS.items():
        for seed in (0, 1):
            lab.add(name, seed, drawn((0.9, level, 0.8, 0.9), seed=seed), track=track)
    lab.add("dfr", 0, drawn((0.9, 0.5, 0.5, 0.9)), track="reweight")
    lab.add("gic", 0, status="failed", reason="RuntimeError: out of memory", track="none")
    return folder


@pytest.fixture
def home(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home, as the default one while the test runs, and the board, as one that is installed."""
    monkeypatch.setattr(manifest, "boards_folder", lambda: results / "boards")
    monkeypatch.setenv("SPURBENCH_HOME", str(results / "home"))
    manifest.load_manifest.cache_clear()
    yield results / "home"
    manifest.load_manifest.cache_clear()


@pytest.fixture
def show(spurbench: Any, home: Path) -> Any:
    """Runs ``leaderboard`` on the board."""
    return lambda *arguments: spurbench("leaderboard", *arguments, "--board", "t1")


def methods(ended: Any) -> list[str]:
    return [row["method"] for row in ended.rows]


# Without a verb it is the table


def test_the_table_is_shown_without_a_verb(show: Any) -> None:
    ended = show()
    assert (ended.code, ended.err) == (0, "")
    assert "board t1 (draft)" in ended.out
    assert "dfr: unranked: 1 of 2 seeds" in ended.out
    assert "gic: failed: RuntimeError: out of memory (0 of 2 seeds)" in ended.out
    assert methods(show("--json")) == ["jtt", "erm", "gic", "groupdro", "dfr"]


def test_help_tells_of_the_verbs_columns_and_formats(spurbench: Any) -> None:
    text = spurbench("leaderboard", "--help").out
    assert all(
        word in text for word in ("diff", "--csv", "--latex", "--columns", "tier, team, entry", "--sort=-COLUMN")
    )
    assert "OLD" in spurbench("leaderboard", "diff", "--help").out


# Filters, order


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--track", "none"], ["jtt", "erm", "gic"]),
        (["--track", "all"], ["jtt", "erm", "gic", "groupdro", "dfr"]),
        (["--status", "failed", "unranked"], ["gic", "dfr"]),
        (["--status", "ranked", "--track", "none", "train"], ["jtt", "erm", "groupdro"]),
        (["--backbone", "smallcnn", "--method", "dfr", "erm"], ["erm", "dfr"]),
        (["--sort", "worst"], ["groupdro", "jtt", "dfr", "erm", "gic"]),
        (["--sort", "worst group", "--reverse"], ["erm", "dfr", "jtt", "groupdro", "gic"]),
        (["--sort=-worst"], ["erm", "dfr", "jtt", "groupdro", "gic"]),
        (["--sort=-worst", "--reverse"], ["groupdro", "jtt", "dfr", "erm", "gic"]),
        (["--sort", "method", "--status", "ranked"], ["erm", "groupdro", "jtt"]),
    ],
)
def test_filters_and_order(show: Any, options: list[str], found: list[str]) -> None:
    assert methods(show(*options, "--json")) == found


def test_filters_leave_ranks_as_they_are(show: Any) -> None:
    (row,) = show("--method", "erm", "--json").rows
    assert (row["rank"], row["rank_high"]) == (2, 2)


def test_a_filter_that_leaves_nothing_says_so(show: Any) -> None:
    ended = show("--track", "train", "--status", "failed")
    assert (ended.code, ended.out) == (0, "No row is left. Leave out some of the filters.\n")


BAD = {
    "sort": (["--sort", "worts"], "Board t1 has no column 'worts'. Did you mean 'worst'"),
    "sort by a family": (["--sort", "groups"], "Expected a column with one value per row"),
    "reverse": (["--reverse"], "Expected --sort COLUMN with --reverse"),
    "columns": (["--columns", "method", "sedes"], "Board t1 has no column 'sedes'. Did you mean 'seeds'"),
    "columns of csv": (["--csv", "--columns", "sedes"], "Board t1 has no column 'sedes'. Did you mean 'seeds'"),
    "track": (["--track", "nome"], "has the track 'nome'. Did you mean 'none'"),
    "status": (["--status", "rankd"], "has the status 'rankd'. Did you mean 'ranked'"),
    "backbone": (["--backbone", "smalcnn"], "has the backbone 'smalcnn'. Did you mean 'smallcnn'"),
    "team": (["--team", "us"], "has the team 'us'. Known: none"),
    "two formats": (["--csv", "--latex"], "not allowed with argument --csv"),
    "verb": (["dif"], "invalid choice: 'dif' (choose from 'diff'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(show: Any, case: str) -> None:
    arguments, message = BAD[case]
    refused(show(*arguments), message)


# Columns and formats


def test_columns_of_every_format_but_json(show: Any) -> None:
    names = ["--columns", "method", "ECE"]
    text = show(*names).out
    assert "worst" not in text
    assert "ECE" in text
    assert "| method | ECE |" in show(*names, "--markdown").out
    assert r"method & ECE \\" in show(*names, "--latex").out
    assert (
        show(*names, "--csv").out.splitlines()[0].endswith("config_hash,method,settings,ece,ece_low,ece_high,missing")
    )
    assert show(*names, "--json").rows == show("--json").rows
    assert "least" in show("--columns", "all").out


def test_csv_read_back_equals_the_json(show: Any) -> None:
    text, rows = show("--csv").out, show("--json").rows
    frame = pd.read_csv(io.StringIO(text, newline=""), dtype={"seeds": str})
    assert len(frame) == len(rows) == 5
    for (_, line), row in zip(frame.iterrows(), rows, strict=True):
        for name in ("split", "method", "track", "backbone", "image_size", "config_hash", "status", "tier"):
            assert line[name] == row[name]
        estimates = {name: row[name] for name in ("worst", "micro", "valid", "ece", "difference_from_baseline")}
        estimates |= {f"groups:{name}": one for name, one in (row["groups"] or {}).items()}
        for name, one in estimates.items():
            found = [line[name], line[f"{name}_low"], line[f"{name}_high"]]
            expected = [np.nan if one[part] is None else one[part] for part in ("value", "low", "high")]
            assert found == pytest.approx(expected, abs=5e-7, nan_ok=True), name
        assert ([] if pd.isna(line["seeds"]) else list(map(int, line["seeds"].split()))) == row["seeds"]
        for name in ("rank", "rank_high", "which", "least"):
            assert (None if pd.isna(line[name]) else line[name]) == row[name]
        assert (row["worst"]["value"] is None) == ("failed" in str(line["missing"]))


def test_csv_is_told_apart_from_text_line_by_line(show: Any) -> None:
    lines = list(csv.reader(io.StringIO(show("--csv", "--sort", "worst").out, newline=""), strict=True))
    place = lines[0].index("method")
    assert [line[place] for line in lines[1:]] == ["groupdro", "jtt", "dfr", "erm", "gic"]


def test_formats_of_an_empty_home(spurbench: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path))
    for option, lines in (("--csv", 1), ("--markdown", 1), ("--latex", 4), ("--json", 1)):
        ended = spurbench("leaderboard", "--board", "t1", option)
        assert (ended.code, len(ended.out.splitlines())) == (0, lines)
    assert "No results yet" in spurbench("leaderboard", "--board", "t1").out


def test_a_terminal_without_unicode(
    show: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustbench_spur.cli.leaderboard import print_text

    screen = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", screen)
    print_text("naïve\r\n")
    screen.flush()
    assert screen.buffer.getvalue() == b"na\\xefve\r\n"  # type: ignore[attr-defined]


# diff


def read_folder(folder: Path) -> opening.Opened:
    """A board of rows by name: rank and value, in a file beside the manifest."""
    rules = Manifest.model_validate(json.loads((folder / "board.json").read_text()))
    place = folder / "entries" / "rows.json"
    rows = json.loads(place.read_text()) if place.is_file() else {}
    return opening.Opened(Board(rules, [a_row(name, *about) for name, about in rows.items()]))


def a_row(name: str, rank: int, value: float) -> Row:
    identity = make_identity(name)
    record = make_record(identity=identity)
    return Row([record], "ranked", "", {"worst": Estimate(value)}, rank, rank)


def git(folder: Path, *arguments: str) -> None:
    about = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *about, *arguments], check=True, capture_output=True)


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of boards in a repository, in which a row joined ``t1`` with the second commit, and one has yet to."""
    place = tmp_path / "repository" / "leaderboards"
    (place / "t1" / "entries").mkdir(parents=True)
    (place / "t1" / "board.json").write_text(json.dumps(make_manifest().model_dump(mode="json")))
    rows = place / "t1" / "entries" / "rows.json"
    git(tmp_path, "init", "-q", "repository")
    for commit in ({"erm": (1, 0.5)}, {"jtt": (1, 0.75), "erm": (2, 0.5)}):
        rows.write_text(json.dumps(commit))
        git(place, "add", ".")
        git(place, "commit", "-qm", "rows")
    rows.write_text(json.dumps({"jtt": (1, 0.75), "erm": (2, 0.25)}))
    monkeypatch.setattr(manifest, "boards_folder", lambda: place)
    monkeypatch.setattr(opening, "_published", read_folder)
    manifest.load_manifest.cache_clear()
    yield place
    manifest.load_manifest.cache_clear()


def test_what_moved_between_two_commits_and_since(spurbench: Any, boards: Path) -> None:
    rows = spurbench("leaderboard", "diff", "t1@HEAD~1", "t1@HEAD", "--json").rows
    assert [(row["kind"], row["method"], row["was"], row["now"], row["why"]) for row in rows] == [
        ("added", "jtt", None, "ranked, rank 1", ["records up to 2026-01-01T00:00:01"]),
        ("rank", "erm", "1", "2", ["jtt joined the track"]),
    ]
    (row,) = spurbench("leaderboard", "diff", "t1@HEAD", "t1", "--json").rows
    assert (row["kind"], row["method"], row["was"], row["now"]) == ("value", "erm", 0.5, 0.25)
    assert row["split"] == "phantom/field@0.95"


def test_a_board_that_was_installed_without_its_entries(
    spurbench: Any, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package brings the rules alone; in a clone its entries are found all the same."""
    installed = tmp_path / "site-packages" / "leaderboards"
    (installed / "t1").mkdir(parents=True)
    (installed / "t1" / "board.json").write_text((boards / "t1" / "board.json").read_text())
    monkeypatch.setattr(manifest, "boards_folder", lambda: installed)
    monkeypatch.chdir(tmp_path)
    for arguments in (("leaderboard", "--source", "t1"), ("leaderboard", "diff", "t1@HEAD", "t1")):
        done = spurbench(*arguments, "--board", "t1")
        assert done.code == 2
        assert "Expected the entries of board t1, found its rules alone" in done.err
    monkeypatch.chdir(boards.parent)
    (row,) = spurbench("leaderboard", "diff", "t1@HEAD", "t1", "--json").rows
    assert (row["kind"], row["method"]) == ("value", "erm")


def test_changes_as_tables(spurbench: Any, boards: Path) -> None:
    text = spurbench("leaderboard", "diff", "t1@HEAD~1", "t1").out
    for words in ("phantom/field@0.95, smallcnn, 64 pixels", "its value moved; jtt", "50.00 %", "25.00 %"):
        assert words in text
    lines = spurbench("leaderboard", "diff", "t1@HEAD~1", "t1@HEAD", "--markdown").out.splitlines()
    assert lines[0] == "### phantom/field@0.95, smallcnn, 64 pixels"
    assert lines[5] == "| rank | erm | 1 | 2 | jtt joined the track |"


def test_nothing_moved(spurbench: Any, boards: Path) -> None:
    for sides in (("t1", "t1"), ("t1@HEAD", "t1@master" if _has_master(boards) else "t1@HEAD")):
        ended = spurbench("leaderboard", "diff", *sides)
        assert (ended.code, ended.out) == (0, "Nothing moved.\n")
    assert spurbench("leaderboard", "diff", "t1", boards / "t1", "--markdown").out == "Nothing moved.\n"
    assert spurbench("leaderboard", "diff", "t1", "t1", "--json").rows == []
    assert spurbench("leaderboard", "--json", "diff", "t1", "t1").rows == []


def _has_master(boards: Path) -> bool:
    return b"master" in subprocess.run(["git", "-C", str(boards), "branch"], capture_output=True, check=True).stdout


def test_other_rules_are_told_first(spurbench: Any, boards: Path, tmp_path: Path) -> None:
    shutil.copytree(boards / "t1", tmp_path / "mine")
    (tmp_path / "mine" / "board.json").write_text(json.dumps(make_manifest(alpha=0.1).model_dump(mode="json")))
    ended = spurbench("leaderboard", "diff", "t1", tmp_path / "mine")
    assert ended.out.splitlines()[0].strip() == "The board's rules"
    assert "alpha" in ended.out


def test_a_home_is_a_board_too(spurbench: Any, home: Path, results: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller"
    shutil.copytree(home, smaller)
    for path in (smaller / "records").glob("jtt-*"):
        path.unlink()
    rows = spurbench("leaderboard", "diff", smaller, home, "--board", "t1", "--json").rows
    assert [(row["kind"], row["method"]) for row in rows] == [("added", "jtt"), ("rank", "erm")]
    assert spurbench("leaderboard", "diff", home, home, "--board", "t1").out == "Nothing moved.\n"


REFUSED = {
    "t2": "Expected a board (v1), one at a commit (v1@HEAD~5), a board's folder, or a home (a folder with records), found"
    " 't2'. Known: t1.",
    "": "found ''",
    "/nothing/here": "found '/nothing/here'",
    "t1@": "Expected a commit, branch or tag after t1@, found ''",
    "t1@--output=x": "Expected a commit, branch or tag after t1@, found '--output=x'",
    "t1@nothing": "Expected a commit, branch or tag after t1@, found 'nothing'",
    "t1@HEAD:leaderboards": "Expected a commit, branch or tag after t1@, found 'HEAD:leaderboards'",
    "t2@HEAD": "Expected the board 't2' in HEAD, found none",
    "../t1@HEAD": "Expected the name of a board before @, such as v1@HEAD~5, found '../t1'",
    ":(top)@HEAD": "Expected the name of a board before @, such as v1@HEAD~5, found ':(top)'",
    "@HEAD": "Expected the name of a board before @, such as v1@HEAD~5, found ''",
}


@pytest.mark.parametrize("text", REFUSED)
def test_boards_that_are_not_there(spurbench: Any, boards: Path, text: str) -> None:
    for sides in ((text, "t1"), ("t1", text)):
        refused(spurbench("leaderboard", "diff", *sides), REFUSED[text])
    assert not list(boards.rglob("x"))


def test_commits_of_boards_that_lie_in_no_repository(spurbench: Any, boards: Path) -> None:
    shutil.rmtree(boards.parent / ".git")
    refused(spurbench("leaderboard", "diff", "t1@HEAD", "t1"), "Expected the boards in a git repository for t1@HEAD")


def test_commits_without_git(spurbench: Any, boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(boards))
    refused(spurbench("leaderboard", "diff", "t1@HEAD", "t1"), "Expected git to read a board at a commit, found none")


def test_what_was_unpacked_is_removed(
    spurbench: Any, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert spurbench("leaderboard", "diff", "t1@HEAD~1", "t1@HEAD").code == 0
    assert list(scratch.iterdir()) == []
