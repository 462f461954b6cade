"""Accuracy on damaged images: what is left of it under noise, shading, ghosts, stripes, blur, contrast and ringing.

The same group-balanced subset is damaged in seven ways at five severities (see :mod:`robustbench_spur.corruptions`), and
the model predicts anew. Nobody attacks here: this is what scanners do.

    corrupted accuracy   = mean over the severities of the share of right examples
    relative degradation = (clean accuracy - mean of the corrupted accuracies) / clean accuracy

A corruption can look like the shortcut: noise is what tells 1.5 T from 3 T. A model that reads the scanner then moves whole
groups to the other class, which the worst group shows and the mean hides.

Source: Hendrycks and Dietterich, ICLR 2019, section 4. Deviations: their relative mCE divides the rise of the error by that
of AlexNet on the same corruption; there is no such network for MR images, so the fall of the accuracy is divided by the
clean accuracy; seven corruptions of MR images take the place of fifteen of photographs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack import as_floats, attackable
from robustbench_spur.attack.subset import balanced_subset, check_model, check_subset, once, quotas
from robustbench_spur.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, group_means, ratio
from robustbench_spur.types import SpurbenchError, finite

CLEAN, MEAN = 0, -1
"""Columns of :attr:`Outcome.share`: without corruption, and the mean over all; between them, one for each corruption."""


@dataclass(frozen=True)
class Outcome:
    """What was right of the subset.

    Args:
        predictions: of the whole partition.
        rows: of the subset, ascending, shape (m,).
        right: shape (m, corruptions, severities).
    """

    predictions: Predictions
    rows: NDArray[np.int64]
    right: NDArray[np.bool_]

    @property
    def share(self) -> Floats:
        """Of each example: right without corruption, its share of right severities by corruption, and their mean."""
        by_corruption = self.right.mean(axis=2)
        return np.column_stack(
            [self.predictions.correct[self.rows], by_corruption, by_corruption.mean(axis=1, keepdims=True)]
        )

    def means(self, values: NDArray[Any], counts: Floats, *, grouped: bool) -> Floats:
        """Mean of a value per example of the subset: shape (resamples, groups), or (resamples, 1) of all together."""
        patient, group = self.predictions.patient[self.rows], self.predictions.group[self.rows]
        groups = len(self.predictions.groups)
        if grouped:
            return group_means(values, patient, group, groups, counts)
        return group_means(values, patient, np.zeros_like(group), 1, counts)

    def worst(self, column: int) -> int | None:
        """Index of the group with the lowest mean of a column of :attr:`share`; None if a declared group is empty."""
        accuracy = self.means(self.share[:, column], once(self.predictions), grouped=True)[0]
        return None if np.isnan(accuracy).any() else int(accuracy.argmin())

    def patients(self, group: int | None = None) -> int:
        """Number of patients in the subset, or in one group of it."""
        rows = self.rows if group is None else self.rows[self.predictions.group[self.rows] == group]
        return len(np.unique(self.predictions.patient[rows]))


class Corruptions(Evaluator):
    """Accuracy under corruptions of MR images: by corruption, by group, of the worst group, and how much is lost.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> ids, said = np.array(list("abcd")), np.array([[2, 0], [2, 0], [0, 2], [0, 2]], np.float32)
    >>> right = np.ones((4, 7, 5), np.uint8)
    >>> right[3, 0] = 1, 1, 0, 0, 0  # the noise of severities 3 to 5 hides the fourth example's tumour
    >>> arrays = {"corruptions_rows": np.arange(4), "corruptions_correct": right}
    >>> predictions = Predictions(ids, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), ids, said, groups, arrays)
    >>> numbers = Corruptions().measure(predictions, np.ones((1, 4)))
    >>> numbers["corrupted_accuracy:rician_noise"].item(), numbers["corrupted_worst_group_accuracy:rician_noise"].item()
    (0.85, 0.4)
    """

    name = "corruptions"
    version = 1
    costly = True
    quick: ClassVar[Mapping[str, Any]] = {"examples": 20}
    summary = "accuracy on images with noise, shading, ghosts and other faults of MR, of every group and the worst"
    source = "Hendrycks and Dietterich, ICLR 2019, section 4"
    partitions = ("test",)
    collects = ("corruptions_rows", "corruptions_correct")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "mean_corrupted_accuracy": Metric(
            "Mean over the corruptions and severities of the share of right examples in a group-balanced subset."
        ),
        "mean_corrupted_accuracy_in:": Metric("The same mean over one declared group's examples in the subset."),
        "mean_corrupted_worst_group_accuracy": Metric(
            "Lowest of the declared groups' means over corruptions and severities, undefined if a declared group has no "
            "examples; its interval is that of the group so named."
        ),
        "relative_degradation": Metric(
            "Clean accuracy of the subset minus its mean corrupted accuracy, divided by the clean accuracy.",
            low=float("-inf"),
            better="lower",
        ),
        "relative_degradation_in:": Metric(
            "The same share of one declared group's clean accuracy.", low=float("-inf"), better="lower"
        ),
        "corrupted_accuracy:": Metric("Mean over the severities of one corruption of the share of right examples."),
        "corrupted_accuracy_in:": Metric("The same mean over one declared group's examples in the subset."),
        "corrupted_worst_group_accuracy:": Metric(
            "Lowest of the declared groups' means over the severities of one corruption, undefined if a declared group has "
            "no examples; its interval is that of the group so named."
        ),
    }

    class Parameters(EvaluatorParameters):
        """Whom the corruptions meet."""

        examples: int = parameter(400, "size of the subset, shared equally by the declared groups", at_least=1)
        batch_size: int = parameter(
            200, "images damaged and predicted at once; but for rounding no number depends on it", at_least=1
        )
        seed: int = parameter(2025, "of the subset and of what the corruptions draw", at_least=0)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Damage the subset in every way, and see which of it is still called right. See :meth:`Evaluator.collect`.

        Returns:
            ``corruptions_rows``, the subset's rows in the partition, ascending, int64 of shape (m,), and
            ``corruptions_correct``, 1 where the damaged example is right, uint8 of shape (m, corruptions, severities).

        Raises:
            SpurbenchError: images of another type or number, a model that did not make these predictions, logits that
                are NaN.
        """
        import torch

        predictions, images, settings = subject.predictions, subject.images, self.parameters
        if len(images) != len(predictions):
            raise SpurbenchError(f"Expected {len(predictions)} images, as many as predictions, found {len(images)}.")
        rows = np.sort(balanced_subset(predictions, settings.examples, settings.seed))
        right = np.zeros((len(rows), len(CORRUPTIONS), len(SEVERITIES)), np.uint8)
        model, where, total = subject.model, torch.device(subject.device), len(rows) * len(CORRUPTIONS)
        with attackable(model, where), torch.no_grad():
            for start in range(0, len(rows), settings.batch_size):
                part = rows[start : start + settings.batch_size]
                check_model(model, as_floats(images, part, where), predictions, part)
                for column, name in enumerate(CORRUPTIONS):
                    right[start : start + len(part), column] = self._right(subject, part, name)
                    subject.progress(start * len(CORRUPTIONS) + len(part) * (column + 1), total)
        return {"corruptions_rows": rows, "corruptions_correct": right}

    def _right(self, subject: Subject, rows: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
        """Which examples are right under one corruption, shape (b, severities)."""
        import torch

        images, ids = np.asarray(subject.images[rows]), subject.predictions.ids[rows].tolist()
        columns = []
        for severity in SEVERITIES:
            damaged = torch.from_numpy(corrupt(images, ids, name, severity, self.parameters.seed))
            logits = subject.model(damaged.to(subject.device).contiguous(memory_format=torch.channels_last))
            said = logits.float().cpu().numpy()
            if not np.isfinite(said).all():
                raise SpurbenchError(f"Expected finite logits under {name}, found NaN or infinity. Check the network.")
            columns.append(said.argmax(axis=1) == subject.predictions.labels[rows])
        return np.stack(columns, axis=1)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per corruption and group.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions and the parameters.
        """
        counts, outcome = check_counts(counts, len(predictions.patients)), self._outcome(predictions)
        share, names = outcome.share, predictions.groups.names
        overall = [outcome.means(column, counts, grouped=False)[:, 0] for column in share.T]
        grouped = [outcome.means(column, counts, grouped=True) for column in share.T]

        def worst(column: int) -> Floats:
            group = outcome.worst(column)
            return np.full(len(counts), np.nan) if group is None else grouped[column][:, group]

        lost = ratio(grouped[CLEAN] - grouped[MEAN], grouped[CLEAN])
        out = {
            "mean_corrupted_accuracy": overall[MEAN],
            "mean_corrupted_worst_group_accuracy": worst(MEAN),
            "relative_degradation": ratio(overall[CLEAN] - overall[MEAN], overall[CLEAN]),
        }
        out |= {f"mean_corrupted_accuracy_in:{name}": grouped[MEAN][:, g] for g, name in enumerate(names)}
        out |= {f"relative_degradation_in:{name}": lost[:, g] for g, name in enumerate(names)}
        for column, way in enumerate(CORRUPTIONS, start=1):
            out[f"corrupted_accuracy:{way}"] = overall[column]
            out[f"corrupted_worst_group_accuracy:{way}"] = worst(column)
            out |= {f"corrupted_accuracy_in:{way}:{name}": grouped[column][:, g] for g, name in enumerate(names)}
        return out

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients in the subset, in one group of it, or in the named worst group."""
        outcome, everybody = self._outcome(predictions), {}
        of_group = {name: outcome.patients(g) for g, name in enumerate(predictions.groups.names)}
        named = {"mean_corrupted_accuracy": ("mean_corrupted_worst_group_accuracy", MEAN)} | {
            f"corrupted_accuracy:{way}": (f"corrupted_worst_group_accuracy:{way}", column)
            for column, way in enumerate(CORRUPTIONS, start=1)
        }
        for metric, (of_worst, column) in named.items():
            everybody[metric] = outcome.patients()
            family, _, way = metric.partition(":")
            everybody |= {":".join(filter(None, (f"{family}_in", way, name))): n for name, n in of_group.items()}
            if (worst := outcome.worst(column)) is not None:
                everybody[of_worst] = outcome.patients(worst)
        return everybody

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """The corruptions, the subset, and the accuracies by severity.

        Returns:
            ``definition`` in words; ``examples`` in the subset and ``groups`` (name, examples, patients and clean accuracy
            of each declared group there); ``clean_accuracy``; ``corruptions``, a row for each: name, unit, levels,
            worst_group (None where undefined), accuracy and group_accuracies by severity from 0 (none) to 5;
            ``worst_group`` of the mean; ``undefined`` (why, by metric).
        """
        outcome, counts, names = self._outcome(predictions), once(predictions), predictions.groups.names
        sizes = quotas(predictions, self.parameters.examples).tolist()
        clean = outcome.means(predictions.correct[outcome.rows], counts, grouped=True)[0]
        worst = outcome.worst(MEAN)
        return {
            "definition": (
                f"share of right examples over {len(CORRUPTIONS)} corruptions at {len(SEVERITIES)} severities, images in "
                "[0, 1] before and after, float32, eval mode; relative degradation is the fall of the accuracy as a share "
                "of the clean accuracy, with no reference network"
            ),
            "examples": len(outcome.rows),
            "groups": [
                {"group": name, "examples": sizes[g], "patients": outcome.patients(g), "accuracy": finite(clean[g])}
                for g, name in enumerate(names)
            ],
            "clean_accuracy": finite(outcome.means(predictions.correct[outcome.rows], counts, grouped=False)[0, 0]),
            "corruptions": [self._row(outcome, column) for column in range(len(CORRUPTIONS))],
            "worst_group": None if worst is None else names[worst],
            "undefined": self._undefined(predictions, sizes),
        }

    def _row(self, outcome: Outcome, column: int) -> dict[str, Any]:
        """One corruption, as JSON values."""
        name, way = list(CORRUPTIONS.items())[column]
        predictions, worst = outcome.predictions, outcome.worst(column + 1)
        right = np.column_stack([predictions.correct[outcome.rows], outcome.right[:, column]])
        counts = once(predictions)
        grouped = np.stack([outcome.means(one, counts, grouped=True)[0] for one in right.T])
        return {
            "name": name,
            "unit": way.unit,
            "levels": list(way.levels),
            "worst_group": None if worst is None else predictions.groups.names[worst],
            "accuracy": [finite(outcome.means(one, counts, grouped=False)[0, 0]) for one in right.T],
            "group_accuracies": {
                group: [finite(value) for value in grouped[:, g]] for g, group in enumerate(predictions.groups.names)
            },
        }

    def _undefined(self, predictions: Predictions, sizes: list[int]) -> dict[str, str]:
        """Why a metric is NaN on all patients, by metric."""
        names = predictions.groups.names
        empty = [name for name, size in zip(names, sizes, strict=True) if not size]
        lacking = f"{len(empty)} of {len(names)} declared groups have no examples: {', '.join(empty)}"

        def why(metric: str) -> str:
            if "worst_group" in metric:
                return lacking
            some = any(sizes) if "_in:" not in metric else not any(metric.endswith(f":{name}") for name in empty)
            return "no example is right on the clean image: nothing can be lost" if some else "no examples"

        return {metric: why(metric) for metric, value in self.points(predictions).items() if np.isnan(value)}

    def _outcome(self, predictions: Predictions) -> Outcome:
        """The collected arrays, after checking that they fit the predictions and the parameters."""
        missing = [name for name in self.collects if name not in predictions.arrays]
        if missing:
            raise SpurbenchError(
                f"Evaluator 'corruptions' needs the arrays {missing}, which these predictions do not have. Collect them."
            )
        rows, right = (np.asarray(predictions.arrays[name]) for name in self.collects)
        shape = (len(rows), len(CORRUPTIONS), len(SEVERITIES))
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or right.shape != shape or not np.isin(right, (0, 1)).all():
            raise SpurbenchError(
                f"Expected whole numbers in corruptions_rows, and 0 or 1 in corruptions_correct of shape {shape}, found"
                f" {rows.dtype} and {right.dtype} of shape {right.shape}. Collect again."
            )
        rows = check_subset(rows, predictions, self.parameters.examples, "corruptions_rows")
        return Outcome(predictions, rows, right.astype(bool))
