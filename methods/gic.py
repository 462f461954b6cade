"""GIC: find the attribute as what tells the class here and tells it otherwise there, then GroupDRO.

A classifier s of ERM's features is sought that maximises the mutual information I(y; s) on the training set plus
``gamma`` times the divergence sum_s P(s) KL(P(y | s) on the training set || P(y | s) on a comparison set), whose groups
are mixed otherwise. Both are worked out from the classifier's probabilities. A new model is trained by GroupDRO on the
groups (class, s).

Source: Han and Zou, ICML 2024 (arXiv 2404.13815), "Improving group robustness on spurious correlation requires preciser
    group inference": its correlation term and its spurious term.
Deviations: the comparison set is ``adapt``, whose labels are used and whose attributes are not; s has as many values as
    there are classes; information is worked out by plug-in, where the paper minimises a cross-entropy for it.
Needs: images and labels of the ``adapt`` partition, labels of the training set. No attribute is read, but the
    comparison set must mix the groups otherwise than the training set does, and ``validation`` mixes them alike.
"""

from typing import Any, ClassVar

import torch

from robustbench_spur import Hyperparameters, LogUniform, Stage, Task, View, parameter
from robustbench_spur.methods._inferred import Arrays, InferredGroupDRO, class_parts
from robustbench_spur.methods._lastlayer import Scale
from robustbench_spur.methods.erm import ERM


class GICHyperparameters(Hyperparameters):
    """Settings of GIC."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    gamma: float = parameter(10.0, "weight of the divergence", at_least=0, search=LogUniform(0.1, 100.0))
    steps: int = parameter(300, "steps of the search", at_least=1)
    rate: float = parameter(0.01, "step size of Adam, on standardised features", above=0, search=LogUniform(1e-3, 1e-1))


class GIC(InferredGroupDRO):
    """GroupDRO on groups inferred by comparison."""

    name = "gic"
    version = 1
    summary = "finds the attribute by comparison with an unbiased set, then GroupDRO"
    source = "Han and Zou 2024, Preciser group inference, correlation and spurious term"
    needs = ("adapt",)
    presets: ClassVar = {"quick": {"steps": 60}}
    Hyperparameters = GICHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; infer groups; train by GroupDRO."""
        model = task.train(ERM())
        other = task.compute(self.with_labels, task.outputs(model, "adapt", features=True), on="adapt")
        groups = task.compute(
            self.infer, task.outputs(model, "train", features=True), other, task.head(model), on="train"
        )
        return task.train(self, given=groups)

    def with_labels(self, adapt: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The comparison set's features beside its labels."""
        return {"features": outputs["features"], "labels": adapt.labels}, {}

    def infer(self, train: View, outputs: Arrays, other: Arrays, head: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, s), shape (n,)."""
        scale = Scale(outputs["features"])
        here, there = (torch.from_numpy(scale.to(x["features"])) for x in (outputs, other))
        y, y_there = torch.from_numpy(train.labels), torch.from_numpy(other["labels"])
        # from the classifier that has taken the shortcut
        first = scale.into(head)
        weight, bias = (torch.from_numpy(first[name]).double().requires_grad_(True) for name in ("weight", "bias"))
        optimizer = torch.optim.Adam([weight, bias], self.hyper.rate)
        for _ in range(self.hyper.steps):
            soft, soft_there = (x @ weight.T + bias for x in (here, there))
            information, divergence = criteria(soft.softmax(1), y, soft_there.softmax(1), y_there, train.classes)
            optimizer.zero_grad()
            torch.autograd.backward(-information - self.hyper.gamma * divergence)
            optimizer.step()
        found = (here @ weight.T + bias).argmax(1).numpy()
        groups, notes = class_parts(train.labels, found)
        return {"groups": groups}, {
            **notes,
            "information": float(information.detach()),
            "divergence": float(divergence.detach()),
        }


def criteria(
    soft: torch.Tensor, labels: torch.Tensor, other: torch.Tensor, other_labels: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mutual information of class and s, and the divergence between the two sets, in nats.

    Args:
        soft: probabilities of s, shape (n, parts).
        labels: class codes, shape (n,).
        other: probabilities of s on the comparison set, shape (m, parts).
        other_labels: class codes there, shape (m,).
        classes: number of classes.
    """
    joint, compared = _joint(soft, labels, classes), _joint(other, other_labels, classes)
    margins = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    information = (joint * (joint / margins.clamp(min=1e-12)).clamp(min=1e-12).log()).sum()
    given, given_there = (x / x.sum(0, keepdim=True).clamp(min=1e-12) for x in (joint, compared))
    ratio = (given.clamp(min=1e-6) / given_there.clamp(min=1e-6)).log()
    return information, (joint.sum(0) * (given * ratio).sum(0)).sum()


def _joint(soft: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """P(y, s), shape (classes, parts)."""
    return torch.nn.functional.one_hot(labels, classes).to(soft.dtype).T @ soft / len(labels)
