"""What evaluators found of one model, in words: the worst first, with the numbers that each sentence follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from robustbench_spur.evaluators.base import Finding, Picture, Predictions, Subject
from robustbench_spur.evaluators.finding import VERDICTS
from robustbench_spur.measuring import Measured as Found
from robustbench_spur.measuring import Result
from robustbench_spur.types import Estimate


@dataclass(frozen=True)
class Measured:
    """What one evaluator gave.

    Args:
        name: of the evaluator.
        summary: one line about it.
        estimates: of every metric, by name.
        details: what has no interval.
        findings: its numbers in words.
        pictures: images that show it.
        definitions: of its metrics, by name or family.
    """

    name: str
    summary: str
    estimates: Mapping[str, Estimate]
    details: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    pictures: tuple[Picture, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)

    def definition(self, metric: str) -> str:
        """What a metric is, in words; a member of a family has the family's."""
        return self.definitions.get(metric) or self.definitions.get(metric.split(":", 1)[0] + ":", "")


@dataclass(frozen=True)
class Audit:
    """A model, examined.

    Args:
        title: what was examined.
        predictions: on the patients that it was examined on.
        measured: by evaluator, in the order in which they were asked.
        left_out: why an evaluator did not measure, by its name.
        notes: facts that a reader must know, such as what the predictions are of.
    """

    title: str
    predictions: Predictions
    measured: tuple[Measured, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def findings(self) -> list[tuple[Finding, Measured]]:
        """All findings with what measured them, the worst first."""
        found = [(finding, one) for one in self.measured for finding in one.findings]
        return sorted(found, key=lambda pair: VERDICTS.index(pair[0].verdict))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of findings of each verdict."""
        return {name: sum(finding.verdict == name for finding, _ in self.findings) for name in VERDICTS}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the pictures."""
        return {
            "title": self.title,
            "notes": list(self.notes),
            "slices": len(self.predictions),
            "patients": len(self.predictions.patients),
            "groups": [{"group": name, "slices": n, "patients": m} for name, n, m in self.predictions.group_sizes()],
            "verdicts": self.counts,
            "findings": [
                {**vars(finding), "metrics": list(finding.metrics), "evaluator": one.name}
                for finding, one in self.findings
            ],
            "metrics": {one.name: {k: v.as_dict() for k, v in one.estimates.items()} for one in self.measured},
            "details": {one.name: dict(one.details) for one in self.measured},
            "left_out": dict(self.left_out),
        }


def audit(found: Found, title: str, notes: Sequence[str] = (), images: Any = None) -> Audit:
    """Put what evaluators found of a model in words.

    Args:
        found: on patients that the model was not trained on; of several seeds, the first one's findings are told.
        title: what was examined.
        notes: facts that a reader must know.
        images: of these patients, uint8, shape (n, channels, height, width), for pictures; None for none.
    """
    measured = tuple(_measured(one, images) for one in found.findings)
    return Audit(title, found.seeds[0].predictions, measured, {**found.left_out, **found.failed}, tuple(notes))


def _measured(one: Result, images: Any) -> Measured:
    evaluator, rows, estimates = one.evaluator, one.predictions[0], one.headline
    return Measured(
        evaluator.name,
        evaluator.summary,
        estimates,
        one.details[0],
        tuple(evaluator.findings(rows, estimates)),
        tuple(evaluator.pictures(Subject(rows, images))) if images is not None else (),
        {name: metric.definition for name, metric in evaluator.metrics.items()},
    )
