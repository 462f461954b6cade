"""Rank the columns of a feature table by how dangerous a shortcut each could be.

A shortcut is dangerous where it tells of the label (utility) and can be read from the image (detectability): the risk
is their product, and columns are ranked by the lower end of its interval. Without images the risk is utility alone.
A scan belongs on the pool that splits are drawn from: in a split where each class has one value, nothing can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.curation.levels import Levels, levels, missingness
from robustbench_spur.curation.measures import (
    Adjusted,
    Detection,
    Draws,
    adjusted_information,
    associations,
    benjamini_hochberg,
    detectability,
)
from robustbench_spur.curation.probe import auroc_within
from robustbench_spur.curation.scanned import ColumnScan, Scan
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.statistics import estimate
from robustbench_spur.types import Estimate, SpurbenchError, finite

Detector = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]
"""From the levels and the classes of the patients, each of shape (n,), to what is told of each patient out of fold: a level,
shape (n,), or a score of every level, shape (n, levels), of which the highest is predicted."""

UTILITY = Metric("Information that a feature gives about the label, adjusted for chance.", better="lower")
DETECTABILITY = Metric("Information that images give about a feature within classes, adjusted for chance.")
RISK = Metric("Utility times detectability.", better="lower")
CONSTANT = "all patients have one level"


@dataclass(frozen=True)
class _Context:
    """What all columns share: the classes of the patients, the draws, the detector and the settings."""

    classes: NDArray[np.int64]
    names: tuple[str, ...]
    draws: Draws
    detector: Detector | None
    min_patients: int
    seed: int


def scan(
    table: FeatureTable,
    label: str,
    *,
    columns: Sequence[str] | None = None,
    detector: Detector | None = None,
    permutations: int = 999,
    replicates: int = 1000,
    bins: int = 5,
    seed: int = 2025,
    min_patients: int = 30,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Scan the columns of a table.

    Args:
        table: of features, one row per patient.
        label: name of the column of labels; patients without one are left out.
        columns: names of those to scan; all but the label's if None.
        detector: predicts or scores a feature from images, out of fold, by patient; None where there are no images.
        permutations: of patients, at least 1.
        replicates: resamplings of patients, at least 1.
        bins: of numeric columns, at least 2.
        seed: of permutations and resamplings.
        min_patients: that a level must have in every class for a split.
        progress: is told how many columns are done, and of how many.

    Raises:
        SpurbenchError: an unknown column, a label with fewer than two classes, or a setting out of range.
    """
    _check(permutations=(permutations, 1), replicates=(replicates, 1), bins=(bins, 2), seed=(seed, 0))
    target = table.find(label)
    known = ~target.missing
    chosen = _chosen(table, target, columns)
    classes = levels(_rows(target, known), bins)
    if classes.constant:
        only = ", ".join(classes.names) or "none"
        raise SpurbenchError(f"Expected a label of two classes or more in {label!r} of {table.path}, found {only}.")
    features = [_rows(column, known) for column in chosen]
    lacking = [column for column in map(missingness, features) if column is not None]
    draws = Draws.make(int(known.sum()), permutations, replicates, seed)
    context = _Context(classes.codes, classes.names, draws, detector, min_patients, seed)
    found, codes = list[ColumnScan](), list[NDArray[np.int64]]()
    for done, column in enumerate([*features, *lacking], start=1):
        level = levels(column, bins)
        kind = column.kind if done <= len(features) else "missingness"
        found.append(_scan_column(column, kind, level, context))
        codes += [level.codes] if done <= len(features) else []
        if progress is not None:
            progress(done, len(features) + len(lacking))
    plain, corrected = associations(codes)
    settings = {"permutations": permutations, "replicates": replicates, "bins": bins, "seed": seed}
    return Scan(
        label=target.name,
        classes=classes.support,
        patients=int(known.sum()),
        rows=_ranked(found),
        names=tuple(column.name for column in features),
        association=corrected,
        association_plain=plain,
        notes=_notes(table, target, classes, int((~known).sum()), detector is not None),
        settings={**settings, "min_patients": min_patients, "images": detector is not None},
    )


def _check(**settings: tuple[int, int]) -> None:
    for name, (value, least) in settings.items():
        if value < least:
            raise SpurbenchError(f"Expected {name} of at least {least}, found {value}.")


def _chosen(table: FeatureTable, target: Column, columns: Sequence[str] | None) -> list[Column]:
    wanted = table.columns if columns is None else [table.find(name) for name in dict.fromkeys(columns)]
    chosen = [column for column in wanted if column.name != target.name]
    if not chosen:
        raise SpurbenchError(f"Expected a column besides the label {target.name!r} in {table.path}, found none.")
    return chosen


def _rows(column: Column, rows: NDArray[np.bool_]) -> Column:
    return replace(column, values=column.values[rows])


def _notes(table: FeatureTable, target: Column, classes: Levels, lost: int, images: bool) -> tuple[str, ...]:
    of_columns = tuple(f"{column.name}: " for column in table.columns)
    notes = [note for note in table.notes if not note.startswith(of_columns)]  # those stand in the columns' rows
    if lost:
        notes.append(f"{lost} patients without {target.name!r} are left out.")
    if target.name in table.varying:
        notes.append(f"The label {target.name!r} differs between rows of one patient: one value per patient is kept.")
    if classes.edges:
        notes.append(f"The label {target.name!r} is numeric, and is put in {len(classes.names)} bins.")
    if not images:
        notes.append("Without images, risk is utility alone: nothing is known of how well a column can be seen.")
    return tuple(notes)


# One column


def _scan_column(column: Column, kind: str, level: Levels, context: _Context) -> ColumnScan:
    utility = adjusted_information(level.codes, context.classes, context.draws)
    identity = _is_identity(column)
    detection, auroc, why = _detect(level, identity, context)
    notes = [column.note] if column.note else []
    if identity:
        notes.append("nearly one value per patient: it names patients, and no split can be made from it")
    if detection is not None and detection.undefined:
        names = ", ".join(context.names[place] for place in detection.undefined)
        tail = "so detectability is over all patients, and may be the label's" if detection.collinear else "left out"
        notes.append(f"not identifiable within class {names}: {tail}")
    estimates = _estimates(utility, detection, why, context)
    enough, enough_why = _enough(level, context)
    return ColumnScan(
        name=column.name,
        section=column.section,
        kind=kind,
        levels=level.names,
        support=level.support,
        missing=0 if kind == "missingness" else int(column.missing.sum()),
        utility=estimates[0],
        p=finite(utility.p),
        q=None,
        detectability=estimates[1],
        collinear=detection is not None and detection.collinear,
        auroc=auroc,
        risk=estimates[2],
        note="; ".join(notes),
        enough=enough,
        enough_why=enough_why,
    )


def _estimates(
    utility: Adjusted, detection: Detection | None, why: str, context: _Context
) -> tuple[Estimate, Estimate, Estimate]:
    """Utility, detectability and risk with their intervals; what is below chance is 0."""
    patients = len(context.classes)
    if not np.isfinite(utility.value):
        undefined = Estimate(None, reason=CONSTANT)
        return undefined, undefined, undefined
    value, drawn = max(0.0, utility.value), np.maximum(utility.replicates, 0.0)
    told = interval(UTILITY, value, drawn, patients)
    if detection is None:
        undefined = Estimate(None, reason=why)
        return told, undefined, told if context.detector is None else undefined
    seen = interval(DETECTABILITY, detection.value, detection.replicates, patients)
    return told, seen, interval(RISK, value * detection.value, drawn * detection.replicates, patients)


def interval(metric: Metric, value: float, replicates: NDArray[np.float64], patients: int) -> Estimate:
    """A share of information with its interval; where no resampling differs, what as many patients can bound.

    If no patient of n is told wrong, up to a share r = 1 - .025^(1/n) of others may be (Clopper and Pearson), which leaves
    1 - H(r) of the information of two equally frequent levels. If the detector tells the same of all, it tells nothing.

    >>> perfect = interval(RISK, 1.0, np.ones(50), 160)
    >>> round(perfect.low, 3), perfect.high
    (0.843, 1.0)
    """
    known = replicates[np.isfinite(replicates)]
    if value not in (0.0, 1.0) or not len(known) or np.ptp(known) > 1e-12:
        return estimate(metric, value, replicates)
    if not value:
        return Estimate(value, 0.0, 0.0)
    wrong = 1 - 0.025 ** (1 / patients)
    lost = -(wrong * np.log2(wrong) + (1 - wrong) * np.log2(1 - wrong)) if wrong < 0.5 else 1.0
    return Estimate(value, 1 - float(lost), value)


def _is_identity(column: Column) -> bool:
    """Whether a text differs between more than half of all patients."""
    present = column.values[~column.missing].tolist()
    return column.kind == "categorical" and len(set(present)) > len(column.values) / 2


def _detect(level: Levels, identity: bool, context: _Context) -> tuple[Detection | None, float | None, str]:
    """How well the detector reads the levels, with its AUROC within classes if it scores them, or why it was not asked."""
    if context.detector is None:
        return None, None, "no images"
    if level.constant:
        return None, None, CONSTANT
    if identity:
        return None, None, "nearly one value per patient, so none can be learned from others"
    told = np.asarray(context.detector(level.codes, context.classes))
    of_level, of_all = level.codes.shape, (len(level.codes), len(level.names))
    if told.shape not in (of_level, of_all):
        raise SpurbenchError(
            f"Expected scores of shape {of_all} or levels of shape {of_level} from the detector, found {told.shape}."
        )
    scored = told.ndim == 2
    predicted = told.argmax(axis=1) if scored else told
    auroc = auroc_within(level.codes, told, context.classes) if scored else None
    return detectability(level.codes, predicted, context.classes, context.draws, context.seed), auroc, ""


def _enough(level: Levels, context: _Context) -> tuple[bool, str]:
    """Whether two levels (a missing value is none) have enough patients in every class, and the second best's number."""
    tables = np.zeros((len(level.names), len(context.names)), np.int64)
    np.add.at(tables, (level.codes, context.classes), 1)
    places = [place for place in range(len(level.names)) if place != level.missing]
    if len(places) < 2:
        return False, f"{len(places)} level{'s' * (len(places) != 1)} besides missing values"
    least = tables.min(axis=1)
    second = sorted(places, key=lambda place: -int(least[place]))[1]
    scarce = context.names[int(tables[second].argmin())]
    why = f"{int(least[second])} patients with {level.names[second]} in class {scarce}"
    return bool(least[second] >= context.min_patients), f"{why}, {context.min_patients} needed"


def _ranked(rows: Sequence[ColumnScan]) -> tuple[ColumnScan, ...]:
    """By the lower end of the risk, then its value; undefined last. With p adjusted over all rows."""
    adjusted = benjamini_hochberg([np.nan if row.p is None else row.p for row in rows])
    rows = [replace(row, q=finite(q)) for row, q in zip(rows, adjusted.tolist(), strict=True)]

    def key(row: ColumnScan) -> tuple[float, float, float]:
        low, value = (-1.0 if end is None else end for end in (row.risk.low, row.risk.value))
        return -low, -value, 1.0 if row.p is None else row.p

    return tuple(sorted(rows, key=key))
