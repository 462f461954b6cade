"""How a split is named, ``dataset/split@rho``, and the way from the name to its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from robustbench_spur.protocols import Protocol, Source, apply, parse_protocol, sources
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splits.base import Dataset
from robustbench_spur.store import canonical
from robustbench_spur.types import SplitTable, SpurbenchError, nearest


@dataclass(frozen=True)
class SplitRef:
    """A split that has been found in the registry.

    Args:
        plugin: the dataset's.
        split: name of the split within the dataset.
        rho: None where the split is not tied.
        given: settings of the dataset that are not the default, by name.
        protocol: fold of a protocol; None for the split as it is.
    """

    plugin: Plugin
    split: str
    rho: float | None
    given: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol | None = None

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.plugin.name

    @property
    def full(self) -> str:
        """The split in full: ``dataset/split@rho+protocol.fold``, with settings in brackets where they are not the default."""
        return self._written(f"+{self.protocol.text}" if self.protocol else "")

    @property
    def family(self) -> str:
        """The same without the number of the fold: what is averaged over the folds."""
        return self._written(f"+{self.protocol.name}" if self.protocol else "")

    @property
    def base(self) -> SplitRef:
        """The split as it is, without a protocol."""
        return replace(self, protocol=None)

    def _written(self, protocol: str) -> str:
        rho = "" if self.rho is None else f"@{self.rho}"
        given = ",".join(f"{name}={canonical(value)}" for name, value in sorted(self.given.items()))
        return f"{self.dataset}/{self.split}{rho}{protocol}" + (f"[{given}]" if given else "")

    @property
    def embedded(self) -> bool:
        """Whether it needs no files of the user's."""
        return bool(self.plugin.literal("embedded", False))

    def spec(self) -> dict[str, Any]:
        """What makes the table, as JSON values."""
        return {
            "dataset": self.dataset,
            "version": self.plugin.version,
            "split": self.split,
            "rho": self.rho,
            "parameters": dict(self.given),
            **({"protocol": self.protocol.text} if self.protocol else {}),
        }

    def open(self, path: Path | None) -> OpenSplit:
        """Load the dataset's class and give access to its table and pixels."""
        return OpenSplit(self, path)


@dataclass(frozen=True)
class OpenSplit:
    """A split whose dataset has been loaded.

    Args:
        ref: which split.
        path: where the user's files lie; None for an embedded dataset.
    """

    ref: SplitRef
    path: Path | None

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset with its settings."""
        if self.ref.protocol is not None:
            return self.base.dataset
        plugin_class = self.ref.plugin.load()
        parameters = parse_parameters(self.ref.plugin, plugin_class, self.ref.given)
        loaded: Dataset = plugin_class(parameters, self.path)
        return loaded

    @cached_property
    def base(self) -> OpenSplit:
        """The split as it is, without a protocol."""
        return OpenSplit(self.ref.base, self.path) if self.ref.protocol else self

    @cached_property
    def table(self) -> SplitTable:
        """Its rows."""
        if self.ref.protocol is not None:
            return apply(self.base.table, self.ref.protocol)
        return self.dataset.table(self.ref.split, self.ref.rho)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """What the partitions of a protocol are made of; nothing for a split as it is."""
        return sources(self.base.table, self.ref.protocol) if self.ref.protocol else {}

    @cached_property
    def sha256(self) -> str:
        """Identity of the table."""
        return self.table.sha256()


def parse_parameters(plugin: Plugin, plugin_class: Any, given: Mapping[str, Any]) -> Any:
    """Validate a dataset's settings.

    Raises:
        SpurbenchError: unknown name or a value out of range.
    """
    from pydantic import ValidationError

    fields = plugin_class.Parameters.model_fields
    for name in given:
        if name not in fields:
            raise SpurbenchError(f"Dataset {plugin.name!r} has no setting {name!r}. {nearest(name, list(fields))}")
    try:
        return plugin_class.Parameters.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "all of them"
        raise SpurbenchError(f"Setting {name}={first['input']!r} of dataset {plugin.name!r}: {first['msg']}.") from None


def split_names(plugin: Plugin) -> tuple[str, ...]:
    """Names of a dataset's splits, without aliases."""
    return tuple(plugin.literal("splits", {}))


def parse_split(text: str, registry: Registry, given: Mapping[str, Any] | None = None) -> SplitRef:
    """Find the one split that a text names; see :func:`parse_splits`.

    Raises:
        SpurbenchError: also where the text names all folds of a protocol.
    """
    found = parse_splits(text, registry, given)
    if len(found) > 1:
        raise SpurbenchError(f"Expected one split, found {len(found)} of {text!r}. Write: {found[0].full}")
    return found[0]


def parse_splits(text: str, registry: Registry, given: Mapping[str, Any] | None = None) -> tuple[SplitRef, ...]:
    """Find the split that a text names, or all folds of a protocol, or, with ``@all``, a tied split at every rho.

    A bare split name means the embedded dataset's; else the only dataset that has it. What :attr:`SplitRef.full` gives
    is understood, the settings in brackets too.

    Args:
        text: ``[dataset/]split[@rho][+protocol[.fold]]``, perhaps followed by ``[name=value,...]``.
        registry: where datasets are looked up.
        given: settings of the dataset, as text or values; those equal to the default do not count.

    Raises:
        SpurbenchError: unknown dataset, split, rho or protocol (the nearest names are given), or settings that it does not
            have.
    """
    short, settings = _without_settings(text)
    named, plus, protocol = short.partition("+")
    folds: tuple[Protocol | None, ...] = parse_protocol(protocol, text) if plus else (None,)
    body, at, rho_text = named.partition("@")
    plugin, name = _find(body, registry)
    tied = name in plugin.literal("tied", ())
    if at and not tied:
        raise SpurbenchError(f"Split {plugin.name}/{name} takes no @rho, found {text!r}. Write: {plugin.name}/{name}")
    rhos = _parse_rhos(named, rho_text if at else None, plugin) if tied else (None,)
    changed = _changed(plugin, {**(given or {}), **settings})
    return tuple(SplitRef(plugin, name, rho, changed, fold) for rho in rhos for fold in folds)


def _without_settings(text: str) -> tuple[str, dict[str, Any]]:
    """The text before the brackets, and the settings in them."""
    short, bracket, rest = text.partition("[")
    settings = {}
    while bracket and rest != "]":
        name, _, rest = rest.partition("=")
        try:
            settings[name], end = json.JSONDecoder().raw_decode(rest)
        except json.JSONDecodeError:
            raise SpurbenchError(f"Expected dataset/split@rho[setting=value,...], found {text!r}.") from None
        rest = rest[end:].removeprefix(",")
    return short, settings


def _find(body: str, registry: Registry) -> tuple[Plugin, str]:
    dataset, slash, name = body.partition("/")
    if slash:
        plugin = registry.find("dataset", dataset)
        if plugin.source is None:
            plugin.load()
        resolved = _resolve(plugin, name)
        if resolved is None:
            known = [*split_names(plugin), *plugin.literal("aliases", {})]
            raise SpurbenchError(f"Dataset {dataset!r} has no split {name!r}. {nearest(name, known)}")
        return plugin, resolved
    owners = [(p, r) for p in registry.entries("dataset") if (r := _resolve(p, body)) is not None]
    embedded = [owner for owner in owners if owner[0].literal("embedded", False)]
    chosen = [owner for owner in embedded if owner[0].origin == "built-in"] or embedded or owners
    if len(chosen) == 1:
        return chosen[0]
    known = [f"{p.name}/{split}" for p in registry.entries("dataset") for split in split_names(p)]
    if chosen:
        found = " and ".join(f"{p.name}/{r}" for p, r in chosen)
        raise SpurbenchError(f"Split {body!r} could be {found}. Write the dataset too.")
    bare = [split for p in registry.entries("dataset") if p.literal("embedded", False) for split in split_names(p)]
    raise SpurbenchError(f"Unknown split {body!r}. {nearest(body, [*bare, *known])}")


def _resolve(plugin: Plugin, name: str) -> str | None:
    name = dict(plugin.literal("aliases", {})).get(name, name)
    return name if name in split_names(plugin) else None


def _parse_rhos(text: str, rho: str | None, plugin: Plugin) -> tuple[float, ...]:
    from robustbench_spur.splits.base import RHOS

    offered = tuple(plugin.literal("rhos", RHOS))
    if rho is None:
        return (float(plugin.literal("default_rho", Dataset.default_rho)),)
    if rho == "all":
        return offered
    try:
        value = float(rho)
    except ValueError:
        value = float("nan")
    if value not in offered:
        raise SpurbenchError(f"Expected one of @{', @'.join(map(str, offered))}, @all, found {text!r}.")
    return (value,)


def _changed(plugin: Plugin, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings that differ from the default, as values."""
    if not given:
        return {}
    plugin_class = plugin.load()
    parsed, default = parse_parameters(plugin, plugin_class, given), plugin_class.Parameters()
    return {name: getattr(parsed, name) for name in given if getattr(parsed, name) != getattr(default, name)}
