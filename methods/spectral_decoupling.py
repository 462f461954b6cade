"""Spectral decoupling: an L2 penalty on the logits, so that a strong feature does not starve the others.

Minimises the cross-entropy plus lambda / 2 times the mean over the batch of the squared norm of the logits, lambda
being ``strength``.

Source: Pezeshki et al., NeurIPS 2021 (arXiv 2011.09468), "Gradient starvation", section 3.3; spectral decoupling.
Deviations: logits of a softmax in place of one logit; without the class-wise centres that the paper uses on some sets.
Needs: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, parameter
from robustbench_spur.methods.erm import ERM


class SpectralDecouplingHyperparameters(Hyperparameters):
    """Settings of spectral decoupling."""

    strength: float = parameter(0.1, "lambda: weight of the penalty", at_least=0, search=LogUniform(1e-5, 1e-1))


class SpectralDecoupling(ERM):
    """Cross-entropy with a penalty on the logits."""

    name = "spectral_decoupling"
    version = 1
    summary = "penalises large logits, so that one feature does not starve the others"
    source = "Pezeshki et al. 2021, Gradient starvation, section 3.3"
    needs = ()
    Hyperparameters = SpectralDecouplingHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy plus half the weighted squared norm of the logits."""
        logits = model(batch.images)
        return cross_entropy(logits, batch.labels) + 0.5 * self.hyper.strength * (logits**2).sum(dim=1).mean()
