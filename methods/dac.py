"""DaC, decompose and compose: fit the last layer again on images that join one image's object with another's background.

1. A model is trained by ERM. Of every training image the pixels with the largest attributions are its object (the share
   ``object_share``), the rest its background; the images whose loss is among the lowest ``low_loss`` share serve as
   examples.
2. The last layer alone is trained on for ``tuning_epochs``, on the cross-entropy of the images, plus ``alpha`` times
   that of images in which the object stands on a background of a batch mean, plus ``alpha`` times that of the object on
   the background of an image of another class. The label is the object's.

Source: Noohdani et al., CVPR 2024 (arXiv 2402.18919), "Decompose-and-Compose", section 4.
Deviations: attributions are gradient times input, smoothed, in place of xGradCAM; one share of pixels for all images,
    where the paper finds each image's by the knee of its loss; the cut leaves a global cue in both parts: the method is
    for local ones.
Needs: labels only.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from robustbench_spur import (
    Batch,
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
from robustbench_spur.methods._maps import smoothed
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]


class DaCHyperparameters(Hyperparameters):
    """Settings of DaC."""

    alpha: float = parameter(10.0, "weight of the composed images", at_least=0, search=LogUniform(0.1, 100.0))
    object_share: float = parameter(
        0.3, "share of an image's pixels that is its object", above=0, below=1, search=Uniform(0.2, 0.7)
    )
    low_loss: float = parameter(
        0.6, "share of each class, of lowest loss, that is trained on", above=0, at_most=1, search=Uniform(0.3, 1.0)
    )
    tuning_epochs: int = parameter(
        Share(0.5, "epochs"), "epochs of the last layer; the paper has 20", at_least=1, search=Uniform(2, 12)
    )
    smoothing: float = parameter(
        0.1, "width of the smoothing of maps, as a share of the image's", at_least=0, at_most=1
    )


class DaC(ERM):
    """The last layer, trained on composed images."""

    name = "dac"
    version = 1
    summary = "fits the last layer on objects pasted onto other images' backgrounds"
    source = "Noohdani et al. 2024, Decompose-and-Compose, section 4"
    needs = ()
    Hyperparameters = DaCHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; decompose; train the last layer on compositions."""
        model = task.train(ERM())
        parts = task.compute(
            self.decompose, task.attributions(model, "train"), task.outputs(model, "train"), on="train"
        )
        return task.train(self, epochs=self.hyper.tuning_epochs, given=parts, start=model, only_head=True)

    def decompose(self, train: View, attributions: Arrays, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The object of each image, shape (n, height, width), and which images have a low loss."""
        maps = smoothed(attributions["maps"], self.hyper.smoothing)
        limit = np.quantile(maps.reshape(len(maps), -1), 1 - self.hyper.object_share, axis=1)
        logits = torch.from_numpy(outputs["logits"])
        losses = cross_entropy(logits, torch.from_numpy(train.labels), reduction="none").numpy()
        low = np.zeros(len(losses), bool)
        for label in np.unique(train.labels):
            rows = np.flatnonzero(train.labels == label)
            low[rows[np.argsort(losses[rows], kind="stable")[: max(1, int(self.hyper.low_loss * len(rows)))]]] = True
        return {"object": maps > limit[:, None, None], "low": low}, {"low_loss_images": int(low.sum())}

    def sampling(self, train: View) -> Sampling:
        """Images of low loss only."""
        return Sampling(repeats=self.given["low"].astype(np.int64))

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy of the images, of their objects alone, and of their objects elsewhere."""
        cut = batch.move(self.tensors["object"][batch.rows][:, None].to(batch.images.dtype))
        alone = cut * batch.images + (1 - cut) * batch.images.mean(dim=0, keepdim=True)
        partner, found = partners(batch.labels)
        elsewhere = cut * batch.images + (1 - cut) * batch.images[partner]
        losses = [
            cross_entropy(model(images), batch.labels, reduction="none") for images in (batch.images, alone, elsewhere)
        ]
        composed = (losses[2] * found).sum() / found.sum().clamp(min=1)
        alpha: float = self.hyper.alpha
        return losses[0].mean() + alpha * (losses[1].mean() + composed)


def partners(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each example a random one of another class, shape (b,), and whether there is one, shape (b,)."""
    other = labels[:, None] != labels[None, :]
    chance = torch.where(other, torch.rand(other.shape, device=labels.device), -1.0)
    return chance.argmax(dim=1), other.any(dim=1).float()
