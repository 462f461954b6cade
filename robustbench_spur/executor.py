"""Carries out stages. An executor takes stages and gives outcomes; nothing else passes between stages but artifacts."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustbench_spur.record import ErrorPart
from robustbench_spur.runtime import Runtime
from robustbench_spur.stage import Stage, in_order

OnProgress = Callable[[Stage, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Args:
        stage: which.
        cached: whether it was there already.
        error: why there is no artifact; None where there is one.
    """

    stage: Stage
    cached: bool
    error: ErrorPart | None = None


class Executor(Protocol):
    """Anything that can carry out a plan: this process, several, or a cluster."""

    def run(self, stages: Sequence[Stage], runtime: Runtime, on_progress: OnProgress) -> Iterator[Outcome]:
        """Compute stages and all they need, each once; give one outcome for each, parents first.

        A stage whose parent has failed has the parent's error.
        """
        ...


class LocalExecutor:
    """One stage after the other, in this process."""

    def run(self, stages: Sequence[Stage], runtime: Runtime, on_progress: OnProgress) -> Iterator[Outcome]:
        """See :meth:`Executor.run`."""
        from robustbench_spur.engine import execute

        failed: dict[str, ErrorPart] = {}
        for stage in in_order(tuple(stages)):
            inherited = next((failed[parent.key] for parent in stage.parents if parent.key in failed), None)
            if inherited is not None:
                failed[stage.key] = inherited
                yield Outcome(stage, False, inherited)
                continue
            if runtime.store_of(stage.kind).has(stage.key):
                yield Outcome(stage, True)
                continue
            try:
                execute(stage, runtime, functools.partial(on_progress, stage))
            except Exception as error:
                failed[stage.key] = describe_error(error, stage.title)
                yield Outcome(stage, False, failed[stage.key])
            else:
                yield Outcome(stage, False)


def describe_error(error: Exception, where: str) -> ErrorPart:
    """An exception as part of a record; the traceback names files of the code without their folders."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return ErrorPart(type=type(error).__name__, message=f"{where}: {error}", traceback="\n".join(lines))
