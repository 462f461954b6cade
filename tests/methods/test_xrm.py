"""XRM: the twins' losses, who flips whose label, and the environments that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_spur.methods.xrm import XRM, XRMHyperparameters, balanced, flip_probability
from robustbench_spur.parameters import Training
from tests.methods.toy import (
    batch_of,
    linear,
    mixed,
    paint,
    partition,
    run_of,
    same,
    silent,
    task_of,
    universe,
    view_of,
)


def twins() -> XRM:
    method = XRM(XRMHyperparameters(twin_epochs=2))
    method.phase = "twins"
    return method


# the parts


def test_flip_probability_by_hand() -> None:
    found = flip_probability(torch.tensor([0.5, 0.75, 1.0]), 2)
    assert found.tolist() == pytest.approx([0, 0.5, 1])
    assert flip_probability(torch.tensor([1 / 3, 2 / 3, 1.0]), 3).tolist() == pytest.approx([0, 0.5, 1], abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_loss_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels, own = rng.normal(size=(9, 4)), rng.integers(0, 3, 9), rng.random(9) < 0.6
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    means = []
    for label in range(4):
        rows = [i for i in range(9) if own[i] and labels[i] == label]
        if rows:
            means.append(-np.mean([logs[i, label] for i in rows]))
    found = balanced(torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(own))
    assert float(found) == pytest.approx(np.mean(means))


def test_a_batch_of_the_others_examples_costs_nothing() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = balanced(logits, torch.tensor([0, 1]), torch.tensor([False, False]))
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


# a step


def constant(*bias: float) -> torch.nn.Module:
    """A network that says the same of every image."""
    model = linear(2, len(bias))
    model.head.bias.data = torch.tensor(bias, dtype=torch.float32)
    return model


def step(first: list[bool], labels: list[int], own: torch.nn.Module, other: torch.nn.Module) -> tuple[XRM, float]:
    method = twins()
    view = view_of(method, partition(labels, [0] * len(labels)))
    method.start(view)
    method.state["first"] = torch.tensor(first)
    method.beside = {"twin": other}
    return method, float(method.loss(own, batch_of(view, range(len(labels)))).detach())


def test_the_held_out_twin_flips_the_label() -> None:
    """The first is sure of class 0, the second of class 1: a label becomes what the one says that does not learn it."""
    method, _ = step([True, True, False, False], [0, 1, 0, 1], constant(99, 0), constant(0, 99))
    assert method.state["labels"].tolist() == [1, 1, 0, 0]
    # wrong is meant of the original labels
    assert method.state["wrong"].tolist() == [[False, True], [True, False], [False, True], [True, False]]


def test_a_guess_flips_nothing() -> None:
    method, loss = step([True, False, True], [0, 1, 1], constant(0, 0), constant(0, 0))
    assert method.state["labels"].tolist() == [0, 1, 1]
    assert loss == pytest.approx(2 * np.log(2))


def test_each_learns_its_own_half() -> None:
    """The first has one example of class 0 and two of class 1, the second one of class 1."""
    p, q = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-0.5))
    _, loss = step([True, True, True, False], [0, 1, 1, 1], constant(1, 0), constant(0, 0.5))
    assert loss == pytest.approx((-np.log(p) - np.log(1 - p)) / 2 - np.log(q), rel=1e-5)


def test_half_sure_flips_about_half() -> None:
    """At a confidence of 3/4 every second label of 4,000 is flipped, give or take 4 standard deviations."""
    torch.manual_seed(0)
    method, _ = step([True] * 4000, [0] * 4000, constant(0, 0), constant(0, float(np.log(3))))
    assert abs(int(method.state["labels"].sum()) - 2000) < 4 * np.sqrt(1000)


def test_the_labels_that_were_flipped_are_learned() -> None:
    method, _ = step([True], [0], constant(0, 0), constant(0, 99))
    assert method.state["labels"].tolist() == [1]
    view = view_of(method, partition([0], [0]))
    loss = method.loss(constant(0, 3), batch_of(view, [0])).detach()
    assert float(loss) == pytest.approx(-np.log(1 / (1 + np.exp(-3.0))), rel=1e-4)


# the twins


def test_the_twin_begins_with_another_last_layer() -> None:
    model = linear(3)
    twin = twins().modules(model, view_of(XRM(), partition([0, 1], [0, 0])))["twin"]
    ours, theirs = model.state_dict(), twin.state_dict()
    assert ours.keys() == theirs.keys()
    assert not torch.equal(ours["head.weight"], theirs["head.weight"])
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert XRM().modules(model, view_of(XRM(), partition([0], [0]))) == {}


def test_halves_are_random_and_follow_from_the_seed() -> None:
    method, halves = twins(), []
    for seed in (0, 0, 1):
        method.start(view_of(method, partition([0] * 400, [0] * 400), seed=seed))
        halves.append(method.state["first"])
    assert torch.equal(halves[0], halves[1]) and not torch.equal(halves[0], halves[2])
    assert 140 < int(halves[0].sum()) < 260


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    run_of(twins(), tmp_path / "twice", epochs=1).fit(silent)
    again, whole = (run_of(twins(), tmp_path / name, epochs=2) for name in ("twice", "once"))
    assert same(again.fit(silent)[0], whole.fit(silent)[0])
    assert same(again.state, whole.state)


def test_what_the_easy_cue_gets_wrong_is_in_the_second_environment(tmp_path: Path) -> None:
    """Images show the attribute alone, as the one thing that is easy: conflicts are got wrong, and their labels flipped."""
    rows = mixed(256, conflict=0.2)
    run = run_of(twins(), tmp_path, rows, epochs=4, augmentations=())
    run.train = paint(partition(rows.attributes, rows.attributes))
    run.fit(silent)
    wrong, flipped = run.state["wrong"].any(dim=1).numpy(), run.state["labels"].numpy() != rows.labels
    conflict = rows.labels != rows.attributes
    for found in (wrong, flipped):
        assert found[conflict].mean() > 0.9 and found[~conflict].mean() < 0.1


# the environments


def test_environments_by_hand() -> None:
    """One wrong is enough; a class without any has one group."""
    state = {
        "wrong": np.array([[False, False], [True, False], [False, True], [True, True], [False, False]]),
        "labels": np.array([0, 1, 0, 1, 2]),
    }
    view = view_of(XRM(), partition([0, 0, 1, 1, 2], [0] * 5), universe(3))
    arrays, notes = XRM().environments(view, state)
    assert arrays["groups"].tolist() == [0, 1, 2, 2, 3]
    assert notes == {
        "inferred_group_sizes": {"class 0": [1, 1], "class 1": [2], "class 2": [1]},
        "flipped_share": pytest.approx(0.4),
    }


def test_its_stages() -> None:
    method = XRM(XRMHyperparameters().resolved(Training(epochs=12)))
    model = method.fit(task_of(method, training=Training(epochs=12)))
    (halves,) = model.parents[2].parents
    assert (halves.spec["epochs"], model.spec["epochs"]) == (6, 12)
    assert halves.spec["trajectory"]["phase"] == "twins"
