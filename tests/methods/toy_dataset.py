"""A dataset plugin for tests: 10-pixel images in which a row of pixels tells the label and a brighter column the attribute.

Source: made up.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import Dataset, Groups, Partition, SplitTable
from robustbench_spur.splits.base import tied_attributes

SIZES = {"train": 64, "validation": 24, "adapt": 60, "test": 30}


class Toy(Dataset):
    """Two splits: two classes tied to two values, and three classes with five values, untied."""

    name = "toy"
    version = 1
    summary = "tiny images for tests"
    splits: ClassVar = {"tied": "two groups are rare", "wide": "three classes, five values"}
    tied = ("tied",)
    embedded = True
    image_size = 10
    channels = 1
    augmentations = ("horizontal_flip", "shift")

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of both splits: every image a patient of its own."""
        classes, values = (2, 2) if rho is not None else (3, 5)
        rng = np.random.default_rng(7)
        parts = {}
        for name, size in SIZES.items():
            place = np.arange(size)
            labels, attributes = place % classes, place // classes % values
            if rho is not None and name in ("train", "validation"):
                attributes = tied_attributes(labels, rho, rng)
            ids = np.array([f"{name}{i}" for i in range(size)], dtype=np.str_)
            parts[name] = Partition(ids, labels.astype(np.int64), attributes.astype(np.int64), ids)
        names = tuple(f"c{k}" for k in range(classes)), tuple(f"v{k}" for k in range(values))
        return SplitTable(Groups(names[0], "site", names[1]), parts)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """One block of images; the noise follows from the ids."""
        seed = [ord(letter) for letter in str(partition.ids[0])]
        images = np.random.default_rng(seed).integers(0, 60, (len(partition), 1, size, size))
        for image, label, attribute in zip(images, partition.labels, partition.attributes, strict=True):
            image[:, 1 + 2 * label, :] += 60
            image[:, :, 1 + attribute] += 120
        yield images.astype(np.uint8)
