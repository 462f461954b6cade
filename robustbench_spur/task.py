"""What a method's ``fit`` builds its stages with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from robustbench_spur.method import Method
from robustbench_spur.parameters import Training
from robustbench_spur.stage import Stage
from robustbench_spur.types import HiddenError, SpurbenchError


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

    Attributes:
        seed: of the cell.
        budget: as ``training``.
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
        self._owner, self._data, self._network, self.seed = owner, data, network, seed
        self._selection, self._identify, self._pixels = selection, identify, pixels
        self._substitutes, self._numerics = substitutes, numerics
        self.budget = training

    @cached_property
    def training(self) -> Training:
        """The budget with the owner's own settings in place of those they share a name with."""
        return self.budget.overridden(self._owner.hyper)

    def derive(self, owner: Method, *, seed: int | None = None, dropout: float | None = None) -> Task:
        """The task of another method on the same data: for methods that wrap others.

        Args:
            owner: the other method; it needs nothing that this one does not.
            seed: of its training; this cell's unless given.
            dropout: share of the features that are dropped at random while training; the network's own unless given.

        Raises:
            HiddenError: it reads annotations that the owner did not declare.
        """
        self._check_needs(owner)
        network = dict(self._network) if dropout is None else {**self._network, "dropout": dropout}
        return Task(
            owner=owner,
            training=self.budget,
            data=self._data,
            network=network,
            seed=self.seed if seed is None else seed,
            selection=self._selection,
            identify=self._identify,
            pixels=self._pixels,
            substitutes=self._substitutes if seed in (None, self.seed) and dropout is None else {},
            numerics=self._numerics,
        )

    def train(
        self,
        method: Method,
        *,
        phase: str = "",
        epochs: int | None = None,
        given: Stage | None = None,
        start: Stage | None = None,
        on: Sequence[str] = ("train",),
        only_head: bool = False,
    ) -> Stage:
        """Train a network with a method's loss and sampling: from scratch unless told otherwise.

        Args:
            method: ``self``, or another method, whose own stage it then is: the one that its cell would compute.
            phase: what the method finds in ``phase``, where its trainings differ.
            epochs: passes; the budget's unless given. With a schedule without horizon a shorter run is a prefix.
            given: a stage whose arrays the method finds in ``given``.
            start: the model whose weights are the initial ones.
            on: the partitions that are trained on, one after the other in the method's view. Their attributes are those that
                the method declared; the others' codes are -1.
            only_head: train the last layer alone.

        Raises:
            HiddenError: the other method reads annotations, or a partition is asked for, that the owner did not declare.
        """
        self._check_needs(method)
        on = tuple(on)
        for partition in on:
            self._check_reach(partition)
        training = self.budget.overridden(method.hyper)
        length = epochs if epochs is not None else training.epochs
        plain = not phase and epochs is None and given is None and start is None and on == ("train",) and not only_head
        if plain and method.name in self._substitutes:
            return self._substitutes[method.name]
        training = training.model_copy(update={"epochs": length})
        choosing = self._data["chooser"] if epochs is None else None
        parts = (*on, "validation")
        parents = [self._pixels[part] for part in parts]
        parents += [stage for stage in (given, start) if stage is not None]
        parents += [self._pixels[choosing]] if choosing else []
        spec = {
            "method": self._identify(method),
            "data": {part: self._data["partitions"][part] for part in parts},
            "split": self._data["split"][on[-1]],
            "network": dict(self._network),
            "training": training.trajectory(),
            "seed": self.seed,
            "given": given.key if given else None,
            **({"phase": phase} if phase else {}),
            **({"start": start.key} if start else {}),
            **({"on": list(on)} if on != ("train",) else {}),
            **({"only_head": True} if only_head else {}),
            **({"chooser": self._chooser(choosing)} if choosing else {}),
            **self._numerics,
        }
        options = {"epochs": length, "selection": self._selection if epochs is None else "last"}
        title = f"train {method.name}{f' ({phase})' if phase else ''}, {length} epochs, seed {self.seed}"
        return Stage("train", {"trajectory": spec, **options}, tuple(parents), title)

    def _check_needs(self, method: Method) -> None:
        undeclared = sorted(set(method.needs) - set(self._owner.needs))
        if undeclared:
            raise HiddenError(
                f"{self._owner.name} trains {method.name}, which needs {', '.join(undeclared)}. Add it to the needs of"
                f" {self._owner.name}."
            )

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
            "seed": self.seed,
        }
        title = f"{self._owner.name}: {function.__name__.replace('_', ' ')} on {on}"
        return Stage("compute", spec, inputs, title)

    def head(self, model: Stage) -> Stage:
        """The last layer of a model as arrays: ``weight`` (classes, features) and ``bias`` (classes,)."""
        return Stage("weights", {}, (model,), f"last layer of: {model.title}")

    def attributions(self, model: Stage, partition: str) -> Stage:
        """Where in its images a model looks: gradient times input of the predicted class's logit, in eval mode.

        The array ``maps`` has shape (n, height, width), float16: the absolute value of the sum over channels, each map divided
        by its largest value. For a network of rectifiers without biases this is layer-wise relevance propagation with the
        z-rule (Ancona et al., ICLR 2018, proposition 1).

        Raises:
            HiddenError: the partition is out of the method's reach.
        """
        self._check_reach(partition)
        spec = {"partition": partition, "device": self._numerics["device"]}
        title = f"attributions on {partition} of: {model.title}"
        return Stage("attributions", spec, (model, self._pixels[partition]), title)

    def replace_head(self, model: Stage, head: Stage) -> Stage:
        """The model with its last layer replaced by arrays.

        ``weight`` (classes, features) and ``bias`` (classes,) are a linear layer. With an axis of experts before, they are a
        mixture of softmaxes: equal shares, or those of a softmax layer ``gate_weight`` (experts, features) and ``gate_bias``
        (experts,). ``prototypes`` (experts, classes, features) and ``temperature`` (experts,) are a mixture of softmaxes over
        negative distances: see ``networks.py``.
        """
        return Stage("head", {}, (model, head), f"{self._owner.name}: replace the last layer")

    def average(self, models: Sequence[Stage]) -> Stage:
        """The model whose class probabilities are the mean of those of several models."""
        return Stage("ensemble", {}, tuple(models), f"{self._owner.name}: average {len(models)} models")

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
