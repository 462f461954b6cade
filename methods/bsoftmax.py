"""Balanced softmax: account for the class frequencies in training, and leave them out in the test.

Minimises the cross-entropy of the logits z_y + log n_y, where n_y is class y's number of training examples; predicts by
z_y.

Source: Ren et al., NeurIPS 2020 (arXiv 2007.10740), "Balanced meta-softmax for long-tailed visual recognition",
    equation 4.
Deviations: without the meta sampler; a class without training examples counts as half an example, so that its logit
    stays finite.
Needs: labels only.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, View
from robustbench_spur.methods.erm import ERM


class BSoftmax(ERM):
    """Cross-entropy with the log of the class frequencies on the logits."""

    name = "bsoftmax"
    version = 1
    summary = "adds the log class frequencies to the logits in training"
    source = "Ren et al. 2020, Balanced meta-softmax, equation 4"
    needs = ()

    def start(self, train: View) -> None:
        """Log of the class counts, as shares of the largest one."""
        counts = np.maximum(np.bincount(train.labels, minlength=train.classes), 0.5)
        # the softmax does not notice a constant on all logits, but rounding does: equal classes are ERM to the last bit
        self.state["log_counts"] = torch.from_numpy(np.log(counts / counts.max())).float()

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy of the adjusted logits."""
        return cross_entropy(model(batch.images) + self.state["log_counts"], batch.labels)
