"""SSA: the groups' thresholds, the predictor's loss, and what comes of its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.method import View
from robustbench_spur.methods.ssa import SSA, SSAHyperparameters, surest
from robustbench_spur.parameters import Training
from robustbench_spur.types import Partition
from tests.methods.toy import batch_of, linear, mixed, partition, run_of, silent, task_of, universe


def predictor(confidence: float = 0.9) -> SSA:
    method = SSA(SSAHyperparameters(attribute_epochs=2, confidence=confidence))
    method.phase = "attribute"
    return method


def seen(rows: Partition) -> View:
    """Rows of ``train`` and ``adapt`` as the engine shows them: attributes that were not declared are -1."""
    return View(rows, universe(), True, "ssa", 0)


# which predictions are learned from


def chosen(confidence: list[float], groups: list[int], known: list[int], threshold: float = 0.9) -> list[bool]:
    found = surest(torch.tensor(confidence), torch.tensor(groups), torch.tensor(known), threshold)
    return [bool(one) for one in found]


def test_thresholds_by_hand() -> None:
    """Group 1 has the fewest, 2 known and 1 sure: of group 0, with 1 known, the 2 surest of its 3 are taken."""
    confidence = [0.91, 0.99, 0.95, 0.93, 0.5, 0.89]
    assert chosen(confidence, [0, 0, 0, 1, 1, 0], [1, 2]) == [False, True, True, True, False, False]


def test_known_examples_count_as_sure_ones() -> None:
    assert chosen([0.99, 0.99, 0.99], [0, 1, 1], [0, 5]) == [True, False, False]


def test_a_group_without_anything_is_not_the_smallest() -> None:
    assert chosen([0.99, 0.95, 0.94], [0, 0, 2], [0, 0, 1]) == [True, True, True]
    assert chosen([0.99], [2], [0, 0, 1]) == [True]


def test_nobody_sure() -> None:
    assert chosen([0.5, 0.6], [0, 1], [1, 1]) == [False, False]
    # what was never drawn has a confidence of 0
    assert chosen([0.0, 0.6], [0, 0], [0, 0], threshold=0.0) == [False, True]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 127)), min_size=1, max_size=30, unique_by=lambda r: r[1]),
    known=st.lists(st.integers(0, 4), min_size=4, max_size=4),
)
def test_thresholds_against_a_loop(rows: list[tuple[int, int]], known: list[int]) -> None:
    """Group by group: sort, count, cut."""
    sure = {g: sorted((c for group, c in rows if group == g and c >= 64), reverse=True) for g in range(4)}
    sizes = [len(sure[g]) + known[g] for g in range(4)]
    smallest = min((size for size in sizes if size), default=0)
    kept = {c for g in range(4) for c in sure[g][: max(0, smallest - known[g])]}
    found = chosen([c / 128 for _, c in rows], [g for g, _ in rows], known, 0.5)
    assert found == [c in kept for _, c in rows]


# the predictor


def test_loss_by_hand() -> None:
    """One known example and three others; of these, one is sure enough, and one is sure of a group that is full."""
    method = predictor()
    view = seen(partition([0, 1, 0, 0, 1], [-1, -1, -1, 0, 1]))
    layer = torch.nn.Linear(4, 2)
    torch.nn.init.zeros_(layer.bias)
    layer.weight.data = torch.tensor([[0.0, 0, 0, 0], [1.0, 0, 0, 0]])
    method.beside = {"attribute": layer}
    method.start(view)
    assert method.state["known"].tolist() == [1, 0, 0, 1]
    # the first pixel is the logit of value 1: sure of 1, of 1 in the other class, and not sure
    logits = torch.tensor([4.0, 3.0, 0.5, 1.0])
    images = torch.full((4, 1, 2, 2), 0.3)
    images[:, 0, 0, 0] = 0.3 + 0.25 * logits
    loss = float(method.loss(linear(2), batch_of(view, [0, 1, 2, 3], images)).detach())
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    # class 0 value 1: none known, one sure; class 1 value 1: one known, one sure; class 0 value 0: one known
    # so the smallest has one example, and only the first is taken
    assert loss == pytest.approx(-np.log(1 - p[3]) - np.log(p[0]), rel=1e-5)
    np.testing.assert_allclose(method.state["confidence"].numpy(), [p[0], p[1], p[2], 0, 0], rtol=1e-5)
    assert method.state["values"].tolist()[:3] == [1, 1, 1]


def test_a_batch_without_known_examples() -> None:
    method = predictor()
    view = seen(partition([0, 1], [-1, 1]))
    method.beside = {"attribute": torch.nn.Linear(4, 2)}
    method.start(view)
    assert float(method.loss(linear(2), batch_of(view, [0])).detach()) == 0


def test_known_examples_are_drawn_as_often_as_the_others() -> None:
    attributes = [-1] * 9 + [0, 1]
    repeats = predictor().sampling(seen(partition([0] * 11, attributes))).repeats
    assert repeats is not None and repeats.tolist() == [1] * 9 + [4, 4]
    repeats = predictor().sampling(seen(partition([0] * 3, [-1, 0, 1]))).repeats
    assert repeats is not None and repeats.tolist() == [1, 1, 1]


def test_it_learns_the_attribute(tmp_path: Path) -> None:
    """Of images that were shown without their attribute, it finds more than nine in ten."""
    rows = mixed(256, conflict=0.3)
    hidden = np.where(np.arange(256) < 192, -1, rows.attributes)
    run = run_of(predictor(), tmp_path, partition(rows.labels, rows.attributes), epochs=6, augmentations=())
    run.view = seen(partition(rows.labels, hidden))
    weights, _, _ = run.fit(silent)
    run.model.load_state_dict(weights)
    run.model.eval()
    with torch.no_grad():
        features = run.model.features(torch.from_numpy(run.train[:192]).float() / 255).numpy()
    state = {name: value.numpy() for name, value in run.state.items()}
    view = seen(partition(rows.labels[:192], hidden[:192]))
    groups, _ = SSA().groups_of(view, state, {"features": features})
    assert (groups["groups"] == 2 * rows.labels[:192] + rows.attributes[:192]).mean() > 0.9


def test_the_last_layer_outlives_the_training() -> None:
    """What the state has is the layer of the last loss, whatever becomes of the layer."""
    method = predictor()
    view = seen(partition([0, 1], [-1, 1]))
    layer = torch.nn.Linear(4, 2)
    method.beside = {"attribute": layer}
    method.start(view)
    layer.weight.data += 1.0
    expected = layer.weight.detach().clone()
    method.loss(linear(2), batch_of(view, [0, 1]))
    layer.weight.data.zero_()
    assert torch.equal(method.state["weight"], expected)


# the groups


def test_groups_by_hand() -> None:
    state = {"weight": np.array([[1.0, 0], [0, 1], [0, 0]]), "bias": np.array([0.0, 0, 0.5])}
    features = np.array([[1.0, 0], [0, 1], [0.2, 0.1], [0, 2], [3, 2]])
    arrays, notes = SSA().groups_of(seen(partition([0, 0, 0, 1, 1], [-1] * 5)), state, {"features": features})
    # values 0, 1, 2 of class 0 and values 1, 0 of class 1
    assert arrays["groups"].tolist() == [0, 1, 2, 4, 3]
    assert notes == {"inferred_group_sizes": {"class 0": [1, 1, 1], "class 1": [1, 1]}}


def test_its_stages() -> None:
    method = SSA(SSAHyperparameters().resolved(Training(epochs=12)))
    model = method.fit(task_of(method, training=Training(epochs=12)))
    groups = model.parents[2]
    attribute, outputs = groups.parents
    assert outputs.parents[0] is attribute and outputs.spec["partition"] == "train"
    assert attribute.spec["trajectory"]["on"] == ["train", "adapt"]
    assert (attribute.spec["epochs"], model.spec["epochs"]) == (6, 12)
