"""SqrtReWeight: weigh the loss of every group by the inverse of the root of its size.

Minimises the mean of w_g l_i with w_g in proportion to 1 / sqrt(n_g), scaled so that the weights' mean over the
training set is 1: half way, on a logarithmic scale, between ERM and ReWeight.

Source: Yang et al., ICML 2023, "Change is hard: a closer look at subpopulation shift" (SqrtReWeight).
Deviations: the scale of the weights; see ReWeight.
Needs: group labels of the training set, in the loss; examples in every group.
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.methods._weighting import Weighted


class SqrtReWeight(Weighted):
    """Group weights 1 / sqrt(n)."""

    name = "sqrt_reweight"
    version = 1
    summary = "weighs every group's loss by the inverse root of its size"
    source = "Yang et al. 2023, Change is hard"
    needs = ("train_attributes",)
    every_group_in = ("train",)

    def group_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The inverse of the root of the size."""
        return np.asarray(1.0 / np.sqrt(counts), np.float64)
