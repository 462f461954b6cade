"""LLE, last-layer ensemble: one last layer for each change that would break a shortcut, and a layer that says which to use.

On ERM's frozen features of the images changed in way k (k = 0: not at all; contrast and noise as between scanners;
turned over along an axis; a patch of the border blanked) a last layer W_k is trained, and with all of them a layer that
tells from the features which change it was. The model's probabilities are the mean of those of the W_k, weighted by
what that layer says.

Source: Li et al., CVPR 2023 (arXiv 2212.04825), "A Whac-A-Mole dilemma" (last layer ensemble).
Deviations: the mean is of probabilities, where the released code has that of logits; the changes are for MR images; the
    features are ERM's, where the paper's are of a large pre-trained model; the layers are trained for ``layer_epochs``
    by the board's optimiser.
Needs: labels only; but to know what the shortcut could be.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, Share, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._lastlayer import Arrays
from robustbench_spur.methods._mri import between, contrast, flipped, rician
from robustbench_spur.methods.erm import ERM


class LLEHyperparameters(Hyperparameters):
    """Settings of LLE."""

    layer_epochs: int = parameter(Share(0.25, "epochs"), "epochs of the last layers", at_least=1, search=Uniform(1, 6))
    noise: float = parameter(0.08, "largest standard deviation of the noise", at_least=0, search=Uniform(0.0, 0.15))
    contrast: float = parameter(0.4, "largest absolute logarithm of the exponent", at_least=0, search=Uniform(0.0, 0.6))


class LLE(ERM):
    """An ensemble of last layers for changed images."""

    name = "lle"
    version = 1
    summary = "trains a last layer for each change that breaks a shortcut, and weighs them"
    source = "Li et al. 2023, A Whac-A-Mole dilemma, last layer ensemble"
    needs = ("shortcut",)
    Hyperparameters = LLEHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train by ERM; train the layers on its features; put them in the last layer's place."""
        model = task.train(ERM())
        layers = task.train(self, epochs=self.hyper.layer_epochs, start=model, only_head=True)
        return task.replace_head(model, task.compute(self.mixture, layers, on="train"))

    def mixture(self, train: View, state: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """The trained layers, as the head of a mixture: as they were before the last step."""
        return dict(state), {}

    def changed(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The images, each as it is and in each of the ways."""
        scanner = contrast(images, torch.exp(between(-self.hyper.contrast, self.hyper.contrast, images)))
        scanner = rician(scanner, between(0, self.hyper.noise, images))
        width = max(1, images.shape[-1] // 8)
        blanked = images.clone()
        blanked[..., :width, :width] = 0
        return [images, scanner, flipped(images, 2).flip(3), blanked]

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """A last layer for each change, side by side, and the one that tells the changes apart."""
        ways = len(self.changed(torch.zeros(1, 1, 8, 8)))
        return {
            "layers": torch.nn.Linear(model.width, ways * train.classes),
            "gate": torch.nn.Linear(model.width, ways),
        }

    def start(self, train: View) -> None:
        """What is kept are the layers."""
        self._keep(train.classes)

    def _keep(self, classes: int) -> None:
        layers, gate = self.beside["layers"], self.beside["gate"]
        self.state = {
            "weight": layers.weight.detach().clone().unflatten(0, (-1, classes)),
            "bias": layers.bias.detach().clone().unflatten(0, (-1, classes)),
            "gate_weight": gate.weight.detach().clone(),
            "gate_bias": gate.bias.detach().clone(),
        }

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Each layer's cross-entropy on its own images, and that of telling the ways apart."""
        self._keep(batch.view.classes)
        whole = batch.images.new_zeros(())
        for way, images in enumerate(self.changed(batch.images)):
            with torch.no_grad():
                features = model.features(images.contiguous(memory_format=torch.channels_last))
            own = self.beside["layers"](features).unflatten(1, (-1, batch.view.classes))[:, way]
            told = cross_entropy(self.beside["gate"](features), torch.full_like(batch.labels, way))
            whole = whole + cross_entropy(own, batch.labels) + told
        return whole
