"""PDE: learn first from a small set in which all groups are equally large, then let in the rest little by little.

For ``balanced_epochs`` the training set is a random subset with as many examples of every group as the smallest group
has. Then, every ``every_epochs``, random other examples join it, a share ``expansion`` of the training set each time.

Source: Deng, Yang, Mirzasoleiman and Gu, NeurIPS 2023 (arXiv 2306.04949), "Robust learning with progressive data
    expansion against spurious correlation": warm-up and expansion.
Deviations: the times are shares of the board's budget, and what joins is a share of the training set, where the
    original has numbers for each data set; an epoch takes as many steps as for every other method; the momentum of the
    optimiser is not set back after the warm-up.
Needs: group labels of the training set, in the sampling; examples in every group.
"""

import numpy as np

from robustbench_spur import Hyperparameters, Sampling, Share, Uniform, View, parameter
from robustbench_spur.methods.dfr import balanced_subset
from robustbench_spur.methods.erm import ERM


class PDEHyperparameters(Hyperparameters):
    """Settings of PDE."""

    balanced_epochs: int = parameter(
        Share(0.5, "epochs"), "epochs on the balanced subset", at_least=0, search=Uniform(2, 9)
    )
    every_epochs: int = parameter(1, "epochs from one expansion to the next", at_least=1, search=Uniform(1, 3))
    expansion: float = parameter(
        0.01, "share of the training set that joins each time", at_least=0, at_most=1, search=Uniform(0.0, 0.05)
    )


class PDE(ERM):
    """ERM on a balanced subset that grows."""

    name = "pde"
    version = 1
    summary = "learns from a balanced subset first, then lets in the rest little by little"
    source = "Deng et al. 2023, Robust learning with progressive data expansion"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = PDEHyperparameters

    def sampling_in(self, train: View, epoch: int) -> Sampling:
        """The subset of an epoch: what was in it stays in it."""
        rng = train.generator()
        inside = np.zeros(len(train), np.int64)
        inside[balanced_subset(train.groups, rng)] = 1
        rest = rng.permutation(np.flatnonzero(inside == 0))
        after = epoch - self.hyper.balanced_epochs
        times = after // self.hyper.every_epochs + 1 if after >= 0 else 0
        inside[rest[: round(times * self.hyper.expansion * len(train))]] = 1
        return Sampling(repeats=inside)
