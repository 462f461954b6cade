"""GIC: its two criteria against a loop and by hand, and the groups that it finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustbench_spur.methods.gic import GIC, GICHyperparameters, criteria
from robustbench_spur.types import HiddenError
from tests.methods.toy import partition, task_of, universe, view_of

Arrays = dict[str, np.ndarray]


def by_loop(soft: np.ndarray, labels: np.ndarray, other: np.ndarray, other_labels: np.ndarray) -> tuple[float, float]:
    """Information and divergence from the probabilities' sums, one cell at a time."""

    def joint(s: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([[s[y == label, part].sum() / len(y) for part in range(s.shape[1])] for label in range(2)])

    p, q = joint(soft, labels), joint(other, other_labels)
    information = divergence = 0.0
    for part in range(soft.shape[1]):
        share, there = p[:, part].sum(), q[:, part].sum()
        for label in range(2):
            information += p[label, part] * np.log(p[label, part] / (share * p[label].sum()))
            divergence += p[label, part] * np.log((p[label, part] / share) / (q[label, part] / there))
    return information, divergence


def found(soft: np.ndarray, labels: np.ndarray, other: np.ndarray, other_labels: np.ndarray) -> list[float]:
    tensors = (torch.from_numpy(x) for x in (soft, labels, other, other_labels))
    return [float(value) for value in criteria(*tensors, 2)]


@pytest.mark.parametrize(("seed", "parts"), [(0, 2), (1, 2), (2, 3)])
def test_criteria_against_a_loop(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    soft, other = rng.dirichlet(np.ones(parts), 30), rng.dirichlet(np.ones(parts), 12)
    labels, other_labels = rng.integers(0, 2, 30), rng.integers(0, 2, 12)
    expected = by_loop(soft, labels, other, other_labels)
    np.testing.assert_allclose(found(soft, labels, other, other_labels), expected, rtol=1e-9)


def test_criteria_by_hand() -> None:
    """s tells the class here in 3 of 4 cases, and nothing of it there."""
    s, y = np.eye(2)[[0, 0, 0, 1, 1, 1, 1, 0]], np.array([0, 0, 0, 0, 1, 1, 1, 1])
    there, y_there = np.eye(2)[[0, 1, 0, 1]], np.array([0, 0, 1, 1])
    gain = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    np.testing.assert_allclose(found(s, y, there, y_there), [gain, gain], rtol=1e-6)
    np.testing.assert_allclose(found(s, y, s, y), [gain, 0], atol=1e-9)


def test_cells_without_examples_are_finite_and_have_slopes() -> None:
    """s is the class here; there, one of its values never occurs."""
    soft = torch.eye(2, dtype=torch.float64)[[0, 0, 1]].requires_grad_(True)
    there = torch.eye(2, dtype=torch.float64)[[0, 0]].requires_grad_(True)
    values = criteria(soft, torch.tensor([0, 0, 1]), there, torch.tensor([0, 1]), 2)
    slopes = torch.autograd.grad(sum(values), [soft, there])
    assert all(torch.isfinite(x).all() for x in (*values, *slopes))


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray, Arrays, Arrays, Arrays]:
    """Features: a noisy sign of the class, and a clear sign of an attribute that is tied to it here alone."""
    rng = np.random.default_rng(seed)

    def draw(count: int, tied: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y = np.arange(count) % 2
        a = np.where(rng.random(count) < tied, y, 1 - y)
        signs = np.stack([2 * y - 1 + rng.normal(size=count), 3 * (2 * a - 1) + rng.normal(size=count)], axis=1)
        return y, a, signs.astype(np.float32)

    (y, a, here), (y_there, _, there) = draw(400, 0.9), draw(200, 0.5)
    head = {"weight": np.array([[-0.3, -0.3], [0.3, 0.3]], np.float32), "bias": np.zeros(2, np.float32)}
    return y, a, {"features": here}, {"features": there, "labels": y_there}, head


def test_it_finds_the_attribute() -> None:
    y, a, here, there, head = problem()
    arrays, notes = GIC().infer(view_of(GIC(), partition(y, np.zeros_like(y))), here, there, head)
    assert max((arrays["groups"] == 2 * y + a).mean(), (arrays["groups"] == 2 * y + 1 - a).mean()) > 0.97
    assert notes["divergence"] > 0.1 and notes["information"] > 0.1
    assert sum(map(sum, notes["inferred_group_sizes"].values())) == 400


def test_the_notes_are_the_criteria_of_what_was_found() -> None:
    """With one step, those of ERM's own last layer."""
    y, _, here, there, head = problem()
    method = GIC(GICHyperparameters(steps=1))
    _, notes = method.infer(view_of(method, partition(y, np.zeros_like(y))), here, there, head)
    soft = [torch.from_numpy(x["features"] @ head["weight"].T).double().softmax(1).numpy() for x in (here, there)]
    expected = by_loop(soft[0], y, soft[1], there["labels"])
    np.testing.assert_allclose([notes["information"], notes["divergence"]], expected, rtol=1e-4)


@pytest.mark.parametrize("labels", [[0], [0, 0, 0], [0, 1, 2, 2]])
def test_few_examples_and_absent_classes(labels: list[int]) -> None:
    method = GIC(GICHyperparameters(steps=20))
    features = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    other = {"features": features[:1], "labels": np.array([1])}
    head = {"weight": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    view = view_of(method, partition(labels, [0] * len(labels)), universe(3))
    arrays, notes = method.infer(view, {"features": features}, other, head)
    assert len(arrays["groups"]) == len(labels)
    assert np.isfinite([notes["information"], notes["divergence"]]).all()


def test_it_reads_no_attribute() -> None:
    view = view_of(GIC(), partition([0, 1], [0, 1]))
    with pytest.raises(HiddenError):
        _ = view.attributes
    arrays, _ = GIC().with_labels(view, {"features": np.zeros((2, 3)), "logits": np.zeros((2, 2))})
    assert set(arrays) == {"features", "labels"} and arrays["labels"].tolist() == [0, 1]


def test_its_stages() -> None:
    model = GIC().fit(task_of(GIC()))
    groups = model.parents[2]
    here, there, head = groups.parents
    assert (here.spec["partition"], there.spec["on"]) == ("train", "adapt")
    assert here.parents[0] is head.parents[0]
