"""Spawrious: four dog breeds, each shown in training in front of its own backgrounds and tested in front of others.

Layout: ``spawrious224/{0,1}/<location>/<class>/<machine>_prompt_<k>_<i>.png``, 3,168 images in each folder. One-to-one
(``o2o``): every class has one training location, for 97 % of its images in environment 0 (folder 0) and 87 % in environment
1 (folder 1), and the classes share a location for the rest; the test takes both folders of one other location. Many-to-many
(``m2m``, folder 0): two classes share two locations, one each in environment 0 and the other way round in environment 1; in
the test the two pairs of classes have exchanged their locations.

Source: Lynch, Dovonon, Kaddour and Silva 2023, "Spawrious" (arXiv 2303.05470); the combinations are those
of the owners' loader (github.com/aengusl/spawrious), the meaning of ``<k>`` that of their generator (generate_spawrious).
Deviations: where the owners take the first so many of an unsorted directory listing, the order is that of a seeded hash of
the names, the same on every file system. Their loader has no validation set: it is a seeded share of the training images,
0.2 as in DomainBed, by whole prompts. Training images are flipped, without the owners' change of colours.
Groups: of the 24 pairs of class and location, a challenge has by its own design eight in training and validation, and four
(one-to-one) or eight others in the test. The table declares them, so that a group left out is no gap; a designed group that
has no image is one. There is no ``adapt`` partition. A method that needs every group of the training is applicable to the
one-to-one challenges, where the classes share a location; in the many-to-many ones the location tells the pair of classes
without exception, and it is not.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.parameters import parameter
from robustbench_spur.pictures import read_picture
from robustbench_spur.splits.base import Archive, Dataset, SplitParameters
from robustbench_spur.splits.challenges import CHALLENGES, CLASSES, LOCATIONS, Share, designed, shares
from robustbench_spur.splits.files import check_size, check_split, entries_of, read_blocks, refuse_rho, size_of, stream
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError

RELEASED = 3168
"""Images of a class at a location in one folder."""
ROOT = "spawrious224"
ENDINGS = (".png", ".jpg", ".jpeg")
PROMPT = re.compile(r".*_prompt_(\d+)_\d+", re.ASCII)

ENTIRE = "https://www.dropbox.com/s/hofkueo8qvaqlp3/spawrious224__entire_dataset.tar.gz?dl=1"
EASY = "https://www.dropbox.com/s/kwhiv60ihxe3owy/spawrious224__o2o_easy.tar.gz?dl=1"
MEDIUM = "https://www.dropbox.com/s/x03gkhdwar5kht4/spawrious224__o2o_medium.tar.gz?dl=1"
HARD = "https://www.dropbox.com/s/p1ry121m2gjj158/spawrious224__o2o_hard.tar.gz?dl=1"
MANY = ("m2m_easy", "m2m_medium", "m2m_hard")
NO_CHECKSUM = "no checksum is published"


class Picture(NamedTuple):
    """One row.

    Args:
        file: relative to :attr:`Spawrious.root`, with ``/``; the row's id too.
        cluster: see :func:`cluster_of`.
        share: that it belongs to.
        bytes: size of the file.
    """

    file: str
    cluster: str
    share: Share
    bytes: int


def cluster_of(label: str, location: str, name: str) -> str:
    """The prompt that an image was made from; empty where the file's name has none.

    The generator walks through 72 prompts per class and location, the time of day fastest, in the same order for both
    folders; of the six times of day the last two are the same words, so that 60 texts differ.

    >>> [cluster_of("corgi", "snow", f"isis_prompt_{k}_3.png") for k in (3, 4, 5)]
    ['corgi-snow-prompt-3', 'corgi-snow-prompt-4', 'corgi-snow-prompt-4']
    >>> cluster_of("corgi", "snow", "rex.png")
    ''
    """
    match = PROMPT.fullmatch(Path(name).stem)
    if match is None:
        return ""
    number = int(match[1])
    return f"{label}-{location}-prompt-{number - (number % 6 == 5)}"


class SpawriousParameters(SplitParameters):
    """How much is read, and what is held out."""

    limit: int = parameter(RELEASED, "images read of each folder, for trials", at_least=10, at_most=RELEASED)
    validation_share: float = parameter(0.2, "share of the training prompts held out", at_least=0.01, at_most=0.5)
    seed: int = parameter(2025, "of the subsets and of the validation; not the seed of training", at_least=0)


class Spawrious(Dataset):
    """The six released challenges; see the module's docstring."""

    name = "spawrious"
    version = 1
    summary = "Spawrious: generated photographs of four dog breeds, backgrounds tied to breeds."
    splits: ClassVar[Mapping[str, str]] = {
        "o2o_easy": "one background per breed, easy combination",
        "o2o_medium": "one background per breed, medium combination",
        "o2o_hard": "one background per breed, hard combination",
        "m2m_easy": "two backgrounds per pair of breeds, exchanged in the test, easy combination",
        "m2m_medium": "two backgrounds per pair of breeds, exchanged in the test, medium combination",
        "m2m_hard": "two backgrounds per pair of breeds, exchanged in the test, hard combination",
    }
    aliases: ClassVar[Mapping[str, str]] = {}
    tied = ()
    image_size = 224
    image_sizes = ()
    channels = 3
    augmentations = ("horizontal_flip",)
    source = "Spawrious: Lynch, Dovonon, Kaddour and Silva 2023, arXiv 2303.05470; github.com/aengusl/spawrious"
    licence = "CC BY 4.0"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive("spawrious224__entire_dataset.tar.gz", (ENTIRE,), splits=MANY, unpack=True, note=NO_CHECKSUM),
        Archive("spawrious224__o2o_easy.tar.gz", (EASY,), splits=("o2o_easy",), unpack=True, note=NO_CHECKSUM),
        Archive("spawrious224__o2o_medium.tar.gz", (MEDIUM,), splits=("o2o_medium",), unpack=True, note=NO_CHECKSUM),
        Archive("spawrious224__o2o_hard.tar.gz", (HARD,), splits=("o2o_hard",), unpack=True, note=NO_CHECKSUM),
    )
    Parameters = SpawriousParameters

    @cached_property
    def root(self) -> Path:
        """The folder ``spawrious224``: in the user's folder, or that folder itself.

        Raises:
            SpurbenchError: it is neither.
        """
        path = Path(self.path or "")
        for place in (path / ROOT, path):
            if (place / "0").is_dir():
                return place.absolute()
        found = "a file; unpack it" if path.is_file() else "nothing of the kind"
        raise SpurbenchError(
            f"Expected the folder {ROOT} with the folder 0 in {path}, found {found}. Check --data {self.name}=PATH"
        )

    def fingerprint(self) -> str:
        """Empty: the rows carry names and sizes of the files that a challenge uses.

        A hash of all that is there would change for every challenge as soon as another one's archive is unpacked.
        """
        return ""

    def table(self, split: str, rho: float | None) -> SplitTable:
        """Rows of a challenge, sorted by file name; the extra columns are ``file``, ``environment`` and ``bytes``.

        Args:
            split: one of :attr:`splits`.
            rho: None; the challenges are as released.

        Raises:
            SpurbenchError: rho is given, a folder is missing or holds too few images or other files, or too little is
                left to hold out.
        """
        check_split(self, split)
        refuse_rho(self, split, rho, "the challenges are as released")
        train, test = shares(CHALLENGES[split], self.parameters.limit)
        pictures = [picture for share in train for picture in self._take(split, share)]
        tested = [picture for share in test for picture in self._take(split, share)]
        held = self._held_out(pictures)
        rows = {
            "train": [picture for picture in pictures if picture.cluster not in held],
            "validation": [picture for picture in pictures if picture.cluster in held],
            "test": tested,
        }
        for name, part in rows.items():
            missing = sorted(set(CLASSES) - {picture.share.label for picture in part})
            if missing:
                raise SpurbenchError(
                    f"Expected images of every class in {name} of {self.name}/{split}, found none of {missing[0]} in"
                    f" {self.root}. Raise limit, or choose another validation_share."
                )
        trained, tests = designed(train), designed(test)
        partitions = {
            name: _partition(sorted(part), tests if name == "test" else trained) for name, part in rows.items()
        }
        notes = _notes(rows, len(trained), len(tests))
        return SplitTable(Groups(CLASSES, "location", LOCATIONS), partitions, notes)

    def _take(self, split: str, share: Share) -> list[Picture]:
        """The images of a share, first those of a folder in a seeded order that does not depend on its listing."""
        place = self.root / share.folder / share.location / share.label
        if not place.is_dir():
            raise SpurbenchError(
                f"Expected the folder {place} for {self.name}/{split}, found none."
                f" Unpack the archive of {split}, or the entire data set."
            )
        entries = entries_of(place)
        for entry in entries:
            if entry.suffix.lower() not in ENDINGS or not entry.name.isprintable():
                raise SpurbenchError(
                    f"Expected only PNG or JPEG images in {place}, found {entry.name!r}. Move it elsewhere."
                )
        wanted = self.parameters.limit
        if len(entries) < wanted:
            raise SpurbenchError(
                f"Expected {wanted} images in {place}, found {len(entries)}. Unpack the archive again,"
                " or read fewer of every folder: --split-set limit=N"
            )
        files = [f"{share.folder}/{share.location}/{share.label}/{entry.name}" for entry in entries]
        return [self._picture(file, share) for file in sorted(files, key=self._order)[: share.images]]

    def _order(self, file: str) -> str:
        return hashlib.sha256(f"{self.parameters.seed}\t{file}".encode()).hexdigest()

    def _picture(self, file: str, share: Share) -> Picture:
        cluster = cluster_of(share.label, share.location, file) or file
        return Picture(file, cluster, share, size_of(self.root / file, "an image"))

    def _held_out(self, pictures: Sequence[Picture]) -> set[str]:
        """Clusters of the validation: of each class at each location, and of those with images of the same environments."""
        environments: dict[str, set[int]] = defaultdict(set)
        cell: dict[str, str] = {}
        for picture in pictures:
            environments[picture.cluster].add(picture.share.environment)
            cell[picture.cluster] = f"{picture.share.label} {picture.share.location}"
        strata: dict[str, list[str]] = defaultdict(list)
        for cluster in sorted(cell):
            strata[f"{cell[cluster]} {sorted(environments[cluster])}"].append(cluster)
        held: set[str] = set()
        for purpose, clusters in strata.items():
            order = stream(self.parameters.seed, purpose).permutation(len(clusters))
            count = int(self.parameters.validation_share * len(clusters) + 0.5)
            held.update(clusters[position] for position in order[:count].tolist())
        return held

    def files(self, split: str, partition: Partition) -> list[Path]:
        """The image behind each row, in row order."""
        check_split(self, split)
        return [self.root / file for file in partition.extra["file"].tolist()]

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        """The images in colour, resized, by several threads.

        Args:
            split: one of :attr:`splits`.
            partition: rows of :meth:`table`.
            size: height and width in pixels, any; the files' own is 224.

        Yields:
            uint8, shape (at most 256, 3, size, size).

        Raises:
            SpurbenchError: an image is missing or unreadable; the message names it.
        """
        places = self.files(split, partition)
        check_size(self, size)
        read = partial(read_picture, channels=self.channels, size=size)
        yield from read_blocks(places, read)


def _partition(pictures: Sequence[Picture], groups: tuple[int, ...]) -> Partition:
    files = np.array([picture.file for picture in pictures], np.str_)
    return Partition(
        ids=files,
        labels=np.array([CLASSES.index(picture.share.label) for picture in pictures], np.int64),
        attributes=np.array([LOCATIONS.index(picture.share.location) for picture in pictures], np.int64),
        clusters=np.array([picture.cluster for picture in pictures], np.str_),
        extra={
            "file": files,
            "environment": np.array([picture.share.environment for picture in pictures], np.int64),
            "bytes": np.array([picture.bytes for picture in pictures], np.int64),
        },
        designed=groups,
    )


def _notes(rows: Mapping[str, Sequence[Picture]], trained: int, tested: int) -> tuple[str, ...]:
    """What a reader of a record must know; how many groups the challenge has in training and in the test."""
    every = [picture for part in rows.values() for picture in part]
    nameless = sum(picture.cluster == picture.file for picture in every)
    notes = [
        "A cluster ('patient') is the images of one prompt: one class, location, fur, pose and time of day.",
        f"Validation has the training environments: it prefers the background. By design {trained} of the 24 groups are in"
        f" training and validation, and {tested} others in the test.",
    ]
    if nameless:
        notes.append(f"{nameless} of {len(every)} images have no prompt in their names: each is its own cluster.")
    return tuple(notes)
