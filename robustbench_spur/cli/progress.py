"""What a run shows: a bar where the output is a terminal, lines of text where it is not."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from robustbench_spur.executor import Outcome
from robustbench_spur.plan import Plan, PlannedCell
from robustbench_spur.record import Record
from robustbench_spur.runner import Finished, carry_out
from robustbench_spur.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_SECONDS = 10.0
"""How often a stage says how far it is where there is no terminal."""


class Terminal:
    """Shows a plan, its progress and its end. A watcher of :func:`~robustbench_spur.runner.carry_out`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._bar: Progress | None = None
        self._whole = self._part = TaskID(0)
        self._plan: Plan | None = None
        self._last_line = time.monotonic()
        self._current = ""

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(escape(text))

    # the plan

    def show_plan(self, plan: Plan) -> None:
        """Print cells and stages: what is shared, what is there already."""
        out = Console(highlight=False)
        cells = Table(title="Cells", title_justify="left")
        for heading in ("method", "split", "seed", "what"):
            cells.add_column(heading, overflow="fold")
        for cell in plan.cells:
            spec = cell.spec
            cells.add_row(spec.plugin.name, escape(spec.split.ref.full), str(spec.seed), escape(_what(cell)))
        out.print(cells)
        users, stages = plan.users(), plan.stages()
        table = Table(title="Stages to carry out, each once", title_justify="left")
        for heading in ("stage", "kind", "cells", "what"):
            table.add_column(heading, overflow="fold")
        for stage in stages:
            there = plan.runtime.store_of(stage.kind).has(stage.key)
            shared = users[stage.key]
            table.add_row(escape(stage.title), stage.kind, str(shared), "there already" if there else "to compute")
        if stages:
            out.print(table)
        uses = sum(users.values())
        new = sum(not plan.runtime.store_of(s.kind).has(s.key) for s in stages)
        out.print(
            f"{sum(c.to_run and c.stages is not None for c in plan.cells)} of {len(plan.cells)} cells to run:"
            f" {new} stages to compute, {len(stages) - new} there already, {uses - len(stages)} saved by sharing."
        )
        new_epochs, alone = plan.epochs()
        out.print(f"Training: {new_epochs} epochs to compute; {alone} if every cell trained its own models.")
        self._notes(plan)

    def _notes(self, plan: Plan) -> None:
        for text, full in plan.resolved.items():
            self.say(f"{text} means {full}")
        for name, reason in (*plan.skipped.items(), *plan.broken.items()):
            self.say(f"left out {name}: {reason}")

    # the run

    def run(self, plan: Plan) -> int:
        """Carry out a plan, show the table of its splits, and list failures last.

        Returns:
            1 where a cell failed or a method is broken, else 0.
        """
        self._notes(plan)
        to_run = [cell for cell in plan.cells if cell.to_run]
        if not to_run:
            self.say("Nothing to do: every cell is done. Use --again to run them once more.")
        finished = self._carry_out(plan)
        failed = [one for one in finished if one.record.status == "failed"]
        self._show_table(plan)
        for name, reason in plan.broken.items():
            self.say(f"LEFT OUT {name}: {reason}")
        for one in failed:
            self.say(f"FAILED {one.cell.spec.title}: {one.record.reason}")
        if failed:
            self.say(
                f"{len(failed)} of {len(finished)} cells failed. The traceback is in the record; run again to retry."
            )
        return 1 if failed or plan.broken else 0

    def _carry_out(self, plan: Plan) -> Sequence[Finished]:
        if not self.console.is_terminal:
            return list(carry_out(plan, self))
        columns = (
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            self._bar = bar
            self._whole = bar.add_task("stages", total=None)
            self._part = bar.add_task("starting", total=None)
            try:
                return list(carry_out(plan, self))
            finally:
                self._bar = None

    def planned(self, plan: Plan) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        self._plan = plan
        self._total = len(plan.stages())
        self._done = 0
        if self._bar is not None:
            self._bar.update(self._whole, total=self._total)

    def progress(self, stage: Stage, done: int, total: int) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        if self._bar is not None:
            self._bar.update(self._part, description=stage.title, completed=done, total=total)
        elif stage.key != self._current or time.monotonic() - self._last_line >= LINE_SECONDS:
            self._current, self._last_line = stage.key, time.monotonic()
            self.say(f"[{self._done + 1}/{self._total}] {stage.title}: {done} of {total}")

    def finished_stage(self, outcome: Outcome) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._whole, completed=self._done)

    def finished_cell(self, cell: PlannedCell, record: Record) -> None:
        """See :class:`~robustbench_spur.runner.Watcher`."""
        state = {"done": "done", "failed": "FAILED", "not_applicable": "not applicable"}[record.status]
        there = " already" if cell.record is not None else ""
        reason = f": {record.reason}" if record.reason else ""
        notes = [note["warning"] for note in record.notes.values() if isinstance(note, dict) and "warning" in note]
        self.say(f"{cell.spec.title}: {state}{there}{reason}{''.join(f' (note: {note})' for note in notes)}")

    def _show_table(self, plan: Plan) -> None:
        from robustbench_spur.board import build_board
        from robustbench_spur.page import write_page
        from robustbench_spur.tables import print_board

        splits = {cell.spec.split.ref.family for cell in plan.cells}
        whole = build_board(plan.runtime.home, plan.manifest, plan.runtime.plugin_files)
        print_board(whole.only(splits), Console(highlight=False))
        page = write_page(whole, plan.runtime.home, plugin_files=plan.runtime.plugin_files)
        self.say(f"Page: {page}")


def _what(cell: PlannedCell) -> str:
    if cell.record is not None:
        return "done already" if cell.record.status == "done" else f"not applicable: {cell.record.reason}"
    if cell.error is not None:
        return f"fails: {cell.error.message}"
    if cell.reason:
        return f"not applicable: {cell.reason}"
    return "to run" + (", degenerate" if cell.degenerate else "")
