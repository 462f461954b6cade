"""SUBG: throw training examples away until every group is as small as the smallest.

A random subset is drawn once, with as many examples of every group as the smallest group has; ERM is trained on it. An
epoch takes as many steps as for every other method, so that the subset is walked through several times.

Source: Idrissi, Arjovsky, Pezeshki and Lopez-Paz, CLeaR 2022 (arXiv 2110.14503), "Simple data balancing achieves
    competitive worst-group-accuracy", section 3.
Deviations: the number of steps is the board's, not that of an epoch of the subset.
Needs: group labels of the training set, in the sampling; examples in every group.
"""

import numpy as np

from robustbench_spur import Sampling, View
from robustbench_spur.methods.dfr import balanced_subset
from robustbench_spur.methods.erm import ERM


class SUBG(ERM):
    """ERM on a subset with groups of equal size."""

    name = "subg"
    version = 1
    summary = "trains on a subset in which all groups are as small as the smallest"
    source = "Idrissi et al. 2022, Simple data balancing, section 3"
    needs = ("train_attributes",)
    every_group_in = ("train",)

    def sampling(self, train: View) -> Sampling:
        """The subset, which follows from the seed and is the same in every epoch."""
        rows = balanced_subset(train.groups, train.generator())
        return Sampling(repeats=np.bincount(rows, minlength=len(train)).astype(np.int64))
