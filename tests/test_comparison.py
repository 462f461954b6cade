"""Pairs of methods from the records of a home, against differences taken patient by patient."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from robustbench_spur.comparison import Comparison, Difference, quantity
from robustbench_spur.home import Home
from robustbench_spur.intervals import adjusted, contracted
from robustbench_spur.statistics import holm, paired_p_value, resample_counts
from robustbench_spur.types import SpurbenchError
from tests.records import SPLIT, Laboratory, Mask, drawn, make_identity, make_manifest, make_predictions

OTHER = "phantom/field@1.0"
MANY: dict[str, Any] = {"bootstrap": {"replicates": 2000, "seed": 7, "confidence": 0.95}}
"""As many resamplings as differences of few patients take, corrected for several comparisons."""
HARD = drawn((0.7, 0.4, 0.7, 0.7), patients=12, slices=8, seed=2)


def easier(mask: Mask) -> Mask:
    """The same, but every patient's first two slices are right."""
    out = mask.copy()
    out[:, :, :2] = True
    return out


@pytest.fixture
def lab(home: Home) -> Laboratory:
    return Laboratory(home)


def table(
    lab: Laboratory, *methods: str, splits: tuple[str, ...] = (), metrics: tuple[str, ...] = ()
) -> list[Difference]:
    return Comparison(lab.home, make_manifest(**MANY)).table(methods, splits, metrics)


def on(split: str, name: str) -> dict[str, Any]:
    return {"identity": make_identity(name, split={"name": split})}


def resampled(mask: Mask) -> Any:
    """Accuracy of the group that is worst on all patients under each resampling, patient by patient."""
    told, manifest = make_predictions(mask), make_manifest(**MANY)
    strata = np.repeat(np.arange(4), 12)
    counts = resample_counts(48, manifest.bootstrap.replicates, manifest.bootstrap.seed, strata)
    worst = told.group == mask.reshape(4, -1).mean(axis=1).argmin()
    return [(row[told.patient] * told.correct * worst).sum() / (row[told.patient] * worst).sum() for row in counts]


# Numbers


def test_a_difference_is_paired_over_patients_and_averaged_over_seeds(lab: Laboratory) -> None:
    masks = [HARD, drawn((0.7, 0.5, 0.8, 0.7), patients=12, slices=8, seed=3)]
    for seed, mask in enumerate(masks):
        lab.add("erm", seed, mask)
        lab.add("dfr", seed, easier(mask))
    (found,) = table(lab, "dfr", "erm")
    worst = [[m.reshape(4, -1).mean(axis=1).min() for m in (easier(mask), mask)] for mask in masks]
    by_seed = np.array([a - b for a, b in worst])
    spread = np.mean([np.subtract(resampled(easier(mask)), resampled(mask)) for mask in masks], axis=0)
    assert found.values == pytest.approx(tuple(np.mean(worst, axis=0)))
    assert found.difference.value == pytest.approx(by_seed.mean())
    low, high = np.quantile(spread, adjusted((0.025, 0.025), 12, spread))
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(2 * contracted(1 / 2001, 12))
    assert found.sd == pytest.approx(by_seed.std(ddof=1))
    reach = math.hypot(by_seed.mean() - low, 12.7062 * by_seed.std(ddof=1) / math.sqrt(2))
    assert found.joint.low == pytest.approx(by_seed.mean() - reach, rel=1e-4)
    assert (found.first, found.second, found.better, found.seeds, found.patients) == ("dfr", "erm", "dfr", (0, 1), 48)


def test_equal_methods_do_not_differ_and_the_sign_is_that_of_first_minus_second(lab: Laboratory) -> None:
    for name, mask in (("erm", HARD), ("jtt", HARD), ("dfr", easier(HARD))):
        lab.add(name, test=mask)
    same, down, up = table(lab, "erm", "jtt", "dfr")
    assert (same.difference.value, same.p, same.p_holm, same.better) == (0.0, 1.0, 1.0, None)
    assert "every resampling gives the same value" in same.difference.reason
    assert down.difference.value == up.difference.value
    assert float(down.difference.value or 0) < 0
    assert (down.better, up.better) == ("dfr", "dfr")
    assert (down.sd, down.joint.low) == (None, None)
    assert "one seed" in down.joint.reason
    (turned,) = table(lab, "dfr", "erm")
    assert turned.difference.value == -float(down.difference.value or 0)


def test_holm_is_over_all_pairs_splits_and_metrics(lab: Laboratory) -> None:
    for seed, name in enumerate(("erm", "jtt", "dfr")):
        for split in (SPLIT, OTHER):
            mask = drawn((0.5 + 0.03 * seed, 0.45, 0.5, 0.5), patients=12, slices=8, seed=seed)
            lab.add(name, test=mask, **on(split, name))
    pins = [{"name": one, "version": 1, "sha256": None} for one in (OTHER, SPLIT)]
    found = Comparison(lab.home, make_manifest(splits=pins)).table(("erm", "jtt", "dfr"), (), ("worst", "micro"))
    assert [(one.split, one.first, one.second) for one in found[::2]] == [
        (split, *pair) for split in (OTHER, SPLIT) for pair in (("erm", "jtt"), ("erm", "dfr"), ("jtt", "dfr"))
    ]
    assert [one.metric for one in found] == ["worst", "micro"] * 6
    adjusted = holm([float(one.p or 0) for one in found])
    assert [one.p_holm for one in found] == pytest.approx(adjusted.tolist())
    assert len({one.p for one in found}) > 3


def test_seeds_are_those_that_both_have(lab: Laboratory) -> None:
    for seed in (0, 1):
        lab.add("erm", seed, HARD)
    lab.add("dfr", 1, easier(HARD))
    (found,) = table(lab, "erm", "dfr")
    assert found.seeds == (1,)


def test_lower_is_better_where_the_metric_says_so(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    lab.add("dfr", test=np.ones_like(HARD))
    (found,) = table(lab, "erm", "dfr", metrics=("ece",))
    assert float(found.difference.value or 0) > 0.1
    assert found.better == "dfr"
    (valid,) = table(lab, "erm", "dfr", metrics=("valid",))
    assert valid.metric == "valid"


def test_an_undefined_metric_is_undefined_in_pairs(lab: Laboratory) -> None:
    lab.add("erm", test=np.ones_like(HARD))
    lab.add("dfr", test=np.zeros_like(HARD))
    (found,) = table(lab, "erm", "dfr", metrics=("worst_group/group_accuracy:no@a",))
    assert found.difference.value == 1.0
    assert found.difference.low is None
    lab.add(
        "jtt", test=~np.ones_like(HARD) | (np.arange(4) < 2)[:, None, None]
    )  # says no always: nobody is predicted yes
    (empty,) = table(lab, "erm", "jtt", metrics=("worst_group/ppv",))
    assert (empty.values[1], empty.difference.value, empty.p, empty.p_holm, empty.better) == (None,) * 5
    assert json.dumps(empty.as_dict(), allow_nan=False)


def test_many_pairs_take_more_resamplings_than_intervals(lab: Laboratory) -> None:
    names = ("erm", "jtt", "dfr", "groupdro", "lff")
    for number, name in enumerate(names):
        lab.add(name, test=drawn((0.1 + 0.2 * number,) * 4, patients=12, slices=8, seed=number))
    found = table(lab, *names, metrics=("micro",))
    assert len(found) == 10
    assert min(float(one.p or 1) for one in found) < 2 / 201  # the least that 200 resamplings give
    assert all(one.better == one.second for one in found)


# What cannot be compared


def test_fewer_than_two_methods_are_refused(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    with pytest.raises(SpurbenchError, match="at least two different methods to compare, found erm"):
        table(lab, "erm", "erm")


def test_a_method_without_records_says_how_to_make_them(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    with pytest.raises(
        SpurbenchError, match=rf"No finished record of dfr on {SPLIT}. Run: spurbench run --method dfr --spl"
    ):
        table(lab, "erm", "dfr", splits=(SPLIT,))
    with pytest.raises(
        SpurbenchError, match=r"No split has records of all of erm, dfr\. Run: spurbench run --method erm dfr"
    ):
        table(lab, "erm", "dfr")
    lab.add("dfr", status="failed", reason="out of memory")
    with pytest.raises(SpurbenchError, match=rf"of dfr on {SPLIT} \(failed: out of memory\)"):
        table(lab, "erm", "dfr", splits=(SPLIT,))


def test_methods_without_a_seed_or_a_table_in_common_are_refused(lab: Laboratory) -> None:
    lab.add("erm", 0, HARD)
    lab.add("dfr", 1, HARD)
    with pytest.raises(
        SpurbenchError, match=r"a seed in common, found \[0\] and \[1\]. Run: spurbench run --method dfr .*--seed 0"
    ):
        table(lab, "erm", "dfr")
    lab.add("jtt", 0, HARD, identity=make_identity("jtt", network={"image_size": 32}), off_board=("image_size",))
    with pytest.raises(SpurbenchError, match="with one network"):
        table(lab, "erm", "jtt")
    lab.add("lff", 0, HARD, identity=make_identity("lff", split={"sha256": "f" * 64}))
    with pytest.raises(SpurbenchError, match="on the same patients"):
        table(lab, "erm", "lff")


def test_several_configurations_none_of_them_the_boards_are_refused(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    for size in (16, 32):
        lab.add(
            "dfr", test=HARD, identity=make_identity("dfr", network={"image_size": size}), off_board=("image_size",)
        )
    with pytest.raises(SpurbenchError, match=r"Expected one configuration of dfr on .*, found 2"):
        table(lab, "erm", "dfr")
    lab.add("dfr", test=HARD)
    assert table(lab, "erm", "dfr")[0].remark == ""


def test_a_row_off_the_board_is_compared_with_a_remark(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    lab.add("dfr", test=HARD, off_board=("epochs=3",))
    assert table(lab, "erm", "dfr")[0].remark == "dfr: not the board's: epochs=3"


# Metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worst", ("worst_group", "worst_group_accuracy", "test")),
        ("valid", ("worst_group", "micro_accuracy", "validation")),
        ("auroc", ("worst_group", "auroc", "test")),
        ("worst_group/group_accuracy:no@a", ("worst_group", "group_accuracy:no@a", "test")),
        ("group_accuracy:no@a", ("worst_group", "group_accuracy:no@a", "test")),
    ],
)
def test_metrics_have_names(home: Home, text: str, expected: tuple[str, ...]) -> None:
    manifest = make_manifest(**MANY)
    found = quantity(text, manifest, Comparison(home, manifest).evaluators)
    assert (found.evaluator.name, found.metric, found.partition) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wurst", "Unknown metric 'wurst'. Did you mean 'worst'"),
        ("group_accuracy:", "Unknown metric 'group_accuracy:'"),
        ("xyzzy", "Known: worst, micro, valid, ece, and EVALUATOR/METRIC as spurbench describe EVALUATOR lists them"),
        ("which", "Unknown metric 'which'"),
    ],
)
def test_metrics_that_are_not_there(home: Home, text: str, expected: str) -> None:
    manifest = make_manifest(**MANY)
    with pytest.raises(SpurbenchError, match=expected):
        quantity(text, manifest, Comparison(home, manifest).evaluators)


def test_a_member_that_is_not_there_is_named(lab: Laboratory) -> None:
    lab.add("erm", test=HARD)
    lab.add("dfr", test=HARD)
    with pytest.raises(
        SpurbenchError, match=r"Unknown metric 'group_accuracy:no@c'\. Did you mean 'group_accuracy:no@"
    ):
        table(lab, "erm", "dfr", metrics=("group_accuracy:no@c",))


def test_the_p_value_of_a_pair_has_its_level() -> None:
    """Methods that find the same patients hard, and are equally good."""
    rng, small = np.random.default_rng(0), 0
    counts = resample_counts(20, 300, 0)
    for _ in range(300):
        hard = rng.beta(1, 1, 20)
        values = [rng.binomial(15, hard) / 15 for _ in range(2)]
        small += paired_p_value(counts @ (values[0] - values[1]), patients=20) <= 0.05
    assert small / 300 == pytest.approx(0.05, abs=0.03)
