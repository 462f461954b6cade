"""DebiAN: a discoverer splits every class into two parts that the model treats unequally, and the model mends that.

The discoverer gives every example a probability d of part 1. For the examples of a class in the batch, e_1 and e_0 are
the means of the model's probability of that class, weighted by d and by 1 - d.

1. The discoverer minimises, on average over the classes present, -log |e_1 - e_0|, so that the model violates equal opportunity
   between the parts, plus ``balance`` times -log(1 - |2 m - 1|), m being the mean of d, so that no part takes all.
2. The model minimises the mean cross-entropy, each example weighted by 1 plus its probability of the part that fares worse.

Source: Li, Hoogs and Xu, ECCV 2022 (arXiv 2207.10077), "Discover and mitigate unknown biases with debiasing alternate
    networks", section 3 (the losses), and the authors' released code (one output of the discoverer for each class).
Deviations: in every step both networks learn from the same batch, each with the other held fixed, where the original takes
    two batches one after the other; the one held fixed is in training mode; the discoverer begins with the model's weights
    but for the last layer.
Needs: labels only.
"""

import copy

import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, View, parameter
from robustbench_spur.methods.erm import ERM

TINY = 1e-6
"""Added in logarithms and denominators."""


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
        """The discoverer: one logit of part 1 for each class."""
        discoverer = copy.deepcopy(model)
        discoverer.head = torch.nn.Linear(model.width, train.classes).to(next(model.parameters()).device)
        return {"discoverer": discoverer}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The model's loss with the parts held fixed, plus the discoverer's with the model held fixed."""
        logits, own = model(batch.images), batch.labels[:, None]
        part = self.beside["discoverer"](batch.images).gather(1, own)[:, 0].sigmoid()
        right = logits.detach().softmax(1).gather(1, own)[:, 0]
        losses = cross_entropy(logits, batch.labels, reduction="none")
        member = one_hot(batch.labels, batch.view.classes).to(losses.dtype)
        gap = gaps(right, part, member)
        weights = torch.where(gap.detach()[batch.labels] > 0, 2 - part.detach(), 1 + part.detach())
        return (weights * losses).mean() + discovery(gap, part, member, self.hyper.balance)


def gaps(right: torch.Tensor, part: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """e_1 - e_0: how much better part 1 of each class fares than part 0, shape (classes,); 0 for an absent class.

    Args:
        right: probability of each example's label, shape (b,).
        part: probability of part 1, shape (b,).
        member: 1 where an example has a class, else 0, shape (b, classes).
    """
    means = [((w * right) @ member) / (w @ member + TINY) for w in (part, 1 - part)]
    return means[0] - means[1]


def discovery(gap: torch.Tensor, part: torch.Tensor, member: torch.Tensor, balance: float) -> torch.Tensor:
    """The discoverer's loss, a scalar, from :func:`gaps` and what they are of."""
    sizes = member.sum(dim=0)
    unequal = -torch.log(TINY + gap.abs())
    share = (part @ member) / sizes.clamp(min=1)
    unbalanced = -torch.log(TINY + 1 - (2 * share - 1).abs())
    there = (sizes > 0).to(part.dtype)
    return ((unequal + balance * unbalanced) @ there) / there.sum()
