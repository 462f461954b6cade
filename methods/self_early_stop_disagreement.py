"""SELF, early-stop disagreement: fine-tune ERM's last layer where a briefly trained model differs most from the final one.

Source: LaBonte, Muthukumar and Kumar, NeurIPS 2023 (arXiv 2309.08534), "Towards last-layer retraining for group
    robustness with fewer annotations", SELF (early-stop disagreement).
Deviations: as many points of every class, where the released code takes those of all classes and draws the classes
    equally often; on standardised features, by Adam on all points at once; the held-out set is ``validation``.
Needs: labels of the training and the validation set, no attributes.
"""

from robustbench_spur import Choice, Share, Stage, Task, View, parameter
from robustbench_spur.methods._lastlayer import Arrays, Floats
from robustbench_spur.methods._self import Self, SelfHyperparameters, divergence
from robustbench_spur.methods.erm import ERM


class SelfEarlyStopDisagreementHyperparameters(SelfHyperparameters):
    """Settings of SELF."""

    early_epochs: int = parameter(
        Share(0.1, "epochs"), "epochs of the briefly trained model", at_least=1, search=Choice((1, 2, 5))
    )


class SelfEarlyStopDisagreement(Self):
    """SELF by early-stop disagreement."""

    name = "self_early_stop_disagreement"
    version = 1
    summary = "fine-tunes the last layer where a briefly trained model disagrees"
    source = "LaBonte et al. 2023, Last-layer retraining with fewer annotations, SELF"
    needs = ()
    Hyperparameters = SelfEarlyStopDisagreementHyperparameters

    def views(self, task: Task, model: Stage) -> list[Stage]:
        """What the briefly trained model says: the beginning of the same run."""
        return [task.outputs(task.train(ERM(), epochs=self.hyper.early_epochs), "validation")]

    def disagreement(self, view: View, outputs: Arrays, *others: Arrays) -> Floats:
        """Divergence of the early prediction from the final one."""
        return divergence(others[0]["logits"], outputs["logits"])
