"""Whole cells of a method on the bench: planned and computed as any other cell is, in a home that is thrown away."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur.engine import execute
from robustbench_spur.home import Home
from robustbench_spur.method import View
from robustbench_spur.plan import Plan, PlannedCell, Request, make_plan
from robustbench_spur.registry import Plugin
from robustbench_spur.request import in_a_line
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.types import HiddenError, SpurbenchError

BENCH = Path(__file__).with_name("bench.py")
QUICK = "quick"
"""Name of the preset that a method may have for being tried in seconds; the kit uses it."""
TRAINING = {"epochs": 2, "batch_size": 16}
"""Two epochs, so that a run can be killed after the first."""
OUTPUTS = ("train", "test")
Logits = dict[str, NDArray[Any]]


class FaultError(Exception):
    """The method's code failed.

    Args:
        message: for its author.
        place: file and line.
        hidden: whether it asked for what it did not declare.
    """

    def __init__(self, message: str, place: str, *, hidden: bool = False) -> None:
        super().__init__(f"{message} ({place})" if place else message)
        self.place, self.hidden = place, hidden


class Killed(BaseException):
    """The end of a run that nobody planned; no method may catch it."""


@dataclass
class Lab:
    """Runs cells of one method.

    Args:
        plugin: the method.
        files: drafts.
        folder: for homes; the caller removes it.
        read: partitions whose attributes were read so far.
        refused: partitions whose attributes were asked for, but are not declared.
    """

    plugin: Plugin
    files: tuple[Path, ...]
    folder: Path
    read: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    _homes: int = field(default=0, repr=False)

    def plan(self, split: str, seed: int = 0, *, poisoned: bool = False) -> tuple[Plan, PlannedCell]:
        """A cell in a home of its own, forced where the method is not applicable.

        Raises:
            FaultError: the method's ``fit`` raised something, or its settings did.
        """
        self._homes += 1
        request = Request(
            methods=(self.plugin.name,),
            splits=(f"conformance_bench/{split}",),
            seeds=(seed,),
            settings=TRAINING,
            preset=QUICK if QUICK in self.plugin.literal("presets", {}) else None,
            split_settings={"poisoned": poisoned},
            plugin_files=(BENCH, *self.files),
            device="cpu",
            force=True,
            home=Home(self.folder / str(self._homes)),
        )
        try:
            plan = make_plan(request)
        except SpurbenchError as error:
            raise FaultError(str(error), "") from error
        cell = plan.cells[0]
        if cell.error is not None:
            own = f"{self.plugin.path.name}:" if self.plugin.path else ""
            lines = [line.split(" in ")[0] for line in cell.error.traceback.splitlines() if line.startswith(own)]
            place = f"{self.plugin.path}:{lines[-1].removeprefix(own)}" if lines and own else self.plugin.where
            where, _, message = (cell.error.message.splitlines() or [""])[0].partition(": ")
            hidden = cell.error.type == HiddenError.__name__
            raise FaultError(f"{where}: {cell.error.type}: {message}", place, hidden=hidden)
        # a thread per processor makes networks of this size slower
        return replace(plan, runtime=replace(plan.runtime, threads=1)), cell

    def run(self, plan: Plan, cell: PlannedCell, *, killed: bool = False) -> Logits:
        """Logits of training and test partition.

        Args:
            plan: as :meth:`plan` gave it.
            cell: of it.
            killed: end every training after its first epoch, and begin it again.

        Raises:
            FaultError: the method's code raised something.
        """
        if cell.stages is None:
            raise FaultError(f"Expected a cell that can be run, found {cell.reason!r}.", "")
        outputs = {name: cell.stages.outputs[name] for name in OUTPUTS}
        for stage in in_order(tuple(outputs.values())):
            if killed and stage.kind == "train":
                with contextlib.suppress(Killed):
                    self._execute(stage, plan, dying=True)
            if not plan.runtime.store_of(stage.kind).has(stage.key):
                self._execute(stage, plan)
        return {name: plan.runtime.artifacts.arrays(stage.key)["logits"] for name, stage in outputs.items()}

    def _execute(self, stage: Stage, plan: Plan, *, dying: bool = False) -> None:
        def progress(done: int, total: int) -> None:
            if dying and done > total // int(stage.spec["epochs"]):
                raise Killed

        try:
            with self._watched():
                execute(stage, plan.runtime, progress)
        except (Exception, SystemExit) as failure:
            message = f"{stage.title}: {in_a_line(failure)}"
            hidden = isinstance(failure, HiddenError)
            raise FaultError(message, place_of(failure, self.plugin), hidden=hidden) from failure

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Note whose attributes are read, also where the method goes on after it was refused."""
        original: Any = vars(View)["attributes"]

        def noted(view: View) -> NDArray[np.int64]:
            # ids of the bench begin with the partition
            partitions = {str(name).rstrip("0123456789") for name in view.partition.ids}
            try:
                found: NDArray[np.int64] = original.fget(view)
            except HiddenError:
                self.refused |= partitions
                raise
            self.read |= partitions
            return found

        setattr(View, "attributes", property(noted))  # noqa: B010
        try:
            yield
        finally:
            setattr(View, "attributes", original)  # noqa: B010


def place_of(failure: BaseException, plugin: Plugin) -> str:
    """The last line of the plugin's file, or of one beside it, that an error passed; the class where it passed none."""
    found, trace = plugin.where, failure.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if plugin.path is not None and path.parent == plugin.path.parent:
            found = f"{path}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def global_state() -> tuple[Any, ...]:
    """The state of every random generator that code can reach without being given one."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), legacy[1].tolist(), legacy[2:], random.getstate()


@contextlib.contextmanager
def reseeded(seed: int) -> Iterator[None]:
    """Another state of the global generators for a while."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])


@contextlib.contextmanager
def same_threads() -> Iterator[None]:
    """Leave torch's number of threads as it was."""
    kept = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(kept)
