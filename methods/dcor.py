"""dCor: one half of the features for the class, the other for the attribute, and no statistical dependence between them.

The features are split, z = (z1, z2). The last layer reads z1 only; a second layer predicts the attribute from z2.
Minimises the mean of both cross-entropies plus lambda_p dCor(z1, z2), the distance correlation within the batch, with
lambda_p = ``strength`` (2 / (1 + exp(-``steepness`` p)) - 1), p being the share of the ramp that is done. With
``rebalance`` all groups are drawn equally often.

Source: Szekely, Rizzo and Bakirov 2007, "Measuring and testing dependence by correlation of distances", definition 2.8;
    the split with a distance correlation and rebalancing: the benchmark of medical shortcut mitigation of the Berens
    group, 2026.
Deviations: the halves are those of the backbone's own features, as wide as these are, in place of two dimensions each.
Needs: group labels of the training set, in the loss and in the sampling; examples in every group: where label and
    attribute are tied, both halves are asked for the same.
"""

import math

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Sampling,
    Share,
    SpurbenchError,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods.erm import ERM


class DCorHyperparameters(Hyperparameters):
    """Settings of the split."""

    strength: float = parameter(
        0.5, "largest weight of the distance correlation", at_least=0, search=LogUniform(5e-2, 5.0)
    )
    steepness: float = parameter(3.0, "of the weight's growth", above=0, search=Uniform(1.0, 6.0))
    ramp_epochs: float = parameter(Share(1.0, "epochs"), "epochs in which the weight grows", above=0)
    rebalance: bool = parameter(True, "whether all groups are drawn equally often")


class DCor(ERM):
    """Features in two halves that are independent of each other."""

    name = "dcor"
    version = 1
    summary = "splits the features into halves for class and attribute that do not depend on each other"
    source = "Szekely, Rizzo and Bakirov 2007, Measuring and testing dependence by correlation of distances"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = DCorHyperparameters

    def sampling(self, train: View) -> Sampling | None:
        """Every group equally often, or as they are."""
        return Sampling.balanced(train.groups) if self.hyper.rebalance else None

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The attribute's layer. The class's begins with zeros for the second half, which gets no gradient and no decay."""
        half = model.width // 2
        with torch.no_grad():
            class_layer(model).weight[:, half:] = 0
        return {"attribute": torch.nn.Linear(model.width - half, len(train.universe.values))}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Both cross-entropies and the distance correlation."""
        features = model.features(batch.images)
        half = features.shape[1] // 2
        first, second = features[:, :half], features[:, half:]
        layer = class_layer(model)
        logits = first @ layer.weight[:, :half].T + layer.bias
        both = cross_entropy(logits, batch.labels) + cross_entropy(self.beside["attribute"](second), batch.attributes)
        done = min(1.0, batch.epoch / self.hyper.ramp_epochs)
        weight = self.hyper.strength * (2 / (1 + math.exp(-self.hyper.steepness * done)) - 1)
        return both / 2 + weight * distance_correlation(first, second)


def class_layer(model: Classifier) -> torch.nn.Linear:
    """The last layer, which is linear while training."""
    layer = model.head
    if not isinstance(layer, torch.nn.Linear):
        raise SpurbenchError(f"Expected a linear last layer, found {type(layer).__name__}.")
    return layer


def distance_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Sample distance correlation of two sets of vectors, in [0, 1]; 0 where one of them does not vary.

    Args:
        first: shape (n, p).
        second: shape (n, q).
    """
    one, other = _centred(first), _centred(second)
    covariance, variances = (one * other).mean(), (one**2).mean() * (other**2).mean()
    # the slopes of the roots are infinite at zero
    square = covariance.clamp(min=1e-12) / variances.clamp(min=1e-20).sqrt()
    return torch.where(variances > 1e-20, square.sqrt(), torch.zeros_like(square))


def _centred(points: torch.Tensor) -> torch.Tensor:
    """Distances between all pairs, less the means of rows and columns."""
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    distances = squares.clamp(min=1e-12).sqrt()
    return distances - distances.mean(0, keepdim=True) - distances.mean(1, keepdim=True) + distances.mean()
