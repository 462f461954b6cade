"""Whether a model knows when it errs: risk-coverage curves, the areas under them, and the detection of failures.

A model that may refuse to answer refuses where it is least sure. Four scores say how sure it is of an example: the
largest probability, minus the entropy, the margin between the two largest probabilities, and the energy (the log-sum-exp
of the logits). Of two classes the first three put the examples in the same order, and their numbers are equal; they are
compared on a scale on which confident examples are not rounded to ties. Logits that are log probabilities, as those of a
mean of several models, have no energy: it is zero for every example.

The areas, and what becomes of ties, are defined in :mod:`robustbench_spur.evaluators.selective`. Curves of single groups rank a
group's own examples only; a common threshold moves along all of them at once.

Source: Geifman, Uziel and El-Yaniv, ICLR 2019, section 3 (AURC, excess AURC); Traub et al., NeurIPS 2024 (AUGRC);
Hendrycks and Gimpel, ICLR 2017 (largest probability, failure detection); Liu et al., NeurIPS 2020 (energy); Jones et al.,
Selective Classification Can Magnify Disparities Across Groups, ICLR 2021 (curves by group).
Deviations: energy at temperature 1 detects errors here, where its paper detects other distributions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Finding, Floats, Metric, Predictions
from robustbench_spur.evaluators.finding import Verdict, beyond, in_percent
from robustbench_spur.evaluators.selective import confidences, coverage_at_risk, risk_coverage, selective_risk
from robustbench_spur.evaluators.worst_group import everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, finite

TELLING = 0.6
"""A confidence that orders fewer pairs than this hardly tells errors."""
AREAS = ("aurc", "e_aurc", "augrc", "failure_auroc")
LEADING = "max_probability"
"""The score of the curves and of the numbers that are given for one score only."""


class Uncertainty(Evaluator):
    """How well four scores of confidence rank the errors last.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> said = np.array([[4, 0], [3, 0], [0, 2], [0, 1]], np.float32)
    >>> predictions = Predictions(
    ...     np.array(list("abcd")), np.array([0, 0, 1, 0]), np.array([0, 1, 0, 1]), np.array(list("pqrs")), said, groups
    ... )
    >>> numbers = Uncertainty().measure(predictions, np.ones((1, 4)))  # the least sure example is the one error
    >>> [round(numbers[f"{area}:entropy"].item(), 6) for area in ("aurc", "e_aurc", "failure_auroc")]
    [0.0625, 0.0, 1.0]
    >>> numbers["coverage_at_risk"].item()
    0.75
    """

    name = "uncertainty"
    version = 1
    summary = "risk-coverage curves, their areas, and how well confidence detects errors, also by group"
    source = "Geifman et al., ICLR 2019; Traub et al., NeurIPS 2024"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "aurc:": Metric(
            "Mean over k of the share of errors among the k examples with the largest confidence, tied ones in random "
            "order; by score of confidence.",
            better="lower",
        ),
        "e_aurc:": Metric(
            "The area under the risk-coverage curve minus that of an order with all errors last.", better="lower"
        ),
        "augrc:": Metric(
            "Area under the generalised risk-coverage curve, whose risk is the number of accepted errors over that of "
            "all examples.",
            high=0.5,
            better="lower",
        ),
        "failure_auroc:": Metric(
            "Probability that a rightly classified example has a larger confidence than a wrongly classified one, ties "
            "counted half; by score of confidence."
        ),
        "aurc_at:": Metric(
            "Area under the risk-coverage curve of a declared group's examples alone, by the largest probability.",
            better="lower",
        ),
        "coverage_at_risk": Metric(
            "Largest share of the examples that a threshold on the largest probability accepts with at most the stated "
            "share of errors among them."
        ),
    }

    class Parameters(EvaluatorParameters):
        """Where the curve is read, and how finely it is kept."""

        risk: float = parameter(
            0.05, "share of errors that coverage_at_risk allows among the accepted", at_least=0, at_most=1
        )
        points: int = parameter(50, "greatest number of points of a kept curve", at_least=2, at_most=1000)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per score or group."""
        counts = check_counts(counts, len(predictions.patients))
        patient, wrong, scores = predictions.patient, ~predictions.correct, confidences(predictions.logits)
        undefined = dict.fromkeys(AREAS, np.full(len(counts), np.nan))
        # scores that are one array have one order: it is measured once
        distinct = {id(score): score for score in scores.values() if score is not None}
        measured = {key: selective_risk(score, wrong, patient, counts) for key, score in distinct.items()}
        out = {
            f"{area}:{name}": measured.get(id(score), undefined)[area]
            for area in AREAS
            for name, score in scores.items()
        }
        sure = leading(predictions)
        for g, name in enumerate(predictions.groups.names):
            own = predictions.group == g
            out[f"aurc_at:{name}"] = selective_risk(sure[own], wrong[own], patient[own], counts)["aurc"]
        out["coverage_at_risk"] = coverage_at_risk(sure, wrong, patient, counts, self.parameters.risk)
        return out

    def measure_only(self, predictions: Predictions, counts: Floats, metrics: Collection[str]) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure_only`: the areas of one score need no other."""
        scores, wanted = confidences(predictions.logits), [metric.partition(":") for metric in metrics]
        asked = {id(scores.get(name)): scores.get(name) for _, _, name in wanted}
        (score, *others) = asked.values() if asked else (None,)
        if score is None or others or any(area not in AREAS for area, _, _ in wanted):
            return super().measure_only(predictions, counts, metrics)
        counts = check_counts(counts, len(predictions.patients))
        detection = not {area for area, _, _ in wanted} <= {"aurc", "e_aurc"}
        found = selective_risk(score, ~predictions.correct, predictions.patient, counts, detection=detection)
        return {f"{area}:{name}": found[area] for area, _, name in wanted}

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether its confidence tells its errors."""
        name = "failure_auroc:max_probability"
        telling = estimates[name]
        if telling.value is None:
            verdict: Verdict = "unknown"
            text = f"Cannot be told: {telling.reason}."
        else:
            verdict = beyond(telling, TELLING, above=False)
            text = f"A right answer is more confident than a wrong one in {in_percent(telling)} of pairs; 50 % would be chance."
        limits = "That it would know on images of another kind: these are of the kind that it was tested on."
        return [Finding("Does it know when it is wrong?", verdict, text, (name,), limits)]

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Curves, what a threshold at the allowed risk accepts, and what is undefined and why.

        Returns:
            ``curve`` and ``curves_at`` (by group): rows of coverage, risk and threshold (the least accepted largest
            probability), ascending in coverage, at most ``points`` of them, each where a block of tied examples ends;
            ``at_risk``: the allowed risk, the threshold (None where nothing is accepted), and the coverage and risk it
            gives overall and in every group; ``undefined`` (why, by metric).
        """
        groups = enumerate(predictions.groups.names)
        return {
            "definition": (
                "examples are accepted in descending order of confidence, tied ones together in curves and in random order "
                "in areas; the risk is the share of errors among the accepted"
            ),
            "curve": self._curve(predictions, np.ones(len(predictions), bool)),
            "curves_at": {name: self._curve(predictions, predictions.group == g) for g, name in groups},
            "at_risk": self._at_risk(predictions),
            "undefined": {
                metric: _why_undefined(metric, predictions)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def _curve(self, predictions: Predictions, rows: NDArray[np.bool_]) -> list[dict[str, float]]:
        """The thinned curve of a mask of examples, shape (n,)."""
        sure, wrong = leading(predictions)[rows], ~predictions.correct[rows]
        return [
            {"coverage": coverage, "risk": risk, "threshold": _probability(least, predictions)}
            for coverage, risk, least in risk_coverage(sure, wrong, self.parameters.points)
        ]

    def _at_risk(self, predictions: Predictions) -> dict[str, Any]:
        """What the threshold behind ``coverage_at_risk`` does, overall and in every group."""
        sure, ones = leading(predictions), everyone(predictions)
        allowed, wrong = self.parameters.risk, ~predictions.correct
        coverage = coverage_at_risk(sure, wrong, predictions.patient, ones, allowed)[0]
        count = 0 if np.isnan(coverage) else round(coverage * len(sure))
        least = np.sort(sure)[-count] if count else np.inf
        masks = {"all": np.ones(len(sure), bool)}
        masks |= {name: predictions.group == g for g, name in enumerate(predictions.groups.names)}
        rows = []
        for name, mask in masks.items():
            taken = mask & (sure >= least)
            rows.append(
                {
                    "group": name,
                    "coverage": finite(taken.sum() / mask.sum()) if mask.any() else None,
                    "risk": finite(wrong[taken].mean()) if taken.any() else None,
                }
            )
        threshold = _probability(float(least), predictions) if count else None
        return {"risk": allowed, "threshold": threshold, "overall": rows[0], "groups": rows[1:]}

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """AUROC of failure detection from torchmetrics, as ``torchmetrics/METRIC``; None where it is undefined."""
        import torch
        from torchmetrics.functional.classification import binary_auroc

        correct, out = predictions.correct, dict[str, float | None]()
        for name, score in confidences(predictions.logits).items():
            out[f"torchmetrics/failure_auroc:{name}"] = None
            if score is not None and 0 < np.count_nonzero(correct) < len(correct):
                # values in [0, 1] are taken as they are; a sigmoid would make ties
                distinct, rank = np.unique(score, return_inverse=True)
                found = binary_auroc(torch.from_numpy(rank / len(distinct)), torch.from_numpy(correct.astype(np.int64)))
                out[f"torchmetrics/failure_auroc:{name}"] = float(found)
        return out


def leading(predictions: Predictions) -> Floats:
    """The largest probability of each example on the scale of its log odds, shape (n,)."""
    score = confidences(predictions.logits)[LEADING]
    return np.zeros(len(predictions)) if score is None else score


def _probability(log_odds: float, predictions: Predictions) -> float:
    """A largest probability from its log odds; 1 where there is one class."""
    return float(1 / (1 + np.exp(-log_odds))) if len(predictions.groups.classes) > 1 else 1.0


def _why_undefined(metric: str, predictions: Predictions) -> str:
    """The reason why a metric is NaN on all patients."""
    if not len(predictions) or metric.startswith("aurc_at:"):
        return "no examples"
    if metric.endswith(":energy") and confidences(predictions.logits)["energy"] is None:
        return "the logits are log probabilities, whose energy is zero for every example"
    return "no example is wrong" if predictions.correct.all() else "no example is right"
