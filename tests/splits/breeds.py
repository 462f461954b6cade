"""A stand-in for the Spawrious folders, and the published table of its challenges."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustbench_spur.splits.spawrious import Spawrious, SpawriousParameters

CLASSES = ["bulldog", "corgi", "dachshund", "labrador"]
LOCATIONS = ["desert", "jungle", "dirt", "mountain", "snow", "beach"]
BREEDS = ("bulldog", "dachshund", "labrador", "corgi")

ONE_TO_ONE = {
    "o2o_easy": ("desert/jungle/dirt/snow", "beach", "dirt/snow/desert/jungle"),
    "o2o_medium": ("mountain/beach/dirt/jungle", "desert", "jungle/dirt/beach/snow"),
    "o2o_hard": ("jungle/mountain/snow/desert", "beach", "mountain/snow/desert/jungle"),
}
"""Training, filler and test backgrounds of bulldog/dachshund/labrador/corgi, from the published table."""

MANY_TO_MANY = {
    "m2m_easy": ("desert,mountain dirt,jungle", "dirt,jungle mountain,desert"),
    "m2m_medium": ("beach,snow mountain,desert", "desert,mountain beach,snow"),
    "m2m_hard": ("dirt,jungle snow,beach", "snow,beach dirt,jungle"),
}
"""Training backgrounds g0,g1 of bulldog and dachshund and g2,g3 of labrador and corgi; the same of the test."""

Cell = tuple[int, str, str, str]
"""Environment (2 for the test), folder, location, class."""


def expected(split: str) -> dict[Cell, int]:
    """Images of every cell where folders hold 100: 97 % and 87 % of them at a class's own background."""
    cells: dict[Cell, int] = {}
    if split in ONE_TO_ONE:
        train, filler, test = ONE_TO_ONE[split]
        for breed, own, other in zip(BREEDS, train.split("/"), test.split("/"), strict=True):
            cells |= {(0, "0", own, breed): 97, (0, "0", filler, breed): 3}
            cells |= {(1, "1", own, breed): 87, (1, "1", filler, breed): 13}
            cells |= {(2, "0", other, breed): 100, (2, "1", other, breed): 100}
        return cells
    train, test = MANY_TO_MANY[split]
    g0, g1, g2, g3 = train.replace(" ", ",").split(",")
    t0, t1, t2, t3 = test.replace(" ", ",").split(",")
    for breed, first, second in zip(BREEDS, (g0, g1, g2, g3), (g1, g0, g3, g2), strict=True):
        cells |= {(0, "0", first, breed): 100, (1, "0", second, breed): 100}
    for breed, both in zip(BREEDS, ((t0, t1), (t1, t0), (t2, t3), (t3, t2)), strict=True):
        cells |= {(2, "0", location, breed): 100 for location in both}
    return cells


def photograph(seed: int, side: int = 24) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, cell: str) -> Path:
    return root / "spawrious224" / cell


def write(root: Path, cells: list[str], count: int, name: str, content: bytes = b"") -> None:
    """``count`` files in each folder; ``name`` has the prompt, cycling through 72, and a number of its own.

    Empty ones are links to one file, which are quicker to make: only for reading.
    """
    root.mkdir(exist_ok=True)
    (root / "empty").write_bytes(b"")
    for cell in cells:
        folder(root, cell).mkdir(parents=True)
        for number in range(count):
            place = folder(root, cell) / name.format(prompt=number % 72, number=number)
            if content:
                place.write_bytes(content)
            else:
                place.hardlink_to(root / "empty")


def cells_of(*splits: str) -> list[str]:
    found = {f"{where}/{location}/{breed}" for split in splits for _, where, location, breed in expected(split)}
    return sorted(found)


def dataset(path: Path, **settings: Any) -> Spawrious:
    return Spawrious(SpawriousParameters(**{"limit": 100, **settings}), path)
