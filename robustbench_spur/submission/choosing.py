"""Which records an entry is made of: those of a home that count, or files that are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from robustbench_spur.coverage import belongs
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Record, RecordStore
from robustbench_spur.rows import newest
from robustbench_spur.types import SpurbenchError

Arrays = Callable[[Record], dict[str, NDArray[Any]]]
"""Gives the predictions of a record."""
Seeds = dict[int, Record]


def chosen(home: Home, manifest: Manifest, method: str, splits: Sequence[str], seeds: Sequence[int]) -> list[Record]:
    """The records of a home that an entry is made of: the newest by the board's rules, of each split and seed.

    Of several configurations (devices, say) a split's seeds are all of one: that which has the most of them, then the newest.

    Raises:
        SpurbenchError: there is none for a split and seed, or the seeds of a split are of several configurations.
    """
    rows = list(newest(_own(home, manifest, method), manifest).values())
    found: dict[tuple[str, int], Record] = {}
    missing, split_up = [], []
    for split in splits:
        candidates = [_seeds(row, split, seeds) for row in rows]
        best = max(candidates, key=_merit, default={})
        anywhere = {seed for candidate in candidates for seed in candidate}
        missing += [(split, seed) for seed in seeds if seed not in anywhere]
        split_up += [(split, seed) for seed in seeds if seed in anywhere and seed not in best]
        found |= {(split, seed): record for seed, record in best.items()}
    if missing:
        raise SpurbenchError(
            f"Expected finished cells of {method} with the board's settings, found none on {_told(missing)}."
            f" {_run(method, missing)}"
        )
    if split_up:
        raise SpurbenchError(
            f"Expected the seeds of a split to be of one configuration, found another one on {_told(split_up)}: other settings,"
            f" a file that was changed since, or another device. {_run(method, split_up)}"
        )
    return [found[split, seed] for split in splits for seed in seeds]


def ran_on(home: Home, manifest: Manifest, method: str) -> list[str]:
    """The board's splits on which a method has cells with the board's settings, in the board's order.

    Raises:
        SpurbenchError: on none.
    """
    names = {str(record.identity.split["name"]) for record in _own(home, manifest, method)}
    found = [pin.name for pin in manifest.splits if pin.name in names]
    if not found:
        raise SpurbenchError(
            f"Expected finished cells of {method} with the board's settings, found none. Run: spurbench run --method {method}"
        )
    return found


def read_files(paths: Sequence[Path]) -> tuple[list[Record], Arrays]:
    """Records by their files, wherever they are; predictions lie in a folder of that name beside the folder of the records.

    Returns:
        The records, and what gives the predictions of each.

    Raises:
        SpurbenchError: a file is missing, no record or changed, or a cell is there twice.
    """
    stores: dict[tuple[str, int], RecordStore] = {}
    records = []
    for path in paths:
        if not path.is_file():
            raise SpurbenchError(f"Expected the file of a record at {path}, found none. Check --records.")
        store = RecordStore(path.parent, path.resolve().parent.parent / "predictions")
        record = store.read(path)
        key = _key(record)
        if key in stores:
            raise SpurbenchError(f"Expected every cell once, found {key[0]}, seed {key[1]} twice. Leave out {path}.")
        stores[key] = store
        records.append(record)
    return records, lambda record: stores[_key(record)].arrays(record)


def _own(home: Home, manifest: Manifest, method: str) -> list[Record]:
    """The records of a method that follow the board's rules as they were, oldest first."""
    records = RecordStore(home.records, home.predictions)
    return [one for one in records if one.method.name == method and belongs(one, manifest) and not one.off_board]


def _key(record: Record) -> tuple[str, int]:
    return str(record.identity.split["name"]), record.seed


def _seeds(row: Sequence[Record], split: str, seeds: Sequence[int]) -> Seeds:
    """Of a row, the wanted records by seed."""
    return {record.seed: record for record in row if _key(record)[0] == split and record.seed in seeds}


def _merit(seeds: Seeds) -> tuple[int, int, str]:
    """How much a configuration has of what is wanted: seeds, those that are done, and when it was last run."""
    done = sum(record.status == "done" for record in seeds.values())
    return len(seeds), done, max((record.finished for record in seeds.values()), default="")


def _told(cells: Sequence[tuple[str, int]]) -> str:
    """The first few of many cells, in words."""
    more = f" and {len(cells) - 4} more" if len(cells) > 4 else ""
    return "; ".join(f"{split}, seed {seed}" for split, seed in cells[:4]) + more


def _run(method: str, cells: Sequence[tuple[str, int]]) -> str:
    """The command that makes cells."""
    splits, seeds = dict.fromkeys(split for split, _ in cells), dict.fromkeys(str(seed) for _, seed in cells)
    return f"Run: spurbench run --method {method} --split {' '.join(splits)} --seed {' '.join(seeds)}"
