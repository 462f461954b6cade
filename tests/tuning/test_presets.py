"""Tuned presets: where they are kept, for which split, and how a run takes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.home import Home
from robustbench_spur.plan import make_plan
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.splitref import SplitRef, parse_splits
from robustbench_spur.tuning import presets
from robustbench_spur.tuning.presets import (
    TunedPreset,
    beside,
    find_preset,
    in_home,
    keep,
    place_of,
    presets_of,
    read_presets,
    split_key,
)
from robustbench_spur.tuning.tuned import TunedCell
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import DATASET

SPLIT = "toy/tied@0.8"


@pytest.fixture
def registry(tunable: Path) -> Registry:
    return Registry((DATASET, tunable))


@pytest.fixture
def plugin(registry: Registry) -> Plugin:
    return registry.find("method", "tunable")


def ref_of(registry: Registry, name: str = SPLIT) -> SplitRef:
    return parse_splits(name, registry)[0]


def preset_of(plugin: Plugin, **changes: Any) -> TunedPreset:
    content = {
        "settings": {"scale": 2.5, "limit": 2},
        "rule": "worst_class",
        "needs": (),
        "track": "none",
        "trial": 3,
        "value": 0.75,
        "part": "c0",
        "patients": 12,
        "trials": [{"trial": 0}],
        "search": [["scale", "LogUniform(low=0.01, high=100.0)", False]],
        "sampler": "random",
        "tuning_seed": 0,
        "seeds": (0,),
        "method_version": 1,
        "method_sha256": plugin.sha256,
        "split_version": 1,
        "split_sha256": ("f",),
        "network": {},
        "training": {},
        "numerics": {},
        "board": "v1",
        "package": "0.1.0",
        "finished": "2030-01-01T00:00:00+00:00",
        "command": "spurbench tune",
    }
    return TunedPreset.model_validate({**content, **changes})


# where


def test_it_is_kept_beside_the_method_and_found_for_its_split_only(
    plugin: Plugin, registry: Registry, tunable: Path, home: Home
) -> None:
    preset = preset_of(plugin)
    path = keep(plugin, home, SPLIT, preset)
    assert path == tunable.parent / "tuned" / "tunable.json" == beside(plugin)
    assert find_preset(plugin, ref_of(registry), home) == preset
    with pytest.raises(
        SpurbenchError, match=r"no preset 'tuned' for toy/tied@0.9. It has one for toy/tied@0.8. Run: spu"
    ):
        find_preset(plugin, ref_of(registry, "toy/tied@0.9"), home)


def test_where_the_folder_cannot_be_written_to_it_is_kept_in_the_home(
    plugin: Plugin, registry: Registry, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets.os, "access", lambda *_: False)
    assert (
        keep(plugin, home, SPLIT, preset_of(plugin)) == in_home(plugin, home) == home.root / "presets" / "tunable.json"
    )
    assert find_preset(plugin, ref_of(registry), home) == preset_of(plugin)


def test_an_installed_package_is_left_alone(plugin: Plugin, tmp_path: Path, home: Home) -> None:
    folder = tmp_path / "site-packages" / "theirs"
    folder.mkdir(parents=True)
    assert plugin.path is not None
    path = folder / "tunable.py"
    path.write_bytes(plugin.path.read_bytes())
    assert place_of(replace(plugin, path=path), home) == in_home(plugin, home)
    assert place_of(replace(plugin, path=None), home) == in_home(plugin, home)


def test_the_homes_go_first_and_a_new_one_beside_the_method_takes_their_place(
    plugin: Plugin, registry: Registry, home: Home
) -> None:
    old, new = preset_of(plugin, trial=1), preset_of(plugin, trial=2)
    keep(plugin, home, SPLIT, new)
    keep(plugin, home, SPLIT, old, only_home=True)
    keep(plugin, home, "toy/tied@0.9", old, only_home=True)
    assert find_preset(plugin, ref_of(registry), home) == old
    keep(plugin, home, SPLIT, new)
    assert find_preset(plugin, ref_of(registry), home) == new
    assert sorted(presets_of(plugin, home)) == [SPLIT, "toy/tied@0.9"]


def test_a_fold_has_its_own_or_that_of_all_folds(plugin: Plugin, registry: Registry, home: Home) -> None:
    folds = list(parse_splits(f"{SPLIT}+carve", registry))
    assert split_key(folds) == f"{SPLIT}+carve"
    assert split_key(folds[2:3]) == f"{SPLIT}+carve.2"
    every, own = preset_of(plugin, trial=1), preset_of(plugin, trial=2)
    keep(plugin, home, split_key(folds), every)
    keep(plugin, home, split_key(folds[2:3]), own)
    assert [find_preset(plugin, fold, home).trial for fold in folds] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method_version": 0}, "to be of method v1, found v0"),
        ({"split_version": 7}, "to be of split v1, found v7"),
    ],
)
def test_one_of_another_version_is_refused(
    plugin: Plugin, registry: Registry, home: Home, changes: dict[str, Any], message: str
) -> None:
    keep(plugin, home, SPLIT, preset_of(plugin, **changes))
    with pytest.raises(SpurbenchError, match=f"{message}. Run: spurbench tune --method tunable --split 'toy/tied@0.8'"):
        find_preset(plugin, ref_of(registry), home)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "found no JSON"),
        ("[]", "found in it: Input should be a valid dictionary"),
        ('{"method": "x", "presets": {"s": {}}}', "found in presets.s.settings: Field required"),
        ('{"schema_version": 2}', "has schema 2, this version reads up to 1. Upgrade."),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(SpurbenchError, match=message):
        read_presets(path)


# how it is taken


def test_a_plan_takes_each_splits_own(study_of: Any, plugin: Plugin, home: Home) -> None:
    request = replace(study_of(trials=1).request, splits=(SPLIT, "toy/tied@0.9"), preset="tuned")
    with pytest.raises(SpurbenchError, match=r"Method 'tunable' has no preset 'tuned' for toy/tied@0.8"):
        make_plan(request)
    keep(plugin, home, SPLIT, preset_of(plugin))
    keep(plugin, home, "toy/tied@0.9", preset_of(plugin, settings={"limit": 4, "learning_rate": 0.01}))
    first, second = (cell.spec for cell in make_plan(request).cells)
    assert (first.method.hyper.scale, first.method.hyper.limit, first.training.learning_rate) == (2.5, 2, 2e-3)
    assert (second.method.hyper.scale, second.method.hyper.limit, second.training.learning_rate) == (1.0, 4, 0.01)
    assert first.given == {"scale": 2.5, "limit": 2, "epochs": 4, "batch_size": 16, "kind": "plain"}
    by_hand = make_plan(replace(request, settings={**request.settings, "limit": 1})).cells[0].spec
    assert (by_hand.method.hyper.scale, by_hand.method.hyper.limit) == (2.5, 1)


def test_the_rule_is_part_of_what_a_cell_is(study_of: Any, plugin: Plugin, home: Home) -> None:
    """The same settings by hand are another row: what chose them may have read attributes."""
    request = study_of(trials=1).request
    keep(plugin, home, SPLIT, preset_of(plugin, rule="worst_group", needs=("validation_attributes",)))
    (tuned,) = make_plan(replace(request, preset="tuned")).cells
    (by_hand,) = make_plan(replace(request, settings={**request.settings, "scale": 2.5, "limit": 2})).cells
    assert isinstance(tuned.spec, TunedCell)
    assert (tuned.spec.track, by_hand.spec.track) == ("selection", "none")
    assert tuned.spec.identity.method["tuned_by"] == "worst_group"
    assert tuned.key != by_hand.key
    assert tuned.stages is not None
    assert by_hand.stages is not None
    assert tuned.stages.model.key == by_hand.stages.model.key


def test_describe_shows_them_with_their_rule(spurbench: Any, plugin: Plugin, tunable: Path, home: Home) -> None:
    assert spurbench("describe", "tunable", "--plugin", tunable, "--json").rows[0]["tuned"] == {}
    keep(plugin, home, SPLIT, preset_of(plugin))
    (one,) = spurbench("describe", "tunable", "--plugin", tunable, "--json").rows
    assert one["tuned"][SPLIT]["settings"] == {"scale": 2.5, "limit": 2}
    assert one["tuned"][SPLIT]["rule"] == "worst_class"
    text = spurbench("describe", "tunable", "--plugin", tunable).out
    assert "tuned for toy/tied@0.8: scale=2.5, limit=2; chosen by worst_class among 1 trials, track none" in text


def test_the_file_is_plain_json_in_a_fixed_order(plugin: Plugin, home: Home) -> None:
    for split in ("b/x", "a/y"):
        path = keep(plugin, home, split, preset_of(plugin))
    content = json.loads(path.read_text())
    assert list(content["presets"]) == ["a/y", "b/x"]
    assert (content["schema_version"], content["method"]) == (1, "tunable")
