"""What an evaluator's file states: is it complete, is every metric defined, and are its settings guarded?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError

from robustbench_spur.conformance.stated import BEYOND, SHORTEST_DOC
from robustbench_spur.evaluators.base import EvaluatorParameters
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.record import ROWS
from robustbench_spur.registry import Plugin
from robustbench_spur.types import PARTITIONS

KEY = re.compile(r"[a-z][a-z0-9_]*:?")
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "torchattacks",
    "torchmetrics",
    "netcal",
    "captum",
    "monai",
    "matplotlib",
    "pandas",
)
"""Libraries that are imported where they are used: scoring must not wait for them."""


def docstring(plugin: Plugin, evaluator: type[Any]) -> str:
    """The module's docstring: a first paragraph in whole sentences, and where the definition comes from."""
    doc = plugin.source.doc if plugin.source else ""
    if not doc.split("\n\n")[0].strip().endswith((".", ":", "?")):
        return "Expected a first paragraph that ends with a full stop. Say in a sentence what is measured."
    if not re.search(r"^Sources?: \S+", doc, re.MULTILINE):
        return (
            "Expected the section Source, found none. Say where the definition comes from, or that it is this file's."
        )
    return ""


def literals(plugin: Plugin, evaluator: type[Any]) -> str:
    """Summary and source are there, what the source states is what the class has, and names are of this evaluator."""
    for name in ("summary", "source"):
        stated = plugin.literal(name, "")
        if not stated or stated != getattr(evaluator, name):
            return f"Expected {name} as a literal text in the class, found {stated!r}."
    if plugin.version is None or plugin.version < 1:
        return f"Expected a version of at least 1, found {plugin.version}."
    for name in ("partitions", "reads"):
        if unknown := sorted(set(getattr(evaluator, name)) - set(PARTITIONS)):
            return f"Expected {name} among {', '.join(PARTITIONS)}, found {', '.join(unknown)}."
    if not evaluator.partitions:
        return "Expected a partition to be computed on, found none. State partitions."
    return _arrays(plugin, evaluator)


def _arrays(plugin: Plugin, evaluator: type[Any]) -> str:
    """Names of collected arrays are no other evaluator's, and nothing is stated that only a collection could use."""
    for name in evaluator.collects:
        if name in ROWS or not name.startswith(f"{plugin.name}_"):
            return f"Expected names of collected arrays that begin with {plugin.name}_, found {name!r}."
    for name in evaluator.keeps:
        if name not in evaluator.metrics:
            return f"Expected keeps to name metrics or families, found {name!r}."
    if not evaluator.collects and (evaluator.reads or evaluator.requires):
        return (
            "Expected collects to name arrays where reads or requires are stated, found none. Nothing else looks there."
        )
    return ""


def metrics(plugin: Plugin, evaluator: type[Any]) -> str:
    """Every metric has a definition in words, a range and a direction."""
    if not evaluator.metrics:
        return "Expected at least one metric, found none."
    hints = get_type_hints(Metric)
    for key, metric in evaluator.metrics.items():
        if not KEY.fullmatch(key):
            return f"Expected a name in lower case, with a colon at its end for a family, found metric {key!r}."
        if len(metric.definition) <= SHORTEST_DOC or not metric.definition.endswith("."):
            return f"Expected a definition in a whole sentence of {key!r}, found {metric.definition!r}."
        if not metric.low < metric.high:
            return f"Expected low below high in {key!r}, found {metric.low} and {metric.high}."
        for name in ("better", "interval"):
            if getattr(metric, name) not in get_args(hints[name]):
                return f"Expected {name} among {', '.join(get_args(hints[name]))} in {key!r}, found {getattr(metric, name)!r}."
    return ""


def settings(plugin: Plugin, evaluator: type[Any]) -> str:
    """Every setting has a doc line and a default that is allowed and is kept as JSON."""
    model = evaluator.Parameters
    if not issubclass(model, EvaluatorParameters):
        return f"Expected settings that derive from EvaluatorParameters, found {model.__name__}."
    stated = plugin.source.settings if plugin.source else []
    if [one.name for one in stated] != list(model.model_fields):
        return (
            "Expected every setting to be annotated in the evaluator's file, or in one beside it that it imports from."
        )
    for one in stated:
        if len(one.doc) <= SHORTEST_DOC:
            return f"Expected a doc line for the setting {one.name}, found {one.doc!r}."
    kept = model().model_dump(mode="json")
    try:
        if model.model_validate(kept) != model():
            return "Expected the defaults to come back from JSON as they were, found others: a board states them so."
    except ValidationError as error:
        return f"Expected defaults that are allowed, found {error.errors()[0]['msg']}."
    return ""


def bad_values(plugin: Plugin, evaluator: type[Any]) -> str:
    """Values beyond a bound, of a wrong type, NaN, and unknown names are refused."""
    for name, value in _bad(plugin):
        try:
            evaluator.Parameters.model_validate({name: value})
        except ValidationError as error:
            if name not in {str(part) for one in error.errors() for part in one["loc"]}:
                return f"Expected an error that names the setting {name}, found: {error.errors()[0]['msg']}"
        except Exception as error:
            return f"Expected the standard error for {name}={value!r}, found {type(error).__name__}: {error}"
        else:
            return f"Expected {name}={value!r} to be refused, found it accepted."
    return ""


def _bad(plugin: Plugin) -> Iterator[tuple[str, Any]]:
    yield "no_such_setting", 1
    for one in plugin.source.settings if plugin.source else []:
        yield from ((one.name, bound + BEYOND[kind]) for kind, bound in one.bounds.items())
        yield one.name, {"of": "no type that a setting has"}
        if one.type in ("int", "float", "bool"):
            yield from ((one.name, "many"), (one.name, float("nan")))
        if one.type == "int":
            yield one.name, 1.5


def light(plugin: Plugin, evaluator: type[Any]) -> str:
    """Nothing heavy is imported where the file is."""
    if plugin.path is None:
        return ""
    tree = ast.parse(plugin.path.read_text(encoding="utf-8"))
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in HEAVY:
                return f"Expected {name} to be imported where it is used, found it at the top (line {node.lineno})."
    return ""
