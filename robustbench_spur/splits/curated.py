"""A split that ``spurbench curate split`` drew: a folder with ``split.json``, a list of rows per rho, and images beside it.

``split.json`` says what the classes and the attribute are, how the rows were drawn, and the hash of every list. Each
``rows-RHO.csv`` has the columns ``partition,id,file,label,attribute,patient,position``; the files are named from the folder
``images`` of the description, which is relative to the split's own: move the two together. Images are greyscale or colour,
of any size.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustbench_spur.pictures import read_picture
from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Dataset, SplitParameters
from robustbench_spur.splits.files import check_rho, check_size, check_split, read_blocks
from robustbench_spur.types import PARTITIONS, Groups, Partition, SplitTable, SpurbenchError, nearest

COLUMNS = ["partition", "id", "file", "label", "attribute", "patient", "position"]
ABSENT = -1
"""Size of an image that is not there: rows can be planned with before the images have come."""


class Listed(BaseModel):
    """What the description says about one list of rows."""

    model_config = ConfigDict(frozen=True, strict=True)

    file: str = Field(pattern=r"^[^/\\]+\.csv$", description="name, in the split's folder")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its bytes")


class Description(BaseModel):
    """What the reader uses of ``split.json``; how the split was drawn stands there too."""

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[1]
    name: str
    classes: tuple[str, ...] = Field(min_length=2, max_length=2)
    attribute: str
    values: tuple[str, ...] = Field(min_length=2, max_length=2)
    channels: Literal[1, 3]
    images: str = Field(description="folder of the images, relative to the split's")
    notes: tuple[str, ...] = ()
    tables: dict[str, Listed] = Field(min_length=1, description="lists of rows, by rho")


class Curated(Dataset):
    """Reads what ``spurbench curate split`` wrote; nothing is drawn here."""

    name = "curated"
    version = 1
    summary = "Your own collection, drawn by `spurbench curate split`."
    splits: ClassVar[Mapping[str, str]] = {"linked": "the attribute that the split was drawn by is tied to the label"}
    tied = ("linked",)
    image_size = 224
    image_sizes = ()
    channels = 1
    augmentations = ("horizontal_flip", "shift")
    source = "the user's collection"
    licence = "that of the collection"
    manifest = "split.json"

    def __init__(self, parameters: SplitParameters | None = None, path: Path | None = None) -> None:
        super().__init__(parameters, path)
        self.channels = self.description.channels

    @cached_property
    def folder(self) -> Path:
        """The folder that the user named, or that of the description that the user named.

        Raises:
            SpurbenchError: it is not there.
        """
        path = Path(self.path or "")
        path = path.parent if path.name == self.manifest else path
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise SpurbenchError(f"Expected a folder at {path}, found {found}. Check --data {self.name}=PATH")
        return path.resolve()

    @cached_property
    def description(self) -> Description:
        """The split's description.

        Raises:
            SpurbenchError: it is missing or damaged.
        """
        place = self.folder / self.manifest
        with reading(place, "the description of a drawn split"):
            content = place.read_bytes()
        try:
            return Description.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise SpurbenchError(
                f"Expected the description of a drawn split in {place}, found {where}: {first['msg']}. Draw it again."
            ) from error

    @cached_property
    def images(self) -> Path:
        """The folder that the rows' files are named from."""
        return Path(os.path.normpath(self.folder / self.description.images))

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256((self.folder / self.manifest).read_bytes())
        for rho in sorted(self.description.tables):
            digest.update(self._bytes(rho))
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """sha256 of the description and of all lists of rows; of the images, the sizes are part of the rows.

        Raises:
            SpurbenchError: one is missing, or is not what the description says.
        """
        return self._fingerprint

    def _bytes(self, rho: str) -> bytes:
        listed = self.description.tables[rho]
        place = self.folder / listed.file
        with reading(place, "a list of rows"):
            content = place.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != listed.sha256:
            raise SpurbenchError(
                f"Expected {place} as {self.manifest} has it (sha256 {listed.sha256[:12]}), found {found[:12]}."
                " Draw the split again, or get both from one place."
            )
        return content

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of the split, as the list of that rho has them.

        The extra columns are ``file``, ``position`` (NaN where unknown) and ``bytes``, the image's size now, by which a
        changed image is noticed; -1 where it is not there.

        Args:
            split: ``"linked"``.
            rho: one of those that were drawn.

        Raises:
            SpurbenchError: another rho, or a list that is damaged or contradicts itself; the line is named.
        """
        check_split(self, split)
        wanted, known = check_rho(self, split, rho), self.description.tables
        key = next((text for text in known if _number(text) == wanted), None)
        if key is None:
            there = ", ".join(f"@{text}" for text in known)
            raise SpurbenchError(
                f"Expected a rho that was drawn ({there}), found @{wanted}. Draw the split again with --rho {wanted} too."
            )
        place = self.folder / known[key].file
        rows = _rows(self._bytes(key), place)
        groups = Groups(self.description.classes, self.description.attribute, self.description.values)
        _check_patients(rows, place)
        names = [name for name in PARTITIONS if any(row["partition"] == name for row in rows)]
        partitions = {name: self._partition([row for row in rows if row["partition"] == name]) for name in names}
        try:
            return SplitTable(groups, partitions, self.description.notes)
        except SpurbenchError as error:
            raise SpurbenchError(f"{error} ({place})") from None

    def _partition(self, rows: list[dict[str, str]]) -> Partition:
        files = [row["file"] for row in rows]
        return Partition(
            ids=np.array([row["id"] for row in rows], np.str_),
            labels=np.array([int(row["label"]) for row in rows], np.int64),
            attributes=np.array([int(row["attribute"]) for row in rows], np.int64),
            clusters=np.array([row["patient"] for row in rows], np.str_),
            extra={
                "file": np.array(files, np.str_),
                "position": np.array([float(row["position"] or "nan") for row in rows], np.float64),
                "bytes": np.array([_size(self.images / file) for file in files], np.int64),
            },
        )

    def files(self, split: str, partition: Partition) -> list[Path]:
        """The image behind each row, in row order."""
        check_split(self, split)
        return [self.images / file for file in partition.extra["file"].tolist()]

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images, resized, by several threads.

        Args:
            split: ``"linked"``.
            partition: rows of :meth:`table`.
            size: height and width in pixels, any.

        Yields:
            uint8, shape (at most 256, channels, size, size).

        Raises:
            SpurbenchError: an image is missing or unreadable; the message names it.
        """
        places = self.files(split, partition)
        check_size(self, size)
        read = partial(read_picture, channels=self.channels, size=size)
        yield from read_blocks(places, read)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return ABSENT


def _rows(content: bytes, place: Path) -> list[dict[str, str]]:
    """The lines of a list, each checked by itself.

    Raises:
        SpurbenchError: no UTF-8, other columns, or a line that is not what it should be.
    """
    with reading(place, "a list of rows in UTF-8"):
        text = content.decode("utf-8")
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    if header != COLUMNS:
        raise SpurbenchError(
            f"Expected the columns {','.join(COLUMNS)} in {place}, found {','.join(header) or 'none'}."
        )
    found: list[dict[str, str]] = []
    seen: set[str] = set()
    for cells in lines:
        row = dict(zip(COLUMNS, cells, strict=False))
        fault = next(_faults(row, len(cells), seen), "")
        if fault:
            raise SpurbenchError(f"Expected {fault} (line {lines.line_num} of {place}). Draw the split again.")
        seen.add(row["id"])
        found.append(row)
    return found


def _faults(row: Mapping[str, str], cells: int, seen: set[str]) -> Iterator[str]:
    """What is wrong with a line, as "X, found Y", the first thing first."""
    if cells != len(COLUMNS):
        yield f"{len(COLUMNS)} cells, found {cells}"
    if row["partition"] not in PARTITIONS:
        yield f"a known partition, found {row['partition']!r}. {nearest(row['partition'], PARTITIONS)}"
    if row["id"] in seen or not (row["id"] and row["patient"]):
        yield f"a new id and a patient, found {row['id']!r} of {row['patient']!r}"
    for name in ("label", "attribute"):
        if row[name] not in ("0", "1"):
            yield f"0 or 1 as {name}, found {row[name]!r}"
    if row["position"] and not 0 <= _number(row["position"]) <= 1:
        yield f"a position from 0 to 1, or none, found {row['position']!r}"
    parts = row["file"].split("/")
    if "\\" in row["file"] or ":" in parts[0] or not all(parts) or ".." in parts:
        yield f"a file below the folder of images, with '/', found {row['file']!r}"


def _check_patients(rows: list[dict[str, str]], place: Path) -> None:
    """Every patient in one partition, with one attribute value; in train and validation with one label.

    Raises:
        SpurbenchError: one is in two.
    """
    held: dict[tuple[str, str], str] = {}
    for row in rows:
        names = ["partition", "attribute", *(["label"] if row["partition"] in ("train", "validation") else [])]
        for name in names:
            if held.setdefault((row["patient"], name), row[name]) != row[name]:
                raise SpurbenchError(
                    f"Expected one {name} per patient, found {held[row['patient'], name]} and {row[name]} of"
                    f" {row['patient']!r} in {place}. Draw the split again."
                )
