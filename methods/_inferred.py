"""GroupDRO on groups that an earlier stage inferred: what the methods share that find groups without being told any.

The stage named by ``given`` has the array ``groups``: codes from 0, shape (n,), one for each row trained on. A code that no
example has is an empty group, which weighs nothing.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, one_hot

from robustbench_spur import Batch, Classifier, Hyperparameters, LogUniform, Sampling, View, parameter
from robustbench_spur.methods.erm import ERM

Arrays = dict[str, NDArray[Any]]


def class_parts(labels: NDArray[np.int64], parts: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Groups of (class, part), with codes without gaps, and what the record says of them.

    Args:
        labels: class codes, shape (n,).
        parts: part of each example within its class, codes from 0, shape (n,).

    Returns:
        Codes in the order of the class, then of the part, shape (n,); and notes: the number of examples of each part of each
        class that has any.

    >>> codes, notes = class_parts(np.array([0, 0, 1, 1, 1]), np.array([0, 3, 1, 1, 1]))
    >>> codes.tolist(), notes
    ([0, 1, 2, 2, 2], {'inferred_group_sizes': {'class 0': [1, 1], 'class 1': [3]}})
    """
    pairs, codes = np.unique(np.stack([labels, parts], axis=1), axis=0, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    counts = np.bincount(codes, minlength=len(pairs))
    sizes = {f"class {label}": counts[pairs[:, 0] == label].tolist() for label in np.unique(labels)}
    return codes, {"inferred_group_sizes": sizes}


class InferredHyperparameters(Hyperparameters):
    """The setting of GroupDRO that its users need; the default is that of its paper."""

    eta: float = parameter(0.01, "step size of the groups' weights", above=0, search=LogUniform(1e-3, 1e-1))


class InferredGroupDRO(ERM):
    """GroupDRO on inferred groups; a subclass has the setting ``eta``, the step size of the groups' weights."""

    def start(self, train: View) -> None:
        """Equal weights of the groups that have examples, none of the others."""
        counts = torch.from_numpy(np.bincount(self.given["groups"]))
        self.state["weights"] = torch.where(counts > 0, 1 / int((counts > 0).sum()), 0.0)

    def sampling(self, train: View) -> Sampling:
        """Every inferred group equally often."""
        return Sampling.balanced(self.given["groups"])

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The weighted sum of the groups' mean losses, after the step on the weights."""
        return self.robust(cross_entropy(model(batch.images), batch.labels, reduction="none"), batch)

    def robust(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The same from the losses of the examples, shape (b,)."""
        weights = self.state["weights"]
        member = one_hot(self.tensors["groups"][batch.rows].long(), len(weights)).to(losses.dtype)
        # a group that is absent from the batch has a loss of 0: its weight stays as it is until the normalisation
        means = (losses @ member) / member.sum(dim=0).clamp(min=1)
        grown = weights * torch.exp(self.hyper.eta * means.detach())
        self.state["weights"] = grown / grown.sum()
        return self.state["weights"] @ means
