"""Invariance between environments: each penalty against numpy, from its equation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax

from robustbench_spur.method import Batch, Method
from robustbench_spur.methods._adversarial import reverse
from robustbench_spur.methods.cdann import CDANN, CDANNHyperparameters
from robustbench_spur.methods.coral import CORAL, CORALHyperparameters
from robustbench_spur.methods.dann import DANN, DANNHyperparameters
from robustbench_spur.methods.dcor import DCor, DCorHyperparameters, distance_correlation
from robustbench_spur.methods.domain_independent import DomainIndependent
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.fishr import Fishr, FishrHyperparameters
from robustbench_spur.methods.irm import IRM, IRMHyperparameters
from robustbench_spur.methods.mmd import GAMMAS, MMD, MMDHyperparameters
from robustbench_spur.methods.pgi import PGI, PGIHyperparameters, between_groups
from robustbench_spur.methods.vrex import VREx, VRExHyperparameters
from robustbench_spur.networks import Classifier
from robustbench_spur.parameters import Training
from tests.methods.toy import (
    as_images,
    batch_of,
    drawn_features,
    mixed,
    partition,
    passthrough,
    run_of,
    silent,
    universe,
    value,
    view_of,
)

LABELS = np.array([0, 0, 1, 1, 0, 1, 1, 0])
ATTRIBUTES = np.array([0, 1, 0, 1, 1, 0, 1, 0])
WIDTH = 5


def given(
    method: Method, attributes: NDArray[Any] = ATTRIBUTES, epoch: float = 9.0
) -> tuple[Classifier, Batch, Any, Any]:
    """A network, a batch, its features and its logits."""
    view, features = view_of(method, partition(LABELS, attributes)), drawn_features(8, WIDTH)
    model = passthrough(WIDTH)
    batch = batch_of(view, range(8), as_images(features))
    object.__setattr__(batch, "epoch", epoch)
    weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    return model, batch, features.astype(np.float64), features.astype(np.float64) @ weight.T + bias


def entropies(logits: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(-log_softmax(logits, axis=1)[np.arange(8), LABELS])


def risks(logits: NDArray[Any]) -> NDArray[Any]:
    return np.array([entropies(logits)[ATTRIBUTES == e].mean() for e in (0, 1)])


def test_vrex() -> None:
    method = VREx(VRExHyperparameters(strength=5.0, warmup_epochs=3.0))
    model, batch, _, logits = given(method)
    expected = (risks(logits).mean() + 5 * risks(logits).var()) / 5
    assert value(method.loss(model, batch)) == pytest.approx(expected, rel=1e-5)


def test_before_the_warm_up_is_over_the_weight_is_one() -> None:
    method = VREx(VRExHyperparameters(strength=5.0, warmup_epochs=3.0))
    model, batch, _, logits = given(method, epoch=2.9)
    assert value(method.loss(model, batch)) == pytest.approx(risks(logits).mean() + risks(logits).var(), rel=1e-5)


def test_irm_by_differences() -> None:
    """The product of the slopes of two halves of each environment, by a factor on the logits."""
    method = IRM(IRMHyperparameters(strength=1.0, warmup_epochs=0.0))
    model, batch, _, logits = given(method)

    def slope(rows: NDArray[Any]) -> float:
        step = 1e-5
        up, down = (entropies((1 + s) * logits)[rows].mean() for s in (step, -step))
        return float((up - down) / (2 * step))

    penalty = np.mean(
        [slope(rows[0::2]) * slope(rows[1::2]) for rows in (np.flatnonzero(ATTRIBUTES == e) for e in (0, 1))]
    )
    assert value(method.loss(model, batch)) == pytest.approx(risks(logits).mean() + penalty, rel=1e-4)


def test_irm_of_an_environment_of_one_has_no_penalty() -> None:
    method = IRM(IRMHyperparameters(strength=1.0, warmup_epochs=0.0))
    model, batch, _, _logits = given(method, np.array([1, 0, 0, 0, 0, 0, 0, 0]))
    alone = value(method.loss(model, batch))
    assert np.isfinite(alone)


def test_irm_is_nothing_where_the_scale_is_right() -> None:
    """Logits of zero: the slope by a factor is zero in every environment."""
    method = IRM(IRMHyperparameters(strength=1e4, warmup_epochs=0.0))
    model, batch, _, _ = given(method)
    torch.nn.init.zeros_(model.head.weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(model.head.bias)  # type: ignore[arg-type]
    assert value(method.loss(model, batch)) * 1e4 == pytest.approx(np.log(2), rel=1e-5)


def test_mmd() -> None:
    method = MMD(MMDHyperparameters(strength=2.0, warmup_epochs=0.0))
    model, batch, features, logits = given(method)
    one, two = features[ATTRIBUTES == 0], features[ATTRIBUTES == 1]

    def kernel(x: NDArray[Any], y: NDArray[Any]) -> float:
        return float(sum(np.exp(-g * cdist(x, y, "sqeuclidean") / WIDTH) for g in GAMMAS).mean())

    distance = kernel(one, one) + kernel(two, two) - 2 * kernel(one, two)
    assert value(method.loss(model, batch)) == pytest.approx((risks(logits).mean() + 2 * distance) / 2, rel=1e-4)


def test_coral() -> None:
    method = CORAL(CORALHyperparameters(strength=3.0, warmup_epochs=0.0))
    model, batch, features, logits = given(method)
    one, two = features[ATTRIBUTES == 0], features[ATTRIBUTES == 1]
    means = ((one.mean(0) - two.mean(0)) ** 2).mean()
    covariances = ((np.cov(one.T) - np.cov(two.T)) ** 2).mean()
    assert value(method.loss(model, batch)) == pytest.approx(
        (risks(logits).mean() + 3 * (means + covariances)) / 3, rel=1e-4
    )


@pytest.mark.parametrize("method", [MMD(), CORAL()])
def test_one_environment_has_no_distance(method: MMD | CORAL) -> None:
    method.hyper = method.hyper.model_copy(update={"warmup_epochs": 0.0})
    model, batch, _, logits = given(method, np.zeros(8, int))
    assert value(method.loss(model, batch)) == pytest.approx(entropies(logits).mean(), rel=1e-5)


def test_a_reversed_gradient() -> None:
    features = torch.tensor([1.0, 2.0], requires_grad=True)
    (reverse(features) * torch.tensor([3.0, 5.0])).sum().backward()
    assert features.grad is not None and features.grad.tolist() == [-3.0, -5.0]


@pytest.mark.parametrize(
    "method",
    [
        DANN(DANNHyperparameters(strength=0.7, ramp_epochs=4.0, width=6)),
        CDANN(CDANNHyperparameters(strength=0.7, ramp_epochs=4.0, width=6)),
    ],
)
def test_adversary_learns_and_features_unlearn(method: DANN | CDANN) -> None:
    """The adversary's gradient is that of its cross-entropy; the features' part of it is reversed and scaled."""
    model, batch, _, logits = given(method, epoch=2.0)
    torch.manual_seed(3)
    method.beside = method.modules(model, batch.view)
    images = batch.images.clone().requires_grad_(True)
    object.__setattr__(batch, "images", images)
    loss = method.loss(model, batch)
    attribute = method.adversary_loss(batch, model.features(images))
    assert value(loss) == pytest.approx(risks(logits).mean() + float(attribute.detach()), rel=1e-5)
    weight = 0.7 * (2 / (1 + np.exp(-10 * 0.5)) - 1)
    (found,) = torch.autograd.grad(loss, images, retain_graph=True)
    (class_part,) = torch.autograd.grad(method.risk(batch, model(images)), images)
    (attribute_part,) = torch.autograd.grad(attribute, images, retain_graph=True)
    np.testing.assert_allclose(found, class_part - weight * attribute_part, rtol=1e-3, atol=1e-6)
    first = next(method.beside["adversary"].parameters())
    ours, theirs = torch.autograd.grad(loss, first)[0], torch.autograd.grad(attribute, first)[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    assert first.shape == (6, WIDTH + (2 if method.conditional else 0))


def test_fishr() -> None:
    """Variances of (p - y) times features and of p - y; on the second batch the moving average."""
    method = Fishr(FishrHyperparameters(strength=2.0, warmup_epochs=0.0, memory=0.8))
    model, batch, features, logits = given(method)
    method.modules(model, batch.view)
    residual = softmax(logits, axis=1) - np.eye(2)[LABELS]
    gradients = np.concatenate([(residual[:, :, None] * features[:, None]).reshape(8, -1), residual], axis=1)
    variances = np.stack([gradients[ATTRIBUTES == e].var(axis=0, ddof=1) for e in (0, 1)])
    penalty = ((variances - variances.mean(axis=0)) ** 2).mean(axis=1).mean()
    assert value(method.loss(model, batch)) == pytest.approx((risks(logits).mean() + 2 * penalty) / 2, rel=1e-4)
    np.testing.assert_allclose(method.state["variances"], variances, rtol=1e-4)
    other = batch_of(batch.view, range(8), as_images(2 * features))
    object.__setattr__(other, "epoch", 9.0)
    method.loss(model, other)
    logits = 2 * features @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    residual = softmax(logits, axis=1) - np.eye(2)[LABELS]
    gradients = np.concatenate([(residual[:, :, None] * 2 * features[:, None]).reshape(8, -1), residual], axis=1)
    second = np.stack([gradients[ATTRIBUTES == e].var(axis=0, ddof=1) for e in (0, 1)])
    np.testing.assert_allclose(method.state["variances"], 0.8 * variances + 0.2 * second, rtol=1e-4)


def test_pgi() -> None:
    method = PGI(PGIHyperparameters(strength=2.0, ramp_epochs=4.0))
    model, batch, _, logits = given(method, epoch=1.0)
    p = softmax(logits, axis=1)
    divergences = []
    for label in (0, 1):
        means = [p[(LABELS == label) & (ATTRIBUTES == e)].mean(axis=0) for e in (0, 1)]
        divergences += [float((a * np.log(a / b)).sum()) for a, b in (means, means[::-1])]
    expected = entropies(logits).mean() + 0.25 * 2.0 * np.mean(divergences)
    assert value(method.loss(model, batch)) == pytest.approx(expected, rel=1e-4)


def test_pgi_counts_every_class_and_only_pairs_that_are_there() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    # class 0 has both values, class 1 one of them
    found = between_groups(p, torch.tensor([0, 1, 2]), (2, 2))
    pair = [0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5), 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)]
    assert float(found) == pytest.approx(np.mean(pair), rel=1e-5)
    assert float(between_groups(p[:1], torch.tensor([0]), (2, 2))) == 0


def test_domain_independent() -> None:
    """Layer a is the mean plus its difference less the mean difference; the model's own layer is the mean of all."""
    method = DomainIndependent()
    model, batch, features, logits = given(method)
    torch.manual_seed(5)
    method.beside = method.modules(model, batch.view)
    layer = method.beside["differences"]
    weight, bias = (getattr(layer, name).detach().numpy().reshape(2, 2, -1) for name in ("weight", "bias"))
    own = []
    for a in (0, 1):
        w, b = weight[a] - weight.mean(0), (bias[a] - bias.mean(0))[:, 0]
        own.append(logits + features @ w.T + b)
    np.testing.assert_allclose((own[0] + own[1]) / 2, logits, atol=1e-6)
    chosen = np.where((ATTRIBUTES == 0)[:, None], own[0], own[1])
    assert value(method.loss(model, batch)) == pytest.approx(entropies(chosen).mean(), rel=1e-5)


def centred(points: NDArray[Any]) -> NDArray[Any]:
    d = cdist(points, points)
    return np.asarray(d - d.mean(0) - d.mean(1)[:, None] + d.mean())


def test_distance_correlation_against_numpy() -> None:
    x, y = drawn_features(30, 3, seed=1).astype(float), drawn_features(30, 2, seed=2).astype(float)
    y[:, 0] += x[:, 0] ** 2
    a, b = centred(x), centred(y)
    expected = np.sqrt((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))
    assert float(distance_correlation(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(expected, rel=1e-4)
    assert float(distance_correlation(torch.from_numpy(x), torch.from_numpy(3 * x))) == pytest.approx(1, rel=1e-4)
    constant = torch.zeros(30, 2, requires_grad=True)
    found = distance_correlation(torch.from_numpy(x).float(), constant)
    found.backward()
    assert float(found.detach()) == 0 and constant.grad is not None and constant.grad.isfinite().all()


def test_dcor_loss() -> None:
    method = DCor(DCorHyperparameters(strength=0.5, steepness=3.0, ramp_epochs=12.0))
    model, batch, features, _ = given(method, epoch=6.0)
    torch.manual_seed(7)
    method.beside = method.modules(model, batch.view)
    first, second = features[:, :2], features[:, 2:]
    head = model.head.weight.detach().numpy()
    assert (head[:, 2:] == 0).all()
    logits = first @ head[:, :2].T + model.head.bias.detach().numpy()
    layer = method.beside["attribute"]
    told = second @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    attribute = -log_softmax(told, axis=1)[np.arange(8), ATTRIBUTES].mean()
    a, b = centred(first), centred(second)
    correlation = np.sqrt((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))
    weight = 0.5 * (2 / (1 + np.exp(-1.5)) - 1)
    expected = (entropies(logits).mean() + attribute) / 2 + weight * correlation
    assert value(method.loss(model, batch)) == pytest.approx(expected, rel=1e-4)


def test_the_class_never_comes_to_read_the_attributes_half(tmp_path: Path) -> None:
    weights, _, _ = run_of(DCor(DCorHyperparameters(ramp_epochs=3.0)), tmp_path, mixed(96)).fit(silent)
    assert (weights["head.weight"][:, 64:] == 0).all()
    assert (weights["head.weight"][:, :64] != 0).any()


def test_environments_are_drawn_equally_often() -> None:
    rows = partition([0] * 30 + [1] * 10, [0] * 35 + [1] * 5)
    for method in (IRM(), VREx(), Fishr()):
        weights = method.sampling(view_of(method, rows)).weights
        assert weights is not None
        np.testing.assert_allclose(weights[:35].sum(), weights[35:].sum())


@pytest.mark.parametrize("method", [IRM, VREx, MMD, CORAL, DANN, CDANN, Fishr, PGI, DomainIndependent, DCor])
@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        ([2], [1]),  # one example
        ([1, 1, 1], [0, 1, 1]),  # one class
        ([0, 1, 2, 0], [2, 2, 2, 2]),  # one value
        ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2]),  # tied, a group of one, and no others
    ],
)
def test_small_batches_have_a_finite_loss(method: Any, labels: list[int], attributes: list[int]) -> None:
    """Three classes and four values, one of which no example has."""
    made = method()
    made.hyper = made.hyper.resolved(Training(epochs=4))
    rows, groups = partition(labels, attributes), universe(3, 4)
    model = passthrough(WIDTH, 3)
    batch = batch_of(view_of(made, rows, groups), range(len(labels)), as_images(drawn_features(len(labels), WIDTH)))
    object.__setattr__(batch, "epoch", 3.0)
    made.start(batch.view)
    made.beside = made.modules(model, batch.view)
    images = batch.images.clone().requires_grad_(True)
    object.__setattr__(batch, "images", images)
    loss = made.loss(model, batch)
    loss.backward()
    assert loss.isfinite() and images.grad is not None and images.grad.isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_mmd_of_three_values_leaves_out_the_one_with_a_single_example() -> None:
    """Of the pairs of three sets, one has two examples on both sides."""
    labels, attributes = np.zeros(7, int), np.array([0, 1, 0, 2, 1, 0, 1])
    method = MMD(MMDHyperparameters(strength=1.0, warmup_epochs=0.0))
    features = drawn_features(7, WIDTH)
    view = view_of(method, partition(labels, attributes), universe(2, 3))
    model, batch = passthrough(WIDTH), batch_of(view, range(7), as_images(features))
    one, two = features[attributes == 0], features[attributes == 1]
    means = [sum(np.exp(-g * cdist(x, y, "sqeuclidean") / WIDTH) for g in GAMMAS).mean() for x, y in
             ((one, one), (two, two), (one, two))]  # fmt: skip
    shown = torch.from_numpy(features)
    found = method.penalty(model, batch, shown, model.head(shown))
    assert float(found) == pytest.approx(means[0] + means[1] - 2 * means[2], rel=1e-4)


def test_without_rebalancing_dcor_draws_as_they_come() -> None:
    method = DCor(DCorHyperparameters(rebalance=False, ramp_epochs=1.0))
    assert method.sampling(view_of(method, partition(LABELS, ATTRIBUTES))) is None
    assert ERM().sampling(view_of(ERM(), partition(LABELS, ATTRIBUTES))) is None
