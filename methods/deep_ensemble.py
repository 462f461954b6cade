"""Deep ensemble: the mean of the probabilities of several models that differ in their seeds, trained by any method.

Member k of the cell with seed s is the model of the method ``base`` with seed s M + k, M being ``members``: the
ensembles of different seeds share no member, and the members of seed 0 are the cells of the base method with seeds 0 to
M - 1.

Source: Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017 (arXiv 1612.01474), "Simple and scalable predictive
    uncertainty estimation using deep ensembles", section 2.4, algorithm 1 without adversarial training.
Deviations: 3 members by default, the seeds that a board asks for, in place of 5; the base has its default settings.
Needs: what the base method needs.
"""

from robustbench_spur import Choice, Hyperparameters, Method, Stage, Task, parameter


class DeepEnsembleHyperparameters(Hyperparameters):
    """Settings of the ensemble."""

    base: str = parameter("erm", "name of the method whose models are averaged")
    members: int = parameter(3, "number of models", at_least=2, search=Choice((3, 5)))


class DeepEnsemble(Method):
    """The mean of several models of another method."""

    name = "deep_ensemble"
    version = 1
    summary = "averages the probabilities of models of several seeds, of any method"
    source = "Lakshminarayanan et al. 2017, Deep ensembles, section 2.4"
    needs = ()
    wraps = "base"
    Hyperparameters = DeepEnsembleHyperparameters

    def fit(self, task: Task) -> Stage:
        """The base's models, averaged."""
        count = self.hyper.members
        return task.average(
            [self.wrapped.fit(task.derive(self.wrapped, seed=task.seed * count + k)) for k in range(count)]
        )
