"""GroupDRO minimises the loss of the worst group in place of the mean, by weights on the groups that grow with their loss.

Each step, for every group g present in the batch, the weight is multiplied, q_g <- q_g exp(eta (l_g + C / sqrt(n_g))),
where l_g is the group's mean loss in the batch, n_g its number of training examples, eta is ``eta`` and C is
``adjustment``; then q is normalised and sum_g q_g (l_g + C / sqrt(n_g)) over the groups present is minimised. Groups are drawn
equally often, as in the original.

Source: Sagawa, Koh, Hashimoto and Liang, ICLR 2020, "Distributionally robust neural networks", algorithm 1; section 3.3 (C).
Deviations: a group absent from a batch keeps its weight before the normalisation also when C > 0 (the released code still
    multiplies it by exp(eta C / sqrt(n_g))); weights start at 1/m over the m groups that have training examples (in
    the released code over all declared ones); weight decay is the board's, not the 0.1 to 1.0 of the paper.
Needs: group labels of the training set, in the loss and in the sampling; examples in every group that the split's design has
    in training.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Choice, Classifier, Hyperparameters, LogUniform, Method, Sampling, View, parameter


class GroupDROHyperparameters(Hyperparameters):
    """Settings of GroupDRO; defaults are the paper's."""

    eta: float = parameter(0.01, "step size of the group weights", above=0, search=LogUniform(1e-3, 1e-1))
    adjustment: float = parameter(
        0.0,
        "C of the generalisation adjustment C / sqrt(n_g)",
        at_least=0,
        search=Choice((0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),
    )


class GroupDRO(Method):
    """Exponentiated-gradient weights over the groups' losses."""

    name = "groupdro"
    version = 1
    summary = "minimises the worst group's loss by weights on the groups"
    source = "Sagawa et al. 2020, Distributionally robust neural networks, algorithm 1"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = GroupDROHyperparameters

    def start(self, train: View) -> None:
        """Equal weights of the groups that have examples, none of the others, and the adjustment of every group."""
        counts = torch.from_numpy(train.group_counts).float()
        there = counts > 0
        self.state["weights"] = torch.where(there, 1 / int(there.sum()), 0.0)
        # a group without examples never occurs in a batch: its adjustment is never used
        self.state["adjustments"] = self.hyper.adjustment / counts.clamp(min=1).sqrt()

    def sampling(self, train: View) -> Sampling:
        """Every group equally often."""
        return Sampling.balanced(train.groups)

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The weighted sum of the groups' mean losses, after the step on the weights."""
        losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
        weights = self.state["weights"]
        member = torch.nn.functional.one_hot(batch.groups, len(weights)).to(losses.dtype)
        sizes = member.sum(dim=0)
        present = sizes > 0
        adjusted = (losses @ member) / sizes.clamp(min=1) + torch.where(present, self.state["adjustments"], 0)
        grown = weights * torch.exp(self.hyper.eta * adjusted.detach())
        self.state["weights"] = grown / grown.sum()
        return self.state["weights"] @ adjusted
