"""Makers of DICOM volumes: phantom patients whose lesion's box is known, written slice by slice with pydicom."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from robustbench_spur.curation.boxes import COLUMNS, Box
from robustbench_spur.curation.labelled import Settings
from robustbench_spur.curation.render import Job
from robustbench_spur.curation.series import Choice, find_series
from robustbench_spur.curation.volumes import Order, Volume, open_volume
from robustbench_spur.phantom.anatomy import draw_extents
from robustbench_spur.phantom.render import Slices, lesion_masks, render

SEED, COUNT, SIZE, SPACING = 5, 24, 40, 4.0
NATIVE = Settings(size=SIZE)
UPRIGHT, TURNED, ODD = (1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0)


@dataclass(frozen=True)
class Patient:
    """A phantom volume, from feet to head, in stored orientation.

    Args:
        images: shape (COUNT, SIZE, SIZE), 0 to 255.
        lesion: where it is, same shape.
        rotated: whether the images are stored turned by 180 degrees.
    """

    images: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    rotated: bool

    @property
    def orientation(self) -> tuple[int, ...]:
        return TURNED if self.rotated else UPRIGHT

    @property
    def heights(self) -> list[float]:
        return [SPACING * number for number in range(len(self.images))]

    def box(self, *, descending: bool = False) -> Box:
        """The lesion's box, counted from the other end if the file numbers fall with the height."""
        lesion = self.lesion[::-1] if descending else self.lesion
        ends = [np.flatnonzero(lesion.any(axis=tuple({0, 1, 2} - {axis}))) + 1 for axis in (1, 2, 0)]
        return Box(*(int(end) for found in ends for end in (found[0], found[-1])))


@cache
def phantom(number: int, *, rotated: bool = False) -> Patient:
    """A patient whose lesion lies between slices 4 and 20."""
    centre = float(np.round(draw_extents(SEED, np.array([number])).z[0], 1))
    z = centre + SPACING * (np.arange(COUNT) - COUNT // 2)
    slices = Slices(np.full(COUNT, number), z, np.full(COUNT, 1.5), np.full(COUNT, rotated))
    return Patient(render(SEED, slices, SIZE), lesion_masks(SEED, slices, SIZE) > 0.3, rotated)


@dataclass(frozen=True)
class Written:
    """How a volume is written; the first slice is number 1.

    Args:
        patient: id.
        orientation: ImageOrientationPatient.
        heights: z of each slice.
        description: SeriesDescription.
        names: file names; ``1-001.dcm`` and so on if empty.
        instances: InstanceNumber of each slice; 1, 2, ... if empty.
        tags: further tags of every slice.
        dtype: of the stored values.
    """

    patient: str
    orientation: Sequence[float] = UPRIGHT
    heights: Sequence[float] = ()
    description: str = "ax dyn post_1"
    names: Sequence[str] = ()
    instances: Sequence[int] = ()
    tags: dict[str, Any] = field(default_factory=dict)
    dtype: str = "<u2"


def write_slice(path: Path, stored: NDArray[Any], how: Written, number: int, uid: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(number)])
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    height = how.heights[number - 1] if how.heights else SPACING * number
    rows, columns = stored.shape
    tags: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": how.patient,
        "Modality": "MR",
        "SeriesDescription": how.description,
        "SeriesNumber": 5,
        "SeriesInstanceUID": uid,
        "InstanceNumber": how.instances[number - 1] if how.instances else number,
        "ImageOrientationPatient": list(how.orientation),
        "ImagePositionPatient": [-160.5, -100.0, height],
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 2.2,
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Avanto",
        "MagneticFieldStrength": 1.494,
        "RepetitionTime": 5.348,
        "EchoTime": 2.46,
        "FlipAngle": 10,
        "PatientPosition": "FFP",
        "ScanOptions": ["PFP", "FS"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": stored.dtype.itemsize * 8,
        "BitsStored": stored.dtype.itemsize * 8,
        "HighBit": stored.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
    }
    for tag, value in {**tags, **how.tags}.items():
        if value is not None:
            setattr(data, tag, value)
    data.PixelData = stored.tobytes()
    data.save_as(path, enforce_file_format=True)


def write_volume(folder: Path, stored: NDArray[Any], how: Written) -> Path:
    """Write a volume in the order of its slice numbers, shape (slices, rows, columns)."""
    folder.mkdir(parents=True)
    uid = str(how.tags.get("SeriesInstanceUID", generate_uid(entropy_srcs=[str(folder.parts[-2:]), how.patient])))
    for number, values in enumerate(stored, start=1):
        name = how.names[number - 1] if how.names else f"1-{number:03d}.dcm"
        write_slice(folder / name, values.astype(how.dtype), how, number, uid)
    return folder


def write_patient(root: Path, name: str, patient: Patient, *, descending: bool = False, **how: Any) -> Path:
    """Write a phantom patient as the series ``post_1`` in the descriptive layout, 12 bits deep."""
    images, heights = patient.images.astype(np.int64) * 16, patient.heights
    if descending:
        images, heights = images[::-1], heights[::-1]
    given = {"orientation": patient.orientation, "heights": heights, **how}
    return write_volume(root / name / "post_1", images, Written(name, **given))


def write_boxes(path: Path, boxes: Iterable[tuple[str, Box]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(COLUMNS)
        for name, box in boxes:
            ends = (box.start_row, box.end_row, box.start_column, box.end_column, box.start_slice, box.end_slice)
            rows.writerow((name, *ends))
    return path


# A collection of four patients

PATIENTS = {
    "Breast_MRI_001": (1, False, False),
    "Breast_MRI_002": (2, True, True),
    "Breast_MRI_012": (3, False, True),
    "Breast_MRI_013": (4, True, False),
}
"""Number of the phantom, whether its images are stored turned, and whether its files are numbered from the head."""


def write_collection(root: Path) -> Path:
    """Two phases of each patient, the first of which is twice as bright, and a segmentation."""
    for name, (number, rotated, descending) in PATIENTS.items():
        patient = phantom(number, rotated=rotated)
        write_patient(root, name, patient, descending=descending)
        images = patient.images[:: -1 if descending else 1].astype(np.int64) * 32
        heights = patient.heights[:: -1 if descending else 1]
        how = Written(name, patient.orientation, heights, "ax dyn pre", tags={"SeriesNumber": 4})
        write_volume(root / name / "pre", images, how)
    how = Written("Breast_MRI_001", tags={"Modality": "SEG"})
    write_volume(root / "Breast_MRI_001" / "seg", np.ones((2, 4, 4)), how)
    return root


def collection_boxes() -> dict[str, Box]:
    """As Duke's are counted: in the order of the files."""
    return {
        name: phantom(number, rotated=rotated).box(descending=descending)
        for name, (number, rotated, descending) in PATIENTS.items()
    }


def collection_job(root: Path, out: Path, **changes: Any) -> Job:
    """Render the second phase at the size that it is stored in."""
    return replace(Job(root, out, collection_boxes(), Choice("^post_1$"), NATIVE), **changes)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


SMALL = np.arange(4 * 6 * 6).reshape(4, 6, 6)


def volume(folder: Path, stored: NDArray[Any] = SMALL, *, patient: str = "P1", **how: Any) -> Path:
    """A volume of four slices, if nothing else is given."""
    return write_volume(folder, stored, Written(patient, **how))


def opened(folder: Path, order: Order = "file", count: int | None = None) -> Volume:
    """The only volume below a folder."""
    (series,) = find_series(folder)
    return open_volume(series, order, count)
