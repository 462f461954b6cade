"""The images that an attacker may make of one: those in [0, 1] within a radius of it, in the L-infinity or the L2 norm.

The arithmetic is torchattacks', operation by operation, so that a trajectory can be compared with its own to the bit.

Source: torchattacks 3.3 (H. Kim, arXiv 2010.01950), PGD and PGDL2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from robustbench_spur.types import SpurbenchError

Norm = Literal["linf", "l2"]

SAME_RADIUS = 1e-9
"""Two radii closer than this are one."""
ROUNDING = 1e-6
"""By how much float32 may carry a pixel out of the ball; in L2, also the share of the radius."""
TINY = 1e-10
"""What keeps the length of a gradient from being 0, torchattacks' own."""


def radius_label(radius: float, norm: str = "linf") -> str:
    """A radius above 0; in L-infinity as k/255 where it is that, else with four digits.

    >>> radius_label(2 / 255), radius_label(0.0123456), radius_label(1.0, "l2")
    ('2/255', '0.01235', '1')
    """
    level = round(radius * 255)
    if norm == "linf" and level and abs(radius - level / 255) <= SAME_RADIUS:
        return f"{level}/255"
    return f"{radius:.4g}"


@dataclass(frozen=True)
class Ball:
    """All images in [0, 1] within ``radius`` of a clean one.

    Args:
        norm: ``"linf"``, the largest change of a pixel, or ``"l2"``, the root of the sum of squared changes.
        radius: above 0, for images in [0, 1].
    """

    norm: Norm
    radius: float

    def start(self, clean: Any) -> Any:
        """A random point for each image: of L-infinity uniform in the ball, of L2 in a uniform direction and distance."""
        import torch

        if self.norm == "linf":
            return (clean + torch.empty_like(clean).uniform_(-self.radius, self.radius)).clamp(min=0, max=1)
        delta = torch.empty_like(clean).normal_()
        length = delta.reshape(len(clean), -1).norm(p=2, dim=1).view(-1, 1, 1, 1)
        distance = torch.zeros_like(length).uniform_(0, 1)
        return (clean + delta * (distance / length * self.radius)).clamp(min=0, max=1)

    def step(self, at: Any, gradient: Any, length: float) -> Any:
        """A step up the gradient: along its sign, or of L2 along itself, ``length`` long."""
        if self.norm == "linf":
            return at + length * gradient.sign()
        norms = gradient.reshape(len(at), -1).norm(p=2, dim=1) + TINY
        return at + length * (gradient / norms.view(-1, 1, 1, 1))

    def project(self, at: Any, clean: Any) -> Any:
        """The images brought back into the ball and into [0, 1]."""
        import torch

        delta = at - clean
        if self.norm == "linf":
            return (clean + delta.clamp(min=-self.radius, max=self.radius)).clamp(min=0, max=1)
        norms = delta.reshape(len(at), -1).norm(p=2, dim=1)
        factor = torch.min(self.radius / norms, torch.ones_like(norms))
        return (clean + delta * factor.view(-1, 1, 1, 1)).clamp(min=0, max=1)

    def distance(self, at: Any, clean: Any) -> Any:
        """How far each image is from its clean one, in the norm, tensor of shape (b,)."""
        delta = (at - clean).reshape(len(at), -1)
        return delta.abs().amax(dim=1) if self.norm == "linf" else delta.norm(p=2, dim=1)

    def holds(self, at: Any, clean: Any) -> Any:
        """Whether each image is in [0, 1] and within the radius but for rounding, tensor of shape (b,); NaN is not."""
        slack = ROUNDING if self.norm == "linf" else ROUNDING * (1 + self.radius)
        box = ((at >= 0) & (at <= 1)).flatten(1).all(dim=1)
        return box & (self.distance(at, clean) <= self.radius + slack)

    def check(self, adversarial: Any, clean: Any) -> None:
        """Check that no image left the ball.

        Raises:
            SpurbenchError: one did, or holds NaN.
        """
        if self.norm == "linf":
            check_ball(adversarial, clean, self.radius)
            return
        outside = ~self.holds(adversarial, clean)
        if bool(outside.any()):
            raise SpurbenchError(
                f"Expected adversarial images in [0, 1] and within {radius_label(self.radius, self.norm)} in L2, found"
                f" {int(outside.sum())} images outside or NaN."
            )


def check_ball(adversarial: Any, clean: Any, radius: float) -> None:
    """Check that no pixel of two tensors of one shape left [0, 1], or went further than ``radius``; NaN did.

    Raises:
        SpurbenchError: one did.
    """
    inside = (adversarial >= 0) & (adversarial <= 1) & ((adversarial - clean).abs() <= radius + ROUNDING)
    if not bool(inside.all()):
        raise SpurbenchError(
            f"Expected adversarial images in [0, 1] and within {radius_label(radius)}, found {int((~inside).sum())} pixels"
            " outside or NaN."
        )
