"""Label smoothing, a control: regularisation that knows nothing of shortcuts.

The target of an example is 1 - e + e / K for its class and e / K for each other one, with K classes and e =
``smoothing``.

Source: Szegedy et al., CVPR 2016 (arXiv 1512.00567), "Rethinking the Inception architecture", section 7.
Deviations: none known.
Needs: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, Uniform, parameter
from robustbench_spur.methods.erm import ERM


class LabelSmoothingHyperparameters(Hyperparameters):
    """Settings of label smoothing."""

    smoothing: float = parameter(
        0.1, "e: share of the target that is spread over all classes", at_least=0, below=1, search=Uniform(0.0, 0.3)
    )


class LabelSmoothing(ERM):
    """Cross-entropy to smoothed labels."""

    name = "label_smoothing"
    version = 1
    summary = "smooths the labels: a control that knows nothing of shortcuts"
    source = "Szegedy et al. 2016, Rethinking the Inception architecture, section 7"
    needs = ()
    Hyperparameters = LabelSmoothingHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy to the smoothed labels."""
        return cross_entropy(model(batch.images), batch.labels, label_smoothing=self.hyper.smoothing)
