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
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.splits.base import Dataset
from robustbench_spur.splits.files import blocks, check_size, check_split, read_grey_png, reading, square_side
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

FOLDERS = {"train": "training", "validation": "validation", "test": "test"}
"""Our name of a partition, and its folder's."""

LABELS = ("0", "1")
CLASSES = ("clear", "tumour")
IGNORED = ("thumbs.db", "desktop.ini")
FILE_NAME = re.compile(r"([^-]+)-([^-]+)-(\d+)\.png", re.IGNORECASE | re.ASCII)
SMALLEST = 32
"""Least side of an image, in pixels; the released ones have 320."""

SPREADSHEET = "Clinical_and_Other_Features.xlsx"
SPREADSHEET_SOURCE = "TCIA, Duke-Breast-Cancer-MRI, doi 10.7937/TCIA.e3sv-re93"
PATIENT_COLUMN = ("Patient Information", "Patient ID")
HEADER_ROWS = 3


@dataclass(frozen=True)
class Attribute:
    """Where an attribute stands in the spreadsheet, and what its values are called here.

    Args:
        name: of the attribute.
        section: in the first header row.
        column: in the second header row; names repeat across sections.
        code_first: whether the coding in the third header row reads ``0 = pre`` (True) or ``SIEMENS=2`` (False).
        values: the coding's wording, and our name of the value; other wordings are refused.
        order: our names by attribute code, the one tied to tumour last; empty where training tells both.
        tied: whether the value with code 1 must be the one tied to tumour in training.
        rounded: wordings that are merged into a neighbour, which a note then says.
        note: what a record must repeat.
    """

    name: str
    section: str
    column: str
    code_first: bool
    values: Mapping[str, str]
    order: tuple[str, ...] = ()
    tied: bool = True
    rounded: tuple[str, ...] = ()
    note: str = ""


_MRI = "MRI Technical Information"
_BASELINE = Attribute(
    name="field strength",
    section=_MRI,
    column="Field Strength (Tesla)",
    code_first=False,
    values={"1.494": "1.5T", "1.5": "1.5T", "2.8936": "3T", "3": "3T"},
    order=("3T", "1.5T"),
    tied=False,
    rounded=("1.494", "2.8936"),
)
ATTRIBUTES = {
    "field_strength": Attribute(
        name="field strength",
        section=_MRI,
        column="Field Strength (Tesla)",
        code_first=False,
        values={"1.5": "1.5T", "3": "3T"},
        order=("3T", "1.5T"),
    ),
    "vertical_flip": Attribute(
        name="orientation",
        section=_MRI,
        column="Manufacturer",
        code_first=False,
        values={"GE MEDICAL SYSTEMS": "breasts-down", "SIEMENS": "breasts-up"},
        note=(
            "Orientation is inferred from the manufacturer (GE stored breasts-down, Siemens breasts-up), since the"
            " spreadsheet has no column for it: it cannot be told from vendor and native matrix."
        ),
    ),
    "menopause": Attribute(
        name="menopause",
        section="Demographics",
        column="Menopause (at diagnosis)",
        code_first=True,
        values={"pre": "pre", "post": "post"},
    ),
    "race_and_ethnicity": Attribute(
        name="race and ethnicity",
        section="Demographics",
        column="Race and Ethnicity",
        code_first=True,
        values={
            "white": "white",
            "black": "black",
            "asian": "asian",
            "native": "native",
            "hispanic": "hispanic",
            "multi": "multi",
            "hawa": "hawaiian",
            "amer indian": "american-indian",
        },
    ),
    "surgery_type": Attribute(
        name="surgery type",
        section="SURGERY",
        column="Definitive Surgery Type",
        code_first=True,
        values={"BCS": "BCS", "mastectomy": "mastectomy"},
    ),
    "baseline_high": _BASELINE,
    "baseline_mid": _BASELINE,
    "baseline_low": _BASELINE,
}


class Slice(NamedTuple):
    """One file, ordered by patient, then slice.

    Args:
        patient: Duke's number, 1 to 922.
        order: slice number, for sorting; texts come after numbers.
        prefix: the file name's first part.
        slice: the slice as the file name writes it.
        label: 1 where the slice has an annotated tumour.
        file: relative to the split's folder, with ``/``.
    """

    patient: int
    order: tuple[int, int, str]
    prefix: str
    slice: str
    label: int
    file: str


def patient_id(number: int) -> str:
    """Duke's way to write a patient.

    >>> patient_id(7)
    'Breast_MRI_007'
    """
    return f"Breast_MRI_{number:03d}"


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, less hidden files and those that file browsers leave behind."""
    with reading(folder, "a folder"):
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in IGNORED]


def list_slices(folder: Path, partition: str) -> list[Slice]:
    """The files of one partition, sorted by (patient, slice).

    Args:
        folder: of the split.
        partition: ``"training"``, ``"validation"`` or ``"test"``.

    Raises:
        SpurbenchError: a folder is missing or empty, a file is not named as the layout says, or a slice is there twice.
    """
    place = folder / partition
    stray = [entry for entry in _entries(place) if entry.name not in LABELS]
    if stray:
        raise SpurbenchError(f"Expected only the folders 0 and 1 in {place}, found {stray[0]}. Move it elsewhere.")
    slices = []
    for label in LABELS:
        entries = _entries(place / label)
        if not entries:
            raise SpurbenchError(f"Expected PNG files in {place / label}, found none. Unpack the archive again.")
        slices += [_parse(entry, folder, int(label)) for entry in entries]
    slices.sort()
    for one, other in pairwise(slices):
        if one[:3] == other[:3]:
            raise SpurbenchError(
                f"Expected each slice once, found {one.file} and {other.file} in {folder}. Remove one."
            )
    return slices


def _parse(entry: Path, folder: Path, label: int) -> Slice:
    match = FILE_NAME.fullmatch(entry.name)
    if match is None:
        raise SpurbenchError(f"Expected files named <prefix>-<slice>-<patient>.png, found {entry}. Move it elsewhere.")
    prefix, text, patient = match.groups()
    number = text.isascii() and text.isdigit()
    order = (0, int(text), "") if number else (1, 0, text)
    return Slice(int(patient), order, prefix, text, label, entry.relative_to(folder).as_posix())


def check_disjoint(listed: Mapping[str, list[Slice]], folder: Path) -> None:
    """Refuse a patient in two partitions.

    Raises:
        SpurbenchError: one file of each partition is named.
    """
    owners: dict[int, tuple[str, str]] = {}
    for name, slices in listed.items():
        for row in slices:
            owner, file = owners.setdefault(row.patient, (name, row.file))
            if owner != name:
                raise SpurbenchError(
                    f"Expected each patient in one partition, found {patient_id(row.patient)} in {file} and {row.file}"
                    f" of {folder}. Remove one of the two."
                )


def _words(cell: Any) -> str:
    return "" if cell is None else " ".join(str(cell).split())


@dataclass(frozen=True)
class Spreadsheet:
    """Duke's clinical table: three header rows (section, name, coding), then one row per patient.

    Args:
        path: of the file.
        cells: all rows, header rows included; blank cells are None or "".
    """

    path: Path
    cells: list[list[Any]] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Spreadsheet:
        """Read the sheet "Data".

        Raises:
            SpurbenchError: the file is unreadable or has no such sheet.
        """
        import pandas as pd

        with reading(path, "a spreadsheet with a sheet 'Data'"):
            frame = pd.read_excel(
                path, sheet_name="Data", header=None, dtype=object, keep_default_na=False, engine="openpyxl"
            )
        if len(frame) <= HEADER_ROWS:
            raise SpurbenchError(
                f"Expected {HEADER_ROWS} header rows and then patients in {path}, found {len(frame)} rows."
            )
        return cls(path, frame.to_numpy().tolist())

    def position(self, section: str, column: str) -> int:
        """Position of a column that is named in a section.

        Raises:
            SpurbenchError: there is no such column, or more than one.
        """
        current, found = "", []
        for position, (head, name) in enumerate(zip(self.cells[0], self.cells[1], strict=True)):
            current = _words(head) or current
            if (current, _words(name)) == (section, column):
                found.append(position)
        if len(found) != 1:
            raise SpurbenchError(
                f"Expected one column {column!r} in section {section!r} of {self.path}, found {len(found)}."
                f" Get the file again ({SPREADSHEET_SOURCE})."
            )
        return found[0]

    def coding(self, attribute: Attribute) -> dict[int, str]:
        """What the codes of a column mean, from the third header row.

        Raises:
            SpurbenchError: the cell is not a list of ``code = meaning``.
        """
        text = str(self.cells[2][self.position(attribute.section, attribute.column)] or "")
        meanings: dict[int, str] = {}
        for part in filter(None, (_words(part) for part in re.split(r"[,\n{}]", text))):
            left, sign, right = (piece.strip() for piece in part.rpartition("="))
            code, meaning = (left, right) if attribute.code_first else (right, left)
            if not sign or not code.isdecimal() or int(code) in meanings:
                raise SpurbenchError(
                    f"Expected 'code = meaning' above {attribute.column!r} in {self.path}, found {part!r}."
                )
            meanings[int(code)] = meaning
        if not meanings:
            raise SpurbenchError(f"Expected a coding above {attribute.column!r} in {self.path}, found an empty cell.")
        return meanings

    def column(self, attribute: Attribute) -> dict[int, str]:
        """The meaning of every patient's code; where a cell holds none (blank, NA, NP, 1.5), its text and that remark.

        Returns:
            By Duke's patient number.

        Raises:
            SpurbenchError: a patient id is malformed or occurs twice.
        """
        ids, position = self.position(*PATIENT_COLUMN), self.position(attribute.section, attribute.column)
        coding = self.coding(attribute)
        out: dict[int, str] = {}
        for line, row in enumerate(self.cells[HEADER_ROWS:], start=HEADER_ROWS + 1):
            match = re.fullmatch(r"Breast_MRI_(\d+)", _words(row[ids]), re.ASCII)
            if match is None or int(match[1]) in out:
                what = "a new id such as Breast_MRI_001"
                raise SpurbenchError(f"Expected {what} in row {line} of {self.path}, found {_words(row[ids])!r}.")
            cell = re.sub(r"\.0$", "", _words(row[position]))
            meaning = coding.get(int(cell)) if cell.isdecimal() else None
            out[int(match[1])] = meaning or f"{cell or 'blank'} (no known code)"
        return out


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
        found = ", ".join(entry.name for entry in _entries(self.root) if entry.is_dir()) or "no folder"
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
                for entry in _entries(place):
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
        values, notes = self._join(attribute, listed)
        order, tie = _order(attribute, listed["train"], values, folder)
        for slices in listed.values():
            _check_values(slices, values, order, folder)
        partitions = {name: _partition(slices, values, order) for name, slices in listed.items()}
        every = (f"Attributes are joined by patient from {SPREADSHEET}.", *notes, tie, *_facts(listed))
        return SplitTable(Groups(CLASSES, attribute.name, order), partitions, every)

    def _join(self, attribute: Attribute, listed: Mapping[str, list[Slice]]) -> tuple[dict[int, str], list[str]]:
        """Our name of each patient's value, and what to note about it."""
        column, sheet = self.spreadsheet.column(attribute), self.spreadsheet.path
        values: dict[int, str] = {}
        merged: set[str] = set()
        for row in (row for slices in listed.values() for row in slices):
            if row.patient in values:
                continue
            who = f"{patient_id(row.patient)} ({row.file})"
            if row.patient not in column:
                raise SpurbenchError(f"Expected patient {who} in {sheet}, found no such row. Get the file again.")
            meaning = column[row.patient]
            if meaning not in attribute.values:
                known = ", ".join(attribute.values)
                raise SpurbenchError(
                    f"Expected {attribute.column!r} of {who} to be one of {known}, found {meaning!r} in {sheet}."
                )
            values[row.patient] = attribute.values[meaning]
            if meaning in attribute.rounded:
                merged.add(f"{patient_id(row.patient)} ({meaning})")
        notes = [attribute.note] if attribute.note else []
        if merged:
            notes.append(f"Counted with the nearest nominal field strength: {', '.join(sorted(merged))}.")
        return values, notes

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
            for block in blocks(len(partition)):
                files = [folder / name for name in partition.extra["file"][block].tolist()]
                yield np.stack(list(pool.map(read, files)))[:, None]


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


def _check_values(slices: list[Slice], values: Mapping[int, str], order: tuple[str, ...], folder: Path) -> None:
    for row in slices:
        if values[row.patient] not in order:
            raise SpurbenchError(
                f"Expected {patient_id(row.patient)} to have one of training's values ({', '.join(order)}),"
                f" found {values[row.patient]} ({folder / row.file})."
            )


def _partition(slices: list[Slice], values: Mapping[int, str], order: tuple[str, ...]) -> Partition:
    return Partition(
        ids=np.array([Path(row.file).stem for row in slices], np.str_),
        labels=np.array([row.label for row in slices], np.int64),
        attributes=np.array([order.index(values[row.patient]) for row in slices], np.int64),
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
