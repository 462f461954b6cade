"""Draw docs/measures/fairness.svg: where the errors of simulated models are, and the gaps that this makes.

Run it with ``python docs/measures/draw_fairness.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from simulated import COLOURS, USES, model, save

from robustbench_spur.evaluators.fairness import Fairness


def draw(path: Path) -> None:
    """Left, the shares of errors of three models; right, the numbers by how much a model uses the attribute."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    columns = {"slices": 0.0, "errors,\nuses nothing": 0.0, "errors,\nuses some": 0.5, "errors,\nuses much": 1.0}
    below = np.zeros(len(columns))
    tables = [Fairness().details(model(use))["errors"] for use in columns.values()]
    for g, (name, colour) in enumerate(COLOURS.items()):
        keys = ["share_of_examples", *["share_of_errors"] * 3]
        shares = np.array([table[g][key] for table, key in zip(tables, keys, strict=True)])
        hatch = "//" if tables[0][g]["conflict"] else None
        left.bar(columns.keys(), shares, bottom=below, color=colour, label=name, hatch=hatch, edgecolor="white")
        below += shares
    left.set(ylim=(0, 1.32), ylabel="share", title="Where errors are (hatched: in conflict)")
    left.set_yticks(np.linspace(0, 1, 6))
    left.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    found = [Fairness().measure(model(use), np.ones((1, 400))) for use in USES]
    shown = {"conflict_error_excess": "#d55e00", "equalised_odds": "#0072b2", "accuracy_gap": "#999999"}
    for name, colour in shown.items():
        right.plot(USES, [numbers[name][0] for numbers in found], "o-", ms=3, color=colour, label=name)
    right.set(xlabel="weight of the field strength, that of the label is 1.5", ylim=(-0.1, 0.8), title="What shows it")
    right.legend(frameon=False, loc="upper left")
    save(figure, path)


if __name__ == "__main__":
    draw(Path(__file__).with_name("fairness.svg"))
