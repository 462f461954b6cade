"""Accuracy under several attacks, an ensemble of them, and checks that they are attacks at all.

Threat model: an untargeted attacker who knows the network changes every image by at most a radius, in the L-infinity or
the L2 norm, and leaves it in [0, 1]. Normalisation is part of the network. It meets a fixed, group-balanced subset;
clean errors count as not robust, and are not attacked.

    fgsm     one step along the gradient
    mim      steps with momentum
    pgd      steps from random starts
    apgd_ce  steps of adaptive length on the cross-entropy
    apgd_t   the same on the targeted DLR loss; needs four classes
    fab      the nearest wrong image, against each other class in turn
    square   random search that sees logits only
    auto     the ensemble: per example the worst of its parts

AutoAttack is apgd_ce, apgd_t, fab and square. The DLR losses are not defined for few classes, so of two classes the
ensemble is apgd_ce, fab and square, and of three apgd_ce, apgd_dlr (untargeted), fab and square; ``details`` names them.
Of two classes nothing is lost in kind: the cross-entropy grows with the difference of the two logits, which is all a
loss can look at.

Under protocol ``any`` an example falls at the first iterate that is wrong, and what fell at a radius has fallen at larger
ones; under ``final`` the last iterate decides and each radius is attacked on its own, as in evaluator ``pgd``. Of
apgd_ce, apgd_t, fab and square the best iterate counts under either.

Source: Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks,
ICML 2020 (AutoAttack); Athalye, Carlini and Wagner, ICML 2018, section 3.1 (the checks).
Deviations: fewer steps and queries by default than the paper's 100 and 5,000; those of
:mod:`robustbench_spur.attack.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationInfo, field_validator

from robustbench_spur.attack import as_floats, attackable, radius_label
from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.engine import Target, each, ensemble
from robustbench_spur.attack.parts import Effort
from robustbench_spur.attack.sanity import gather
from robustbench_spur.attack.subset import as_number, balanced_subset, check_inputs, check_model, one_of
from robustbench_spur.evaluators.attack_names import AUTO, BLACK_BOX, NAMES, NOT_MADE, PARTS, defined, members
from robustbench_spur.evaluators.attack_report import Report
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Finding,
    Floats,
    Metric,
    Predictions,
    Subject,
)
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, SpurbenchError

EVIDENCE = ("wide", "short", "fell", "black")


class Attacks(Evaluator):
    """Accuracy by group under each attack at each radius."""

    name = "attacks"
    version = 1
    costly = True
    quick: ClassVar[Mapping[str, Any]] = {"examples": 20, "steps": 2, "queries": 5}
    summary = "robustness under FGSM, PGD, AutoAttack's parts and their ensemble, with checks against hidden gradients"
    source = "Croce and Hein, ICML 2020"
    partitions = ("test",)
    collects = (
        "attacks_rows",
        "attacks_robust",
        "attacks_felled",
        "attacks_wide",
        "attacks_short",
        "attacks_fell",
        "attacks_black",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "autoattack_worst_group_accuracy": Metric(
            "Lowest of the declared groups' accuracies under the ensemble at the headline radius, undefined if a declared "
            "group has no examples; its interval is that of the group so named."
        ),
        "attacked_accuracy:": Metric(
            "Share of the attacked subset that is right on the clean image and under an attack at a radius."
        ),
        "attacked_worst_group_accuracy:": Metric(
            "Lowest of the declared groups' accuracies under an attack at a radius, undefined if a declared group has no "
            "examples; its interval is that of the group so named."
        ),
        "attacked_group_accuracy:": Metric("Share of one declared group's examples that is right under an attack."),
        "attacked_failed_checks": Metric(
            "Number of checks that failed, on all examples: of any above 0 the robustness is not to be believed.",
            high=5.0,
            better="lower",
        ),
    }

    class Parameters(EvaluatorParameters):
        """The attacks, and whom they meet."""

        model_config = ConfigDict(validate_default=True)

        attacks: tuple[str, ...] = parameter(
            ("fgsm", "pgd", "auto"), "any of fgsm, mim, pgd, apgd_ce, apgd_t, fab, square, auto"
        )
        norm: Literal["linf", "l2"] = parameter("linf", "norm of the change")
        radii: tuple[float, ...] = parameter(
            ("1/255", "2/255"), "radii for images in [0, 1], ascending, above 0: decimals or fractions"
        )
        headline_radius: float = parameter("1/255", "the one of radii that the headline is taken at")
        protocol: Literal["any", "final"] = parameter(
            "any", "whether an example falls at any wrong iterate or at the last"
        )
        restarts: int = parameter(1, "random starts, of which the worst counts", at_least=1, at_most=100)
        steps: int = parameter(20, "gradient steps of every attack but fgsm", at_least=1, at_most=10_000)
        relative_step: float = parameter(
            2.5, "length of all steps together, in radii, of mim and pgd", above=0, at_most=1000
        )
        queries: int = parameter(500, "queries of square, each restart", at_least=1, at_most=100_000)
        examples: int = parameter(200, "size of the subset, shared equally by the declared groups", at_least=1)
        batch_size: int = parameter(200, "images attacked at once; the random starts depend on it", at_least=1)
        seed: int = parameter(2025, "of the subset and of the random starts", at_least=0)
        checks: bool = parameter(True, "whether to make the attacks that the checks need")

        @field_validator("radii", "headline_radius", mode="before")
        @classmethod
        def _as_number(cls, value: Any) -> Any:
            return as_number(value)

        @field_validator("attacks")
        @classmethod
        def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            if not names or len(set(names)) < len(names) or not set(names) <= set(NAMES):
                raise ValueError(f"expected some of {', '.join(NAMES)}, each once, found {list(names)}")
            return names

        @field_validator("radii")
        @classmethod
        def _in_order(cls, radii: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
            norm = info.data.get("norm", "linf")
            if not radii or not all(0 < radius <= (1 if norm == "linf" else 1000) for radius in radii):
                raise ValueError(f"expected radii above 0 and at most 1 (1000 in L2), found {list(radii)}")
            labels = {radius_label(radius, norm) for radius in radii}
            if list(radii) != sorted(radii) or len(labels) != len(radii):
                raise ValueError(f"expected ascending radii that differ in four digits, found {list(radii)}")
            return radii

        @field_validator("headline_radius")
        @classmethod
        def _one_of_radii(cls, headline: float, info: ValidationInfo) -> float:
            return one_of(headline, info.data.get("radii", (headline,)))

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Make the attacks on what the subset holds of examples that are right. See :meth:`Evaluator.collect`.

        The model's flags and torch's random state are given back as they were.

        Returns:
            ``attacks_rows``, the subset's rows in the partition, ascending, int64 of shape (m,); ``attacks_robust``, 1
            where an example is right with and without attack, else 0, or 2 where an attack is not defined, uint8 of shape
            (m, attacks, radii); ``attacks_felled``, which member of the ensemble felled it (see
            :func:`~robustbench_spur.evaluators.attack_names.members`), -1 where none did, int8 of shape (m, radii); and
            what the checks look at (see :class:`~robustbench_spur.attack.sanity.Evidence`), of no columns where they are
            not asked for.

        Raises:
            SpurbenchError: images of another type or number, a model that did not make these predictions, gradients or
                logits that are NaN.
        """
        import torch

        images, predictions, own = subject.images, subject.predictions, self.parameters
        check_inputs(images, predictions, self.name)
        model, where, radii = subject.model, torch.device(subject.device), len(own.radii)
        subset = balanced_subset(predictions, own.examples, own.seed)
        attacked, everything = subset[predictions.correct[subset]], len(predictions)
        full: dict[str, NDArray[Any]] = {
            "robust": np.zeros((everything, len(own.attacks), radii), np.uint8),
            "felled": np.full((everything, radii), -1, np.int8),
            "wide": np.zeros((everything, int(own.checks)), np.uint8),
            "short": np.zeros((everything, radii * own.checks), np.uint8),
            "fell": np.zeros((everything, radii * own.checks), np.int32),
            "black": np.zeros((everything, radii * own.checks), np.uint8),
        }
        batches = range(0, len(attacked), own.batch_size)
        with attackable(model, where):
            for number, start in enumerate(batches):
                rows = attacked[start : start + own.batch_size]
                clean = as_floats(images, rows, where)
                check_model(model, clean, predictions, rows)
                target = Target(model, clean, predictions.labels[rows], own.seed, number)
                for name, values in self._batch(target, len(predictions.groups.classes)).items():
                    full[name][rows] = values
                subject.progress(number + 1, len(batches))
        for column, name in enumerate(own.attacks):
            if not defined(name, len(predictions.groups.classes)):
                full["robust"][:, column] = NOT_MADE
        rows = np.sort(subset)
        return {"attacks_rows": rows, **{f"attacks_{name}": values[rows] for name, values in full.items()}}

    def _batch(self, target: Target, classes: int) -> dict[str, NDArray[Any]]:
        """All attacks on a batch, every image of which is right: arrays by name, their first axis the batch."""
        own = self.parameters
        effort = Effort(classes, own.protocol, own.steps, own.relative_step, own.restarts, own.queries)
        balls, carry = [Ball(own.norm, radius) for radius in own.radii], own.protocol == "any"
        alive = np.ones(len(target.labels), np.bool_)
        alone = [name for name in own.attacks if name != AUTO and defined(name, classes)]
        right = each({name: PARTS[name](effort) for name in alone}, target, balls, alive, carry)
        out: dict[str, NDArray[Any]] = {}
        if AUTO in own.attacks:
            its = {name: PARTS[name](effort) for name in members(classes)}
            right[AUTO], out["felled"] = ensemble(its, target, balls, alive, carry, right)
        absent = np.zeros((len(alive), len(balls)), np.bool_)
        out["robust"] = np.stack([right.get(name, absent) for name in own.attacks], axis=1)
        if own.checks:
            evidence = gather(target, balls, alive, effort, right.get(BLACK_BOX))
            out |= {name: getattr(evidence, name) for name in EVIDENCE}
        return out

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`.

        Members are ``attack:radius`` and ``attack:radius:group``.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions and the parameters.
        """
        return self._report(predictions).measure(check_counts(counts, len(predictions.patients)))

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients in the subset, in one group of it, or in the named worst group."""
        return self._report(predictions).support()

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """The attacks, what the ensemble is made of, curves, and the checks with their numbers.

        Returns:
            ``definition`` in words; the settings; ``ensemble``, a row per part: part, settings, and how many examples it
            felled by radius, in order, each on what those before left; ``left_out``, parts of the standard ensemble that
            are not defined, with reasons; ``curves`` by attack, rows as in evaluator ``pgd``; ``checks``, a row each:
            check, passed (None where it says nothing), number, said; ``failed``, the sentences of those that did not
            pass; ``undefined`` (why, by metric).
        """
        return self._report(predictions).details()

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether the checks of the attacks passed."""
        return self._report(predictions).findings(estimates)

    def _report(self, predictions: Predictions) -> Report:
        """The collected arrays, after checking that they fit the predictions and the parameters."""
        missing = [name for name in self.collects if name not in predictions.arrays]
        if missing:
            raise SpurbenchError(f"Evaluator 'attacks' needs the arrays {missing}, which these predictions lack.")
        arrays = {name.removeprefix("attacks_"): np.asarray(predictions.arrays[name]) for name in self.collects}
        return Report(self.parameters, predictions, arrays)
