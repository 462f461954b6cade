"""Just train twice: train briefly, find the errors, train again from scratch on a set in which the errors are repeated.

1. An identification model is trained by ERM for T epochs (``id_epochs``).
2. The error set E holds the training examples that it gets wrong.
3. A new model is trained by ERM on the training set in which every example of E stands lambda (``upweight``) times.

The default lambda is the smallest of the grid that the paper tuned over on images (20, 50, 100). Where the error set is large,
it makes the errors the majority: on data without a shortcut that costs accuracy, and lambda has to be smaller.

Source: Liu et al., ICML 2021, "Just train twice", algorithm 1.
Deviations: the second training takes as many steps as the board's budget allows every method, where the original takes as
    many epochs of the larger set; T defaults to a share of the board's budget; lambda is a whole number, and is not tuned
    on group labels of a validation set unless a user does so.
Needs: labels only.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import Choice, Hyperparameters, Sampling, Share, Stage, Task, View, parameter
from robustbench_spur.methods.erm import ERM


class JTTHyperparameters(Hyperparameters):
    """Settings of JTT."""

    id_epochs: int = parameter(
        Share(0.25, "epochs"), "epochs of the identification model (T)", at_least=1, search=Choice((1, 2, 3, 4))
    )
    upweight: int = parameter(
        20,
        "times that an example of the error set stands in the second training set",
        at_least=1,
        search=Choice((5, 20, 50, 100)),
    )


class JTT(ERM):
    """Two trainings; the errors of the first are upsampled in the second."""

    name = "jtt"
    version = 1
    summary = "trains twice, the second time with the errors of the first repeated"
    source = "Liu et al. 2021, Just train twice, algorithm 1"
    needs = ()
    presets: ClassVar = {
        "waterbirds": {"id_epochs": 60, "upweight": 100},
        "celeba": {"id_epochs": 1, "upweight": 50},
    }
    Hyperparameters = JTTHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train briefly; find the errors; train again with repeats."""
        identification = task.train(ERM(), epochs=self.hyper.id_epochs)
        predictions = task.outputs(identification, "train")
        errors = task.compute(self.error_set, predictions, on="train")
        return task.train(self, given=errors)

    def error_set(
        self, train: View, predictions: dict[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Mark the training examples that the identification model gets wrong."""
        wrong = predictions["logits"].argmax(axis=1) != train.labels
        by_class = np.bincount(train.labels[wrong], minlength=train.classes)
        notes: dict[str, Any] = {"error_set_size": int(wrong.sum()), "error_set_by_class": by_class.tolist()}
        if not wrong.any():
            notes["warning"] = "the error set is empty: the second training is plain ERM"
        return {"wrong": wrong}, notes

    def sampling(self, train: View) -> Sampling:
        """Repeat the error set."""
        return Sampling(repeats=np.where(self.given["wrong"], self.hyper.upweight, 1))
