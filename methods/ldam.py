"""LDAM: rare classes must win by a larger margin.

The logit of an example's own class y is lowered by a margin D_y = C / n_y^(1/4), where n_y is the class's number of
training examples and C is such that the largest margin is ``max_margin``; then all logits are multiplied by ``scale``
and the cross-entropy is taken.

Source: Cao, Wei, Gaidon, Arechiga and Ma, NeurIPS 2019 (arXiv 1906.07413), "Learning imbalanced datasets with
    label-distribution-aware margin loss", equations 11 to 13.
Deviations: features and weights of the last layer are not normalised, so that logits are no cosines, and with a scale
    of 1 by default, the paper's 30 being for cosines; no deferred re-weighting.
Needs: labels only.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Choice, Classifier, Hyperparameters, LogUniform, View, parameter
from robustbench_spur.methods.erm import ERM


class LDAMHyperparameters(Hyperparameters):
    """Settings of LDAM."""

    max_margin: float = parameter(0.5, "margin of the rarest class", at_least=0, search=LogUniform(0.1, 0.8))
    scale: float = parameter(1.0, "factor of the logits", above=0, search=Choice((1.0, 10.0, 30.0)))


class LDAM(ERM):
    """Cross-entropy with class margins."""

    name = "ldam"
    version = 1
    summary = "asks for larger margins of rare classes"
    source = "Cao et al. 2019, Label-distribution-aware margin loss, equations 11 to 13"
    needs = ()
    Hyperparameters = LDAMHyperparameters

    def start(self, train: View) -> None:
        """Margins of the classes; an absent class never needs its own."""
        counts = np.bincount(train.labels, minlength=train.classes)
        margins = np.where(counts > 0, np.maximum(counts, 1) ** -0.25, 0)
        self.state["margins"] = torch.from_numpy(self.hyper.max_margin * margins / margins.max()).float()

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy after the own class's logit is lowered."""
        logits = model(batch.images)
        margins = one_hot(batch.labels, logits.shape[1]) * self.state["margins"]
        return cross_entropy(self.hyper.scale * (logits - margins), batch.labels)
