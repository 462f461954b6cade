"""Features of patients that are kept: images are read and put through a network once, and a killed run goes on.

Patients are taken a few at a time. What those few give is named by everything that it depends on: the extractor, and path,
size and time of change of each image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_spur.curation.frozen import Extractor, Features, features_of
from robustbench_spur.store import Store, content_hash, write_arrays

TOGETHER = 16
"""Patients whose features are kept as one artifact."""
VERSION = 1
"""Raised whenever a feature of the same image can change."""

Items = Sequence[tuple[str, Path]]


def kept_features(
    images: Items,
    extractor: Extractor,
    store: Store,
    identity: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Features of all patients, from the store where they are there already.

    Args:
        images: patient and file.
        extractor: of features.
        store: where they are kept.
        identity: what the extractor's numbers depend on beside its name, such as the hash of its weights.
        progress: is told how many images are done, and of how many.

    Raises:
        SpurbenchError: no image, or one that is missing or unreadable.
    """
    patients, values, done = list[str](), [], 0
    for items in _portions(images):
        key = content_hash({"features": VERSION, "of": extractor.name, **identity, "images": [*map(_stamp, items)]})
        if not store.has(key):
            found = features_of(items, extractor)
            with store.making(key) as (folder, about):
                about["title"] = f"features of {len(found.patients)} patients: {extractor.name}"
                write_arrays(folder / "arrays.npz", {"patients": np.array(found.patients), "values": found.values})
        arrays = store.arrays(key)
        patients += arrays["patients"].tolist()
        values.append(arrays["values"])
        done += len(items)
        progress(done, len(images))
    if not values:
        return features_of((), extractor)  # which says that there are none
    return Features(tuple(patients), np.concatenate(values), done, extractor.name)


def _portions(images: Items) -> Iterator[list[tuple[str, Path]]]:
    """The images of a few patients at a time."""
    by_patient: dict[str, list[tuple[str, Path]]] = {}
    for item in images:
        by_patient.setdefault(item[0], []).append(item)
    every = list(by_patient.values())
    for start in range(0, len(every), TOGETHER):
        yield [item for items in every[start : start + TOGETHER] for item in items]


def _stamp(item: tuple[str, Path]) -> list[Any]:
    """Patient, path, bytes and time of change of an image; a missing one is told when it is read."""
    patient, path = item
    if not path.is_file():
        return [patient, str(path.absolute()), None, None]
    status = path.stat()
    return [patient, str(path.absolute()), status.st_size, status.st_mtime_ns]
