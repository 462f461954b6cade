"""Scalings against plain fits, netcal's own maps and known cases; what cannot be fitted gives a reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur.calibration.scaling import MAPS, Scaled, scale
from robustbench_spur.calibration.scores import log_softmax, negative_log_likelihood
from robustbench_spur.evaluators.base import Part, Predictions, Subject
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.evaluators.recalibration import Recalibration
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe

Floats = NDArray[np.float64]
NAMES = ("none", *MAPS)


def drawn(seed: int, rows: int = 1500, classes: int = 2, factor: float = 1.0) -> tuple[Floats, NDArray[np.int64]]:
    """Logits that are ``factor`` times calibrated ones, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, classes))
    shares = np.exp(log_softmax(logits)).cumsum(axis=1)
    return factor * logits, (rng.random((rows, 1)) > shares[:, :-1]).sum(axis=1)


def fit(name: str, logits: Floats, labels: NDArray[np.int64], target: Floats | None = None) -> Scaled:
    names = [f"c{k}" for k in range(logits.shape[1])]
    return scale(name, logits, labels, logits if target is None else target, names)


def collected(test: Predictions, validation: Predictions) -> Predictions:
    return replace(test, arrays=Recalibration().collect(Subject(test, others={"validation": Part(validation)})))


def point(predictions: Predictions) -> dict[str, float]:
    measured = Recalibration().measure(predictions, once(predictions))
    return {name: float(value[0]) for name, value in measured.items()}


def of(logits: Floats, labels: NDArray[np.int64], attributes: NDArray[np.int64] | None = None) -> Predictions:
    rows = np.arange(len(labels))
    values = rows % 2 if attributes is None else attributes
    return predictions_of(labels, values, rows // 3, logits, universe(logits.shape[1]))


def known(scaled: Scaled) -> Floats:
    assert scaled.probabilities is not None, scaled.reason
    return scaled.probabilities


# The maps


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("factor", [3.0, 0.2, 60.0])
def test_the_temperature_is_the_best_one_of_all(classes: int, factor: float) -> None:
    from scipy.optimize import minimize_scalar

    logits, labels = drawn(0, classes=classes, factor=factor)
    best = minimize_scalar(lambda t: negative_log_likelihood(logits / math.exp(t), labels).mean(), bounds=(-6, 6))
    scaled = fit("temperature", logits, labels)
    assert scaled.parameters == pytest.approx((math.exp(best.x),), rel=1e-3)
    assert scaled.parameters[0] == pytest.approx(factor, rel=0.15)
    assert known(scaled) == pytest.approx(np.exp(log_softmax(logits / scaled.parameters[0])))


@pytest.mark.parametrize("factor", [2.0, 40.0])
def test_platt_is_a_logistic_regression_on_the_logit_difference(factor: float) -> None:
    from sklearn.linear_model import LogisticRegression

    logits, labels = drawn(1, factor=factor)
    logits[:, 1] += factor
    margin = (logits[:, 1] - logits[:, 0])[:, None]
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(margin, labels)
    scaled = fit("platt", logits, labels)
    assert scaled.parameters == pytest.approx((other.coef_[0, 0], other.intercept_[0]), rel=2e-3)
    assert known(scaled) == pytest.approx(other.predict_proba(margin), abs=1e-3)


def test_vector_of_two_classes_is_a_logistic_regression_on_both_logits() -> None:
    from sklearn.linear_model import LogisticRegression

    logits, labels = drawn(2, factor=2.0)
    logits[:, 0] *= 2
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits, labels)
    scaled = fit("vector", logits, labels)
    assert known(scaled) == pytest.approx(other.predict_proba(logits), abs=1e-4)
    weights = scaled.parameters
    assert (-weights[0], weights[1]) == pytest.approx(tuple(other.coef_[0]), abs=1e-3)


def test_vector_of_log_probabilities_is_netcals_of_three_classes() -> None:
    from netcal.scaling import LogisticCalibration

    from robustbench_spur.calibration.scaling import _quiet

    logits, labels = drawn(3, classes=3, factor=2.0)
    log_p = log_softmax(logits)
    with _quiet():
        other = LogisticCalibration().fit(np.exp(log_p), labels, tensorboard=False).transform(np.exp(log_p))
    assert known(fit("vector", log_p, labels)) == pytest.approx(other, abs=1e-4)


def test_beta_is_the_best_of_its_family() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(4)
    p = rng.beta(2, 2, 1500)
    # with a negative weight the best of the family lies on its edge, at zero
    for a, b in ((0.5, 2.0), (2.0, -1.0)):
        margin = a * np.log(p) - b * np.log1p(-p) + 0.3
        labels = (rng.random(1500) < 1 / (1 + np.exp(-margin))).astype(np.int64)

        def loss(theta: Floats, labels: NDArray[np.int64] = labels) -> float:
            z = theta[0] * np.log(p) - theta[1] * np.log1p(-p) + theta[2]
            return float(negative_log_likelihood(np.stack([0 * z, z], axis=1), labels).mean())

        best = minimize(loss, [1.0, 1.0, 0.0], bounds=[(0, None), (0, None), (None, None)])
        scaled = fit("beta", np.log(np.stack([1 - p, p], axis=1)), labels)
        assert loss(np.array(scaled.parameters)) == pytest.approx(best.fun, abs=1e-6)
        assert scaled.parameters == pytest.approx(tuple(best.x), abs=0.02)


@pytest.mark.parametrize("classes", [2, 3])
def test_isotonic_is_scikit_learns_one_against_the_rest(classes: int) -> None:
    from sklearn.isotonic import IsotonicRegression

    (logits, labels), (target, _) = drawn(5, classes=classes), drawn(6, classes=classes)
    given, wanted = np.exp(log_softmax(logits)), np.exp(log_softmax(target))
    each = [
        IsotonicRegression(out_of_bounds="clip").fit(given[:, k], labels == k).predict(wanted[:, k])
        for k in range(classes)
    ]
    expected = np.stack(each, axis=1)
    mapped = known(fit("isotonic", logits, labels, target))
    if classes == 2:
        assert mapped[:, 1] == pytest.approx(expected[:, 1])
    else:
        assert mapped == pytest.approx(expected / expected.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("classes", [2, 10])
def test_every_map_gives_probabilities_and_repairs_what_it_was_fitted_to(name: str, classes: int) -> None:
    (logits, labels), (target, truth) = (drawn(seed, classes=classes, factor=4.0) for seed in (7, 8))
    scaled = fit(name, logits, labels, target)
    if name == "platt" and classes > 2:
        assert scaled.reason == "defined for two classes, the split has 10"
        return
    mapped = known(scaled)
    assert mapped.shape == target.shape
    assert mapped.sum(axis=1) == pytest.approx(np.ones(len(target)))
    assert (mapped >= 0).all()
    confidence, right = mapped.max(axis=1), mapped.argmax(axis=1) == truth
    assert abs(confidence.mean() - right.mean()) < 0.05 < np.exp(log_softmax(target)).max(axis=1).mean() - right.mean()


def test_nothing_is_left_to_chance() -> None:
    import torch

    logits, labels = drawn(9, rows=300, classes=3, factor=2.0)
    found = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        state, words = torch.get_rng_state(), np.random.get_state(legacy=True)[1].copy()  # noqa: NPY002
        found.append([fit(name, logits, labels) for name in MAPS])
        assert (torch.get_rng_state() == state).all()
        assert (np.random.get_state(legacy=True)[1] == words).all()  # noqa: NPY002
    for one, other in zip(*found, strict=True):
        assert one.parameters == other.parameters
        assert one.reason == other.reason
        assert one.probabilities is None or (one.probabilities == known(other)).all()


# What cannot be fitted


@pytest.mark.parametrize("name", MAPS)
def test_one_class_an_absent_class_and_no_example_give_a_reason(name: str) -> None:
    logits, labels = drawn(0, rows=20, classes=3)
    assert fit(name, logits, np.minimum(labels, 1)).reason == "validation has no example of c2"
    assert fit(name, logits, np.zeros(20, np.int64)).reason == "validation has no example of c1, c2"
    assert fit(name, logits[:0], labels[:0]).reason == "validation has no examples"
    assert fit(name, logits[:, :1], np.zeros(20, np.int64)).reason == "there is one class only"


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("classes", [2, 3])
def test_separable_examples_give_a_reason(name: str, classes: int) -> None:
    labels = np.arange(60) % classes
    scaled = fit(name, 5 * np.eye(classes)[labels] + np.random.default_rng(0).normal(0, 0.3, (60, classes)), labels)
    if name == "isotonic":  # a step function has no trouble with them
        assert known(scaled)[np.arange(60), labels] == pytest.approx(np.ones(60))
    elif name == "platt" and classes == 3:
        assert "two classes" in scaled.reason
    else:
        assert scaled.probabilities is None
        assert "the likelihood has no maximum" in scaled.reason


def test_a_model_that_is_wrong_where_it_is_sure_has_no_temperature() -> None:
    logits, labels = drawn(0)
    assert "no temperature above zero fits" in fit("temperature", logits, 1 - labels).reason
    # Platt's weight turns it round
    assert fit("platt", logits, 1 - labels).parameters[0] < 0


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"Unknown scaling 'temprature'\. Did you mean 'temperature'"):
        fit("temprature", *drawn(0, rows=10))


# The evaluator


def test_before_is_the_models_own_and_after_is_that_of_the_map() -> None:
    validation, test = (of(*drawn(seed, factor=3.0)) for seed in (0, 1))
    predictions = collected(test, validation)
    numbers, own = point(predictions), Calibration().measure(test, once(test))
    for name in ("ece", "ece_debiased", "nll", "brier"):
        assert numbers[f"recalibrated_{name}:none"] == pytest.approx(own[name].item())
    for value in ("v0", "v1"):
        assert numbers[f"recalibrated_ece_at:none:{value}"] == pytest.approx(own[f"ece_at:{value}"].item())
    assert numbers["recalibrated_ece_gap:none"] == pytest.approx(own["ece_gap"].item())
    temperature = known(scale("temperature", validation.logits, validation.labels, test.logits, ["c0", "c1"]))
    scaled = Calibration().measure(replace(test, logits=np.log(temperature).astype(np.float32)), once(test))
    for name in ("ece", "nll", "brier", "ece_gap"):
        assert numbers[f"recalibrated_{name}:temperature"] == pytest.approx(scaled[name].item(), abs=1e-5)
    worst = max(scaled[f"ece_at:{value}"].item() for value in ("v0", "v1"))
    assert numbers["recalibrated_worst_ece:temperature"] == pytest.approx(worst, abs=1e-5)
    assert numbers["recalibrated_nll:temperature"] < numbers["recalibrated_nll:none"]
    accuracies = {numbers[f"recalibrated_accuracy:{name}"] for name in ("none", "temperature")}
    assert accuracies == {test.correct.mean()}
    checked = Recalibration().cross_check(predictions)
    for name in NAMES:
        expected = numbers[f"recalibrated_ece:{name}"]
        assert checked[f"netcal/recalibrated_ece:{name}"] == pytest.approx(expected, abs=1e-6), name


def test_a_biased_validation_repairs_all_and_not_each() -> None:
    """Validation is at v0 alone, where the model is overconfident; at v1 it is not."""
    rng = np.random.default_rng(0)

    def at(value: int, factor: float, seed: int) -> Predictions:
        logits, labels = drawn(seed, rows=3000, factor=factor)
        return of(logits, labels, np.full(3000, value))

    validation, parts = at(0, 3.0, 1), (at(0, 3.0, 2), at(1, 1.0, 3))
    rows = rng.permutation(6000)
    logits, labels, attributes = (
        np.concatenate([getattr(part, name) for part in parts])[rows] for name in ("logits", "labels", "attributes")
    )
    predictions = collected(of(logits, labels, attributes), validation)
    numbers, details = point(predictions), Recalibration().details(predictions)
    assert numbers["recalibrated_ece_at:temperature:v0"] < 0.03 < numbers["recalibrated_ece_at:none:v0"]
    assert numbers["recalibrated_ece_at:none:v1"] < 0.03
    assert numbers["recalibrated_ece_at:temperature:v1"] > 0.1
    assert numbers["recalibrated_worst_ece:temperature"] == numbers["recalibrated_ece_at:temperature:v1"]
    row = details["scalings"][1]
    assert (row["name"], row["worst_value"]) == ("temperature", "v1")
    assert row["parameters"] == pytest.approx([3.0], rel=0.1)
    assert row["overconfidence_at"]["v1"] < -0.1 < abs(row["overconfidence_at"]["v0"]) < 0.03 + 0.1
    assert row["changed"] == 0
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["undefined"].keys() == {name for name, value in numbers.items() if math.isnan(value)}


def test_the_plain_version_under_resampling() -> None:
    predictions = collected(of(*drawn(1, rows=90)), of(*drawn(0, rows=200, factor=0.5)))
    counts = resample_counts(len(predictions.patients), 3, 0)
    numbers = Recalibration().measure(predictions, counts)
    for row, times in enumerate(counts):
        again = reference.repeated(predictions, times)
        rows = np.array([np.flatnonzero(predictions.ids == f"id{i}")[0] for i in _rows(predictions, times)])
        arrays = dict(predictions.arrays) | {
            "recalibration_probabilities": predictions.arrays["recalibration_probabilities"][rows]
        }
        repeated = point(replace(again, arrays=arrays))
        for name in ("ece", "nll", "brier", "accuracy"):
            for scaling in NAMES:
                key = f"recalibrated_{name}:{scaling}"
                assert numbers[key][row] == pytest.approx(repeated[key], nan_ok=True), key


def _rows(predictions: Predictions, times: Floats) -> list[int]:
    """Rows in the order of :func:`reference.repeated`."""
    out = []
    for patient, count in enumerate(times.astype(int).tolist()):
        out += np.flatnonzero(predictions.patient == patient).tolist() * count
    return out


KNOWN: dict[str, Any] = {
    "constant": (reference.constant(0), 0.5),
    "perfect": (reference.perfect(), 0.0),
    "shortcut": (reference.shortcut_only(), 0.5),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_predictors(name: str) -> None:
    predictions, before = KNOWN[name]
    numbers = point(collected(predictions, predictions))
    assert numbers["recalibrated_ece:none"] == pytest.approx(before, abs=1e-12)
    details = Recalibration().details(collected(predictions, predictions))
    if name == "perfect":
        assert "has no maximum" in details["undefined"]["recalibrated_ece:temperature"]
        assert numbers["recalibrated_ece:isotonic"] == pytest.approx(0)
    else:  # half are right: a calibrated model of this kind says one half
        for scaling in ("platt", "vector", "isotonic"):
            assert numbers[f"recalibrated_ece:{scaling}"] == pytest.approx(0, abs=1e-3), scaling
            assert numbers[f"recalibrated_nll:{scaling}"] == pytest.approx(math.log(2), abs=1e-3), scaling


@pytest.mark.parametrize(("rows", "classes", "values"), [(0, 2, 2), (1, 2, 2), (3, 10, 5), (0, 1, 1), (40, 2, 3)])
def test_few_rows_give_numbers_or_reasons(rows: int, classes: int, values: int) -> None:
    test = reference.random(1, rows=rows, patients=1, classes=classes, values=values)
    for validation in (reference.random(2, rows=60, classes=classes, values=values), test):
        predictions = collected(test, validation)
        numbers = Recalibration().measure(predictions, resample_counts(len(predictions.patients), 4, 0))
        assert all(value.shape == (4,) for value in numbers.values())
        details = Recalibration().details(predictions)
        assert details["undefined"].keys() == {name for name, value in numbers.items() if np.isnan(value).any()}
        assert all(details["undefined"].values())
        assert json.loads(json.dumps(details, allow_nan=False)) == details
        assert len(Recalibration().cross_check(predictions)) == len(NAMES)
        for name in numbers:
            assert name.split(":")[0] + ":" in Recalibration.metrics


def test_a_true_class_of_probability_zero_has_no_log_loss() -> None:
    # validation's highest ten are all of class 1: the step function says 1 there, and a test example is of class 0
    margin = np.linspace(-3, 3, 40)
    labels = np.where(np.arange(40) >= 30, 1, np.arange(40) % 2)
    logits = np.stack([np.zeros(40), margin], axis=1)
    test = of(logits, np.where(np.arange(40) == 39, 0, labels))
    predictions = collected(test, of(logits, labels))
    assert math.isnan(point(predictions)["recalibrated_nll:isotonic"])
    reasons = Recalibration().details(predictions)["undefined"]
    assert reasons["recalibrated_nll:isotonic"].startswith("an example's true class has probability zero")


def test_ten_classes_and_two_hundred_thousand_rows() -> None:
    test = reference.random(0, rows=200_000, patients=500, classes=10, values=5, step=0)
    predictions = collected(test, reference.random(1, rows=1000, classes=10, values=5, step=0))
    numbers = Recalibration().measure(predictions, resample_counts(500, 50, 0))
    assert numbers["recalibrated_ece:temperature"].mean() < numbers["recalibrated_ece:none"].mean()
    assert predictions.arrays["recalibration_probabilities"].dtype == np.float32


def test_arrays_that_do_not_fit_are_refused() -> None:
    test = of(*drawn(1, rows=30))
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        Recalibration().measure(test, once(test))
    predictions = collected(test, test)
    for name, shape in (("probabilities", (30, 4, 2)), ("parameters", (4, 3)), ("reasons", (4,))):
        arrays = dict(predictions.arrays) | {f"recalibration_{name}": np.zeros(shape)}
        with pytest.raises(SpurbenchError, match="Expected"):
            Recalibration().details(replace(predictions, arrays=arrays))
