"""A stand-in for the released SpurBreast: folders, empty or random slices, and a spreadsheet with Duke's three header rows."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import Partition

SIDE = 40

# The three header rows of Duke's spreadsheet, cut to the columns that matter and some that could be mistaken for them.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("Patient Information", "Patient ID", ""),
    ("MRI Technical Information", "Days to MRI (From the Date of Diagnosis)", ""),
    ("", "Manufacturer", "GE MEDICAL SYSTEMS=0, MPTronic software=1, SIEMENS=2"),
    ("", "Field Strength (Tesla)", "1.494=0,1.5=1,2.8936=2,3=3"),
    ("", "Slice Thickness ", "0.9=0,0.95=1"),
    ("Demographics", "Date of Birth (Days)", "(Taking date of diagnosis as day 0)"),
    ("", "Menopause (at diagnosis)", "{0 = pre,\n1 = post,\n2 = N/A}"),
    (
        "",
        "Race and Ethnicity",
        "{0 = N/A\n1 = white,\n2 = black,\n3 = asian,\n4 = native,\n5 = hispanic,\n6 = multi,\n7 = hawa,"
        "    8 = amer indian}",
    ),
    ("SURGERY", "Surgery", "{0 = no,1 = yes}"),
    ("", "Definitive Surgery Type", "{0=BCS, 1=mastectomy}"),
    ("Mammography Characteristics", "Shape", "{0=oval, 1=irregular}"),
    ("US features", "Shape", "{0=oval, 1=irregular}"),
    ("Other", "Manufacturer", "SIEMENS=0, GE MEDICAL SYSTEMS=2"),
)
CODES = {"field": 3, "vendor": 2, "menopause": 6, "race": 7, "surgery": 9}
Layout = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Partition folder, patient, labels of its slices in order."""

LAYOUT: Layout = {
    "training": {1: (0, 0, 0), 2: (0, 0), 3: (1, 1, 1), 4: (1, 1)},
    "validation": {11: (0, 0), 12: (1, 1, 1)},
    "test": {21: (0, 1, 1), 22: (1, 0), 23: (0, 0, 1), 24: (1, 0)},
}
TIED = {1: 0, 2: 0, 3: 1, 4: 1, 11: 0, 12: 1, 21: 1, 22: 1, 23: 0, 24: 0}
"""Whether a patient carries the value tied to tumour; test patients carry either with both labels."""


def write_spreadsheet(path: Path, patients: Mapping[int, Mapping[str, object]]) -> Path:
    rows: list[list[object]] = [[column[i] or None for column in COLUMNS] for i in range(3)]
    for patient, codes in patients.items():
        row: list[object] = [f"Breast_MRI_{patient:03d}", 5, 0, 3, 1, -15000, 0, 1, 1, 0, "NC", None, 0]
        for name, code in codes.items():
            row[CODES[name]] = code
        rows.append(row)
    pd.DataFrame(rows).to_excel(path, sheet_name="Data", header=False, index=False)
    return path


def png(rng: np.random.Generator, side: int = SIDE) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_slices(folder: Path, layout: Layout, content: Callable[[], bytes] | Path) -> None:
    """Files in the released folders: what ``content`` gives for each, or links to that file, which are quicker to make."""
    for partition, patients in layout.items():
        for label in "01":
            (folder / partition / label).mkdir(parents=True, exist_ok=True)
        for patient, labels in patients.items():
            for number, label_of_slice in enumerate(labels, start=8):  # 8, 9, 10: not in the order of texts
                place = folder / partition / str(label_of_slice) / f"1-{number}-{patient}.png"
                if isinstance(content, Path):
                    place.hardlink_to(content)
                else:
                    place.write_bytes(content())


def stand_in(root: Path, split: str = "field_strength", **codes: tuple[object, object]) -> SpurBreast:
    """A small folder in the released layout; ``codes`` holds two codes per column: of those not tied and those tied."""
    codes = codes or {"field": (3, 1)}
    rng = np.random.default_rng(0)
    write_slices(root / split, LAYOUT, lambda: png(rng))
    patients = {p: {name: pair[tied] for name, pair in codes.items()} for p, tied in TIED.items()}
    write_spreadsheet(root / SPREADSHEET, patients)
    return SpurBreast(path=root)


def file(dataset: SpurBreast, name: str, split: str = "field_strength") -> Path:
    return dataset.root / split / name


def images(dataset: SpurBreast, partition: Partition, size: int) -> NDArray[np.uint8]:
    return np.concatenate(list(dataset.pixels("field", partition, size)))
