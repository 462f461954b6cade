"""AFR: fit the last layer again on held-out examples, with more weight on those to which the model gives little probability.

1. A model is trained by ERM on a share of the training patients.
2. On the others, the last layer is trained further, from its own weights w0, on sum_i m_i CE_i + ``anchor`` |w - w0|^2,
   where m_i is in proportion to exp(-``gamma`` p_i) / n_y: p_i is the model's probability of the example's label, n_y
   the number of held-out examples of its class.

Source: Qiu, Potapczynski, Izmailov and Wilson, ICML 2023 (arXiv 2306.11074), "Simple and fast group robustness by
    automatic feature reweighting", weights and loss of the second stage.
Deviations: examples are held out by patient; features are of the images without augmentation; ``gamma`` is 4 unless
    given (a probability of 0 weighs 55 times one of 1), since with 10 (22,000 times) what a confident model gets right
    all but vanishes and the layer learns its errors alone; the original tunes it with group labels of the validation set.
Needs: labels only.
"""

from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax

from robustbench_spur import Hyperparameters, LogUniform, Sampling, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, Ints, held_out, scores
from robustbench_spur.methods.erm import ERM


class AFRHyperparameters(Hyperparameters):
    """Settings of AFR."""

    held_out_share: float = parameter(0.2, "share of the training patients for the last layer", above=0, below=1)
    gamma: float = parameter(
        4.0, "how fast the weight falls with the probability", at_least=0, search=Uniform(1.0, 20.0)
    )
    anchor: float = parameter(
        0.0, "weight of the distance from the first weights", at_least=0, search=LogUniform(1e-4, 1.0)
    )
    steps: int = parameter(500, "steps on all held-out examples", at_least=1, search=Uniform(100, 1000))
    rate: float = parameter(0.01, "step size of gradient descent", above=0, search=LogUniform(1e-3, 1e-1))


class AFR(ERM):
    """A last layer that makes up for what the model is unsure of."""

    name = "afr"
    version = 1
    summary = "fits the last layer again with weight on what the model finds improbable"
    source = "Qiu et al. 2023, Automatic feature reweighting, second stage"
    needs = ()
    presets: ClassVar = {
        "waterbirds": {"gamma": 10.0, "anchor": 0.0, "steps": 500, "rate": 0.01},
        "celeba": {"gamma": 1.44, "anchor": 1e-3, "steps": 1000, "rate": 0.02},
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
        before = scores(features, head)
        weights = afr_weights(before, labels, self.hyper.gamma)
        new = self.descent(features.astype(np.float64), labels, weights, head)
        wrong = before.argmax(axis=1) != labels
        return new, {"held_out": len(labels), "wrong": int(wrong.sum()), "weight_of_wrong": float(weights[wrong].sum())}

    def descent(self, features: Floats, labels: Ints, weights: Floats, head: Arrays) -> Arrays:
        """Gradient descent from the first layer on the weighted loss."""
        first, bias = head["weight"].astype(np.float64), head["bias"].astype(np.float64)
        weight, targets = first, np.eye(len(first))[labels]
        for _ in range(self.hyper.steps):
            error = weights[:, None] * (softmax(features @ weight.T + bias, axis=1) - targets)
            slope = error.T @ features + 2 * self.hyper.anchor * (weight - first)
            weight, bias = weight - self.hyper.rate * slope, bias - self.hyper.rate * error.sum(axis=0)
        return {"weight": weight, "bias": bias}


def afr_weights(logits: Floats, labels: Ints, gamma: float) -> Floats:
    """Weights exp(-gamma p_i) / n_y that add up to 1, shape (n,)."""
    likely = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    raw = np.exp(-gamma * likely) / np.bincount(labels)[labels]
    return np.asarray(raw / raw.sum(), np.float64)
