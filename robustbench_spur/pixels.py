"""Images on disk: made once, block by block, so that a killed run goes on where it was, and read as memory maps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.gathered import Gathered, Images
from robustbench_spur.runtime import Runtime
from robustbench_spur.splitref import OpenSplit
from robustbench_spur.stage import Stage
from robustbench_spur.store import replacing, write_arrays
from robustbench_spur.types import SpurbenchError

Progress = Callable[[int, int], None]
IMAGES, MEANS, ARRAYS = "images.npy", "means.npy", "arrays.npz"
MEANS_SIZE = 8
NOTE_SECONDS = 2.0
"""How often an unfinished partition notes how far it is: what a kill can cost."""


def make_pixels(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write the images of a partition to one array file, block by block, and the 8 x 8 means of each image.

    They are made in a folder named by the stage, so that a run that was killed goes on after the last block that it noted.
    Two processes may work there at once: both write the same bytes to the same places.
    """
    split = runtime.split(json.loads(stage.place["split"]))
    partition, size = split.table.partitions[str(stage.spec["partition"])], int(stage.spec["size"])
    count, channels = len(partition), split.dataset.channels
    unfinished = runtime.pixels.root / "unfinished" / stage.key
    unfinished.mkdir(parents=True, exist_ok=True)
    images = _shared_array(unfinished / IMAGES, (count, channels, size, size), np.uint8)
    means = _shared_array(unfinished / MEANS, (count, MEANS_SIZE, MEANS_SIZE), np.float32)
    note = unfinished / "done.json"
    resumed = done = int(json.loads(note.read_text())["done"]) if note.is_file() else 0
    noted = time.monotonic()
    rest = partition.take(np.arange(done, count))
    for block in split.dataset.pixels(split.ref.split, rest, size) if len(rest) else ():
        check_block(block, split, size)
        if done + len(block) > count:
            raise SpurbenchError(f"Expected {count} images of {split.ref.full}, found more.")
        images[done : done + len(block)] = block
        means[done : done + len(block)] = block_means(block)
        done += len(block)
        if time.monotonic() - noted >= NOTE_SECONDS:
            images.flush()
            means.flush()
            with replacing(note) as temporary:
                temporary.write_text(json.dumps({"done": done}))
            noted = time.monotonic()
        progress(done, count)
    if done != count:
        raise SpurbenchError(f"Expected {count} images of {split.ref.full}, found {done}.")
    images.flush()
    write_arrays(folder / ARRAYS, {"means": np.round(means, 2)})
    with contextlib.suppress(FileNotFoundError):  # another process was first, and has published the same images
        (unfinished / IMAGES).rename(folder / IMAGES)
    shutil.rmtree(unfinished, ignore_errors=True)
    if not (folder / IMAGES).is_file() and not runtime.pixels.has(stage.key):
        raise SpurbenchError(f"Expected the images of {split.ref.full} in {unfinished}, found them gone. Run again.")
    return {"images": done, "bytes": images.nbytes, "resumed_at": resumed}


def _shared_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap[Any, Any]:
    """A file of zeros, or the one that is there, mapped for writing; it appears at once, so that nobody empties it."""
    if not path.is_file():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(path.parent).free
        if size > free:
            raise SpurbenchError(
                f"Expected {size / 1e9:.1f} GB of free space for {path.parent.parent}, found {free / 1e9:.1f} GB."
                " Run spurbench clean, or set SPURBENCH_HOME to another place."
            )
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return np.lib.format.open_memmap(path, mode="r+")


def check_block(block: NDArray[Any], split: OpenSplit, size: int) -> None:
    """Refuse a block of images that is not what a dataset promises.

    Raises:
        SpurbenchError: not uint8, or not of shape (block, channels, size, size).
    """
    shape = (split.dataset.channels, size, size)
    if block.dtype != np.uint8 or block.shape[1:] != shape:
        raise SpurbenchError(
            f"Expected uint8 blocks of {shape} from {split.ref.full}, found {block.dtype} {block.shape}."
        )


def block_means(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8 x 8 table of means of each image over its channels, shape (n, 8, 8)."""
    height, width = images.shape[-2:]
    rows = np.arange(MEANS_SIZE) * height // MEANS_SIZE
    columns = np.arange(MEANS_SIZE) * width // MEANS_SIZE
    total = np.add.reduceat(np.add.reduceat(images.mean(axis=1, dtype=np.float64), rows, axis=1), columns, axis=2)
    area = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))[None, :]
    return np.asarray(total / area, np.float32)


def gather(stage: Stage, runtime: Runtime, folder: Path, progress: Progress) -> dict[str, Any]:
    """Note which rows of the parents make up a partition; the images themselves stay where they are."""
    split = runtime.split(json.loads(stage.place["split"]))
    rows = split.sources[str(stage.spec["partition"])].rows
    means = [
        runtime.pixels.arrays(parent.key)["means"][taken] for parent, taken in zip(stage.parents, rows, strict=True)
    ]
    source = np.repeat(np.arange(len(rows)), [len(taken) for taken in rows])
    write_arrays(folder / ARRAYS, {"means": np.concatenate(means), "source": source, "row": np.concatenate(rows)})
    progress(len(source), len(source))
    return {"images": len(source), "bytes": 0}


def images_of(stage: Stage, runtime: Runtime) -> Images:
    """The images of a stage, read when they are asked for."""
    if stage.kind == "gather":
        arrays = runtime.pixels.arrays(stage.key)
        return Gathered([images_of(parent, runtime) for parent in stage.parents], arrays["source"], arrays["row"])
    path = runtime.pixels.folder(stage.key) / IMAGES
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images
