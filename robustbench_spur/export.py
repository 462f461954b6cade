"""Trained weights on their way out: safetensors, never pickle."""

from __future__ import annotations

import json
from pathlib import Path

from robustbench_spur.models import WEIGHTS
from robustbench_spur.plan import PlannedCell
from robustbench_spur.record import Record
from robustbench_spur.runtime import Runtime
from robustbench_spur.store import replacing
from robustbench_spur.types import SpurbenchError


def export_weights(cell: PlannedCell, runtime: Runtime, path: Path) -> None:
    """Write the weights of a finished cell, with its identity in the file's metadata.

    Args:
        cell: of a plan.
        runtime: where its artifacts lie.
        path: file to write.

    Raises:
        SpurbenchError: the cell is not done, or its weights were cleaned away.
    """
    if cell.record is None or cell.record.status != "done":
        title = cell.spec.title
        raise SpurbenchError(f"Expected a finished cell, found none for {title}. Run it first with spurbench run.")
    export_record(cell.record, runtime, path)


def export_record(record: Record, runtime: Runtime, path: Path) -> None:
    """Write the weights of the model behind a record.

    Args:
        record: of a finished cell.
        runtime: where its artifacts lie.
        path: file to write.

    Raises:
        SpurbenchError: it has no model, or its weights were cleaned away.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    title = f"{record.method.name} on {record.identity.split['name']}, seed {record.seed}"
    folder = runtime.artifacts.folder(record.model) if record.model else None
    if folder is None or not (folder / WEIGHTS).is_file():
        raise SpurbenchError(f"The weights of {title} were cleaned away. Run the cell again with --again.")
    identity = record.identity.model_dump(mode="json")
    about = {"identity": json.dumps(identity), "seed": str(record.seed), "config_hash": record.config_hash}
    with replacing(path) as temporary:
        weights = load_file(folder / WEIGHTS)
        try:
            save_file(weights, temporary, metadata=about)
        except (OSError, SafetensorError) as error:
            raise SpurbenchError(
                f"Expected a file that can be written, found {path}: {error}. Give another place."
            ) from error
