"""AFR: fit the last layer again on held-out examples, with more weight on those to which the model gives little probability.

1. A model is trained by ERM on a share of the training patients.
2. On the others, the last layer is trained further, from its own weights w0, on sum_i m_i CE_i + ``anchor`` |w - w0|^2,
   where m_i is in proportion to exp(-``gamma`` p_i) / n_y: p_i is the model's probability of the example's label, n_y
   the number of held-out examples of its class.

Source: Qiu, Potapczynski, Izmailov and Wilson, ICML 2023 (arXiv 2306.11074), "Simple and fast group robustness by
    automatic feature reweighting", equations 1 and 2, section 4.
Deviations: examples are held out by patient; on standardised features, by Adam in place of gradient descent.
Needs: labels only.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import softmax

from robustbench_spur import Hyperparameters, LogUniform, Sampling, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Scale, descend, held_out, scores
from robustbench_spur.methods.erm import ERM


class AFRHyperparameters(Hyperparameters):
    """Settings of AFR."""

    held_out_share: float = parameter(0.2, "share of the training patients for the last layer", above=0, below=1)
    gamma: float = parameter(
        10.0, "how fast the weight falls with the probability", at_least=0, search=Uniform(1.0, 20.0)
    )
    anchor: float = parameter(
        0.0, "weight of the distance from the first weights", at_least=0, search=LogUniform(1e-4, 1.0)
    )
    steps: int = parameter(500, "steps on all held-out examples", at_least=1, search=Uniform(100, 1000))
    rate: float = parameter(0.01, "step size of Adam, on standardised features", above=0, search=LogUniform(1e-3, 1e-1))


class AFR(ERM):
    """A last layer that makes up for what the model is unsure of."""

    name = "afr"
    version = 1
    summary = "fits the last layer again with weight on what the model finds improbable"
    source = "Qiu et al. 2023, Automatic feature reweighting, equations 1 and 2"
    needs = ()
    presets: ClassVar = {
        "waterbirds": {"gamma": 10.0, "anchor": 0.0, "steps": 500},
        "celeba": {"gamma": 1.44, "anchor": 1e-3, "steps": 1000},
    }
    Hyperparameters = AFRHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train on the larger part; fit the last layer on the smaller one."""
        model = task.train(self)
        outputs = task.outputs(model, "train", features=True)
        return task.replace_head(model, task.compute(self.last_layer, outputs, task.head(model), on="train"))

    def sampling(self, train: View) -> Sampling:
        """Only patients that are not held out."""
        return Sampling(repeats=(~self.part(train)).astype(np.int64))

    def part(self, train: View) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The held-out rows, which follow from the seed."""
        return held_out(train, self.hyper.held_out_share, train.generator())

    def last_layer(self, train: View, outputs: Arrays, head: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Weight and bias, fitted on the held-out rows."""
        rows = self.part(train)
        features, labels = outputs["features"][rows], train.labels[rows]
        weights = torch.from_numpy(afr_weights(scores(features, head), labels, self.hyper.gamma))
        scale = Scale(features)

        def weighted(losses: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
            return weights @ losses

        hyper = self.hyper
        options = {"steps": hyper.steps, "rate": hyper.rate, "anchor": hyper.anchor}
        new = descend(scale.to(features), labels, scale.into(head), loss=weighted, **options)
        return scale.back(new), {"held_out": int(rows.sum()), "largest_weight": float(weights.max())}


def afr_weights(
    logits: np.ndarray[Any, np.dtype[np.float64]], labels: np.ndarray[Any, np.dtype[np.int64]], gamma: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Weights exp(-gamma p_i) / n_y that add up to 1, shape (n,)."""
    likely = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    raw = np.exp(-gamma * likely) / np.bincount(labels)[labels]
    return np.asarray(raw / raw.sum(), np.float64)
