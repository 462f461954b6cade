"""CnC: its contrast pair by pair in numpy, what is drawn, and its stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robustbench_spur.methods.cnc import CnC, CnCHyperparameters, correct_contrast
from robustbench_spur.methods.erm import ERM
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, partition, task_of, universe, view_of

Floats = NDArray[np.float64]


def by_hand(features: Floats, labels: list[int], predicted: list[int], temperature: float) -> float:
    """Anchor by anchor and positive by positive."""
    losses = []
    for a in range(len(labels)):
        others = [i for i in range(len(labels)) if i != a]
        positives = [i for i in others if labels[i] == labels[a] and predicted[i] != predicted[a]]
        negatives = [i for i in others if labels[i] != labels[a] and predicted[i] == predicted[a]]
        if not positives or not negatives:
            continue

        def weight(i: int, a: int = a) -> float:
            norms = np.linalg.norm(features[a]) * np.linalg.norm(features[i])
            return float(np.exp(features[a] @ features[i] / norms / temperature))

        total = sum(map(weight, positives + negatives))
        losses.append(np.mean([-np.log(weight(p) / total) for p in positives]))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0, 0, 1, 1], [0, 1, 0, 1]),
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]),
        ([2, 0, 1, 2, 2, 0, 1], [2, 2, 1, 0, 1, 0, 2]),
        ([0, 0, 1], [0, 1, 1]),
    ],
)
def test_contrast_by_hand(labels: list[int], predicted: list[int]) -> None:
    features = np.random.default_rng(len(labels)).normal(size=(len(labels), 4))
    found = correct_contrast(torch.from_numpy(features), torch.tensor(labels), torch.tensor(predicted), 0.5)
    assert float(found) == pytest.approx(by_hand(features, labels, predicted, 0.5), rel=1e-9)
    assert by_hand(features, labels, predicted, 0.5) > 0


@pytest.mark.parametrize(
    ("labels", "predicted"), [([0], [1]), ([0, 0, 1], [0, 0, 1]), ([0, 0], [0, 1]), ([0, 1, 1], [0, 0, 0])]
)
def test_without_an_anchor_the_contrast_is_nothing(labels: list[int], predicted: list[int]) -> None:
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = correct_contrast(features, torch.tensor(labels), torch.tensor(predicted), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert features.grad is not None and not features.grad.any()


def test_the_gradient_is_finite_where_features_are_nothing() -> None:
    features = torch.zeros(4, 3, requires_grad=True)
    loss = correct_contrast(features, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), 0.1)
    loss.backward()
    # one positive and one negative, equally near
    assert float(loss.detach()) == pytest.approx(np.log(2))
    assert features.grad is not None and torch.isfinite(features.grad).all()


def test_steps_bring_a_class_together_across_predictions() -> None:
    """Features that tell the prediction come to tell the class."""
    labels, predicted = torch.tensor([0, 0, 1, 1] * 4), torch.tensor([0, 1, 0, 1] * 4)
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    features = (torch.nn.functional.one_hot(predicted).float() + 0.1 * noise).requires_grad_()
    optimiser = torch.optim.Adam([features], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        correct_contrast(features, labels, predicted, 0.5).backward()
        optimiser.step()
    unit = torch.nn.functional.normalize(features.detach(), dim=1)
    similar = unit @ unit.T
    same = labels[:, None] == labels[None]
    assert float(similar[same].min()) > float(similar[~same].max())


def test_its_loss_is_a_mixture() -> None:
    method = CnC(CnCHyperparameters(share=0.3, temperature=0.4, id_epochs=1))
    labels, predicted = [0, 0, 1, 1, 0], [0, 1, 0, 1, 1]
    view, model = view_of(method, partition(labels, [0] * 5)), linear(2)
    generator = torch.Generator().manual_seed(2)
    torch.nn.init.normal_(model.head.weight, generator=generator)  # type: ignore[arg-type]
    method.tensors = {"predicted": torch.tensor(predicted)}
    images, rows = torch.rand(4, 1, 2, 2, generator=generator), [4, 0, 3, 2]
    features = (images.numpy().reshape(4, 4).astype(np.float64) - 0.3) / 0.25
    scores = features @ next(model.head.parameters()).detach().numpy().T
    y = [labels[row] for row in rows]
    entropy = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(4), y])
    contrast = by_hand(features, y, [predicted[row] for row in rows], 0.4)
    found = method.loss(model, batch_of(view, rows, images)).detach()
    assert contrast > 0
    assert float(found) == pytest.approx(0.7 * entropy + 0.3 * contrast, rel=1e-5)


def test_every_class_and_prediction_is_drawn_equally_often() -> None:
    method = CnC()
    view = view_of(method, partition([0, 0, 0, 1, 1], [0] * 5), universe(3))
    logits = np.eye(3)[[0, 0, 2, 1, 1]]
    method.given, notes = method.predictions(view, {"logits": logits})
    assert notes == {"errors_by_class": [1, 0, 0]}
    weights = method.sampling(view).weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.5, 0.5, 1, 0.5, 0.5])
    assert "warning" in method.predictions(view, {"logits": np.eye(3)[[0, 0, 0, 1, 1]]})[1]


def test_its_stages() -> None:
    method = CnC(CnCHyperparameters().resolved(Training(epochs=8)))
    model = method.fit(task_of(method, training=Training(epochs=8)))
    outputs = model.parents[2].parents[0]
    first = outputs.parents[0]
    assert outputs.spec["partition"] == "train" and first.spec["epochs"] == 2
    assert first.spec["trajectory"]["method"]["name"] == ERM.name
