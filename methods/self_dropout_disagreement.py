"""SELF, dropout disagreement: fine-tune ERM's last layer where dropped features change its prediction most.

Source: LaBonte, Muthukumar and Kumar, NeurIPS 2023 (arXiv 2309.08534), "Towards last-layer retraining for group
    robustness with fewer annotations", SELF (dropout disagreement).
Deviations: as many points of every class, where the released code takes those of all classes and draws the classes
    equally often; on standardised features, by Adam on all points at once; the held-out set is ``validation``.
Needs: labels of the training and the validation set, no attributes.
"""

import numpy as np

from robustbench_spur import Choice, Stage, Task, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats, scores
from robustbench_spur.methods._self import Self, SelfHyperparameters, divergence


class SelfDropoutDisagreementHyperparameters(SelfHyperparameters):
    """Settings of SELF."""

    rate_of_dropout: float = parameter(
        0.5, "share of the features that is dropped", above=0, below=1, search=Choice((0.5, 0.7, 0.9))
    )


class SelfDropoutDisagreement(Self):
    """SELF by dropout disagreement."""

    name = "self_dropout_disagreement"
    version = 1
    summary = "fine-tunes the last layer where dropout changes the prediction most"
    source = "LaBonte et al. 2023, Last-layer retraining with fewer annotations, SELF"
    needs = ()
    Hyperparameters = SelfDropoutDisagreementHyperparameters

    def views(self, task: Task, model: Stage) -> list[Stage]:
        """The last layer, to drop its inputs."""
        return [task.head(model)]

    def disagreement(self, view: View, outputs: Arrays, *others: Arrays) -> Floats:
        """Divergence of the prediction with dropped features from the whole one."""
        rate, features = self.hyper.rate_of_dropout, outputs["features"].astype(np.float64)
        kept = view.generator().random(features.shape) >= rate
        return divergence(scores(features * kept / (1 - rate), others[0]), outputs["logits"])
