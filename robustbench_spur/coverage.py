"""Which cells of a board are there, what became of the others, and which records follow the board's rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.parameters import BUDGET
from robustbench_spur.record import Record, RecordStore
from robustbench_spur.registry import Plugin, Registry
from robustbench_spur.stage import ENGINE_VERSION


def coverage(
    home: Home,
    manifest: Manifest,
    registry: Registry,
    methods: Sequence[Plugin],
    splits: Sequence[str],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """One row per cell with the board's settings.

    Args:
        home: folder of results.
        manifest: of the board.
        registry: of the plugins that are installed now.
        methods: which.
        splits: in full.
        seeds: which.

    Returns:
        Rows with ``method, split, seed, status, reason, finished``; status is ``done``, ``failed``, ``not_applicable``,
        ``stale`` (of another version of method, data or evaluators) or ``missing``.
    """
    found: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in RecordStore(home.records, home.predictions):
        if belongs(record, manifest):
            found[record.method.name, str(record.identity.split["name"]), record.seed].append(record)
    rows = []
    for plugin in methods:
        for split in splits:
            for seed in seeds:
                status, reason, finished = _state(found[plugin.name, split, seed], plugin, split, manifest, registry)
                cell = {"method": plugin.name, "split": split, "seed": seed}
                rows.append({**cell, "status": status, "reason": reason, "finished": finished})
    return rows


def _state(
    records: list[Record], plugin: Plugin, split: str, manifest: Manifest, registry: Registry
) -> tuple[str, str, str | None]:
    """State, reason and time of the newest record with the board's settings; finished ones go before failed ones."""
    own = [record for record in records if not record.off_board]
    if not own:
        others = f"{len(records)} with other settings" if records else ""
        return "missing", others, None
    current = [record for record in own if not stale(record, plugin, split, manifest, registry)]
    if not current:
        return "stale", stale(own[-1], plugin, split, manifest, registry), own[-1].finished
    done = [record for record in current if record.status != "failed"]
    newest = (done or current)[-1]
    return newest.status, newest.reason, newest.finished


def stale(record: Record, plugin: Plugin, split: str, manifest: Manifest, registry: Registry) -> str:
    """Why a record is of another version than what is here now; empty where it is not."""
    if record.identity.engine != ENGINE_VERSION:
        return f"engine v{record.identity.engine}, now v{ENGINE_VERSION}"
    if record.method.version != plugin.version:
        return f"method v{record.method.version}, now v{plugin.version}"
    if plugin.origin == "file" and record.method.sha256 != plugin.sha256:
        return "the draft was changed"
    dataset = registry.find("dataset", split.split("/", maxsplit=1)[0])
    if record.identity.split["version"] != dataset.version:
        return f"split v{record.identity.split['version']}, now v{dataset.version}"
    return departure(record, manifest)


def belongs(record: Record, manifest: Manifest) -> bool:
    """Whether a record was made for this board and its status: those of a draft never enter the frozen board."""
    return record.board == manifest.board and record.board_status == manifest.status


def departure(record: Record, manifest: Manifest) -> str:
    """In what a record departs from the board's rules as they are now; empty where it follows them.

    A record says itself in what it departed from the rules of its day (``off_board``). A draft's rules change, and
    what was the board's then need not be so now.
    """
    return next(_departures(record, manifest), "")


def _departures(record: Record, manifest: Manifest) -> Iterator[str]:
    split = str(record.identity.split["name"])
    pin, setup = manifest.pin(split), manifest.setup(split.split("/", maxsplit=1)[0])
    if pin is None or setup is None:
        yield f"split {split} is not on the board"
        return
    if pin.version != record.identity.split["version"]:
        yield f"split v{record.identity.split['version']}, the board has v{pin.version}"
    if pin.sha256 not in (None, record.identity.split["sha256"]):
        yield "another table than the board's"
    board = {"selection": manifest.selection, **setup.model_dump(exclude={"training"}), **setup.training.model_dump()}
    own = {"selection": record.selection, **record.network.model_dump(), **record.training}
    for name, wanted in board.items():
        if name in record.method.settings and name not in BUDGET:
            continue  # the method's own to set
        if own.get(name) != wanted:
            yield f"{name}={own.get(name)}, the board has {wanted}"
    for evaluator in manifest.evaluators:
        about = record.evaluators.get(evaluator.name)
        if about is None:
            yield f"not measured by {evaluator.name}"
        elif about["version"] != evaluator.version:
            yield f"measured by {evaluator.name} v{about['version']}, the board has v{evaluator.version}"
        elif about["parameters"] != evaluator.parameters:
            yield f"measured by {evaluator.name} with other settings than the board's"
