"""PGI: within each class, the same mean prediction at every value of the attribute.

Minimises the cross-entropy plus ``strength`` times the mean over classes y and pairs of attribute values (a, b) of
KL(m_ya || m_yb), where m_ya is the mean of the predicted probabilities over the batch's examples of class y and value
a.

Source: Ahmed, Bengio, van Seijen and Courville, ICLR 2021, "Systematic generalisation with group invariant
    predictions", equations 3 and 4.
Deviations: groups are the attribute's values, not inferred ones; all ordered pairs of values, so both directions of the
    divergence; groups are drawn equally often; the weight grows linearly over ``ramp_epochs``.
Needs: group labels of the training set, in the loss and in the sampling; examples in every group: a class with one
    value has nothing to compare.
"""

import torch
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Sampling, Share, Uniform, View, parameter
from robustbench_spur.methods.erm import ERM


class PGIHyperparameters(Hyperparameters):
    """Settings of PGI."""

    strength: float = parameter(1.0, "weight of the divergence", at_least=0, search=LogUniform(1e-2, 1e2))
    ramp_epochs: float = parameter(
        Share(0.25, "epochs"), "epochs in which the weight grows from 0", at_least=0, search=Uniform(0.0, 6.0)
    )


class PGI(ERM):
    """ERM plus the divergence of mean predictions between attribute values."""

    name = "pgi"
    version = 1
    summary = "matches the mean predictions of a class at all attribute values"
    source = "Ahmed et al. 2021, Systematic generalisation with group invariant predictions, equations 3 and 4"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = PGIHyperparameters

    def sampling(self, train: View) -> Sampling:
        """Every group equally often."""
        return Sampling.balanced(train.groups)

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy plus the weighted divergence."""
        logits = model(batch.images)
        ramp = min(1.0, batch.epoch / self.hyper.ramp_epochs) if self.hyper.ramp_epochs else 1.0
        shape = len(batch.view.universe.classes), len(batch.view.universe.values)
        divergence = between_groups(logits.softmax(1), batch.groups, shape)
        return cross_entropy(logits, batch.labels) + ramp * self.hyper.strength * divergence


def between_groups(probabilities: torch.Tensor, groups: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Mean of KL(m_ya || m_yb) over the classes and pairs of values that have examples.

    Args:
        probabilities: shape (b, classes).
        groups: shape (b,).
        shape: number of classes and of attribute values.
    """
    classes, values = shape
    member = one_hot(groups, classes * values).to(probabilities.dtype)
    sizes = member.sum(0)
    means = (member.T @ probabilities / sizes.clamp(min=1)[:, None]).reshape(classes, values, -1)
    there = (sizes > 0).reshape(classes, values)
    logs = means.clamp(min=1e-12).log()
    divergence = (means[:, :, None] * (logs[:, :, None] - logs[:, None])).sum(-1)
    pairs = there[:, :, None] & there[:, None] & ~torch.eye(values, dtype=torch.bool, device=groups.device)
    return (divergence * pairs).sum() / pairs.sum().clamp(min=1)
