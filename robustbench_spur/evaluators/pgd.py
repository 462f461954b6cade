"""Accuracy under attack: the share of images that stay right under the worst small change projected gradient finds.

Threat model: an untargeted attacker who knows the network changes every pixel by at most a radius (L-infinity) and
leaves the image in [0, 1]. Normalisation is part of the network, so a radius is in grey levels; a grayscale image has
one channel and is changed as one. The attack is torchattacks' PGD, in float32 and eval mode: from a random start,
steps along the sign of the gradient of the cross-entropy, each projected back into the ball.

    robust = right on the clean image and right on the final iterate

So clean errors count as not robust, and are not attacked. It runs on a fixed, group-balanced subset: of every group the
examples whose hashed ids come first, whatever the order of the rows. Each radius is attacked on its own.

The cross-entropy of a confident network has a gradient of zero in float32, and would make it pass for a robust one. So
the true class's logit is lowered by a constant while the gradient is taken (see
:func:`~robustbench_spur.attack.tools.unsaturated`), which changes the gradient's length but not its sign.

Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018, section 2.1 (the
attack); Carlini and Wagner, IEEE S&P 2017, section IV (gradients that vanish).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationInfo, field_validator

from robustbench_spur.attack import as_floats, attackable, radius_label
from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.engine import Target, survivors
from robustbench_spur.attack.parts import Effort, projected
from robustbench_spur.attack.subset import (
    Attacked,
    as_number,
    balanced_subset,
    check_inputs,
    check_model,
    check_subset,
    one_of,
    quotas,
)
from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import SpurbenchError


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
            return as_number(value)

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
            return one_of(headline, info.data.get("radii", (headline,)))

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
        check_inputs(images, predictions, self.name)
        model, settings, where = subject.model, self.parameters, torch.device(subject.device)
        radii, size = settings.radii, settings.batch_size
        part = projected(
            Effort(len(predictions.groups.classes), "final", settings.steps, relative_step=settings.relative_step)
        )
        subset = balanced_subset(predictions, settings.examples, settings.seed)
        attacked = subset[predictions.correct[subset]]
        robust = np.zeros((len(predictions), len(radii)), np.uint8)
        total = -(-len(attacked) // size) * len(radii)
        with attackable(model, where):
            for number, start in enumerate(range(0, len(attacked), size)):
                rows = attacked[start : start + size]
                clean = as_floats(images, rows, where)
                check_model(model, clean, predictions, rows)
                target = Target(model, clean, predictions.labels[rows], settings.seed, number)
                for column, radius in enumerate(radii):
                    robust[rows, column] = survivors(part, target, Ball("linf", radius))
                    subject.progress(number * len(radii) + column + 1, total)
        rows = np.sort(subset)
        return {"pgd_rows": rows, "pgd_robust": robust[rows]}

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
            "groups": attacked.group_sizes(settings.examples),
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
            for metric, value in self.points(predictions).items()
            if np.isnan(value)
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
        rows = check_subset(rows, predictions, self.parameters.examples, "pgd_rows")
        clean = predictions.correct[rows]
        if not np.isin(robust, (0, 1)).all() or robust[~clean].any():
            raise SpurbenchError(
                "Expected 0 or 1 in pgd_robust, and 0 where the clean image is wrong, found otherwise."
            )
        return Attacked(predictions, rows, np.column_stack([clean, robust.astype(bool)]))
