"""Protocols that make every group present where a split leaves some empty: the unbiased test patients are cut into folds.

With ``+carve.k``, fold k is the ``adapt`` partition, fold k + 1 a selection set with attributes, and the other three are
the test. With ``+join.k``, fold k is added to the training set of every method instead; there is no ``adapt`` then. Every
method of a fold is scored on the same patients, and the five folds are averaged: each patient is tested in three of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import Partition, SplitTable, SpurbenchError, nearest

FOLDS = 5
CARVE, JOIN = "carve", "join"
PROTOCOLS = {CARVE: "a fold of the test patients is adapt", JOIN: "a fold of the test patients is trained on by all"}
VERSION = 1
"""Part of what the folds are drawn from: raised when the cut changes."""


@dataclass(frozen=True)
class Protocol:
    """One fold of a protocol.

    Args:
        name: a key of :data:`PROTOCOLS`.
        fold: from 0 to ``FOLDS - 1``.
    """

    name: str
    fold: int

    @property
    def text(self) -> str:
        """As it is written after the ``+`` of a split's name."""
        return f"{self.name}.{self.fold}"


def parse_protocol(text: str, whole: str) -> tuple[Protocol, ...]:
    """The folds that a text means: one, or all of a protocol.

    Args:
        text: what stands after the ``+``.
        whole: the split's name, for messages.

    Raises:
        SpurbenchError: no such protocol or fold.

    >>> [protocol.text for protocol in parse_protocol("carve.3", "")], len(parse_protocol("join", ""))
    (['carve.3'], 5)
    """
    name, dot, number = text.partition(".")
    if name not in PROTOCOLS:
        raise SpurbenchError(f"Unknown protocol {name!r} in {whole!r}. {nearest(name, list(PROTOCOLS))}")
    if not dot:
        return tuple(Protocol(name, fold) for fold in range(FOLDS))
    if number not in map(str, range(FOLDS)):
        raise SpurbenchError(f"Expected +{name}.0 to +{name}.{FOLDS - 1}, found {whole!r}.")
    return (Protocol(name, int(number)),)


def folds_of(test: Partition, table: SplitTable) -> NDArray[np.int64]:
    """The fold of every test example, shape (n,): a patient's examples stay together.

    Patients are dealt in turn, stratum by stratum; a stratum holds those with examples of the same groups. Their order
    within it is that of a hash of the patient's id, so that the folds do not depend on the order of rows.

    Args:
        test: the test partition.
        table: that it is of, for its groups.

    Raises:
        SpurbenchError: fewer patients than folds.
    """
    groups = table.groups.index(test.labels, test.attributes)
    patients, of_row = np.unique(test.clusters, return_inverse=True)
    if len(patients) < FOLDS:
        raise SpurbenchError(f"Expected at least {FOLDS} test patients to cut into folds, found {len(patients)}.")
    has = np.zeros((len(patients), len(table.groups)), bool)
    has[of_row, groups] = True
    order = sorted(range(len(patients)), key=lambda i: (has[i].tolist(), _place(str(patients[i]))))
    fold = np.empty(len(patients), np.int64)
    fold[order] = np.arange(len(patients)) % FOLDS
    return fold[of_row]


def _place(patient: str) -> str:
    return hashlib.sha256(f"folds v{VERSION}\t{patient}".encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """Where the rows of a partition come from: rows of partitions of the split as it is.

    Args:
        partitions: names, in the order in which the rows are joined.
        rows: of each, the positions taken.
    """

    partitions: tuple[str, ...]
    rows: tuple[NDArray[np.int64], ...]


def sources(table: SplitTable, protocol: Protocol) -> dict[str, Source]:
    """What each partition of the protocol is made of.

    Args:
        table: the split as it is.
        protocol: which fold.
    """
    fold = folds_of(table.partitions["test"], table)
    drawn, chosen = fold == protocol.fold, fold == (protocol.fold + 1) % FOLDS

    def all_of(name: str) -> NDArray[np.int64]:
        return np.arange(len(table.partitions[name]))

    found = {name: Source((name,), (all_of(name),)) for name in ("train", "validation")}
    taken = np.flatnonzero(drawn)
    if protocol.name == CARVE:
        found["adapt"] = Source(("test",), (taken,))
    else:
        found["train"] = Source(("train", "test"), (all_of("train"), taken))
    found["selection"] = Source(("test",), (np.flatnonzero(chosen),))
    found["test"] = Source(("test",), (np.flatnonzero(~drawn & ~chosen),))
    return found


def apply(table: SplitTable, protocol: Protocol) -> SplitTable:
    """The split under a protocol.

    Args:
        table: the split as it is; an ``adapt`` partition of its own is left out, so that all splits are treated alike.
        protocol: which fold.
    """
    partitions = {name: _join(table, source) for name, source in sources(table, protocol).items()}
    what = PROTOCOLS[protocol.name]
    note = (
        f"Protocol {protocol.text}: {what}; fold {(protocol.fold + 1) % FOLDS} is a selection set with attributes, the others"
        f" are the test. Folds are drawn by patient, stratified by the groups a patient has."
    )
    return replace(table, partitions=partitions, notes=(*table.notes, note))


def _join(table: SplitTable, source: Source) -> Partition:
    parts = [table.partitions[name].take(rows) for name, rows in zip(source.partitions, source.rows, strict=True)]
    if len(parts) == 1:
        return parts[0]
    shared = set.intersection(*(set(part.extra) for part in parts))
    designs = [part.designed for part in parts if part.designed is not None]

    def column(of: Any) -> Any:
        return np.concatenate([of(part) for part in parts])

    return Partition(
        ids=column(lambda part: part.ids),
        labels=column(lambda part: part.labels),
        attributes=column(lambda part: part.attributes),
        clusters=column(lambda part: part.clusters),
        extra={name: column(lambda part, name=name: part.extra[name]) for name in sorted(shared)},
        # that of a partition which declares none is complete, and with it what is joined
        designed=tuple(sorted({group for own in designs for group in own})) if len(designs) == len(parts) else None,
    )
