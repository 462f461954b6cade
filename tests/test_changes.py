"""What moved between two boards, and why: one change at a time, made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.board import Board, Row
from robustbench_spur.changes import UNEXPLAINED, Change, changes, differences, matched
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import PredictionsPart, Record
from robustbench_spur.standing import Standing
from robustbench_spur.types import Estimate
from tests.records import make_identity, make_manifest, make_record

CLEAN = "phantom/clean"


def make_row(name: str = "plain", worst: float | None = 0.5, rank: int | None = 1, **changes: Any) -> Row:
    """A ranked row of two seeds; ``records`` and ``identity`` change what stands behind it."""
    about = {part: changes.pop(part) for part in ("track", "evaluators") if part in changes}
    parts = dict(changes.pop("identity", {}))
    apart = {part: parts.pop(part) for part in ("numerics", "engine") if part in parts}
    identity = make_identity(name, **parts).model_copy(update=apart)
    records = changes.pop("records", None) or [make_record(seed=seed, identity=identity, **about) for seed in (0, 1)]
    content = {"status": "ranked", "reason": "", "values": {"worst": Estimate(worst)}, "rank": rank, "rank_high": rank}
    return Row(records, **{**content, **changes})


def board(*rows: Row, **rules: Any) -> Board:
    return Board(make_manifest(**rules), list(rows))


def told(old: Row | Board, new: Row | Board) -> list[tuple[str, Any, Any, tuple[str, ...]]]:
    sides = [one if isinstance(one, Board) else board(one) for one in (old, new)]
    return [(one.kind, one.was, one.now, one.why) for one in changes(*sides)]


def edited(record: Record, **fields: Any) -> Record:
    return record.model_copy(update=fields)


# Nothing


def test_equal_boards_have_no_changes() -> None:
    assert changes(board(make_row(), make_row("other")), board(make_row(), make_row("other"))) == []
    assert changes(board(), board()) == []


def test_the_order_of_rows_is_no_change() -> None:
    rows = [make_row(name) for name in "abc"]
    assert changes(board(*rows), board(*reversed(rows))) == []


@pytest.mark.parametrize(("shift", "moved"), [(0.0, False), (1e-10, False), (-1e-10, False), (1e-8, True)])
def test_a_value_has_moved_from_a_billionth_on(shift: float, moved: bool) -> None:
    found = told(make_row(worst=0.5), make_row(worst=0.5 + shift))
    assert found == ([("value", 0.5, 0.5 + shift, (UNEXPLAINED,))] if moved else [])


def test_a_value_that_comes_or_goes_has_moved() -> None:
    assert told(make_row(worst=None), make_row(worst=0.5))[0][:3] == ("value", None, 0.5)
    assert told(make_row(worst=0.5), make_row(worst=None))[0][:3] == ("value", 0.5, None)
    assert told(make_row(worst=None), make_row(worst=None)) == []


# Rows that come and go


def test_rows_that_were_added_and_removed() -> None:
    a, b = make_row("a"), make_row("b", status="unranked", reason="1 of 2 seeds", rank=None)
    assert told(board(a), board(a, b)) == [
        ("added", None, "unranked: 1 of 2 seeds", ("records up to 2026-01-01T00:00:01",))
    ]
    assert told(board(a, b), board(b)) == [
        ("removed", "ranked, rank 1", None, ("its records are not there, or count no more",))
    ]


def test_rows_of_entries_name_their_entry() -> None:
    row = make_row(standing=Standing("e1", "us"))
    assert told(board(), board(row))[0][3] == ("new: entry e1",)
    assert told(board(row), board())[0][3] == ("entry e1 is not on the new board",)
    (change,) = changes(board(row), board(), {"e1": "wrong table, 2026-02-01", "e2": "other"})
    assert (change.kind, change.why) == ("removed", ("entry e1 was withdrawn: wrong table, 2026-02-01",))
    (change,) = changes(board(), board(row))
    assert (change.team, change.method, change.split, change.backbone) == ("us", "plain", row.split, "smallcnn")


def test_rows_are_told_split_by_split_and_the_method_with_its_settings() -> None:
    first = make_row("a")
    record = make_record("b")
    method = record.method.model_copy(update={"given": {"eta": 0.1}})
    second = make_row(records=[edited(record, method=method)])
    third = make_row("c", identity={"split": {"name": CLEAN}})
    found = changes(board(), board(first, third, second))
    assert [(one.split, one.method) for one in found] == [
        (first.split, "a"),
        (first.split, "b (eta=0.1)"),
        (CLEAN, "c"),
    ]


# What of a row moves


def test_a_rank_that_moved_because_another_row_joined_the_track() -> None:
    old = board(make_row("a", 0.5, 1), make_row("told", 0.9, 1, track="train"))
    new = board(make_row("b", 0.8, 1), make_row("a", 0.5, 2), make_row("told", 0.9, 1, track="train"))
    assert told(old, new)[1] == ("rank", "1", "2", ("b joined the track",))
    assert told(new, old)[0] == ("rank", "2", "1", ("b left the track",))


def test_a_rank_that_moved_because_another_value_did() -> None:
    old = board(make_row("a", 0.5, 1), make_row("b", 0.4, 2))
    new = board(make_row("b", 0.6, 1), make_row("a", 0.5, 2))
    found = {(one.method, one.kind): one.why for one in changes(old, new)}
    assert found == {
        ("b", "rank"): ("its value moved",),
        ("b", "value"): (UNEXPLAINED,),
        ("a", "rank"): ("b moved within the track",),
    }


def test_a_rank_can_have_moved_for_several_reasons() -> None:
    old, new = board(make_row("a", 0.5, 1)), board(make_row("b", 0.8, 1), make_row("a", 0.4, 2))
    assert told(old, new)[1] == ("rank", "1", "2", ("its value moved", "b joined the track"))


def test_rows_of_other_tracks_and_splits_move_no_rank() -> None:
    old = board(make_row("a", 0.5, 1))
    new = board(make_row("a", 0.5, 2), make_row("b", track="train"), make_row("c", identity={"split": {"name": CLEAN}}))
    assert told(old, new)[0] == ("rank", "1", "2", (UNEXPLAINED,))


def test_a_tie_is_part_of_a_rank() -> None:
    assert told(make_row(), make_row(rank=1, rank_high=2))[0][:3] == ("rank", "1", "1-2")


def test_a_status_that_changed_has_both_reasons_and_says_the_rank_with_it() -> None:
    old = make_row(status="unranked", reason="1 of 2 seeds", rank=None, records=[make_record(seed=0)])
    assert told(old, make_row()) == [("status", "unranked: 1 of 2 seeds", "ranked", ("seed 1 came",))]
    assert told(make_row(), old) == [("status", "ranked", "unranked: 1 of 2 seeds", ("seed 1 went",))]
    other = replace(old, reason="stale: engine v1; run again")
    assert told(old, other)[0][:3] == ("status", "unranked: 1 of 2 seeds", "unranked: stale: engine v1; run again")


def test_a_tier_that_changed() -> None:
    old, new = (make_row(standing=Standing("e1", "us", "", tier)) for tier in ("rescored", "reproduced"))
    assert told(old, new) == [("tier", "rescored", "reproduced", (UNEXPLAINED,))]


# Why


def why(old: Row, new: Row) -> tuple[str, ...]:
    """Reasons of a value that moved."""
    old.values, new.values = {"worst": Estimate(0.5)}, {"worst": Estimate(0.6)}
    (change,) = changes(board(old), board(new))
    assert change.kind == "value"
    return change.why


def test_records_that_were_run_again() -> None:
    later = [make_record(seed=seed, finished=f"2026-02-0{seed + 1}T00:00:00.000+00:00") for seed in (0, 1)]
    assert why(make_row(), make_row(records=later)) == ("another record of seeds 0, 1, finished 2026-02-02T00:00:00",)
    assert why(make_row(), make_row(records=[make_record(seed=0), later[1]])) == (
        "another record of seed 1, finished 2026-02-02T00:00:00",
    )
    others = [edited(make_record(seed=0), predictions=PredictionsPart(file="x.npz", sha256="1"))]
    assert why(make_row(records=[make_record(seed=0)]), make_row(records=others))[0].startswith(
        "another record of seed 0"
    )


def test_another_entry_of_the_same_team() -> None:
    found = why(make_row(standing=Standing("e1", "us")), make_row(standing=Standing("e2", "us")))
    assert found == ("entry: e1 to e2",)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ({"method": {"version": 2}}, "method: v1 to v2"),
        ({"split": {"version": 2}}, "split: v1 to v2"),
        ({"split": {"sha256": "f" * 64}}, f"table of the split: 0123456789ab to {'f' * 12}"),
        ({"training": {"epochs": 9}}, "epochs: 2 to 9"),
        ({"network": {"weights_sha256": "a"}}, "weights_sha256: None to a"),
        ({"numerics": {"device": "cuda"}}, "device: none to cuda"),
        ({"engine": 99}, "engine: v"),
    ],
)
def test_other_versions_and_settings_of_the_run(identity: dict[str, Any], reason: str) -> None:
    found = why(make_row(), make_row(identity=identity))
    assert found[0].startswith(reason)
    assert found[1].startswith("another record of seeds 0, 1"), "a cell of another identity is another cell"


def test_the_tables_of_two_folds_are_not_compared() -> None:
    folds = [{"name": f"{CLEAN}+join.{fold}", "family": CLEAN, "sha256": str(fold) * 64} for fold in (0, 1)]
    old, new = (make_row(identity={"split": fold}) for fold in folds)
    assert not any(reason.startswith("table") for reason in why(old, new))


def test_other_versions_of_evaluators_and_another_file_of_the_method() -> None:
    evaluators = {"worst_group": {"version": 7, "parameters": {}}}
    found = why(make_row(), make_row(evaluators=evaluators))
    assert found == ("evaluator worst_group: v1 to v7", "evaluator ece: v1 to none")
    record = make_record()
    other = edited(record, method=record.method.model_copy(update={"sha256": "1"}))
    assert why(make_row(records=[record]), make_row(records=[other])) == ("the method's file was changed",)


def test_other_rules() -> None:
    rules = {"bootstrap": {"replicates": 300, "seed": 7, "confidence": 0.95}, "alpha": 0.1}
    found = changes(board(make_row(worst=0.5)), board(make_row(worst=0.6), **rules))
    assert [one.kind for one in found] == ["rules", "value"]
    assert found[0].why == ("bootstrap.replicates", "alpha")
    assert (found[0].was, found[0].now, found[0].split, found[0].method) == ("t1 (draft)", "t1 (draft)", "", "")
    assert found[1].why == ("the board's rules: bootstrap.replicates, alpha",)


def test_differences_of_rules_name_what_came_and_went() -> None:
    old = make_manifest()
    content = old.model_dump(mode="json")
    content["columns"] = [c for c in content["columns"] if c["name"] != "ece"]
    content["columns"][0]["title"] = "least right"
    content["splits"].append({"name": CLEAN, "version": 1, "sha256": None})
    content["seeds"] = [0, 1, 2]
    new = Manifest.model_validate(content)
    assert differences(old, new) == ["seeds", f"splits.{CLEAN} came", "columns.worst (title)", "columns.ece went"]
    assert differences(old, old) == []


def test_many_other_rules_are_counted_where_a_row_names_them() -> None:
    parameters = [{"name": f"e{number}", "version": 1, "parameters": {}} for number in range(9)]
    new = board(make_row(worst=0.6), evaluators=[*make_manifest().model_dump()["evaluators"], *parameters])
    found = changes(board(make_row(worst=0.5)), new)
    assert len(found[0].why) == 9
    assert found[1].why[0].endswith("evaluators.e5 came and 3 more")


def test_a_value_that_ranks_on_one_board_alone_came() -> None:
    new = board(make_row(), rank_by="micro")
    new.rows[0].values["micro"] = Estimate(0.9)
    assert told(board(make_row()), new)[1] == ("value", None, 0.9, ("the board's rules: rank_by",))


# Which row is which


def pairs(old: list[Row], new: list[Row]) -> list[tuple[int | None, int | None]]:
    """Places of the rows of each pair."""
    places = [{id(row): place for place, row in enumerate(rows)} for rows in (old, new)]
    found = matched(old, new)
    return [tuple(None if row is None else places[k][id(row)] for k, row in enumerate(pair[1:])) for pair in found]  # type: ignore[misc]


def test_teams_keep_their_rows_apart() -> None:
    us, them = (make_row(standing=Standing(f"e{team}", team)) for team in ("us", "them"))
    later = make_row(standing=Standing("e9", "them"))
    assert pairs([us, them], [later, us]) == [(1, 0), (0, 1)]
    assert pairs([us], [them]) == [(None, 0), (0, None)]


def test_a_row_of_a_home_is_that_of_any_team() -> None:
    us, home = make_row(standing=Standing("e1", "us")), make_row()
    assert pairs([us], [home]) == pairs([home], [us]) == [(0, 0)]
    assert pairs([us, home], [home]) == [(1, 0), (0, None)]


def test_two_rows_of_one_name_are_paired_by_their_configuration_first() -> None:
    first, second = make_row(), make_row(identity={"training": {"epochs": 9}})
    assert pairs([first, second], [second, first]) == [(1, 0), (0, 1)]
    assert pairs([first, second], [second]) == [(1, 0), (0, None)]


def test_entries_of_one_team_and_configuration_are_paired_by_their_entry() -> None:
    rows = [make_row(standing=Standing(f"e{number}", "us")) for number in range(3)]
    assert pairs(rows, [rows[2], rows[0], rows[1]]) == [(2, 0), (0, 1), (1, 2)]


def test_another_split_network_or_selection_is_another_row() -> None:
    for identity in ({"split": {"name": CLEAN}}, {"network": {"backbone": "resnet18"}}, {"selection": "best"}):
        assert pairs([make_row()], [make_row(identity=identity)]) == [(None, 0), (0, None)]


ANY = st.builds(
    lambda name, team, entry, epochs, worst, rank: make_row(
        name, worst, rank, standing=Standing(entry, team), identity={"training": {"epochs": epochs}}
    ),
    st.sampled_from("ab"),
    st.sampled_from(["", "us", "them"]),
    st.sampled_from(["", "e1", "e2"]),
    st.sampled_from([2, 3]),
    st.sampled_from([None, 0.25, 0.5]),
    st.sampled_from([None, 1, 2]),
)


@settings(deadline=None)
@given(st.lists(ANY, max_size=5), st.lists(ANY, max_size=5))
def test_every_row_is_in_one_pair_and_changes_are_json(old: list[Row], new: list[Row]) -> None:
    found = matched(old, new)
    for side, rows in ((1, old), (2, new)):
        assert sorted(id(pair[side]) for pair in found if pair[side] is not None) == sorted(map(id, rows))
    moved = changes(board(*old), board(*new))
    assert all(one.why for one in moved)
    assert [
        Change(**{**one, "why": tuple(one["why"])}) for one in json.loads(json.dumps([m.as_dict() for m in moved]))
    ] == moved
    came, went = (sum(one.kind == kind for one in moved) for kind in ("added", "removed"))
    assert len(new) - len(old) == came - went
    assert changes(board(*new), board(*new)) == []
