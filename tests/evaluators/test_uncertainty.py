"""Areas under risk-coverage curves against plain loops, all orders of ties, and scikit-learn; known predictors."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.evaluators import uncertainty
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.selective import (
    confidences,
    coverage_at_risk,
    disagreement,
    risk_coverage,
    selective_risk,
)
from robustbench_spur.evaluators.uncertainty import AREAS, Uncertainty
from robustbench_spur.literals import read_plugins
from robustbench_spur.statistics import resample, resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe

SCORES = ("max_probability", "entropy", "margin", "energy")
Flags = NDArray[np.bool_]


def point(predictions: Predictions, **parameters: Any) -> dict[str, float]:
    evaluator = Uncertainty(Uncertainty.Parameters(**parameters))
    return {name: float(value[0]) for name, value in evaluator.measure(predictions, once(predictions)).items()}


def areas(confidence: Any, wrong: Any) -> dict[str, float]:
    """Of examples that are each their own patient."""
    confidence, wrong = np.asarray(confidence, np.float64), np.asarray(wrong, bool)
    found = selective_risk(confidence, wrong, np.arange(len(wrong)), np.ones((1, len(wrong))))
    return {name: float(value[0]) for name, value in found.items()}


def aurc_in_order(wrong: list[bool]) -> float:
    """The paper's sum for one order, from sure to unsure."""
    return sum(sum(wrong[:k]) / k for k in range(1, len(wrong) + 1)) / len(wrong)


def augrc_by_trapezoids(confidence: NDArray[np.float64], wrong: Flags) -> float:
    """The integral of accepted errors / n over coverage, straight between the thresholds."""
    coverages, risks = [0.0], [0.0]
    for threshold in sorted(set(confidence.tolist()), reverse=True):
        taken = confidence >= threshold
        coverages.append(float(taken.mean()))
        risks.append(float((wrong & taken).mean()))
    return float(np.trapezoid(risks, coverages))


# By hand


def test_by_hand() -> None:
    """Errors in places 2 and 4 of 4: risks 0, 1/2, 1/3, 1/2; the best order has 0, 0, 1/3, 1/2."""
    found = areas([9, 5, 2, 1], [False, True, False, True])
    assert found == pytest.approx(
        {
            "aurc": (1 / 2 + 1 / 3 + 1 / 2) / 4,
            "e_aurc": (1 / 2) / 4,
            "augrc": (0 + 0.125 + 0.25 + 0.375) / 4,  # trapezoids between 0, 0, 1/4, 1/4 and 1/2
            "failure_auroc": 3 / 4,
        }
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_orders(rows: list[tuple[int, bool]]) -> None:
    orders = [p for p in itertools.permutations(rows) if all(a[0] >= b[0] for a, b in itertools.pairwise(p))]
    expected = np.mean([aurc_in_order([wrong for _, wrong in order]) for order in orders])
    best = aurc_in_order(sorted(wrong for _, wrong in rows))
    confidence, wrong = np.array([c for c, _ in rows], np.float64), np.array([w for _, w in rows])
    found = areas(confidence, wrong)
    assert found["aurc"] == pytest.approx(expected)
    assert found["e_aurc"] == pytest.approx(expected - best, abs=1e-12)
    assert found["augrc"] == pytest.approx(augrc_by_trapezoids(confidence, wrong))


def test_the_excess_is_near_the_published_approximation() -> None:
    """Geifman et al.: the best area goes to r + (1 - r) log(1 - r) for many examples."""
    rng = np.random.default_rng(0)
    wrong = rng.random(50_000) < 0.2
    found, r = areas(rng.normal(size=50_000), wrong), wrong.mean()
    assert found["aurc"] - found["e_aurc"] == pytest.approx(r + (1 - r) * math.log(1 - r), abs=1e-4)


def test_augrc_is_its_published_closed_form() -> None:
    """Traub et al., equation 7: (1 - AUROC) a (1 - a) + (1 - a)^2 / 2, here against scikit-learn's AUROC."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    confidence = rng.integers(0, 9, 500).astype(np.float64)
    wrong = rng.random(500) < 1 / (1 + np.exp(confidence - 2))
    found, a = areas(confidence, wrong), 1 - wrong.mean()
    auroc = roc_auc_score(~wrong, confidence)
    assert found["failure_auroc"] == pytest.approx(auroc)
    assert found["augrc"] == pytest.approx((1 - auroc) * a * (1 - a) + (1 - a) ** 2 / 2)
    assert found["augrc"] == pytest.approx(augrc_by_trapezoids(confidence, wrong))


# Scores


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_scores_have_the_order_of_what_they_are_named_after(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(0, 2, (300, classes)).astype(np.float32)
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    ascending = np.sort(probabilities, axis=1)
    plain = {
        "max_probability": ascending[:, -1],
        "entropy": scipy.special.xlogy(probabilities, probabilities).sum(axis=1),
        "margin": ascending[:, -1] - ascending[:, -2],
        "energy": scipy.special.logsumexp(logits.astype(np.float64), axis=1),
    }
    found = confidences(logits)
    assert tuple(found) == SCORES
    for name, expected in plain.items():
        score = found[name]
        assert score is not None
        assert np.argsort(score).tolist() == np.argsort(expected).tolist(), name
    if classes > 2:
        assert found["max_probability"] == pytest.approx(scipy.special.logit(plain["max_probability"]))
        assert found["entropy"] == pytest.approx(plain["entropy"])
        assert found["margin"] == pytest.approx(-np.log(1 - plain["margin"]))
    assert found["energy"] == pytest.approx(plain["energy"])


@pytest.mark.parametrize("classes", [2, 3])
def test_confident_examples_are_not_tied_by_rounding(classes: int) -> None:
    logits = np.zeros((3, classes), np.float32)
    logits[:, 0] = (100, 101, 600)  # all have a probability of 1 in float64
    found = confidences(logits)
    for name in SCORES:
        score = found[name]
        assert score is not None and np.isfinite(score).all()
        assert (np.diff(score) > 0).all(), name


def test_two_classes_have_one_order() -> None:
    numbers = point(reference.random(0))
    for area in AREAS:
        assert numbers[f"{area}:max_probability"] == numbers[f"{area}:entropy"] == numbers[f"{area}:margin"]
        assert numbers[f"{area}:energy"] != numbers[f"{area}:margin"]


def test_log_probabilities_have_no_energy() -> None:
    raw = reference.random(2)
    logged = predictions_of(
        raw.labels, raw.attributes, raw.patient, scipy.special.log_softmax(raw.logits, axis=1), raw.groups
    )
    numbers = point(logged)
    assert [name for name, value in numbers.items() if math.isnan(value)] == [f"{area}:energy" for area in AREAS]
    reasons = Uncertainty().details(logged)["undefined"]
    assert set(reasons.values()) == {"the logits are log probabilities, whose energy is zero for every example"}
    assert numbers["aurc:margin"] == pytest.approx(point(raw)["aurc:margin"], abs=2e-3)  # float32 parts some ties


# Predictors whose numbers are known


def test_perfect() -> None:
    numbers = point(reference.perfect())
    for name, value in numbers.items():
        if name.startswith("failure_auroc"):
            assert math.isnan(value)
        else:
            assert value == (1 if name == "coverage_at_risk" else 0)
    reasons = Uncertainty().details(reference.perfect())["undefined"]
    assert reasons == {f"failure_auroc:{name}": "no example is wrong" for name in SCORES}


def test_always_wrong() -> None:
    predictions = reference.rearranged(reference.constant(1), np.arange(20))
    numbers = point(predictions)
    assert numbers["aurc:margin"] == pytest.approx(1)
    assert (numbers["augrc:margin"], numbers["coverage_at_risk"]) == (0.5, 0)
    assert numbers["e_aurc:margin"] == pytest.approx(0, abs=1e-12)
    assert Uncertainty().details(predictions)["undefined"]["failure_auroc:energy"] == "no example is right"
    assert Uncertainty().details(predictions)["at_risk"]["threshold"] is None


@pytest.mark.parametrize("predictions", [reference.constant(0), reference.shortcut_only()])
def test_constant_confidence_has_its_error_rate(predictions: Predictions) -> None:
    """Half of the examples are wrong; the confidence tells nothing."""
    numbers = point(predictions)
    for name in SCORES:
        assert numbers[f"aurc:{name}"] == pytest.approx(0.5)
        assert numbers[f"failure_auroc:{name}"] == pytest.approx(0.5)
        assert numbers[f"augrc:{name}"] == pytest.approx(0.25)
        assert numbers[f"e_aurc:{name}"] == pytest.approx(0.5 - aurc_in_order([False] * 20 + [True] * 20))
    wrong = {name: float(np.mean(~predictions.correct[predictions.group == g])) for g, name in groups(predictions)}
    assert {name: numbers[f"aurc_at:{name}"] for name in wrong} == pytest.approx(wrong)
    assert Uncertainty().details(predictions)["curve"] == [
        {"coverage": 1.0, "risk": 0.5, "threshold": pytest.approx(1.0)}
    ]


def groups(predictions: Predictions) -> list[tuple[int, str]]:
    return list(enumerate(predictions.groups.names))


def test_random() -> None:
    predictions = reference.random(0, rows=20_000, patients=20_000, step=0)
    numbers = point(predictions)
    for name in SCORES:
        assert numbers[f"aurc:{name}"] == pytest.approx(0.5, abs=0.03)
        assert numbers[f"failure_auroc:{name}"] == pytest.approx(0.5, abs=0.03)
        assert numbers[f"augrc:{name}"] == pytest.approx(0.25, abs=0.02)
    assert numbers["coverage_at_risk"] < 0.01


def test_ten_classes_and_five_values() -> None:
    predictions = reference.random(3, rows=3000, patients=100, classes=10, values=5, step=0)
    numbers = point(predictions)
    assert len([name for name in numbers if name.startswith("aurc_at:")]) == 50
    assert all(numbers[f"aurc:{name}"] == pytest.approx(0.9, abs=0.05) for name in SCORES)
    assert len({numbers[f"aurc:{name}"] for name in SCORES}) == 4


# Curves and thresholds


def test_the_curve_and_the_threshold_by_hand() -> None:
    confidence, wrong = np.array([4.0, 3, 3, 2, 1]), np.array([False, False, True, False, True])
    assert risk_coverage(confidence, wrong, 50) == [
        (0.2, 0.0, 4.0),
        (0.6, pytest.approx(1 / 3), 3.0),
        (0.8, 0.25, 2.0),
        (1.0, 0.4, 1.0),
    ]
    found = [
        coverage_at_risk(confidence, wrong, np.arange(5), np.ones((1, 5)), risk).item()
        for risk in (0, 0.2, 0.25, 0.3, 0.4)
    ]
    assert found == [0.2, 0.2, 0.8, 0.8, 1.0]


def test_allowed_risk_is_met_exactly() -> None:
    wrong = np.arange(100) < 29  # 0.29 * 100 is 28.999999999999996
    assert coverage_at_risk(np.zeros(100), wrong, np.arange(100), np.ones((1, 100)), 0.29).item() == 1


def test_details() -> None:
    predictions = reference.random(4, rows=900, patients=60, step=0)
    details = Uncertainty(Uncertainty.Parameters(risk=0.5)).details(predictions)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    for curve in (details["curve"], *details["curves_at"].values()):
        assert 2 <= len(curve) <= 50
        assert (np.diff([row["coverage"] for row in curve]) > 0).all()
        assert (np.diff([row["threshold"] for row in curve]) < 0).all()
    sure, correct = predictions.probabilities.max(axis=1), predictions.correct
    for row in details["curve"]:
        taken = sure >= row["threshold"] - 1e-12
        assert (row["coverage"], row["risk"]) == pytest.approx((taken.mean(), 1 - correct[taken].mean()))
    assert details["curve"][-1]["coverage"] == 1
    at_risk = details["at_risk"]
    taken = sure >= at_risk["threshold"] - 1e-12
    assert at_risk["overall"]["coverage"] == pytest.approx(taken.mean())
    assert at_risk["overall"]["coverage"] == pytest.approx(point(predictions, risk=0.5)["coverage_at_risk"])
    assert at_risk["overall"]["risk"] == pytest.approx(1 - correct[taken].mean()) and at_risk["overall"]["risk"] <= 0.5
    for row, (g, name) in zip(at_risk["groups"], groups(predictions), strict=True):
        own = predictions.group == g
        assert (row["group"], row["coverage"]) == (name, pytest.approx(taken[own].mean()))
        assert row["risk"] == pytest.approx(1 - correct[own & taken].mean())


# Nothing is dropped, nothing crashes


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(("classes", "values"), [(2, 2), (1, 1), (10, 5), (3, 1)])
def test_few_rows_give_numbers_or_nan(rows: int, classes: int, values: int) -> None:
    predictions = reference.random(1, rows=rows, patients=1, classes=classes, values=values)
    numbers = Uncertainty().measure(predictions, resample_counts(len(predictions.patients), 7, 0))
    assert all(value.shape == (7,) for value in numbers.values())
    details = Uncertainty().details(predictions)
    assert {name for name, value in numbers.items() if np.isnan(value).any()} == set(details["undefined"])
    assert all(details["undefined"].values())
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert all(value is None or 0 <= value <= 1 for value in Uncertainty().cross_check(predictions).values())


def test_an_empty_group_is_undefined_and_says_so() -> None:
    perfect = reference.perfect()
    biased = reference.rearranged(perfect, np.flatnonzero(perfect.labels == perfect.attributes))
    details = Uncertainty().details(biased)
    assert details["undefined"]["aurc_at:c0@v1"] == details["undefined"]["aurc_at:c1@v0"] == "no examples"
    assert (details["curves_at"]["c0@v1"], details["at_risk"]["groups"][1]["coverage"]) == ([], None)
    assert point(biased)["aurc_at:c0@v0"] == 0


def test_wrong_counts_are_refused() -> None:
    predictions = reference.perfect()
    with pytest.raises(SpurbenchError, match=r"\(resamples, 20\)"):
        Uncertainty().measure(predictions, np.ones((1, 5)))
    with pytest.raises(SpurbenchError, match="whole counts"):
        Uncertainty().measure(predictions, np.full((1, 20), 0.5))
    for parameters in ({"risk": -0.1}, {"risk": 1.1}, {"points": 1}, {"temperature": 2}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            Uncertainty.Parameters(**parameters)


# Properties


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (3, 2)]), st.integers(1, 30))
def test_resampling_is_measuring_the_repeated_rows(seed: int, shape: tuple[int, int], rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=6, classes=shape[0], values=shape[1], step=0.5)
    counts = resample_counts(len(predictions.patients), 3, seed)
    evaluator = Uncertainty(Uncertainty.Parameters(risk=0.4))
    numbers = evaluator.measure(predictions, counts)
    for row, times in enumerate(counts):
        expected = point(reference.repeated(predictions, times), risk=0.4)
        for name, value in expected.items():
            assert numbers[name][row] == pytest.approx(value, nan_ok=True, abs=1e-12), name


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_numbers_lie_in_their_ranges(seed: int, rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=9, classes=3)
    numbers = Uncertainty().measure(predictions, resample_counts(len(predictions.patients), 5, seed))
    for name, value in numbers.items():
        metric = Uncertainty.metrics[name.split(":")[0] + ":" if ":" in name else name]
        known = value[~np.isnan(value)]
        assert ((known >= metric.low) & (known <= metric.high)).all(), name


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_order_of_rows_does_not_matter(seed: int) -> None:
    predictions = reference.random(seed, rows=40, patients=6, values=3, classes=3)
    other = reference.rearranged(predictions, np.random.default_rng(seed).permutation(40))
    assert point(other) == pytest.approx(point(predictions), nan_ok=True)


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = reference.random(8)
    counts = resample_counts(len(predictions.patients), 50, 0)
    whole = Uncertainty().measure(predictions, counts)
    monkeypatch.setattr("robustbench_spur.evaluators.selective.SUMS_BYTES", 20_000)
    monkeypatch.setattr("robustbench_spur.evaluators.selective.CACHE_BYTES", 1_000)
    for name, value in Uncertainty().measure(predictions, counts).items():
        assert value.tolist() == pytest.approx(whole[name].tolist(), nan_ok=True)


def test_many_rows_in_bounded_memory() -> None:
    predictions = reference.random(0, rows=200_000, patients=500, step=0)
    counts = resample_counts(500, 4, 0)
    _ = predictions.patient, predictions.group, predictions.correct
    tracemalloc.start()
    numbers = Uncertainty().measure(predictions, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6
    assert all(np.isfinite(value).all() for value in numbers.values())


def test_memory_does_not_grow_with_resamplings() -> None:
    predictions = reference.random(0, rows=7000, patients=200, step=0)
    tracemalloc.start()
    replicates = resample(partial(Uncertainty().measure, predictions), 200, 300, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    name = "aurc:max_probability"
    low, high = np.quantile(replicates[name], [0.025, 0.975])
    assert low < point(predictions)[name] < high


# Other libraries


@pytest.mark.parametrize("classes", [2, 10])
def test_as_torchmetrics(classes: int) -> None:
    predictions = reference.random(5, classes=classes)
    numbers, theirs = point(predictions), Uncertainty().cross_check(predictions)
    assert set(theirs) == {f"torchmetrics/failure_auroc:{name}" for name in SCORES}
    for name, value in theirs.items():
        assert numbers[name.removeprefix("torchmetrics/")] == pytest.approx(value, abs=1e-6)


def test_listing_reads_it_without_running_it() -> None:
    source = read_plugins(Path(str(uncertainty.__file__)))
    assert [plugin.literals["name"] for plugin in source] == ["uncertainty"]
    assert source[0].literals["metrics"] == Uncertainty.metrics
    script = "import robustbench_spur.evaluators.uncertainty, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# Disagreement of members


def test_disagreement_by_hand() -> None:
    """Sure members that differ; unsure members that agree; one of each."""
    members = np.array([[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]]])
    mutual, expected = disagreement(members)
    assert expected.tolist() == pytest.approx([0, math.log(2), math.log(2) / 2])
    of_the_mean = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert mutual.tolist() == pytest.approx([math.log(2), 0, of_the_mean - math.log(2) / 2])


def test_disagreement_is_scipy_s_divergence_from_the_mean() -> None:
    """The mutual information is the mean divergence of the members from their mean."""
    from scipy.stats import entropy

    members = np.random.default_rng(0).dirichlet(np.ones(4), (5, 30))
    shares = np.random.default_rng(1).dirichlet(np.ones(5), 30).T
    mean = np.einsum("mn,mnk->nk", shares, members)
    divergence = np.array([entropy(member, mean, axis=1) for member in members])
    mutual, expected = disagreement(members, shares)
    assert mutual == pytest.approx((shares * divergence).sum(axis=0))
    assert expected == pytest.approx((shares * np.array([entropy(member, axis=1) for member in members])).sum(axis=0))


def test_tied_patients_and_universe_of_one_row() -> None:
    predictions = predictions_of(np.array([0]), np.array([0]), np.array([0]), np.array([[1.0, 0.0]]), universe())
    numbers = point(predictions)
    assert (numbers["aurc:margin"], numbers["coverage_at_risk"]) == (0, 1)
