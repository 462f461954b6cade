"""Writes an archive of MedMNIST's form as a folder of PNG files with a table, for ``--data table=`` and ``--data injected=``.

    python benchmarks/npz_to_table.py pneumoniamnist.npz FOLDER --classes normal pneumonia
    spurbench run --split injected/tag@0.95 --data injected=FOLDER/rows.csv

``FOLDER/rows.csv`` has the columns path, label and split; there are no patients in these archives. Of byte-equal images one is
written, in the last of train, validation and test that has it, so that nothing scored was trained on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PARTITIONS = {"test": "test", "val": "validation", "train": "train"}
"""Prefix of the arrays in the archive, and what the split column says; in the order in which images are kept."""


def main() -> None:
    """Write the folder, which must not hold a table yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="npz with {train,val,test}_{images,labels}")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="in the order of the codes (default: the codes)")
    options = parser.parse_args()
    table = options.folder / "rows.csv"
    if table.exists():
        parser.error(f"expected no table yet, found {table}")
    with np.load(options.archive, allow_pickle=False) as archive:
        missing = [f"{part}_{what}" for part in PARTITIONS for what in ("images", "labels")]
        missing = [name for name in missing if name not in archive.files]
        if missing:
            parser.error(f"expected {', '.join(missing)} in {options.archive}, found {', '.join(archive.files)}")
        arrays = {part: (archive[f"{part}_images"], archive[f"{part}_labels"]) for part in PARTITIONS}
    highest = max(int(labels.max()) for _, labels in arrays.values())
    names = options.classes or [str(code) for code in range(highest + 1)]
    if len(names) <= highest:
        parser.error(f"expected a name for each of the codes 0 to {highest}, found {len(names)}")
    seen: set[bytes] = set()
    rows = [row for part, both in arrays.items() for row in write(part, *both, names, options.folder, seen)]
    with table.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, lineterminator="\n").writerows([("path", "label", "split"), *rows])
    total = sum(len(images) for images, _ in arrays.values())
    print(f"{len(rows)} images and {table}; {total - len(rows)} byte-equal ones left out")


def write(
    part: str, images: NDArray[Any], labels: NDArray[Any], names: list[str], folder: Path, seen: set[bytes]
) -> list[tuple[str, str, str]]:
    """Write the images of one set; returns their rows.

    Args:
        part: prefix of the arrays' names.
        images: uint8, shape (n, height, width) or (n, height, width, 3).
        labels: codes, shape (n,) or (n, 1).
        names: of the classes.
        folder: where to.
        seen: hashes of what was written before; those of this set are added.
    """
    colour = images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour) or labels.size != len(images):
        raise SystemExit(
            f"Expected 8-bit images with one label each in {part}, found {images.shape} and {labels.shape}."
        )
    (folder / part).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (image, code) in enumerate(zip(images, labels.reshape(-1).tolist(), strict=True)):
        digest = hashlib.sha256(image.tobytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        path = f"{part}/{number:06d}.png"
        Image.fromarray(image).save(folder / path)
        rows.append((path, names[code], PARTITIONS[part]))
    return rows


if __name__ == "__main__":
    main()
