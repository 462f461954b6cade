"""Accuracy of every declared group, the worst of them, and what else the predicted classes say.

The declared groups are those of the partition: a group that the split's design leaves out there is in no table and no
metric, a designed one without examples makes the worst group undefined.

The worst group is the one whose accuracy on all patients is lowest. Under resampling it stays that group: a
percentile bootstrap of the minimum itself does not cover when groups are alike.

Source: Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020 (worst-group accuracy);
Hanley and McNeil, Radiology 143, 1982 (AUROC as the probability of a right order).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Finding, Floats, Metric, Predictions
from robustbench_spur.evaluators.finding import Verdict, in_percent
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import (
    SUMS_BYTES,
    blocks,
    check_counts,
    group_means,
    patient_sums,
    ratio,
    running_sums,
    sums_and_sizes,
)
from robustbench_spur.types import Estimate, finite

NOTABLE = 0.05
"""A difference of accuracies that is worth a doubt."""
ADVICE = (
    "Where the attribute is known in training, draw its groups equally often; where it is known for a small set only, fit"
    " the last layer on that set with groups balanced; where it is not known, use a method that looks for the errors of a"
    " brief model."
    " spurbench list methods names them by what they need."
)
"""What helped where it was measured: see docs/results.md."""
TWO_CLASS_METRICS = ("sensitivity", "specificity", "ppv", "npv", "auroc", "positive_rate_gap")
"""Metrics that are defined for two classes only; class 1 is the positive one."""


def weighted_auroc(
    scores: NDArray[Any], positive: NDArray[np.bool_], patient: NDArray[np.int64], counts: Floats
) -> Floats:
    """Probability that a positive example scores above a negative one, ties counted half, under each resampling.

    Args:
        scores: shape (n,), finite.
        positive: shape (n,).
        patient: patient of each example, shape (n,).
        counts: draws of each patient, shape (resamples, patients).

    Returns:
        Shape (resamples,), in [0, 1]; NaN where a resampling lacks positives or negatives.

    >>> scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    >>> weighted_auroc(scores, positive, np.arange(4), np.ones((1, 4))).tolist()
    [0.875]
    """
    order = np.argsort(scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    there, whose = np.unique(patient, return_inverse=True)
    of_negative, of_positive = whose[~positive][order], whose[positive]
    below = np.searchsorted(negatives, scores[positive], "left")
    upto = np.searchsorted(negatives, scores[positive], "right")
    out = np.empty(len(counts))
    for part in blocks(len(counts), 16 * (len(scores) + 1), SUMS_BYTES):
        # One row per example: taking whole rows is several times faster than picking columns.
        drawn = counts[part].T[there]
        weight = running_sums(drawn, of_negative)
        drawn = drawn[of_positive]
        wins = np.einsum("er,er->r", drawn, weight[below]) + np.einsum("er,er->r", drawn, weight[upto])
        out[part] = ratio(wins / 2, drawn.sum(axis=0) * weight[-1])
    return out


def group_accuracies(predictions: Predictions, counts: Floats) -> Floats:
    """Share of right examples of each declared group, shape (resamples, groups); NaN for a group without examples."""
    groups = len(predictions.groups)
    return group_means(predictions.correct, predictions.patient, predictions.group, groups, counts)


def everyone(predictions: Predictions) -> Floats:
    """The counts that give the point estimate: every patient once, shape (1, patients)."""
    return np.ones((1, len(predictions.patients)))


def worst_group(predictions: Predictions) -> int | None:
    """Index of the group with the lowest accuracy, the first of equals; None if a declared group is empty."""
    accuracy = group_accuracies(predictions, everyone(predictions))[0]
    return None if np.isnan(accuracy).any() else int(accuracy.argmin())


def positive_rates(predictions: Predictions, counts: Floats) -> Floats:
    """Share of examples predicted as class 1 at each attribute value, shape (resamples, values)."""
    values = len(predictions.groups.values)
    return group_means(predictions.predicted == 1, predictions.patient, predictions.attributes, values, counts)


def gap_values(predictions: Predictions) -> tuple[int, int] | None:
    """Between which attribute values (minuend, subtrahend) the positive-rate gap is taken.

    Of two values, the last and the first; of more, those with the highest and the lowest rate on all patients. None
    where there is one value only, or one of several has no examples.
    """
    values = len(predictions.groups.values)
    if values <= 2:
        return (1, 0) if values == 2 else None
    rates = positive_rates(predictions, everyone(predictions))[0]
    return None if np.isnan(rates).any() else (int(rates.argmax()), int(rates.argmin()))


def two_class_metrics(predictions: Predictions, counts: Floats) -> dict[str, Floats]:
    """The :data:`TWO_CLASS_METRICS`, each of shape (resamples,); all NaN unless there are two classes."""
    if len(predictions.groups.classes) != 2:
        return {name: np.full(len(counts), np.nan) for name in TWO_CLASS_METRICS}
    cell = 2 * predictions.labels + predictions.predicted
    tn, fp, fn, tp = (counts @ patient_sums(predictions.patient, counts.shape[1], cell, 4)).T
    margin = predictions.logits[:, 1].astype(np.float64) - predictions.logits[:, 0]
    gap, rates = gap_values(predictions), positive_rates(predictions, counts)
    return {
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "ppv": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        "auroc": weighted_auroc(margin, predictions.labels == 1, predictions.patient, counts),
        "positive_rate_gap": rates[:, gap[0]] - rates[:, gap[1]] if gap else np.full(len(counts), np.nan),
    }


def accuracies(predictions: Predictions, counts: Floats) -> dict[str, Floats]:
    """Accuracy of every group, and the summaries of accuracies, each of shape (resamples,)."""
    accuracy, worst = group_accuracies(predictions, counts), worst_group(predictions)
    alike = np.zeros_like(predictions.group)
    right = patient_sums(predictions.patient, counts.shape[1], alike, 1, predictions.correct)[:, 0]
    examples = patient_sums(predictions.patient, counts.shape[1], alike, 1)[:, 0]
    return {
        "worst_group_accuracy": np.full(len(counts), np.nan) if worst is None else accuracy[:, worst],
        "lowest_group_accuracy": accuracy.min(axis=1),
        **{f"group_accuracy:{name}": accuracy[:, g] for g, name in enumerate(predictions.groups.names)},
        "balanced_accuracy": accuracy.mean(axis=1),
        "micro_accuracy": ratio(counts @ right, counts @ examples),
        "patient_macro_accuracy": ratio(counts @ (right / examples), counts.sum(axis=1)),
    }


def group_table(predictions: Predictions) -> list[dict[str, Any]]:
    """Name, number of examples and patients, and accuracy (or None) of each declared group, in index order."""
    accuracy = group_accuracies(predictions, everyone(predictions))[0]
    return [
        {"group": name, "examples": examples, "patients": patients, "accuracy": finite(accuracy[g])}
        for g, (name, examples, patients) in enumerate(predictions.group_sizes())
    ]


def distinct_patients(predictions: Predictions, rows: NDArray[np.bool_]) -> int:
    """Number of patients among the examples of a mask of shape (n,)."""
    return len(np.unique(predictions.patient[rows]))


def why_undefined(metric: str, predictions: Predictions, empty: list[str]) -> str:
    """The reason why a metric is NaN on all patients, given the names of the empty groups."""
    groups = predictions.groups
    if metric in TWO_CLASS_METRICS and len(groups.classes) != 2:
        return f"defined for two classes, the split has {len(groups.classes)}"
    absent, present = groups.classes[0], groups.classes[-1]
    return {
        "lowest_group_accuracy": f"{len(empty)} of {len(groups)} declared groups have no examples: {', '.join(empty)}",
        "worst_group_accuracy": f"{len(empty)} of {len(groups)} declared groups have no examples: {', '.join(empty)}",
        "balanced_accuracy": f"{len(empty)} of {len(groups)} declared groups have no examples: {', '.join(empty)}",
        "sensitivity": f"no example is {present}",
        "specificity": f"no example is {absent}",
        "ppv": f"no example is predicted as {present}",
        "npv": f"no example is predicted as {absent}",
        "auroc": f"needs examples of both {absent} and {present}",
        "positive_rate_gap": f"needs examples at several values of {groups.attribute}, and at each declared one",
    }.get(metric, "no examples")


class WorstGroup(Evaluator):
    """Accuracy by group, and its summaries.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> said = np.array([[2, 0], [2, 0], [2, 0], [0, 2]], np.float32)
    >>> predictions = Predictions(
    ...     np.array(list("abcd")), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array(list("pqrs")), said, groups
    ... )
    >>> numbers = WorstGroup().measure(predictions, np.ones((1, 4)))
    >>> numbers["worst_group_accuracy"].item(), numbers["balanced_accuracy"].item()
    (0.0, 0.75)
    >>> WorstGroup().details(predictions)["worst_group"]
    'tumour@3T'
    """

    name = "worst_group"
    version = 1
    summary = "accuracy of every group, the worst of them, and sensitivity, specificity, AUROC and their like"
    source = "Sagawa et al., ICLR 2020"
    partitions = ("train", "validation", "adapt", "selection", "test")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "worst_group_accuracy": Metric(
            "Lowest of the declared groups' accuracies, undefined if a declared group has no examples; its interval is "
            "that of the group so named (a percentile bootstrap of a minimum does not cover)."
        ),
        "lowest_group_accuracy": Metric(
            "The same lowest accuracy; its interval is for the lowest of the groups' true accuracies, whichever group that is.",
            minimum_of="group_accuracy:",
        ),
        "group_accuracy:": Metric("Share of the group's examples whose largest logit is that of their class."),
        "balanced_accuracy": Metric(
            "Unweighted mean of the declared groups' accuracies, undefined if a declared group has no examples."
        ),
        "micro_accuracy": Metric("Share of all examples whose largest logit is that of their class."),
        "patient_macro_accuracy": Metric("Unweighted mean over patients of the accuracy on the patient's examples."),
        "sensitivity": Metric("Of two classes: share of the examples of class 1 that are predicted as class 1."),
        "specificity": Metric("Of two classes: share of the examples of class 0 that are predicted as class 0."),
        "ppv": Metric("Of two classes: share of the examples predicted as class 1 that are of class 1."),
        "npv": Metric("Of two classes: share of the examples predicted as class 0 that are of class 0."),
        "auroc": Metric(
            "Of two classes: probability that an example of class 1 has a larger logit difference (class 1 minus "
            "class 0) than one of class 0, ties counted half."
        ),
        "positive_rate_gap": Metric(
            "Of two classes: share predicted as class 1 at one attribute value minus that at another; of two values "
            "the last minus the first, of more the highest minus the lowest (as named on all patients).",
            low=-1.0,
            better="neither",
        ),
    }

    class Parameters(EvaluatorParameters):
        """Settings of the warnings; no number depends on them."""

        minimum_patients: int = parameter(
            5, "groups with fewer patients are shown with a warning, not ranked on", at_least=1
        )

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per declared group."""
        counts = check_counts(counts, len(predictions.patients))
        return {**accuracies(predictions, counts), **two_class_metrics(predictions, counts)}

    def measure_only(self, predictions: Predictions, counts: Floats, metrics: Collection[str]) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure_only`: the worst group alone needs no other, accuracies no two-class metric."""
        counts = check_counts(counts, len(predictions.patients))
        if len(metrics) == 1 and (sums := self.quotient(predictions, *metrics)) is not None:
            right, number = (counts @ sums).T
            return dict.fromkeys(metrics, ratio(right, number))
        every = accuracies(predictions, counts)
        if not every.keys() >= set(metrics):
            every |= two_class_metrics(predictions, counts)
        return {name: every[name] for name in metrics}

    def quotient(self, predictions: Predictions, metric: str) -> Floats | None:
        """See :meth:`Evaluator.quotient`: right examples and examples of the worst group."""
        worst = worst_group(predictions)
        if metric != "worst_group_accuracy" or worst is None:
            return None
        own = predictions.group == worst
        right, patient, one = predictions.correct[own], predictions.patient[own], np.zeros(int(own.sum()), np.int64)
        return sums_and_sizes(right, patient, one, 1, len(predictions.patients))

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`; for the mean over groups, the patients of the smallest group."""
        table, worst = group_table(predictions), worst_group(predictions)
        of_group = [row["patients"] for row in table]
        behind = dict.fromkeys(("micro_accuracy", "patient_macro_accuracy"), len(predictions.patients))
        behind |= {f"group_accuracy:{row['group']}": row["patients"] for row in table}
        behind["balanced_accuracy"] = min(of_group)
        if worst is not None:
            behind["worst_group_accuracy"] = of_group[worst]
        if len(predictions.groups.classes) == 2:
            behind["sensitivity"] = distinct_patients(predictions, predictions.labels == 1)
            behind["specificity"] = distinct_patients(predictions, predictions.labels == 0)
            behind["ppv"] = distinct_patients(predictions, predictions.predicted == 1)
            behind["npv"] = distinct_patients(predictions, predictions.predicted == 0)
        return behind

    def shares(self, predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
        """See :meth:`Evaluator.shares`."""
        group, worst = predictions.group, worst_group(predictions)
        of = {f"group_accuracy:{name}": group == g for g, name in enumerate(predictions.groups.names)}
        of["micro_accuracy"] = of["patient_macro_accuracy"] = np.ones(len(predictions), bool)
        if worst is not None:
            of["worst_group_accuracy"] = group == worst
        if len(predictions.groups.classes) == 2:
            of |= {"sensitivity": predictions.labels == 1, "specificity": predictions.labels == 0}
        return of

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Tables and reasons: every group with its counts, the worst one, confusion counts, what is undefined and why.

        Returns:
            ``groups`` (name, examples, patients, accuracy of each declared group), ``groups_with_examples`` and
            ``empty_groups``, ``worst_group`` and ``worst_group_patients`` (None where undefined), ``confusion`` (counts
            by true class, then predicted class), ``positive_rates`` by attribute value and the two values
            ``positive_rate_gap_between``, ``undefined`` (why, by metric), and ``warnings``.
        """
        table, worst = group_table(predictions), worst_group(predictions)
        empty = [row["group"] for row in table if not row["examples"]]
        classes, gap = len(predictions.groups.classes), gap_values(predictions)
        confusion = np.bincount(classes * predictions.labels + predictions.predicted, minlength=classes**2)
        rates = positive_rates(predictions, everyone(predictions))[0] if classes == 2 else []
        values = predictions.groups.values
        return {
            "groups": table,
            "groups_with_examples": f"{len(table) - len(empty)} of {len(table)} groups have examples",
            "empty_groups": empty,
            "worst_group": None if worst is None else table[worst]["group"],
            "worst_group_patients": None if worst is None else table[worst]["patients"],
            "confusion": confusion.reshape(classes, classes).tolist(),
            "positive_rates": {value: finite(rate) for value, rate in zip(values, rates, strict=False)},
            "positive_rate_gap_between": [values[value] for value in gap] if gap and classes == 2 else None,
            "undefined": {
                metric: why_undefined(metric, predictions, empty)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
            "warnings": self._warnings(table),
        }

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether some patients are failed: the worst group against the average, and how sure one can be of it."""
        question = "Does it fail some patients more than others?"
        worst, average = estimates["worst_group_accuracy"], estimates["micro_accuracy"]
        names = ("worst_group_accuracy", "micro_accuracy")
        if worst.value is None or average.value is None:
            text = f"Cannot be told: {worst.reason}. A model can be right on average and wrong on all of these."
            advice = "Collect images of the groups that have none."
            return [Finding(question, "unknown", text, names, "That no group is failed.", advice)]
        row = next(r for r in group_table(predictions) if r["group"] == self.details(predictions)["worst_group"])
        apart = worst.high is not None and worst.high < (average.value if average.low is None else average.low)
        verdict: Verdict = "problem" if apart else "doubt" if average.value - worst.value > NOTABLE else "no sign"
        text = (
            f"Of {row['group']} ({row['examples']} slices of {row['patients']} patients) it gets {in_percent(worst)} right, of"
            f" all slices {in_percent(average)}."
        )
        limits = {
            "problem": "Why: another difference between these patients may go with the attribute.",
            "doubt": "That the difference is more than chance: the intervals overlap.",
            "no sign": "That no other attribute divides the patients: this one alone was looked at.",
        }[verdict]
        if row["patients"] < self.parameters.minimum_patients:
            limits += f" {row['patients']} patients are too few to say more."
        return [Finding(question, verdict, text, names, limits, "" if verdict == "no sign" else ADVICE)]

    def _warnings(self, table: list[dict[str, Any]]) -> list[str]:
        """A line for each group that is there but has few patients."""
        least = self.parameters.minimum_patients
        return [
            f"{row['group']} has {row['patients']} patient(s), fewer than {least}: shown, not ranked on"
            for row in table
            if 0 < row["patients"] < least
        ]

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """Accuracies and AUROC from torchmetrics, as ``torchmetrics/METRIC``; None where undefined."""
        names = ["micro_accuracy", *(f"group_accuracy:{name}" for name in predictions.groups.names)]
        rows = [np.ones(len(predictions), bool), *(predictions.group == g for g in range(len(predictions.groups)))]
        out = {
            f"torchmetrics/{name}": _torchmetrics_accuracy(predictions, row)
            for name, row in zip(names, rows, strict=True)
        }
        by_group = list(out.values())[1:]
        known = [value for value in by_group if value is not None]
        complete = len(known) == len(by_group)
        out["torchmetrics/worst_group_accuracy"] = min(known) if complete else None
        out["torchmetrics/balanced_accuracy"] = sum(known) / len(known) if complete else None
        out["torchmetrics/auroc"] = _torchmetrics_auroc(predictions)
        return out


def _torchmetrics_accuracy(predictions: Predictions, rows: NDArray[np.bool_]) -> float | None:
    """Micro accuracy of the logits on a mask of examples; None if there are none, or a single class is declared."""
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy

    classes = len(predictions.groups.classes)
    if not rows.any() or classes < 2:
        return None
    logits, labels = torch.from_numpy(predictions.logits[rows]), torch.from_numpy(predictions.labels[rows])
    return float(multiclass_accuracy(logits, labels, num_classes=classes, average="micro"))


def _torchmetrics_auroc(predictions: Predictions) -> float | None:
    """AUROC of the logit difference; None unless there are two classes, and examples of both."""
    import torch
    from torchmetrics.functional.classification import binary_auroc

    if len(predictions.groups.classes) != 2 or len(np.unique(predictions.labels)) != 2:
        return None
    margin = predictions.logits[:, 1].astype(np.float64) - predictions.logits[:, 0]
    # Values in [0, 1] are taken as they are; a sigmoid would make ties of large margins. The order is all that counts.
    distinct, rank = np.unique(margin, return_inverse=True)
    return float(binary_auroc(torch.from_numpy(rank / len(distinct)), torch.from_numpy(predictions.labels)))
