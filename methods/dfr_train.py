"""DFR on the training set: ERM's last layer fitted again on group-balanced subsets of what its features come from.

As DFR, with the training set in the place of ``adapt``.

Source: Kirichenko, Izmailov and Wilson, ICLR 2023 (arXiv 2204.02937), "Last layer re-training is sufficient", section
    6, their DFR-train.
Deviations: those of DFR; no class weights are tuned.
Needs: group labels of the training set; examples in every group.
"""

from typing import ClassVar

from robustbench_spur import Stage, Task
from robustbench_spur.methods.dfr import DFR, DFRHyperparameters
from robustbench_spur.methods.erm import ERM


class DFRTrainHyperparameters(DFRHyperparameters):
    """Settings of DFR on the training set: those of DFR."""


class DFRTrain(DFR):
    """Last layer fitted again on group-balanced subsets of the training set."""

    name = "dfr_train"
    version = 1
    summary = "fits ERM's last layer again on group-balanced subsets of the training set"
    source = "Kirichenko et al. 2023, Last layer re-training is sufficient, section 6"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    presets: ClassVar = {"quick": {"draws": 3, "tuning_draws": 1, "strengths": (1.0, 0.1)}}
    Hyperparameters = DFRTrainHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; fit the last layer on the training set's features."""
        model = task.train(ERM())
        features = task.outputs(model, "train", features=True)
        return task.replace_head(model, task.compute(self.last_layer, features, on="train"))
