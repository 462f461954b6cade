"""Fishr: gradients of the last layer that vary alike in every environment, here the attribute's values.

Minimises the mean of the environments' cross-entropies plus ``strength`` times the mean over environments of the mean
squared distance between the variance of the examples' gradients in the environment and the mean of these variances. The
gradient of example i is (p_i - y_i) times its features, for the weights, and p_i - y_i for the biases. Variances are
exponential moving averages with factor ``memory``.

Source: Rame, Dancette and Cord, ICML 2022 (arXiv 2109.02934), "Fishr", equations 3 and 4, section 3.
Deviations: environments are the attribute's values, so that the attribute itself meets the penalty where it tells
    equally much at each of them; mean over the weights in place of the squared norm, so that the strength does not
    depend on the network's width.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: with one class at
    each value the gradients that are made to vary alike are those of the classes.
"""

import torch
from torch.nn.functional import one_hot

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Share, Uniform, View, parameter
from robustbench_spur.methods._environments import Penalised


class FishrHyperparameters(Hyperparameters):
    """Settings of Fishr."""

    strength: float = parameter(
        1000.0, "weight of the penalty after the warm-up", at_least=0, search=LogUniform(1e1, 1e4)
    )
    warmup_epochs: float = parameter(
        Share(0.25, "epochs"), "epochs in which the weight is 1 at most", at_least=0, search=Uniform(0.0, 6.0)
    )
    memory: float = parameter(0.95, "factor of the moving average", at_least=0, below=1, search=Uniform(0.9, 0.99))


class Fishr(Penalised):
    """ERM plus the differences of gradient variances between attribute values."""

    name = "fishr"
    version = 1
    summary = "matches the variances of the last layer's gradients at all attribute values"
    source = "Rame, Dancette and Cord 2022, Fishr, equations 3 and 4"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = FishrHyperparameters

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """Room for the averages of the variances, which nothing trains."""
        size = (len(train.universe.values), train.classes * (model.width + 1))
        self.state = {"variances": torch.zeros(size), "updates": torch.zeros(size[0])}
        return {}

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of the averaged variances from their mean, over the environments present."""
        residual = logits.softmax(1) - one_hot(batch.labels, logits.shape[1])
        gradients = torch.cat([(residual[:, :, None] * features[:, None]).flatten(1), residual], dim=1)
        member = one_hot(batch.attributes, len(batch.view.universe.values)).to(gradients.dtype)
        sizes = member.sum(0)
        there = sizes > 1
        means = member.T @ gradients / sizes.clamp(min=1)[:, None]
        spread = member.T @ (gradients - means[batch.attributes]) ** 2 / (sizes - 1).clamp(min=1)[:, None]
        averaged = self._averaged(spread, there)
        weight = there.to(spread.dtype)[:, None]
        centre = (averaged * weight).sum(0) / weight.sum().clamp(min=1)
        return (weight * (averaged - centre) ** 2).mean(1).sum() / weight.sum().clamp(min=1)

    def _averaged(self, spread: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Moving averages after this batch; the first one is the batch's own."""
        old, memory = self.state["variances"], self.hyper.memory
        first = (self.state["updates"] == 0)[:, None]
        new = torch.where(first, spread, memory * old + (1 - memory) * spread)
        new = torch.where(there[:, None], new, old).detach()
        self.state["variances"] = new
        self.state["updates"] = self.state["updates"] + there
        # the value is the average; the slope that of the batch's own variance, which does not shrink with the memory
        return new + spread - spread.detach()
