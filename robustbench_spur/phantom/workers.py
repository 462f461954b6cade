"""A job over many slices, in blocks and by several processes; the result does not depend on how many."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.phantom.render import Slices
from robustbench_spur.types import SpurbenchError

Job = Callable[[Slices], NDArray[Any]]

BLOCK_PIXELS = 2**19
"""Pixels in a block: 128 slices of 64 x 64, a tenth of a second of work."""

LITTLE = 2**22
"""Fewer pixels than this are quicker done in this process than it takes to start others."""


def blocks(job: Job, slices: Slices, size: int, workers: int | None = None) -> Iterator[NDArray[Any]]:
    """Apply ``job`` to consecutive blocks of ``slices`` and yield the results in order.

    Only a few blocks are in memory at a time, however many there are.

    Args:
        job: picklable, from slices to an array of as many rows, each independent of the others.
        slices: all of them.
        size: of the matrix, for the length of a block.
        workers: processes; by default as many as there are processors or blocks, and none for a short job.

    Raises:
        SpurbenchError: a process died, most often for lack of memory.
    """
    step = max(1, BLOCK_PIXELS // size**2)
    parts = [slices.rows(np.arange(a, min(a + step, len(slices)))) for a in range(0, len(slices), step)]
    if workers is None:
        short = len(slices) * size**2 <= LITTLE or multiprocessing.current_process().daemon
        workers = 1 if short else min(_processors(), len(parts))
    if workers <= 1:
        return (_work(job, part) for part in parts)
    return _in_processes(job, parts, workers)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(job: Job, parts: list[Slices], workers: int) -> Iterator[NDArray[Any]]:
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    pending: deque[Future[NDArray[Any]]] = deque()
    try:
        for part in parts:
            with _hidden_main():
                pending.append(executor.submit(_work, job, part))
            if len(pending) > workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        message = (
            "Expected the rendering processes to finish, found one that died. Is there enough memory? Run it again."
        )
        raise SpurbenchError(message) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _start() -> None:
    """In a new process: leave Ctrl-C to the parent, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(job: Job, part: Slices) -> NDArray[Any]:
    """One block, with a single-threaded matrix product: the processes are what runs in parallel."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        return job(part)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep a new process from running the caller's script again, as the spawn method otherwise does.

    A script without an ``if __name__`` guard would start itself anew, and one that imports torch would make every
    worker import it. A job lives in an importable module, so that workers do not need the script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
