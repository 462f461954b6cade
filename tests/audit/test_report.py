"""What an audit gathers: the numbers of every evaluator that can be had, what they say, and why others are left out."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pytest

from robustbench_spur.audit import Audit, audit
from robustbench_spur.evaluators.base import Evaluator, Finding, Metric, Picture, Predictions, Subject
from robustbench_spur.evaluators.calibration import Calibration
from robustbench_spur.evaluators.fairness import Fairness
from robustbench_spur.evaluators.finding import beyond, in_percent
from robustbench_spur.evaluators.pgd import PGD
from robustbench_spur.evaluators.uncertainty import Uncertainty
from robustbench_spur.evaluators.worst_group import WorstGroup
from robustbench_spur.manifest import load_manifest
from robustbench_spur.measuring import Seed, measure
from robustbench_spur.types import Estimate, SpurbenchError
from tests.evaluators import reference


class Brightness(Evaluator):
    """Mean of something that is collected."""

    name = "brightness"
    version = 1
    summary = "mean brightness"
    metrics: ClassVar = {"brightness": Metric("Mean brightness.")}
    collects = ("brightness_of",)
    reads = ("validation",)  # no model is needed

    def collect(self, subject: Subject) -> dict[str, Any]:
        return {"brightness_of": np.full(len(subject.predictions), 0.25)}

    def measure(self, predictions: Predictions, counts: Any) -> dict[str, Any]:
        return {"brightness": np.full(len(counts), predictions.arrays["brightness_of"].mean())}

    def pictures(self, subject: Subject) -> list[Picture]:
        return [Picture("the first", subject.images[0, 0])]

    def findings(self, predictions: Predictions, estimates: Any) -> list[Finding]:
        text = in_percent(estimates["brightness"])
        return [Finding("Is it dark?", "doubt", text, ("brightness",), "Nothing.")]


class Refuses(Brightness):
    """One that cannot."""

    name = "refuses"

    def collect(self, subject: Subject) -> dict[str, Any]:
        raise SpurbenchError("Expected a model, found none.")


def shortcut_only(per_group: int = 60) -> Predictions:
    """The class whose code is the attribute's; a patient has two slices."""
    labels, attributes, clusters, groups = reference.balanced(per_group)
    return reference.predictions_of(labels, attributes, clusters, reference.said(attributes, 2), groups)


def audited(predictions: Predictions, *evaluators: Evaluator, notes: tuple[str, ...] = (), images: Any = None) -> Audit:
    found = measure(
        [Seed("toy", predictions)], evaluators, load_manifest().bootstrap, others=[{"validation": predictions}]
    )
    return audit(found, "toy", notes, images)


def findings_of(predictions: Predictions) -> list[Finding]:
    (one,) = audited(predictions, WorstGroup()).measured
    return list(one.findings)


def test_the_worst_findings_come_first_and_what_cannot_be_had_is_told() -> None:
    one = audited(shortcut_only(), Brightness(), Refuses(), WorstGroup(), PGD(), notes=("a note",))
    assert [finding.verdict for finding, _ in one.findings] == ["problem", "doubt"]
    assert one.counts == {"problem": 1, "doubt": 1, "no sign": 0, "unknown": 0}
    assert one.left_out == {"refuses": "Expected a model, found none.", "pgd": "needs the model"}
    assert one.findings[1][0].sentence == "25.0 %"
    told = json.loads(json.dumps(one.as_dict()))
    assert told["metrics"]["brightness"]["brightness"]["value"] == 0.25
    assert told["groups"][0] == {"group": "c0@v0", "slices": 60, "patients": 30}
    assert (told["slices"], told["patients"], told["notes"]) == (240, 120, ["a note"])


def test_a_model_that_follows_the_attribute_alone_fails_some_patients() -> None:
    (finding,) = findings_of(shortcut_only())
    assert finding.verdict == "problem"
    # thirty patients, none right: the exact bound is 1 - 0.025 ** (1 / 30)
    assert (
        "Of c0@v1 (60 slices of 30 patients) it gets 0.0 % (0.0 to 11.6) right, of all slices 50.0 %"
        in finding.sentence
    )
    assert "equally often" in finding.advice


def test_of_few_patients_the_same_is_in_doubt() -> None:
    (finding,) = findings_of(shortcut_only(per_group=8))
    assert finding.verdict == "doubt"
    assert "4 patients are too few" in finding.limits


def test_a_perfect_model_fails_nobody() -> None:
    (finding,) = findings_of(reference.perfect())
    assert (finding.verdict, finding.advice) == ("no sign", "")
    assert "no other attribute" not in finding.sentence and "no other attribute" in finding.limits


def test_an_empty_group_cannot_be_told() -> None:
    whole = reference.perfect()
    rows = np.flatnonzero(whole.group != 2)
    (finding,) = findings_of(reference.rearranged(whole, rows, whole.clusters[rows]))
    assert finding.verdict == "unknown"
    assert "c1@v0" in finding.sentence


def test_every_metric_that_a_finding_names_is_there() -> None:
    one = audited(reference.random(0), WorstGroup(), Calibration(), Fairness(), Uncertainty())
    assert len(one.findings) == 4
    for finding, source in one.findings:
        assert set(finding.metrics) <= source.estimates.keys()
        assert all(source.definition(metric) for metric in finding.metrics)


@pytest.mark.parametrize(
    ("estimate", "above", "verdict"),
    [
        (Estimate(0.3, 0.2, 0.4), True, "problem"),
        (Estimate(0.3, 0.05, 0.4), True, "doubt"),
        (Estimate(0.1, 0.05, 0.4), True, "no sign"),
        (Estimate(0.3), True, "doubt"),
        (Estimate(None, reason="nobody"), True, "unknown"),
        (Estimate(0.05, 0.01, 0.08), False, "problem"),
        (Estimate(0.05, 0.01, 0.2), False, "doubt"),
    ],
)
def test_a_verdict_needs_the_whole_interval(estimate: Estimate, above: bool, verdict: str) -> None:
    assert beyond(estimate, 0.1, above=above) == verdict


def test_pictures_are_made_where_there_are_images() -> None:
    images = np.arange(240, dtype=np.uint8).reshape(240, 1, 1, 1)
    (one,) = audited(shortcut_only(), Brightness(), images=images).measured
    assert [(picture.caption, picture.image.tolist()) for picture in one.pictures] == [("the first", [[0]])]
    assert not audited(shortcut_only(), Brightness()).measured[0].pictures
