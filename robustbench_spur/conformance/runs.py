"""Whole cells of a method on the bench: planned and computed as any other cell is, in a home that is thrown away."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_spur.engine import execute
from robustbench_spur.executor import describe_error
from robustbench_spur.home import Home
from robustbench_spur.method import View
from robustbench_spur.plan import Plan, PlannedCell, Request, make_plan
from robustbench_spur.registry import Plugin
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.types import SpurbenchError

BENCH = Path(__file__).with_name("bench.py")
TRAINING = {"epochs": 2, "batch_size": 16}
"""Two epochs, so that a run can be killed after the first."""
OUTPUTS = ("train", "test")


class FaultError(Exception):
    """The method's code failed; the text is for its author."""


class Killed(BaseException):
    """The end of a run that nobody planned; no method may catch it."""


@dataclass
class Lab:
    """Runs cells of one method.

    Args:
        plugin: the method.
        files: drafts.
        folder: for homes; the caller removes it.
        reads: how often attributes were read so far.
    """

    plugin: Plugin
    files: tuple[Path, ...]
    folder: Path
    reads: int = 0
    _homes: int = field(default=0, repr=False)

    def plan(
        self, split: str, seed: int = 0, *, poisoned: bool = False, force: bool = False
    ) -> tuple[Plan, PlannedCell]:
        """A cell of its own home."""
        self._homes += 1
        request = Request(
            methods=(self.plugin.name,),
            splits=(f"conformance_bench/{split}",),
            seeds=(seed,),
            settings=TRAINING,
            split_settings={"poisoned": poisoned},
            plugin_files=(BENCH, *self.files),
            device="cpu",
            force=force,
            home=Home(self.folder / str(self._homes)),
        )
        try:
            plan = make_plan(request)
        except SpurbenchError as error:
            raise FaultError(str(error)) from error
        cell = plan.cells[0]
        if cell.error is not None:
            raise FaultError(f"fit: {cell.error.type}: {cell.error.message}")
        return plan, cell

    def run(self, plan: Plan, cell: PlannedCell, *, killed: bool = False) -> dict[str, NDArray[Any]]:
        """Logits of training and test partition.

        Args:
            plan: as :meth:`plan` gave it.
            cell: of it.
            killed: end every training after its first epoch, and begin it again.

        Raises:
            FaultError: the method's code raised something.
        """
        assert cell.stages is not None
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
            error = describe_error(failure, stage.title, plan.runtime)
            raise FaultError(f"{error.message} ({_place(failure, self.plugin)})") from failure

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Count reads of attributes."""
        original: Any = vars(View)["attributes"]

        def counted(view: View) -> NDArray[np.int64]:
            found: NDArray[np.int64] = original.fget(view)
            self.reads += 1
            return found

        setattr(View, "attributes", property(counted))  # noqa: B010
        try:
            yield
        finally:
            setattr(View, "attributes", original)  # noqa: B010


def _place(failure: BaseException, plugin: Plugin) -> str:
    """The last line of the plugin's own file that the error passed; the class where it passed none."""
    found, trace = plugin.where, failure.__traceback__
    while trace is not None:
        if plugin.path is not None and Path(trace.tb_frame.f_code.co_filename) == plugin.path:
            found = f"{plugin.path}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def global_state() -> tuple[Any, ...]:
    """The state of every random generator that code can reach without being given one."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), legacy[1].tolist(), legacy[2], random.getstate()


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
