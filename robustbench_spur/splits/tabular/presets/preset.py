"""What a preset is, and what several share: finding the owners' files, and partitions drawn by patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_spur.splits.files import stream
from robustbench_spur.splits.tabular.cells import read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing
from robustbench_spur.types import SpurbenchError

CODES = {"0": "train", "1": "validation", "2": "test"}
"""Of the column ``split`` in the field's files of metadata."""


def _none(root: Path) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Preset:
    """A known collection.

    Args:
        read: its rows, from its folder.
        channels: of its images.
        mark: file or folder by which it is known, as a pattern.
        tables: files that its rows may be read from, as patterns.
        listed: images in a folder whose names alone say what they are.
    """

    read: Callable[[Path, Asked], Listing]
    channels: int
    mark: str
    tables: tuple[str, ...] = ()
    listed: Callable[[Path], Sequence[str]] = _none

    def is_in(self, root: Path) -> bool:
        """Whether a folder is, or holds, this collection or one that looks like it."""
        return root.name == self.mark or next(root.glob(self.mark), None) is not None


def find(root: Path, *patterns: str) -> Path:
    """The one file of a folder that fits any of the patterns.

    Raises:
        SpurbenchError: there is none, or several.
    """
    found = optional(root, *patterns)
    if found is None:
        raise SpurbenchError(f"Expected {' or '.join(patterns)} in {root}, found none. Name the folder that holds it.")
    return found


def optional(root: Path, *patterns: str) -> Path | None:
    """The same, or None where there is none.

    Raises:
        SpurbenchError: there are several.
    """
    found = sorted({path for pattern in patterns for path in root.glob(pattern)})
    if len(found) > 1:
        raise SpurbenchError(
            f"Expected one of {', '.join(path.name for path in found)} in {root}, found all. Keep one."
        )
    return found[0] if found else None


def partition_of(cell: str, codes: Mapping[str, str], where: str) -> str:
    """Our name of a partition.

    Args:
        cell: as written.
        codes: our names.
        where: it is written, for messages.

    Raises:
        SpurbenchError: no such code.
    """
    if cell not in codes:
        raise SpurbenchError(f"Expected one of {', '.join(codes)} as split, found {cell!r} ({where}).")
    return codes[cell]


def column_by(place: Path, key: str, name: str) -> dict[str, str]:
    """One column of a table by another."""
    columns = read_columns(place, [key, name])
    return dict(zip(columns[key], columns[name], strict=True))


def drawn(patients: Iterable[str], asked: Asked, *, test: bool = True) -> dict[str, str]:
    """A partition for each patient: a seeded order is cut by the shares asked for, and what is left is train.

    Args:
        patients: any number of times each.
        asked: shares and seed.
        test: whether a test set is drawn too.
    """
    known = sorted(set(patients))
    names = ["test"] * round(asked.test_share * len(known)) if test else []
    names += ["validation"] * round(asked.validation_share * len(known))
    names += ["train"] * (len(known) - len(names))
    order = stream(asked.seed, "partitions of patients").permutation(len(known)).tolist()
    return {known[place]: name for place, name in zip(order, names, strict=True)}
