"""The board as text: it fits a terminal, hides nothing, and says what its words mean."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from robustbench_spur.board import Board, Row
from robustbench_spur.manifest import load_manifest
from robustbench_spur.tables import (
    TRACK_WORDS,
    cells,
    headings,
    markdown,
    percent,
    print_board,
    rank_text,
    remark,
    two_lines,
)
from robustbench_spur.types import Estimate
from tests.records import SPLIT, make_identity, make_manifest, make_record

FULL = Estimate(1.0, 0.981, 1.0)


def make_row(method: str = "plain", *, track: str = "none", given: dict[str, Any] | None = None, **changes: Any) -> Row:
    record = make_record(method, track=track)
    record = record.model_copy(update={"method": record.method.model_copy(update={"given": given or {}})})
    values = {column.name: FULL for column in load_manifest().columns if column.metric}
    content: dict[str, Any] = {
        "status": "ranked",
        "reason": "",
        "values": {**values, "worst_group": "tumour@1.5T", "group_accuracies": {}, "pgd_radius": 0.0039},
        "rank": 1,
        "rank_high": 2,
        "difference": Estimate(-0.52, -0.611, -0.43),
    }
    return Row([record], **{**content, **changes})


def empty_row(method: str, status: str, reason: str) -> Row:
    record = make_record(method, status="failed" if status == "failed" else "not_applicable", reason=reason)
    return Row([record], status, reason)


def printed(*rows: Row, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    print_board(Board(load_manifest(), list(rows)), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Numbers


@pytest.mark.parametrize(
    ("estimate", "one_line", "in_two"),
    [
        (Estimate(0.615, 0.55, 0.679), "61.5 [55.0, 67.9]", "61.5\n55..68"),
        (Estimate(0.615, reason="no interval"), "61.5", "61.5"),
        (Estimate(-0.1, -0.2, 0.0), "-10.0 [-20.0, 0.0]", "-10.0\n-20..0"),
        (Estimate(0.0, 0.0, 0.0), "0.0 [0.0, 0.0]", "0.0\n0..0"),
        (Estimate(None, reason="no patients"), "-", "-"),
        (None, "-", "-"),
    ],
)
def test_numbers_in_per_cent(estimate: Estimate | None, one_line: str, in_two: str) -> None:
    assert percent(estimate) == one_line
    assert two_lines(estimate) == in_two


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_printed_number_is_within_its_rounding(value: float, low: float, high: float) -> None:
    numbers = [float(text) for text in re.findall(r"[\d.]+", percent(Estimate(value, low, high)))]
    assert numbers == pytest.approx([100 * value, 100 * low, 100 * high], abs=0.0501)


@pytest.mark.parametrize(("first", "last", "text"), [(1, 1, "1"), (1, 3, "1-3"), (None, None, "-")])
def test_ranks(first: int | None, last: int | None, text: str) -> None:
    assert rank_text(make_row(rank=first, rank_high=last)) == text


def test_remarks_are_those_of_rows_that_are_not_plainly_ranked() -> None:
    assert remark(make_row()) == ""
    assert remark(make_row(status="provisional", reason="1 of 3 seeds")) == "provisional: 1 of 3 seeds"
    assert remark(empty_row("m", "not_applicable", "group a@b has no patients")) == (
        "not applicable: group a@b has no patients"
    )
    assert remark(make_row(status="unranked")) == "unranked"


# The terminal


@pytest.mark.parametrize("width", [120, 80, 76, 40])
def test_no_line_is_longer_than_80_columns_and_no_number_is_cut_whatever_the_width(width: int) -> None:
    rows = [
        make_row("groupdro", track="train", given={"eta": 0.01, "adjustment": 2.5}),
        make_row("a_method_with_a_rather_long_name", track="targeted", rank=11, rank_high=12),
        make_row("plain", values={}),
    ]
    text = printed(*rows, width=width)
    assert max(map(cell_len, text.splitlines())) <= max(width, 80)
    for number in ("100.0", "98..100", "-52.0", "-61..-43", "11-12"):
        assert re.search(rf"(^|\s){re.escape(number)}(\s|$)", text, re.MULTILINE), number
    assert "targeted" in text


def test_a_table_names_its_split_network_board_and_tracks() -> None:
    text = printed(make_row(), make_row("seeing", track="train"), width=200)
    assert f"{SPLIT}, smallcnn, 64 pixels, board v1 (frozen)" in text
    assert f"Tracks: none ({TRACK_WORDS['none']}); train ({TRACK_WORDS['train']})." in text
    assert "95 % interval over patients" in text
    for column in load_manifest().columns:
        assert all(word in text for word in column.title.split()) == column.shown or not column.shown


def test_every_track_of_the_board_has_words() -> None:
    assert TRACK_WORDS.keys() == set(load_manifest().tracks)


def test_remarks_stand_below_and_name_every_row_that_they_are_about() -> None:
    rows = [
        make_row(),
        make_row("late", status="unranked", reason="1 of 3 seeds", rank=None, rank_high=None),
        make_row("later", status="unranked", reason="1 of 3 seeds", rank=None, rank_high=None),
        empty_row("broken", "failed", "RuntimeError: [red]out of memory[/red]"),
    ]
    lines = printed(*rows, width=200).splitlines()
    assert "late, later: unranked: 1 of 3 seeds" in lines
    assert "broken: failed: RuntimeError: [red]out of memory[/red]" in lines
    assert not any(line.lstrip().startswith("-  broken") for line in lines)


def test_a_split_that_nothing_ran_on_is_its_title_and_the_reasons() -> None:
    lines = printed(empty_row("m", "not_applicable", "group a@b has no patients"), width=120).splitlines()
    assert lines[0].startswith(SPLIT)
    assert lines[1] == "m: not applicable: group a@b has no patients"


def test_an_empty_board_says_what_to_run() -> None:
    split = load_manifest().splits[0].name
    assert printed() == f"No results yet. Run: spurbench run --method all --split {split}\n"


def test_tables_of_several_splits_follow_each_other() -> None:
    other = make_row()
    clean = make_identity(split={"name": "phantom/clean"})
    other.records = [make_record(identity=clean)]
    text = printed(make_row(), other)
    assert text.index(SPLIT) < text.index("phantom/clean")


# Markdown


def test_markdown_has_a_cell_for_every_heading() -> None:
    board = Board(load_manifest(), [make_row(), empty_row("broken", "failed", "a | b\nc")])
    lines = markdown(board).splitlines()
    assert lines[:2] == [f"### {SPLIT}, smallcnn, 64 pixels", ""]
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines[2:]}
    assert widths == {len(headings(board)) + 2}
    assert lines[4].startswith("| 1-2 | none | plain | 100.0 [98.1, 100.0] | tumour@1.5T | ")
    assert lines[5].endswith(r"| - | - | failed: a \| b c |")
    assert len(lines) == 6


def test_markdown_shows_the_same_numbers_as_the_row() -> None:
    board = Board(load_manifest(), [make_row(given={"eta": 0.1})])
    found = dict(zip(headings(board), cells(board.rows[0], board), strict=True))
    assert found["method"] == "plain (eta=0.1)"
    assert found["from erm"] == "-52.0 [-61.1, -43.0]"
    assert found["seeds"] == "0"
    assert markdown(Board(make_manifest(), [])) == "\n"
