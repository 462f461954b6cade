"""One patient: the slices of a volume that have a label, written as pictures, one in memory at a time."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from robustbench_spur.curation.boxes import BUFFER, Box, as_row, flip_slices, label_slices
from robustbench_spur.curation.dicomfile import read_slice
from robustbench_spur.curation.volumes import Order, Volume
from robustbench_spur.curation.windows import Window, limits, picture
from robustbench_spur.types import SpurbenchError

LEAST_SIZE = 16
COMPRESSION = 4
"""Of the PNG files: slices become as small as by the default, 6, in less than half the time."""


@dataclass(frozen=True)
class Settings:
    """What the pixels and labels of every patient depend on.

    Args:
        window: which values become 0 and 255: ``"slice"``, 0 and the slice's maximum; ``"volume"``, 0 and the volume's
            maximum; ``"percentile"``, the volume's percentiles 0.5 and 99.5.
        order: of the slices, ``"file"`` or ``"position"``; see :func:`~robustbench_spur.curation.volumes.open_volume`.
        size: height and width of the images in pixels.
        pad: whether slices that are not square get black margins of equal width; if False, they are refused.
        buffer: slices on either side of the box that are not written.
        closed: whether the box's last slice is positive.
    """

    window: Window = "slice"
    order: Order = "file"
    size: int = 320
    pad: bool = False
    buffer: int = 5
    closed: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (("window", self.window, get_args(Window)), ("order", self.order, get_args(Order))):
            if value not in known:
                raise SpurbenchError(f"Expected {what} as one of {', '.join(known)}, found {value!r}.")
        if self.size < LEAST_SIZE:
            raise SpurbenchError(f"Expected a size of at least {LEAST_SIZE} pixels, found {self.size}.")
        if self.buffer < 0:
            raise SpurbenchError(f"Expected a buffer of at least 0 slices, found {self.buffer}.")


def stems(patients: Collection[str]) -> dict[str, str]:
    """How each patient is called in file names: by number where all that have one differ, else by id.

    Raises:
        SpurbenchError: two ids cannot be told apart in a file name.

    >>> stems(["Breast_MRI_001", "Breast_MRI_012", "control"])
    {'Breast_MRI_001': '1', 'Breast_MRI_012': '12', 'control': 'control'}
    >>> stems(["left-1", "right-1"])
    {'left-1': 'left_1', 'right-1': 'right_1'}
    """
    numbers = {patient: int(match[0]) for patient in patients if (match := re.search(r"\d+$", patient, re.ASCII))}
    distinct = len(set(numbers.values())) == len(numbers)
    found = {
        patient: str(numbers[patient]) if distinct and patient in numbers else re.sub(r"[^A-Za-z0-9_]", "_", patient)
        for patient in patients
    }
    for name, times in Counter(name.casefold() for name in found.values()).items():
        if times > 1:
            alike = [repr(patient) for patient, stem in found.items() if stem.casefold() == name]
            raise SpurbenchError(f"Expected ids that differ in a file name, found {' and '.join(alike)}. Rename one.")
    return found


def write_slices(volume: Volume, box: Box, settings: Settings, stem: str, folder: Path) -> dict[str, Any]:
    """Write the slices of a volume that have a label.

    The labels are those of the slices in the order that the box is counted in, whichever order they are written in.

    Args:
        volume: to write.
        box: of its lesion.
        settings: of the pictures and labels.
        stem: of the patient, for the file names.
        folder: that exists and is empty.

    Returns:
        ``count`` of the volume's slices; ``slices``, a list of file name, slice number from 1 and label; ``pixels_sha256`` of
        all pictures' pixels, one after the other; ``window``, the values that became 0 and 255, or None; ``box``, as it is
        counted in the order written.

    Raises:
        SpurbenchError: the box does not fit, or a slice is damaged or not square.
    """
    count, (rows, columns) = len(volume.files), volume.shape
    box.check_within(rows, columns, count, f"{volume.series.patient}, {volume.series.folder}")
    if rows != columns and not settings.pad:
        raise SpurbenchError(
            f"Expected square slices, found {rows} x {columns} in {volume.series.folder}. Give --pad, or leave it out."
        )
    labels = label_slices(count, box, settings.buffer, half_open=not settings.closed)
    labels = labels[::-1] if volume.flipped else labels
    window, digest, written = limits(volume, settings.window), hashlib.sha256(), []
    for number, (file, label) in enumerate(zip(volume.files, labels.tolist(), strict=True), start=1):
        if label == BUFFER:
            continue
        image = picture(read_slice(file, volume.shape), window, settings.size, inverted=volume.inverted)
        name = f"1-{number:03d}-{stem}.png"
        image.save(folder / name, compress_level=COMPRESSION)
        digest.update(image.tobytes())
        written.append((name, number, label))
    return {
        "count": count,
        "slices": written,
        "pixels_sha256": digest.hexdigest(),
        "window": window,
        "box": as_row(flip_slices(box, count) if volume.flipped else box),
    }
