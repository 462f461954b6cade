"""RWG: draw the training examples so that every group comes equally often.

An example of group g is drawn, with replacement, with a probability in proportion to 1 / n_g, where n_g is the group's
number of training examples.

Source: Idrissi, Arjovsky, Pezeshki and Lopez-Paz, CLeaR 2022 (arXiv 2110.14503), "Simple data balancing achieves
    competitive worst-group-accuracy", section 3; also called group resampling (ReSample).
Deviations: none known.
Needs: group labels of the training set, in the sampling; examples in every group.
"""

from robustbench_spur import Sampling, View
from robustbench_spur.methods.erm import ERM


class RWG(ERM):
    """ERM on groups that are drawn equally often."""

    name = "rwg"
    version = 1
    summary = "draws every group equally often"
    source = "Idrissi et al. 2022, Simple data balancing, section 3"
    needs = ("train_attributes",)
    every_group_in = ("train",)

    def sampling(self, train: View) -> Sampling:
        """Every group that has examples equally often."""
        return Sampling.balanced(train.groups)
