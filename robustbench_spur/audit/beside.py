"""Rows of the leaderboard that a model may be held against: those on the very same test examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_spur.board import build_board
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import RecordStore, read_predictions
from robustbench_spur.rows import Row
from robustbench_spur.types import Estimate, SpurbenchError


@dataclass(frozen=True)
class Beside:
    """A row of the leaderboard.

    Args:
        name: of its method.
        track: what it may see.
        estimate: of the column that ranks.
    """

    name: str
    track: str
    estimate: Estimate


def rows_beside(
    predictions: Predictions, home: Home, manifest: Manifest, plugin_files: tuple[Path, ...] = ()
) -> list[Beside]:
    """The rows whose test has the same ids, labels and attributes, and which the board would rank.

    Args:
        predictions: of the model.
        home: folder of results.
        manifest: of the board.
        plugin_files: drafts given by path.
    """
    store = RecordStore(home.records, home.predictions)
    if not home.records.is_dir():
        return []
    board = build_board(home, manifest, plugin_files)
    alike: dict[str, bool] = {}
    found = []
    for row in board.rows:
        value = row.values.get(manifest.rank_by) if row.values else None
        if row.status == "unranked" or not isinstance(value, Estimate) or value.value is None:
            continue
        if row.split not in alike:
            alike[row.split] = _same(row, store, predictions, manifest)
        if alike[row.split]:
            found.append(Beside(row.first.method.name, row.first.track, value))
    return found


def _same(row: Row, store: RecordStore, predictions: Predictions, manifest: Manifest) -> bool:
    """Whether a row was measured on the same examples."""
    record, partition = row.first, manifest.column(manifest.rank_by).partition
    if record.split is None or record.predictions is None:
        return False
    try:
        other = read_predictions(store.arrays(record), record.split, partition)
    except SpurbenchError:
        return False
    if len(other) != len(predictions) or other.groups.names != predictions.groups.names:
        return False
    mine, theirs = np.argsort(predictions.ids), np.argsort(other.ids)
    return all(
        bool((getattr(predictions, name)[mine] == getattr(other, name)[theirs]).all())
        for name in ("ids", "labels", "attributes")
    )
