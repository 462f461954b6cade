"""Draw docs/measures/intervals.svg: intervals over slices and over patients, and intervals of a minimum.

Run it with ``python docs/measures/draw_intervals.py``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from robustbench_spur.evaluators.base import Floats
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.intervals import estimate, minimum
from robustbench_spur.statistics import resample_counts

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "robustbench-spur", "font.size": 9, "svg.fonttype": "path"}
ACCURACY = Metric("accuracy")
PATIENTS, SLICES, TRUTH = 40, 20, 0.7
PATIENT, SLICE, GREY = "#0072b2", "#d55e00", "0.6"


def shares(rng: np.random.Generator, groups: int) -> Floats:
    """Share of right slices of each patient, shape (groups, patients): patients differ in difficulty, groups do not."""
    easy = rng.beta(2 * TRUTH, 2 * (1 - TRUTH), (groups, PATIENTS))
    return np.asarray(rng.binomial(SLICES, easy) / SLICES)


def both_kinds(axes: Any) -> None:
    """Both intervals on twenty test sets of one model."""
    rng, counts = np.random.default_rng(6), resample_counts(PATIENTS, 2000, 0)
    missed = {PATIENT: 0, SLICE: 0}
    for row in range(20):
        (own,) = shares(rng, 1)
        value = float(own.mean())
        found = estimate(ACCURACY, value, counts @ own / PATIENTS, patients=PATIENTS)
        reach = 1.96 * math.sqrt(value * (1 - value) / (PATIENTS * SLICES))
        ends = {PATIENT: (float(found.low or 0), float(found.high or 0)), SLICE: (value - reach, value + reach)}
        for colour, (low, high) in ends.items():
            inside = low <= TRUTH <= high
            missed[colour] += not inside
            style = "-" if inside else ":"
            axes.plot([low, high], 2 * [row + (0.2 if colour == SLICE else -0.2)], color=colour, lw=1.8, ls=style)
    for colour, name in ((PATIENT, "over patients"), (SLICE, "over slices")):
        axes.plot([], [], color=colour, lw=1.8, label=f"{name}: {missed[colour]} of 20 miss")
    axes.axvline(TRUTH, color=GREY, lw=1)
    axes.set(
        xlabel="accuracy",
        ylabel="test set",
        yticks=[],
        xlim=(0.48, 0.92),
        ylim=(-1, 25),
        title="40 patients of 20 slices",
    )
    axes.legend(frameon=False, loc="upper right")


def minima(axes: Any) -> None:
    """How often three intervals hold the lowest true accuracy, by the number of groups that are alike."""
    numbers, times = (1, 2, 3, 4, 6, 8), 400
    names = {"intervals.minimum": PATIENT, "of the group found worst": "#009e73", "quantiles of the minimum": SLICE}
    hits = {name: np.zeros(len(numbers)) for name in names}
    for place, groups in enumerate(numbers):
        rng = np.random.default_rng(groups)
        apart = [resample_counts(PATIENTS, 500, group) for group in range(groups)]
        for _ in range(times):
            own = shares(rng, groups)
            points = own.mean(axis=1)
            spread = np.stack([apart[g] @ own[g] / PATIENTS for g in range(groups)], axis=1)
            worst = int(points.argmin())
            low, high = np.quantile(spread.min(axis=1), [0.025, 0.975])
            ends = {
                "intervals.minimum": minimum(ACCURACY, points, spread, patients=[PATIENTS] * groups),
                "of the group found worst": estimate(ACCURACY, points[worst], spread[:, worst], patients=PATIENTS),
            }
            for name, one in ends.items():
                hits[name][place] += float(one.low or 0) <= TRUTH <= float(one.high or 0)
            hits["quantiles of the minimum"][place] += low <= TRUTH <= high
    for name, colour in names.items():
        axes.plot(numbers, 100 * hits[name] / times, marker="o", ms=3, color=colour, label=name)
    axes.axhline(95, color=GREY, lw=1)
    axes.set(
        xlabel="groups, all 70 % right", ylabel="intervals that hold the truth, %", title="The worst of several groups"
    )
    axes.set(ylim=(0, 104), xticks=numbers)
    axes.legend(frameon=False, loc="lower left")


def draw(path: Path) -> None:
    """Write the picture."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    both_kinds(left)
    minima(right)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("intervals.svg"))
