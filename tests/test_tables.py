"""The board as text: it fits a terminal, hides nothing, and says what its words mean."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from robustbench_spur.arranging import columns_of
from robustbench_spur.board import Board, Row
from robustbench_spur.cellwords import cell_text, gaps, percent, plain, rank_text, remark, two_lines
from robustbench_spur.manifest import Manifest, load_manifest
from robustbench_spur.standing import Standing
from robustbench_spur.tablecsv import csv_text
from robustbench_spur.tablelatex import escaped, latex
from robustbench_spur.tables import TRACK_WORDS, markdown, print_board
from robustbench_spur.types import Estimate
from tests.records import SPLIT, make_identity, make_manifest, make_record

FULL = Estimate(1.0, 0.981, 1.0)
HOSTILE = "=cmd|' /C calc'!A0 \x1b[31m\n\\end{tabular} a_b & 5 % $x$ {y} ~ ^ # <b>[a](b)"
"""A name that would be a formula, a colour, the end of a table and a link."""


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


def small_board(*rows: Row, **changes: Any) -> Board:
    """Rows on the small board of the tests, whose columns have other names than the real one's."""
    return Board(make_manifest(**changes), list(rows))


def small_row(method: str, worst: float | None, rank: int | None = 1, **changes: Any) -> Row:
    """A row of two seeds on the small board."""
    value = Estimate(worst, worst, 1.0) if worst is not None else Estimate(None, reason="no patients")
    micro = Estimate(0.5, reason="one patient")
    groups = {"no@a": {"value": worst, "low": 0.0, "high": 1.0}, "yes@b": Estimate(None, reason="empty").as_dict()}
    values = {"worst": value, "which": "no@a", "groups": groups, "micro": micro, "valid": FULL, "ece": FULL, "least": 5}
    track = changes.pop("track", "none")
    content = {"status": "ranked", "reason": "", "values": values, "rank": rank, "rank_high": rank, **changes}
    return Row([make_record(method, seed, track=track) for seed in (0, 1)], **content)


def printed(*rows: Row, width: int = 80, columns: tuple[str, ...] = (), board: Board | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    board = board or Board(load_manifest(), list(rows))
    print_board(board, console, columns_of(board.manifest, columns) if columns else ())
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
    assert "broken: failed: RuntimeError: [red]out of memory[/red] (0 of 3 seeds)" in lines
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


def titles(manifest: Manifest) -> list[str]:
    return [one.title for one in columns_of(manifest)]


def test_markdown_has_a_cell_for_every_heading() -> None:
    board = Board(load_manifest(), [make_row(), empty_row("broken", "failed", "a | b\nc")])
    lines = markdown(board).splitlines()
    assert lines[:2] == [f"### {SPLIT}, smallcnn, 64 pixels", ""]
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in lines[2:]}
    assert widths == {len(titles(board.manifest)) + 2}
    assert lines[4].startswith("| 1-2 | none | plain | 100.0 [98.1, 100.0] | tumour@1.5T | ")
    assert lines[5].endswith(r"| - | - | failed: a \| b c (0 of 3 seeds) |")
    assert len(lines) == 6


def test_markdown_shows_the_same_numbers_as_the_row() -> None:
    board = Board(load_manifest(), [make_row(given={"eta": 0.1})])
    found = {one.name: cell_text(board.rows[0], one, board.manifest) for one in columns_of(board.manifest)}
    assert found["method"] == "plain (eta=0.1)"
    assert found["difference"] == "-52.0 [-61.1, -43.0]"
    assert found["seeds"] == "0"
    assert titles(board.manifest)[-3:] == ["from erm", "seeds", "remark"]
    assert markdown(Board(make_manifest(), [])) == "\n"


def test_markdown_of_some_columns_says_below_why_cells_are_missing() -> None:
    board = small_board(small_row("late", None), small_row("other", 0.5))
    lines = markdown(board, columns_of(board.manifest, ["method", "worst", "team"])).splitlines()
    assert lines[2:] == [
        "| method | worst group | team |",
        "|---|---|---|",
        "| late | - | - |",
        "| other | 50.0 [50.0, 100.0] | - |",
        "",
        "- late: no worst group: no patients",
    ]


def test_markdown_of_a_hostile_name_is_text() -> None:
    text = markdown(small_board(small_row(HOSTILE, 0.5)))
    row = next(line for line in text.splitlines() if "cmd" in line)
    assert r"\<b\>\[a\](b)" in row
    assert r"\\end{tabular}" in row
    assert "\x1b" not in text


# Why a cell is not there


def test_every_dash_of_a_measured_row_has_its_reason() -> None:
    row, manifest = small_row("late", None), make_manifest()
    assert gaps(row, columns_of(manifest), manifest) == [
        "no worst group: no patients",
        "no interval of avg.: one patient",
        "no difference from plain: no baseline with the same seeds",
    ]
    row.values = {}
    assert set(gaps(row, columns_of(manifest, ["worst", "which", "groups", "least", "rank"]), manifest)) == {
        "no worst group: not measured",
        "no group: not measured, or undefined for a group",
        "no groups: not measured, or undefined for a group",
        "no least: not measured, or undefined for a group",
    }
    assert gaps(small_row("plain", 0.5, values=row.values), columns_of(manifest, ["difference"]), manifest) == []


def test_rows_that_were_not_measured_have_their_remark_instead() -> None:
    row, manifest = empty_row("m", "failed", "RuntimeError: x"), make_manifest()
    assert gaps(row, columns_of(manifest), manifest) == []
    assert remark(row, manifest.seeds) == "failed: RuntimeError: x (0 of 2 seeds)"
    assert remark(empty_row("m", "not_applicable", "y"), manifest.seeds) == "not applicable: y"


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        ("unranked", "1 of 3 seeds (seed 1 failed)", "unranked: 1 of 3 seeds (seed 1 failed)"),
        ("unranked", "stale: engine v1", "unranked: stale: engine v1 (1 of 3 seeds)"),
        ("provisional", "", "provisional (1 of 3 seeds)"),
        ("ranked", "", ""),
    ],
)
def test_a_row_that_is_not_whole_says_how_many_of_the_seeds_it_has(status: str, reason: str, text: str) -> None:
    assert remark(make_row(status=status, reason=reason), (0, 1, 2)) == text


def test_the_terminal_says_below_why_numbers_are_missing() -> None:
    lines = printed(board=small_board(small_row("late", None), small_row("later", None)), width=200).splitlines()
    assert "late, later: no worst group: no patients" in lines
    assert "late, later: no difference from plain: no baseline with the same seeds" in lines


# Columns


def test_the_terminal_shows_the_columns_that_were_asked_for() -> None:
    row = small_row("late", 0.25, status="unranked", reason="stale", rank=None, rank_high=None)
    row.standing = Standing("e7", "the team", "", "reproduced")
    failed = empty_row("broken", "failed", "RuntimeError: x")
    board = small_board(row, failed)
    text = printed(board=board, width=200, columns=("method", "groups", "least", "tier", "team", "entry", "remark"))
    assert text.splitlines()[1].split() == "method groups least tier team entry remark".split()  # noqa: SIM905
    for word in (
        "no@a 25.0 [0.0, 100.0]",
        "yes@b -",
        " 5 ",
        "reproduced",
        "the team",
        "e7",
        "unranked: stale",
        "broken",
    ):
        assert word in text
    assert "late: unranked" not in text, "remarks are in their column"
    assert "broken: failed" in printed(board=board, width=200, columns=("method", "worst"))


def test_a_hostile_name_moves_no_cursor_and_sets_no_colour() -> None:
    row = small_row(HOSTILE, 0.5)
    row.standing = Standing("", "[red]team[/red]\x1b[2J", "", "rescored")
    text = printed(board=small_board(row), width=300, columns=("all",))
    assert "\x1b" not in text
    assert "[red]team[/red]" in text


@given(st.text())
def test_plain_text_is_printable_and_as_it_was_where_it_was(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)
    if text.isprintable():
        assert plain(text) == " ".join(text.split())


# CSV


def read_csv(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text, newline=""), dtype={"seeds": str}, keep_default_na=False)


def test_csv_has_a_line_per_row_and_plain_numbers() -> None:
    row = small_row("late", 1 / 3)
    row.difference = Estimate(-0.52, -0.611, -1e-9)
    board = small_board(row, empty_row("broken", "failed", "Error: a,\n b"))
    first, second = read_csv(csv_text(board)).to_dict("records")
    assert (first["split"], first["backbone"], first["image_size"]) == (SPLIT, "smallcnn", 64)
    assert (first["worst"], first["worst_low"], first["worst_high"]) == ("0.333333", "0.333333", "1")
    assert (first["groups:no@a"], first["groups:yes@b"], first["which"], first["least"]) == (
        "0.333333",
        "",
        "no@a",
        "5",
    )
    assert [first[f"difference_from_baseline{end}"] for end in ("", "_low", "_high")] == ["-0.52", "-0.611", "0"]
    assert (first["seeds"], first["status"], first["tier"]) == ("0 1", "ranked", "rescored")
    assert first["missing"] == "no interval of micro: one patient"
    assert (second["status"], second["reason"], second["worst"]) == ("failed", "Error: a, b", "")
    assert second["missing"] == "failed: Error: a, b"


def test_csv_is_of_rfc_4180() -> None:
    text = csv_text(small_board(small_row('a "quoted", name', 0.5)))
    assert text.count("\r\n") == 2
    assert "\n" not in text.replace("\r\n", "")
    assert '"a ""quoted"", name"' in text
    lengths = {len(line) for line in csv.reader(io.StringIO(text, newline=""), strict=True)}
    assert len(lengths) == 1


def test_csv_of_no_rows_is_its_header() -> None:
    for names in ([], ["rank", "method", "worst", "groups", "difference"]):
        board = small_board()
        shown = columns_of(board.manifest, names) if names else ()
        filled = csv_text(small_board(small_row("one", 0.5)), shown).splitlines()[0].split(",")
        header = csv_text(board, shown).split("\r\n")
        assert header[1:] == [""]
        assert header[0].split(",") == [name for name in filled if not name.startswith("groups:")]


def test_csv_of_some_columns_says_what_each_line_is_about() -> None:
    board = small_board(small_row("one", 0.5))
    header = csv_text(board, columns_of(board.manifest, ["ECE", "rank"])).splitlines()[0]
    assert header == "split,backbone,image_size,config_hash,ece,ece_low,ece_high,rank,rank_high,missing"


@pytest.mark.parametrize("start", [*"=+-@", "\t=", "\r@", " +", "\uff1d", "\uff20"])
def test_no_text_of_a_csv_is_a_formula_and_numbers_stay_numbers(start: str) -> None:
    row = small_row(f"{start}1+1", 0.5, status="unranked", reason=f"{start}SUM(A1)")
    row.standing = Standing(f"{start}x", f"{start}y", "", "rescored")
    row.difference = Estimate(-0.5, -0.75, -0.25)
    (line,) = csv.DictReader(io.StringIO(csv_text(small_board(row)), newline=""))
    dangerous = {name for name, cell in line.items() if cell[:1] in (*"=+-@\t\r", "\uff1d", "\uff20")}
    assert dangerous == {"difference_from_baseline", "difference_from_baseline_low", "difference_from_baseline_high"}
    assert line["method"] == "'" + f"{start}1+1".strip()
    assert float(line["difference_from_baseline"]) == -0.5


# LaTeX


def check_latex(text: str) -> list[list[list[str]]]:
    """The cells of every table; braces are balanced, rows are of one length, nothing but comments stands outside."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    found = []
    bodies = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    for kinds, body in bodies:
        lines = [line for line in body.splitlines() if not re.fullmatch(r"\\(top|mid|bottom)rule", line)]
        assert all(line.endswith(r" \\") for line in lines)
        cells = [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]
        assert {len(row) for row in cells} == {len(kinds)}
        found.append([[cell.strip() for cell in row] for row in cells])
    outside = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", text, flags=re.DOTALL)
    assert outside.strip() == ""
    return found


def test_latex_has_a_table_per_split_with_the_best_of_each_track_in_bold() -> None:
    rows = [
        small_row("one", 0.7, 1, rank_high=2),
        small_row("two", 0.69, 1, rank_high=2),
        small_row("three", 0.4, 3),
        small_row("loose", 0.9, None, status="unranked", reason="1 of 2 seeds"),
        small_row("told", 0.8, 1, track="train"),
    ]
    rows[1].values["ece"] = Estimate(0.1, 0.05, 0.2)
    columns = [c.model_dump() | ({"better": "lower"} if c.name == "ece" else {}) for c in make_manifest().columns]
    board = small_board(*rows, columns=columns)
    text = latex(board, columns_of(board.manifest, ["method", "worst", "ece", "valid"]))
    ((head, *body),) = check_latex(text)
    assert head == ["method", "worst group", "ECE", "valid."]
    assert [row[0] for row in body] == [r"one$^{\dagger}$", r"two$^{\dagger}$", "three", "loose", "told"]
    assert [r"\textbf" in row[1] for row in body] == [True, False, False, False, True]
    assert [r"\textbf" in row[2] for row in body] == [False, True, False, False, True]
    assert not any(r"\textbf" in row[3] for row in body), "neither way is better"
    assert body[0][1] == r"\textbf{70.0} {\scriptsize [70.0, 100.0]}"
    assert text.count(r"\midrule") == 2
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert r"\usepackage{booktabs}" in comments[0]
    assert any("Bold" in line for line in comments)
    assert any("Dagger" in line for line in comments)
    assert f"% {SPLIT}, smallcnn, 64 pixels, board t1 (draft)" in comments
    assert "% loose: unranked: 1 of 2 seeds" in comments


def test_rows_that_print_the_same_are_best_together() -> None:
    board = small_board(small_row("one", 0.70001), small_row("two", 0.69999), small_row("three", None))
    ((_, *body),) = check_latex(latex(board, columns_of(board.manifest, ["worst"])))
    assert [r"\textbf" in row[0] for row in body] == [True, True, False]
    assert body[2][0].startswith("--")


def test_latex_of_the_boards_own_columns() -> None:
    rows = [make_row(rank=1, rank_high=1), empty_row("broken", "failed", "x")]
    text = latex(Board(load_manifest(), rows))
    ((head, row),) = check_latex(text)
    assert head[:3] == ["rank", "track", "method"]
    assert row[-1] == r"$-$52.0 {\scriptsize [$-$61.1, $-$43.0]}"
    assert "% broken: failed: x (0 of 3 seeds)" in text
    assert r"\dagger" not in text.split("tabular")[1], "nothing is tied with itself"
    assert check_latex(latex(Board(load_manifest(), []))) == []


def test_latex_draws_no_rules_between_tracks_that_are_mixed() -> None:
    rows = [small_row(name, 0.5, track=track) for name, track in (("a", "none"), ("b", "train"), ("c", "none"))]
    assert latex(small_board(*rows)).count(r"\midrule") == 1


def test_latex_prints_every_letter() -> None:
    assert escaped(r"_ % & # $ { } ~ ^ \\"[:-1]) == (
        r"\_ \% \& \# \$ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    row = small_row(HOSTILE, 0.5, status="unranked", reason=HOSTILE)
    text = latex(small_board(row))
    ((_, cells),) = check_latex(text)
    assert r"\textbackslash{}end\{tabular\}" in cells[2]
    printed = [line for line in text.splitlines() if not line.startswith("%")]
    assert sum(r"\end{tabular}" in line for line in printed) == 1


@settings(deadline=None)
@given(st.text(), st.text())
def test_latex_of_any_name_is_one_table(name: str, reason: str) -> None:
    row = small_row(f"m{name}", 0.5, status="unranked", reason=reason)
    row.standing = Standing(reason, name, "", "rescored")
    board = small_board(row)
    (table,) = check_latex(latex(board, columns_of(board.manifest, ["all"])))
    assert len(table) == 2
    ((_, (first,)),) = check_latex(latex(board, columns_of(board.manifest, ["team"])))
    assert not first.startswith(("[", "*")), "an argument of the line's end before it"
