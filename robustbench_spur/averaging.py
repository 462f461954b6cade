"""Averages of the weights along a training run: what the model of an epoch is, when it is not the last step's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from robustbench_spur.networks import Classifier


class Averaging:
    """Base of the averages: keeps nothing, so that the model is the last step's weights.

    Running statistics are averaged like weights. Subclasses keep what they need in :attr:`tensors` (the average, by the names
    of the model's own) and :attr:`memory` (whatever else has to survive a kill); the loop saves and restores both.

    Attributes:
        watches: whether :meth:`judge` wants to know how the weights themselves fare on validation.
    """

    watches = False

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.memory: dict[str, torch.Tensor] = {}

    def follow(self, model: Classifier) -> None:
        """Begin, unless a checkpoint gave the average already."""

    def update(self, model: Classifier, step: int, epoch: float) -> None:
        """Take in the model's weights after a step.

        Args:
            model: as it is after the step.
            step: counted from 0.
            epoch: epochs done before it, with their fraction.
        """

    def judge(self, nll: float, epoch: int) -> None:
        """Hear how the weights themselves do on validation at the end of an epoch.

        Args:
            nll: mean negative log likelihood of the validation set.
            epoch: that ended, from 0.
        """

    @contextlib.contextmanager
    def swapped_in(self, model: Classifier) -> Iterator[None]:
        """Let the model have the average for a while, if there is one yet."""
        if not self.tensors:
            yield
            return
        kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict({**kept, **self.tensors})
        try:
            yield
        finally:
            model.load_state_dict(kept)


def averaged(model: Classifier) -> dict[str, torch.Tensor]:
    """The weights and running statistics that an average is taken of, by name."""
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


class Exponential(Averaging):
    """Exponential moving average (Polyak and Juditsky 1992).

    It steadies the last epoch as a decaying learning rate would, but has no horizon.

    Args:
        decay: per step, in [0, 1); 0 for no average. Early on it is at most (1 + step) / (10 + step).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def follow(self, model: Classifier) -> None:
        """Begin at the model's weights."""
        if self.decay and not self.tensors:
            self.tensors = {name: value.detach().clone() for name, value in averaged(model).items()}

    @torch.no_grad()
    def update(self, model: Classifier, step: int, epoch: float) -> None:
        """Move towards the model's weights."""
        if self.decay:
            weight = 1 - min(self.decay, (1 + step) / (10 + step))
            now = averaged(model)
            torch._foreach_lerp_(list(self.tensors.values()), [now[name] for name in self.tensors], weight)


class RunningMean(Averaging):
    """Plain mean of the weights after every step from an epoch on.

    Args:
        start: epoch, with fraction, from which steps are taken in.
        every: number of steps between two that are taken in; 1 for all.
    """

    def __init__(self, start: float, every: int = 1) -> None:
        super().__init__()
        self.start, self.every = start, every

    @torch.no_grad()
    def update(self, model: Classifier, step: int, epoch: float) -> None:
        """Take in the weights if it is their turn."""
        if epoch >= self.start and (step + 1) % self.every == 0:
            self.add(averaged(model))

    def add(self, now: dict[str, torch.Tensor]) -> None:
        """Take weights in."""
        if not self.tensors:
            self.tensors = {name: value.detach().clone() for name, value in now.items()}
            self.memory = {"count": torch.ones((), dtype=torch.int64)}
            return
        self.memory["count"] = self.memory["count"] + 1
        share = 1 / int(self.memory["count"])
        torch._foreach_lerp_(list(self.tensors.values()), [now[name] for name in self.tensors], share)
