"""CnC, correct-n-contrast: bring together the features of a class that ERM tells apart, and take apart what it takes for the same.

1. A model is trained by ERM; its predictions stand for the attribute.
2. A new model minimises (1 - ``share``) times the cross-entropy plus ``share`` times a contrastive loss. For an anchor,
   positives have its class and another prediction, negatives another class and its prediction: the loss is the mean
   over positives of -log of exp(sim / T) over that plus the negatives', sim being the cosine of the features and T the
   ``temperature``.

Source: Zhang, Sohoni, Zhang, Finn and Re, ICML 2022 (arXiv 2203.01517), "Correct-n-contrast", section 4, equations 5
    and 6, algorithm 1.
Deviations: anchors, positives and negatives are those of a batch in which every (class, prediction) is drawn equally
    often, in place of batches put together around one anchor; the loss is one-sided.
Needs: labels only.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Sampling,
    Stage,
    Task,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods._inferred import Arrays
from robustbench_spur.methods.erm import ERM


class CnCHyperparameters(Hyperparameters):
    """Settings of CnC."""

    share: float = parameter(0.75, "weight of the contrastive loss", at_least=0, at_most=1, search=Uniform(0.3, 0.9))
    temperature: float = parameter(0.1, "T: of the similarities", above=0, search=LogUniform(0.03, 1.0))


class CnC(ERM):
    """ERM with a contrast between what an earlier model confuses."""

    name = "cnc"
    version = 1
    summary = "contrasts examples of a class that ERM tells apart, and of two that it confuses"
    source = "Zhang et al. 2022, Correct-n-contrast, algorithm 1"
    needs = ()
    Hyperparameters = CnCHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; take its predictions; train with the contrast."""
        predicted = task.compute(self.predictions, task.outputs(task.train(ERM()), "train"), on="train")
        return task.train(self, given=predicted)

    def predictions(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The predicted class of every training example, shape (n,)."""
        predicted = outputs["logits"].argmax(axis=1)
        return {"predicted": predicted}, {"errors": int((predicted != train.labels).sum())}

    def sampling(self, train: View) -> Sampling:
        """Every (class, prediction) that occurs equally often."""
        return Sampling.balanced(train.labels * train.classes + self.given["predicted"])

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy and contrast."""
        features = model.features(batch.images)
        predicted = self.tensors["predicted"][batch.rows]
        contrast = correct_contrast(features, batch.labels, predicted, self.hyper.temperature)
        share: float = self.hyper.share
        return (1 - share) * cross_entropy(model.head(features), batch.labels) + share * contrast


def correct_contrast(
    features: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Mean over anchors and their positives; 0 where no anchor has any.

    Args:
        features: shape (b, width).
        labels: class codes, shape (b,).
        predicted: what stands for the attribute, shape (b,).
        temperature: of the similarities.
    """
    unit = normalize(features, dim=1)
    similar = unit @ unit.T / temperature
    same_label, same_guess = labels[:, None] == labels[None], predicted[:, None] == predicted[None]
    positive, negative = same_label & ~same_guess, ~same_label & same_guess
    rest = torch.where(negative, similar, -torch.inf).logsumexp(1, keepdim=True)
    each = torch.logaddexp(similar, rest) - similar
    chosen = positive & negative.any(1, keepdim=True)
    return torch.where(chosen, each, 0.0).sum() / chosen.sum().clamp(min=1)
