"""MetaShift, cat or dog: ``MetaShift-Cat-Dog-indoor-outdoor/{train,test}/{cat,dog}/{cat(indoor),...}``, or that folder itself.

The folders named train hold one place per class. As in SubpopBench the images of both are put together and partitioned anew,
with its shares (a quarter test, a tenth validation, unless asked otherwise), here by image number in a seeded order: one
photograph can be there as a cat and as a dog.

Source: Liang and Zou 2022, MetaShift, ICLR; the folders of SubpopBench (Yang et al. 2023, Change is hard, ICML).
Deviations: the draw of the partitions is another than SubpopBench's.
Tested on stand-ins with the same names of folders.
"""

from __future__ import annotations

import re
from pathlib import Path

from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import Preset, drawn
from robustbench_spur.types import SpurbenchError

FOLDER = "MetaShift-Cat-Dog-indoor-outdoor"
KIND = re.compile(r"(?:train|test)/(cat|dog)/\1\((indoor|outdoor)\)/([^/]+)\.jpg")
NOTE = (
    "Partitions are drawn anew over the folders named train and test, by image number; SubpopBench's draw is another."
)


def _folder(root: Path) -> Path:
    return root if root.name == FOLDER else root / FOLDER


def listed(root: Path) -> list[str]:
    """Names of the images, from the collection's folder, sorted."""
    folder = _folder(root)
    return sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*/*/*.jpg"))


def read(root: Path, asked: Asked) -> Listing:
    """Cat or dog, and where."""
    folder, files = _folder(root), listed(root)
    kinds = [KIND.fullmatch(file) for file in files]
    known = [kind for kind in kinds if kind is not None]
    if not files or len(known) < len(files):
        found = next((file for file, kind in zip(files, kinds, strict=True) if kind is None), "none")
        raise SpurbenchError(f"Expected images in {{train,test}}/cat/cat(indoor) and so on in {folder}, found {found}.")
    parts = drawn((kind[3] for kind in known), asked)
    rows = [
        Row(kind[0], kind[0], kind[1], kind[2], parts[kind[3]], kind[3], line) for line, kind in enumerate(known, 1)
    ]
    return Listing(rows, folder, folder, "place", ("dog", "cat"), ("outdoor", "indoor"), notes=(NOTE,))


PRESET = Preset(read, channels=3, mark=FOLDER, listed=listed)
