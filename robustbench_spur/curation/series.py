"""DICOM series on disk: which there are, and which one of a patient is meant.

A series is a folder of files, one slice each; any tree of folders will do (TCIA's classic and descriptive layouts among
them). One header of each series is read; what is kept of it is a few hundred bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NoReturn

from robustbench_spur.curation.dicomfile import read_header, text, whole
from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

MODALITY = "MR"
SUFFIXES = (".dcm", ".ima")
PREFIX = "MR_"
"""What newer extracts of TCIA put before the name of a series' folder."""

IDENTITY = ("PatientID", "Modality", "SeriesDescription", "SeriesNumber", "SeriesInstanceUID")


@dataclass(frozen=True)
class Series:
    """A folder with the slices of one series.

    Args:
        patient: id, from the header.
        folder: that holds the files.
        description: SeriesDescription, or "".
        number: SeriesNumber, if there is one.
        uid: SeriesInstanceUID.
        fault: why it cannot be used, or "".
    """

    patient: str
    folder: Path
    description: str = ""
    number: int | None = None
    uid: str = ""
    fault: str = ""

    @property
    def files(self) -> list[Path]:
        """The DICOM files of the folder, by name; listed anew every time, so that a collection fits into memory.

        Raises:
            SpurbenchError: the folder is gone or cannot be listed.
        """
        with reading(self.folder, "a folder of DICOM files"):
            return _dicom_files(self.folder, [entry.name for entry in self.folder.iterdir()])

    @property
    def names(self) -> tuple[str, ...]:
        """What a pattern is looked for in."""
        return (self.description, self.folder.name, self.folder.name.removeprefix(PREFIX))

    def __str__(self) -> str:
        number = "" if self.number is None else f"{self.number} "
        damage = f", which is damaged: {self.fault}" if self.fault else ""
        return f"{number}{self.description or 'without description'} ({self.folder}{damage})"


def find_series(root: Path, known: Collection[str] = ()) -> Iterator[Series]:
    """The MR series below a folder, sorted by path; one header of each is read, and no pixel.

    Other modalities (segmentations) are passed over. Links to folders are not followed.

    Args:
        root: top of the tree.
        known: ids of patients: where a folder above a series is named like one, the header must name the same.

    Raises:
        SpurbenchError: there is no such folder.
        OSError: a folder cannot be listed.
    """
    if not root.is_dir():
        raise SpurbenchError(f"Expected a folder of DICOM series at {root}, found none. Check the path.")
    for place, below, names in os.walk(root, onerror=_fail):
        below[:] = sorted(name for name in below if not name.startswith("."))
        folder = Path(place)
        files = _dicom_files(folder, names)
        owners = [part for part in (root.absolute().name, *folder.relative_to(root).parts) if part in known]
        series = _identify(folder, files, owners) if files else None
        if series is not None:
            yield series


def _fail(error: OSError) -> NoReturn:
    raise error


def _dicom_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Files that are DICOM by their suffix, or, where they have none, by their first bytes."""
    found = []
    for name in sorted(names):
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names takes long
        if name.startswith(".") or name.upper() == "DICOMDIR":
            continue
        if suffix in SUFFIXES or ((not suffix or suffix[1:].isdigit()) and _has_preamble(folder / name)):
            found.append(folder / name)
    return found


def _has_preamble(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _identify(folder: Path, files: Sequence[Path], owners: Sequence[str]) -> Series | None:
    """The series in a folder, from the first header that can be read; None if it is of another modality."""
    fault = ""
    for file in files:
        try:
            head = read_header(file, IDENTITY)
            if text(head, "Modality") != MODALITY:
                return None
            number = whole(head, "SeriesNumber", file)
        except SpurbenchError as error:
            fault = fault or str(error)
            continue
        patient, description = text(head, "PatientID"), text(head, "SeriesDescription")
        found = Series(patient, folder, description, number, text(head, "SeriesInstanceUID"))
        return _owned(found, file, owners)
    return Series(owners[-1] if owners else folder.parent.name, folder, fault=fault)


def _owned(series: Series, file: Path, owners: Sequence[str]) -> Series:
    """The series, or one with a fault where the header names nobody, or another patient than the folder."""
    if series.patient and (not owners or series.patient in owners):
        return series
    owner = owners[-1] if owners else series.folder.parent.name
    found = repr(series.patient) if series.patient else "none"
    fault = f"Expected {owner!r} as PatientID, as the folder says, found {found} in {file}. Move the series."
    return replace(series, patient=owner, fault=fault)


@dataclass(frozen=True)
class Choice:
    """Which series of a patient is meant; exactly one of the first three is given.

    Args:
        pattern: regular expression, looked for in the description and the folder's name, in any case of letters.
        number: SeriesNumber.
        listed: path or uid of the series, by patient.
        where: how the list is spoken of.
        faults: of the list, by patient; what has one cannot be chosen.
    """

    pattern: str | None = None
    number: int | None = None
    listed: Mapping[str, str] = field(default_factory=dict)
    where: str = "is listed"
    faults: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum((self.pattern is not None, self.number is not None, bool(self.listed))) != 1:
            raise SpurbenchError(
                "Expected one way to choose a series: a pattern, a number or a list. Give one of them."
            )
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise SpurbenchError(f"Expected a regular expression, found {self.pattern!r}: {error}.") from error

    def __str__(self) -> str:
        if self.pattern is not None:
            return f"matches {self.pattern!r}"
        return f"has number {self.number}" if self.number is not None else self.where

    def picks(self, series: Series) -> bool:
        """Whether a series is the one meant, or one of them."""
        if self.pattern is not None:
            return any(re.search(self.pattern, name, re.IGNORECASE) for name in series.names)
        if self.number is not None:
            return series.number == self.number
        parts = [part for part in PurePosixPath(self.listed.get(series.patient, "").replace("\\", "/")).parts if part]
        if parts and parts[-1].lower().endswith(SUFFIXES):
            parts.pop()
        if series.patient in parts:  # what is above the patient's folder is not the same everywhere
            parts = parts[parts.index(series.patient) + 1 :]
        return bool(parts) and (parts[-1] == series.uid or _is_below(series.folder, parts))

    def choose(self, patient: str, found: Sequence[Series]) -> Series:
        """The one series of a patient that is meant.

        Raises:
            SpurbenchError: none or several are, which are listed; or it cannot be used.
        """
        if patient in self.faults:
            raise SpurbenchError(self.faults[patient])
        picked = [series for series in found if self.picks(series)]
        if len(picked) != 1:
            which = "; ".join(map(str, picked or found))
            raise SpurbenchError(
                f"Expected one series of {patient!r} that {self}, found {len(picked)} of {len(found)}: {which}."
                " Choose by --series, --series-number, --series-file or --mapping."
            )
        if picked[0].fault:
            raise SpurbenchError(picked[0].fault)
        return picked[0]


def _is_below(folder: Path, parts: Sequence[str]) -> bool:
    """Whether a folder's path and a listed one end alike, as far as the shorter goes."""
    own = [*folder.parts[:-1], folder.name.removeprefix(PREFIX)]
    wanted = [*parts[:-1], parts[-1].removeprefix(PREFIX)]
    length = min(len(own), len(wanted))
    return own[-length:] == wanted[-length:]
