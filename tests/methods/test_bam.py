"""BAM: the crutches' step against the gradient, the error set, and the training that goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_spur.methods.bam import BAM, BAMHyperparameters
from robustbench_spur.methods.erm import ERM
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, mixed, partition, run_of, same, silent, task_of, universe, view_of


def bam(phase: str = "bias", *, crutch: float = 2.0, rate: float = 0.1, upweight: int = 20) -> BAM:
    method = BAM(BAMHyperparameters(bias_epochs=2, crutch=crutch, crutch_rate=rate, upweight=upweight))
    method.phase = phase
    return method


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 2 x 2 pixels, and a weight for them."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((3, 1, 2, 2), np.float32)), torch.from_numpy(rng.normal(size=(2, 4))).float()


# the first training


def test_loss_and_step_by_hand() -> None:
    """Against automatic differentiation of each example's own squared error."""
    method, rows = bam(), [2, 0, 3]
    view = view_of(method, partition([0, 1, 1, 1], [0] * 4))
    method.start(view)
    before = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 2))).float()
    method.state["crutches"] = before.clone()
    images, weight = drawn()
    model = linear(2)
    model.head.weight.data = weight
    loss = method.loss(model, batch_of(view, rows, images))

    logits = ((images - 0.3) / 0.25).reshape(3, 4).numpy() @ weight.numpy().T
    targets = np.array([[0, 1], [1, 0], [0, 1]])
    free = before[rows].double().requires_grad_(True)
    errors = (torch.from_numpy(logits).double() + 2.0 * free - torch.from_numpy(targets)).square().sum(1)
    assert float(loss.detach()) == pytest.approx(float(errors.mean().detach()), rel=1e-5)
    (slope,) = torch.autograd.grad(errors.sum(), free)
    expected = before.double()
    expected[rows] = free.detach() - 0.1 * slope
    torch.testing.assert_close(method.state["crutches"].double(), expected, rtol=1e-5, atol=1e-5)


def test_the_networks_gradient_is_that_of_the_squared_error() -> None:
    method = bam()
    view = view_of(method, partition([0, 1, 1], [0] * 3))
    method.start(view)
    images, _ = drawn()
    model = linear(2)
    method.loss(model, batch_of(view, [0, 1, 2], images)).backward()
    inputs, targets = ((images - 0.3) / 0.25).reshape(3, 4).numpy(), np.eye(2)[[0, 1, 1]]
    # the weights are zero, so that the error is minus the target
    (slope,) = [p.grad for p in model.head.parameters() if p.ndim == 2]
    assert slope is not None
    np.testing.assert_allclose(slope.numpy(), -2 * targets.T @ inputs / 3, rtol=1e-5)


def test_a_crutch_takes_over_what_is_left_to_learn() -> None:
    """With a network that stays as it is, the error shrinks by 1 - 2 rate crutch^2 each time."""
    method = bam(crutch=1.0, rate=0.1)
    view = view_of(method, partition([0], [0]))
    method.start(view)
    losses = [float(method.loss(linear(2), batch_of(view, [0])).detach()) for _ in range(4)]
    np.testing.assert_allclose(losses, [0.8 ** (2 * k) for k in range(4)], rtol=1e-5)


def test_without_crutches_there_is_only_the_squared_error() -> None:
    method = bam(crutch=0.0)
    view = view_of(method, partition([1, 0], [0, 0]))
    method.start(view)
    assert float(method.loss(linear(2), batch_of(view, [0, 1])).detach()) == pytest.approx(1.0)
    assert not method.state["crutches"].any()


def test_crutches_are_saved_with_the_run(tmp_path: Path) -> None:
    """A run that was killed after its first epoch ends where the others end."""
    short = run_of(bam(rate=1e-3), tmp_path / "twice", epochs=1)
    short.fit(silent)
    again = run_of(bam(rate=1e-3), tmp_path / "twice", epochs=2)
    whole = run_of(bam(rate=1e-3), tmp_path / "once", epochs=2)
    assert same(again.fit(silent)[0], whole.fit(silent)[0])
    assert torch.equal(again.state["crutches"], whole.state["crutches"]) and again.state["crutches"].any()


# the second training


def test_error_set_by_hand() -> None:
    logits = np.array([[2.0, 1.0, 0], [0.0, 1.0, 3], [-1.0, -2.0, 0]], np.float32)
    view = view_of(BAM(), partition([0, 0, 1], [0] * 3), universe(3))
    arrays, notes = BAM().error_set(view, {"logits": logits})
    assert arrays["wrong"].tolist() == [False, True, True]
    assert notes == {"error_set_size": 2, "error_set_by_class": [1, 1, 0]}


def test_errors_stand_mu_times() -> None:
    method = bam("", upweight=7)
    method.given = {"wrong": np.array([True, False, False])}
    sampling = method.sampling(view_of(method, partition([0, 1, 1], [0] * 3)))
    assert sampling is not None and sampling.repeats is not None and sampling.repeats.tolist() == [7, 1, 1]
    assert bam().sampling(view_of(method, partition([0], [0]))) is None


def test_without_errors_it_is_plain_training(tmp_path: Path) -> None:
    method = bam("")
    method.given = {"wrong": np.zeros(96, bool)}
    rows = mixed(96)
    ours = run_of(method, tmp_path / "bam", rows).fit(silent)[0]
    assert same(ours, run_of(ERM(), tmp_path / "erm", rows).fit(silent)[0])


def test_the_same_network_goes_on() -> None:
    method = BAM(BAMHyperparameters().resolved(Training(epochs=12)))
    model = method.fit(task_of(method, training=Training(epochs=12)))
    errors, start = model.parents[2:]
    assert start is errors.parents[0].parents[0]
    assert model.spec["trajectory"]["start"] == start.key
    assert (start.spec["epochs"], model.spec["epochs"]) == (3, 12)
    assert start.spec["trajectory"]["phase"] == "bias" and "phase" not in model.spec["trajectory"]
