"""Features of patients' images that are learned from nothing here: plain ones, or a network's.

Images are read in batches, and a patient's features are the mean over the patient's images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.curation.images import Images as Images
from robustbench_spur.curation.images import list_images as list_images
from robustbench_spur.pictures import read_picture
from robustbench_spur.types import SpurbenchError

BATCH = 64
"""Images that are in memory at once."""
LEAST_SIZE = 16
"""Of an image, in pixels, for the plain features: smaller ones leave a ring of the spectrum empty."""

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Extractor:
    """Turns images into features.

    Args:
        name: for a report.
        channels: 1 or 3, of the images it takes.
        size: of the images it takes, in pixels.
        call: from uint8, shape (b, channels, size, size), to features, shape (b, d).
    """

    name: str
    channels: int
    size: int
    call: Callable[[NDArray[np.uint8]], NDArray[Any]] = field(repr=False)


def plain(size: int = 128) -> Extractor:
    """Features that need no network and no download: :func:`describe`.

    Args:
        size: of the images, in pixels, at least 16.

    Raises:
        SpurbenchError: a smaller size.
    """
    if size < LEAST_SIZE:
        raise SpurbenchError(f"Expected images of at least {LEAST_SIZE} pixels for plain features, found {size}.")
    return Extractor(f"plain descriptor ({size} pixels)", 1, size, describe)


def describe(images: NDArray[np.uint8]) -> Floats:
    """97 plain features of grey images, global ones and local ones.

    In this order: nine quantiles of the grey level; 8 x 8 means; for each quadrant the logarithms of the mean size and of the
    standard deviation of the Laplacian (how grainy it is); the share of gradient towards the right, lower right, below and so
    on, in eight directions; the logarithm of the mean power in eight rings of the spectrum, each 1/16 cycle per pixel wide but
    the last, which has the corners too.

    Args:
        images: uint8, shape (b, 1, size, size), size at least 16.

    Returns:
        float64, shape (b, 97).

    >>> describe(np.zeros((2, 1, 32, 32), np.uint8)).shape
    (2, 97)
    """
    from robustbench_spur.pixels import block_means

    grey = images[:, 0].astype(np.float64) / 255
    count, size = grey.shape[0], grey.shape[-1]
    quantiles = np.quantile(grey.reshape(count, -1), (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99), axis=1).T
    means = block_means(images).reshape(count, -1) / 255
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, 2:, 1:-1] + grey[:, :-2, 1:-1] + grey[:, 1:-1, 2:] + grey[:, 1:-1, :-2] - 4 * inner
    halves = slice(None, size // 2 - 1), slice(size // 2 - 1, None)
    quadrants = [laplacian[:, rows, columns] for rows in halves for columns in halves]
    grain = [np.log(read + 1e-3) for q in quadrants for read in (np.abs(q).mean((1, 2)), q.std((1, 2)))]
    return np.column_stack([quantiles, means, *grain, _directions(grey), _rings(grey)])


def _directions(grey: Floats) -> Floats:
    """Share of the gradient's length in each of eight directions, shape (b, 8); zeros where nothing changes."""
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    right = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    place = np.rint(np.arctan2(down, right) / (2 * np.pi) * 8).astype(np.int64) % 8
    length = np.hypot(down, right)
    lengths = np.stack([np.where(place == k, length, 0).sum((1, 2)) for k in range(8)], axis=1)
    out: Floats = lengths / (lengths.sum(axis=1, keepdims=True) + 1e-9)
    return out


def _rings(grey: Floats) -> Floats:
    """Logarithm of the mean power in each of eight rings of frequency, shape (b, 8)."""
    size = grey.shape[-1]
    power = np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True))) ** 2 / size**2
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    ring = np.minimum((radius * 16).astype(np.int64), 7)
    return np.stack([np.log(power[:, ring == k].mean(axis=1) + 1e-6) for k in range(8)], axis=1)


def frozen(
    backbone: str, *, size: int, channels: int = 1, weights: Path | None = None, pretrained: bool = False
) -> Extractor:
    """Features of a network's last layer, on the CPU; the network learns nothing here.

    Args:
        backbone: a timm model, or the project's small network.
        size: of the images, in pixels.
        channels: 1 or 3.
        weights: safetensors file of backbone weights; its ``mean`` and ``std`` are taken too where it has them.
        pretrained: take timm's published weights.

    Raises:
        SpurbenchError: no such backbone, no weights at all or both, weights that cannot be had or do not fit, or a size of
            images that the network does not take.
    """
    import torch

    from robustbench_spur.networks import check_backbone
    from robustbench_spur.request import in_a_line

    check_backbone(backbone)
    if (weights is None) != pretrained:
        raise SpurbenchError(
            f"Expected weights of the backbone {backbone!r}, from --weights FILE or from --pretrained, found"
            f" {'both' if pretrained else 'none'}: features of an untrained network are no use."
        )
    model = _network(backbone, channels, weights)

    def call(images: NDArray[np.uint8]) -> NDArray[Any]:
        with torch.inference_mode():
            features: NDArray[Any] = model.features(torch.from_numpy(images).float() / 255).numpy()
        return features

    try:
        call(np.zeros((1, channels, size, size), np.uint8))
    except Exception as error:
        raise SpurbenchError(
            f"Backbone {backbone!r} takes no images of {size} x {size} pixels: {in_a_line(error)}. Choose another --image-size."
        ) from error
    source = "published weights" if weights is None else weights.name
    return Extractor(f"{backbone}, {source} ({size} pixels)", channels, size, call)


def _network(backbone: str, channels: int, weights: Path | None) -> Any:
    """The network with its weights, ready to be asked for features."""
    import timm

    from robustbench_spur.networks import SMALL, build
    from robustbench_spur.request import in_a_line

    published = weights is None
    if published and (backbone == SMALL or not timm.is_model_pretrained(backbone)):
        raise SpurbenchError(f"Backbone {backbone!r} has no published weights. Give --weights FILE.")
    mean, std = _statistics(backbone, weights, channels)
    network = {"backbone": backbone, "channels": channels, "seed": 0, "pretrained": published, "mean": mean, "std": std}
    try:
        return build(network, 2, weights=weights).eval()
    except SpurbenchError:
        raise
    except Exception as error:  # whatever a download can end in
        raise SpurbenchError(
            f"Expected the published weights of {backbone!r}, found none: {in_a_line(error)}. Give --weights FILE."
        ) from error


def _statistics(backbone: str, weights: Path | None, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that a network's weights expect, per channel: the file's, timm's, or a half and a quarter."""
    if weights is not None:
        from safetensors import safe_open

        from robustbench_spur.request import hash_of

        hash_of(weights, "--weights")
        with safe_open(weights, framework="numpy") as archive:
            if {"mean", "std"} <= set(archive.keys()):
                mean, std = (archive.get_tensor(name).ravel().tolist() for name in ("mean", "std"))
                if len(mean) == len(std) == channels:
                    return mean, std
    import timm

    known = timm.get_pretrained_cfg(backbone) if timm.is_model_pretrained(backbone) else None
    if known is None:
        return [0.5] * channels, [0.25] * channels
    mean, std = list(known.mean), list(known.std)
    return (mean, std) if channels == len(mean) else ([float(np.mean(mean))], [float(np.mean(std))])


@dataclass(frozen=True)
class Features:
    """Features of patients, each the mean over the patient's images.

    Args:
        patients: ids, in the order of the first image.
        values: shape (patients, d).
        images: that were read.
        extractor: its name.
    """

    patients: tuple[str, ...]
    values: Floats = field(repr=False)
    images: int
    extractor: str


def features_of(
    images: Iterable[tuple[str, Path]], extractor: Extractor, *, total: int = 0, progress: Progress | None = None
) -> Features:
    """Read images in batches and keep a sum of features per patient, so that memory does not grow with the images.

    Args:
        images: patient and file.
        extractor: of features.
        total: number of images, for ``progress``.
        progress: is told how many images are done, and of how many.

    Raises:
        SpurbenchError: no image, one that is unreadable, or features that are no numbers.
    """
    sums, counts, done = dict[str, Floats](), Counter[str](), 0
    read = partial(read_picture, channels=extractor.channels, size=extractor.size)
    with ThreadPoolExecutor(max_workers=4) as pool:
        for batch in _batches(images):
            values = np.asarray(extractor.call(np.stack(list(pool.map(read, [path for _, path in batch])))), np.float64)
            for (patient, _), row in zip(batch, values, strict=True):
                sums[patient] = sums[patient] + row if patient in sums else row
                counts[patient] += 1
            done += len(batch)
            if progress is not None:
                progress(done, max(total, done))
    if not done:
        raise SpurbenchError("Expected images to take features of, found none.")
    means = np.stack([sums[patient] / counts[patient] for patient in sums])
    if not np.isfinite(means).all():
        raise SpurbenchError(f"Expected finite features, found others of {extractor.name}. Check its weights.")
    return Features(tuple(sums), means, done, extractor.name)


def _batches(images: Iterable[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    rest = iter(images)
    while batch := list(islice(rest, BATCH)):
        yield batch
