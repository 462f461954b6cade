"""LISA: blend images of one class with different attributes, or of one attribute with different classes.

For every image, with probability ``intra_label`` the partner has the same label and another attribute value, so that
the attribute becomes noise under a fixed label; else it has the same value and another label. The blend is mixup's,
with shares from Beta(alpha, alpha).

Source: Yao et al., ICML 2022 (arXiv 2201.00299), "Improving out-of-distribution robustness via selective augmentation",
    section 3 and algorithm 1.
Deviations: partners are looked for in the batch, which is drawn with all groups equally often; an image that has none
    there stays as it is; which of the two kinds of partner is drawn for every image (in the released code for every
    batch); always mixup, not CutMix.
Needs: group labels of the training set, in the loss and in the sampling; examples in every group.
"""

import torch

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Sampling, Uniform, View, parameter
from robustbench_spur.methods._mixing import beta_share, blend, mixed_loss, random_partner
from robustbench_spur.methods.erm import ERM


class LISAHyperparameters(Hyperparameters):
    """Settings of LISA."""

    alpha: float = parameter(2.0, "of the Beta distribution of shares", above=0, search=LogUniform(0.1, 10.0))
    intra_label: float = parameter(
        0.5, "probability of a partner with the same label", at_least=0, at_most=1, search=Uniform(0.0, 1.0)
    )


class LISA(ERM):
    """Mixup of selected pairs."""

    name = "lisa"
    version = 1
    summary = "blends images of one class across attributes, and of one attribute across classes"
    source = "Yao et al. 2022, Improving out-of-distribution robustness via selective augmentation, algorithm 1"
    needs = ("train_attributes",)
    every_group_in = ("train",)
    Hyperparameters = LISAHyperparameters

    def sampling(self, train: View) -> Sampling:
        """Every group equally often, so that partners are found."""
        return Sampling.balanced(train.groups)

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Mixed cross-entropy of the selected pairs."""
        labels, attributes = batch.labels, batch.attributes
        same_label = labels[:, None] == labels[None]
        same_value = attributes[:, None] == attributes[None]
        within = torch.rand(len(labels), 1, device=labels.device) < self.hyper.intra_label
        partner, found = random_partner(torch.where(within, same_label & ~same_value, ~same_label & same_value))
        share = torch.where(found, beta_share(self.hyper.alpha, len(labels), batch.images.device), 1.0)
        return mixed_loss(model(blend(batch.images, partner, share)), labels, partner, share)
