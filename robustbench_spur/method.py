"""What a mitigation method is: plain training with one thing changed.

A method overrides the loss of a batch, the sampling of the training set, or, for several stages, ``fit``. ``fit`` does no
work: it says which stages there are and what each one needs, so that stages which several methods need are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import Hyperparameters, Settings, Training
from robustbench_spur.types import Groups, HiddenError, Partition, SpurbenchError

if TYPE_CHECKING:
    import torch

    from robustbench_spur.averaging import Averaging
    from robustbench_spur.networks import Classifier
    from robustbench_spur.stage import Stage
    from robustbench_spur.task import Task

TRACKS = {
    "validation_attributes": "selection",
    "train_attributes": "train",
    "adapt": "reweight",
    "shortcut": "targeted",
}
"""What a method may declare in ``needs``, and the track that this puts it on; the last that applies counts."""


def track_of(needs: tuple[str, ...]) -> str:
    """The track of a method: which annotations it consumes.

    >>> track_of(()), track_of(("train_attributes",))
    ('none', 'train')
    """
    return next((track for need, track in reversed(TRACKS.items()) if need in needs), "none")


@dataclass(frozen=True)
class View:
    """The rows of a partition as a method may see them: attributes and groups only if it declared that it needs them.

    Args:
        partition: the rows.
        universe: the declared groups.
        may_see_attributes: whether the method declared it.
        owner: whom to name in the error.
        seed: of the cell.
    """

    partition: Partition
    universe: Groups
    may_see_attributes: bool
    owner: str
    seed: int = 0

    def __len__(self) -> int:
        return len(self.partition)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class codes, shape (n,)."""
        return self.partition.labels

    @property
    def classes(self) -> int:
        """Number of declared classes."""
        return len(self.universe.classes)

    @property
    def clusters(self) -> NDArray[np.str_]:
        """The patient of each example, shape (n,)."""
        return self.partition.clusters

    def generator(self) -> np.random.Generator:
        """A generator that follows from the cell's seed alone: call it once and pass it on."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, 100))))

    @property
    def attributes(self) -> NDArray[np.int64]:
        """Attribute codes, shape (n,).

        Raises:
            HiddenError: the method did not declare that it needs them.
        """
        if not self.may_see_attributes:
            raise HiddenError(
                f"{self.owner} read group labels that it did not declare. Add 'train_attributes' (or 'adapt') to its needs."
            )
        return self.partition.attributes

    @property
    def groups(self) -> NDArray[np.int64]:
        """Group index of each example, shape (n,); guarded like :attr:`attributes`."""
        return self.universe.index(self.labels, self.attributes)

    @property
    def group_counts(self) -> NDArray[np.int64]:
        """Examples of every declared group, empty ones included, shape (groups,); guarded like :attr:`attributes`."""
        return np.bincount(self.groups, minlength=len(self.universe))


@dataclass(frozen=True)
class Sampling:
    """How the training examples of an epoch are drawn. An epoch always draws as many as the training set has.

    Args:
        weights: draw with replacement, probability in proportion to these, shape (n,).
        repeats: draw without replacement from the set in which example i stands ``repeats[i]`` times, shape (n,).
    """

    weights: NDArray[np.float64] | None = None
    repeats: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.repeats is None):
            raise SpurbenchError("Expected either weights or repeats for a sampling, found both or neither.")
        chosen = self.weights if self.weights is not None else self.repeats
        if chosen is None or not np.isfinite(chosen).all() or (chosen < 0).any() or chosen.sum() <= 0:
            raise SpurbenchError("Expected finite sampling weights of at least 0 with a positive sum.")

    @classmethod
    def balanced(cls, codes: NDArray[np.int64]) -> Sampling:
        """Every code that occurs is drawn equally often on average."""
        counts = np.bincount(codes)
        return cls(weights=1.0 / counts[codes])


@dataclass(frozen=True)
class Batch:
    """One training batch on the device.

    Args:
        images: in [0, 1], augmented, shape (b, channels, height, width).
        labels: class codes, shape (b,).
        rows: position of each example in the training partition, shape (b,).
        hidden: attribute codes, shape (b,); read them as :attr:`attributes`.
        view: what the method may see.
        epoch: epochs done before this batch, with their fraction.
        move: gives maps of the images as they were, shape (b, c, height, width), the flips and shifts of this batch.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    hidden: torch.Tensor
    view: View
    epoch: float = 0.0
    move: Callable[[torch.Tensor], torch.Tensor] = lambda maps: maps

    @property
    def attributes(self) -> torch.Tensor:
        """Attribute codes, shape (b,).

        Raises:
            HiddenError: the method did not declare that it needs them.
        """
        _ = self.view.attributes
        return self.hidden

    @property
    def groups(self) -> torch.Tensor:
        """Group indices, shape (b,); guarded like :attr:`attributes`."""
        return self.labels * len(self.view.universe.values) + self.attributes


class Method:
    """A plugin that trains. Subclass it in one file; the literals are read without running that file.

    Attributes:
        name: unique, lower case.
        version: integer, raised whenever its numbers can change.
        summary: one line for ``list``.
        source: paper, with section, equation or algorithm.
        needs: annotations it consumes: any of the keys of :data:`TRACKS`. All others are out of reach.
        every_group_in: partitions in which every group of the split's design must have examples for the method to be itself.
        presets: named settings, such as a paper's absolute values. With one named ``quick`` a slow method can be tried in
            seconds; the conformance kit uses it.
        wraps: name of the setting that names another method, which then is :attr:`base`; empty for a method of its own.
        state: tensors that the loss updates from batch to batch; the loop moves, saves and restores them. Those of the
            selected epoch are what a stage of training gives to :meth:`Task.compute`.
        beside: what :meth:`modules` gave, on the device.
        given: arrays of the stage named by ``given`` in :meth:`Task.train`; empty for a single stage.
        tensors: the numbers among them, on the device.
        phase: the one named by ``phase`` in :meth:`Task.train`.
        base: the method that this one wraps; what it needs, this one needs.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    every_group_in: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    wraps: ClassVar[str] = ""
    Hyperparameters: ClassVar[type[Settings]] = Hyperparameters

    def __init__(self, hyper: Settings | None = None) -> None:
        self.hyper: Any = hyper if hyper is not None else self.Hyperparameters()
        self.state: dict[str, torch.Tensor] = {}
        self.beside: dict[str, torch.nn.Module] = {}
        self.given: Mapping[str, NDArray[Any]] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.phase = ""
        self.base: Method | None = None

    def prepare(self, model: Classifier) -> None:
        """Change the network: an input transform as ``model.front``, or another ``model.head``.

        Called whenever the network is built, before training and before weights are loaded. What it does follows from the
        settings and from the network alone, and random weights are drawn from torch's own functions.
        """

    def modules(self, model: Classifier, train: View) -> dict[str, torch.nn.Module]:
        """Further networks that are trained beside the model and left behind afterwards, such as a discriminator.

        They are moved, trained, saved and restored by the loop, which gives them as :attr:`beside`. The model's own weights may
        be set here as well. Random weights are drawn from torch's own functions and follow from the cell's seed.
        """
        return {}

    def start(self, train: View) -> None:
        """Set :attr:`state` before the first step."""

    def sampling(self, train: View) -> Sampling | None:
        """How to draw the training set; None for every example once an epoch, in random order."""
        return None

    def sampling_in(self, train: View, epoch: int) -> Sampling | None:
        """How to draw the training set in an epoch, counted from 0, where that changes from one to the next."""
        return self.sampling(train)

    def averaging(self, training: Training) -> Averaging | None:
        """The average of the weights that is the model; None for the budget's."""
        return None

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The scalar to minimise on a batch. Must not wait for the device (no ``.item()``).

        What it draws from torch's own random functions follows from the cell's seed and the epoch.
        """
        raise SpurbenchError(f"Method {self.name!r} defines no loss. Override loss, or subclass one that has it.")

    def backward(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """Leave the gradients of a step in the weights, which have none before; returns the loss, without its graph.

        The gradient of :meth:`loss` unless overridden.
        """
        loss = self.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def fit(self, task: Task) -> Stage:
        """The stages of the method; the last one is the model. Plain training unless overridden."""
        return task.train(self)

    @property
    def wrapped(self) -> Method:
        """The method that this one wraps.

        Raises:
            SpurbenchError: it has not been given one.
        """
        if self.base is None:
            raise SpurbenchError(f"{self.name} wraps another method, which it was not given.")
        return self.base

    def wrap(self, base: Method) -> None:
        """Take another method as the :attr:`base`, with all that it needs."""
        self.base = base
        self.needs = base.needs  # type: ignore[misc]
        self.every_group_in = base.every_group_in  # type: ignore[misc]
