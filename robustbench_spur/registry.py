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
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from robustbench_spur.literals import PluginSource, read_plugins
from robustbench_spur.stated import LITERALS, NAME, STATED
from robustbench_spur.types import SpurbenchError, nearest

PACKAGE = "robustbench_spur"
BUILT_IN, DRAFT, NO_NAME = "built-in", "file", "an installed package"
"""Origins of plugins that belong to no distribution, or to one that gives no name."""
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
        rivals: where several plugins claim the name, all of them; this entry then stands for none, and is broken.
    """

    kind: str
    name: str
    origin: str
    path: Path | None
    module: str
    source: PluginSource | None
    reason: str = ""
    rivals: tuple[Plugin, ...] = ()

    def literal(self, attribute: str, default: Any = None) -> Any:
        """A class attribute as the source states it; of rivals what the first that states it has.

        So a bare split whose dataset is in dispute is still that dataset's, and never quietly another's.
        """
        sources = [rival.source for rival in self.rivals] or [self.source]
        return next((one.literals[attribute] for one in sources if one and attribute in one.literals), default)

    @property
    def version(self) -> int | None:
        """The integer version, None where broken."""
        value = self.literal("version")
        return value if self.source and isinstance(value, int) else None

    @property
    def where(self) -> str:
        """``file:line`` of the class; of every rival where several claim the name."""
        if self.rivals:
            return " and ".join(rival.where for rival in self.rivals)
        return f"{self.path}:{self.source.line}" if self.source else str(self.path or self.origin)

    @property
    def distribution(self) -> str:
        """Name of the distribution that it is from; empty where it is from none."""
        return "" if self.origin in (BUILT_IN, DRAFT, NO_NAME) else self.origin.rpartition(" ")[0]

    @cached_property
    def sha256(self) -> str:
        """Hash of the source file's bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path else ""

    def load(self) -> Any:
        """Import the file and return the class.

        Raises:
            SpurbenchError: the plugin is broken, with its reason.
        """
        if self.rivals:
            raise SpurbenchError(self.reason)
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
        """Every plugin of a kind, broken ones included, by name; no two have the same.

        Where several sound plugins claim a name, none gets it: one entry stands for all of them, broken, with a reason that
        says where each is. The same class found by several routes is one plugin. A broken plugin takes no other's name:
        where its own is taken, it goes by its place.
        """
        if kind not in self._entries:
            claims: dict[str, list[Plugin]] = {}
            every = [*self._built_in(kind), *self._installed(kind), *self._drafts(kind)]
            for plugin in sorted(every, key=lambda plugin: plugin.source is None):
                rivals = claims.setdefault(plugin.name, [])
                if any(_same(plugin, other) for other in rivals):
                    continue
                if plugin.source is None and rivals:
                    place = str(plugin.path or f"{plugin.origin}: {plugin.name}")
                    claims.setdefault(place, [replace(plugin, name=place)])
                else:
                    rivals.append(plugin)
            self._entries[kind] = [_holder(claims[name]) for name in sorted(claims)]
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
        for entry in _entry_points(f"{PACKAGE}.{FOLDERS[kind]}", _search_path()):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else NO_NAME
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


def _search_path() -> tuple[tuple[str, int], ...]:
    """The folders that distributions are looked for in, and when each last changed."""
    return tuple((folder, Path(folder).stat().st_mtime_ns) for folder in sys.path if Path(folder).exists())


@lru_cache(maxsize=8)
def _entry_points(group: str, path: tuple[tuple[str, int], ...]) -> importlib.metadata.EntryPoints:
    """Entry points of the distributions on a path as it is now: reading all of them takes longer than all else here."""
    return importlib.metadata.entry_points(group=group)


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


def _same(one: Plugin, other: Plugin) -> bool:
    """Whether two entries are one class, or one file that cannot be read."""
    if one.path is None or other.path is None or one.path.resolve() != other.path.resolve():
        return False
    return one.source is None or other.source is None or one.source.line == other.source.line


def _holder(claims: list[Plugin]) -> Plugin:
    """Who has a name: the one that claims it, else an entry that says who they are and how to end it."""
    first = claims[0]
    if len(claims) == 1:
        return first
    count = "Two" if len(claims) == 2 else str(len(claims))
    places = " and ".join(f"{plugin.where} ({plugin.origin})" for plugin in claims)
    ways = ["Rename one"]
    ways += [f"leave out --plugin {plugin.path}" for plugin in claims if plugin.origin == DRAFT]
    ways += [f"run: pip uninstall {plugin.distribution}" for plugin in claims if plugin.distribution]
    reason = f"{count} {first.kind}s are named {first.name!r}: {places}. {', or '.join(dict.fromkeys(ways))}."
    origin = " and ".join(dict.fromkeys(plugin.origin for plugin in claims))
    return Plugin(first.kind, first.name, origin, None, "", None, reason, tuple(claims))


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
