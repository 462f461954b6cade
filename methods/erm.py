"""Empirical risk minimisation: the mean cross-entropy over the training examples, every one once an epoch.

The baseline that all others change in one thing. Minimises (1/n) sum_i -log p(y_i | x_i).

Source: Vapnik 1992, "Principles of risk minimization for learning theory", equation 5.
Deviations: none known.
Needs: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Method


class ERM(Method):
    """Plain training."""

    name = "erm"
    version = 1
    summary = "plain training on the mean cross-entropy: the baseline"
    source = "Vapnik 1992, Principles of risk minimization for learning theory, equation 5"
    needs = ()

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the batch."""
        return cross_entropy(model(batch.images), batch.labels)
