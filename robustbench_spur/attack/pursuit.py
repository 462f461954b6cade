"""Gradient steps under the two protocols.

    final   an image falls if the last iterate is wrong: torchattacks' own loop, to the bit of the image
    any     an image falls at the first iterate that is wrong, the start included, and is then left alone

The second is the stronger attack for the same work (an example that falls and rises again counts as fallen), and the
cheaper one, since the batch shrinks as its images fall. Its images are those of the first as long as nothing falls: who
is in a batch changes float sums, no more.

Source: Madry et al., ICLR 2018, section 2.1 (PGD); Dong et al., CVPR 2018, algorithm 1 and equation 9 (momentum, its L2
form); Croce and Hein, ICML 2020, section 4 (any iterate counts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.tools import check_gradient, check_logits, levelled

NEVER = -1
"""Number of steps of an image that did not fall."""


@dataclass(frozen=True)
class Found:
    """What an attempt led to.

    Args:
        images: adversarial images, shape (b, channels, height, width): of a fallen one the iterate that is wrong, else
            the last.
        fell: number of steps after which each is wrong, 0 for the start, :data:`NEVER` where it is not, int64 tensor of
            shape (b,).
    """

    images: Any
    fell: Any


def pursue(
    model: Any,
    clean: Any,
    labels: Any,
    ball: Ball,
    *,
    length: float,
    steps: int,
    random_start: bool = True,
    decay: float | None = None,
    drop: bool = True,
) -> Found:
    """Climb the cross-entropy of the true class inside the ball.

    Args:
        model: torch module to logits; see :func:`~robustbench_spur.attack.tools.attackable`.
        clean: images in [0, 1], shape (b, channels, height, width).
        labels: int64 tensor of shape (b,).
        ball: where the images may go.
        length: of a step.
        steps: at least 1.
        random_start: else the clean images.
        decay: of the momentum; None for none.
        drop: whether an image is left alone once it is wrong (protocol ``any``); else the last iterate decides.

    Raises:
        SpurbenchError: logits or gradients that are no numbers.
    """
    import torch

    at = ball.start(clean) if random_start else clean.clone()
    images, momentum = at.clone(), torch.zeros_like(clean)
    active = torch.arange(len(clean), device=clean.device)
    fell = torch.full_like(active, NEVER)
    for taken in range(steps + 1):
        last = taken == steps
        at = at.detach().requires_grad_(not last)
        logits = model(at)
        check_logits(logits.detach())
        wrong = logits.detach().argmax(dim=1) != labels[active]
        if drop or last:
            images[active] = at.detach()
            fell[active[wrong]] = taken
        if last or (drop and bool(wrong.all())):
            break
        gradient = slope(logits, at, labels[active])
        at = at.detach()
        if drop and bool(wrong.any()):
            at, gradient, momentum, active = (part[~wrong] for part in (at, gradient, momentum, active))
        if decay is not None:
            gradient = momentum = _even(gradient) + momentum * decay
        at = ball.project(ball.step(at, gradient, length), clean[active] if len(active) < len(clean) else clean)
    return Found(images, fell)


def slope(logits: Any, at: Any, labels: Any) -> Any:
    """Gradient of the mean cross-entropy of levelled logits in the images that led to them, of the images' shape.

    Args:
        logits: of the images, shape (b, classes).
        at: the images, which must need a gradient.
        labels: int64 tensor of shape (b,).

    Raises:
        SpurbenchError: it holds NaN.
    """
    import torch

    loss = torch.nn.functional.cross_entropy(levelled(logits, labels), labels)
    gradient = torch.autograd.grad(loss, at)[0]
    check_gradient(gradient)
    return gradient


def _even(gradient: Any) -> Any:
    """Gradients of mean length 1 per pixel; one that is 0 stays it."""
    import torch

    size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(size > 0, gradient / size, 0)
