"""MaskTune: hide what ERM looks at most in every training image, and train on for one epoch, so that other features are found.

1. A model is trained by ERM.
2. In every training image the pixels are masked whose attribution is above the mean of the image's map by more than
   ``deviations`` standard deviations.
3. The model is trained for ``tuning_epochs`` more on the masked images.

Source: Taghanaki et al., NeurIPS 2022 (arXiv 2210.00055), "MaskTune: mitigating spurious correlations by forcing to
    explore", section 3.
Deviations: attributions are gradient times input, smoothed over ``smoothing`` of the width, in place of xGradCAM, which
    needs to know the network's layers; masked pixels are black; the learning rate is the board's constant one.
Needs: labels only.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, Hyperparameters, Share, Stage, Task, Uniform, View, parameter
from robustbench_spur.methods._maps import smoothed
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]


class MaskTuneHyperparameters(Hyperparameters):
    """Settings of MaskTune."""

    tuning_epochs: int = parameter(
        Share(0.05, "epochs"), "epochs on the masked images; the paper has 1", at_least=1, search=Uniform(1, 4)
    )
    deviations: float = parameter(
        2.0, "standard deviations above the map's mean from which a pixel is masked", search=Uniform(0.5, 3.0)
    )
    smoothing: float = parameter(
        0.1,
        "width of the smoothing of maps, as a share of the image's",
        at_least=0,
        at_most=1,
        search=Uniform(0.0, 0.2),
    )


class MaskTune(ERM):
    """ERM, then a short training on masked images."""

    name = "masktune"
    version = 1
    summary = "hides what ERM looks at most, and trains on for an epoch"
    source = "Taghanaki et al. 2022, MaskTune, section 3"
    needs = ()
    Hyperparameters = MaskTuneHyperparameters

    def fit(self, task: Task) -> Stage:
        """Train; mask; train on."""
        model = task.train(ERM())
        masks = task.compute(self.masks, task.attributions(model, "train"), on="train")
        return task.train(self, epochs=self.hyper.tuning_epochs, given=masks, start=model)

    def masks(self, train: View, attributions: Arrays) -> tuple[Arrays, dict[str, Any]]:
        """Which pixels of each training image stay, shape (n, height, width)."""
        maps = smoothed(attributions["maps"], self.hyper.smoothing)
        limit = maps.mean((1, 2)) + self.hyper.deviations * maps.std((1, 2))
        kept = maps <= limit[:, None, None]
        return {"kept": kept}, {"masked_share": float(1 - kept.mean())}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy of the masked images."""
        kept = batch.move(self.tensors["kept"][batch.rows][:, None].to(batch.images.dtype))
        return cross_entropy(model(batch.images * kept), batch.labels)
