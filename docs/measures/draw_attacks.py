"""Write ``docs/measures/attacks.svg``: one network twice, once as it is and once behind a step that hides its gradient.

Run it with ``python docs/measures/draw_attacks.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from draw_pgd import linear_network, predictions_of

from robustbench_spur.evaluators.attacks import Attacks
from robustbench_spur.evaluators.base import Predictions, Subject

RADII = tuple(level / 255 for level in (0.5, 1, 2, 3, 4, 6, 8))
STYLES = {"fgsm": ("#7fb3d5", "--"), "pgd": ("#1b6ca8", "-"), "square": ("#d1793b", "-"), "auto": ("black", ":")}
GREY_STEPS = 12
"""What is left of 256 grey levels behind the step."""


def behind_a_step(model: Any) -> Any:
    """The network on rounded images: rounding has a gradient of 0 everywhere."""
    import torch

    class Rounded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.model((images * GREY_STEPS).round() / GREY_STEPS)
            return said

    return Rounded().eval()


def draw(path: Path) -> None:
    """Draw the picture.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "attacks", "svg.fonttype": "none", "font.family": "sans-serif"})
    plain, images, rows, groups = linear_network()
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True, gridspec_kw={"wspace": 0.08})
    for axis, title, model in zip(
        axes, ("as it is", f"behind {GREY_STEPS} grey steps"), (plain, behind_a_step(plain)), strict=True
    ):
        known = predictions_of(model, images, rows, groups)
        settings = {"radii": RADII, "headline_radius": RADII[1], "examples": 200, "queries": 2000}
        evaluator = Attacks(Attacks.Parameters(attacks=tuple(STYLES), **settings))
        arrays = evaluator.collect(Subject(known, images, lambda model=model: model))
        attacked = Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, known.logits, groups, arrays)
        details = evaluator.details(attacked)
        print(title, *(f"{row['check']}: {row['passed']}, {row['said']}" for row in details["checks"]), sep="\n  ")
        for name, (colour, line) in STYLES.items():
            curve = details["curves"][name]
            at, accuracy = [255 * row["radius"] for row in curve], [row["accuracy"] for row in curve]
            axis.plot(at, accuracy, color=colour, linestyle=line, label=name, linewidth=2)
        failed = ", ".join(row["check"] for row in details["checks"] if row["passed"] is False)
        axis.set_title(f"{title}\n{f'failed: {failed}' if failed else 'checks passed'}", fontsize=9)
        axis.set_xlabel("radius, in grey levels of 255", fontsize=9)
        axis.set_xlim(0, 255 * RADII[-1])
        axis.set_ylim(0, 1.02)
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].set_ylabel("accuracy under attack", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    draw(Path(__file__).parent / "attacks.svg")
