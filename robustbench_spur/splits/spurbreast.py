"""SpurBreast as released: slices of breast MRI in folders, attributes joined from the Duke spreadsheet by patient.

Layout: ``<split>/{training,validation,test}/{0,1}/<prefix>-<slice>-<patient>.png``, label 1 for a slice with an
annotated tumour; no attribute is shipped. Nothing here decides who is in which partition: the folders do.

Source: Won et al. 2025, "SpurBreast" (MICCAI 2025, doi 10.1007/978-3-032-05325-1_53; data:
zenodo.org/records/17128791), on Duke-Breast-Cancer-MRI (Saha et al. 2018, TCIA, doi 10.7937/TCIA.e3sv-re93).
Deviations from the released loader: the listing is sorted; files of other names are refused, not read; training images
are resized, not cropped at random, since a crop can remove the tumour.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Archive, Dataset, Inventory
from robustbench_spur.splits.duke import (
    ATTRIBUTES,
    SPREADSHEET,
    SPREADSHEET_SOURCE,
    Attribute,
    Spreadsheet,
    patient_id,
)
from robustbench_spur.splits.files import blocks, check_size, check_split, read_grey_png, square_side
from robustbench_spur.splits.slices import (
    FOLDERS,
    LABELS,
    Slice,
    check_disjoint,
    entries_of,
    list_slices,
    refuse,
    scan_slices,
)
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

CLASSES = ("clear", "tumour")
SMALLEST = 32
"""Least side of an image, in pixels; the released ones have 320."""
GUESSED = "guessed address"


class SpurBreast(Dataset):
    """The eight released splits; see the module's docstring."""

    name = "spurbreast"
    version = 1
    summary = "SpurBreast: slices of Duke breast MRI, tumour or clear, in the released folders."
    splits: ClassVar[Mapping[str, str]] = {
        "field_strength": "1.5 T is tied to tumour",
        "vertical_flip": "the stored orientation is tied to the label",
        "menopause": "menopausal status is tied to the label",
        "race_and_ethnicity": "one of two races or ethnicities is tied to tumour",
        "surgery_type": "breast-conserving surgery or mastectomy is tied to the label",
        "baseline_high": "no shortcut, the release's 'high' baseline; field strength as the attribute",
        "baseline_mid": "no shortcut, the release's 'mid' baseline; field strength as the attribute",
        "baseline_low": "no shortcut, the release's 'low' baseline; field strength as the attribute",
    }
    aliases: ClassVar[Mapping[str, str]] = {"field": "field_strength", "orientation": "vertical_flip"}
    tied = ()
    image_size = 224
    image_sizes = ()
    channels = 1
    augmentations = ("horizontal_flip", "shift")
    source = (
        "SpurBreast: Won et al. 2025, doi 10.1007/978-3-032-05325-1_53; Duke-Breast-Cancer-MRI: Saha et al. 2018, TCIA"
    )
    licence = "CC BY-NC 4.0"
    archives = (
        Archive(
            "field_strength.zip",
            ("https://zenodo.org/records/17128791/files/field_strength.zip?download=1",),
            sha256="c6c4b6bcc62168cc91c7e44bc0e5e19bff75a1232c7284bc682e0ccb6ce9bafc",
            md5="dbe61da7dc7b06c69c10dbbea0a13b40",
            size=905_891_386,
            splits=("field_strength",),
            unpack=True,
        ),
        Archive(
            "vertical_flip.zip",
            ("https://zenodo.org/records/17128791/files/vertical_flip.zip?download=1",),
            splits=("vertical_flip",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "menopause.zip",
            ("https://zenodo.org/records/17128791/files/menopause.zip?download=1",),
            splits=("menopause",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "race_and_ethnicity.zip",
            ("https://zenodo.org/records/17128791/files/race_and_ethnicity.zip?download=1",),
            splits=("race_and_ethnicity",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "surgery_type.zip",
            ("https://zenodo.org/records/17128791/files/surgery_type.zip?download=1",),
            splits=("surgery_type",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "baseline_high.zip",
            ("https://zenodo.org/records/17128791/files/baseline_high.zip?download=1",),
            splits=("baseline_high",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "baseline_mid.zip",
            ("https://zenodo.org/records/17128791/files/baseline_mid.zip?download=1",),
            splits=("baseline_mid",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "baseline_low.zip",
            ("https://zenodo.org/records/17128791/files/baseline_low.zip?download=1",),
            splits=("baseline_low",),
            unpack=True,
            note=GUESSED,
        ),
        Archive(
            "Clinical_and_Other_Features.xlsx",
            ("https://wiki.cancerimagingarchive.net/download/attachments/70226903/Clinical_and_Other_Features.xlsx",),
            note="Duke's clinical table",
        ),
    )

    @cached_property
    def root(self) -> Path:
        """The folder that the user named.

        Raises:
            SpurbenchError: it is no folder.
        """
        path = Path(self.path or "")
        if not path.is_dir():
            found = "a file; unpack it" if path.exists() else "nothing"
            raise SpurbenchError(f"Expected a folder at {path}, found {found}. Check --data {self.name}=PATH")
        return path.resolve() if ".." in path.parts else path.absolute()

    def folder(self, split: str) -> Path:
        """Folder of a split: one in the user's folder, or that folder itself where it bears the split's name.

        Raises:
            SpurbenchError: neither is there.
        """
        place = self._find(split)
        if place is not None:
            return place
        found = ", ".join(entry.name for entry in entries_of(self.root) if entry.is_dir()) or "no folder"
        raise SpurbenchError(
            f"Expected the folder {split!r} in {self.root} (or that folder itself), found {found}."
            " Get it from zenodo.org/records/17128791 and keep its name."
        )

    def _find(self, split: str) -> Path | None:
        places = [self.root / split, *([self.root] if self.root.name == split else [])]
        return next((place for place in places if (place / FOLDERS["train"]).is_dir()), None)

    @cached_property
    def spreadsheet(self) -> Spreadsheet:
        """Duke's clinical table, from the user's folder or the one above, read once.

        Raises:
            SpurbenchError: it is in neither, or is unreadable.
        """
        return Spreadsheet.read(self._spreadsheet_path())

    def _spreadsheet_path(self) -> Path:
        for place in (self.root, self.root.parent):
            if (place / SPREADSHEET).is_file():
                return place / SPREADSHEET
        raise SpurbenchError(
            f"Expected {SPREADSHEET} in {self.root} or {self.root.parent}, found it in neither."
            f" Download it: {SPREADSHEET_SOURCE}."
        )

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        present = [split for split in sorted(self.splits) if self._find(split)]
        for split in present or [min(self.splits)]:
            folder = self.folder(split)
            for place in (folder / partition / label for partition in FOLDERS.values() for label in LABELS):
                for entry in entries_of(place):
                    with reading(entry, "a file"):
                        size = entry.stat().st_size
                    digest.update(f"{split}/{place.parent.name}/{place.name}/{entry.name}\t{size}\n".encode())
        with reading(self._spreadsheet_path(), "a spreadsheet"):
            digest.update(self._spreadsheet_path().read_bytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """sha256 of the names and sizes of all files of the splits that are there, and of the spreadsheet's bytes.

        The images themselves are not hashed: that would read 0.9 GB per split at every start. A changed image
        of unchanged name and length goes unnoticed here. Computed once per object.

        Raises:
            SpurbenchError: no split folder or no spreadsheet is there.
        """
        return self._fingerprint

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split, sorted by (patient, slice); ids are file names without their ending.

        Attribute code 1 is the value tied to tumour. Where the release does not say which one that is, it is the
        value whose share among training's tumour slices exceeds its share among the clear ones.

        Args:
            split: one of :attr:`splits` or :attr:`aliases`.
            rho: None; the released data are as they are.

        Raises:
            SpurbenchError: rho is given; anything is missing, misnamed or in two partitions; a patient has no
                known attribute value.
        """
        split = check_split(self, split)
        if rho is not None:
            raise SpurbenchError(
                f"Expected no rho for {self.name}/{split}, found {rho}: these are released data. Drop the @."
            )
        folder, attribute = self.folder(split), ATTRIBUTES[split]
        listed = {name: list_slices(folder, place) for name, place in FOLDERS.items()}
        check_disjoint(listed, folder)
        values, notes, faults = self._join(attribute, listed)
        refuse(faults)
        order, tie = _order(attribute, listed["train"], values, folder)
        refuse(_outside(listed, values, order, folder))
        ids = {name: [Path(row.file).stem for row in slices] for name, slices in listed.items()}
        partitions = {name: _partition(ids[name], slices, values, order) for name, slices in listed.items()}
        every = (f"Attributes are joined by patient from {SPREADSHEET}.", *notes, tie, *_facts(listed))
        return SplitTable(Groups(CLASSES, attribute.name, order), partitions, every)

    def inventory(self, split: str, rho: float | None) -> Inventory:
        """The rows with all faults; ids are file names with their folders, since a slice may be there twice."""
        split = check_split(self, split)
        try:
            folder = self.folder(split)
        except SpurbenchError as error:
            return Inventory.unread(error)
        attribute = ATTRIBUTES[split]
        scans = {name: scan_slices(folder, place) for name, place in FOLDERS.items()}
        listed = {name: scan.slices for name, scan in scans.items()}
        try:
            values, notes, unknown = self._join(attribute, listed)
        except SpurbenchError as error:
            values, notes, unknown = {}, [], [str(error)]
        order, tie = _order_or_fault(attribute, listed["train"], values, folder)
        faults = {
            "files and folders": tuple(fault for scan in scans.values() for fault in scan.strangers),
            "repeated slices": tuple(fault for scan in scans.values() for fault in scan.repeated),
            attribute.name: (*unknown, *tie, *_outside(listed, values, order, folder)),
        }
        rows = {
            name: _partition([row.file for row in slices], slices, values, order) for name, slices in listed.items()
        }
        return Inventory(rows, Groups(CLASSES, attribute.name, order), faults, tuple(notes), one_size=True)

    def _join(
        self, attribute: Attribute, listed: Mapping[str, list[Slice]]
    ) -> tuple[dict[int, str], list[str], list[str]]:
        """Our name of each patient's value, what to note about it, and a fault for each patient who has none."""
        column, sheet = self.spreadsheet.column(attribute), self.spreadsheet.path
        values: dict[int, str] = {}
        merged: set[str] = set()
        faults: list[str] = []
        for row in _first_of_patients(listed):
            who = f"{patient_id(row.patient)} ({row.file})"
            if row.patient not in column:
                faults.append(f"Expected patient {who} in {sheet}, found no such row. Get the file again.")
                continue
            meaning = column[row.patient]
            if meaning not in attribute.values:
                known = ", ".join(attribute.values)
                faults.append(
                    f"Expected {attribute.column!r} of {who} to be one of {known}, found {meaning!r} in {sheet}."
                )
                continue
            values[row.patient] = attribute.values[meaning]
            if meaning in attribute.rounded:
                merged.add(f"{patient_id(row.patient)} ({meaning})")
        notes = [attribute.note] if attribute.note else []
        if merged:
            notes.append(f"Counted with the nearest nominal field strength: {', '.join(sorted(merged))}.")
        return values, notes, faults

    def files(self, split: str, partition: Partition) -> list[Path]:
        """The PNG behind each row, in row order."""
        folder = self.folder(check_split(self, split))
        return [folder / name for name in partition.extra["file"].tolist()]

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The slices, resized by Pillow's antialiased bilinear filter as the released loader does, by several threads.

        Args:
            split: one of :attr:`splits` or :attr:`aliases`.
            partition: rows of :meth:`table`.
            size: height and width in pixels, any; the files' own is 320.

        Yields:
            uint8, shape (at most 256, 1, size, size).

        Raises:
            SpurbenchError: a file is missing, damaged, not 8-bit greyscale, or of another size than the split's first.
        """
        split = check_split(self, split)
        check_size(self, size)
        folder = self.folder(split)
        first = folder / list_slices(folder, FOLDERS["train"])[0].file
        read = partial(read_grey_png, side=square_side(first, at_least=SMALLEST), size=size)
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            files = self.files(split, partition)
            for block in blocks(len(partition)):
                yield np.stack(list(pool.map(read, files[block])))[:, None]


def _order(
    attribute: Attribute, train: list[Slice], values: Mapping[int, str], folder: Path
) -> tuple[tuple[str, ...], str]:
    """Value names by attribute code, and a note about the tie."""
    if not attribute.tied:
        return attribute.order, "No attribute is tied to the label by design."
    found = sorted({values[row.patient] for row in train})
    if len(found) != 2:
        raise SpurbenchError(
            f"Expected two values of {attribute.name} in {folder / FOLDERS['train']}, found {', '.join(found)}."
        )
    labels = np.array([row.label for row in train])
    shares = {name: np.array([values[row.patient] == name for row in train]) for name in found}
    excess = {name: float(has[labels == 1].mean() - has[labels == 0].mean()) for name, has in shares.items()}
    order = attribute.order or tuple(sorted(found, key=lambda name: excess[name]))
    if not excess[order[1]] > 0:
        raise SpurbenchError(
            f"Expected {attribute.name} {order[1]} to be more frequent among the tumour slices of"
            f" {folder / FOLDERS['train']} than among the clear ones, found no excess ({excess[order[1]]:.3f})."
        )
    has = shares[order[1]]
    how = "by the split's definition" if attribute.order else "inferred from the joined table"
    return order, (
        f"Tied to tumour, {how}: {attribute.name} {order[1]}, on {has[labels == 1].mean():.1%} of the tumour slices and"
        f" {has[labels == 0].mean():.1%} of the clear slices of training."
    )


def _order_or_fault(
    attribute: Attribute, train: list[Slice], values: Mapping[int, str], folder: Path
) -> tuple[tuple[str, ...], list[str]]:
    """Value names by attribute code; where training does not tell them, all that are known, and why."""
    known = [row for row in train if row.patient in values]
    every = attribute.order or tuple(dict.fromkeys(attribute.values.values()))
    if len({row.label for row in known}) < len(LABELS):  # other faults say what is missing
        return every, []
    try:
        return _order(attribute, known, values, folder)[0], []
    except SpurbenchError as error:
        return every, [str(error)]


def _first_of_patients(listed: Mapping[str, list[Slice]]) -> list[Slice]:
    """The first slice of every patient."""
    first: dict[int, Slice] = {}
    for row in (row for slices in listed.values() for row in slices):
        first.setdefault(row.patient, row)
    return list(first.values())


def _outside(
    listed: Mapping[str, list[Slice]], values: Mapping[int, str], order: tuple[str, ...], folder: Path
) -> list[str]:
    """A fault for each patient whose value is known but is none of the split's."""
    return [
        f"Expected {patient_id(row.patient)} to have one of training's values ({', '.join(order)}),"
        f" found {values[row.patient]} ({folder / row.file})."
        for row in _first_of_patients(listed)
        if values.get(row.patient, order[0]) not in order
    ]


def _partition(ids: list[str], slices: list[Slice], values: Mapping[int, str], order: tuple[str, ...]) -> Partition:
    codes = {value: code for code, value in enumerate(order)}
    return Partition(
        ids=np.array(ids, np.str_),
        labels=np.array([row.label for row in slices], np.int64),
        attributes=np.array([codes.get(values.get(row.patient, ""), -1) for row in slices], np.int64),
        clusters=np.array([patient_id(row.patient) for row in slices], np.str_),
        extra={
            "file": np.array([row.file for row in slices], np.str_),
            "slice": np.array([row.slice for row in slices], np.str_),
        },
    )


def _facts(listed: Mapping[str, list[Slice]]) -> tuple[str, ...]:
    """What the folders show that a reader of a record must know."""
    notes = ["Class 'clear' means that this slice has no annotated tumour; every Duke patient has cancer."]
    for name in ("train", "validation"):
        labels: dict[int, set[int]] = {}
        for row in listed[name]:
            labels.setdefault(row.patient, set()).add(row.label)
        if all(len(both) == 1 for both in labels.values()):
            notes.append(f"Every patient of {name} has slices of one label only, so that identity predicts it too.")
    return tuple(notes)
