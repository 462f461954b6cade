"""SSA: learn the attribute from a small set that has it, label the training set with it, then GroupDRO.

1. A network learns to predict the attribute of ``adapt`` and, at the same time, its own predictions of the training
   examples of which it is sure. Sure of (class, predicted value) g are those predicted with a probability of at least
   t_g. In the group with the fewest examples, known ones and sure ones together, t_g is ``confidence``; in every other
   group it is as high as leaves just as many.
2. A new model is trained by GroupDRO on the groups (class, predicted value) of the training set.

Source: Nam, Kim, Lee and Shin, ICLR 2022 (arXiv 2204.02070), "Spread spurious attribute: improving worst-group accuracy
    with spurious attribute estimation": the two phases, the thresholds of the groups.
Deviations: one network predicts all examples, where the original has three, each for a third that it did not learn
    from; no part of ``adapt`` is kept to choose it; an example's probability is that of when it was last drawn; known
    and other examples are drawn about equally often; in the end the backbone has the board's averaged weights, and the
    predictor's last layer those that the last step began with.
Needs: labels and attributes of the ``adapt`` partition, labels of the training set; examples in every group of
    ``adapt``.
"""

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
from robustbench_spur.methods._lastlayer import scores


class SSAHyperparameters(Hyperparameters):
    """Settings of SSA."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))
    attribute_epochs: int = parameter(
        Share(0.5, "epochs"), "epochs of the attribute's predictor", at_least=1, search=Uniform(2, 12)
    )
    confidence: float = parameter(
        0.95,
        "probability from which the smallest group's predictions are learned from",
        at_least=0,
        below=1,
        search=Uniform(0.7, 0.99),
    )


class SSA(InferredGroupDRO):
    """GroupDRO on attributes that were learned from a small set."""

    name = "ssa"
    version = 1
    summary = "learns the attribute from a small set, labels the training set with it, then GroupDRO"
    source = "Nam et al. 2022, Spread spurious attribute"
    needs = ("adapt",)
    every_group_in = ("adapt",)
    Hyperparameters = SSAHyperparameters

    def fit(self, task: Task) -> Stage:
        """Learn the attribute; predict it; train by GroupDRO."""
        epochs = self.hyper.attribute_epochs
        predictor = task.train(self, phase="attribute", epochs=epochs, on=("train", "adapt"))
        outputs = task.outputs(predictor, "train", features=True)
        return task.train(self, given=task.compute(self.groups_of, predictor, outputs, on="train"))

    def groups_of(self, train: View, state: Arrays, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Groups of (class, predicted value) of the training set, shape (n,)."""
        groups, notes = class_parts(train.labels, scores(outputs["features"], state).argmax(axis=1))
        return {"groups": groups}, notes

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The last layer of the predictor."""
        if self.phase != "attribute":
            return {}
        return {"attribute": torch.nn.Linear(model.width, len(train.universe.values))}

    def start(self, train: View) -> None:
        """No predictions yet; for the second training, GroupDRO's weights."""
        if self.phase != "attribute":
            super().start(train)
            return
        known = train.attributes >= 0
        counts = np.bincount(train.groups[known], minlength=len(train.universe))
        self.state = {
            "labels": torch.from_numpy(train.labels.copy()),
            "known": torch.from_numpy(counts),
            "values": torch.zeros(len(train), dtype=torch.int64),
            "confidence": torch.zeros(len(train)),
        } | self._last_layer()

    def sampling(self, train: View) -> Sampling:
        """The known examples together as often as the others; for GroupDRO every group equally often."""
        if self.phase != "attribute":
            return super().sampling(train)
        known = train.attributes >= 0
        times = max(1, int((~known).sum()) // max(1, int(known.sum())))
        return Sampling(repeats=np.where(known, times, 1))

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The predictor's loss on known and on sure examples, or GroupDRO's."""
        if self.phase != "attribute":
            return super().loss(model, batch)
        logits = self.beside["attribute"](model.features(batch.images))
        known = batch.attributes >= 0
        with torch.no_grad():
            confidence, values = logits.softmax(1).max(1)
            self._note(batch.rows, values, torch.where(known, 0.0, confidence))
            groups = self.state["labels"] * logits.shape[1] + self.state["values"]
            sure = surest(self.state["confidence"], groups, self.state["known"], self.hyper.confidence)[batch.rows]
        losses = cross_entropy(logits, torch.where(known, batch.attributes, values), reduction="none")
        both = torch.stack([known, sure]).to(losses.dtype)
        return ((both @ losses) / both.sum(1).clamp(min=1)).sum()

    def _note(self, rows: torch.Tensor, values: torch.Tensor, confidence: torch.Tensor) -> None:
        self.state["values"] = self.state["values"].index_put((rows,), values)
        self.state["confidence"] = self.state["confidence"].index_put((rows,), confidence)
        self.state |= self._last_layer()

    def _last_layer(self) -> dict[str, torch.Tensor]:
        """The predictor's last layer as it is, so that it outlives the training."""
        return {name: value.detach().clone() for name, value in self.beside["attribute"].named_parameters()}


def surest(confidence: torch.Tensor, groups: torch.Tensor, known: torch.Tensor, threshold: float) -> torch.Tensor:
    """Which examples to learn the predictions of: in every group as many, known ones included, as in the smallest.

    Args:
        confidence: probability of the predicted value; 0 where none is wanted; shape (n,).
        groups: group indices by the predicted values, shape (n,).
        known: number of examples of every group whose attribute is known, shape (groups,).
        threshold: least probability.
    """
    order = confidence.argsort(descending=True, stable=True)
    code, sure = groups[order], (confidence[order] >= threshold) & (confidence[order] > 0)
    place = (one_hot(code, len(known)) * sure[:, None]).cumsum(0)
    counts = place[-1] + known
    smallest = torch.where(counts > 0, counts, counts.max()).min()
    chosen = sure & (place.gather(1, code[:, None])[:, 0] <= smallest - known[code])
    return torch.zeros_like(chosen).scatter(0, order, chosen)
