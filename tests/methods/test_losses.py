"""The single-stage losses against numpy, from the papers' equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from robustbench_spur.method import Method
from robustbench_spur.methods.bsoftmax import BSoftmax
from robustbench_spur.methods.cbloss import CBLoss, CBLossHyperparameters
from robustbench_spur.methods.cvar_dro import CVaRDRO, CVaRDROHyperparameters
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.focal import Focal, FocalHyperparameters
from robustbench_spur.methods.label_smoothing import LabelSmoothing, LabelSmoothingHyperparameters
from robustbench_spur.methods.ldam import LDAM, LDAMHyperparameters
from robustbench_spur.methods.reweight import ReWeight
from robustbench_spur.methods.spectral_decoupling import SpectralDecoupling, SpectralDecouplingHyperparameters
from robustbench_spur.methods.sqrt_reweight import SqrtReWeight
from robustbench_spur.networks import Classifier
from tests.methods.toy import batch_of, of_groups, universe, view_of

COUNTS = [20, 5, 10, 15]
ROWS = [0, 7, 21, 24, 30, 44, 49]


def drawn(classes: int, seed: int = 1) -> tuple[Classifier, NDArray[np.float64]]:
    """The identity on features as backbone, so that images are logits, and logits of seven examples."""
    model = Classifier(torch.nn.Flatten(), classes, classes, [0.0], [1.0])
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(classes))
        model.head.bias.zero_()
    return model, np.random.default_rng(seed).normal(scale=2, size=(len(ROWS), classes))


def value(method: Method, counts: list[int] | None = None, rows: list[int] | None = None) -> tuple[float, Any, Any]:
    """The loss, the logits and the labels of seven examples."""
    counts, rows = counts or COUNTS, rows or ROWS
    classes = len(counts) // 2
    view = view_of(method, of_groups(counts), universe(classes))
    model, logits = drawn(classes)
    logits = logits[: len(rows)]
    images = torch.from_numpy(logits).float().reshape(len(rows), classes, 1, 1)
    method.start(view)
    loss = method.loss(model, batch_of(view, rows, images))
    assert loss.requires_grad
    return float(loss.detach()), logits, view.labels[rows]


def entropies(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return found


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (ReWeight(), lambda n: 1 / n),
        (SqrtReWeight(), lambda n: n**-0.5),
        (CBLoss(CBLossHyperparameters(beta=0.9)), lambda n: 0.1 / (1 - 0.9**n)),
    ],
)
def test_group_weights(method: Method, raw: Any) -> None:
    counts = np.array(COUNTS, float)
    weights = raw(counts) / (counts @ raw(counts) / counts.sum())
    loss, logits, labels = value(method)
    groups = np.repeat(np.arange(4), COUNTS)[ROWS]
    assert loss == pytest.approx((weights[groups] * entropies(logits, labels)).mean(), rel=1e-5)


@pytest.mark.parametrize("method", [ReWeight(), SqrtReWeight(), CBLoss()])
def test_equal_groups_have_weight_one_and_an_empty_one_has_no_part(method: Method) -> None:
    for counts in ([12, 12, 12, 12], [24, 0, 0, 24]):
        loss, logits, labels = value(method, counts, [0, 30])
        assert loss == pytest.approx(entropies(logits, labels).mean(), rel=1e-5)


def test_the_rare_group_weighs_more() -> None:
    view = view_of(ReWeight(), of_groups(COUNTS))
    for method in (ReWeight(), SqrtReWeight(), CBLoss()):
        method.start(view)
        weights = method.state["weights"]
        assert weights.argmax() == 1 and weights.argmin() == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(gamma: float) -> None:
    loss, logits, labels = value(Focal(FocalHyperparameters(gamma=gamma)))
    p = softmax(logits, axis=1)[np.arange(7), labels]
    assert loss == pytest.approx(np.mean((1 - p) ** gamma * -np.log(p)), rel=1e-5)


def test_focal_is_finite_where_the_model_is_sure() -> None:
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    model, _ = drawn(2)
    view = view_of(Focal(), of_groups([1, 0, 0, 0]))
    loss = Focal(FocalHyperparameters(gamma=0.5)).loss(model, batch_of(view, [0], logits.reshape(1, 2, 1, 1)))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_ldam(scale: float) -> None:
    loss, logits, labels = value(LDAM(LDAMHyperparameters(max_margin=0.4, scale=scale)))
    counts = np.array([25, 25])
    margins = 0.4 * counts**-0.25 / (counts**-0.25).max()
    moved = logits.copy()
    moved[np.arange(7), labels] -= margins[labels]
    assert loss == pytest.approx(entropies(scale * moved, labels).mean(), rel=1e-4)


def test_ldam_margins_are_largest_for_the_rarest_class() -> None:
    """16 and 1 examples: n^(-1/4) is 1/2 and 1."""
    method = LDAM(LDAMHyperparameters(max_margin=0.6))
    method.start(view_of(method, of_groups([16, 0, 1, 0, 0, 0]), universe(3)))
    np.testing.assert_allclose(method.state["margins"], [0.3, 0.6, 0.0], rtol=1e-6)


def test_balanced_softmax() -> None:
    loss, logits, labels = value(BSoftmax(), [30, 10, 4, 4, 1, 1], [0, 35, 41, 45, 48, 49])
    weighted = np.exp(logits) * np.array([40, 8, 2])
    p = weighted / weighted.sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(6), labels]).mean(), rel=1e-5)


def test_balanced_softmax_of_equal_classes_is_erm_to_the_last_bit() -> None:
    assert (
        value(BSoftmax(), [900, 100, 400, 600], [0, 950, 1700])[0]
        == value(ERM(), [900, 100, 400, 600], [0, 950, 1700])[0]
    )


def test_balanced_softmax_of_an_absent_class_is_finite() -> None:
    loss, _, _ = value(BSoftmax(), [10, 0, 0, 0, 5, 0], [0, 12])
    assert np.isfinite(loss)


@pytest.mark.parametrize("alpha", [0.05, 1 / 7, 0.4, 1.0])
def test_cvar_by_its_dual(alpha: float) -> None:
    """min over t of t + mean(max(l - t, 0)) / alpha, attained at one of the losses."""
    loss, logits, labels = value(CVaRDRO(CVaRDROHyperparameters(alpha=alpha)))
    losses = entropies(logits, labels)
    assert loss == pytest.approx(min(t + np.maximum(losses - t, 0).mean() / alpha for t in losses), rel=1e-5)


def test_cvar_between_the_mean_and_the_worst() -> None:
    _, logits, labels = value(ERM())
    losses = entropies(logits, labels)
    assert value(CVaRDRO(CVaRDROHyperparameters(alpha=1.0)))[0] == pytest.approx(losses.mean(), rel=1e-5)
    assert value(CVaRDRO(CVaRDROHyperparameters(alpha=0.01)))[0] == pytest.approx(losses.max(), rel=1e-5)


def test_spectral_decoupling() -> None:
    loss, logits, labels = value(SpectralDecoupling(SpectralDecouplingHyperparameters(strength=0.3)))
    expected = entropies(logits, labels).mean() + 0.15 * (logits**2).sum(axis=1).mean()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_label_smoothing() -> None:
    loss, logits, labels = value(
        LabelSmoothing(LabelSmoothingHyperparameters(smoothing=0.2)), [9, 9, 9, 9, 9, 9], [0, 20, 50]
    )
    target = 0.8 * np.eye(3)[labels] + 0.2 / 3
    assert loss == pytest.approx(-(target * log_softmax(logits, axis=1)).sum(axis=1).mean(), rel=1e-5)
