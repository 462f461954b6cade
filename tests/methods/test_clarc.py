"""P-ClArC and RR-ClArC against their equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from robustbench_spur.method import View
from robustbench_spur.methods.p_clarc import PClArC, PClArCHyperparameters, concept_directions
from robustbench_spur.methods.rr_clarc import RRClArC, RRClArCHyperparameters
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import batch_of, linear, partition, universe


def seen(labels: Any, attributes: Any, values: int = 2) -> View:
    return View(partition(labels, attributes), universe(2, values), True, "p_clarc")


def cloud(values: int = 2, seed: int = 0) -> tuple[NDArray[np.float64], View, NDArray[np.float64], NDArray[np.float64]]:
    """Features in which the class lies along the first axis and the attribute along a slanted one, tied at 0.9."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 400)
    attributes = np.where(rng.random(400) < 0.9, labels % values, rng.integers(0, values, 400))
    towards = np.array([0.0, 3.0, 4.0, 0.0]) / 5
    features = (
        rng.normal(scale=0.2, size=(400, 4)) + np.outer(labels, [2.0, 0, 0, 0]) + np.outer(attributes, 3 * towards)
    )
    return features, seen(labels, attributes, values), towards, labels


def test_the_direction_is_the_attributes_and_not_the_classs() -> None:
    features, view, towards, _ = cloud()
    for kind in ("pattern", "ridge"):
        (direction,) = concept_directions(features, view, kind)
        assert abs(direction @ towards) > 0.98
        assert np.linalg.norm(direction) == pytest.approx(1)
        # what the tie would give: a mixture with the class's axis
        assert abs(direction[0]) < 0.15


def test_pattern_direction_by_hand() -> None:
    features = np.array([[0.0, 0], [0, 2], [5, 0], [5, 4]])
    (direction,) = concept_directions(features, seen([0, 0, 1, 1], [0, 1, 0, 1]), "pattern")
    np.testing.assert_allclose(np.abs(direction), [0, 1], atol=1e-12)


def test_three_values_span_two_directions() -> None:
    features, view, _, _ = cloud(3)
    features[view.attributes == 2] += [0, 0, 0, 5.0]
    found = concept_directions(features, view, "pattern")
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-12)


def test_without_a_class_of_both_values_there_is_no_direction() -> None:
    with pytest.raises(SpurbenchError, match="Expected a class with every attribute value in adapt, found none"):
        concept_directions(np.zeros((4, 3)), seen([0, 0, 1, 1], [0, 0, 1, 1]), "pattern")


def test_the_folded_layer_is_the_layer_behind_the_projection() -> None:
    """a' = a + (m - v.a) v for each row, then W a' + b: the paper's equation, by a loop."""
    features, view, _, _ = cloud()
    rng = np.random.default_rng(5)
    head = {"weight": rng.normal(size=(2, 4)), "bias": rng.normal(size=2)}
    arrays, notes = PClArC().projected(view, {"features": features}, head)
    (v,) = concept_directions(features, view, "pattern")
    m = np.mean([v @ a for a in features])
    expected = [head["weight"] @ (a + (m - v @ a) * v) + head["bias"] for a in features]
    np.testing.assert_allclose(features @ arrays["weight"].T + arrays["bias"], expected, rtol=1e-8)
    np.testing.assert_allclose(arrays["weight"] @ v, 0, atol=1e-12)
    assert 0 < notes["removed_share_of_weight"] < 1


def test_a_head_that_cheats_stops_cheating() -> None:
    features, view, _, labels = cloud()
    cheating = {"weight": np.array([[-1.0, -2, -2, 0], [1, 2, 2, 0]]), "bias": np.array([5.2, -5.2])}
    arrays, _ = PClArC(PClArCHyperparameters(direction="ridge")).projected(view, {"features": features}, cheating)
    conflict = labels != view.attributes
    before = (features @ cheating["weight"].T + cheating["bias"]).argmax(1) == labels
    after = (features @ arrays["weight"].T + arrays["bias"]).argmax(1) == labels
    assert before[conflict].mean() < 0.1 and after[conflict].mean() > 0.9


def test_penalty_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a linear layer the slope of sum_k s_k z_k is s^T W."""
    method = RRClArC(RRClArCHyperparameters(strength=2.0, tuning_epochs=1))
    model, rows = linear(2), partition([0, 1], [0, 1])
    view = View(rows, universe(), False, "rr_clarc")
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(model.head.weight, generator=generator)
    images = torch.rand(2, 1, 2, 2, generator=generator)
    direction = np.array([0.0, 0.6, 0.8, 0.0], np.float32)
    method.tensors = {"directions": torch.from_numpy(direction[None])}
    signs = np.array([[1, -1], [1, 1]])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.from_numpy((signs + 1) // 2))
    weight = model.head.weight.detach().numpy()
    logits = ((images.numpy().reshape(2, 4) - 0.3) / 0.25) @ weight.T
    penalty = np.mean([(s @ weight @ direction) ** 2 for s in signs])
    expected = -log_softmax(logits, axis=1)[[0, 1], [0, 1]].mean() + 2.0 * penalty
    # the features are the normalised pixels, which need no gradient themselves
    images.requires_grad_(True)
    assert float(method.loss(model, batch_of(view, [0, 1], images)).detach()) == pytest.approx(expected, rel=1e-5)


def test_directions_are_of_length_one() -> None:
    features, view, _, _ = cloud()
    arrays, _ = RRClArC().directions(view, {"features": features.astype(np.float32)})
    np.testing.assert_allclose(np.linalg.norm(arrays["directions"], axis=1), 1, rtol=1e-5)
