"""``spurbench submit``: from finished cells, or files of records, to an entry that is verified, and what to do with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, load_manifest
from robustbench_spur.submission.entry import Entry, load_entry
from robustbench_spur.submission.verifier import Verifier
from tests.conftest import Ended
from tests.submission.makers import BOARD, SEEDS, SOURCE, SPLIT, SPLITS, boards, fill, plugin_file, plugin_of

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the boards."""
    with boards(tmp_path_factory.mktemp("submit") / "boards") as folder:
        return folder


@pytest.fixture(autouse=True)
def manifest(folder: Path) -> Iterator[Manifest]:
    """Of the small board, which is installed while a test runs."""
    with boards(folder):
        yield load_manifest(BOARD)


@pytest.fixture
def submit(spurbench: Run, tmp_path: Path) -> Run:
    """Runs the verb on the small board."""

    def run(*arguments: Any, team: str = "A team", source: str = SOURCE) -> Ended:
        given = ("--team", team, "--method-source", source, "--board", BOARD)
        return spurbench("submit", *given, "--out", tmp_path / "out", *arguments)

    return run


def entry_in(tmp_path: Path) -> Entry:
    return load_entry(tmp_path / "out")


def test_cells_become_a_verified_entry_and_the_way_to_the_board_is_told(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"), SPLITS)
    done = submit("--method", "erm", "--deviations", "none", "--training-data", "train", "--contact", "a@example.org")
    assert (done.code, done.err) == (0, "")
    entry = entry_in(tmp_path)
    assert [(cell.split, cell.seed) for cell in entry.cells] == [(split, seed) for split in SPLITS for seed in SEEDS]
    assert (entry.team, entry.method.origin, entry.plugin) == ("A team", "built-in", None)
    assert (entry.deviations, entry.training_data, entry.contact) == ("none", "train", "a@example.org")
    assert Verifier(manifest).verify(tmp_path / "out").remarks == []
    assert "Verified: all metrics of 4 cells" in done.out
    for line in (
        f"  git switch --create {entry.id}",
        f"  cp -r {tmp_path / 'out'} leaderboards/{BOARD}/entries/erm/{entry.id}",
        f"  spurbench verify leaderboards/{BOARD} --against origin/main",
    ):
        assert line in done.out.splitlines()


def test_a_draft_brings_its_source(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    fill(home, manifest, plugin_of(tmp_path / "drafts"))
    done = submit("--method", "mine", "--plugin", tmp_path / "drafts" / "mine.py")
    assert (done.code, done.err) == (0, "")
    packed, draft = tmp_path / "out" / "plugin.py", tmp_path / "drafts" / "mine.py"
    assert packed.read_bytes() == draft.read_bytes()
    entry = entry_in(tmp_path)
    assert entry.plugin is not None
    assert entry.plugin.sha256 == entry.method.sha256


def test_only_a_method_of_the_projects_own_needs_no_source(
    home: Home, manifest: Manifest, spurbench: Run, tmp_path: Path
) -> None:
    draft = tmp_path / "drafts" / "mine.py"
    fill(home, manifest, plugin_of(tmp_path / "drafts"))
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    given = ("--board", BOARD, "--team", "A team", "--plugin", draft)
    done = spurbench("submit", "--method", "mine", *given, "--out", tmp_path / "out")
    assert done.code == 2
    assert "Give --method-source URL." in done.err
    assert not (tmp_path / "out").exists()
    assert spurbench("submit", "--method", "erm", *given, "--out", tmp_path / "out").code == 0
    entry = entry_in(tmp_path)
    assert (entry.method_source, entry.deviations, entry.training_data) == ("", "none known", "of the split: train")


def test_a_draft_that_was_changed_since_is_refused(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    fill(home, manifest, plugin_of(tmp_path / "drafts"))
    draft = plugin_file(tmp_path / "drafts")
    draft.write_text(draft.read_text() + "\n")
    done = submit("--method", "mine", "--plugin", draft)
    assert done.code == 2
    assert "Expected the file of mine that ran" in done.err
    assert not (tmp_path / "out").exists()


def test_one_split_and_one_seed(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"), SPLITS)
    done = submit("--method", "erm", "--split", SPLITS[1], SPLITS[1], "--seed", "1")
    assert done.code == 0
    assert [(cell.split, cell.seed) for cell in entry_in(tmp_path).cells] == [(SPLITS[1], 1)]
    assert "Without seed 0 the row is shown, unranked." in done.out


def test_missing_cells_are_named_with_the_command_that_makes_them(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    done = submit("--method", "erm", "--split", *SPLITS)
    assert done.code == 2
    assert f"found none on {SPLITS[1]}, seed 0; {SPLITS[1]}, seed 1." in done.err
    assert f"Run: spurbench run --method erm --split {SPLITS[1]} --seed 0 1\n" in done.err


def test_no_cells_at_all(home: Home, submit: Run, tmp_path: Path) -> None:
    done = submit("--method", "erm")
    assert done.code == 2
    assert "found none. Run: spurbench run --method erm" in done.err
    assert not (tmp_path / "out").exists()


def test_cells_of_other_settings_do_not_count(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"), off_board=("epochs=1",))
    assert submit("--method", "erm").code == 2


def test_seeds_of_two_configurations_are_refused(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    from robustbench_spur.record import RecordStore
    from tests.submission.makers import make_record

    store, plugin = RecordStore(home.records, home.predictions), plugin_of(tmp_path, "erm")
    store.add(make_record(manifest, plugin, SPLIT, 0, store))
    other = make_record(manifest, plugin, SPLIT, 1, store)
    identity = other.identity.model_copy(update={"numerics": {"device": "cuda", "precision": "float32"}})
    store.add(other.model_copy(update={"identity": identity, "config_hash": identity.sha256}))
    done = submit("--method", "erm")
    assert done.code == 2
    assert "Expected the seeds of a split to be of one configuration" in done.err


@pytest.mark.parametrize("name", ["file", ".hidden", "folder/"])
def test_a_folder_with_anything_in_it_is_refused(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path, name: str
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).mkdir() if name.endswith("/") else (tmp_path / "out" / name).touch()
    done = submit("--method", "erm")
    assert done.code == 2
    assert "Expected an empty folder or none at" in done.err


def test_an_empty_folder_is_filled(home: Home, manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    (tmp_path / "out").mkdir()
    assert submit("--method", "erm").code == 0


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"team": ""}, "found '' in team"),
        ({"team": "\x1b[31mred"}, r"found '\x1b[31mred' in team"),
        ({"source": "javascript:alert(1)"}, "found 'javascript:alert(1)' in method_source"),
    ],
)
def test_what_the_team_says_is_checked_before_anything_is_written(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path, options: dict[str, str], found: str
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    done = submit("--method", "erm", **options)
    assert done.code == 2
    assert found in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine.py"]


def test_an_entry_with_a_fault_is_not_to_be_submitted(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"), board="small", track="train")
    done = submit("--method", "erm")
    assert done.code == 1
    assert "Rejected." in done.out
    assert "git" not in done.out


def test_weights_that_were_cleaned_away_leave_nothing(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    done = submit("--method", "erm", "--weights")
    assert done.code == 2
    assert "were cleaned away" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine.py"]


def test_files_of_records_are_packed_wherever_they_are(manifest: Manifest, submit: Run, tmp_path: Path) -> None:
    files = []
    for place, split in (("one", SPLITS[0]), ("two", SPLITS[1])):
        elsewhere = Home(tmp_path / place)
        fill(elsewhere, manifest, plugin_of(tmp_path, "erm"), (split,))
        files += sorted(elsewhere.records.iterdir())
    done = submit("--records", *files)
    assert (done.code, done.err) == (0, "")
    assert len(entry_in(tmp_path).cells) == 4


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], "Expected either --method or --records, found neither."),
        (["--method", "erm", "--records", "x.json"], "Expected either --method or --records, found both."),
        (["--records", "x.json", "--seed", "1"], "found --split or --seed"),
        (["--records", "x.json"], "Expected the file of a record at x.json, found none."),
        (["--method", "erm", "--split", "fild"], "Unknown split 'fild'. Did you mean 'field'?"),
        (["--method", "emr"], "Unknown method 'emr'"),
    ],
)
def test_what_cannot_be_meant(home: Home, submit: Run, options: list[str], found: str) -> None:
    done = submit(*options)
    assert done.code == 2
    assert found in done.err


def test_files_of_records_are_one_cell_each_of_one_method(
    home: Home, manifest: Manifest, submit: Run, tmp_path: Path
) -> None:
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    fill(home, manifest, plugin_of(tmp_path, "jtt"), SPLITS[1:])
    files = sorted(home.records.iterdir())
    done = submit("--records", *files)
    assert "Expected records of one method, found erm and jtt." in done.err
    done = submit("--records", files[0], files[0])
    assert "Expected every cell once" in done.err
    files[0].write_text(files[0].read_text() + " ")
    assert "was changed after it was written" in submit("--records", files[0]).err


def test_packing_and_verifying_load_nothing_heavy(home: Home, manifest: Manifest, folder: Path, tmp_path: Path) -> None:
    """Both verbs, one after the other in one process."""
    fill(home, manifest, plugin_of(tmp_path, "erm"))
    out = str(tmp_path / "out")
    packing = ["submit", "--method", "erm", "--team", "a", "--method-source", SOURCE, "--board", BOARD, "--out", out]
    verifying = ["verify", out, "--board", BOARD, "--json"]
    code = f"""
import pathlib, sys
from robustbench_spur import cli, manifest
manifest.boards_folder = lambda: pathlib.Path({str(folder)!r})
codes = [cli.main({packing!r}), cli.main({verifying!r})]
print([name for name in ("torch", "torchvision", "timm", "pandas", "sklearn", "matplotlib") if name in sys.modules], codes)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[] [0, 0]", done.stderr
    assert (
        json.loads(done.stdout[done.stdout.index("[\n") : done.stdout.rindex("]\n[") + 1])[0]["verdict"] == "verified"
    )
