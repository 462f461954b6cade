"""Domain-independent training: one last layer for each value of the attribute, on shared features; in the test their mean.

In training, the logits of an example come from the layer of its own attribute value. In the test the logits of all
layers are averaged, which is one layer with the mean of the weights. The layers are written as that mean plus
differences that add up to zero.

Source: Wang et al., CVPR 2020 (arXiv 1911.11834), "Towards fairness in visual recognition", section 4.3
    (domain-independent training; sum of the layers' outputs).
Deviations: the mean of the layers in place of their sum, which decides alike and is less certain.
Needs: attributes of the training set, in the loss; examples in every group: the layer of a value with one class is a
    constant.
"""

import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Batch, Classifier, View
from robustbench_spur.methods.erm import ERM


class DomainIndependent(ERM):
    """A last layer for each attribute value."""

    name = "domain_independent"
    version = 1
    summary = "trains one last layer for each attribute value and averages them"
    source = "Wang et al. 2020, Towards fairness in visual recognition, section 4.3"
    needs = ("train_attributes",)
    every_group_in = ("train",)

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """The layers' differences from their mean, before they are centred: small, so that the layers begin apart."""
        outputs = train.classes * len(train.universe.values)
        return {"differences": torch.nn.Linear(model.width, outputs)}

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Cross-entropy of the logits of each example's own layer."""
        features = model.features(batch.images)
        values = len(batch.view.universe.values)
        differences = self.beside["differences"](features).unflatten(1, (values, -1))
        differences = differences - differences.mean(dim=1, keepdim=True)
        own = differences[torch.arange(len(features), device=features.device), batch.attributes]
        return cross_entropy(model.head(features) + own, batch.labels)
