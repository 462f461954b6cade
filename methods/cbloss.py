"""Class-balanced loss, on groups: weigh every group by the inverse of its effective number of examples.

The effective number of n examples is (1 - b^n) / (1 - b), with b = ``beta``: the more there are, the less a further one
adds. Minimises the mean of w_g l_i with w_g in proportion to (1 - b) / (1 - b^n_g), scaled so that the weights' mean
over the training set is 1.

Source: Cui, Jia, Lin, Song and Belongie, CVPR 2019 (arXiv 1901.05555), "Class-balanced loss based on effective number
    of samples", equations 2 and 4.
Deviations: on the groups of label and attribute in place of the classes, as Yang et al. 2023 do; scale as in ReWeight.
Needs: group labels of the training set, in the loss; examples in every group.
"""

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import Choice, Hyperparameters, parameter
from robustbench_spur.methods._weighting import Weighted


class CBLossHyperparameters(Hyperparameters):
    """Settings of the class-balanced loss."""

    beta: float = parameter(
        0.9999,
        "b: how much of a group's size counts, 0 for none and near 1 for all",
        at_least=0,
        below=1,
        search=Choice((0.9, 0.99, 0.999, 0.9999, 0.99999)),
    )


class CBLoss(Weighted):
    """Group weights by effective numbers."""

    name = "cbloss"
    version = 1
    summary = "weighs every group by its effective number of examples"
    source = "Cui et al. 2019, Class-balanced loss based on effective number of samples, equations 2 and 4"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = CBLossHyperparameters

    def group_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The inverse of the effective number."""
        return np.asarray((1 - self.hyper.beta) / (1 - self.hyper.beta**counts), np.float64)
