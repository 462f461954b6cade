"""ERM against its equation, and against a plain loop in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_spur.feeding import epoch_order
from robustbench_spur.methods.erm import ERM
from tests.methods.toy import batch_of, linear, mixed, of_groups, paint, run_of, silent, task_of, view_of


def test_loss_is_the_mean_cross_entropy() -> None:
    view = view_of(ERM(), of_groups([2, 2, 1, 3]))
    logits = np.random.default_rng(0).normal(size=(4, 2))
    rows = np.array([0, 3, 4, 7])
    loss = ERM().loss(torch.nn.Identity(), batch_of(view, rows, torch.tensor(logits)))
    probability = np.exp(logits)[np.arange(4), view.labels[rows]] / np.exp(logits).sum(axis=1)
    assert float(loss) == pytest.approx(-np.log(probability).mean())


def test_every_example_once_an_epoch() -> None:
    assert ERM().sampling(view_of(ERM(), of_groups([2, 2, 2, 2]))) is None


def test_it_has_one_stage() -> None:
    erm = ERM()
    stage = erm.fit(task_of(erm))
    assert stage.kind == "train"
    assert [parent.spec["partition"] for parent in stage.parents] == ["train", "validation"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_same_as_a_plain_loop(tmp_path: Path, momentum: float) -> None:
    """Two epochs of stochastic gradient descent, with the update written out."""
    rows = mixed(70)
    settings: dict[str, Any] = {
        "epochs": 2,
        "learning_rate": 0.05,
        "weight_decay": 0.01,
        "momentum": momentum,
        "warmup_epochs": 0.0,
    }
    run = run_of(ERM(), tmp_path, rows, optimizer="sgd", averaging=0.0, augmentations=(), model=linear(), **settings)
    weights, history, _ = run.fit(silent)

    model = linear()
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    images, labels = torch.from_numpy(paint(rows)), torch.from_numpy(rows.labels)
    means = []
    for epoch in range(2):
        order = torch.from_numpy(epoch_order(70, None, 0, epoch))
        losses = []
        # 70 examples are two batches of 32; 6 are left over
        for chosen in (order[:32], order[32:64]):
            log_p = model(images[chosen].float() / 255).log_softmax(1)
            loss = -log_p[torch.arange(32), labels[chosen]].sum() / 32
            model.zero_grad()
            torch.autograd.backward(loss)
            losses.append(float(loss.detach()))
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    assert parameter.grad is not None
                    velocity[name] = momentum * velocity[name] + parameter.grad + 0.01 * parameter
                    parameter.sub_(0.05 * velocity[name])
        means.append(float(np.mean(losses)))
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose([entry["loss"] for entry in history], means, rtol=1e-4)
