"""MIMIC-CXR-JPG: ``mimic-cxr-VERSION-{metadata,chexpert,split}.csv`` (or .gz) and ``files/p10/p10000032/s.../*.jpg``.

The partitions are the owners'. What is not mentioned counts as absent. The attribute is the view position, PA or AP, or any
other column of the metadata; for ``gender``, MIMIC-IV's ``patients.csv`` must be in the folder too.

Source: Johnson et al. 2019, MIMIC-CXR-JPG, arXiv 1901.07042.
Tested on stand-ins with the owners' names of files and columns.
"""

from __future__ import annotations

from pathlib import Path

from robustbench_spur.splits.tabular.cells import read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import Preset, column_by, find, partition_of
from robustbench_spur.splits.tabular.presets.radiographs import in_words, keep_usable, order_of

CODES = {"train": "train", "validate": "validation", "test": "test"}
VALUES = {"ViewPosition": ("PA", "AP"), "gender": ("F", "M")}


def _table(root: Path, name: str) -> Path:
    return find(root, f"mimic-cxr-*-{name}.csv", f"mimic-cxr-*-{name}.csv.gz")


def read(root: Path, asked: Asked) -> Listing:
    """No Finding and ViewPosition, unless another finding or column is asked for."""
    place = _table(root, "metadata")
    label, attribute = asked.label or "No Finding", asked.attribute or "ViewPosition"
    joined = attribute == "gender"
    names = ["dicom_id", "subject_id", "study_id", "ViewPosition"]
    columns = read_columns(place, [*names, *([] if joined else [attribute])])
    images, patients, studies, views = (columns[name] for name in names)
    attributes = columns.get(attribute, [])
    if joined:
        genders = column_by(find(root, "patients.csv", "patients.csv.gz"), "subject_id", "gender")
        attributes = [genders.get(patient, "") for patient in patients]
    labels = _of_studies(root, label, asked)
    split = _table(root, "split")
    parts = column_by(split, "dicom_id", "split")
    rows = []
    for line, (image, patient, study, a) in enumerate(zip(images, patients, studies, attributes, strict=True), 2):
        file = f"files/p{patient[:2]}/p{patient}/s{study}/{image}.jpg"
        part = partition_of(parts.get(image, ""), CODES, f"{image} in {split}")
        rows.append(Row(file, file, labels.get(study, ""), a, part, patient, line))
    listing = Listing(rows, place, root, attribute, order_of(label), order_of(attribute, VALUES.get(attribute, ())))
    return keep_usable(listing, label, [view in ("PA", "AP") or not asked.frontal for view in views])


def _of_studies(root: Path, label: str, asked: Asked) -> dict[str, str]:
    """The finding in words, by study; a study that the labeller does not have is missing."""
    place = _table(root, "chexpert")
    columns = read_columns(place, ["study_id", label])
    return dict(zip(columns["study_id"], in_words(label, columns[label], asked, place), strict=True))


PRESET = Preset(
    read,
    channels=1,
    mark="mimic-cxr-*-metadata.csv*",
    tables=("mimic-cxr-*.csv", "mimic-cxr-*.csv.gz", "patients.csv*"),
)
