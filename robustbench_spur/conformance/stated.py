"""What a method's file states: is it complete, and are its settings guarded?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from robustbench_spur.method import TRACKS
from robustbench_spur.parameters import Choice, Hyperparameters, Training
from robustbench_spur.registry import Plugin
from robustbench_spur.types import PARTITIONS, SpurbenchError

SECTIONS = ("Source", "Deviations", "Needs")
SHORTEST_DOC = 10
BEYOND = {"above": 0.0, "at_least": -1.0, "below": 0.0, "at_most": 1.0}
"""What is added to a bound to make a value that it forbids."""


def docstring(plugin: Plugin, method: type[Any]) -> str:
    """The module's docstring: a first sentence, then where the method comes from, its departures, and what it needs."""
    doc = plugin.source.doc if plugin.source else ""
    if not doc.split("\n\n")[0].strip().endswith("."):
        return "Expected a first paragraph that ends with a full stop. Say in a sentence what the method does to ERM."
    missing = [name for name in SECTIONS if not re.search(rf"^{name}: \S+", doc, re.MULTILINE)]
    return f"Expected the sections {', '.join(SECTIONS)}, found no {' and no '.join(missing)}." if missing else ""


def literals(plugin: Plugin, method: type[Any]) -> str:
    """Summary and source are there, and what the source states is what the class has."""
    for name in ("summary", "source"):
        stated = plugin.literal(name, "")
        if not stated or stated != getattr(method, name):
            return f"Expected {name} as a literal text in the class, found {stated!r}."
    if plugin.version is None or plugin.version < 1:
        return f"Expected a version of at least 1, found {plugin.version}."
    if unknown := set(method.needs) - set(TRACKS):
        return f"Expected needs among {', '.join(TRACKS)}, found {', '.join(sorted(unknown))}."
    reachable = [name for name in PARTITIONS if name != "test"]
    if unknown := set(method.every_group_in) - set(reachable):
        return f"Expected every_group_in among {', '.join(reachable)}, found {', '.join(sorted(unknown))}."
    return ""


def settings(plugin: Plugin, method: type[Any]) -> str:
    """Every setting has a doc line, a default in range at any budget, and search ranges and presets of allowed values."""
    model = method.Hyperparameters
    if not issubclass(model, Hyperparameters):
        return f"Expected settings that derive from Hyperparameters, found {model.__name__}."
    stated = plugin.source.settings if plugin.source else []
    if [one.name for one in stated] != list(model.model_fields):
        return "Expected every setting to be annotated in the method's file, or in one beside it that it imports from."
    for one in stated:
        if len(one.doc) <= SHORTEST_DOC:
            return f"Expected a doc line for the setting {one.name}, found {one.doc!r}."
    try:
        for epochs in (1, 8, 50):
            model.parse(model().resolved(Training(epochs=epochs)).model_dump(), plugin.name)
        for name, value in _search_ends(plugin):
            model.parse({name: value}, plugin.name)
        for preset in method.presets.values():
            model.parse(preset, plugin.name)
    except SpurbenchError as error:
        return f"Expected defaults, search ranges and presets of allowed values. {error}"
    return ""


def _search_ends(plugin: Plugin) -> Iterator[tuple[str, Any]]:
    for one in plugin.source.settings if plugin.source else []:
        ends = one.search.options if isinstance(one.search, Choice) else ()
        if hasattr(one.search, "low"):
            ends = (one.search.low, one.search.high)
        for end in ends:
            yield one.name, end


def bad_values(plugin: Plugin, method: type[Any]) -> str:
    """Values beyond a bound, of a wrong type, NaN, and unknown names are refused by the standard error."""
    tried: list[tuple[str, Any]] = [("no_such_setting", 1)]
    for one in plugin.source.settings if plugin.source else []:
        tried += [(one.name, bound + BEYOND[kind]) for kind, bound in one.bounds.items()]
        tried.append((one.name, {"of": "no type that a setting has"}))
        if one.type in ("int", "float", "bool"):
            tried += [(one.name, "many"), (one.name, float("nan"))]
        if one.type == "int":
            tried.append((one.name, 1.5))
    for name, value in tried:
        try:
            method.Hyperparameters.parse({name: value}, plugin.name)
        except SpurbenchError as error:
            if not re.search(rf"[Ss]etting '?{re.escape(name)}\b", str(error)):
                return f"Expected an error that names the setting {name}, found: {error}"
        except Exception as error:
            return f"Expected the standard error for {name}={value!r}, found {type(error).__name__}: {error}"
        else:
            return f"Expected {name}={value!r} to be refused, found it accepted."
    return ""
