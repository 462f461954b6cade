"""Finds plugins without running them, and loads one when it is asked for.

Three ways in, one registry: a file in the package's own folders, an installed distribution with an entry point, a
draft given by path. Name, version, needs and settings are literals in the source, read with :mod:`ast`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.literals import PluginSource, read_plugins
from robustbench_spur.splits.base import Archive
from robustbench_spur.types import SpurbenchError, nearest

PACKAGE = "robustbench_spur"
PartitionName = Literal["train", "validation", "adapt", "selection", "test"]
BUILT_IN, DRAFT = "built-in", "file"
"""Origins of plugins that belong to no distribution."""
SETTINGS = {"method": "Hyperparameters", "evaluator": "Parameters", "dataset": "Parameters"}
"""Name of the settings class of a plugin of each kind."""
FOLDERS = {"method": "methods", "evaluator": "evaluators", "dataset": "splits"}
"""Kind of plugin, and the name of its package, entry-point group and list."""
CONTRACTS = {
    "method": (f"{PACKAGE}.method", "Method"),
    "evaluator": (f"{PACKAGE}.evaluators.base", "Evaluator"),
    "dataset": (f"{PACKAGE}.splits.base", "Dataset"),
}
"""Module and name of the class that a plugin of each kind derives from."""
NAME = re.compile("[a-z][a-z0-9_]*")
"""What a plugin may be called: names are parts of file names, of options and of pages."""


class _Literals(BaseModel):
    """What a class states, as the source has it."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: int = Field(ge=0)
    summary: str = ""
    source: str = ""


class _MethodLiterals(_Literals):
    needs: tuple[Literal["validation_attributes", "train_attributes", "adapt", "shortcut"], ...] = ()
    every_group_in: tuple[PartitionName, ...] = ()
    presets: dict[str, dict[str, Any]] = {}


class _EvaluatorLiterals(_Literals):
    metrics: dict[str, Metric]
    collects: tuple[str, ...] = ()
    partitions: tuple[PartitionName, ...] = ()


class _DatasetLiterals(_Literals):
    splits: dict[str, str] = Field(min_length=1)
    aliases: dict[str, str] = {}
    tied: tuple[str, ...] = ()
    rhos: tuple[float, ...] = ()
    default_rho: float = 1.0
    embedded: bool = False
    image_size: int = Field(default=8, ge=8)
    image_sizes: tuple[int, ...] = ()
    channels: int = Field(default=1, ge=1)
    augmentations: tuple[Literal["horizontal_flip", "shift"], ...] = ()
    licence: str = ""
    archives: tuple[Archive, ...] = ()


LITERALS: dict[str, type[_Literals]] = {
    "method": _MethodLiterals,
    "evaluator": _EvaluatorLiterals,
    "dataset": _DatasetLiterals,
}
"""Types of what is believed of the source without running it."""
STATED = {
    "method": ("name", "version", "needs", "every_group_in", "presets"),
    "evaluator": ("name", "version", "metrics", "collects", "partitions"),
    "dataset": ("name", "version", "splits", "aliases", "tied", "rhos", "default_rho", "embedded"),
}
"""Class attributes that the source is believed on: the class must have the same values."""


@dataclass(frozen=True)
class Plugin:
    """One entry of the registry.

    Args:
        kind: ``"method"``, ``"evaluator"`` or ``"dataset"``.
        name: by which it is asked for.
        origin: ``"built-in"``, ``"NAME VERSION"`` of a distribution, or ``"file"``.
        path: the source file; None where it could not be found.
        module: importable name; empty for a draft given by path.
        source: what was read from the file; None where it is broken.
        reason: why it is broken; empty where it is not.
    """

    kind: str
    name: str
    origin: str
    path: Path | None
    module: str
    source: PluginSource | None
    reason: str = ""

    def literal(self, attribute: str, default: Any = None) -> Any:
        """A class attribute as the source states it."""
        return self.source.literals.get(attribute, default) if self.source else default

    @property
    def version(self) -> int | None:
        """The integer version, None where broken."""
        value = self.literal("version")
        return value if isinstance(value, int) else None

    @property
    def where(self) -> str:
        """``file:line`` of the class."""
        return f"{self.path}:{self.source.line}" if self.source else str(self.path or self.origin)

    @cached_property
    def sha256(self) -> str:
        """Hash of the source file's bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path else ""

    def load(self) -> Any:
        """Import the file and return the class.

        Raises:
            SpurbenchError: the plugin is broken, with its reason.
        """
        if self.source is None:
            raise SpurbenchError(f"{self.kind} {self.name!r} is broken: {self.reason} ({self.where})")
        try:
            module = importlib.import_module(self.module) if self.module else _module_from(self.path or Path())
            loaded = getattr(module, self.source.class_name)
        except (Exception, SystemExit) as error:
            cause = _in_one_line(error)
            raise SpurbenchError(f"{self.kind} {self.name!r} is broken: {cause} ({self.where})") from error
        self._check(loaded, self.source)
        return loaded

    def _check(self, loaded: Any, source: PluginSource) -> None:
        """Refuse a class of another kind, or one that is not what its source states."""
        module, base = CONTRACTS[self.kind]
        ancestors = loaded.__mro__ if isinstance(loaded, type) else ()
        contract = next((c for c in ancestors if (c.__module__, c.__qualname__) == (module, base)), None)
        if contract is None:
            raise SpurbenchError(
                f"{self.where} was read as a {self.kind}, but the class does not derive from {module}.{base}."
                " An evaluator states its metrics, a dataset its splits."
            )
        settings = getattr(loaded, SETTINGS[self.kind])
        if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
            raise SpurbenchError(
                f"{self.where} states {SETTINGS[self.kind]} = {settings!r}, which is no settings class."
            )
        for attribute in STATED[self.kind]:
            meant, default = getattr(loaded, attribute, None), getattr(contract, attribute, None)
            stated = source.literals.get(attribute, default)
            if stated == meant:
                continue
            if attribute in source.literals:
                raise SpurbenchError(
                    f"{self.where} states {attribute} = {stated!r} but the class has {meant!r}. Write it as a literal."
                )
            raise SpurbenchError(f"{self.where} inherits {attribute} = {meant!r}. Write it out as a literal.")


def _module_from(path: Path) -> ModuleType:
    """Import a file under a name of its own, once per content."""
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:16]
    name = f"spurbench_draft_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpurbenchError(f"Expected a Python file, found {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@dataclass
class Registry:
    """All plugins that can be seen from here.

    Args:
        files: drafts given by path.
    """

    files: tuple[Path, ...] = ()
    _entries: dict[str, list[Plugin]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.files:
            if not path.is_file():
                raise SpurbenchError(f"Expected a plugin file at {path}, found none. Check --plugin.")

    def entries(self, kind: str) -> list[Plugin]:
        """Every plugin of a kind, broken ones included, by name.

        A broken plugin takes no other's name: where its own is taken, it goes by its place.

        Raises:
            SpurbenchError: two different plugins claim one name; both are named.
        """
        if kind not in self._entries:
            found: dict[str, Plugin] = {}
            every = [*self._built_in(kind), *self._installed(kind), *self._drafts(kind)]
            for plugin in sorted(every, key=lambda plugin: plugin.source is None):
                other = found.get(plugin.name)
                if other is None:
                    found[plugin.name] = plugin
                elif _same_file(plugin, other):
                    continue
                elif plugin.source is None:
                    found.setdefault(plugin.where, replace(plugin, name=plugin.where))
                else:
                    raise SpurbenchError(
                        f"Two {kind}s are named {plugin.name!r}: {other.where} ({other.origin}) and {plugin.where}"
                        f" ({plugin.origin}). Rename or remove one."
                    )
            self._entries[kind] = [found[name] for name in sorted(found)]
        return self._entries[kind]

    def find(self, kind: str, name: str) -> Plugin:
        """The plugin of that name.

        Raises:
            SpurbenchError: no such plugin; the nearest names are given, and the drafts that could not be read.
        """
        entries = self.entries(kind)
        for plugin in entries:
            if plugin.name == name:
                return plugin
        drafts = [plugin for plugin in entries if plugin.source is None and plugin.origin == DRAFT]
        broken = "".join(f"{plugin.where} is broken: {plugin.reason}. " for plugin in drafts)
        raise SpurbenchError(f"Unknown {kind} {name!r}. {broken}{nearest(name, [plugin.name for plugin in entries])}")

    def _built_in(self, kind: str) -> Iterator[Plugin]:
        package = importlib.import_module(f"{PACKAGE}.{FOLDERS[kind]}")
        for folder in map(Path, package.__path__):
            for path in sorted(folder.glob("*.py")):
                yield from _read(kind, path, BUILT_IN, f"{package.__name__}.{path.stem}")

    def _installed(self, kind: str) -> Iterator[Plugin]:
        for entry in importlib.metadata.entry_points(group=f"{PACKAGE}.{FOLDERS[kind]}"):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
            path = _source_of(entry)
            if path is None:
                yield Plugin(kind, entry.name, origin, None, "", None, f"no source found for {entry.value!r}")
                continue
            found = _read(kind, path, origin, entry.module)
            own = [plugin for plugin in found if entry.name == plugin.name and plugin.source is not None]
            reasons = [plugin.reason for plugin in found if plugin.source is None]
            reason = reasons[0] if reasons else f"{path} defines no {kind} named {entry.name!r}"
            yield from own or [Plugin(kind, entry.name, origin, path, entry.module, None, reason)]

    def _drafts(self, kind: str) -> Iterator[Plugin]:
        for path in self.files:
            found = {each: _read(each, path, DRAFT, "") for each in FOLDERS}
            unread = [plugins[0] for plugins in found.values() if plugins and plugins[0].source is None]
            if any(found.values()) and len(unread) < len(FOLDERS):
                yield from found[kind]
            elif kind == _meant_kind(path):
                reason = unread[0].reason if unread else "no class in it states a name and a version"
                yield Plugin(kind, path.stem, DRAFT, path, "", None, reason)


def _read(kind: str, path: Path, origin: str, module: str) -> list[Plugin]:
    """The plugins of a kind in a file, or one that is broken where the file cannot be read."""
    try:
        sources = read_plugins(path)
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        return [Plugin(kind, path.stem, origin, path, module, None, _in_one_line(error))]
    return [_plugin(source, origin, path, module) for source in sources if source.kind == kind]


def _plugin(source: PluginSource, origin: str, path: Path, module: str) -> Plugin:
    """A plugin, which is broken where its class states something else than its kind has."""
    name = str(source.literals["name"])
    try:
        LITERALS[source.kind].model_validate(source.literals)
    except ValidationError as error:
        first = error.errors()[0]
        attribute = ".".join(map(str, first["loc"]))
        reason = f"line {source.line} states {attribute} = {first['input']!r}: {first['msg'].lower()}, as a literal"
        return Plugin(source.kind, name if NAME.fullmatch(name) else path.stem, origin, path, module, None, reason)
    return Plugin(source.kind, name, origin, path, module, source)


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _same_file(one: Plugin, other: Plugin) -> bool:
    return one.path is not None and other.path is not None and one.path.resolve() == other.path.resolve()


def _meant_kind(path: Path) -> str:
    """What a draft that cannot be read is taken for: the first kind whose base class it names, else a method."""
    text = ""
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
    return next((kind for kind, (_, base) in CONTRACTS.items() if base in text), "method")


def _source_of(entry: importlib.metadata.EntryPoint) -> Path | None:
    """The file behind an entry point, found without importing its package."""
    try:
        parts = entry.module.split(".")
        spec = importlib.util.find_spec(parts[0])
    except (AttributeError, ImportError, ValueError):  # the first where the entry is not written as module:class
        return None
    if spec is None:
        return None
    if len(parts) == 1:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or []:
        base = Path(folder).joinpath(*parts[1:])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None
