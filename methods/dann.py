"""DANN: features from which an adversary cannot read the attribute.

An adversary learns to predict the attribute from the features, by cross-entropy; the features learn to predict the
class and, through a gradient that is reversed and multiplied by a factor growing to ``strength``, to mislead it.
Groups are drawn equally often.

Source: Ganin et al., JMLR 2016 (arXiv 1505.07818), "Domain-adversarial training of neural networks", equations 9 and
    17, and section 5.2.2 (how the factor grows).
Deviations: environments are the attribute's values, all of them labelled; groups are drawn equally
    often, not examples as they come; the adversary learns at the model's rate.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: where label and
    attribute are tied, features that hide the one hide the other.
"""

from robustbench_spur import Choice, Hyperparameters, LogUniform, Sampling, Share, Uniform, View, parameter
from robustbench_spur.methods._adversarial import Adversarial


class DANNHyperparameters(Hyperparameters):
    """Settings of DANN."""

    strength: float = parameter(
        1.0, "largest factor of the reversed gradient", at_least=0, search=LogUniform(1e-2, 1e2)
    )
    width: int = parameter(64, "units of the adversary's hidden layers", at_least=1, search=Choice((32, 64, 256)))
    ramp_epochs: float = parameter(
        Share(1.0, "epochs"), "epochs in which the factor grows", above=0, search=Uniform(1.0, 12.0)
    )


class DANN(Adversarial):
    """ERM against an adversary that reads the attribute."""

    name = "dann"
    version = 1
    summary = "hides the attribute from an adversary that reads the features"
    source = "Ganin et al. 2016, Domain-adversarial training of neural networks, equations 9 and 17"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = DANNHyperparameters

    def sampling(self, train: View) -> Sampling:
        """Every group equally often: else to hide the attribute is to hide the class that is tied to it."""
        return Sampling.balanced(train.groups)
