"""MC dropout: drop features at random in training and in the test, and average the test's probabilities, with any method.

The method ``base`` is trained with dropout of rate ``rate`` on the features. The model is the mean of the softmax over
``samples`` masks m_k of the features, mean_k softmax(W (m_k * a) / (1 - rate) + b), with masks that follow from the
seed.

Source: Gal and Ghahramani, ICML 2016 (arXiv 1506.02142), "Dropout as a Bayesian approximation", section 4.
Deviations: dropout before the last layer alone; the same masks for all images, so that predictions repeat and attacks
    see the model that is measured; the base has its default settings, and its last layer must be linear.
Needs: what the base method needs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import Hyperparameters, Method, SpurbenchError, Stage, Task, Uniform, View, parameter

Arrays = dict[str, NDArray[Any]]


class MCDropoutHyperparameters(Hyperparameters):
    """Settings of MC dropout."""

    base: str = parameter("erm", "name of the method that is trained with dropout")
    rate: float = parameter(0.3, "share of the features that is dropped", above=0, below=1, search=Uniform(0.1, 0.6))
    samples: int = parameter(20, "number of masks that are averaged", at_least=1)


class MCDropout(Method):
    """Another method with dropout, averaged over masks."""

    name = "mc_dropout"
    version = 1
    summary = "drops features in training and test, and averages over masks, with any method"
    source = "Gal and Ghahramani 2016, Dropout as a Bayesian approximation, section 4"
    needs = ()
    wraps = "base"
    Hyperparameters = MCDropoutHyperparameters

    def fit(self, task: Task) -> Stage:
        """The base with dropout; its last layer once for each mask."""
        model = self.wrapped.fit(task.derive(self.wrapped, dropout=self.hyper.rate))
        return task.replace_head(model, task.compute(self.masked, task.head(model), on="train"))

    def masked(self, train: View, head: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The last layer behind each mask, scaled so that its mean is the layer itself.

        Raises:
            SpurbenchError: the base's last layer is not linear.
        """
        if sorted(head) != ["bias", "weight"] or head["weight"].ndim != 2:
            raise SpurbenchError("Expected a base with a linear last layer for mc_dropout. Choose another base.")
        weight, bias = head["weight"], head["bias"]
        kept = train.generator().random((self.hyper.samples, weight.shape[1])) >= self.hyper.rate
        masked = weight[None] * kept[:, None] / (1 - self.hyper.rate)
        return {"weight": masked, "bias": np.repeat(bias[None], self.hyper.samples, axis=0)}, {}
