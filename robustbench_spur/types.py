"""The nouns that every other module shares: groups, partitions, tables, estimates, search spaces, errors.

Nothing here knows torch, a method, a split or a metric.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

    A group's index is ``label * len(values) + attribute``; an empty group keeps its index. Where a split declares that a
    partition has only some of the groups by its design, :meth:`only` gives the universe of that partition, in which an
    index is a position among those groups.

    Args:
        classes: class names, in the order of the label codes.
        attribute: name of the spurious attribute, with its unit if it has one.
        values: names of the attribute's values, in the order of the attribute codes.
        members: the groups that are in it, as ascending indices of the whole Y x A; None for all.

    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> groups.names
    ('clear@3T', 'clear@1.5T', 'tumour@3T', 'tumour@1.5T')
    >>> groups.index(np.array([1, 0]), np.array([0, 1])).tolist()
    [2, 1]
    """

    classes: tuple[str, ...]
    attribute: str
    values: tuple[str, ...]
    members: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def codes(self) -> Sequence[int]:
        """Index in the whole Y x A of each group, in index order."""
        return range(len(self.classes) * len(self.values)) if self.members is None else self.members

    @property
    def names(self) -> tuple[str, ...]:
        """``class@value`` for each group, in index order."""
        every = tuple(f"{label}@{value}" for label in self.classes for value in self.values)
        return every if self.members is None else tuple(every[code] for code in self.members)

    def index(self, labels: NDArray[Any], attributes: NDArray[Any]) -> NDArray[np.int64]:
        """Group index of each example, shape (n,).

        Raises:
            SpurbenchError: some groups are left out, and an example is in one of them.
        """
        code = np.asarray(labels, np.int64) * len(self.values) + np.asarray(attributes, np.int64)
        if self.members is None:
            return code
        strange = code[~np.isin(code, self.members)].tolist()
        if strange:
            name = replace(self, members=None).names[strange[0]]
            raise SpurbenchError(
                f"Expected examples of the designed groups {', '.join(self.names)} only, found {len(strange)} of others,"
                f" such as {name}."
            )
        return np.searchsorted(self.members, code).astype(np.int64)

    def only(self, members: Iterable[int] | None) -> Groups:
        """The universe of a partition whose design has only some of the groups; the others appear nowhere in it.

        Args:
            members: indices in the whole Y x A; None for all.

        Raises:
            SpurbenchError: none, one twice, or one that is not in Y x A.

        >>> some = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T")).only((3, 0))
        >>> some.names, some.index(np.array([1, 0]), np.array([1, 0])).tolist()
        (('clear@3T', 'tumour@1.5T'), [1, 0])
        """
        whole = replace(self, members=None)
        if members is None:
            return whole
        chosen = sorted(members)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(whole.codes):
            raise SpurbenchError(
                f"Expected designed groups as different indices from 0 to {len(whole) - 1}, at least one, found {chosen}."
            )
        return replace(self, members=tuple(chosen))

    def apart(self) -> tuple[tuple[str, ...], ...]:
        """Sets of the classes that share no attribute value, in the order of their first class.

        With more than one of them the attribute tells, without exception, the classes of one set from all others,
        however the groups are weighted.

        >>> Groups(("a", "b", "c"), "site", ("x", "y", "z")).only((0, 1, 3, 8)).apart()  # a@x, a@y, b@x and c@z
        (('a', 'b'), ('c',))
        """
        sets: list[tuple[set[int], set[int]]] = []
        for label, value in (divmod(code, len(self.values)) for code in self.codes):
            met = [one for one in sets if label in one[0] or value in one[1]]
            sets = [one for one in sets if one not in met]
            sets.append(({label}.union(*(one[0] for one in met)), {value}.union(*(one[1] for one in met))))
        return tuple(tuple(self.classes[label] for label in one) for one in sorted(sorted(one[0]) for one in sets))


@dataclass(frozen=True)
class Partition:
    """The rows of one partition: who, which label, which attribute, which patient. No pixels.

    Args:
        ids: unique example ids, shape (n,), strings.
        labels: class codes, shape (n,), int64.
        attributes: attribute codes, shape (n,), int64.
        clusters: the patient (or other unit of dependence) of each example, shape (n,), strings.
        extra: what the dataset needs to make the pixels (slice position, file name, ...), each of shape (n,).
        designed: the groups that the split's design has in this partition, as indices of the whole universe, where the
            design leaves some out; None for all. It is declared, never inferred: a designed group may be empty.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]
    clusters: NDArray[np.str_]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    designed: tuple[int, ...] | None = None

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
        columns = (self.ids[rows], self.labels[rows], self.attributes[rows], self.clusters[rows])
        return Partition(*columns, extra, self.designed)


@dataclass(frozen=True)
class SplitTable:
    """What a split is: its group universe and the rows of its partitions. Its hash is the split's identity.

    Args:
        groups: the declared universe, the whole Y x A; what a partition's design has of it, the partition says.
        partitions: by name, a subset of :data:`PARTITIONS`; ``train``, ``validation`` and ``test`` are always there.
        notes: facts about this split that a record must repeat ("no patient ids are published", ...).
    """

    groups: Groups
    partitions: Mapping[str, Partition]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.groups.members is not None:
            raise SpurbenchError(
                "Expected the whole universe in a table. Declare by partition what a design leaves out."
            )
        for name in ("train", "validation", "test"):
            if name not in self.partitions:
                raise SpurbenchError(f"Expected partitions train, validation and test, found no {name!r}.")
        owner: dict[str, str] = {}
        for name, partition in self.partitions.items():
            if name not in PARTITIONS:
                raise SpurbenchError(f"Unknown partition {name!r}. {nearest(name, PARTITIONS)}")
            self._check_codes(name, partition)
            self._check_design(name, partition)
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

    def _check_design(self, name: str, partition: Partition) -> None:
        try:
            self.groups_in(name).index(partition.labels, partition.attributes)
        except SpurbenchError as error:
            raise SpurbenchError(f"{error} Correct the rows or the design of {name!r}.") from None

    def groups_in(self, partition: str) -> Groups:
        """The universe of a partition: the groups that the split's design has there, all unless it declares some."""
        return self.groups.only(self.partitions[partition].designed)

    def empty_in(self, partition: str) -> tuple[str, ...]:
        """Names of the groups of a partition's universe that have no example there."""
        groups, rows = self.groups_in(partition), self.partitions[partition]
        sizes = np.bincount(groups.index(rows.labels, rows.attributes), minlength=len(groups))
        return tuple(name for name, size in zip(groups.names, sizes.tolist(), strict=True) if not size)

    def sha256(self) -> str:
        """Identity of the split: hash over the id/label/group/patient rows of all partitions, in name order.

        Where a partition declares its groups, they are part of it.
        """
        digest = hashlib.sha256("\n".join((*self.groups.names, self.groups.attribute)).encode())
        for name in sorted(self.partitions):
            digest.update(f"\n{name} {self.partitions[name].digest()}".encode())
        for name in sorted(self.partitions):
            if self.partitions[name].designed is not None:
                digest.update(f"\n{name} designed {' '.join(self.groups_in(name).names)}".encode())
        return digest.hexdigest()

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Examples and patients of every declared group in every partition, empty groups included.

        Returns:
            ``{partition: {group: {"examples": n, "patients": m}}}``; a group that the design of the partition leaves out
            has ``"designed": 0`` too, which tells it from a designed one that is empty.
        """
        out: dict[str, dict[str, dict[str, int]]] = {}
        for name, partition in self.partitions.items():
            index, designed = self.groups.index(partition.labels, partition.attributes), self.groups_in(name).codes
            out[name] = {
                group: {
                    "examples": int((index == g).sum()),
                    "patients": len(np.unique(partition.clusters[index == g])),
                    **({} if g in designed else {"designed": 0}),
                }
                for g, group in enumerate(self.groups.names)
            }
        return out


def conflict_groups(counts: Mapping[str, Mapping[str, int]], groups: Groups) -> tuple[int, ...]:
    """The groups that training contradicts: with fewer than half of the examples that independence would give them.

    Args:
        counts: of the training set's groups by name, as :meth:`SplitTable.counts` gives them.
        groups: of the partition that is asked about.

    Returns:
        Indices in ``groups``, ascending; empty where label and attribute go together no more than by chance.

    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> tied = {name: {"examples": n} for name, n in zip(groups.names, (95, 5, 5, 95), strict=True)}
    >>> conflict_groups(tied, groups)
    (1, 2)
    """
    whole = Groups(groups.classes, groups.attribute, groups.values)
    sizes = np.array([counts.get(name, {}).get("examples", 0) for name in whole.names], np.float64)
    table = sizes.reshape(len(groups.classes), len(groups.values))
    if not table.sum():
        return ()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    conflicting = set(np.flatnonzero((table < expected / 2).ravel()).tolist())
    return tuple(place for place, code in enumerate(groups.codes) if code in conflicting)


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
