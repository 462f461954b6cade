"""Known collections in the folders that their owners ship, one file each: what the splits of ``table`` but ``own`` read.

A preset finds the owners' tables in a folder and gives their rows; what does not fit is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from robustbench_spur.reading import reading
from robustbench_spur.splits.tabular.listing import Asked, Listing
from robustbench_spur.splits.tabular.presets import (
    camelyon17,
    celeba,
    chexpert,
    cxr14,
    metashift,
    mimic_cxr,
    waterbirds,
)
from robustbench_spur.splits.tabular.presets.preset import Preset
from robustbench_spur.types import SpurbenchError

PRESETS: Mapping[str, Preset] = {
    "waterbirds": waterbirds.PRESET,
    "celeba": celeba.PRESET,
    "metashift": metashift.PRESET,
    "chexpert": chexpert.PRESET,
    "mimic_cxr": mimic_cxr.PRESET,
    "cxr14": cxr14.PRESET,
    "camelyon17": camelyon17.PRESET,
}
"""By the name of the split."""


def read_preset(name: str, root: Path, asked: Asked) -> Listing:
    """A collection in its owners' folder.

    Args:
        name: one of :data:`PRESETS`.
        root: the folder.
        asked: what of it.

    Raises:
        SpurbenchError: no folder, or one in another layout.
    """
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise SpurbenchError(f"Expected the folder of {name} at {root}, found {found}. Check --data.")
    return PRESETS[name].read(root, asked)


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file in a folder that a preset may read its rows from; where those are images, their names.

    Args:
        root: the folder.
    """
    tables = {path for preset in PRESETS.values() for pattern in preset.tables for path in root.glob(pattern)}
    for path in sorted(tables):
        with reading(path, "a table"):
            yield path.name, path.read_bytes()
    for preset in PRESETS.values():
        for name in preset.listed(root):
            yield name, b""


def usual_channels(root: Path) -> int:
    """1 where a folder holds a collection of radiographs, 3 where one in colour.

    Args:
        root: the folder.

    Raises:
        SpurbenchError: none is known in it, or both kinds.
    """
    found = {preset.channels for preset in PRESETS.values() if preset.is_in(root)}
    if len(found) != 1:
        kinds = "grey and colour ones" if found else "none"
        raise SpurbenchError(f"Expected a known collection in {root}, found {kinds}. Say --split-set channels=1 or 3")
    return found.pop()
