"""SELF: which points its variants take, against choices by hand, and the fine-tuning against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from robustbench_spur.method import View
from robustbench_spur.methods._self import Self, SelfHyperparameters, divergence, largest_of_each_class
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.self_dropout_disagreement import (
    SelfDropoutDisagreement,
    SelfDropoutDisagreementHyperparameters,
)
from robustbench_spur.methods.self_early_stop_disagreement import (
    SelfEarlyStopDisagreement,
    SelfEarlyStopDisagreementHyperparameters,
)
from robustbench_spur.methods.self_misclassification import SelfMisclassification, SelfMisclassificationHyperparameters
from robustbench_spur.methods.self_random import SelfRandom, SelfRandomHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.adam import fitted
from tests.methods.toy import partition, task_of, universe

VARIANTS = [SelfRandom, SelfMisclassification, SelfDropoutDisagreement, SelfEarlyStopDisagreement]


def hidden(labels: Any, seed: int = 0) -> View:
    """A validation set whose attributes may not be seen."""
    return View(partition(labels, [0] * len(labels)), universe(), False, "self", seed)


# which points


def test_points_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    score = np.array([0.1, 0.9, 0.3, 0.2, 5.0, 0.0, 7.0])
    assert largest_of_each_class(score, labels, 4).tolist() == [1, 2, 6, 4]
    assert largest_of_each_class(score, labels, 5).tolist() == [1, 2, 6, 4]
    assert largest_of_each_class(score, labels, 2).tolist() == [1, 6]


def test_as_many_of_every_class_as_the_smallest_has() -> None:
    assert largest_of_each_class(np.arange(6.0), np.array([0, 0, 0, 0, 2, 2]), 500).tolist() == [3, 2, 5, 4]
    assert largest_of_each_class(np.ones(4), np.array([0, 0, 0, 1]), 1).tolist() == [0, 3]


def test_divergence_is_the_relative_entropy() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 6, 3)) * 3
    expected = entropy(softmax(first, axis=1), softmax(second, axis=1), axis=1)
    np.testing.assert_allclose(divergence(first, second), expected, rtol=1e-9)
    by_hand = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    assert divergence(np.zeros((1, 2)), np.log([[0.8, 0.2]]))[0] == pytest.approx(by_hand)


def test_misclassification_ranks_by_the_probability_of_the_label() -> None:
    likely = np.array([0.9, 0.1, 0.6, 0.3])
    labels = np.array([0, 0, 1, 1])
    rows = np.stack([likely, 1 - likely], axis=1)
    logits = np.log(np.where(labels[:, None] == 0, rows, rows[:, ::-1]))
    found = SelfMisclassification().disagreement(hidden(labels), {"logits": logits})
    np.testing.assert_allclose(found, -np.log(likely))


def test_early_stop_ranks_by_the_divergence_of_the_early_model_from_the_final_one() -> None:
    final, early = np.random.default_rng(1).normal(size=(2, 5, 2))
    found = SelfEarlyStopDisagreement().disagreement(hidden([0] * 5), {"logits": final}, {"logits": early})
    np.testing.assert_allclose(found, entropy(softmax(early, axis=1), softmax(final, axis=1), axis=1), rtol=1e-9)


def test_dropout_drops_features_and_scales_the_others() -> None:
    """With one feature, either it is dropped or it is twice as large: two values are possible for each point."""
    features = np.linspace(-2, 2, 40)[:, None]
    head = {"weight": np.array([[-1.0], [1.0]]), "bias": np.array([0.3, -0.1])}
    logits = features @ head["weight"].T + head["bias"]
    method = SelfDropoutDisagreement(SelfDropoutDisagreementHyperparameters(rate_of_dropout=0.5))
    outputs = {"features": features, "logits": logits}
    found = method.disagreement(hidden([0] * 40), outputs, head)
    whole = softmax(logits, axis=1)
    none = entropy(softmax(np.tile(head["bias"], (40, 1)), axis=1), whole, axis=1)
    twice = entropy(softmax(2 * features @ head["weight"].T + head["bias"], axis=1), whole, axis=1)
    dropped = np.isclose(found, none, atol=1e-12)
    assert (dropped | np.isclose(found, twice, atol=1e-12)).all()
    assert 8 < dropped.sum() < 32
    again, other = (method.disagreement(hidden([0] * 40, seed), outputs, head) for seed in (0, 1))
    assert (again == found).all() and (other != found).any()


def test_random_points_follow_from_the_seed() -> None:
    one, again, other = (SelfRandom().disagreement(hidden([0, 1] * 20, seed), {}) for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).all()


# the fine-tuning


def test_the_layer_goes_on_from_erms_on_the_points() -> None:
    rng = np.random.default_rng(3)
    labels = np.array([0] * 14 + [1] * 6)
    features = 2 + 3 * rng.normal(size=(20, 3))
    head = {"weight": rng.normal(size=(2, 3)), "bias": rng.normal(size=2)}
    logits = features @ head["weight"].T + head["bias"]
    method = SelfMisclassification(SelfMisclassificationHyperparameters(points=8, steps=15, rate=0.05))
    new, notes = method.last_layer(hidden(labels), {"features": features, "logits": logits}, head)
    likely = softmax(logits, axis=1)[np.arange(20), labels]
    rows = np.concatenate([np.argsort(likely[:14])[:4], 14 + np.argsort(likely[14:])[:4]])
    mean, scale = features.mean(axis=0), features.std(axis=0)
    start = head["weight"] * scale, head["bias"] + head["weight"] @ mean
    steps = [np.full(8, 1 / 8)] * 15
    weight, bias = fitted((features[rows] - mean) / scale, labels[rows], *start, rate=0.05, weights=steps)
    np.testing.assert_allclose(new["weight"], weight / scale, atol=1e-9)
    np.testing.assert_allclose(new["bias"], bias - weight @ (mean / scale), atol=1e-9)
    assert notes == {"points": 8, "wrong_points": int((likely[rows] < 0.5).sum())}


def test_points_that_the_model_gets_wrong_correct_a_shortcut() -> None:
    """ERM's layer reads the shortcut alone; 5 of 100 points of a class conflict, and 10 points of each are taken."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], 100)
    attributes = np.where(np.arange(200) % 100 < 5, 1 - labels, labels)
    signs = 2 * np.stack([labels, attributes], axis=1) - 1
    features = signs + rng.normal(size=(200, 2)) * [0.5, 0.2]
    head = {"weight": np.array([[0.0, -2.0], [0.0, 2.0]]), "bias": np.zeros(2)}
    outputs = {"features": features, "logits": features @ head["weight"].T}

    def conflicting(method: Self) -> float:
        new, _ = method.last_layer(hidden(labels), outputs, head)
        right = (features @ new["weight"].T + new["bias"]).argmax(axis=1) == labels
        return float(right[attributes != labels].mean())

    assert conflicting(SelfMisclassification(SelfMisclassificationHyperparameters(points=20))) > 0.8
    assert conflicting(SelfRandom(SelfRandomHyperparameters(points=20, steps=20, rate=0.001))) == 0


def test_one_class_with_one_point() -> None:
    outputs = {"features": np.eye(4, 2), "logits": np.zeros((4, 2))}
    head = {"weight": np.ones((2, 2)), "bias": np.zeros(2)}
    new, notes = SelfRandom().last_layer(hidden([0, 0, 0, 1]), outputs, head)
    assert notes["points"] == 2 and all(np.isfinite(array).all() for array in new.values())


# stages


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_stages(variant: type[Self]) -> None:
    """Nothing but the shared ERM run is trained, and its beginning where that is what is compared."""
    method = variant(variant.Hyperparameters().resolved(Training(epochs=20)))
    model, computed = method.fit(task_of(method, training=Training(epochs=20))).parents
    assert model.key == ERM().fit(task_of(ERM(), training=Training(epochs=20))).key
    assert computed.spec["on"] == computed.parents[0].spec["partition"] == "validation"
    assert issubclass(variant.Hyperparameters, SelfHyperparameters)
    if variant is SelfEarlyStopDisagreement:
        early = computed.parents[2].parents[0]
        assert early.spec["epochs"] == 2
        assert early.spec["trajectory"]["method"]["name"] == "erm"


def test_early_epochs_are_at_least_one() -> None:
    assert SelfEarlyStopDisagreementHyperparameters().resolved(Training(epochs=4)).early_epochs == 1
