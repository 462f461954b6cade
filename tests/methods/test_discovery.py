"""Methods that find groups by themselves: what they find, against numpy or on problems whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import mutual_info_score

from robustbench_spur.methods import ula as ula_module
from robustbench_spur.methods._clusters import best_clusters, within_classes
from robustbench_spur.methods.cnc import CnC, CnCHyperparameters
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.gic import GIC, GICHyperparameters, criteria
from robustbench_spur.methods.spare import SPARE, SPAREHyperparameters
from robustbench_spur.methods.ula import ULA, ULAHyperparameters, contrastive
from robustbench_spur.methods.xrm import XRM, XRMHyperparameters, balanced, flip_probability
from robustbench_spur.networks import Classifier
from tests.methods.toy import (
    as_images,
    batch_of,
    drawn_features,
    partition,
    passthrough,
    task_of,
    value,
    view_of,
)

LABELS = np.array([0, 1, 1, 0, 1])
WIDTH = 4


def logits_of(model: Classifier, features: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().numpy().astype(float) for p in model.head.parameters())
    return np.asarray(features.astype(float) @ weight.T + bias)


def entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels])


# clusters: George and SPARE


def blobs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(len(sizes))[truth] * 6 + rng.normal(scale=0.4, size=(len(truth), len(sizes))), truth


def test_the_number_of_clusters_is_the_blobs() -> None:
    points, truth = blobs([40, 25, 15])
    codes, score = best_clusters(points, range(2, 8), np.random.default_rng(0))
    assert len(set(zip(truth.tolist(), codes.tolist(), strict=True))) == 3 and codes.max() == 2
    assert 0.7 < score <= 1


def test_equal_points_are_one_cluster() -> None:
    codes, score = best_clusters(np.ones((9, 2)), range(2, 5), np.random.default_rng(0))
    assert codes.tolist() == [0] * 9 and np.isnan(score)
    codes, _ = within_classes(
        np.random.default_rng(0).random((3, 2)), np.array([0, 1, 1]), range(2, 4), np.random.default_rng(0)
    )
    assert codes.tolist() == [0, 0, 0]


def test_spares_first_model_is_the_beginning_of_erm() -> None:
    method = SPARE(SPAREHyperparameters(id_epochs=1))
    early = method.fit(task_of(method)).parents[2].parents[0].parents[0]
    assert early.spec["epochs"] == 1
    assert early.spec["trajectory"] == ERM().fit(task_of(ERM())).spec["trajectory"]


# CnC


def test_cnc_without_pairs_is_weighted_erm() -> None:
    method = CnC(CnCHyperparameters(share=0.75))
    view, model = view_of(method, partition([0, 1], [0, 0])), passthrough(WIDTH)
    method.tensors = {"predicted": torch.tensor([0, 1])}
    batch = batch_of(view, [0, 1], as_images(drawn_features(2, WIDTH)))
    assert value(method.loss(model, batch)) == pytest.approx(0.25 * value(ERM().loss(model, batch)))


# GIC


def test_information_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, part = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    part = np.where(rng.random(200) < 0.7, labels, part)
    hard = torch.from_numpy(np.eye(2)[part])
    information, divergence = criteria(hard, torch.from_numpy(labels), hard, torch.from_numpy(labels), 2)
    assert float(information) == pytest.approx(mutual_info_score(labels, part), rel=1e-6)
    assert float(divergence) == pytest.approx(0, abs=1e-12)


def test_divergence_by_hand() -> None:
    """P(y | s): [3/4, 1/4] and [1/4, 3/4] here, 1/2 there."""
    here, y = np.repeat([0, 1], 4), np.array([0, 0, 0, 1, 0, 1, 1, 1])
    there, y_there = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    soft = [torch.from_numpy(np.eye(2)[x]) for x in (here, there)]
    _, divergence = criteria(soft[0], torch.from_numpy(y), soft[1], torch.from_numpy(y_there), 2)
    assert float(divergence) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))


def test_gic_finds_what_changes_between_the_sets() -> None:
    rng = np.random.default_rng(1)

    def cloud(count: int, tie: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, count)
        attributes = np.where(rng.random(count) < tie, labels, 1 - labels)
        features = (
            rng.normal(scale=0.6, size=(count, 3)) + np.outer(labels, [1.5, 0, 0]) + np.outer(attributes, [0, 3, 0])
        )
        return features, labels, attributes

    (x, y, a), (other, y_other, _) = cloud(400, 0.9), cloud(300, 0.5)
    head = {"weight": np.array([[-1.0, -1, 0], [1, 1, 0]]), "bias": np.array([2.2, -2.2])}
    method = GIC(GICHyperparameters(steps=200))
    arrays, _ = method.infer(
        view_of(method, partition(y, a)), {"features": x}, {"features": other, "labels": y_other}, head
    )
    assert (arrays["groups"] % 2 == a).mean() > 0.95


# XRM


def test_flips_and_balanced_losses_by_hand() -> None:
    np.testing.assert_allclose(flip_probability(torch.tensor([1 / 3, 1.0, 0.5]), 3), [0, 1, 0.25], atol=1e-6)
    logits = drawn_features(5, 2).astype(float)
    own = np.array([True, True, True, False, False])
    losses = entropies(logits, LABELS)
    expected = (losses[0] + losses[1:3].mean()) / 2
    found = balanced(torch.from_numpy(logits), torch.from_numpy(LABELS), torch.from_numpy(own))
    assert float(found) == pytest.approx(expected)
    assert float(balanced(torch.from_numpy(logits), torch.from_numpy(LABELS), torch.zeros(5, dtype=torch.bool))) == 0


def test_twins_flip_labels_towards_the_one_that_did_not_learn_them() -> None:
    method = XRM(XRMHyperparameters(twin_epochs=1))
    method.phase = "twins"
    view, sure = view_of(method, partition([0, 0, 1, 1], [0] * 4)), 60.0
    method.start(view)
    method.state["first"] = torch.tensor([True, False, True, False])
    # the first twin says 0 of all, the second 1 of all, both with certainty
    first, second = (Classifier(torch.nn.Flatten(), 1, 2, [0.0], [1.0]) for _ in range(2))
    for model, said in ((first, 0), (second, 1)):
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.copy_(sure * torch.eye(2)[said])
    method.beside = {"twin": second}
    torch.manual_seed(0)
    loss = method.loss(first, batch_of(view, range(4), torch.zeros(4, 1, 1, 1)))
    # the first learns examples 0 and 2 (labels 0, 1), the second 1 and 3: each is certain and wrong about one
    assert value(loss) == pytest.approx((0 + sure) / 2 + (sure + 0) / 2, rel=1e-4)
    assert method.state["labels"].tolist() == [1, 0, 1, 0]
    assert method.state["wrong"].tolist() == [[False, True], [False, True], [True, False], [True, False]]
    arrays, notes = method.environments(view, {name: x.numpy() for name, x in method.state.items()})
    assert arrays["groups"].tolist() == [0, 0, 1, 1] and notes["flipped_share"] == 0.5


# uLA


def test_contrastive_loss_by_hand() -> None:
    z = drawn_features(6, 4).astype(float)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    similar = np.exp(unit @ unit.T / 0.5)
    np.fill_diagonal(similar, 0)
    other = [3, 4, 5, 0, 1, 2]
    expected = np.mean([-np.log(similar[i, other[i]] / similar[i].sum()) for i in range(6)])
    assert float(contrastive(torch.from_numpy(z), 0.5)) == pytest.approx(expected)


def test_offsets_are_the_log_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe:
        def __init__(self, **_: Any) -> None: ...

        def fit(self, *_: Any) -> Probe:
            return self

        def predict(self, features: np.ndarray) -> np.ndarray:
            return np.array([0, 0, 0, 1, 1])

    monkeypatch.setattr(ula_module, "LogisticRegression", Probe)
    method = ULA(ULAHyperparameters(contrast_epochs=1))
    labels = np.array([0, 0, 1, 1, 1])
    arrays, notes = method.offsets(view_of(method, partition(labels, [0] * 5)), {"features": drawn_features(5, 3)})
    # with one of each added: b = 0: 3 and 2 of 5; b = 1: 1 and 3 of 4
    np.testing.assert_allclose(np.exp(arrays["offsets"]), [[0.6, 0.4]] * 3 + [[0.25, 0.75]] * 2, rtol=1e-5)
    assert notes["probe_accuracy"] == pytest.approx(0.8)


def test_adjusted_logits() -> None:
    method = ULA(ULAHyperparameters(contrast_epochs=1, tau=2.0))
    view, model, x = view_of(method, partition(LABELS, [0] * 5)), passthrough(WIDTH), drawn_features(3, WIDTH)
    offsets = np.log(softmax(drawn_features(5, 2, seed=5), axis=1))
    method.tensors = {"offsets": torch.from_numpy(offsets)}
    rows = [4, 0, 2]
    expected = entropies(logits_of(model, x) + 2 * offsets[rows], LABELS[rows]).mean()
    assert value(method.loss(model, batch_of(view, rows, as_images(x)))) == pytest.approx(expected, rel=1e-5)
