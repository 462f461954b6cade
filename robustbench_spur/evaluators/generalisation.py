"""What validation promised and the test did not keep: the gap between validation and test accuracy.

Validation is drawn as training is: where the attribute tells the class there too, a model that relies on the attribute
looks good on it, and is chosen for it. Three gaps say how far that deceives:

- of all examples, as they come;
- of the worst group of either partition, each worst among the groups that its own partition declares;
- of single groups that both partitions have, where no difference of composition is left.

Validation patients are not resampled: intervals are those of the test patients, conditional on the validation set as it
is. How far the validation accuracy itself may be trusted stands beside it in the details, as an interval of its own from
resampled validation patients.

Source: none; a difference of accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.worst_group import everyone, group_accuracies, worst_group
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, group_means, patient_sums, ratio, resample_counts
from robustbench_spur.types import SpurbenchError, finite


@dataclass(frozen=True)
class Validation:
    """What is kept of the validation set.

    Args:
        right: right examples of each patient in each group of the whole Y x A, shape (patients, classes x values).
        examples: examples likewise.
        declared: which groups the validation set's design has, shape (classes x values,).
    """

    right: Floats
    examples: Floats
    declared: NDArray[np.bool_]

    def by_group(self) -> Floats:
        """Accuracy of each group of the whole Y x A, NaN where it has no examples."""
        return ratio(self.right.sum(axis=0), self.examples.sum(axis=0))

    def accuracy(self) -> float:
        """Accuracy of all examples, NaN where there are none."""
        return float(ratio(np.array(self.right.sum()), np.array(self.examples.sum())))

    def worst(self) -> int | None:
        """The declared group with the lowest accuracy, as an index of the whole Y x A; None where one is empty."""
        accuracy = np.where(self.declared, self.by_group(), np.inf)
        return None if np.isnan(accuracy).any() or not self.declared.any() else int(accuracy.argmin())

    def interval(self, replicates: int, seed: int) -> list[float] | None:
        """Percentile interval at 95 % of the accuracy, from resampled validation patients; None where there are none."""
        if not len(self.right):
            return None
        counts = resample_counts(len(self.right), replicates, seed)
        spread = (counts @ self.right.sum(axis=1)) / (counts @ self.examples.sum(axis=1))
        return [float(end) for end in np.quantile(spread, [0.025, 0.975])]


class Generalisation(Evaluator):
    """Validation accuracy minus test accuracy.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> said = np.array([[2, 0], [0, 2], [2, 0], [0, 2]], np.float32)
    >>> arrays = {  # one validation patient with two right examples, of the groups clear@3T and tumour@1.5T
    ...     "generalisation_right": np.array([[1, 0, 0, 1]]),
    ...     "generalisation_examples": np.array([[1, 0, 0, 1]]),
    ...     "generalisation_declared": np.array([1, 0, 0, 1]),
    ... }
    >>> predictions = Predictions(
    ...     np.array(list("abcd")), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array(list("pqrs")), said, groups, arrays
    ... )
    >>> numbers = Generalisation().measure(predictions, np.ones((1, 4)))
    >>> numbers["generalisation_gap"].item(), numbers["generalisation_worst_group_gap"].item()
    (0.5, 1.0)
    """

    name = "generalisation"
    version = 1
    summary = "validation accuracy minus test accuracy: of all examples, of the worst group, and of every group"
    source = "a difference of accuracies, defined in its file"
    reads = ("validation",)
    collects = ("generalisation_right", "generalisation_examples", "generalisation_declared")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "generalisation_gap": Metric(
            "Share of right validation examples minus share of right test examples; the interval is conditional on the "
            "validation set.",
            low=-1.0,
            better="neither",
        ),
        "generalisation_worst_group_gap": Metric(
            "Lowest accuracy of the groups that validation declares minus lowest accuracy of those that the test declares; "
            "undefined if a declared group has no examples; conditional on the validation set, the test's group as named on "
            "all patients.",
            low=-1.0,
            better="neither",
        ),
        "generalisation_gap_at:": Metric(
            "Validation accuracy of a group minus its test accuracy; conditional on the validation set.",
            low=-1.0,
            better="neither",
        ),
    }

    class Parameters(EvaluatorParameters):
        """The interval of the validation accuracy in the details; no metric depends on it."""

        replicates: int = parameter(2000, "resamplings of the validation patients", at_least=1)
        seed: int = parameter(2025, "of these resamplings", at_least=0)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Sums of the validation patients; no pass over images. See :meth:`Evaluator.collect`.

        Returns:
            ``generalisation_right`` and ``generalisation_examples``, right and all examples of each validation patient in
            each group of the whole Y x A, int64 of shape (patients, classes x values), and ``generalisation_declared``, 1
            where validation's design has the group, uint8 of shape (classes x values,).
        """
        known = subject.other("validation").predictions
        whole = known.groups.only(None)
        code, size = whole.index(known.labels, known.attributes), len(known.patients)
        sums = [patient_sums(known.patient, size, code, len(whole), weights) for weights in (known.correct, None)]
        return {
            "generalisation_right": sums[0].astype(np.int64),
            "generalisation_examples": sums[1].astype(np.int64),
            "generalisation_declared": np.isin(np.arange(len(whole)), list(known.groups.codes)).astype(np.uint8),
        }

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per group of the test.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts, known = check_counts(counts, len(predictions.patients)), collected(predictions)
        codes, names = list(predictions.groups.codes), predictions.groups.names
        accuracy, before = group_accuracies(predictions, counts), known.by_group()
        alike = np.zeros_like(predictions.group)
        overall = group_means(predictions.correct, predictions.patient, alike, 1, counts)[:, 0]
        best, worst = known.worst(), worst_group(predictions)
        undefined = np.full(len(counts), np.nan)
        return {
            "generalisation_gap": known.accuracy() - overall,
            "generalisation_worst_group_gap": (
                undefined if best is None or worst is None else before[best] - accuracy[:, worst]
            ),
            **{f"generalisation_gap_at:{name}": before[codes[g]] - accuracy[:, g] for g, name in enumerate(names)},
        }

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Both sides of every gap, the validation accuracy's own interval, and what is undefined and why.

        Returns:
            ``validation`` and ``test``: accuracy, examples, patients, worst_group (None where undefined), and in
            ``validation`` its ``interval`` at 95 %; ``groups``: a row per group of the test with both accuracies and both
            numbers of examples; ``undefined`` (why, by metric).
        """
        known, settings = collected(predictions), self.parameters
        groups, whole = predictions.groups, predictions.groups.only(None)
        accuracy, before = group_accuracies(predictions, everyone(predictions))[0], known.by_group()
        sizes, best, worst = known.examples.sum(axis=0), known.worst(), worst_group(predictions)
        return {
            "definition": "validation minus test accuracy; test patients are resampled, validation patients are not",
            "validation": {
                "accuracy": finite(known.accuracy()),
                "interval": known.interval(settings.replicates, settings.seed),
                "examples": int(known.examples.sum()),
                "patients": len(known.right),
                "worst_group": None if best is None else whole.names[best],
            },
            "test": {
                "accuracy": finite(predictions.correct.mean()) if len(predictions) else None,
                "examples": len(predictions),
                "patients": len(predictions.patients),
                "worst_group": None if worst is None else groups.names[worst],
            },
            "groups": [
                {
                    "group": groups.names[g],
                    "validation": finite(before[code]),
                    "validation_examples": int(sizes[code]),
                    "test": finite(accuracy[g]),
                    "test_examples": int(np.count_nonzero(predictions.group == g)),
                }
                for g, code in enumerate(groups.codes)
            ],
            "undefined": self._undefined(predictions, known),
        }

    def _undefined(self, predictions: Predictions, known: Validation) -> dict[str, str]:
        """Why a metric is NaN on all patients, by metric."""
        whole, sizes = predictions.groups.only(None), known.examples.sum(axis=0)
        empty = [whole.names[g] for g in np.flatnonzero(known.declared & (sizes == 0)).tolist()]
        reasons = {}
        for metric, value in self.points(predictions).items():
            if not np.isnan(value):
                continue
            group = metric.partition(":")[2]
            if metric == "generalisation_gap":
                reason = "no examples in the test" if not len(predictions) else "no examples in validation"
            elif group:
                code = whole.names.index(group)
                reason = "no examples in validation" if not sizes[code] else "no examples in the test"
                reason = reason if known.declared[code] else "validation's design does not have the group"
            elif empty:
                reason = f"{len(empty)} of validation's declared groups have no examples: {', '.join(empty)}"
            else:
                reason = "a declared group of the test has no examples"
            reasons[metric] = reason
        return reasons


def collected(predictions: Predictions) -> Validation:
    """The collected sums, after checking that they fit.

    Raises:
        SpurbenchError: an array is missing, has another shape, or counts what cannot be.
    """
    missing = [name for name in Generalisation.collects if name not in predictions.arrays]
    if missing:
        raise SpurbenchError(
            f"Evaluator 'generalisation' needs the arrays {missing}, which these predictions do not have."
        )
    right, examples, declared = (np.asarray(predictions.arrays[name]) for name in Generalisation.collects)
    groups = len(predictions.groups.only(None))
    if right.ndim != 2 or right.shape != examples.shape or declared.shape != (groups,) or right.shape[1] != groups:
        raise SpurbenchError(
            f"Expected sums of validation patients in {groups} groups, found shapes {right.shape}, {examples.shape} and"
            f" {declared.shape}. Collect again."
        )
    if not ((right >= 0) & (right <= examples)).all() or (examples[:, declared == 0] > 0).any():
        raise SpurbenchError(
            "Expected no more right validation examples than examples, and none of a group that its design lacks, found"
            " otherwise. Collect again."
        )
    return Validation(right.astype(np.float64), examples.astype(np.float64), declared.astype(bool))
