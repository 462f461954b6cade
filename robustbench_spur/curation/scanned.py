"""What a scan finds: of each column, and of the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.types import Estimate, finite


@dataclass(frozen=True)
class ColumnScan:
    """What the scan found of one column.

    Args:
        name: of the column; missingness is ``NAME (missing)``.
        section: from the table, or "".
        kind: numeric, categorical or missingness.
        levels: names of its levels.
        support: patients of each level.
        missing: patients without a value.
        utility: in [0, 1].
        p: of the permutation test of independence from the label; None where there is one level.
        q: p adjusted over the columns by Benjamini and Hochberg.
        detectability: in [0, 1]; undefined without images.
        collinear: whether detectability could not be told within classes, and is that over all patients.
        auroc: of the detector's scores within classes; None where it gives none, or nothing can be told within classes.
        risk: in [0, 1].
        note: what a reader must know of the column.
        enough: whether two levels have enough patients in every class to make a split.
        enough_why: the numbers behind that.
    """

    name: str
    section: str
    kind: str
    levels: tuple[str, ...]
    support: dict[str, int]
    missing: int
    utility: Estimate
    p: float | None
    q: float | None
    detectability: Estimate
    collinear: bool
    auroc: float | None
    risk: Estimate
    note: str
    enough: bool
    enough_why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        estimates = {name: getattr(self, name).as_dict() for name in ("utility", "detectability", "risk")}
        return {**self.__dict__, "levels": list(self.levels), **estimates}


@dataclass(frozen=True)
class Scan:
    """A scanned table.

    Args:
        label: name of the label's column.
        classes: patients of each class.
        patients: how many were scanned.
        rows: the columns, most dangerous first; those without an interval last.
        names: of the columns, in the order of the table, for the association matrices.
        association: bias-corrected Cramer's V of every pair, shape (columns, columns); NaN where undefined.
        association_plain: likewise, uncorrected.
        notes: facts that a report must repeat.
        settings: what the numbers depend on.
    """

    label: str
    classes: dict[str, int]
    patients: int
    rows: tuple[ColumnScan, ...]
    names: tuple[str, ...]
    association: NDArray[np.float64] = field(repr=False)
    association_plain: NDArray[np.float64] = field(repr=False)
    notes: tuple[str, ...]
    settings: dict[str, int | bool]

    def associated(self, name: str, count: int = 3) -> list[tuple[str, float]]:
        """The columns that go most closely with one, and their bias-corrected V."""
        row = np.nan_to_num(self.association[self.names.index(name)], nan=-1.0)
        order = [place for place in np.argsort(-row, kind="stable").tolist() if self.names[place] != name]
        return [(self.names[place], float(row[place])) for place in order[:count] if row[place] >= 0]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        matrices = {
            key: [[finite(v) for v in row] for row in getattr(self, key).tolist()]
            for key in ("association", "association_plain")
        }
        rows = [row.as_dict() for row in self.rows]
        listed = {"rows": rows, "names": list(self.names), "notes": list(self.notes)}
        return {**self.__dict__, **listed, **matrices}
