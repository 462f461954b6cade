"""What an evaluator may look at while it collects: the model, the images, other partitions, what the data set can render."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from robustbench_spur.evaluators.base import Predictions

Blocks = Iterator[NDArray[Any]]


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Part:
    """A partition as the model saw it.

    Args:
        predictions: what the model said, and what is true.
        images: uint8, shape (n, channels, height, width), in the order of ``predictions``, perhaps a memory map; None
            where predictions are all there is.
    """

    predictions: Predictions
    images: Any = None


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
    """

    predictions: Predictions
    images: Any = None
    load: Callable[[], Any] | None = None
    device: str = "cpu"
    progress: Callable[[int, int], None] = quiet
    others: Mapping[str, Part] = field(default_factory=dict)
    scenes: Mapping[str, Callable[[], Blocks]] = field(default_factory=dict)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

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
