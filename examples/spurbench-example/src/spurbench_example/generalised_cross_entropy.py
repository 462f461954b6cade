"""Generalised cross-entropy leans less on the examples that the network finds hard than plain training does.

Minimises the mean over the batch of (1 - p(y_i | x_i)^q) / q, where q is ``exponent``. It tends to the cross-entropy as q goes
to 0; at 1 it is 1 - p, whose gradient weights all examples alike. With mislabelled images that helps. The exceptions to a
shortcut are hard examples too: there it may hurt, and the benchmark says by how much.

Source: Zhang and Sabuncu, NeurIPS 2018, "Generalized cross entropy loss for training deep neural networks with noisy labels",
    section 3.2, the loss L_q.
Deviations: none known for L_q; the truncated loss and the pruning of examples of the same paper are left out.
Needs: labels only.
"""

import torch

from robustbench_spur import Batch, Classifier, Hyperparameters, Method, Uniform, parameter


class GeneralisedCrossEntropyHyperparameters(Hyperparameters):
    """Settings of the loss; the default is the paper's."""

    exponent: float = parameter(
        0.7,
        "q, between the cross-entropy (towards 0) and 1 - p (at 1)",
        above=0,
        at_most=1,
        search=Uniform(0.1, 1.0),
    )


class GeneralisedCrossEntropy(Method):
    """Plain training on the loss L_q."""

    name = "generalised_cross_entropy"
    version = 1
    summary = "plain training on a loss that leans less on hard examples"
    source = "Zhang and Sabuncu 2018, Generalized cross entropy loss, section 3.2"
    needs = ()
    Hyperparameters = GeneralisedCrossEntropyHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean of L_q over the batch, at least 0."""
        q = float(self.hyper.exponent)
        log_p = model(batch.images).log_softmax(dim=1).gather(1, batch.labels[:, None])
        # by the logarithm: the derivative of p^q itself is infinite where p is rounded to 0
        return -torch.expm1(q * log_p).mean() / q
