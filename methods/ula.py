"""uLA: a network that never saw labels shows what is easy; the logits are adjusted for what it tells of the class.

1. A network learns for ``contrast_epochs`` without labels: two changed views of an image are to have similar
   projections, and those of different images not (temperature ``contrast_temperature``).
2. A linear probe of its features predicts the class; b is its prediction. P(y | b) are the frequencies in the training
   set.
3. A new model minimises the cross-entropy of its logits + ``tau`` log P(y | b), and predicts without the second term.

Source: Tsirigotis, Monteiro, Rodriguez, Vazquez and Courville, NeurIPS 2023 (arXiv 2310.18555), "Group robust
    classification without any group information": the biased network and the adjusted loss; contrastive loss: Chen et
    al., ICML 2020 (arXiv 2002.05709), "A simple framework for contrastive learning", equation 1.
Deviations: SimCLR in place of MoCo-v2+, for a share of the board's budget, with views that differ in contrast, a flip
    and a blanked square (one place for a batch), not in crops, colours or blur; frequencies are counted once, not
    averaged along the training; one example of every (y, b) is added, so that no logarithm is infinite.
Needs: labels only.
"""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy, normalize

from robustbench_spur import (
    Batch,
    Classifier,
    Hyperparameters,
    LogUniform,
    Share,
    Stage,
    Task,
    Uniform,
    View,
    parameter,
)
from robustbench_spur.methods._inferred import Arrays
from robustbench_spur.methods._lastlayer import Scale
from robustbench_spur.methods._mri import between, contrast, flipped
from robustbench_spur.methods.erm import ERM


class ULAHyperparameters(Hyperparameters):
    """Settings of uLA."""

    tau: float = parameter(1.0, "factor of the adjustment", at_least=0, search=Uniform(0.5, 2.0))
    contrast_epochs: int = parameter(Share(0.25, "epochs"), "epochs without labels", at_least=1, search=Uniform(1, 6))
    contrast_temperature: float = parameter(
        0.2, "temperature of the similarities", above=0, search=LogUniform(0.05, 1.0)
    )


class ULA(ERM):
    """Logit adjustment by a probe of an unsupervised network."""

    name = "ula"
    version = 1
    summary = "adjusts the logits for what a network without labels tells of the class"
    source = "Tsirigotis et al. 2023, Group robust classification without any group information"
    needs = ()
    Hyperparameters = ULAHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train without labels; probe; train with adjusted logits."""
        blind = task.train(self, phase="contrast", epochs=self.hyper.contrast_epochs)
        offsets = task.compute(self.offsets, task.outputs(blind, "train", features=True), on="train")
        return task.train(self, given=offsets)

    def offsets(self, train: View, outputs: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Log P(y | b) of each example's b, shape (n, classes)."""
        features = Scale(outputs["features"]).to(outputs["features"])
        if len(np.unique(train.labels)) < 2:
            return {"offsets": np.zeros((len(train), train.classes), np.float32)}, {}
        guess = LogisticRegression(C=1.0, max_iter=1000).fit(features, train.labels).predict(features)
        counts = np.ones((train.classes, train.classes))
        np.add.at(counts, (guess, train.labels), 1)
        logs = np.log(counts / counts.sum(axis=1, keepdims=True))
        accuracy = float((guess == train.labels).mean())
        return {"offsets": logs[guess].astype(np.float32)}, {"probe_accuracy": accuracy}

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The projection of the training without labels."""
        if self.phase != "contrast":
            return {}
        width = model.width
        return {
            "projection": torch.nn.Sequential(
                torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 64)
            )
        }

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The contrastive loss, or the cross-entropy of the adjusted logits."""
        if self.phase != "contrast":
            return cross_entropy(
                model(batch.images) + self.hyper.tau * self.tensors["offsets"][batch.rows], batch.labels
            )
        views = torch.cat([self.view_of(batch.images), self.view_of(batch.images)])
        projected = self.beside["projection"](model.features(views.contiguous(memory_format=torch.channels_last)))
        return contrastive(projected, self.hyper.contrast_temperature)

    def view_of(self, images: torch.Tensor) -> torch.Tensor:
        """The images changed: contrast, a flip, and a blanked square."""
        changed = flipped(contrast(images, torch.exp(between(-0.2, 0.2, images))), 3).clone()
        side = max(1, images.shape[-1] // 4)
        place = torch.randint(0, images.shape[-1] - side + 1, (2,)).tolist()
        changed[..., place[0] : place[0] + side, place[1] : place[1] + side] = 0
        return changed


def contrastive(projected: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean over all views of -log of the softmax of their cosine similarity to the other view of their image among all others.

    Args:
        projected: first views, then second ones, shape (2 b, width).
        temperature: of the similarities.
    """
    unit = normalize(projected, dim=1)
    similar = unit @ unit.T / temperature
    similar = similar.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -1e9)
    other = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return cross_entropy(similar, other)
