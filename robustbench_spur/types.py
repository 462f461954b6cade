"""The nouns that every other module shares: groups, partitions, tables, estimates, search spaces, errors.

Nothing here knows torch, a method, a split or a metric.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTITIONS = ("train", "validation", "adapt", "selection", "test")
"""Names of the partitions a split may have. ``adapt`` is a small unbiased set that only a declared method may read,
``selection`` one with attributes that serves to choose only."""


class SpurbenchError(Exception):
    """A mistake of the user's or of the data, told in one or two lines: expected, found, what to do.

    The command line prints the message without a traceback and ends with exit code 2.
    """


class HiddenError(SpurbenchError):
    """A method asked for something that it did not declare in ``needs``."""


def nearest(name: str, known: Iterator[str] | list[str] | tuple[str, ...], *, count: int = 3) -> str:
    """The known names closest to ``name``, as the tail of an error message.

    >>> nearest("grupdro", ["erm", "groupdro", "jtt"])
    "Did you mean 'groupdro'? Known: erm, groupdro, jtt."
    """
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.6)
    hint = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


@dataclass(frozen=True)
class Groups:
    """The declared group universe Y x A of a split. Never inferred from the examples that happen to be there.

    A group's index is ``label * len(values) + attribute``; an empty group keeps its index.

    Args:
        classes: class names, in the order of the label codes.
        attribute: name of the spurious attribute, with its unit if it has one.
        values: names of the attribute's values, in the order of the attribute codes.

    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> groups.names
    ('clear@3T', 'clear@1.5T', 'tumour@3T', 'tumour@1.5T')
    >>> groups.index(np.array([1, 0]), np.array([0, 1])).tolist()
    [2, 1]
    """

    classes: tuple[str, ...]
    attribute: str
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes) * len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """``class@value`` for each group, in index order."""
        return tuple(f"{label}@{value}" for label in self.classes for value in self.values)

    def index(self, labels: NDArray[Any], attributes: NDArray[Any]) -> NDArray[np.int64]:
        """Group index of each example, shape (n,)."""
        return np.asarray(labels, np.int64) * len(self.values) + np.asarray(attributes, np.int64)


@dataclass(frozen=True)
class Partition:
    """The rows of one partition: who, which label, which attribute, which patient. No pixels.

    Args:
        ids: unique example ids, shape (n,), strings.
        labels: class codes, shape (n,), int64.
        attributes: attribute codes, shape (n,), int64.
        clusters: the patient (or other unit of dependence) of each example, shape (n,), strings.
        extra: what the dataset needs to make the pixels (slice position, file name, ...), each of shape (n,).
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]
    clusters: NDArray[np.str_]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.labels), len(self.attributes), len(self.clusters)}
        lengths |= {len(column) for column in self.extra.values()}
        if len(lengths) != 1:
            raise SpurbenchError(f"Expected columns of one length in a partition, found lengths {sorted(lengths)}.")
        for names in (self.ids, self.clusters):
            broken = next((name for name in names.tolist() if "\t" in name or "\n" in name), None)
            if broken is not None:  # the digest separates columns and rows by them
                raise SpurbenchError(f"Expected ids and patients without tabs and line breaks, found {broken!r}.")
        if len(np.unique(self.ids)) != len(self.ids):
            values, counts = np.unique(self.ids, return_counts=True)
            raise SpurbenchError(f"Expected unique example ids, found {str(values[counts > 1][0])!r} more than once.")

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self, *, with_extra: bool = False) -> str:
        """sha256 of the id/label/attribute/cluster rows, and of the extra columns if asked for."""
        columns = [self.ids, self.labels, self.attributes, self.clusters]
        if with_extra:
            columns += [self.extra[name] for name in sorted(self.extra)]
        digest = hashlib.sha256()
        for row in zip(*(column.tolist() for column in columns), strict=True):
            digest.update("\t".join(map(str, row)).encode() + b"\n")
        return digest.hexdigest()

    def take(self, rows: NDArray[Any]) -> Partition:
        """The partition reduced to ``rows`` (indices or a mask)."""
        extra = {name: column[rows] for name, column in self.extra.items()}
        return Partition(self.ids[rows], self.labels[rows], self.attributes[rows], self.clusters[rows], extra)


@dataclass(frozen=True)
class SplitTable:
    """What a split is: its group universe and the rows of its partitions. Its hash is the split's identity.

    Args:
        groups: the declared universe.
        partitions: by name, a subset of :data:`PARTITIONS`; ``train``, ``validation`` and ``test`` are always there.
        notes: facts about this split that a record must repeat ("no patient ids are published", ...).
    """

    groups: Groups
    partitions: Mapping[str, Partition]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if name not in self.partitions:
                raise SpurbenchError(f"Expected partitions train, validation and test, found no {name!r}.")
        owner: dict[str, str] = {}
        for name, partition in self.partitions.items():
            if name not in PARTITIONS:
                raise SpurbenchError(f"Unknown partition {name!r}. {nearest(name, PARTITIONS)}")
            self._check_codes(name, partition)
            for cluster in np.unique(partition.clusters).tolist():
                if owner.setdefault(cluster, name) != name:
                    raise SpurbenchError(
                        f"Expected partitions that share no patient, found {cluster!r} in {owner[cluster]} and {name}."
                    )

    def _check_codes(self, name: str, partition: Partition) -> None:
        for what, codes, known in (
            ("label", partition.labels, self.groups.classes),
            ("attribute", partition.attributes, self.groups.values),
        ):
            if len(codes) and not (0 <= codes.min() and codes.max() < len(known)):
                raise SpurbenchError(
                    f"Expected {what} codes 0 to {len(known) - 1} in {name!r}, found {codes.min()} to {codes.max()}."
                )

    def sha256(self) -> str:
        """Identity of the split: hash over the id/label/group/patient rows of all partitions, in name order."""
        digest = hashlib.sha256("\n".join((*self.groups.names, self.groups.attribute)).encode())
        for name in sorted(self.partitions):
            digest.update(f"\n{name} {self.partitions[name].digest()}".encode())
        return digest.hexdigest()

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Examples and patients of every declared group in every partition, empty groups included.

        Returns:
            ``{partition: {group: {"examples": n, "patients": m}}}``.
        """
        out: dict[str, dict[str, dict[str, int]]] = {}
        for name, partition in self.partitions.items():
            index = self.groups.index(partition.labels, partition.attributes)
            out[name] = {
                group: {
                    "examples": int((index == g).sum()),
                    "patients": len(np.unique(partition.clusters[index == g])),
                }
                for g, group in enumerate(self.groups.names)
            }
        return out


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, or a stated reason why there is none.

    Args:
        value: the estimate, or None where it is undefined.
        low: lower end of the confidence interval, or None.
        high: upper end, or None.
        reason: why ``value`` or the interval is missing; empty where nothing is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON: ``value``, ``low``, ``high``, and ``reason`` where there is one."""
        out: dict[str, float | str | None] = {"value": self.value, "low": self.low, "high": self.high}
        return {**out, "reason": self.reason} if self.reason else out


def finite(number: float) -> float | None:
    """``number`` as a float, or None where it is NaN or infinite (JSON has neither).

    >>> finite(float("nan")) is None, finite(0.5)
    (True, 0.5)
    """
    number = float(number)
    return number if math.isfinite(number) else None
