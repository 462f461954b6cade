"""Last layers other than a linear one, made from arrays, and the mean of several models as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from robustbench_spur.networks import Classifier

LINEAR = {"weight": 2, "bias": 1}
MIXTURE = {"weight": 3, "bias": 2}
GATE = {"gate_weight": 2, "gate_bias": 1}
PROTOTYPES = {"prototypes": 3, "temperature": 1}
"""Arrays of each kind of head, with their number of axes."""


class MixtureHead(nn.Module):
    """Log of a mixture of softmaxes over linear layers.

    p(y | f) = sum_k g_k(f) softmax(W_k f + b_k)_y, where g is 1/K, or softmax(V f + c) where the head is gated.

    Args:
        experts: K.
        classes: number of classes.
        features: width of f.
        gated: whether the shares follow from the features.
    """

    def __init__(self, experts: int, classes: int, features: int, *, gated: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, classes, features))
        self.bias = nn.Parameter(torch.zeros(experts, classes))
        self.gate_weight = nn.Parameter(torch.zeros(experts, features)) if gated else None
        self.gate_bias = nn.Parameter(torch.zeros(experts)) if gated else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log probabilities, shape (b, classes)."""
        logits = torch.einsum("bf,kcf->bkc", features, self.weight) + self.bias
        if self.gate_weight is None:
            return mean_of_softmaxes(logits)
        shares = nn.functional.linear(features, self.gate_weight, self.gate_bias).log_softmax(1)
        return (logits.log_softmax(2) + shares[:, :, None]).logsumexp(1)


class PrototypeHead(nn.Module):
    """Log of the mean of K softmaxes over negative distances to prototypes on the unit sphere.

    p(y | f) = mean_k softmax(-t_k || f / |f| - p_ky ||)_y.

    Args:
        experts: K.
        classes: number of classes.
        features: width of f.
    """

    def __init__(self, experts: int, classes: int, features: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.zeros(experts, classes, features))
        self.temperature = nn.Parameter(torch.zeros(experts))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log probabilities, shape (b, classes)."""
        unit = nn.functional.normalize(features, dim=1)
        return mean_of_softmaxes(-self.temperature[:, None] * sphere_distance(unit, self.prototypes))


def sphere_distance(unit: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Euclidean distances of vectors of length 1 to prototypes of length 1.

    Args:
        unit: shape (b, features).
        prototypes: shape (experts, classes, features).

    Returns:
        Shape (b, experts, classes).
    """
    cosine = torch.einsum("bf,kcf->bkc", unit, prototypes)
    # the root has no slope at zero
    return (2 - 2 * cosine).clamp(min=1e-8).sqrt()


def mean_of_softmaxes(logits: torch.Tensor) -> torch.Tensor:
    """Log of the mean probabilities of K members, shape (b, K, classes) to (b, classes)."""
    return logits.log_softmax(2).logsumexp(1) - torch.log(torch.tensor(float(logits.shape[1]), device=logits.device))


def describe_head(arrays: Mapping[str, Any], classes: int, features: int) -> dict[str, Any]:
    """What kind of head some arrays are.

    Args:
        arrays: by name, as ``Task.replace_head`` states.
        classes: number of classes.
        features: width of the features.

    Returns:
        For :func:`make_head`; empty for a linear layer.

    Raises:
        SpurbenchError: names, axes or shapes that make no head.
    """
    axes = {name: array.ndim for name, array in arrays.items()}
    kinds: dict[str, dict[str, int]] = {
        "linear": LINEAR,
        "mixture": MIXTURE,
        "gated mixture": MIXTURE | GATE,
        "prototypes": PROTOTYPES,
    }
    kind = next((kind for kind, names in kinds.items() if names == axes), None)
    if kind is None:
        raise SpurbenchError(f"Expected the arrays of a last layer, such as weight and bias, found axes {axes}.")
    first = arrays["prototypes" if kind == "prototypes" else "weight"]
    experts = () if kind == "linear" else (int(first.shape[0]),)
    expected = {
        "weight": (*experts, classes, features),
        "bias": (*experts, classes),
        "gate_weight": (*experts, features),
        "gate_bias": experts,
        "prototypes": (*experts, classes, features),
        "temperature": experts,
    }
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise SpurbenchError(
                f"Expected a last layer's {name} of shape {expected[name]}, found {tuple(array.shape)}."
            )
    return {"kind": kind, "experts": experts[0]} if experts else {}


def make_head(about: Mapping[str, Any], classes: int, features: int) -> nn.Module:
    """A head of the kind that :func:`describe_head` gave, with weights yet to be loaded."""
    if about["kind"] == "prototypes":
        return PrototypeHead(int(about["experts"]), classes, features)
    return MixtureHead(int(about["experts"]), classes, features, gated=about["kind"] == "gated mixture")


class Ensemble(nn.Module):
    """Several classifiers as one: their features side by side, and the mean of their probabilities.

    Args:
        members: on the same classes.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features of all members, shape (b, sum of widths)."""
        return torch.cat([member.features(images) for member in self.members], dim=1)  # type: ignore[operator]

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Log of the mean probabilities, shape (b, classes)."""
        widths = [int(member.width) for member in self.members]  # type: ignore[arg-type]
        parts = torch.split(features, widths, dim=1)
        logits = [member.head(part) for member, part in zip(self.members, parts, strict=True)]  # type: ignore[operator]
        return mean_of_softmaxes(torch.stack(logits, dim=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Log probabilities of shape (b, classes)."""
        return self.head(self.features(images))
