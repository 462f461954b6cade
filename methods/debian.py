"""DebiAN: a discoverer splits the data so that the model treats the parts unequally, and the model learns to treat them alike.

The discoverer gives every example a probability d of belonging to part 1. With e the mean, over a class's examples, of
the model's probability of that class, weighted by d and by 1 - d, the discoverer maximises the difference |e_1 - e_0|
of each class (the violation of equal opportunity) while the parts stay equally large on average: it minimises
log(difference in its place) + ``balance`` log(1 + |mean d - 1/2|). The model minimises the cross-entropy with every
class's examples weighted by 1 + d where part 1 fares worse, and by 2 - d where part 0 does. Both learn in every step.

Source: Li, Hoogs and Xu, ECCV 2022 (arXiv 2207.10077), "Discover and mitigate unknown biases with debiasing alternate
    networks", section 3, equations 1 to 6.
Deviations: both networks take a step in every batch in place of every other one, each with the other held fixed; the
    discoverer begins with the model's weights but for its last layer.
Needs: labels only.
"""

import copy

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, View, parameter
from robustbench_spur.methods.erm import ERM


class DebiANHyperparameters(Hyperparameters):
    """Settings of DebiAN."""

    balance: float = parameter(1.0, "weight of the parts' balance", at_least=0, search=LogUniform(0.1, 10.0))


class DebiAN(ERM):
    """A model and a discoverer of its bias."""

    name = "debian"
    version = 1
    summary = "a discoverer splits the data where the model is unfair, and the model mends it"
    source = "Li, Hoogs and Xu 2022, Debiasing alternate networks, section 3"
    needs = ()
    Hyperparameters = DebiANHyperparameters

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The discoverer: one logit for each example."""
        discoverer = copy.deepcopy(model)
        discoverer.head = torch.nn.Linear(model.width, 1).to(next(model.parameters()).device)
        return {"discoverer": discoverer}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The discoverer's loss with the model held fixed, plus the model's with the parts held fixed."""
        logits = model(batch.images)
        part = self.beside["discoverer"](batch.images).sigmoid()[:, 0]
        right = logits.softmax(1).gather(1, batch.labels[:, None])[:, 0]
        gap = gaps(right.detach(), part, batch.labels, batch.view.classes)
        unequal = -torch.log(gap.abs().clamp(min=1e-6)).mean()
        unbalanced = torch.log1p((part.mean() - 0.5).abs())
        worse = gap.detach()[batch.labels] < 0
        weights = torch.where(worse, 1 + part.detach(), 2 - part.detach())
        losses = cross_entropy(logits, batch.labels, reduction="none")
        return (weights * losses).mean() + unequal + self.hyper.balance * unbalanced


def gaps(right: torch.Tensor, part: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """How much better part 1 of each class fares than part 0, shape (classes,); 0 for an absent class.

    Args:
        right: probability of each example's label, shape (b,).
        part: probability of part 1, shape (b,).
        labels: class codes, shape (b,).
        classes: number of classes.
    """
    member = torch.nn.functional.one_hot(labels, classes).to(right.dtype)
    means = [((w * right) @ member) / (w @ member).clamp(min=1e-6) for w in (part, 1 - part)]
    return means[0] - means[1]
