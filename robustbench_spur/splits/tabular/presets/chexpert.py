"""CheXpert: ``train.csv`` with Path, Sex, Frontal/Lateral and the findings, in the folder ``CheXpert-v1.0`` or ``-small``.

The owners' ``valid.csv`` (234 images, labelled by other means) is not read: partitions are drawn from the patients of
``train.csv``. What is not mentioned counts as absent.

Source: Irvin et al. 2019, CheXpert, AAAI.
Tested on stand-ins with the owners' names of files and columns.
"""

from __future__ import annotations

import re
from pathlib import Path

from robustbench_spur.splits.tabular.cells import read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import Preset, drawn, find
from robustbench_spur.splits.tabular.presets.radiographs import in_words, keep_usable, order_of
from robustbench_spur.types import SpurbenchError

PATH = re.compile(r"CheXpert-v1\.0[^/]*/(train/(patient\d+)/.+)")
NOTE = "Partitions are drawn by patient from the owners' training set; their validation set of 234 images is not used."


def read(root: Path, asked: Asked) -> Listing:
    """No Finding and Sex, unless another finding or column is asked for."""
    place = find(root, "train.csv")
    label, attribute = asked.label or "No Finding", asked.attribute or "Sex"
    columns = read_columns(place, ["Path", "Frontal/Lateral", label, attribute])
    found = [PATH.fullmatch(path) for path in columns["Path"]]
    known = [match for match in found if match is not None]
    if len(known) < len(found):
        strange = columns["Path"][found.index(None)]
        raise SpurbenchError(f"Expected paths as CheXpert-v1.0/train/patient00001/..., found {strange!r} in {place}.")
    parts = drawn((match[2] for match in known), asked)
    labels, attributes = (in_words(name, columns[name], asked, place) for name in (label, attribute))
    rows = [
        Row(match[1], match[1], y, a, parts[match[2]], match[2], line)
        for line, (match, y, a) in enumerate(zip(known, labels, attributes, strict=True), 2)
    ]
    values = order_of(attribute, ("Female", "Male") if attribute == "Sex" else ())
    listing = Listing(rows, place, root, attribute, order_of(label), values, notes=(NOTE,))
    return keep_usable(listing, label, [view == "Frontal" or not asked.frontal for view in columns["Frontal/Lateral"]])


PRESET = Preset(read, channels=1, mark="train.csv", tables=("train.csv",))
