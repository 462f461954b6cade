"""What a mitigation method is: plain training with one thing changed.

A method overrides the loss of a batch, the sampling of the training set, or, for several stages, ``fit``. ``fit`` does no
work: it says which stages there are and what each one needs, so that stages which several methods need are computed once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import Hyperparameters, Settings, Training
from robustbench_spur.stage import Stage
from robustbench_spur.store import content_hash, file_sha256
from robustbench_spur.types import Groups, HiddenError, Partition, SpurbenchError

if TYPE_CHECKING:
    import torch

    from robustbench_spur.networks import Classifier

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
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    hidden: torch.Tensor
    view: View

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
        presets: named settings, such as a paper's absolute values.
        state: tensors that the loss updates from batch to batch; the loop moves, saves and restores them.
        given: arrays of the stage named by ``given`` in :meth:`Task.train`; empty for a single stage.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    every_group_in: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    Hyperparameters: ClassVar[type[Settings]] = Hyperparameters

    def __init__(self, hyper: Settings | None = None) -> None:
        self.hyper: Any = hyper if hyper is not None else self.Hyperparameters()
        self.state: dict[str, torch.Tensor] = {}
        self.given: Mapping[str, NDArray[Any]] = {}

    def start(self, train: View) -> None:
        """Set :attr:`state` before the first step."""

    def sampling(self, train: View) -> Sampling | None:
        """How to draw the training set; None for every example once an epoch, in random order."""
        return None

    def loss(self, model: Classifier, batch: Batch) -> torch.Tensor:
        """The scalar to minimise on a batch. Must not wait for the device (no ``.item()``).

        What it draws from torch's own random functions follows from the cell's seed and the epoch.
        """
        raise SpurbenchError(f"Method {self.name!r} defines no loss. Override loss, or subclass one that has it.")

    def fit(self, task: Task) -> Stage:
        """The stages of the method; the last one is the model. Plain training unless overridden."""
        return task.train(self)


def code_of(method: type[Method]) -> str:
    """Hash of the files that define a method's class and the methods that it builds on."""
    files = [inspect.getsourcefile(one) for one in method.__mro__ if issubclass(one, Method) and one is not Method]
    return content_hash([file_sha256(Path(path)) for path in files if path])


class Task:
    """What a method's ``fit`` builds stages with. Nothing is computed here.

    Args:
        owner: the method whose cell this is.
        training: the board's budget, with the cell's overrides.
        data: what identifies the data of the cell, for every partition (see ``cell.py``).
        network: what identifies the network and its initial weights.
        seed: of the cell.
        selection: the rule that picks the epoch.
        identify: gives what identifies a method (name, version, code, settings).
        pixels: the stage that makes the images of each partition.
        substitutes: models that stand in for full trainings, by the name of the method trained.
        numerics: device type and precision, since they change bits.
    """

    def __init__(
        self,
        owner: Method,
        training: Training,
        data: Mapping[str, Any],
        network: Mapping[str, Any],
        seed: int,
        selection: str,
        identify: Callable[[Method], dict[str, Any]],
        pixels: Mapping[str, Stage],
        substitutes: Mapping[str, Stage],
        numerics: Mapping[str, Any],
    ) -> None:
        self._owner, self._data, self._network, self._seed = owner, data, network, seed
        self._selection, self._identify, self._pixels = selection, identify, pixels
        self._substitutes, self._numerics = substitutes, numerics
        self.budget = training

    @cached_property
    def training(self) -> Training:
        """The budget with the owner's own settings in place of those they share a name with."""
        return self.budget.overridden(self._owner.hyper)

    def train(self, method: Method, *, epochs: int | None = None, given: Stage | None = None) -> Stage:
        """Train a network from scratch with a method's loss and sampling.

        Args:
            method: ``self``, or another method, whose own stage it then is: the one that its cell would compute.
            epochs: passes; the budget's unless given. With a schedule without horizon a shorter run is a prefix.
            given: a stage whose arrays the method finds in ``given``.

        Raises:
            HiddenError: the other method reads annotations that the owner did not declare.
        """
        undeclared = sorted(set(method.needs) - set(self._owner.needs))
        if undeclared:
            raise HiddenError(
                f"{self._owner.name} trains {method.name}, which needs {', '.join(undeclared)}. Add it to the needs of"
                f" {self._owner.name}."
            )
        training = self.budget.overridden(method.hyper)
        length = epochs if epochs is not None else training.epochs
        substitute = self._substitutes.get(method.name)
        if substitute is not None and epochs is None and given is None:
            return substitute
        training = training.model_copy(update={"epochs": length})
        choosing = self._data["chooser"] if epochs is None else None
        parents = [self._pixels["train"], self._pixels["validation"], *([given] if given else [])]
        parents += [self._pixels[choosing]] if choosing else []
        spec = {
            "method": self._identify(method),
            "data": {part: self._data["partitions"][part] for part in ("train", "validation")},
            "split": self._data["split"]["train"],
            "network": dict(self._network),
            "training": training.trajectory(),
            "seed": self._seed,
            "given": given.key if given else None,
            **({"chooser": self._chooser(choosing)} if choosing else {}),
            **self._numerics,
        }
        options = {"epochs": length, "selection": self._selection if epochs is None else "last"}
        title = f"train {method.name}, {length} epochs, seed {self._seed}"
        return Stage("train", {"trajectory": spec, **options}, tuple(parents), title)

    def _chooser(self, partition: str) -> dict[str, Any]:
        rows = self._data["partitions"][partition]
        return {"partition": partition, "rows": rows, "split": self._data["split"][partition]}

    def outputs(self, model: Stage, partition: str, *, features: bool = False) -> Stage:
        """Logits, and features if asked for, of a partition: eval mode, no augmentation, float32.

        Raises:
            HiddenError: the partition is out of the method's reach.
        """
        self._check_reach(partition)
        return outputs_stage(model, self._pixels[partition], partition, features=features, numerics=self._numerics)

    def compute(self, function: Callable[..., Any], *inputs: Stage, on: str) -> Stage:
        """Call a method of the owner on arrays: ``function(view, *arrays_of_each_input)``.

        It returns a dictionary of arrays and a dictionary of notes; both are kept, the notes go into the record.

        Args:
            function: a bound method of the owner.
            inputs: stages whose arrays it gets, in order.
            on: the partition that it may view.
        """
        self._check_reach(on)
        spec = {
            "method": self._identify(self._owner),
            "function": function.__name__,
            "split": self._data["split"][on],
            "data": {on: self._data["partitions"][on]},
            "on": on,
            "seed": self._seed,
        }
        title = f"{self._owner.name}: {function.__name__.replace('_', ' ')} on {on}"
        return Stage("compute", spec, inputs, title)

    def replace_head(self, model: Stage, head: Stage) -> Stage:
        """The model with its last layer replaced by the arrays ``weight`` (classes, features) and ``bias`` (classes,)."""
        return Stage("head", {}, (model, head), f"{self._owner.name}: replace the last layer")

    def _check_reach(self, partition: str) -> None:
        need = {"adapt": "adapt", "selection": "validation_attributes"}.get(partition)
        if partition == "test" or (need is not None and need not in self._owner.needs):
            hint = "The test partition is out of reach of every method." if need is None else f"Add {need} to needs."
            raise HiddenError(f"{self._owner.name} asked for partition {partition!r}, which it did not declare. {hint}")
        if partition not in self._pixels:
            raise SpurbenchError(f"The split has no partition {partition!r}, which {self._owner.name} needs.")


def outputs_stage(model: Stage, pixels: Stage, partition: str, *, features: bool, numerics: Mapping[str, Any]) -> Stage:
    """Stage of a prediction pass over one partition."""
    spec = {"partition": partition, "features": features, "device": numerics["device"]}
    what = "features" if features else "predictions"
    return Stage("outputs", spec, (model, pixels), f"{what} on {partition} of: {model.title}")
