"""One change for many images: a universal adversarial perturbation.

    change <- change + step * sign(mean gradient over the images that it does not fool yet), each pixel within the radius

From no change on, so that the first is the sign of the mean gradient. Of all changes on the way the one that fools most
is kept. Gradients are those of the levelled logits (see :func:`~robustbench_spur.attack.tools.unsaturated`), so that
confident images count like others.

Source: Moosavi-Dezfooli et al., Universal Adversarial Perturbations, CVPR 2017 (the idea, and that images already fooled
do not pull); Shafahi et al., Universal Adversarial Training, AAAI 2020, section 3 (steps along the gradient of all
images). Deviations: the whole set in every step; no clipped loss.
"""

from __future__ import annotations

from typing import Any

from robustbench_spur.attack.pursuit import slope
from robustbench_spur.attack.tools import check_logits


def universal(model: Any, clean: Any, labels: Any, *, radius: float, length: float, steps: int, batch: int) -> Any:
    """A change within an L-infinity radius that makes as many of the images wrong as it can.

    Args:
        model: torch module to logits; see :func:`~robustbench_spur.attack.tools.attackable`.
        clean: images in [0, 1], shape (b, channels, height, width), at least one.
        labels: int64 tensor of shape (b,).
        radius: largest change of a pixel.
        length: of a step.
        steps: at least 1.
        batch: images seen at once.

    Returns:
        Shape (1, channels, height, width).

    Raises:
        SpurbenchError: logits or gradients that are no numbers.
    """
    import torch

    change = torch.zeros_like(clean[:1])
    best, most = change, -1
    for taken in range(steps + 1):
        pull, fooled = torch.zeros_like(change), 0
        for at, true in zip(moved(clean, change).split(batch), labels.split(batch), strict=True):
            at = at.detach().requires_grad_(True)
            logits = model(at)
            check_logits(logits.detach())
            right = logits.detach().argmax(dim=1) == true
            fooled += int((~right).sum())
            # the mean over a batch, taken back to a sum, since batches differ in size
            gradient = slope(logits, at, true) * len(true)
            pull = pull + gradient[right].sum(dim=0, keepdim=True)
        if fooled > most:
            best, most = change, fooled
        if fooled == len(labels) or taken == steps:
            break
        change = (change + length * pull.sign()).clamp(-radius, radius)
    return best


def moved(clean: Any, change: Any) -> Any:
    """The images with the change, in [0, 1]."""
    return (clean + change).clamp(0, 1)
