"""LfF and DebiAN: the losses and weights of their two networks against numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from robustbench_spur.method import Batch
from robustbench_spur.methods.debian import DebiAN, DebiANHyperparameters
from robustbench_spur.methods.lff import LfF, LfFHyperparameters, generalised
from tests.methods.toy import batch_of, linear, mixed, network, partition, run_of, same, silent, universe, view_of

Floats = NDArray[np.float64]


class Told(torch.nn.Module):
    """A network that answers with logits whatever it sees."""

    def __init__(self, table: Floats) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.from_numpy(table).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits

    @property
    def slopes(self) -> Floats:
        """Gradient of the logits."""
        assert self.logits.grad is not None
        return self.logits.grad.numpy().astype(np.float64)


# LfF


def lff(labels: list[int], classes: int = 2, **hyper: float) -> tuple[LfF, Callable[[list[int]], Batch]]:
    method = LfF(LfFHyperparameters(**hyper))
    view = view_of(method, partition(labels, [0] * len(labels)), universe(classes))
    method.start(view)
    return method, lambda rows: batch_of(view, rows)


def test_generalised_cross_entropy_by_hand() -> None:
    p = np.array([0.9, 0.5, 0.01])
    found = generalised(-torch.from_numpy(np.log(p)), 0.7)
    np.testing.assert_allclose(found, (1 - p**0.7) / 0.7)


def test_its_gradient_is_that_of_cross_entropy_times_p_to_the_q() -> None:
    logits = torch.tensor([[1.0, -0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([2]), reduction="none")
    (plain,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
    (ours,) = torch.autograd.grad(generalised(losses, 0.4).sum(), logits)
    p = softmax(logits.detach().numpy())[0, 2]
    torch.testing.assert_close(ours, plain * p**0.4)


def test_lff_two_steps_by_hand() -> None:
    """Averages, largest ones within the class and weights as in algorithm 1, over two batches."""
    labels, q, memory = [0, 0, 1, 0], 0.7, 0.6
    method, batch = lff(labels, q=q, memory=memory)
    rng = np.random.default_rng(0)
    averages = np.full((4, 2), np.nan)
    for rows in ([0, 1, 2], [0, 3, 2]):
        tables = rng.normal(size=(2, 3, 2))
        y = np.array(labels)[rows]
        ce = np.stack([-log_softmax(table, axis=1)[np.arange(3), y] for table in tables], axis=1)
        for place, row in enumerate(rows):
            seen = not np.isnan(averages[row]).any()
            averages[row] = memory * averages[row] + (1 - memory) * ce[place] if seen else ce[place]
        scaled = averages[rows] / np.array([np.nanmax(averages[np.array(labels) == k], axis=0) for k in y])
        weights = scaled[:, 0] / scaled.sum(axis=1)
        expected = ((1 - np.exp(-q * ce[:, 0])) / q).mean() + (weights * ce[:, 1]).mean()
        method.beside = {"biased": Told(tables[0])}
        found = method.loss(Told(tables[1]), batch(rows))
        assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_each_network_learns_from_its_own_loss() -> None:
    """Weights carry no gradient: the biased network's is that of its generalised cross-entropy alone."""
    method, batch = lff([0, 1, 1], q=0.5)
    table = np.array([[0.3, -1], [0.2, 0.1], [2, 1]])
    biased, own = Told(table), Told(-table)
    method.beside = {"biased": biased}
    method.loss(own, batch([0, 1, 2])).backward()
    p, y = softmax(table, axis=1), np.array([0, 1, 1])
    label = p[np.arange(3), y]
    expected = label[:, None] ** 0.5 * (p - np.eye(2)[y]) / 3
    np.testing.assert_allclose(biased.slopes, expected, atol=1e-6)


def test_what_the_biased_network_fails_at_weighs_more() -> None:
    method, batch = lff([0, 0, 0])
    biased, own = np.array([[3.0, 0], [3, 0], [0, 3]]), np.zeros((3, 2))
    method.beside = {"biased": Told(biased)}
    model = Told(own)
    method.loss(model, batch([0, 1, 2])).backward()
    pull = np.abs(model.slopes).sum(axis=1)
    assert pull[2] > 5 * pull[0] and pull[0] == pytest.approx(pull[1])


def test_lff_where_all_is_known_already() -> None:
    """Losses of 0 give finite weights."""
    method, batch = lff([0, 1])
    sure = np.array([[900.0, 0], [0, 900]])
    method.beside = {"biased": Told(sure)}
    assert torch.isfinite(method.loss(Told(sure), batch([0, 1])))


# DebiAN


def debian(labels: list[int], classes: int = 2, balance: float = 1.0) -> tuple[DebiAN, Batch]:
    method = DebiAN(DebiANHyperparameters(balance=balance))
    view = view_of(method, partition(labels, [0] * len(labels)), universe(classes))
    return method, batch_of(view, list(range(len(labels))))


def by_hand(labels: NDArray[np.int64], own: Floats, other: Floats, balance: float) -> tuple[float, float]:
    """The model's loss and the discoverer's, class by class."""
    total, discover = np.zeros(len(labels)), []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        right, d = softmax(own, axis=1)[rows, label], expit(other)[rows, label]
        one, zero = (d * right).sum() / d.sum(), ((1 - d) * right).sum() / (1 - d).sum()
        discover.append(-np.log(abs(one - zero)) - balance * np.log(1 - abs(d.mean() - (1 - d).mean())))
        total[rows] = (1 + (d if one < zero else 1 - d)) * -np.log(right)
    return float(total.mean()), float(np.mean(discover))


@pytest.mark.parametrize(("classes", "labels"), [(2, [0, 1, 1, 0, 1]), (3, [2, 0, 2, 0, 2]), (2, [1, 1])])
def test_debian_by_hand(classes: int, labels: list[int]) -> None:
    rng = np.random.default_rng(len(labels))
    own, other = rng.normal(size=(2, len(labels), classes))
    method, batch = debian(labels, classes, balance=0.3)
    method.beside = {"discoverer": Told(other)}
    expected = sum(by_hand(np.array(labels), own, other, 0.3))
    assert float(method.loss(Told(own), batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_parts_do_not_move_the_model_nor_the_model_the_parts() -> None:
    labels = np.array([0, 1, 1, 0, 1, 0])
    own, other = np.random.default_rng(3).normal(size=(2, 6, 2))
    method, batch = debian(labels.tolist())
    model, discoverer = Told(own), Told(other)
    method.beside = {"discoverer": discoverer}
    method.loss(model, batch).backward()
    step = 1e-6
    for place, learner in enumerate((model, discoverer)):
        nudged = []
        for sign in (1, -1):
            tables = [own.copy(), other.copy()]
            tables[place][4, 1] += sign * step
            nudged.append(by_hand(labels, tables[0], tables[1], 1.0)[place])
        assert learner.slopes[4, 1] == pytest.approx((nudged[0] - nudged[1]) / (2 * step), rel=1e-3)


def test_a_class_of_one_example_and_saturated_parts_are_finite() -> None:
    method, batch = debian([0, 1, 1])
    model, discoverer = Told(np.zeros((3, 2))), Told(np.full((3, 2), 60.0))
    method.beside = {"discoverer": discoverer}
    loss = method.loss(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert np.isfinite(discoverer.slopes).all()


def test_the_discoverer_finds_the_parts_that_a_fixed_model_treats_unequally() -> None:
    """Trained alone on two pixels, of which one tells the part: it splits each class by that pixel."""
    rng = np.random.default_rng(1)
    part, noise = rng.integers(0, 2, 200), rng.random(200)
    labels = np.arange(200) % 2
    images = torch.zeros(200, 1, 2, 2)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.from_numpy(part), torch.from_numpy(noise)
    sure = np.where(part == 1, 2.0, -0.5)
    model = Told(np.stack([np.where(labels == 0, sure, 0), np.where(labels == 1, sure, 0)], axis=1))
    method = DebiAN()
    view = view_of(method, partition(labels, [0] * 200))
    discoverer = linear(2)
    method.beside = {"discoverer": discoverer}
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(discoverer.head.weight, std=0.01, generator=generator)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(discoverer.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        method.loss(model, batch_of(view, np.arange(200), images)).backward()
        optimiser.step()
    given = discoverer(images).detach().numpy()[np.arange(200), labels] > 0
    for label in (0, 1):
        agreement = (given == (part == 1))[labels == label].mean()
        assert max(agreement, 1 - agreement) > 0.95


# both


@pytest.mark.parametrize("method", [LfF, DebiAN])
def test_a_second_network_learns_and_is_left_behind(method: type[LfF | DebiAN], tmp_path: Path) -> None:
    run = run_of(method(), tmp_path, mixed(96), epochs=1)
    weights, history, _ = run.fit(silent)
    assert weights.keys() == network().state_dict().keys()
    assert np.isfinite(history[0]["loss"])
    (second,) = run.method.beside.values()
    assert not same(second.state_dict(), network().state_dict())
