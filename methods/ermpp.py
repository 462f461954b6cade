"""ERM++: plain training with the small things done well: all labelled images, and averaged weights.

A model is trained by ERM on the training and the validation images together; it is the mean of the weights after every
step from ``start_epoch`` on, when the steps are no longer large.

Source: Teterwak, Saito, Tsiligkaridis, Saenko and Plummer 2023 (arXiv 2304.01973), "ERM++: an improved baseline for
    domain generalization", section 3 (full data; model parameter averaging).
Deviations: the length of training, the learning rate and the initial weights are the board's, where the paper finds the
    first two on a part of the data before it trains on all, and chooses the third; batch normalisation is trained.
Needs: labels only; of validation it uses the images and labels, so that validation figures are training figures.
"""

from robustbench_spur import Averaging, Hyperparameters, RunningMean, Share, Stage, Task, Training, Uniform, parameter
from robustbench_spur.methods.erm import ERM


class ERMPPHyperparameters(Hyperparameters):
    """Settings of ERM++."""

    start_epoch: float = parameter(
        Share(0.25, "epochs"), "epochs before the average begins", at_least=0, search=Uniform(1.0, 8.0)
    )


class ERMPP(ERM):
    """ERM on training and validation images, averaged."""

    name = "ermpp"
    version = 1
    summary = "ERM on all labelled images, with averaged weights"
    source = "Teterwak et al. 2023, ERM++, section 3"
    needs = ()
    Hyperparameters = ERMPPHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train on both partitions."""
        return task.train(self, on=("train", "validation"))

    def averaging(self, training: Training) -> Averaging:
        """The plain mean from an epoch on."""
        return RunningMean(self.hyper.start_epoch)
