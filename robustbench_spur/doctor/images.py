"""What the images show: which cannot be read, which are of another size, and which have the same pixels.

Two images are the same where the sha256 over mode, size and decoded pixels is: the file's bytes, its compression and its
metadata do not count.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_spur.doctor.report import Finding, Images, finding
from robustbench_spur.pictures import PNG_END
from robustbench_spur.reading import reading
from robustbench_spur.splits.base import Dataset
from robustbench_spur.types import Partition, SpurbenchError

BLOCK = 256
"""Files that are handed to the threads at a time."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """One image, looked at.

    Args:
        name: of the file or the row, as the report gives it.
        partition: it is in.
        label: of its row.
        kind: mode and size, such as ``"L 320 x 320"``; empty where it is unreadable or in no file.
        pixels: sha256; empty where it is unreadable.
        error: why it is unreadable.
    """

    name: str
    partition: str
    label: int
    kind: str = ""
    pixels: bytes = field(default=b"", repr=False)
    error: str = ""


def look(path: Path) -> tuple[str, bytes]:
    """Kind and pixel hash of an image file, all of it decoded.

    Raises:
        SpurbenchError: missing, truncated, damaged, or no image.
    """
    from PIL import Image

    with reading(path, "an image"):
        data = path.read_bytes()
    try:
        with reading(path, "an undamaged image"):
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
            with Image.open(io.BytesIO(data)) as image:
                if image.format == "PNG" and PNG_END not in data:
                    raise SpurbenchError(f"Expected a complete PNG, found {path} cut off. Get the file again.")
                kind = f"{image.mode} {image.width} x {image.height}"
                return kind, hashlib.sha256(kind.encode() + b"\n" + image.tobytes()).digest()
    except Image.DecompressionBombError as error:
        raise SpurbenchError(f"Expected an image, found {path} too large to be one ({error}).") from error


def look_at_files(
    files: Mapping[str, list[Path]], rows: Mapping[str, Partition], root: Path, progress: Progress
) -> list[Look]:
    """Open all files, by several threads; in memory at a time are those that the threads are at.

    Args:
        files: by partition, in the order of its rows.
        rows: likewise.
        root: folder that names begin below.
        progress: called with how many were read, and how many there are.
    """

    def one(job: tuple[str, Path, int]) -> Look:
        partition, path, label = job
        name = os.path.relpath(path, root)
        try:
            return Look(name, partition, label, *look(path))
        except SpurbenchError as error:
            return Look(name, partition, label, error=str(error))

    jobs = [
        (name, path, label)
        for name, paths in files.items()
        for path, label in zip(paths, rows[name].labels.tolist(), strict=True)
    ]
    looks: list[Look] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(jobs), BLOCK):
            looks += pool.map(one, jobs[start : start + BLOCK])
            progress(len(looks), len(jobs))
    return looks


def look_at_arrays(dataset: Dataset, split: str, rows: Mapping[str, Partition], progress: Progress) -> list[Look]:
    """Have the data set make its images at its own size, block by block; what it refuses to make is unreadable."""
    looks: list[Look] = []
    total = sum(map(len, rows.values()))
    for name, partition in rows.items():
        made, error = 0, ""
        try:
            for block in dataset.pixels(split, partition, dataset.image_size):
                there = slice(made, made + len(block))
                ids, labels = partition.ids[there].tolist(), partition.labels[there].tolist()
                looks += [
                    Look(f"{name}/{row}", name, label, pixels=hashlib.sha256(image.tobytes()).digest())
                    for row, label, image in zip(ids, labels, block, strict=False)
                ]
                made += len(block)
                progress(len(looks), total)
        except SpurbenchError as refused:
            error = str(refused)
        if error or made != len(partition):
            error = error or f"Expected {len(partition)} images in {name}, found {made}."
            looks.append(Look(name, name, -1, error=error))
    return looks


def image_findings(looks: list[Look], *, one_size: bool) -> tuple[Finding, ...]:
    """What is wrong with the images.

    Args:
        looks: at all of them.
        one_size: whether an image of another mode or size than most is a fault; else a warning.
    """
    most = usual_kind(looks)
    same = _same_pixels(looks)
    return (
        *finding("fault", "unreadable", "Images that cannot be read.", (one.error for one in looks if one.error)),
        *finding(
            "fault" if one_size else "warning",
            "wrong_size",
            f"Images of another mode or size than most ({most}).",
            (f"{one.name} ({one.kind})" for one in looks if one.kind != most and not one.error),
        ),
        *finding(
            "fault",
            "pixels_in_two_partitions",
            "The same pixels in two partitions: what is scored was trained on or chosen by.",
            (_named(ones) for ones in same if len({one.partition for one in ones}) > 1),
        ),
        *finding(
            "fault",
            "pixels_under_two_labels",
            "The same pixels under two labels.",
            (_named(ones) for ones in same if len({one.label for one in ones}) > 1),
        ),
        *finding(
            "warning",
            "pixels_repeated",
            "The same pixels more than once in a partition.",
            (_named(ones) for ones in same if max(Counter(one.partition for one in ones).values()) > 1),
        ),
    )


def usual_kind(looks: list[Look]) -> str:
    """Mode and size of most of the files, the first of equals; empty where none was read."""
    kinds = Counter(one.kind for one in looks if not one.error)
    return kinds.most_common(1)[0][0] if kinds else ""


def summary(looks: list[Look], root: Path | None) -> Images:
    """How many images were looked at.

    Args:
        looks: at all of them.
        root: folder that files are named from; None where images lie in no files.
    """
    return Images(
        root=str(root or ""),
        files=len(looks) if root else 0,
        arrays=0 if root else sum(not one.error for one in looks),
        kind=usual_kind(looks),
        distinct=len({one.pixels for one in looks if not one.error}),
    )


def _same_pixels(looks: list[Look]) -> list[list[Look]]:
    """Images that share their pixels, two or more together."""
    owners: dict[bytes, list[Look]] = {}
    for one in looks:
        if not one.error:
            owners.setdefault(one.pixels, []).append(one)
    return [ones for ones in owners.values() if len(ones) > 1]


def _named(ones: list[Look]) -> str:
    more = f" and {len(ones) - 3} more" if len(ones) > 3 else ""
    return " = ".join(one.name for one in ones[:3]) + more
