"""SELF, random points: fine-tune ERM's last layer on held-out points, drawn at random, a control.

Source: LaBonte, Muthukumar and Kumar, NeurIPS 2023 (arXiv 2309.08534), "Towards last-layer retraining for group
    robustness with fewer annotations", SELF (random).
Deviations: as many points of every class, where the released code takes those of all classes and draws the classes
    equally often; on standardised features, by Adam on all points at once; the held-out set is ``validation``.
Needs: labels of the training and the validation set, no attributes.
"""

from robustbench_spur import View
from robustbench_spur.methods._lastlayer import Arrays, Floats
from robustbench_spur.methods._self import Self, SelfHyperparameters


class SelfRandomHyperparameters(SelfHyperparameters):
    """Settings of SELF."""


class SelfRandom(Self):
    """SELF by random points."""

    name = "self_random"
    version = 1
    summary = "fine-tunes the last layer on random held-out points"
    source = "LaBonte et al. 2023, Last-layer retraining with fewer annotations, SELF"
    needs = ()
    Hyperparameters = SelfRandomHyperparameters

    def disagreement(self, view: View, outputs: Arrays, *others: Arrays) -> Floats:
        """Nothing but chance."""
        return view.generator().random(len(view))
