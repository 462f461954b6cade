"""A search from its first trial to its choice: what it reads, what it computes, and what it keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robustbench_spur.api import Quiet
from robustbench_spur.engine import predictions_of
from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore
from robustbench_spur.runner import carry_out
from robustbench_spur.tuning.choice import choose, order_of, preset_from, state_of
from robustbench_spur.tuning.results import StudyStore, TrialResult
from robustbench_spur.tuning.rules import RULES
from robustbench_spur.tuning.search import Search
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import DATASET
from tests.tuning.conftest import PLAIN, SETTINGS, Watched

GUARD = "        seed = [ord(letter) for letter in str(partition.ids[0])]"


@pytest.fixture
def sealed(draft: Any) -> Any:
    """The toy data, whose test images cannot be read."""
    text = DATASET.read_text()
    assert GUARD in text
    indent = " " * 8
    refusing = (
        f'{indent}if str(partition.ids[0]).startswith("test"):\n{indent}    raise RuntimeError("the test set was read")'
    )
    return draft(text.replace(GUARD, f"{refusing}\n{GUARD}"), "sealed.py")


def numbers(results: list[TrialResult], state: str) -> list[int]:
    return [one.number for one in results if state_of(one) == state]


# the test set


def test_the_search_reads_no_test_image(study_of: Any, search: Any, sealed: Any, tunable: Any, home: Home) -> None:
    study = study_of(request={"plugin_files": (sealed, tunable)}, trials=3)
    results = search(study)
    assert numbers(results, "done")
    assert list(RecordStore(home.records, home.predictions)) == []
    preset = preset_from(study, results, choose(study, results, {}))
    assert "test" not in json.dumps(preset.trials)
    # the seal is one: the ordinary cell of the choice breaks it
    plan = replace(study.base, cells=study.base.cells)
    (ended,) = carry_out(plan, Quiet())
    assert (ended.record.status, "the test set was read" in ended.record.reason) == ("failed", True)


def test_no_stage_of_a_trial_is_of_the_test_partition(study_of: Any) -> None:
    study = study_of()
    for cells in (study.cells(1, study.draw(1, [])), study.cut(study.cells(1, study.draw(1, [])))):
        for cell in cells:
            assert sorted(cell.stages.outputs) == ["validation"]
            used = {stage.spec.get("partition") for one in cell.stages.all() for stage in one.ancestry()}
            assert used == {"train", "validation", None}


# what is computed


def test_a_trial_is_measured_as_its_predictions_say(searched: Any, search: Any) -> None:
    study = searched()
    results = search(study)
    assert len({result.measured("validation_average").value for result in results}) > 1
    for result in results:
        (cell,) = study.cells(result.number, result.settings)
        logits = study.base.runtime.artifacts.arrays(cell.stages.outputs["validation"].key)["logits"]
        rows = cell.spec.split.table.partitions["validation"]
        right = logits.argmax(axis=1) == rows.labels
        assert result.measured("validation_average").value == np.mean(right)
        groups = [right[(rows.labels == y) & (rows.attributes == a)] for y in (0, 1) for a in (0, 1)]
        assert result.measured("worst_group").value == min(float(np.mean(group)) for group in groups)
        assert result.epochs == SETTINGS["epochs"]


@pytest.mark.parametrize("options", [{}, {"select": "worst_group"}, {"trials": 3}])
def test_what_is_there_is_not_computed_again(
    searched: Any, search: Any, watched: Watched, options: dict[str, Any]
) -> None:
    """Nor with another rule, or with fewer trials."""
    results = search(searched(**options), watched=watched)
    assert watched.stages == []
    assert [result for result, there in watched.ended if there] == results
    assert len(results) == options.get("trials", 6)


class Interrupting(Quiet):
    """Stands for Ctrl-C at the n-th report of progress."""

    def __init__(self, after: int) -> None:
        self.left = after

    def progress(self, stage: Any, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def times_left_out(results: list[TrialResult]) -> list[dict[str, Any]]:
    return [one.model_dump(exclude={"finished", "seconds"}) for one in results]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(
    study_of: Any, search: Any, watched: Watched, tmp_path: Any, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustbench_spur.tuning.samplers.STARTUP", 2)
    for after in (20, 25):
        with pytest.raises(KeyboardInterrupt):
            search(study_of(sampler=sampler, trials=4), Interrupting(after))
    results = search(study_of(sampler=sampler, trials=4))
    # an epoch that was broken off is begun once more; none that ended is
    assert len(watched.epochs) <= len(set(watched.epochs)) + 2
    trainings = watched.stages.count("train")
    undisturbed = search(study_of(sampler=sampler, trials=4, request={"home": Home(tmp_path / "undisturbed")}))
    assert watched.stages.count("train") == 2 * trainings
    assert times_left_out(results) == times_left_out(undisturbed)


# pruning


def test_the_worse_half_ends_after_a_third_and_the_others_go_on_from_there(
    study_of: Any, search: Any, watched: Watched, searched: Any
) -> None:
    study = study_of()
    results = search(study)
    assert len(watched.epochs) == len(set(watched.epochs))
    thirds = [one for one in study.store.trials().values() if one.part == "third"]
    best = sorted(thirds, key=lambda one: order_of(study.rule, one))[:3]
    assert {one.number for one in results if state_of(one) == "done"} == {0, *(one.number for one in best)}
    assert {one.epochs for one in results if state_of(one) == "pruned"} == {2}
    whole = search(searched())
    for ours, theirs in zip(results, whole, strict=True):
        if state_of(ours) == "done":
            assert times_left_out([ours]) == times_left_out([theirs])


def test_a_third_of_a_trial_is_its_own_beginning(study_of: Any) -> None:
    """Loss, sampling, shares of the budget and the first model are those of the whole trial; the length alone is not."""
    study = study_of()
    (whole,) = study.cells(1, study.draw(1, []))
    (third,) = study.cut([whole])
    ours, theirs = third.stages.model, whole.stages.model
    assert (ours.spec["epochs"], theirs.spec["epochs"]) == (2, 4)
    assert ours.spec["trajectory"] == theirs.spec["trajectory"]
    assert [parent.key for parent in ours.parents] == [parent.key for parent in theirs.parents]
    first = next(stage for stage in ours.ancestry() if stage.kind == "train")
    assert (first.spec["epochs"], ours.key != theirs.key) == (2, True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"options": {"prune": False}}, "--no-prune"),
        ({"options": {"regret": True}}, "--regret asks"),
        ({"options": {"trials": 2}}, "fewer than 3"),
        ({"settings": {"schedule": "cosine"}}, "horizon"),
        ({"settings": {"epochs": 1}}, "one epoch"),
        ({"settings": {"scale": 1.0, "limit": 1}, "options": {"training": True}}, ""),
    ],
)
def test_why_no_trial_is_pruned(study_of: Any, changes: dict[str, Any], why: str) -> None:
    settings = {**PLAIN, **changes.get("settings", {})}
    study = study_of(request={"settings": settings}, **changes.get("options", {}))
    assert study.cuts == (not why)
    assert why in study.why_whole


def test_trials_that_share_their_trainings_are_not_pruned(study_of: Any, draft: Any) -> None:
    path = draft(
        """
        import numpy as np
        from robustbench_spur import Choice, Hyperparameters, parameter
        from robustbench_spur.methods.erm import ERM
        class Settings(Hyperparameters):
            factor: float = parameter(1.0, "on the last layer", search=Choice((0.5, 1.0, 2.0)))
        class Head(ERM):
            name = "head"
            version = 1
            needs = ()
            Hyperparameters = Settings
            def fit(self, task):
                model = task.train(ERM())
                return task.replace_head(model, task.compute(self.scaled, task.head(model), on="train"))
            def scaled(self, view, head):
                return {name: self.hyper.factor * value for name, value in head.items()}, {}
        """,
        "head.py",
    )
    study = study_of("head", request={"plugin_files": (DATASET, path)})
    assert study.why_whole == "the trials share their trainings"


# failures


def test_a_trial_that_diverges_is_a_result(study_of: Any, search: Any, watched: Watched) -> None:
    budget = {"settings": SETTINGS}
    study = study_of(request=budget, trials=3, tuning_seed=2)
    broken = [n for n in range(3) if study.draw(n, []).get("kind") == "broken"]
    assert broken
    results = search(study)
    assert numbers(results, "failed") == broken
    assert all("the training loss of tunable became nan" in results[n].reason for n in broken)
    watched.stages.clear()
    search(study_of(request=budget, trials=3, tuning_seed=2), watched=watched)
    assert watched.stages == []
    watched.ended.clear()
    search(study_of(request=budget, trials=3, tuning_seed=2, retry=True), watched=watched)
    assert {result.number for result, there in watched.ended if not there} == set(broken)


def test_settings_that_the_method_refuses_are_a_result(study_of: Any, search: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur import Choice, Hyperparameters, parameter
        from robustbench_spur.methods.erm import ERM
        class Settings(Hyperparameters):
            x: float = parameter(1.0, "a number", at_most=1.0, search=Choice((5.0,)))
        class Picky(ERM):
            name = "picky"
            version = 1
            needs = ()
            Hyperparameters = Settings
        """,
        "picky.py",
    )
    study = study_of("picky", request={"plugin_files": (DATASET, path)}, trials=3)
    results = search(study)
    assert (numbers(results, "done"), numbers(results, "failed")) == ([0], [1, 2])
    assert results[1].reason.startswith("Setting x=5.0 of picky: input should be less than or equal to 1")


def test_a_rule_that_is_undefined_on_the_split_is_refused_before_any_trial(study_of: Any, search: Any) -> None:
    study = study_of(select="worst_group", request={"splits": ("toy/tied@1.0",)})
    with pytest.raises(
        SpurbenchError, match=r"Rule worst_group is undefined on toy/tied@1.0: no examples of c0@v1 and"
    ):
        search(study)
    assert study.store.trials() == {}


def test_a_result_that_was_changed_is_refused(study_of: Any, search: Any) -> None:
    study = study_of(trials=1)
    search(study)
    (path,) = study.store.folder.glob("trial-*.json")
    path.write_text(path.read_text().replace('"number": 0', '"number": 1'))
    with pytest.raises(SpurbenchError, match="was changed after it was written"):
        study.store.trials()


def test_a_result_of_another_shape_is_refused(tmp_path: Any) -> None:
    import hashlib

    raw = b'{"number": 1}'
    (tmp_path / f"trial-0001-whole-{hashlib.sha256(raw).hexdigest()[:24]}.json").write_bytes(raw)
    with pytest.raises(SpurbenchError, match=r"Expected a result of a trial in .*, found in finished: Field required"):
        StudyStore(tmp_path).trials()


# seeds, folds


def test_a_trial_is_the_mean_over_its_seeds(study_of: Any, search: Any) -> None:
    both = search(study_of(trials=1, request={"seeds": (0, 1)}))[0]
    alone = [search(study_of(trials=1, request={"seeds": (seed,)}))[0] for seed in (0, 1)]
    for rule in RULES:
        values = [one.measured(rule).value for one in alone]
        assert both.measured(rule).value == pytest.approx(np.mean(values), abs=1e-15)


def test_a_fold_is_chosen_by_its_own_set_and_all_of_them_by_none(study_of: Any, search: Any) -> None:
    one = study_of(trials=1, request={"splits": ("toy/tied@0.8+carve.1",)})
    (result,) = search(one)
    (cell,) = one.cells(0, {})
    assert sorted(cell.stages.outputs) == ["selection", "validation"]
    logits = one.base.runtime.artifacts.arrays(cell.stages.outputs["selection"].key)["logits"]
    said = predictions_of(cell.spec.split, "selection", logits, {})
    right, groups = said.correct, said.group
    assert result.measured("worst_group").value == min(float(right[groups == g].mean()) for g in range(4))
    every = study_of(trials=1, request={"splits": ("toy/tied@0.8+carve",)})
    assert (len(every.base.cells), every.split, one.split) == (5, "toy/tied@0.8+carve", "toy/tied@0.8+carve.1")
    (folds,) = search(every)
    assert folds.measured("worst_group").reason.startswith("the set to choose by of one fold is tested in others")
    assert folds.measured("worst_class").value is not None


# the choice


def result_of(number: int, part: str = "whole", **values: float) -> TrialResult:
    """A trial of one cell, with values of some rules; the others are 0.5."""
    measured = {name: {"value": values.get(name, 0.5), "part": "p", "patients": 7} for name in RULES}
    cell = {"split": "s", "seed": 0, "measured": measured}
    about = {"finished": "2030", "number": number, "part": part, "settings": {}, "epochs": 4, "status": "done"}
    return TrialResult.model_validate({**about, "reason": "", "cells": [cell], "seconds": 1.0})


def test_the_best_value_wins_then_the_average_then_the_earlier(study_of: Any) -> None:
    study = study_of()

    def chosen(rule: str, *results: TrialResult) -> int | None:
        return next(one.trial for one in choose(study, results, {}) if one.rule.name == rule)

    assert chosen("worst_class", result_of(0, worst_class=0.1), result_of(1, worst_class=0.2)) == 1
    assert chosen("class_difference", result_of(0, class_difference=0.1), result_of(1, class_difference=0.2)) == 0
    tied = result_of(0), result_of(1, validation_average=0.6), result_of(2, validation_average=0.6)
    assert chosen("worst_class", *tied) == 1
    pruned = result_of(0, worst_class=0.1), result_of(1, "third", worst_class=0.9)
    assert chosen("worst_class", *pruned) == 0


def test_tracks_are_of_method_and_rule_together(study_of: Any) -> None:
    none, train = (
        {one.rule.name: one.track for one in choose(study_of(name), [], {})} for name in ("tunable", "groupdro")
    )
    assert none == {**dict.fromkeys(RULES, "none"), "worst_group": "selection"}
    assert set(train.values()) == {"train"}


def test_few_patients_are_warned_of(study_of: Any) -> None:
    study = study_of()
    (one, *_), (few, *_) = (
        [c for c in choose(study, [replaced], {}) if c.rule.name == "worst_group"]
        for replaced in (result_of(0), with_patients(result_of(0), 2))
    )
    assert one.warning == ""
    assert few.warning == "p has 2 patients: 95 % interval 9 to 91 %, which tells little"


def with_patients(result: TrialResult, count: int) -> TrialResult:
    content = result.model_dump()
    content["cells"][0]["measured"]["worst_group"]["patients"] = count
    return TrialResult.model_validate(content)


def test_regret_by_hand(searched: Any, search: Any) -> None:
    """The oracle's worst group on test less that of each rule's choice, from predictions that are read apart."""
    study = searched(regret=True)
    results = search(study)
    assert study.store.oracles() == {}
    watcher = Search(study, Quiet(), lambda *_: None)
    oracle = watcher.oracle(results)
    tests = {}
    for number in numbers(results, "done"):
        (cell,) = study.cells(number, results[number].settings, ("test",))
        logits = study.base.runtime.artifacts.arrays(cell.stages.outputs["test"].key)["logits"]
        rows = cell.spec.split.table.partitions["test"]
        right = logits.argmax(1) == rows.labels
        tests[number] = min(
            float(right[(rows.labels == y) & (rows.attributes == a)].mean()) for y in (0, 1) for a in (0, 1)
        )
    assert {number: one.measured.value for number, one in oracle.items()} == tests
    for choice in choose(study, results, oracle):
        assert choice.trial is not None
        assert choice.test == tests[choice.trial]
        assert choice.regret == max(tests.values()) - tests[choice.trial]
    assert watcher.oracle(results) == oracle
    assert len(list(study.store.folder.glob("oracle-*.json"))) == len(tests)
