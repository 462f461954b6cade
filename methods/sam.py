"""SAM: step downhill by the gradient at the worst point near by, so that the minimum found is a flat one.

At weights w with gradient g, the step's gradient is the one at w + rho g / |g|.

Source: Foret, Kleiner, Mobahi and Neyshabur, ICLR 2021 (arXiv 2010.01412), "Sharpness-aware minimization", algorithm 1
    with equations 2 and 3.
Deviations: running statistics of batch normalisation are those of the first of the two passes. A step costs twice.
Needs: labels only.
"""

import torch

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, parameter
from robustbench_spur.methods.erm import ERM


class SAMHyperparameters(Hyperparameters):
    """Settings of SAM."""

    rho: float = parameter(0.05, "radius of the neighbourhood of the weights", above=0, search=LogUniform(0.01, 0.5))


class SAM(ERM):
    """ERM by sharpness-aware steps."""

    name = "sam"
    version = 1
    summary = "steps by the gradient at the worst nearby weights"
    source = "Foret et al. 2021, Sharpness-aware minimization, algorithm 1"
    needs = ()
    Hyperparameters = SAMHyperparameters

    def backward(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Leave the gradient of the worst point near by; returns the loss where the weights are."""
        weights: list[torch.Tensor] = [weight for weight in model.parameters() if weight.requires_grad]
        loss = self.loss(model, batch)
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        steps = [self.hyper.rho * gradient / norm.clamp(min=1e-12) for gradient in gradients]
        kept = [weight.detach().clone() for weight in weights]
        norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
        with torch.no_grad():
            torch._foreach_add_(weights, steps)
        for layer in norms:
            layer.track_running_stats = False
        torch.autograd.backward(self.loss(model, batch))
        for layer in norms:
            layer.track_running_stats = True
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
        return loss.detach()
