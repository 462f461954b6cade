"""EVaLS, DPE, NSF and DISPEL: last layers from a held-out set, against values by hand, scikit-learn and plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from robustbench_spur.heads import describe_head
from robustbench_spur.method import View
from robustbench_spur.methods._lastlayer import held_out
from robustbench_spur.methods.dispel import DISPEL, DISPELHyperparameters, mix
from robustbench_spur.methods.dpe import DPE, DPEHyperparameters, correlation
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.evals import EVaLS, EVaLSHyperparameters, extremes
from robustbench_spur.methods.nsf import NSF, NSFHyperparameters, centres, nearest
from robustbench_spur.types import SpurbenchError
from tests.methods.adam import Adam, Floats, fitted
from tests.methods.toy import of_groups, partition, task_of, universe


def hidden(labels: Any, attributes: Any = None, *, slices: int = 1, classes: int = 2, seed: int = 0) -> View:
    """A validation set whose attributes may not be seen."""
    rows = partition(labels, np.zeros(len(labels)) if attributes is None else attributes, slices=slices)
    return View(rows, universe(classes), False, "test", seed)


def shortcut(each: int = 60, conflicts: int = 6, seed: int = 0) -> tuple[Any, Any, dict[str, Any]]:
    """Labels, attributes and what a model that reads the shortcut says; column 0 tells the label, 1 the attribute."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], each)
    attributes = np.where(np.arange(2 * each) % each < conflicts, 1 - labels, labels)
    mixed = rng.permutation(2 * each)
    labels, attributes = labels[mixed], attributes[mixed]
    signs = 2 * np.stack([labels, attributes, labels], axis=1) - 1
    features = signs * [1, 1, 0] + rng.normal(size=(2 * each, 3)) * [0.4, 0.1, 1]
    logits = np.stack([-2 * features[:, 1], 2 * features[:, 1]], axis=1) + 0.2 * features[:, [2, 2]] * [1, -1]
    return labels, attributes, {"features": features, "logits": logits}


def conflicting(labels: Any, attributes: Any, features: Floats, head: dict[str, Any]) -> float:
    """Accuracy where the attribute is not that of the label."""
    right = (features @ head["weight"].T + head["bias"]).argmax(axis=1) == labels
    return float(right[labels != attributes].mean())


# EVaLS


def test_extremes_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    losses = np.array([0.5, 0.1, 0.9, 0.2, 0.7, 3.0, 1.0, 2.0, 4.0])
    assert extremes(losses, labels, 1).tolist() == [1, 2, 6, 8]
    assert extremes(losses, labels, 2).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert extremes(losses, labels, 50).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert extremes(np.array([2.0]), np.array([1]), 5).tolist() == [0]


def test_evals_is_the_fit_with_the_best_worst_environment() -> None:
    """Of two classes the inferred environments are what the model gets right and wrong: an exhaustive search by sklearn."""
    labels, attributes, outputs = shortcut()
    view = hidden(labels, attributes, slices=2)
    counts, strengths = (3, 8), (1.0, 0.02)
    head, notes = EVaLS(EVaLSHyperparameters(counts=counts, strengths=strengths)).last_layer(view, outputs)
    second = held_out(view, 0.5, view.generator())
    x = (outputs["features"] - outputs["features"].mean(axis=0)) / outputs["features"].std(axis=0)
    losses = -log_softmax(outputs["logits"], axis=1)[np.arange(120), labels]
    wrong = outputs["logits"].argmax(axis=1) != labels
    found = {}
    for count in counts:
        rows: list[int] = []
        for label in (0, 1):
            own = sorted(np.flatnonzero(~second & (labels == label)).tolist(), key=lambda row: float(losses[row]))
            rows += own[:count] + own[-count:]
        for strength in strengths:
            fit = LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", random_state=0, max_iter=10_000)
            fit.fit(x[sorted(rows)], labels[sorted(rows)])
            right = fit.predict(x) == labels
            parts = [right[second & (labels == y) & (wrong == w)] for y in (0, 1) for w in (False, True)]
            found[count, strength] = min(part.mean() for part in parts if len(part)), fit.predict(x)
    best = max(score for score, _ in found.values())
    assert notes["worst_environment"] == pytest.approx(best)
    chosen = found[notes["count"], notes["strength"]]
    assert chosen[0] == best
    ours = (outputs["features"] @ head["weight"].T + head["bias"]).argmax(axis=1)
    assert (ours == chosen[1]).all()
    assert (wrong == (labels != attributes)).mean() > 0.95
    assert conflicting(labels, attributes, outputs["features"], head) > 0.8


def test_evals_tells_of_a_half_without_a_class() -> None:
    labels = np.array([0] * 9 + [1])
    with pytest.raises(SpurbenchError, match="all classes in each half"):
        EVaLS().last_layer(hidden(labels), {"features": np.eye(10, 3), "logits": np.zeros((10, 2))})


# DPE


def test_correlation_is_numpys() -> None:
    rng = np.random.default_rng(0)
    own, before = rng.normal(size=(2, 7)), rng.normal(size=(3, 2, 7))
    expected = np.mean([np.corrcoef(before[m, y], own[y])[0, 1] ** 2 for m in range(3) for y in range(2)])
    assert float(correlation(torch.from_numpy(own), torch.from_numpy(before))) == pytest.approx(expected)


def unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def test_a_member_takes_a_step_down_its_loss() -> None:
    """The first step of Adam moves every number by the rate against the sign of its slope, here by differences."""
    rng = np.random.default_rng(1)
    x, labels = unit(rng.normal(size=(9, 4))), np.array([0, 1, 0, 1, 1, 0, 0, 1, 1])
    begin, before = rng.normal(size=(2, 4)), unit(rng.normal(size=(2, 2, 4)))
    first = unit(np.stack([x[labels == y].mean(axis=0) for y in (0, 1)])) + 0.1 * unit(begin)

    def loss(flat: Floats) -> float:
        prototypes = unit(flat[:8].reshape(2, 4))
        distances = np.linalg.norm(x[:, None] - prototypes[None], axis=2)
        nll = -log_softmax(-5 * abs(flat[8]) * distances, axis=1)[np.arange(9), labels].mean()
        alike = [np.corrcoef(before[m, y], prototypes[y])[0, 1] ** 2 for m in range(2) for y in range(2)]
        return float(nll + 3 * np.mean(alike))

    start = np.append(first.reshape(-1), 1.0)
    slopes = np.array([(loss(start + e) - loss(start - e)) / 2e-6 for e in 1e-6 * np.eye(9)])
    moved = start - 0.01 * np.sign(slopes)
    method = DPE(DPEHyperparameters(steps=1, rate=0.01, temperature=5.0, diversity=3.0))
    tensors = [torch.from_numpy(array) for array in (x, labels, begin)]
    found, scale = method.member(*tensors, list(torch.from_numpy(before)))
    np.testing.assert_allclose(found.numpy(), unit(moved[:8].reshape(2, 4)), atol=1e-6)
    assert scale == pytest.approx(moved[8], abs=1e-6)


def test_dpe_members_are_unlike_each_other() -> None:
    labels, _, outputs = shortcut()
    outputs = {**outputs, "features": outputs["features"] @ np.random.default_rng(0).normal(size=(3, 12))}

    def alike(diversity: float) -> float:
        heads, _ = DPE(DPEHyperparameters(members=3, steps=60, diversity=diversity)).prototypes(hidden(labels), outputs)
        prototypes = heads["prototypes"]
        np.testing.assert_allclose(np.linalg.norm(prototypes, axis=2), 1)
        assert describe_head(heads, 2, 12) == {"kind": "prototypes", "experts": 3}
        pairs = [(0, 1), (0, 2), (1, 2)]
        return float(
            np.mean([np.corrcoef(prototypes[i, y], prototypes[j, y])[0, 1] ** 2 for i, j in pairs for y in (0, 1)])
        )

    assert alike(0.0) > 0.5
    assert alike(300.0) < 0.5 * alike(0.0)


def test_dpe_without_a_class() -> None:
    outputs = {"features": np.random.default_rng(0).normal(size=(5, 4))}
    heads, _ = DPE(DPEHyperparameters(members=2, steps=3)).prototypes(hidden([0, 0, 2, 2, 2], classes=3), outputs)
    assert heads["prototypes"].shape == (2, 3, 4)
    assert all(np.isfinite(array).all() for array in heads.values())


# NSF


def test_centres_by_hand() -> None:
    """Class 0 lies at 0, 1, 2, 10, 11: the last two are nearer to class 1, which lies at 9, 10, 11 and, once, at 1."""
    features = np.array([[0.0], [1], [2], [10], [11], [9], [10], [11], [1]])
    labels = np.array([0] * 5 + [1] * 4)
    goals, outlier = centres(features, labels, 2)
    assert outlier.tolist() == [False, False, False, True, True, False, False, False, True]
    # a single outlier does not count
    assert goals.tolist() == [[(1 + 10.5) / 2], [10.0]]
    assert nearest(features, np.array([[0.0], [10]])).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0]


def test_the_change_is_adamw_on_distance_and_size() -> None:
    rng = np.random.default_rng(2)
    x, goals = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    factor, shift, adam = np.ones(3), np.zeros(3), Adam(0.02, decay=0.01)
    for _ in range(30):
        apart = x * factor + shift - goals
        slope = apart / np.sqrt((apart**2).sum(axis=1) + 1e-12)[:, None] / 8
        factor, shift = adam([factor, shift], [(slope * x).sum(axis=0) + 4 * np.sign(factor) / 3, slope.sum(axis=0)])
    found = NSF(NSFHyperparameters(sparsity=4.0, change_steps=30, change_rate=0.02)).change(x, goals)
    np.testing.assert_allclose(found[0], factor, atol=1e-9)
    np.testing.assert_allclose(found[1], shift, atol=1e-9)


def test_nsf_folds_its_two_maps_into_one_layer() -> None:
    labels, attributes, outputs = shortcut()
    method = NSF(NSFHyperparameters(layer_steps=40, change_steps=40, change_rate=0.05, rate=0.05, sparsity=1.0))
    head, notes = method.last_layer(hidden(labels, attributes), outputs)
    mean, scale = outputs["features"].mean(axis=0), outputs["features"].std(axis=0)
    x = (outputs["features"] - mean) / scale
    goals, before = centres(x, labels, 2)
    factor, shift = method.change(x, goals[labels])
    moved = x * factor + shift
    after = ((moved[:, None] - goals) ** 2).sum(-1).argmin(axis=1) != labels
    mended = before & ~after
    assert notes == {"outliers": int(before.sum()), "mended": int(mended.sum())} and mended.any() and not before.all()
    shares = (mended / mended.sum() + ~before / (~before).sum()) / 2
    weight, bias = fitted(moved, labels, np.zeros((2, 3)), np.zeros(2), rate=0.05, weights=[shares] * 40)
    expected = moved @ weight.T + bias
    np.testing.assert_allclose(outputs["features"] @ head["weight"].T + head["bias"], expected, atol=1e-8)


def test_nsf_without_outliers_and_without_a_class() -> None:
    features = np.array([[0.0, 1], [0.1, 1], [5, 1], [5.1, 1]])
    head, notes = NSF().last_layer(hidden([0, 0, 2, 2], classes=3), {"features": features})
    assert notes == {"outliers": 0, "mended": 0}
    assert (features @ head["weight"].T + head["bias"]).argmax(axis=1).tolist() == [0, 0, 2, 2]


# DISPEL


def test_mixtures_by_hand() -> None:
    """One balanced example a class: every row of the large set moves to 0.8 of it and 0.2 of itself."""
    balanced = np.array([[10.0, 0], [0, 10]]), np.array([0, 1])
    large = np.array([[1.0, 1], [2, 2], [3, 3], [4, 4], [5, 5]]), np.array([1, 0, 0, 0, 1])
    features, labels = mix(balanced, large, 0.8, 1.0, 100, np.random.default_rng(0))
    assert labels.tolist() == [0, 0, 1, 1]
    possible = {0: {(8 + 0.2 * v, 0.2 * v) for v in (2, 3, 4)}, 1: {(0.2 * v, 8 + 0.2 * v) for v in (1, 5)}}
    for row, label in zip(features.round(9), labels, strict=True):
        assert any(np.allclose(row, each) for each in possible[int(label)])
    assert len({tuple(row) for row in features.round(9)}) == 4


def test_alpha_is_the_probability_of_mixing() -> None:
    balanced = np.array([[100.0], [200.0]]), np.array([0, 1])
    large = np.zeros((4000, 1)), np.arange(4000) % 2
    for alpha in (0.0, 0.3, 1.0):
        features, _ = mix(balanced, large, 0.5, alpha, 10_000, np.random.default_rng(1))
        assert (features[:, 0] > 0).mean() == pytest.approx(alpha, abs=0.03)
        assert set(features[:, 0]) <= {0.0, 50.0, 100.0}


def test_mixtures_keep_to_their_size_and_need_no_balanced_class() -> None:
    large = np.ones((90, 2)), np.repeat([0, 1, 2], [50, 30, 10])
    features, labels = mix((np.zeros((1, 2)), np.array([1])), large, 1.0, 1.0, 12, np.random.default_rng(2))
    assert np.bincount(labels).tolist() == [4, 4, 4]
    assert (features[labels == 1] == 0).all() and (features[labels != 1] == 1).all()


def test_dispel_finds_the_label_beside_a_shortcut() -> None:
    labels, attributes, outputs = shortcut(200, 10)
    rows = of_groups([30] * 4, slices=3)
    rng = np.random.default_rng(3)
    signs = 2 * np.stack([rows.labels, rows.attributes], axis=1) - 1
    features = np.hstack([signs + rng.normal(size=(120, 2)) * [0.4, 0.1], rng.normal(size=(120, 1))])
    method = DISPEL(DISPELHyperparameters(shares=(1.0, 0.8, 0.0), strengths=(1.0, 1e-4), draws=3))
    view = View(rows, universe(), True, "dispel", 0)
    head, notes = method.last_layer(view, {"features": features}, {"features": outputs["features"], "labels": labels})
    # a penalty of 1e-4 leaves nothing, and a share of 0 is the training set alone
    assert notes["strength"] == 1.0 and notes["share"] > 0 and notes["worst_group"] > 0.8
    assert conflicting(labels, attributes, outputs["features"], head) > 0.8


# stages


@pytest.mark.parametrize(
    ("method", "on"), [(EVaLS(), "validation"), (DPE(), "validation"), (NSF(), "validation"), (DISPEL(), "adapt")]
)
def test_stages(method: Any, on: str) -> None:
    model, computed = method.fit(task_of(method)).parents
    assert model.key == ERM().fit(task_of(ERM())).key
    assert computed.spec["on"] == computed.parents[0].spec["partition"] == on
    if method.name == "dispel":
        assert computed.parents[1].parents[0].spec["partition"] == "train"
