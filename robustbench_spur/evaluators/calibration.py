"""Whether a model's confidence is its accuracy: expected calibration error, log loss and Brier score.

The error is that of the top label: examples are put in bins by the probability of the predicted class, and the bins'
gaps between mean confidence and accuracy are averaged, weighted by the number of examples:

    ECE = sum over bins b of |sum over examples i in b of (confidence_i - correct_i)| / n

It is taken over all examples and over those at each attribute value, never inside a (label, attribute) group: where
all labels are alike, calibration of the positive class degenerates to an accuracy.

ECE is biased upward by noise, the more so the fewer examples a bin holds, so its interval is the basic one. In
simulations with 60 to 600 patients, a nominal 95 % covers an error of 0.03 to 0.15 in 87 to 95 % of cases, but an error
of exactly zero in 55 to 70 % only (a percentile interval never contains zero).

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3 (ECE, 15 bins); Brier, Monthly
Weather Review 78, 1950 (the sum over all classes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, patient_sums, ratio
from robustbench_spur.types import finite


def bin_index(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Bin of each confidence, of equal-width bins closed on the left; the last one holds 1 too.

    Args:
        confidence: shape (n,), in [0, 1].
        bins: number of bins.

    Returns:
        Shape (n,), 0 to ``bins - 1``.

    >>> bin_index(np.array([0.0, 0.25, 0.999, 1.0]), 4).tolist()
    [0, 1, 3, 3]
    """
    index = np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="right") - 1
    return np.clip(index, 0, bins - 1)


def negative_log_likelihood(logits: NDArray[Any], labels: NDArray[np.int64]) -> Floats:
    """Minus the log of the true class's softmax probability, finite however large the logits are.

    Args:
        logits: shape (n, classes), finite.
        labels: shape (n,).

    Returns:
        Shape (n,), 0 or more, in nats.

    >>> negative_log_likelihood(np.array([[0.0, 0.0], [0.0, 1e4]]), np.array([1, 0])).round(3).tolist()
    [0.693, 10000.0]
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels])


def brier_scores(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Squared distance between the probabilities and the true class's unit vector, summed over all classes.

    For two classes this is twice the squared error of the positive class.

    Args:
        probabilities: shape (n, classes), rows sum to 1.
        labels: shape (n,).

    Returns:
        Shape (n,), in [0, 2].

    >>> brier_scores(np.array([[0.8, 0.2], [1.0, 0.0]]), np.array([0, 1])).round(3).tolist()
    [0.08, 2.0]
    """
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return np.asarray((errors**2).sum(axis=1))


def confidence(predictions: Predictions) -> Floats:
    """Probability of the predicted class, shape (n,), in [1 / classes, 1]."""
    return np.asarray(predictions.probabilities.max(axis=1))


def at_values(predictions: Predictions) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each declared attribute value with the mask of its examples, shape (n,)."""
    for code, value in enumerate(predictions.groups.values):
        yield value, predictions.attributes == code


class Calibration(Evaluator):
    """Top-label ECE, log loss and Brier score, overall and at each attribute value.

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
    summary = "calibration: expected calibration error of the top label, log loss and Brier score"
    source = "Guo et al., ICML 2017, equation 3; Brier 1950"
    partitions = ("validation", "test")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "ece": Metric(
            "Top-label expected calibration error: mean over examples of the absolute gap between mean confidence and "
            "accuracy in the example's bin, in equal-width bins closed on the left (the last one on both sides).",
            better="lower",
            interval="basic",
        ),
        "ece_at:": Metric(
            "Top-label expected calibration error of the examples at one attribute value.",
            better="lower",
            interval="basic",
        ),
        "nll": Metric(
            "Mean of minus the log of the true class's probability, in nats.", high=float("inf"), better="lower"
        ),
        "nll_at:": Metric(
            "Mean of minus the log of the true class's probability over the examples at one attribute value, in nats.",
            high=float("inf"),
            better="lower",
        ),
        "brier": Metric(
            "Mean squared distance between the probabilities and the true class's unit vector, summed over all "
            "classes (twice the squared error of the positive class where there are two).",
            high=2.0,
            better="lower",
        ),
        "brier_at:": Metric(
            "Mean squared distance, summed over all classes, over the examples at one attribute value.",
            high=2.0,
            better="lower",
        ),
    }

    class Parameters(EvaluatorParameters):
        """How confidences are put in bins."""

        bins: int = parameter(15, "number of equal-width confidence bins in [0, 1]", at_least=1, at_most=1000)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per attribute value."""
        counts = check_counts(counts, len(predictions.patients))
        at = {value: self._sums(predictions, rows, counts) for value, rows in at_values(predictions)}
        overall = {name: np.sum([sums[name] for sums in at.values()], axis=0) for name in ("n", "gap", "nll", "brier")}
        out = _means(overall)
        for value, sums in at.items():
            out |= {f"{name}_at:{value}": mean for name, mean in _means(sums).items()}
        return out

    def _sums(self, predictions: Predictions, rows: NDArray[np.bool_], counts: Floats) -> dict[str, Floats]:
        """Resampled sums over a mask of examples: ``gap`` of shape (resamples, bins), the others (resamples,)."""
        patient, labels = predictions.patient[rows], predictions.labels[rows]
        sure = confidence(predictions)[rows]
        index, one_cell = bin_index(sure, self.parameters.bins), np.zeros_like(patient)

        def drawn(codes: NDArray[np.int64], cells: int, weights: Floats | None = None) -> Floats:
            return np.asarray(counts @ patient_sums(patient, counts.shape[1], codes, cells, weights))

        return {
            "n": drawn(one_cell, 1)[:, 0],
            "gap": drawn(index, self.parameters.bins, sure - predictions.correct[rows]),
            "nll": drawn(one_cell, 1, negative_log_likelihood(predictions.logits[rows], labels))[:, 0],
            "brier": drawn(one_cell, 1, brier_scores(predictions.probabilities[rows], labels))[:, 0],
        }

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Reliability diagrams, the definition in words, and what is undefined and why.

        Returns:
            ``definition``, ``bins``, ``reliability`` (a list with a row per bin: low, high, count, confidence,
            accuracy; the last two None in an empty bin), ``reliability_at`` (such a list by attribute value), and
            ``undefined`` (why, by metric).
        """
        bins = self.parameters.bins
        empty = [value for value, rows in at_values(predictions) if not rows.any()]
        reasons = {
            f"{name}_at:{value}": f"no example has {predictions.groups.attribute} {value}"
            for name in ("ece", "nll", "brier")
            for value in empty
        }
        if not len(predictions):
            reasons |= dict.fromkeys(("ece", "nll", "brier"), "no examples")
        return {
            "definition": (
                f"top-label ECE (confidence of the predicted class), {bins} equal-width bins [low, high), the last "
                "[low, 1]; weighted mean of |mean confidence - accuracy|; never inside a (label, attribute) group"
            ),
            "bins": bins,
            "reliability": reliability(predictions, np.ones(len(predictions), bool), bins),
            "reliability_at": {value: reliability(predictions, rows, bins) for value, rows in at_values(predictions)},
            "undefined": reasons,
        }

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """ECE from netcal and torchmetrics, as ``LIBRARY/METRIC``; None where there are no examples."""
        out: dict[str, float | None] = {}
        everyone = ("ece", np.ones(len(predictions), bool))
        for name, rows in (everyone, *((f"ece_at:{value}", rows) for value, rows in at_values(predictions))):
            out[f"netcal/{name}"] = _netcal_ece(predictions, rows, self.parameters.bins)
            out[f"torchmetrics/{name}"] = _torchmetrics_ece(predictions, rows, self.parameters.bins)
        return out


def _means(sums: dict[str, Floats]) -> dict[str, Floats]:
    """ECE, log loss and Brier score, each of shape (resamples,), from the resampled sums."""
    return {
        "ece": ratio(np.abs(sums["gap"]).sum(axis=1), sums["n"]),
        "nll": ratio(sums["nll"], sums["n"]),
        "brier": ratio(sums["brier"], sums["n"]),
    }


def reliability(predictions: Predictions, rows: NDArray[np.bool_], bins: int) -> list[dict[str, float | int | None]]:
    """The reliability diagram of a mask of examples, shape (n,): a row per bin, empty ones included."""
    sure, correct = confidence(predictions)[rows], predictions.correct[rows]
    index, edges = bin_index(sure, bins), np.linspace(0, 1, bins + 1)
    columns = (np.ones_like(sure), sure, correct)
    count, total, right = (np.bincount(index, column, minlength=bins).astype(np.float64) for column in columns)
    mean_confidence, accuracy = ratio(total, count), ratio(right, count)
    return [
        {
            "low": float(edges[b]),
            "high": float(edges[b + 1]),
            "count": int(count[b]),
            "confidence": finite(mean_confidence[b]),
            "accuracy": finite(accuracy[b]),
        }
        for b in range(bins)
    ]


def _netcal_ece(predictions: Predictions, rows: NDArray[np.bool_], bins: int) -> float | None:
    """ECE of netcal in its one-dimensional mode: its N x K mode takes the positive class where there are two."""
    from netcal.metrics import ECE

    if not rows.any():
        return None
    return float(ECE(bins).measure(confidence(predictions)[rows], predictions.correct[rows].astype(np.int64)))


def _torchmetrics_ece(predictions: Predictions, rows: NDArray[np.bool_], bins: int) -> float | None:
    """Multiclass ECE of torchmetrics, which is that of the top label, in float32; None for a single class."""
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    classes = len(predictions.groups.classes)
    if not rows.any() or classes < 2:
        return None
    # torchmetrics puts a confidence of exactly 1 in a bin of its own (its issue 3510); the float below 1 is in ours.
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    probabilities = torch.from_numpy(np.minimum(predictions.probabilities[rows], below_one))
    labels = torch.from_numpy(predictions.labels[rows])
    return float(multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=bins, norm="l1"))
