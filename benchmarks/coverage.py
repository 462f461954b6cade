"""How often intervals contain the truth: simulated patients, as many and as alike as those of SpurBreast's test set.

Run it with ``python benchmarks/coverage.py``. Prints Markdown rows for benchmarks/README.md; takes about two minutes on one
core. Patients have slices of both classes at one attribute value, as many as a log-normal variable says (median 18, mean 22
of each class); how likely a slice is right depends on the patient by a probit model, so that the variance of a group's
accuracy is about ten times that of independent slices. What makes a patient's slices of one class easy makes those of the
other a little harder, as with a model that leans to one answer.

Of a probit with a normal effect u of standard deviation s, E[Phi(a + u)] = Phi(a / sqrt(1 + s^2)): so the truth is known.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.intervals import NORMAL, across_seeds, estimate, minimum, wilson
from robustbench_spur.statistics import paired_p_value, resample_counts
from robustbench_spur.types import Estimate

Floats = NDArray[np.float64]
ACCURACY, CHANGE = Metric("accuracy"), Metric("difference", low=-1.0)
RESAMPLINGS, Z = 2000, 1.959964
SPURBREAST, FOLD, SMALL = (70, 80), (42, 48), (12, 12)
"""Patients at each of the two attribute values: of the released test set, of three fifths of it, of a small one."""
PATIENT_SD, SHARED = 0.95, -0.3
"""Standard deviation of the patient's effect in probits, and its correlation between a patient's two classes."""


def tallying() -> dict[str, Tally]:
    """Tallies by name, made when first asked for."""
    return defaultdict(Tally)


def probit(share: Floats) -> Floats:
    """Normal quantile of each share."""
    return np.array([NORMAL.inv_cdf(one) for one in share])


def phi(z: Floats) -> Floats:
    """Normal distribution function."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


@dataclass
class Tally:
    """Counts how often intervals of one kind contain the truth, and how wide they are."""

    hits: int = 0
    low: int = 0
    high: int = 0
    widths: list[float] = field(default_factory=list)

    def add(self, low: float | None, high: float | None, truth: float) -> None:
        """One more interval; none is a miss."""
        if low is None or high is None:
            self.widths.append(math.nan)
            return
        self.hits += low <= truth <= high
        self.low += truth < low
        self.high += truth > high
        self.widths.append(high - low)

    def cells(self) -> str:
        """Coverage, misses on either side and mean width, as table cells."""
        share = 100 / len(self.widths)
        sides = f"{share * self.low:.1f} / {share * self.high:.1f}"
        return f"{share * self.hits:.1f} | {sides} | {100 * np.nanmean(self.widths):.1f}"


@dataclass(frozen=True)
class Cohort:
    """Patients of two attribute values, each with slices of both classes; group = 2 * class + value.

    Args:
        patients: number at each value.
        sd: of the patient's effect.
    """

    patients: tuple[int, int]
    sd: float = PATIENT_SD

    @property
    def value(self) -> NDArray[np.int64]:
        """Attribute value of each patient."""
        return np.repeat([0, 1], self.patients)

    def counts(self) -> Floats:
        """Resamplings within the two strata."""
        return resample_counts(sum(self.patients), RESAMPLINGS, 1, self.value)

    def effects(self, rng: np.random.Generator) -> Floats:
        """Of each patient on slices of each class, shape (patients, 2), standard normal."""
        first, other = rng.normal(size=(2, sum(self.patients)))
        return np.stack([first, SHARED * first + math.sqrt(1 - SHARED**2) * other], axis=1)

    def sizes(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Slices of each patient in each class, shape (patients, 2)."""
        drawn = np.exp(rng.normal(math.log(18), 0.6, (sum(self.patients), 2)))
        return np.maximum(1, drawn.round()).astype(np.int64)

    def right(self, rng: np.random.Generator, accuracy: Floats, effects: Floats, sizes: NDArray[np.int64]) -> Floats:
        """Right answers of each patient in each class.

        Args:
            rng: source of the answers.
            accuracy: true accuracy of each group, shape (4,).
            effects: shape (patients, 2).
            sizes: shape (patients, 2).
        """
        level = probit(accuracy).reshape(2, 2)[:, self.value].T * math.sqrt(1 + self.sd**2)
        return rng.binomial(sizes, phi(level + self.sd * effects)).astype(np.float64)

    def by_group(self, of_class: Floats) -> Floats:
        """Numbers of each patient in each class, as numbers in each group, shape (patients, 4)."""
        out = np.zeros((len(of_class), 4))
        for label in (0, 1):
            out[np.arange(len(of_class)), 2 * label + self.value] = of_class[:, label]
        return out


def accuracies(cohort: Cohort, right: Floats, sizes: NDArray[np.int64], counts: Floats) -> tuple[Floats, Floats]:
    """Accuracy of each group, shape (4,), and under each resampling, shape (resamplings, 4)."""
    k, n = cohort.by_group(right), cohort.by_group(sizes.astype(np.float64))
    return k.sum(axis=0) / n.sum(axis=0), (counts @ k) / (counts @ n)


def naive(share: float, slices: float) -> tuple[float, float]:
    """The interval of independent slices."""
    reach = Z * math.sqrt(share * (1 - share) / slices)
    return share - reach, share + reach


def effective(share: float, spread: Floats, cohort: Cohort) -> tuple[float, float]:
    """Wilson's interval of as many independent slices as have this variance, with Student's quantile (Franco et al. 2019)."""
    from scipy.special import stdtrit

    patients = cohort.patients[0]
    z = float(stdtrit(patients - 1, 0.975))
    trials = share * (1 - share) / (spread.var() * patients / (patients - 1))
    reach = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = ((share + z**2 / (2 * trials) + sign * reach) / (1 + z**2 / trials) for sign in (-1, 1))
    return low, high


def percentile(values: Floats) -> tuple[float, float]:
    """Plain 2.5 % and 97.5 % quantiles."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def named_group(cohort: Cohort, accuracy: Sequence[float], times: int, seed: int) -> Iterator[str]:
    """The first group, named before the data are seen."""
    rng, counts, tallies, effect = np.random.default_rng(seed), cohort.counts(), tallying(), []
    for _ in range(times):
        sizes = cohort.sizes(rng)
        right = cohort.right(rng, np.array(accuracy), cohort.effects(rng), sizes)
        found, spread = accuracies(cohort, right, sizes, counts)
        slices = float(sizes[cohort.value == 0, 0].sum())
        ours = estimate(ACCURACY, found[0], spread[:, 0], patients=cohort.patients[0])
        tallies["patients resampled"].add(ours.low, ours.high, accuracy[0])
        tallies["the same, plain quantiles"].add(*percentile(spread[:, 0]), accuracy[0])
        tallies["slices taken as independent"].add(*naive(found[0], slices), accuracy[0])
        if 0 < found[0] < 1:
            effect.append(spread[:, 0].var() / (found[0] * (1 - found[0]) / slices))
            tallies["Wilson, effective number of slices"].add(*effective(found[0], spread[:, 0], cohort), accuracy[0])
    for name, tally in tallies.items():
        what = f"group of {cohort.patients[0]} patients, {100 * accuracy[0]:.0f} % right"
        yield f"| {what}, design effect {np.mean(effect):.1f} | {name} | {tally.cells()} |"


def lowest_group(cohort: Cohort, accuracy: Sequence[float], times: int, seed: int) -> Iterator[str]:
    """The lowest of four groups' true accuracies."""
    rng, counts, tallies, truth = np.random.default_rng(seed), cohort.counts(), tallying(), min(accuracy)
    patients = list(cohort.patients * 2)
    for _ in range(times):
        sizes = cohort.sizes(rng)
        right = cohort.right(rng, np.array(accuracy), cohort.effects(rng), sizes)
        found, spread = accuracies(cohort, right, sizes, counts)
        ours = minimum(ACCURACY, found, spread, patients=patients)
        tallies["`intervals.minimum`"].add(ours.low, ours.high, truth)
        worst = int(found.argmin())
        own = estimate(ACCURACY, found[worst], spread[:, worst], patients=patients[worst])
        tallies["interval of the group found worst"].add(own.low, own.high, truth)
        tallies["quantiles of the resampled minimum"].add(*percentile(spread.min(axis=1)), truth)
    what = " / ".join(f"{100 * one:.0f}" for one in accuracy)
    for name, tally in tallies.items():
        whom = f"four groups of {cohort.patients[0]} or {cohort.patients[1]} patients"
        yield f"| {whom}, {what} % right | {name} | {tally.cells()} |"


def one_slice(patients: int, share: float, times: int, seed: int) -> Iterator[str]:
    """A group with one slice per patient."""
    rng, counts, tallies = np.random.default_rng(seed), resample_counts(patients, RESAMPLINGS, 1), tallying()
    for _ in range(times):
        right = rng.random(patients) < share
        tallies["Wilson"].add(*wilson(int(right.sum()), patients), share)
        plain = estimate(ACCURACY, float(right.mean()), counts @ right / patients, patients=patients)
        tallies["patients resampled"].add(plain.low, plain.high, share)
    for name, tally in tallies.items():
        yield f"| {patients} patients of one slice, {100 * share:.0f} % right | {name} | {tally.cells()} |"


def over_seeds(cohort: Cohort, seed_sd: float, seeds: int, times: int, seed: int) -> Iterator[str]:
    """A group's accuracy, a mean over trainings, where the truth is that of all trainings and all patients.

    Half the variance of a patient's effect is the patient's own, half that of the patient with this training.
    """
    rng, counts, tallies = np.random.default_rng(seed), cohort.counts(), tallying()
    total = math.sqrt(cohort.sd**2 + seed_sd**2)
    truth = 0.75
    level = NORMAL.inv_cdf(truth) * math.sqrt(1 + total**2) / math.sqrt(1 + cohort.sd**2)
    for _ in range(times):
        sizes, own = cohort.sizes(rng), cohort.effects(rng)
        runs = []
        for shift in rng.normal(0, seed_sd / math.sqrt(1 + cohort.sd**2), seeds):
            accuracy = np.full(4, NORMAL.cdf(level + shift))
            effects = (own + cohort.effects(rng)) / math.sqrt(2)
            runs.append(accuracies(cohort, cohort.right(rng, accuracy, effects, sizes), sizes, counts))
        points, spread = (np.array([run[part][..., 0] for run in runs]) for part in (0, 1))
        both = across_seeds(ACCURACY, points, spread, patients=cohort.patients[0])
        tallies["seeds and patients joined"].add(both.joint.low, both.joint.high, truth)
        tallies["patients alone"].add(both.mean.low, both.mean.high, truth)
    sd = 100 * seed_sd / math.sqrt(1 + total**2) * math.exp(-(NORMAL.inv_cdf(truth) ** 2) / 2) / math.sqrt(2 * math.pi)
    for name, tally in tallies.items():
        yield f"| {seeds} seeds that differ by {sd:.1f} points, {cohort.patients[0]} patients | {name} | {tally.cells()} |"


def pairs(cohort: Cohort, gain: float, times: int, seed: int) -> Iterator[str]:
    """The difference of two methods that find the same patients hard, three quarters of the variance shared."""
    rng, counts, tally, apart, found_p = np.random.default_rng(seed), cohort.counts(), Tally(), Tally(), []
    for _ in range(times):
        sizes, own = cohort.sizes(rng), cohort.effects(rng)
        sides = []
        for share in (0.7 + gain, 0.7):
            effects = math.sqrt(0.75) * own + 0.5 * cohort.effects(rng)
            sides.append(accuracies(cohort, cohort.right(rng, np.full(4, share), effects, sizes), sizes, counts))
        (one, spread), (two, other) = sides
        paired = estimate(CHANGE, one[0] - two[0], spread[:, 0] - other[:, 0], patients=cohort.patients[0])
        tally.add(paired.low, paired.high, gain)
        alone: list[Estimate] = [estimate(ACCURACY, a[0], s[:, 0], patients=cohort.patients[0]) for a, s in sides]
        reach = math.hypot(*(float(e.high or 0) - float(e.low or 0) for e in alone)) / 2
        apart.add(one[0] - two[0] - reach, one[0] - two[0] + reach, gain)
        found_p.append(paired_p_value(spread[:, 0] - other[:, 0], patients=cohort.patients[0]))
    what = f"two methods {100 * gain:.0f} points apart, {cohort.patients[0]} patients"
    resolved = 100 * np.mean(np.array(found_p) <= 0.05)
    yield f"| {what} | paired; p <= 0.05 in {resolved:.1f} % | {tally.cells()} |"
    yield f"| {what} | as if on different patients | {apart.cells()} |"


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5000, help="simulations of each row (default: %(default)s)")
    times: int = parser.parse_args().times
    real, fold, small = Cohort(SPURBREAST), Cohort(FOLD), Cohort(SMALL)
    studies: list[Callable[[int], Iterator[str]]] = [
        *(
            lambda seed, c=c, a=a: named_group(c, (a,) * 4, times, seed)
            for c, a in ((real, 0.7), (real, 0.9), (real, 0.97), (fold, 0.7), (fold, 0.9), (small, 0.7), (small, 0.9))
        ),
        *(
            lambda seed, c=c, a=a: lowest_group(c, a, times, seed)
            for c, a in (
                (real, (0.7, 0.7, 0.7, 0.7)),
                (real, (0.7, 0.7, 0.9, 0.9)),
                (real, (0.65, 0.7, 0.72, 0.75)),
                (real, (0.6, 0.9, 0.85, 0.8)),
                (real, (0.9, 0.9, 0.9, 0.9)),
                (small, (0.7, 0.7, 0.7, 0.7)),
            )
        ),
        *(lambda seed, n=n, a=a: one_slice(n, a, times, seed) for n, a in ((20, 0.7), (80, 0.7), (80, 0.95))),
        *(lambda seed, s=s: over_seeds(real, s, 3, times, seed) for s in (0.0, 0.1, 0.3)),
        *(lambda seed, c=c, g=g: pairs(c, g, times, seed) for c, g in ((real, 0.0), (real, 0.06), (small, 0.0))),
    ]
    begun = time.process_time()
    print("| what is simulated | interval of 95 % | covers, % | misses below / above, % | width, points |")
    print("|---|---|---|---|---|")
    for seed, study in enumerate(studies):
        for line in study(seed):
            print(line, flush=True)
    print(
        f"\n{times} simulations of each row, {RESAMPLINGS} resamplings; {time.process_time() - begun:.0f} CPU seconds."
    )


if __name__ == "__main__":
    main()
