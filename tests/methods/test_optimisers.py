"""SAM, SWA, SWAD, ERM++, deep ensembles and MC dropout against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from robustbench_spur.averaging import RunningMean
from robustbench_spur.methods.deep_ensemble import DeepEnsemble, DeepEnsembleHyperparameters
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.ermpp import ERMPP, ERMPPHyperparameters
from robustbench_spur.methods.groupdro import GroupDRO
from robustbench_spur.methods.mc_dropout import MCDropout, MCDropoutHyperparameters
from robustbench_spur.methods.sam import SAM, SAMHyperparameters
from robustbench_spur.methods.swa import SWA, SWAHyperparameters
from robustbench_spur.methods.swad import SWAD, Dense, SWADHyperparameters
from robustbench_spur.parameters import Training
from robustbench_spur.plan import make_plan
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import (
    as_images,
    batch_of,
    drawn_features,
    linear,
    network,
    partition,
    passthrough,
    run_of,
    same,
    silent,
    task_of,
    value,
    view_of,
)

LABELS = np.array([0, 1, 1, 0])


def gradient(weight: np.ndarray, bias: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    residual = np.exp(log_softmax(features @ weight.T + bias, axis=1)) - np.eye(2)[LABELS]
    return residual.T @ features / 4, residual.mean(axis=0)


def test_sam_by_hand() -> None:
    """The gradient of logistic regression at w + rho g / |g|, and the weights as they were."""
    method, model = SAM(SAMHyperparameters(rho=0.3)), passthrough(3)
    features = drawn_features(4, 3)
    batch = batch_of(view_of(method, partition(LABELS, [0] * 4)), range(4), as_images(features))
    weight, bias = (p.detach().numpy().astype(float).copy() for p in model.head.parameters())
    first = gradient(weight, bias, features)
    norm = np.sqrt(sum((g**2).sum() for g in first))
    expected = gradient(weight + 0.3 * first[0] / norm, bias + 0.3 * first[1] / norm, features)
    loss = method.backward(model, batch)
    assert not loss.requires_grad
    assert float(loss) == pytest.approx(value(ERM().loss(model, batch)))
    for parameter, before, wanted in zip(model.head.parameters(), (weight, bias), expected, strict=True):
        np.testing.assert_array_equal(parameter.detach().numpy(), before.astype(np.float32))
        np.testing.assert_allclose(parameter.grad, wanted, rtol=1e-4)


def test_sam_takes_running_statistics_from_the_first_pass() -> None:
    method, once, twice = SAM(), network(), network()
    view = view_of(method, partition(LABELS, [0] * 4))
    batch = batch_of(view, range(4), torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    ERM().backward(once, batch)
    method.backward(twice, batch)
    buffers = dict(once.named_buffers()), dict(twice.named_buffers())
    assert same(*buffers)


def test_swa_is_the_mean_of_what_it_takes_in() -> None:
    average = SWA(SWAHyperparameters(start_epoch=2.0, every=5)).averaging(Training())
    assert isinstance(average, RunningMean) and (average.start, average.every) == (2.0, 5)
    assert SWAHyperparameters().resolved(Training(epochs=12)).start_epoch == 9.0


def walk(losses: list[float], average: Dense, steps: int = 2) -> list[float | None]:
    """The average after each epoch, of a weight that is the number of the step."""
    model, found = linear(2), []
    for epoch, loss in enumerate(losses):
        for step in range(epoch * steps, (epoch + 1) * steps):
            with torch.no_grad():
                model.head.weight.fill_(float(step))  # type: ignore[operator]
            average.update(model, step, step / steps)
        average.judge(loss, epoch)
        found.append(float(average.tensors["head.weight"][0, 0]) if average.tensors else None)
    return found


def mean_of(*epochs: int) -> float:
    """Mean step of epochs of two steps: 2 e + 1/2."""
    return float(np.mean([2 * e + 0.5 for e in epochs]))


def test_swad_begins_where_the_loss_stops_falling() -> None:
    """3, 2, 1, 1.2, 1.1: the third is the lowest of three in a row; known after the fifth."""
    found = walk([3.0, 2.0, 1.0, 1.2, 1.1], Dense(3, 3, 1.3))
    assert found[:4] == [None] * 4
    assert found[4] == pytest.approx(mean_of(2, 3, 4))


def test_swad_ends_where_the_loss_is_too_large() -> None:
    """Limit 1.3 times 1.1: the three last epochs are above it, and fall away; what comes after is not looked at."""
    losses = [2.0, 1.0, 1.2, 1.1, 1.3, 1.6, 1.7, 1.8, 0.5]
    found = walk(losses, Dense(3, 3, 1.3))
    assert found[6] == pytest.approx(mean_of(1, 2, 3, 4, 5, 6))
    assert found[7:] == [pytest.approx(mean_of(1, 2, 3, 4))] * 2


def test_swad_that_never_begins_is_the_last_step(tmp_path: Path) -> None:
    average = Dense(3, 3, 1.3)
    assert walk([5.0, 4.0, 3.0, 2.0, 1.0], average) == [None] * 5
    assert not average.tensors


def test_swads_memory_is_bounded() -> None:
    average = Dense(2, 3, 1.3)
    walk([1.0, 1.1, 1.05, 1.02, 1.0, 1.1, 1.2, 1.0, 1.1], average)
    kept = {name.partition(".")[0] for name in average.memory if "." in name}
    assert kept == {"sure", "7", "8"}


def test_a_killed_run_of_swad_goes_on(tmp_path: Path) -> None:
    def method() -> SWAD:
        return SWAD(SWADHyperparameters(patience=1, tolerance_epochs=2))

    class Killed(Exception):
        pass

    def dying(done: int, total: int) -> None:
        if done == 8:
            raise Killed

    whole = run_of(method(), tmp_path / "whole", epochs=4).fit(silent)[0]
    with pytest.raises(Killed):
        run_of(method(), tmp_path / "killed", epochs=4).fit(dying)
    assert same(run_of(method(), tmp_path / "killed", epochs=4).fit(silent)[0], whole)


def test_ermpp_trains_on_validation_too() -> None:
    method = ERMPP(ERMPPHyperparameters(start_epoch=1.0))
    model = method.fit(task_of(method))
    assert model.spec["trajectory"]["on"] == ["train", "validation"]
    average = method.averaging(Training())
    assert isinstance(average, RunningMean) and (average.start, average.every) == (1.0, 1)


# wrappers


def test_members_are_the_cells_of_the_base(request_for: Any) -> None:
    request = request_for(methods="deep_ensemble", settings={"base": "groupdro", "members": 2}, seeds=(1,))
    (cell,) = make_plan(request).cells
    assert cell.stages is not None and cell.spec.track == "train"
    for seed, member in zip((2, 3), cell.stages.model.parents, strict=True):
        (own,) = make_plan(request_for(methods="groupdro", seeds=(seed,), settings={})).cells
        assert own.stages is not None and own.spec.method.name == "groupdro"
        assert member.spec["trajectory"]["seed"] == seed
        assert member.spec["trajectory"]["method"] == own.stages.model.spec["trajectory"]["method"]


def test_ensembles_probabilities_are_the_mean_of_its_members(request_for: Any, carry_out: Any, home: Any) -> None:
    """Those of the seed's own cells of the base; MC dropout runs beside them."""

    def probabilities(record: Any) -> np.ndarray:
        arrays = np.load(home.predictions / record.predictions.file)
        return np.asarray(softmax(arrays["test/logits"].astype(float), axis=1))

    # large steps, so that two members are far apart
    steps = {"epochs": 1, "learning_rate": 0.1, "averaging": 0.0}
    wrappers = request_for(
        methods=("deep_ensemble", "mc_dropout"),
        settings={**steps, "members": 2, "samples": 3},
        evaluators="worst_group",
    )
    ensemble, dropout = carry_out(wrappers)
    assert ensemble.status == dropout.status == "done"
    members = carry_out(request_for(seeds=(0, 1), settings=steps, evaluators="worst_group"))
    first, second = map(probabilities, members)
    assert abs(first - second).max() > 0.05
    np.testing.assert_allclose(probabilities(ensemble), (first + second) / 2, atol=1e-6)


def test_masks_by_hand() -> None:
    method = MCDropout(MCDropoutHyperparameters(rate=0.4, samples=50))
    head = {"weight": drawn_features(2, 6), "bias": np.array([0.5, -0.5], np.float32)}
    arrays, _ = method.masked(view_of(method, partition(LABELS, [0] * 4), seed=3), head)
    assert arrays["weight"].shape == (50, 2, 6) and (arrays["bias"] == head["bias"]).all()
    ratio = arrays["weight"] / head["weight"]
    np.testing.assert_allclose(np.unique(ratio.round(5)), [0, 1 / 0.6], atol=1e-4)
    # one mask for all classes
    np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], atol=1e-5)
    assert abs(ratio.mean() - 1) < 0.15


def test_a_mixture_cannot_be_dropped_out() -> None:
    mixture = {"weight": np.zeros((3, 2, 4)), "bias": np.zeros((3, 2))}
    with pytest.raises(SpurbenchError, match="linear last layer"):
        MCDropout().masked(view_of(MCDropout(), partition(LABELS, [0] * 4)), mixture)


def test_a_wrapper_without_a_base_says_so() -> None:
    method = DeepEnsemble(DeepEnsembleHyperparameters())
    with pytest.raises(SpurbenchError, match="wraps another method"):
        _ = method.wrapped
    method.wrap(GroupDRO())
    assert method.needs == ("train_attributes",) and method.every_group_in == ("train",)
    assert DeepEnsemble.needs == ()
