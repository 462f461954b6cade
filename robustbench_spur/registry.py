"""Finds plugins without running them, and loads one when it is asked for.

Three ways in, one registry: a file in the package's own folders, an installed distribution with an entry point, a
draft given by path. Name, version, needs and settings are literals in the source, read with :mod:`ast`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from robustbench_spur.literals import PluginSource, read_plugins
from robustbench_spur.types import SpurbenchError, nearest

PACKAGE = "robustbench_spur"
FOLDERS = {"method": "methods", "evaluator": "evaluators", "dataset": "splits"}
"""Kind of plugin, and the name of its package, entry-point group and list."""


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
        return f"{self.path}:{self.source.line}" if self.source else str(self.path or self.module)

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
            cause = f"{type(error).__name__}: {error}"
            raise SpurbenchError(f"{self.kind} {self.name!r} is broken: {cause} ({self.where})") from error
        for attribute in ("name", "version", "needs", "every_group_in", "partitions", "splits", "tied"):
            meant, stated = getattr(loaded, attribute, None), self.literal(attribute)
            if attribute in self.source.literals and stated != meant:
                raise SpurbenchError(
                    f"{self.where} states {attribute} = {stated!r} but the class has {meant!r}. Write it as a literal."
                )
            if meant and attribute not in self.source.literals:
                raise SpurbenchError(f"{self.where} inherits {attribute} = {meant!r}. Write it out as a literal.")
        return loaded


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

        Raises:
            SpurbenchError: two different plugins claim one name; both are named.
        """
        if kind not in self._entries:
            found: dict[str, Plugin] = {}
            for plugin in (*self._built_in(kind), *self._installed(kind), *self._drafts(kind)):
                other = found.get(plugin.name)
                if other is None:
                    found[plugin.name] = plugin
                elif other.path is None or plugin.path is None or other.path.resolve() != plugin.path.resolve():
                    raise SpurbenchError(
                        f"Two {kind}s are named {plugin.name!r}: {other.where} ({other.origin}) and {plugin.where}"
                        f" ({plugin.origin}). Rename or remove one."
                    )
            self._entries[kind] = [found[name] for name in sorted(found)]
        return self._entries[kind]

    def find(self, kind: str, name: str) -> Plugin:
        """The plugin of that name.

        Raises:
            SpurbenchError: no such plugin; the nearest names are given.
        """
        for plugin in self.entries(kind):
            if plugin.name == name:
                return plugin
        known = [plugin.name for plugin in self.entries(kind)]
        raise SpurbenchError(f"Unknown {kind} {name!r}. {nearest(name, known)}")

    def _built_in(self, kind: str) -> Iterator[Plugin]:
        package = importlib.import_module(f"{PACKAGE}.{FOLDERS[kind]}")
        for folder in map(Path, package.__path__):
            for path in sorted(folder.glob("*.py")):
                yield from _read(kind, path, "built-in", f"{package.__name__}.{path.stem}")

    def _installed(self, kind: str) -> Iterator[Plugin]:
        for entry in importlib.metadata.entry_points(group=f"{PACKAGE}.{FOLDERS[kind]}"):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an installed package"
            path = _source_of(entry)
            if path is None:
                yield Plugin(kind, entry.name, origin, None, entry.module, None, f"no source found for {entry.value}")
                continue
            found = [p for p in _read(kind, path, origin, entry.module) if p.source is None or p.name == entry.name]
            reason = f"{path} defines no {kind} named {entry.name!r}"
            yield from found or [Plugin(kind, entry.name, origin, path, entry.module, None, reason)]

    def _drafts(self, kind: str) -> Iterator[Plugin]:
        for path in self.files:
            yield from _read(kind, path, "file", "")


def _read(kind: str, path: Path, origin: str, module: str) -> list[Plugin]:
    try:
        sources = read_plugins(path)
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        return [Plugin(kind, path.stem, origin, path, module, None, f"{type(error).__name__}: {error}")]
    return [
        Plugin(kind, str(source.literals["name"]), origin, path, module, source)
        for source in sources
        if source.kind == kind
    ]


def _source_of(entry: importlib.metadata.EntryPoint) -> Path | None:
    """The file behind an entry point, found without importing its package."""
    parts = entry.module.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):
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
