"""DFR's last layer against scikit-learn's own predictions, scipy's optimum, and a problem whose answer is known."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from robustbench_spur.method import View
from robustbench_spur.methods.dfr import DFR, DFRHyperparameters, average_fit, balanced_subset, fit_logistic
from robustbench_spur.methods.erm import ERM
from robustbench_spur.types import HiddenError, Partition, SpurbenchError
from tests.methods.toy import of_groups, partition, task_of, universe

Floats = NDArray[np.float64]


def problem(
    rows: int, classes: int, features: int = 6, *, seed: int = 0, spread: float = 1.0
) -> tuple[Floats, NDArray[np.int64]]:
    """Overlapping classes: feature k is raised where the label is k."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return rng.normal(0, spread, (rows, features)) + np.eye(classes, features)[labels], labels.astype(np.int64)


def seen_by_dfr(rows: Partition, classes: int = 2, values: int = 2, *, seed: int = 0) -> View:
    return View(rows, universe(classes, values), True, "dfr", seed)


# balanced subsets


@settings(deadline=None)
@given(groups=st.lists(st.integers(0, 6), min_size=1, max_size=60), seed=st.integers(0, 2**16))
def test_balanced_subset_has_equal_counts(groups: list[int], seed: int) -> None:
    codes = np.array(groups, np.int64)
    rows = balanced_subset(codes, np.random.default_rng(seed))
    present, counts = np.unique(codes, return_counts=True)
    chosen, chosen_counts = np.unique(codes[rows], return_counts=True)
    assert chosen.tolist() == present.tolist()
    assert set(chosen_counts.tolist()) == {int(counts.min())}
    assert len(set(rows.tolist())) == len(rows)


def test_balanced_subset_takes_every_example_in_time() -> None:
    codes = np.array([0] * 3 + [1] * 9)
    rng = np.random.default_rng(0)
    counts = np.sum([np.bincount(balanced_subset(codes, rng), minlength=12) for _ in range(900)], axis=0)
    assert counts[:3].tolist() == [900] * 3
    # each of nine is taken with probability 1/3: 300 of 900, with a standard deviation of 14
    np.testing.assert_allclose(counts[3:], 300, atol=70)


# logistic regression


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("strength", [0.03, 1.0])
def test_softmax_of_our_logits_is_sklearns_probability(classes: int, strength: float) -> None:
    features, labels = problem(120, classes)
    weight, bias = fit_logistic(features, labels, strength)
    solver = "liblinear" if classes == 2 else "saga"
    theirs = LogisticRegression(C=strength, l1_ratio=1.0, solver=solver, max_iter=10_000, random_state=0)
    theirs.fit(features, labels)
    assert weight.shape == (classes, 6) and bias.shape == (classes,)
    np.testing.assert_allclose(softmax(features @ weight.T + bias, axis=1), theirs.predict_proba(features), rtol=1e-10)


def l1_objective(weight: Floats, bias: Floats, features: Floats, labels: NDArray[np.int64], strength: float) -> float:
    """Penalised loss of a softmax over two classes, as liblinear states it: |w| + |b| of the difference, c times the loss."""
    rows = np.arange(len(labels))
    loss = -log_softmax(features @ weight.T + bias, axis=1)[rows, labels].sum()
    return float(np.abs(weight[1] - weight[0]).sum() + abs(bias[1] - bias[0]) + strength * loss)


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_two_classes_reach_scipys_optimum(strength: float) -> None:
    """Split into positive and negative parts, the L1 problem is smooth with bounds: L-BFGS-B solves it."""
    features, labels = problem(80, 2)
    signs, ones = 2 * labels - 1, np.ones((80, 1))
    design = np.hstack([features, ones]) * signs[:, None]

    def objective(parts: Floats) -> tuple[float, Floats]:
        margin = design @ (parts[:7] - parts[7:])
        slope = -strength * design.T @ (1 / (1 + np.exp(margin)))
        value = parts.sum() + strength * np.log1p(np.exp(-margin)).sum()
        return float(value), np.concatenate([1 + slope, 1 - slope])

    options = {"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-10}
    best = minimize(objective, np.zeros(14), jac=True, bounds=[(0, None)] * 14, method="L-BFGS-B", options=options)
    weight, bias = fit_logistic(features, labels, strength)
    assert l1_objective(weight, bias, features, labels, strength) == pytest.approx(best.fun, rel=1e-4)
    solution = best.x[:7] - best.x[7:]
    np.testing.assert_allclose(weight[1] - weight[0], solution[:6], atol=5e-3)
    assert bias[1] - bias[0] == pytest.approx(solution[6], abs=5e-3)


def test_a_strong_penalty_leaves_few_features() -> None:
    features, labels = problem(200, 2, 20)
    strong, weak = (fit_logistic(features, labels, c)[0] for c in (0.03, 1.0))
    assert np.count_nonzero(strong[0]) < 5 < np.count_nonzero(weak[0])


# the new last layer


def adapt_set(
    per_group: int, classes: int = 2, values: int = 2, *, slices: int = 1, seed: int = 0
) -> tuple[View, Floats]:
    """Features of which column 0 tells the label faintly, column 1 the attribute strongly, the others nothing."""
    rows = of_groups([per_group] * classes * values, values, slices=slices)
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (len(rows), 8)) * 3 + 5
    features[:, 0] += 4 * rows.labels
    features[:, 1] += 30 * rows.attributes
    features[:, 7] = 2.5
    return seen_by_dfr(rows, classes, values), features


def layer(view: View, features: Floats, **changes: Any) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    method = DFR(DFRHyperparameters(**{"draws": 10, "tuning_draws": 1, "strengths": (1.0,), **changes}))
    arrays, notes = method.last_layer(view, {"features": features.astype(np.float32), "logits": features})
    return arrays, notes


@pytest.mark.parametrize("classes", [2, 3])
def test_standardisation_is_folded_into_the_layer(classes: int) -> None:
    """With equal groups a subset is all of ``adapt``: the layer on raw features is the regression on standardised ones."""
    view, features = adapt_set(20, classes)
    arrays, _ = layer(view, features, draws=3, strengths=(0.3,))
    scaled = StandardScaler().fit_transform(features.astype(np.float32).astype(np.float64))
    solver = "liblinear" if classes == 2 else "saga"
    theirs = LogisticRegression(C=0.3, l1_ratio=1.0, solver=solver, max_iter=10_000, random_state=0)
    theirs.fit(scaled, view.labels)
    probability = softmax(features @ arrays["weight"].T + arrays["bias"], axis=1)
    np.testing.assert_allclose(probability, theirs.predict_proba(scaled), atol=2e-2 if classes > 2 else 1e-3)
    assert arrays["weight"].shape == (classes, 8) and arrays["bias"].shape == (classes,)


def test_a_constant_feature_does_no_harm() -> None:
    view, features = adapt_set(15)
    arrays, _ = layer(view, features)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert (arrays["weight"][:, 7] == 0).all()


def test_coefficients_are_averaged_over_draws() -> None:
    """The same draws from the same generator, fitted one by one and averaged."""
    counts, strength, draws = [40, 12, 9, 30], 0.7, 5
    view = seen_by_dfr(of_groups(counts))
    features = np.random.default_rng(3).normal(size=(sum(counts), 8)) + view.labels[:, None] * 0.8
    scale, mean = features.std(axis=0), features.mean(axis=0)
    scaled = (features - mean) / scale
    fits = []
    rng = np.random.default_rng(11)
    subsets = [balanced_subset(view.groups, rng) for _ in range(draws)]
    for rows in subsets:
        assert np.bincount(view.groups[rows]).tolist() == [9] * 4
        fits.append(LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", random_state=0, max_iter=10_000))
        fits[-1].fit(scaled[rows], view.labels[rows])
    weight, bias = average_fit(scaled, view.labels, subsets, strength)
    np.testing.assert_allclose(weight[1] - weight[0], np.mean([f.coef_[0] for f in fits], axis=0), rtol=1e-10)
    np.testing.assert_allclose(bias[1] - bias[0], np.mean([f.intercept_[0] for f in fits]), rtol=1e-10)


def test_more_draws_vary_less_from_seed_to_seed() -> None:
    rows = of_groups([60, 8, 8, 60])
    features = np.random.default_rng(5).normal(size=(136, 8)) + rows.labels[:, None]

    def spread(draws: int) -> float:
        many = [layer(seen_by_dfr(rows, seed=seed), features, draws=draws)[0]["weight"] for seed in range(8)]
        return float(np.std(many, axis=0).mean())

    assert spread(20) < 0.5 * spread(1)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_recovers_the_label_from_beside_a_shortcut(classes: int) -> None:
    """The attribute's column is ten times as strong, and worth nothing where groups are equal."""
    view, features = adapt_set(60, classes, 3)
    arrays, notes = layer(view, features, strengths=(1.0, 0.1, 0.03), tuning_draws=2)
    effect = np.abs(arrays["weight"] - arrays["weight"].mean(axis=0)).max(axis=0) * features.std(axis=0)
    assert effect[0] > 5 * max(effect[1:])
    predicted = (features @ arrays["weight"].T + arrays["bias"]).argmax(axis=1)
    right = predicted == view.labels
    by_group = [right[view.groups == g].mean() for g in range(classes * 3)]
    # a threshold on column 0 is right for about 0.75 of two classes, and for 0.5 of the middle one of three
    assert min(by_group) > (0.6 if classes == 2 else 0.25)
    assert notes["strength"] in (1.0, 0.1, 0.03)


def test_on_a_biased_set_subsets_still_balance() -> None:
    """95 of 100 examples have the attribute of the label: a plain regression takes it, balanced subsets do not."""
    rows = of_groups([95, 5, 5, 95])
    rng = np.random.default_rng(8)
    features = rng.normal(0, 1, (200, 2))
    features[:, 0] += 1.5 * rows.labels
    features[:, 1] += 4 * rows.attributes
    plain = fit_logistic(StandardScaler().fit_transform(features), rows.labels, 1.0)[0]
    assert abs(plain[1, 1]) > abs(plain[1, 0])
    weight = layer(seen_by_dfr(rows), features, draws=20)[0]["weight"] * features.std(axis=0)
    assert abs(weight[1, 1]) < 0.5 * abs(weight[1, 0])


# tuning


def test_strengths_are_tuned_on_the_same_subsets_of_half_of_the_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    view, features = adapt_set(24, slices=4)
    # column 0 tells the patient apart
    features[:, 0] = np.unique(view.clusters, return_inverse=True)[1]
    module = sys.modules[DFR.__module__]
    real = module.average_fit
    calls: list[tuple[int, float, list[list[int]]]] = []
    patients: list[set[float]] = []

    def watched(columns: Floats, labels: Any, subsets: Any, strength: float) -> Any:
        calls.append((len(labels), strength, [rows.tolist() for rows in subsets]))
        patients.append(set(np.round(columns[:, 0], 9).tolist()))
        return real(columns, labels, subsets, strength)

    monkeypatch.setattr(module, "average_fit", watched)
    DFR(DFRHyperparameters(draws=4, tuning_draws=2, strengths=(1.0, 0.1))).last_layer(view, {"features": features})
    assert [call[:2] for call in calls] == [(48, 1.0), (48, 0.1), (96, calls[-1][1])]
    assert [len(call[2]) for call in calls] == [2, 2, 4]
    assert calls[0][2] == calls[1][2]
    assert len(patients[0]) == 12 and patients[0] == patients[1]
    assert len(patients[2]) == 24


def test_the_strength_with_the_best_worst_group_wins() -> None:
    """Two columns of noise beside the label, and a penalty so strong that nothing is learned: it must lose."""
    view, features = adapt_set(40)
    features[:, 0] = 12 * view.labels + np.random.default_rng(0).normal(size=len(features))
    _, notes = layer(view, features, strengths=(1e-4, 0.5))
    assert notes["strength"] == 0.5
    assert notes["worst_group_by_strength"]["0.0001"] == 0.0
    assert notes["worst_group_by_strength"]["0.5"] > 0.9


def test_seeds_decide_and_repeat() -> None:
    _, features = adapt_set(20, slices=2)
    rows = of_groups([20, 9, 12, 20], slices=2)
    one, again, other = (layer(seen_by_dfr(rows, seed=seed), features[: len(rows)])[0]["weight"] for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_a_half_without_a_class_is_told() -> None:
    rows = partition([0] * 12 + [1] * 2, [0, 1] * 7, slices=2)
    with pytest.raises(SpurbenchError, match=r"all 2 classes in each half of the 7 patients"):
        layer(seen_by_dfr(rows), np.random.default_rng(0).normal(size=(14, 8)))


def test_labels_that_lack_a_declared_class_are_told() -> None:
    rows = of_groups([10, 10, 10, 10])
    with pytest.raises(SpurbenchError, match="all 3 classes"):
        layer(seen_by_dfr(rows, classes=3), np.random.default_rng(0).normal(size=(40, 8)))


# its stages


def test_three_stages_behind_the_head() -> None:
    dfr = DFR()
    head = dfr.fit(task_of(dfr))
    model, computed = head.parents
    (features,) = computed.parents
    assert [s.kind for s in (model, features, computed, head)] == ["train", "outputs", "compute", "head"]
    assert features.spec["features"] and features.spec["partition"] == computed.spec["on"] == "adapt"
    assert features.parents[0].key == model.key


def test_its_features_are_those_of_the_erm_run() -> None:
    dfr, erm = DFR(), ERM()
    assert dfr.fit(task_of(dfr)).parents[0].key == erm.fit(task_of(erm)).key


def test_it_reads_no_adapt_without_declaring_it() -> None:
    class Undeclared(DFR):  # type: ignore[misc]
        name = "undeclared"
        needs = ()

    method = Undeclared()
    with pytest.raises(HiddenError, match="undeclared asked for partition 'adapt'"):
        method.fit(task_of(method))


# settings


def test_defaults_are_the_papers() -> None:
    assert DFRHyperparameters().strengths == (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
    assert DFRHyperparameters().draws == 20


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"tuning_draws": 0}, {"strengths": []}, {"strengths": [1.0, 0.0]}, {"strengths": ["nan"]}]
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {next(iter(wrong))}"):
        DFRHyperparameters.parse(wrong, "dfr")
