"""Boards as they are published: tiers, what is blank, who is gone, and what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.manifest import Manifest
from robustbench_spur.published import ATTESTED, WITHDRAWN, entry_folders, open_published, read_withdrawn
from robustbench_spur.record import Record
from robustbench_spur.submission.entry import load_entry
from robustbench_spur.types import Estimate, SpurbenchError
from tests.submission.faults import ARRAYS, RECORD, put
from tests.submission.makers import SOURCE, SPLIT, TEAM, Copy, board_of, packed, placed


@pytest.fixture
def board(template: Path, tmp_path: Path) -> Path:
    """A board with one entry."""
    return board_of(tmp_path, template)


def id_of(board: Path) -> str:
    (place,) = entry_folders(board)
    return place.name


def attest(board: Path, *cells: tuple[int, str]) -> None:
    """Notes that seeds were computed again."""
    about = {"split": SPLIT, "day": "2026-01-01", "differences": {}}
    notes = [{**about, "seed": seed, "kind": kind} for seed, kind in cells]
    (board / ATTESTED).mkdir(exist_ok=True)
    (board / ATTESTED / f"{id_of(board)}.json").write_text(json.dumps(notes))


def withdraw(board: Path, *names: str) -> None:
    notes = [{"entry": name, "day": "2026-01-01", "reason": "a mistake"} for name in names]
    (board / WITHDRAWN).write_text(json.dumps(notes))


def only_row(board: Path) -> Any:
    (row,) = open_published(board).board().rows
    return row


def test_a_row_says_whose_it_is_and_that_it_was_rescored(board: Path) -> None:
    row = only_row(board)
    assert (row.status, row.rank, row.seeds) == ("ranked", 1, [0, 1])
    standing = row.standing
    assert (standing.team, standing.source, standing.tier, standing.entry) == (TEAM, SOURCE, "rescored", id_of(board))
    worst = row.values["worst_group_accuracy"]
    assert isinstance(worst, Estimate)
    assert worst.low is not None


def test_the_value_of_a_row_is_the_mean_over_seeds_of_what_its_records_state(board: Path, template: Path) -> None:
    stated = []
    for seed in (0, 1):
        record = json.loads((template / RECORD.replace("seed0", f"seed{seed}")).read_text())
        stated.append(record["metrics"]["test"]["worst_group"]["worst_group_accuracy"]["value"])
    assert only_row(board).values["worst_group_accuracy"].value == pytest.approx(sum(stated) / 2)


def test_what_predictions_cannot_tell_is_blank_until_it_is_attested(board: Path) -> None:
    column = "pgd_worst_group_accuracy"
    assert only_row(board).values[column].value is None
    assert "weights" in only_row(board).values[column].reason
    attest(board, (0, "weights"))
    assert only_row(board).values[column].value is None, "one seed of two"
    attest(board, (0, "weights"), (1, "reproduced"))
    row = only_row(board)
    assert row.values[column].value is not None
    assert row.standing.tier == "reproduced"


def test_weights_make_no_reproduction_and_take_none_away(board: Path) -> None:
    attest(board, (0, "weights"), (1, "weights"))
    assert only_row(board).standing.tier == "rescored"
    attest(board, (0, "reproduced"), (0, "weights"), (1, "weights"))
    assert only_row(board).standing.tier == "reproduced"


def test_numbers_without_predictions_are_claimed_and_never_ranked(copy: Copy, template: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        copy.path(ARRAYS.replace("seed0", f"seed{seed}")).unlink()
        copy.listing(lambda cell: cell.update(predictions=None), seed)
    copy.record(put("predictions", value=None), (0, 1))
    copy.entry(put("team", value="Claimants"))
    board = board_of(tmp_path, template, copy.folder)
    rows = {row.standing.team: row for row in open_published(board).board().rows}
    claimed, measured = rows["Claimants"], rows[TEAM]
    assert (claimed.standing.tier, claimed.status, claimed.rank) == ("claimed", "unranked", None)
    assert (measured.standing.tier, measured.rank, measured.rank_high) == ("rescored", 1, 1)
    value = claimed.values["worst_group_accuracy"]
    assert value.value == pytest.approx(measured.values["worst_group_accuracy"].value)
    assert (value.low, value.high) == (None, None)


def test_one_seed_without_predictions_makes_the_row_a_claim(copy: Copy, tmp_path: Path) -> None:
    copy.path(ARRAYS).unlink()
    copy.listing(lambda cell: cell.update(predictions=None))
    copy.record(put("predictions", value=None))
    row = only_row(board_of(tmp_path, copy.folder))
    assert (row.standing.tier, row.rank) == ("claimed", None)


def test_a_withdrawn_entry_is_gone_and_stays_where_it_is(board: Path) -> None:
    name = id_of(board)
    withdraw(board, name)
    published = open_published(board)
    assert (published.entries, list(published.withdrawn)) == ((), [name])
    assert published.board().rows == []
    assert len(list(entry_folders(board))) == 1


def test_two_entries_of_one_configuration_are_two_rows(template: Path, tmp_path: Path) -> None:
    other = Copy(Path(shutil.copytree(template, tmp_path / "other")))
    other.entry(put("team", value="Others"))
    board = board_of(tmp_path, template, other.folder)
    rows = open_published(board).board().rows
    assert {row.standing.team for row in rows} == {TEAM, "Others"}
    assert {(row.rank, row.rank_high) for row in rows} == {(1, 2)}, "equal predictions are tied"


def test_records_and_arrays_are_read_from_the_entry(board: Path) -> None:
    (one,) = open_published(board).entries
    records: list[Record] = one.records
    assert [record.seed for record in records] == [0, 1]
    assert one.arrays(records[0])["test/logits"].shape == (32, 2)
    (one.folder / ARRAYS).write_bytes(b"")
    with pytest.raises(SpurbenchError, match="a damaged archive"):
        one.arrays(records[0])


def test_links_and_hidden_folders_are_no_entries(board: Path, tmp_path: Path) -> None:
    (board / "entries" / ".hidden").mkdir()
    (board / "entries" / "link").symlink_to(board / "entries" / "mine")
    (board / "entries" / "mine" / "link").symlink_to(tmp_path)
    assert len(list(entry_folders(board))) == 1


# What cannot be read


def test_a_folder_without_a_board(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"Expected a board's folder with board.json at .*, found none\."):
        open_published(tmp_path)


def test_a_board_without_entries_is_empty(tmp_path: Path, small_board: Manifest) -> None:
    published = open_published(board_of(tmp_path))
    assert (published.entries, published.manifest) == ((), small_board)


def test_an_entry_that_cannot_be_read_is_named(board: Path) -> None:
    (place,) = entry_folders(board)
    (place / "entry.json").write_text("{")
    with pytest.raises(SpurbenchError, match=rf"entries/mine/{place.name}: entry.json: expected a JSON object"):
        open_published(board)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "found no JSON"),
        ("[" * 100_000, "found no JSON"),
        ("{}", "Input should be a valid list"),
        ('[{"entry": "a", "day": "soon", "reason": "b"}]', "found in 0.day"),
        ('[{"entry": "a", "day": "2026-01-01", "reason": ""}]', "found in 0.reason"),
        ('[{"entry": "a", "day": "2026-01-01"}]', "found in 0.reason: Field required"),
    ],
)
def test_notes_that_are_none_are_refused(board: Path, text: str, found: str) -> None:
    (board / WITHDRAWN).write_text(text)
    with pytest.raises(SpurbenchError) as error:
        open_published(board)
    assert found in str(error.value)
    assert str(board / WITHDRAWN) in str(error.value)


def test_an_entry_is_withdrawn_once(board: Path) -> None:
    withdraw(board, "a", "a")
    with pytest.raises(SpurbenchError, match="Expected every entry once"):
        read_withdrawn(board)


def test_the_id_is_of_the_team_and_of_all_that_is_stated(template: Path, copy: Copy) -> None:
    first = load_entry(template).id
    assert first.startswith("lab-b-nought-b-")
    copy.entry(put("contact", value="other@example.org"))
    assert load_entry(copy.folder).id != first
    copy.entry(put("contact", value="mine@example.org"))
    assert load_entry(copy.folder).id == first
    copy.entry(put("team", value="\N{SNOWMAN}"))
    assert load_entry(copy.folder).id.startswith("team-")


def test_the_entry_of_a_second_method_lies_in_a_folder_of_its_own(board: Path, tmp_path: Path) -> None:
    placed(board, packed(tmp_path / "second", "erm"))
    assert [place.parent.name for place in entry_folders(board)] == ["erm", "mine"]
    assert {row.first.method.name for row in open_published(board).board().rows} == {"erm", "mine"}
