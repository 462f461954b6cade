"""XRM: two networks that each learn one half of the training set and talk each other out of the labels of the hard examples.

1. Every example is assigned to one of two networks, at random. Each learns, by class-balanced cross-entropy, its own
   half with labels that change: after a step, an example's label becomes what the other network predicts, with
   probability (p - 1/K) K / (K - 1), p being that network's confidence and K the number of classes. So both come to
   rely on what is easy.
2. The second environment holds the examples whose original label at least one of the two networks gets wrong in the
   end.
3. A new model is trained by GroupDRO on the groups (class, environment).

Source: Pezeshki, Bouchacourt, Ibrahim, Ballas, Vincent and Lopez-Paz, ICML 2024 (arXiv 2309.16748), "Discovering
    environments with XRM": cross-risk minimisation and the cross-mistake formula.
Deviations: the networks begin with the same weights but for the last layer; the settings of the twins are the board's,
    where the paper takes those with the most flipped labels out of many; labels are flipped by the predictions that a
    step began with; what counts as a network's prediction of an example is the last one in training.
Needs: labels only.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Sampling,
    Share,
    Stage,
    Task,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, class_parts


class XRMHyperparameters(Hyperparameters):
    """Settings of XRM."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    twin_epochs: int = parameter(Share(0.5, "epochs"), "epochs of the twins", at_least=1, search=Uniform(2, 12))


class XRM(InferredGroupDRO):
    """GroupDRO on environments that twin networks disagree about."""

    name = "xrm"
    version = 1
    summary = "finds environments by twins that relabel each other's hard examples, then GroupDRO"
    source = "Pezeshki et al. 2024, Discovering environments with XRM"
    needs = ()
    Hyperparameters = XRMHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train the twins; infer environments; train by GroupDRO."""
        twins = task.train(self, phase="twins", epochs=self.hyper.twin_epochs)
        return task.train(self, given=task.compute(self.environments, twins, on="train"))

    def environments(self, train: View, state: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, environment), shape (n,)."""
        groups, notes = class_parts(train.labels, state["wrong"].any(axis=1).astype(np.int64))
        return {"groups": groups}, {**notes, "flipped_share": float((state["labels"] != train.labels).mean())}

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The second twin."""
        if self.phase != "twins":
            return {}
        twin = copy.deepcopy(model)
        twin.head = torch.nn.Linear(model.width, train.classes).to(next(model.parameters()).device)
        return {"twin": twin}

    def start(self, train: View) -> None:
        """Who learns what, the labels as they are, and nobody wrong; for the second training, GroupDRO's weights."""
        if self.phase != "twins":
            super().start(train)
            return
        first = train.generator().random(len(train)) < 0.5
        self.state = {
            "first": torch.from_numpy(first),
            "labels": torch.from_numpy(train.labels.copy()),
            "wrong": torch.zeros(len(train), 2, dtype=torch.bool),
        }

    def sampling(self, train: View) -> Sampling | None:
        """The twins see all examples; GroupDRO every group equally often."""
        return None if self.phase == "twins" else super().sampling(train)

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The twins' losses on their own halves, or GroupDRO's."""
        if self.phase != "twins":
            return super().loss(model, batch)
        logits = torch.stack([model(batch.images), self.beside["twin"](batch.images)], dim=1)
        first, labels = self.state["first"][batch.rows], self.state["labels"][batch.rows]
        whole = balanced(logits[:, 0], labels, first) + balanced(logits[:, 1], labels, ~first)
        with torch.no_grad():
            self._judge(batch, logits, first, labels)
        return whole

    def _judge(self, batch: Batch, logits: torch.Tensor, first: torch.Tensor, labels: torch.Tensor) -> None:
        """Note who is wrong, and flip labels towards the held-out twin."""
        wrong = logits.argmax(2) != batch.labels[:, None]
        self.state["wrong"] = self.state["wrong"].index_put((batch.rows,), wrong)
        other = torch.where(first[:, None], logits[:, 1], logits[:, 0]).softmax(1)
        sure, predicted = other.max(1)
        flip = torch.rand_like(sure) < flip_probability(sure, other.shape[1])
        self.state["labels"] = self.state["labels"].index_put((batch.rows,), torch.where(flip, predicted, labels))


def flip_probability(confidence: torch.Tensor, classes: int) -> torch.Tensor:
    """(p - 1/K) K / (K - 1): 0 for a guess, 1 for certainty."""
    return (confidence - 1 / classes) * classes / (classes - 1)


def balanced(logits: torch.Tensor, labels: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Mean over the classes among one's own examples of their mean cross-entropy; 0 without any."""
    losses = cross_entropy(logits, labels, reduction="none")
    member = one_hot(labels, logits.shape[1]).to(losses.dtype) * own[:, None]
    sizes = member.sum(0)
    return ((losses @ member) / sizes.clamp(min=1)).sum() / (sizes > 0).sum().clamp(min=1)
