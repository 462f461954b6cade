"""Accuracy under attack: the share of images that stay right under the worst small change projected gradient finds.

Threat model: an untargeted attacker who knows the network changes every pixel by at most a radius (L-infinity) and
leaves the image in [0, 1]. Normalisation is part of the network, so a radius is in grey levels; a grayscale image has
one channel and is changed as one. The attack is torchattacks' PGD, in float32 and eval mode: from a random start,
steps along the sign of the gradient of the cross-entropy, each projected back into the ball.

    robust = right on the clean image and right on the final iterate

So clean errors count as not robust, and are not attacked. It runs on a fixed, group-balanced subset: of every group the
examples whose hashed ids come first, whatever the order of the rows. Each radius is attacked on its own.

The cross-entropy of a confident network has a gradient of zero in float32, and would make it pass for a robust one. So
the true class's logit is lowered by a constant while the gradient is taken (see :func:`unsaturated`), which changes the
gradient's length but not its sign.

Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018, section 2.1 (the
attack); Carlini and Wagner, IEEE S&P 2017, section IV (gradients that vanish).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationInfo, field_validator

from robustbench_spur.attack import (
    SAME_RADIUS,
    as_floats,
    attackable,
    check_ball,
    logits_of,
    noise_seed,
    radius_label,
    seeded,
    unsaturated,
)
from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.worst_group import everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, group_means
from robustbench_spur.types import SpurbenchError, finite

SAME_LOGITS = 1e-2
"""By how much, as a share of the largest, logits may differ between two passes over the same images."""


def quotas(predictions: Predictions, examples: int) -> NDArray[np.int64]:
    """How many examples of each declared group are attacked, shape (groups,): an equal share, or all there are.

    Raises:
        SpurbenchError: fewer examples than groups.
    """
    groups = len(predictions.groups)
    if examples < groups:
        raise SpurbenchError(f"Expected at least one example for each of {groups} groups, found examples={examples}.")
    return np.minimum(np.bincount(predictions.group, minlength=groups), examples // groups)


def balanced_subset(predictions: Predictions, examples: int, seed: int) -> NDArray[np.int64]:
    """Rows of an equal number of examples of each declared group, by :func:`quotas`.

    Returns:
        Shape (m,), in the order of the sha256 of ``seed:id``, so that neither a batch nor the subset depends on the
        order of the rows.

    Raises:
        SpurbenchError: fewer examples than groups.
    """
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in predictions.ids.tolist()]
    order = np.argsort(np.array(keys, dtype=np.str_))
    group = predictions.group[order]
    chosen = [np.flatnonzero(group == g)[:quota] for g, quota in enumerate(quotas(predictions, examples))]
    return order[np.sort(np.concatenate(chosen))]


@dataclass(frozen=True)
class Attacked:
    """The subset, and which of it stayed right.

    Args:
        predictions: of the whole partition.
        rows: of the subset, ascending, shape (m,).
        right: without attack, then at each radius, shape (m, 1 + radii).
    """

    predictions: Predictions
    rows: NDArray[np.int64]
    right: NDArray[np.bool_]

    def accuracy(self, column: int, counts: Floats) -> Floats:
        """Share of right examples, shape (resamples,)."""
        patient = self.predictions.patient[self.rows]
        return group_means(self.right[:, column], patient, np.zeros_like(patient), 1, counts)[:, 0]

    def by_group(self, column: int, counts: Floats) -> Floats:
        """Share of right examples of each declared group, shape (resamples, groups)."""
        patient, group = self.predictions.patient[self.rows], self.predictions.group[self.rows]
        return group_means(self.right[:, column], patient, group, len(self.predictions.groups), counts)

    def worst(self, column: int) -> int | None:
        """Index of the group with the lowest accuracy, the first of equals; None if a declared group is empty."""
        accuracy = self.by_group(column, everyone(self.predictions))[0]
        return None if np.isnan(accuracy).any() else int(accuracy.argmin())

    def patients(self, group: int | None = None) -> int:
        """Number of patients in the subset, or in one group of it."""
        rows = self.rows if group is None else self.rows[self.predictions.group[self.rows] == group]
        return len(np.unique(self.predictions.patient[rows]))

    def table_row(self, column: int) -> dict[str, Any]:
        """Accuracies on all patients, as JSON values."""
        counts, worst, names = everyone(self.predictions), self.worst(column), self.predictions.groups.names
        accuracy = [finite(value) for value in self.by_group(column, counts)[0]]
        return {
            "accuracy": finite(self.accuracy(column, counts)[0]),
            "worst_group": None if worst is None else names[worst],
            "worst_group_patients": None if worst is None else self.patients(worst),
            "worst_group_accuracy": None if worst is None else accuracy[worst],
            "group_accuracies": dict(zip(names, accuracy, strict=True)),
        }


class PGD(Evaluator):
    """Robust accuracy by radius: of the whole subset, of every group, and of the worst of them.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> ids, said = np.array(list("abcd")), np.array([[2, 0], [2, 0], [0, 2], [0, 2]], np.float32)
    >>> arrays = {"pgd_rows": np.arange(4), "pgd_robust": np.array([[1, 1], [1, 0], [0, 0], [1, 1]], np.uint8)}
    >>> predictions = Predictions(ids, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), ids, said, groups, arrays)
    >>> numbers = PGD().measure(predictions, np.ones((1, 4)))
    >>> numbers["pgd_accuracy:1/255"].item(), numbers["pgd_accuracy:2/255"].item()
    (0.75, 0.5)
    >>> numbers["pgd_group_accuracy:1/255:tumour@3T"].item(), numbers["pgd_worst_group_accuracy"].item()
    (0.0, 0.0)
    """

    name = "pgd"
    version = 1
    summary = "adversarial robustness: accuracy under L-infinity PGD, of every group and the worst of them"
    source = "Madry et al., ICLR 2018, section 2.1"
    partitions = ("test",)
    collects = ("pgd_rows", "pgd_robust")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "pgd_worst_group_accuracy": Metric(
            "Lowest of the declared groups' accuracies under attack at the headline radius, undefined if a declared "
            "group has no examples; its interval is that of the group so named."
        ),
        "pgd_accuracy:": Metric(
            "Share of the attacked subset that is right on the clean image and on PGD's final iterate at a radius."
        ),
        "pgd_group_accuracy:": Metric("The same share of one declared group's examples in the subset."),
        "pgd_worst_group_accuracy:": Metric(
            "Lowest of the declared groups' accuracies under attack at a radius, undefined if a declared group has no "
            "examples; its interval is that of the group so named."
        ),
    }

    class Parameters(EvaluatorParameters):
        """The attack, and whom it meets."""

        model_config = ConfigDict(validate_default=True)

        radii: tuple[float, ...] = parameter(
            ("1/255", "2/255"), "L-infinity radii for images in [0, 1], ascending, above 0: decimals or fractions"
        )
        headline_radius: float = parameter("1/255", "the one of radii that pgd_worst_group_accuracy is taken at")
        steps: int = parameter(10, "gradient steps", at_least=1, at_most=10_000)
        relative_step: float = parameter(
            2.5,
            "length of all steps together, in radii: a step is relative_step * radius / steps",
            above=0,
            at_most=1000,
        )
        examples: int = parameter(800, "size of the subset, shared equally by the declared groups", at_least=1)
        batch_size: int = parameter(200, "images attacked at once; the random starts depend on it", at_least=1)
        seed: int = parameter(2025, "of the subset and of the random starts", at_least=0)

        @field_validator("radii", "headline_radius", mode="before")
        @classmethod
        def _as_number(cls, value: Any) -> Any:
            if isinstance(value, list | tuple):
                return tuple(cls._as_number(part) for part in value)
            try:
                return float(Fraction(value)) if isinstance(value, str) else value
            except (ValueError, ArithmeticError):
                raise ValueError(f"expected a number or a fraction such as 1/255, found {value!r}") from None

        @field_validator("radii")
        @classmethod
        def _in_order(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
            if not radii or not all(0 < radius <= 1 for radius in radii):
                raise ValueError(f"expected radii above 0 and at most 1, found {list(radii)}")
            if list(radii) != sorted(radii) or len({radius_label(radius) for radius in radii}) != len(radii):
                raise ValueError(f"expected ascending radii that differ in four digits, found {list(radii)}")
            return radii

        @field_validator("headline_radius")
        @classmethod
        def _one_of_radii(cls, headline: float, info: ValidationInfo) -> float:
            for radius in info.data.get("radii", (headline,)):
                if abs(radius - headline) <= SAME_RADIUS:
                    return float(radius)
            raise ValueError(f"expected one of the radii {list(info.data['radii'])}, found {headline}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each radius, such as ``1/255``."""
        return tuple(radius_label(radius) for radius in self.parameters.radii)

    def step_size(self, radius: float) -> float:
        """Length of a step at a radius, for images in [0, 1]."""
        return float(self.parameters.relative_step * radius / self.parameters.steps)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Attack what the subset holds of examples that are right on the clean image. See :meth:`Evaluator.collect`.

        The model's flags and torch's random state are given back as they were.

        Returns:
            ``pgd_rows``, the subset's rows in the partition, ascending, int64 of shape (m,), and ``pgd_robust``, 1 where
            the example is right with and without attack, uint8 of shape (m, radii).

        Raises:
            SpurbenchError: images of another type or number, a model that did not make these predictions, gradients or
                logits that are NaN.
        """
        import torch

        images, predictions = subject.images, subject.predictions
        _check_inputs(images, predictions)
        model = subject.model
        radii, size, where = self.parameters.radii, self.parameters.batch_size, torch.device(subject.device)
        subset = balanced_subset(predictions, self.parameters.examples, self.parameters.seed)
        attacked = subset[predictions.correct[subset]]
        robust = np.zeros((len(predictions), len(radii)), np.uint8)
        total = -(-len(attacked) // size) * len(radii)
        with attackable(model, where):
            for number, start in enumerate(range(0, len(attacked), size)):
                rows = attacked[start : start + size]
                clean = as_floats(images, rows, where)
                _check_model(model, clean, predictions, rows)
                for column, radius in enumerate(radii):
                    with seeded(noise_seed(self.parameters.seed, radius, number), where):
                        robust[rows, column] = self._survive(model, clean, predictions.labels[rows], radius)
                    subject.progress(number * len(radii) + column + 1, total)
        rows = np.sort(subset)
        return {"pgd_rows": rows, "pgd_robust": robust[rows]}

    def _survive(self, model: Any, clean: Any, labels: NDArray[np.int64], radius: float) -> NDArray[np.bool_]:
        """Which images of a batch are still right on the final iterate, shape (b,)."""
        import torch
        import torchattacks

        true = torch.from_numpy(labels).to(clean.device)
        step, steps = self.step_size(radius), self.parameters.steps
        attack = torchattacks.PGD(unsaturated(model, true), eps=radius, alpha=step, steps=steps, random_start=True)
        adversarial = attack(clean, true)
        check_ball(adversarial, clean, radius)
        return np.asarray(logits_of(model, adversarial).argmax(axis=1) == labels)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per radius and group.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions and the parameters.
        """
        counts, attacked = check_counts(counts, len(predictions.patients)), self._attacked(predictions)
        out: dict[str, Floats] = {}
        for column, label in enumerate(self.labels, start=1):
            by_group, worst = attacked.by_group(column, counts), attacked.worst(column)
            out[f"pgd_accuracy:{label}"] = attacked.accuracy(column, counts)
            out[f"pgd_worst_group_accuracy:{label}"] = (
                np.full(len(counts), np.nan) if worst is None else by_group[:, worst]
            )
            out |= {
                f"pgd_group_accuracy:{label}:{name}": by_group[:, g] for g, name in enumerate(predictions.groups.names)
            }
        return {"pgd_worst_group_accuracy": out[f"pgd_worst_group_accuracy:{self._headline}"], **out}

    @property
    def _headline(self) -> str:
        """Name of the headline radius."""
        return radius_label(self.parameters.headline_radius)

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients in the subset, in one group of it, or in the named worst group."""
        attacked, out = self._attacked(predictions), {}
        for column, label in enumerate(self.labels, start=1):
            worst = attacked.worst(column)
            out[f"pgd_accuracy:{label}"] = attacked.patients()
            for g, name in enumerate(predictions.groups.names):
                out[f"pgd_group_accuracy:{label}:{name}"] = attacked.patients(g)
            names = [f"pgd_worst_group_accuracy:{label}"]
            names += ["pgd_worst_group_accuracy"] if label == self._headline else []
            out |= {} if worst is None else dict.fromkeys(names, attacked.patients(worst))
        return out

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """The attack, the subset, and the accuracies by radius.

        Returns:
            ``definition`` in words; ``radii``, their ``labels``, ``headline`` (a label), ``steps``, ``step_sizes``;
            ``examples`` in the subset and ``groups`` (name, examples and patients of each declared group there);
            ``worst_group`` and ``worst_group_patients`` at the headline radius and ``worst_groups`` by label, None where
            undefined; ``curve``, a row per radius from 0 (no attack) up: radius, label, accuracy, worst_group,
            worst_group_patients, worst_group_accuracy, and group_accuracies by name; ``undefined`` (why, by metric).
        """
        attacked, settings = self._attacked(predictions), self.parameters
        sizes = quotas(predictions, settings.examples).tolist()
        places = enumerate(zip((0.0, *settings.radii), ("0", *self.labels), strict=True))
        curve = [{"radius": radius, "label": label, **attacked.table_row(column)} for column, (radius, label) in places]
        headline = curve[1 + self.labels.index(self._headline)]
        return {
            "definition": (
                "share of examples that are right on the clean image and on the final iterate of an untargeted L-infinity "
                "PGD attack on the cross-entropy, images in [0, 1], normalisation inside the network, one uniformly random "
                f"start, {settings.steps} sign steps of {settings.relative_step:g} / {settings.steps} of the radius, "
                "float32, eval mode; clean errors count as not robust; every radius attacked on its own"
            ),
            "radii": list(settings.radii),
            "labels": list(self.labels),
            "headline": self._headline,
            "steps": settings.steps,
            "step_sizes": [self.step_size(radius) for radius in settings.radii],
            "examples": len(attacked.rows),
            "groups": [
                {"group": name, "examples": sizes[g], "patients": attacked.patients(g)}
                for g, name in enumerate(predictions.groups.names)
            ],
            "worst_group": headline["worst_group"],
            "worst_group_patients": headline["worst_group_patients"],
            "worst_groups": {row["label"]: row["worst_group"] for row in curve[1:]},
            "curve": curve,
            "undefined": self._undefined(predictions, sizes),
        }

    def _undefined(self, predictions: Predictions, sizes: list[int]) -> dict[str, str]:
        """Why a metric is NaN on all patients, by metric."""
        names = predictions.groups.names
        empty = [name for name, size in zip(names, sizes, strict=True) if not size]
        lacking = f"{len(empty)} of {len(names)} declared groups have no examples: {', '.join(empty)}"
        return {
            metric: lacking if metric.startswith("pgd_worst_group_accuracy") else "no examples"
            for metric, value in self.measure(predictions, everyone(predictions)).items()
            if np.isnan(value[0])
        }

    def _attacked(self, predictions: Predictions) -> Attacked:
        """The collected arrays, after checking that they fit the predictions and the parameters."""
        missing = [name for name in self.collects if name not in predictions.arrays]
        if missing:
            raise SpurbenchError(f"Evaluator 'pgd' needs the arrays {missing}, which these predictions do not have.")
        rows, robust = (np.asarray(predictions.arrays[name]) for name in self.collects)
        shape = (len(rows), len(self.labels))
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or robust.shape != shape:
            raise SpurbenchError(
                f"Expected whole numbers in pgd_rows and pgd_robust of shape {shape}, found {rows.dtype} and {robust.shape}."
            )
        if not np.isin(rows, np.arange(len(predictions))).all() or (np.diff(rows) <= 0).any():
            raise SpurbenchError(f"Expected pgd_rows in ascending order, from 0 to {len(predictions) - 1} at most.")
        expected = quotas(predictions, self.parameters.examples)
        found = np.bincount(predictions.group[rows], minlength=len(expected))
        if (found != expected).any():
            raise SpurbenchError(
                f"Expected {expected.tolist()} attacked examples by group, found {found.tolist()}: collected with other"
                " settings. Collect again."
            )
        clean = predictions.correct[rows]
        if not np.isin(robust, (0, 1)).all() or robust[~clean].any():
            raise SpurbenchError(
                "Expected 0 or 1 in pgd_robust, and 0 where the clean image is wrong, found otherwise."
            )
        return Attacked(predictions, rows.astype(np.int64), np.column_stack([clean, robust.astype(bool)]))


def _check_inputs(images: Any, predictions: Predictions) -> None:
    """Check that the images are those of the predictions, and that there is a class to be led to."""
    kind: Any = getattr(images, "dtype", type(images).__name__)
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if kind != np.uint8 or len(shape) != 4 or shape[0] != len(predictions):
        raise SpurbenchError(
            f"Expected uint8 images of shape ({len(predictions)}, channels, height, width), found {kind} of shape {shape}."
        )
    if len(predictions.groups.classes) < 2:
        raise SpurbenchError("Expected at least two classes to attack, found one. Leave out evaluator 'pgd'.")


def _check_model(model: Any, clean: Any, predictions: Predictions, rows: NDArray[np.int64]) -> None:
    """Check that the model says of the clean images what the predictions say."""
    known = predictions.logits[rows]
    gap = np.abs(logits_of(model, clean) - known).max(axis=1)
    if gap.max() > SAME_LOGITS * max(1.0, float(np.abs(known).max())):
        raise SpurbenchError(
            f"Expected predictions of this model on these images, found logits that differ by {gap.max():.3g} on"
            f" {str(predictions.ids[rows[gap.argmax()]])!r}. Predict again."
        )
