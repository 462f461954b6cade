"""IRM: features on which the same last layer is optimal in every environment, here the attribute's values.

Minimises the mean over environments e of R_e plus ``strength`` times the mean of |d R_e(w z) / dw at w = 1|^2, where
R_e is the cross-entropy of e and w a factor of the logits z. The square is estimated without bias by the product of the
gradients of two halves of e's examples.

Source: Arjovsky, Bottou, Gulrajani and Lopez-Paz 2019 (arXiv 1907.02893), "Invariant risk minimization", IRMv1,
    equation and section 3.1; appendix D (two halves; weight of 1 at first, then large; loss divided by the weight).
Deviations: environments are the attribute's values, so that the attribute itself meets the penalty where it tells
    equally much at each of them; the optimiser is not set anew when the weight rises; an environment with fewer than
    two examples in a batch has no penalty there.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: where an environment
    has one class only, its penalty asks for nothing but certainty.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Share, Uniform, parameter
from robustbench_spur.methods._environments import Penalised


class IRMHyperparameters(Hyperparameters):
    """Settings of IRM."""

    strength: float = parameter(
        100.0, "weight of the penalty after the warm-up", at_least=0, search=LogUniform(1e-1, 1e5)
    )
    warmup_epochs: float = parameter(
        Share(0.25, "epochs"), "epochs in which the weight is 1 at most", at_least=0, search=Uniform(0.0, 6.0)
    )


class IRM(Penalised):
    """ERM plus the invariance penalty."""

    name = "irm"
    version = 1
    summary = "asks for one last layer that is optimal for every attribute value"
    source = "Arjovsky et al. 2019, Invariant risk minimization, section 3.1 and appendix D"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = IRMHyperparameters

    def penalty(self, model: Classifier, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Mean over the environments present of the product of two halves' gradients."""
        factor = torch.ones((), device=logits.device, requires_grad=True)
        losses = cross_entropy(factor * logits, batch.labels, reduction="none")
        total, found = losses.new_zeros(()), losses.new_zeros(())
        for value in range(len(batch.view.universe.values)):
            inside = batch.attributes == value
            # the first, third, ... example of the environment, and the second, fourth, ...
            odd = (inside.cumsum(0) % 2 == 1) & inside
            even = inside & ~odd
            halves = [(losses * half).sum() / half.sum().clamp(min=1) for half in (odd, even)]
            slopes = [torch.autograd.grad(half, factor, create_graph=True)[0] for half in halves]
            total = total + slopes[0] * slopes[1]
            found = found + even.any()
        return total / found.clamp(min=1)
