"""What is kept of the networks that were trained to encode an attribute more or less: their answers about held-out patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Floats, Predictions
from robustbench_spur.evaluators.held_out import Codes, level_auroc
from robustbench_spur.shortcut import equalised_odds
from robustbench_spur.statistics import group_means
from robustbench_spur.types import SpurbenchError

NOT_ASKED = 255
"""In place of a predicted class, where a network is not asked about an example."""


@dataclass(frozen=True)
class Answers:
    """What was collected.

    Args:
        reason: why there are no networks, a text of shape (1,); empty where there are.
        fold: of each example, shape (n,).
        scalings: of each network, shape (networks,); NaN where it was trained for the attribute alone.
        seeds: shape (networks,).
        performance: AUROC for the label on validation, shape (networks,).
        predicted: 1 where class 1 is predicted, :data:`NOT_ASKED` where they are not asked, shape (n, networks).
        odds: held-out log odds of each attribute value, shape (n, networks, values); NaN where they are not asked.
    """

    reason: NDArray[np.str_]
    fold: NDArray[Any]
    scalings: NDArray[Any]
    seeds: NDArray[Any]
    performance: NDArray[Any]
    predicted: NDArray[Any]
    odds: NDArray[Any]

    @classmethod
    def none(cls, reason: str, fold: Codes, values: int) -> Answers:
        """No networks, and why."""
        each, rows = np.zeros(0), len(fold)
        return cls(np.array([reason]), fold, each, each, each, np.zeros((rows, 0)), np.zeros((rows, 0, values)))

    def arrays(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """By the names that they are kept under, in the order of the fields."""
        kinds = (np.str_, np.int16, np.float64, np.int16, np.float64, np.uint8, np.float32)
        own = zip(fields(self), kinds, strict=True)
        found = [np.asarray(getattr(self, field.name), kind) for field, kind in own]
        return dict(zip(names, found, strict=True))


def answers_of(predictions: Predictions, names: Sequence[str]) -> Answers:
    """The collected arrays, by their names in the order of the fields.

    Raises:
        SpurbenchError: one is missing, or of another shape.
    """
    missing = [name for name in names if name not in predictions.arrays]
    if missing:
        raise SpurbenchError(
            f"Evaluator 'shortcut_testing' needs the arrays {missing}, which these predictions do not have."
        )
    found = Answers(*(np.asarray(predictions.arrays[name]) for name in names))
    rows, networks, values = len(predictions), len(found.scalings), len(predictions.groups.values)
    shapes = ((1,), (rows,), (networks,), (networks,), (networks,), (rows, networks), (rows, networks, values))
    for name, shape in zip(names, shapes, strict=True):
        if predictions.arrays[name].shape != shape:
            raise SpurbenchError(
                f"Expected {name} of shape {shape}, found {predictions.arrays[name].shape}. Collect again."
            )
    return found


def encoding_of(predictions: Predictions, answers: Answers, networks: Codes, counts: Floats) -> Floats:
    """E of these networks, shape (resamples, networks)."""
    everywhere, fold = np.ones(len(predictions), bool), answers.fold.astype(np.int64)
    found = [
        level_auroc(answers.odds[:, one], predictions.attributes, everywhere, predictions.patient, fold, counts)
        for one in networks.tolist()
    ]
    return np.stack(found, axis=1) if found else np.zeros((len(counts), 0))


def unfairness_of(predictions: Predictions, answers: Answers, networks: Codes, counts: Floats) -> Floats:
    """F of these networks, shape (resamples, networks); NaN where a declared group has no example."""
    groups, found = predictions.groups, []
    declared = [[g for g, code in enumerate(groups.codes) if code // len(groups.values) == label] for label in (0, 1)]
    for one in networks.tolist():
        said = answers.predicted[:, one]
        asked = said != NOT_ASKED
        rates = group_means(said[asked], predictions.patient[asked], predictions.group[asked], len(groups), counts)
        found.append(np.mean([equalised_odds(rates[:, None, own]) for own in declared], axis=0))
    return np.stack(found, axis=1) if found else np.zeros((len(counts), 0))
