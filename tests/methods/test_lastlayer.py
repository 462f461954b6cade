"""Last layers fitted again: the shared fit, classifier re-training, AFR and CROIS, against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch.nn.functional import cross_entropy

from robustbench_spur.method import View
from robustbench_spur.methods._lastlayer import Scale, batches, descend, held_out, scores, zeros
from robustbench_spur.methods._retrained import Retrained, RetrainedHyperparameters, inverse_sizes
from robustbench_spur.methods.afr import AFR, AFRHyperparameters, afr_weights
from robustbench_spur.methods.crois import CROIS, CROISHyperparameters
from robustbench_spur.methods.crt import CRT, CRTHyperparameters
from robustbench_spur.methods.dfr import DFR
from robustbench_spur.methods.dfr_train import DFRTrain
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.reweight_crt import ReWeightCRT, ReWeightCRTHyperparameters
from robustbench_spur.methods.vanilla_crt import VanillaCRT, VanillaCRTHyperparameters
from robustbench_spur.types import HiddenError
from tests.methods.adam import Floats, fitted
from tests.methods.toy import of_groups, partition, task_of, universe, view_of

COUNTS = [40, 4, 6, 30]


def problem(counts: list[int], *, classes: int = 2, seed: int = 0) -> tuple[Any, Floats]:
    """Rows of groups and features: column 0 tells the label, column 1 the attribute more clearly, column 3 nothing."""
    rows = of_groups(counts, len(counts) // classes)
    features = 3 + 2 * np.random.default_rng(seed).normal(size=(len(rows), 4))
    features[:, 0] += 3 * rows.labels
    features[:, 1] += 9 * rows.attributes
    features[:, 3] = 7
    return rows, features


def standard(features: Floats) -> tuple[Floats, Floats, Floats]:
    """Standardised features, and what they were standardised with."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale == 0, 1, scale)
    return (features - mean) / scale, mean, scale


def worst(view: View, features: Floats, head: dict[str, Any]) -> float:
    right = (features @ head["weight"].T + head["bias"]).argmax(axis=1) == view.labels
    groups = view.partition.labels * 2 + view.partition.attributes
    return min(float(right[groups == group].mean()) for group in range(4))


# the shared parts


def test_a_layer_goes_behind_standardisation_and_back() -> None:
    _, features = problem(COUNTS)
    rng = np.random.default_rng(1)
    head = {"weight": rng.normal(size=(3, 4)), "bias": rng.normal(size=3)}
    scale = Scale(features)
    expected = features @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(scale.to(features), standard(features)[0], atol=1e-12)
    np.testing.assert_allclose(scores(scale.to(features), scale.into(head)), expected, rtol=1e-10)
    back = scale.back(scale.into(head))
    assert all(np.allclose(back[name], head[name]) for name in head)


def test_descend_is_adam_on_the_mean_loss() -> None:
    rows, features = problem([6, 5, 4, 5, 3, 7], classes=3)
    x, _, _ = standard(features)
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    start = {"weight": weight, "bias": bias}
    found = descend(x, rows.labels, start, steps=25, rate=0.05, anchor=0.3)
    every = [np.full(len(rows), 1 / len(rows))] * 25
    expected = fitted(x, rows.labels, weight, bias, rate=0.05, weights=every, anchor=0.3)
    np.testing.assert_allclose(found["weight"], expected[0], atol=1e-9)
    np.testing.assert_allclose(found["bias"], expected[1], atol=1e-9)
    assert start["weight"] is weight and not np.allclose(found["weight"], weight)


def test_descend_takes_the_rows_of_each_step() -> None:
    rows, features = problem(COUNTS)
    order = np.array([[0, 1, 45], [79, 79, 3], [50, 2, 60]])
    shares = [np.bincount(taken, minlength=80) / 3 for taken in order]
    found = descend(features, rows.labels, zeros(2, 4), steps=3, rate=0.1, order=order)
    expected = fitted(features, rows.labels, np.zeros((2, 4)), np.zeros(2), rate=0.1, weights=shares)
    np.testing.assert_allclose(found["weight"], expected[0], atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 30), steps=st.integers(1, 20), data=st.data())
def test_passes_take_every_row_in_turn(size: int, steps: int, data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, size))
    order = batches(size, steps, batch, np.random.default_rng(0))
    assert order.shape == (steps, batch)
    counts = np.bincount(order.reshape(-1), minlength=size)
    assert counts.max() - counts.min() <= 1


def test_draws_follow_the_share() -> None:
    order = batches(3, 4000, 2, np.random.default_rng(0), np.array([1.0, 0.0, 3.0]))
    np.testing.assert_allclose(np.bincount(order.reshape(-1)) / 8000, [0.25, 0, 0.75], atol=0.02)


@pytest.mark.parametrize(("patients", "share", "expected"), [(10, 0.2, 2), (10, 0.01, 1), (3, 0.99, 2), (1, 0.5, 1)])
def test_whole_patients_are_held_out(patients: int, share: float, expected: int) -> None:
    view = view_of(ERM(), partition([0, 1, 1] * patients, [0] * 3 * patients, slices=3))
    out = held_out(view, share, np.random.default_rng(0))
    assert out.reshape(patients, 3).all(axis=1).sum() == expected == out.sum() / 3


# DFR on the training set


def test_dfr_train_is_dfr_on_the_training_set() -> None:
    head = DFRTrain().fit(task_of(DFRTrain()))
    model, computed = head.parents
    assert computed.spec["on"] == computed.parents[0].spec["partition"] == "train"
    assert model.key == ERM().fit(task_of(ERM())).key
    rows, features = problem([20, 8, 9, 30])
    outputs = {"features": features.astype(np.float32)}
    ours, _ = DFRTrain().last_layer(view_of(DFRTrain(), rows), outputs)
    theirs, _ = DFR().last_layer(View(rows, universe(), True, "dfr"), outputs)
    assert all((ours[name] == theirs[name]).all() for name in ours)


# classifier re-training


@pytest.mark.parametrize("balanced", [False, True])
def test_full_batches_are_adam_on_weighted_losses(balanced: bool) -> None:
    """A batch that holds all examples: the weights are equal, or one over the size of the group and 1 on average."""
    rows, features = problem(COUNTS)
    method: Retrained = (
        ReWeightCRT(ReWeightCRTHyperparameters(batch=500, passes=20, rate=0.03))
        if balanced
        else VanillaCRT(VanillaCRTHyperparameters(batch=500, passes=20, rate=0.03))
    )
    head, _ = method.last_layer(view_of(method, rows), {"features": features})
    x, mean, scale = standard(features)
    weights = np.repeat(1 / np.array(COUNTS), COUNTS) * (80 / 4) if balanced else np.ones(80)
    assert weights.mean() == pytest.approx(1)
    weight, bias = fitted(x, rows.labels, np.zeros((2, 4)), np.zeros(2), rate=0.03, weights=[weights / 80] * 20)
    np.testing.assert_allclose(head["weight"], weight / scale, atol=1e-10)
    np.testing.assert_allclose(head["bias"], bias - weight @ (mean / scale), atol=1e-9)


def test_crt_draws_all_groups_equally_often() -> None:
    rows, _ = problem(COUNTS)
    draws = CRT().draws(view_of(CRT(), rows))
    codes = np.repeat(np.arange(4), COUNTS)
    np.testing.assert_allclose(np.bincount(codes, weights=draws) / draws.sum(), 0.25)
    assert VanillaCRT().draws(view_of(VanillaCRT(), rows)) is None
    assert ReWeightCRT().draws(view_of(ReWeightCRT(), rows)) is None


def test_inverse_sizes_by_hand() -> None:
    assert inverse_sizes(np.array([0, 0, 0, 2])).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_balance_finds_the_label_beside_a_shortcut() -> None:
    rows, features = problem([95, 5, 5, 95])
    outputs = {"features": features}
    common = {"passes": 60, "rate": 0.03, "batch": 64}
    plain = VanillaCRT(VanillaCRTHyperparameters(**common))
    drawn, weighed = CRT(CRTHyperparameters(**common)), ReWeightCRT(ReWeightCRTHyperparameters(**common))
    found = [
        worst(view_of(m, rows), features, m.last_layer(view_of(m, rows), outputs)[0]) for m in (plain, drawn, weighed)
    ]
    assert found[0] < 0.3 and min(found[1:]) > 0.5


@pytest.mark.parametrize("method", [CRT(), ReWeightCRT(), VanillaCRT()], ids=lambda method: method.name)
def test_a_set_smaller_than_a_batch_with_a_group_of_one(method: Retrained) -> None:
    rows, features = problem([3, 1, 0, 2])
    head, _ = method.last_layer(view_of(method, rows), {"features": features})
    assert all(np.isfinite(array).all() for array in head.values())
    (model, computed) = method.fit(task_of(method)).parents
    assert model.key == ERM().fit(task_of(ERM())).key and computed.spec["on"] == "train"


def test_group_labels_are_read_only_where_declared() -> None:
    rows, features = problem(COUNTS)
    hidden = View(rows, universe(), False, "vanilla_crt")
    VanillaCRT(VanillaCRTHyperparameters(passes=1)).last_layer(hidden, {"features": features})
    with pytest.raises(HiddenError):
        CRT(CRTHyperparameters(passes=1)).last_layer(hidden, {"features": features})
    assert isinstance(CRT().hyper, RetrainedHyperparameters)


# AFR


def test_afr_weights_by_hand() -> None:
    """Probabilities of the label 0.9, 0.5 and 0.2 in class 0, of 0.7 in class 1; gamma = 2."""
    likely = np.array([0.9, 0.5, 0.2, 0.7])
    logits = np.log(np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]]))
    raw = np.array([np.exp(-1.8) / 3, np.exp(-1.0) / 3, np.exp(-0.4) / 3, np.exp(-1.4)])
    found = afr_weights(logits, np.array([0, 0, 0, 1]), 2.0)
    np.testing.assert_allclose(found, raw / raw.sum())
    assert found[0] < found[1] < found[2] and likely.argmin() == 2


def test_afr_without_gamma_weighs_classes_alike() -> None:
    found = afr_weights(np.random.default_rng(0).normal(size=(5, 2)), np.array([0, 0, 0, 0, 1]), 0.0)
    assert found.tolist() == pytest.approx([1 / 8] * 4 + [1 / 2])


def test_afr_goes_on_from_the_first_layer_on_the_held_out_rows() -> None:
    """Gradient descent by torch's own optimiser, on the loss as the paper writes it."""
    rows, features = problem(COUNTS)
    method = AFR(AFRHyperparameters(held_out_share=0.4, gamma=3.0, anchor=0.2, steps=30, rate=0.02))
    view = view_of(method, rows, seed=4)
    rng = np.random.default_rng(5)
    first = {"weight": rng.normal(size=(2, 4)), "bias": rng.normal(size=2)}
    head, notes = method.last_layer(view, {"features": features}, first)
    out = method.part(view)
    assert notes["held_out"] == out.sum() == 32
    repeats = method.sampling(view).repeats
    assert repeats is not None and (repeats == ~out).all()
    labels = rows.labels[out]
    likely = softmax(features[out] @ first["weight"].T + first["bias"], axis=1)[np.arange(32), labels]
    shares = np.exp(-3 * likely) / np.array([(labels == label).sum() for label in labels])
    shares /= shares.sum()
    assert notes["weight_of_wrong"] == pytest.approx(shares[likely < 0.5].sum())
    x, y, w = (torch.from_numpy(array) for array in (features[out], labels, shares))
    begin = torch.from_numpy(first["weight"])
    weight, bias = begin.clone().requires_grad_(True), torch.from_numpy(first["bias"].copy()).requires_grad_(True)
    optimiser = torch.optim.SGD([weight, bias], 0.02)
    for _ in range(30):
        optimiser.zero_grad()
        loss = w @ cross_entropy(x @ weight.T + bias, y, reduction="none") + 0.2 * (weight - begin).square().sum()
        torch.autograd.backward(loss)
        optimiser.step()
    np.testing.assert_allclose(head["weight"], weight.detach(), atol=1e-9)
    np.testing.assert_allclose(head["bias"], bias.detach(), atol=1e-9)


def test_afr_trains_and_fits_on_different_patients() -> None:
    view = view_of(AFR(), partition([0, 0, 1, 1] * 10, [0] * 40, slices=4))
    out = AFR().part(view)
    assert out.sum() == 8 and not set(view.clusters[out]) & set(view.clusters[~out])
    head = AFR().fit(task_of(AFR()))
    model, computed = head.parents
    assert model.spec["trajectory"]["method"]["name"] == "afr" and computed.spec["on"] == "train"
    assert [parent.kind for parent in computed.parents] == ["outputs", "weights"]


# CROIS


def test_crois_is_groupdro_on_the_held_out_rows() -> None:
    rows, features = problem([40, 12, 16, 30])
    method = CROIS(CROISHyperparameters(share=0.5, eta=0.4, steps=40, rate=0.02))
    view = view_of(method, rows, seed=2)
    head, notes = method.last_layer(view, {"features": features})
    out = method.part(view)
    groups, labels = view.groups[out], rows.labels[out]
    x, mean, scale = standard(features[out])
    q = np.full(4, 0.25)

    def robust(losses: Floats) -> Floats:
        nonlocal q
        q = q * np.exp(0.4 * np.array([losses[groups == g].mean() for g in range(4)]))
        q = q / q.sum()
        return np.asarray(q[groups] / np.bincount(groups)[groups])

    weight, bias = fitted(x, labels, np.zeros((2, 4)), np.zeros(2), rate=0.02, weights=robust, steps=40)
    np.testing.assert_allclose(notes["group_weights"], q, atol=1e-9)
    assert notes["held_out_group_sizes"] == np.bincount(groups).tolist() and out.sum() == 49
    np.testing.assert_allclose(head["weight"], weight / scale, atol=1e-9)
    np.testing.assert_allclose(head["bias"], bias - weight @ (mean / scale), atol=1e-9)


def test_crois_leaves_empty_groups_without_weight() -> None:
    rows, features = problem([20, 0, 0, 20])
    head, notes = CROIS().last_layer(view_of(CROIS(), rows), {"features": features})
    assert notes["group_weights"][1:3] == [0, 0] and sum(notes["group_weights"]) == pytest.approx(1)
    assert all(np.isfinite(array).all() for array in head.values())


def test_crois_learns_features_from_the_other_patients() -> None:
    rows, _ = problem(COUNTS)
    view = view_of(CROIS(), rows)
    repeats = CROIS().sampling(view).repeats
    assert repeats is not None and repeats.sum() == 56 and (repeats == ~CROIS().part(view)).all()
    model, computed = CROIS().fit(task_of(CROIS())).parents
    assert model.spec["trajectory"]["method"]["name"] == "crois" and computed.spec["on"] == "train"
