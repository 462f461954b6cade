"""Camelyon17 of WILDS: ``metadata.csv`` with patient, node, x_coord, y_coord, tumor, center and split, and its ``patches``.

WILDS' partition by hospital: centers 0, 3 and 4 train, 1 validates and 2 tests, so that most groups of validation and test
are empty. Its validation within the training centers shares patients with train and is left out.

Source: Bandi et al. 2018, IEEE TMI 38(2); Koh et al. 2021, WILDS, ICML.
Tested on stand-ins with the same names of files and columns.
"""

from __future__ import annotations

from pathlib import Path

from robustbench_spur.splits.tabular.cells import read_columns
from robustbench_spur.splits.tabular.listing import Asked, Listing, Row
from robustbench_spur.splits.tabular.presets.preset import Preset, find, partition_of

HELD_OUT = {"1": "validation", "2": "test"}
"""Centers that are not trained on."""
WITHIN = {"0": "train", "1": ""}
"""The column ``split`` of the other centers; 1 is left out."""


def read(root: Path, asked: Asked) -> Listing:
    """Tumour and center, unless other columns are asked for."""
    place = find(root, "metadata.csv")
    label, attribute = asked.label or "tumor", asked.attribute or "center"
    names = ["patient", "node", "x_coord", "y_coord", "center", "split"]
    columns = read_columns(place, [*names, label, attribute])
    rows, left = [], 0
    cells = zip(*(columns[name] for name in names), columns[label], columns[attribute], strict=True)
    for line, (patient, node, x, y, center, part, word, a) in enumerate(cells, 2):
        partition = HELD_OUT.get(center) or partition_of(part, WITHIN, f"row {line} of {place}")
        name = f"patient_{patient}_node_{node}"
        file = f"patches/{name}/patch_{name}_x_{x}_y_{y}.png"
        left += not partition
        if partition:
            rows.append(Row(file, file, word, a, partition, patient, line))
    note = (
        f"Left out: {left} patches of WILDS' validation within the training centers, which shares patients with train."
    )
    words = {"0": "normal", "1": "tumor"} if label == "tumor" else {}
    return Listing(rows, place, root, attribute, class_names=words, notes=(note,))


PRESET = Preset(read, channels=3, mark="metadata.csv", tables=("metadata.csv",))
