"""A whole board is in order, or each thing that is not is told: places, notes, generated files, and what a commit had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_spur.accepting import BoardVerdict, known_on, verify_board
from robustbench_spur.building import build
from robustbench_spur.manifest import Manifest, load_manifest
from robustbench_spur.published import entry_folders, open_published
from robustbench_spur.submission.remarks import Remark
from robustbench_spur.submission.verifier import Verifier
from robustbench_spur.types import SpurbenchError
from tests.submission.faults import RECORD, put
from tests.submission.makers import BOARD, SPLIT, Copy, board_of, boards, packed, placed


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board with an entry of the made-up method and one of ERM. Only for copying."""
    folder = tmp_path_factory.mktemp("two")
    with boards(folder / "boards"):
        return board_of(folder, packed(folder / "mine"), packed(folder / "erm", "erm", accuracy=0.7)).parent


@pytest.fixture
def board(two: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that board, in a folder of its own."""
    with boards(two.parent / "boards"):
        yield Path(shutil.copytree(two, tmp_path / "leaderboards")) / BOARD


@pytest.fixture
def small_board(board: Path) -> Manifest:
    """The board's manifest."""
    return load_manifest(BOARD)


def verified(board: Path, against: str = "", *, pages: bool = False) -> BoardVerdict:
    return verify_board(board, against, processes=1, pages=pages)


def entry(board: Path, method: str = "mine") -> Path:
    (place,) = (one for one in entry_folders(board) if one.parent.name == method)
    return place


def only(remarks: tuple[Remark, ...] | list[Remark]) -> Remark:
    (remark,) = remarks
    return remark


def test_a_board_in_order_has_no_remark(board: Path) -> None:
    found = verified(board)
    assert found.sound
    assert found.remarks == ()
    assert [one.remarks for one in found.entries] == [[], []]
    whole, *entries = found.as_dicts()
    assert (whole["verdict"], whole["cells"], len(entries)) == ("verified", 4, 2)


def test_it_tells_how_far_it_is(board: Path) -> None:
    told: list[tuple[int, int]] = []
    verify_board(board, "", lambda *at: told.append(at), 1, pages=False)
    assert told == [(1, 2), (2, 2)]


def test_a_fault_of_an_entry_is_one_of_the_board(board: Path) -> None:
    Copy(entry(board)).write("plugin.py", "<html>")
    found = verified(board)
    assert not found.sound
    assert found.as_dicts()[0]["verdict"] == "rejected"
    assert [one.sound for one in found.entries] == [True, False]


def test_a_folder_that_is_no_board(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="Expected a board's folder"):
        verify_board(tmp_path)


def test_a_board_of_no_installed_version(board: Path) -> None:
    with pytest.raises(SpurbenchError, match="Unknown board 'other'"):
        verified(board.rename(board.with_name("other")))


# Places and notes


def test_a_changed_manifest_is_a_fault_whatever_it_says(board: Path) -> None:
    content = json.loads((board / "board.json").read_text())
    (board / "board.json").write_text(json.dumps({**content, "minimum_patients": 0}))
    found = only(verified(board).remarks)
    assert (found.file, found.expected.endswith(", that of small")) == ("board.json", True)
    assert "A board is never edited" in found.remedy


def test_an_entry_in_the_wrong_folder(board: Path) -> None:
    place = entry(board)
    (board / "entries" / "erm" / "mine").parent.mkdir(exist_ok=True)
    place.rename(board / "entries" / "erm" / place.name)
    found = only(verified(board).remarks)
    assert (found.file, found.expected) == (f"entries/erm/{place.name}", f"entries/mine/{place.name}")


def test_a_renamed_entry(board: Path) -> None:
    place = entry(board)
    place.rename(place.with_name("mine-0"))
    assert only(verified(board).remarks).file == "entries/mine/mine-0"


@pytest.mark.parametrize("name", ["entries/notes.txt", "entries/mine/notes.txt", "entries/mine/.hidden/entry.json"])
def test_what_is_no_entry_among_the_entries(board: Path, name: str) -> None:
    (board / name).parent.mkdir(exist_ok=True)
    (board / name).write_text("{}")
    found = only(verified(board).remarks)
    assert found.found == "a stray file among the entries"
    assert name.startswith(found.file)


@pytest.mark.parametrize("name", ["notes.txt", "more/index.html", ".hidden"])
def test_what_belongs_to_no_board(board: Path, name: str) -> None:
    (board / name).parent.mkdir(exist_ok=True)
    (board / name).write_text("{}")
    found = only(verified(board).remarks)
    assert (found.file, found.found) == (name.split("/", maxsplit=1)[0], "a stray file or folder on the board")


@pytest.mark.parametrize("name", ["entries/link", "entries/mine/link", "index.html", "attested"])
def test_a_link_on_a_board(board: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "entry.json").write_text("{")
    (board / name).symlink_to(tmp_path)
    found = verified(board)
    assert not found.sound
    assert (found.remarks[0].file, found.remarks[0].found) == (name, "a symbolic link")
    assert len(found.entries) == 2, "no link was followed"


@pytest.mark.parametrize("name", [b"\x1b[31m", b"\xff", b"a\nb"])
def test_names_that_are_hard_to_print_reach_no_terminal(
    board: Path, capsys: pytest.CaptureFixture[str], name: bytes
) -> None:
    from robustbench_spur.cli.verify import tell

    place = Path(os.fsdecode(os.fsencode(board / "entries" / "mine") + b"/" + name))
    entry(board).rename(place)
    found = verified(board)
    told = only(found.remarks)
    assert told.found == "an entry in this folder"
    for verdict in found.entries:
        tell(verdict)
    json.dumps(found.as_dicts(), ensure_ascii=False).encode()
    text = f"{told}{capsys.readouterr().out}".replace("\n", "")
    assert text.isprintable()


def test_an_entry_that_was_withdrawn_stays(board: Path) -> None:
    note = [{"entry": entry(board).name, "day": "2026-01-01", "reason": "a mistake"}]
    (board / "withdrawn.json").write_text(json.dumps(note))
    assert verified(board).sound
    shutil.rmtree(entry(board))
    found = only(verified(board).remarks)
    assert (found.file, found.expected) == ("withdrawn.json", "entries that are there")


def test_a_withdrawal_of_an_unknown_entry_is_quoted(board: Path) -> None:
    note = [{"entry": "\x1b[31m", "day": "2026-01-01", "reason": "a mistake"}]
    (board / "withdrawn.json").write_text(json.dumps(note))
    assert only(verified(board).remarks).found == r"entry '\x1b[31m'"


@pytest.mark.parametrize("seed", [0, 7])
def test_an_attestation_is_of_a_cell_that_is_there(board: Path, seed: int) -> None:
    note = {"split": SPLIT, "seed": seed, "kind": "weights", "day": "2026-01-01", "differences": {}}
    (board / "attested").mkdir()
    (board / "attested" / f"{entry(board).name}.json").write_text(json.dumps([note]))
    remarks = verified(board).remarks
    assert [one.found for one in remarks] == (["cells that no entry has"] if seed else [])


def test_notes_that_cannot_be_read_are_a_fault_and_no_crash(board: Path) -> None:
    (board / "withdrawn.json").write_text("[" * 100_000)
    assert "no JSON" in only(verified(board).remarks).found


# Each other


def copied(board: Path, source: Path, tmp_path: Path, team: str = "Copyists") -> Path:
    """An entry under another team's name, on the board."""
    copy = Copy(Path(shutil.copytree(source, tmp_path / team)))
    copy.entry(put("team", value=team))
    return placed(board, copy.folder)


def test_copied_predictions_are_for_a_person(board: Path, tmp_path: Path) -> None:
    copied(board, entry(board), tmp_path)
    found = verified(board)
    assert found.sound
    flags = [one for verdict in found.entries for one in verdict.of("flag")]
    assert len(flags) == 2, "a flag per seed"
    assert all("the logits of entry" in one.found for one in flags)


def test_an_entry_on_a_board_is_held_against_the_others(board: Path, tmp_path: Path, small_board: Manifest) -> None:
    own = entry(board)
    theirs = copied(board, own, tmp_path)
    other = entry(board, "erm")
    known = known_on(board, small_board, theirs)
    assert {one.entry for one in known.said} == {own.name, other.name}
    assert known.best == {}, "what was there before it is not known here"
    flags = Verifier(small_board, known).verify(theirs).of("flag")
    assert [own.name in one.found for one in flags] == [True, True]
    note = [{"entry": own.name, "day": "2026-01-01", "reason": "a test"}]
    (board / "withdrawn.json").write_text(json.dumps(note))
    assert {one.entry for one in known_on(board, small_board, theirs).said} == {other.name}


def test_a_broken_entry_stops_no_other(board: Path, small_board: Manifest) -> None:
    own, other = entry(board), entry(board, "erm")
    for record in other.rglob("seed0.json"):
        record.write_text("{}")
    assert known_on(board, small_board, own).said == ()
    for record in other.rglob("seed0.json"):
        record.unlink()
        record.symlink_to("/dev/zero")
    assert known_on(board, small_board, own).said == ()


# The generated files


def test_a_generated_file_that_differs_by_a_byte_is_found(board: Path) -> None:
    build(open_published(board))
    assert verified(board, pages=True).sound
    path = board / "board.csv"
    path.write_bytes(path.read_bytes().replace(b",", b";", 1))
    found = verified(board, pages=True)
    assert only(found.remarks).file == "board.csv"
    assert only(found.remarks).remedy == f"Run: spurbench leaderboard build {board}"
    (board / "methods" / "left.html").write_text("over")
    assert {one.file for one in verified(board, pages=True).remarks} == {"board.csv", "methods/left.html"}


def test_html_in_a_name_is_escaped_on_every_page(board: Path) -> None:
    build(open_published(board))
    pages = [path.read_text() for path in board.rglob("*.html")]
    assert len(pages) > 2
    assert any("Lab &lt;b&gt;Nought&lt;/b&gt;" in page for page in pages)
    assert not any("<b>Nought" in page for page in pages)


def test_a_board_that_cannot_be_scored_or_shown_is_a_fault_and_no_crash(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("what no check foresaw")

    monkeypatch.setattr("robustbench_spur.accepting.differing", broken)
    assert only(verified(board, pages=True).remarks).found == "ZeroDivisionError: 'what no check foresaw'"
    monkeypatch.setattr("robustbench_spur.accepting.entry_rows", broken)
    found = verify_board(board, processes=1)
    assert [one.sound for one in found.entries] == [False, False]


# Since a commit


def git(board: Path, *arguments: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(board.parent.parent), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(board: Path) -> Path:
    """The board as a commit of a repository."""
    git(board, "init", "--initial-branch", "main")
    git(board, "add", "--all")
    git(board, "commit", "--message", "first")
    return board


def test_nothing_changed_since_a_commit(committed: Path) -> None:
    assert verified(committed, "main").remarks == ()


def test_an_entry_that_was_edited_since_a_commit(committed: Path) -> None:
    copy = Copy(entry(committed))
    copy.record(put("notes", value={"more": 1}))
    found = {one.file: one.found for one in verified(committed, "main").remarks if "since" in one.found}
    assert found[f"entries/mine/{copy.folder.name}/entry.json"] == "a file that was changed since main"
    assert found[f"entries/mine/{copy.folder.name}/{RECORD}"] == "a file that was changed since main"


def test_an_entry_that_was_removed_since_a_commit(committed: Path) -> None:
    shutil.rmtree(entry(committed))
    remarks = verified(committed, "main").remarks
    assert {one.found for one in remarks} == {"a file that was removed since main"}
    assert all(one.remedy.startswith("An entry is withdrawn, never edited") for one in remarks)


def test_a_file_that_was_added_to_an_entry_since_a_commit(committed: Path) -> None:
    (entry(committed) / "more.txt").write_text("x")
    found = only(verified(committed, "main").remarks)
    assert found.found == "a file that was added since main"


def test_a_manifest_that_was_changed_since_a_commit(committed: Path) -> None:
    (committed / "board.json").write_text((committed / "board.json").read_text() + "\n")
    assert [one.file for one in verified(committed, "main").remarks] == ["board.json", "board.json"]


def test_notes_that_changed_beside_an_entry_are_for_a_person(committed: Path) -> None:
    note = {"split": SPLIT, "seed": 0, "kind": "reproduced", "day": "2026-01-01", "differences": {}}
    (committed / "attested").mkdir()
    (committed / "attested" / f"{entry(committed).name}.json").write_text(json.dumps([note]))
    found = verified(committed, "main")
    assert found.sound
    remark = only(found.remarks)
    assert (remark.level, remark.file) == ("flag", f"attested/{entry(committed).name}.json")


def test_a_new_entry_is_held_against_those_that_were_there(committed: Path, tmp_path: Path) -> None:
    """A copy is flagged and not what it was copied from, and a second copy with it."""
    source = entry(committed)
    places = [copied(committed, source, tmp_path, team) for team in ("A copy", "Another")]
    found = verified(committed, "main")
    assert found.sound
    assert found.remarks == ()
    flagged = {one.folder for one in found.entries if one.of("flag")}
    assert flagged == set(places)


def test_a_new_entry_that_is_too_good_is_for_a_person(committed: Path, tmp_path: Path) -> None:
    placed(committed, packed(tmp_path / "better", accuracy=0.99))
    found = verified(committed, "main")
    (verdict,) = (one for one in found.entries if one.remarks)
    assert "beyond the best so far" in only(verdict.remarks).expected


def test_a_withdrawn_entry_is_no_measure_of_what_is_good(committed: Path, tmp_path: Path) -> None:
    best = placed(committed, packed(tmp_path / "best", accuracy=0.97))
    (committed / "withdrawn.json").write_text(
        json.dumps([{"entry": best.name, "day": "2026-01-01", "reason": "a mistake"}])
    )
    git(committed, "add", "--all")
    git(committed, "commit", "--message", "second")
    new = placed(committed, packed(tmp_path / "better", accuracy=0.99))
    (verdict,) = (one for one in verified(committed, "main").entries if one.remarks)
    assert verdict.folder == new


@pytest.mark.parametrize("commit", ["nowhere", "--output=x", "-h", "main^9"])
def test_a_commit_that_is_not_there(committed: Path, commit: str) -> None:
    with pytest.raises(SpurbenchError, match="Expected a commit, branch or tag to compare with"):
        verified(committed, commit)


def test_a_board_in_no_repository(board: Path) -> None:
    with pytest.raises(SpurbenchError, match="Expected a commit, branch or tag to compare with"):
        verified(board, "main")
