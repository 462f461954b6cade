"""A user's table: rows with every group in every partition, files of them, and images that are known by their name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from robustbench_spur.splits.table import Table, TableParameters
from robustbench_spur.types import Partition, SplitTable

Rows = list[dict[str, Any]]


def rows_of(classes: Sequence[Any] = ("clear", "tumour"), values: Sequence[Any] = ("a", "b"), each: int = 2) -> Rows:
    """So many rows in every group of every partition; every patient has two images."""
    made: Rows = []
    for part in ("train", "validation", "test"):
        for label in classes:
            for value in values:
                for number in range(each):
                    name = f"{part}/{label}-{value}-{number}.png"
                    who = f"{part} {label} {value} {number // 2}"
                    made.append({"path": name, "label": label, "attribute": value, "split": part, "patient": who})
    return made


def grey_of(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0]


def write_pictures(folder: Path, rows: Rows, *, column: str = "path", shape: tuple[int, ...] = (8, 8)) -> None:
    for row in rows:
        file = folder / row[column]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(shape, grey_of(row[column]), np.uint8)).save(file)


def write(path: Path, rows: Rows, **changes: Any) -> Path:
    frame = pd.DataFrame(rows).assign(**changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def open_table(path: Path, **given: Any) -> Table:
    return Table(TableParameters(**given), path)


def own(path: Path, **given: Any) -> SplitTable:
    return open_table(path, **given).table("own", None)


def shown(table: Table, part: Partition, size: int = 8) -> Any:
    return np.concatenate(list(table.pixels("own", part, size)))


def broken(rows: Rows, row: int, **changes: Any) -> Rows:
    """The rows with other cells in one of them."""
    return [{**one, **(changes if number == row else {})} for number, one in enumerate(rows)]
