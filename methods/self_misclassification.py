"""SELF, misclassification: fine-tune ERM's last layer on held-out points, those that the model gives the least probability.

Source: LaBonte, Muthukumar and Kumar, NeurIPS 2023 (arXiv 2309.08534), "Towards last-layer retraining for group
    robustness with fewer annotations", SELF (misclassification).
Deviations: as many points of every class, where the released code takes those of all classes and draws the classes
    equally often; on standardised features, by Adam on all points at once; the held-out set is ``validation``.
Needs: labels of the training and the validation set, no attributes.
"""

import numpy as np
from scipy.special import log_softmax

from robustbench_spur import View
from robustbench_spur.methods._lastlayer import Arrays, Floats
from robustbench_spur.methods._self import Self, SelfHyperparameters


class SelfMisclassificationHyperparameters(SelfHyperparameters):
    """Settings of SELF."""


class SelfMisclassification(Self):
    """SELF by misclassification."""

    name = "self_misclassification"
    version = 1
    summary = "fine-tunes the last layer on held-out points that the model gets wrong"
    source = "LaBonte et al. 2023, Last-layer retraining with fewer annotations, SELF"
    needs = ()
    Hyperparameters = SelfMisclassificationHyperparameters

    def disagreement(self, view: View, outputs: Arrays, *others: Arrays) -> Floats:
        """The cross-entropy: what is wrong comes first."""
        logs = log_softmax(outputs["logits"].astype(np.float64), axis=1)
        return np.asarray(-logs[np.arange(len(view)), view.labels], np.float64)
