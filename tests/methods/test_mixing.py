"""Mixup, CutMix and LISA: shares, partners and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from robustbench_spur.methods import cutmix as cutmix_module
from robustbench_spur.methods import lisa as lisa_module
from robustbench_spur.methods import mixup as mixup_module
from robustbench_spur.methods._mixing import beta_share, blend, mixed_loss, patch, random_partner
from robustbench_spur.methods.cutmix import CutMix, CutMixHyperparameters
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.lisa import LISA, LISAHyperparameters
from robustbench_spur.methods.mixup import Mixup, MixupHyperparameters
from tests.methods.toy import batch_of, linear, partition, view_of


@pytest.fixture(autouse=True)
def fixed_draws() -> None:
    torch.manual_seed(0)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_a_beta_distribution(alpha: float) -> None:
    share = beta_share(alpha, 40_000, torch.device("cpu")).double()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_blend_and_loss_by_hand() -> None:
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    partner, share = torch.tensor([1, 0]), torch.tensor([0.25, 1.0])
    assert blend(images, partner, share)[:, 0, 0, 0].tolist() == [3.0, 4.0]
    logits = np.array([[1.0, 2.0], [0.5, -1.0]])
    expected = np.mean(
        [
            0.25 * cross_entropy(logits[:1], np.array([0]))[0] + 0.75 * cross_entropy(logits[:1], np.array([1]))[0],
            cross_entropy(logits[1:], np.array([1]))[0],
        ]
    )
    found = mixed_loss(torch.from_numpy(logits), torch.tensor([0, 1]), partner, share.double())
    assert float(found) == pytest.approx(expected)


def test_patches_have_the_area_that_the_labels_say() -> None:
    images = torch.cat([torch.zeros(300, 1, 20, 20), torch.ones(300, 1, 20, 20)])
    partner = torch.arange(600).roll(300)
    share = torch.rand(600)
    mixed, left = patch(images, partner, share)
    own = torch.cat([1 - mixed[:300].mean((1, 2, 3)), mixed[300:].mean((1, 2, 3))])
    np.testing.assert_allclose(own, left, atol=1e-6)
    # cut off at the border, a rectangle is never larger than meant (but for a pixel's width)
    assert (left >= share - 0.12).all()
    assert torch.equal(patch(images, partner, torch.ones(600))[0], images)


def test_partners_are_allowed_ones() -> None:
    allowed = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    seen = {tuple(random_partner(allowed)[0].tolist()) for _ in range(50)}
    assert seen == {(1, 0, 2), (2, 0, 2)}
    assert random_partner(allowed)[1].tolist() == [True, True, False]


def test_mixup_without_a_partners_share_is_erm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixup_module, "beta_share", lambda alpha, size, device: torch.ones(size))
    view, model = view_of(Mixup(), partition([0, 1, 1], [0, 0, 1])), linear(2)
    torch.nn.init.normal_(model.head.weight)
    batch = batch_of(view, [0, 1, 2], torch.rand(3, 1, 2, 2))
    assert float(Mixup().loss(model, batch).detach()) == pytest.approx(float(ERM().loss(model, batch).detach()))


def test_mixup_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixup_module, "beta_share", lambda alpha, size, device: torch.full((size,), 0.3))
    monkeypatch.setattr(torch, "randperm", lambda count, device=None: torch.tensor([2, 0, 1]))
    method = Mixup(MixupHyperparameters(alpha=1.0))
    view, model = view_of(method, partition([0, 1, 1], [0, 0, 1])), linear(2)
    torch.nn.init.normal_(model.head.weight)
    images = torch.rand(3, 1, 2, 2)
    x, order, labels = images.numpy().reshape(3, 4), [2, 0, 1], np.array([0, 1, 1])
    logits = ((0.3 * x + 0.7 * x[order] - 0.3) / 0.25) @ model.head.weight.detach().numpy().T
    expected = np.mean(0.3 * cross_entropy(logits, labels) + 0.7 * cross_entropy(logits, labels[order]))
    assert float(method.loss(model, batch_of(view, [0, 1, 2], images)).detach()) == pytest.approx(expected, rel=1e-5)


def test_cutmix_leaves_a_share_of_the_images_alone() -> None:
    method = CutMix(CutMixHyperparameters(probability=0.0))
    view, model = view_of(method, partition([0, 1], [0, 0])), linear(4)
    torch.nn.init.normal_(model.head.weight)
    batch = batch_of(view, [0, 1], torch.rand(2, 1, 4, 4))
    assert float(method.loss(model, batch).detach()) == pytest.approx(float(ERM().loss(model, batch).detach()))


@pytest.mark.parametrize(("draw", "rectangle", "left"), [(0.0, slice(0, 1), 15 / 16), (0.5, slice(1, 3), 12 / 16)])
def test_cutmix_by_hand(monkeypatch: pytest.MonkeyPatch, draw: float, rectangle: slice, left: float) -> None:
    """A share of 3/4 of 4 x 4 pixels leaves 2 x 2 to the partner: all at the middle, one at the corner."""
    monkeypatch.setattr(cutmix_module, "beta_share", lambda alpha, size, device: torch.full((size,), 0.75))
    monkeypatch.setattr(torch, "randperm", lambda count, device=None: torch.tensor([2, 0, 1]))
    monkeypatch.setattr(torch, "rand", lambda count, device=None: torch.full((count,), draw))
    method = CutMix(CutMixHyperparameters(probability=1.0))
    view, model = view_of(method, partition([0, 1, 1], [0, 0, 1])), linear(4)
    torch.nn.init.normal_(model.head.weight)
    images = np.random.default_rng(0).random((3, 1, 4, 4), np.float32)
    order, labels, mixed = [2, 0, 1], np.array([0, 1, 1]), images.copy()
    mixed[:, :, rectangle, rectangle] = images[order][:, :, rectangle, rectangle]
    logits = ((mixed.reshape(3, 16) - 0.3) / 0.25) @ model.head.weight.detach().numpy().T
    expected = np.mean(left * cross_entropy(logits, labels) + (1 - left) * cross_entropy(logits, labels[order]))
    found = method.loss(model, batch_of(view, [0, 1, 2], torch.from_numpy(images)))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("intra_label", "same_label"), [(1.0, True), (0.0, False)])
def test_lisa_pairs_what_it_says(monkeypatch: pytest.MonkeyPatch, intra_label: float, same_label: bool) -> None:
    labels, attributes = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 0, 1])
    pairs = []

    def keep(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        pairs.append(partner.numpy())
        return images

    monkeypatch.setattr(lisa_module, "blend", keep)
    method = LISA(LISAHyperparameters(intra_label=intra_label))
    view = view_of(method, partition(labels, attributes))
    for _ in range(20):
        method.loss(linear(2), batch_of(view, range(6), torch.rand(6, 1, 2, 2)))
    for partner in pairs:
        assert ((labels[partner] == labels) == same_label).all()
        assert ((attributes[partner] == attributes) != same_label).all()
    assert len({tuple(partner.tolist()) for partner in pairs}) == 4  # two of the six have a choice of two


@pytest.mark.parametrize(
    ("intra_label", "labels", "attributes"), [(1.0, [1, 1, 0], [0, 1, 0]), (0.0, [0, 1, 1], [1, 1, 0])]
)
def test_lisa_by_hand(
    monkeypatch: pytest.MonkeyPatch, intra_label: float, labels: list[int], attributes: list[int]
) -> None:
    """The first two are each other's only partners; the third has none under the strategy and keeps its image."""
    monkeypatch.setattr(lisa_module, "beta_share", lambda alpha, size, device: torch.full((size,), 0.3))
    method = LISA(LISAHyperparameters(intra_label=intra_label))
    view, model = view_of(method, partition(labels, attributes)), linear(2)
    torch.nn.init.normal_(model.head.weight)
    images = torch.rand(3, 1, 2, 2)
    x, order, own = images.numpy().reshape(3, 4), [1, 0, 2], np.array([[0.3], [0.3], [1.0]], np.float32)
    logits = ((own * x + (1 - own) * x[order] - 0.3) / 0.25) @ model.head.weight.detach().numpy().T
    targets = np.array(labels)
    expected = np.mean(
        own[:, 0] * cross_entropy(logits, targets) + (1 - own[:, 0]) * cross_entropy(logits, targets[order])
    )
    found = method.loss(model, batch_of(view, range(3), images))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_lisa_without_partners_is_erm() -> None:
    """One group only: nobody shares the label and not the attribute, or the other way round."""
    view, model = view_of(LISA(), partition([1, 1, 1], [0, 0, 0])), linear(2)
    torch.nn.init.normal_(model.head.weight)
    batch = batch_of(view, [0, 1, 2], torch.rand(3, 1, 2, 2))
    assert float(LISA().loss(model, batch).detach()) == pytest.approx(float(ERM().loss(model, batch).detach()))
