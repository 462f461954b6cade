"""GroupDRO against algorithm 1 of Sagawa et al., written out in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.feeding import epoch_order
from robustbench_spur.method import View
from robustbench_spur.methods.groupdro import GroupDRO, GroupDROHyperparameters
from robustbench_spur.types import Groups, Partition, SpurbenchError
from tests.methods.toy import batch_of, of_groups, partition, run_of, same, silent, universe, view_of

Floats = NDArray[np.float64]
# the identity network: the images of a batch are the logits
LOGITS = torch.nn.Identity()


def negative_log_likelihood(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    exponentials = np.exp(logits)
    return np.asarray(-np.log(exponentials[np.arange(len(labels)), labels] / exponentials.sum(axis=1)))


def algorithm(
    batches: Sequence[tuple[Floats, NDArray[np.int64]]], view: View, eta: float, c: float
) -> tuple[Floats, list[float]]:
    """Weights after all batches, and the loss of each: loops over the groups, in float64; q starts at 1/m over the
    m groups that have training examples."""
    there = sorted(set(view.groups.tolist()))
    q, losses = np.zeros(len(view.universe)), []
    q[there] = 1 / len(there)
    for logits, rows in batches:
        nll, groups = negative_log_likelihood(logits, view.labels[rows]), view.groups[rows]
        adjusted = {}
        for g in sorted(set(groups.tolist())):
            adjusted[g] = nll[groups == g].mean() + c / math.sqrt(view.group_counts[g])
            q[g] *= math.exp(eta * adjusted[g])
        q /= q.sum()
        losses.append(sum(q[g] * value for g, value in adjusted.items()))
    return q, losses


def ours(
    batches: Sequence[tuple[Floats, NDArray[np.int64]]], view: View, eta: float, c: float
) -> tuple[torch.Tensor, list[float]]:
    method = GroupDRO(GroupDROHyperparameters(eta=eta, adjustment=c))
    method.start(view)
    losses = []
    for logits, rows in batches:
        losses.append(float(method.loss(LOGITS, batch_of(view, rows, torch.tensor(logits, dtype=torch.float32)))))
    return method.state["weights"], losses


def seen_by_groupdro(rows: Partition, groups: Groups | None = None) -> View:
    return view_of(GroupDRO(), rows, groups)


@pytest.mark.parametrize("c", [0.0, 3.0])
@pytest.mark.parametrize("eta", [0.01, 0.5])
def test_three_batches_with_an_absent_group(eta: float, c: float) -> None:
    view = seen_by_groupdro(of_groups([8, 4, 2, 6]))
    rng = np.random.default_rng(0)
    # group 2 (rows 12 and 13) is in the first batch only, group 1 in no batch but the last
    rows = [np.array([0, 1, 12, 14]), np.array([2, 3, 4, 15, 16]), np.array([5, 8, 9, 17])]
    batches = [(rng.normal(size=(len(r), 2)), r) for r in rows]
    weights, losses = ours(batches, view, eta, c)
    expected_weights, expected_losses = algorithm(batches, view, eta, c)
    np.testing.assert_allclose(weights, expected_weights, rtol=2e-6)
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-6)


def test_by_hand() -> None:
    """Equal logits have the loss ln 2 in every group; C / sqrt(n) is 2/1, 2/2, 2/4."""
    view = seen_by_groupdro(of_groups([1, 4, 16, 1]))
    batch = (np.zeros((3, 2)), np.array([0, 1, 5]))
    weights, losses = ours([batch], view, eta=1.0, c=2.0)
    grown = np.array([2 * math.exp(2), 2 * math.exp(1), 2 * math.exp(0.5), 1.0])
    q = grown / grown.sum()
    np.testing.assert_allclose(weights, q, rtol=1e-6)
    assert losses[0] == pytest.approx(q[:3] @ (math.log(2) + np.array([2, 1, 0.5])), rel=1e-6)


def test_an_absent_group_loses_weight_by_the_normalisation_alone() -> None:
    view = seen_by_groupdro(of_groups([4, 4, 4, 4]))
    weights, _ = ours([(np.zeros((4, 2)), np.arange(4))], view, eta=0.3, c=1.0)
    # three absent groups share alike what group 0 leaves
    gain = math.exp(0.3 * (math.log(2) + 1 / 2))
    np.testing.assert_allclose(weights, np.array([gain, 1, 1, 1]) / (gain + 3), rtol=1e-6)


def test_three_classes_and_five_values() -> None:
    view = seen_by_groupdro(of_groups([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9], values=5), universe(3, 5))
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(12, 3)), rng.choice(len(view), 12, replace=False)) for _ in range(5)]
    weights, losses = ours(batches, view, 0.1, 2.0)
    expected_weights, expected_losses = algorithm(batches, view, 0.1, 2.0)
    assert weights.shape == (15,)
    np.testing.assert_allclose(weights, expected_weights, rtol=5e-6)
    np.testing.assert_allclose(losses, expected_losses, rtol=5e-6)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    counts=st.lists(st.integers(0, 6), min_size=6, max_size=6).filter(sum),
    eta=st.floats(1e-3, 1.0),
    c=st.floats(0.0, 5.0),
)
def test_any_batches_of_any_groups(seed: int, counts: list[int], eta: float, c: float) -> None:
    view = seen_by_groupdro(of_groups(counts, values=3), universe(2, 3))
    rng = np.random.default_rng(seed)
    batches = [(rng.normal(0, 2, (4, 2)), rng.integers(0, len(view), 4)) for _ in range(3)]
    weights, losses = ours(batches, view, eta, c)
    expected_weights, expected_losses = algorithm(batches, view, eta, c)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-6)


def test_gradient_of_the_loss() -> None:
    """d loss / d logit_ik is q_g / n_g,batch (p_ik - [y_i = k]): the weights are constants in it."""
    view = seen_by_groupdro(of_groups([5, 3, 2, 4]))
    rows = np.array([0, 1, 2, 5, 10])
    logits = np.random.default_rng(2).normal(size=(5, 2))
    method = GroupDRO(GroupDROHyperparameters(eta=0.5))
    method.start(view)
    images = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    torch.autograd.backward(method.loss(LOGITS, batch_of(view, rows, images)))
    q, _ = algorithm([(logits, rows)], view, 0.5, 0.0)
    groups = view.groups[rows]
    share = q[groups] / np.bincount(groups, minlength=4)[groups]
    error = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(2)[view.labels[rows]]
    assert images.grad is not None
    np.testing.assert_allclose(images.grad, share[:, None] * error, rtol=1e-5, atol=1e-7)
    assert not method.state["weights"].requires_grad


def test_one_example() -> None:
    view = seen_by_groupdro(of_groups([2, 2, 2, 2]))
    batch = (np.array([[0.3, -0.4]]), np.array([7]))
    weights, losses = ours([batch], view, 0.2, 1.0)
    expected_weights, expected_losses = algorithm([batch], view, 0.2, 1.0)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-6)
    assert losses == pytest.approx(expected_losses, rel=1e-6)


def test_equal_losses_leave_the_weights_equal() -> None:
    view = seen_by_groupdro(of_groups([4, 4, 4, 4]))
    weights, losses = ours([(np.zeros((16, 2)), np.arange(16))] * 20, view, 0.5, 0.0)
    np.testing.assert_allclose(weights, 0.25, rtol=1e-6)
    np.testing.assert_allclose(losses, math.log(2), rtol=1e-6)


def test_weight_goes_to_the_group_that_is_always_worse() -> None:
    """After t steps the odds of two groups are exp(eta t (l_1 - l_0))."""
    view = seen_by_groupdro(of_groups([1, 1, 0, 0]))
    logits = np.array([[0.0, 0.0], [-1.0, 1.0]])
    weights, _ = ours([(logits, np.array([0, 1]))] * 50, view, 0.1, 0.0)
    gap = math.log(1 + math.exp(2)) - math.log(2)
    assert float(weights[1] / weights[0]) == pytest.approx(math.exp(0.1 * 50 * gap), rel=1e-4)


def test_an_empty_group_divides_nothing_by_zero() -> None:
    view = seen_by_groupdro(of_groups([6, 0, 0, 6]))
    method = GroupDRO(GroupDROHyperparameters(adjustment=2.0))
    with np.errstate(all="raise"):
        method.start(view)
        sampling = method.sampling(view)
    assert all(bool(tensor.isfinite().all()) for tensor in method.state.values())
    assert sampling.weights is not None and np.isfinite(sampling.weights).all()
    loss = method.loss(LOGITS, batch_of(view, np.arange(12), torch.zeros(12, 2)))
    assert math.isfinite(float(loss))


def test_groups_are_drawn_equally_often() -> None:
    view = seen_by_groupdro(of_groups([150, 30, 18, 2]))
    sampling = GroupDRO().sampling(view)
    drawn = np.concatenate([view.groups[epoch_order(200, sampling, 0, epoch)] for epoch in range(100)])
    share = np.bincount(drawn, minlength=4) / len(drawn)
    # 20,000 draws: five standard deviations are 0.015
    np.testing.assert_allclose(share, 0.25, atol=0.015)


def test_within_a_group_examples_are_drawn_equally_often() -> None:
    weights = GroupDRO().sampling(seen_by_groupdro(of_groups([10, 5, 1, 20]))).weights
    assert weights is not None
    np.testing.assert_allclose(weights / weights.sum(), np.repeat([1 / 40, 1 / 20, 1 / 4, 1 / 80], [10, 5, 1, 20]))


def test_its_weights_are_float32_under_autocast(tmp_path: Path) -> None:
    method = GroupDRO()
    weights, _, _ = run_of(method, tmp_path, precision="bfloat16").fit(silent)
    assert method.state["weights"].dtype == torch.float32
    assert float(method.state["weights"].sum()) == pytest.approx(1.0, abs=1e-6)
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_a_group_of_one_patient_trains(tmp_path: Path) -> None:
    method = GroupDRO(GroupDROHyperparameters(adjustment=1.0))
    rows = of_groups([30, 30, 1, 30])
    run = run_of(method, tmp_path, rows, epochs=2)
    assert run.fit(silent)[2] == 2
    np.testing.assert_allclose(method.state["adjustments"], 1 / np.sqrt([30, 30, 1, 30]), rtol=1e-6)


def test_it_differs_from_plain_training_with_the_same_sampling(tmp_path: Path) -> None:
    """eta decides, beside the sampling: a faster step of the weights is another model."""
    slow, fast = (
        run_of(GroupDRO(GroupDROHyperparameters(eta=eta)), tmp_path / str(eta)).fit(silent)[0] for eta in (1e-9, 1.0)
    )
    assert not same(slow, fast)


@pytest.mark.parametrize("wrong", [{"eta": 0}, {"eta": -1}, {"adjustment": -0.1}, {"eta": "nan"}])
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {next(iter(wrong))}="):
        GroupDROHyperparameters.parse(wrong, "groupdro")


def test_group_index_is_declared_not_inferred() -> None:
    """With the first values absent everywhere, groups keep the numbers of the declared universe."""
    view = seen_by_groupdro(partition([0, 1, 1], [2, 2, 1]), universe(2, 3))
    weights, _ = ours([(np.zeros((3, 2)), np.arange(3))], view, 1.0, 0.0)
    np.testing.assert_allclose(weights, [0, 0, 1 / 3, 0, 1 / 3, 1 / 3], rtol=1e-6)


def test_weights_start_equal_over_the_groups_that_have_examples() -> None:
    method = GroupDRO(GroupDROHyperparameters(adjustment=1.0))
    method.start(seen_by_groupdro(of_groups([4, 0, 9, 0, 0, 1], values=3), universe(2, 3)))
    third = np.float32(1 / 3)
    assert method.state["weights"].tolist() == [third, 0, third, 0, 0, third]


@pytest.mark.parametrize("count", [4, 6, 24])
def test_where_every_group_has_examples_the_start_is_one_over_all_bit_by_bit(count: int) -> None:
    method = GroupDRO()
    method.start(seen_by_groupdro(of_groups(range(1, count + 1)), universe(count // 2, 2)))
    assert torch.equal(method.state["weights"], torch.full((count,), 1 / count))


def test_an_empty_group_takes_nothing_from_the_loss() -> None:
    """The same examples in a universe with and without an empty third value: the losses are the same."""
    narrow = seen_by_groupdro(partition([0, 0, 1, 1, 1], [0, 1, 0, 1, 1]), universe(2, 2))
    wide = seen_by_groupdro(partition([0, 0, 1, 1, 1], [0, 1, 0, 1, 1]), universe(2, 3))
    logits = np.random.default_rng(3).normal(size=(5, 2))
    batches = [(logits, np.arange(5)), (-logits[:3], np.arange(3)), (logits[1:], np.arange(1, 5))]
    weights, losses = ours(batches, narrow, 0.5, 1.0)
    others, same_losses = ours(batches, wide, 0.5, 1.0)
    np.testing.assert_allclose(same_losses, losses, rtol=1e-6)
    np.testing.assert_allclose(others[[0, 1, 3, 4]], weights, rtol=1e-6)
