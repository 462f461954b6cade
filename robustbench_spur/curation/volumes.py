"""A series as a volume: what its headers say, and the order in which its slices lie. No pixel is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from robustbench_spur.curation.dicomfile import numbers, read_header, text, whole
from robustbench_spur.curation.series import SUFFIXES, Series
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Order = Literal["file", "position"]

TEXTS = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "patient_position": "PatientPosition",
    "scan_options": "ScanOptions",
    "series_description": "SeriesDescription",
}
NUMBERS = {
    "field_strength": "MagneticFieldStrength",
    "rows": "Rows",
    "columns": "Columns",
    "repetition_time": "RepetitionTime",
    "echo_time": "EchoTime",
    "flip_angle": "FlipAngle",
    "slice_thickness": "SliceThickness",
}
"""Attributes of a volume that its first header states, with the tags; tesla, pixels, ms, ms, degrees, mm."""

DERIVED = ("row_spacing", "column_spacing", "slice_spacing", "rotated", "mirrored", "descending")
ATTRIBUTES = ("count", *NUMBERS, *TEXTS, *DERIVED)
"""All attributes of a volume, in the order of the columns."""

GEOMETRY = ("ImageOrientationPatient", "ImagePositionPatient", "InstanceNumber", "PixelSpacing")
PIXELS = ("PhotometricInterpretation", "NumberOfFrames", "SamplesPerPixel")
UNEVEN = 0.5
"""Share of the usual spacing by which two neighbours may be further or nearer, before a slice is missing or doubled."""


class Shared(NamedTuple):
    """What the slices of a volume have in common."""

    patient: str
    series: str
    matrix: tuple[int, int]
    orientation: tuple[float, ...]
    photometric: str


class Head(NamedTuple):
    """What is kept of a slice's header.

    Args:
        file: that holds the slice.
        number: InstanceNumber, if there is one.
        height: of the slice along the axis that it is nearest to being perpendicular to, in mm.
        shared: with the other slices.
    """

    file: Path
    number: int | None
    height: float
    shared: Shared


@dataclass(frozen=True)
class Volume:
    """A series whose slices are in order.

    Args:
        series: that it is.
        files: of its slices, in the order asked for.
        flipped: whether the order is opposite to that in which boxes are counted.
        inverted: whether small stored values are bright.
        attributes: of patient and scanner, by :data:`ATTRIBUTES`; numbers as short texts, "" where the header says nothing.
            ``rotated``, ``mirrored`` and ``descending`` (whether the slices go from head to feet) are 0 or 1.
    """

    series: Series
    files: tuple[Path, ...]
    flipped: bool
    inverted: bool
    attributes: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.attributes["rows"]), int(self.attributes["columns"])


def open_volume(series: Series, order: Order = "file", count: int | None = None) -> Volume:
    """Read all headers of a series, check that they make a volume, and put the slices in order.

    ``"file"``: as the last number in each file's name says, from 1 (``1-01`` and ``1-001`` are both slice 1): the order in
    which Duke's boxes are counted. ``"position"``: upwards along the body (for axial slices, feet to head); boxes are then
    taken to be counted by InstanceNumber, from the first there is, and where that falls with the position the volume is
    flipped.

    Args:
        series: to open.
        order: of the slices.
        count: of slices that there must be, if known.

    Raises:
        SpurbenchError: slices are missing, doubled, out of order, unlike each other, of somebody else or not axial, or a file
            is damaged or not one slice of grey values.
    """
    heads = [_head(file) for file in series.files]
    if count is not None and len(heads) != count:
        raise SpurbenchError(f"Expected {count} slices in {series.folder}, found {len(heads)}. Get the series again.")
    if len(heads) < 2:
        raise SpurbenchError(
            f"Expected at least 2 slices in {series.folder}, found {len(heads)}. Choose another series."
        )
    shared = heads[0].shared._replace(patient=series.patient)
    for head in heads:
        _check_shared(head, shared)
    number = _name_number if order == "file" else _instance_number
    heads.sort(key=number)
    _check_numbers([number(head) for head in heads], heads, 1 if order == "file" else number(heads[0]))
    if order == "position":
        _check_names(heads)
    spacing = _spacing(heads)
    flipped = order == "position" and spacing < 0
    files = tuple(head.file for head in (reversed(heads) if flipped else heads))
    attributes = _attributes(files[0], len(files), spacing, descending=spacing < 0 and not flipped)
    return Volume(series, files, flipped, shared.photometric == "MONOCHROME1", attributes)


def _head(file: Path) -> Head:
    head = read_header(file, ("PatientID", "SeriesInstanceUID", "Rows", "Columns", *GEOMETRY, *PIXELS))
    photometric = _check_pixels(head, file)
    orientation = numbers(head, "ImageOrientationPatient", 6, file)
    if np.abs(np.round(orientation)).tolist() != [1, 0, 0, 0, 1, 0]:
        raise SpurbenchError(
            f"Expected axial slices, found ImageOrientationPatient {text(head, 'ImageOrientationPatient')} in {file}."
            " Choose another series."
        )
    normal = np.cross(orientation[:3], orientation[3:])
    height = float(np.dot(normal * np.sign(normal[2]), numbers(head, "ImagePositionPatient", 3, file)))
    shared = Shared(
        patient=text(head, "PatientID"),
        series=text(head, "SeriesInstanceUID"),
        matrix=(int(numbers(head, "Rows", 1, file)[0]), int(numbers(head, "Columns", 1, file)[0])),
        orientation=tuple(np.round(orientation, 3).tolist()),
        photometric=photometric,
    )
    return Head(file, whole(head, "InstanceNumber", file), height, shared)


def _check_pixels(head: FileDataset, file: Path) -> str:
    """How grey values are stored.

    Raises:
        SpurbenchError: the file is not one slice of grey values.
    """
    frames, samples = (whole(head, tag, file) for tag in ("NumberOfFrames", "SamplesPerPixel"))
    kind = text(head, "PhotometricInterpretation")
    if frames not in (None, 1):
        raise SpurbenchError(
            f"Expected one slice per file, found {frames} frames in {file}. Split it first, as dcm4che's emf2sf does."
        )
    if samples not in (None, 1) or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise SpurbenchError(f"Expected grey values, found {kind or 'no photometric interpretation'} in {file}.")
    return kind


def _check_shared(head: Head, wanted: Shared) -> None:
    for name, here, there in zip(Shared._fields, head.shared, wanted, strict=True):
        if here != there:
            raise SpurbenchError(
                f"Expected {name} {there!r} in {head.file}, as in the rest of its series, found {here!r}."
                " Keep each series in a separate folder."
            )


def _instance_number(head: Head) -> int:
    if head.number is None:
        raise SpurbenchError(f"Expected InstanceNumber in {head.file}, found none. Choose --order file.")
    return head.number


def _name_number(head: Head) -> int:
    found = _last_number(head.file)
    if found is None:
        raise SpurbenchError(f"Expected a file name with a slice number, found {head.file}. Choose --order position.")
    return found


def _last_number(file: Path) -> int | None:
    """The last number in a file's name.

    >>> [_last_number(Path(name)) for name in ("1-012.dcm", "Breast_MRI_001_post_1_176.dcm", "IM.7", "a.dcm")]
    [12, 176, 7, None]
    """
    stem = file.stem if file.suffix.lower() in SUFFIXES else file.name
    found = re.findall(r"\d+", stem, re.ASCII)
    return int(found[-1]) if found else None


def _check_numbers(found: Sequence[int], heads: Sequence[Head], first: int) -> None:
    """Refuse sorted slice numbers that are not ``first``, ``first`` + 1, ..."""
    folder = heads[0].file.parent
    for row in range(1, len(found)):
        if found[row] == found[row - 1]:
            pair = f"{heads[row - 1].file.name} and {heads[row].file.name} in {folder}"
            raise SpurbenchError(f"Expected one file per slice, found {pair} for slice {found[row]}. Remove one.")
    missing = sorted(set(range(first, found[-1] + 1)) - set(found))
    if missing or found[0] < first:
        lost = f"none for {', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        raise SpurbenchError(
            f"Expected slices {first} to {found[-1]} in {folder}, found {lost if missing else heads[0].file.name}."
            " Get the series again."
        )


def _check_names(heads: Sequence[Head]) -> None:
    """Refuse file names that number the slices from 1 as InstanceNumber does not: nobody knows which one boxes follow."""
    names = [_last_number(head.file) for head in heads]
    wanted = list(range(1, len(names) + 1))
    if None not in names and names != wanted and sorted(n for n in names if n is not None) == wanted:
        raise SpurbenchError(
            f"Expected names that follow InstanceNumber in {heads[0].file.parent}, found {heads[0].file.name} first."
            " Choose --order file if boxes are counted by the names."
        )


def _spacing(heads: Sequence[Head]) -> float:
    """Distance from each slice to the next in mm, negative where the numbers fall with the position.

    SliceThickness and SpacingBetweenSlices do not tell it: interpolated slices are thicker than they are apart.
    """
    steps = np.diff([head.height for head in heads])
    usual = float(np.median(steps))
    odd = np.flatnonzero(~(np.abs(steps - usual) < UNEVEN * abs(usual)))
    if len(odd):
        before, after = heads[odd[0]].file, heads[odd[0] + 1].file
        raise SpurbenchError(
            f"Expected slices {abs(usual):.3g} mm apart and in the order of their numbers, found {before.name} and"
            f" {after.name} {steps[odd[0]]:.3g} mm apart in {before.parent}. A slice is missing, doubled or misnamed."
        )
    return usual


def _attributes(file: Path, count: int, spacing: float, *, descending: bool) -> dict[str, str]:
    head = read_header(file, (*TEXTS.values(), *NUMBERS.values(), *GEOMETRY))
    across, down = (round(value) for value in numbers(head, "ImageOrientationPatient", 6, file)[::4])
    row_spacing, column_spacing = numbers(head, "PixelSpacing", 2, file)
    derived = (
        f"{row_spacing:g}",
        f"{column_spacing:g}",
        f"{abs(spacing):.4g}",
        *(str(int(flag)) for flag in (across == -1, across != down, descending)),
    )
    stated = [f"{numbers(head, tag, 1, file)[0]:g}" if text(head, tag) else "" for tag in NUMBERS.values()]
    texts = [text(head, tag) for tag in TEXTS.values()]
    return dict(zip(ATTRIBUTES, (str(count), *stated, *texts, *derived), strict=True))
