"""What every method of the registry keeps to. A new method joins by being there."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from robustbench_spur.cell import build_stages
from robustbench_spur.engine import view_of
from robustbench_spur.executor import LocalExecutor
from robustbench_spur.home import Home
from robustbench_spur.method import TRACKS, Batch, Method, View, track_of
from robustbench_spur.parameters import Choice, Hyperparameters, Training
from robustbench_spur.plan import Plan, Request, make_plan
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.types import PARTITIONS, HiddenError, SplitTable
from tests.methods.toy import DATASET, mixed, universe

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


# a whole cell


def planned(plugin: Plugin, split: str, home: Path, *, force: bool = False) -> Plan:
    request = Request(
        methods=(plugin.name,),
        splits=(split,),
        seeds=(3,),
        settings={"epochs": 2, "batch_size": 32},
        plugin_files=(DATASET,),
        device="cpu",
        home=Home(home),
        force=force,
    )
    return make_plan(request)


def compute(plan: Plan) -> dict[str, np.ndarray[Any, Any]]:
    """Logits of every partition of the one cell of a plan."""
    (cell,) = plan.cells
    assert not cell.reason
    stages = build_stages(cell.spec)
    executor = LocalExecutor()
    for outcome in executor.run(tuple(stages.outputs.values()), plan.runtime, lambda stage, done, total: None):
        assert outcome.error is None, outcome.error
    return {name: plan.runtime.artifacts.arrays(stage.key)["logits"] for name, stage in stages.outputs.items()}


@every_method
def test_global_random_state_neither_matters_nor_moves(plugin: Plugin, tmp_path: Path) -> None:
    def state() -> tuple[list[int], list[int], object]:
        legacy: Any = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), legacy[1].tolist(), random.getstate()

    results = []
    for seed in (1, 2):
        plan = planned(plugin, "toy/tied@0.8", tmp_path / str(seed))
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = state()
        results.append(compute(plan))
        assert state() == before
    for name, logits in results[0].items():
        np.testing.assert_array_equal(logits, results[1][name])


@every_method
def test_three_classes_and_five_values(plugin: Plugin, tmp_path: Path) -> None:
    logits = compute(planned(plugin, "toy/wide", tmp_path))
    assert {name: array.shape for name, array in logits.items()} == {
        "train": (64, 3),
        "validation": (24, 3),
        "adapt": (60, 3),
        "test": (30, 3),
    }
    assert all(np.isfinite(array).all() for array in logits.values())


@every_method
def test_empty_groups_are_a_verdict_or_no_matter(plugin: Plugin, tmp_path: Path) -> None:
    """At rho 1 two groups of the training set are empty: not applicable if it needs them, and no crash if forced."""
    (cell,) = planned(plugin, "toy/tied@1.0", tmp_path).cells
    if "train" in loaded(plugin).every_group_in:
        assert cell.reason == "groups c0@v1 and c1@v0 have no training patients"
        plan = planned(plugin, "toy/tied@1.0", tmp_path, force=True)
        assert plan.cells[0].degenerate
    else:
        assert not cell.reason
        plan = planned(plugin, "toy/tied@1.0", tmp_path)
    assert all(np.isfinite(array).all() for array in compute(plan).values())
