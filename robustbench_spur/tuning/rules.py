"""How a trial is judged: rules from predictions on validation to one number, side by side.

A rule reads labels, or attributes as well; the track of what it chose says so. The test set is read by none of them.

Source: worst class: Yang et al., ICML 2023 ("Change is hard"); class difference: Li et al., "Bias amplification enhances
    minority group performance" (BAM, TMLR), their ClassDiff; worst inferred environment: EVaLS (arXiv 2410.05345);
    interval: Wilson, JASA 22, 1927.
Deviations: the interval counts patients in the place of examples, since those of a patient are not independent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.types import SpurbenchError, nearest

Z = 1.959963984540054
"""Quantile of the normal distribution for two-sided 95 %."""
VERSION = 1
"""Raised whenever a rule changes its value."""
ENVIRONMENTS = ("where the reference is right", "where the reference is wrong")
"""How the inferred environments are called. For more than two classes, some errors of the reference are in the first."""


class Measured(BaseModel):
    """What a rule says about a model.

    Args:
        value: None where it is undefined.
        reason: why it is undefined; empty where it is not.
        part: name of the class, group or environment that the value is the accuracy of; empty where it is of none.
        patients: of that part; None where the value is no mean over a part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float | None
    reason: str = ""
    part: str = ""
    patients: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval; None where the value is no mean over patients."""
        return None if self.value is None or not self.patients else wilson(self.value, self.patients)


def wilson(share: float, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Args:
        share: in [0, 1].
        number: of independent units (patients), at least 1.

    >>> [round(end, 3) for end in wilson(1.0, 2)]
    [0.342, 1.0]
    """
    middle = share + Z**2 / (2 * number)
    reach = Z * math.sqrt(share * (1 - share) / number + Z**2 / (4 * number**2))
    low, high = ((middle + sign * reach) / (1 + Z**2 / number) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


@dataclass(frozen=True)
class Evidence:
    """What may be known of a trial's model before the choice.

    Args:
        validation: its predictions there; rules that declare no attributes read their labels alone.
        chooser: its predictions on the set whose attributes serve to choose: ``selection``, or validation where there is none;
            why they may not be used, where they may not.
        environments: that the reference's logits of the validation examples fall into, 0 or 1, shape (n,).
    """

    validation: Predictions
    chooser: Predictions | str
    environments: NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """A way to judge.

    Args:
        name: as the command line has it.
        summary: one line.
        measure: from what may be known to a number.
        needs: what it consumes, in the words of a method's ``needs``.
        sign: 1 where a higher value is better, -1 where a lower one is.
    """

    name: str
    summary: str
    measure: Callable[[Evidence], Measured]
    needs: tuple[str, ...] = ()
    sign: int = 1


def patients_of(predictions: Predictions, rows: NDArray[np.bool_]) -> int:
    """Number of patients among the examples of a mask of shape (n,)."""
    return len(np.unique(predictions.clusters[rows]))


def accuracies(predictions: Predictions, codes: NDArray[np.int64], parts: int) -> list[float]:
    """Share of right examples in each part, NaN where it has none; ``codes`` has shape (n,)."""
    right, rows = predictions.correct, [codes == part for part in range(parts)]
    return [float(right[there].mean()) if there.any() else math.nan for there in rows]


def worst_part(predictions: Predictions, codes: NDArray[np.int64], names: Sequence[str], where: str) -> Measured:
    """The lowest accuracy over declared parts, the first of equals; undefined where one of them has no examples."""
    found = accuracies(predictions, codes, len(names))
    empty = [name for name, value in zip(names, found, strict=True) if math.isnan(value)]
    if empty:
        return Measured(value=None, reason=f"no examples of {' and '.join(empty)} in {where}")
    worst = int(np.argmin(found))
    return Measured(value=found[worst], part=names[worst], patients=patients_of(predictions, codes == worst))


def average(evidence: Evidence) -> Measured:
    """Share of right validation examples."""
    predictions = evidence.validation
    return Measured(value=float(predictions.correct.mean()), patients=len(predictions.patients))


def worst_class(evidence: Evidence) -> Measured:
    """Accuracy of the worst class on validation."""
    predictions = evidence.validation
    return worst_part(predictions, predictions.labels, predictions.groups.classes, "validation")


def class_difference(evidence: Evidence) -> Measured:
    """Mean absolute difference of the accuracies of two classes on validation, over all pairs of classes."""
    predictions = evidence.validation
    names = predictions.groups.classes
    found = accuracies(predictions, predictions.labels, len(names))
    empty = [name for name, value in zip(names, found, strict=True) if math.isnan(value)]
    if empty or len(names) < 2:
        absent = f"no examples of {' and '.join(empty)} in validation"
        return Measured(value=None, reason=absent if empty else "there is one class only")
    return Measured(value=float(np.mean([abs(a - b) for a, b in itertools.combinations(found, 2)])))


def of_groups(evidence: Evidence) -> Measured:
    """Accuracy of the worst declared group on the set that serves to choose."""
    chooser = evidence.chooser
    if isinstance(chooser, str):
        return Measured(value=None, reason=chooser)
    return worst_part(chooser, chooser.group, chooser.groups.names, "the set that serves to choose")


def of_environments(evidence: Evidence) -> Measured:
    """Accuracy of the worst class in an inferred environment; those without examples are left out, as nobody declared them."""
    predictions, environments = evidence.validation, evidence.environments
    classes = predictions.groups.classes
    if len(np.unique(environments)) < len(ENVIRONMENTS):
        return Measured(
            value=None, reason="all of validation falls into one environment: the reference model leaves no other"
        )
    codes = environments * len(classes) + predictions.labels
    names = [f"{label} {where}" for where in ENVIRONMENTS for label in classes]
    there, dense = np.unique(codes, return_inverse=True)
    return worst_part(predictions, dense, [names[code] for code in there], "validation")


_ALL = (
    Rule("validation_average", "accuracy on validation", average),
    Rule("worst_class", "accuracy of the worst class on validation", worst_class),
    Rule("worst_group", "accuracy of the worst group; reads attributes", of_groups, ("validation_attributes",)),
    Rule("class_difference", "mean difference of the classes' accuracies; lower is better", class_difference, sign=-1),
    Rule("worst_inferred_environment", "accuracy of the worst class in an inferred environment", of_environments),
)
RULES = {rule.name: rule for rule in _ALL}
"""The rules, by name, in the order of their columns."""
AVERAGE = "validation_average"
"""The rule that breaks ties."""
DEFAULT = "worst_inferred_environment"
"""Reads no attributes, and yet sees the shortcut: the other rules that read none prefer who uses it, on a biased validation."""


def find_rule(name: str) -> Rule:
    """The rule of a name.

    Raises:
        SpurbenchError: no such rule; the nearest are given.
    """
    if name not in RULES:
        raise SpurbenchError(f"Unknown selection rule {name!r} of a tuner. {nearest(name, list(RULES))}")
    return RULES[name]


def judge(evidence: Evidence) -> dict[str, Measured]:
    """What every rule says, by its name."""
    return {name: rule.measure(evidence) for name, rule in RULES.items()}


def mean_of(parts: Sequence[Measured]) -> Measured:
    """One value for a trial that ran with several seeds or on several folds: the mean, undefined where one is.

    Part and patients are those of the cell whose part has the fewest patients: the least that the value rests on.
    """
    for one in parts:
        if one.value is None:
            return one
    values = [one.value for one in parts if one.value is not None]
    least = min(parts, key=lambda one: math.inf if one.patients is None else one.patients)
    # exactly rounded, so that the order of seeds and folds breaks no tie
    return least.model_copy(update={"value": math.fsum(values) / len(values)})
