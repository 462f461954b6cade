"""LLE: its changes of an image, its loss by hand, and the mixture that it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax

from robustbench_spur.heads import describe_head
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.lle import LLE, LLEHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, mixed, partition, run_of, silent, task_of, universe, view_of

STILL = {"noise": 0.0, "contrast": 0.0}


def test_what_is_done_to_images() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 1, 16, 16) * 0.8 + 0.1
    same, scanner, turned, blanked = LLE(LLEHyperparameters(noise=0.05, contrast=0.3)).changed(images)
    assert torch.equal(same, images)
    assert scanner.shape == images.shape and not torch.equal(scanner, images)
    assert 0 <= float(scanner.min()) <= float(scanner.max()) <= 1
    upside = [torch.equal(turned[k], images[k].flip(2)) for k in range(6)]
    around = [torch.equal(turned[k], images[k].flip(1).flip(2)) for k in range(6)]
    assert all(one != other for one, other in zip(upside, around, strict=True)) and any(upside) and any(around)
    assert (blanked[..., :2, :2] == 0).all()
    assert torch.equal(blanked[..., 2:, :], images[..., 2:, :]) and torch.equal(blanked[..., 2:], images[..., 2:])


def test_loss_by_hand() -> None:
    """Images of one grey value are the same when turned: what differs is the blanked corner. Contrast and noise are off."""
    method = LLE(LLEHyperparameters(**STILL))
    view = view_of(method, partition([0, 1, 1], [0, 0, 0]))
    model, grey = linear(), np.array([0.3, 0.8, 0.5], np.float32)
    images = torch.from_numpy(grey)[:, None, None, None].expand(3, 1, 10, 10)
    method.beside = method.modules(model, view)
    method.start(view)
    found = float(method.loss(model, batch_of(view, [0, 1, 2], images)).detach())
    features = np.repeat(((grey - 0.3) / 0.25)[:, None], 100, axis=1).astype(np.float64)
    blanked = features.copy()
    blanked[:, 0] = -0.3 / 0.25
    state = {name: value.double().numpy() for name, value in method.state.items()}
    expected = 0.0
    for way, x in enumerate((features, features, features, blanked)):
        own = log_softmax(x @ state["weight"][way].T + state["bias"][way], axis=1)
        told = log_softmax(x @ state["gate_weight"].T + state["gate_bias"], axis=1)
        expected -= own[[0, 1, 2], [0, 1, 1]].mean() + told[:, way].mean()
    assert abs(found - expected) < 1e-4


def test_only_its_own_layers_learn() -> None:
    method = LLE(LLEHyperparameters())
    view = view_of(method, partition([0, 1], [0, 0]))
    model = linear()
    method.beside = method.modules(model, view)
    method.start(view)
    method.loss(model, batch_of(view, [0, 1], torch.rand(2, 1, 10, 10))).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    grads = [parameter.grad for module in method.beside.values() for parameter in module.parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_what_it_keeps_is_a_gated_mixture(tmp_path: Path) -> None:
    method = LLE(LLEHyperparameters())
    run = run_of(method, tmp_path, mixed(96, 3, 2), universe(3), epochs=2)
    run.only_head = True
    run.fit(silent)
    arrays = {name: value.numpy() for name, value in run.state.items()}
    head, _ = method.mixture(run.view, arrays)
    assert describe_head(head, 3, run.model.width) == {"kind": "gated mixture", "experts": 4}
    last = method.beside["layers"].weight.detach().numpy().reshape(4, 3, -1)
    # a step of Adam moves a weight by little more than the learning rate
    assert np.abs(head["weight"] - last).max() < 3 * run.training.learning_rate


def test_stages() -> None:
    method = LLE(LLEHyperparameters().resolved(Training(epochs=20)))
    model, computed = method.fit(task_of(method, training=Training(epochs=20))).parents
    assert model.key == ERM().fit(task_of(ERM(), training=Training(epochs=20))).key
    (layers,) = computed.parents
    assert layers.spec["epochs"] == 5 and layers.spec["trajectory"]["only_head"]
    assert layers.spec["trajectory"]["start"] == model.key
