"""A linear layer fitted by Adam in plain numpy, from the equations of Kingma and Ba: what fits of last layers are held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]


class Adam:
    """Steps of Adam on some arrays, with the defaults of its paper; ``decay`` as in AdamW."""

    def __init__(self, rate: float, decay: float = 0.0) -> None:
        self.rate, self.decay, self.step = rate, decay, 0
        self.first: list[Any] = []
        self.second: list[Any] = []

    def __call__(self, values: list[Any], slopes: list[Any]) -> list[Any]:
        """The arrays after one step."""
        self.first = self.first or [0 * slope for slope in slopes]
        self.second = self.second or [0 * slope for slope in slopes]
        self.step += 1
        self.first = [0.9 * m + 0.1 * g for m, g in zip(self.first, slopes, strict=True)]
        self.second = [0.999 * v + 0.001 * g * g for v, g in zip(self.second, slopes, strict=True)]
        moves = [
            m / (1 - 0.9**self.step) / (np.sqrt(v / (1 - 0.999**self.step)) + 1e-8)
            for m, v in zip(self.first, self.second, strict=True)
        ]
        shrink = 1 - self.rate * self.decay
        return [value * shrink - self.rate * move for value, move in zip(values, moves, strict=True)]


def losses_of(features: Floats, labels: Any, weight: Floats, bias: Floats) -> Floats:
    """Cross-entropy of each row."""
    logs = log_softmax(features @ weight.T + bias, axis=1)
    return np.asarray(-logs[np.arange(len(labels)), labels])


def fitted(
    features: Floats,
    labels: Any,
    weight: Floats,
    bias: Floats,
    *,
    rate: float,
    weights: list[Floats] | Callable[[Floats], Floats],
    anchor: float = 0.0,
    steps: int = 0,
) -> tuple[Floats, Floats]:
    """Minimise the weighted sum of cross-entropies plus ``anchor`` times the squared distance of the weights from the start.

    Args:
        weights: of the rows in every step, or what gives them from the rows' losses, for so many ``steps``.
    """
    adam, start = Adam(rate), weight
    one = np.eye(len(weight))[labels]
    for step in range(steps or len(weights)):  # type: ignore[arg-type]
        share = weights(losses_of(features, labels, weight, bias)) if callable(weights) else weights[step]
        error = share[:, None] * (softmax(features @ weight.T + bias, axis=1) - one)
        slopes = [error.T @ features + 2 * anchor * (weight - start), error.sum(axis=0)]
        weight, bias = adam([weight, bias], slopes)
    return weight, bias
