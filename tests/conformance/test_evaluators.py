"""The kit finds nothing wrong with the evaluators that are here, and the one thing that is wrong with each faulty draft."""

from __future__ import annotations

from typing import Any

import pytest

from robustbench_spur.conformance import Report, check, kit
from robustbench_spur.conformance import evaluator_collects as collecting
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
    "one metric that is another alone": (
        "    def support",
        "    def measure_only(self, predictions, counts, metrics):\n"
        "        return {name: self.measure(predictions, counts)[name] / 2 for name in metrics}\n\n    def support",
        asked.ALONE,
        "found right = ",
    ),
    "sums that are another metric's": (
        "    def support",
        "    def quotient(self, predictions, metric):\n"
        "        return np.tile([1.0, 2.0], (len(predictions.patients), 1))\n\n    def support",
        asked.ALONE,
        "Expected of quotient what measure gives, found right = 0.5",
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
    assert len(report.checks) == 19


@pytest.mark.parametrize("fault", FAULTS)
def test_the_one_fault_of_a_draft_is_found(draft: Any, fault: str) -> None:
    old, new, name, message = FAULTS[fault]
    assert old in SOUND
    found = failed(check(draft(SOUND.replace(old, new))))
    (check_name,) = [one for one in found if name in one]
    assert message in found[check_name]


# evaluators that collect

COLLECTS = '''
"""Share of predicted classes that change with the attribute.

Source: made up for the tests.
"""

from typing import ClassVar

import numpy as np

from robustbench_spur import Evaluator, Metric
from robustbench_spur.statistics import patient_sums, ratio


class Draft(Evaluator):
    """A draft."""

    name = "draft"
    version = 1
    summary = "share of predicted classes that change"
    source = "made up"
    collects = ("draft_changed",)
    requires = ("counterfactual",)
    metrics: ClassVar = {"changed": Metric("Share of predicted classes that change.", better="lower")}

    def collect(self, subject):
        """Whether each changes."""
        import torch

        images = np.concatenate(list(subject.scene("counterfactual")))
        with torch.no_grad():
            said = subject.model(torch.from_numpy(images).float() / 255).numpy()
        return {"draft_changed": said.argmax(axis=1) != subject.predictions.predicted}

    def measure(self, predictions, counts):
        """Under every resampling."""
        nobody = np.zeros(len(predictions), np.int64)
        changed = predictions.arrays["draft_changed"]
        there = patient_sums(predictions.patient, counts.shape[1], nobody, 1)[:, 0]
        changes = patient_sums(predictions.patient, counts.shape[1], nobody, 1, changed)[:, 0]
        return {"changed": ratio(counts @ changes, counts @ there)}
'''
IMAGES = 'images = np.concatenate(list(subject.scene("counterfactual")))'
BODY = f"{IMAGES}\n        with torch.no_grad():"
RETURN = "said.argmax(axis=1) != subject.predictions.predicted}"
COLLECTING_FAULTS = {
    "another array": ('{"draft_changed": said', '{"draft_other": said', collecting.COLLECTS, "found draft_other"),
    "objects": (RETURN, "np.array([None] * len(said))}", collecting.COLLECTS, "Python objects"),
    "an error on many classes": (
        IMAGES,
        f"([0] * 10)[len(subject.predictions.groups.classes)]\n        {IMAGES}",
        collecting.COLLECTS,
        "ten classes: IndexError",
    ),
    "a partition that is not declared": (
        IMAGES,
        f'subject.other("train")\n        {IMAGES}',
        collecting.COLLECTS,
        "Unknown partition",
    ),
    "a warning": (IMAGES, f"np.log(np.zeros(1))\n        {IMAGES}", collecting.QUIET, "divide by zero"),
    "chance": (RETURN, "np.random.default_rng().random(len(said)) < 0.5}", collecting.SAME, "found others"),
    "global chance": (IMAGES, f"torch.rand(1)\n        {IMAGES}", collecting.LEFT, "random generators"),
    "gradients off": (
        BODY,
        BODY.replace("with torch.no_grad():", "torch.set_grad_enabled(False)\n        if True:"),
        collecting.LEFT,
        "switches",
    ),
    "training mode": (IMAGES, f"subject.model.train()\n        {IMAGES}", collecting.LEFT, "its modes changed"),
    "gradient flags": (
        IMAGES,
        f"subject.model.requires_grad_(True)\n        {IMAGES}",
        collecting.LEFT,
        "its gradient flags",
    ),
    "weights": (IMAGES, f"subject.model.state_dict()['std'].mul_(2)\n        {IMAGES}", collecting.LEFT, "its weights"),
    "images": (IMAGES, f"subject.images[:] = 0\n        {IMAGES}", collecting.LEFT, "found them changed"),
    "an error of Python": (
        'subject.scene("counterfactual")',
        'subject.scenes["counterfactual"]()',
        collecting.LACKING,
        "KeyError",
    ),
}
"""As above, of the draft that collects."""


def test_a_sound_draft_that_collects_passes(draft: Any) -> None:
    report = check(draft(COLLECTS))
    assert report.passed, report
    assert {one.status for one in report.checks} == {"ok"}
    assert len(report.checks) == 25


@pytest.mark.parametrize("fault", COLLECTING_FAULTS)
def test_the_one_fault_of_a_collection_is_found(draft: Any, fault: str) -> None:
    old, new, name, message = COLLECTING_FAULTS[fault]
    assert old in COLLECTS
    found = failed(check(draft(COLLECTS.replace(old, new))))
    assert name in found and message in found[name], found


def test_to_declare_what_is_not_used_is_a_warning(draft: Any) -> None:
    report = check(draft(COLLECTS.replace('requires = ("counterfactual",)', 'requires = ("counterfactual", "lesion")')))
    assert report.passed
    assert {one.name: one.message for one in report.checks if one.status == "warning"} == {
        collecting.DECLARED: "It declares 'lesion' and does without: remove it from reads or requires."
    }


def test_what_takes_minutes_is_tried_with_quick_settings_or_not_at_all(draft: Any) -> None:
    slow = COLLECTS.replace("    metrics: ClassVar", "    costly = True\n    metrics: ClassVar")
    (skipped,) = [one for one in check(draft(slow)).checks if one.status == "skipped"]
    assert skipped.name == collecting.COLLECTS and "state quick settings" in skipped.message
    settings = '''
    class Parameters(EvaluatorParameters):
        """One setting."""

        rounds: int = parameter(10, "how often all is done again", at_least=1)

    def collect'''
    slow = slow.replace("    costly = True", '    costly = True\n    quick: ClassVar = {"rounds": 2}')
    slow = slow.replace("\n    def collect", settings).replace(
        "Evaluator, Metric", "Evaluator, EvaluatorParameters, Metric, parameter"
    )
    slow = slow.replace(
        "        import torch\n", "        import torch\n\n        assert self.parameters.rounds == 2\n"
    )
    report = check(draft(slow, "quick.py"))
    assert report.passed, report
    assert {one.status for one in report.checks} == {"ok"}
    wrong = failed(check(draft(slow.replace('{"rounds": 2}', '{"rounds": 0}'), "wrong.py")))
    assert "found rounds=0: Input should be greater than or equal to 1" in wrong[kit.MADE]


def test_what_cannot_be_rendered_here_is_skipped(draft: Any) -> None:
    report = check(draft(COLLECTS.replace('requires = ("counterfactual",)', 'requires = ("another_world",)')))
    (skipped,) = [one for one in report.checks if one.status == "skipped"]
    assert "nothing here can render 'another_world'" in skipped.message
