"""The kit finds nothing wrong with the basic methods, and the one thing that is wrong with each faulty draft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robustbench_spur.conformance import Report, check, check_all, kit
from robustbench_spur.conformance import behaviour as asked
from robustbench_spur.conformance.runs import Lab, global_state
from robustbench_spur.registry import Registry
from robustbench_spur.types import SpurbenchError
from tests.conformance.drafts import BODIES, STATED, TOP, with_body
from tests.conftest import BASIC

EVALUATOR = """
from robustbench_spur import Evaluator

class Mine(Evaluator):
    name = "mine"
    version = 1
    metrics = {}
"""


def by_status(report: Report, status: str = "failed") -> dict[str, str]:
    return {one.name: one.message for one in report.checks if one.status == status}


@pytest.fixture
def only_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the runs out, for drafts that behave."""
    monkeypatch.setattr(kit, "examine", lambda lab, ledger: None)


@pytest.mark.parametrize("name", BASIC)
def test_the_basic_methods_pass(name: str) -> None:
    report = check(name)
    assert report.passed, report
    assert {one.status for one in report.checks} == {"ok"}
    assert len(report.checks) == 17


def test_a_draft_passes_and_leaves_nothing_behind(draft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    before, threads = global_state(), torch.get_num_threads()
    report = check(draft(TOP))
    assert report.passed, report
    assert report.seconds > 0 and str(report).startswith("draft (")
    assert (global_state(), torch.get_num_threads()) == (before, threads)
    assert not list((tmp_path / "temporary").iterdir())


def test_a_preset_named_quick_is_what_the_kit_runs_with(draft: Any, tmp_path: Path) -> None:
    path = draft(
        TOP.replace("needs = ()", 'needs = ()\n    presets = {"quick": {"strength": 0.2}, "paper": {"strength": 0.3}}')
    )
    lab = Lab(Registry((path,)).find("method", "draft"), (path,), tmp_path)
    assert lab.plan("plain")[1].spec.method.hyper.strength == 0.2


@pytest.mark.usefixtures("only_stated")
@pytest.mark.parametrize(("old", "new", "name", "message"), STATED, ids=[case[3] for case in STATED])
def test_what_the_file_states(draft: Any, old: str, new: str, name: str, message: str) -> None:
    assert old in TOP
    found = by_status(check(draft(TOP.replace(old, new))))
    assert set(found) == {name} and message in found[name], found


@pytest.mark.parametrize("fault", BODIES)
def test_what_it_does(draft: Any, fault: str) -> None:
    body, name, message = BODIES[fault]
    found = by_status(check(draft(with_body(body))))
    assert set(found) == {name} and message in found[name], found


def test_poisoned_labels_that_come_through(draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No method can read them, so the kit is given another run where it asks for a poisoned one."""
    plan = Lab.plan
    monkeypatch.setattr(Lab, "plan", lambda lab, split, seed=0, poisoned=False: plan(lab, split, seed or int(poisoned)))
    assert set(by_status(check(draft(TOP)))) == {asked.POISON}


@pytest.mark.parametrize("need", ["train_attributes", "validation_attributes", "adapt"])
def test_declaring_too_much_is_a_warning(draft: Any, need: str) -> None:
    report = check(draft(TOP.replace("needs = ()", f'needs = ("{need}",)')))
    assert report.passed
    assert by_status(report, "warning") == {asked.DECLARED: f"It declares {need} and reads none: remove it from needs."}


def test_the_images_of_adapt_are_reason_enough_to_declare_it(draft: Any) -> None:
    body = """
    def fit(self, task):
        return task.train(self, start=task.train(ERM()), on=("adapt",))
    """
    report = check(draft(with_body(body).replace("needs = ()", 'needs = ("adapt",)')))
    assert {one.status for one in report.checks} == {"ok"}, report


@pytest.mark.parametrize(
    ("where", "doing"), [("start(self, train)", "train draft, 2 epochs, seed 0"), ("fit(self, task)", "plan draft")]
)
def test_an_error_of_the_method_is_told_once_with_its_line(draft: Any, where: str, doing: str) -> None:
    path = draft(with_body(f"def {where}:\n    raise RuntimeError('a slip\\nand more')"))
    report, line = check(path), len(TOP.splitlines()) + 3
    assert by_status(report) == {asked.RUNS: f"{doing}: RuntimeError: a slip ({path}:{line})"}
    assert by_status(report, "skipped")[asked.EMPTY] == "it fails as above"


def test_what_fails_on_hard_data_only_is_checked_further_on_others(draft: Any) -> None:
    body = """
    def start(self, train):
        if train.classes == 2:
            sum([1], start="")

    def sampling(self, train):
        return Sampling(weights=np.random.default_rng().random(len(train)))
    """
    assert set(by_status(check(draft(with_body(body))))) == {asked.HARD, asked.SAME}


def test_a_file_that_cannot_be_imported(draft: Any) -> None:
    path = draft(TOP + "\nimport nothing_of_that_name\n")
    assert by_status(check(path)) == {
        kit.LOADED: f"ModuleNotFoundError: No module named 'nothing_of_that_name' ({path}:{len(TOP.splitlines()) + 2})"
    }


@pytest.mark.usefixtures("only_stated")
def test_a_file_with_several_methods(draft: Any) -> None:
    other = TOP[TOP.index("class Draft(") :].replace("class Draft", "class Other").replace('"draft"', '"other"')
    path = draft(f"{TOP}\n\n{other}")
    assert [report.method for report in check_all([path])] == ["draft", "other"]
    with pytest.raises(SpurbenchError, match=r"Expected one method or evaluator in .*, found 2\. Use check_all"):
        check(path)


def test_what_cannot_be_checked(draft: Any) -> None:
    assert by_status(check(draft(EVALUATOR, "other.py")))
    with pytest.raises(SpurbenchError, match="Expected a method or an evaluator, found the dataset 'phantom'"):
        check("phantom")
    with pytest.raises(SpurbenchError, match=r"nothing\.py is broken: no class in it states a name"):
        check(draft("x = 1\n", "nothing.py"))
    with pytest.raises(SpurbenchError, match="Two methods are named 'erm'"):
        check(draft(TOP.replace('"draft"', '"erm"'), "again.py"))


def test_the_command(spurbench: Any, draft: Any) -> None:
    good = spurbench("check", "erm")
    assert good.code == 0 and "All checks passed" in good.out
    assert any(
        line.split()[0] == "ok" and line.endswith(" s") for line in good.out.splitlines() if "start to end" in line
    )


@pytest.mark.usefixtures("only_stated")
def test_the_command_finds_faults(spurbench: Any, draft: Any) -> None:
    path = draft(TOP.replace("Needs: labels only.\n", ""))
    told = spurbench("check", path)
    assert told.code == 1
    assert "FAILED  docstring" in told.out and "found no Needs" in told.out and "1 of 5 checks failed" in told.out
    machine = spurbench("check", path, "--json")
    assert machine.code == 1
    (row,) = machine.rows
    assert (row["method"], row["passed"]) == ("draft", False)
    assert [one["name"] for one in row["checks"] if one["status"] == "failed"] == ["docstring"]
    assert set(row["checks"][0]) == {"name", "status", "message", "seconds"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("emr", "Unknown method 'emr'. Did you mean 'erm'"),
        ("phantom", "found the dataset 'phantom'"),
        ("./nowhere.py", "found none. Check the path"),
    ],
)
def test_bad_input(spurbench: Any, name: str, message: str) -> None:
    ended = spurbench("check", name)
    assert (ended.code, ended.out) == (2, "") and message in ended.err


def test_a_broken_file_is_bad_input(spurbench: Any, draft: Any) -> None:
    ended = spurbench("check", draft("def (\n"))
    assert ended.code == 2 and "is broken: SyntaxError" in ended.err


def test_an_error_while_loading_is_a_failed_check(draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(*_: Any) -> str:
        raise ValueError("no such layer\nand more")

    monkeypatch.setattr(asked, "saved", saved)
    path = draft(TOP)
    line = TOP[: TOP.index("class Draft(")].count("\n") + 1
    assert by_status(check(path)) == {asked.SAVED: f"ValueError: no such layer ({path}:{line})"}
