"""Write ``docs/measures/counterfactual.svg``: a slice rendered otherwise, and what models of known habits do with it.

Run it with ``python docs/measures/draw_counterfactual.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.counterfactual import Counterfactual
from robustbench_spur.evaluators.lesion_removed import LesionRemoved
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.types import Groups

SIZE, BRIGHTER, LEVELS = 64, 1.6, 48
"""Of the images; fewer grey levels make a smaller file."""
GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
SCENES = {"pixels": "at 3 T", "counterfactual": "at 1.5 T", "without_lesion": "without its lesion"}
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of a simulated model's score is the scanner; the rest is the lesion."""


def logits(lesion: NDArray[Any], scanner: NDArray[Any], weight: float) -> NDArray[Any]:
    """Of a model that weighs lesion and scanner, with noise of its own that stays with the slice; shape (n, 2)."""
    noise = np.random.default_rng(0).normal(size=len(lesion))
    return np.stack([np.zeros(len(lesion)), 4 * ((1 - weight) * lesion + weight * scanner) + noise], axis=1)


def effects(weight: float) -> tuple[float, float]:
    """Effect of the attribute and of the lesion on a simulated model, on 400 slices of four equal groups."""
    group = np.arange(400) % 4
    labels, values, ids = group // 2, group % 2, np.array([f"s{i:03d}" for i in range(400)])
    lesion, scanner = 2.0 * labels - 1, 2.0 * values - 1
    arrays = {
        "counterfactual_logits": logits(lesion, -scanner, weight).astype(np.float32),
        "lesion_removed_logits": logits(-np.ones(400), scanner, weight).astype(np.float32),
    }
    said = logits(lesion, scanner, weight).astype(np.float32)
    predictions, once = Predictions(ids, labels, values, ids, said, GROUPS, arrays, (1, 2)), np.ones((1, 400))
    return (
        float(Counterfactual().measure(predictions, once)["attribute_effect"][0]),
        float(LesionRemoved().measure(predictions, once)["lesion_effect"][0]),
    )


def draw(path: Path) -> None:
    """Draw the picture: on the left a slice and its two changes, on the right the plane of the two effects.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "counterfactual", "svg.fonttype": "none", "font.family": "sans-serif"})
    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    row = test.take(np.flatnonzero((test.labels == 1) & (test.attributes == 0))[[60]])
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), gridspec_kw={"width_ratios": (1, 1, 1, 1.3), "wspace": 0.12})
    for axis, (name, title) in zip(axes, SCENES.items(), strict=False):
        made = getattr(phantom, name)("field", row, SIZE)
        image = np.clip(BRIGHTER * np.concatenate(list(made))[0, 0] / 255, 0, 1)
        axis.imshow(np.round(image * LEVELS) / LEVELS, cmap="gray", vmin=0, vmax=1, interpolation="none")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    plane, points = axes[3], [effects(weight) for weight in WEIGHTS]
    plane.plot(*zip(*points, strict=True), "o-", color="#0072b2")
    for text, place, offset, side in (
        ("the lesion", points[0], 8, "left"),
        ("half and half", points[2], 8, "left"),
        ("the scanner", points[-1], -8, "right"),
    ):
        plane.annotate(text, place, (offset, -3), textcoords="offset points", ha=side, fontsize=9)
    plane.set_title("what a model reads", fontsize=10)
    plane.yaxis.tick_right()
    plane.yaxis.set_label_position("right")
    plane.set(xlim=(-0.08, 1.08), ylim=(-0.08, 1.08), xlabel="attribute_effect", ylabel="lesion_effect")
    plane.grid(color="0.9")
    plane.set_axisbelow(True)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "counterfactual.svg")
