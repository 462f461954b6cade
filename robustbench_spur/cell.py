"""One cell of the benchmark, (method with its settings, split, network, seed), as the stages that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.code import code_of
from robustbench_spur.manifest import EvaluatorPin, Manifest
from robustbench_spur.method import Method, track_of
from robustbench_spur.parameters import Training
from robustbench_spur.protocols import Source
from robustbench_spur.record import Identity, MethodPart, NetworkPart
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import Stage
from robustbench_spur.store import canonical, content_hash
from robustbench_spur.task import Task, outputs_stage
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

READ_ATTRIBUTES = ("worst_of_groups",)
"""Selection rules that read attributes."""
MODELS = ("train", "import", "head", "ensemble")
"""Kinds of stages whose result is a model."""
PATIENTS_OF = {"train": "training"}
"""How the patients of a partition are called where it is not by its name."""


def _draft(name: str, plugin: Plugin) -> dict[str, str]:
    """The hash of a draft, which changes without a new version; nothing for a plugin that is installed."""
    return {name: plugin.sha256} if plugin.origin == "file" else {}


@dataclass(frozen=True, eq=False)
class CellData:
    """A split at an image size, with what all its cells share.

    Args:
        split: with its table.
        size: of the images, in pixels.
    """

    split: OpenSplit
    size: int

    @cached_property
    def digests(self) -> dict[str, str]:
        """Hash of the rows of each partition."""
        return {name: rows.digest() for name, rows in self.split.table.partitions.items()}

    @cached_property
    def table_spec(self) -> dict[str, Any]:
        """What names the table, with its hash."""
        return {**self.split.ref.spec(), "sha256": self.split.sha256}

    @cached_property
    def base(self) -> CellData:
        """The data of the split as it is, without a protocol."""
        return CellData(self.split.base, self.size) if self.split.ref.protocol else self

    @cached_property
    def pixels(self) -> dict[str, Stage]:
        """The stage that makes the images of each partition; equal for a split's rho that share the partition."""
        if self.base is not self:
            return {name: self._gathered(name, source) for name, source in self.split.sources.items()}
        return {name: self._pixels(name, rows) for name, rows in self.split.table.partitions.items()}

    @cached_property
    def specs(self) -> dict[str, dict[str, Any]]:
        """By partition, what names the table that it is of: the split as it is where a protocol leaves the partition alone.

        So a model that is trained on the same rows is trained once, whatever becomes of the test patients.
        """
        own = {name: self.pixels[name] is self.base.pixels.get(name) for name in self.pixels}
        return {name: self.base.table_spec if same else self.table_spec for name, same in own.items()}

    def _gathered(self, name: str, source: Source) -> Stage:
        """Images of a partition that is made of rows of others; a whole partition is that partition."""
        parents = tuple(self.base.pixels[one] for one in source.partitions)
        if source.partitions == (name,) and len(source.rows[0]) == len(self.base.split.table.partitions[name]):
            return parents[0]
        spec = {"partition": name, "rows": self.digests[name], "protocol": self.split.ref.spec()["protocol"]}
        title = f"rows of {self.split.ref.full} {name}"
        return Stage("gather", spec, parents, title, {"split": canonical(self.table_spec)})

    def _pixels(self, name: str, rows: Partition) -> Stage:
        ref = self.split.ref
        spec = {
            "dataset": ref.dataset,
            "version": ref.plugin.version,
            "code": ref.plugin.literal("images_sha256") or ref.plugin.sha256,
            "parameters": dict(ref.given),
            "fingerprint": self.split.dataset.fingerprint(),
            "rows": rows.digest(with_extra=True),
            "partition": name,
            "size": self.size,
            **({} if self.split.dataset.shared_images else {"split": ref.split}),
        }
        title = f"images of {ref.full} {name}, {self.size} pixels"
        return Stage("pixels", spec, (), title, {"split": canonical(self.table_spec)})


@dataclass(frozen=True, eq=False)
class CellSpec:
    """What the user asked for in one cell, checked and complete.

    Args:
        manifest: of the board.
        registry: where methods and evaluators are looked up.
        plugin: the method's.
        method: with its settings, shares of the budget worked out.
        given: the settings that the user gave.
        preset: name of the preset they started from, if any.
        data: the split and its images.
        backbone: name of the network.
        pretrained: whether timm's published weights are the start.
        weights_sha256: of the file of initial weights, if one is.
        training: the budget.
        selection: rule that picks the epoch.
        evaluators: what measures.
        seed: of training.
        checkpoints: files of weights that stand in for a method's full training, by its name, with their hash.
        numerics: kind of device and precision.
    """

    manifest: Manifest
    registry: Registry
    plugin: Plugin
    method: Method
    given: Mapping[str, Any]
    preset: str | None
    data: CellData
    backbone: str
    pretrained: bool
    weights_sha256: str | None
    training: Training
    selection: str
    evaluators: tuple[EvaluatorPin, ...]
    seed: int
    checkpoints: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    numerics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> OpenSplit:
        """The split, with its table."""
        return self.data.split

    @property
    def image_size(self) -> int:
        """Of the images, in pixels."""
        return self.data.size

    @property
    def title(self) -> str:
        """For people: method, split and seed."""
        return f"{self.plugin.name} on {self.split.ref.full}, seed {self.seed}"

    @property
    def used_training(self) -> Training:
        """The budget, with the method's own settings in place of those they share a name with."""
        return self.training.overridden(self.method.hyper)

    @property
    def identity(self) -> Identity:
        """What makes the cell comparable to others but for the seed."""
        stand_ins = {name: sha for name, (_, sha) in self.checkpoints.items()}
        network = {
            "backbone": self.backbone,
            "image_size": self.image_size,
            "pretrained": self.pretrained,
            "weights_sha256": self.weights_sha256,
            **({"checkpoints": stand_ins} if stand_ins else {}),
        }
        return Identity(
            method={
                "name": self.plugin.name,
                "version": self.plugin.version,
                "settings": self.method.hyper.model_dump(mode="json"),
                **_draft("sha256", self.plugin),
            },
            split={
                "name": self.split.ref.full,
                "version": self.split.ref.plugin.version,
                "sha256": self.split.sha256,
                **({"family": self.split.ref.family} if self.split.ref.protocol else {}),
                **_draft("code", self.split.ref.plugin),
            },
            network=network,
            training=self.used_training.model_dump(mode="json"),
            selection=self.selection,
            board=self.manifest.board,
            numerics=dict(self.numerics),
        )

    def key(self, *, forced: bool) -> str:
        """Hash of identity, code of the method, seed and evaluators: what a finished cell is found by."""
        evaluators = [
            {**pin.model_dump(mode="json"), **_draft("code", self.registry.find("evaluator", pin.name))}
            for pin in self.evaluators
        ]
        code = code_of(type(self.method))
        if self.method.base is not None:
            code = content_hash([code, code_of(type(self.method.base))])
        return content_hash([self.identity.sha256, code, self.seed, evaluators, forced])

    @property
    def track(self) -> str:
        """Which annotations the method and the selection rule consume."""
        needs = self.method.needs
        return track_of((*needs, "validation_attributes") if self.chooser else needs)

    @property
    def chooser(self) -> str | None:
        """The partition whose attributes the selection rule reads; None for a rule that reads none."""
        if self.selection not in READ_ATTRIBUTES:
            return None
        return "selection" if "selection" in self.split.table.partitions else "validation"

    @property
    def training_partitions(self) -> tuple[str, ...]:
        """Partitions that the method trains on."""
        return ("train", "adapt") if "adapt" in self.method.needs else ("train",)

    def method_part(self) -> MethodPart:
        """The method, for the record."""
        return MethodPart(
            name=self.plugin.name,
            version=int(self.plugin.version or 0),
            origin=self.plugin.origin,
            sha256=self.plugin.sha256,
            given=dict(self.given),
            settings=self.method.hyper.model_dump(mode="json"),
            preset=self.preset,
        )

    def network_part(self, parameters: int | None) -> NetworkPart:
        """The network, for the record."""
        return NetworkPart(
            backbone=self.backbone,
            image_size=self.image_size,
            pretrained=self.pretrained,
            weights_sha256=self.weights_sha256,
            parameters=parameters,
        )


@dataclass(frozen=True)
class Stages:
    """The stages of a cell.

    Args:
        model: the last stage of the method's fit.
        pixels: by partition.
        outputs: predictions, by partition.
        collected: what evaluators collect of the model, by (evaluator, partition).
    """

    model: Stage
    pixels: Mapping[str, Stage]
    outputs: Mapping[str, Stage]
    collected: Mapping[tuple[str, str], Stage]

    def all(self) -> tuple[Stage, ...]:
        """The stages whose results the record is made from."""
        return (*self.outputs.values(), *self.collected.values())


def verdict(method: type[Method] | Method, table: SplitTable) -> str:
    """Why a method is not itself on a split; empty where it is applicable.

    It needs examples of every group that the partition's design has there. What a design leaves out is not asked for, but
    then the groups that are there must be able to tell the attribute from the class; see :func:`_tied`.

    Args:
        method: declares in which partitions it needs every group.
        table: of the split, with its declared groups.
    """
    for partition in method.every_group_in:
        if partition not in table.partitions:
            return f"the split has no {partition} partition"
        called = PATIENTS_OF.get(partition, partition)
        if empty := table.empty_in(partition):
            what = "group" if len(empty) == 1 else "groups"
            verb = "has" if len(empty) == 1 else "have"
            return f"{what} {' and '.join(empty)} {verb} no {called} patients"
        if why := _tied(table.groups_in(partition), called):
            return why
    return ""


def _tied(groups: Groups, where: str) -> str:
    """Why weights on the groups of an incomplete design cannot take a shortcut's use away; empty where they can.

    To minimise the worst loss over mixtures of the groups that are there (Sagawa et al., ICLR 2020), or to balance them,
    assumes four things. (1) Every group of the mixture has examples: checked before. (2) The groups are finer than the
    classes: not so where the design has one attribute value only. (3) The shortcut is wrong in some of the groups, or no
    weights punish it: not so where the classes fall into sets that share no attribute value, since the attribute then tells
    these sets apart in every group, hence under every mixture. That each class has a value of its own is the extreme of
    it. (4) The test is such a mixture itself. Where it has groups that training has not, this holds for no method; it is what
    such a split asks about, and no reason not to run.

    So a design in which every class has a value of its own and all share another is in order: at the shared one the
    attribute tells nothing. One in which two pairs of classes have two values each is not, although every class has both
    values of its pair: inside a pair the weights do their work, but the value names the pair in all groups, and these are
    equally large, so that nothing is left to weight. It is the perfect tie again, between pairs in place of classes.
    """
    if groups.members is None:
        return ""
    apart = groups.apart()
    if len(apart) > 1:
        told = " from ".join(" and ".join(classes) for classes in apart)
        return f"by design, {groups.attribute} tells {told} without exception in {where}"
    if len(groups) == len(apart[0]):
        return f"by design, all classes have one {groups.attribute} in {where}: its groups are the classes"
    return ""


def build_stages(spec: CellSpec) -> Stages:
    """The stages of a cell; nothing is computed.

    Raises:
        SpurbenchError: what the method's ``fit`` gives is no model.
    """
    pixels, split = spec.data.pixels, spec.data.specs
    network = {
        "backbone": spec.backbone,
        "channels": spec.split.dataset.channels,
        "pretrained": spec.pretrained,
        "weights_sha256": spec.weights_sha256,
    }

    def identify(method: Method) -> dict[str, Any]:
        plugin = spec.registry.find("method", method.name)
        hyper = method.hyper.resolved(spec.training)
        settings = hyper.model_dump(mode="json")
        return {"name": method.name, "version": plugin.version, "code": code_of(type(method)), "settings": settings}

    substitutes = {
        name: Stage(
            "import",
            {"sha256": sha, "network": network, "split": split["train"]},
            (),
            f"take {name} from {path.name}",
            {"weights": str(path)},
        )
        for name, (path, sha) in spec.checkpoints.items()
    }
    task = Task(
        owner=spec.method,
        training=spec.training,
        data={"split": split, "partitions": spec.data.digests, "chooser": spec.chooser},
        network=network,
        seed=spec.seed,
        selection=spec.selection,
        identify=identify,
        pixels=pixels,
        substitutes=substitutes,
        numerics=spec.numerics,
    )
    model = spec.method.fit(task)
    if not (isinstance(model, Stage) and model.kind in MODELS):
        found = f"a stage of kind {model.kind!r}" if isinstance(model, Stage) else type(model).__name__
        raise SpurbenchError(
            f"Expected fit of {spec.plugin.name!r} to return what task.train or task.replace_head gave, found {found}."
        )
    outputs = {
        name: outputs_stage(model, stage, name, features=False, numerics=spec.numerics)
        for name, stage in pixels.items()
    }
    return Stages(model, pixels, outputs, _collections(spec, model, pixels, outputs, split))


def lacking(split: OpenSplit, reads: Sequence[str], requires: Sequence[str]) -> str:
    """What an evaluator needs of a split that is not there, in words; empty where all is."""
    absent = [f"no {name} partition" for name in reads if name not in split.table.partitions]
    offered = split.dataset.scenes(split.ref.split) if requires else {}
    absent += [f"no {name!r} that its data set could render" for name in requires if name not in offered]
    return f"{split.ref.full} has {' and '.join(absent)}" if absent else ""


def _collections(
    spec: CellSpec,
    model: Stage,
    pixels: Mapping[str, Stage],
    outputs: Mapping[str, Stage],
    split: Mapping[str, Mapping[str, Any]],
) -> dict[tuple[str, str], Stage]:
    stages = {}
    for pin in spec.evaluators:
        plugin = spec.registry.find("evaluator", pin.name)
        if not plugin.literal("collects", ()):
            continue
        reads, requires = plugin.literal("reads", ()), plugin.literal("requires", ())
        if lacking(spec.split, reads, requires):
            continue
        for partition in plugin.literal("partitions", ("test",)):
            if partition not in pixels:
                continue
            spec_of = {
                "evaluator": pin.name,
                "version": pin.version,
                "code": plugin.sha256,
                "parameters": pin.parameters,
                "partition": partition,
                "reads": list(reads),
                "requires": list(requires),
                "split": dict(split[partition]),
                **spec.numerics,
            }
            parents = (model, *(stage for name in (partition, *reads) for stage in (pixels[name], outputs[name])))
            title = f"{pin.name} of {spec.plugin.name} on {partition}, seed {spec.seed}"
            stages[pin.name, partition] = Stage("collect", spec_of, parents, title)
    return stages
