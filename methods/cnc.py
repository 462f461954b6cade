"""CnC: bring together the features of a class that ERM tells apart, and take apart what it takes for the same.

1. A model is trained by ERM; its predictions stand for the attribute.
2. A new model minimises (1 - ``share``) times the cross-entropy plus ``share`` times a contrastive loss. For an anchor,
   positives have its class and another prediction, negatives another class and its prediction. The loss of an anchor is
   the mean over its positives p of -log(exp(s_p / T) / sum exp(s / T)), where s is the cosine of the features, T the
   ``temperature`` and the sum runs over the anchor's positives and negatives.

Source: Zhang, Sohoni, Zhang, Finn and Re, ICML 2022 (arXiv 2203.01517), "Correct-n-contrast", section 4, algorithm 1 and
    its supervised contrastive loss.
Deviations: anchors, positives and negatives are found in a batch in which every (class, prediction) is drawn equally
    often, in place of batches put together around one anchor; every example that has both is an anchor; the first model
    takes ``id_epochs``, in place of strong weight decay, to keep it from fitting the examples against the shortcut.
Needs: labels only.
"""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from robustbench_spur import (
    Batch,
    Choice,
    Classifier,
    Hyperparameters,
    LogUniform,
    Sampling,
    Share,
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

    id_epochs: int = parameter(
        Share(0.25, "epochs"), "epochs of the first model", at_least=1, search=Choice((1, 2, 3, 4))
    )
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
        first = task.train(ERM(), epochs=self.hyper.id_epochs)
        predicted = task.compute(self.predictions, task.outputs(first, "train"), on="train")
        return task.train(self, given=predicted)

    def predictions(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The predicted class of every training example, shape (n,)."""
        predicted = outputs["logits"].argmax(axis=1)
        wrong = predicted != train.labels
        notes: dict[str, Any] = {"errors_by_class": np.bincount(train.labels[wrong], minlength=train.classes).tolist()}
        if not wrong.any():
            notes["warning"] = "the first model makes no error: there is nothing to contrast"
        return {"predicted": predicted}, notes

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
    """Mean over the anchors, which have a positive and a negative each; 0 where there is none.

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
    anchor = positive.any(1) & negative.any(1)
    # the rows of examples that are no anchors are not masked: a row of -inf alone would have no gradient but NaN
    compared = torch.where(anchor[:, None] & ~(positive | negative), -torch.inf, similar)
    logs = similar - compared.logsumexp(1, keepdim=True)
    means = torch.where(positive, logs, 0.0).sum(1) / positive.sum(1).clamp(min=1)
    return -torch.where(anchor, means, 0.0).sum() / anchor.sum().clamp(min=1)
