"""Measure what rendering DICOM volumes to slices costs in time and memory: the whole command, from outside.

Run it with ``python benchmarks/render.py``. It writes stand-ins of breast volumes into a temporary folder (170 slices of
512 x 512 pixels, 16 bits, uncompressed; 90 MB each), runs ``spurbench curate render`` on one and on three of them with each
window, and prints Markdown rows for benchmarks/README.md.

The files were written just before, so that they come from the system's cache, not from the disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE, COUNT = 512, 170
FEW, MANY = 1, 3
BOX = (262, 318, 106, 152, 75, 92)
"""Rows, columns and slices of the lesion: 17 slices are positive, and 10 are not written: its last one, and those near it."""
WINDOWS = ("slice", "volume", "percentile")


def volume(rng: np.random.Generator, count: int) -> NDArray[np.uint16]:
    """Ellipses with a smooth inside and noise, 12 bits deep, shape (count, SIDE, SIDE)."""
    row, column = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    found = np.empty((count, SIDE, SIDE), np.uint16)
    for number in range(count):
        width = 0.9 - 0.3 * abs(number / count - 0.5)
        body = (row / width) ** 2 + (column / width) ** 2 < 1
        smooth = 1200 + 500 * np.sin(5 * row + number / 9) * np.cos(4 * column)
        values = np.where(body, smooth, 40) + rng.normal(0, 30, row.shape)
        found[number] = np.clip(values, 0, 4095)
    return found


def write_patient(folder: Path, patient: str, values: NDArray[np.uint16]) -> None:
    """Write a volume slice by slice, as TCIA names the files."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True)
    series = generate_uid(entropy_srcs=[patient])
    for number, stored in enumerate(values, start=1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient, str(number)])
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        data.PatientID, data.Modality, data.SeriesInstanceUID = patient, "MR", series
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = "post_1", 5, number
        data.ImageOrientationPatient, data.ImagePositionPatient = [-1, 0, 0, 0, -1, 0], [160, 100, -float(number)]
        data.PixelSpacing, data.MagneticFieldStrength, data.Manufacturer = [0.7, 0.7], 1.5, "GE MEDICAL SYSTEMS"
        data.Rows = data.Columns = SIDE
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = stored.tobytes()
        data.save_as(folder / f"1-{number:03d}.dcm", enforce_file_format=True)


def write_collection(root: Path, patients: int, count: int) -> None:
    """Write that many patients below ``root / "dicom"``, and their boxes; they share their pixels."""
    values = volume(np.random.default_rng(0), count)
    ends = "Start Row,End Row,Start Column,End Column,Start Slice,End Slice"
    lines = [f"Patient ID,{ends}"]
    for number in range(1, patients + 1):
        patient = f"Breast_MRI_{number:03d}"
        write_patient(root / "dicom" / patient / "post_1", patient, values)
        lines.append(",".join(map(str, (patient, *BOX))))
    (root / "boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, CPU seconds, and its peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


def render(root: Path, out: Path, *more: str) -> Cost:
    """Run ``spurbench curate render``, and measure it from outside.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    program = "import sys; from robustbench_spur.cli import main; sys.exit(main())"
    verb = ["curate", "render", str(root / "dicom"), "--boxes", str(root / "boxes.csv"), "--out", str(out), *more]
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, "-c", program, *verb], stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone, not of all children so far
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{said.read()}The command ended with exit code {process.returncode}.")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def row(what: str, cost: Cost, note: str) -> None:
    """Print a Markdown row."""
    print(f"| {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {note} |", flush=True)


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=COUNT, help="slices of a volume (default: %(default)s)")
    options = parser.parse_args()
    if options.count < BOX[5] + 6:
        parser.error(f"expected --count of at least {BOX[5] + 6}, found {options.count}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_collection(root, MANY, options.count)
        print("| what | wall s | CPU s | |\n|---|---|---|---|", flush=True)
        for window in WINDOWS:
            for patients in (FEW, MANY):
                out = root / f"{window}-{patients}"
                chosen = [f"Breast_MRI_{number:03d}" for number in range(1, patients + 1)]
                cost = render(root, out, "--window", window, "--patients", *chosen)
                written = len(list(out.rglob("*.png")))
                speed = f"{written / cost.wall:.0f} slices per second, peak memory {cost.memory / 1e6:.0f} MB"
                what = f"`curate render --window {window}`: {patients} x {options.count} slices of {SIDE} x {SIDE}"
                row(what, cost, f"{written} written, {speed}")
        row("the same again", render(root, out, "--window", window, "--patients", *chosen), "finds the slices there")


if __name__ == "__main__":
    main()
