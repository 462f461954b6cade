"""Waterbirds: ``metadata.csv`` with img_filename, y, place and split (0, 1, 2), beside the folders of images.

Source: Sagawa et al. 2020, Distributionally robust neural networks, ICLR; the generator of kohpangwei/group_DRO.
Tested on a real ``metadata.csv`` of that generator, of all 11,788 images of CUB, with images written for it.
"""

from __future__ import annotations

from pathlib import Path

from robustbench_spur.splits.tabular.cells import read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import CODES, Preset, find, partition_of

NOTES = (
    "The published validation set is drawn like the test, half of each class on either background: all groups are in it.",
    "DFR's authors fit its last layer on a half of that validation set; here all of it is for choosing unless adapt_share is"
    " given.",
)


def read(root: Path, asked: Asked) -> Listing:
    """Bird and background, unless other columns are asked for."""
    place = find(root, "metadata.csv")
    label, attribute = asked.label or "y", asked.attribute or "place"
    columns = read_columns(place, ["img_filename", label, attribute, "split"])
    cells = zip(columns["img_filename"], columns[label], columns[attribute], columns["split"], strict=True)
    rows = [
        Row(file, file, y, a, partition_of(part, CODES, f"row {line} of {place}"), "", line)
        for line, (file, y, a, part) in enumerate(cells, 2)
    ]
    return Listing(
        rows,
        place,
        root,
        "background" if attribute == "place" else attribute,
        class_names={"0": "landbird", "1": "waterbird"} if label == "y" else {},
        value_names={"0": "land", "1": "water"} if attribute == "place" else {},
        notes=NOTES,
    )


PRESET = Preset(read, channels=3, mark="metadata.csv", tables=("metadata.csv",))
