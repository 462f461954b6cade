"""A scan from files to findings: the table, the images and the probe, the ranking, and what the top few would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustbench_spur.curation.features import FeatureTable, read_table
from robustbench_spur.curation.frozen import Extractor
from robustbench_spur.curation.images import Images, list_images
from robustbench_spur.curation.kept import kept_features
from robustbench_spur.curation.probe import Probe, of_table
from robustbench_spur.curation.scan import scan
from robustbench_spur.curation.scanned import Scan
from robustbench_spur.store import Store, file_sha256
from robustbench_spur.types import SpurbenchError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What is to be scanned, and how.

    Args:
        table: file of features, a row per patient.
        label: name of the label's column.
        patient: name of the column of patients.
        sheet: of an Excel file; its first where None.
        only: columns, or sections of a table that has them, that are scanned; all but the label where empty.
        without: columns or sections that are not.
        images: a folder or a list of images; none where None.
        extractor: turns images into features; needed with ``images``.
        identity: what the extractor's numbers depend on beside its name.
        permutations: of patients.
        replicates: resamplings of patients.
        bins: of numeric columns.
        seed: of permutations, resamplings and folds.
        min_patients: that a level must have in every class for a split.
    """

    table: Path
    label: str
    patient: str = "patient"
    sheet: str | None = None
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    images: Path | None = None
    extractor: Extractor | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    permutations: int = 999
    replicates: int = 1000
    bins: int = 5
    seed: int = 2025
    min_patients: int = 30


@dataclass(frozen=True)
class Study:
    """What was scanned, and what was found.

    Args:
        asked: what it answers.
        table: that was scanned: all its patients, or those with a label and images.
        images: of its patients; None without any.
        scan: of the table.
        table_sha256: of the table's file.
    """

    asked: Asked
    table: FeatureTable
    images: Images | None
    scan: Scan
    table_sha256: str

    @property
    def looked(self) -> str:
        """What the detectability stands on, in a sentence."""
        if self.images is None or self.asked.extractor is None:
            return "No images were looked at."
        count, patients = len(self.images.items), len(self.images.patients)
        return (
            f"{count} images of {patients} patients ({self.images.how}), seen by a linear probe on frozen features:"
            f" {self.asked.extractor.name}."
        )


def conduct(asked: Asked, store: Store, progress: Progress = lambda title, done, total: None) -> Study:
    """Read, look at the images, and scan.

    Args:
        asked: what is to be scanned.
        store: where features of images are kept.
        progress: is told a title, how much is done, and of how much.

    Raises:
        SpurbenchError: the table, a column, the images or a setting is not as it must be.
    """
    table = read_table(asked.table, patient=asked.patient, sheet=asked.sheet)
    columns = _columns(table, asked)
    images, detector = None, None
    if asked.images is not None:
        if asked.extractor is None:
            raise SpurbenchError("Expected an extractor of features with images, found none.")
        images = list_images(asked.images, [str(patient) for patient in table.patients])
        features = kept_features(
            images.items, asked.extractor, store, asked.identity, lambda done, total: progress("images", done, total)
        )
        table, values = of_table(table, asked.label, features)
        detector = Probe(values, seed=asked.seed).scores
    found = scan(
        table,
        asked.label,
        columns=columns,
        detector=detector,
        permutations=asked.permutations,
        replicates=asked.replicates,
        bins=asked.bins,
        seed=asked.seed,
        min_patients=asked.min_patients,
        progress=lambda done, total: progress("columns", done, total),
    )
    if images is not None and images.unclaimed:
        found = replace(found, notes=(*found.notes, f"{images.unclaimed} images are of nobody in the table."))
    return Study(asked, table, images, found, file_sha256(asked.table))


def _columns(table: FeatureTable, asked: Asked) -> list[str]:
    """Names of the columns to scan."""
    wanted = [name for text in asked.only for name in _named(table, text)] if asked.only else None
    left_out = {name for text in (*asked.without, asked.label) for name in _named(table, text)}
    every = [column.name for column in table.columns] if wanted is None else list(dict.fromkeys(wanted))
    return [name for name in every if name not in left_out]


def _named(table: FeatureTable, text: str) -> list[str]:
    """The columns of a section of that name, or the one column."""
    section = [column.name for column in table.columns if column.section.casefold() == text.casefold().strip()]
    return section or [table.find(text).name]
