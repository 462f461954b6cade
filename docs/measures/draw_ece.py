"""Draw docs/measures/ece.svg: what one error over all examples hides, and what noise makes of it.

Run it with ``python docs/measures/draw_ece.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.special import expit

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.types import Groups

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "path"}
COLOURS = {"3T": "#0072b2", "1.5T": "#d55e00"}
SLOPES = {"3T": 0.6, "1.5T": 1.8}


def simulated(patients: int, slopes: tuple[float, float], seed: int) -> Predictions:
    """Six slices a patient; logits are so many times calibrated ones at 3 T and at 1.5 T."""
    rng = np.random.default_rng(seed)
    value = np.repeat(np.arange(patients) % 2, 6)
    margin: Floats = rng.normal(0.8, 1.5, 6 * patients)
    labels = (rng.random(6 * patients) < expit(margin)).astype(np.int64)
    logits = np.stack([0 * margin, np.array(slopes)[value] * margin], axis=1).astype(np.float32)
    ids, clusters = (
        np.array([f"{prefix}{i:05d}" for i in at])
        for prefix, at in (("s", range(len(value))), ("p", np.arange(len(value)) // 6))
    )
    return Predictions(
        ids, labels, value, clusters, logits, Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    )


def reliability(axes: Any, predictions: Predictions) -> None:
    """Accuracy by confidence in bins of equal mass, at each value and over all."""
    details = Calibration(Calibration.Parameters(bins=8)).details(predictions)
    numbers = Calibration().measure(predictions, np.ones((1, len(predictions.patients))))
    axes.plot([0.5, 1], [0.5, 1], color="0.6", lw=1)
    lines = {value: details["reliability_mass_at"][value] for value in COLOURS} | {"all": details["reliability_mass"]}
    for name, rows in lines.items():
        error = numbers["ece" if name == "all" else f"ece_at:{name}"][0]
        points = [(row["confidence"], row["accuracy"]) for row in rows if row["count"]]
        style = {"color": COLOURS.get(name, "black"), "ls": "-" if name in COLOURS else "--", "marker": "o", "ms": 3}
        axes.plot(*zip(*points, strict=True), label=f"{name}: ece {error:.3f}", **style)
    axes.set(xlabel="mean confidence of a bin", ylabel="accuracy", title="One value hides the other", xlim=(0.48, 1.02))
    axes.legend(frameon=False, loc="upper left")


def noise(axes: Any) -> None:
    """Errors of a calibrated model by number of patients: means and the middle 90 % of 60 draws."""
    sizes = (30, 60, 120, 250, 500)
    for name, colour in (("ece", "#d55e00"), ("ece_debiased", "#0072b2")):
        found = np.array([[_error(name, size, seed) for seed in range(60)] for size in sizes])
        axes.plot(sizes, found.mean(axis=1), marker="o", ms=3, color=colour, label=f"{name}, mean")
        axes.fill_between(sizes, *np.quantile(found, [0.05, 0.95], axis=1), color=colour, alpha=0.2, lw=0)
    axes.axhline(0, color="0.6", lw=1)
    axes.set(xscale="log", xlabel="patients, six slices each", ylabel="error", title="A perfectly calibrated model")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False)


def _error(name: str, patients: int, seed: int) -> float:
    predictions = simulated(patients, (1.0, 1.0), seed)
    return float(Calibration().measure(predictions, np.ones((1, patients)))[name][0])


def draw(path: Path) -> None:
    """Write the picture."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    reliability(left, simulated(600, (SLOPES["3T"], SLOPES["1.5T"]), 0))
    noise(right)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("ece.svg"))
