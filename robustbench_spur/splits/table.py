"""Any table of images as a data set: a CSV, TSV or Parquet file with a column each for path, label, attribute and split.

``--data table=FILE --columns path=file label=diagnosis``, or a small TOML, named in the table's place, which says the same
and more (``--data table=FILE.toml``)::

    table = "rows.csv"
    images = "pictures"            # the table's own folder unless given
    attribute = "scanner"          # name of the attribute; that of its column unless given
    classes = ["clear", "tumour"]  # in the order of their codes; sorted unless given
    [columns]
    path = "file"
    patient = "patient_id"
    [split]                        # what the split column says, by our names
    train = "0"
    validation = ["1", "dev"]
    test = "2"
    ignore = "unused"

Presets read the folders of known collections as their owners ship them; each of :mod:`robustbench_spur.splits.tabular.presets`
says what it has been tested on. Pictures of any kind and size are read by :mod:`robustbench_spur.pictures`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import parameter
from robustbench_spur.pictures import picture_channels, read_picture
from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Dataset, Inventory, SplitParameters
from robustbench_spur.splits.files import check_size, check_split, read_blocks, refuse, refuse_rho, stream
from robustbench_spur.splits.tabular.coding import code
from robustbench_spur.splits.tabular.description import NO_PATIENTS, Description, describe, listed
from robustbench_spur.splits.tabular.listing import Asked, Listing
from robustbench_spur.splits.tabular.own import read_own
from robustbench_spur.splits.tabular.presets import contents, read_preset, usual_channels
from robustbench_spur.types import Partition, SplitTable, SpurbenchError

OWN = "own"
Reader = Callable[[Path], NDArray[np.uint8]]


class TableParameters(SplitParameters):
    """How to read the table; what is given here counts more than the TOML beside it."""

    path_column: str = parameter("", "column of the image files; 'path' unless given")
    label_column: str = parameter("", "column of the class; 'label', or a preset's own, unless given")
    attribute_column: str = parameter("", "column of the attribute; 'attribute', or a preset's own, unless given")
    split_column: str = parameter("", "column of the partition; 'split' unless given")
    patient_column: str = parameter("", "column of the patient; 'patient' where there is one; - for none")
    split_names: str = parameter("", "what the split column says, such as 0:train,1:validation,2:test,3:ignore")
    image_root: str = parameter("", "folder that the paths start from; the table's unless given")
    classes: str = parameter("", "names of the classes in the order of their codes, with commas; sorted unless given")
    values: str = parameter("", "the same for the attribute's values")
    channels: int = parameter(0, "1 for grey, 3 for colour, 0 as the first training image", at_least=0, at_most=3)
    full_scale: int = parameter(0, "value of a 16-bit image that becomes white; 0 for 65535", at_least=0)
    uncertain: Literal["leave_out", "present", "absent"] = parameter("leave_out", "CheXpert's and MIMIC-CXR's label -1")
    views: Literal["frontal", "all"] = parameter("frontal", "radiographs of CheXpert and MIMIC-CXR")
    validation_share: float = parameter(0.1, "of patients, where a preset's owners give none", above=0, below=0.5)
    test_share: float = parameter(0.25, "of patients, where a preset's owners give none", above=0, below=0.5)
    adapt_share: float = parameter(
        0.0, "of validation's patients, who make up adapt where the table names none", at_least=0, below=1
    )
    seed: int = parameter(2025, "of these draws; not the seed of training", at_least=0)


class Table(Dataset):
    """Reads the user's table, or a known collection; see the module's docstring."""

    name = "table"
    version = 1
    summary = (
        "Any table of images: path, label, attribute, split and perhaps patient; and known collections as shipped."
    )
    splits: ClassVar[Mapping[str, str]] = {
        "own": "your own table, with the partitions that its split column names",
        "waterbirds": "Waterbirds: bird and background (metadata.csv)",
        "celeba": "CelebA: blond hair and sex (list_attr_celeba, list_eval_partition)",
        "metashift": "MetaShift: cat or dog, indoor or outdoor (SubpopBench's folders, partitioned anew)",
        "chexpert": "CheXpert: a finding and the sex (train.csv, partitioned by patient)",
        "mimic_cxr": "MIMIC-CXR-JPG: a finding and the view position or the sex",
        "cxr14": "ChestX-ray14: a finding and the sex or the view position (Data_Entry_2017)",
        "camelyon17": "Camelyon17 of WILDS: tumour and hospital (metadata.csv)",
    }
    aliases: ClassVar[Mapping[str, str]] = {}
    tied = ()
    image_size = 224
    image_sizes = ()
    augmentations = ()
    source = "the user's table, or the owners of the collection"
    licence = "that of the collection"
    Parameters = TableParameters
    needs_attribute: bool = True
    """Whether the attribute is read; an own table must then have a column of it."""

    @cached_property
    def channels(self) -> int:  # type: ignore[override]  # known only once the table is read
        """1 or 3: as asked for; else as the first training image of an own table, and as a known collection has them.

        Raises:
            SpurbenchError: that image is missing or unreadable.
        """
        given = self.parameters.channels
        if given == 2:
            raise SpurbenchError("Expected channels 1 for grey or 3 for colour, found 2. Say --split-set channels=1")
        if not given and self._place.is_dir():
            return usual_channels(self._place)
        return given or self._description.channels or self._first_channels()

    def _first_channels(self) -> int:
        listing = self.listing(OWN)
        first = next((row for row in listing.rows if row.partition == "train"), None)
        if first is None:
            raise SpurbenchError(f"Expected an image of train in {listing.place}, found none.")
        if not (listing.images / first.file).exists():
            raise SpurbenchError(
                f"Expected the first training image at {listing.images / first.file}, found nothing (row {first.line} of"
                f" {listing.place}). Say where the paths start: --split-set image_root=FOLDER"
            )
        return picture_channels(listing.images / first.file)

    @cached_property
    def _place(self) -> Path:
        return Path(self.path or "").absolute()

    @cached_property
    def _listings(self) -> dict[str, Listing]:
        return {}

    @cached_property
    def _description(self) -> Description:
        return describe(self._place, self.parameters)

    def listing(self, split: str) -> Listing:
        """The rows in text, read once.

        Args:
            split: one of :attr:`splits`.

        Raises:
            SpurbenchError: what is needed is missing, damaged or in another layout.
        """
        if split not in self._listings:
            self._listings[split] = self._read(split)
        return self._listings[split]

    def _read(self, split: str) -> Listing:
        asked = self.parameters
        if split == OWN:
            said = self._description
            return read_own(self._place.parent, said, need_attribute=self.needs_attribute)
        found = read_preset(
            split,
            self._place,
            Asked(
                label=asked.label_column,
                attribute=asked.attribute_column,
                patients=asked.patient_column != NO_PATIENTS,
                uncertain=asked.uncertain,
                frontal=asked.views == "frontal",
                validation_share=asked.validation_share,
                test_share=asked.test_share,
                seed=asked.seed,
            ),
        )
        classes, values = listed(asked.classes) or found.classes, listed(asked.values) or found.values
        return replace(found, classes=classes, values=values)

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        if self._place.is_dir():
            files = contents(self._place)
        else:
            table = self._place.parent / self._description.table
            files = ((path.name, _content(path)) for path in dict.fromkeys((self._place, table)))
        for name, content in files:
            digest.update(f"\n{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """sha256 of the table and of the TOML beside it; of a folder, of all tables that presets know in it.

        The images are not read. Those of an own table are noticed to have changed by their size, which is part of the rows.

        Raises:
            SpurbenchError: the table is missing.
        """
        return self._fingerprint

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a split, in the order of the table.

        The extra columns are ``file``, the path of the image, and, of an own table, ``bytes``, its size.

        Args:
            split: one of :attr:`splits`.
            rho: None: the data are as they are.

        Raises:
            SpurbenchError: rho is given; anything is missing, mixed or contradictory; the first fault is named.
        """
        split = check_split(self, split)
        refuse_rho(self, split, rho, "it is as it is")
        return checked(self.inventory(split, rho), self.listing(split).place)

    def inventory(self, split: str, rho: float | None) -> Inventory:
        """The rows with all that is wrong with them; those without a known label, or seen before, are left out."""
        found = code(self.listing(check_split(self, split)), with_attribute=self.needs_attribute)
        share, rows = self.parameters.adapt_share, dict(found.rows)
        if not share or "adapt" in rows or "validation" not in rows:
            return found
        rows["validation"], rows["adapt"] = divided(rows["validation"], share, self.parameters.seed)
        note = f"Adapt is drawn from validation by patient: {len(rows['adapt'])} images."
        return replace(found, rows=rows, notes=(note, *found.notes))

    def files(self, split: str, partition: Partition) -> list[Path]:
        """The image behind each row, in row order."""
        images = self.listing(check_split(self, split)).images
        return [images / file for file in partition.extra["file"].tolist()]

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images as 8-bit squares, by several threads; see :func:`~robustbench_spur.pictures.read_picture`.

        Args:
            split: one of :attr:`splits`.
            partition: rows of :meth:`table`.
            size: height and width in pixels, any.

        Yields:
            uint8, shape (at most 256, channels, size, size).

        Raises:
            SpurbenchError: an image is missing or unreadable; the message names it.
        """
        check_size(self, size)
        said = self.parameters if self._place.is_dir() else self._description
        read: Reader = partial(read_picture, channels=self.channels, size=size, full_scale=said.full_scale or None)
        if self.channels == 1 and not said.channels and not self._place.is_dir():
            read = partial(_read_grey, read)
        yield from read_blocks(self.files(split, partition), read)


def checked(found: Inventory, place: Path) -> SplitTable:
    """The rows, where nothing is wrong with them.

    Args:
        found: with its faults.
        place: of the table, for messages.

    Raises:
        SpurbenchError: the first fault, or partitions that are missing or share a patient.
    """
    refuse([fault for faults in found.faults.values() for fault in faults])
    try:
        return SplitTable(found.groups, found.rows, found.notes)
    except SpurbenchError as error:
        raise SpurbenchError(f"{error} ({place})") from None


def divided(part: Partition, share: float, seed: int) -> tuple[Partition, Partition]:
    """A partition without, and the rows of, a share of its patients, the first of them in a seeded order."""
    patients = np.unique(part.clusters)
    order = stream(seed, "adapt").permutation(len(patients))
    taken = np.isin(part.clusters, patients[order[: round(share * len(patients))]])
    return part.take(~taken), part.take(taken)


def _content(path: Path) -> bytes:
    with reading(path, "a table"):
        return path.read_bytes()


def _read_grey(read: Reader, path: Path) -> NDArray[np.uint8]:
    """A picture of a table whose first is grey: colour is not dropped without being asked.

    Raises:
        SpurbenchError: it is in colour.
    """
    if picture_channels(path) == 3:
        raise SpurbenchError(
            f"Expected grey as in the table's first training image, found colour in {path}."
            " Say which is meant: --split-set channels=1 or 3"
        )
    return read(path)
