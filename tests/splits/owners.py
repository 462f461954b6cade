"""Stand-ins for collections as their owners ship them: tables, images of one value, and what a preset reads of both."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_spur.splits.table import Table, TableParameters
from robustbench_spur.types import SplitTable


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def paint(path: Path, value: int, *, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3) if colour else (6, 6), value, np.uint8)).save(path)


def read(split: str, root: Path, **given: Any) -> tuple[Table, SplitTable]:
    dataset = Table(TableParameters(**given), root)
    return dataset, dataset.table(split, None)


def counts(table: SplitTable, part: str) -> list[int]:
    return [group["examples"] for group in table.counts()[part].values()]


def names(table: SplitTable) -> dict[str, tuple[str, str, str]]:
    """Class, value and partition of every image."""
    return {
        key: (table.groups.classes[label], table.groups.values[value], name)
        for name, part in table.partitions.items()
        for key, label, value in zip(part.ids.tolist(), part.labels.tolist(), part.attributes.tolist(), strict=True)
    }
