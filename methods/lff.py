"""LfF: a biased network that trusts what is easy, and a second one that learns from what the first finds hard.

Both are trained together. The biased one, here the network beside the model, minimises the generalised cross-entropy (1
- p^q) / q, which weighs an example's gradient by p^q, p being the probability of its label. The model minimises the
cross-entropy with the weights W_i = l_b / (l_b + l_d), where l_b and l_d are moving averages of the example's
cross-entropy under the biased network and under the model, each divided by its largest value within the example's
class.

Source: Nam, Cha, Ahn, Lee and Shin, NeurIPS 2020 (arXiv 2007.02561), "Learning from failure", equations 2 and 3,
    algorithm 1.
Deviations: the networks begin with the same weights but for the last layer.
Needs: labels only.
"""

import copy

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, Uniform, View, parameter
from robustbench_spur.methods.erm import ERM


class LfFHyperparameters(Hyperparameters):
    """Settings of LfF."""

    q: float = parameter(0.7, "of the generalised cross-entropy", above=0, at_most=1, search=Uniform(0.05, 0.95))
    memory: float = parameter(
        0.7, "factor of the moving averages of losses", at_least=0, below=1, search=Uniform(0.0, 0.9)
    )


class LfF(ERM):
    """Weights from the failures of a biased network."""

    name = "lff"
    version = 1
    summary = "weighs examples by how hard a biased network finds them"
    source = "Nam et al. 2020, Learning from failure, algorithm 1"
    needs = ()
    Hyperparameters = LfFHyperparameters

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The biased network."""
        biased = copy.deepcopy(model)
        biased.head = torch.nn.Linear(model.width, train.classes).to(next(model.parameters()).device)
        return {"biased": biased}

    def start(self, train: View) -> None:
        """No losses yet: -1 where an example was never seen."""
        self.state = {"losses": torch.full((len(train), 2), -1.0), "labels": torch.from_numpy(train.labels.copy())}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The biased network's generalised cross-entropy plus the model's weighted one."""
        biased, own = self.beside["biased"](batch.images), model(batch.images)
        losses = torch.stack([cross_entropy(x, batch.labels, reduction="none") for x in (biased, own)], dim=1)
        weights = self._weights(losses.detach(), batch)
        return generalised(losses[:, 0], self.hyper.q).mean() + (weights * losses[:, 1]).mean()

    def _weights(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Relative difficulty of each example, shape (b,), after its averages took the losses in."""
        old, memory = self.state["losses"][batch.rows], self.hyper.memory
        averages = torch.where(old < 0, losses, memory * old + (1 - memory) * losses)
        everyone = self.state["losses"].index_put((batch.rows,), averages)
        self.state["losses"] = everyone
        same = self.state["labels"][None] == torch.arange(batch.view.classes, device=losses.device)[:, None]
        largest = torch.where(same[:, :, None], everyone[None], 0.0).amax(1)
        scaled = averages / largest[batch.labels].clamp(min=1e-8)
        return scaled[:, 0] / scaled.sum(1).clamp(min=1e-8)


def generalised(losses: torch.Tensor, q: float) -> torch.Tensor:
    """(1 - p^q) / q for the cross-entropies -log p, shape (b,); Zhang and Sabuncu, NeurIPS 2018, equation 6."""
    return -torch.expm1(-q * losses) / q
