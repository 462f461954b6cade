"""Measure how long the images of a collection of SpurBreast's size take to be ready: the whole command, from outside.

Run it with ``python benchmarks/prepare.py``. It writes a stand-in of the released field-strength split into a temporary
folder (19,926 greyscale PNGs of 320 x 320 pixels of about 45 kB each, and the coded spreadsheet; 0.9 GB, and 2 GB for the
prepared images), runs ``spurbench data prepare`` on it in a fresh home, and prints Markdown rows for benchmarks/README.md.

The files were written just before, so that most come from the system's cache, not from the disk.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 320
DISTINCT = 200
"""Pictures that differ; the files repeat them, which costs the same to read and much less to write."""
NOISE = 3.5
"""Standard deviation of the noise inside the body, in grey levels: it makes the files 45 kB long."""


@dataclass(frozen=True)
class Cell:
    """Slices of one folder and one field strength, as audited in the released split.

    Args:
        folder: partition and label.
        code: of the field strength in the spreadsheet: 1 for 1.5 T, 3 for 3 T.
        slices: number of files.
        first: number of the first patient.
        patients: number of them.
    """

    folder: str
    code: int
    slices: int
    first: int
    patients: int


CELLS = (
    Cell("training/0", 3, 4781, 1, 200),
    Cell("training/1", 1, 4781, 201, 200),
    Cell("validation/0", 3, 1788, 401, 75),
    Cell("validation/1", 1, 1788, 476, 75),
    Cell("test/0", 1, 1684, 551, 71),
    Cell("test/0", 3, 1710, 622, 79),
    Cell("test/1", 1, 1394, 551, 71),
    Cell("test/1", 3, 2000, 622, 79),
)
RELEASED = sum(cell.slices for cell in CELLS)


def pictures(rng: np.random.Generator, count: int) -> list[bytes]:
    """PNG files of ellipses with a smooth inside, noise, and air around that is nearly black."""
    return [_png(_slice(rng)) for _ in range(count)]


def _slice(rng: np.random.Generator) -> NDArray[np.uint8]:
    row, column = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    width, height = rng.uniform(0.75, 0.9, 2)
    body = (row / height) ** 2 + (column / width) ** 2 < 1
    smooth = 110 + 40 * np.sin(rng.uniform(2, 6) * row + rng.uniform(0, 6)) * np.cos(rng.uniform(2, 6) * column)
    values = np.where(body, smooth + rng.normal(0, NOISE, row.shape), np.abs(rng.normal(0, 1, row.shape)))
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_release(root: Path, count: int) -> tuple[int, int]:
    """Write folders and spreadsheet; patients get slices in turn.

    Args:
        root: new folder.
        count: about so many slices, in the proportions of the released split.

    Returns:
        Number of slices, and bytes of all of them.
    """
    contents = pictures(np.random.default_rng(0), min(DISTINCT, count))
    written = total = 0
    codes: dict[int, int] = {}
    for name, patient, code in _names(count):
        path, content = root / "field_strength" / name, contents[written % len(contents)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        codes[patient] = code
        written, total = written + 1, total + len(content)
    write_spreadsheet(root, codes)
    return written, total


def _names(count: int) -> Iterator[tuple[str, int, int]]:
    """File below the split's folder, patient, code of the field strength."""
    for cell in CELLS:
        slices = max(1, round(cell.slices * count / RELEASED))
        for number in range(slices):
            patient = cell.first + number % cell.patients
            place = 1 + number // cell.patients + (100 if cell.folder.endswith("1") else 0)
            yield f"{cell.folder}/1-{place:03d}-{patient}.png", patient, cell.code


def write_spreadsheet(root: Path, codes: dict[int, int]) -> None:
    """The columns that the loader joins by, below three header rows: section, column, coding."""
    import pandas

    rows: list[list[object]] = [
        ["Patient Information", "MRI Technical Information"],
        ["Patient ID", "Field Strength (Tesla)"],
        [None, "1.494=0,1.5=1,2.8936=2,3=3"],
        *([f"Breast_MRI_{patient:03d}", code] for patient, code in sorted(codes.items())),
    ]
    path = root / "Clinical_and_Other_Features.xlsx"
    pandas.DataFrame(rows).to_excel(path, sheet_name="Data", header=False, index=False)


@dataclass(frozen=True)
class Cost:
    """What a command took: wall seconds, CPU seconds of its process tree, and its peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


def prepare(home: Path, data: Path, size: int) -> Cost:
    """Run ``spurbench data prepare`` in a home of its own, and measure it from outside.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    environment = {**os.environ, "SPURBENCH_HOME": str(home)}
    program = "import sys; from robustbench_spur.cli import main; sys.exit(main())"
    verb = ["data", "prepare", "spurbreast/field", "--data", f"spurbreast={data}", "--image-size", str(size)]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", program, *verb]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(f"{ended.stdout}{ended.stderr}The command ended with exit code {ended.returncode}.")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return Cost(wall, cpu, after.ru_maxrss * unit)


def row(what: str, cost: Cost, note: str) -> None:
    """Print a Markdown row."""
    print(f"| {what} | {cost.wall:.1f} | {cost.cpu:.1f} | {note} |", flush=True)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=RELEASED, help="about so many slices (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=SIDE, help="of the prepared images, in pixels (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.count < len(CELLS):
        parser.error(f"expected --count of at least {len(CELLS)}, found {options.count}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        written, total = write_release(place / "data", options.count)
        what = f"`data prepare spurbreast/field` at {options.size} pixels: {written:,} slices of {total / written / 1e3:.0f} kB"
        print("| what | wall s | CPU s | |\n|---|---|---|---|", flush=True)
        cost = prepare(place / "home", place / "data", options.size)
        memory = f"peak memory {cost.memory / 1e9:.2f} GB"
        row(what, cost, f"{written / cost.wall:.0f} images per second on {cores()} cores, {memory}")
        row("the same again", prepare(place / "home", place / "data", options.size), "finds the images there")


if __name__ == "__main__":
    main()
