"""Encoding and use against closed forms of normal features, scikit-learn, and predictors whose numbers are known."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.encoding import Encoding
from robustbench_spur.evaluators.held_out import Change, alignment, auroc_in_folds, level_auroc
from robustbench_spur.evaluators.subject import Features
from robustbench_spur.literals import read_plugins
from robustbench_spur.manifest import Bootstrap
from robustbench_spur.probing import MOST, linear_head
from robustbench_spur.scoring import Scorer
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Groups, SpurbenchError
from tests.evaluators import reference
from tests.evaluators.gaussian import classifier, drawn, part, subject, two_class
from tests.evaluators.reference import once, said, universe

Floats = NDArray[np.float64]


def collected(model: Any, data: Sequence[Any], columns: Any = None, **settings: Any) -> Predictions:
    """Predictions of these points with what the evaluator collected of them."""
    test = part(model, *data)
    arrays = Encoding(Encoding.Parameters(**settings)).collect(subject(model, test, columns))
    return dataclasses.replace(test.predictions, arrays=arrays)


def point(predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in Encoding().measure(predictions, once(predictions)).items()}


def made(predictions: Predictions, *, folds: int = 2, projected: Any = None, attribute: Any = None) -> Predictions:
    """Predictions with probes that say what is true, and a projection that changes nothing, where none is given."""
    rows, (classes, values) = len(predictions), (len(predictions.groups.classes), len(predictions.groups.values))
    arrays = {
        "encoding_fold": (predictions.patient % folds).astype(np.int16),
        "encoding_attribute": said(predictions.attributes, values) if attribute is None else attribute,
        "encoding_label": said(predictions.labels, classes),
        "encoding_projected": predictions.logits if projected is None else projected,
        "encoding_column_names": np.zeros(0, np.str_),
        "encoding_column_levels": np.zeros((0, MOST), np.str_),
        "encoding_column_codes": np.zeros((rows, 0), np.int8),
        "encoding_column_odds": np.zeros((rows, 0, MOST), np.float32),
        "encoding_column_projected": np.zeros((rows, 0, classes), np.float32),
    }
    return dataclasses.replace(predictions, arrays=arrays)


# AUROC within folds


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5]))
def test_auroc_in_folds_is_scikit_learns_weighed_by_pairs(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    patient, positive = rng.integers(0, 12, 60), rng.random(60) < 0.4
    scores = rng.normal(size=60)
    scores = np.round(scores / step) * step if step else scores
    fold, counts = patient % 3, resample_counts(12, 5, seed=1)
    found = auroc_in_folds(scores, positive, patient, fold, counts)
    for row, drawn_times in enumerate(counts):
        wins = pairs = 0.0
        for one in range(3):
            rows, weight = fold == one, drawn_times[patient]
            number = weight[rows & positive].sum() * weight[rows & ~positive].sum()
            if number:
                wins += number * roc_auc_score(positive[rows], scores[rows], sample_weight=weight[rows])
            pairs += number
        assert found[row] == pytest.approx(wins / pairs if pairs else math.nan, nan_ok=True)


def test_scores_of_different_folds_are_not_compared() -> None:
    scores, positive, patient = np.array([5.0, 6.0, 0.0, 1.0]), np.array([False, True, False, True]), np.arange(4)
    ones = np.ones((1, 4))
    assert auroc_in_folds(scores, positive, patient, np.array([0, 0, 1, 1]), ones).tolist() == [1.0]
    assert auroc_in_folds(scores, positive, patient, np.zeros(4, np.int64), ones).tolist() == [0.75]


def test_auroc_of_three_levels_is_the_mean_of_each_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    codes, odds = rng.integers(0, 3, 90), rng.normal(size=(90, 3))
    found = level_auroc(odds, codes, np.ones(90, bool), np.arange(90), np.zeros(90, np.int64), np.ones((1, 90)))
    assert found[0] == pytest.approx(np.mean([roc_auc_score(codes == k, odds[:, k]) for k in range(3)]))


def test_examples_that_are_unknown_or_not_scored_are_left_out() -> None:
    odds, codes = np.array([[0.0, 0], [0, 1], [0, 9], [0, math.nan]]), np.array([0, 1, -1, 0])
    found = level_auroc(odds, codes, np.ones(4, bool), np.arange(4), np.zeros(4, np.int64), np.ones((1, 4)))
    assert found.tolist() == [1.0]


# Alignment


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_alignment_is_the_cosine_of_directions_in_whitened_features(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, cell = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 3)), np.arange(80) % 4
    probe, head = rng.normal(size=(2, 3))
    within = points - np.stack([points[cell == c].mean(axis=0) for c in range(4)])[cell]
    root = np.linalg.cholesky(within.T @ within).T
    expected = (root @ probe) @ (root @ head) / np.linalg.norm(root @ probe) / np.linalg.norm(root @ head)
    patient = np.arange(80) // 2
    found = alignment(points @ probe + cell, points @ head - 5.0 * cell, patient, cell, np.ones((1, 40)))
    assert found[0] == pytest.approx(expected, abs=1e-8)


def test_alignment_under_resampling_is_that_of_repeated_patients() -> None:
    rng = np.random.default_rng(0)
    patient, cell = rng.integers(0, 8, 50), rng.integers(0, 3, 50)
    odds, margin = rng.normal(size=(2, 50))
    for drawn_times in resample_counts(8, 4, seed=2):
        rows = np.repeat(np.arange(50), drawn_times[patient].astype(int))
        again = alignment(odds[rows], margin[rows], np.zeros(len(rows), np.int64), cell[rows], np.ones((1, 1)))
        assert alignment(odds, margin, patient, cell, drawn_times[None])[0] == pytest.approx(again[0])


# Closed forms


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_normal_features_by_the_closed_form(correlation: float) -> None:
    a, b, head = 1.0, 1.5, np.array([1.0, 0.8])
    data = drawn(0, patients=4000, label_shift=a, attribute_shift=b, correlation=correlation)
    numbers = point(collected(two_class(head), data))
    covariance = np.array([[1, correlation], [correlation, 1]])
    size = np.sqrt(head @ covariance @ head)
    clean = {
        (y, v): norm.cdf((2 * y - 1) * (head @ [a * (2 * y - 1), b * (2 * v - 1)]) / size)
        for y in (0, 1)
        for v in (0, 1)
    }
    # without the attribute, what the second feature adds to the first through their common noise stays
    first_alone = norm.cdf(a)
    assert numbers["worst_group_without_attribute"] == pytest.approx(first_alone, abs=0.03)
    assert numbers["projection_effect"] == pytest.approx(first_alone - min(clean.values()), abs=0.03)
    assert numbers["projection_effect_micro"] == pytest.approx(first_alone - np.mean(list(clean.values())), abs=0.02)
    probe = np.linalg.solve(covariance + np.diag([a**2, 0]), [0, 1])
    cosine = probe @ covariance @ head / np.sqrt(probe @ covariance @ probe) / size
    assert numbers["probe_alignment"] == pytest.approx(abs(cosine), abs=0.03)
    distance = 2 * b * probe[1] / np.sqrt(probe @ covariance @ probe)
    assert numbers["attribute_encoding_within:c0"] == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.01)
    assert numbers["attribute_encoding_within:c1"] == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.01)


# Predictors whose numbers are known


def test_shortcut_only() -> None:
    data = drawn(1, patients=1000, label_shift=0, attribute_shift=3)
    predictions = collected(two_class([0.0, 1.0]), data)
    numbers, details = point(predictions), Encoding().details(predictions)
    assert numbers["attribute_encoding"] > 0.999 and numbers["label_encoding"] == pytest.approx(0.5, abs=0.04)
    assert numbers["probe_alignment"] > 0.99
    assert details["margin_goes_with"] == "v1" and details["worst_group"] in ("c0@v1", "c1@v0")
    assert 0.25 < numbers["worst_group_without_attribute"] < 0.55, "a coin is left"
    assert abs(numbers["projection_effect_micro"]) < 0.05


def test_encoded_and_not_used() -> None:
    predictions = collected(two_class([1.0, 0.0]), drawn(2, patients=1000, label_shift=2, attribute_shift=3))
    numbers = point(predictions)
    assert numbers["attribute_encoding"] > 0.999
    assert numbers["probe_alignment"] < 0.05
    assert numbers["projection_effect"] == pytest.approx(0, abs=0.01)
    assert numbers["worst_group_without_attribute"] == pytest.approx(norm.cdf(2), abs=0.015)


def test_used_against_its_value_goes_the_other_way() -> None:
    details = Encoding().details(collected(two_class([1.0, -1.0]), drawn(2, patients=200)))
    assert details["margin_goes_with"] == "v0"


def test_perfect() -> None:
    numbers = point(collected(two_class([1.0, 0.0]), drawn(3, patients=100, label_shift=5, attribute_shift=0)))
    assert numbers["worst_group_without_attribute"] == 1 and numbers["projection_effect"] == 0
    assert numbers["label_encoding"] == numbers["label_encoding_within:v0"] == 1
    assert numbers["attribute_encoding"] == pytest.approx(0.5, abs=0.15)


def test_constant() -> None:
    predictions = collected(two_class([0.0, 0.0], bias=-1.0), drawn(4, patients=100))
    numbers, details = point(predictions), Encoding().details(predictions)
    assert math.isnan(numbers["probe_alignment"])
    assert details["undefined"] == {
        "probe_alignment": "the classifier's margin, or the probe's score, is the same for all examples of a group and fold"
    }
    assert (
        numbers["worst_group_without_attribute"]
        == numbers["projection_effect"]
        == numbers["projection_effect_micro"]
        == 0
    )


def test_random() -> None:
    data = drawn(5, patients=2000, label_shift=0, attribute_shift=0)
    numbers = point(collected(two_class([1.0, 1.0]), data))
    for name in ("attribute_encoding", "attribute_encoding_within:c0", "label_encoding", "label_encoding_within:v1"):
        assert numbers[name] == pytest.approx(0.5, abs=0.05)
    assert abs(numbers["projection_effect"]) < 0.1


def test_features_that_are_constant() -> None:
    points, *rest = drawn(6, patients=40)
    numbers = point(collected(two_class([1.0, 1.0]), (np.zeros_like(points), *rest)))
    assert numbers["attribute_encoding"] == numbers["label_encoding"] == 0.5
    assert numbers["projection_effect"] == 0


# By hand


def test_change_of_the_worst_group_by_hand() -> None:
    before, after = np.array([1, 1, 0, 1], bool), np.array([0, 1, 1, 1], bool)
    change = Change(before, after, np.arange(4), np.array([0, 0, 1, 1]), 2)
    counts = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1], [1, 1, 0, 0]])
    # before, the worst is group 1 at 1/2; after, group 0 at 1/2; each keeps its name under every draw
    assert change.effect(counts).tolist() == pytest.approx([0.0, 0 - 1 / 2, math.nan], nan_ok=True)
    assert change.micro(counts).tolist() == pytest.approx([0.0, (3 - 3 - 1) / 4, -1 / 2], abs=1e-12)
    assert np.isnan(Change(before, after, np.arange(4), np.zeros(4, np.int64), 2).effect(counts)).all()


def test_a_projection_that_helps_by_hand() -> None:
    shortcut = reference.shortcut_only()
    predictions = made(shortcut, projected=said(shortcut.labels, 2).astype(np.float32))
    numbers = point(predictions)
    assert (numbers["worst_group_without_attribute"], numbers["projection_effect"]) == (1.0, 1.0)
    assert numbers["projection_effect_micro"] == 0.5
    assert Encoding().support(predictions) == {"worst_group_without_attribute": 5}
    table = Encoding().details(predictions)["groups"]
    assert [(row["accuracy"], row["accuracy_without_attribute"]) for row in table] == [(1, 1), (0, 1), (0, 1), (1, 1)]


def test_alignments_interval_may_hold_zero() -> None:
    rng = np.random.default_rng(0)
    predictions = reference.random(0, rows=80, patients=20)
    score = rng.normal(size=80)
    predictions = made(predictions, attribute=np.stack([-score, score], axis=1))
    counts = np.concatenate([once(predictions), resample_counts(len(predictions.patients), 200, seed=0)])
    found = Encoding().measure(predictions, counts)["probe_alignment"]
    assert found[0] >= 0 and found.min() < 0


def test_under_resampling_is_that_of_repeated_patients() -> None:
    predictions = collected(two_class([1.0, 1.0]), drawn(7, patients=16, slices=3), {"vendor": np.tile([0, 1, 0], 16)})
    counts = np.concatenate([once(predictions), resample_counts(16, 3, seed=3)])
    found = Encoding().measure(predictions, counts)
    for row in (1, 2, 3):
        rows = np.repeat(np.arange(48), counts[row][predictions.patient].astype(int))
        arrays = {
            name: array if name.endswith(("names", "levels")) else array[rows]
            for name, array in predictions.arrays.items()
        }
        again = dataclasses.replace(reference.rearranged(predictions, rows), arrays=arrays)
        numbers = point(again)
        for name in (
            "attribute_encoding",
            "label_encoding_within:v1",
            "projection_effect_micro",
            "other_attribute_encoding:vendor",
        ):
            assert found[name][row] == pytest.approx(numbers[name], nan_ok=True)


def test_rows_in_another_order_give_the_same() -> None:
    data = drawn(8, patients=60, noise=2)
    order = np.random.default_rng(0).permutation(120)
    model = two_class([1.0, 1.0, 0.0, 0.0])
    one = point(collected(model, data))
    other = point(collected(model, [*(column[order] for column in data[:4]), data[4]]))
    assert one == pytest.approx(other, abs=0.01)


def test_the_same_twice() -> None:
    data = drawn(8, patients=60)
    one, other = (collected(two_class([1.0, 1.0]), data).arrays for _ in range(2))
    assert all((one[name] == other[name]).all() for name in Encoding.collects)


def test_cross_check_is_scikit_learns() -> None:
    predictions = collected(two_class([1.0, 1.0]), drawn(9, patients=50))
    numbers, found = point(predictions), Encoding().cross_check(predictions)
    assert found == {
        f"sklearn/{name}": pytest.approx(numbers[name]) for name in ("attribute_encoding", "label_encoding")
    }


# Other columns


def test_another_attribute_that_is_used_instead() -> None:
    rng = np.random.default_rng(10)
    points, labels, attributes, clusters, groups = drawn(10, patients=1000, label_shift=1, attribute_shift=2)
    vendor = np.repeat(rng.permutation(np.arange(1000) % 2), 2)
    points = np.column_stack([points, rng.normal(size=2000) + 1.5 * (2 * vendor - 1)])
    columns = {"vendor": np.array(["GE", "Siemens"])[vendor], "position": rng.normal(size=2000), "label": labels}
    predictions = collected(two_class([1.0, 0.0, 1.0]), (points, labels, attributes, clusters, groups), columns)
    numbers, details = point(predictions), Encoding().details(predictions)
    assert numbers["projection_effect"] == pytest.approx(0, abs=0.02)
    expected = norm.cdf(1) - norm.cdf((1 - 1.5) / np.sqrt(2))
    assert numbers["other_attribute_effect:vendor"] == pytest.approx(expected, abs=0.05)
    assert numbers["other_attribute_encoding:vendor"] == pytest.approx(norm.cdf(3 / np.sqrt(2)), abs=0.01)
    assert [column["name"] for column in details["columns"]] == ["vendor"]
    assert details["columns"][0]["worst_group"] in ("c0@Siemens", "c1@GE")
    assert details["columns"][0]["known"] == 2000


def test_three_levels_some_unknown() -> None:
    data = drawn(11, patients=90)
    site = np.array(["a", "b", "c", ""])[np.repeat(np.arange(90) // 2 % 4, 2)]
    predictions = collected(two_class([1.0, 1.0]), data, {"site": site})
    details = Encoding().details(predictions)
    assert details["undefined"] == {} and details["columns"][0]["levels"] == ["a", "b", "c"]
    assert details["columns"][0]["known"] == np.count_nonzero(site != "")


def test_a_column_that_goes_with_the_label_says_so() -> None:
    points, labels, attributes, clusters, groups = drawn(12, patients=60)
    site = np.where(labels == 1, "a", np.where(clusters < 10, "", "b"))
    predictions = collected(two_class([1.0, 1.0]), (points, labels, attributes, clusters, groups), {"site": site})
    # it says the same as the label where it is known, and is left out
    assert Encoding().details(predictions)["columns"] == []


# What is undefined, and why


def undefined(predictions: Predictions) -> dict[str, str]:
    numbers, reasons = point(predictions), Encoding().details(predictions)["undefined"]
    assert {name for name, value in numbers.items() if math.isnan(value)} == set(reasons)
    json.dumps(Encoding().details(predictions), allow_nan=False)
    return dict(reasons)


def test_attribute_tied_to_the_label() -> None:
    reasons = undefined(collected(two_class([1.0, 1.0]), drawn(13, patients=40, rho=1.0)))
    assert reasons["attribute_encoding"] == reasons["worst_group_without_attribute"] == reasons["probe_alignment"]
    assert reasons["attribute_encoding"].startswith("no class has examples at two values of site")
    assert reasons["label_encoding"].startswith("no value of site has examples of two classes")
    assert reasons["attribute_encoding_within:c0"] == "c0 has no examples at two values of site"
    assert reasons["label_encoding_within:v1"] == "v1 has no examples of two classes"


def test_an_empty_group() -> None:
    points, labels, attributes, clusters, groups = drawn(14, patients=80)
    rows = ~((labels == 1) & (attributes == 0))
    _, clusters = np.unique(clusters[rows], return_inverse=True)
    reasons = undefined(
        collected(two_class([1.0, 1.0]), (points[rows], labels[rows], attributes[rows], clusters, groups))
    )
    assert set(reasons) == {
        "attribute_encoding_within:c1",
        "label_encoding_within:v0",
        "worst_group_without_attribute",
        "projection_effect",
    }
    assert reasons["projection_effect"] == "1 of 4 groups have no examples"


def test_one_class_one_value_one_patient() -> None:
    points, labels, attributes, clusters, groups = drawn(15, patients=40)
    model = two_class([1.0, 1.0])
    reasons = undefined(collected(model, (points, labels * 0, attributes, clusters, groups)))
    assert {"label_encoding", "projection_effect"} <= set(reasons) and "attribute_encoding" not in reasons
    reasons = undefined(collected(model, (points, labels, attributes * 0, clusters, groups)))
    assert {"attribute_encoding", "projection_effect"} <= set(reasons) and "label_encoding" not in reasons
    reasons = undefined(collected(model, (points, labels, attributes, clusters * 0, groups)))
    assert reasons["attribute_encoding"].startswith("too few patients")
    assert reasons["worst_group_without_attribute"].startswith("too few patients")
    one_value = Groups(("c0", "c1"), "site", ("v0",))
    reasons = undefined(collected(model, (points, labels, attributes * 0, clusters, one_value)))
    assert {"attribute_encoding", "attribute_encoding_within:c0", "probe_alignment"} <= set(reasons)


def test_ten_classes_and_three_values() -> None:
    rng = np.random.default_rng(16)
    group = np.repeat(np.arange(30), 10)
    points = rng.normal(size=(300, 10)) + 3 * np.eye(10)[group // 3]
    points[:, 0] += 2 * (group % 3)
    data = (points, group // 3, group % 3, np.arange(300) // 2, universe(10, 3))
    predictions = collected(classifier(np.eye(10)), data)
    assert set(undefined(predictions)) == {"probe_alignment"}
    assert undefined(predictions)["probe_alignment"].endswith("the split has 10 and 3")
    assert Encoding().details(predictions)["margin_goes_with"] is None
    numbers = point(predictions)
    assert numbers["label_encoding"] > 0.9 and 0.6 < numbers["attribute_encoding"] < 1


def test_groups_that_the_design_leaves_out() -> None:
    points, labels, attributes, clusters, groups = drawn(17, patients=80)
    rows = (labels == 0) | (attributes == 1)
    _, clusters = np.unique(clusters[rows], return_inverse=True)
    data = (points[rows], labels[rows], attributes[rows], clusters, groups.only((0, 1, 3)))
    assert set(undefined(collected(two_class([1.0, 1.0]), data))) == {
        "attribute_encoding_within:c1",
        "label_encoding_within:v0",
    }


def test_200_000_rows() -> None:
    predictions = made(reference.random(18, rows=200_000, patients=20_000))
    numbers = Encoding().measure(predictions, once(predictions))
    assert numbers["attribute_encoding"][0] == numbers["label_encoding"][0] == 1
    assert numbers["projection_effect"][0] == 0


def test_arrays_that_do_not_fit_are_refused() -> None:
    predictions = made(reference.perfect())
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        point(dataclasses.replace(predictions, arrays={}))
    arrays = {**predictions.arrays, "encoding_attribute": np.zeros((3, 2))}
    with pytest.raises(SpurbenchError, match=r"encoding_attribute of shape \(40, 2\)"):
        point(dataclasses.replace(predictions, arrays=arrays))
    with pytest.raises(SpurbenchError, match="counts"):
        Encoding().measure(predictions, np.ones((1, 3)))


def test_settings_have_bounds() -> None:
    for wrong in ({"folds": 1}, {"strength": 0}, {"other": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Encoding.Parameters(**wrong)


def test_literals_are_read_without_running_the_file() -> None:
    import robustbench_spur.evaluators.encoding as module

    (plugin,) = read_plugins(__import__("pathlib").Path(module.__file__))
    assert plugin.literals["collects"] == Encoding.collects and plugin.literals["metrics"] == Encoding.metrics
    assert [setting.name for setting in plugin.settings] == ["folds", "strength"]
    assert all(name.startswith("encoding_") for name in Encoding.collects)


def test_encoding_is_not_use() -> None:
    """Over classifiers that use the attribute more and more, encoding stays and alignment and effect grow."""
    data = drawn(19, patients=600, label_shift=1.5)
    found = [point(collected(two_class([1.0, use]), data)) for use in (0.0, 0.3, 0.6, 0.9)]
    assert len({round(numbers["attribute_encoding"], 6) for numbers in found}) == 1
    for name in ("probe_alignment", "projection_effect"):
        assert spearmanr([numbers[name] for numbers in found], range(4)).statistic == pytest.approx(1)


def findings(predictions: Predictions) -> Any:
    ends = Bootstrap(replicates=200, seed=0, confidence=0.95)
    estimates = Scorer(None, ends).score(Encoding(), predictions, "x")
    (found,) = Encoding().findings(predictions, estimates)
    assert set(found.metrics) <= set(estimates)
    return found


def test_findings() -> None:
    data = drawn(20, patients=300)
    used = findings(collected(two_class([1.0, 0.8]), data))
    assert used.verdict == "problem" and "AUROC of 0.98" in used.sentence and used.advice
    assert findings(collected(two_class([1.0, 0.0]), data)).verdict == "no sign"
    tied = findings(collected(two_class([1.0, 0.8]), drawn(21, patients=40, rho=1.0)))
    assert tied.verdict == "unknown" and "no class has examples at two values" in tied.sentence


# Features in place of a model


def bare(model: Any, data: Sequence[Any], **head: Any) -> Subject:
    """What the model says and the input of its last layer, without the model; with a head if one is given."""
    test = part(model, *data)
    with torch.no_grad():
        points = model.features(torch.from_numpy(test.images).float() / 255).numpy()
    return Subject(test.predictions, features=Features(points, **head))


def of_bare(subject: Subject) -> Predictions:
    return dataclasses.replace(subject.predictions, arrays=Encoding().collect(subject))


@pytest.mark.parametrize("classes", [2, 3])
def test_features_say_what_the_model_says(classes: int) -> None:
    data = drawn(22, patients=150, noise=4)
    if classes == 3:
        labels = (data[1] + data[3] // 2 % 2).astype(np.int64)
        data = (*data[:1], labels, *data[2:4], Groups(("a", "b", "c"), "v", ("v0", "v1")))
    model = classifier(np.random.default_rng(1).normal(size=(classes, 6)), bias=np.arange(classes) / 4)
    known, asked = collected(model, data), bare(model, data)
    weight, bias = (one.detach().double().numpy() for one in (model.head.weight, model.head.bias))
    found = [of_bare(asked), of_bare(bare(model, data, weight=weight, bias=bias))]
    logs = np.log(asked.predictions.probabilities).astype(np.float32)
    found.append(of_bare(dataclasses.replace(asked, predictions=dataclasses.replace(asked.predictions, logits=logs))))
    for one in found:
        assert Encoding().details(one) == Encoding().details(known)
        for name, value in point(known).items():  # of logs of probabilities the margin is rounded otherwise
            assert point(one)[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
        for name in ("encoding_fold", "encoding_attribute", "encoding_label"):
            assert np.array_equal(one.arrays[name], known.arrays[name])
    said = known.arrays["encoding_projected"]
    assert found[1].arrays["encoding_projected"] == pytest.approx(said, abs=1e-4)
    assert found[0].arrays["encoding_projected"] == pytest.approx(said - said[:, :1], abs=1e-3), (
        "class 0 has the logit 0"
    )


def test_the_last_layer_is_found_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 10, np.full((60, 1), 3.0)], axis=1)
    points = np.concatenate([points, points[:, :1]], axis=1)  # a feature that is constant, and one that is there twice
    logits = points @ rng.normal(size=(7, 3)) + rng.normal(size=3)
    weight, bias = linear_head(points, logits + rng.normal(size=(60, 1))) or pytest.fail("none was found")
    expected = LinearRegression().fit(points, logits - logits[:, :1])
    assert points @ weight.T + bias == pytest.approx(expected.predict(points), abs=1e-6)
    assert linear_head(points, np.square(logits)) is None
    assert linear_head(points[:10], logits[:10]) is None, (
        "six features and ten examples: anything could be made of them"
    )


@pytest.mark.parametrize("patients", [200, 5])
def test_what_needs_the_last_layer_has_a_reason_where_it_is_not_known(patients: int) -> None:
    noise = 0 if patients > 5 else 14
    asked = bare(two_class([1.0, 0.8] + [0.0] * noise), drawn(23, patients=patients, slices=4, noise=noise))
    if patients > 5:  # a last layer that is curved
        curved = dataclasses.replace(asked.predictions, logits=asked.predictions.logits ** np.float32(3))
        asked = dataclasses.replace(asked, predictions=curved)
    found = of_bare(asked)
    undefined = Encoding().details(found)["undefined"]
    of_change = {"worst_group_without_attribute", "projection_effect", "projection_effect_micro"}
    assert undefined.keys() >= of_change and all("last layer is not known" in undefined[name] for name in of_change)
    if patients > 5:
        assert undefined.keys() == of_change
        assert findings(found).verdict == "unknown" and "last layer is not known" in findings(found).sentence


def test_features_that_do_not_fit_are_refused() -> None:
    asked = bare(two_class([1.0, 0.8]), drawn(24, patients=20))
    for points, message in (
        (asked.features.points[1:], r"Expected features of shape \(40, width\)"),
        (np.full_like(asked.features.points, np.nan), "Expected finite features"),
    ):
        with pytest.raises(SpurbenchError, match=message):
            Encoding().collect(dataclasses.replace(asked, features=Features(points)))
    with pytest.raises(SpurbenchError, match="Expected a model to look into"):
        Encoding().collect(Subject(asked.predictions))
