"""Draw docs/measures/recalibration.svg: what each scaling leaves at each field strength, where validation has mostly one.

Run it with ``python docs/measures/draw_recalibration.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from scipy.special import expit

from robustbench_spur.calibration.scaling import MAPS
from robustbench_spur.evaluators.base import Floats, Part, Predictions, Subject
from robustbench_spur.evaluators.recalibration import BEFORE, Recalibration
from robustbench_spur.types import Groups

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "path"}
COLOURS = {"all": "0.35", "3T": "#0072b2", "1.5T": "#d55e00"}
SLOPES = (2.5, 1.0)
"""By how much logits are too large at 3 T and at 1.5 T: the model is overconfident at 3 T alone."""


def simulated(patients: int, share: float, seed: int) -> Predictions:
    """Six slices a patient, of which ``share`` were imaged at 3 T."""
    rng = np.random.default_rng(seed)
    value = np.repeat((rng.random(patients) >= share).astype(np.int64), 6)
    margin: Floats = rng.normal(0, 1.5, 6 * patients)
    labels = (rng.random(6 * patients) < expit(margin)).astype(np.int64)
    logits = np.stack([0 * margin, np.array(SLOPES)[value] * margin], axis=1).astype(np.float32)
    ids = np.array([f"s{i:05d}" for i in range(len(value))])
    clusters = np.array([f"p{i:05d}" for i in np.arange(len(value)) // 6])
    return Predictions(
        ids, labels, value, clusters, logits, Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    )


def numbers() -> dict[str, float]:
    """Every metric on 600 test patients, half at each field strength; validation has 300, of which 95 % at 3 T."""
    validation, test = simulated(300, 0.95, 0), simulated(600, 0.5, 1)
    evaluator = Recalibration()
    arrays = evaluator.collect(Subject(test, others={"validation": Part(validation)}))
    values = evaluator.measure(replace(test, arrays=arrays), np.ones((1, len(test.patients))))
    return {name: float(value[0]) for name, value in values.items()}


def draw(path: Path) -> None:
    """Write the picture."""
    from matplotlib import pyplot

    found, names = numbers(), (BEFORE, *MAPS)
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    for place, (who, colour) in enumerate(COLOURS.items()):
        keys = [f"recalibrated_ece:{name}" if who == "all" else f"recalibrated_ece_at:{name}:{who}" for name in names]
        axes.bar(
            np.arange(len(names)) + 0.26 * (place - 1), [found[key] for key in keys], 0.24, color=colour, label=who
        )
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="top-label ECE on test", title="Fitted on a validation set with 95 % of its patients at 3 T")
    axes.legend(frameon=False, ncols=3)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("recalibration.svg"))
