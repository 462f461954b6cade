"""Write ``docs/measures/localisation.svg``: where two small networks look, one trained with a shortcut and one without.

Run it with ``python docs/measures/draw_localisation.py``; it trains both, which takes about two minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur import relevance, saliency
from robustbench_spur.splits.phantom import Phantom

SIZE, EPOCHS, SHOWN = 64, 8, (260, 440, 611)
MODELS = {0.5: "trained without a shortcut", 0.95: "trained with one (rho 0.95)"}
METHODS = ("Grad-CAM", "integrated gradients")


def trained(phantom: Phantom, rho: float) -> Any:
    """A small network trained on the phantom's field strengths at a rho; the same whenever it is trained on one machine."""
    import torch

    from robustbench_spur.feeding import to_unit
    from robustbench_spur.networks import build

    rows = phantom.table("field", rho).partitions["train"]
    images = torch.from_numpy(np.concatenate(list(phantom.pixels("field", rows, SIZE))))
    labels, order = torch.from_numpy(rows.labels), np.random.default_rng(0)
    mean, std = float(images.float().mean() / 255), float(images.float().std() / 255)
    network = {"backbone": "smallcnn", "channels": 1, "seed": 0, "pretrained": False, "mean": [mean], "std": [std]}
    model = build(network, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(EPOCHS):
        shuffled = torch.from_numpy(order.permutation(len(images)))
        for batch in shuffled[: len(images) // 64 * 64].split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(to_unit(images[batch])), labels[batch]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def coloured(image: np.ndarray, heat: np.ndarray | None) -> np.ndarray:
    """A slice as RGB in [0, 1], with relevance (grey levels) in red over it; few levels make a small file."""
    grey = np.round(np.minimum(1, image / 160) * 32)[..., None] / 32
    if heat is None:
        return np.repeat(grey, 3, axis=2)
    opacity = np.round(np.sqrt(heat / 255) * 16)[..., None] / 16
    return grey * (1 - opacity) + np.array([1.0, 0.1, 0.0]) * opacity


def draw(path: Path) -> None:
    """Draw the picture: a row for each slice, a column for each network and method.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl
    import torch
    from matplotlib import pyplot as plt

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "localisation", "svg.fonttype": "none", "font.family": "sans-serif"})
    torch.set_num_threads(1)
    phantom = Phantom()
    test = phantom.table("field", 0.5).partitions["test"]
    rows = test.take(np.flatnonzero(test.labels == 1)[list(SHOWN)])
    images = np.concatenate(list(phantom.pixels("field", rows, SIZE)))
    masks = np.concatenate(list(phantom.lesion_masks("field", rows, SIZE)))[:, 0]
    unit, true = torch.from_numpy(images.astype(np.float32) / 255), torch.ones(len(images), dtype=torch.long)
    columns, titles = [None], ["slice and lesion"]
    for rho, name in MODELS.items():
        model = trained(phantom, rho)
        last, _ = saliency.last_maps(model, unit)
        maps = (
            saliency.grad_cam(model, last, unit, true),
            saliency.integrated_gradients(model, unit, true, steps=32),
        )
        said = model(unit).softmax(1)[:, 1]
        columns += [(one, said) for one in maps]
        titles += [f"{method},\n{name}" for method in METHODS]
    figure, axes = plt.subplots(
        len(images), len(columns), figsize=(10.5, 6.6), gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    for row, line in enumerate(axes):
        for axis, column, title in zip(line, columns, titles, strict=True):
            heat = None if column is None else relevance.levels_of(column[0][row])
            axis.imshow(coloured(images[row, 0], heat), interpolation="none")
            axis.contour(masks[row], levels=[0.5 * masks[row].max()], colors="#2ecc71", linewidths=0.9)
            axis.set_xticks([])
            axis.set_yticks([])
            if not row:
                axis.set_title(title, fontsize=8.5)
            if column is not None:
                axis.text(2, 61, f"P(tumour) {column[1][row]:.2f}", color="white", fontsize=7.5)
        line[0].set_ylabel(f"{rows.extra['field_strength'][row]:g} T", fontsize=9)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("localisation.svg"))
