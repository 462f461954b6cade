"""Shortcuts injected into anybody's images: the rows of ``table``, with a mark of known strength tied to the label.

It shows how an architecture cheats on one's own data, where what the images hold of themselves is the same with and without.
The rows are those of ``table/own``, or of a known collection where ``collection`` names one. An attribute that they have is
not read. Of the images of each class in train and validation, a share rho has the attribute that is aligned with it:
``present`` for the classes in ``present_for``, ``absent`` for the others. In the other partitions half of each class has it.

The attribute is drawn for the images of one patient with one label together, and the shares count such pairs. A patient with
images of both labels may so have both values: the mark is put in afterwards and tells nothing of the patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import parameter
from robustbench_spur.splits.base import Dataset, Inventory, SplitParameters, tied_attributes
from robustbench_spur.splits.files import blocks, check_rho, check_split, stream
from robustbench_spur.splits.table import Table, TableParameters, checked
from robustbench_spur.splits.tabular import marks
from robustbench_spur.splits.tabular.description import listed
from robustbench_spur.splits.tabular.marks import Images
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError, nearest


class InjectedParameters(SplitParameters):
    """How to read the table (as for ``table``), what is injected, and how strongly."""

    collection: str = parameter("own", "split of ``table`` whose rows are taken: your own table, or celeba and so on")
    path_column: str = parameter("", "column of the image files; 'path' unless given")
    label_column: str = parameter("", "column of the class; 'label', or the collection's own, unless given")
    split_column: str = parameter("", "column of the partition; 'split' unless given")
    patient_column: str = parameter("", "column of the patient; 'patient' where there is one; - for none")
    split_names: str = parameter("", "what the split column says, such as 0:train,1:validation,2:test,3:ignore")
    image_root: str = parameter("", "folder that the paths start from; the table's unless given")
    classes: str = parameter("", "names of the classes in the order of their codes, with commas; sorted unless given")
    channels: int = parameter(0, "1 for grey, 3 for colour, 0 as the first training image", at_least=0, at_most=3)
    full_scale: int = parameter(0, "value of a 16-bit image that becomes white; 0 for 65535", at_least=0)
    present_for: str = parameter("", "classes that it is tied to, with commas; those of odd code unless given")
    adapt_per_group: int = parameter(
        60, "images of each group in adapt, drawn from train by whole patients", at_least=0
    )
    seed: int = parameter(2025, "of the draws and of the noise; not the seed of training", at_least=0)
    tag_size: float = parameter(0.1, "side of the tag, as a share of the image's", above=0, at_most=0.5)
    tag_value: int = parameter(255, "grey value of the tag", at_least=0, at_most=255)
    border_width: float = parameter(0.04, "width of the border, as a share of the side", above=0, at_most=0.25)
    border_value: int = parameter(255, "grey value of the border", at_least=0, at_most=255)
    intensity_gain: float = parameter(1.2, "factor of all values", above=0, at_most=4)
    intensity_offset: float = parameter(0.05, "added to all values, as a share of white", at_least=-1, at_most=1)
    noise_sigma: float = parameter(0.06, "standard deviation of the noise, as a share of white", above=0, at_most=1)


class Injected(Dataset):
    """The user's own images with an injected attribute; see the module's docstring."""

    name = "injected"
    version = 1
    summary = "Your own table of images, with a shortcut of known strength injected."
    splits: ClassVar[Mapping[str, str]] = {
        "tag": "a square in the upper left corner, such as a marker, is tied to the label",
        "border": "a frame along the edges is tied to the label",
        "intensity": "brighter values are tied to the label",
        "noise": "added noise is tied to the label",
        "orientation": "the orientation, turned by 180 degrees, is tied to the label",
    }
    aliases: ClassVar[Mapping[str, str]] = {}
    tied = ("tag", "border", "intensity", "noise", "orientation")
    image_size = 224
    image_sizes = ()
    augmentations = ()
    source = "the user's table"
    licence = "that of the images"
    Parameters = InjectedParameters

    @cached_property
    def _source(self) -> Table:
        shared = type(self.parameters).model_fields.keys() & TableParameters.model_fields.keys() - {"seed"}
        source = Table(TableParameters(**{name: getattr(self.parameters, name) for name in shared}), self.path)
        source.needs_attribute = False
        return source

    @cached_property
    def _rows(self) -> str:
        """The split of the source whose rows are taken."""
        return check_split(self._source, self.parameters.collection)

    @cached_property
    def channels(self) -> int:  # type: ignore[override]  # known only once the table is read
        """Those of the user's images; see :attr:`Table.channels`."""
        return self._source.channels

    def fingerprint(self) -> str:
        """That of the table; see :meth:`Table.fingerprint`."""
        return self._source.fingerprint()

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split, in the order of the table. The draws are the same for all splits and nested in rho.

        Where the table names no adapt partition, it is drawn from train by whole patients, until it has twice
        ``adapt_per_group`` images of every class.

        Args:
            split: one of :attr:`splits`.
            rho: share of patients per class, in train and validation, with the value that is aligned with it.

        Raises:
            SpurbenchError: no such rho; anything wrong with the table; too few images for adapt.
        """
        return checked(self.inventory(split, rho), self._source.listing(self._rows).place)

    def inventory(self, split: str, rho: float | None) -> Inventory:
        """The rows with all that is wrong with the table."""
        split = check_split(self, split)
        rho = check_rho(self, split, rho)
        found = self._source.inventory(self._rows, None)
        classes, rows, notes = found.groups.classes, dict(found.rows), list(found.notes)
        if "adapt" not in rows and self.parameters.adapt_per_group and "train" in rows:
            rows["train"], rows["adapt"] = self._draw_adapt(rows["train"], classes)
            notes.append(f"Adapt is drawn from train by patient: {len(rows['adapt'])} images.")
        aligned = self._aligned(classes)
        tied_to = ", ".join(name for name, value in zip(classes, aligned.tolist(), strict=True) if value)
        notes.append(
            f"Injected {split} is present for {tied_to}; shares count the images of a patient and label as one."
        )
        made = {name: replace(part, attributes=self._draw(name, part, aligned, rho)) for name, part in rows.items()}
        return Inventory(made, Groups(classes, f"injected {split}", ("absent", "present")), found.faults, tuple(notes))

    def _aligned(self, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """The attribute that is aligned with each class, 0 or 1, shape (classes,)."""
        if not self.parameters.present_for:
            return np.arange(len(classes), dtype=np.int64) % 2
        named = listed(self.parameters.present_for)
        unknown = next((name for name in named if name not in classes), None)
        if unknown is not None:
            raise SpurbenchError(
                f"Expected present_for among the classes, found {unknown!r}. {nearest(unknown, classes)}"
            )
        if set(named) == set(classes):
            raise SpurbenchError("Expected present_for without one class at least, found all of them. Drop one.")
        return np.array([name in named for name in classes], np.int64)

    def _draw_adapt(self, train: Partition, classes: tuple[str, ...]) -> tuple[Partition, Partition]:
        """Train without, and the images of, patients in a seeded order who have an image of a class that is still short."""
        wanted = 2 * self.parameters.adapt_per_group
        patients, owner = np.unique(train.clusters, return_inverse=True)
        counts = np.zeros((len(patients), len(classes)), np.int64)
        np.add.at(counts, (owner, train.labels), 1)
        have, taken = np.zeros(len(classes), np.int64), np.zeros(len(patients), np.bool_)
        for patient in stream(self.parameters.seed, "adapt").permutation(len(patients)).tolist():
            if (counts[patient, have < wanted] > 0).any():
                have += counts[patient]
                taken[patient] = True
        left = counts[~taken].sum(0)
        short = next((n for n in range(len(classes)) if have[n] < wanted or not left[n]), None)
        if short is not None:
            there, images = int((counts[:, short] > 0).sum()), int(counts[:, short].sum())
            fewer = max(1, images // 8)
            raise SpurbenchError(
                f"Expected more than {wanted} training images of class {classes[short]!r}, of which adapt takes"
                f" {wanted // 2} for each of its groups, found {images} of {there} patients in {self.path}."
                f" Take fewer: --split-set adapt_per_group={fewer}, or 0 for no adapt."
            )
        return train.take(~taken[owner]), train.take(taken[owner])

    def _draw(self, name: str, part: Partition, aligned: NDArray[np.int64], rho: float) -> NDArray[np.int64]:
        """The attribute of each row: one draw per patient and label, tied in train and validation, balanced elsewhere."""
        owner = np.unique(part.clusters, return_inverse=True)[1]
        units, unit = np.unique(owner * len(aligned) + part.labels, return_inverse=True)
        labels, values = units % len(aligned), np.zeros(len(units), np.int64)
        share = rho if name in ("train", "validation") else 0.5
        for label, value in enumerate(aligned.tolist()):
            mine = labels == label
            random = stream(self.parameters.seed, f"{name} class {label}")
            values[mine] = tied_attributes(np.full(int(mine.sum()), value), share, random)
        return values[unit]

    def files(self, split: str, partition: Partition) -> list[Path]:
        """The image behind each row, in row order: without what is injected."""
        check_split(self, split)
        return self._source.files(self._rows, partition)

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[Images]:
        """The images at their final size, with the split's mark where the attribute is 1.

        Args:
            split: one of :attr:`splits`.
            partition: rows of :meth:`table`; their attributes decide about the mark.
            size: height and width in pixels, any.

        Yields:
            uint8, shape (at most 256, channels, size, size); the same image whatever else is in the block.

        Raises:
            SpurbenchError: an image is missing or unreadable; the message names it.
        """
        split = check_split(self, split)
        found = self._source.pixels(self._rows, partition, size)
        for block, images in zip(blocks(len(partition)), found, strict=True):
            marked = partition.attributes[block] == 1
            if marked.any():
                images[marked] = self._mark(split, images[marked], partition.ids[block][marked].tolist())
            yield images

    def _mark(self, split: str, images: Images, ids: Sequence[str]) -> Images:
        how = self.parameters
        match split:
            case "tag":
                return marks.tag(images, how.tag_size, how.tag_value)
            case "border":
                return marks.border(images, how.border_width, how.border_value)
            case "intensity":
                return marks.intensity(images, how.intensity_gain, how.intensity_offset)
            case "noise":
                return marks.noise(images, ids, how.noise_sigma, how.seed)
            case _:
                return marks.turned(images)

    def counterfactual(self, split: str, partition: Partition, size: int) -> Iterator[Images]:
        """The same images with the other attribute: marked where they were not, and the other way round.

        Arguments, blocks and errors are those of :meth:`pixels`.
        """
        yield from self.pixels(split, replace(partition, attributes=1 - partition.attributes), size)

    def scenes(self, split: str) -> dict[str, str]:
        """See :meth:`Dataset.scenes`."""
        split = check_split(self, split)
        return {"counterfactual": f"the same images with injected {split} where it was absent, without where present"}

    def scene(self, name: str, split: str, partition: Partition, size: int) -> Iterator[NDArray[Any]]:
        """See :meth:`Dataset.scene`."""
        offered = name == "counterfactual"
        return self.counterfactual(split, partition, size) if offered else super().scene(name, split, partition, size)
