"""Which slices of a patient are taken, and what their position alone tells about the label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.collection import Slices
from robustbench_spur.curation.seats import Seating, generator
from robustbench_spur.types import Partition

BINS = 10
Rows = NDArray[np.int64]


def _spread(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """A systematic sample: evenly spread, and every row with the same chance; shape (count,).

    >>> _spread(np.arange(100), 4, np.random.default_rng(0)).tolist()
    [21, 46, 71, 96]
    """
    return rows[(np.arange(count) * len(rows) + int(rng.integers(len(rows)))) // count]


class _Match:
    """Picks slices whose positions follow those of the positive slices, decile by decile, from any number of patients.

    Each pick is from the bin that lacks most of what the picks so far should hold; so every beginning of the sequence of
    patients follows the distribution too.
    """

    def __init__(self, wanted: NDArray[np.float64]) -> None:
        edges = np.unique(np.quantile(wanted, np.linspace(0, 1, BINS + 1)))
        edges[-1] = np.nextafter(edges[-1], np.inf)
        self.edges, places = edges, np.searchsorted(edges, wanted, side="right")
        self.share = np.bincount(places, minlength=len(edges) + 1) / len(wanted)
        self.members = [wanted[places == place] for place in range(len(edges) + 1)]
        self.counts = np.zeros(len(edges) + 1)

    def pick(self, rows: Rows, positions: NDArray[np.float64], count: int, rng: np.random.Generator) -> Rows:
        """``count`` of a patient's rows; positions of shape (rows,)."""
        bins, free, found = np.searchsorted(self.edges, positions, side="right"), np.ones(len(rows), bool), []
        middle = float(np.mean(self.edges))
        for _ in range(count):
            lack = (self.counts.sum() + 1) * self.share - self.counts
            lack[~np.isin(np.arange(len(lack)), bins[free])] = -np.inf
            place = int(lack.argmax())
            among = np.flatnonzero(free & (bins == place))
            aim = float(rng.choice(self.members[place])) if len(self.members[place]) else middle
            near = int(among[np.abs(positions[among] - aim).argmin()])
            free[near] = False
            self.counts[place] += 1
            found.append(near)
        return rows[np.sort(np.array(found, np.int64))]


def choose(slices: Slices, seating: Seating, *, match: bool) -> dict[tuple[str, int], Rows]:
    """The slices of every patient and label that are given at any rho; the same at every rho."""
    seed = seating.recipe.seed
    chosen: dict[tuple[str, int], Rows] = {}
    for partition in (*seating.even, *seating.tied):
        gifts = seating.every(partition)
        for patient, label, _, count in (gift for gift in gifts if gift.label == 1 or not match):
            rng = generator(seed, f"slices {label} {patient}")
            chosen[patient, label] = _spread(slices.of[patient, label], count, rng)
        if not match:
            continue
        wanted = slices.positions[np.concatenate([chosen[gift.patient, 1] for gift in gifts if gift.label == 1])]
        matchers = _Match(wanted), _Match(wanted)  # by attribute value, so that a share of either follows too
        for patient, label, value, count in (gift for gift in gifts if gift.label == 0):
            rows, rng = slices.of[patient, label], generator(seed, f"slices {label} {patient}")
            chosen[patient, label] = matchers[value].pick(rows, slices.positions[rows], count, rng)
    return chosen


def area_under_curve(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """AUROC by the rank sum (Mann and Whitney 1947), ties counted half; NaN where a label is missing.

    Args:
        labels: 0 or 1, shape (n,).
        scores: higher for label 1, shape (n,).

    >>> area_under_curve(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def position_alone(partition: Partition) -> dict[str, float]:
    """AUROC of a slice's place in the volume: nearness to the middle, and the position; empty where one is unknown."""
    positions = partition.extra["position"]
    if np.isnan(positions).any():
        return {}
    scores = {"middle": -np.abs(positions - 0.5), "position": positions}
    return {name: round(area_under_curve(partition.labels, score), 4) for name, score in scores.items()}
