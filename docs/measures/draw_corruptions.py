"""Write ``docs/measures/corruptions.svg``: a slice of the phantom under each corruption at severities 1, 3 and 5.

Run it with ``python docs/measures/draw_corruptions.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_spur.corruptions import CORRUPTIONS, corrupt
from robustbench_spur.splits.phantom import Phantom

SIZE, SEVERITIES, BRIGHTER = 64, (0, 1, 3, 5), 1.6
LEVELS = 48
"""Of grey: fewer make a smaller file, and nobody sees it."""


def draw(path: Path) -> None:
    """Draw the picture: a column for each corruption, a row for each severity, the slice itself on top.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "corruptions", "svg.fonttype": "none", "font.family": "sans-serif"})
    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    row = test.take(np.flatnonzero((test.labels == 1) & (test.extra["field_strength"] == 3.0))[[60]])
    image = np.concatenate(list(phantom.pixels("field", row, SIZE)))
    figure, axes = plt.subplots(
        len(SEVERITIES), len(CORRUPTIONS), figsize=(10.5, 6.2), gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    for line, severity in zip(axes, SEVERITIES, strict=True):
        for axis, name in zip(line, CORRUPTIONS, strict=True):
            damaged = corrupt(image, row.ids.tolist(), name, severity, seed=7)[0, 0]
            axis.imshow(
                np.round(BRIGHTER * damaged * LEVELS) / LEVELS, cmap="gray", vmin=0, vmax=1, interpolation="none"
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if not severity:
                axis.set_title(name.replace("_", " "), fontsize=9)
        line[0].set_ylabel(f"severity {severity}" if severity else "the slice", fontsize=9)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "corruptions.svg")
