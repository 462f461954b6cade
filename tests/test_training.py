"""The training loop: resume, prefixes, schedules, the weight average, selection, checkpoints, precision, odd sizes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_spur import passes, training
from robustbench_spur.averaging import Exponential
from robustbench_spur.feeding import Feed, augment
from robustbench_spur.method import Batch, Method
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.groupdro import GroupDRO
from robustbench_spur.methods.jtt import JTT
from robustbench_spur.networks import Classifier
from robustbench_spur.parameters import Training
from robustbench_spur.passes import predict
from robustbench_spur.training import DivergedError, Run
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import CPU, linear, mixed, network, of_groups, paint, partition, run_of, same, silent

Weights = dict[str, torch.Tensor]


class Killed(BaseException):
    """What ends a process in the middle of a step."""


def dying_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return progress


def jtt() -> Method:
    method: Method = JTT()
    method.given = {"wrong": np.arange(96) % 7 == 0}
    return method


def with_dropout() -> Classifier:
    """A network that draws random numbers of its own while training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Dropout(0.5)
        )
        return Classifier(backbone, 8 * 8 * 8, 2, [0.3], [0.25])


# going on after a kill

KINDS: dict[str, tuple[Callable[[], Method], dict[str, Any]]] = {
    "erm, averaged": (ERM, {}),
    "erm, sgd with momentum": (ERM, {"optimizer": "sgd", "averaging": 0.0, "learning_rate": 0.05}),
    "erm, adam, decaying": (ERM, {"optimizer": "adam", "schedule": "inverse_sqrt"}),
    "erm, cosine": (ERM, {"schedule": "cosine", "averaging": 0.0}),
    "erm, bfloat16": (ERM, {"precision": "bfloat16"}),
    "groupdro": (GroupDRO, {}),
    "jtt": (jtt, {"averaging": 0.0}),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, kind: str) -> None:
    """Killed in the first epoch, then in the second, then in the third; 3 steps are an epoch."""
    make, options = KINDS[kind]
    whole = run_of(make(), tmp_path / "whole", **options)
    weights, history, chosen = whole.fit(silent)
    for step in (2, 5, 9):
        with pytest.raises(Killed):
            run_of(make(), tmp_path / "killed", **options).fit(dying_at(step))
    steps: list[int] = []
    last = run_of(make(), tmp_path / "killed", **options)
    again, history_again, chosen_again = last.fit(lambda done, total: steps.append(done))
    assert steps == [7, 8, 9]
    assert same(weights, again) and chosen == chosen_again == 3
    assert same(whole.method.state, last.method.state)
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in h] for h in (history, history_again)]
    assert timeless[0] == timeless[1]


def test_what_a_checkpoint_restores_lies_in_memory_as_the_weights_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.Optimizer] = []
    true = training.make_optimizer

    def noting(*given: Any) -> torch.optim.Optimizer:
        made.append(true(*given))
        return made[-1]

    monkeypatch.setattr(training, "make_optimizer", noting)
    with pytest.raises(Killed):
        run_of(ERM(), tmp_path).fit(dying_at(5))
    run = run_of(ERM(), tmp_path)
    run.fit(silent)
    strides = {name: value.stride() for name, value in run.model.state_dict().items()}
    assert {name: value.stride() for name, value in run.average.tensors.items()}.items() <= strides.items()
    for parameter, state in made[-1].state.items():
        assert state["exp_avg"].stride() == parameter.stride()


def test_groupdros_weights_are_part_of_the_checkpoint(tmp_path: Path) -> None:
    method = GroupDRO()
    run_of(method, tmp_path, epochs=2).fit(silent)
    resumed = GroupDRO()
    with pytest.raises(Killed):
        run_of(resumed, tmp_path, epochs=3).fit(dying_at(7))
    # one more step: near the weights after two epochs, not back at a quarter each
    assert float(method.state["weights"].max()) > 0.2501
    np.testing.assert_allclose(resumed.state["weights"], method.state["weights"], atol=0.02)
    assert not torch.allclose(resumed.state["weights"], torch.full((4,), 0.25), atol=1e-3)


def test_layers_that_draw_go_on_alike_and_leave_the_global_state(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = run_of(ERM(), tmp_path / "whole", model=with_dropout()).fit(silent)[0]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with pytest.raises(Killed):
        run_of(ERM(), tmp_path / "killed", model=with_dropout()).fit(dying_at(5))
    assert same(whole, run_of(ERM(), tmp_path / "killed", model=with_dropout()).fit(silent)[0])
    assert torch.equal(before, torch.get_rng_state())


def test_layers_that_draw_draw_anew_in_every_epoch_and_seed(tmp_path: Path) -> None:
    masks: list[list[float]] = []

    class Watching(ERM):  # type: ignore[misc]
        def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
            masks.append(torch.nn.functional.dropout(torch.ones(32), 0.5).tolist())
            return super().loss(model, batch)  # type: ignore[no-any-return]

    for seed in (0, 1):
        run_of(Watching(), tmp_path / str(seed), seed=seed, epochs=2).fit(silent)
    assert len({tuple(mask) for mask in masks}) == len(masks) == 12


def test_a_kill_between_the_two_files_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_of(ERM(), tmp_path / "whole").fit(silent)[0]
    dump, written = training.write_tensors, itertools.count(1)

    def dying(path: Path, tensors: Weights, about: dict[str, str]) -> None:
        # the fourth file is the state after the second epoch
        if next(written) == 4:
            assert path.name == "latest.safetensors"
            raise Killed
        dump(path, tensors, about)

    monkeypatch.setattr(training, "write_tensors", dying)
    with pytest.raises(Killed):
        run_of(ERM(), tmp_path / "killed").fit(silent)
    monkeypatch.setattr(training, "write_tensors", dump)
    assert same(whole, run_of(ERM(), tmp_path / "killed").fit(silent)[0])


def test_a_finished_run_is_read_not_repeated(tmp_path: Path) -> None:
    first = run_of(ERM(), tmp_path).fit(silent)
    second = run_of(ERM(), tmp_path).fit(dying_at(1))
    assert same(first[0], second[0]) and first[1:] == second[1:]


def test_lost_weights_are_made_again(tmp_path: Path) -> None:
    """The state says that the goal was reached, but the weights are gone."""
    weights = run_of(ERM(), tmp_path).fit(silent)[0]
    (tmp_path / "epoch-0003.safetensors").unlink()
    assert same(weights, run_of(ERM(), tmp_path).fit(silent)[0])


# a shorter run is a prefix of a longer one


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt"])
@pytest.mark.parametrize("make", [ERM, GroupDRO, jtt])
def test_two_epochs_then_four_are_four_at_once(tmp_path: Path, make: Callable[[], Method], schedule: str) -> None:
    at_once = run_of(make(), tmp_path / "once", epochs=4, schedule=schedule).fit(silent)[0]
    short = run_of(make(), tmp_path / "steps", epochs=2, schedule=schedule).fit(silent)[0]
    steps: list[int] = []
    longer = run_of(make(), tmp_path / "steps", epochs=4, schedule=schedule)
    assert same(at_once, longer.fit(lambda done, total: steps.append(done))[0])
    assert steps == list(range(7, 13))
    from_the_long_run = run_of(make(), tmp_path / "once", epochs=2, schedule=schedule).fit(dying_at(1))
    assert same(short, from_the_long_run[0])
    assert [entry["epoch"] for entry in from_the_long_run[1]] == [1, 2]
    assert not same(short, at_once)


def test_a_shorter_run_of_which_only_the_longer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEEP_BYTES", 0)
    scripted(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    whole = run_of(ERM(), tmp_path / "once", epochs=4).fit(silent)[0]
    short = run_of(ERM(), tmp_path / "short", epochs=2).fit(silent)[0]
    assert same(short, run_of(ERM(), tmp_path / "once", epochs=2).fit(silent)[0])
    assert same(whole, run_of(ERM(), tmp_path / "once", epochs=4).fit(silent)[0])


# seeds


def test_same_seed_same_weights_other_seed_others(tmp_path: Path) -> None:
    one, again, other = (run_of(ERM(), tmp_path / str(k), seed=s).fit(silent)[0] for k, s in enumerate((0, 0, 1)))
    assert same(one, again)
    assert not same(one, other)


def test_the_seed_also_orders_and_augments(tmp_path: Path) -> None:
    """With the same initial weights, another seed still is another run."""
    one, other = (run_of(ERM(), tmp_path / str(s), seed=s, model=network()).fit(silent)[0] for s in (0, 1))
    assert not same(one, other)


# the learning rate


def rates(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> list[float]:
    found: list[float] = []
    true = training.set_learning_rate

    def noting(optimizer: torch.optim.Optimizer, rate: float) -> None:
        true(optimizer, rate)
        found.extend(group["lr"] for group in optimizer.param_groups)

    monkeypatch.setattr(training, "set_learning_rate", noting)
    # 96 examples in batches of 24: 4 steps an epoch
    run_of(ERM(), folder, model=linear(), batch_size=24, averaging=0.0, learning_rate=0.01, **options).fit(silent)
    return found


def test_constant_after_a_linear_warm_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rates(monkeypatch, tmp_path, schedule="constant", warmup_epochs=1.5)
    # six steps of warm-up: a seventh, two sevenths, ... of the full rate
    np.testing.assert_allclose(found, [0.01 * min(1.0, (t + 1) / 7) for t in range(12)])


def test_no_warm_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert rates(monkeypatch, tmp_path, schedule="constant", warmup_epochs=0.0) == [0.01] * 12


def test_inverse_square_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After w steps of warm-up, rate * sqrt(w / t) for the step t, counted from 1."""
    found = rates(monkeypatch, tmp_path, schedule="inverse_sqrt", warmup_epochs=1.0)
    np.testing.assert_allclose(found[:4], 0.01 * np.arange(1, 5) / 5)
    np.testing.assert_allclose(found[4:], 0.01 * np.sqrt(4 / np.arange(5, 13)))


def test_inverse_square_root_without_a_warm_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rates(monkeypatch, tmp_path, schedule="inverse_sqrt", warmup_epochs=0.0)
    np.testing.assert_allclose(found, 0.01 / np.sqrt(np.arange(1, 13)))


@pytest.mark.parametrize("warmup", [0, 1])
def test_cosine_is_torchs_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warmup: int) -> None:
    found = rates(monkeypatch, tmp_path, schedule="cosine", warmup_epochs=float(warmup))
    left = 12 - 4 * warmup
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, left)
    expected = []
    for _ in range(left):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(found[4 * warmup :], expected, rtol=1e-10)
    assert found[-1] == pytest.approx(0.005 * (1 + math.cos(math.pi * (left - 1) / left)))


def test_a_warm_up_longer_than_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for schedule in ("constant", "inverse_sqrt", "cosine"):
        found = rates(monkeypatch, tmp_path / schedule, schedule=schedule, warmup_epochs=5.0)
        np.testing.assert_allclose(found, 0.01 * np.arange(1, 13) / 21)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_optimizer_is_the_one_named(name: str, kind: type[torch.optim.Optimizer]) -> None:
    settings = Training(optimizer=name, learning_rate=0.003, weight_decay=0.02)
    made = training.make_optimizer([torch.nn.Parameter(torch.ones(2))], settings)
    assert type(made) is kind
    assert made.param_groups[0]["lr"] == 0.003 and made.param_groups[0]["weight_decay"] == 0.02


def test_weight_decay_of_adamw_is_decoupled() -> None:
    """Without a gradient a step is p * (1 - lr * decay)."""
    weight = torch.nn.Parameter(torch.tensor([2.0, -4.0]))
    made = training.make_optimizer([weight], Training(optimizer="adamw", learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.zeros(2)
    made.step()
    np.testing.assert_allclose(weight.detach(), [2 * 0.95, -4 * 0.95], rtol=1e-6)


# the average


def test_average_against_numpy() -> None:
    model, average = linear(2), Exponential(0.8)
    average.follow(model)
    rng = np.random.default_rng(0)
    expected = model.head.weight.detach().numpy().astype(np.float64)
    for step in range(60):
        value = rng.normal(size=expected.shape)
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(value))
        average.update(model, step, 0.0)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value.astype(np.float32)
    np.testing.assert_allclose(average.tensors["head.weight"], expected, rtol=1e-5, atol=1e-6)


def test_average_of_a_run_is_the_model(tmp_path: Path) -> None:
    """Weights and running statistics after every step, averaged by numpy; the counter of batches is not averaged."""
    run = run_of(ERM(), tmp_path, averaging=0.3)
    states = [snapshot(run)]
    weights, history, _ = run.fit(lambda done, total: states.append(snapshot(run)))
    for name, value in weights.items():
        if not value.is_floating_point():
            assert value.item() == 9
            continue
        expected = states[0][name].astype(np.float64)
        for step, state in enumerate(states[1:]):
            decay = min(0.3, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * state[name]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6, err_msg=name)
    run.model.load_state_dict(weights)
    assert history[-1]["validation_nll"] == pytest.approx(validation_nll(run), rel=1e-5)


def snapshot(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value.numpy().copy() for name, value in run.model.state_dict().items()}


def validation_nll(run: Run) -> float:
    run.model.eval()
    with torch.no_grad():
        logits = run.model(torch.from_numpy(run.validation).float() / 255).double().numpy()
    chosen = logits[np.arange(len(logits)), run.validation_labels]
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen))


def test_the_average_is_swapped_out_again() -> None:
    model, average = network(), Exponential(0.9)
    average.follow(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.tensors = {name: value + 1 for name, value in average.tensors.items()}
    with pytest.raises(Killed), average.swapped_in(model):
        assert torch.equal(model.head.bias, before["head.bias"] + 1)
        raise Killed
    assert same(model.state_dict(), before)


def test_no_average(tmp_path: Path) -> None:
    run = run_of(ERM(), tmp_path, averaging=0.0)
    weights, history, _ = run.fit(silent)
    assert same(weights, {name: value.contiguous() for name, value in run.model.state_dict().items()})
    assert history[-1]["validation_nll"] == pytest.approx(validation_nll(run), rel=1e-5)


# divergence


class Broken(ERM):  # type: ignore[misc]
    """A loss that is not finite, or whose gradient is not, from a given step on."""

    name = "broken"

    def __init__(self, factor: float, since: int, *, gradient_only: bool = False) -> None:
        super().__init__()
        self.factor, self.since, self.gradient_only, self.calls = factor, since, gradient_only, 0

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        value: torch.Tensor = super().loss(model, batch)
        self.calls += 1
        if self.calls < self.since:
            return value
        broken = value * self.factor
        return value.detach() + broken - broken.detach() if self.gradient_only else broken


@pytest.mark.parametrize(("factor", "became"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_loss_that_is_not_finite(tmp_path: Path, factor: float, became: str) -> None:
    run = run_of(Broken(factor, since=5), tmp_path, model=linear(), augmentations=())
    with pytest.raises(DivergedError, match=rf"the training loss of broken became ({became}|nan) in epoch 2"):
        run.fit(silent)
    assert not (tmp_path / "epoch-0002.safetensors").exists()
    assert (tmp_path / "epoch-0001.safetensors").exists()


def test_weights_that_become_nan_in_the_last_step(tmp_path: Path) -> None:
    """No later batch shows it: the validation loss does."""

    class Sudden(ERM):  # type: ignore[misc]
        name = "sudden"
        calls = 0

        def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
            value: torch.Tensor = super().loss(model, batch)
            self.calls += 1
            # the square root has an infinite slope at 0, and 0 times that is NaN
            return value + (0 * model.head.weight).sum().sqrt() if self.calls == 6 else value

    with pytest.raises(DivergedError, match="the validation loss of sudden became nan in epoch 2"):
        run_of(Sudden(), tmp_path, epochs=2).fit(silent)


# selection


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Let validation say these accuracies, epoch by epoch."""
    script = itertools.cycle(accuracies)
    monkeypatch.setattr(Run, "_validate", lambda run, feed: (next(script), 1.0))


@pytest.mark.parametrize(("selection", "epoch"), [("last", 4), ("validation_accuracy", 2)])
def test_selection_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: str, epoch: int) -> None:
    """The earliest of equally good epochs."""
    scripted(monkeypatch, [0.6, 0.8, 0.8, 0.7])
    weights, history, chosen = run_of(ERM(), tmp_path / "four", epochs=4, selection=selection).fit(silent)
    assert chosen == epoch
    assert [entry["validation_accuracy"] for entry in history] == [0.6, 0.8, 0.8, 0.7]
    monkeypatch.undo()
    assert same(weights, run_of(ERM(), tmp_path / "as long", epochs=epoch).fit(silent)[0])


def test_a_longer_run_selects_among_all_its_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.9, 0.8, 0.7, 0.95])
    chosen = [
        run_of(ERM(), tmp_path, epochs=epochs, selection="validation_accuracy").fit(silent)[2] for epochs in (2, 4, 3)
    ]
    assert chosen == [1, 4, 1]


# which checkpoints are kept


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_epochs_are_kept_while_they_are_small(tmp_path: Path) -> None:
    run_of(ERM(), tmp_path, epochs=4).fit(silent)
    assert kept(tmp_path) == [*(f"epoch-000{n}.safetensors" for n in (1, 2, 3, 4)), "latest.safetensors"]


@pytest.mark.parametrize(
    ("accuracies", "left"),
    [([0.6, 0.8, 0.8, 0.7], [2, 4]), ([0.1, 0.2, 0.3, 0.4], [4]), ([0.9, 0.1, 0.1, 0.9], [1, 4])],
)
def test_the_best_and_the_last_are_kept_of_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracies: list[float], left: list[int]
) -> None:
    monkeypatch.setattr(training, "KEEP_BYTES", 0)
    scripted(monkeypatch, accuracies)
    run_of(ERM(), tmp_path, epochs=4, selection="validation_accuracy").fit(silent)
    assert kept(tmp_path) == [*(f"epoch-000{n}.safetensors" for n in left), "latest.safetensors"]


def test_the_limit_is_what_all_epochs_take_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(value.numel() * value.element_size() for value in network().state_dict().values())
    for limit, count in ((3 * size, 3), (3 * size - 1, 1)):
        monkeypatch.setattr(training, "KEEP_BYTES", limit)
        scripted(monkeypatch, [0.1, 0.2, 0.3])
        run_of(ERM(), tmp_path / str(limit)).fit(silent)
        assert len(list((tmp_path / str(limit)).glob("epoch-*"))) == count


def test_both_rules_can_be_asked_of_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEEP_BYTES", 0)
    scripted(monkeypatch, [0.6, 0.8, 0.7])
    run_of(ERM(), tmp_path).fit(silent)
    _, _, chosen = run_of(ERM(), tmp_path, selection="validation_accuracy").fit(dying_at(1))
    assert chosen == 2


# precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_may_be_in_lower_precision_evaluation_never_is(tmp_path: Path, precision: str) -> None:
    run = run_of(ERM(), tmp_path, precision=precision, averaging=0.0)
    seen: set[tuple[bool, torch.dtype]] = set()
    first = next(module for module in run.model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, output: seen.add((run.model.training, output.dtype)))
    weights, _, _ = run.fit(silent)
    assert seen == {(True, getattr(torch, precision)), (False, torch.float32)}
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    logits, features = predict(run.model, Feed(run.validation, CPU), features=True)
    assert features is not None and logits.dtype == features.dtype == torch.float32
    plain = network()
    plain.load_state_dict(weights)
    with torch.no_grad():
        expected = plain.eval()(torch.from_numpy(run.validation).float() / 255)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_lower_precision_is_another_run_of_about_the_same_loss(tmp_path: Path) -> None:
    exact, lower = (run_of(ERM(), tmp_path / p, precision=p).fit(silent) for p in ("float32", "bfloat16"))
    assert not same(exact[0], lower[0])
    assert lower[1][0]["loss"] == pytest.approx(exact[1][0]["loss"], rel=0.05)


# prediction


def test_prediction_is_in_order_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = network(), paint(mixed(70))
    done: list[tuple[int, int]] = []
    logits, features = predict(model, Feed(images, CPU), features=True, progress=lambda *counted: done.append(counted))
    assert features is not None
    assert logits.shape == (70, 2) and features.shape == (70, 128) and done == [(70, 70)]
    with torch.no_grad():
        np.testing.assert_allclose(logits, model.head(features), rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(passes, "EVALUATION_BATCH", 16)
    pieces, none = predict(model, Feed(images, CPU))
    assert none is None
    np.testing.assert_allclose(logits, pieces, rtol=1e-4, atol=1e-6)
    assert not model.training


# odd sizes


class Counting(ERM):  # type: ignore[misc]
    """Notes the size of every batch and which rows it has seen."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.rows: list[int] = []

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        self.sizes.append(len(batch.labels))
        self.rows += batch.rows.tolist()
        return super().loss(model, batch)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("examples", "sizes"), [(64, [32, 32]), (70, [32, 32]), (63, [32]), (32, [32]), (20, [20]), (2, [2])]
)
def test_batches_of_an_epoch(tmp_path: Path, examples: int, sizes: list[int]) -> None:
    """What is left over is not seen in that epoch; a set smaller than a batch is one batch."""
    method = Counting()
    _, history, _ = run_of(method, tmp_path, mixed(examples), epochs=1).fit(silent)
    assert method.sizes == sizes
    assert len(set(method.rows)) == len(method.rows)
    assert math.isfinite(history[0]["loss"])


def test_what_is_left_over_changes_from_epoch_to_epoch(tmp_path: Path) -> None:
    method = Counting()
    run_of(method, tmp_path, mixed(40), epochs=6, model=linear()).fit(silent)
    assert len(set(method.rows)) == 40


@pytest.mark.parametrize("kinds", [(), ("horizontal_flip", "shift")])
def test_batches_carry_the_rows_they_name(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """Augmented by seed, epoch and place in the epoch."""
    rows = mixed(96)
    pictures, steps = torch.from_numpy(paint(rows)), itertools.count()

    class Checking(ERM):  # type: ignore[misc]
        def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
            epoch, step = divmod(next(steps), 3)
            places = torch.arange(32 * step, 32 * step + 32)
            expected = augment(pictures[batch.rows], places, kinds, 0, epoch)
            assert torch.equal(batch.images, expected.float() / 255)
            assert batch.labels.tolist() == rows.labels[batch.rows].tolist()
            assert batch.hidden.tolist() == rows.attributes[batch.rows].tolist()
            return super().loss(model, batch)  # type: ignore[no-any-return]

    run_of(Checking(), tmp_path, rows, augmentations=kinds).fit(silent)
    assert next(steps) == 9


@pytest.mark.parametrize("make", [ERM, GroupDRO])
def test_one_class_only(tmp_path: Path, make: Callable[[], Method]) -> None:
    rows = partition(np.zeros(64), np.arange(64) % 2)
    weights, history, _ = run_of(make(), tmp_path, rows).fit(silent)
    assert all(bool(value.isfinite().all()) for value in weights.values())
    # its prior is learned, and nothing else can be
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_group_of_one(tmp_path: Path) -> None:
    method = GroupDRO()
    run_of(method, tmp_path, of_groups([40, 1, 0, 40])).fit(silent)
    assert bool(method.state["weights"].isfinite().all())


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_an_empty_partition_is_told(tmp_path: Path, empty: str) -> None:
    run = run_of(ERM(), tmp_path)
    nothing: dict[str, Any] = (
        {"validation": run.validation[:0]}
        if empty == "validation"
        else {"view": run.view.__class__(partition([], []), run.view.universe, False, "erm")}
    )
    fields = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    with pytest.raises(SpurbenchError, match="Expected examples to train erm on"):
        Run(**{**fields, **nothing})


# the record


def test_history(tmp_path: Path) -> None:
    """One entry per epoch; the loss is the mean over its batches of what the method returned."""
    losses: list[float] = []

    class Noting(ERM):  # type: ignore[misc]
        def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
            value: torch.Tensor = super().loss(model, batch)
            losses.append(float(value.detach()))
            return value

    _, history, _ = run_of(Noting(), tmp_path).fit(silent)
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    np.testing.assert_allclose([entry["loss"] for entry in history], np.reshape(losses, (3, 3)).mean(axis=1), rtol=1e-5)
    assert all(entry["seconds"] >= 0 and 0 <= entry["validation_accuracy"] <= 1 for entry in history)
    assert json.loads(json.dumps(history)) == history


def test_it_learns(tmp_path: Path) -> None:
    run = run_of(ERM(), tmp_path, mixed(96, conflict=1.0), epochs=12, learning_rate=5e-3)
    history = run.fit(silent)[1]
    assert history[-1]["validation_accuracy"] >= 0.9
    assert history[-1]["loss"] < 0.3 < history[0]["loss"]
