"""What of a board is shown: columns by name or title, rows by filters, rows in order whatever order they came in."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.arranging import FIXED, columns_of, filtered, find_column, sort_rows
from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import load_manifest
from robustbench_spur.standing import Standing
from robustbench_spur.types import Estimate, SpurbenchError
from tests.records import make_identity, make_manifest, make_record

LOWER = [c.model_dump() | ({"better": "lower"} if c.name == "ece" else {}) for c in make_manifest().columns]
MANIFEST = make_manifest(columns=LOWER)
VALUES = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1), st.just(float("nan")))


def make_row(name: str = "m", value: float | None = None, split: str = "phantom/field@0.95", **changes: Any) -> Row:
    """A row whose worst group and calibration error are one value."""
    backbone, track = changes.pop("backbone", "smallcnn"), changes.pop("track", "none")
    identity = make_identity(name, split={"name": split}, network={"backbone": backbone})
    one = Estimate(value, reason="" if value is not None else "no patients")
    content = {"status": "ranked", "reason": "", "values": {"worst": one, "ece": one}, **changes}
    return Row([make_record(identity=identity, track=track)], **content)


def names(board: Board) -> list[str]:
    return [row.first.method.name for row in board.rows]


# Columns


def test_without_names_the_columns_are_those_that_the_manifest_shows() -> None:
    found = [one.name for one in columns_of(MANIFEST)]
    assert found == [
        "rank",
        "track",
        "method",
        "worst",
        "which",
        "micro",
        "valid",
        "ece",
        "difference",
        "seeds",
        "remark",
    ]


def test_all_columns_are_the_manifests_and_the_fixed_ones_each_once() -> None:
    found = [one.name for one in columns_of(MANIFEST, ["method", "all"])]
    assert sorted(found) == sorted([*FIXED, *(column.name for column in MANIFEST.columns)])


@pytest.mark.parametrize(
    ("given_names", "found"),
    [
        (["ece", "method"], ["ece", "method"]),
        (["ECE", "worst group", "group"], ["ece", "worst", "which"]),
        (["groups", "least"], ["groups", "least"]),
        (["ece", "ECE", "ece"], ["ece"]),
        (["team", "entry", "tier"], ["team", "entry", "tier"]),
    ],
)
def test_columns_are_found_by_name_and_by_title_in_the_order_given(given_names: list[str], found: list[str]) -> None:
    assert [one.name for one in columns_of(MANIFEST, given_names)] == found


def test_a_name_goes_before_a_title() -> None:
    """On the real board one column has the title ``group`` and another the name ``worst_group``."""
    board = load_manifest()
    assert find_column(board, "worst_group").title == "group"
    assert find_column(board, "worst group").name == "worst_group_accuracy"


@pytest.mark.parametrize(("name", "hint"), [("metod", "method"), ("wrost", "worst"), ("worst grup", "worst group")])
def test_an_unknown_column_is_answered_by_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(SpurbenchError, match=f"Board t1 has no column '{name}'. Did you mean '{hint}'.*Known: rank, "):
        columns_of(MANIFEST, ["method", name])


# Filters


ROWS = [
    make_row("a", track="none"),
    make_row("b", track="train", backbone="resnet18"),
    make_row("c", track="train", status="failed"),
    make_row("d", track="none", status="unranked", standing=Standing(team="us")),
]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, "abcd"),
        ({"tracks": ["train"]}, "bc"),
        ({"tracks": ["selection"]}, ""),
        ({"backbones": ["resnet18"]}, "b"),
        ({"statuses": ["failed", "unranked"]}, "cd"),
        ({"statuses": ["provisional"]}, ""),
        ({"teams": ["us"]}, "d"),
        ({"tracks": ["train"], "statuses": ["ranked"]}, "b"),
    ],
)
def test_filters(options: dict[str, list[str]], left: str) -> None:
    board = filtered(Board(MANIFEST, ROWS), **options)
    assert "".join(names(board)) == left
    assert board.rows == [row for row in ROWS if row in board.rows]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracks": ["trian"]}, "the track 'trian'. Did you mean 'train'"),
        ({"backbones": ["resnet81"]}, "the backbone 'resnet81'. Did you mean 'resnet18'"),
        ({"statuses": ["fail"]}, "the status 'fail'. Did you mean 'failed'"),
        ({"teams": ["them"]}, "No row of board t1 has the team 'them'. Known: us."),
    ],
)
def test_a_filter_that_nothing_can_have_is_refused(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(SpurbenchError) as refused:
        filtered(Board(MANIFEST, ROWS), **options)
    assert message in str(refused.value)


# Order


def defined(row: Row) -> float | None:
    value = row.values["worst"].value
    return None if value is None or math.isnan(value) else float(value)


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, st.sampled_from(["phantom/field@0.95", "phantom/clean"]))), st.booleans())
def test_sorting_keeps_the_rows_and_their_tables_and_puts_the_undefined_last(
    drawn: list[tuple[float | None, str]], reverse: bool
) -> None:
    rows = [make_row(f"m{number:03}", value, split) for number, (value, split) in enumerate(drawn)]
    board = Board(MANIFEST, rows)
    after = sort_rows(board, "worst", reverse=reverse)
    assert sorted(names(after)) == names(board), "a permutation"
    assert list(after.tables) == list(board.tables)
    assert [row.table for row in after.rows] == sorted((row.table for row in rows), key=list(board.tables).index)
    for own in after.tables.values():
        found = [(defined(row), row.first.method.name) for row in own]
        there = [pair for pair in found if pair[0] is not None]
        assert found[: len(there)] == there
        by_hand = sorted(there, key=lambda pair: (pair[0] if reverse else -(pair[0] or 0.0), pair[1]))
        assert there == by_hand
        missing = [name for value, name in found if value is None]
        assert missing == sorted(missing), "in the order in which they came"
    assert names(sort_rows(after, "worst", reverse=reverse)) == names(after)


@pytest.mark.parametrize(
    ("column", "reverse", "order"),
    [
        ("worst", False, "cab"),
        ("worst", True, "bac"),
        ("worst group", False, "cab"),
        ("ece", False, "bac"),
        ("ECE", True, "cab"),
        ("difference", False, "bca"),
        ("rank", False, "acb"),
        ("rank", True, "bca"),
        ("method", True, "cba"),
        ("track", False, "bac"),
        ("team", False, "bac"),
        ("seeds", False, "abc"),
        ("remark", False, "cab"),
        ("which", False, "bac"),
        ("least", True, "cba"),
    ],
)
def test_the_best_comes_first_in_every_column(column: str, reverse: bool, order: str) -> None:
    rows = [
        make_row("a", 0.5, track="selection", rank=1, rank_high=1),
        make_row("b", 0.25, track="none", rank=2, rank_high=3, standing=Standing(team="us")),
        make_row("c", 0.75, track="train", rank=2, rank_high=2),
    ]
    rows[1].difference, rows[2].difference = Estimate(0.2), Estimate(-0.2)
    rows[2].status, rows[2].reason = "provisional", "1 of 2 seeds"
    for row, which, least in zip(rows, ("yes@b", "no@a", None), (3, 5, "8"), strict=True):
        row.values |= {"which": which, "least": least}
    assert "".join(names(sort_rows(Board(MANIFEST, rows), column, reverse=reverse))) == order


def test_a_family_has_no_order() -> None:
    with pytest.raises(SpurbenchError, match="Expected a column with one value per row to sort by, found 'groups'"):
        sort_rows(Board(MANIFEST, ROWS), "groups")
