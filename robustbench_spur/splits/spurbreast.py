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
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Archive, Dataset, Inventory
from robustbench_spur.splits.duke import ATTRIBUTES, SPREADSHEET, SPREADSHEET_SOURCE, Spreadsheet
from robustbench_spur.splits.files import check_size, check_split, entries_of, read_blocks, refuse, refuse_rho
from robustbench_spur.splits.greypng import read_grey_png, square_side
from robustbench_spur.splits.joining import Joined, facts, join, order_of, order_or_fault, outside, rows_of
from robustbench_spur.splits.slices import FOLDERS, check_disjoint, list_slices, scan_slices
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

CLASSES = ("clear", "tumour")
SMALLEST = 32
"""Least side of an image, in pixels; the released ones have 320."""
FIELD = "https://zenodo.org/records/17128791/files/field_strength.zip?download=1"
FLIP = "https://zenodo.org/records/17128791/files/vertical_flip.zip?download=1"
MENOPAUSE = "https://zenodo.org/records/17128791/files/menopause.zip?download=1"
RACE = "https://zenodo.org/records/17128791/files/race_and_ethnicity.zip?download=1"
SURGERY = "https://zenodo.org/records/17128791/files/surgery_type.zip?download=1"
HIGH = "https://zenodo.org/records/17128791/files/baseline_high.zip?download=1"
MID = "https://zenodo.org/records/17128791/files/baseline_mid.zip?download=1"
LOW = "https://zenodo.org/records/17128791/files/baseline_low.zip?download=1"
CLINICAL = "https://wiki.cancerimagingarchive.net/download/attachments/70226903/Clinical_and_Other_Features.xlsx"
GUESSED = "guessed address"
ORIENTATION = "vertical_flip"
"""The split whose attribute is how the image lies."""


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
            (FIELD,),
            sha256="c6c4b6bcc62168cc91c7e44bc0e5e19bff75a1232c7284bc682e0ccb6ce9bafc",
            md5="dbe61da7dc7b06c69c10dbbea0a13b40",
            size=905_891_386,
            splits=("field_strength",),
            unpack=True,
        ),
        Archive("vertical_flip.zip", (FLIP,), splits=("vertical_flip",), unpack=True, note=GUESSED),
        Archive("menopause.zip", (MENOPAUSE,), splits=("menopause",), unpack=True, note=GUESSED),
        Archive("race_and_ethnicity.zip", (RACE,), splits=("race_and_ethnicity",), unpack=True, note=GUESSED),
        Archive("surgery_type.zip", (SURGERY,), splits=("surgery_type",), unpack=True, note=GUESSED),
        Archive("baseline_high.zip", (HIGH,), splits=("baseline_high",), unpack=True, note=GUESSED),
        Archive("baseline_mid.zip", (MID,), splits=("baseline_mid",), unpack=True, note=GUESSED),
        Archive("baseline_low.zip", (LOW,), splits=("baseline_low",), unpack=True, note=GUESSED),
        Archive("Clinical_and_Other_Features.xlsx", (CLINICAL,), note="Duke's clinical table"),
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
        path = self._spreadsheet_path()
        with reading(path, "a spreadsheet"):
            return hashlib.sha256(path.read_bytes()).hexdigest()

    def fingerprint(self) -> str:
        """sha256 of the spreadsheet's bytes; of the images, names and sizes are part of the rows.

        So the folder of another split may come or go. The images themselves are not hashed, which would read 0.9 GB per
        split at every start: a changed image of unchanged name and length goes unnoticed. Computed once per object.

        Raises:
            SpurbenchError: there is no spreadsheet.
        """
        return self._fingerprint

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split, sorted by (patient, slice); ids are file names without their ending.

        The extra columns are ``file``, ``slice`` and ``bytes``, the size of the file, by which a changed image is noticed.

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
        refuse_rho(self, split, rho, "these are released data")
        folder, attribute = self.folder(split), ATTRIBUTES[split]
        listed = {name: list_slices(folder, place) for name, place in FOLDERS.items()}
        check_disjoint(listed, folder)
        values, notes, faults = join(attribute, listed, self.spreadsheet)
        refuse(faults)
        order, tie = order_of(attribute, listed["train"], values, folder)
        refuse(outside(listed, values, order, folder))
        ids = {name: [Path(row.file).stem for row in slices] for name, slices in listed.items()}
        partitions = {name: rows_of(ids[name], slices, values, order) for name, slices in listed.items()}
        every = (f"Attributes are joined by patient from {SPREADSHEET}.", *notes, tie, *facts(listed))
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
            values, notes, unknown = join(attribute, listed, self.spreadsheet)
        except SpurbenchError as error:
            values, notes, unknown = Joined({}, [], [str(error)])
        order, tie = order_or_fault(attribute, listed["train"], values, folder)
        faults = {
            "files and folders": tuple(fault for scan in scans.values() for fault in scan.strangers),
            "repeated slices": tuple(fault for scan in scans.values() for fault in scan.repeated),
            attribute.name: (*unknown, *tie, *outside(listed, values, order, folder)),
        }
        rows = {name: rows_of([row.file for row in slices], slices, values, order) for name, slices in listed.items()}
        return Inventory(rows, Groups(CLASSES, attribute.name, order), faults, tuple(notes), one_size=True)

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
        yield from read_blocks(self.files(split, partition), read)

    def scenes(self, split: str) -> dict[str, str]:
        """See :meth:`Dataset.scenes`; only an orientation can be changed in a finished image."""
        if check_split(self, split) != ORIENTATION:
            return {}
        return {"counterfactual": "the same slices turned by 180 degrees; the manufacturer's other traces stay"}

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """See :meth:`Dataset.scene`.

        The stored orientations differ by half a turn in the plane (ImageOrientationPatient is (1, 0, 0, 0, 1, 0) or
        (-1, 0, 0, 0, -1, 0) in Duke's files), not by a mirror: a turn keeps the left breast left.
        """
        if name not in self.scenes(split):
            return super().scene(name, split, partition, size)
        return (np.ascontiguousarray(block[..., ::-1, ::-1]) for block in self.pixels(split, partition, size))
