"""The plain mean of weights, and what averages tell the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robustbench_spur.averaging import Averaging, RunningMean
from robustbench_spur.methods.erm import ERM
from robustbench_spur.parameters import Training
from tests.methods.toy import linear, run_of, same, silent


class Killed(Exception):
    """The end of a run that nobody planned."""


class Meaning(ERM):
    """ERM whose model is the mean of the last epochs' weights."""

    name = "meaning"

    def averaging(self, training: Training) -> Averaging:
        return RunningMean(1.0)


class Watching(RunningMean):
    """Notes what it hears."""

    watches = True

    def judge(self, nll: float, epoch: int) -> None:
        self.memory[f"heard{epoch}"] = torch.tensor(nll)


def test_mean_from_an_epoch_on_by_numpy() -> None:
    model, average = linear(2), RunningMean(1.5, every=2)
    taken = []
    for step in range(12):
        with torch.no_grad():
            model.head.weight.fill_(float(step * step))
        average.update(model, step, step / 4)
        if step / 4 >= 1.5 and (step + 1) % 2 == 0:
            taken.append(float(step * step))
    assert taken == [49.0, 81.0, 121.0]
    np.testing.assert_allclose(average.tensors["head.weight"], np.mean(taken), rtol=1e-6)
    assert int(average.memory["count"]) == 3


def test_before_it_begins_the_model_is_the_last_steps() -> None:
    model, average = linear(2), RunningMean(5.0)
    average.update(model, 0, 0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with average.swapped_in(model):
        assert same(model.state_dict(), before)


def test_a_killed_run_goes_on_with_its_mean(tmp_path: Path) -> None:
    whole = run_of(Meaning(), tmp_path / "whole").fit(silent)[0]

    def killed(done: int, total: int) -> None:
        if done == 8:  # in the last of three epochs
            raise Killed

    try:
        run_of(Meaning(), tmp_path / "killed").fit(killed)
    except Killed:
        assert same(run_of(Meaning(), tmp_path / "killed").fit(silent)[0], whole)
    else:
        raise AssertionError("the run was not killed")


def test_a_watcher_hears_of_the_weights_and_not_of_their_mean(tmp_path: Path) -> None:
    class Listener(ERM):
        name = "listener"

        def averaging(self, training: Training) -> Averaging:
            return Watching(0.0)

    run = run_of(Listener(), tmp_path / "mean")
    run.fit(silent)
    plain = run_of(ERM(), tmp_path / "plain", averaging=0.0)
    plain.fit(silent)
    heard = [float(run.average.memory[f"heard{epoch}"]) for epoch in range(3)]
    np.testing.assert_allclose(heard, [entry["validation_nll"] for entry in plain.history], rtol=1e-6)
    assert heard[-1] != run.history[-1]["validation_nll"]
