"""RWY: draw the training examples so that every class comes equally often.

An example of class y is drawn, with replacement, with a probability in proportion to 1 / n_y.

Source: Idrissi, Arjovsky, Pezeshki and Lopez-Paz, CLeaR 2022 (arXiv 2110.14503), "Simple data balancing achieves
    competitive worst-group-accuracy", section 3.
Deviations: none known.
Needs: labels only.
"""

from robustbench_spur import Sampling, View
from robustbench_spur.methods.erm import ERM


class RWY(ERM):
    """ERM on classes that are drawn equally often."""

    name = "rwy"
    version = 1
    summary = "draws every class equally often"
    source = "Idrissi et al. 2022, Simple data balancing, section 3"
    needs = ()

    def sampling(self, train: View) -> Sampling:
        """Every class that has examples equally often."""
        return Sampling.balanced(train.labels)
