"""Rows of the leaderboard that a model may be held against: those on the very same test examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_spur.board import build_board
from robustbench_spur.coverage import belongs
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Record, RecordStore, read_predictions
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
    alike: dict[str, bool] = {}
    for record in store:
        if record.status == "done" and belongs(record, manifest) and not alike.get(record.identity.family):
            alike[record.identity.family] = _same(record, store, predictions, manifest)
    splits = {name for name, same in alike.items() if same}
    found = []
    for row in build_board(home, manifest, plugin_files, splits).rows if splits else ():
        value = row.values.get(manifest.rank_by) if row.values else None
        if row.status != "unranked" and isinstance(value, Estimate) and value.value is not None:
            found.append(Beside(row.first.method.name, row.first.track, value))
    return found


def _same(record: Record, store: RecordStore, predictions: Predictions, manifest: Manifest) -> bool:
    """Whether a record was measured on the same examples."""
    partition = manifest.column(manifest.rank_by).partition
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
