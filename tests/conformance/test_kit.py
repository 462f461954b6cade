"""The kit finds nothing wrong with the basic methods, and the one thing that is wrong with each faulty draft."""

from __future__ import annotations

import json
from typing import Any

import pytest

from robustbench_spur.conformance import Report, check
from robustbench_spur.types import SpurbenchError
from tests.conftest import BASIC

TOP = '''"""A draft for the tests of the kit.

Source: made up.
Deviations: none known.
Needs: labels only.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from robustbench_spur import Hyperparameters, LogUniform, Method, Sampling, parameter
from robustbench_spur.methods.erm import ERM


class DraftHyperparameters(Hyperparameters):
    """Settings."""

    strength: float = parameter(0.1, "weight of something that is added", above=0, search=LogUniform(1e-2, 1.0))


class Draft(ERM):
    """A draft."""

    name = "draft"
    version = 1
    summary = "a draft for tests"
    source = "made up"
    needs = ()
    Hyperparameters = DraftHyperparameters
'''


def faults(report: Report) -> dict[str, str]:
    return {one.name: one.message for one in report.checks if one.status == "failed"}


@pytest.mark.parametrize("name", BASIC)
def test_the_basic_methods_pass(name: str) -> None:
    report = check(name)
    assert report.passed, report
    assert {one.status for one in report.checks} == {"ok"}
    assert len(report.checks) == 15


def test_a_draft_passes(draft: Any) -> None:
    report = check(draft(TOP))
    assert report.passed, report


@pytest.mark.parametrize(
    ("old", "new", "name", "message"),
    [
        ("Deviations: none known.\n", "", "docstring", "found no Deviations"),
        ("for the tests of the kit.", "for the tests of the kit", "docstring", "full stop"),
        (
            'summary = "a draft for tests"',
            'summary = ""',
            "name, version, summary, source and needs",
            "Expected summary",
        ),
        ('"weight of something that is added"', '"weight"', "settings", "doc line for the setting strength"),
        ("parameter(0.1,", "parameter(-0.1,", "settings", "strength"),
        ("LogUniform(1e-2, 1.0)", "LogUniform(0.0, 1.0)", "settings", "strength"),
    ],
)
def test_what_the_file_states(draft: Any, old: str, new: str, name: str, message: str) -> None:
    assert old in TOP
    found = faults(check(draft(TOP.replace(old, new))))
    assert name in found and message in found[name]


BODIES = {
    "undeclared attributes": (
        "def loss(self, model, batch):\n    return super().loss(model, batch) + 0 * batch.attributes.sum()",
        "group labels are out of reach unless declared",
        "draft read group labels that it did not declare",
    ),
    "numpy's global generator": (
        "def sampling(self, train):\n    return Sampling(weights=np.random.random(len(train)))",
        "global random state neither matters nor moves",
        "Expected",
    ),
    "a generator of its own": (
        "def sampling(self, train):\n    return Sampling(weights=np.random.default_rng().random(len(train)))",
        "same seed, same predictions",
        "Draw from view.generator()",
    ),
    "a counter outside the state": (
        "def loss(self, model, batch):\n    self.count = getattr(self, 'count', 0) + 1\n"
        "    return cross_entropy(model(batch.images), batch.labels) * self.count",
        "a killed run goes on to the same end",
        "Keep what changes in self.state",
    ),
    "one class in a batch": (
        "def loss(self, model, batch):\n    losses = cross_entropy(model(batch.images), batch.labels, reduction='none')\n"
        "    return losses[batch.labels == 0].mean() + losses[batch.labels == 1].mean()",
        "a group of one, and batches of one class",
        "became nan",
    ),
    "two classes only": (
        "def loss(self, model, batch):\n    logits = model(batch.images)\n"
        "    return torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], batch.labels.float().clamp(max=1))"
        " + 0 * cross_entropy(logits[:, :2], batch.labels)",
        "three classes and five attribute values",
        "",
    ),
    "an empty group": (
        "def start(self, train):\n    if train.classes == 2 and len(np.unique(train.clusters)) < 64:\n        1 / 0",
        "empty groups",
        "division by zero",
    ),
    "no seed": (
        "def sampling(self, train):\n    return Sampling(repeats=np.eye(1, len(train), dtype=int)[0])\n\n"
        "def loss(self, model, batch):\n    return 0 * cross_entropy(model(batch.images), batch.labels)\n\n"
        "def prepare(self, model):\n    torch.nn.init.zeros_(model.head.weight)\n    torch.nn.init.zeros_(model.head.bias)",
        "another seed, other predictions",
        "found the same",
    ),
}


@pytest.mark.parametrize("fault", BODIES)
def test_what_it_does(draft: Any, fault: str) -> None:
    body, name, message = BODIES[fault]
    indented = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
    report = check(draft(f"{TOP}\n{indented}\n"))
    assert name in faults(report), report
    assert message in faults(report)[name]


def test_declaring_too_much_is_a_warning(draft: Any) -> None:
    report = check(draft(TOP.replace("needs = ()", 'needs = ("train_attributes",)')))
    assert report.passed
    assert [one.name for one in report.checks if one.status == "warning"] == ["what it declares it reads"]


def test_an_error_of_the_method_is_told_with_its_line(draft: Any) -> None:
    path = draft(TOP + "\n    def start(self, train):\n        raise RuntimeError('a slip')\n")
    (found,) = faults(check(path)).values()
    assert "a slip" in found and f"{path}:{len(TOP.splitlines()) + 3}" in found


def test_the_command(spurbench: Any, draft: Any) -> None:
    good = spurbench("check", "erm")
    assert good.code == 0 and "All checks passed" in good.out
    bad = spurbench("check", draft(TOP.replace("Needs: labels only.\n", "")), "--json")
    assert bad.code == 1
    (row,) = json.loads(bad.out)
    assert (row["method"], row["passed"]) == ("draft", False)


def test_bad_input(spurbench: Any, draft: Any, tmp_path: Any) -> None:
    unknown = spurbench("check", "emr")
    assert unknown.code == 2 and "Unknown method 'emr'" in unknown.err
    missing = spurbench("check", tmp_path / "nothing.py")
    assert missing.code == 2 and "found none" in missing.err
    evaluator = 'from robustbench_spur import Evaluator\nclass Mine(Evaluator):\n    name = "mine"\n    version = 1\n    metrics = {}\n'
    with pytest.raises(SpurbenchError, match="Only methods can be checked, and it has evaluator"):
        check(draft(evaluator, "other.py"))
    assert "no class in it states a name" in str(check(draft("x = 1\n", "nothing.py")))


def test_a_setting_that_mends_what_it_is_given(draft: Any) -> None:
    clamped = TOP.replace(
        "\n\nclass Draft(",
        "\n    _mend = field_validator('strength', mode='before')(lambda value: 0.5)\n\n\nclass Draft(",
    )
    report = check(draft(clamped.replace("import numpy", "from pydantic import field_validator\nimport numpy")))
    assert "to be refused, found it accepted" in faults(report)["bad values of settings"]
