"""How often intervals of calibration errors hold the truth, in simulations with patients of six slices each.

Run it with ``python benchmarks/ece_coverage.py``. Prints Markdown rows for docs/measures/ece.md; takes about three minutes on
one core. A patient's slices share half of the variance of what makes their logits, and of what makes their labels; logits are
``slope`` times calibrated ones (1 is calibrated), at one of two attribute values perhaps another slope than at the other.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from robustbench_spur.calibration.bins import bin_index
from robustbench_spur.calibration.gaps import Gaps
from robustbench_spur.evaluators.base import Floats, Metric
from robustbench_spur.statistics import estimate, resample_counts

BINS, SLICES, SHARE = 15, 6, 0.5
SIMULATIONS, RESAMPLINGS, SIGNS = 1000, 500, 199
SLOPES = ((1.0, 1.0), (1.2, 1.2), (2.0, 2.0), (1.0, 2.0))
METRICS = {
    "ece": Metric("", interval="basic"),
    "debiased": Metric(""),
    "ece gap": Metric("", low=-1.0, interval="basic"),
    "debiased gap": Metric("", low=-1.0),
}


Drawn = tuple[Floats, NDArray[np.bool_], Floats, NDArray[np.int64]]


def draw(rng: np.random.Generator, patients: int, slopes: tuple[float, float]) -> Drawn:
    """Confidences, whether they were right, the probability of being right, and attribute codes, each (patients, slices)."""
    own, shared = rng.normal(size=(2, patients, SLICES)), rng.normal(size=(2, patients, 1))
    cause, luck = math.sqrt(SHARE) * shared + math.sqrt(1 - SHARE) * own
    # every patient belongs to one value: a scanner
    value = np.repeat(np.arange(patients, dtype=np.int64)[:, None] % 2, SLICES, axis=1)
    true, stated = expit(1.5 * cause), expit(np.array(slopes)[value] * 1.5 * cause)
    label, says = ndtr(luck) < true, stated >= 0.5
    return np.where(says, stated, 1 - stated), label == says, np.where(says, true, 1 - true), value


def gaps(confidence: Floats, right: NDArray[np.bool_], rows: NDArray[np.bool_]) -> Gaps:
    """Sums per patient of the slices of a mask."""
    patient = np.repeat(np.arange(len(rows)), SLICES)[rows.ravel()]
    sure, outcome = confidence[rows], right[rows]
    return Gaps.of(sure, outcome, bin_index(sure, BINS), BINS, patient, len(rows))


def numbers(
    confidence: Floats, right: NDArray[np.bool_], value: NDArray[np.int64], counts: Floats
) -> dict[str, Floats]:
    """The point estimate of each metric, in the first place, and its resampled values."""
    counts = np.concatenate([np.ones((1, len(value))), counts])
    whole, parts = gaps(confidence, right, value >= 0), [gaps(confidence, right, value == code) for code in (0, 1)]
    out = {"ece": whole.mean(counts), "debiased": whole.debiased(counts)}
    for name, kind in (("ece", Gaps.mean), ("debiased", Gaps.debiased)):
        difference = kind(parts[1], counts) - kind(parts[0], counts)
        out[f"{name} gap"] = difference if difference[0] >= 0 else -difference
    return out


def truth(slopes: tuple[float, float]) -> dict[str, float]:
    """The same of very many patients, with the probability of being right in place of whether they were."""
    confidence, _, chance, value = draw(np.random.default_rng(1), 300_000, slopes)
    found = {}
    for name, rows in (("all", value >= 0), ("0", value == 0), ("1", value == 1)):
        index, gap = bin_index(confidence[rows], BINS), (confidence - chance)[rows]
        number, total = np.bincount(index, minlength=BINS), np.bincount(index, gap, minlength=BINS)
        found[name] = (
            np.abs(total).sum() / number.sum(),
            math.sqrt((total**2 / np.maximum(number, 1)).sum() / number.sum()),
        )
    out = {"ece": found["all"][0], "debiased": found["all"][1]}
    return out | {f"{name} gap": abs(found["1"][k] - found["0"][k]) for k, name in enumerate(("ece", "debiased"))}


def covered(
    slopes: tuple[float, float], patients: int, true: dict[str, float]
) -> dict[str, tuple[float, float, float]]:
    """For each metric its mean, the share of intervals that hold the truth, and the share that hold zero."""
    rng, counts = np.random.default_rng(patients), resample_counts(patients, RESAMPLINGS, 0)
    mean: dict[str, list[float]] = defaultdict(list)
    holds: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for _ in range(SIMULATIONS):
        confidence, right, _, value = draw(rng, patients, slopes)
        p_value = gaps(confidence, right, value >= 0).p_value(SIGNS)
        mean["p"].append(p_value)
        holds["p"].append((p_value > 0.05, p_value > 0.05))
        for name, values in numbers(confidence, right, value, counts).items():
            interval = estimate(METRICS[name], float(values[0]), values[1:])
            mean[name].append(float(values[0]))
            low, high = interval.low or 0.0, interval.high if interval.high is not None else 1.0
            target = true[name] if true[name] > 1e-3 else 0.0
            holds[name].append((low <= target <= high, low <= 0 <= high))
    return {name: (float(np.mean(mean[name])), *np.mean(holds[name], axis=0).tolist()) for name in mean}


def main() -> None:
    """Print the table."""
    print("| slopes | patients | metric | truth | mean | holds the truth | holds zero |")
    print("|---|---|---|---|---|---|---|")
    for slopes in SLOPES:
        true = truth(slopes)
        for patients in (60, 200, 600):
            for name, (mean, holds, zero) in covered(slopes, patients, true).items():
                shown = (
                    f"{slopes[0]:g}, {slopes[1]:g} | {patients} | {name} | {true.get(name, math.nan):.3f} | {mean:.3f}"
                )
                print(f"| {shown} | {100 * holds:.1f} % | {100 * zero:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
