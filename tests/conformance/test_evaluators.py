"""The kit finds nothing wrong with the evaluators that are here, and the one thing that is wrong with each faulty draft."""

from __future__ import annotations

from typing import Any

import pytest

from robustbench_spur.conformance import Report, check
from robustbench_spur.conformance import evaluator_measures as asked
from robustbench_spur.registry import Registry

SOUND = '''
"""Share of right answers.

Source: made up for the tests.
"""

from typing import ClassVar

import numpy as np

from robustbench_spur import Evaluator, EvaluatorParameters, Metric, parameter
from robustbench_spur.statistics import patient_sums, ratio


class Draft(Evaluator):
    """A draft."""

    name = "draft"
    version = 1
    summary = "share of right answers"
    source = "made up"
    metrics: ClassVar = {"right": Metric("Share of right answers.")}

    class Parameters(EvaluatorParameters):
        """One setting."""

        bins: int = parameter(10, "number of bins that nothing uses", at_least=1)

    def measure(self, predictions, counts):
        """Under every resampling."""
        nobody = np.zeros(len(predictions), np.int64)
        right = patient_sums(predictions.patient, counts.shape[1], nobody, 1, predictions.correct)[:, 0]
        there = patient_sums(predictions.patient, counts.shape[1], nobody, 1)[:, 0]
        return {"right": ratio(counts @ right, counts @ there)}

    def support(self, predictions):
        """All patients."""
        return {"right": len(predictions.patients)}

    def details(self, predictions):
        """Why it is undefined."""
        return {} if len(predictions) else {"undefined": {"right": "no examples"}}
'''
VALUE = "ratio(counts @ right, counts @ there)"
NOBODY = "nobody = np.zeros"
FAULTS = {
    "no source": ("Source: made up for the tests.", "", "docstring", "found none"),
    "a summary that is no literal": ('"share of right answers"', '"share " + str(1)', "summary", "Expected"),
    "an undocumented setting": ('"number of bins that nothing uses"', '"bins"', "settings", "doc line"),
    "a metric that is not defined": ('{"right": ' + VALUE, '{"wrong": ' + VALUE, asked.DOCUMENTED, "wrong"),
    "a value out of range": (VALUE, f"1.5 + {VALUE}", asked.RANGE, "from 0.0 to 1.0"),
    "an undefined value without a reason": (
        VALUE,
        f"{VALUE} + (0 if len(np.unique(predictions.labels)) > 1 else np.nan)",
        asked.REASONS,
        "reason",
    ),
    "counts that are ignored": (VALUE, f"0 * {VALUE} + right.sum() / there.sum()", asked.COUNTED, "counts"),
    "an order that matters": (
        "predictions.correct)",
        "predictions.correct * np.linspace(0, 1, len(predictions)))",
        asked.ORDERED,
        "order",
    ),
    "details that are no JSON": ("return {} if", 'return {"x": {1}} if', asked.JSON, "JSON"),
    "support of no metric": ('{"right": len(', '{"left": len(', asked.SUPPORT, "left"),
    "a warning": (VALUE, f"{VALUE} + 0 * np.isinf(np.log(0 * counts[:, 0]))", asked.QUIET, "RuntimeWarning"),
    "input that is changed": (NOBODY, f"counts *= 2\n        {NOBODY}", asked.PURE, ""),
    "an error on two classes": (NOBODY, f"predictions.logits[:, 2]\n        {NOBODY}", asked.RUNS, "IndexError"),
}
"""What is replaced in the draft, by what, the check that fails, and what it says."""


def failed(report: Report) -> dict[str, str]:
    return {one.name: one.message for one in report.checks if one.status == "failed"}


@pytest.mark.parametrize("name", [plugin.name for plugin in Registry().entries("evaluator")])
def test_every_evaluator_keeps_to_what_is_asked_of_all(name: str) -> None:
    report = check(name)
    assert report.passed, report


def test_a_sound_draft_passes(draft: Any) -> None:
    report = check(draft(SOUND))
    assert report.passed, report
    assert {one.status for one in report.checks} == {"ok"}
    assert len(report.checks) == 18


@pytest.mark.parametrize("fault", FAULTS)
def test_the_one_fault_of_a_draft_is_found(draft: Any, fault: str) -> None:
    old, new, name, message = FAULTS[fault]
    assert old in SOUND
    found = failed(check(draft(SOUND.replace(old, new))))
    (check_name,) = [one for one in found if name in one]
    assert message in found[check_name]


def test_one_that_collects_is_not_measured_without_a_model() -> None:
    report = check("pgd")
    (skipped,) = [one for one in report.checks if one.status == "skipped"]
    assert "collects of a model" in skipped.message
