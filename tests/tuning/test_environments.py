"""Environments inferred without attributes: against brute force, gradient ascent, and a problem whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from robustbench_spur.tuning.environments import infer_environments, penalty, scale_gradients


def toy(examples: int = 12, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (examples, classes)), rng.integers(0, classes, examples)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_gradients_are_those_of_autograd(classes: int) -> None:
    logits, labels = toy(20, classes)
    factor = torch.ones(20, dtype=torch.float64, requires_grad=True)
    scaled = torch.from_numpy(logits) * factor[:, None]
    torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels), reduction="sum").backward()
    assert factor.grad is not None
    assert scale_gradients(logits, labels) == pytest.approx(factor.grad.numpy(), abs=1e-12)


def test_large_logits_do_not_overflow() -> None:
    assert np.isfinite(scale_gradients(np.array([[1e4, -1e4]], np.float32), np.array([1]))).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_assignment_has_a_larger_penalty(seed: int) -> None:
    """All corners of the cube of assignments, and a thousand points inside it."""
    logits, labels = toy(10, 3, seed)
    gradients = scale_gradients(logits, labels)
    ours = penalty(infer_environments(logits, labels).astype(float), gradients)
    corners = [penalty(np.array(q, float), gradients) for q in itertools.product((0, 1), repeat=10)]
    inside = [penalty(q, gradients) for q in np.random.default_rng(seed).random((1000, 10))]
    assert ours == pytest.approx(max(corners), rel=1e-12)
    assert ours >= max(inside)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_ascent_on_soft_assignments_comes_to_the_same(seed: int) -> None:
    """As the original does it: sigmoids of free numbers, Adam, the mean of both environments' IRMv1 penalties."""
    logits, labels = toy(30, 2, seed)
    free = torch.from_numpy(np.random.default_rng(seed).normal(size=30)).requires_grad_(True)
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    scaled, target = torch.from_numpy(logits) * factor, torch.from_numpy(labels)
    losses = torch.nn.functional.cross_entropy(scaled, target, reduction="none")
    optimiser = torch.optim.Adam([free], lr=0.1)
    for _ in range(400):
        soft = free.sigmoid()
        both = [torch.autograd.grad((losses * q).mean(), factor, create_graph=True)[0] ** 2 for q in (soft, 1 - soft)]
        optimiser.zero_grad()
        (-torch.stack(both).mean()).backward(inputs=[free])
        optimiser.step()
    theirs = (free.detach().sigmoid() > 0.5).numpy()
    ours = infer_environments(logits, labels) == 1
    assert (theirs == ours).all() or (theirs == ~ours).all()


def test_a_model_that_reads_the_shortcut_gives_the_groups_in_which_it_fails() -> None:
    labels, sites = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0])
    logits = np.where(np.arange(2) == sites[:, None], 3.0, 0.0)
    assert infer_environments(logits, labels).tolist() == (labels != sites).astype(int).tolist()


def test_the_second_environment_holds_errors_only_and_of_more_classes_not_all() -> None:
    logits, labels = toy(300, 4, 1)
    second, wrong = infer_environments(logits, labels) == 1, logits.argmax(1) != labels
    assert (second <= wrong).all()
    assert 0 < second.sum() < wrong.sum()
    # wrong by a hair, and far above the others: a larger factor helps
    assert infer_environments(np.array([[1.0, 0.99, -9.0, -9.0]]), np.array([1])).tolist() == [1]
    assert infer_environments(np.array([[1.0, 0.9, 0.0, 0.0]]), np.array([1])).tolist() == [0]
