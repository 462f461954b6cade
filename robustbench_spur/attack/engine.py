"""The engine: attempts one after the other on what has not fallen yet, radius after radius."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.parts import Part
from robustbench_spur.attack.pursuit import NEVER
from robustbench_spur.attack.tools import noise_seed, seeded


@dataclass(frozen=True)
class Target:
    """A batch that is attacked.

    Args:
        model: torch module to logits; see :func:`~robustbench_spur.attack.tools.attackable`.
        images: clean, float32 in [0, 1], shape (b, channels, height, width), on the model's device.
        labels: true classes, int64, shape (b,).
        seed: of all random starts.
        number: of the batch: its random starts differ from those of the others.
    """

    model: Any
    images: Any
    labels: NDArray[np.int64]
    seed: int
    number: int = 0


def strike(
    part: Part, target: Target, ball: Ball, alive: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], Any]:
    """Attack what is alive, attempt after attempt: the worst of the attempts counts, for each image.

    Args:
        part: how.
        target: whom.
        ball: where.
        alive: which images are attacked, shape (b,); None for all.

    Returns:
        After how many steps each image fell (0 where the part does not tell), shape (b,), :data:`NEVER` where it did not
        or was not attacked; and the images, of which those that fell are wrong.

    Raises:
        SpurbenchError: an image left the ball, or logits or gradients are no numbers.
    """
    import torch

    device, count = target.images.device, len(target.labels)
    fell, images = np.full(count, NEVER), target.images.clone()
    labels = torch.from_numpy(target.labels).to(device)
    active = np.arange(count) if alive is None else np.flatnonzero(alive)
    for attempt in range(part.attempts):
        if not len(active):
            break
        rows = torch.from_numpy(active).to(device)
        # an index would give the whole batch another layout in memory, and with it other random numbers
        clean = target.images if len(active) == count else target.images[rows]
        seed = noise_seed(target.seed, ball.radius, target.number, attempt)
        # some parts draw on the processor wherever the images are
        with seeded(seed, torch.device("cpu")), seeded(seed, device):
            found = part.run(target.model, clean, labels[rows], ball, attempt)
        ball.check(found.images, clean)
        images[rows] = found.images
        fell[active] = found.fell.cpu().numpy()
        active = active[fell[active] == NEVER]
    return fell, images


def survivors(part: Part, target: Target, ball: Ball, alive: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which of the images that are alive stay right, shape (b,)."""
    fell, _ = strike(part, target, ball, alive)
    return np.asarray((fell == NEVER) & (True if alive is None else alive))


def climb(
    target: Target,
    balls: list[Ball],
    alive: NDArray[np.bool_],
    carry: bool,
    attack: Callable[[Ball, NDArray[np.bool_]], NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Attack at one radius after the other, ascending.

    Args:
        target: whom.
        balls: of ascending radius.
        alive: which images are right without attack, shape (b,).
        carry: whether what fell at a radius has fallen at the larger ones, whose ball holds that image too. Each radius
            has its own trajectory in any case.
        attack: from a ball and who is attacked to who stays right, shape (b,).

    Returns:
        Who stays right at each radius, shape (b, radii).
    """
    right = np.zeros((len(target.labels), len(balls)), np.bool_)
    for column, ball in enumerate(balls):
        right[:, column] = attack(ball, right[:, column - 1] if carry and column else alive)
    return right


def each(
    parts: Mapping[str, Part], target: Target, balls: list[Ball], alive: NDArray[np.bool_], carry: bool
) -> dict[str, NDArray[np.bool_]]:
    """Who stays right under each part on its own: see :func:`climb`. Returns by part, each of shape (b, radii)."""
    return {name: climb(target, balls, alive, carry, partial(_alone, part, target)) for name, part in parts.items()}


def _alone(part: Part, target: Target, ball: Ball, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """:func:`survivors` in the order of arguments that :func:`climb` asks for."""
    return survivors(part, target, ball, alive)


def ensemble(
    parts: Mapping[str, Part],
    target: Target,
    balls: list[Ball],
    alive: NDArray[np.bool_],
    carry: bool,
    known: Mapping[str, NDArray[np.bool_]],
) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Who stays right under every part: each is made on what those before it left.

    Args:
        parts: in the order in which they are made.
        target: whom.
        balls: of ascending radius.
        alive: which images are right without attack, shape (b,).
        carry: see :func:`climb`.
        known: who stays right under a part that was made on all of them with the same settings, by its name.

    Returns:
        Who stays right, and the position of the part that felled each, -1 where none did; both of shape (b, radii).
    """
    felled = np.full((len(target.labels), len(balls)), NEVER, np.int8)
    column = -1

    def attack(ball: Ball, who: NDArray[np.bool_]) -> NDArray[np.bool_]:
        nonlocal column
        column += 1
        if carry and column:
            felled[:, column] = felled[:, column - 1]
        for position, (name, part) in enumerate(parts.items()):
            right = who & known[name][:, column] if name in known else survivors(part, target, ball, who)
            felled[who & ~right, column] = position
            who = right
        return who

    return climb(target, balls, alive, carry, attack), felled
