"""What the data doctor reports, as typed records that are JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLES = 10
"""Examples that a finding names; its count tells how many there are."""


class Part(BaseModel):
    """Base of everything in a report: unknown names, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Finding(Part):
    """One kind of thing that is wrong, or that a user should know."""

    severity: Literal["fault", "warning"]
    code: str = Field(description="short name of the kind, the same in every report")
    message: str
    count: int = Field(ge=1, description="how many there are")
    examples: tuple[str, ...] = Field(max_length=EXAMPLES)


class GroupCount(Part):
    """A cell of the group matrix; rows without an attribute value are in none."""

    partition: str
    group: str
    slices: int
    patients: int
    designed: bool = Field(default=True, description="whether the partition has the group by the split's design")


class PartitionCount(Part):
    """The size of a partition."""

    partition: str
    slices: int
    patients: int
    several: int = Field(description="patients with more than one slice")
    one_label: int = Field(description="of those, patients whose slices all have one label: identity tells it")


class Shift(Part):
    """How strongly attribute and label go together in a partition, slice by slice."""

    partition: str
    slices: int = Field(description="that have an attribute value")
    mutual_information: float = Field(ge=0, description="in bits")
    cramers_v: float | None = Field(description="0 to 1; None where one of the two is constant")
    aligned: float | None = Field(
        description="share whose attribute code is the label's; None unless there are two each"
    )


class Score(Part):
    """How a rule does in one partition."""

    partition: str
    slices: int = Field(description="that the rule says something about")
    accuracy: float | None = Field(description="0 to 1; None without slices")
    group_balanced_accuracy: float | None = Field(
        description="mean over the groups of the partition's design; None where one is empty"
    )
    tp: int | None = Field(description="label 1, called 1; None unless there are two classes, as the next three")
    fp: int | None
    tn: int | None
    fn: int | None
    auroc: float | None = Field(
        default=None, description="of the rule's score, where it has one; None without both labels"
    )


class Rule(Part):
    """A classifier that sees no image."""

    name: str
    definition: str
    scores: tuple[Score, ...] = Field(description="none where the rule cannot be made; the definition says why")


class Images(Part):
    """What was read of the images."""

    root: str = Field(description="folder that the findings name files from; empty without files")
    files: int = Field(description="image files that were opened and decoded")
    arrays: int = Field(description="images that the data set made, where they lie in no files of their own")
    kind: str = Field(description="mode and size of most files, such as 'L 320 x 320'; empty without files")
    distinct: int = Field(description="different pixel contents among those that could be read")


class Report(Part):
    """All that the doctor found about a split."""

    dataset: str
    version: int
    name: str = Field(description="of the split within the data set")
    rho: float | None
    faults: int = Field(description="findings that are faults")
    warnings: int
    findings: tuple[Finding, ...] = Field(description="faults first")
    images: Images
    partitions: tuple[PartitionCount, ...]
    groups: tuple[GroupCount, ...] = Field(description="the group matrix, partition by partition")
    empty_groups: tuple[str, ...] = Field(description="partition and group, of those that the design has there")
    shift: tuple[Shift, ...]
    rules: tuple[Rule, ...]
    not_examined: tuple[str, ...] = Field(description="what this report says nothing about, and why")
    notes: tuple[str, ...] = Field(description="the data set's own")


def finding(
    severity: Literal["fault", "warning"], code: str, message: str, found: Iterable[str]
) -> tuple[Finding, ...]:
    """The finding that a list of examples makes; nothing where the list is empty.

    >>> [(one.count, one.examples) for one in finding("fault", "unreadable", "Damaged.", ["a.png", "b.png"])]
    [(2, ('a.png', 'b.png'))]
    >>> finding("fault", "unreadable", "Damaged.", [])
    ()
    """
    every = tuple(found)
    if not every:
        return ()
    return (Finding(severity=severity, code=code, message=message, count=len(every), examples=every[:EXAMPLES]),)
