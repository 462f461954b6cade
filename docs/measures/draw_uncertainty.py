"""Draw docs/measures/uncertainty.svg: risk and coverage by group, of a simulated model that relies on the attribute.

Run it with ``python docs/measures/draw_uncertainty.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from simulated import COLOURS, GROUPS, USES, model, save

from robustbench_spur.evaluators.uncertainty import Uncertainty


def draw(path: Path) -> None:
    """Left, the curves of one model; right, the numbers by how much the model uses the attribute."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    details = Uncertainty().details(model(1.0))
    for name, colour in {"all": "black", **COLOURS}.items():
        curve = details["curve"] if name == "all" else details["curves_at"][name]
        coverage, risk = ([row[key] for row in curve] for key in ("coverage", "risk"))
        left.plot(coverage, risk, color=colour, lw=2 if name == "all" else 1.2, label=name)
    left.set(xlabel="coverage (share accepted, surest first)", ylabel="risk (share of errors)", ylim=(-0.02, 0.5))
    left.set_title("A model that uses the field strength")
    left.legend(frameon=False, fontsize=8)
    found = [Uncertainty().measure(model(use), np.ones((1, 400))) for use in USES]
    shown = {"failure_auroc:max_probability": "#009e73", "aurc:max_probability": "black"}
    shown |= {f"aurc_at:{GROUPS.names[1]}": COLOURS[GROUPS.names[1]]}
    for name, colour in shown.items():
        right.plot(USES, [numbers[name][0] for numbers in found], "o-", ms=3, color=colour, label=name)
    right.set(xlabel="weight of the field strength, that of the label is 1.5", ylim=(-0.02, 1.3), title="What shows it")
    right.set_yticks(np.linspace(0, 1, 6))
    right.legend(frameon=False, fontsize=8, loc="upper left")
    save(figure, path)


if __name__ == "__main__":
    draw(Path(__file__).with_name("uncertainty.svg"))
