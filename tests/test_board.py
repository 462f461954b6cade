"""From records to ranked rows, on boards so small that every number can be worked out by hand or the slow way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, skew, t

from robustbench_spur.board import Board, build_board
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.evaluators.worst_group import group_accuracies
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.ranking import rank_table
from robustbench_spur.record import predictions_arrays
from robustbench_spur.registry import Registry
from robustbench_spur.rows import Row
from robustbench_spur.scoring import pins_of
from robustbench_spur.statistics import estimate, ranks, replicates_to_rank, resample_counts
from robustbench_spur.types import Estimate, SpurbenchError
from tests.records import (
    EVALUATORS,
    SPLIT,
    TABLE,
    Laboratory,
    Mask,
    drawn,
    make_identity,
    make_manifest,
    make_predictions,
    make_record,
    right,
)

GOOD, FAIR, BAD = (drawn((accuracy,) * 4, seed=3) for accuracy in (0.95, 0.6, 0.2))


@pytest.fixture
def lab(home: Home) -> Laboratory:
    return Laboratory(home)


@pytest.fixture
def board_of(home: Home) -> Callable[..., Board]:
    return lambda **changes: build_board(home, make_manifest(**changes))


def by_method(board: Board) -> dict[str, Row]:
    rows = {row.first.method.name: row for row in board.rows}
    assert len(rows) == len(board.rows)
    return rows


def standing(row: Row) -> tuple[str, str]:
    return row.status, row.reason


def groups_under_resampling(mask: Mask, manifest: Manifest) -> NDArray[np.float64]:
    """Accuracy of each group under each resampling, patient by patient."""
    predictions = make_predictions(mask)
    # every patient is in one group: the groups are the strata
    strata = [int(name[1]) for name in predictions.patients]
    counts = resample_counts(len(strata), manifest.bootstrap.replicates, manifest.bootstrap.seed, np.array(strata))
    rows = []
    for draw in counts:
        weight = draw[predictions.patient]
        masks = [predictions.group == g for g in range(4)]
        with np.errstate(invalid="ignore"):
            rows.append([(weight * predictions.correct)[of].sum() / weight[of].sum() for of in masks])
    return np.array(rows)


# Values


def test_a_row_is_the_mean_over_seeds_with_the_interval_of_that_mean(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    one = drawn((0.9, 0.3, 0.8, 0.5), seed=1)
    two = drawn((0.9, 0.8, 0.7, 0.2), seed=2)
    for seed, mask in enumerate((one, two)):
        lab.add(seed=seed, test=mask, valid=GOOD)
    (row,) = board_of().rows
    by_seed = [mask.reshape(4, -1).mean(axis=1) for mask in (one, two)]
    assert row.values["worst"].value == pytest.approx(np.mean([accuracy.min() for accuracy in by_seed]))
    resampled = [groups_under_resampling(mask, make_manifest()) for mask in (one, two)]
    own = np.mean([spread[:, acc.argmin()] for spread, acc in zip(resampled, by_seed, strict=True)], axis=0)
    # of 12 patients: expanded (Hesterberg 2015, section 4.2), and shifted by a sixth of the skewness (Efron 1987), which also
    # lowers the degrees of freedom (Satterthwaite 1946)
    degrees = 11 / (1 + 0.75 * 12 * skew(own) ** 2)
    z, pull = np.sqrt(12 / 11) * t.ppf([0.025, 0.975], degrees), skew(own) / 6
    ends = np.quantile(own, norm.cdf(pull + (pull + z) / (1 - pull * (pull + z))))
    assert (row.values["worst"].low, row.values["worst"].high) == pytest.approx(tuple(ends))
    assert row.values["micro"].value == pytest.approx((one.mean() + two.mean()) / 2)
    assert row.values["valid"].value == pytest.approx(GOOD.mean())
    assert row.values["groups"]["no@b"]["value"] == pytest.approx((by_seed[0][1] + by_seed[1][1]) / 2)
    assert row.values["least"] == 5
    assert (row.status, row.seeds, row.rank, row.rank_high) == ("ranked", [0, 1], 1, 1)


def test_the_worst_group_is_the_lowest_on_average_and_its_value_the_mean_of_each_seeds_lowest(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    lab.add(seed=0, test=right("1111 1111 1111", "1000 1000 1000", "1111 1111 1111", "1100 1100 1100"))
    lab.add(seed=1, test=right("1111 1111 1111", "1111 1111 1111", "1000 1000 1000", "1100 1100 1100"))
    (row,) = board_of().rows
    assert row.values["which"] == "yes@b"  # 1/2 in both; no@b and yes@a have a mean of 5/8
    assert row.values["worst"].value == 0.25
    assert [row.values["groups"][name]["value"] for name in ("no@a", "no@b", "yes@a", "yes@b")] == [
        1.0,
        0.625,
        0.625,
        0.5,
    ]


def test_a_column_that_was_not_measured_says_so(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add(
        test=GOOD, evaluators={"worst_group": EVALUATORS["worst_group"]}, off_board=("evaluators are not the board's",)
    )
    (row,) = board_of().rows
    assert row.values["ece"] == Estimate(None, reason="not evaluated")
    assert row.values["worst"].value is not None
    assert standing(row) == ("unranked", "not the board's: evaluators are not the board's")


def test_a_partition_that_was_not_predicted_gives_nothing(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    draft = make_record()
    part = lab.store.add_predictions(draft.cell, predictions_arrays("validation", make_predictions(GOOD)))
    lab.store.add(draft.model_copy(update={"predictions": part}))
    (row,) = board_of(seeds=[0]).rows
    assert row.values["worst"].value is row.values["which"] is row.values["groups"] is None
    assert row.values["valid"].value == pytest.approx(GOOD.mean())
    assert standing(row) == ("unranked", "no worst group on test")


def test_damaged_predictions_are_an_error(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    record = lab.add(test=GOOD)
    assert record.predictions is not None
    (lab.home.predictions / record.predictions.file).write_bytes(b"")
    with pytest.raises(SpurbenchError, match="was changed after it was written"):
        board_of()


def test_the_same_board_twice_and_without_its_cache(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for seed in (0, 1):
        lab.add(seed=seed, test=GOOD)
        lab.add("other", seed, FAIR)
    first = board_of().as_list()
    assert board_of().as_list() == first
    lab.home.clean()
    assert board_of().as_list() == first


# Ranks


def test_ranks_are_within_a_track_and_best_first(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    tracks = {"plain": "none", "clever": "none", "seeing": "train", "seeing_more": "train", "told": "targeted"}
    masks = {"plain": BAD, "clever": GOOD, "seeing": FAIR, "seeing_more": GOOD, "told": FAIR}
    for method, track in tracks.items():
        for seed in (0, 1):
            lab.add(method, seed, masks[method], track=track)
    board = board_of()
    order = [(row.first.method.name, row.rank, row.rank_high) for row in board.rows]
    assert order == [("clever", 1, 1), ("plain", 2, 2), ("seeing_more", 1, 1), ("seeing", 2, 2), ("told", 1, 1)]


def test_equal_methods_are_a_tie(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    similar = FAIR.copy()
    similar[0, 0] = ~similar[0, 0]
    for method, mask in {"plain": BAD, "one": FAIR, "two": similar}.items():
        for seed in (0, 1):
            lab.add(method, seed, mask)
    rows = by_method(board_of())
    assert [(rows[m].rank, rows[m].rank_high) for m in ("one", "two", "plain")] == [(1, 2), (1, 2), (3, 3)]


def test_a_column_of_which_less_is_better_ranks_the_other_way(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for method, mask in {"plain": BAD, "good": GOOD}.items():
        for seed in (0, 1):
            lab.add(method, seed, mask)
    columns = [column.model_dump() for column in make_manifest().columns]
    columns[5]["better"] = "lower"
    board = board_of(columns=columns, rank_by="ece")
    assert [(row.first.method.name, row.rank) for row in board.rows] == [("good", 1), ("plain", 2)]


def test_twelve_methods_are_ranked_with_as_many_resamplings_as_their_comparison_takes(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    masks = {f"m{n:02}": drawn((0.2 + 0.07 * (n // 2),) * 4, seed=7, patients=20) for n in range(12)}
    for method, mask in masks.items():
        lab.add(method, 0, mask)
    wanted = make_manifest(seeds=[0], bootstrap={"replicates": 2000, "seed": 7, "confidence": 0.95})
    needed = replicates_to_rank(12, 0.05)
    assert 2000 < needed < 4000
    board = build_board(lab.home, wanted)
    predictions = {method: make_predictions(mask) for method, mask in masks.items()}
    counts = resample_counts(80, needed, 7, np.repeat(np.arange(4), 20))
    by_group = {method: group_accuracies(one, counts) for method, one in predictions.items()}
    points = {method: mask.reshape(4, -1).mean(axis=1) for method, mask in masks.items()}
    spread = np.array([by_group[method][:, points[method].argmin()] for method in masks])
    expected = ranks([points[method].min() for method in masks], spread, "higher", 0.05)
    rows = by_method(board)
    assert [(rows[method].rank, rows[method].rank_high) for method in masks] == expected
    assert {row.status for row in board.rows} == {"ranked"}
    assert len({row.rank for row in board.rows}) == 3
    assert build_board(lab.home, wanted).as_list() == board.as_list()


def test_forty_methods_of_a_track_are_ranked() -> None:
    rng = np.random.default_rng(0)
    values = np.linspace(0.1, 0.9, 40)
    asked: list[int] = []

    def row_of(number: int) -> Row:
        noise = rng.normal(0, 0.001, replicates_to_rank(40, 0.05))

        def more(count: int) -> NDArray[np.float64]:
            asked.append(count)
            return np.asarray(values[number] + noise[:count])

        return Row([make_record(f"m{number}")], "ranked", "", ranking=(values[number], more(200)), more=more)

    rows = [row_of(number) for number in range(40)]
    rank_table(rows, make_manifest(seeds=[0]))
    assert [(row.rank, row.rank_high) for row in rows] == [(40 - n, 40 - n) for n in range(40)]
    assert set(asked[40:]) == {replicates_to_rank(40, 0.05)}


def test_few_methods_take_no_more_resamplings_than_intervals_do(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    for method, mask in {"plain": BAD, "one": FAIR, "two": GOOD}.items():
        lab.add(method, 0, mask)
    board_of(seeds=[0])
    assert len(list((lab.home.root / "scores").glob("*/*"))) == 3 * 3  # evaluators on test, and one on validation


# Seeds


def test_a_row_with_fewer_seeds_than_others_is_not_ranked(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for seed in (0, 1, 7):
        lab.add(seed=seed, test=FAIR)
    lab.add("one_seed", 0, GOOD)
    lab.add("other_seeds", 7, GOOD)
    lab.add("half_failed", 0, GOOD)
    lab.add("half_failed", 1, status="failed", reason="RuntimeError: loss is NaN")
    rows = by_method(board_of())
    # seed 7 is not the board's: it does not count
    assert (rows["plain"].status, rows["plain"].seeds, rows["plain"].rank) == ("ranked", [0, 1], 1)
    assert standing(rows["one_seed"]) == ("unranked", "1 of 2 seeds")
    assert standing(rows["other_seeds"]) == ("unranked", "0 of 2 seeds")
    assert standing(rows["half_failed"]) == ("unranked", "1 of 2 seeds (seed 1 failed)")
    assert rows["half_failed"].seeds == [0]
    assert all(row.rank is None for name, row in rows.items() if name != "plain")
    assert rows["one_seed"].values["worst"].value is not None


def test_a_board_that_has_only_begun_is_provisional(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add(seed=1, test=FAIR)
    lab.add("other", 1, GOOD)
    lab.add("another_seed", 0, GOOD)
    rows = by_method(board_of(seeds=[0, 1, 2]))
    ranked = [name for name, row in rows.items() if row.status == "provisional"]
    assert ranked in (["other", "plain"], ["another_seed"])
    assert {standing(rows[name]) for name in ranked} == {("provisional", "1 of 3 seeds")}
    assert {standing(row) for name, row in rows.items() if name not in ranked} == {("unranked", "0 of 1 seeds")}
    lab.add(seed=0, test=FAIR)
    rows = by_method(board_of(seeds=[0, 1, 2]))
    assert standing(rows["plain"]) == ("provisional", "2 of 3 seeds")
    assert standing(rows["other"]) == ("unranked", "1 of 2 seeds")


# What is not ranked


def test_failed_and_inapplicable_configurations_are_rows_with_their_reasons(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    for seed in (0, 1):
        lab.add(seed=seed, test=FAIR)
        lab.add("broken", seed, status="failed", reason="RuntimeError: out of memory")
        lab.add("unfit", seed, status="not_applicable", reason="group yes@a has no training patients", track="train")
    rows = by_method(board_of())
    assert standing(rows["broken"]) == ("failed", "RuntimeError: out of memory")
    assert standing(rows["unfit"]) == ("not_applicable", "group yes@a has no training patients")
    assert [row.first.method.name for row in board_of().rows] == ["plain", "broken", "unfit"]
    assert rows["broken"].seeds == rows["unfit"].seeds == []


def test_settings_that_are_not_the_boards_are_shown_and_not_ranked(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    longer = make_identity(training={"epochs": 9})
    for seed in (0, 1):
        lab.add(seed=seed, test=FAIR)
        lab.add(seed=seed, test=GOOD, identity=longer, off_board=("epochs=9",))
    ranked, other = board_of().rows
    assert (ranked.status, ranked.rank) == ("ranked", 1)
    assert (*standing(other), other.rank) == ("unranked", "not the board's: epochs=9", None)
    assert other.difference.value == pytest.approx(other.ranking[0] - ranked.ranking[0])  # type: ignore[index]


def test_another_network_is_a_table_of_its_own(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add(test=FAIR)
    lab.add(test=GOOD, identity=make_identity(network={"backbone": "resnet18"}), off_board=("backbone=resnet18",))
    board = board_of()
    assert sorted(board.tables) == [(SPLIT, "resnet18", 64), (SPLIT, "smallcnn", 64)]
    assert by_backbone(board)["resnet18"].difference.value is None


def by_backbone(board: Board) -> dict[str, Row]:
    return {row.first.network.backbone: row for row in board.rows}


def test_a_worst_group_of_few_patients_is_not_ranked_on(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add(seed=0, test=right("1 1 1", "0 1 1", "1 1 1", "1 1 1"))
    (row,) = board_of(seeds=[0], minimum_patients=4).rows
    assert standing(row) == ("unranked", "the worst group has 3 patients, fewer than 4")
    (row,) = board_of(seeds=[0], minimum_patients=3).rows
    assert row.status == "ranked"


def test_a_declared_group_without_test_patients_is_not_ranked_on(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    lab.add(seed=0, test=FAIR[:3])
    lab.add("other", 0, FAIR)
    rows = by_method(board_of(seeds=[0]))
    assert standing(rows["plain"]) == ("unranked", "a declared group has no test patients")
    assert rows["plain"].values["worst"].value is rows["plain"].values["which"] is None
    assert rows["plain"].values["groups"]["yes@b"]["value"] is None
    assert (rows["other"].rank, rows["other"].rank_high) == (1, 1)


# Which records count


def test_the_newest_record_of_a_seed_counts(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for mask in (BAD, GOOD, FAIR):
        lab.add(test=mask)
    (row,) = board_of().rows
    assert row.values["micro"].value == pytest.approx(FAIR.mean())


def test_a_failed_record_does_not_displace_a_finished_one(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add(status="failed", reason="first")
    lab.add(test=GOOD)
    lab.add(status="failed", reason="again")
    (row,) = board_of(seeds=[0]).rows
    assert (row.status, row.seeds) == ("ranked", [0])


def test_a_part_of_the_evaluators_does_not_displace_all_of_them(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    part: dict[str, Any] = {
        "evaluators": {"worst_group": EVALUATORS["worst_group"]},
        "off_board": ("evaluators are not the board's",),
    }
    lab.add(seed=0, test=GOOD, **part)
    lab.add(seed=0, test=FAIR)
    lab.add(seed=0, test=GOOD, **part)
    lab.add(seed=1, test=GOOD, **part)
    (row,) = board_of().rows
    assert (row.status, row.reason, row.seeds) == ("provisional", "1 of 2 seeds", [0])
    assert row.values["micro"].value == pytest.approx(FAIR.mean())


@pytest.mark.parametrize("change", [{"board": "t2"}, {"board_status": "frozen"}])
def test_records_of_another_board_or_status_never_enter(
    lab: Laboratory, board_of: Callable[..., Board], change: dict[str, Any]
) -> None:
    lab.add(test=GOOD, **change)
    lab.add("failing", status="failed", reason="x", **change)
    assert board_of().rows == []
    assert board_of().as_list() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"setups": {}}, f"split {SPLIT} is not on the board"),
        ({"splits": [{"name": "phantom/clean", "version": 1, "sha256": None}]}, f"split {SPLIT} is not on the board"),
        ({"splits": [{"name": SPLIT, "version": 2, "sha256": None}]}, "split v1, the board has v2"),
        ({"splits": [{"name": SPLIT, "version": 1, "sha256": "f" * 64}]}, "another table than the board's"),
        ({"selection": "validation_accuracy"}, "selection=last, the board has validation_accuracy"),
        ({"epochs": 5}, "epochs=2, the board has 5"),
        ({"image_size": 32}, "image_size=64, the board has 32"),
        ({"bins": 7}, "measured by ece with other settings than the board's"),
    ],
)
def test_a_row_that_a_draft_board_has_moved_away_from_is_stale(
    lab: Laboratory, home: Home, change: dict[str, Any], reason: str
) -> None:
    lab.add(test=GOOD)
    content = make_manifest().model_dump(mode="json")
    setup = content["setups"]["phantom"]
    setup["training"]["epochs"] = change.pop("epochs", 2)
    setup["image_size"] = change.pop("image_size", 64)
    content["evaluators"][1]["parameters"]["bins"] = change.pop("bins", 15)
    (row,) = build_board(home, Manifest.model_validate({**content, **change})).rows
    assert standing(row) == ("unranked", f"stale: {reason}; run again")
    assert row.values["micro"].value == pytest.approx(GOOD.mean())


def test_what_was_collected_with_other_settings_is_not_shown(lab: Laboratory, home: Home) -> None:
    (pin,) = pins_of(["pgd"], Registry(), make_manifest())
    content = make_manifest().model_dump(mode="json")
    content["evaluators"].append(pin.model_dump(mode="json"))
    content["columns"].append(
        {"name": "pgd", "title": "PGD", "evaluator": "pgd", "partition": "test", "metric": "pgd_worst_group_accuracy"}
    )
    old = {"version": pin.version, "parameters": {**pin.parameters, "steps": 3}}
    lab.add(test=GOOD, evaluators={**EVALUATORS, "pgd": old})
    (row,) = build_board(home, Manifest.model_validate(content)).rows
    assert row.values["pgd"] == Estimate(None, reason="not evaluated")
    assert standing(row) == ("unranked", "stale: measured by pgd with other settings than the board's; run again")


def test_rows_of_an_older_method_or_table_are_stale(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for version in (1, 2):
        lab.add("newer", test=GOOD, identity=make_identity("newer", method={"version": version}))
    for text in ("a", "b"):
        lab.add("draft", test=GOOD, identity=make_identity("draft", method={"sha256": text}))
    lab.add(test=GOOD, identity=make_identity(split={"sha256": "f" * 64}))
    lab.add(test=FAIR)
    rows = board_of(seeds=[0]).rows
    found = {}
    for row in rows:
        method, split = row.first.identity.method, row.first.identity.split
        found[method["name"], method["version"], method.get("sha256"), split["sha256"][0]] = standing(row)
    assert found == {
        ("newer", 1, None, "0"): ("unranked", "stale: method v1, run since as v2; run again"),
        ("newer", 2, None, "0"): ("ranked", ""),
        ("draft", 1, "a", "0"): ("unranked", "stale: the method's file was changed since; run again"),
        ("draft", 1, "b", "0"): ("ranked", ""),
        ("plain", 1, None, "f"): ("unranked", "stale: the split's table was changed since; run again"),
        ("plain", 1, None, "0"): ("ranked", ""),
    }
    (other,) = [row for row in rows if row.first.identity.split["sha256"] != TABLE]
    assert other.difference.value is None


def test_a_failure_of_an_older_draft_is_no_row(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    lab.add("draft", status="failed", reason="typo", identity=make_identity("draft", method={"sha256": "a"}))
    assert standing(board_of(seeds=[0]).rows[0]) == ("failed", "typo")
    lab.add("draft", test=GOOD, identity=make_identity("draft", method={"sha256": "b"}))
    (row,) = board_of(seeds=[0]).rows
    assert row.status == "ranked"


# Differences


def test_the_difference_from_the_baseline_is_paired(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    harder = np.repeat([0.1, 0.9], 6)[None, :, None]  # some patients are hard for everybody
    base = np.random.default_rng(1).random((4, 12, 8)) < harder
    better = base.copy()
    better[:, :, 0] = True
    for seed in (0, 1):
        lab.add(seed=seed, test=base)
        lab.add("better", seed, better, track="train")
    rows = by_method(board_of())
    difference = rows["better"].difference
    spread = [groups_under_resampling(mask, make_manifest()) for mask in (better, base)]
    worst = [mask.reshape(4, -1).mean(axis=1).argmin() for mask in (better, base)]
    paired = spread[0][:, worst[0]] - spread[1][:, worst[1]]
    # few patients make the interval wider than the quantiles, as they do for spurbench compare
    expected = estimate(Metric("", low=-1.0), float(difference.value), paired, 0.95, patients=12)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    low, high = np.quantile(paired, [0.025, 0.975])
    assert difference.low < low < high <= difference.high
    assert difference.value == pytest.approx(rows["better"].values["worst"].value - rows["plain"].values["worst"].value)
    assert difference.high is not None
    assert difference.low is not None
    alone = rows["better"].values["worst"]
    assert difference.high - difference.low < 0.7 * (alone.high - alone.low)
    assert rows["plain"].difference == Estimate(None, reason="the baseline itself")


def test_rows_of_other_seeds_than_the_baseline_have_no_difference(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    for seed in (0, 1):
        lab.add(seed=seed, test=FAIR)
    lab.add("one_seed", 0, GOOD)
    lab.add("failing", 0, status="failed", reason="x")
    rows = by_method(board_of())
    for name in ("one_seed", "failing"):
        assert rows[name].difference == Estimate(None, reason="no baseline with the same seeds")
    assert by_method(board_of(baseline="absent"))["plain"].difference.value is None


# JSON and reduced boards


def test_json_has_the_same_keys_in_every_row_and_null_where_nothing_is_known(
    lab: Laboratory, board_of: Callable[..., Board]
) -> None:
    lab.add(seed=0, test=GOOD)
    lab.add("failing", 0, status="failed", reason="x")
    lab.add("empty_group", 0, FAIR[:3])
    rows = board_of(seeds=[0]).as_list()
    text = json.dumps(rows, allow_nan=False)
    assert json.loads(text) == rows
    fixed = {
        "method", "split", "seeds", "track", "backbone", "image_size", "device", "selection", "settings", "tier", "status",
        "reason", "rank", "rank_high", "config_hash", "difference_from_baseline", "entry", "team",
    }  # fmt: skip
    for row in rows:
        assert set(row) == fixed | {column.name for column in make_manifest().columns}
    done, unranked, failed = rows
    assert [row["method"] for row in rows] == ["plain", "empty_group", "failing"]
    assert (done["split"], done["seeds"], done["rank"], done["rank_high"], done["tier"]) == (
        SPLIT,
        [0],
        1,
        1,
        "rescored",
    )
    assert done["config_hash"] == make_identity().sha256
    assert set(done["worst"]) == {"value", "low", "high"}
    assert unranked["worst"] == {"value": None, "low": None, "high": None, "reason": unranked["worst"]["reason"]}
    assert (unranked["which"], unranked["rank"], unranked["rank_high"]) == (None, None, None)
    assert failed["micro"] == {"value": None, "low": None, "high": None, "reason": "not measured"}
    assert failed["which"] is failed["groups"] is failed["least"] is None
    assert failed["seeds"] == []


def test_a_reduced_board_keeps_its_ranks(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    for method, mask in {"plain": BAD, "good": GOOD, "fair": FAIR}.items():
        lab.add(method, 0, mask)
    whole = board_of(seeds=[0])
    assert [row.first.method.name for row in whole.only(methods=["fair", "plain"]).rows] == ["fair", "plain"]
    assert [row.rank for row in whole.only([SPLIT], ["fair"]).rows] == [2]
    assert whole.only(["phantom/clean"]).rows == []
    assert whole.only().rows == whole.rows


def test_splits_come_in_the_boards_order(lab: Laboratory, board_of: Callable[..., Board]) -> None:
    pinned = ["phantom/orientation@0.95", SPLIT]
    for split in (SPLIT, "phantom/clean", "phantom/orientation@0.95"):
        lab.add(test=GOOD, identity=make_identity(split={"name": split}))
    board = board_of(splits=[{"name": name, "version": 1, "sha256": None} for name in pinned], seeds=[0])
    assert [row.split for row in board.rows] == [*pinned, "phantom/clean"]


def test_an_undefined_value_never_wins() -> None:
    values = (0.5, math.nan)
    rows = [Row([make_record(f"m{v}")], "ranked", "", ranking=(v, np.full(300, v))) for v in values]
    rank_table(rows, make_manifest(seeds=[0]))
    assert [(row.status, row.rank) for row in rows] == [("ranked", 1), ("unranked", None)]
