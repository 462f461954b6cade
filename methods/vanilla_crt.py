"""VanillaCRT: keep ERM's features and train a new last layer, with the examples as they come: a control.

The last layer begins anew and minimises the cross-entropy by Adam on batches of standardised features.

Source: Kang et al., ICLR 2020 (arXiv 1910.09217), "Decoupling representation and classifier for long-tailed
    recognition", section 4 (cRT), on groups as in Yang et al., ICML 2023, "Change is hard".
Deviations: the features are those of the images without augmentation, computed once; passes are of the features.
Needs: labels only.
"""

from robustbench_spur.methods._retrained import Retrained, RetrainedHyperparameters


class VanillaCRTHyperparameters(RetrainedHyperparameters):
    """Settings of the second training."""


class VanillaCRT(Retrained):
    """A new last layer, examples as they come."""

    name = "vanilla_crt"
    version = 1
    summary = "trains a new last layer on ERM's features, examples as they are"
    source = "Kang et al. 2020, Decoupling representation and classifier, section 4"
    needs = ()
    every_group_in = ()
    Hyperparameters = VanillaCRTHyperparameters
