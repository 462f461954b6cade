"""The ways to attack: steps of our own under either protocol, and torchattacks' parameter-free ones.

Each is a :class:`Part`: so many attempts (restarts, times target classes), each from clean images to adversarial ones. The
parameter-free ones keep whatever wrong iterate they meet, under either protocol.

Which losses exist depends on the number of classes K: the DLR loss divides by a difference of the first and the third
largest logit and needs K >= 3, its targeted form needs K >= 4. torchattacks' AutoAttack uses the latter whatever K is,
and ends in an IndexError for two classes or three.

Source: torchattacks 3.3 (H. Kim, arXiv 2010.01950); Goodfellow et al., ICLR 2015 (one step); Croce and Hein, ICML 2020
(APGD, DLR, AutoAttack) and ICML 2020 (FAB); Andriushchenko et al., ECCV 2020 (Square).
Deviations: the cross-entropy of a confident network has no gradient in float32. Steps take that of the levelled logits
(see :func:`~robustbench_spur.attack.tools.unsaturated`); APGD, which also compares losses, divides all logits by a power
of two, the same for a batch, that brings the largest clean lead to 5 or less, and by 1 where it is. torchattacks' own
APGD-T takes the step size of the batch's first image for all where the norm is L2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.pursuit import NEVER, Found, pursue
from robustbench_spur.attack.tools import lead_of, logits_of, scaled, unsaturated
from robustbench_spur.types import SpurbenchError

Protocol = Literal["any", "final"]
NORMS = {"linf": "Linf", "l2": "L2"}
"""Names of the norms in torchattacks."""
LEAD = 5.0
"""Lead of the true class up to which float32 resolves the cross-entropy well."""
TARGETS = 9
"""How many target classes the targeted attempts try, as AutoAttack's standard version does."""
LEAST_SIDE = 5
"""Pixels that torchattacks' Square needs on a side in L2."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Args:
        classes: number of classes, at least 2.
        protocol: ``"any"`` or ``"final"``: see :mod:`robustbench_spur.attack.pursuit`.
        steps: of every gradient attack.
        relative_step: length of all steps together, in radii, of those whose step is fixed.
        restarts: attempts from other random starts.
        queries: of the black-box attack, each restart.
    """

    classes: int
    protocol: Protocol = "any"
    steps: int = 10
    relative_step: float = 2.5
    restarts: int = 1
    queries: int = 1000

    def length(self, radius: float) -> float:
        """Length of a fixed step at a radius."""
        return float(self.relative_step * radius / self.steps)

    @property
    def targets(self) -> int:
        """Number of target classes that are tried."""
        return min(self.classes - 1, TARGETS)


Run = Callable[[Any, Any, Any, Ball, int], Found]


@dataclass(frozen=True)
class Part:
    """One way to attack.

    Args:
        attempts: how many there are; what falls in one is not attacked in the next.
        run: from a model, clean images, labels, the ball and the number of the attempt to what was found.
        settings: in words.
        black_box: whether it sees logits only.
    """

    attempts: int
    run: Run
    settings: str
    black_box: bool = False


def single_step(effort: Effort) -> Part:
    """One step as long as the radius, from the clean image."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        import torchattacks

        if effort.protocol == "final" and ball.norm == "linf":
            return judged(model, torchattacks.FGSM(unsaturated(model, labels), eps=ball.radius)(clean, labels), labels)
        return pursue(model, clean, labels, ball, length=ball.radius, steps=1, random_start=False)

    return Part(1, run, "one step")


def projected(effort: Effort) -> Part:
    """Projected steps from a random start."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        import torchattacks

        length, steps = effort.length(ball.radius), effort.steps
        if effort.protocol == "any":
            return pursue(model, clean, labels, ball, length=length, steps=steps)
        attack_class = torchattacks.PGD if ball.norm == "linf" else torchattacks.PGDL2
        # in L2 torchattacks views images as rows, which those that have channels last refuse
        given = clean if ball.norm == "linf" else clean.contiguous()
        attack = attack_class(unsaturated(model, labels), eps=ball.radius, alpha=length, steps=steps, random_start=True)
        return judged(model, attack(given, labels), labels)

    return Part(effort.restarts, run, f"{effort.steps} steps, {effort.restarts} random starts")


def momentum(effort: Effort) -> Part:
    """Projected steps along a sum of past gradients, from the clean image."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        import torchattacks

        length, steps, final = effort.length(ball.radius), effort.steps, effort.protocol == "final"
        if final and ball.norm == "linf":
            attack = torchattacks.MIFGSM(unsaturated(model, labels), eps=ball.radius, alpha=length, steps=steps)
            return judged(model, attack(clean, labels), labels)
        return pursue(
            model, clean, labels, ball, length=length, steps=steps, random_start=False, decay=1.0, drop=not final
        )

    return Part(1, run, f"{effort.steps} steps, momentum 1")


def auto_steps(effort: Effort) -> Part:
    """APGD on the cross-entropy."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        level = scaled(model, power_for(logits_of(model, clean), labels))
        return _adaptive(level, clean, labels, ball, effort, "APGD", loss="ce")

    return Part(effort.restarts, run, f"{effort.steps} steps, {effort.restarts} random starts")


def auto_steps_dlr(effort: Effort) -> Part:
    """APGD on the untargeted DLR loss, of three classes or more."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        return _adaptive(scaled(model, 1.0), clean, labels, ball, effort, "APGD", loss="dlr")

    return Part(effort.restarts, run, f"{effort.steps} steps, {effort.restarts} random starts")


def auto_steps_targeted(effort: Effort) -> Part:
    """APGD on the targeted DLR loss, of four classes or more, against each of the most likely others in turn."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        target = 2 + attempt % effort.targets
        return _adaptive(scaled(model, 1.0), clean, labels, ball, effort, "APGDT", target=target)

    said = f"{effort.steps} steps, {effort.targets} targets, {effort.restarts} random starts"
    return Part(effort.restarts * effort.targets, run, said)


def _adaptive(
    model: Any, clean: Any, labels: Any, ball: Ball, effort: Effort, kind: str, *, target: int = 0, **loss: str
) -> Found:
    """A run of torchattacks' APGD or APGDT, without its seeding of every device."""
    import torchattacks

    attack_class = getattr(torchattacks, kind)
    attack = attack_class(model, norm=NORMS[ball.norm], eps=ball.radius, steps=effort.steps, **loss)
    attack.target_class = target
    return judged(model, attack.attack_single_run(clean, labels)[3], labels)


def boundary(effort: Effort) -> Part:
    """FAB against each of the most likely other classes in turn: the nearest image found that is wrong."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        import torch
        import torchattacks

        restart, target = divmod(attempt, effort.targets)
        attack = torchattacks.FAB(
            scaled(model, 1.0), norm=NORMS[ball.norm], eps=ball.radius, steps=effort.steps, multi_targeted=True
        )
        attack.target_class = 2 + target
        given = clean.contiguous()
        images = attack.attack_single_run_targeted(given, labels, use_rand_start=restart > 0)
        # the nearest that it found may lie outside the ball, and is then no attack
        inside = ball.distance(images, given) <= ball.radius
        return judged(model, torch.where(inside.view(-1, 1, 1, 1), images, given), labels)

    said = f"{effort.steps} steps, {effort.targets} targets, {effort.restarts} starts"
    return Part(effort.restarts * effort.targets, run, said)


def square(effort: Effort) -> Part:
    """Square: random search with squares, which sees logits and no gradient."""

    def run(model: Any, clean: Any, labels: Any, ball: Ball, attempt: int) -> Found:
        import torchattacks

        if ball.norm == "l2" and min(clean.shape[2:]) < LEAST_SIDE:
            raise SpurbenchError(f"Expected images of {LEAST_SIDE} pixels or more a side, found {clean.shape[2:]}.")
        attack = torchattacks.Square(model, norm=NORMS[ball.norm], eps=ball.radius, n_queries=effort.queries)
        given = clean.contiguous()
        attack.init_hyperparam(given)
        return judged(model, attack.attack_single_run(given, labels)[1], labels)

    return Part(effort.restarts, run, f"{effort.queries} queries, {effort.restarts} random starts", black_box=True)


def power_for(logits: Any, labels: Any) -> float:
    """The power of two, 1 or more, that brings the largest lead of the true class to :data:`LEAD` or less.

    >>> import numpy as np, torch
    >>> power_for(np.array([[0.0, 18.0], [3.0, 0.0]], np.float32), torch.tensor([1, 0]))
    4.0
    """
    import torch

    lead = float(lead_of(torch.from_numpy(logits), labels.cpu()).max())
    return float(2.0 ** math.ceil(math.log2(lead / LEAD))) if lead > LEAD else 1.0


def judged(model: Any, images: Any, labels: Any) -> Found:
    """Images with what the model says of them; one that is wrong fell at an unknown step, written 0."""
    import torch

    wrong = torch.from_numpy(logits_of(model, images).argmax(axis=1)).to(labels.device) != labels
    return Found(images, torch.where(wrong, 0, NEVER))
