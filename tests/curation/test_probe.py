"""The probe: it reads what is there, out of fold, and finds nothing where images say nothing, or the label alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from robustbench_spur.curation import probe
from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.curation.frozen import Features
from robustbench_spur.curation.measures import Draws, adjusted_information, detectability
from robustbench_spur.curation.probe import LEAST, Probe, auroc_within, folds_of, of_table
from robustbench_spur.types import SpurbenchError

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def tied(rng: np.random.Generator, classes: Codes, share: float) -> Codes:
    """A binary feature that agrees with the class in a share of the patients of each class."""
    out = classes.copy()
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(classes == label))
        out[rows[: round((1 - share) * len(rows))]] = 1 - label
    return out


def told(levels: Codes, values: Floats, classes: Codes) -> float:
    """Detectability by a probe."""
    predicted = Probe(values).detector(levels, classes)
    return detectability(levels, predicted, classes, Draws.make(len(levels), 99, 20, seed=0)).value


# What it reads


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_perfect_feature_is_read_of_all_patients(count: int) -> None:
    rng = np.random.default_rng(count)
    levels, classes = rng.permutation(np.arange(140) % count), rng.integers(0, 2, 140)
    seen = np.column_stack([np.eye(count)[levels], rng.normal(size=(140, 3)), np.ones(140)])
    found = Probe(seen)
    np.testing.assert_array_equal(found.detector(levels, classes), levels)
    scores = found.scores(levels, classes)
    assert scores.shape == (140, count)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_array_equal(scores.argmax(axis=1), levels)
    assert auroc_within(levels, scores, classes) == 1.0


@pytest.mark.parametrize("shape", [(200, 4), (80, 400)])
def test_an_independent_feature_is_not_read(shape: tuple[int, int]) -> None:
    """Also with more features than patients: the components are of all patients, but see no level."""
    values, curves = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        levels, classes = rng.integers(0, 2, shape[0]), np.arange(shape[0]) % 2
        found = Probe(rng.normal(size=shape))
        scores = found.scores(levels, classes)
        draws = Draws.make(shape[0], 99, 2, seed=seed)
        values.append(adjusted_information(levels, scores.argmax(axis=1), draws).value)
        curves.append(auroc_within(levels, scores, classes))
    assert abs(float(np.mean(values))) < 0.01
    assert abs(float(np.mean(np.array(curves, np.float64))) - 0.5) < 0.03


def test_what_tells_the_label_alone_does_not_tell_the_feature() -> None:
    """The label is plain in the image, and the feature agrees with it in nine patients of ten."""
    within, curves, over_all, leanings = [], [], [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        classes = np.arange(200) % 2
        levels = tied(rng, classes, 0.9)
        values = np.column_stack([classes + rng.normal(0, 0.2, 200), rng.normal(size=(200, 5))])
        within.append(told(levels, values, classes))
        scores = Probe(values).scores(levels, classes)
        curves.append(auroc_within(levels, scores, classes))
        leanings.append(scores[classes == 1, 1].mean() - scores[classes == 0, 1].mean())
        draws = Draws.make(200, 99, 2, seed=0)
        over_all.append(adjusted_information(levels, classes, draws).value)
    assert np.mean(within) < 0.015
    assert abs(float(np.mean(np.array(curves, np.float64))) - 0.5) < 0.06
    assert abs(np.mean(leanings)) < 0.1, "pairs of level and class weigh the same, so that the label is of no use"
    assert min(over_all) > 0.4, "so a detector that says the label would tell much without regard to classes"


def test_a_feature_beside_the_label_is_read_within_classes() -> None:
    rng = np.random.default_rng(1)
    classes = np.arange(200) % 2
    levels = tied(rng, classes, 0.9)
    values = np.column_stack([classes + rng.normal(0, 0.2, 200), levels + rng.normal(0, 0.2, 200)])
    assert told(levels, values, classes) > 0.6


def test_components_of_all_patients_read_no_better_than_those_of_the_others() -> None:
    """Standardisation and components fitted on the training folds alone give what those of all patients give."""
    gaps = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        classes = np.arange(120) % 2
        levels = tied(rng, classes, 0.8)
        values = rng.normal(size=(120, 150)) @ rng.normal(size=(150, 150))
        values[:, :4] += 15 * levels[:, None]
        fold, apart = folds_of(levels, classes, 5, 2025), np.empty(120, np.int64)
        for held in range(5):
            train, test = fold != held, fold == held
            scaler = StandardScaler().fit(values[train])
            axes = np.linalg.svd(scaler.transform(values[train]), full_matrices=False)[2][: probe.COMPONENTS]
            points = scaler.transform(values) @ axes.T
            known, found = probe._fit(points[train], levels[train], classes[train], points[test])
            apart[test] = known[found.argmax(axis=1)]
        draws = Draws.make(120, 99, 2, seed=0)
        together = detectability(levels, Probe(values).detector(levels, classes), classes, draws).value
        gaps.append(together - detectability(levels, apart, classes, draws).value)
    assert abs(float(np.mean(gaps))) < 0.05


# Folds


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=80), st.integers(2, 6))
@example([(level % 5, level % 7 % 3) for level in range(200)], 5)
@settings(max_examples=40, deadline=None)
def test_folds_share_every_pair_of_level_and_class(pairs: list[tuple[int, int]], folds: int) -> None:
    levels, classes = np.array(pairs, np.int64).T
    fold = folds_of(levels, classes, folds, seed=1)
    np.testing.assert_array_equal(fold, folds_of(levels, classes, folds, seed=1))
    for rows in (levels * 3 + classes == cell for cell in range(15)):
        assert np.ptp(np.bincount(fold[rows], minlength=folds)) <= 1
    for rows in (np.ones(len(pairs), bool), *(levels == level for level in range(5))):
        assert np.ptp(np.bincount(fold[rows], minlength=folds)) <= 1


def test_another_seed_gives_other_folds() -> None:
    levels, classes = np.arange(60) % 2, np.arange(60) // 30
    assert (folds_of(levels, classes, 5, 0) != folds_of(levels, classes, 5, 1)).any()


def test_the_levels_of_a_fold_are_of_no_use_for_its_own_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folds held fixed, a patient whose level is changed scores as before, and so do all of the fold; others do not."""
    rng = np.random.default_rng(0)
    levels, classes = rng.integers(0, 2, 100), rng.integers(0, 2, 100)
    found = Probe(rng.normal(size=(100, 6)) + levels[:, None])
    fold = folds_of(levels, classes, 5, found.seed)
    monkeypatch.setattr(probe, "folds_of", lambda *_: fold)
    before = found.scores(levels, classes)
    for patient in (0, 17, 63):
        changed = levels.copy()
        changed[patient] = 1 - levels[patient]
        own, after = fold == fold[patient], found.scores(changed, classes)
        np.testing.assert_array_equal(after[own], before[own])
        assert (after[~own] != before[~own]).any(axis=1).all()


# Rare levels


def test_a_level_of_few_patients_is_never_predicted() -> None:
    levels = np.repeat([0, 1, 2, 3], [40, 40, LEAST - 1, LEAST])
    classes = np.arange(len(levels)) % 2
    found = Probe(np.eye(4)[levels])
    predicted, scores = found.detector(levels, classes), found.scores(levels, classes)
    assert set(predicted[levels == 2].tolist()) <= {0, 1, 3}
    assert (predicted[levels == 3] == 3).all()
    assert (scores[:, 2] == 0).all()
    np.testing.assert_array_equal(predicted[levels < 2], levels[levels < 2])


@pytest.mark.parametrize(
    ("levels", "values"),
    [
        (np.repeat([0, 1], [4, 40]), np.random.default_rng(0).normal(size=(44, 2))),
        (np.repeat([0, 1], [20, 24]), np.ones((44, 3))),
        (np.arange(44) // 2, np.random.default_rng(0).normal(size=(44, 2))),
    ],
)
def test_where_nothing_can_be_learned_the_most_frequent_level_is_said(levels: Codes, values: Floats) -> None:
    classes, found = np.arange(44) % 2, Probe(values)
    assert set(found.detector(levels, classes).tolist()) == {int(np.bincount(levels).argmax())}
    assert auroc_within(levels, found.scores(levels, classes), classes) == 0.5
    assert told(levels, values, classes) == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Probe(np.ones((3, 2))).scores(np.zeros(4, np.int64), np.zeros(4, np.int64)), "of 3 .* found 4 and 4"),
        (lambda: Probe(np.ones((3, 2))).detector(np.zeros(3, np.int64), np.zeros(2, np.int64)), "found 3 and 2"),
        (lambda: Probe(np.ones((3, 2)), folds=1), "at least 2 folds, found 1"),
    ],
)
def test_mistakes_are_told(act: Callable[[], object], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        act()


# AUROC within classes


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_auroc_is_that_of_scikit_learn_in_every_class(count: int) -> None:
    rng = np.random.default_rng(count)
    levels, classes = rng.integers(0, count, 150), np.repeat([0, 1, 2], [20, 50, 80])
    scores = rng.dirichlet(np.ones(count), 150) + 0.2 * np.eye(count)[levels]
    scores /= scores.sum(axis=1, keepdims=True)
    expected = []
    for rows in (classes == label for label in range(3)):
        given_scores = scores[rows] if count > 2 else scores[rows, 1]
        expected.append(roc_auc_score(levels[rows], given_scores, multi_class="ovr", average="weighted"))
    assert auroc_within(levels, scores, classes) == pytest.approx(np.dot(expected, [20, 50, 80]) / 150)


def test_classes_of_one_level_are_left_out_of_the_auroc() -> None:
    levels, scores = np.array([0, 0, 1, 0, 1, 1]), np.linspace(0, 1, 6)
    both = np.column_stack([1 - scores, scores])
    classes = np.array([0, 0, 1, 1, 1, 1])
    assert auroc_within(levels, both, classes) == pytest.approx(2 / 3), (
        "of three pairs in class 1, one is in wrong order"
    )
    assert auroc_within(levels, both, levels) is None


# The table


def test_the_table_is_reduced_to_patients_with_a_label_and_images() -> None:
    ids = np.array(["a", "b", "c", "d", "e"], dtype=object)
    columns = (
        Column("y", np.array(["0", None, "1", "1", "0"], dtype=object), "categorical"),
        Column("age", np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype=object), "numeric"),
    )
    table = FeatureTable(Path("made.csv"), ids, columns, 5, notes=("first",))
    features = Features(("e", "x", "b", "c", "a"), np.arange(10.0).reshape(5, 2), 5, "made")
    reduced, values = of_table(table, "Y", features)
    assert reduced.patients.tolist() == ["a", "c", "e"]
    assert reduced.find("age").values.tolist() == [1.0, 3.0, 5.0]
    np.testing.assert_array_equal(values, [[8, 9], [6, 7], [0, 1]])
    assert reduced.notes == (
        "first",
        "1 patients without 'y' are left out.",
        "1 of 4 patients have no images, and are left out.",
    )
    with pytest.raises(SpurbenchError, match=r"with 'y' and images in made.csv, found none"):
        of_table(table, "y", Features(("x",), np.ones((1, 2)), 1, "made"))
