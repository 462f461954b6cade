"""Decoded images on their way into the network: resident on the device where they fit, augmented there in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur.gathered import Images
from robustbench_spur.method import Sampling
from robustbench_spur.randomness import FLIP, ORDER, SHIFT_COLUMNS, SHIFT_ROWS, generator, uniform

RESIDENT_SHARE = 0.4
"""Images are kept on the accelerator while they take at most this share of its free memory."""
SHIFT_SHARE = 3 / 64
"""Largest random shift, as a share of the image's width."""


def epoch_order(size: int, sampling: Sampling | None, seed: int, epoch: int) -> NDArray[np.int64]:
    """The ``size`` rows drawn in an epoch, in order.

    Repeated sets are walked through in shuffled passes that do not stop at an epoch's end: epoch e gets draws
    ``e * size`` to ``(e + 1) * size`` of the endless sequence of passes.

    Args:
        size: of the training set.
        sampling: None for a permutation.
        seed: of the cell.
        epoch: from 0.
    """
    if sampling is None:
        return generator(seed, ORDER, epoch).permutation(size)
    if sampling.weights is not None:
        share = sampling.weights / sampling.weights.sum()
        return generator(seed, ORDER, epoch).choice(size, size, p=share)
    rows = np.repeat(np.arange(size), 1 if sampling.repeats is None else sampling.repeats)
    first, last = epoch * size, (epoch + 1) * size
    passes = range(first // len(rows), (last - 1) // len(rows) + 1)
    walked = np.concatenate([generator(seed, ORDER, number).permutation(rows) for number in passes])
    start = first - passes[0] * len(rows)
    return walked[start : start + size]


@dataclass
class Feed:
    """Images of one partition for one device.

    Args:
        images: uint8, shape (n, channels, height, width); a memory map is read row by row.
        device: where batches go.
    """

    images: Images
    device: torch.device

    def __post_init__(self) -> None:
        self._resident: torch.Tensor | None = None
        if self._fits():
            self._resident = torch.from_numpy(np.array(self.images)).to(self.device)

    def _fits(self) -> bool:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return self.images.nbytes <= RESIDENT_SHARE * free
        return self.images.nbytes <= 1 << 30

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: torch.Tensor, on_device: torch.Tensor | None = None) -> torch.Tensor:
        """Images of these rows as uint8 on the device, shape (b, channels, height, width).

        Args:
            rows: on the CPU: reading them from the device would wait for it.
            on_device: the same rows on the device, where they are there already.
        """
        if self._resident is not None:
            return self._resident[rows.to(self.device) if on_device is None else on_device]
        block = torch.from_numpy(np.ascontiguousarray(self.images[rows.numpy()]))
        if self.device.type == "cuda":
            block = block.pin_memory()
        return block.to(self.device, non_blocking=True)

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """All images in order, as floats in [0, 1], in batches."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield to_unit(self.take(rows))


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 images as float32 in [0, 1], channels last."""
    return images.to(torch.float32).div_(255.0).contiguous(memory_format=torch.channels_last)


def augment(
    images: torch.Tensor, positions: torch.Tensor, kinds: tuple[str, ...], seed: int, epoch: int
) -> torch.Tensor:
    """Random flips and shifts, each determined by (seed, epoch, position in the epoch).

    Args:
        images: shape (b, channels, height, width), any dtype.
        positions: place of each example in the epoch's order, int64, shape (b,).
        kinds: any of ``"horizontal_flip"``, ``"shift"``; a shift leaves zeros behind.
        seed: of the cell.
        epoch: from 0.
    """
    height, width = images.shape[-2:]
    if not kinds:
        return images
    rows = torch.arange(height, device=images.device).expand(len(images), -1)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    if "horizontal_flip" in kinds:
        flip = uniform(positions, seed, FLIP, epoch) < 0.5
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    if "shift" in kinds:
        reach = max(1, round(SHIFT_SHARE * width))
        rows = rows + _whole(uniform(positions, seed, SHIFT_ROWS, epoch), reach)[:, None]
        columns = columns + _whole(uniform(positions, seed, SHIFT_COLUMNS, epoch), reach)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    index = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    flat = images.flatten(2)
    moved = flat.gather(2, index.flatten(1)[:, None, :].expand(-1, images.shape[1], -1)).reshape(images.shape)
    return moved * inside[:, None].to(images.dtype)


def _whole(unit: torch.Tensor, reach: int) -> torch.Tensor:
    """Numbers in [0, 1) to whole numbers from -reach to reach."""
    return (unit * (2 * reach + 1)).long() - reach
