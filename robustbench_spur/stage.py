"""A unit of work, named by the hash of everything that determines its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from robustbench_spur.store import content_hash

ENGINE_VERSION = 1
"""Raised whenever the training loop, a network of the project's own or a stage function changes its results."""

IMAGE_KINDS = ("pixels", "gather")
"""Kinds of stages whose result is images: made, or taken from others that are."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One node of the plan.

    Args:
        kind: which function of the engine computes it.
        spec: JSON values that determine the result, beside the parents.
        parents: the stages it reads.
        title: for people; not part of its identity.
        place: where inputs lie on this machine (paths); not part of its identity.
    """

    kind: str
    spec: Mapping[str, Any]
    parents: tuple[Stage, ...]
    title: str
    place: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Hash of kind, spec, parents and engine version."""
        parents = [parent.key for parent in self.parents]
        return content_hash([ENGINE_VERSION, self.kind, self.spec, parents])

    def ancestry(self) -> Iterator[Stage]:
        """This stage and all it needs, parents first, each key once."""
        seen: set[str] = set()

        def visit(stage: Stage) -> Iterator[Stage]:
            if stage.key in seen:
                return
            seen.add(stage.key)
            for parent in stage.parents:
                yield from visit(parent)
            yield stage

        yield from visit(self)


def in_order(stages: tuple[Stage, ...]) -> list[Stage]:
    """All stages that ``stages`` need, parents first, each key once."""
    found: dict[str, Stage] = {}
    for stage in stages:
        for ancestor in stage.ancestry():
            found.setdefault(ancestor.key, ancestor)
    return list(found.values())
