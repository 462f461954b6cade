"""Draw docs/measures/encoding.svg: classifiers on the same features, which use more and more of what these encode.

Run it with ``python docs/measures/draw_encoding.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from robustbench_spur.erasing import fit_eraser
from robustbench_spur.evaluators.base import Floats, Predictions, Subject
from robustbench_spur.evaluators.encoding import Encoding
from robustbench_spur.types import Groups

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "path"}
LABEL, ATTRIBUTE = 1.2, 2.0
"""Distance of the means from 0, in standard deviations of the noise."""
REACH = 8.0
GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
COLOURS = {"clear@3T": "#0072b2", "clear@1.5T": "#56b4e9", "tumour@3T": "#d55e00", "tumour@1.5T": "#e69f00"}


class Linear(nn.Module):
    """Images of two pixels are the features; the margin is the first and ``use`` times the second."""

    def __init__(self, use: float) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0, -use], [1.0, use]]) / 2)
            self.head.bias.zero_()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels from 0 to 1 as numbers from -REACH to REACH."""
        return (images.flatten(1) * 2 - 1) * REACH


def simulated(use: float, seed: int = 0) -> tuple[Floats, Predictions]:
    """Features of 400 patients, two slices each, and what a classifier says of them and collects."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(400), 2)
    labels, values = patient % 2, patient // 2 % 2
    means = np.stack([LABEL * (2 * labels - 1), ATTRIBUTE * (2 * values - 1)], axis=1)
    grey = np.clip(np.round(((means + rng.normal(size=means.shape)) / REACH + 1) * 127.5), 0, 255).astype(np.uint8)
    images, model = grey[:, None, None, :], Linear(use)
    with torch.no_grad():
        points = model.features(torch.from_numpy(grey).float() / 255)
        logits = model.head(points).numpy()
    ids, clusters = np.array([f"s{i:04d}" for i in range(800)]), np.array([f"p{i:04d}" for i in patient])
    predictions = Predictions(ids, labels, values, clusters, logits, GROUPS)
    arrays = Encoding().collect(Subject(predictions, images, lambda: model))
    return points.double().numpy(), replace(predictions, arrays=arrays)


def plane(axes: Any) -> None:
    """The features, the line at which a classifier that uses both decides, and where a point goes without the attribute."""
    points, predictions = simulated(0.8)
    for name, colour in COLOURS.items():
        rows = predictions.group == GROUPS.names.index(name)
        axes.scatter(*points[rows].T, s=4, color=colour, label=name, linewidths=0, alpha=0.7)
    x = np.array([-4.5, 4.5])
    axes.plot(x, -x / 0.8, color="black", lw=1, label="decides here")
    erased = fit_eraser(points, predictions.attributes, predictions.labels)
    for start in ((LABEL, -ATTRIBUTE), (-LABEL, ATTRIBUTE)):
        end = erased(np.array([start]))[0]
        arrow = {"arrowstyle": "->", "lw": 1.8, "color": "black"}
        axes.annotate("", xy=tuple(end), xytext=start, arrowprops=arrow)
    axes.set(
        xlim=(-4.5, 4.5), ylim=(-5, 8.5), xlabel="feature that tells the label", ylabel="feature that tells the field"
    )
    axes.set_title("Without the attribute, points cross the line")
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2, markerscale=3, handletextpad=0.3)


def curves(axes: Any) -> None:
    """Encoding, alignment and effect by how much the classifier uses."""
    uses = np.linspace(0, 1.2, 9)
    names = {"attribute_encoding": "#999999", "probe_alignment": "#0072b2", "projection_effect": "#d55e00"}
    ones = np.ones((1, 400))
    found = [Encoding().measure(simulated(use)[1], ones) for use in uses.tolist()]
    for name, colour in names.items():
        axes.plot(uses, [numbers[name][0] for numbers in found], "o-", ms=3, color=colour, label=name)
    axes.set(
        xlabel="weight of the field's feature, that of the label's is 1",
        ylim=(-0.05, 1.05),
        title="Encoding is not use",
    )
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.92))


def draw(path: Path) -> None:
    """Write the picture as SVG; the same bytes each time with one version of matplotlib."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    plane(axes[0])
    curves(axes[1])
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("encoding.svg"))
