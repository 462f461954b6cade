"""Whether errors fall alike on the values of the attribute, and whether they sit where training's association breaks.

Of two classes, with class 1 the positive one, equalised odds asks that the true-positive and the false-positive rate be
the same at every attribute value. The distance from it is given as one number, half the sum of the two gaps:

    (max_a - min_a of P(said 1 | is 1, a)  +  max_a - min_a of P(said 1 | is 0, a)) / 2

With more classes the rates are undefined; the accuracy gap and the errors of the conflict groups are defined for any
number. The gap of positive rates that asks for no labels is in the evaluator ``worst_group``.

Conflict groups are those that training contradicts: with fewer than half of the training examples that independence of
class and attribute would give them. Errors of a model that relies on the attribute gather there.

A gap is a largest minus a smallest: noise alone makes it positive. Both ends are named on all patients and stay those
under resampling, so its interval may reach below zero, which says that the order of the two is not resolved.

Source: Hardt, Price and Srebro, Equality of Opportunity in Supervised Learning, NeurIPS 2016, definition 2.1; Brown et
al., Detecting shortcut learning for fair medical AI using shortcut testing, Nature Communications 14, 2023 (its use as a
sign of shortcuts); Bellamy et al., AI Fairness 360, 2018 (the mean of both gaps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, Finding, Floats, Metric, Predictions
from robustbench_spur.evaluators.finding import Verdict, beyond, in_percent
from robustbench_spur.evaluators.worst_group import distinct_patients, everyone, group_accuracies
from robustbench_spur.statistics import check_counts, patient_sums, ratio
from robustbench_spur.types import Estimate, finite

EXCESS = 0.1
"""By how much the share of errors may exceed that of the slices before it is worth a doubt."""
RATES = {"true_positive_rate_gap": 1, "false_positive_rate_gap": 0}
"""Class whose examples a gap is taken over."""


class Fairness(Evaluator):
    """Gaps between attribute values, and where the errors are.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> said = np.array([[2, 0], [0, 2], [0, 2], [0, 2]], np.float32)
    >>> predictions = Predictions(
    ...     np.array(list("abcd")), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array(list("pqrs")), said, groups,
    ...     conflict=(1, 2),
    ... )
    >>> numbers = Fairness().measure(predictions, np.ones((1, 4)))
    >>> {name: value.item() for name, value in numbers.items() if "conflict" not in name}
    {'equalised_odds': 0.5, 'true_positive_rate_gap': 0.0, 'false_positive_rate_gap': 1.0, 'accuracy_gap': 1.0}
    >>> numbers["conflict_error_share"].item(), numbers["conflict_error_excess"].item()
    (1.0, 0.5)
    """

    name = "fairness"
    version = 1
    summary = "equalised odds, gaps between attribute values and groups, and the share of errors on conflict groups"
    source = "Hardt et al., NeurIPS 2016; Brown et al., Nature Communications 2023"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "equalised_odds": Metric(
            "Of two classes: half the sum of the true-positive and the false-positive rate gap between attribute values.",
            low=-1.0,
            better="lower",
        ),
        "true_positive_rate_gap": Metric(
            "Of two classes: largest minus smallest share, over attribute values, of the examples of class 1 that are "
            "predicted as class 1; between the values so named on all patients.",
            low=-1.0,
            better="lower",
        ),
        "false_positive_rate_gap": Metric(
            "Of two classes: largest minus smallest share, over attribute values, of the examples of class 0 that are "
            "predicted as class 1; between the values so named on all patients.",
            low=-1.0,
            better="lower",
        ),
        "accuracy_gap": Metric(
            "Largest minus smallest of the declared groups' accuracies, between the groups so named on all patients; "
            "undefined if a declared group has no examples.",
            low=-1.0,
            better="lower",
        ),
        "conflict_error_share": Metric(
            "Share of all errors that fall on examples of the groups that training contradicts.", better="neither"
        ),
        "conflict_error_excess": Metric(
            "Share of all errors that fall on the groups that training contradicts, minus the share of all examples that "
            "are in them; 0 where errors are spread evenly.",
            low=-1.0,
            better="lower",
        ),
    }

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`; the metrics are those of :attr:`metrics`."""
        counts = check_counts(counts, len(predictions.patients))
        accuracy, undefined = group_accuracies(predictions, counts), np.full(len(counts), np.nan)
        out = {}
        for metric, ends in named_ends(predictions).items():
            out[metric] = undefined if ends is None else accuracy[:, ends[0]] - accuracy[:, ends[1]]
        odds = (out["true_positive_rate_gap"] + out["false_positive_rate_gap"]) / 2
        return {"equalised_odds": odds, **out, **conflict_errors(predictions, counts)}

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: of a gap, the patients of the smaller group; of a share, those with errors."""
        of_group = [distinct_patients(predictions, predictions.group == g) for g in range(len(predictions.groups))]
        ends = named_ends(predictions)
        behind = {name: min(of_group[g] for g in pair) for name, pair in ends.items() if pair is not None}
        if len(behind.keys() & RATES.keys()) == 2:
            behind["equalised_odds"] = min(behind[name] for name in RATES)
        behind["conflict_error_share"] = distinct_patients(predictions, ~predictions.correct)
        return behind

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether the errors fall on those whom the shortcut misleads."""
        share, excess = estimates["conflict_error_share"], estimates["conflict_error_excess"]
        names = [predictions.groups.names[g] for g in predictions.conflict]
        if share.value is None:
            verdict: Verdict = "unknown"
            text = f"Cannot be told: {share.reason}."
        else:
            verdict = beyond(excess, EXCESS)
            text = (
                f"{in_percent(share)} of its errors lie in {' and '.join(names)}, which training contradicts; that is"
                f" {in_percent(excess)} above their share of the slices."
            )
        limits = "That the attribute itself makes it err: what goes with it may."
        question = "Do its errors fall on those whom the shortcut misleads?"
        return [Finding(question, verdict, text, ("conflict_error_share", "conflict_error_excess"), limits)]

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Rates by attribute value, the named ends of each gap, the errors by group, and what is undefined and why.

        Returns:
            ``rates`` (of two classes: true- and false-positive rate by attribute value, None where there is no example),
            ``between`` (names of the two groups of each gap, the one with the higher accuracy first; None where undefined),
            ``errors`` (a row per declared group: examples, errors, share of all examples, share of all errors, conflict),
            ``undefined`` (why, by metric).
        """
        groups, accuracy = predictions.groups, group_accuracies(predictions, everyone(predictions))[0]
        rates: dict[str, dict[str, float | None]] = {}
        if len(groups.classes) == 2:
            for g, (label, value) in enumerate(places(predictions)):
                rate = accuracy[g] if label else 1 - accuracy[g]
                name = "true_positive_rate" if label else "false_positive_rate"
                rates.setdefault(groups.values[value], {})[name] = finite(rate)
        ends = named_ends(predictions)
        return {
            "definition": (
                "class 1 is the positive one; gaps are the largest minus the smallest value on all patients; conflict groups "
                "have fewer than half of the training examples that independence of class and attribute would give them"
            ),
            "rates": rates,
            "between": {name: None if pair is None else [groups.names[g] for g in pair] for name, pair in ends.items()},
            "errors": error_table(predictions),
            "undefined": {
                metric: _why_undefined(metric, predictions)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """Equalised odds from scikit-learn's confusion matrices, as ``sklearn/equalised_odds``; None where undefined."""
        from sklearn.metrics import confusion_matrix

        if np.isnan(self.points(predictions)["equalised_odds"]):
            return {"sklearn/equalised_odds": None}
        rates: dict[int, list[float]] = {0: [], 1: []}
        for value in range(len(predictions.groups.values)):
            rows = predictions.attributes == value
            table = confusion_matrix(predictions.labels[rows], predictions.predicted[rows], labels=[0, 1])
            for label in np.flatnonzero(table.sum(axis=1)).tolist():
                rates[label].append(float(table[label, 1] / table[label].sum()))
        return {"sklearn/equalised_odds": sum(max(of_class) - min(of_class) for of_class in rates.values()) / 2}


def places(predictions: Predictions) -> list[tuple[int, int]]:
    """Class and attribute code of each declared group, in index order."""
    return [divmod(code, len(predictions.groups.values)) for code in predictions.groups.codes]


def named_ends(predictions: Predictions) -> dict[str, tuple[int, int] | None]:
    """Of each gap the groups (minuend, subtrahend) whose accuracies it is between, by the accuracies on all patients.

    The true-positive rate at a value is the accuracy of class 1 there, the false-positive rate one minus that of class 0.
    Of equals the first is named. None where there are fewer than two groups to compare, or one of them has no examples.
    """
    accuracy = group_accuracies(predictions, everyone(predictions))[0]
    two = len(predictions.groups.classes) == 2
    labels = np.array([label for label, _ in places(predictions)])
    compared = {name: np.flatnonzero(labels == label) if two else np.array([], int) for name, label in RATES.items()}
    compared["accuracy_gap"] = np.arange(len(labels))
    out: dict[str, tuple[int, int] | None] = {}
    for name, members in compared.items():
        own = accuracy[members]
        whole = len(members) > 1 and not np.isnan(own).any()
        out[name] = (int(members[own.argmax()]), int(members[own.argmin()])) if whole else None
    return out


def in_conflict(predictions: Predictions) -> NDArray[np.bool_]:
    """Which examples are in a group that training contradicts, shape (n,)."""
    return np.isin(predictions.group, predictions.conflict)


def conflict_errors(predictions: Predictions, counts: Floats) -> dict[str, Floats]:
    """Share of the errors that fall on conflict groups, and its excess over their share of the examples, (resamples,)."""
    inside, wrong = in_conflict(predictions), ~predictions.correct
    sums = counts @ patient_sums(predictions.patient, counts.shape[1], 2 * inside + wrong.astype(np.int64), 4)
    _, other_errors, right, errors = sums.T
    examples = ratio(right + errors, sums.sum(axis=1))
    # without a conflict group, or without examples of it, errors could not fall there
    share = np.where(examples > 0, ratio(errors, errors + other_errors), np.nan)
    return {"conflict_error_share": share, "conflict_error_excess": share - examples}


def error_table(predictions: Predictions) -> list[dict[str, Any]]:
    """How many of the examples and of the errors are in each declared group, in index order."""
    sizes = np.bincount(predictions.group, minlength=len(predictions.groups))
    errors = np.bincount(predictions.group, ~predictions.correct, minlength=len(predictions.groups))
    of_examples, of_errors = (ratio(column.astype(float), np.array(float(column.sum()))) for column in (sizes, errors))
    return [
        {
            "group": name,
            "examples": int(sizes[g]),
            "errors": int(errors[g]),
            "share_of_examples": finite(of_examples[g]),
            "share_of_errors": finite(of_errors[g]),
            "conflict": g in predictions.conflict,
        }
        for g, name in enumerate(predictions.groups.names)
    ]


def _why_undefined(metric: str, predictions: Predictions) -> str:
    """The reason why a metric is NaN on all patients."""
    groups = predictions.groups
    if metric.startswith("conflict"):
        if not predictions.conflict:
            return f"training contradicts no group: class and {groups.attribute} are not associated in it, or it is unknown"
        return "no error" if in_conflict(predictions).any() else "no example is in a group that training contradicts"
    if metric != "accuracy_gap" and len(groups.classes) != 2:
        return f"defined for two classes, the split has {len(groups.classes)}"
    rows = zip(error_table(predictions), places(predictions), strict=True)
    asked = [row for row, (label, _) in rows if RATES.get(metric, label) == label]
    empty = [row["group"] for row in asked if not row["examples"]]
    if empty:
        return f"{len(empty)} of {len(asked)} declared groups have no examples: {', '.join(empty)}"
    return "needs two groups to compare, of each class that it is about"
