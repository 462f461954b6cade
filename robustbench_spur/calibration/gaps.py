"""Gaps between stated probability and what happened, bin by bin, under any resampling of the patients.

With S(b) the sum over the examples of bin b of (probability - outcome), and n(b) their number,

    mean gap     = sum over b of |S(b)| / n                       (expected calibration error)
    average gap  = mean over the bins with examples of |S(b)| / n(b)    (average calibration error)
    largest gap  = max over b of |S(b)| / n(b)                    (maximum calibration error)

are all biased upward: of a perfectly calibrated model too, noise leaves a gap in every bin. The squared gap has an estimate
without that bias. An example's gap times another's has the squared gap of their bin as its mean, if the two are independent,
and examples of different patients are:

    debiased = sum over b of n(b)/n * mean over pairs (i, j) of examples of bin b, of different patients, of gap(i) * gap(j)

which is zero on average for a calibrated model, below zero half of the time. Its positive part's root is reported, on the scale
of a probability. A resampling gives patient p the weight c(p), and a pair of different patients p and q the weight
c(p) * c(q); a patient drawn twice makes no pair with himself. So the resampled values centre on the estimate.

The interval so made is wide at zero, where the estimate is a degenerate U-statistic; the p value keeps its level there.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 3 and 5 (expected, maximum); Neumann,
Zisserman and Vedaldi, NeurIPS workshop on machine learning for intelligent transportation systems, 2018 (average); Bröcker,
Climate Dynamics 39, 2012, and Ferro and Fricker, Quarterly Journal of the Royal Meteorological Society 138, 2012 (the bias, and
an estimate without); Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019, section 4 and definition 4.1; Wu,
Annals of Statistics 14, 1986, and Cameron, Gelbach and Miller, Review of Economics and Statistics 90, 2008 (signs by cluster).
Deviations: pairs of examples of one patient are left out. With one example per patient, and equal probabilities in a bin, the
result is Kumar's. Bins whose examples are all of one patient have no pair, and are left out with their weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.bins import Codes
from robustbench_spur.evaluators.base import Floats
from robustbench_spur.statistics import patient_sums, ratio


@dataclass(frozen=True)
class Gaps:
    """Each patient's sums in each bin.

    Args:
        gap: sum of probability less outcome, shape (patients, bins).
        count: number of examples, shape (patients, bins).

    The methods take the draws of each patient, shape (resamples, patients), and give shape (resamples,); NaN where no example
    was drawn.
    """

    gap: Floats
    count: Floats

    @classmethod
    def of(
        cls, probability: Floats, outcome: NDArray[np.bool_], index: Codes, bins: int, patient: Codes, patients: int
    ) -> Gaps:
        """From examples.

        Args:
            probability: of the outcome, shape (n,).
            outcome: whether it came, shape (n,).
            index: bin of each example, shape (n,), 0 to ``bins - 1``.
            bins: number of bins.
            patient: of each example, shape (n,), 0 to ``patients - 1``.
            patients: number of patients.
        """
        gap = patient_sums(patient, patients, index, bins, probability - outcome)
        return cls(gap, patient_sums(patient, patients, index, bins))

    def mean(self, counts: Floats) -> Floats:
        """Mean over examples of the absolute gap of their bin.

        >>> gaps = Gaps(np.array([[0.1, 0.0], [0.3, -0.2]]), np.array([[1.0, 0.0], [1.0, 2.0]]))
        >>> gaps.mean(np.ones((1, 2))).round(3).tolist()  # (0.4 + 0.2) / 4
        [0.15]
        """
        return ratio(np.abs(counts @ self.gap).sum(axis=1), counts @ self.count.sum(axis=1))

    def _sizes(self, counts: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Absolute gap of each bin, 0 in an empty one, and whether it has examples, each of shape (resamples, bins)."""
        number = counts @ self.count
        filled = number > 0
        return np.divide(np.abs(counts @ self.gap), number, out=np.zeros_like(number), where=filled), filled

    def average(self, counts: Floats) -> Floats:
        """Mean over the bins with examples of the absolute gap."""
        size, filled = self._sizes(counts)
        return ratio(size.sum(axis=1), filled.sum(axis=1))

    def largest(self, counts: Floats) -> Floats:
        """Largest absolute gap of the bins with examples."""
        size, filled = self._sizes(counts)
        return np.where(filled.any(axis=1), size.max(axis=1), np.nan)

    def squared(self, counts: Floats) -> Floats:
        """Mean over examples of the squared gap of their bin, from pairs of examples of different patients.

        Unbiased, so that it may lie below zero; NaN where no bin has examples of two patients.

        >>> gaps = Gaps(np.array([[0.1], [0.3], [-0.2]]), np.ones((3, 1)))
        >>> gaps.squared(np.ones((1, 3))).round(4).tolist()  # (0.1 * 0.3 - 0.1 * 0.2 - 0.3 * 0.2) / 3
        [-0.0167]
        """
        number = counts @ self.count
        products = (counts @ self.gap) ** 2 - counts**2 @ self.gap**2
        pairs = number**2 - counts**2 @ self.count**2
        # whole numbers, exact in float64: there is a pair or there is none
        paired = pairs > 0
        square = np.divide(products, pairs, out=np.zeros_like(pairs), where=paired)
        weight = np.where(paired, number, 0.0)
        return ratio((weight * square).sum(axis=1), weight.sum(axis=1))

    def debiased(self, counts: Floats) -> Floats:
        """Root of the positive part of :meth:`squared`, in [0, 1]."""
        return np.sqrt(np.maximum(self.squared(counts), 0.0))

    def p_value(self, signs: int = 999, seed: int = 0) -> float:
        """Of the hypothesis that every bin is calibrated, against any miscalibration.

        If it holds, a patient's gaps have mean zero; turned round for a random half of the patients, they give a value of
        :meth:`squared` as it comes about by noise alone. The p value is the share of such values that reach the real one.

        Args:
            signs: how many random halves.
            seed: of the halves: the same gives the same p value.

        Returns:
            In (0, 1]; NaN where no bin has examples of two patients.
        """
        number, patients = self.count.sum(axis=0), len(self.gap)
        pairs = number**2 - (self.count**2).sum(axis=0)
        paired = pairs > 0
        if not paired.any():
            return math.nan
        products = (_turned(signs, patients, seed) @ self.gap[:, paired]) ** 2 - (self.gap[:, paired] ** 2).sum(axis=0)
        found = products @ (number[paired] / pairs[paired])
        # what is equal but for rounding counts as reached
        return float(np.mean(found >= found[0] - 1e-12 * np.abs(found).max()))


@lru_cache(maxsize=4)
def _turned(signs: int, patients: int, seed: int) -> Floats:
    """Signs of every patient: all as they are, then random halves turned round, shape (1 + signs, patients)."""
    words = np.random.Philox(key=seed).random_raw((signs, max(1, patients)))[:, :patients]
    turned = np.concatenate([np.ones((1, patients)), np.where(words >> np.uint64(63), 1.0, -1.0)])
    turned.setflags(write=False)
    return turned


@dataclass(frozen=True)
class Decomposition:
    """The Brier score in parts, class by class in bins of the class's probability, added up over the classes.

    With p(b) and o(b) the mean probability and the share of the class in bin b, and o its share overall,

        reliability = sum over b of n(b)/n * (p(b) - o(b))^2        (lower is better: calibration)
        resolution  = sum over b of n(b)/n * (o(b) - o)^2           (higher is better)
        uncertainty = o * (1 - o)                                   (the data's own)
        within      = variance of p within bins - 2 * covariance of p and outcome within bins

    and Brier score = reliability - resolution + uncertainty + within, exactly.

    Source: Murphy, Journal of Applied Meteorology 12, 1973; Stephenson, Coelho and Jolliffe, Weather and Forecasting 23, 2008,
    equation 10 (the terms within bins, without which the sum holds only where a bin's probabilities are alike).

    Args:
        count: number of examples, shape (patients, classes * bins).
        probability: sum of the class's probability, shape (patients, classes * bins).
        outcome: number of examples of the class, shape (patients, classes * bins).
        spread: sum over examples and classes of the squared probability, shape (patients,).
        hit: sum over examples of the true class's probability, shape (patients,).
        classes: number of classes.
    """

    count: Floats
    probability: Floats
    outcome: Floats
    spread: Floats
    hit: Floats
    classes: int

    @property
    def gaps(self) -> Gaps:
        """The gaps of every class's bins."""
        return Gaps(self.probability - self.outcome, self.count)

    def parts(self, counts: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Reliability, resolution, uncertainty and the terms within bins.

        Args:
            counts: draws of each patient, shape (resamples, patients).

        Returns:
            Each of shape (resamples,); NaN where no example was drawn.
        """
        shape = (len(counts), self.classes, -1)
        number, stated, came = ((counts @ sums).reshape(shape) for sums in (self.count, self.probability, self.outcome))
        total = number[:, 0].sum(axis=1)
        share = ratio(came.sum(axis=2), total[:, None])
        weight = np.divide(1.0, number, out=np.zeros_like(number), where=number > 0)
        away = (came * weight - np.nan_to_num(share)[:, :, None]) ** 2 * number
        variance = counts @ self.spread - (stated**2 * weight).sum(axis=(1, 2))
        covariance = counts @ self.hit - (stated * came * weight).sum(axis=(1, 2))
        return (
            ratio(((stated - came) ** 2 * weight).sum(axis=(1, 2)), total),
            ratio(away.sum(axis=(1, 2)), total),
            (share * (1 - share)).sum(axis=1),
            ratio(variance - 2 * covariance, total),
        )
