"""Trained weights on their way out: safetensors, never pickle."""

from __future__ import annotations

import json
from pathlib import Path

from robustbench_spur.models import WEIGHTS
from robustbench_spur.plan import PlannedCell
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
    from safetensors.torch import load_file, save_file

    title = cell.spec.title
    if cell.record is None or cell.record.status != "done" or cell.record.model is None:
        raise SpurbenchError(f"Expected a finished cell, found none for {title}. Run it first with spurbench run.")
    folder = runtime.artifacts.folder(cell.record.model)
    if not (folder / WEIGHTS).is_file():
        raise SpurbenchError(f"The weights of {title} were cleaned away. Run the cell again with --again.")
    identity = cell.record.identity.model_dump(mode="json")
    about = {"identity": json.dumps(identity), "seed": str(cell.record.seed), "config_hash": cell.record.config_hash}
    with replacing(path) as temporary:
        save_file(load_file(folder / WEIGHTS), temporary, metadata=about)
