"""Does the model look at the scanner? The same slices with the attribute changed, and nothing else.

The data set renders every slice again with the other value of the attribute: the same patient, lesion and noise at the
other field strength, or the same image turned. What the model then says otherwise, it says because of the attribute.

    flip rate = share of the slices whose predicted class changes
    effect    = mean of P(class 1 | tied value) - P(class 1 | other value), one of the two being the slice as it is

The tied value is the one that goes with class 1 in training, so a positive effect follows the shortcut. Where training
ties neither, it is the last of the values, as the splits order them.

Source: Denton et al., Image Counterfactual Sensitivity Analysis for Detecting Unintended Bias, 2019, arXiv 1906.06439
(how a classifier's output changes with one property of the image). Deviations: the images are rendered by the model that
made the data, or turned, where the paper fits a generative network; the sign is that of the shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, Finding, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.finding import Verdict, beyond, in_percent
from robustbench_spur.evaluators.scenes import Means, means_of, scene_logits, tie_of, two_by_two, with_logits
from robustbench_spur.evaluators.worst_group import ADVICE, distinct_patients
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate

NOTABLE = 0.05
"""A share of changed predictions, and a change of probability, that is worth a doubt."""
LIMITS: Mapping[Verdict, str] = {
    "problem": "By which of its traces: noise, contrast and geometry all change with it.",
    "doubt": "That more than predictions near the threshold change, which any other scan would change too.",
    "no sign": "That it decides by what it should: another property of the images may do.",
}
"""What a finding leaves open."""


class Counterfactual(Evaluator):
    """How often, and in which direction, the prediction changes when only the attribute does.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> ids, zero = np.array(["a", "b"]), np.zeros(2, int)
    >>> said, other = (np.log(np.array(p, np.float32)) for p in ([[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.7], [0.8, 0.2]]))
    >>> predictions = Predictions(ids, zero, zero, ids, said, groups, {"counterfactual_logits": other})
    >>> numbers = Counterfactual().measure(predictions, np.ones((1, 2)))
    >>> numbers["attribute_flip_rate"].item(), round(numbers["attribute_effect"].item(), 3)
    (0.5, 0.3)
    """

    name = "counterfactual"
    version = 1
    summary = "reliance on the attribute: how predictions change when only the attribute of a slice does"
    source = "Denton et al. 2019, arXiv 1906.06439"
    partitions = ("test",)
    collects = ("counterfactual_logits",)
    requires = ("counterfactual",)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "attribute_flip_rate": Metric(
            "Share of the examples whose predicted class changes when the example is rendered with the other attribute "
            "value.",
            better="lower",
        ),
        "attribute_flip_rate_at:": Metric(
            "The same share of the examples that have one attribute value as they are.", better="lower"
        ),
        "attribute_flip_rate_in:": Metric("The same share of one declared group's examples.", better="lower"),
        "attribute_effect": Metric(
            "Of two classes and two values: mean over examples of the probability of class 1 at the attribute value "
            "that training ties to class 1 (the last value where it ties neither) minus that at the other, the rest of "
            "the image being the same; positive follows the shortcut, 0 ignores it.",
            low=-1.0,
            better="neither",
        ),
        "attribute_effect_at:": Metric(
            "The same mean over the examples that have one attribute value as they are.", low=-1.0, better="neither"
        ),
        "attribute_effect_in:": Metric("The same mean over one declared group's examples.", low=-1.0, better="neither"),
    }

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """What the model says of the slices with the other attribute value. See :meth:`Evaluator.collect`.

        Returns:
            ``counterfactual_logits``, float32 of shape (n, classes).

        Raises:
            SpurbenchError: see :func:`scene_logits`.
        """
        return {"counterfactual_logits": scene_logits(subject, "counterfactual")}

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with members by value and by group.

        Raises:
            SpurbenchError: counts or collected logits that do not fit the predictions.
        """
        counts, other = check_counts(counts, len(predictions.patients)), self._other(predictions)
        every = np.ones(len(predictions), bool)
        flips = means_of(other.predicted != predictions.predicted, every, predictions, counts)
        if two_by_two(predictions):
            groups = predictions.groups
            effects = Means(*(np.full((len(counts), *n), np.nan) for n in ((), (len(groups.values),), (len(groups),))))
        else:
            effects = means_of(effects_of(predictions, other), every, predictions, counts)
        return {**_named("attribute_flip_rate", flips, predictions), **_named("attribute_effect", effects, predictions)}

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: all patients, those with an example at a value, or in a group."""
        out = {}
        for metric in ("attribute_flip_rate", "attribute_effect"):
            out[metric] = len(predictions.patients)
            for code, value in enumerate(predictions.groups.values):
                out[f"{metric}_at:{value}"] = distinct_patients(predictions, predictions.attributes == code)
            for group, name in enumerate(predictions.groups.names):
                out[f"{metric}_in:{name}"] = distinct_patients(predictions, predictions.group == group)
        return out

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Where predictions go, and what the sign refers to.

        Returns:
            ``tied_value`` and ``tied_class`` (names; None where there are not two of each), ``tied_by`` (how that is
            known), ``became`` (for each attribute value and predicted class, how many examples the model then gives each
            class), and ``undefined`` (why, by metric).
        """
        other, groups = self._other(predictions), predictions.groups
        tie, why = tie_of(predictions), two_by_two(predictions)
        numbers = self.points(predictions)
        return {
            "tied_value": None if why else groups.values[tie.value],
            "tied_class": None if why else groups.classes[1],
            "tied_by": None if why else "training" if tie.known else "order of the values: training ties neither",
            "became": [
                {"value": value, "predicted": name, **_tally(predictions, other, code, label)}
                for code, value in enumerate(groups.values)
                for label, name in enumerate(groups.classes)
            ],
            "undefined": {
                name: why if why and name.startswith("attribute_effect") else "no examples"
                for name, value in numbers.items()
                if np.isnan(value)
            },
        }

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether it decides by the attribute: how many predictions change with it, and in the shortcut's direction or not."""
        groups, names = predictions.groups, ("attribute_flip_rate", "attribute_effect")
        flips, effect = (estimates[name] for name in names)
        question = f"Does it decide by {groups.attribute}?"
        if flips.value is None:
            return [Finding(question, "unknown", f"Cannot be told: {flips.reason}.", names, "That it does not.")]
        text = f"With {groups.attribute} changed and all else as it was, {in_percent(flips)} of its predictions change."
        # an effect that is the same in all resamplings has no interval
        verdict = beyond(flips if effect.low is None else effect, NOTABLE)
        if effect.value is not None:
            tied = groups.values[tie_of(predictions).value]
            text += f" {tied} adds {effect.value:+.3f} to the probability of {groups.classes[1]}, on average."
        if verdict == "no sign" and beyond(flips, NOTABLE) != "no sign":
            verdict = "doubt"
        return [Finding(question, verdict, text, names, LIMITS[verdict], "" if verdict == "no sign" else ADVICE)]

    def _other(self, predictions: Predictions) -> Predictions:
        """What was said of the same examples with the other attribute value."""
        return with_logits(predictions, "counterfactual_logits", self.name)


def effects_of(predictions: Predictions, other: Predictions) -> Floats:
    """Of each example, P(class 1) at the tied value minus P(class 1) at the other, shape (n,), in [-1, 1].

    Args:
        predictions: of the examples as they are, of two classes and two values.
        other: of the same with the other value.
    """
    sign = np.where(predictions.attributes == tie_of(predictions).value, 1.0, -1.0)
    return np.asarray(sign * (predictions.probabilities[:, 1] - other.probabilities[:, 1]))


def _named(metric: str, means: Means, predictions: Predictions) -> dict[str, Floats]:
    """A metric and its two families."""
    return {
        metric: means.overall,
        **{f"{metric}_at:{value}": means.value[:, v] for v, value in enumerate(predictions.groups.values)},
        **{f"{metric}_in:{name}": means.group[:, g] for g, name in enumerate(predictions.groups.names)},
    }


def _tally(predictions: Predictions, other: Predictions, code: int, label: int) -> dict[str, Any]:
    """Number of examples at an attribute value that are predicted as a class, and what they become."""
    rows = (predictions.attributes == code) & (predictions.predicted == label)
    became = np.bincount(other.predicted[rows], minlength=len(predictions.groups.classes)).tolist()
    return {"examples": int(rows.sum()), "became": dict(zip(predictions.groups.classes, became, strict=True))}
