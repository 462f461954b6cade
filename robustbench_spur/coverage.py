"""Which cells of a board are there, and what became of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Record, RecordStore
from robustbench_spur.registry import Plugin, Registry


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
        if record.board == manifest.board:
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
    if record.method.version != plugin.version:
        return f"method v{record.method.version}, now v{plugin.version}"
    if plugin.origin == "file" and record.method.sha256 != plugin.sha256:
        return "the draft was changed"
    dataset = registry.find("dataset", split.split("/", maxsplit=1)[0])
    if record.identity.split["version"] != dataset.version:
        return f"split v{record.identity.split['version']}, now v{dataset.version}"
    pin = manifest.pin(split)
    if pin is not None and pin.sha256 not in (None, record.identity.split["sha256"]):
        return "another table than the board's"
    for wanted in manifest.evaluators:
        measured = record.evaluators.get(wanted.name)
        if measured is None or measured["version"] != wanted.version:
            return f"evaluator {wanted.name} is not v{wanted.version}"
    return ""
