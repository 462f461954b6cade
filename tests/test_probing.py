"""Probes and erasers against closed forms of normal distributions, scikit-learn, and the formula written out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from robustbench_spur.erasing import fit_eraser, held_out_erased
from robustbench_spur.evaluators.base import Part
from robustbench_spur.probing import (
    LEAST,
    MOST,
    Scale,
    columns_of,
    features_of,
    folds_by_patient,
    head_logits,
    held_out_scores,
    pair_weights,
    untied,
)
from robustbench_spur.types import SpurbenchError
from tests.evaluators.gaussian import as_images, drawn, part, subject, two_class

# Folds and weights


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6))
def test_patients_stay_together_and_are_dealt_evenly_in_any_order_of_rows(seed: int, patients: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    patient = np.concatenate([np.arange(patients), rng.integers(0, patients, 60)])
    group = rng.integers(0, 4, len(patient))
    fold = folds_by_patient(patient, group, folds)
    of_patient = [set(fold[patient == one]) for one in range(patients)]
    assert all(len(one) == 1 for one in of_patient)
    sizes = np.bincount([one.pop() for one in of_patient])
    assert len(sizes) == min(folds, patients) and np.ptp(sizes) <= 1
    order = rng.permutation(len(patient))
    assert (folds_by_patient(patient[order], group[order], folds) == fold[order]).all()


def test_each_group_is_in_every_fold() -> None:
    patient, group = np.arange(40), np.repeat(np.arange(4), 10)
    fold = folds_by_patient(patient, group, 5)
    assert (np.histogram2d(fold, group, bins=(5, 4))[0] == 2).all()


def test_pairs_that_occur_weigh_the_same() -> None:
    codes, others = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    weight = pair_weights(codes, others)
    assert weight.mean() == pytest.approx(1)
    sums = [weight[(codes == k) & (others == y)].sum() for k, y in ((0, 0), (0, 1), (1, 1))]
    assert sums == pytest.approx([2, 2, 2])


def test_unknown_codes_untie_nothing() -> None:
    assert not untied(np.array([0, 1, -1]), np.array([0, 1, 1]))
    assert untied(np.array([0, 1, 1]), np.array([1, 1, -1]))
    assert not untied(np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_constant_features_are_dropped() -> None:
    scale = Scale.of(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert scale(np.array([[1.0, 9.0], [2.0, 5.0]])).tolist() == [[-1.0], [0.0]]


# Probes


def test_a_probe_is_scikit_learns_on_the_other_folds() -> None:
    points, labels, attributes, clusters, _ = drawn(0, patients=60, noise=3)
    fold = folds_by_patient(clusters, labels, 3)
    odds = held_out_scores(points, attributes, labels, 2, fold, 0.1)
    for held in range(3):
        train = fold != held
        scaler = StandardScaler().fit(points[train])
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=2000)
        # one weight for all: the four pairs are equally large here, up to what a fold takes away
        weight = pair_weights(attributes[train], labels[train])
        model.fit(scaler.transform(points[train]), attributes[train], sample_weight=weight)
        expected = model.decision_function(scaler.transform(points[fold == held]))
        assert odds[fold == held, 1] == pytest.approx(expected, abs=0.02)
    assert (odds[:, 0] == -odds[:, 1]).all()


def test_log_odds_of_three_levels_are_those_of_each_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    points = np.eye(3)[codes] * 2 + rng.normal(size=(90, 3))
    fold, others = np.arange(90) // 30, np.zeros(90, np.int64)
    odds = held_out_scores(points, codes, others, 3, fold, 1.0)
    assert (1 / (1 + np.exp(-odds))).sum(axis=1) == pytest.approx(np.ones(90))
    assert (odds.argmax(axis=1) == codes).mean() > 0.7


@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.6])
def test_auroc_of_normal_features_is_the_closed_form(correlation: float) -> None:
    points, labels, attributes, clusters, _ = drawn(1, patients=4000, attribute_shift=0.5, correlation=correlation)
    fold = folds_by_patient(clusters, labels * 2 + attributes, 5)
    odds = held_out_scores(points, attributes, labels, 2, fold, 1.0)
    # the best direction for who does not know the class, whose means are 2 apart; and how far it puts the values apart
    within_class = np.array([[1, correlation], [correlation, 1]])
    direction = np.linalg.solve(within_class + np.diag([1, 0]), [0, 1])
    distance = direction[1] / np.sqrt(direction @ within_class @ direction)
    for label in (0, 1):
        within = roc_auc_score(attributes[labels == label], odds[labels == label, 1])
        assert within == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.015)


def test_the_label_is_of_no_use_to_a_probe_for_an_attribute_that_goes_with_it() -> None:
    points, labels, attributes, clusters, _ = drawn(2, patients=1000, label_shift=2, attribute_shift=0, rho=0.9)
    fold = folds_by_patient(clusters, labels * 2 + attributes, 5)
    odds = held_out_scores(points, attributes, labels, 2, fold, 0.1)
    assert roc_auc_score(attributes, odds[:, 1]) == pytest.approx(0.5, abs=0.05)
    assert roc_auc_score(attributes, points[:, 0]) > 0.85


def test_features_that_say_nothing_score_nothing() -> None:
    attributes, labels, fold = np.arange(40) % 2, np.arange(40) // 20, np.arange(40) // 2 % 5
    assert (held_out_scores(np.ones((40, 3)), attributes, labels, 2, fold, 0.1) == 0).all()


def test_what_cannot_be_learned_is_nan() -> None:
    points, codes = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 2
    assert np.isnan(held_out_scores(points, codes, codes, 2, np.arange(12) % 3, 0.1)).all(), "tied"
    assert np.isnan(held_out_scores(points, codes, codes * 0, 2, np.zeros(12, np.int64), 0.1)).all(), "one fold"
    rare = np.where(np.arange(12) == 0, 2, codes)
    odds = held_out_scores(points, rare, rare * 0, 3, np.arange(12) // 4, 0.1)
    assert np.isnan(odds[:4, 2]).all() and np.isfinite(odds[4:]).all() and np.isfinite(odds[:4, :2]).all()
    unknown = np.where(np.arange(12) < 6, codes, -1)
    odds = held_out_scores(points, unknown, codes * 0, 2, np.arange(12) % 2 * 0 + (np.arange(12) > 2), 0.1)
    assert np.isfinite(odds[6:]).all(), "scored, though not fitted on"


# Erasers


def test_the_map_is_the_papers_formula() -> None:
    rng = np.random.default_rng(3)
    codes, labels = np.arange(120) % 3, np.arange(120) // 3 % 2
    points = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4)) + np.eye(4)[codes] + labels[:, None]
    scaled = (points - points.mean(axis=0)) / points.std(axis=0)
    within, shown = scaled.copy(), np.eye(3)[codes]
    for label in (0, 1):
        within[labels == label] -= scaled[labels == label].mean(axis=0)
        shown[labels == label] -= np.eye(3)[codes][labels == label].mean(axis=0)
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    whiten = np.linalg.inv(np.real(sqrtm(covariance)))
    spread = whiten @ within.T @ shown
    project = spread @ np.linalg.pinv(spread)
    expected = scaled - scaled @ (np.linalg.inv(whiten) @ project @ whiten).T
    found = (fit_eraser(points, codes, labels)(points) - points.mean(axis=0)) / points.std(axis=0)
    assert found == pytest.approx(expected, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 30))
def test_nothing_is_correlated_with_a_level_within_classes(seed: int, levels: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    codes, labels = np.arange(200) % levels, rng.integers(0, 3, 200)
    points = rng.normal(size=(200, width)) + rng.normal(size=(levels, width))[codes] * 3
    weight = pair_weights(codes, labels)
    erased = fit_eraser(points, codes, labels)(points)
    shown = (codes[:, None] == np.arange(levels)).astype(float)
    for label in range(3):
        rows = labels == label
        shown[rows] -= np.average(shown[rows], axis=0, weights=weight[rows])
    assert np.abs((weight[:, None] * shown).T @ erased / len(codes)).max() < 1e-8
    assert np.average(erased, axis=0, weights=weight) == pytest.approx(np.average(points, axis=0, weights=weight))


def test_a_change_of_units_changes_nothing() -> None:
    points, labels, attributes, _, _ = drawn(4, patients=100, noise=2)
    units = np.array([1e-3, 1.0, 50.0, 1.0])
    scaled = fit_eraser(points * units + 7, attributes, labels)(points * units + 7)
    assert (scaled - 7) / units == pytest.approx(fit_eraser(points, attributes, labels)(points), abs=1e-8)


def test_the_label_is_left_where_the_attribute_goes_with_it() -> None:
    points, labels, attributes, _, _ = drawn(5, patients=2000, rho=0.9, label_shift=2)
    erased = fit_eraser(points, attributes, labels)(points)
    assert np.diff([erased[labels == k, 0].mean() for k in (0, 1)]) == pytest.approx([4], abs=0.15)
    means = [[erased[(labels == k) & (attributes == a), 1].mean() for a in (0, 1)] for k in (0, 1)]
    assert np.ptp(means, axis=1) == pytest.approx([0, 0], abs=0.25)


def test_more_features_than_patients_and_constant_ones() -> None:
    rng = np.random.default_rng(6)
    codes, labels = np.arange(20) % 2, np.arange(20) // 10
    points = np.concatenate([rng.normal(size=(20, 50)), np.ones((20, 2))], axis=1)
    erased = fit_eraser(points, codes, labels)(points)
    assert np.isfinite(erased).all() and (erased[:, 50:] == 1).all()
    assert (fit_eraser(np.ones((20, 2)), codes, labels)(np.ones((20, 2))) == 1).all()


def test_an_eraser_needs_a_class_with_two_levels() -> None:
    codes = np.arange(8) % 2
    with pytest.raises(SpurbenchError, match="two levels"):
        fit_eraser(np.ones((8, 1)), codes, codes)
    assert np.isnan(held_out_erased(np.ones((8, 1)), codes, codes, np.arange(8) // 4)).all()


# Further columns


def test_columns_with_few_levels_are_taken() -> None:
    patient = np.arange(60) // 2
    columns = {
        "vendor": np.array(["GE", "Siemens", "Philips"])[patient % 3],
        "tesla": np.where(patient < 15, 1.5, np.nan),
        "coil": np.where(patient < 15, 1.5, 3.0),
        "flip": patient % 2 == 0,
        "file": np.array([f"{row}.png" for row in range(60)]),
        "age": patient.astype(float),
        "rare": np.where(patient < LEAST - 1, "few", np.where(patient < 20, "a", "b")),
        "same": np.where(patient % 5 == 0, "p", "q"),
        "gap": np.array(["", "A", "B"])[patient % 3],
    }
    found = {column.name: column for column in columns_of(columns, patient, ((patient % 5 == 0).astype(np.int64),))}
    assert {name: column.levels for name, column in found.items()} == {
        "coil": ("1.5", "3"),
        "flip": ("False", "True"),
        "gap": ("A", "B"),
        "rare": ("a", "b"),
        "vendor": ("GE", "Philips", "Siemens"),
    }
    assert (found["rare"].codes[: 2 * (LEAST - 1)] == -1).all()
    assert (found["gap"].codes[patient % 3 == 0] == -1).all()


def test_too_many_levels_are_names() -> None:
    patient = np.arange(200)
    assert columns_of({"site": patient % (MOST + 1)}, patient, ()) == []
    assert len(columns_of({"site": patient % MOST}, patient, ())[0].levels) == MOST
    assert columns_of({}, patient, ()) == []


# Features


def test_features_are_the_last_layers_input() -> None:
    points, labels, attributes, clusters, groups = drawn(7, patients=300)
    model = two_class([1.0, 1.0])
    test = part(model, points, labels, attributes, clusters, groups)
    seen: list[tuple[int, int]] = []
    given_to = subject(model, test)
    object.__setattr__(given_to, "progress", lambda done, total: seen.append((done, total)))
    features = features_of(given_to, test)
    assert features == pytest.approx(points, abs=0.04)
    assert head_logits(given_to, features.astype(np.float64)) == pytest.approx(test.predictions.logits, abs=1e-5)
    assert seen == [(256, 600), (512, 600), (600, 600)]


def test_another_models_predictions_are_refused() -> None:
    test = part(two_class([1.0, 1.0]), *drawn(7, patients=20))
    with pytest.raises(SpurbenchError, match="of this model"):
        features_of(subject(two_class([1.0, -1.0]), test), test)


def test_features_must_be_finite() -> None:
    model = two_class([1.0, 0.0])
    test = part(model, *drawn(7, patients=20))
    model.features = lambda images: model.backbone(images) * float("nan")  # type: ignore[method-assign]
    model.head.register_forward_hook(lambda *_: __import__("torch").from_numpy(test.predictions.logits))
    with pytest.raises(SpurbenchError, match="finite features"):
        features_of(subject(model, test), Part(test.predictions, as_images(np.zeros((40, 2)))))


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, robustbench_spur.shortcut, robustbench_spur.erasing;"
        "import robustbench_spur.evaluators.encoding, robustbench_spur.evaluators.shortcut_testing;"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
