"""SWA: the model is the mean of the weights along the last part of training.

From ``start_epoch`` on, the weights after every ``every`` steps are averaged.

Source: Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, UAI 2018 (arXiv 1803.05407), "Averaging weights leads to
    wider optima", algorithm 1, constant learning rate.
Deviations: weights count every few steps, since a board's epochs are few, where the original takes those at the end of
    each epoch; the learning rate is the board's throughout; running statistics of batch normalisation are averaged like
    weights, where the original computes them anew.
Needs: labels only.
"""

from robustbench_spur import Averaging, Hyperparameters, RunningMean, Share, Training, Uniform, parameter
from robustbench_spur.methods.erm import ERM


class SWAHyperparameters(Hyperparameters):
    """Settings of SWA."""

    start_epoch: float = parameter(
        Share(0.75, "epochs"), "epochs before the average begins", at_least=0, search=Uniform(3.0, 10.0)
    )
    every: int = parameter(10, "steps from one set of weights that counts to the next", at_least=1)


class SWA(ERM):
    """ERM, averaged over the last part of its way."""

    name = "swa"
    version = 1
    summary = "averages the weights along the last part of training"
    source = "Izmailov et al. 2018, Averaging weights leads to wider optima, algorithm 1"
    needs = ()
    Hyperparameters = SWAHyperparameters

    def averaging(self, training: Training) -> Averaging:
        """The plain mean from an epoch on."""
        return RunningMean(self.hyper.start_epoch, self.hyper.every)
