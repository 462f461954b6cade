"""Whether a model's confidence is its accuracy: calibration errors, log loss, and the Brier score with its parts.

Examples are put in bins by a stated probability, and the bins' gaps between mean probability and how often it came true are
averaged, weighted by the number of examples:

    ECE = sum over bins b of |sum over examples i in b of (probability_i - outcome_i)| / n

``ece`` is that of the top label: the probability of the predicted class against whether it is right. ``ece_positive`` is that
of class 1, ``ece_classwise`` the mean over all classes, each against the others. Bins are of equal width, or (``_mass``) of
equal mass: quantiles of the examples, which resampling keeps, so that every value is a function of one sum per patient.

All is taken over all examples and over those at each attribute value, never inside a (label, attribute) group: where all
labels are alike, calibration of the positive class degenerates to an accuracy. Good calibration of all examples can hide
overconfidence at one value that underconfidence at another makes up for: ``ece_at:`` shows it. A gap (``ece_gap``, ...) is
between the values with the highest and the lowest number on all patients; resampling keeps these two, and can give less than 0.

ECE is biased upward by noise, the more so the fewer examples a bin holds, so its interval is the basic one. In simulations with
60 to 600 patients, a nominal 95 % covers an error of 0.03 to 0.15 in 87 to 95 % of cases, but an error of exactly zero in 55 to
70 % only (a percentile interval never contains zero). ``ece_debiased``, from pairs of examples of different patients, is there
for that question: its interval covers an error of 0.03 to 0.11 in 93 to 100 % of cases, and zero in 99 to 100 %. It is wide
where the error is small; the p value in the details keeps its level of 5 % and finds smaller errors. See
:mod:`robustbench_spur.calibration.gaps` for the estimate, and ``benchmarks/ece_coverage.py`` for the simulations.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 3 and 5 (ECE, MCE, 15 bins); Nguyen and
O'Connor, EMNLP 2015 (equal mass); Neumann et al., 2018 (ACE, the average over bins); Kull et al., NeurIPS 2019, section 2
(class-wise); Nixon et al., CVPR workshops 2019 (class-wise in bins of equal mass, their adaptive calibration error); Kumar,
Liang and Ma, NeurIPS 2019 (debiased); Brier 1950; Stephenson, Coelho and Jolliffe, 2008 (parts of the Brier score).
Deviations: the debiased error leaves out pairs of examples of one patient, who are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.libraries import by_netcal, by_torchmetrics, top_by_torchmetrics
from robustbench_spur.calibration.part import Examples, extremes
from robustbench_spur.calibration.scores import brier_scores, negative_log_likelihood
from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Finding, Floats, Metric, Predictions
from robustbench_spur.evaluators.finding import VERDICTS, beyond, in_percent
from robustbench_spur.evaluators.worst_group import everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, finite

NOTABLE = 0.05
"""An error of confidence that is worth a doubt."""
GAPS = ("ece", "ece_debiased", "nll", "brier")
"""Metrics whose gap between attribute values is one too."""


def at_values(predictions: Predictions) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each declared attribute value with the mask of its examples, shape (n,)."""
    for code, value in enumerate(predictions.groups.values):
        yield value, predictions.attributes == code


class Calibration(Evaluator):
    """Calibration errors, log loss and Brier score, overall, at each attribute value, and between values.

    >>> from robustbench_spur.types import Groups
    >>> logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], np.float32))
    >>> ids, nobody = np.array(["a", "b", "c"]), np.zeros(3, int)
    >>> predictions = Predictions(ids, np.array([0, 1, 1]), nobody, ids, logits, Groups(("no", "yes"), "a", ("x",)))
    >>> numbers = Calibration().measure(predictions, np.ones((1, 3)))
    >>> round(numbers["ece"].item(), 3), round(numbers["brier"].item(), 3)  # (|1.8 - 1| + |0.6 - 1|) / 3
    (0.4, 0.653)
    """

    name = "ece"
    version = 1
    summary = "calibration: expected calibration errors, debiased too, log loss, and the Brier score with its parts"
    source = "Guo et al., ICML 2017, equation 3; Kumar et al., NeurIPS 2019; Brier 1950; Stephenson et al., 2008"
    partitions = ("validation", "test")
    keeps = (
        "ece_mass",
        "ece_mass_at:",
        "ece_positive_mass",
        "ece_positive_mass_at:",
        "ece_classwise_mass",
        "ece_classwise_mass_at:",
        "ece_debiased",
        "ece_debiased_at:",
        "ece_gap",
        "ece_debiased_gap",
        "nll_gap",
        "brier_gap",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "ece": Metric(
            "Top-label expected calibration error: mean over examples of the absolute gap between mean confidence and "
            "accuracy in the example's bin, in equal-width bins closed on the left (the last one on both sides).",
            better="lower",
            interval="basic",
        ),
        "ece_at:": Metric("ece of the examples at one attribute value.", better="lower", interval="basic"),
        "ece_gap": Metric(
            "ece at the attribute value where it is highest minus that where it is lowest (as named on all patients).",
            low=-1.0,
            better="lower",
            interval="basic",
        ),
        "ece_mass": Metric("ece in bins of equal mass, edges fixed on all patients.", better="lower", interval="basic"),
        "ece_mass_at:": Metric("ece_mass at one attribute value, its own edges.", better="lower", interval="basic"),
        "ece_positive": Metric(
            "Of two classes: expected calibration error of the probability of class 1, in equal-width bins.",
            better="lower",
            interval="basic",
        ),
        "ece_positive_at:": Metric("ece_positive at one attribute value.", better="lower", interval="basic"),
        "ece_positive_mass": Metric("ece_positive in bins of equal mass.", better="lower", interval="basic"),
        "ece_positive_mass_at:": Metric("ece_positive_mass at one attribute value.", better="lower", interval="basic"),
        "ece_classwise": Metric(
            "Mean over the classes of the expected calibration error of the class's probability, in equal-width bins.",
            better="lower",
            interval="basic",
        ),
        "ece_classwise_at:": Metric("ece_classwise at one attribute value.", better="lower", interval="basic"),
        "ece_classwise_mass": Metric(
            "ece_classwise in bins of equal mass of each class (adaptive calibration error).",
            better="lower",
            interval="basic",
        ),
        "ece_classwise_mass_at:": Metric(
            "ece_classwise_mass at one attribute value.", better="lower", interval="basic"
        ),
        "ece_debiased": Metric(
            "Root of the mean over examples of the squared gap between confidence and accuracy in the example's bin (those "
            "of ece), estimated without bias from pairs of examples of different patients; 0 where that estimate is below.",
            better="lower",
        ),
        "ece_debiased_at:": Metric("ece_debiased of the examples at one attribute value.", better="lower"),
        "ece_debiased_gap": Metric("ece_debiased between attribute values, as ece_gap.", low=-1.0, better="lower"),
        "ace": Metric(
            "Average calibration error: mean over the bins of ece that have examples of the absolute gap between mean "
            "confidence and accuracy.",
            better="lower",
            interval="basic",
        ),
        "ace_at:": Metric("ace at one attribute value.", better="lower", interval="basic"),
        "mce": Metric(
            "Maximum calibration error: largest absolute gap between mean confidence and accuracy of the bins of ece.",
            better="lower",
            interval="basic",
        ),
        "mce_at:": Metric("mce at one attribute value.", better="lower", interval="basic"),
        "nll": Metric(
            "Mean of minus the log of the true class's probability, in nats.", high=float("inf"), better="lower"
        ),
        "nll_at:": Metric("nll at one attribute value, in nats.", high=float("inf"), better="lower"),
        "nll_gap": Metric(
            "nll between attribute values, as ece_gap, in nats.", low=float("-inf"), high=float("inf"), better="lower"
        ),
        "brier": Metric(
            "Mean squared distance between the probabilities and the true class's unit vector, summed over all "
            "classes (twice the squared error of the positive class where there are two).",
            high=2.0,
            better="lower",
        ),
        "brier_at:": Metric("brier at one attribute value.", high=2.0, better="lower"),
        "brier_gap": Metric("brier between attribute values, as ece_gap.", low=-2.0, high=2.0, better="lower"),
        "brier_reliability": Metric(
            "Sum over classes of the mean over examples of the squared gap between mean probability and share of the class "
            "in the example's equal-width bin; brier = reliability - resolution + uncertainty + within.",
            high=2.0,
            better="lower",
            interval="basic",
        ),
        "brier_reliability_at:": Metric("The same at one value.", high=2.0, better="lower", interval="basic"),
        "brier_resolution": Metric(
            "Sum over classes of the mean over examples of the squared distance between the share of the class in the "
            "example's bin and its share overall.",
            interval="basic",
        ),
        "brier_resolution_at:": Metric("brier_resolution at one attribute value.", interval="basic"),
        "brier_uncertainty": Metric(
            "Sum over classes of share times one minus share: the data's own.", better="neither"
        ),
        "brier_uncertainty_at:": Metric("brier_uncertainty at one attribute value.", better="neither"),
        "brier_within": Metric(
            "Sum over classes of the variance of the probability inside bins, less twice its covariance with the outcome "
            "there: what bins hide.",
            low=-2.0,
            high=2.0,
            better="neither",
        ),
        "brier_within_at:": Metric("brier_within at one attribute value.", low=-2.0, high=2.0, better="neither"),
    }

    class Parameters(EvaluatorParameters):
        """How probabilities are put in bins."""

        bins: int = parameter(15, "number of bins in [0, 1], of equal width or of equal mass", at_least=1, at_most=1000)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per attribute value."""
        counts = check_counts(counts, len(predictions.patients))
        out = _numbers(self._examples(predictions), counts)
        at = {value: _numbers(self._examples(predictions, rows), counts) for value, rows in at_values(predictions)}
        for value, numbers in at.items():
            out |= {f"{name}_at:{value}": number for name, number in numbers.items()}
        for name, pair in self._gap_between(predictions).items():
            undefined = np.full(len(counts), np.nan)
            out[f"{name}_gap"] = at[pair[0]][name] - at[pair[1]][name] if pair else undefined
        return out

    def measure_only(self, predictions: Predictions, counts: Floats, metrics: Collection[str]) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure_only`: numbers over all examples need none at attribute values."""
        if set(metrics) <= set(GAPS):
            numbers = _main(self._examples(predictions), check_counts(counts, len(predictions.patients)), metrics)
            return {name: numbers[name] for name in metrics}
        return super().measure_only(predictions, counts, metrics)

    def _examples(self, predictions: Predictions, rows: NDArray[np.bool_] | None = None) -> Examples:
        """The examples of a mask, or all."""
        chosen = np.ones(len(predictions), bool) if rows is None else rows
        return Examples(
            predictions.probabilities[chosen],
            predictions.predicted[chosen],
            predictions.labels[chosen],
            predictions.patient[chosen],
            len(predictions.patients),
            self.parameters.bins,
            negative_log_likelihood(predictions.logits[chosen], predictions.labels[chosen]),
        )

    def _gap_between(self, predictions: Predictions) -> dict[str, tuple[str, str] | None]:
        """For each of :data:`GAPS` the attribute values where it is highest and lowest on all patients."""
        point = everyone(predictions)
        at = {value: _main(self._examples(predictions, rows), point) for value, rows in at_values(predictions)}
        return {name: extremes({value: float(numbers[name][0]) for value, numbers in at.items()}) for name in GAPS}

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether its confidence can be believed, over all and at each attribute value."""
        error = estimates["ece_debiased"]
        found = [(beyond(error, NOTABLE), "ece_debiased")]
        at = {value: f"ece_debiased_at:{value}" for value in predictions.groups.values}
        found += [(beyond(estimates[name], NOTABLE), name) for name in at.values() if name in estimates]
        verdict = min((verdict for verdict, _ in found), key=VERDICTS.index)
        each = ", ".join(f"{in_percent(estimates[name])} at {value}" for value, name in at.items() if name in estimates)
        text = f"Its confidence is off its accuracy by {in_percent(error)}; {each}."
        return [
            Finding(
                "Can its confidence be believed?",
                verdict,
                text,
                ("ece_debiased", *(name for name in at.values() if name in estimates)),
                "That the confidence of a single patient is right or wrong: it is a mean over many.",
                "Scale its confidence on validation, and look at each attribute value afterwards: what mends one can harm"
                " another."
                if verdict in ("problem", "doubt")
                else "",
            )
        ]

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Reliability diagrams, the definition in words, and what is undefined and why.

        Returns:
            ``definition``, ``bins``, ``reliability`` (a list with a row per bin: low, high, count, confidence,
            accuracy; the last two None in an empty bin), ``reliability_at`` (such a list by attribute value), the same in
            bins of equal mass as ``reliability_mass`` and ``reliability_mass_at``, ``calibrated_p`` and ``calibrated_p_at`` (p
            value of the hypothesis that all bins are calibrated, patients as clusters; None where no bin holds two patients'
            examples), ``gap_between`` (for each gap the
            attribute values, highest first; None where undefined), and ``undefined`` (why, by metric).
        """
        bins, whole = self.parameters.bins, self._examples(predictions)
        at = {value: self._examples(predictions, rows) for value, rows in at_values(predictions)}
        pairs = self._gap_between(predictions)
        return {
            "definition": (
                f"top-label ECE (confidence of the predicted class), {bins} equal-width bins [low, high), the last "
                "[low, 1]; weighted mean of |mean confidence - accuracy|; never inside a (label, attribute) group"
            ),
            "bins": bins,
            "reliability": whole.diagram(),
            "reliability_at": {value: part.diagram() for value, part in at.items()},
            "reliability_mass": whole.diagram(mass=True),
            "reliability_mass_at": {value: part.diagram(mass=True) for value, part in at.items()},
            "calibrated_p": finite(whole.top().p_value()),
            "calibrated_p_at": {value: finite(part.top().p_value()) for value, part in at.items()},
            "gap_between": {f"{name}_gap": list(pair) if pair else None for name, pair in pairs.items()},
            "undefined": {
                metric: self._why(metric, predictions)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def _why(self, metric: str, predictions: Predictions) -> str:
        """The reason why a metric is NaN on all patients."""
        groups = predictions.groups
        name, _, value = metric.partition("_at:")
        empty = [one for one, rows in at_values(predictions) if not rows.any()]
        if not len(predictions):
            return "no examples"
        if name.endswith("_gap"):
            if len(groups.values) < 2:
                return f"{groups.attribute} has one value only"
            return f"needs examples at each value of {groups.attribute}" + (
                f", has none at {', '.join(empty)}" if empty else ", of two patients in some bin"
            )
        if value in empty:
            return f"no example has {groups.attribute} {value}"
        if name.startswith("ece_positive"):
            return f"defined for two classes, the split has {len(groups.classes)}"
        return "no bin holds examples of two patients"

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """Calibration errors from netcal and torchmetrics, as ``LIBRARY/METRIC``; None where there are no examples."""
        whole, bins = self._examples(predictions), self.parameters.bins
        out: dict[str, float | None] = {}
        parts = {f"ece_at:{value}": self._examples(predictions, rows) for value, rows in at_values(predictions)}
        for name, part in {"ece": whole, **parts}.items():
            out[f"netcal/{name}"] = by_netcal(part.confidence, part.correct, bins, "mean")
            out[f"torchmetrics/{name}"] = top_by_torchmetrics(part.probabilities, part.labels, bins, "mean")
        top = whole.confidence, whole.correct, bins
        out["netcal/ece_mass"] = by_netcal(*top, "mean", mass=True)
        out["netcal/ace"], out["netcal/mce"] = by_netcal(*top, "average"), by_netcal(*top, "largest")
        out["torchmetrics/mce"] = top_by_torchmetrics(whole.probabilities, whole.labels, bins, "largest")
        if whole.classes == 2:
            positive = whole.probabilities[:, 1], whole.labels == 1, bins
            out["netcal/ece_positive"] = by_netcal(*positive, "mean")
            out["torchmetrics/ece_positive"] = by_torchmetrics(*positive, "mean")
        return out


def _main(part: Examples, counts: Floats, metrics: Collection[str] = GAPS) -> dict[str, Floats]:
    """Those asked for of the metrics of :data:`GAPS`, each of shape (resamples,)."""
    top = part.top()
    ways: dict[str, Callable[[], Floats]] = {
        "ece": lambda: top.mean(counts),
        "ece_debiased": lambda: top.debiased(counts),
        "nll": lambda: part.mean(part.losses, counts),
        "brier": lambda: part.mean(brier_scores(part.probabilities, part.labels), counts),
    }
    return {name: way() for name, way in ways.items() if name in metrics}


def _numbers(part: Examples, counts: Floats) -> dict[str, Floats]:
    """Every metric of some examples but the gaps, each of shape (resamples,)."""
    top, undefined, two = part.top(), np.full(len(counts), np.nan), part.classes == 2
    decomposition = part.decomposition()
    reliability, resolution, uncertainty, within = decomposition.parts(counts)
    return {
        **_main(part, counts),
        "ece_mass": part.top(mass=True).mean(counts),
        "ece_positive": part.positive().mean(counts) if two else undefined,
        "ece_positive_mass": part.positive(mass=True).mean(counts) if two else undefined,
        "ece_classwise": decomposition.gaps.mean(counts),
        "ece_classwise_mass": part.classwise_mass().mean(counts),
        "ace": top.average(counts),
        "mce": top.largest(counts),
        "brier_reliability": reliability,
        "brier_resolution": resolution,
        "brier_uncertainty": uncertainty,
        "brier_within": within,
    }
