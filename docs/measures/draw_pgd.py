"""Write ``docs/measures/pgd.svg``: a slice, its change and what comes of it, and accuracy by radius of a linear network.

Run it with ``python docs/measures/draw_pgd.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.pgd import PGD
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.types import Partition

SIZE, TRAIN, TEST, RIDGE = 32, 1500, 400, 30.0
BRIGHTER, LEVELS, SHOWN = 1.6, 48, 130
RADII = tuple(level / 1020 for level in range(1, 13))
"""In quarters of a grey level."""
COLOURS = ("#1b6ca8", "#7fb3d5", "#d1793b", "#8c2d04")


def linear_network(seed: int = 0) -> tuple[Any, NDArray[np.uint8], Partition, Any]:
    """A ridge regression of the phantom's label on its pixels, as a network; test images, their rows, and the groups."""
    import torch

    from robustbench_spur.networks import Classifier

    phantom, rng = Phantom(), np.random.default_rng(seed)
    table = phantom.table("field", 0.95)
    train, test = (
        table.partitions[name].take(np.sort(rng.permutation(len(table.partitions[name].labels))[:count]))
        for name, count in (("train", TRAIN), ("test", TEST))
    )
    seen, images = (np.concatenate(list(phantom.pixels("field", rows, SIZE))) for rows in (train, test))
    pixels = seen.reshape(len(seen), -1) / 255
    mean, wanted = pixels.mean(axis=0), 2.0 * train.labels - 1
    gram = (pixels - mean).T @ (pixels - mean) + RIDGE * np.eye(pixels.shape[1])
    weight = np.linalg.solve(gram, (pixels - mean).T @ wanted)
    model = Classifier(torch.nn.Flatten(), SIZE * SIZE, 2, [0.0], [1.0]).eval().requires_grad_(False)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(np.stack([0 * weight, weight])))
        model.head.bias.copy_(torch.tensor([0.0, wanted.mean() - float(mean @ weight)]))
    return model, images, test, table.groups


def predictions_of(model: Any, images: NDArray[np.uint8], rows: Partition, groups: Any) -> Predictions:
    """What the network says of the images."""
    import torch

    with torch.no_grad():
        logits = model(torch.from_numpy(images).float() / 255).numpy()
    return Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, logits, groups)


def draw(path: Path) -> None:
    """Draw the picture.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "pgd", "svg.fonttype": "none", "font.family": "sans-serif"})
    model, images, rows, groups = linear_network()
    predictions = predictions_of(model, images, rows, groups)
    evaluator = PGD(PGD.Parameters(radii=RADII, headline_radius=RADII[3], examples=TEST))
    arrays = evaluator.collect(Subject(predictions, images, lambda: model))
    curve = evaluator.details(
        Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, predictions.logits, groups, arrays)
    )["curve"]
    figure = plt.figure(figsize=(10, 2.7))
    grid = figure.add_gridspec(1, 5, width_ratios=(1, 1, 1, 0.12, 1.9), wspace=0.08)
    clean = images[SHOWN, 0] / 255
    sign = np.sign(model.head.weight[1].numpy().reshape(SIZE, SIZE)) * (1 - 2 * rows.labels[SHOWN])
    for place, (title, image, low) in enumerate(
        (("a slice", clean, 0.0), ("signs of the change", sign, -1.0), ("2/255 away", (clean + sign * 2 / 255), 0.0))
    ):
        axis = figure.add_subplot(grid[place])
        grey = image if low else np.round(np.clip(BRIGHTER * image, 0, 1) * LEVELS) / LEVELS
        axis.imshow(grey, cmap="gray", vmin=low, vmax=1, interpolation="none")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    axis = figure.add_subplot(grid[4])
    at = [255 * row["radius"] for row in curve]
    for name, colour in zip(groups.names, COLOURS, strict=True):
        axis.plot(at, [row["group_accuracies"][name] for row in curve], color=colour, label=name, linewidth=1.6)
    axis.plot(at, [row["accuracy"] for row in curve], color="black", label="all", linewidth=2)
    axis.set_xlabel("radius, in grey levels of 255", fontsize=9)
    axis.set_title("accuracy under PGD", fontsize=10)
    axis.set_ylim(0, 1.02)
    axis.set_xlim(0, at[-1])
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "pgd.svg")
