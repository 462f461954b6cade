"""What the features encode, and what of it the classifier uses: linear probes, and accuracy without the attribute.

Encoding: how well a linear probe on the last layer's input tells the attribute (or the label) of patients that it was not
fitted on, as AUROC; 0.5 is chance. Use: how much the classifier's margin follows that probe, and how accuracy changes when the
attribute is taken out of the features and the last layer stays as it is. A classifier may ignore what its features encode
perfectly, so the two are reported apart.

Features do where there is no model. The last layer is then the one that was given with them, else the linear one that makes the
predictions of them; where no such layer does, what changes without the attribute is undefined.

Probes and maps are fitted on the partition itself, on four fifths of its patients, and asked about the rest, in turn. In
training the attribute goes with the label: a probe fitted there would be one of the label, and at a rho of 1 no class would
have anything to fit. The test patients of most splits have label and attribute independent. Resampling draws patients with
their scores and fits nothing again: intervals are conditional on the fits.

AUROCs compare examples of one fold only, whose scores come from one probe; folds weigh by their pairs. Of more than two levels
it is that of each against the rest, averaged over the levels.

Source: G. Alain and Y. Bengio, arXiv 1610.01644 (linear probes); Y. Elazar et al., Amnesic probing, TACL 9, 2021 (use, as what
changes without the attribute); N. Belrose et al., LEACE, NeurIPS 2023, arXiv 2306.03819 (how it is taken out).
Deviations: see :mod:`robustbench_spur.probing` and :mod:`robustbench_spur.erasing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.erasing import held_out_erased
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Finding,
    Floats,
    Metric,
    Predictions,
    Subject,
)
from robustbench_spur.evaluators.finding import beyond, in_percent
from robustbench_spur.evaluators.held_out import (
    Change,
    Codes,
    Held,
    alignment,
    column_arrays,
    held_of,
    level_auroc,
    sklearn_auroc,
)
from robustbench_spur.evaluators.worst_group import ADVICE, NOTABLE, everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.probing import (
    MOST,
    Column,
    columns_of,
    features_of,
    folds_by_patient,
    head_logits,
    held_out_scores,
    narrow_in_one_thread,
    untied,
)
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, finite

HEADLESS = (
    "the last layer is not known: none was given with the features, and no linear one makes these predictions of them, or there"
    " are fewer than two examples to each feature, too few to find one"
)


class Encoding(Evaluator):
    """Held-out probes of attribute and label, their alignment with the classifier, and what the attribute is worth to it."""

    name = "encoding"
    version = 1
    summary = "what features encode of attribute and label, and how far the classifier uses the attribute"
    source = "Alain and Bengio 2016; Elazar et al., TACL 2021; Belrose et al., NeurIPS 2023"
    on_features = True
    collects = (
        "encoding_fold",
        "encoding_attribute",
        "encoding_label",
        "encoding_projected",
        "encoding_column_names",
        "encoding_column_levels",
        "encoding_column_codes",
        "encoding_column_odds",
        "encoding_column_projected",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "attribute_encoding": Metric(
            "AUROC of a linear probe for the attribute on the features of patients that it was not fitted on, over pairs of "
            "examples of one fold; of more than two values the mean of each against the rest.",
            better="neither",
        ),
        "attribute_encoding_within:": Metric("The same over the examples of one class.", better="neither"),
        "label_encoding": Metric(
            "AUROC of a linear probe for the label on the features of held-out patients, likewise."
        ),
        "label_encoding_within:": Metric("The same over the examples at one attribute value."),
        "probe_alignment": Metric(
            "Of two classes and two values: absolute correlation, within groups, of the attribute probe's score with the "
            "classifier's margin; the cosine of their directions in features that are whitened within groups, where the last "
            "layer is linear. The sign is that on all patients, so an interval may reach below 0.",
            low=-1.0,
            better="lower",
        ),
        "worst_group_without_attribute": Metric(
            "Lowest of the declared groups' accuracies when the attribute is taken out of the features and the last layer "
            "stays as it is; its interval is that of the group so named."
        ),
        "projection_effect": Metric(
            "worst_group_without_attribute less the worst group's accuracy with the attribute, either group named on all "
            "patients; above 0 where the attribute misled the classifier.",
            low=-1.0,
            better="neither",
        ),
        "projection_effect_micro": Metric(
            "Share of all examples that are right without the attribute less the share that are right with it.",
            low=-1.0,
            better="neither",
        ),
        "other_attribute_encoding:": Metric(
            "attribute_encoding for another column that is known of the examples, such as the vendor.", better="neither"
        ),
        "other_attribute_effect:": Metric(
            "projection_effect for another column, over the groups of class and the column's value.",
            low=-1.0,
            better="neither",
        ),
    }

    class Parameters(EvaluatorParameters):
        """The probes."""

        folds: int = parameter(
            5, "parts of the patients, each asked about by probes fitted on the others", at_least=2, at_most=20
        )
        strength: float = parameter(
            0.1, "inverse of the weight of a probe's squared coefficients, against losses summed over examples", above=0
        )

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Fit probes and maps fold by fold. See :meth:`Evaluator.collect`.

        Returns:
            ``encoding_fold``, int16 of shape (n,); ``encoding_attribute`` and ``encoding_label``, held-out log odds of each
            value and class, float32 of shapes (n, values) and (n, classes); ``encoding_projected``, logits without the
            attribute, float32 of shape (n, classes); of the further columns, ``encoding_column_names`` of shape (columns,),
            ``_levels``, texts of shape (columns, 10), ``_codes`` of shape (n, columns), ``_odds`` of shape (n, columns, 10)
            and ``_projected`` of shape (n, columns, classes). NaN where a probe or a map could not be fitted, and without the
            attribute where the last layer is not known.

        Raises:
            SpurbenchError: features that are not finite, or a model that did not make these predictions.
        """
        predictions = subject.predictions
        groups, strength = predictions.groups, self.parameters.strength
        labels, attributes, patient = predictions.labels, predictions.attributes, predictions.patient
        points = features_of(subject, subject.part).astype(np.float64)
        fold = folds_by_patient(patient, predictions.group, self.parameters.folds)
        further = subject.columns
        columns = columns_of(further, patient, (labels, attributes))

        def without(codes: Codes) -> NDArray[np.float32]:
            erased = held_out_erased(points, codes, labels, fold)
            fitted, out = np.isfinite(erased).all(axis=1), np.full(predictions.logits.shape, np.nan, np.float32)
            logits = head_logits(subject, erased[fitted])
            if logits is not None:
                out[fitted] = logits
            return out

        def odds(codes: Codes, others: Codes, levels: int) -> NDArray[np.float32]:
            return held_out_scores(points, codes, others, levels, fold, strength).astype(np.float32)

        with narrow_in_one_thread(points.shape[1]):
            return {
                "encoding_fold": fold.astype(np.int16),
                "encoding_attribute": odds(attributes, labels, len(groups.values)),
                "encoding_label": odds(labels, attributes, len(groups.classes)),
                "encoding_projected": without(attributes),
                **column_arrays(
                    columns,
                    [odds(column.codes, labels, MOST) for column in columns],
                    [without(column.codes) for column in columns],
                    predictions,
                ),
            }

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per class, value and column.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts, held = check_counts(counts, len(predictions.patients)), held_of(predictions, self.collects)
        labels, attributes = predictions.labels, predictions.attributes
        undefined, everywhere = np.full(len(counts), np.nan), np.ones(len(predictions), bool)

        def auroc(odds: NDArray[Any], codes: Codes, rows: NDArray[np.bool_]) -> Floats:
            return level_auroc(odds, codes, rows, predictions.patient, held.fold, counts)

        out = {"attribute_encoding": auroc(held.attribute, attributes, everywhere)}
        for label, name in enumerate(predictions.groups.classes):
            out[f"attribute_encoding_within:{name}"] = auroc(held.attribute, attributes, labels == label)
        out["label_encoding"] = auroc(held.label, labels, everywhere)
        for value, name in enumerate(predictions.groups.values):
            out[f"label_encoding_within:{name}"] = auroc(held.label, labels, attributes == value)
        signed = _alignment(predictions, held, counts)
        out["probe_alignment"] = signed * np.sign(_alignment(predictions, held, everyone(predictions))[0])
        change = _change(predictions, held.projected)
        out["worst_group_without_attribute"] = change.of(change.after, counts) if change else undefined
        out["projection_effect"] = change.effect(counts) if change else undefined
        out["projection_effect_micro"] = change.micro(counts) if change else undefined
        for column, odds, projected in held.columns:
            out[f"other_attribute_encoding:{column.name}"] = auroc(odds, column.codes, everywhere)
            other = _change(predictions, projected, column)
            out[f"other_attribute_effect:{column.name}"] = other.effect(counts) if other else undefined
        return out

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: of the one metric that is an accuracy, the patients of the group so named."""
        change = _change(predictions, held_of(predictions, self.collects).projected)
        worst = change.worst(change.after, len(predictions.patients)) if change else None
        if worst is None:
            return {}
        patients = len(np.unique(predictions.patient[predictions.group == worst]))
        return {"worst_group_without_attribute": patients}

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """How the numbers were made, and the groups behind them.

        Returns:
            ``definition`` in words; ``folds`` and ``patients``; ``groups``: name, examples, accuracy and
            ``accuracy_without_attribute`` of each; ``worst_group`` and ``worst_group_without_attribute``, None where undefined;
            ``margin_goes_with``: the value that a larger margin of class 1 goes with, None where undefined; ``columns``: name,
            levels, known examples, and the same table of groups; ``undefined``: why, by metric.
        """
        held, counts = held_of(predictions, self.collects), everyone(predictions)
        direction, values = _alignment(predictions, held, counts)[0], predictions.groups.values
        change, names = _change(predictions, held.projected), predictions.groups.names
        return {
            "definition": (
                "probes: logistic regression on standardised features, pairs of class and value weighing the same; the "
                "attribute is taken out by LEACE about class means with Ledoit-Wolf covariance; both fitted on the patients "
                "of the other folds"
            ),
            "folds": len(np.unique(held.fold)),
            "patients": len(predictions.patients),
            **_table(change, names, len(predictions.patients)),
            "margin_goes_with": None if np.isnan(direction) else values[int(direction > 0)],
            "columns": [
                {
                    "name": column.name,
                    "levels": list(column.levels),
                    "known": int(np.count_nonzero(column.codes >= 0)),
                    **_table(
                        _change(predictions, projected, column),
                        [f"{label}@{level}" for label in predictions.groups.classes for level in column.levels],
                        len(predictions.patients),
                    ),
                }
                for column, _, projected in held.columns
            ],
            "undefined": {
                metric: _why(metric, predictions, held)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether the classifier uses the attribute that its features encode: what its worst group gains without it."""
        question = f"Does it use the {predictions.groups.attribute}, or only know it?"
        known, effect = estimates["attribute_encoding"], estimates["projection_effect"]
        names = ("attribute_encoding", "projection_effect", "probe_alignment")
        if known.value is None or effect.value is None:
            text = f"Cannot be told: {effect.reason or known.reason}."
            return [Finding(question, "unknown", text, names, "That it does not use it.")]
        verdict = beyond(effect, NOTABLE)
        text = (
            f"A probe of its features tells it with an AUROC of {known.value:.2f} (0.5 is chance); taken out of them, it"
            f" changes the worst group's accuracy by {in_percent(effect)}."
        )
        limits = {
            "problem": "That it uses this and nothing else: what goes with it is taken out too.",
            "doubt": "That the difference is more than chance.",
        }.get(verdict, "That it uses nothing of it: what is not linear in the last layer's input stays.")
        return [Finding(question, verdict, text, names, limits, ADVICE if verdict == "problem" else "")]

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """AUROCs of two values and two classes from scikit-learn, fold by fold, as ``sklearn/METRIC``; None if undefined."""
        held = held_of(predictions, self.collects)
        pairs = {
            "attribute_encoding": (held.attribute, predictions.attributes),
            "label_encoding": (held.label, predictions.labels),
        }
        return {
            f"sklearn/{name}": sklearn_auroc(odds[:, 1], codes, held.fold) if odds.shape[1] == 2 else None
            for name, (odds, codes) in pairs.items()
        }


def _alignment(predictions: Predictions, held: Held, counts: Floats) -> Floats:
    """Correlation of the probe's log odds of value 1 with the margin of class 1, shape (resamples,); NaN where undefined."""
    if held.attribute.shape[1] != 2 or held.label.shape[1] != 2 or not np.isfinite(held.attribute).all():
        return np.full(len(counts), np.nan)
    margin = predictions.logits[:, 1].astype(np.float64) - predictions.logits[:, 0]
    cell = held.fold * len(predictions.groups) + predictions.group
    return alignment(held.attribute[:, 1], margin, predictions.patient, cell, counts)


def _change(predictions: Predictions, projected: NDArray[Any], column: Column | None = None) -> Change | None:
    """What the projection changes, over the declared groups or those of a column; None where it could not be fitted."""
    if not np.isfinite(projected).all():
        return None
    group, groups = predictions.group, len(predictions.groups)
    known = np.ones(len(predictions), bool)
    if column is not None:
        group, groups = predictions.labels * len(column.levels) + column.codes, projected.shape[1] * len(column.levels)
        known = column.codes >= 0
    after = projected.argmax(axis=1) == predictions.labels
    return Change(predictions.correct[known], after[known], predictions.patient[known], group[known], groups)


def _why(metric: str, predictions: Predictions, held: Held) -> str:
    """Why a metric is NaN on all patients."""
    groups, labels, attributes = predictions.groups, predictions.labels, predictions.attributes
    family, _, member = metric.partition(":")
    column = next((column for column, _, _ in held.columns if column.name == member and "other" in family), None)
    of_label, what = family.startswith("label"), column.name if column else groups.attribute
    codes, others = (labels, attributes) if of_label else (column.codes if column else attributes, labels)
    if family == "probe_alignment" and (len(groups.classes), len(groups.values)) != (2, 2):
        found = f"{len(groups.classes)} and {len(groups.values)}"
        return f"defined for two classes and two attribute values, the split has {found}"
    if family.endswith("_within"):
        place = (groups.values if of_label else groups.classes).index(member)
        if len(np.unique(codes[others == place])) < 2:
            return f"{member} has no examples {'of two classes' if of_label else f'at two values of {what}'}"
    if not untied(codes, others):
        one, two = (f"value of {what}", "of two classes") if of_label else ("class", f"at two values of {what}")
        return f"no {one} has examples {two}: nothing beyond one that tells the other"
    if ("worst" in family or "effect" in family) and (why := _why_unchanged(predictions, held, column)):
        return why
    if family == "probe_alignment" and np.isfinite(held.attribute).all():
        return "the classifier's margin, or the probe's score, is the same for all examples of a group and fold"
    return f"too few patients: those of the other folds leave nothing to fit {'the label' if of_label else what} on"


def _why_unchanged(predictions: Predictions, held: Held, column: Column | None) -> str:
    """Why what changes without the attribute, or without a column, is undefined; empty if too few patients are the reason."""
    found = {one.name: (odds, projected) for one, odds, projected in held.columns}
    odds, projected = found[column.name] if column else (held.attribute, held.projected)
    change = _change(predictions, projected, column)
    if change is not None:
        size = np.bincount(change.group, minlength=change.groups)
        return f"{int((size == 0).sum())} of {change.groups} groups have no examples"
    # probes and maps are fitted on the same folds: where the one could be, the other was not asked about
    return HEADLESS if np.isfinite(odds).any() and not np.isfinite(projected).any() else ""


def _table(change: Change | None, names: Sequence[str], patients: int) -> dict[str, Any]:
    """Accuracies by group before and after, and the worst of either."""
    if change is None:
        return {"groups": [], "worst_group": None, "worst_group_without_attribute": None}
    counts = np.ones((1, patients))
    before, after = (change.accuracies(right, counts)[0] for right in (change.before, change.after))
    size = np.bincount(change.group, minlength=change.groups)
    rows = [
        {
            "group": name,
            "examples": int(size[g]),
            "accuracy": finite(before[g]),
            "accuracy_without_attribute": finite(after[g]),
        }
        for g, name in enumerate(names)
    ]
    worst = [change.worst(right, patients) for right in (change.before, change.after)]
    keys = ("worst_group", "worst_group_without_attribute")
    return {"groups": rows, **{key: None if w is None else names[w] for key, w in zip(keys, worst, strict=True)}}
