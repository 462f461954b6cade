"""The same work on many things, in several processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    work: Callable[[Item], Made],
    items: Sequence[Item],
    told: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> list[Made]:
    """Work on every item, a process per processor, each with one thread: more would wait for one another.

    Args:
        work: a function of a module, or a partial of one.
        items: what it is called with.
        told: is told how many of how many are done.
        processes: how many; as many as there are processors where None. With one the work is done here.

    Returns:
        What was made of each, in order.
    """
    workers = min(processes or processors(), max(1, len(items)))
    found: list[Made] = []
    with contextlib.ExitStack() as stack:
        if workers > 1:
            stack.enter_context(_single_threads())
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context))
            made = pool.map(work, items)
        else:
            made = map(work, items)
        for one in made:
            found.append(one)
            if told:
                told(len(found), len(items))
    return found


@contextlib.contextmanager
def _single_threads() -> Iterator[None]:
    """Processes that are started here compute with one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
