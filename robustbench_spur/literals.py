"""Reads plugin classes from source with :mod:`ast`: names, versions, docstrings and settings, without running anything."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.parameters import Choice, LogUniform, Share, Uniform
from robustbench_spur.splits.base import Archive

CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "Archive": Archive,
    "Choice": Choice,
    "LogUniform": LogUniform,
    "Metric": Metric,
    "Share": Share,
    "Uniform": Uniform,
    "float": float,
}
SETTINGS_CLASSES = ("Hyperparameters", "Parameters")
DECLARERS = ("parameter", "Field")
BOUNDS = {"above": "> {}", "at_least": ">= {}", "below": "< {}", "at_most": "<= {}"}
"""Bounds of a field, and how they are worded."""
RENAMED = {"description": "doc", "gt": "above", "ge": "at_least", "lt": "below", "le": "at_most"}
"""What pydantic's ``Field`` calls the arguments of ``parameter``."""


@dataclass(frozen=True)
class SettingSource:
    """One field of a settings class as the source states it.

    Args:
        name: of the field.
        type: its annotation, as text.
        default: its default, a :class:`~robustbench_spur.parameters.Share`, or source text.
        doc: its doc line.
        bounds: such as ``{"above": 0}``.
        search: the declared search range, None where there is none.
    """

    name: str
    type: str
    default: Any
    doc: str
    bounds: Mapping[str, float]
    search: Any

    @property
    def range(self) -> str:
        """The allowed values, in words; empty where anything of the type goes."""
        return ", ".join(BOUNDS[bound].format(value) for bound, value in self.bounds.items())


@dataclass(frozen=True)
class PluginSource:
    """One plugin class as its source states it.

    Args:
        kind: ``"method"``, ``"evaluator"`` or ``"dataset"``.
        class_name: name of the class.
        line: where it begins.
        doc: docstring of the module, or of the class where the module has none.
        literals: class attributes, by name.
        settings: fields of its settings class.
    """

    kind: str
    class_name: str
    line: int
    doc: str
    literals: dict[str, Any]
    settings: list[SettingSource] = field(default_factory=list)


def read_plugins(path: Path) -> list[PluginSource]:
    """Every plugin class in a file: a top-level class whose body states ``name`` and ``version``.

    Raises:
        SyntaxError: the file is not Python.
        OSError: the file cannot be read.
    """
    known = _READ.get(path)
    if known is None or any(_stamp(file) != stamp for file, stamp in known[0].items()):
        files: dict[Path, Any] = {path: _stamp(path)}
        known = _READ[path] = files, _plugins(path, files)
    return known[1]


_READ: dict[Path, tuple[dict[Path, Any], list[PluginSource]]] = {}
"""What was read of each file, with the stamps of the files that it was read from: every stage looks its plugin up."""


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


@lru_cache(maxsize=512)
def _tree(path: Path, stamp: Any) -> ast.Module:
    """The syntax tree of a file as it is now: many import the same few beside them."""
    return ast.parse(path.read_bytes(), filename=str(path))


def _plugins(path: Path, files: dict[Path, Any]) -> list[PluginSource]:
    tree = _tree(path, files[path])
    constants = _assignments(tree.body, {})
    own = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    classes = {**_imported(tree, path, files), **own}
    doc = ast.get_docstring(tree) or ""
    found = []
    for node in own.values():
        literals = _assignments(node.body, constants)
        if isinstance(literals.get("name"), str) and "version" in literals:
            kind = "evaluator" if "metrics" in literals else "dataset" if "splits" in literals else "method"
            text = doc or ast.get_docstring(node) or ""
            found.append(
                PluginSource(kind, node.name, node.lineno, text, literals, _settings(node, classes, constants))
            )
    return found


def _imported(tree: ast.Module, path: Path, files: dict[Path, Any]) -> dict[str, ast.ClassDef]:
    """Classes that a file imports from a plugin beside it, for settings that a family shares; nothing is run.

    The files that are read are put into ``files`` with their stamps.
    """
    found: dict[str, ast.ClassDef] = {}
    for node in tree.body:
        if not (isinstance(node, ast.ImportFrom) and node.module):
            continue
        other = path.with_name(f"{node.module.rpartition('.')[2]}.py")
        if other == path or not other.is_file():
            continue
        again, files[other] = other in files, _stamp(other)
        if again:
            continue
        try:
            inner = _tree(other, files[other])
        except (SyntaxError, ValueError):  # its own entry says what is wrong with it
            continue
        names = {alias.name: alias.asname or alias.name for alias in node.names}
        below = _imported(inner, other, files)
        there = {**below, **{one.name: one for one in inner.body if isinstance(one, ast.ClassDef)}}
        # bases of what is imported are needed too
        found |= {names.get(name, name): one for name, one in there.items()}
    return found


def _assignments(body: list[ast.stmt], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name; an expression may use the constants and what was assigned above it."""
    values: dict[str, Any] = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name):
            values[target.id] = evaluate(value, {**constants, **values})
    return values


def evaluate(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """The value of a literal expression; its source text where it is more than a literal."""
    try:
        return _evaluate(node, constants)
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return ast.unparse(node)


def _evaluate(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name), keywords=given) if name in CONSTRUCTORS and all(k.arg for k in given):
            keywords = {str(k.arg): _evaluate(k.value, constants) for k in given}
            return CONSTRUCTORS[name](*(_evaluate(a, constants) for a in node.args), **keywords)
        case ast.Tuple(elts=elements):
            return tuple(_evaluate(e, constants) for e in elements)
        case ast.List(elts=elements):
            return [_evaluate(e, constants) for e in elements]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_evaluate(k, constants): _evaluate(v, constants) for k, v in pairs if k is not None}
        case ast.Name(id=name):
            return constants[name]
        case _:
            return ast.literal_eval(node)


def _settings(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], constants: Mapping[str, Any]
) -> list[SettingSource]:
    """Fields of the settings class: nested in the plugin class, or named by an assignment there."""
    for statement in node.body:
        if isinstance(statement, ast.ClassDef) and statement.name in SETTINGS_CLASSES:
            return list(_fields(statement, classes, constants).values())
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        named = any(isinstance(target, ast.Name) and target.id in SETTINGS_CLASSES for target in targets)
        value = getattr(statement, "value", None)
        if named and isinstance(value, ast.Name) and value.id in classes:
            return list(_fields(classes[value.id], classes, constants).values())
    return []


def _fields(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], constants: Mapping[str, Any]
) -> dict[str, SettingSource]:
    """Fields by name, those of base classes in the same file first."""
    fields: dict[str, SettingSource] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name:
            fields |= _fields(classes[base.id], classes, constants)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            fields[name] = _field(name, ast.unparse(statement.annotation), statement.value, constants)
    return fields


def _field(name: str, annotation: str, value: ast.expr | None, constants: Mapping[str, Any]) -> SettingSource:
    """A field that is declared by ``parameter(...)`` or ``Field(...)``, or by a plain default."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in DECLARERS):
        default = None if value is None else evaluate(value, constants)
        return SettingSource(name, annotation, default, "", {}, None)
    given = dict(zip(("default", "doc"), (evaluate(a, constants) for a in value.args), strict=False))
    given |= {RENAMED.get(k.arg, k.arg): evaluate(k.value, constants) for k in value.keywords if k.arg}
    bounds = {bound: given[bound] for bound in BOUNDS if bound in given}
    return SettingSource(name, annotation, given.get("default"), str(given.get("doc", "")), bounds, given.get("search"))
