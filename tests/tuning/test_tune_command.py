"""``spurbench tune`` from the command line: what it shows, writes and refuses."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import engine
from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore
from robustbench_spur.tuning.rules import RULES

SPLIT = ("--split", "toy/tied@0.8")
TUNE = ("tune", "--method", "tunable", *SPLIT, "--trials", "3")


def records(home: Home) -> Any:
    return list(RecordStore(home.records, home.predictions))


def test_a_search_ends_with_a_preset_that_run_takes(
    spurbench: Any, toy: list[str], tunable: Path, home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "out" / "trials.csv"
    select = ("--select", "worst_group", "--csv", table, "--regret")
    ended = spurbench(*TUNE, *select, *toy)
    assert ended.code == 0
    kept = tunable.parent / "tuned" / "tunable.json"
    assert f"Preset tuned of tunable for toy/tied@0.8: {kept}" in ended.err
    assert "trial 0 (defaults): worst_group " in ended.err
    assert all(name in ended.out for name in (*RULES, "Oracle, for comparison only and never ranked: trial "))
    preset = json.loads(kept.read_text())["presets"]["toy/tied@0.8"]
    (record,) = records(home)
    assert (record.status, record.track, record.method.preset) == ("done", "selection", "tuned")
    assert record.off_board[-1] == "settings chosen by worst_group"
    assert {name: record.method.settings[name] for name in preset["settings"]} == preset["settings"]
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert [row["trial"] for row in rows if "worst_group" in row["chosen_by"].split()] == [str(preset["trial"])]
    # the same command once more computes nothing, nor does a run of the preset
    monkeypatch.setattr(engine, "execute", lambda *_: pytest.fail("it computed"))
    run = ("run", "--method", "tunable", "--preset", "tuned")
    assert spurbench(*run, *SPLIT, *toy).code == 0
    again = spurbench(*TUNE, *select, "--json", *toy)
    assert (again.code, len(records(home))) == (0, 1)
    (study,) = again.rows
    assert [one["rule"] for one in study["choices"]] == list(RULES)
    chosen = next(one for one in study["choices"] if one["rule"] == "worst_group")
    assert (chosen["trial"], chosen["track"]) == (preset["trial"], "selection")
    assert chosen["test"] == record.metrics["test"]["worst_group"]["worst_group_accuracy"]["value"]
    assert chosen["regret"] >= 0
    assert [one["validation:worst_group"] for one in study["trials"]] == [
        one["validation"]["worst_group"] for one in preset["trials"]
    ]
    other = spurbench(*run, "--split", "toy/tied@0.9", *toy)
    assert other.code == 2
    assert "Run: spurbench tune --method tunable --split 'toy/tied@0.9'" in other.err
    # the command of the evidence names the same search
    words = shlex.split(preset["command"])
    assert words[:2] == ["spurbench", "tune"]
    files = toy[toy.index("--plugin") :]
    same = spurbench(*words[1:], *files, "--device", "cpu", "--evaluator", "worst_group", "--json")
    assert same.rows[0]["folder"] == study["folder"]


def test_ctrl_c_ends_with_130_and_loses_nothing(
    spurbench: Any, toy: list[str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, done = engine.execute, []

    def interrupted(stage: Any, *rest: Any) -> Any:
        if len(done) == 6:
            raise KeyboardInterrupt
        done.append(stage.key)
        return execute(stage, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "execute", interrupted)
        ended = spurbench(*TUNE, "--keep", "home", *toy)
    assert (ended.code, "What was finished is kept" in ended.err) == (130, True)
    assert records(home) == []
    later: list[str] = []
    monkeypatch.setattr(engine, "execute", lambda stage, *rest: later.append(stage.key) or execute(stage, *rest))
    ended = spurbench(*TUNE, "--keep", "home", *toy)
    assert ended.code == 0
    assert not set(later) & set(done)
    assert in_home_file(home).is_file()


def in_home_file(home: Home) -> Path:
    return home.root / "presets" / "tunable.json"


def test_a_dry_run_computes_nothing(spurbench: Any, toy: list[str], home: Home) -> None:
    ended = spurbench(*TUNE, "--dry-run", *toy)
    assert ended.code == 0
    assert not home.root.exists()
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["0", "defaults"] in lines
    assert any(line[:1] == ["2"] and line[1].startswith("scale=") for line in lines)
    # the reference and the first model are one training of 4 epochs; each trial has 4 more
    assert "16 epochs of training" in ended.out
    assert "the better half" in ended.out


def test_a_dry_run_of_the_estimator_says_what_it_cannot_know(spurbench: Any, toy: list[str], home: Home) -> None:
    ended = spurbench(*TUNE, "--dry-run", "--sampler", "tpe", "--no-prune", *toy)
    assert "proposed from the results of the trials before" in ended.out
    assert "Every trial goes to its end: --no-prune." in ended.out


def test_no_trial_that_works_is_an_error(spurbench: Any, toy: list[str], home: Home) -> None:
    place = toy.index("--set") + 1
    toy[place:place] = ["learning_rate=1e30"]
    ended = spurbench(*TUNE, "--trials", "1", *toy)
    assert ended.code == 2
    assert "became" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "tunible"), "Unknown method 'tunible'. Did you mean 'tunable'"),
        (("--method", "all"), "Expected one method to tune, found all. Give --method NAME."),
        (("--method", "tunable", "erm"), "Expected one method to tune, found tunable erm."),
        (("--method", "erm"), "Expected settings of erm to search, found none: it declares no search range."),
        (("--split", "all"), "Expected one split to tune on, found all."),
        (("--trials", "0"), "Expected at least one trial, found 0. Give --trials N."),
        (("--trials", "many"), "invalid int value: 'many'"),
        (("--tuning-seed", "-1"), "Expected a tuning seed of 0 or more, found -1."),
        (("--select", "worst_clas"), "Unknown selection rule 'worst_clas' of a tuner. Did you mean 'worst_class'"),
        (("--sampler", "grid"), "Unknown sampler 'grid'. Known: random, tpe."),
        (("--preset", "tuned"), "'tuned' is what a search makes."),
        (("--preset", "paper"), "Method 'tunable' has no preset 'paper'."),
        (
            ("--method", "dfr", "--split", "toy/wide+join"),
            "dfr is not applicable to toy/wide+join.0: the split has no adapt",
        ),
        (("--set", "scales=3"), "tunable has no setting 'scales'. Did you mean 'scale'"),
    ],
)
def test_bad_input(spurbench: Any, toy: list[str], home: Home, arguments: tuple[str, ...], message: str) -> None:
    ended = spurbench(*TUNE, *toy, *arguments)
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert ended.err.strip().splitlines()[-1].startswith("spurbench: ")
    assert not (home.root / "tuning").exists()
