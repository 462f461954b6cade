"""The stages of a trial, cut to a third of the epochs, such that the whole trial goes on from there.

Only a training that no other training builds on is cut, at the same loss, sampling, inputs and settings: what comes before it
(an identification model, a reference) stays what it is in the whole trial. Without a horizon in the schedule, the cut training
is a prefix of the whole one and has the same trajectory, whose checkpoints the whole one continues. No epoch is trained twice.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from robustbench_spur.stage import Stage

SHARE = 1 / 3
HORIZON = "cosine"
"""The schedule whose steps depend on the number of epochs."""


def last_trainings(model: Stage) -> list[Stage]:
    """The trainings behind a model that no other training builds on."""
    trainings = [stage for stage in model.ancestry() if stage.kind == "train"]
    below = {other.key for stage in trainings for other in stage.ancestry() if other.key != stage.key}
    return [stage for stage in trainings if stage.key not in below]


def third_of(epochs: int) -> int:
    """A third of a number of epochs, rounded up.

    >>> third_of(12), third_of(4), third_of(1)
    (4, 2, 1)
    """
    return math.ceil(epochs * SHARE - 1e-9)


def can_be_cut(stage: Stage, shared: Collection[str]) -> bool:
    """Whether a third of a training is worth having: shorter, a prefix of the whole, and not needed whole by all trials.

    Args:
        stage: a training.
        shared: keys of stages that every trial needs.
    """
    spec: Any = stage.spec
    horizon = spec["trajectory"]["training"]["schedule"] == HORIZON
    return not horizon and stage.key not in shared and third_of(int(spec["epochs"])) < int(spec["epochs"])


def shorten(stage: Stage, cut: Collection[str], made: dict[str, Stage] | None = None) -> Stage:
    """The same stage with some trainings among what it needs cut to a third of their epochs.

    Args:
        stage: of a trial.
        cut: keys of the trainings to cut.
        made: what was cut already, by the key of the whole; kept from call to call so that stages stay shared.
    """
    made = {} if made is None else made
    if stage.key in made:
        return made[stage.key]
    if stage.key in cut:
        epochs = third_of(int(str(stage.spec["epochs"])))
        spec = {**stage.spec, "epochs": epochs}
        made[stage.key] = replace(stage, spec=spec, title=f"{stage.title}: the first {epochs}")
        return made[stage.key]
    parents = tuple(shorten(parent, cut, made) for parent in stage.parents)
    same = all(new is old for new, old in zip(parents, stage.parents, strict=True))
    made[stage.key] = stage if same else replace(stage, parents=parents)
    return made[stage.key]
