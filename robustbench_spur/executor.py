"""Carries out stages. An executor takes stages and gives outcomes; nothing else passes between stages but artifacts."""

from __future__ import annotations

import functools
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
            except (Exception, SystemExit) as error:  # a method that calls sys.exit ends its cell, not the run
                failed[stage.key] = describe_error(error, stage.title, runtime)
                yield Outcome(stage, False, failed[stage.key])
            else:
                yield Outcome(stage, False)


def describe_error(error: BaseException, where: str, runtime: Runtime) -> ErrorPart:
    """An exception as part of a record, without the folders of this machine.

    Args:
        error: what was raised.
        where: what was being done, in words.
        runtime: whose folders are left out.
    """
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    message = without_folders(f"{where}: {error}", runtime)
    return ErrorPart(type=type(error).__name__, message=message, traceback=without_folders("\n".join(lines), runtime))


def without_folders(text: str, runtime: Runtime) -> str:
    """A text whose paths no longer say where they lie on this machine, nor whose it is: records are published."""
    given = [path.absolute() for path in (*runtime.data.values(), *runtime.plugin_files)]
    places = {
        str(runtime.home.root): "$SPURBENCH_HOME",
        str(Path.home()): "~",
        tempfile.gettempdir(): "$TMPDIR",
        **{str(path): path.name for path in (*given, *(path.resolve() for path in given))},
    }
    for place in sorted(places, key=len, reverse=True):
        if len(Path(place).parts) > 1:
            text = text.replace(place, places[place])
    return text
