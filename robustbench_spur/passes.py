"""Passes over a partition that train nothing: predictions, features, and where a model looks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from robustbench_spur.feeding import Feed
from robustbench_spur.networks import Classifier

Progress = Callable[[int, int], None]
EVALUATION_BATCH = 256


@torch.no_grad()
def predict(
    model: Classifier, feed: Feed, *, features: bool = False, progress: Progress | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits, and features if asked for, on the CPU: eval mode, float32 whatever training was.

    Returns:
        Logits of shape (n, classes) and features of shape (n, width) or None.
    """
    model.eval()
    logits, kept = [], []
    for number, images in enumerate(feed.batches(EVALUATION_BATCH)):
        hidden = model.features(images)
        logits.append(model.head(hidden).float())
        if features:
            kept.append(hidden.float())
        if progress is not None:
            progress(min(len(feed), (number + 1) * EVALUATION_BATCH), len(feed))
    return torch.cat(logits).cpu(), torch.cat(kept).cpu() if features else None


def gradient_times_input(model: Classifier, feed: Feed, progress: Progress) -> torch.Tensor:
    """Where a model looks: |sum over channels of x * dz_c/dx| for the predicted class c, each map divided by its largest value.

    Args:
        model: in eval mode.
        feed: of the images.
        progress: called with (images done, all images).

    Returns:
        On the CPU, shape (n, height, width), in [0, 1]; zeros where the logit depends on nothing.
    """
    maps = []
    for images in feed.batches(EVALUATION_BATCH):
        inputs = images.detach().requires_grad_(True)
        with torch.enable_grad():
            predicted = model(inputs).max(dim=1).values.sum()
        (gradient,) = torch.autograd.grad(predicted, inputs)
        found = (inputs * gradient).sum(dim=1).abs().detach()
        maps.append((found / found.amax((1, 2), keepdim=True).clamp(min=1e-12)).cpu())
        progress(sum(map(len, maps)), len(feed))
    return torch.cat(maps)
