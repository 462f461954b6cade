"""What an evaluator may look at while it collects: the model, the images, other partitions, what the data set can render."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.gathered import Gathered
from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from robustbench_spur.evaluators.base import Predictions

Blocks = Iterator[NDArray[Any]]


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Features:
    """The input of a model's last layer, computed elsewhere, where the model itself is not at hand.

    Args:
        points: float32, shape (n, width), in the order of the predictions.
        weight: of the last layer, shape (classes, width); None where it is not known.
        bias: shape (classes,); None where ``weight`` is.
    """

    points: NDArray[np.float32]
    weight: NDArray[np.float64] | None = None
    bias: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.int64]) -> Features:
        """Those of some examples, in their order; the last layer is the same."""
        return replace(self, points=self.points[rows])


@dataclass(frozen=True)
class Part:
    """A partition as the model saw it.

    Args:
        predictions: what the model said, and what is true.
        images: uint8, shape (n, channels, height, width), in the order of ``predictions``, perhaps a memory map; None
            where predictions are all there is.
        features: in place of a model; None where there is one, or predictions are all there is.
    """

    predictions: Predictions
    images: Any = None
    features: Features | None = None

    def take(self, rows: NDArray[np.int64]) -> Part:
        """Some of its rows, in the order given; images are read when they are needed."""
        images = self.images
        if images is not None:
            images = Gathered([images], np.zeros(len(rows), np.int64), rows)
        features = None if self.features is None else self.features.take(rows)
        return Part(self.predictions.take(rows), images, features)


@dataclass(frozen=True)
class Picture:
    """An image to be shown.

    Args:
        caption: what is seen.
        image: uint8, shape (height, width), grey, or (height, width, 3).
    """

    caption: str
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """What is examined. The model is loaded when it is first asked for: some collections do without.

    Args:
        predictions: the clean predictions of the partition.
        images: uint8, shape (n, channels, height, width), in the order of ``predictions``; perhaps a memory map.
        load: gives the model; None where there is none.
        device: where the model is.
        progress: call ``progress(done, total)`` now and then.
        others: the partitions named in :attr:`Evaluator.reads`.
        scenes: what the data set can render of the partition, by name: see :meth:`Dataset.scenes`.
        columns: what else is known of each example, such as the scanner's vendor, by name, each of shape (n,).
        features: of ``predictions``, in place of the model; they are looked at where ``load`` is None.
    """

    predictions: Predictions
    images: Any = None
    load: Callable[[], Any] | None = None
    device: str = "cpu"
    progress: Callable[[int, int], None] = quiet
    others: Mapping[str, Part] = field(default_factory=dict)
    scenes: Mapping[str, Callable[[], Blocks]] = field(default_factory=dict)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    features: Features | None = None

    @cached_property
    def model(self) -> Any:
        """A torch module from images in [0, 1], shape (b, channels, height, width), to logits; eval mode, float32.

        It has ``features``, from images to the last layer's input, shape (b, width), and ``head``, from these to logits.

        Raises:
            SpurbenchError: there are predictions only.
        """
        if self.load is None:
            raise SpurbenchError("Expected a model to look into, found predictions alone. Give its weights.")
        return self.load()

    @property
    def part(self) -> Part:
        """The partition itself, as :meth:`other` gives the others."""
        return Part(self.predictions, self.images, self.features)

    def other(self, partition: str) -> Part:
        """Another partition.

        Raises:
            SpurbenchError: it is not among those that the evaluator states in ``reads``.
        """
        if partition not in self.others:
            raise SpurbenchError(f"Unknown partition {partition!r}. {nearest(partition, list(self.others))}")
        return self.others[partition]

    def scene(self, name: str) -> Blocks:
        """Blocks of the partition's slices rendered otherwise, or of masks, in row order; see :meth:`Dataset.scenes`.

        Raises:
            SpurbenchError: the data set does not offer it.
        """
        if name not in self.scenes:
            raise SpurbenchError(f"The data set offers no {name!r}. {nearest(name, list(self.scenes))}")
        return self.scenes[name]()
