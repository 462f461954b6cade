"""The data doctor: all that is wrong with a split's files and rows, told at once, and how strong its shortcut is.

A fault is what makes results wrong or impossible (a damaged file, a patient in two partitions); a warning is what a user
should know (groups that are empty where the attribute decides the label). Nothing is trained, nothing is changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from robustbench_spur.doctor.images import (
    Look,
    Progress,
    image_findings,
    look_at_arrays,
    look_at_files,
    summary,
)
from robustbench_spur.doctor.report import Report
from robustbench_spur.doctor.rows import group_counts, group_findings, partition_counts, row_findings
from robustbench_spur.doctor.rules import rules, shift
from robustbench_spur.splits.base import Dataset
from robustbench_spur.types import PARTITIONS, Partition


def examine(
    dataset: Dataset,
    split: str,
    rho: float | None,
    *,
    pixels: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Examine a split.

    Args:
        dataset: with the user's files.
        split: one of its splits.
        rho: share of aligned patients per class; None if not tied.
        pixels: whether an embedded data set makes its images too, which takes its time.
        progress: called with how many images were read, and how many there are.
    """
    inventory = dataset.inventory(split, rho)
    rows = {name: inventory.rows[name] for name in PARTITIONS if name in inventory.rows}
    files = _files(dataset, split, rows)
    looks, root, skipped = _look(dataset, split, rows, files, pixels, progress)
    groups = group_counts(rows, inventory.groups)
    findings = (
        *row_findings(inventory, files),
        *image_findings(looks, one_size=inventory.one_size),
        *group_findings(groups),
    )
    found = rules(rows, inventory.groups)
    faults = sum(one.severity == "fault" for one in findings)
    return Report(
        dataset=dataset.name,
        version=dataset.version,
        name=split,
        rho=rho,
        faults=faults,
        warnings=len(findings) - faults,
        findings=tuple(sorted(findings, key=lambda one: one.severity)),
        images=summary(looks, root),
        partitions=partition_counts(rows),
        groups=groups,
        empty_groups=tuple(f"{cell.partition} {cell.group}" for cell in groups if cell.designed and not cell.slices),
        shift=tuple(shift(name, part, inventory.groups) for name, part in rows.items()),
        rules=found,
        not_examined=(*skipped, *(() if found else ("Rules without images: there are no training rows.",))),
        notes=inventory.notes,
    )


def _files(dataset: Dataset, split: str, rows: dict[str, Partition]) -> dict[str, list[Path]]:
    """The image files by partition; none where images lie in no files."""
    found = {name: dataset.files(split, partition) for name, partition in rows.items()}
    return {name: paths for name, paths in found.items() if paths is not None}


def _look(
    dataset: Dataset,
    split: str,
    rows: dict[str, Partition],
    files: dict[str, list[Path]],
    pixels: bool,
    progress: Progress,
) -> tuple[list[Look], Path | None, tuple[str, ...]]:
    """What the images show, the folder that files are named from, and what was not looked at."""
    if not any(map(len, rows.values())):
        return [], None, ("Images: there are no rows.",)
    if files:
        root = Path(os.path.commonpath({path.parent for paths in files.values() for path in paths}))
        return look_at_files(files, rows, root, progress), root, ()
    if dataset.embedded and not pixels:
        return [], None, ("Images: they are made on demand. To have all of them made and compared, add --pixels.",)
    return look_at_arrays(dataset, split, rows, progress), None, ()
