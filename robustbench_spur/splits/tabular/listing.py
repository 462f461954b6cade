"""Somebody's table as rows of text, before its texts become codes; and what a preset may be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One image, all in text.

    Args:
        id: unique, and the same wherever the images lie.
        file: from the folder of images.
        label: class, as written.
        attribute: as written.
        partition: one of ours.
        patient: empty where unknown: the image is then its own cluster.
        line: where it stands in the table, for messages; 1 is the header.
    """

    id: str
    file: str
    label: str
    attribute: str
    partition: str
    patient: str
    line: int


@dataclass(frozen=True)
class Listing:
    """The rows of a table.

    Args:
        rows: in the order of the table.
        place: the table, for messages.
        images: folder that the rows' files are named from.
        attribute: its name.
        classes: in the order of their codes; empty for sorted.
        values: of the attribute, likewise.
        class_names: what a class is called here, by how it is written; those missing keep their own name.
        value_names: the same for the attribute's values.
        sized: whether the size of each image is a column of the rows, so that a changed image is noticed.
        notes: what a record must repeat.
    """

    rows: Sequence[Row]
    place: Path
    images: Path
    attribute: str
    classes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    value_names: Mapping[str, str] = field(default_factory=dict)
    sized: bool = False
    notes: tuple[str, ...] = ()


class Asked(NamedTuple):
    """What a preset may be asked for.

    Args:
        label: column or finding to classify; empty for the preset's own.
        attribute: column or finding that may be a shortcut; empty for the preset's own.
        patients: whether patients or persons are read where they are known.
        uncertain: ``"leave_out"``, ``"present"`` or ``"absent"``: what -1 of CheXpert's labeller means.
        frontal: whether lateral radiographs are left out.
        validation_share: of patients, where the owners give no validation set.
        test_share: of patients, where the owners give no test set.
        seed: of these draws.
    """

    label: str = ""
    attribute: str = ""
    patients: bool = True
    uncertain: str = "leave_out"
    frontal: bool = True
    validation_share: float = 0.1
    test_share: float = 0.25
    seed: int = 2025
