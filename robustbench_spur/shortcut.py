"""Small networks that encode an attribute more or less, trained side by side on features, and how unfair each of them is.

A network has a trunk from features x to a code z, a linear head from z to the label, and a branch from z to the attribute with
a hidden layer of its own. Between z and the branch the gradient is multiplied by s: a positive s makes the trunk encode the
attribute more, a negative one less, and at s = 0 the branch counts for nothing.

    loss = CE(label) + w CE(attribute),  w = 0 where s = 0

The code is narrow: in a wide one a linear probe reads the attribute from directions that no head looks at, whatever s. The
branch takes longer steps than the rest, so that a trunk which hides the attribute hides it from a branch that keeps up.

All networks of a grid take their steps together, as one stack of matrices: they share nothing but the batches of their seed.

Source: A. Brown et al., Detecting shortcut learning for fair medical AI using shortcut testing, Nature Communications 14, 2023.
Deviations: the networks start from frozen features; every pair of class and attribute value weighs the same in CE(attribute),
since where the attribute goes with the label in training, the branch would otherwise ask for the label; the longer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.probing import Codes, Floats, pair_weights
from robustbench_spur.types import SpurbenchError


@dataclass(frozen=True)
class Recipe:
    """How the networks are trained.

    Args:
        hidden: width of the trunk's hidden layer, and of the branch's.
        width: of the code z.
        steps: of Adam.
        batch: examples per step.
        rate: step size.
        branch: step size of the branch, in units of ``rate``.
        weight: w.
        seeds: networks of each gradient scaling; the first has seed 0.
    """

    hidden: int = 32
    width: int = 2
    steps: int = 600
    batch: int = 256
    rate: float = 1e-3
    branch: float = 5.0
    weight: float = 0.75
    seeds: int = 5


@dataclass(frozen=True)
class Grid:
    """Trained networks, seed by seed and scaling by scaling, and one per seed that was trained for the attribute alone.

    Args:
        scalings: s of each network, shape (networks,); NaN where it was trained for the attribute alone.
        seeds: of each, shape (networks,).
        weights: torch tensors by name, each with the networks along the first axis.
    """

    scalings: Floats
    seeds: Codes
    weights: dict[str, Any]

    def codes(self, points: Floats) -> NDArray[np.float32]:
        """The code z of every network, shape (networks, n, width)."""
        import torch

        with torch.no_grad():
            inputs = torch.from_numpy(points.astype(np.float32))
            code: NDArray[np.float32] = trunk(self.weights, inputs[None]).numpy()
        return code

    def margins(self, codes: NDArray[np.float32]) -> Floats:
        """Logit of class 1 less that of class 0 of every network, shape (networks, n), from their codes."""
        import torch

        with torch.no_grad():
            logits = layer(self.weights, "label", torch.from_numpy(codes)).double().numpy()
        return np.asarray(logits[..., 1] - logits[..., 0])


def layer(weights: dict[str, Any], name: str, inputs: Any) -> Any:
    """A linear layer of every network, shape (networks, b, in) to (networks, b, out)."""
    return inputs @ weights[f"{name}.weight"] + weights[f"{name}.bias"][:, None]


def trunk(weights: dict[str, Any], inputs: Any) -> Any:
    """Features to codes, shape (batches, b, in) to (networks, b, width): each batch goes to as many networks, in their order.

    The networks that share a batch are one wide matrix.
    """
    weight, (batches, size, _) = weights["trunk.weight"], inputs.shape
    networks, features, hidden = weight.shape
    wide = weight.view(batches, -1, features, hidden).transpose(1, 2).reshape(batches, features, -1)
    found = (inputs @ wide).view(batches, size, -1, hidden).transpose(1, 2).reshape(networks, size, hidden)
    return layer(weights, "code", (found + weights["trunk.bias"][:, None]).relu())


def scale_gradient(values: Any, factor: Any) -> Any:
    """``values``, through which a gradient passes multiplied by ``factor``.

    >>> import torch
    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> y = scale_gradient(x, torch.tensor([-3.0]))
    >>> y.sum().backward()
    >>> y.item(), x.grad.item()
    (2.0, -3.0)
    """
    scaled = values * factor
    return scaled + (values - scaled).detach()


def initial(recipe: Recipe, features: int, values: int, per_seed: int) -> dict[str, Any]:
    """Weights before the first step: those of a seed are the same in each of its networks."""
    import torch

    shapes = {
        "trunk": (features, recipe.hidden),
        "code": (recipe.hidden, recipe.width),
        "label": (recipe.width, 2),
        "branch": (recipe.width, recipe.hidden),
        "attribute": (recipe.hidden, values),
    }
    drawn: dict[str, list[NDArray[np.float32]]] = {name: [] for name in shapes}
    for seed in range(recipe.seeds):
        rng = np.random.default_rng([seed, 0])
        for name, (wide, out) in shapes.items():
            drawn[name].append(rng.normal(0, np.sqrt(2 / wide), (wide, out)).astype(np.float32))
    weights = {}
    for name, each in drawn.items():
        weight = torch.from_numpy(np.repeat(np.stack(each), per_seed, axis=0))
        weights[f"{name}.weight"] = weight.requires_grad_(True)
        weights[f"{name}.bias"] = torch.zeros(weight.shape[0], weight.shape[2], requires_grad=True)
    return weights


def train_grid(
    points: Floats,
    labels: Codes,
    attributes: Codes,
    scalings: Sequence[float],
    recipe: Recipe,
    progress: Callable[[int, int], None],
) -> Grid:
    """Train a network for every seed and gradient scaling, and one per seed for the attribute alone.

    Args:
        points: standardised features of the training set, shape (n, features).
        labels: 0 or 1, shape (n,).
        attributes: value codes from 0, shape (n,).
        scalings: values of s.
        recipe: how.
        progress: called with (steps done, all steps).

    Returns:
        Networks in the order of seeds, and within a seed of the scalings, that for the attribute alone last. The same whatever
        device the model has: they are trained on the CPU, from numbers that the seeds alone determine.
    """
    import torch
    from torch.nn.functional import cross_entropy

    per_seed, values = len(scalings) + 1, int(attributes.max()) + 1
    alone = np.tile(np.arange(per_seed) == len(scalings), recipe.seeds)
    factor = np.tile([*scalings, 1.0], recipe.seeds)
    weights = initial(recipe, points.shape[1], values, per_seed)
    rate = {True: recipe.rate * recipe.branch, False: recipe.rate}
    of_branch = {name: name.split(".")[0] in ("branch", "attribute") for name in weights}
    optimizer = torch.optim.Adam([{"params": [weights[name]], "lr": rate[of_branch[name]]} for name in weights])
    passed, of_label = (torch.from_numpy(column.astype(np.float32)) for column in (factor, ~alone))
    of_attribute = torch.from_numpy(np.where(alone, 1.0, recipe.weight * (factor != 0)).astype(np.float32))
    batches = [np.random.default_rng([seed, 1]) for seed in range(recipe.seeds)]
    columns = [torch.from_numpy(c) for c in (points.astype(np.float32), labels, attributes)]
    pair = torch.from_numpy(pair_weights(attributes, labels).astype(np.float32))
    for step in range(recipe.steps):
        drawn = torch.from_numpy(np.stack([rng.integers(0, len(points), recipe.batch) for rng in batches]))
        code = trunk(weights, columns[0][drawn])
        rows = drawn.repeat_interleave(per_seed, dim=0)
        label, attribute = (column[rows] for column in columns[1:])
        main = cross_entropy(layer(weights, "label", code).transpose(1, 2), label, reduction="none").mean(dim=1)
        hidden = layer(weights, "branch", scale_gradient(code, passed[:, None, None])).relu()
        beside = cross_entropy(layer(weights, "attribute", hidden).transpose(1, 2), attribute, reduction="none")
        loss = of_label * main + of_attribute * (pair[rows] * beside).mean(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, recipe.steps)
    seeds = np.repeat(np.arange(recipe.seeds), per_seed)
    done = {name: weight.detach() for name, weight in weights.items()}
    return Grid(np.where(alone, np.nan, factor), seeds, done)


def best_threshold(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The score from which on an example counts as positive such that F1 is largest; the highest of equals.

    Args:
        scores: shape (n,).
        positive: shape (n,), at least one.

    Raises:
        SpurbenchError: no positive example.

    >>> best_threshold(np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True]))
    0.4
    """
    if not positive.any():
        raise SpurbenchError("Expected a positive example to choose a threshold by, found none. Give another set.")
    order = np.argsort(-scores, kind="stable")
    found, taken = np.cumsum(positive[order]), np.arange(1, len(scores) + 1)
    ends = np.append(scores[order][1:] < scores[order][:-1], True)
    f1 = np.where(ends, 2 * found / (taken + positive.sum()), -1)
    return float(scores[order][f1.argmax()])


def equalised_odds(rates: Floats) -> Floats:
    """Half the range over attribute values of the false positive rate, plus half that of the true positive rate.

    Args:
        rates: share predicted as positive by class and value, shape (..., classes, values); NaN makes the result NaN.

    >>> equalised_odds(np.array([[0.1, 0.3], [0.9, 0.5]])).round(6).item()
    0.3
    """
    return np.asarray((rates.max(axis=-1) - rates.min(axis=-1)).mean(axis=-1))


def spearman(*, encoding: Floats, unfairness: Floats) -> tuple[Floats, Floats]:
    """Rank correlation over networks, and its two-sided p value for independent networks.

    Args:
        encoding: of each network, shape (resamples, networks).
        unfairness: of the same networks in the same order, of that shape.

    Returns:
        rho and p, each of shape (resamples,); NaN where a number is missing or either is constant.

    Raises:
        SpurbenchError: the two are not of one shape.

    >>> rho, p = spearman(encoding=np.array([[1.0, 2.0, 3.0, 4.0]]), unfairness=np.array([[1.0, 3.0, 2.0, 4.0]]))
    >>> rho.round(3).tolist(), p.round(3).tolist()
    ([0.8], [0.2])
    """
    from scipy.special import stdtr
    from scipy.stats import rankdata

    if encoding.shape != unfairness.shape or encoding.ndim != 2:
        raise SpurbenchError(
            f"Expected both numbers of the same networks, found shapes {encoding.shape} and {unfairness.shape}."
        )
    rho, p = np.full(len(encoding), np.nan), np.full(len(encoding), np.nan)
    count = encoding.shape[1]
    known = np.isfinite(encoding).all(axis=1) & np.isfinite(unfairness).all(axis=1)
    if count < 3 or not known.any():
        return rho, p
    first, second = (rankdata(values[known], axis=1) - (count + 1) / 2 for values in (encoding, unfairness))
    spread = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    shared = np.divide((first * second).sum(axis=1), spread, out=np.full(len(first), np.nan), where=spread > 0)
    shared = np.clip(shared, -1, 1)
    with np.errstate(divide="ignore"):
        t = np.abs(shared) * np.sqrt((count - 2) / ((1 - shared) * (1 + shared)))
    rho[known], p[known] = shared, 2 * stdtr(count - 2, -t)
    return rho, p
