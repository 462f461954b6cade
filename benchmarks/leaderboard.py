"""How long a board of many entries takes to verify and to build, in how much memory, and how fast its page opens.

    python benchmarks/leaderboard.py --entries 100 --folder /tmp/board

The entries are made up: predictions on the board's own tables whose accuracy differs from group to group and from method
to method, with the metrics and details that they give. They are made once, and used again where the folder is there.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustbench_spur.attack.subset import balanced_subset
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, boards_folder, load_manifest
from robustbench_spur.plan import PlannedCell, Request, make_plan
from robustbench_spur.record import Record, RecordStore, predictions_arrays
from robustbench_spur.registry import Registry
from robustbench_spur.runner import _split_part
from robustbench_spur.scoring import load_evaluators, point
from robustbench_spur.submission.packing import About, pack
from robustbench_spur.types import conflict_groups, finite

COMMAND = "import sys; from robustbench_spur.cli import main; sys.exit(main())"
SPLITS = (
    "phantom/field@0.95",
    "phantom/field@1.0",
    "phantom/field@0.99",
    "phantom/field@0.9",
    "phantom/field@0.8",
    "phantom/orientation@0.95",
)


def made_up(cell: PlannedCell, partition: str, rng: np.random.Generator, skill: float) -> Predictions:
    """Predictions on a partition: skill is the accuracy of the groups that training goes with, the others are lower."""
    table = cell.spec.split.table
    rows, groups = table.partitions[partition], table.groups_in(partition)
    conflict = conflict_groups(table.counts()["train"], groups)
    group = groups.index(rows.labels, rows.attributes)
    chance = np.full(len(groups), skill)
    chance[list(conflict)] = skill * rng.uniform(0.2, 0.9)
    right = rng.random(len(rows)) < chance[group]
    margin = rng.gamma(2.0, 1.5, len(rows)) * np.where(right, 1, -1) * np.where(rows.labels == 1, 1, -1)
    logits = np.stack([-margin / 2, margin / 2], axis=1).astype(np.float32)
    columns = (rows.ids, rows.labels, rows.attributes, rows.clusters, logits, groups)
    arrays = {}
    if partition == "test":
        chosen = np.sort(balanced_subset(Predictions(*columns), 800, 2025))
        arrays = {
            "pgd_rows": chosen,
            "pgd_robust": right[chosen, None] & (rng.random((800, 2)) < [0.6, 0.3]),
            "counterfactual_logits": (logits + rng.normal(0, 1, logits.shape)).astype(np.float32),
            "lesion_removed_logits": (logits - rng.normal(0, 1, logits.shape)).astype(np.float32),
        }
    return Predictions(*columns, arrays, conflict)


def record_of(cell: PlannedCell, store: RecordStore, manifest: Manifest, evaluators: list[Evaluator]) -> Record:
    """A record of a cell that never ran, with made-up predictions."""
    spec = cell.spec
    rng = np.random.default_rng([spec.seed, *spec.plugin.name.encode(), *spec.split.ref.full.encode()])
    skill = 0.75 + 0.2 * np.random.default_rng(list(spec.plugin.name.encode())).random()
    body: dict = {"status": "not_applicable" if cell.reason else "done", "reason": cell.reason}
    if not cell.reason:
        parts = {name: made_up(cell, name, rng, skill) for name in ("validation", "test")}
        arrays = {key: array for name, rows in parts.items() for key, array in predictions_arrays(name, rows).items()}
        body["predictions"] = store.add_predictions(cell.key, arrays)
        body["metrics"], body["details"] = {}, {}
        for name, rows in parts.items():
            own = [one for one in evaluators if name in one.partitions]
            numbers = {one.name: point(one, rows) for one in own}
            body["metrics"][name] = {
                key: {metric: {"value": finite(value), "low": None, "high": None} for metric, value in found.items()}
                for key, found in numbers.items()
            }
            body["details"][name] = {one.name: one.details(rows) for one in own}
    now = "2026-01-01T00:00:00.000+00:00"
    return Record(
        board=manifest.board,
        board_status=manifest.status,
        cell=cell.key,
        config_hash=spec.identity.sha256,
        identity=spec.identity,
        method=spec.method_part(),
        split=_split_part(spec.split, {}),
        network=spec.network_part(None),
        training=spec.used_training.model_dump(mode="json"),
        selection=spec.selection,
        seed=spec.seed,
        track=spec.track,
        off_board=(),
        training_partitions=spec.training_partitions,
        evaluators={pin.name: {"version": pin.version, "parameters": pin.parameters} for pin in spec.evaluators},
        provenance={"package": "made up", "device": "cpu"},
        started=now,
        finished=now,
        **body,
    )


def make_entries(folder: Path, entries: int) -> None:
    """Fill a board's folder with made-up entries: every method once, then again by other teams."""
    manifest, registry = load_manifest("v1"), Registry()
    evaluators = load_evaluators(registry, manifest.evaluators)
    methods = [plugin.name for plugin in registry.entries("method")][:entries]
    home = Home(folder.with_name(f"{folder.name}-home"))
    plan = make_plan(Request(methods=tuple(methods), splits=SPLITS, seeds=manifest.seeds, home=home))
    store = RecordStore(home.records, home.predictions)
    by_method: dict[str, list[Record]] = {}
    for number, cell in enumerate(plan.cells):
        by_method.setdefault(cell.spec.plugin.name, []).append(record_of(cell, store, manifest, evaluators))
        if number % 100 == 0:
            print(f"{number} of {len(plan.cells)} cells made up", file=sys.stderr)
    for number in range(entries):
        name, team = methods[number % len(methods)], f"Team {1 + number // len(methods)}"
        about = About(team, f"https://example.org/{name}")
        place = folder / "entries" / name / "new"
        entry = pack(by_method[name], home, manifest, registry.find("method", name), about, place)
        place.rename(place.with_name(entry.id))
    shutil.copy(boards_folder() / "v1" / "board.json", folder / "board.json")
    shutil.rmtree(home.root)


def timed(*arguments: str) -> tuple[float, float, float, str]:
    """Wall seconds, CPU seconds, greatest memory of a process in MB, and what a command printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return wall, cpu, after.ru_maxrss / 1024, done.stdout.strip().splitlines()[-1]


def opened(page: Path) -> float | None:
    """Seconds from a new tab to the load event of a page, in headless Chromium; None where there is none."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        return None
    script = "document.title=String(performance.getEntriesByType('navigation')[0].loadEventEnd)"
    probe = page.with_name("probe.html")
    text = page.read_text(encoding="utf-8")
    text = text.split("</head>", 1)[0].split("<meta http-equiv", 1)[0] + "</head>" + text.split("</head>", 1)[1]
    probe.write_text(
        text.replace("</body>", f"<script>addEventListener('load',()=>setTimeout(()=>{{{script}}},0))</script></body>")
    )
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]
    done = subprocess.run([browser, *flags, probe.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    probe.unlink()
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    return float(title) / 1000 if title.replace(".", "").isdigit() else None


def rows(folder: Path) -> Iterator[str]:
    """The lines of the table."""
    size = sum(path.stat().st_size for path in (folder / "entries").rglob("*") if path.is_file())
    count = sum(1 for _ in (folder / "entries").glob("*/*"))
    yield f"{count} entries, {sum(1 for _ in (folder / 'entries').rglob('seed*.json'))} cells, {size / 1e6:.0f} MB"
    yield "| step | wall s | CPU s | memory of the largest process, MB |"
    yield "|---|---|---|---|"
    for title, arguments in (
        ("build", ("leaderboard", "build", str(folder))),
        ("verify, and build again to compare", ("verify", str(folder))),
    ):
        wall, cpu, memory, last = timed(*arguments)
        yield f"| {title} | {wall:.1f} | {cpu:.1f} | {memory:.0f} |"
        print(last, file=sys.stderr)
    page = folder / "index.html"
    seconds = opened(page)
    told = "no browser" if seconds is None else f"{seconds:.2f} s to the load event"
    yield f"Page: {page.stat().st_size / 1e6:.1f} MB, {told}."


def main() -> None:
    """Make the entries where they are not there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100)
    parser.add_argument("--folder", type=Path, required=True, help="of the board, made if it is not there")
    options = parser.parse_args()
    folder = options.folder.resolve() / "v1"
    if not (folder / "board.json").is_file():
        make_entries(folder, options.entries)
    for line in rows(folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
