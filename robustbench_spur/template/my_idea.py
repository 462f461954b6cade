"""TODO: one sentence on what the method does to plain training. Here: it rewards answers that are not too certain.

TODO: the equation in words, its symbols bound to the names of the settings. Here: minimises the mean over the batch of
-log p(y_i | x_i) - beta H(p(. | x_i)), where H is the entropy in nats and beta is ``strength``.

Source: TODO: paper, section, equation or algorithm. Here: Pereyra et al. 2017, "Regularizing neural networks by penalizing
    confident output distributions", section 3.
Deviations: TODO: from the source, or "none known". Here: none known.
Needs: TODO: which annotations it sees, and when. Here: labels only.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Method, parameter


class MyIdeaHyperparameters(Hyperparameters):
    """Settings; defaults are the paper's. TODO: one field each, with its meaning, unit and bounds, and what a tuner may try."""

    strength: float = parameter(
        0.1,
        "beta, weight of the mean entropy",
        at_least=0,
        search=LogUniform(1e-3, 1.0),
    )


class MyIdea(Method):
    """TODO: what it is, in a line."""

    # literals only: `list` and `describe` read them without running this file
    name = "my_idea"
    version = 1  # TODO: raise it whenever its numbers can change
    summary = "TODO: one line for `spurbench list`"
    source = "TODO: paper, section, equation or algorithm"
    # TODO: ("train_attributes",) for batch.groups and batch.attributes: they decide the track it is ranked on
    needs = ()
    # TODO: ("train",) where it is not itself unless every declared group has training examples
    every_group_in = ()
    Hyperparameters = MyIdeaHyperparameters

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the batch less the reward for entropy, in nats; no ``.item()``, which waits for the device."""
        logits = model(batch.images)
        log_p = logits.log_softmax(dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        reward: torch.Tensor = self.hyper.strength * entropy.mean()
        return cross_entropy(logits, batch.labels) - reward

    # TODO: delete what follows, or use it. Everything here has a default; import what it names from robustbench_spur.
    #
    # How the training set is drawn. Here: every class equally often.
    # def sampling(self, train: View) -> Sampling | None:
    #     return Sampling.balanced(train.labels)
    #
    # Tensors that the loss updates from batch to batch, by name; the loop moves, saves and restores them.
    # def start(self, train: View) -> None:
    #     self.state["running"] = torch.zeros(train.classes)
    #
    # Networks that are trained beside the model and left behind afterwards; the loss finds them in self.beside.
    # def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
    #     return {"critic": torch.nn.Linear(train.classes, 2)}
    #
    # Another network: an input transform as model.front, or another model.head.
    # def prepare(self, model: Classifier) -> None:
    #     model.front = torch.nn.AvgPool2d(3, stride=1, padding=1)
    #
    # Several stages. It computes nothing: it says which stages there are, so that shared ones are computed once.
    # def fit(self, task: Task) -> Stage:
    #     return task.train(self)
