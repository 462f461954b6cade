"""Where a network looks, by Captum: Grad-CAM and integrated gradients of the lead of a class, as maps as large as the image.

What is explained is the lead of the true class y, z_y minus the largest other logit; of two classes their difference.

- Grad-CAM: the last feature maps A_k, each weighted by the mean of the lead's gradient over the map, summed, negative values
  cut to 0, interpolated linearly from where their cells lie in the image (see :class:`LastMaps`). The last feature maps are
  found in a trial run: of the convolutions whose output is larger than one pixel, the last that ran; and of the modules that
  ran once and after it, the last whose output is as high and wide as its own, so that normalisation, activation and what is
  joined to it are included. Not defined for a network without convolutions, nor for one whose only convolution cuts the image
  into patches. Of an ensemble, the last maps of all members side by side, where they lie on one grid.
- Integrated gradients: (x - 0) times the mean gradient along the straight line from a black image to the image, summed over
  channels. The sum over all pixels is the lead on the image less that on the black one (completeness).

Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2; Sundararajan, Taly and Yan, Axiomatic Attribution for Deep
Networks, ICML 2017, section 3; Captum 0.9. Deviations: the lead of the true class takes the place of its logit alone, which
may rise for all classes together; Grad-CAM is not stretched over the image from edge to edge, as Captum does and most do:
where strided convolutions pad both sides, cell i is centred at pixel 8 i, say, and not at 8 i + 3.5, and half a cell is more
than many a lesion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]


def lead(model: Any) -> Callable[[Any, Any], Any]:
    """A function from images and their classes, int64 of shape (b,), to the lead of these classes, shape (b,).

    Args:
        model: a torch module from images to logits of at least two classes.
    """
    import torch

    def forward(images: Any, labels: Any) -> Any:
        logits = model(images)
        true = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        return logits.gather(1, labels[:, None])[:, 0] - logits.masked_fill(true, -torch.inf).amax(dim=1)

    return forward


@dataclass(frozen=True)
class LastMaps:
    """The last feature maps of a network, and where their cells lie in the image.

    Along each axis cell i is centred at pixel ``first + step * i``: from kernel, stride and padding of the modules that first
    reach each size of map. Where these do not lead to the last one (a layer that pads or pools by itself), the maps are
    stretched over the image from edge to edge.

    Args:
        layer: the module whose output they are.
        step: distance of neighbouring cells in pixels, along height and width.
        first: pixel at the centre of the first cell, along height and width.
    """

    layer: Any
    step: tuple[float, float]
    first: tuple[float, float]


Ran = list[tuple[Any, tuple[int, ...], tuple[int, ...]]]
"""Modules in the order in which they ended, with the shapes of what went in and came out."""


def last_maps(model: Any, images: Any) -> tuple[list[LastMaps], str]:
    """The last feature maps of a network, or those of each member of an ensemble.

    Args:
        model: a torch module in eval mode.
        images: one batch, tensor of shape (b, channels, height, width); a single image will do.

    Returns:
        The maps and ``""``, or none and the reason why there are none.
    """
    found = []
    for member in getattr(model, "members", [model]):
        ran = _trial(member, images[:1])
        convolutions = [at for at, (module, *_) in enumerate(ran) if _is_convolution(module)]
        wide = [at for at in convolutions if ran[at][2][-2] * ran[at][2][-1] > 1]
        if not wide:
            return [], "the network has no convolution whose output is larger than one pixel"
        last, _, shape = ran[wide[-1]]
        if len(convolutions) == 1 and last.stride == last.kernel_size != (1, 1):
            return (
                [],
                "the network's only convolution cuts the image into patches: there are no feature maps at its end",
            )
        alike = [module for module, _, size in ran[wide[-1] :] if len(size) == 4 and size[2:] == shape[2:]]
        times = Counter(id(module) for module, *_ in ran)
        layer = next(module for module in reversed(alike) if times[id(module)] == 1 or module is last)
        (y, top), (x, left) = (_cells(ran, axis, images.shape[axis], shape[axis]) for axis in (2, 3))
        found.append(LastMaps(layer, (y, x), (top, left)))
    if len({(one.step, one.first) for one in found}) > 1:
        return [], "the last feature maps of the ensemble's members lie on different grids"
    return found, ""


def _is_convolution(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Conv2d)


def _trial(model: Any, images: Any) -> Ran:
    """What runs when the model sees images, of the modules that take one tensor to another."""
    import torch

    ran: Ran = []

    def watch(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and inputs and isinstance(inputs[0], torch.Tensor):
            ran.append((module, tuple(inputs[0].shape), tuple(output.shape)))

    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def _cells(ran: Ran, axis: int, pixels: int, cells: int) -> tuple[float, float]:
    """Step between the last maps' cells along an axis, and the centre of the first, in pixels."""
    known = {pixels: (1.0, 0.0)}
    for module, before, after in ran:
        if len(before) == len(after) == 4 and before[axis] in known and after[axis] not in known:
            window = _window(module, axis)
            if window is not None:
                step, first = known[before[axis]]
                kernel, stride, padding = window
                if (before[axis] + 2 * padding - kernel) // stride + 1 != after[axis]:
                    # the layer pads as much as it needs, or counts a window that juts out
                    padding = ((after[axis] - 1) * stride + kernel - before[axis]) // 2
                known[after[axis]] = (step * stride, first + step * ((kernel - 1) / 2 - padding))
    stretched = pixels / cells
    return known.get(cells, (stretched, (stretched - 1) / 2))


def _window(module: Any, axis: int) -> tuple[int, int, int] | None:
    """Extent of the window of a convolution or pooling, its stride, and the padding before the image, along an axis."""
    numbers = []
    for name in ("kernel_size", "stride", "padding", "dilation"):
        value = getattr(module, name, 1 if name == "dilation" else None)
        number = value[axis - 2] if isinstance(value, tuple) else value
        if not isinstance(number, int):
            return None
        numbers.append(number)
    kernel, stride, padding, dilation = numbers
    return dilation * (kernel - 1) + 1, stride, padding


def _captum() -> Any:
    """Captum's attributions; loaded when something is explained."""
    return import_module("captum.attr")


def grad_cam(model: Any, maps: list[LastMaps], images: Any, labels: Any) -> Maps:
    """Grad-CAM of the lead, shape (b, height, width), 0 or more.

    Args:
        model: a torch module in eval mode.
        maps: of :func:`last_maps`, at least one.
        images: float tensor in [0, 1], shape (b, channels, height, width).
        labels: the true classes, int64 tensor of shape (b,).
    """
    import torch

    captum = _captum()
    # maps of an ensemble's members side by side are more channels to sum over
    total = sum(
        captum.LayerGradCam(lead(model), one.layer).attribute(images, additional_forward_args=labels) for one in maps
    )
    coarse = torch.relu(total)[:, 0].detach().cpu().numpy().astype(np.float64)
    rows, columns = (
        _interpolation(size, cells, step, first)
        for size, cells, step, first in zip(
            images.shape[2:], coarse.shape[1:], maps[0].step, maps[0].first, strict=True
        )
    )
    return np.asarray(rows @ coarse @ columns.T, np.float32)


def _interpolation(pixels: int, cells: int, step: float, first: float) -> Floats:
    """Weights that take cells to pixels linearly, shape (pixels, cells); beyond the outermost cells their values stay.

    >>> _interpolation(5, 2, step=2.0, first=1.0).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    """
    at = np.clip((np.arange(pixels) - first) / step, 0, cells - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))))


def integrated_gradients(model: Any, images: Any, labels: Any, steps: int) -> Maps:
    """Integrated gradients of the lead from a black image, summed over channels, shape (b, height, width).

    Args:
        model: a torch module in eval mode.
        images: float tensor in [0, 1], shape (b, channels, height, width); as many are held at once.
        labels: the true classes, int64 tensor of shape (b,).
        steps: points of the Gauss-Legendre rule along the line.
    """
    found = (
        _captum()
        .IntegratedGradients(lead(model))
        .attribute(
            images, baselines=0.0, additional_forward_args=labels, n_steps=steps, internal_batch_size=len(images)
        )
    )
    return np.asarray(found.sum(dim=1).detach().cpu().numpy(), np.float32)
