"""Write ``docs/phantom.png``: slices of the phantom, with their counterfactuals.

Run it with ``python docs/contact_sheet.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from robustbench_spur.splits.phantom import Phantom

SIZE, COLUMNS, MARGIN, LABEL = 160, 7, 4, 20


def main() -> None:
    """Render one row per kind of image, the same slices in the first four."""
    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    patients = np.unique(test.clusters)[3 : 3 + COLUMNS]

    def first(label: int) -> np.ndarray:
        rows = [np.flatnonzero((test.clusters == patient) & (test.labels == label))[1] for patient in patients]
        return np.array(rows)

    tumour, clear = test.take(first(1)), test.take(first(0))
    rows = {
        "tumour, as drawn": phantom.pixels("field", tumour, SIZE),
        "the same slices at the other field strength": phantom.counterfactual("field", tumour, SIZE),
        "the same slices without their lesion": phantom.without_lesion("field", tumour, SIZE),
        "the same patients, slices without tumour": phantom.pixels("field", clear, SIZE),
    }
    step = SIZE + MARGIN
    sheet = Image.new("L", (COLUMNS * step - MARGIN, len(rows) * (step + LABEL)), 20)
    draw = ImageDraw.Draw(sheet)
    for place, (title, blocks) in enumerate(rows.items()):
        top = place * (step + LABEL)
        draw.text((4, top + 4), title, fill=230)
        for column, image in enumerate(np.concatenate(list(blocks))[:, 0]):
            bright = np.minimum(image.astype(np.float64) * 1.3, 255).astype(np.uint8)
            sheet.paste(Image.fromarray(bright), (column * step, top + LABEL))
    sheet.save(Path(__file__).parent / "phantom.png", optimize=True)


if __name__ == "__main__":
    main()
