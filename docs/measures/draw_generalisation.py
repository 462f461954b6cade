"""Draw docs/measures/generalisation.svg: a biased validation set against a balanced test, for simulated models.

Run it with ``python docs/measures/draw_generalisation.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from simulated import GROUPS, USES, model, save

from robustbench_spur.evaluators.base import Floats, Part, Predictions, Subject
from robustbench_spur.evaluators.generalisation import Generalisation

PATIENTS = 4000
ALIGNED = 0.95
"""Patients of either set, and the share of validation on whom the attribute tells the class."""


def examined(use: float) -> Predictions:
    """What a model says of a balanced test, with what is kept of its validation set."""
    test, validation = model(use, patients=PATIENTS), model(use, seed=1, patients=PATIENTS, aligned=ALIGNED)
    arrays = Generalisation().collect(Subject(test, others={"validation": Part(validation)}))
    return replace(test, arrays=arrays)


def measured(use: float) -> dict[str, Floats]:
    """All gaps on the patients themselves."""
    return Generalisation().measure(examined(use), np.ones((1, PATIENTS)))


def draw(path: Path) -> None:
    """Left, the accuracies of both sets; right, the gap over all and those within the groups."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    details = [Generalisation().details(examined(use)) for use in USES]
    for key, colour in {"validation": "#0072b2", "test": "#d55e00"}.items():
        left.plot(USES, [row[key]["accuracy"] for row in details], "o-", ms=3, color=colour, label=key)
    weight = "weight of the field strength, that of the label is 1.5"
    left.set(xlabel=weight, ylim=(0.5, 1.01), title="Accuracy: validation likes the shortcut")
    left.legend(frameon=False, loc="lower left")
    found = [measured(use) for use in USES]
    within = np.array([[numbers[f"generalisation_gap_at:{name}"][0] for name in GROUPS.names] for numbers in found])
    right.fill_between(USES, within.min(axis=1), within.max(axis=1), color="#cccccc", label="within groups, all four")
    gap = [numbers["generalisation_gap"][0] for numbers in found]
    right.plot(USES, gap, "o-", ms=3, color="black", label="generalisation_gap")
    right.axhline(0, color="black", lw=0.6)
    right.set(xlabel=weight, ylim=(-0.1, 0.4), title="The gap, over all and within groups")
    right.legend(frameon=False, loc="upper left")
    save(figure, path)


if __name__ == "__main__":
    draw(Path(__file__).with_name("generalisation.svg"))
