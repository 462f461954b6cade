"""Calibration before and after the probabilities are rescaled, the map fitted on validation alone.

Five maps are fitted to validation's logits and labels: temperature, vector, Platt, beta and isotonic scaling (see
:mod:`robustbench_spur.calibration.scaling`). The test examples' probabilities after each are then measured as the model's own
are, which stand beside them as ``none``. A validation set that is as biased as the training set yields a map that suits it: the
error over all examples may fall while that at one attribute value stays, or rises. ``recalibrated_worst_ece`` and
``recalibrated_ece_gap`` show it.

Intervals resample the test patients and keep the map: they hold for this map, not for one of other validation patients. The
predicted class can change under vector, Platt, beta and isotonic scaling, so accuracy is given too; a temperature keeps it.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4; Kull et al., AISTATS 2017; Zadrozny and
Elkan, KDD 2002. Fitted by netcal.
Deviations: vector scaling is fitted by scipy, and Platt's is for two classes only; beta and isotonic scaling of more classes
are one against the rest. The reasons are in :mod:`robustbench_spur.calibration.scaling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.part import Examples, extremes
from robustbench_spur.calibration.scaling import MAPS, scale
from robustbench_spur.calibration.scores import brier_scores, negative_log_likelihood
from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.calibration import at_values
from robustbench_spur.evaluators.worst_group import everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import SpurbenchError, finite

BEFORE = "none"
"""Name of the model's own probabilities among the scalings."""
LEAST = float(np.finfo(np.float32).tiny)
"""Probabilities above zero are kept as this or more: zero is for those that are."""


@dataclass(frozen=True)
class Stated:
    """The probabilities of one scaling.

    Args:
        whole: all examples; with probabilities of zero where there is no map.
        at: those at each attribute value.
        known: whether there is a map.
    """

    whole: Examples
    at: Mapping[str, Examples]
    known: bool

    @classmethod
    def of(cls, probabilities: Floats, losses: Floats, predictions: Predictions, bins: int) -> Stated:
        """From the probabilities, shape (n, classes), NaN where there is no map, and the log losses, shape (n,)."""
        known = np.nan_to_num(probabilities)
        columns = known, known.argmax(axis=1), predictions.labels, predictions.patient

        def part(rows: NDArray[np.bool_]) -> Examples:
            stated, predicted, labels, patient = columns
            patients = len(predictions.patients)
            return Examples(stated[rows], predicted[rows], labels[rows], patient[rows], patients, bins, losses[rows])

        everything = np.ones(len(predictions), bool)
        at = {value: part(rows) for value, rows in at_values(predictions)}
        return cls(part(everything), at, not np.isnan(probabilities).any())


class Recalibration(Evaluator):
    """Calibration error, log loss, Brier score and accuracy after each scaling, over all examples and by attribute value.

    >>> from robustbench_spur.types import Groups
    >>> ids, logits = np.array(["a", "b"]), np.log(np.array([[0.9, 0.1], [0.1, 0.9]], np.float32))
    >>> arrays = {
    ...     "recalibration_probabilities": np.full((2, 5, 2), 0.5, np.float32),
    ...     "recalibration_parameters": np.full((5, 1), np.nan),
    ...     "recalibration_reasons": np.array([""] * 5),
    ... }
    >>> predictions = Predictions(ids, np.array([0, 0]), np.zeros(2, int), ids, logits, Groups(("n", "y"), "a", ("x",)), arrays)
    >>> numbers = Recalibration().measure(predictions, np.ones((1, 2)))
    >>> round(numbers["recalibrated_ece:none"].item(), 3), numbers["recalibrated_ece:temperature"].item()
    (0.4, 0.5)
    """

    name = "recalibration"
    version = 1
    summary = "calibration after temperature, vector, Platt, beta and isotonic scaling fitted on validation"
    source = "Guo et al., ICML 2017, section 4; Kull et al., AISTATS 2017; Zadrozny and Elkan, KDD 2002"
    partitions = ("test",)
    reads = ("validation",)
    collects = ("recalibration_probabilities", "recalibration_parameters", "recalibration_reasons")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "recalibrated_ece:": Metric(
            "Top-label expected calibration error in equal-width bins after a scaling (none: before any).",
            better="lower",
            interval="basic",
        ),
        "recalibrated_ece_at:": Metric(
            "The same of the examples at one attribute value.", better="lower", interval="basic"
        ),
        "recalibrated_worst_ece:": Metric(
            "Top-label expected calibration error after a scaling at the attribute value where it is highest (as named on "
            "all patients), undefined if a value has no examples.",
            better="lower",
            interval="basic",
        ),
        "recalibrated_ece_gap:": Metric(
            "Top-label expected calibration error after a scaling at the attribute value where it is highest minus that "
            "where it is lowest (as named on all patients).",
            low=-1.0,
            better="lower",
            interval="basic",
        ),
        "recalibrated_ece_debiased:": Metric(
            "Root mean squared calibration error after a scaling, from pairs of examples of different patients, so that "
            "noise does not raise it; 0 where the estimate of the square is below.",
            better="lower",
        ),
        "recalibrated_ece_debiased_at:": Metric("The same of the examples at one attribute value.", better="lower"),
        "recalibrated_nll:": Metric(
            "Mean of minus the log of the true class's probability after a scaling, in nats; undefined where a true class "
            "has probability zero.",
            high=float("inf"),
            better="lower",
        ),
        "recalibrated_brier:": Metric(
            "Mean squared distance between the probabilities after a scaling and the true class's unit vector, summed over "
            "all classes.",
            high=2.0,
            better="lower",
        ),
        "recalibrated_accuracy:": Metric(
            "Share of examples whose largest probability after a scaling is that of their class (the lower code where "
            "some are equal)."
        ),
    }

    class Parameters(EvaluatorParameters):
        """How confidences are put in bins."""

        bins: int = parameter(15, "number of equal-width confidence bins in [0, 1]", at_least=1, at_most=1000)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Fit every map on validation, and apply it to the partition. See :meth:`Evaluator.collect`.

        Returns:
            ``recalibration_probabilities``, float32 of shape (n, scalings, classes), NaN where there is no map;
            ``recalibration_parameters``, of shape (scalings, most), filled up with NaN; ``recalibration_reasons``, why there
            is no map, shape (scalings,).
        """
        source, own = subject.other("validation").predictions, subject.predictions
        probabilities = np.full((len(own), len(MAPS), len(own.groups.classes)), np.nan, np.float32)
        fits = []
        for place, name in enumerate(MAPS):
            fits.append(scale(name, source.logits, source.labels, own.logits, own.groups.classes))
            mapped = fits[-1].probabilities
            if mapped is not None:
                probabilities[:, place] = np.where(mapped > 0, np.maximum(mapped, LEAST), 0)
            subject.progress(place + 1, len(MAPS))
        parameters = np.full((len(fits), max(1, *(len(fit.parameters) for fit in fits))), np.nan)
        for row, fit in zip(parameters, fits, strict=True):
            row[: len(fit.parameters)] = fit.parameters
        reasons = np.array([fit.reason for fit in fits], dtype=np.str_)
        return dict(zip(self.collects, (probabilities, parameters, reasons), strict=True))

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, a member per scaling, or per scaling and value.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts = check_counts(counts, len(predictions.patients))
        out: dict[str, Floats] = {}
        for name, stated in self._stated(predictions):
            out |= self._numbers(name, stated, counts)
        return out

    def _numbers(self, name: str, stated: Stated, counts: Floats) -> dict[str, Floats]:
        """Every metric of one scaling, each of shape (resamples,)."""
        undefined, whole, at = np.full(len(counts), np.nan), stated.whole, stated.at
        top, pair = whole.top(), self._named(at)
        error = {value: part.top().mean(counts) for value, part in at.items()}
        numbers = {
            "ece": top.mean(counts),
            **{f"ece_at:{value}": one for value, one in error.items()},
            "worst_ece": error[pair[0]] if pair else undefined,
            "ece_gap": error[pair[0]] - error[pair[-1]] if len(pair) == 2 else undefined,
            "ece_debiased": top.debiased(counts),
            **{f"ece_debiased_at:{value}": part.top().debiased(counts) for value, part in at.items()},
            "nll": whole.mean(whole.losses, counts) if np.isfinite(whole.losses).all() else undefined,
            "brier": whole.mean(brier_scores(whole.probabilities, whole.labels), counts),
            "accuracy": whole.mean(whole.correct, counts),
        }
        named = ((*metric.partition(":"), number) for metric, number in numbers.items())
        return {
            f"recalibrated_{metric}:{name}{colon}{value}": number if stated.known else undefined
            for metric, colon, value, number in named
        }

    def _named(self, at: Mapping[str, Examples]) -> tuple[str, ...]:
        """The values with the highest and the lowest error on all patients; the one there is; none if one has no examples."""
        error = {
            value: float(part.top().mean(np.ones((1, part.patients)))[0]) if len(part) else np.nan
            for value, part in at.items()
        }
        if len(error) == 1 and not np.isnan(list(error.values())).any():
            return tuple(error)
        return extremes(error) or ()

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """The maps, what they leave at each attribute value, and what is undefined and why.

        Returns:
            ``scalings``, a row per scaling, ``none`` first: name, parameters (the temperature; weights, then biases), reason
            (why there is no map, or empty), changed (number of examples whose predicted class is another than before),
            ``reliability`` (a row per bin: low, high, count, confidence, accuracy), worst_value (the attribute value with the
            highest error), and overconfidence_at (mean confidence minus accuracy by attribute value); None or an empty list
            where undefined. ``undefined``: why, by metric.
        """
        fits = self._fits(predictions)
        rows = []
        for name, stated in self._stated(predictions):
            parameters, reason = fits.get(name, ([], ""))
            row: dict[str, Any] = {"name": name, "parameters": parameters, "reason": reason}
            rows.append(row | self._row(stated, predictions))
        return {
            "definition": "maps fitted to validation's logits and labels by maximum likelihood (isotonic: least squares), "
            f"then measured on this partition; {self.parameters.bins} equal-width bins [low, high), the last [low, 1]",
            "scalings": rows,
            "undefined": {
                metric: self._why(metric, predictions, {name: reason for name, (_, reason) in fits.items()})
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def _row(self, stated: Stated, predictions: Predictions) -> dict[str, Any]:
        """What a scaling leaves, as JSON values."""
        if not stated.known:
            return {"changed": None, "reliability": [], "worst_value": None, "overconfidence_at": {}}
        whole, at = stated.whole, stated.at
        pair, point = self._named(at), everyone(predictions)
        return {
            "changed": int(np.count_nonzero(whole.predicted != predictions.predicted)),
            "reliability": whole.diagram(),
            "worst_value": pair[0] if pair else None,
            "overconfidence_at": {
                value: finite(part.mean(part.confidence - part.correct, point)[0]) for value, part in at.items()
            },
        }

    def _why(self, metric: str, predictions: Predictions, reasons: Mapping[str, str]) -> str:
        """The reason why a metric is NaN on all patients."""
        groups, (kind, name, *value) = predictions.groups, metric.split(":", 2)
        empty = [one for one, rows in at_values(predictions) if not rows.any()]
        if reasons.get(name):
            return reasons[name]
        if not len(predictions):
            return "no examples"
        if value and value[0] in empty:
            return f"no example has {groups.attribute} {value[0]}"
        if kind.endswith("nll"):
            return "an example's true class has probability zero: its log loss is infinite"
        if "debiased" in kind:
            return "no bin holds examples of two patients"
        lacking = f"needs examples at each value of {groups.attribute}, has none at {', '.join(empty)}"
        return lacking if empty else f"{groups.attribute} has one value only"

    def _stated(self, predictions: Predictions) -> Iterator[tuple[str, Stated]]:
        """The probabilities before and after each scaling."""
        found, shape = self._arrays(predictions)[0], (len(predictions), len(MAPS), len(predictions.groups.classes))
        if found.shape != shape:
            raise SpurbenchError(f"Expected {self.collects[0]} of shape {shape}, found {found.shape}. Collect again.")
        losses = negative_log_likelihood(predictions.logits, predictions.labels)
        yield BEFORE, Stated.of(predictions.probabilities, losses, predictions, self.parameters.bins)
        for place, name in enumerate(MAPS):
            probabilities = found[:, place].astype(np.float64)
            hit = probabilities[np.arange(len(predictions)), predictions.labels]
            losses = np.full(len(hit), np.inf)
            losses[hit > 0] = -np.log(hit[hit > 0])
            yield name, Stated.of(probabilities, losses, predictions, self.parameters.bins)

    def _fits(self, predictions: Predictions) -> dict[str, tuple[list[float], str]]:
        """Parameters and reason of each map."""
        _, parameters, reasons = self._arrays(predictions)
        if len(parameters) != len(MAPS) or reasons.shape != (len(MAPS),):
            raise SpurbenchError(
                f"Expected parameters and reasons of {len(MAPS)} scalings, found {len(parameters)} and {reasons.shape}."
            )
        rows = zip(MAPS, parameters, reasons.tolist(), strict=True)
        return {name: (row[~np.isnan(row)].tolist(), reason) for name, row, reason in rows}

    def _arrays(self, predictions: Predictions) -> list[NDArray[Any]]:
        missing = [name for name in self.collects if name not in predictions.arrays]
        if missing:
            raise SpurbenchError(
                f"Evaluator {self.name!r} needs the arrays {missing}, which these predictions do not have."
            )
        return [np.asarray(predictions.arrays[name]) for name in self.collects]

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """The calibration error after each scaling by netcal, as ``netcal/METRIC``; None where there is none."""
        from robustbench_spur.calibration.libraries import by_netcal

        out: dict[str, float | None] = {}
        for name, stated in self._stated(predictions):
            whole = stated.whole
            error = by_netcal(whole.confidence, whole.correct, self.parameters.bins, "mean") if stated.known else None
            out[f"netcal/recalibrated_ece:{name}"] = error
        return out
