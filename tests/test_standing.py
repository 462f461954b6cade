"""What whose rows of a published board are asks of them: nobody takes the baseline's place, and no part counts as a whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robustbench_spur.board import Board, Source, score_board
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.page.noted import measured
from robustbench_spur.ranking import rank_table
from robustbench_spur.record import Record, read_partitions
from robustbench_spur.standing import Standing
from tests.records import TABLE, Laboratory, drawn, make_manifest

SEEDS = (0, 1)
PINS = [{"name": "phantom/field@0.95", "version": 1, "sha256": TABLE}]
Entries = dict[str, tuple[list[Record], Standing]]


@pytest.fixture
def lab(home: Home) -> Laboratory:
    return Laboratory(home)


@pytest.fixture
def board_of(lab: Laboratory) -> Callable[..., Board]:
    """A board of entries, each of some records and a standing."""

    def make(entries: Entries, **changes: object) -> Board:
        manifest = make_manifest(**{"splits": PINS, **changes})

        def read(record: Record) -> dict[str, Predictions]:
            return read_partitions(record, lab.store.arrays(record), manifest.partitions)

        sources = [
            Source(records, read, lambda row, standing=standing: standing) for records, standing in entries.values()
        ]
        return score_board(sources, manifest, None)

    return make


def records(
    lab: Laboratory, accuracy: float, name: str = "plain", seeds: tuple[int, ...] = SEEDS, **changes: object
) -> list[Record]:
    return [lab.add(name, seed, drawn((accuracy,) * 4, seed=seed), **changes) for seed in seeds]


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (Standing("z-own", "own", tier="reproduced"), Standing("a-other", "other")),
        (Standing("a-own", "own"), Standing("b-other", "other")),
    ],
)
def test_the_baseline_is_the_one_that_is_trusted_most(
    lab: Laboratory, board_of: Callable[..., Board], own: Standing, other: Standing
) -> None:
    """Two teams have a method of the baseline's name; all rows are held against the same one, wherever it stands."""
    entries = {
        "other": (records(lab, 0.5), other),
        "own": (records(lab, 0.8), own),
        "third": (records(lab, 0.9, "third"), Standing("t", "third")),
    }
    board = board_of(entries)
    by = {row.standing.entry: row for row in board.rows}
    assert by[own.entry].difference.reason == "the baseline itself"
    worst = {entry: row.values["worst"].value for entry, row in by.items()}
    assert by["t"].difference.value == pytest.approx(worst["t"] - worst[own.entry])
    assert by[other.entry].difference.value == pytest.approx(worst[other.entry] - worst[own.entry])


def test_who_is_shown_without_a_rank_moves_nobodys(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    """Rows may have been given more replicates than ranking so many takes: for rows that turned out not to be ranked."""
    entries = {
        name: (records(lab, accuracy, name), Standing(name, name))
        for name, accuracy in (("plain", 0.5), ("better", 0.55), ("third", 0.6))
    }
    board = board_of(entries)
    before = [(row.first.method.name, row.rank, row.rank_high) for row in board.rows]
    for row in board.rows:
        assert row.ranking is not None
        value, spread = row.ranking
        # of all that follow, every one says that this row differs from the others
        row.ranking, row.more = (value, np.concatenate([spread, np.full(100 * len(spread), value)])), None
    rank_table(board.rows, board.manifest)
    assert [(row.first.method.name, row.rank, row.rank_high) for row in board.rows] == before
    assert before[0][1:] != (1, 1)


def test_a_part_of_the_seeds_has_a_rank_at_home_and_none_on_a_published_board(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    one = records(lab, 0.8, seeds=(1,))
    (home,) = board_of({"home": (one, Standing())}).rows
    (published,) = board_of({"entry": (one, Standing("e", "team"))}).rows
    assert (home.status, home.rank) == ("provisional", 1)
    assert (published.status, published.rank, published.reason) == ("unranked", None, "1 of 2 seeds")


def test_a_split_whose_table_is_not_pinned_ranks_nobody_on_a_published_board(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    both, pins = records(lab, 0.8), [{**PINS[0], "sha256": None}]
    (home,) = board_of({"home": (both, Standing())}, splits=pins).rows
    (published,) = board_of({"entry": (both, Standing("e", "team"))}, splits=pins).rows
    assert (home.status, home.rank) == ("ranked", 1)
    assert (published.status, published.rank) == ("unranked", None)
    assert "does not pin" in published.reason
    assert published.values["worst"].value == home.values["worst"].value  # shown all the same


def test_claims_have_numbers_and_neither_ranks_nor_curves(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    numbers = {"test": {"worst_group": {"worst_group_accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}}}
    noted = {"test": {"ece": {"reliability": [{"low": 0.0, "high": 1.0, "count": 9}]}}}
    claimed = [lab.add("bold", seed, metrics=numbers, details=noted) for seed in SEEDS]
    board = board_of({"e": (claimed, Standing("e", "team", tier="claimed")), "p": (records(lab, 0.5), Standing("p"))})
    row = next(row for row in board.rows if row.standing.tier == "claimed")
    assert (row.status, row.rank) == ("unranked", None)
    assert (row.values["worst"].value, row.values["worst"].low, row.values["worst"].reason) == (0.9, None, "claimed")
    assert row.values["micro"].value is None
    column = board.manifest.column("ece")

    class Line:
        """What a plot looks at."""

    line = Line()
    line.row = row  # type: ignore[attr-defined]
    assert measured(line, column, "reliability") == []  # type: ignore[arg-type]
    assert np.isfinite(next(r for r in board.rows if r is not row).values["worst"].value)
