"""CVaR-DRO: minimise the mean loss of the worst share of the examples, whichever they are.

The conditional value at risk at level alpha is min_t t + mean_i max(l_i - t, 0) / alpha: the mean of the largest share
alpha of the losses of a batch, the one at the edge counted in part.

Source: Duchi, Hashimoto and Namkoong 2019, "Distributionally robust losses for latent covariate mixtures"; Levy,
    Carmon, Duchi and Sidford, NeurIPS 2020 (arXiv 2010.05893), "Large-scale methods for distributionally robust
    optimization", section 2 (CVaR), estimated in each batch.
Deviations: none known.
Needs: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, parameter
from robustbench_spur.methods.erm import ERM


class CVaRDROHyperparameters(Hyperparameters):
    """Settings of CVaR-DRO."""

    alpha: float = parameter(
        0.1, "share of the batch that counts; 1 is ERM", above=0, at_most=1, search=LogUniform(1e-2, 1.0)
    )


class CVaRDRO(ERM):
    """The mean of the worst losses."""

    name = "cvar_dro"
    version = 1
    summary = "minimises the mean of the worst share of the losses"
    source = "Levy et al. 2020, Large-scale methods for distributionally robust optimization, section 2"
    needs = ()
    Hyperparameters = CVaRDROHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean of the largest share of the batch's losses."""
        losses = cross_entropy(model(batch.images), batch.labels, reduction="none")
        ordered = losses.sort(descending=True).values
        amount = self.hyper.alpha * len(ordered)
        rank = torch.arange(len(ordered), device=ordered.device)
        # 1 for what lies within the share, the rest of it for the one at the edge
        return ((amount - rank).clamp(0, 1) * ordered).sum() / amount
