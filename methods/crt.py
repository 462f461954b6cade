"""CRT: keep ERM's features and train a new last layer, with all groups drawn equally often.

The last layer begins anew and minimises the cross-entropy by Adam on batches of standardised features.

Source: Kang et al., ICLR 2020 (arXiv 1910.09217), "Decoupling representation and classifier for long-tailed
    recognition", section 4 (cRT), on groups as in Yang et al., ICML 2023, "Change is hard".
Deviations: the features are those of the images without augmentation, computed once; passes are of the features.
Needs: group labels of the training set; examples in every group.
"""

from robustbench_spur import View
from robustbench_spur.methods._lastlayer import Floats
from robustbench_spur.methods._retrained import Retrained, RetrainedHyperparameters, inverse_sizes


class CRTHyperparameters(RetrainedHyperparameters):
    """Settings of the second training."""


class CRT(Retrained):
    """A new last layer, all groups drawn equally often."""

    name = "crt"
    version = 1
    summary = "trains a new last layer on ERM's features, all groups equally often"
    source = "Kang et al. 2020, Decoupling representation and classifier, section 4"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = CRTHyperparameters

    def draws(self, train: View) -> Floats:
        """Every group equally often."""
        return inverse_sizes(train.groups)
