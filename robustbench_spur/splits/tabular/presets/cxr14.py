"""ChestX-ray14: ``Data_Entry_2017*.csv``, ``train_val_list.txt``, ``test_list.txt``, and ``images*/images`` or ``images``.

The test set is the owners'; validation is drawn by patient from the rest. A finding is absent where it is not listed.

Source: Wang et al. 2017, ChestX-ray8, CVPR.
Tested on stand-ins with the owners' names of files and columns.
"""

from __future__ import annotations

import os
from pathlib import Path

from robustbench_spur.reading import reading
from robustbench_spur.splits.tabular.cells import header_of, read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import Preset, drawn, find
from robustbench_spur.splits.tabular.presets.radiographs import keep_usable, without
from robustbench_spur.types import SpurbenchError, nearest

SEX = ("Patient Gender", "Patient Sex")
"""Names of one column in the two versions of the table."""


def read(root: Path, asked: Asked) -> Listing:
    """No Finding and the sex, unless another finding or column is asked for."""
    place = find(root, "Data_Entry_2017*.csv")
    sex = next((name for name in SEX if name in header_of(place)), SEX[0])
    label, attribute = asked.label or "No Finding", asked.attribute or sex
    columns = read_columns(place, ["Image Index", "Finding Labels", "Patient ID", attribute])
    images, patients = columns["Image Index"], columns["Patient ID"]
    findings = [cell.split("|") for cell in columns["Finding Labels"]]
    known = {finding for several in findings for finding in several}
    if label not in known:
        raise SpurbenchError(f"Expected a finding of {place}, found {label!r}. {nearest(label, sorted(known))}")
    parts = _partitions(root, place, images, patients, asked)
    folders = _folders(root)
    rows = []
    cells = zip(images, findings, columns[attribute], parts, patients, strict=True)
    for line, (image, several, a, part, who) in enumerate(cells, 2):
        word = label if label in several else without(label)
        rows.append(Row(image, f"{folders.get(image, 'images')}/{image}", word, a, part, who, line))
    listing = Listing(rows, place, root, attribute, (without(label), label), ("F", "M") if attribute == sex else ())
    return keep_usable(listing, label, [True] * len(rows))


def _partitions(root: Path, place: Path, images: list[str], patients: list[str], asked: Asked) -> list[str]:
    """Of each image: the owners' test set, and a draw by patient from the rest."""
    rest, test = (_listed(find(root, name)) for name in ("train_val_list.txt", "test_list.txt"))
    lost = next((image for image in images if image not in rest and image not in test), None)
    if lost is not None:
        raise SpurbenchError(f"Expected {lost} in train_val_list.txt or test_list.txt, found it in {place} only.")
    both = list(zip(images, patients, strict=True))
    parts = drawn((who for image, who in both if image in rest), asked, test=False)
    return ["test" if image in test else parts[who] for image, who in both]


def _listed(place: Path) -> set[str]:
    with reading(place, "a list of images"):
        return set(place.read_text(encoding="utf-8").split())


def _folders(root: Path) -> dict[str, str]:
    """The folder of every image that is there: those of the twelve archives, or one."""
    places = [place for place in (root / "images", *sorted(root.glob("images_*/images"))) if place.is_dir()]
    return {entry.name: place.relative_to(root).as_posix() for place in places for entry in os.scandir(place)}


PRESET = Preset(
    read,
    channels=1,
    mark="Data_Entry_2017*.csv",
    tables=("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"),
)
