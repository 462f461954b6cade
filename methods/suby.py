"""SUBY: throw training examples away until every class is as small as the smallest.

A random subset is drawn once, with as many examples of every class as the smallest class has; ERM is trained on it.

Source: Idrissi, Arjovsky, Pezeshki and Lopez-Paz, CLeaR 2022 (arXiv 2110.14503), "Simple data balancing achieves
    competitive worst-group-accuracy", section 3.
Deviations: the number of steps is the board's, not that of an epoch of the subset.
Needs: labels only.
"""

import numpy as np

from robustbench_spur import Sampling, View
from robustbench_spur.methods.dfr import balanced_subset
from robustbench_spur.methods.erm import ERM


class SUBY(ERM):
    """ERM on a subset with classes of equal size."""

    name = "suby"
    version = 1
    summary = "trains on a subset in which all classes are as small as the smallest"
    source = "Idrissi et al. 2022, Simple data balancing, section 3"
    needs = ()

    def sampling(self, train: View) -> Sampling:
        """The subset, which follows from the seed and is the same in every epoch."""
        rows = balanced_subset(train.labels, train.generator())
        return Sampling(repeats=np.bincount(rows, minlength=len(train)).astype(np.int64))
