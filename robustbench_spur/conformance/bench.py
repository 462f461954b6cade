"""A draft dataset for the kit: tiny images in which a row of pixels tells the label and a brighter column the attribute.

Source: made up. Registered by its file alone, as a draft.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robustbench_spur import Dataset, Groups, Partition, SplitParameters, SplitTable

SIZES = {"train": 64, "validation": 32, "adapt": 32, "test": 24}
RARE = 4
"""Rows of the training set whose class is rare, so that most batches have one class only."""


class BenchParameters(SplitParameters):
    """Settings of the bench."""

    poisoned: bool = Field(False, description="whether labels and attributes of the test partition are wrong")


class Bench(Dataset):
    """Splits that are hard on a method: a group of one, a rare class, empty groups, three classes with five values."""

    name = "conformance_bench"
    version = 1
    summary = "tiny images for the conformance kit"
    splits: ClassVar = {
        "plain": "two classes, two values; one class is rare, and one group of training has one example",
        "tied": "two classes, two values; two groups of training and validation are empty",
        "wide": "three classes, five values",
    }
    embedded = True
    image_size = 10
    channels = 1
    augmentations = ("horizontal_flip", "shift")
    Parameters = BenchParameters

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows: a patient has two slices with label and attribute in common."""
        classes, values = (3, 5) if split == "wide" else (2, 2)
        parts = {name: self._rows(split, name, size, classes, values) for name, size in SIZES.items()}
        names = tuple(f"c{k}" for k in range(classes)), tuple(f"v{k}" for k in range(values))
        return SplitTable(Groups(names[0], "site", names[1]), parts)

    def _rows(self, split: str, name: str, size: int, classes: int, values: int) -> Partition:
        place = np.arange(size) // 2
        labels, attributes = place % classes, place // classes % values
        if split == "plain" and name == "train":
            labels = np.where(np.arange(size) < RARE, 1, 0)
            attributes = np.where(labels == 1, 1, place % 2)
            attributes[0] = 0  # the only example of its group
        if split == "tied" and name in ("train", "validation"):
            attributes = labels.copy()
        if name == "test" and self.parameters.poisoned:
            labels, attributes = (labels + 1) % classes, (attributes + 1) % values
        ids = np.array([f"{name}{i}" for i in range(size)], dtype=np.str_)
        # the one example of a group is a patient of its own
        clusters = np.array([f"{name}p{i if split == 'plain' else i // 2}" for i in range(size)], dtype=np.str_)
        return Partition(ids, labels.astype(np.int64), attributes.astype(np.int64), clusters)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """One block of images. What they show follows from the ids, not from labels that may be poisoned."""
        classes, values = (3, 5) if split == "wide" else (2, 2)
        seed = [ord(letter) for letter in str(partition.ids[0])]
        images = np.random.default_rng(seed).integers(0, 60, (len(partition), 1, size, size))
        test = str(partition.ids[0]).startswith("test")
        for row, image in enumerate(images):
            label, value = int(partition.labels[row]), int(partition.attributes[row])
            if test:
                label, value = row // 2 % classes, row // 2 // classes % values
            image[:, 1 + 2 * label, :] += 60
            image[:, :, 1 + value] += 120
        yield images.astype(np.uint8)
