"""uLA: the contrastive loss against a loop, the counts of the probe's predictions, and the adjusted loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.ula import ULA, ULAHyperparameters, contrastive
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, mixed, partition, run_of, same, silent, task_of, universe, view_of


def ula(phase: str = "", *, tau: float = 1.0) -> ULA:
    method = ULA(ULAHyperparameters(tau=tau, contrast_epochs=1))
    method.phase = phase
    return method


# the network without labels


@pytest.mark.parametrize(("pairs", "temperature"), [(2, 0.2), (5, 0.7)])
def test_contrastive_loss_against_a_loop(pairs: int, temperature: float) -> None:
    z = np.random.default_rng(pairs).normal(size=(2 * pairs, 3))
    z_unit = [row / np.sqrt((row**2).sum()) for row in z]
    losses = []
    for i in range(2 * pairs):
        partner = i + pairs if i < pairs else i - pairs
        others = [np.exp(z_unit[i] @ z_unit[k] / temperature) for k in range(2 * pairs) if k != i]
        losses.append(-np.log(np.exp(z_unit[i] @ z_unit[partner] / temperature) / sum(others)))
    assert float(contrastive(torch.from_numpy(z), temperature)) == pytest.approx(np.mean(losses))


def test_one_image_has_nothing_to_be_told_from() -> None:
    loss = contrastive(torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True), 0.2)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)


def test_views_stay_images_and_leave_the_batch_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 2, 8, 8)
    before = images.clone()
    one, other = ULA().view_of(images), ULA().view_of(images)
    assert torch.equal(images, before)
    for view in (one, other):
        assert view.shape == images.shape and 0 <= float(view.min()) and float(view.max()) <= 1
        # the blanked square of a quarter's side, and nothing else
        assert int((view == 0).all(dim=1).all(dim=0).sum()) == 4
    assert not torch.equal(one, other)


def test_labels_are_not_read_without_labels(tmp_path: Path) -> None:
    """The same images with other labels give the same backbone."""
    rows = mixed(64)
    runs = []
    for name, labels in (("one", rows.labels), ("two", 1 - rows.labels)):
        run = run_of(ula("contrast"), tmp_path / name, partition(labels, rows.attributes), epochs=1)
        run.train = run_of(ERM(), tmp_path, rows).train
        runs.append(run.fit(silent)[0])
    assert same(*runs)


def test_a_batch_of_one() -> None:
    method = ula("contrast")
    view = view_of(method, partition([0, 1], [0, 0]))
    model = linear(2)
    method.beside = method.modules(model, view)
    loss = method.loss(model, batch_of(view, [0], torch.rand(1, 1, 2, 2)))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)


# the adjustment


def test_offsets_by_hand() -> None:
    """Two far clusters of features; b is the majority of each: 3 of 4 and 4 of 5, and with one more of each 4/6 and 5/7."""
    features = np.array([[-5.0], [-5], [-5], [-5], [5], [5], [5], [5], [5]], np.float32)
    labels = [0, 0, 0, 1, 1, 1, 1, 1, 0]
    arrays, notes = ULA().offsets(view_of(ULA(), partition(labels, [0] * 9)), {"features": features})
    first, second = np.log([4 / 6, 2 / 6]), np.log([2 / 7, 5 / 7])
    np.testing.assert_allclose(arrays["offsets"], [first] * 4 + [second] * 5, rtol=1e-5)
    assert notes == {"probe_accuracy": pytest.approx(7 / 9)}


def test_an_absent_class_has_finite_offsets() -> None:
    features = np.array([[-5.0], [-5], [5], [5]], np.float32)
    view = view_of(ULA(), partition([0, 0, 2, 2], [0] * 4), universe(3))
    arrays, _ = ULA().offsets(view, {"features": features})
    np.testing.assert_allclose(np.exp(arrays["offsets"]), [[0.6, 0.2, 0.2]] * 2 + [[0.2, 0.2, 0.6]] * 2, rtol=1e-5)


def test_a_single_class_needs_no_adjustment() -> None:
    arrays, _ = ULA().offsets(view_of(ULA(), partition([1, 1], [0, 0])), {"features": np.ones((2, 3), np.float32)})
    assert arrays["offsets"].tolist() == [[0, 0], [0, 0]]


def test_adjusted_loss_by_hand() -> None:
    """The logits are zero: the loss is that of tau log P(y | b) as logits."""
    method = ula(tau=2.0)
    shares = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    method.tensors = {"offsets": torch.from_numpy(np.log(shares)).float()}
    view = view_of(method, partition([0, 1, 0], [0] * 3))
    loss = float(method.loss(linear(2), batch_of(view, [2, 0])).detach())
    powers = shares**2
    chosen = [powers[2, 0] / powers[2].sum(), powers[0, 0] / powers[0].sum()]
    assert loss == pytest.approx(-np.mean(np.log(chosen)), rel=1e-5)


def test_without_tau_it_is_plain_training(tmp_path: Path) -> None:
    method, rows = ula(tau=0.0), mixed(96)
    method.given = {"offsets": np.random.default_rng(0).normal(size=(96, 2)).astype(np.float32)}
    ours = run_of(method, tmp_path / "ula", rows).fit(silent)[0]
    assert same(ours, run_of(ERM(), tmp_path / "erm", rows).fit(silent)[0])


def test_its_stages() -> None:
    method = ULA(ULAHyperparameters().resolved(Training(epochs=12)))
    model = method.fit(task_of(method, training=Training(epochs=12)))
    blind = model.parents[2].parents[0].parents[0]
    assert (blind.spec["epochs"], model.spec["epochs"]) == (3, 12)
    assert blind.spec["trajectory"]["phase"] == "contrast" and "start" not in model.spec["trajectory"]
