"""Numbers with intervals against resampling done the slow way, and a cache that is never out of date."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.evaluators.worst_group import WorstGroup
from robustbench_spur.intervals import adjusted, minimum, wilson
from robustbench_spur.manifest import Bootstrap, EvaluatorPin
from robustbench_spur.parameters import parameter
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import (
    Population,
    Scorer,
    as_json,
    load_evaluators,
    metric_of,
    pins_of,
    point,
    population,
    trials_of,
)
from robustbench_spur.statistics import resample_counts
from robustbench_spur.store import Store
from robustbench_spur.types import Groups, SpurbenchError
from tests.records import drawn, make_manifest, make_predictions, right

BOOTSTRAP = Bootstrap(replicates=120, seed=5, confidence=0.9)


class Counting(Evaluator):
    """Share of right examples; notes how many resamplings it was asked for."""

    name = "counting"
    version = 1
    metrics: ClassVar[Mapping[str, Metric]] = {"share": Metric("share of right examples"), "part:": Metric("of a half")}

    class Parameters(EvaluatorParameters):
        """One setting."""

        scale: float = parameter(1.0, "factor", above=0)

    def __init__(self, parameters: EvaluatorParameters | None = None) -> None:
        super().__init__(parameters)
        self.asked: list[int] = []

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        self.asked.append(len(counts))
        by_patient = np.bincount(predictions.patient, predictions.correct) / np.bincount(predictions.patient)
        share = self.parameters.scale * counts @ by_patient / counts.sum(axis=1)
        return {"share": share, "part:first": share / 2, "part:none": np.full(len(counts), np.nan)}

    def details(self, predictions: Predictions) -> dict[str, Any]:
        return {"undefined": {"part:none": "nobody is there"}}


@pytest.fixture
def told() -> Predictions:
    return make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=7, slices=3))


def repeated(predictions: Predictions, counts: Floats) -> Predictions:
    """The examples of each patient as often as the patient was drawn; each draw is a patient of its own."""
    rows, whom = [], []
    for patient, times in enumerate(counts.astype(int).tolist()):
        own = np.flatnonzero(predictions.patient == patient).tolist()
        rows += times * own
        whom += [f"{patient}-{draw}" for draw in range(times) for _ in own]
    take = np.array(rows)
    names = np.array([f"{i}" for i in range(len(take))])
    columns = predictions.labels[take], predictions.attributes[take], np.array(whom), predictions.logits[take]
    return Predictions(names, *columns, predictions.groups)


# Numbers


@pytest.mark.parametrize("evaluator", [WorstGroup(), Calibration()], ids=["worst_group", "ece"])
def test_replicates_are_the_metrics_of_the_patients_that_were_drawn(evaluator: Evaluator, told: Predictions) -> None:
    replicates = Scorer(None, BOOTSTRAP).replicates(evaluator, told, "")
    # 7 patients have examples of each group, fewer than ten: all are one stratum
    for number, counts in enumerate(resample_counts(len(told.patients), BOOTSTRAP.replicates, BOOTSTRAP.seed)[:20]):
        slow = point(evaluator, repeated(told, counts))
        for metric, values in replicates.items():
            # the worst group stays the one that is worst on all patients; pairs within a patient stay left out of debiasing
            if metric != "worst_group_accuracy" and "debiased" not in metric:
                assert values[number] == pytest.approx(slow[metric], nan_ok=True), metric


def test_a_point_is_the_plain_share() -> None:
    told = make_predictions(right("111 111", "110 000", "100 100", "111 000"))
    found = point(WorstGroup(), told)
    assert found["micro_accuracy"] == told.correct.mean() == 13 / 24
    assert found["worst_group_accuracy"] == found["group_accuracy:no@b"] == found["group_accuracy:yes@a"] == 1 / 3
    assert {type(value) for value in found.values()} == {float}


def test_a_score_is_the_point_with_quantiles_of_the_replicates(told: Predictions) -> None:
    scorer = Scorer(None, BOOTSTRAP)
    scored = scorer.score(WorstGroup(), told, "")
    replicates = scorer.replicates(WorstGroup(), told, "")
    for metric in ("worst_group_accuracy", "micro_accuracy", "auroc", "positive_rate_gap"):
        assert scored[metric].value == point(WorstGroup(), told)[metric]
        patients = WorstGroup().support(told).get(metric)
        low, high = np.quantile(replicates[metric], adjusted((0.05, 0.05), patients, replicates[metric]))
        assert (scored[metric].low, scored[metric].high) == pytest.approx((low, high))


def test_a_score_without_spread_is_exact_and_one_without_examples_says_why() -> None:
    perfect = Scorer(None, BOOTSTRAP).score(WorstGroup(), make_predictions(np.ones((4, 6, 2), bool)), "")
    assert perfect["worst_group_accuracy"].low == pytest.approx(
        0.05 ** (1 / 6)
    )  # 6 patients, all right: Clopper-Pearson
    told = make_predictions(np.ones((4, 6, 2), bool), Groups(("no", "yes"), "site", ("a", "b", "c")))
    empty = Scorer(None, BOOTSTRAP).score(WorstGroup(), told, "")["worst_group_accuracy"]
    assert (empty.value, empty.low, empty.high) == (None, None, None)
    assert "yes@b" in empty.reason or "yes@c" in empty.reason


# Strata, and patients of one example


def test_patients_are_resampled_within_the_groups_that_they_have() -> None:
    told = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=11, slices=3))
    groups = np.repeat(np.arange(4), 11)
    assert population([told]).strata.tolist() == groups.tolist()
    expected = WorstGroup().measure(told, resample_counts(44, BOOTSTRAP.replicates, BOOTSTRAP.seed, groups))
    found = Scorer(None, BOOTSTRAP).replicates(WorstGroup(), told, "")
    for metric, values in expected.items():
        assert found[metric].tolist() == pytest.approx(values.tolist(), abs=1e-12, nan_ok=True), metric


def rows_of(told: Predictions, rows: Any) -> Predictions:
    columns = told.ids[rows], told.labels[rows], told.attributes[rows], told.clusters[rows], told.logits[rows]
    return Predictions(*columns, told.groups)


def test_a_patient_has_one_stratum_in_all_folds(tmp_path: Path) -> None:
    told = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=12, slices=3))
    folds = [rows_of(told, told.patient % 3 != fold) for fold in range(3)]
    everybody, scorer = population(folds), Scorer(Store(tmp_path), BOOTSTRAP)
    assert everybody.patients.tolist() == told.patients.tolist()
    assert everybody.strata.tolist() == population([told]).strata.tolist()
    assert population(folds[:1]).strata.tolist() != everybody.strata[np.isin(told.patients, folds[0].patients)].tolist()
    counts = resample_counts(48, BOOTSTRAP.replicates, BOOTSTRAP.seed, everybody.strata)
    for number, fold in enumerate(folds):
        own = np.flatnonzero(np.isin(told.patients, fold.patients))
        expected = WorstGroup().measure(fold, counts[:, own])["micro_accuracy"]
        found = scorer.replicates(WorstGroup(), fold, f"{number}", everybody)["micro_accuracy"]
        assert found.tolist() == expected.tolist()


def test_names_alone_are_one_stratum_and_are_kept_apart(tmp_path: Path, told: Predictions) -> None:
    scorer, names = Scorer(Store(tmp_path), BOOTSTRAP), told.patients
    alone = scorer.replicates(Counting(), told, "n", names)["share"]
    halves = Population(names, (np.arange(len(names)) % 2).astype(np.int64))
    assert alone.tolist() != scorer.replicates(Counting(), told, "n", halves)["share"].tolist()
    assert (
        alone.tolist()
        == scorer.replicates(Counting(), told, "n", Population(names, halves.strata * 0))["share"].tolist()
    )


class Shares(WorstGroup):
    """Says of which examples its metrics are shares, and has the minimum with an interval of its own."""

    name = "shares"

    @dataclass(frozen=True)
    class Lowest(Metric):
        """A minimum over a family."""

        minimum_of: str = ""

    metrics: ClassVar[Mapping[str, Metric]] = {
        **WorstGroup.metrics,
        "lowest": Lowest("lowest of the group accuracies", minimum_of="group_accuracy:"),
    }

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        found = super().measure(predictions, counts)
        members = [values for name, values in found.items() if name.startswith("group_accuracy:")]
        return {**found, "lowest": np.min(members, axis=0)}

    def shares(self, predictions: Predictions) -> dict[str, Any]:
        groups = {f"group_accuracy:{name}": predictions.group == g for g, name in enumerate(predictions.groups.names)}
        return {"micro_accuracy": np.ones(len(predictions), bool), **groups}


def test_a_group_of_one_slice_per_patient_has_wilsons_interval() -> None:
    told = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=15, slices=1))
    twice = Predictions(told.ids, told.labels, told.attributes, told.clusters.copy(), told.logits, told.groups)
    twice.clusters[16] = twice.clusters[17]  # a patient of the second group has two slices
    assert trials_of(Shares(), told) == {"micro_accuracy": 60, **{f"group_accuracy:{n}": 15 for n in told.groups.names}}
    assert trials_of(Shares(), twice).keys() == {f"group_accuracy:{told.groups.names[g]}" for g in (0, 2, 3)}
    assert trials_of(Counting(), told) == {}
    scored = Scorer(None, BOOTSTRAP).score(Shares(), told, "")
    for g, name in enumerate(told.groups.names):
        right = int(told.correct[told.group == g].sum())
        own = scored[f"group_accuracy:{name}"]
        assert (own.low, own.high) == pytest.approx(wilson(right, 15, (0.05, 0.05)))
    assert scored["micro_accuracy"].low == pytest.approx(wilson(int(told.correct.sum()), 60, (0.05, 0.05))[0])


def test_the_minimum_of_a_family_has_an_interval_of_its_own() -> None:
    told = make_predictions(drawn((0.7, 0.7, 0.7, 0.7), patients=15, slices=4))
    scorer = Scorer(None, BOOTSTRAP)
    scored, spread = scorer.score(Shares(), told, ""), scorer.replicates(Shares(), told, "")
    names = [f"group_accuracy:{name}" for name in told.groups.names]
    points = [float(scored[name].value or 0) for name in names]
    by_hand = minimum(Metric(""), points, np.stack([spread[n] for n in names], axis=1), 0.9, patients=[15] * 4)
    assert scored["lowest"] == by_hand
    assert scored["lowest"].value == scored["worst_group_accuracy"].value
    assert scored["lowest"].high is not None
    worst = scored["worst_group_accuracy"]
    assert worst.high is not None
    assert scored["lowest"].high <= max(worst.high, by_hand.high or 0)


def test_scores_as_json(told: Predictions) -> None:
    scored = as_json(Scorer(None, BOOTSTRAP).score(Counting(), told, ""))
    assert scored["share"].keys() == {"value", "low", "high"}
    assert scored["part:none"] == {"value": None, "low": None, "high": None, "reason": "nobody is there"}


def test_predictions_without_what_was_to_be_collected_are_refused(told: Predictions) -> None:
    (attack,) = load_evaluators(Registry(), pins_of(["pgd"], Registry(), make_manifest()))
    with pytest.raises(SpurbenchError, match=r"Evaluator 'pgd' needs \['pgd_rows', 'pgd_robust'\], which these"):
        Scorer(None, BOOTSTRAP).score(attack, told, "")


def test_the_definition_of_a_member_is_that_of_its_family() -> None:
    assert metric_of(Counting(), "share") is Counting.metrics["share"]
    assert metric_of(Counting(), "part:first") is Counting.metrics["part:"]
    with pytest.raises(SpurbenchError, match=r"Evaluator 'counting' has no metric 'shale'. Did you mean 'share'"):
        metric_of(Counting(), "shale")


# More resamplings than intervals take


@pytest.mark.parametrize("cached", [True, False])
def test_more_replicates_begin_with_the_first_and_go_on_with_later_draws(
    tmp_path: Path, told: Predictions, cached: bool
) -> None:
    scorer = Scorer(Store(tmp_path) if cached else None, BOOTSTRAP)
    many = scorer.more_replicates(Counting(), [("n", told)], "share", 300)[0]
    assert many[:120].tolist() == scorer.replicates(Counting(), told, "n")["share"].tolist()
    drawn_at_once = Scorer(None, BOOTSTRAP.model_copy(update={"replicates": 300})).replicates(Counting(), told, "n")
    assert many.tolist() == pytest.approx(drawn_at_once["share"].tolist(), abs=1e-15)
    assert scorer.more_replicates(Counting(), [("n", told)], "share", 7)[0].tolist() == many[:7].tolist()


def test_a_greater_count_computes_what_it_adds(tmp_path: Path, told: Predictions) -> None:
    evaluator, scorer = Counting(), Scorer(Store(tmp_path), BOOTSTRAP)
    scorer.replicates(evaluator, told, "n", metrics=("share",))
    assert evaluator.asked == [120]
    scorer.more_replicates(evaluator, [("n", told)], "share", 121)
    assert evaluator.asked == [120, 120]  # the first block is there
    scorer.more_replicates(evaluator, [("n", told)], "share", 120)
    assert evaluator.asked == [120, 120]
    scorer.more_replicates(evaluator, [("n", told)], "share", 500)
    assert evaluator.asked == 6 * [120]
    stored = [set(Store(tmp_path).arrays(path.name)) for path in tmp_path.glob("*/*")]
    assert sorted(map(len, stored)) == [1]


class Quotient(Counting):
    """The same share, as a quotient of sums."""

    def quotient(self, predictions: Predictions, metric: str) -> Floats | None:
        if metric != "share":
            return None
        by_patient = np.bincount(predictions.patient, predictions.correct) / np.bincount(predictions.patient)
        return np.stack([by_patient, np.ones(len(by_patient))], axis=1)


def test_quotients_of_several_predictions_are_what_each_gives_alone(told: Predictions) -> None:
    evaluator, scorer = Quotient(), Scorer(None, BOOTSTRAP)
    parts = [("n", told), ("m", replace(told, logits=told.logits[::-1].copy()))]
    together = scorer.more_replicates(evaluator, parts, "share", 500)
    assert evaluator.asked == [120, 120]  # what lies beyond the first block is made from the sums
    for rows, own in zip(parts, together, strict=True):
        alone = scorer.more_replicates(Counting(), [rows], "share", 500)[0]
        assert own.tolist() == pytest.approx(alone.tolist(), abs=1e-12)


def test_predictions_of_other_patients_are_resampled_each_by_themselves(told: Predictions) -> None:
    evaluator, scorer = Quotient(), Scorer(None, BOOTSTRAP)
    fewer = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=5, slices=3))
    found = scorer.more_replicates(evaluator, [("n", told), ("m", fewer)], "share", 240)
    assert evaluator.asked == 4 * [120]
    assert found[1].tolist() == scorer.more_replicates(Counting(), [("m", fewer)], "share", 240)[0].tolist()


def test_points_are_measured_once(told: Predictions) -> None:
    evaluator, other = Counting(), Counting()
    assert point(evaluator, told) == point(evaluator, told)
    assert point(evaluator, told, ("share",)) == {"share": evaluator.points(told)["share"]}
    assert point(other, told)["share"] == point(evaluator, told)["share"]
    assert (evaluator.asked, other.asked) == ([1], [1])
    assert point(evaluator, replace(told, logits=-told.logits))["share"] != evaluator.points(told)["share"]


# The cache


def test_what_is_kept_is_what_was_computed(tmp_path: Path, told: Predictions) -> None:
    evaluator, scorer = Counting(), Scorer(Store(tmp_path), BOOTSTRAP)
    first = scorer.replicates(evaluator, told, "n")
    second = Scorer(Store(tmp_path), BOOTSTRAP).replicates(evaluator, told, "n")
    assert evaluator.asked == [120]
    assert first.keys() == second.keys()
    for metric in first:
        assert np.array_equal(first[metric], second[metric], equal_nan=True)


def test_whatever_changes_the_numbers_makes_them_anew(
    tmp_path: Path, told: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, renamed = Store(tmp_path / "cache"), Groups(("no", "yes"), "site", ("a", "z"))
    made: list[int] = []

    def score(predictions: Predictions = told, name: str = "n", scale: float = 1.0, **bootstrap: Any) -> None:
        evaluator = Counting(Counting.Parameters(scale=scale))
        Scorer(cache, BOOTSTRAP.model_copy(update=bootstrap)).replicates(evaluator, predictions, name)
        made.append(len(evaluator.asked))

    score()
    score()
    score(name="other predictions")
    score(scale=2.0)
    score(seed=6)
    score(replicates=121)
    score(Predictions(told.ids, told.labels, told.attributes, told.clusters, told.logits, renamed))
    edited = tmp_path / "edited.py"
    edited.write_text("# a draft whose text has changed, but not its version\n")
    monkeypatch.setattr(sys.modules[__name__], "__file__", str(edited))
    score()
    score()
    assert made == [1, 0, 1, 1, 1, 1, 1, 1, 0]


# Evaluators of a board


def test_evaluators_have_the_settings_of_their_pins() -> None:
    pins = (
        EvaluatorPin(name="ece", version=Calibration.version, parameters={"bins": 7}),
        EvaluatorPin(name="worst_group", version=WorstGroup.version, parameters={}),
    )
    loaded = load_evaluators(Registry(), pins)
    assert [(e.name, e.parameters.model_dump()) for e in loaded] == [
        ("ece", {"bins": 7}),
        ("worst_group", {"minimum_patients": 5}),
    ]


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        ({"name": "worst_groop"}, "Unknown evaluator 'worst_groop'. Did you mean 'worst_group'"),
        ({"version": 99}, "Expected evaluator 'ece' v99 .the board's., found v[0-9]+. Install that version"),
        ({"parameters": {"bins": 0}}, "Setting bins=0 of evaluator 'ece': Input should be greater than or equal to 1"),
        ({"parameters": {"bin": 3}}, "Setting bin=3 of evaluator 'ece': Extra inputs are not permitted"),
    ],
)
def test_pins_that_are_refused(pin: dict[str, Any], expected: str) -> None:
    whole = EvaluatorPin.model_validate({"name": "ece", "version": Calibration.version, "parameters": {}, **pin})
    with pytest.raises(SpurbenchError, match=expected):
        load_evaluators(Registry(), (whole,))


def test_pins_are_the_boards_and_else_the_defaults() -> None:
    board = make_manifest(
        evaluators=[{"name": "ece", "version": 1, "parameters": {"bins": 7}}], columns=make_manifest().columns
    )
    pins = pins_of(["worst_group", "ece", "worst_group"], Registry(), board)
    assert [(pin.name, pin.version, pin.parameters) for pin in pins] == [
        ("worst_group", WorstGroup.version, {"minimum_patients": 5}),
        ("ece", 1, {"bins": 7}),
    ]
