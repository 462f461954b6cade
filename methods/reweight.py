"""ReWeight: weigh the loss of every group by the inverse of its size.

Minimises the mean of w_g l_i with w_g in proportion to 1 / n_g, where n_g is the number of training examples of the
example's group, scaled so that the weights' mean over the training set is 1.

Source: Japkowicz 2000, "The class imbalance problem: significance and strategies", for groups as in Yang et al., ICML
    2023, "Change is hard: a closer look at subpopulation shift" (ReWeight).
Deviations: the scale of the weights, which the released code of the latter takes over all declared groups, empty ones
    included, so that the step size changes with their number.
Needs: group labels of the training set, in the loss; examples in every group.
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.methods._weighting import Weighted


class ReWeight(Weighted):
    """Group weights 1 / n."""

    name = "reweight"
    version = 1
    summary = "weighs every group's loss by the inverse of its size"
    source = "Japkowicz 2000, The class imbalance problem; Yang et al. 2023, Change is hard"
    needs = ("train_attributes",)
    every_group_in = ("train",)

    def group_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The inverse of the size."""
        return 1.0 / counts
