"""Shortcut testing: do networks that encode the attribute more treat its values less alike?

Small networks are trained on the model's frozen features to tell the label, with a second branch that asks them to encode the
attribute more or less, to a degree that varies over a grid.

Of each network is measured

    encoding E     AUROC of a fresh linear probe for the attribute on its code
    unfairness F   equalised odds: half the range over attribute values of the false positive rate, plus half that of the true
                   positive rate, at the threshold that has the largest F1 on validation

and the result is Spearman's rank correlation of E and F over the networks. Above 0 and beyond chance: what makes a network
encode the attribute makes it unfair, so the attribute is a shortcut. Unfair networks with a correlation near 0 are unfair for
another reason. As the features are frozen, this tests the embedding: what a head that is trained on it, with the label that
went with the attribute, would make of it.

Networks are trained on the training set and their thresholds chosen on validation. E and F are taken on the partition itself,
where label and attribute are independent in most splits, E with probes that are fitted on four fifths of its patients and asked
about the rest, in turn: in training a probe for the attribute would find the label. Resampling draws patients and trains
nothing again. The p value is that of independent networks; those of one seed begin with the same weights, so it is too small.

Source: A. Brown et al., Detecting shortcut learning for fair medical AI using shortcut testing, Nature Communications 14, 2023,
arXiv 2207.10384.
Deviations: see :mod:`robustbench_spur.shortcut`; E is cross-fitted on the test patients in place of fitted on training; the
floor below which a network does not count is on its AUROC for the label on validation; larger scalings, since frozen features
move less than a network that is trained throughout (settled on three networks of the embedded data); where the encoding of the
networks hardly differs there is no correlation to speak of, and none is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.subset import some_of_each_group
from robustbench_spur.evaluators.answers import NOT_ASKED, Answers, answers_of, encoding_of, unfairness_of
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Finding,
    Floats,
    Metric,
    Predictions,
    Subject,
)
from robustbench_spur.evaluators.finding import beyond
from robustbench_spur.evaluators.held_out import Codes
from robustbench_spur.evaluators.worst_group import everyone, weighted_auroc
from robustbench_spur.parameters import parameter
from robustbench_spur.probing import Scale, features_of, folds_by_patient, held_out_scores, narrow_in_one_thread, untied
from robustbench_spur.shortcut import Grid, Recipe, best_threshold, spearman, train_grid
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, finite

LEAST_NETWORKS = 10
"""Networks above the floor that a correlation is given for."""
STILL = "the model's features are the same for all training examples"
NOTABLE = 0.2
"""A correlation that is worth a doubt."""
CHANCE = 0.5
"""Encoding of a network that draws the attribute at random: the lower bound of E."""


class ShortcutTesting(Evaluator):
    """Rank correlation of how much networks on the model's features encode the attribute and how unfair they are."""

    name = "shortcut_testing"
    version = 2
    summary = "whether networks on the features that encode the attribute more are less fair (ShorT)"
    source = "Brown et al., Nature Communications 2023"
    reads = ("train", "validation")
    costly = True
    on_features = True
    quick: ClassVar[Mapping[str, Any]] = {"seeds": 1, "steps": 20, "scalings": (-1.0, 0.0, 1.0), "folds": 2}
    collects = (
        "shortcut_testing_reason",
        "shortcut_testing_fold",
        "shortcut_testing_scalings",
        "shortcut_testing_seeds",
        "shortcut_testing_performance",
        "shortcut_testing_predicted",
        "shortcut_testing_odds",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "shortcut_rho": Metric(
            "Of two classes: Spearman's correlation, over networks on the model's frozen features that were made to encode the "
            "attribute to different degrees, of the attribute's encoding and equalised odds on held-out patients.",
            low=-1.0,
            better="lower",
        ),
        "shortcut_p": Metric(
            "Two-sided p value of shortcut_rho if the networks were independent, under each draw of patients.",
            better="neither",
        ),
    }

    class Parameters(EvaluatorParameters):
        """The grid of networks."""

        scalings: tuple[float, ...] = parameter(
            (-10.0, -5.0, -3.0, -2.0, -1.0, -0.5, -0.2, -0.1, 0.0, 0.1, 0.2, 0.5, 1.0),
            "factors of the attribute branch's gradient; 0 leaves the branch out",
        )
        examples: int = parameter(
            2000,
            "examples that networks are asked about, as many of each group; all where there are no more",
            at_least=1,
        )
        seed: int = parameter(2025, "of the choice of examples", at_least=0)
        seeds: int = parameter(5, "networks at each scaling", at_least=1, at_most=100)
        steps: int = parameter(600, "of Adam for each network", at_least=1)
        batch_size: int = parameter(256, "examples per step", at_least=2)
        learning_rate: float = parameter(1e-3, "step size of the optimiser", above=0)
        branch_rate: float = parameter(5.0, "step size of the attribute's branch, in units of learning_rate", above=0)
        attribute_weight: float = parameter(0.75, "weight of the attribute's loss where the scaling is not 0", above=0)
        hidden: int = parameter(32, "width of the hidden layers", at_least=1)
        width: int = parameter(2, "width of the code that is probed", at_least=1)
        floor: float = parameter(
            0.7, "AUROC for the label on validation that a network needs to count", at_least=0, at_most=1
        )
        least_range: float = parameter(
            0.05, "range of the encoding over the networks below which no correlation is given", at_least=0, at_most=1
        )
        folds: int = parameter(5, "parts of the patients, each asked about by probes fitted on the others", at_least=2)
        strength: float = parameter(0.1, "inverse of the weight of a probe's squared coefficients", above=0)

        def recipe(self) -> Recipe:
            """How the networks are trained."""
            return Recipe(
                hidden=self.hidden,
                width=self.width,
                steps=self.steps,
                batch=self.batch_size,
                rate=self.learning_rate,
                branch=self.branch_rate,
                weight=self.attribute_weight,
                seeds=self.seeds,
            )

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Train the grid, and ask it about the partition. See :meth:`Evaluator.collect`.

        Returns:
            ``shortcut_testing_reason``, a text of shape (1,), empty where all went well; ``_fold``, int16 of shape (n,); of
            every network ``_scalings``, float64, ``_seeds``, int16, and ``_performance``, float64, of shape (networks,),
            ``_predicted``, uint8 of shape (n, networks), and ``_odds``, float32 of shape (n, networks, values). 255 and NaN
            stand where they are not asked about an example.

        Raises:
            SpurbenchError: features that are not finite, or a model that did not make these predictions.
        """
        predictions, train, validation = subject.predictions, subject.other("train"), subject.other("validation")
        given, of, values = self.parameters, train.predictions, len(predictions.groups.values)
        fold = folds_by_patient(predictions.patient, predictions.group, given.folds)
        reason = _obstacle(predictions, of, validation.predictions)
        if reason:
            return Answers.none(reason, fold, values).arrays(self.collects)
        taught = features_of(subject, train).astype(np.float64)
        scale = Scale.of(taught)
        if not scale.moving.any():
            return Answers.none(STILL, fold, values).arrays(self.collects)
        grid = train_grid(scale(taught), of.labels, of.attributes, given.scalings, given.recipe(), subject.progress)
        chosen = scale(features_of(subject, validation).astype(np.float64))
        rows = some_of_each_group(predictions, given.examples, given.seed)
        part = subject.part.take(rows)
        asked = scale(features_of(subject, part).astype(np.float64))
        performance, thresholds = _validated(grid, chosen, validation.predictions)
        codes = grid.codes(asked)
        predicted = np.full((len(predictions), len(codes)), NOT_ASKED, np.uint8)
        predicted[rows] = (grid.margins(codes) >= thresholds[:, None]).T
        odds = np.full((len(predictions), len(codes), values), np.nan)
        with narrow_in_one_thread(given.width):
            for network, code in enumerate(codes):
                odds[rows, network] = self._probe(code, part.predictions, fold[rows])
        answers = Answers(np.array([""]), fold, grid.scalings, grid.seeds, performance, predicted, odds)
        return answers.arrays(self.collects)

    def _probe(self, code: NDArray[np.float32], predictions: Predictions, fold: Codes) -> Floats:
        """Held-out log odds of each attribute value from the codes of one network, shape (n, values)."""
        values, strength = len(predictions.groups.values), self.parameters.strength
        points = code.astype(np.float64)
        return held_out_scores(points, predictions.attributes, predictions.labels, values, fold, strength)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Networks below the floor, on all patients of validation, count in no resampling.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts, answers = check_counts(counts, len(predictions.patients)), answers_of(predictions, self.collects)
        rows = np.flatnonzero(self._counted(answers))
        rho, p = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
        everybody = encoding_of(predictions, answers, rows, everyone(predictions))[0]
        if len(rows) >= LEAST_NETWORKS and np.ptp(everybody) >= self.parameters.least_range:
            rho, p = spearman(
                encoding=encoding_of(predictions, answers, rows, counts),
                unfairness=unfairness_of(predictions, answers, rows, counts),
            )
        return {"shortcut_rho": rho, "shortcut_p": p}

    def _counted(self, answers: Answers) -> NDArray[np.bool_]:
        """Which networks count: those that were trained for the label and reach the floor, shape (networks,)."""
        return np.asarray(np.isfinite(answers.scalings) & (answers.performance >= self.parameters.floor))

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """The grid, and the bounds of the encoding.

        Returns:
            ``definition`` in words; ``networks``: scaling, seed, encoding, unfairness, performance and whether it counts, of
            each that was trained for the label; ``counted``; ``encoding_bounds``: ``lower`` of a random draw and ``upper`` of
            networks trained for the attribute alone (the mean over seeds); ``encoding_range`` and ``unfairness_range`` of the
            networks that count, None where there are none; ``undefined``: why, by metric.
        """
        answers, counts = answers_of(predictions, self.collects), everyone(predictions)
        every = np.arange(len(answers.scalings))
        encoding = encoding_of(predictions, answers, every, counts)[0]
        unfairness = unfairness_of(predictions, answers, every, counts)[0]
        main, counted = np.isfinite(answers.scalings), self._counted(answers)
        return {
            "definition": (
                "Spearman's correlation, over networks trained on the model's frozen features, of the AUROC of a held-out "
                "linear probe for the attribute on their code and of equalised odds, at the threshold with the largest F1 on "
                "validation"
            ),
            "networks": [
                {
                    "scaling": float(answers.scalings[one]),
                    "seed": int(answers.seeds[one]),
                    "encoding": finite(encoding[one]),
                    "unfairness": finite(unfairness[one]),
                    "performance": finite(answers.performance[one]),
                    "counted": bool(counted[one]),
                }
                for one in np.flatnonzero(main).tolist()
            ],
            "counted": int(counted.sum()),
            "encoding_bounds": {"lower": CHANCE, "upper": finite(encoding[~main].mean()) if (~main).any() else None},
            "encoding_range": _range(encoding[counted]),
            "unfairness_range": _range(unfairness[counted]),
            "undefined": {
                metric: self._why(predictions, answers, encoding[counted], unfairness[counted])
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def _why(self, predictions: Predictions, answers: Answers, encoding: Floats, unfairness: Floats) -> str:
        """Why the correlation is NaN on all patients."""
        if answers.reason[0]:
            return str(answers.reason[0])
        if len(encoding) < LEAST_NETWORKS:
            floor = f"an AUROC of {self.parameters.floor:g} for the label on validation"
            return f"{len(encoding)} networks reach {floor}, {LEAST_NETWORKS} are needed"
        if np.isnan(unfairness).any():
            size = np.bincount(predictions.group, minlength=len(predictions.groups))
            empty = [name for name, n in zip(predictions.groups.names, size.tolist(), strict=True) if not n]
            return f"{len(empty)} of {len(size)} declared groups have no examples: {', '.join(empty)}"
        if np.isnan(encoding).any():
            return "too few patients: those of the other folds leave nothing to fit a probe on"
        if np.ptp(encoding) < self.parameters.least_range:
            low, high = encoding.min(), encoding.max()
            return f"the grid did not move the encoding: all networks have one from {low:.3f} to {high:.3f}"
        return f"all networks have the same {'unfairness' if np.ptp(unfairness) == 0 else 'encoding'}"

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether networks on these features are the less fair the more they encode the attribute."""
        question = f"Is the {predictions.groups.attribute} a shortcut for what is trained on its features?"
        rho, names = estimates["shortcut_rho"], ("shortcut_rho", "shortcut_p")
        if rho.value is None:
            return [Finding(question, "unknown", f"Cannot be told: {rho.reason}.", names, "That it is none.")]
        verdict = beyond(rho, NOTABLE)
        ends = "" if rho.low is None or rho.high is None else f" ({rho.low:.2f} to {rho.high:.2f})"
        text = (
            "Over networks that encode it to different degrees, encoding and unfairness correlate with"
            f" {rho.value:.2f}{ends}."
        )
        limits = {
            "problem": "That the model at hand uses it: small networks on its features were tested.",
            "doubt": "That the correlation is more than chance.",
        }.get(verdict, "That the networks are fair: only that it is not the encoding which makes them unfair.")
        return [Finding(question, verdict, text, names, limits)]

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """Rho and p from scipy, on the same networks; None where undefined."""
        from scipy.stats import spearmanr

        if np.isnan(self.points(predictions)["shortcut_rho"]):
            return {"scipy/shortcut_rho": None, "scipy/shortcut_p": None}
        counted = [one for one in self.details(predictions)["networks"] if one["counted"]]
        found = spearmanr([one["encoding"] for one in counted], [one["unfairness"] for one in counted])
        return {"scipy/shortcut_rho": finite(found.statistic), "scipy/shortcut_p": finite(found.pvalue)}


def _obstacle(test: Predictions, train: Predictions, validation: Predictions) -> str:
    """Why the grid cannot be trained or asked; empty where it can."""
    groups = test.groups
    if len(groups.classes) != 2:
        return f"defined for two classes, the split has {len(groups.classes)}"
    for place, part in (("training", train), ("the partition", test)):
        if not untied(part.attributes, part.labels):
            return (
                f"no class has examples at two values of {groups.attribute} in {place}: what tells one tells the other"
            )
    if len(np.unique(validation.labels)) < 2:
        return "validation has examples of one class alone: no threshold to choose"
    declared = [code // len(groups.values) for code in groups.codes]
    if min(declared.count(label) for label in (0, 1)) < 2:
        return f"the partition's design has a class at one value of {groups.attribute} alone"
    return ""


def _validated(grid: Grid, points: Floats, validation: Predictions) -> tuple[Floats, Floats]:
    """AUROC for the label and the threshold with the largest F1 of every network, on validation, each of shape (networks,)."""
    positive, counts = validation.labels == 1, everyone(validation)
    margins = grid.margins(grid.codes(points))
    auroc = [weighted_auroc(margin, positive, validation.patient, counts)[0] for margin in margins]
    return np.array(auroc), np.array([best_threshold(margin, positive) for margin in margins])


def _range(values: Floats) -> list[float | None] | None:
    """Least and greatest, or None where there are none."""
    return [finite(values.min()), finite(values.max())] if len(values) else None
