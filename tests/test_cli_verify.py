"""``spurbench verify``: of an entry and of a board, in words and as JSON, with the exit codes that CI looks at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.building import build
from robustbench_spur.published import Attestation, open_published, read_attested
from robustbench_spur.submission.again import Again, Found
from robustbench_spur.submission.entry import Cell, load_entry
from robustbench_spur.submission.remarks import Remark
from robustbench_spur.types import SpurbenchError
from tests.conftest import Ended
from tests.submission.faults import RECORD, put
from tests.submission.faults_of_arrays import GOOD, tensors, weights
from tests.submission.makers import BOARD, SPLIT, Copy, board_of, boards, packed

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound entry. Only for copying."""
    folder = tmp_path_factory.mktemp("verify")
    with boards(folder / "boards"):
        return packed(folder)


@pytest.fixture
def copy(template: Path, tmp_path: Path) -> Iterator[Copy]:
    """A copy of it, while the small board is installed."""
    with boards(template.parent / "boards"):
        yield Copy(Path(shutil.copytree(template, tmp_path / "entry")))


@pytest.fixture
def board(copy: Copy, tmp_path: Path) -> Path:
    """A board with the entry, and its generated files."""
    folder = board_of(tmp_path, copy.folder)
    build(open_published(folder))
    return folder


@pytest.fixture
def verify(spurbench: Run) -> Run:
    """Runs the verb on the small board."""

    def run(folder: Path, *arguments: Any) -> Ended:
        return spurbench("verify", folder, "--board", BOARD, *arguments)

    return run


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a pool would not know the small board."""
    monkeypatch.setattr("os.sched_getaffinity", lambda who: {0}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def test_a_sound_entry(copy: Copy, verify: Run) -> None:
    done = verify(copy.folder)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first == f"{copy.folder}: mine by Lab <b>Nought</b>, 2 cells"
    assert second == "Verified: all metrics of 2 cells were recomputed from their predictions."


def test_a_sound_entry_as_json(copy: Copy, verify: Run) -> None:
    done = verify(copy.folder, "--json")
    (row,) = done.rows
    assert (done.code, row["verdict"], row["cells"], row["remarks"], row["again"]) == (0, "verified", 2, [], [])


def test_a_fault(copy: Copy, verify: Run) -> None:
    copy.record(put("seed", value=7))
    done = verify(copy.folder)
    assert (done.code, done.err) == (1, "")
    assert f"  FAULT {RECORD}: expected seed '0', found seed '7'." in done.out
    assert done.out.endswith("Rejected.\n")
    (row,) = verify(copy.folder, "--json").rows
    assert row["verdict"] == "rejected"
    assert row["remarks"][0].keys() == {"level", "file", "found", "expected", "remedy"}


def test_what_a_person_has_to_look_at(copy: Copy, verify: Run) -> None:
    copy.record(put("method", "given", value={"eta": "[red]:bomb:"}))
    done = verify(copy.folder)
    assert done.code == 0
    assert "[red]:bomb:" in done.out, "markup of a stranger is text"
    assert done.out.endswith("In order, but a person has to look at it.\n")
    assert verify(copy.folder, "--json").rows[0]["verdict"] == "for a person"


def test_a_warning(copy: Copy, verify: Run) -> None:
    copy.record(put("off_board", value=["epochs=1"]))
    done = verify(copy.folder)
    assert done.code == 0
    assert "  warning " in done.out


def test_a_hostile_name_of_a_file_reaches_no_terminal(copy: Copy, verify: Run) -> None:
    (copy.folder / "\x1b[31m").touch()
    done = verify(copy.folder)
    assert done.code == 1
    assert "\x1b" not in done.out
    assert "no entry" in done.out


def test_many_remarks_are_cut_and_counted(copy: Copy, verify: Run) -> None:
    for number in range(30):
        copy.path(f"file{number}").touch()
    done = verify(copy.folder)
    assert done.out.count("  FAULT ") == 20
    assert "and 10 more of that kind; --json has all." in done.out
    assert len(verify(copy.folder, "--json").rows[0]["remarks"]) == 30


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--against", "main"], "Expected a board with --against, found an entry."),
        (
            ["--reproduce", "x:1"],
            f"Expected a cell of the entry as SPLIT:SEED, found 'x:1'. It has: {SPLIT}:0, {SPLIT}:1",
        ),
        (["--board", "other"], "Unknown board 'other'"),
        (["--reproduce", f"{SPLIT}:0"], "Read it; then give --trust-code to run it."),
    ],
)
def test_what_cannot_be_meant_of_an_entry(copy: Copy, verify: Run, options: list[str], found: str) -> None:
    done = verify(copy.folder, *options)
    assert done.code == 2
    assert found in done.err


def test_a_folder_that_is_not_there(copy: Copy, verify: Run) -> None:
    done = verify(copy.folder / "nowhere")
    assert done.code == 2
    assert "Expected a folder of an entry or a board" in done.err


# A board


@pytest.mark.usefixtures("one_process")
def test_a_board_in_order(board: Path, verify: Run) -> None:
    done = verify(board)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{board}: in order. Entries: 1 verified.\n"
    whole, entry = verify(board, "--json").rows
    assert (whole["verdict"], whole["entry"], entry["verdict"]) == ("verified", None, "verified")


@pytest.mark.usefixtures("one_process")
def test_a_board_not_in_order(board: Path, verify: Run) -> None:
    (board / "board.csv").write_text("mine")
    done = verify(board)
    assert done.code == 1
    assert "FAULT board.csv: expected generated files that are up to date" in done.out
    assert "NOT in order" in done.out
    assert verify(board, "--json").rows[0]["verdict"] == "rejected"


@pytest.mark.parametrize("option", [["--attest"], ["--reproduce", "all"]])
def test_what_is_asked_of_entries_alone(board: Path, verify: Run, option: list[str]) -> None:
    done = verify(board, *option)
    assert done.code == 2
    assert "Expected an entry with --reproduce and --attest, found a board." in done.err


# What is computed again; that itself is tested with a trained cell in test_again


def agreed(self: Again, one: Any, cell: Cell, *arguments: Any, **options: Any) -> Found:
    kind: Any = "reproduced" if options else "weights"
    return Attestation(split=cell.split, seed=cell.seed, kind=kind, day="2026-01-01", differences={"ece": 0.01}), []


def differed(self: Again, one: Any, cell: Cell, *arguments: Any, **options: Any) -> Found:
    return None, [Remark("fault", "x", "other logits", "those of the entry", "Give the weights.")]


def test_weights_are_looked_at_where_they_are(
    copy: Copy, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    weights(tensors(GOOD))(copy)
    monkeypatch.setattr(Again, "from_weights", differed)
    done = verify(copy.folder)
    assert done.code == 1
    assert "FAULT x: expected those of the entry, found other logits." in done.out
    assert verify(copy.folder, "--no-weights").code == 0


def test_what_was_computed_again_is_noted_on_the_board(
    copy: Copy, board: Path, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    """A reproduction that was noted stays when the weights are looked at later."""
    monkeypatch.setattr(Again, "by_training", agreed)
    monkeypatch.setattr(Again, "from_weights", agreed)
    name = load_entry(copy.folder).id
    place = board / "entries" / "mine" / name
    done = verify(place, "--reproduce", f"{SPLIT}:0", "--attest", "--json")
    assert done.code == 0
    assert [one["kind"] for one in done.rows[0]["again"]] == ["reproduced"]
    (tmp := copy.folder.parent / "weights").mkdir()
    assert verify(place, "--weights", tmp, "--attest").code == 0
    noted = [(one.seed, one.kind) for one in read_attested(board, name)]
    assert noted == [(0, "reproduced"), (0, "weights"), (1, "weights")]
    (row,) = open_published(board).board().rows
    assert (row.standing.tier, row.standing.collected) == ("reproduced", True)


def test_what_was_computed_again_outlives_an_error_of_the_next_cell(
    copy: Copy, board: Path, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    def broken_later(self: Again, one: Any, cell: Cell, *arguments: Any, **options: Any) -> Found:
        if cell.seed == 1:
            raise SpurbenchError("Expected room on the disk, found none.")
        return agreed(self, one, cell, *arguments, **options)

    monkeypatch.setattr(Again, "by_training", broken_later)
    name = load_entry(copy.folder).id
    done = verify(board / "entries" / "mine" / name, "--reproduce", "all", "--attest")
    assert done.code == 2
    assert "Expected room on the disk" in done.err
    assert [(one.seed, one.kind) for one in read_attested(board, name)] == [(0, "reproduced")]


def test_a_cell_that_differs_takes_back_what_was_noted_before_it(
    copy: Copy, board: Path, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    monkeypatch.setattr(Again, "by_training", agreed)
    name = load_entry(copy.folder).id
    place = board / "entries" / "mine" / name
    assert verify(place, "--reproduce", f"{SPLIT}:1", "--attest").code == 0

    def differing_later(self: Again, one: Any, cell: Cell, *arguments: Any, **options: Any) -> Found:
        return (differed if cell.seed == 1 else agreed)(self, one, cell, *arguments, **options)

    monkeypatch.setattr(Again, "by_training", differing_later)
    done = verify(place, "--reproduce", "all", "--attest")
    assert (done.code, "Rejected." in done.out) == (1, True)
    assert [(one.seed, one.kind) for one in read_attested(board, name)] == [(1, "reproduced")]


def test_all_cells_are_those_that_have_predictions(
    copy: Copy, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    """A cell that failed, or that its method does not apply to, cannot be compared with anything."""
    copy.path(f"{copy.cell}.npz").unlink()
    copy.listing(lambda cell: cell.update(predictions=None))
    copy.record(lambda one: one.update(status="failed", predictions=None, metrics={}, details={}))
    monkeypatch.setattr(Again, "by_training", agreed)
    done = verify(copy.folder, "--reproduce", "all", "--json")
    assert [one["seed"] for one in done.rows[0]["again"]] == [1]


def test_an_entry_on_no_board_is_not_attested(
    copy: Copy, verify: Run, monkeypatch: pytest.MonkeyPatch, home: Any
) -> None:
    trained: list[Cell] = []
    monkeypatch.setattr(Again, "by_training", lambda self, one, cell, **options: trained.append(cell))
    done = verify(copy.folder, "--reproduce", "all", "--attest")
    assert (done.code, trained) == (2, [])
    assert "Expected an entry on a board to attest" in done.err
    assert json.loads((copy.folder / "entry.json").read_text())
