"""Measure what the engine costs: whole commands in fresh homes, as ratios within one run.

Run it with ``python benchmarks/measure.py``. Prints Markdown rows for benchmarks/README.md; takes about eight minutes on two
cores.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

METHODS = ("erm", "groupdro", "jtt", "dfr")


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, CPU seconds of its process tree."""

    wall: float
    cpu: float


def spurbench(home: Path, *arguments: str) -> Cost:
    """Run the command in a home of its own, and measure it from outside."""
    environment = {**os.environ, "SPURBENCH_HOME": str(home)}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", "import sys; from robustbench_spur.cli import main; sys.exit(main())", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - begun, cpu)


def row(what: str, cost: Cost, note: str = "") -> None:
    """Print a Markdown row."""
    print(f"| {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {note} |", flush=True)


def run(methods: Sequence[str]) -> list[str]:
    """Arguments of a run on the embedded default."""
    return ["run", "--method", *methods, "--split", "field"]


def commands(folder: Path) -> None:
    """Whole commands: the main job, what sharing saves, what is there already."""
    row("`list methods`", spurbench(folder / "none", "list", "methods"))
    whole = spurbench(folder / "whole", *run(["all"]))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    row("main job: four methods on `field`, one seed, all evaluators", whole, f"peak memory {peak / 1e9:.2f} GB")
    row("the same again", spurbench(folder / "whole", *run(["all"])), "does nothing but the table")
    alone = [spurbench(folder / name, *run([name])) for name in METHODS]
    total = Cost(sum(cost.wall for cost in alone), sum(cost.cpu for cost in alone))
    row(
        "the four methods in four homes, nothing shared",
        total,
        f"{total.cpu / whole.cpu:.2f} x the CPU of the main job",
    )
    row("`dfr` added to a finished `erm`", spurbench(folder / "erm", *run(["dfr"])), "trains nothing; attacks included")
    row("`leaderboard --json`", spurbench(folder / "whole", "leaderboard", "--json"))


def rendering() -> None:
    """Slices of the phantom per CPU second, in this process."""
    from robustbench_spur.splits.phantom import Phantom

    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    for size, count in ((64, 400), (224, 60)):
        rows = test.take(np.arange(count))
        begun = time.process_time()
        sum(len(block) for block in phantom.pixels("field", rows, size))
        rate = count / (time.process_time() - begun)
        print(f"| phantom slices of {size} pixels | | | {rate:.0f} per CPU second of the parent process |", flush=True)


def statistics() -> None:
    """2,000 patient-cluster resamplings of 7,000 slices of 200 patients."""
    import robustbench_spur

    rng = np.random.default_rng(0)
    labels, attributes = rng.integers(0, 2, (2, 7000))
    logits = rng.normal(size=(7000, 2)) + np.eye(2)[labels]
    for name in ("worst_group", "ece"):
        begun, cpu = time.perf_counter(), time.process_time()
        robustbench_spur.evaluate(labels, attributes, logits, patients=np.arange(7000) % 200, evaluators=[name])
        cost = Cost(time.perf_counter() - begun, time.process_time() - cpu)
        row(f"`evaluate` with {name}: 7,000 slices, 200 patients, 2,000 resamplings", cost)


def main() -> None:
    """Print all rows."""
    print("| what | wall s | CPU s | |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        commands(Path(folder))
    statistics()
    rendering()


if __name__ == "__main__":
    main()
