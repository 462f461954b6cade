"""From a user's archives to images that are ready to train on, without training anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_spur.cell import CellData
from robustbench_spur.download import check_file
from robustbench_spur.executor import LocalExecutor, Outcome
from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.plan import open_split
from robustbench_spur.request import IMAGE_SIZES
from robustbench_spur.runtime import Runtime, require_writable
from robustbench_spur.splitref import SplitRef
from robustbench_spur.splits.base import Archive
from robustbench_spur.stage import Stage, in_order
from robustbench_spur.store import replacing
from robustbench_spur.types import SpurbenchError
from robustbench_spur.unpack import unpack

Show = Callable[[str, int, int], None]


def place_files(ref: SplitRef, files: Sequence[Path], home: Home, show: Show) -> Iterator[str]:
    """Put a dataset's files into its folder below the home: archives unpacked, others copied.

    Archives that ``data download`` left there are unpacked too. What is there already is left alone.

    Args:
        ref: a split of the dataset.
        files: on this machine, by the names that the dataset's archives have.
        home: whose folder of data they go to.
        show: called with what is done, how far, and how much there is.

    Yields:
        What was done, one line each.

    Raises:
        SpurbenchError: a file that is missing, that the dataset has no archive for, or that is not what it should be.
    """
    archives: dict[str, Archive] = {archive.name: archive for archive in ref.plugin.literal("archives", ())}
    folder = home.data / ref.dataset
    for path in files:
        if path.name not in archives:
            raise SpurbenchError(
                f"Expected one of {', '.join(archives) or 'no file at all'} for {ref.dataset}, found {path}."
                " Keep the name that it was published under."
            )
        if not path.is_file():
            raise SpurbenchError(f"Expected a file at {path}, found none. Check --from.")
    given = {path.name: path for path in files}
    for name, archive in archives.items():
        path = given.get(name, folder / name)
        if not path.is_file():
            continue
        check_file(archive, path, folder)
        if archive.unpack:
            yield from _unpack(path, folder, show)
        elif path != folder / name:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as temporary:
                shutil.copyfile(path, temporary)
            yield f"{name}: copied to {folder}"


def _unpack(path: Path, folder: Path, show: Show) -> Iterator[str]:
    done = folder / f".{path.name}.unpacked"
    if done.is_file():
        return
    count = unpack(path, folder, progress=lambda done, total: show(f"unpack {path.name}", done, total))
    with replacing(done) as temporary:
        temporary.write_text(f"{count}\n", encoding="utf-8")
    yield f"{path.name}: {count} files unpacked to {folder}"


@dataclass
class ImagePlan:
    """The images of a split at a size.

    Args:
        title: for people.
        stages: that make them.
        runtime: where.
        total: number of images.
        images: of them, how many were made by :meth:`make`.
    """

    title: str
    stages: list[Stage]
    runtime: Runtime
    total: int
    images: int = field(default=0)

    def make(self, progress: Callable[[Stage, int, int], None]) -> Iterator[Outcome]:
        """Make those that are not there; a partition that was begun goes on where it was."""
        require_writable(self.runtime.home)
        for outcome in LocalExecutor().run(self.stages, self.runtime, progress):
            if not outcome.cached and outcome.error is None:
                about: dict[str, Any] = self.runtime.pixels.about(outcome.stage.key)
                self.images += int(about["images"]) - int(about.get("resumed_at", 0))
            yield outcome


def plan_images(
    ref: SplitRef, home: Home, given: Mapping[str, Path], board: str, size: int | None, plugin_files: tuple[Path, ...]
) -> ImagePlan:
    """What it takes to have the images of a split ready.

    Args:
        ref: which split.
        home: folder of results.
        given: place of the user's files, by dataset.
        board: version, whose image size is the default.
        size: another size, in pixels.
        plugin_files: drafts of plugins.

    Raises:
        SpurbenchError: the rows cannot be read, or the size is not to be had.
    """
    places = home.places(given)
    if not ref.embedded and ref.dataset not in places:
        raise SpurbenchError(
            f"Expected the files of {ref.dataset} at {home.data / ref.dataset}, found none."
            f" Run: spurbench data download {ref.dataset}/{ref.split}, or give --from FILE, or --data {ref.dataset}=PATH"
        )
    split = open_split(ref, places)
    setup = load_manifest(board).setup(ref.dataset)
    chosen = size or (setup.image_size if setup else split.dataset.image_size)
    if chosen not in IMAGE_SIZES or (split.dataset.image_sizes and chosen not in split.dataset.image_sizes):
        offered = split.dataset.image_sizes or f"{IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]}"
        raise SpurbenchError(f"Expected an image size among {offered} for {ref.full}, found {chosen}.")
    stages = in_order(tuple(CellData(split, chosen).pixels.values()))
    total = sum(len(rows) for rows in split.table.partitions.values())
    runtime = Runtime(home, "cpu", plugin_files=plugin_files, data=places)
    return ImagePlan(f"{ref.full} at {chosen} pixels", stages, runtime, total)
