"""Draw docs/measures/shortcut_testing.svg: encoding and unfairness of networks that were trained with a shortcut and without.

Run it with ``python docs/measures/draw_shortcut_testing.py``; it takes half a minute.
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

from robustbench_spur.evaluators.base import Part, Predictions, Subject
from robustbench_spur.evaluators.shortcut_testing import ShortcutTesting
from robustbench_spur.types import Groups

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "path"}
LABEL, ATTRIBUTE, WIDTH, REACH = 1.2, 2.0, 6, 8.0
GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))


class Linear(nn.Module):
    """Images of six pixels are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]) * (torch.arange(WIDTH) < 2))
            self.head.bias.zero_()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels from 0 to 1 as numbers from -REACH to REACH."""
        return (images.flatten(1) * 2 - 1) * REACH


def part(model: Linear, patients: int, rho: float, seed: int) -> Part:
    """Two slices a patient; the share ``rho`` of the patients of a class has the attribute value of the class's code."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    labels = patient % 2
    values = np.where((patient // 2 % 20) < round(20 * rho), labels, 1 - labels)
    points = rng.normal(size=(len(patient), WIDTH))
    points[:, 0] += LABEL * (2 * labels - 1)
    points[:, 1] += ATTRIBUTE * (2 * values - 1)
    images = np.clip(np.round((points / REACH + 1) * 127.5), 0, 255).astype(np.uint8)[:, None, None, :]
    with torch.no_grad():
        logits = model.head(model.features(torch.from_numpy(images).float() / 255)).numpy()
    ids, clusters = np.array([f"s{i:05d}" for i in range(len(patient))]), np.array([f"p{i:05d}" for i in patient])
    return Part(Predictions(ids, labels, values, clusters, logits, GROUPS), images)


def networks(axes: Any, rho: float, title: str) -> Any:
    """Encoding and unfairness of every network, coloured by its scaling."""
    model = Linear()
    test = part(model, 400, 0.5, 3)
    others = {"train": part(model, 1000, rho, 1), "validation": part(model, 200, rho, 2)}
    evaluator = ShortcutTesting()
    arrays = evaluator.collect(Subject(test.predictions, test.images, lambda: model, others=others))
    predictions = replace(test.predictions, arrays=arrays)
    details = evaluator.details(predictions)
    numbers = evaluator.measure(predictions, np.ones((1, len(predictions.patients))))
    counted = [one for one in details["networks"] if one["counted"]]
    place = {scaling: at for at, scaling in enumerate(evaluator.parameters.scalings)}
    shown = axes.scatter(
        [one["encoding"] for one in counted],
        [one["unfairness"] for one in counted],
        c=[place[one["scaling"]] for one in counted],
        cmap="coolwarm",
        vmin=0,
        vmax=len(place) - 1,
        s=16,
        linewidths=0.3,
        edgecolors="black",
    )
    for bound in details["encoding_bounds"].values():
        axes.axvline(bound, color="0.6", lw=1, ls=":")
    p = numbers["shortcut_p"][0]
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2f}"
    axes.set(
        xlim=(0.46, 1.02),
        ylim=(-0.03, 0.9),
        xlabel="encoding of the attribute (AUROC)",
        ylabel="unfairness (equalised odds)",
    )
    axes.set_title(f"{title}: rho = {numbers['shortcut_rho'][0]:.2f}, {chance}")
    return shown


def draw(path: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    networks(axes[0], 0.95, "Tied in training")
    shown = networks(axes[1], 0.5, "Not tied")
    scalings = ShortcutTesting().parameters.scalings
    bar = figure.colorbar(shown, ax=axes, ticks=range(0, len(scalings), 2))
    bar.set_ticklabels([f"{scaling:g}" for scaling in scalings[::2]])
    bar.set_label("scaling of the branch's gradient")
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("shortcut_testing.svg"))
