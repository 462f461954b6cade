"""Networks: timm's backbones by name, a small one of the project's own, normalisation inside."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustbench_spur.types import SpurbenchError, nearest

SMALL = "smallcnn"


class SmallCNN(nn.Module):
    """Six convolutions with batch normalisation, then average and maximum over the image: for images of about 64 pixels.

    The maximum lets one small bright object speak; timm's networks are 20 times slower at this size on a CPU.

    Args:
        channels: of the images.
    """

    num_features = 128

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, stride in ((16, 2), (32, 2), (32, 1), (48, 2), (48, 1), (64, 1)):
            layers += [
                nn.Conv2d(channels, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of shape (b, 128)."""
        maps = self.layers(images)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


class Classifier(nn.Module):
    """Images in [0, 1] to logits: normalisation, backbone, head.

    Args:
        backbone: images to features of shape (b, ``features``).
        features: width of the last layer's input.
        classes: width of its output.
        mean: per channel, of images in [0, 1].
        std: per channel.

    Attributes:
        width: of the features.
        head: features to logits: linear, or one of ``heads.py``.
        front: transform of the images before all else; it gives images in [0, 1] of the same shape. None for none.
        dropout: share of the features that are dropped at random while training.
        lower_precision: dtype of the network's products while training, such as bfloat16; None for float32. What comes out
            is float32 always, and evaluation is in float32 throughout.
    """

    mean: torch.Tensor
    std: torch.Tensor
    lower_precision: torch.dtype | None = None
    dropout: float = 0.0

    def __init__(self, backbone: nn.Module, features: int, classes: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.width = features
        self.front: nn.Module | None = None
        self.head: nn.Module = nn.Linear(features, classes)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Input of the last layer, shape (b, features), float32."""
        if self.front is not None:
            images = self.front(images)
        with self._precision(images):
            pooled: torch.Tensor = self.backbone((images - self.mean) / self.std)
        # functional dropout would draw random numbers at a rate of zero too
        return nn.functional.dropout(pooled.float(), self.dropout, self.training) if self.dropout else pooled.float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (b, classes), float32."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits

    def _precision(self, images: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
        lower = self.lower_precision if self.training else None
        if lower is None and not torch.amp.is_autocast_available(images.device.type):
            return contextlib.nullcontext()  # the device that computes shapes alone
        return torch.autocast(images.device.type, lower or torch.bfloat16, enabled=lower is not None)


def check_backbone(name: str) -> None:
    """Check that a backbone of that name can be built.

    Raises:
        SpurbenchError: neither timm nor this project has it, or timm has no weights of the tag after its dot.
    """
    if name == SMALL:
        return
    import timm

    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        raise SpurbenchError(
            f"Unknown backbone {name!r}. {nearest(name, [SMALL, *known]).split('Known')[0]}Expected {SMALL!r} or one of"
            f" timm's {len(known)} models."
        )
    if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise SpurbenchError(f"Unknown weights {tag!r} of the backbone {architecture!r}. {nearest(name, tagged)}")


def build(network: Mapping[str, Any], classes: int, *, weights: Path | None = None) -> Classifier:
    """A classifier with the initial weights that its seed gives.

    Args:
        network: ``backbone``, ``channels``, ``seed``, ``pretrained``, ``mean`` and ``std``; ``dropout`` if there is any.
        classes: number of classes.
        weights: a safetensors file of backbone weights to start from.

    Returns:
        A module in training mode on the CPU. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the accelerators too, and nothing would put those back
        torch.default_generator.manual_seed(int(network["seed"]))
        name, channels = str(network["backbone"]), int(network["channels"])
        if name == SMALL:
            backbone: nn.Module = SmallCNN(channels)
        else:
            import timm

            backbone = timm.create_model(name, pretrained=bool(network["pretrained"]), in_chans=channels, num_classes=0)
        if weights is not None:
            load_backbone(backbone, weights)
        # some of timm's networks end in a hidden layer whose width is not that of their feature maps
        features: Any = getattr(backbone, "head_hidden_size", backbone.num_features)
        classifier = Classifier(backbone, int(features), classes, list(network["mean"]), list(network["std"]))
        classifier.dropout = float(network.get("dropout", 0.0))
        return classifier


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Load backbone weights from a safetensors file; the head's are left out.

    Raises:
        SpurbenchError: unreadable file, missing or misshapen weights.
    """
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except Exception as error:
        raise SpurbenchError(f"Expected a safetensors file at {path}: {error}") from error
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    own = backbone.state_dict()
    missing = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    if missing:
        raise SpurbenchError(
            f"{path} lacks {len(missing)} of the backbone's {len(own)} weights in the right shape, such as {missing[0]!r}."
        )
    backbone.load_state_dict({name: state[name] for name in own})


def load_classifier(model: Classifier, state: Mapping[str, torch.Tensor], where: str) -> Classifier:
    """Load all weights of a classifier.

    Raises:
        SpurbenchError: names or shapes differ.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = str(error).splitlines()
        detail = lines[1].strip() if len(lines) > 1 else lines[0]
        raise SpurbenchError(f"The weights in {where} do not fit the network: {detail}") from error
    return model
