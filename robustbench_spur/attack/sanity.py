"""Checks that an attack works: a network that hides its gradients passes for robust, and these notice.

Of each the number is kept and said, whether it passed or not.

    falls to nothing       at the largest radius every image of the set is in every ball, so that none can be robust where
                           the network says two classes; the share still right must be 0
    larger is no safer     accuracy must not rise with the radius
    seeing is no handicap  an attack that sees logits only must not leave fewer right than those that see gradients
    steps are no handicap  one step must not leave fewer right than many
    more never help        of images that fall within k steps of a fixed size, none may survive 2k from the same start

The last holds of any deterministic network, since k steps are the first of 2k; one that draws random numbers, which are
other ones in the second run, breaks it.

Source: Athalye, Carlini and Wagner, ICML 2018, section 3.1; Carlini et al., arXiv 1902.06705, section 5.
Deviations: the accuracies are compared as they are, without an allowance for chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.engine import Target, each, strike
from robustbench_spur.attack.parts import Effort, projected, square
from robustbench_spur.attack.pursuit import NEVER

Flags = NDArray[np.bool_]
GROWTH = 4.0
"""By how much the radius grows until it is the largest."""


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: in a few words.
        passed: None where it says nothing.
        number: what was found, or None.
        said: a sentence with the number, or why the check says nothing.
    """

    name: str
    passed: bool | None
    number: float | None
    said: str

    def as_json(self) -> dict[str, Any]:
        """Its fields as JSON values."""
        return {"check": self.name, "passed": self.passed, "number": self.number, "said": self.said}


def share(flags: Flags) -> float:
    """Share that is True; 0 of none.

    >>> share(np.array([True, False])), share(np.zeros(0, bool))
    (0.5, 0.0)
    """
    return float(flags.mean()) if flags.size else 0.0


def falls_to_nothing(wide: Flags, radius: str, classes_said: int) -> Check:
    """Whether anything is right at a radius whose ball holds every image.

    Args:
        wide: who is right there, shape (m,).
        radius: in words.
        classes_said: number of classes that the network predicts for the clean images; of one, nothing follows.
    """
    name, left = "falls to nothing", share(wide)
    if classes_said < 2:
        return Check(
            name, None, None, "says nothing: the network gives one class to all images, and no ball holds another"
        )
    said = f"{left:.4g} of the examples are right at {radius}, where every image is within reach; expected 0"
    return Check(name, left == 0, left, said)


def larger_is_no_safer(right: dict[str, Flags]) -> Check:
    """Whether accuracy falls with the radius.

    Args:
        right: by attack, who is right at each radius, ascending, shape (m, radii).
    """
    name = "larger is no safer"
    rises = {key: np.diff([share(column) for column in flags.T]).max(initial=-1) for key, flags in right.items()}
    if not rises or all(flags.shape[1] < 2 for flags in right.values()):
        return Check(name, None, None, "says nothing: one radius, or no attack")
    key = max(rises, key=lambda one: float(rises[one]))
    rise = max(0.0, float(rises[key]))
    said = f"accuracy under {key} rises by {rise:.4g} from a radius to the next; expected 0"
    return Check(name, rise == 0, rise, said)


def weaker_is_no_better(name: str, weaker: tuple[str, Flags | None], stronger: tuple[str, Flags | None]) -> Check:
    """Whether what ought to be the weaker attack leaves at least as many right as the stronger, at every radius.

    Args:
        name: of the check.
        weaker: in words, and who is right under it, shape (m, radii); None if it was not made.
        stronger: the same of the stronger.
    """
    if weaker[1] is None or stronger[1] is None:
        lacking = weaker[0] if weaker[1] is None else stronger[0]
        return Check(name, None, None, f"says nothing: {lacking} was not made")
    margins = [share(a) - share(b) for a, b in zip(weaker[1].T, stronger[1].T, strict=True)]
    least = float(min(margins, default=0.0))
    alone = int((~weaker[1] & stronger[1]).sum())
    said = (
        f"accuracy under {weaker[0]} minus that under {stronger[0]} is {least:+.4g} at its lowest over the radii, and the"
        f" former fells {alone} that the latter does not; expected 0 or more"
    )
    return Check(name, least >= 0, least, said)


def more_never_help(short: Flags, fell: NDArray[np.int64], steps: int) -> Check:
    """Whether what falls within some steps falls within twice as many.

    Args:
        short: who survives ``steps`` steps, shape (m, radii).
        fell: after how many steps of twice as many, of the same size and from the same start, each fell, same shape;
            :data:`NEVER` where not.
        steps: of the shorter run.
    """
    saved = int((~short & (fell == NEVER)).sum())
    said = f"{saved} examples fall within {steps} steps and survive {2 * steps} of the same size; expected 0"
    return Check("more never help", saved == 0, float(saved), said)


@dataclass(frozen=True)
class Evidence:
    """What the checks look at, of a batch or of all.

    Args:
        wide: who is right at the largest radius there is, shape (m, 1).
        short: who survives the projected steps, shape (m, radii).
        fell: after how many steps of twice as many each fell, int32, shape (m, radii).
        black: who survives the black-box part, shape (m, radii).
    """

    wide: Flags
    short: Flags
    fell: NDArray[np.int32]
    black: Flags


def gather(target: Target, balls: list[Ball], alive: Flags, effort: Effort, black: Flags | None = None) -> Evidence:
    """Make the attacks of the checks, all of them from one start and leaving alone what fell.

    Args:
        target: whom.
        balls: of ascending radius.
        alive: who is right without attack, shape (b,).
        effort: steps and queries.
        black: who survives the black-box part with this effort, where that is known; shape (b, radii).
    """
    single = replace(effort, protocol="any", restarts=1)
    twice = replace(single, steps=2 * single.steps, relative_step=2 * single.relative_step)
    parts = projected(single), projected(twice)
    (short,) = each({"": parts[0]}, target, balls, alive, False).values()
    other = replace(target, model=_stirred(target.model))
    fell = np.stack([strike(parts[1], other, ball, alive)[0] for ball in balls], axis=1)
    if black is None:
        (black,) = each({"": square(single)}, target, balls, alive, False).values()
    norm, largest = balls[-1].norm, widest(balls[-1].norm, target.images.shape[1:])
    grown = [balls[-1].radius * GROWTH**power for power in range(1, 50)]
    radii = [*(radius for radius in grown if radius < largest), largest]
    (wide,) = each({"": parts[0]}, target, [Ball(norm, radius) for radius in radii], alive, True).values()
    return Evidence(wide[:, -1:], short, np.where(alive[:, None], fell, 0).astype(np.int32), black)


def _stirred(model: Any) -> Any:
    """The model, which meets other random numbers than it would: the same for a network that draws none."""
    import torch

    class Stirred(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            for device in {torch.device("cpu"), images.device}:
                torch.rand(1, device=device)
            logits: torch.Tensor = self.model(images)
            return logits

    return Stirred().eval()


def widest(norm: str, shape: Sequence[int]) -> float:
    """The radius whose ball holds all images in [0, 1] of a shape (channels, height, width).

    >>> widest("linf", (1, 8, 8)), widest("l2", (1, 8, 8))
    (1.0, 8.0)
    """
    return 1.0 if norm == "linf" else math.sqrt(math.prod(shape))
