"""Does the model look at the lesion? The same slices of the same patients without it.

The data set renders every slice again without the lesion. A model that finds lesions has nothing left to find, so its
tumour predictions turn to clear; one that reads the scanner says what it said before.

    flip rate = of the slices with a lesion that are called class 1, the share no longer called so without it
    effect    = mean over the slices with a lesion of the fall of P(class 1)

Slices with a lesion are those of class 1; the others stay as they are. Read it beside the change of the attribute alone: a
model that reacts to the scanner and not to the lesion is caught in these two numbers.

Source: the project's own. The intervention is the deletion of the evidence, as in Fong and Vedaldi, Interpretable
Explanations of Black Boxes by Meaningful Perturbation, ICCV 2017. Deviations: the tissue is rendered without the lesion,
where the paper blurs or fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, Finding, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.counterfactual import NOTABLE, effects_of
from robustbench_spur.evaluators.finding import Verdict, beyond, in_percent
from robustbench_spur.evaluators.scenes import means_of, scene_logits, two_by_two, with_logits
from robustbench_spur.evaluators.worst_group import distinct_patients
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate

LIMITS: Mapping[Verdict, str] = {
    "problem": "What it looks at instead; the change of the attribute alone says whether it is that.",
    "doubt": "That it ignores the lesion: it reacts to it little, or not surely.",
    "no sign": "That the lesion is all that it looks at.",
}
"""What a finding leaves open."""


class LesionRemoved(Evaluator):
    """How far predictions of tumour rest on the tumour.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> ids, one, zero = np.array(["a", "b"]), np.ones(2, int), np.zeros(2, int)
    >>> said, other = (np.log(np.array(p, np.float32)) for p in ([[0.1, 0.9], [0.2, 0.8]], [[0.7, 0.3], [0.2, 0.8]]))
    >>> predictions = Predictions(ids, one, zero, ids, said, groups, {"lesion_removed_logits": other})
    >>> numbers = LesionRemoved().measure(predictions, np.ones((1, 2)))
    >>> numbers["lesion_flip_rate"].item(), round(numbers["lesion_effect"].item(), 3)
    (0.5, 0.3)
    """

    name = "lesion_removed"
    version = 1
    summary = "reliance on the lesion: how predictions of tumour change when the slice's lesion is not there"
    source = "Fong and Vedaldi, ICCV 2017"
    partitions = ("test",)
    collects = ("lesion_removed_logits",)
    requires = ("without_lesion",)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "lesion_flip_rate": Metric(
            "Of two classes: share of the examples of class 1 that are predicted as class 1, and as class 0 when they are "
            "rendered without the lesion, among those that are predicted as class 1."
        ),
        "lesion_flip_rate_in:": Metric("The same share in one declared group of class 1."),
        "lesion_effect": Metric(
            "Of two classes: mean over the examples of class 1 of the probability of class 1 minus that when the example "
            "is rendered without the lesion; 0 ignores the lesion.",
            low=-1.0,
        ),
        "lesion_effect_in:": Metric("The same mean over one declared group of class 1.", low=-1.0),
    }

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """What the model says of the slices without their lesions. See :meth:`Evaluator.collect`.

        Returns:
            ``lesion_removed_logits``, float32 of shape (n, classes), those of slices without a lesion included.

        Raises:
            SpurbenchError: see :func:`~robustbench_spur.evaluators.scenes.scene_logits`.
        """
        return {"lesion_removed_logits": scene_logits(subject, "without_lesion")}

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per group of class 1.

        Raises:
            SpurbenchError: counts or collected logits that do not fit the predictions.
        """
        counts = check_counts(counts, len(predictions.patients))
        other, groups = with_logits(predictions, "lesion_removed_logits", self.name), _lesion_groups(predictions)
        if len(predictions.groups.classes) != 2:
            names = [name + end for name in ("lesion_flip_rate", "lesion_effect") for end in ("", *_ends(groups))]
            return {name: np.full(len(counts), np.nan) for name in names}
        lesion = predictions.labels == 1
        flips = means_of(other.predicted == 0, lesion & (predictions.predicted == 1), predictions, counts)
        fall = predictions.probabilities[:, 1] - other.probabilities[:, 1]
        effects = means_of(fall, lesion, predictions, counts)
        return {
            "lesion_flip_rate": flips.overall,
            **{f"lesion_flip_rate_in:{name}": flips.group[:, g] for g, name in groups.items()},
            "lesion_effect": effects.overall,
            **{f"lesion_effect_in:{name}": effects.group[:, g] for g, name in groups.items()},
        }

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients with a lesion, for the flip rate with one that is called tumour."""
        if len(predictions.groups.classes) != 2:
            return {}
        lesion, out = predictions.labels == 1, {}
        for metric, rows in (
            ("lesion_flip_rate", lesion & (predictions.predicted == 1)),
            ("lesion_effect", lesion),
        ):
            out[metric] = distinct_patients(predictions, rows)
            for g, name in _lesion_groups(predictions).items():
                out[f"{metric}_in:{name}"] = distinct_patients(predictions, rows & (predictions.group == g))
        return out

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Counts, and the number in words.

        Returns:
            ``lesions`` (examples of class 1), ``found`` (of these, predicted as class 1) and ``lost`` (of the found, as class
            0 without the lesion); ``attribute_effect``, where the slices were rendered with the other attribute value too,
            else None; ``reading`` in words; ``undefined`` (why, by metric).
        """
        other = with_logits(predictions, "lesion_removed_logits", self.name)
        found = (predictions.labels == 1) & (predictions.predicted == 1)
        numbers = self.points(predictions)
        beside = _attribute_effect(predictions)
        return {
            "lesions": int((predictions.labels == 1).sum()),
            "found": int(found.sum()),
            "lost": int((found & (other.predicted == 0)).sum()),
            "attribute_effect": beside,
            "reading": _reading(predictions, numbers, beside),
            "undefined": {
                name: _why_undefined(name, predictions) for name, value in numbers.items() if np.isnan(value)
            },
        }

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether it looks at the lesion: what becomes of its tumour predictions without one."""
        question, names = "Does it look at the lesion?", ("lesion_effect", "lesion_flip_rate")
        effect, flips = (estimates[name] for name in names)
        if effect.value is None:
            return [Finding(question, "unknown", f"Cannot be told: {effect.reason}.", names, "That it does.")]
        tumour, verdict = predictions.groups.classes[1], beyond(effect, NOTABLE, above=False)
        text = f"Without its lesion, a slice's probability of {tumour} falls by {effect.value:.3f} on average"
        lost = f"; of the slices called {tumour}, {in_percent(flips)} no longer are" if flips.value is not None else ""
        return [Finding(question, verdict, f"{text}{lost}.", names, LIMITS[verdict])]


def _lesion_groups(predictions: Predictions) -> dict[int, str]:
    """Names of the declared groups of class 1, by index."""
    groups = predictions.groups
    return {g: groups.names[g] for g, code in enumerate(groups.codes) if code // len(groups.values) == 1}


def _ends(groups: Mapping[int, str]) -> list[str]:
    return [f"_in:{name}" for name in groups.values()]


def _why_undefined(metric: str, predictions: Predictions) -> str:
    classes = predictions.groups.classes
    if len(classes) != 2:
        return f"defined for two classes, the split has {len(classes)}"
    if metric.startswith("lesion_flip_rate"):
        return f"no example of {classes[1]} is predicted as {classes[1]}"
    return f"no example is {classes[1]}"


def _attribute_effect(predictions: Predictions) -> float | None:
    """Mean effect of the attribute on P(class 1), where it was collected and is defined."""
    if "counterfactual_logits" not in predictions.arrays or two_by_two(predictions) or not len(predictions):
        return None
    other = with_logits(predictions, "counterfactual_logits", "lesion_removed")
    return float(effects_of(predictions, other).mean())


def _reading(predictions: Predictions, numbers: Mapping[str, float], beside: float | None) -> str:
    """The effects of the lesion and, where it is known, of the attribute, in a sentence."""
    effect = numbers["lesion_effect"]
    if np.isnan(effect):
        return "There is no lesion to remove."
    tumour, attribute = predictions.groups.classes[1], predictions.groups.attribute
    lesion = f"Without its lesion, a slice's probability of {tumour} falls by {effect:.3f} on average"
    if beside is None:
        return f"{lesion}; a model that does not react to the lesion decides by something else."
    more = "more" if beside > effect else "no more"
    return f"{lesion}; {attribute} alone moves it by {beside:+.3f} along the shortcut, {more} than the lesion does."
