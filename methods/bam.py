"""BAM: let a model give in to its bias by a crutch for every example, then train it on with its errors repeated.

1. For ``bias_epochs`` the squared error |z_i + ``crutch`` b_i - e_i|^2 is minimised over the network and over b_i, one
   vector for each example, where z_i are the logits and e_i the label as a unit vector: what is hard is learned by b_i,
   so that the network learns what is easy.
2. The error set holds the training examples that the network gets wrong. The same network is trained on by ERM for the
   rest of the epochs, with every example of the error set standing ``upweight`` times in the training set.

Source: Li, Hooper et al., TMLR 2024, "Bias amplification enhances minority group performance", section 3, algorithm 1,
    equations 1 and 2.
Deviations: both trainings together take the board's epochs; the end is the last epoch, where the paper stops at the
    least difference between the classes' accuracies (a rule of ``spurbench tune`` here).
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
    second_epochs: int = parameter(Share(0.75, "epochs"), "epochs of the second training", at_least=1)
    crutch: float = parameter(
        50.0, "lambda: factor of the examples' vectors", at_least=0, search=LogUniform(0.5, 100.0)
    )
    upweight: int = parameter(
        20, "mu: times that an error stands in the training set", at_least=1, search=Choice((5, 20, 50, 140))
    )


class BAM(ERM):
    """Training with crutches, then with its errors repeated."""

    name = "bam"
    version = 1
    summary = "amplifies the bias by a crutch for every example, then repeats the errors"
    source = "Li et al. 2024, Bias amplification enhances minority group performance, algorithm 1"
    needs = ()
    presets: ClassVar = {"waterbirds": {"crutch": 50.0, "bias_epochs": 20, "upweight": 140}}
    Hyperparameters = BAMHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train with crutches; find the errors; train on with repeats."""
        biased = task.train(self, phase="bias", epochs=self.hyper.bias_epochs)
        errors = task.compute(self.error_set, task.outputs(biased, "train"), on="train")
        return task.train(self, epochs=self.hyper.second_epochs, given=errors, start=biased)

    def error_set(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Mark the training examples that the first network gets wrong."""
        wrong = outputs["logits"].argmax(axis=1) != train.labels
        return {"wrong": wrong}, {"error_set_size": int(wrong.sum())}

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The examples' vectors, which begin at zero."""
        if self.phase != "bias":
            return {}
        crutches = torch.nn.Embedding(len(train), train.classes)
        torch.nn.init.zeros_(crutches.weight)
        return {"crutches": crutches}

    def sampling(self, train: View) -> Sampling | None:
        """Repeat the error set in the second training."""
        return None if self.phase == "bias" else Sampling(repeats=np.where(self.given["wrong"], self.hyper.upweight, 1))

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Squared error with crutches, or cross-entropy."""
        logits = model(batch.images)
        if self.phase != "bias":
            return cross_entropy(logits, batch.labels)
        lifted = logits + self.hyper.crutch * self.beside["crutches"](batch.rows)
        return (lifted - one_hot(batch.labels, logits.shape[1])).square().sum(dim=1).mean()
