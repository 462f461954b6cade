"""Which split shows what a column costs: patients, the two levels that are tied to the label, and how much is drawn.

The two levels are those with most patients in the class in which each has fewest; of a column with more numbers than bins,
those below and from the median. They are tied to the label in the direction in which they go together in the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.curation.images import Images
from robustbench_spur.curation.levels import Levels, levels
from robustbench_spur.curation.scanned import ColumnScan, Scan
from robustbench_spur.curation.seats import Recipe
from robustbench_spur.types import SpurbenchError

LEAST_TEST, MOST_TEST, LEAST_TRAIN = 5, 50, 10
"""Test patients of a group, at least and at most; training patients of a class, at least."""
SLICES = 8
"""Most images of a patient."""
SHARES = (1.0, 0.75, 0.5)
"""Of the patients that the test leaves, in train and validation: the first that works."""


class UndrawableError(SpurbenchError):
    """A column from which no split can be drawn; the message says why."""


@dataclass(frozen=True)
class Pool:
    """What splits are drawn from.

    Args:
        table: of the features.
        sources: the table's file, and the list of images where there is one.
        classes: names of the two classes.
        labels: class, 0 or 1, of each patient who has a label and images.
        images: of the patients.
        rho: share of aligned patients per class, in [0.5, 1].
        bins: of numeric columns, as in the scan.
        seed: of the draw.
        channels: of the images, 1 or 3.
    """

    table: FeatureTable
    sources: tuple[Path, ...]
    classes: tuple[str, str]
    labels: Mapping[str, int]
    images: Images
    rho: float = 1.0
    bins: int = 5
    seed: int = 2025
    channels: int = 1


@dataclass(frozen=True)
class Choice:
    """Which split is drawn.

    Args:
        values: names of the two levels; the first is tied to class 0.
        codes: level, 0 or 1, of each patient who may be drawn.
        recipe: how much is drawn.
    """

    values: tuple[str, str]
    codes: Mapping[str, int]
    recipe: Recipe


def pool_of(table: FeatureTable, scan: Scan, images: Images, sources: tuple[Path, ...], **settings: Any) -> Pool:
    """The pool of a scan.

    Args:
        table: that was scanned.
        scan: of it.
        images: of its patients.
        sources: files, for the split's provenance.
        settings: ``rho``, ``seed`` and ``channels`` of :class:`Pool`.

    Raises:
        SpurbenchError: the label has another number of classes than two.
    """
    if len(scan.classes) != 2:
        raise SpurbenchError(
            f"Expected a label of two classes for --damage, found {len(scan.classes)} of {scan.label!r}."
        )
    column, bins = table.find(scan.label), int(scan.settings["bins"])
    known = ~column.missing
    level = levels(replace(column, values=column.values[known]), bins)
    codes = {name: code for code, name in enumerate(scan.classes)}
    pairs = zip(map(str, table.patients[known]), level.codes.tolist(), strict=True)
    named = ((patient, level.names[code]) for patient, code in pairs if patient in images.patients)
    labels = {patient: codes[name] for patient, name in named if name in codes}
    first, second = scan.classes
    return Pool(table, sources, (first, second), labels, images, bins=bins, **settings)


def worth_measuring(rows: Sequence[ColumnScan], most: int) -> list[ColumnScan]:
    """The first columns of a scan whose damage could be measured: features themselves, of two levels or more."""
    return [row for row in rows if row.kind != "missingness" and row.risk.value is not None][:most]


def choose(pool: Pool, name: str) -> Choice:
    """Two levels of a column, who has which, and how many are drawn.

    Patients with few images are left out: those that are drawn give as many as four fifths of the others have, or 8.

    Args:
        pool: of patients and images.
        name: of the column.

    Raises:
        UndrawableError: a column that varies within patients, or one of which no two levels have enough patients of both
            classes.
        SpurbenchError: there is no such column.
    """
    column = pool.table.find(name)
    if column.name in pool.table.varying:
        raise UndrawableError("it differs between rows of one patient, so that no patient can stand for one level")
    rows = [row for row, patient in enumerate(pool.table.patients) if str(patient) in pool.labels]
    patients = [str(patient) for patient in pool.table.patients[rows]]
    labels = np.array([pool.labels[patient] for patient in patients], np.int64)
    values, codes = two_levels(replace(column, values=column.values[rows]), labels, pool.bins)
    counts = np.array([pool.images.patients[patient] for patient in patients], np.int64)
    have = np.sort(counts[codes >= 0])
    slices = min(SLICES, int(have[len(have) // 5]))
    codes = np.where(counts >= slices, codes, -1)
    groups = np.zeros((2, 2), np.int64)
    np.add.at(groups, (codes[codes >= 0], labels[codes >= 0]), 1)
    if groups[0, 0] * groups[1, 1] < groups[0, 1] * groups[1, 0]:  # in the pool, the first goes with the second class
        values, groups = values[::-1], groups[::-1]
        codes = np.where(codes >= 0, 1 - codes, -1)
    chosen = {patient: code for patient, code in zip(patients, codes.tolist(), strict=True) if code >= 0}
    return Choice(values, chosen, recipe_of(groups, pool.rho, slices, pool.seed))


def two_levels(column: Column, labels: NDArray[np.int64], bins: int) -> tuple[tuple[str, str], NDArray[np.int64]]:
    """The two levels of a column that are tied to the label, and who has which; a missing value is no level.

    Args:
        column: of n patients.
        labels: class of each, 0 or 1, shape (n,).
        bins: of numeric columns, as in the scan.

    Returns:
        Names of the levels, and 0, 1 or -1 for neither, shape (n,).

    Raises:
        UndrawableError: fewer than two levels have patients of both classes.
    """
    level = levels(column, bins)
    if level.edges:
        return _halves(column)
    counts = np.zeros((len(level.names), 2), np.int64)
    np.add.at(counts, (level.codes, labels), 1)
    chosen = _two_largest(level, counts.min(axis=1))
    out = np.full(len(labels), -1, np.int64)
    for code, place in enumerate(chosen):
        out[level.codes == place] = code
    return (level.names[chosen[0]], level.names[chosen[1]]), out


def _halves(column: Column) -> tuple[tuple[str, str], NDArray[np.int64]]:
    """Numbers below the median and from it on; where none is below it, the smallest number and the others."""
    known = column.values[~column.missing].astype(np.float64)
    middle = float(np.median(known))
    if middle <= known.min():
        middle = float(known[known > middle].min())
    codes = [-1 if value is None else int(value >= middle) for value in column.values.tolist()]
    return (f"<{middle:g}", f">={middle:g}"), np.array(codes, np.int64)


def _two_largest(level: Levels, least: NDArray[np.int64]) -> tuple[int, int]:
    """The two levels with most patients in the class where they have fewest, in their order."""
    order = sorted((k for k in range(len(least)) if k != level.missing), key=lambda k: (-int(least[k]), k))
    if len(order) < 2 or not least[order[1]]:
        raise UndrawableError("fewer than two levels have patients of both classes")
    first, second = sorted(order[:2])
    return first, second


def recipe_of(groups: NDArray[np.int64], rho: float, slices: int, seed: int) -> Recipe:
    """How much is drawn from groups of patients.

    The test takes as many of every group, at most a third of the aligned patients of a class; as many as it leaves of these are
    shared out to train and validation, four to one, or fewer where the rho asks for more conflict patients than there are.

    Args:
        groups: patients by level and class, shape (2, 2); aligned ones on the diagonal.
        rho: share of aligned patients per class in train and validation.
        slices: images of a patient.
        seed: of the draw.

    Raises:
        UndrawableError: there are too few patients.

    >>> found = recipe_of(np.array([[60, 12], [9, 75]]), 1.0, 2, seed=0)
    >>> found.test_patients, found.train_patients, found.validation_patients
    (36, 41, 10)
    """
    aligned, conflict = int(np.diag(groups).min()), int(min(groups[0, 1], groups[1, 0]))
    tests = range(min(MOST_TEST, aligned // 3, conflict), LEAST_TEST - 1, -1)
    for share, test in product(SHARES, tests):
        rest = int(share * (aligned - test))
        recipe = Recipe(
            rhos=(float(rho),),
            seed=seed,
            train_patients=rest - rest // 5,
            validation_patients=max(1, rest // 5),
            test_patients=4 * test,
            slices_per_patient=slices,
        )
        needed = test + sum(recipe.conflicts(name, rho) for name in ("train", "validation"))
        if needed <= conflict and recipe.train_patients >= LEAST_TRAIN:
            return recipe
    raise UndrawableError(
        f"a split at rho {rho:g} needs {LEAST_TEST} patients of every pair of level and class for the test and {LEAST_TRAIN} of"
        f" every class for training; of the two levels, the rarer pairs have {aligned} patients where the pool ties them and"
        f" {conflict} where it does not"
    )
