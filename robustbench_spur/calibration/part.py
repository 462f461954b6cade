"""Some examples of a partition, and every way to put them in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.bins import Codes, bin_index, equal_mass_edges, equal_width_edges, index_in
from robustbench_spur.calibration.gaps import Decomposition, Gaps
from robustbench_spur.evaluators.base import Floats
from robustbench_spur.statistics import patient_sums, ratio
from robustbench_spur.types import finite


@dataclass(frozen=True)
class Examples:
    """Probabilities, and what is true.

    Bins of equal mass have edges that are quantiles of these examples. Resampling keeps the edges, so that a resampled value
    is still a function of one sum per patient.

    Args:
        probabilities: shape (n, classes), rows sum to 1.
        predicted: class code of the prediction, shape (n,).
        labels: shape (n,).
        patient: of each example, shape (n,), 0 to ``patients - 1``.
        patients: number of patients of the partition: some may have no example here.
        bins: number of bins.
        losses: log loss of each example, shape (n,), in nats.
    """

    probabilities: Floats
    predicted: Codes
    labels: Codes
    patient: Codes
    patients: int
    bins: int
    losses: Floats

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    @cached_property
    def confidence(self) -> Floats:
        """Probability of the predicted class, shape (n,)."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.predicted])

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, shape (n,)."""
        return np.asarray(self.predicted == self.labels)

    def mean(self, values: NDArray[np.generic], counts: Floats) -> Floats:
        """Mean over examples of values of shape (n,) under each resampling, shape (resamples,)."""
        one = np.zeros_like(self.patient)
        sums = (patient_sums(self.patient, self.patients, one, 1, weights)[:, 0] for weights in (values, None))
        total, number = (counts @ column for column in sums)
        return ratio(total, number)

    def top(self, *, mass: bool = False) -> Gaps:
        """Of the predicted class, in bins of equal width or of equal mass."""
        return self._gaps(self.confidence, self.correct, mass)

    def positive(self, *, mass: bool = False) -> Gaps:
        """Of class 1."""
        return self._gaps(self.probabilities[:, 1], self.labels == 1, mass)

    def _gaps(self, probability: Floats, outcome: NDArray[np.bool_], mass: bool) -> Gaps:
        return Gaps.of(probability, outcome, self._index(probability, mass), self.bins, self.patient, self.patients)

    def _index(self, values: Floats, mass: bool) -> Codes:
        return index_in(values, equal_mass_edges(values, self.bins)) if mass else bin_index(values, self.bins)

    def classwise_mass(self) -> Gaps:
        """Of every class against the others, in bins of equal mass: those of class 0, then those of class 1, and so on.

        In bins of equal width they are those of :meth:`decomposition`.
        """
        each = [self._gaps(self.probabilities[:, k], self.labels == k, True) for k in range(self.classes)]
        gap, count = (np.concatenate([getattr(one, name) for one in each], axis=1) for name in ("gap", "count"))
        return Gaps(gap, count)

    def decomposition(self) -> Decomposition:
        """Of the Brier score, in bins of equal width."""
        one, rows = np.zeros_like(self.patient), np.arange(len(self))
        index = [bin_index(self.probabilities[:, k], self.bins) for k in range(self.classes)]

        def binned(weights: Sequence[NDArray[Any] | None]) -> Floats:
            sums = (
                patient_sums(self.patient, self.patients, index[k], self.bins, weights[k]) for k in range(self.classes)
            )
            return np.concatenate(list(sums), axis=1)

        def single(weights: Floats) -> Floats:
            return np.asarray(patient_sums(self.patient, self.patients, one, 1, weights)[:, 0])

        classes = range(self.classes)
        return Decomposition(
            binned([None] * self.classes),
            binned([self.probabilities[:, k] for k in classes]),
            binned([self.labels == k for k in classes]),
            single((self.probabilities**2).sum(axis=1)),
            single(self.probabilities[rows, self.labels]),
            self.classes,
        )

    def diagram(self, *, mass: bool = False) -> list[dict[str, float | int | None]]:
        """The reliability diagram of the predicted class, a row per bin, empty ones included.

        Returns:
            Rows with ``low`` and ``high`` (the bin's edges), ``count``, and mean ``confidence`` and ``accuracy``, None in an
            empty bin.
        """
        sure, bins = self.confidence, self.bins
        edges = equal_mass_edges(sure, bins) if mass else equal_width_edges(bins)
        index, columns = index_in(sure, edges), (np.ones_like(sure), sure, self.correct)
        count, total, right = (np.bincount(index, column, minlength=bins).astype(np.float64) for column in columns)
        confidence, accuracy = ratio(total, count), ratio(right, count)
        return [
            {
                "low": float(edges[b]),
                "high": float(edges[b + 1]),
                "count": int(count[b]),
                "confidence": finite(confidence[b]),
                "accuracy": finite(accuracy[b]),
            }
            for b in range(bins)
        ]


def extremes(values: Mapping[str, float]) -> tuple[str, str] | None:
    """The names with the highest and the lowest number, the first of equals; None of one name, or where a number is NaN.

    >>> extremes({"3T": 0.1, "1.5T": 0.3})
    ('1.5T', '3T')
    """
    if len(values) < 2 or any(np.isnan(value) for value in values.values()):
        return None
    high = max(values, key=lambda name: values[name])
    return high, min((name for name in values if name != high), key=lambda name: values[name])
