"""BAM: let a model give in to its bias by a crutch for every example, then train it on with its errors repeated.

1. For ``bias_epochs`` the squared error |z_i + ``crutch`` b_i - e_i|^2 is minimised over the network and over b_i, one
   vector for each example, where z_i are the logits and e_i the label as a unit vector: what is hard is learned by b_i,
   so that the network learns what is easy.
2. The error set holds the training examples that the network gets wrong. The same network is trained on by ERM, with
   every example of the error set standing ``upweight`` times in the training set.

Source: Li, Liu and Hu, TMLR 2024 (arXiv 2309.06717), "Bias amplification enhances minority group performance": the two
    stages, with auxiliary variables, squared loss and one model throughout.
Deviations: b_i takes plain gradient steps of ``crutch_rate`` on its own example's error: under the board's optimiser,
    whose steps do not depend on the gradient's size, it would overshoot as ``crutch`` grows. The second training ends
    as the board says, where the original stops at the least difference between the classes' accuracies (the rule
    ``class_difference`` of ``spurbench tune``). ``bias_epochs`` defaults to a share of the board's budget, ``upweight``
    to that of JTT; the paper's are in the preset.
Needs: labels only.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import (
    Batch,
    Choice,
    Classifier,
    Hyperparameters,
    LogUniform,
    Sampling,
    Share,
    Stage,
    Task,
    View,
    parameter,
)
from robustbench_spur.methods._inferred import Arrays
from robustbench_spur.methods.erm import ERM


class BAMHyperparameters(Hyperparameters):
    """Settings of BAM."""

    bias_epochs: int = parameter(
        Share(0.25, "epochs"), "epochs of the first training (T)", at_least=1, search=Choice((1, 2, 3, 4))
    )
    crutch: float = parameter(
        50.0, "lambda: factor of the examples' vectors", at_least=0, search=LogUniform(0.5, 100.0)
    )
    crutch_rate: float = parameter(1e-5, "step size of the examples' vectors", at_least=0)
    upweight: int = parameter(
        20, "mu: times that an error stands in the training set", at_least=1, search=Choice((5, 20, 50, 140))
    )


class BAM(ERM):
    """Training with crutches, then with its errors repeated."""

    name = "bam"
    version = 1
    summary = "amplifies the bias by a crutch for every example, then repeats the errors"
    source = "Li et al. 2024, Bias amplification enhances minority group performance"
    needs = ()
    presets: ClassVar = {"waterbirds": {"crutch": 50.0, "bias_epochs": 20, "upweight": 140}}
    Hyperparameters = BAMHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train with crutches; find the errors; train on with repeats."""
        biased = task.train(self, phase="bias", epochs=self.hyper.bias_epochs)
        errors = task.compute(self.error_set, task.outputs(biased, "train"), on="train")
        return task.train(self, given=errors, start=biased)

    def error_set(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Mark the training examples that the first network gets wrong."""
        wrong = outputs["logits"].argmax(axis=1) != train.labels
        by_class = np.bincount(train.labels[wrong], minlength=train.classes)
        return {"wrong": wrong}, {"error_set_size": int(wrong.sum()), "error_set_by_class": by_class.tolist()}

    def start(self, train: View) -> None:
        """The examples' vectors, which begin at zero."""
        if self.phase == "bias":
            self.state["crutches"] = torch.zeros(len(train), train.classes)

    def sampling(self, train: View) -> Sampling | None:
        """Repeat the error set in the second training."""
        return None if self.phase == "bias" else Sampling(repeats=np.where(self.given["wrong"], self.hyper.upweight, 1))

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Squared error with crutches, which take their step, or cross-entropy."""
        logits = model(batch.images)
        if self.phase != "bias":
            return cross_entropy(logits, batch.labels)
        crutches, rows = self.state["crutches"], batch.rows
        error = logits + self.hyper.crutch * crutches[rows] - one_hot(batch.labels, logits.shape[1])
        moved = crutches[rows] - self.hyper.crutch_rate * 2 * self.hyper.crutch * error.detach()
        self.state["crutches"] = crutches.index_put((rows,), moved)
        return error.square().sum(dim=1).mean()
