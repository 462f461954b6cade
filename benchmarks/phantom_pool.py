"""Writes a pool of phantom patients, images and a table, for ``spurbench curate scan``: a planted shortcut among decoys.

    python benchmarks/phantom_pool.py FOLDER [--patients 400] [--slices 4] [--size 128]

``FOLDER/patients.csv`` has a row per patient:

- ``field_strength`` is tied to the label (nine of ten patients) and can be seen: the planted shortcut;
- ``ward`` is tied just as closely, and nothing in the image shows it;
- ``rotated`` can be seen, and is not tied;
- ``scanner`` follows the field strength; ``age`` is a little higher with tumour;
- ``room`` (40 values) and ``accession`` (one per patient) are random.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from robustbench_spur.phantom.cohort import plan_slices
from robustbench_spur.phantom.render import Slices, render

SEED = 2025
COLUMNS = ("patient", "tumour", "field_strength", "ward", "rotated", "scanner", "age", "room", "accession")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    (options.folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    numbers = np.arange(options.patients)
    label = rng.permutation(numbers % 2)
    tesla, rotated = np.where(_tied(label, rng), 1.5, 3.0), rng.random(options.patients) < 0.5
    ward = np.where(_tied(label, rng), "B", "A")
    scanner = np.where(rng.random(options.patients) < 0.9, np.where(tesla == 3, "Verio", "Avanto"), "Sola")
    age = rng.normal(56 + 3 * label, 11).round()
    with (options.folder / "patients.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for n in numbers.tolist():
            tumour = "yes" if label[n] else "no"
            room, accession = f"R{rng.integers(40):02d}", f"A{rng.integers(10**6):06d}-{n}"
            writer.writerow((f"P{n:04d}", tumour, tesla[n], ward[n], rotated[n], scanner[n], age[n], room, accession))
    plan = plan_slices(SEED, numbers, options.slices * label, options.slices * (1 - label))
    slices = Slices(plan.row, plan.z, tesla[plan.row], rotated[plan.row])
    for place, image in enumerate(render(SEED, slices, options.size)):
        patient = int(plan.row[place])
        Image.fromarray(image).save(options.folder / "images" / f"1-{place % options.slices:02d}-P{patient:04d}.png")


def _tied(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which patients have the value of the label's class 1: nine of ten of each class as the label says."""
    return (label == 1) ^ (rng.random(len(label)) < 0.1)


if __name__ == "__main__":
    main()
