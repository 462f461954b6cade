"""CDANN: features from which an adversary that knows the class cannot read the attribute.

As DANN, but the adversary gets the class beside the features, and attribute values are equally likely within each
class, so that features may keep what the attribute tells about the class and have to lose only what it tells within
one.

Source: Li et al., ECCV 2018, "Deep domain generalization via conditional invariant adversarial networks", section 3;
    the reversed gradient is Ganin et al. 2016's.
Deviations: one adversary with the class as input in place of one for each class; no prior-normalised second loss, whose
    part the sampling takes.
Needs: attributes of the training set, in the loss and in the sampling; examples in every group: where a class has one
    value only there is nothing to hide within it.
"""

from robustbench_spur import Choice, Hyperparameters, LogUniform, Sampling, Share, Uniform, View, parameter
from robustbench_spur.methods._adversarial import Adversarial


class CDANNHyperparameters(Hyperparameters):
    """Settings of CDANN."""

    strength: float = parameter(
        1.0, "largest factor of the reversed gradient", at_least=0, search=LogUniform(1e-2, 1e2)
    )
    width: int = parameter(64, "units of the adversary's hidden layers", at_least=1, search=Choice((32, 64, 256)))
    ramp_epochs: float = parameter(
        Share(1.0, "epochs"), "epochs in which the factor grows", above=0, search=Uniform(1.0, 12.0)
    )


class CDANN(Adversarial):
    """ERM against an adversary that reads the attribute and knows the class."""

    name = "cdann"
    version = 1
    summary = "hides the attribute within classes from an adversary that reads the features"
    source = "Li et al. 2018, Conditional invariant adversarial networks, section 3"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = CDANNHyperparameters
    conditional = True

    def sampling(self, train: View) -> Sampling:
        """Every group equally often."""
        return Sampling.balanced(train.groups)
