"""What every method of the registry keeps to. A new method joins by being there."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from robustbench_spur.conformance import check
from robustbench_spur.engine import view_of
from robustbench_spur.method import TRACKS, Batch, Method, View, track_of
from robustbench_spur.parameters import Choice, Hyperparameters, Training
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.types import PARTITIONS, HiddenError, SplitTable
from tests.methods.toy import mixed, universe

METHODS = Registry().entries("method")
GUARDED = {"train": "train_attributes", "validation": "validation_attributes", "adapt": "adapt"}
every_method = pytest.mark.parametrize("plugin", METHODS, ids=lambda plugin: plugin.name)


def loaded(plugin: Plugin) -> type[Method]:
    return cast(type[Method], plugin.load())


def test_the_four_methods_are_there() -> None:
    assert {"erm", "groupdro", "jtt", "dfr"} <= {plugin.name for plugin in METHODS}


# what its file states


@every_method
def test_docstring(plugin: Plugin) -> None:
    assert plugin.source is not None
    first = plugin.source.doc.splitlines()[0]
    assert first.endswith(".") or plugin.source.doc.split("\n\n")[0].endswith(".")
    for section in ("Source", "Deviations", "Needs"):
        assert re.search(rf"^{section}: \S+", plugin.source.doc, re.MULTILINE), f"{plugin.name} states no {section}"


@every_method
def test_literals_are_the_classs(plugin: Plugin) -> None:
    assert plugin.source is not None
    method = loaded(plugin)
    for name in ("name", "version", "summary", "source", "needs"):
        assert plugin.source.literals[name] == getattr(method, name)
    for name in ("every_group_in", "presets"):
        assert plugin.source.literals.get(name, type(getattr(method, name))()) == getattr(method, name)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", method.name)
    assert method.version >= 1 and method.summary and method.source


@every_method
def test_what_it_declares_is_known(plugin: Plugin) -> None:
    method = loaded(plugin)
    assert set(method.needs) <= set(TRACKS)
    assert set(method.every_group_in) <= set(PARTITIONS) - {"test"}
    assert track_of(method.needs) in {"none", *TRACKS.values()}


@every_method
def test_its_file_is_short_and_imports_only_public_names(plugin: Plugin) -> None:
    assert plugin.path is not None
    text = plugin.path.read_text()
    assert len(text.splitlines()) <= 160
    internal = re.findall(r"^(?:from|import) (robustbench_spur\.(?!methods\.)\S+)", text, re.MULTILINE)
    assert not internal


# its settings


@every_method
def test_every_setting_has_a_doc_and_a_default_in_range(plugin: Plugin) -> None:
    assert plugin.source is not None
    settings = loaded(plugin).Hyperparameters
    assert issubclass(settings, Hyperparameters)
    assert [field.name for field in plugin.source.settings] == list(settings.model_fields)
    for field in plugin.source.settings:
        assert len(field.doc) > 10 and field.doc == settings.model_fields[field.name].description
    for epochs in (1, 8, 50):
        defaults = settings().resolved(Training(epochs=epochs)).model_dump()
        assert None not in defaults.values()
        assert settings.parse(defaults, plugin.name).model_dump() == defaults


@every_method
def test_its_search_ranges_are_allowed_values(plugin: Plugin) -> None:
    assert plugin.source is not None
    for field in plugin.source.settings:
        ends = field.search.options if isinstance(field.search, Choice) else ()
        if hasattr(field.search, "low"):
            assert field.search.low < field.search.high
            ends = (field.search.low, field.search.high)
        for value in ends:
            loaded(plugin).Hyperparameters.parse({field.name: value}, plugin.name)


@every_method
def test_its_presets_parse(plugin: Plugin) -> None:
    for name, preset in loaded(plugin).presets.items():
        assert name and preset
        parsed = loaded(plugin).Hyperparameters.parse(preset, plugin.name)
        assert {field: getattr(parsed, field) for field in preset} == preset


# what it may see


def open_split() -> OpenSplit:
    rows = {name: mixed(8, seed=k) for k, name in enumerate(PARTITIONS)}
    table = SimpleNamespace(partitions=rows, groups=universe())
    return cast(OpenSplit, SimpleNamespace(table=cast(SplitTable, table)))


def batch(view: View) -> Batch:
    rows = torch.arange(4)
    labels, attributes = (torch.from_numpy(c)[rows] for c in (view.partition.labels, view.partition.attributes))
    return Batch(torch.zeros(4, 1, 2, 2), labels, rows, attributes, view)


@every_method
@pytest.mark.parametrize("partition", list(GUARDED))
def test_group_labels_are_out_of_reach_unless_declared(plugin: Plugin, partition: str) -> None:
    method = loaded(plugin)()
    view = view_of(method, open_split(), partition, seed=0)
    reads = [(view, name) for name in ("attributes", "groups", "group_counts")]
    reads += [(cast(Any, batch(view)), name) for name in ("attributes", "groups")]
    for owner, name in reads:
        if GUARDED[partition] in method.needs:
            assert len(getattr(owner, name))
        else:
            with pytest.raises(HiddenError, match=f"{plugin.name} read group labels that it did not declare"):
                getattr(owner, name)


# all else


@every_method
def test_it_conforms(plugin: Plugin) -> None:
    """The kit runs whole cells: repeatable, resumable, blind to what was not declared, whole on data that are hard on it."""
    report = check(plugin.name)
    assert report.passed, report
    assert all(one.status == "ok" for one in report.checks), report
