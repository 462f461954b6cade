"""Measure what every evaluator costs on 7,000 slices: collecting from a model, 2,000 resamplings of the patients, and details.

Run it with ``python benchmarks/evaluators.py``. It renders the phantom at 64 pixels with enough test patients for 7,000 slices,
makes a network whose last layer is fitted, writes the scenes down as a run does, and then carries each evaluator out alone in a
process of its own, on two threads; imports are not counted. Of three times the least is told, since other work on the machine
makes all of them longer; of evaluators that take minutes there is one. It prints Markdown rows for benchmarks/README.md. Name
evaluators to measure these alone.

Attacks and corruptions are left out: they are passes through the network by the hundred, and cost what the network costs.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATIENTS, SIZE, BLOCK = 876, 64, 256
THREADS, TIMES = "2", 3
LEFT_OUT = ("attacks", "pgd", "fragility", "corruptions")
IMPORTED = (
    "captum.attr",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.covariance",
    "sklearn.linear_model",
    "torch",
    "torch._dynamo",  # by the first optimiser
)
"""What evaluators import when they are carried out; loaded before, so that it is not counted."""
SCENES = {"counterfactual": "uint8", "without_lesion": "uint8", "lesion": "float32", "body": "float32"}


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds; of an evaluator, those spent collecting, measuring and in details apart."""

    wall: float
    cpu: float
    parts: tuple[float, ...] = ()


class Clock:
    """Seconds since it was made, of this process and of those that it started and that have ended."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), self._used()

    def __call__(self) -> Cost:
        """Wall and CPU seconds so far."""
        return Cost(time.perf_counter() - self.wall, self._used() - self.cpu)

    @staticmethod
    def _used() -> float:
        return sum(os.times()[:4])


# what is looked at


def prepare(folder: Path) -> dict[str, Cost]:
    """Render all that evaluators look at, fit a network, and write both down; what rendering each scene took."""
    from robustbench_spur.splits.phantom import Phantom
    from robustbench_spur.types import conflict_groups

    phantom = Phantom(Phantom.Parameters(test_patients=PATIENTS))
    table, costs = phantom.table("field", 0.95), {}
    images = {}
    for name in ("train", "validation", "test"):
        clock, rows = Clock(), table.partitions[name]
        images[name] = np.concatenate(list(phantom.pixels("field", rows, SIZE)))
        costs[f"images of {name}"] = clock()
    for name in SCENES:
        clock = Clock()
        found = np.concatenate(list(phantom.scene(name, "field", table.partitions["test"], SIZE)))
        np.save(folder / f"{name}.npy", found)
        costs[f"scene {name}"] = clock()
    model, logits = fitted(images, {name: table.partitions[name].labels for name in images})
    each = []
    for _ in range(TIMES):
        clock = Clock()
        passed(model, images["test"])
        each.append(clock())
    costs["one pass of the network over the 7,000 slices"] = min(each, key=lambda one: one.cpu)
    rest = {}
    for name, pixels in images.items():
        np.save(folder / f"{name}.images.npy", pixels)
        rows, groups = table.partitions[name], table.groups_in(name)
        conflict = conflict_groups(table.counts()["train"], groups)
        rest[name] = (rows.ids, rows.labels, rows.attributes, rows.clusters, logits[name], groups, {}, conflict)
    (folder / "rest.pickle").write_bytes(pickle.dumps((model, rest, table.partitions["test"].extra)))
    return costs


def fitted(images: dict[str, Any], labels: dict[str, Any]) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """The small network with random convolutions and a last layer fitted on train, and what it says of each partition."""
    import torch
    from sklearn.linear_model import LogisticRegression

    from robustbench_spur.networks import Classifier, SmallCNN

    torch.manual_seed(0)
    torch.set_num_threads(int(THREADS))
    backbone = SmallCNN(images["test"].shape[1])
    model = Classifier(backbone, SmallCNN.num_features, 2, [0.2], [0.2]).eval().requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)  # as those that a run trains and loads
    features = {name: passed(model, pixels) for name, pixels in images.items()}
    scale = features["train"].std(0) + 1e-6
    found = LogisticRegression(C=0.01, max_iter=2000).fit((features["train"] / scale).numpy(), labels["train"])
    model.head.weight[1] = torch.from_numpy(found.coef_[0]).float() / scale
    model.head.weight[0], model.head.bias[0] = 0, 0
    model.head.bias[1] = float(found.intercept_[0])
    return model, {name: model.head(points).numpy() for name, points in features.items()}


def passed(model: Any, images: NDArray[np.uint8]) -> Any:
    """The input of the last layer for every image."""
    import torch

    from robustbench_spur.feeding import Feed

    return torch.cat([model.features(part) for part in Feed(images, torch.device("cpu")).batches(BLOCK)])


def blocks(path: Path) -> Iterator[NDArray[Any]]:
    """A scene as it is read again in a run."""
    rows = np.load(path, mmap_mode="r")
    yield from (np.array(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))


def subject_of(folder: Path) -> Any:
    """What was prepared, as evaluators see it."""
    from robustbench_spur.evaluators.base import Part, Predictions, Subject

    model, rest, columns = pickle.loads((folder / "rest.pickle").read_bytes())  # this script's own file
    images = {name: np.load(folder / f"{name}.images.npy", mmap_mode="r") for name in rest}
    parts = {name: Part(Predictions(*given), images[name]) for name, given in rest.items()}
    scenes = {name: partial(blocks, folder / f"{name}.npy") for name in SCENES}
    test = parts.pop("test")
    return Subject(test.predictions, test.images, lambda: model, others=parts, scenes=scenes, columns=columns)


# what it takes


def carry_out(name: str, folder: Path) -> None:
    """Carry one evaluator out in this process, and print its cost as JSON."""
    import torch

    from robustbench_spur.manifest import load_manifest
    from robustbench_spur.measuring import available
    from robustbench_spur.registry import Registry
    from robustbench_spur.scoring import Scorer

    for module in IMPORTED:
        __import__(module)
    torch.set_num_threads(int(THREADS))
    manifest, subject = load_manifest(), subject_of(folder)
    (evaluator,), _ = available(Registry(), manifest, [name])
    clock, parts = Clock(), []
    predictions = replace(subject.predictions, arrays=evaluator.collect(subject))
    parts.append(clock().cpu)
    estimates = Scorer(None, manifest.bootstrap).score(evaluator, predictions, "")
    parts.append(clock().cpu - sum(parts))
    evaluator.details(predictions)
    parts.append(clock().cpu - sum(parts))
    whole = clock()
    print(json.dumps({"wall": whole.wall, "cpu": whole.cpu, "parts": parts, "metrics": len(estimates)}))


def cost_of(name: str, folder: Path) -> Cost:
    """Carry one evaluator out in a process of its own.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), THREADS)
    command = [sys.executable, __file__, name, "--prepared", str(folder)]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Cost(found["wall"], found["cpu"], tuple(found["parts"]))


def row(what: str, cost: Cost, note: str = "") -> None:
    """Print a Markdown row."""
    parts = " / ".join(f"{part:.2f}" for part in cost.parts)
    print(f"| {what} | {cost.wall:.2f} | {cost.cpu:.2f} | {parts} | {note} |", flush=True)


def total(costs: list[Cost]) -> Cost:
    """The sum of costs."""
    parts = tuple(map(sum, zip(*(cost.parts for cost in costs), strict=True)))
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs), parts)


def measure(folder: Path, names: list[str]) -> None:
    """Print all rows."""
    from robustbench_spur.registry import Registry

    plugins = [one for one in Registry().entries("evaluator") if one.name not in LEFT_OUT]
    chosen = [one for one in plugins if one.name in names or not names]
    rendering = prepare(folder)
    print("| what | wall s | CPU s | collecting / resampling / details | |\n|---|---|---|---|---|", flush=True)
    kinds: dict[str, list[Cost]] = {
        "predictions alone": [],
        "the model": [],
        "the model; left out unless asked for": [],
    }
    for plugin in sorted(chosen, key=lambda one: (bool(one.literal("collects", ())), one.name)):
        alone = not plugin.literal("collects", ())
        kind = list(kinds)[0 if alone else 2 if plugin.literal("costly", False) else 1]
        times = 1 if plugin.literal("costly", False) else TIMES
        cost = min((cost_of(plugin.name, folder) for _ in range(times)), key=lambda one: one.cpu)
        kinds[kind].append(cost)
        row(f"`{plugin.name}`", cost, kind)
    for kind, costs in kinds.items():
        if costs:
            row(f"together, {kind}", total(costs))
    row("together", total([cost for kind, costs in kinds.items() for cost in costs if "unless" not in kind]))
    for what, cost in rendering.items():
        row(what, cost, "" if "pass" in what else "rendered once for all models")


def main() -> None:
    """Print all rows, or carry one evaluator out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="evaluators (default: all but attacks)")
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepared:
        carry_out(options.names[0], options.prepared)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.names)


if __name__ == "__main__":
    main()
