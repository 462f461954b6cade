"""How a split is named, ``dataset/split@rho``, and the way from the name to its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

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
    """

    plugin: Plugin
    split: str
    rho: float | None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.plugin.name

    @property
    def full(self) -> str:
        """The split in full: ``dataset/split@rho``, with settings in brackets where they are not the default."""
        rho = "" if self.rho is None else f"@{self.rho}"
        given = ",".join(f"{name}={canonical(value)}" for name, value in sorted(self.given.items()))
        return f"{self.dataset}/{self.split}{rho}" + (f"[{given}]" if given else "")

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
        plugin_class = self.ref.plugin.load()
        parameters = parse_parameters(self.ref.plugin, plugin_class, self.ref.given)
        loaded: Dataset = plugin_class(parameters, self.path)
        return loaded

    @cached_property
    def table(self) -> SplitTable:
        """Its rows."""
        return self.dataset.table(self.ref.split, self.ref.rho)

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
    """Find the split that a text names.

    A bare split name means the embedded dataset's; else the only dataset that has it. What :attr:`SplitRef.full` gives
    is understood, the settings in brackets too.

    Args:
        text: ``[dataset/]split[@rho]``, perhaps followed by ``[name=value,...]``.
        registry: where datasets are looked up.
        given: settings of the dataset, as text or values; those equal to the default do not count.

    Raises:
        SpurbenchError: unknown dataset, split or rho (the nearest names are given), or settings that it does not have.
    """
    short, settings = _without_settings(text)
    if "+" in short:
        raise SpurbenchError(f"Expected dataset/split@rho, found {text!r}: no protocol after '+' is offered.")
    body, at, rho_text = short.partition("@")
    plugin, name = _find(body, registry)
    tied = name in plugin.literal("tied", ())
    rho = _parse_rho(short, rho_text if at else None, plugin) if tied else None
    if at and not tied:
        raise SpurbenchError(f"Split {plugin.name}/{name} takes no @rho, found {text!r}. Write: {plugin.name}/{name}")
    return SplitRef(plugin, name, rho, _changed(plugin, {**(given or {}), **settings}))


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


def _parse_rho(text: str, rho: str | None, plugin: Plugin) -> float:
    from robustbench_spur.splits.base import RHOS

    offered = tuple(plugin.literal("rhos", RHOS))
    if rho is None:
        return float(plugin.literal("default_rho", Dataset.default_rho))
    try:
        value = float(rho)
    except ValueError:
        value = float("nan")
    if value not in offered:
        raise SpurbenchError(f"Expected one of @{', @'.join(map(str, offered))}, found {text!r}.")
    return value


def _changed(plugin: Plugin, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings that differ from the default, as values."""
    if not given:
        return {}
    plugin_class = plugin.load()
    parsed, default = parse_parameters(plugin, plugin_class, given), plugin_class.Parameters()
    return {name: getattr(parsed, name) for name in given if getattr(parsed, name) != getattr(default, name)}
