"""How far a piece of long work is, for verbs that do one piece after the other."""

from __future__ import annotations

import time
from typing import Any


class Bar:
    """A progress bar with a title; a line now and then where the output is no terminal."""

    def __init__(self, console: Any) -> None:
        self.console, self._said = console, time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self.console.is_terminal:
            text = TextColumn("{task.description}", markup=False)  # ids and settings may have brackets
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self.console, transient=True).__enter__()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)
            self._bar = None

    def __call__(self, title: str, done: int, total: int) -> None:
        """Show how far a piece of work is."""
        if self._bar is not None:
            self._bar.update(self._task, description=title, completed=done, total=total)
        elif time.monotonic() - self._said >= 10:
            self._said = time.monotonic()
            self.console.print(f"{title}: {done} of {total}", markup=False)
