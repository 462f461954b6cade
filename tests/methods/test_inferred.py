"""GroupDRO on inferred groups, and EIIL's environments against gradient ascent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from robustbench_spur.methods._inferred import InferredGroupDRO, InferredHyperparameters, class_parts
from robustbench_spur.methods.eiil import EIIL, EIILHyperparameters, scale_derivatives
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.groupdro import GroupDRO, GroupDROHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, mixed, partition, run_of, same, silent, task_of, universe, view_of


class Inferred(InferredGroupDRO):  # type: ignore[misc]
    name = "inferred"
    needs = ()
    Hyperparameters = InferredHyperparameters


def inferred(groups: list[int] | np.ndarray, eta: float = 0.5) -> Inferred:
    method = Inferred(InferredHyperparameters(eta=eta))
    method.given = {"groups": np.asarray(groups)}
    method.tensors = {"groups": torch.from_numpy(np.asarray(groups))}
    return method


# GroupDRO on groups that are given


def test_one_step_by_hand() -> None:
    """Weights start equal over groups with examples; the one that is absent from the batch only loses by normalising."""
    method = inferred([0, 0, 1, 3])
    view = view_of(method, partition([0, 0, 0, 1], [0] * 4))
    method.start(view)
    third = 1 / 3
    assert method.state["weights"].tolist() == pytest.approx([third, third, 0, third])
    losses = torch.tensor([1.0, 3.0, 0.5])
    found = float(method.robust(losses, batch_of(view, [0, 1, 2])))
    grown = np.array([third * np.exp(0.5 * 2.0), third * np.exp(0.5 * 0.5), 0, third])
    weights = grown / grown.sum()
    assert found == pytest.approx(weights[0] * 2.0 + weights[1] * 0.5, rel=1e-6)
    assert method.state["weights"].tolist() == pytest.approx(weights.tolist(), rel=1e-6)


def test_a_batch_of_one() -> None:
    method = inferred([0, 1])
    view = view_of(method, partition([0, 1], [0, 0]))
    method.start(view)
    loss = method.loss(linear(2), batch_of(view, [1])).detach()
    assert float(loss) == pytest.approx(float(method.state["weights"][1]) * np.log(2), rel=1e-6)


def test_with_the_true_groups_it_is_groupdro(tmp_path: Path) -> None:
    rows = mixed(96, conflict=0.3)
    ours = run_of(inferred(universe().index(rows.labels, rows.attributes), 0.1), tmp_path / "ours", rows)
    theirs = run_of(GroupDRO(GroupDROHyperparameters(eta=0.1)), tmp_path / "theirs", rows)
    assert same(ours.fit(silent)[0], theirs.fit(silent)[0])


def test_groups_are_drawn_equally_often() -> None:
    method = inferred([0, 0, 0, 2])
    weights = method.sampling(view_of(method, partition([0] * 4, [0] * 4))).weights
    assert weights is not None and weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_codes_of_parts_have_no_gaps() -> None:
    codes, notes = class_parts(np.array([2, 0, 2, 0]), np.array([5, 1, 0, 1]))
    assert codes.tolist() == [2, 0, 1, 0]
    assert notes == {"inferred_group_sizes": {"class 0": [2], "class 2": [1, 1]}}


# EIIL


def problem(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2 * rng.normal(size=(40, classes)), rng.integers(0, classes, 40)


def ascend(logits: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """The penalty as the paper writes it, by automatic differentiation in s and Adam on the logits of q."""
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    free = torch.randn(len(y), generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.1)
    for _ in range(300):
        scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        losses = cross_entropy(z * scale, y, reduction="none")
        penalty = torch.zeros((), dtype=torch.float64)
        for share in (free.sigmoid(), 1 - free.sigmoid()):
            (slope,) = torch.autograd.grad((share * losses).mean(), scale, create_graph=True)
            penalty = penalty + slope**2
        optimiser.zero_grad()
        (-penalty).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (free > 0).numpy(), float(penalty.detach())


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (2, 1), (4, 2)])
def test_environments_are_where_gradient_ascent_ends(classes: int, seed: int) -> None:
    logits, labels = problem(classes, seed)
    one, penalty = ascend(logits, labels, seed)
    view = view_of(EIIL(), partition(labels, [0] * 40), universe(classes))
    arrays, notes = EIIL().infer(view, {"logits": logits})
    found = scale_derivatives(logits, labels) > 0
    assert (found == one).all() or (found == ~one).all()
    assert notes["penalty"] == pytest.approx(penalty, rel=1e-2) and notes["penalty"] >= penalty
    pairs = {(label, env): code for label, env, code in zip(labels, found, arrays["groups"], strict=True)}
    assert len(set(pairs.values())) == len(pairs) == arrays["groups"].max() + 1


def test_of_two_classes_the_environments_are_right_and_wrong() -> None:
    logits, labels = problem(2, 5)
    assert ((scale_derivatives(logits, labels) > 0) == (logits.argmax(axis=1) != labels)).all()


def test_eiil_without_errors_has_one_group_a_class() -> None:
    view = view_of(EIIL(), partition([0, 1, 1], [0, 0, 0]))
    arrays, notes = EIIL().infer(view, {"logits": np.array([[3.0, 0], [0, 3], [1, 2]], np.float32)})
    assert arrays["groups"].tolist() == [0, 1, 1]
    assert notes["inferred_group_sizes"] == {"class 0": [1], "class 1": [2]}


def test_its_stages() -> None:
    method = EIIL(EIILHyperparameters().resolved(Training(epochs=8)))
    model = method.fit(task_of(method, training=Training(epochs=8)))
    reference = model.parents[2].parents[0].parents[0]
    assert reference.spec["epochs"] == 2
    assert reference.spec["trajectory"]["method"]["name"] == ERM.name
