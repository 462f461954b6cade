"""What evaluator ``attacks`` says of what it collected: metrics, tables, and the checks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack import sanity
from robustbench_spur.attack.ball import radius_label
from robustbench_spur.attack.parts import Effort
from robustbench_spur.attack.subset import Attacked, check_subset, once
from robustbench_spur.evaluators.attack_names import (
    AUTO,
    BLACK_BOX,
    PARTS,
    STANDARD,
    defined,
    members,
    why_not,
)
from robustbench_spur.evaluators.base import Finding, Floats, Predictions
from robustbench_spur.types import Estimate, SpurbenchError

HEADLINE = "autoattack_worst_group_accuracy"
FAILED = "attacked_failed_checks"
FLAGS = ("wide", "short", "black")
"""Arrays of the checks that hold 0 or 1."""


@dataclass(frozen=True)
class Report:
    """The collected arrays with the settings that they were collected with.

    Args:
        own: the evaluator's settings.
        predictions: of the partition.
        arrays: by name without the evaluator's.

    Raises:
        SpurbenchError: arrays that do not fit the predictions and the settings.
    """

    own: Any
    predictions: Predictions
    arrays: dict[str, NDArray[Any]]

    def __post_init__(self) -> None:
        rows, radii = self.arrays["rows"], len(self.own.radii)
        checked = radii * self.own.checks
        shapes = {"robust": (len(self.own.attacks), radii), "felled": (radii,), "wide": (int(self.own.checks),)}
        for name, shape in (shapes | dict.fromkeys(("short", "fell", "black"), (checked,))).items():
            if self.arrays[name].shape != (len(rows), *shape) or rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise SpurbenchError(
                    f"Expected whole numbers in attacks_rows, and attacks_{name} of shape {(len(rows), *shape)}, found"
                    f" {rows.dtype} and {self.arrays[name].shape}."
                )
        check_subset(rows, self.predictions, self.own.examples, "attacks_rows")
        made = [column for column, name in enumerate(self.own.attacks) if defined(name, self.classes)]
        robust, clean = self.arrays["robust"][:, made], self.predictions.correct[rows]
        flags = {"robust": robust, **{name: self.arrays[name] for name in FLAGS}}
        for name, values in flags.items():
            if not np.isin(values, (0, 1)).all() or values[~clean].any():
                raise SpurbenchError(
                    f"Expected 0 or 1 in attacks_{name}, and 0 where the clean image is wrong, found otherwise."
                )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.predictions.groups.classes)

    @property
    def effort(self) -> Effort:
        """How hard each attack tried."""
        own = self.own
        return Effort(self.classes, own.protocol, own.steps, own.relative_step, own.restarts, own.queries)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Name of each radius."""
        return tuple(radius_label(radius, self.own.norm) for radius in self.own.radii)

    @property
    def headline(self) -> str:
        """Name of the headline radius."""
        return radius_label(self.own.headline_radius, self.own.norm)

    @cached_property
    def attacked(self) -> Attacked:
        """The subset; after the clean column one for each attack and radius, attack by attack."""
        rows, robust = self.arrays["rows"].astype(np.int64), self.arrays["robust"]
        right = [self.predictions.correct[rows][:, None], robust.reshape(len(rows), math.prod(robust.shape[1:])) == 1]
        return Attacked(self.predictions, rows, np.concatenate(right, axis=1))

    def columns(self) -> Iterator[tuple[int, str, str, bool]]:
        """Column of :attr:`attacked`, attack, radius, and whether the attack is defined."""
        for a, name in enumerate(self.own.attacks):
            for r, label in enumerate(self.labels):
                yield 1 + a * len(self.labels) + r, name, label, defined(name, self.classes)

    def measure(self, counts: Floats) -> dict[str, Floats]:
        """Every metric under every resampling."""
        lost, names = np.full(len(counts), np.nan), self.predictions.groups.names
        out: dict[str, Floats] = {HEADLINE: lost}
        for column, name, label, made in self.columns():
            by_group = self.attacked.by_group(column, counts) if made else np.tile(lost[:, None], len(names))
            worst = self.attacked.worst(column) if made else None
            lowest = lost if worst is None else by_group[:, worst]
            out[f"attacked_accuracy:{name}:{label}"] = self.attacked.accuracy(column, counts) if made else lost
            out[f"attacked_worst_group_accuracy:{name}:{label}"] = lowest
            out |= {f"attacked_group_accuracy:{name}:{label}:{group}": by_group[:, g] for g, group in enumerate(names)}
            if (name, label) == (AUTO, self.headline):
                out[HEADLINE] = lowest
        failed = float(len(self.failed)) if self.checks else np.nan
        return {**out, FAILED: np.full(len(counts), failed)}

    def support(self) -> dict[str, int]:
        """Patients behind each metric that is a mean."""
        out: dict[str, int] = {}
        for column, name, label, made in self.columns():
            if not made:
                continue
            worst = self.attacked.worst(column)
            out[f"attacked_accuracy:{name}:{label}"] = self.attacked.patients()
            for g, group in enumerate(self.predictions.groups.names):
                out[f"attacked_group_accuracy:{name}:{label}:{group}"] = self.attacked.patients(g)
            if worst is not None:
                out[f"attacked_worst_group_accuracy:{name}:{label}"] = self.attacked.patients(worst)
                if (name, label) == (AUTO, self.headline):
                    out[HEADLINE] = self.attacked.patients(worst)
        return out

    @cached_property
    def checks(self) -> list[sanity.Check]:
        """The checks; none where they were not asked for."""
        if not self.own.checks:
            return []
        made = {name: flags for name, flags in self._right().items() if defined(name, self.classes)}
        short, black = (self.arrays[name] == 1 for name in ("short", "black"))
        widest = "radius 1" if self.own.norm == "linf" else "the radius of the whole of [0, 1]"
        many, white = ("many steps", self._carried(short)), ("the best that sees gradients", self._white())
        return [
            sanity.falls_to_nothing(self.arrays["wide"] == 1, widest, len(np.unique(self.predictions.predicted))),
            sanity.larger_is_no_safer(made),
            sanity.weaker_is_no_better("seeing is no handicap", (BLACK_BOX, self._carried(black)), white),
            sanity.weaker_is_no_better("steps are no handicap", ("fgsm", made.get("fgsm")), many),
            sanity.more_never_help(short, self.arrays["fell"].astype(np.int64), self.own.steps),
        ]

    def _carried(self, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """With what fell at smaller radii fallen, where the protocol is that."""
        return np.logical_and.accumulate(right, axis=1) if self.own.protocol == "any" else right

    @property
    def failed(self) -> list[str]:
        """What the checks that failed say."""
        return [f"{check.name}: {check.said}" for check in self.checks if check.passed is False]

    def _right(self) -> dict[str, NDArray[np.bool_]]:
        """By attack, who is right at each radius."""
        return {name: self.arrays["robust"][:, column] == 1 for column, name in enumerate(self.own.attacks)}

    def _white(self) -> NDArray[np.bool_]:
        """Who is right under everything that saw gradients, shape (m, radii)."""
        right = self._carried(self.arrays["short"] == 1)
        for name, flags in self._right().items():
            if name == AUTO:
                right &= np.isin(self.arrays["felled"], (-1, members(self.classes).index(BLACK_BOX)))
            elif name != BLACK_BOX and defined(name, self.classes):
                right &= flags
        return right

    def details(self) -> dict[str, Any]:
        """See :meth:`robustbench_spur.evaluators.attacks.Attacks.details`."""
        own, effort, its = self.own, self.effort, members(self.classes)
        steps = [(int(self.own.steps * share)) for share in (0.25, 0.5, 1, 2)]
        return {
            "definition": (
                f"share of examples that are right on the clean image and under untargeted attacks in {own.norm}, images in"
                " [0, 1], normalisation inside the network, float32, eval mode; clean errors count as not robust; protocol"
                f" {own.protocol}: "
                + (
                    "an example falls at any wrong iterate, and what fell at a radius has fallen at larger ones"
                    if own.protocol == "any"
                    else "the last iterate decides (of apgd_ce, apgd_dlr, apgd_t, fab and square the best), every radius on"
                    " its own"
                )
            ),
            **{
                name: getattr(own, name)
                for name in ("norm", "protocol", "restarts", "steps", "queries", "relative_step")
            },
            "radii": list(own.radii),
            "labels": list(self.labels),
            "headline": self.headline,
            "examples": len(self.attacked.rows),
            "groups": self.attacked.group_sizes(own.examples),
            "settings": {name: PARTS[name](effort).settings for name in own.attacks if name in PARTS},
            "ensemble": [
                {
                    "part": name,
                    "settings": PARTS[name](effort).settings,
                    "felled": [int(count) for count in (self.arrays["felled"] == position).sum(axis=0)],
                }
                for position, name in enumerate(its)
            ]
            if AUTO in own.attacks
            else [],
            "left_out": [{"part": name, "why": why_not(name)} for name in STANDARD if name not in its],
            "curves": {name: self._curve(name) for name in own.attacks if defined(name, self.classes)},
            "by_steps": {
                label: [{"steps": count, "accuracy": self._within(r, count)} for count in sorted(set(steps)) if count]
                for r, label in enumerate(self.labels)
            }
            if own.checks
            else {},
            "checks": [check.as_json() for check in self.checks],
            "failed": self.failed,
            "undefined": self._undefined(),
        }

    def findings(self, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """See :meth:`robustbench_spur.evaluators.attacks.Attacks.findings`."""
        question, names, count = "Can its robustness be believed?", (FAILED,), estimates[FAILED]
        limits = "That it is robust: the checks catch the known ways in which attacks fail."
        if count.value is None:
            return [Finding(question, "unknown", f"Cannot be told: {count.reason}.", names, limits)]
        if not count.value:
            return [
                Finding(question, "no sign", f"None of {len(self.checks)} checks of the attacks failed.", names, limits)
            ]
        advice = "Look for what hides its gradient: rounding, random numbers, a loss that is flat."
        text = f"{int(count.value)} of {len(self.checks)} checks of the attacks failed. {'; '.join(self.failed)}."
        return [Finding(question, "problem", text, names, "How robust it is.", advice)]

    def _within(self, radius: int, steps: int) -> float:
        """Share that survives so many steps of the fixed size from one start, at a radius given by its position."""
        fell = self.arrays["fell"][:, radius]
        return sanity.share((fell > steps) | (fell < 0))

    def _curve(self, attack: str) -> list[dict[str, Any]]:
        """Accuracies by radius, from 0 (no attack) up."""
        places = [(0, "0", 0.0)]
        where = [column for column, name, _, _ in self.columns() if name == attack]
        places += list(zip(where, self.labels, self.own.radii, strict=True))
        return [
            {"radius": radius, "label": label, **self.attacked.table_row(column)} for column, label, radius in places
        ]

    def _undefined(self) -> dict[str, str]:
        """Why a metric is NaN on all patients, by metric."""
        names = self.predictions.groups.names
        empty = [row["group"] for row in self.attacked.group_sizes(self.own.examples) if not row["examples"]]
        lacking = f"{len(empty)} of {len(names)} declared groups have no examples: {', '.join(empty)}"
        out = {}
        for metric, value in self.measure(once(self.predictions)).items():
            kind, _, member = metric.partition(":")
            attack = member.partition(":")[0]
            if not np.isnan(value[0]):
                continue
            if kind == FAILED:
                out[metric] = "the checks were not asked for"
            elif kind == HEADLINE and AUTO not in self.own.attacks:
                out[metric] = f"{AUTO} is not among the attacks"
            elif attack and not defined(attack, self.classes):
                out[metric] = why_not(attack)
            else:
                out[metric] = lacking if "worst" in kind else "no examples"
        return out
