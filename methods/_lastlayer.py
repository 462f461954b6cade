"""Fitting a last layer again on features that are there: what the last-layer methods share. All on the CPU in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from robustbench_spur import View

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From the examples' losses, shape (n,), and their positions, shape (n,), to one number."""


class Scale:
    """Standardisation of features, and the way back for a layer that was fitted behind it.

    Args:
        features: shape (n, width).
    """

    def __init__(self, features: NDArray[Any]) -> None:
        raw = features.astype(np.float64)
        self.mean, self.scale = raw.mean(axis=0), raw.std(axis=0)
        self.scale[self.scale == 0] = 1.0

    def to(self, features: NDArray[Any]) -> Floats:
        """Standardised features."""
        return np.asarray((features - self.mean) / self.scale, np.float64)

    def into(self, head: Arrays) -> Arrays:
        """The layer on standardised features that does what ``head`` does on the features as they are."""
        weight = head["weight"].astype(np.float64)
        return {"weight": weight * self.scale, "bias": head["bias"] + weight @ self.mean}

    def back(self, head: Arrays) -> Arrays:
        """The layer on the features as they are that does what ``head`` does on standardised ones."""
        weight = head["weight"] / self.scale
        return {"weight": weight, "bias": head["bias"] - weight @ self.mean}


def zeros(classes: int, width: int) -> Arrays:
    """A layer to begin with that knows nothing."""
    return {"weight": np.zeros((classes, width)), "bias": np.zeros(classes)}


def descend(
    features: Floats,
    labels: Ints,
    start: Arrays,
    *,
    steps: int,
    rate: float,
    loss: Loss | None = None,
    order: Ints | None = None,
    anchor: float = 0.0,
) -> Arrays:
    """Fit a linear layer by Adam.

    Args:
        features: shape (n, width).
        labels: class codes, shape (n,).
        start: layer to begin with.
        steps: number of steps.
        rate: step size.
        loss: of the examples' cross-entropies; their mean unless given.
        order: the rows of each step, shape (steps, batch); all rows in every step unless given.
        anchor: weight of the squared distance of the weights from ``start``.
    """
    x, y = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(labels)
    first = [torch.from_numpy(np.array(start[name], np.float64)) for name in ("weight", "bias")]
    weight, bias = (value.clone().requires_grad_(True) for value in first)
    optimizer = torch.optim.Adam([weight, bias], rate)
    every = torch.arange(len(y))
    for step in range(steps):
        rows = every if order is None else torch.from_numpy(order[step])
        losses = cross_entropy(x[rows] @ weight.T + bias, y[rows], reduction="none")
        whole = losses.mean() if loss is None else loss(losses, rows)
        whole = whole + anchor * (weight - first[0]).square().sum()
        optimizer.zero_grad()
        torch.autograd.backward(whole)
        optimizer.step()
    return {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}


def scores(features: NDArray[Any], head: Arrays) -> Floats:
    """Logits, shape (n, classes)."""
    return np.asarray(features @ head["weight"].T + head["bias"], np.float64)


def batches(size: int, steps: int, batch: int, rng: np.random.Generator, share: Floats | None = None) -> Ints:
    """Rows of each step, shape (steps, batch): passes in random order, or draws in proportion to ``share``."""
    if share is not None:
        return rng.choice(size, (steps, batch), p=share / share.sum())
    passes = [rng.permutation(size) for _ in range(-(-steps * batch // size))]
    return np.concatenate(passes)[: steps * batch].reshape(steps, batch)


def held_out(view: View, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """About a share of the rows, whole patients, at least one and not all of them, shape (n,)."""
    patients = rng.permutation(np.unique(view.clusters))
    count = min(max(1, round(share * len(patients))), max(1, len(patients) - 1))
    return np.isin(view.clusters, patients[:count])
