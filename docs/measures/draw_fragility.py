"""Write ``docs/measures/fragility.svg``: where PGD's change lies, of a network that reads lesions and one that reads the air.

Run it with ``python docs/measures/draw_fragility.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.attack import Ball
from robustbench_spur.attack.pursuit import pursue
from robustbench_spur.splits.phantom import Phantom

SIZE, BRIGHTER, LEVELS, SLICES, RADIUS, STEPS = 64, 1.6, 48, (60, 200, 333), 0.5, 10
"""Of the images; fewer grey levels make a smaller file."""
SHARPNESS = 60.0
"""How far the brightest spot outweighs the next."""


def readers() -> dict[str, Any]:
    """Two networks made by hand: by the brightest spot of a lesion's size, and by the mean of the upper corners, the air."""
    import torch

    class Spots(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            fine, coarse = (
                torch.nn.functional.avg_pool2d(images, size, 1, size // 2, count_include_pad=False) for size in (3, 15)
            )
            return said(40 * (SHARPNESS * (fine - coarse)).flatten(1).logsumexp(dim=1) / SHARPNESS - 6)

    class Air(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return said(40 * torch.cat([images[:, 0, :6, :12], images[:, 0, :6, -12:]], dim=2).mean((1, 2)))

    def said(score: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(score), score], dim=1)

    return {"reads spots": Spots(), "reads the air": Air()}


def draw(path: Path) -> None:
    """Draw the picture: a column for each of three patients.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    import torch
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "fragility", "svg.fonttype": "none", "font.family": "sans-serif"})
    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    rows = test.take(np.flatnonzero(test.labels == 1)[list(SLICES)])
    images = np.concatenate(list(phantom.pixels("field", rows, SIZE)))[:, 0] / 255
    lesions = np.concatenate(list(phantom.lesion_masks("field", rows, SIZE)))[:, 0]
    clean, labels = torch.from_numpy(images[:, None]).float(), torch.from_numpy(rows.labels)
    figure, axes = plt.subplots(3, len(SLICES), figsize=(6.4, 6.6), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for axis, image in zip(axes[0], images, strict=True):
        axis.imshow(np.round(np.clip(BRIGHTER * image, 0, 1) * LEVELS) / LEVELS, cmap="gray", vmin=0, vmax=1)
    for line, model in zip(axes[1:], readers().values(), strict=True):
        found = pursue(
            model,
            clean,
            labels,
            Ball("l2", RADIUS),
            length=2.5 * RADIUS / STEPS,
            steps=STEPS,
            random_start=False,
            drop=False,
        )
        change = np.abs((found.images - clean).detach().numpy()[:, 0])
        for axis, one, lesion in zip(line, change, lesions, strict=True):
            axis.imshow(np.round(one / one.max() * LEVELS) / LEVELS, cmap="magma", vmin=0, vmax=1)
            share = float((lesion * one**2).sum() / (one**2).sum())
            said = f"{share:.2f} of the energy, ratio {share / lesion.mean():.1f}"
            axis.text(2, 61, said, color="white", fontsize=7)
    for axis, lesion in zip(axes.T.ravel(), np.repeat(lesions, 3, axis=0), strict=True):
        axis.contour(lesion, levels=[0.5], colors="#39c6f0", linewidths=0.8)
        axis.set_xticks([])
        axis.set_yticks([])
    for line, name in zip(axes, ("a slice, and its lesion", *readers()), strict=True):
        line[0].set_ylabel(name, fontsize=10)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "fragility.svg")
