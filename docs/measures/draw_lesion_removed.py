"""Write ``docs/measures/lesion_removed.svg``: slices with their lesion, without it, and what the two differ by.

Run it with ``python docs/measures/draw_lesion_removed.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_spur.splits.phantom import Phantom

SIZE, BRIGHTER, LEVELS, SLICES = 64, 1.6, 48, (60, 127, 200, 333)
"""Of the images; fewer grey levels make a smaller file."""


def draw(path: Path) -> None:
    """Draw the picture: a column for each of four patients.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "lesion_removed", "svg.fonttype": "none", "font.family": "sans-serif"})
    phantom = Phantom()
    test = phantom.table("field", 0.95).partitions["test"]
    rows = test.take(np.flatnonzero(test.labels == 1)[list(SLICES)])
    before, after = (
        np.concatenate(list(make("field", rows, SIZE)))[:, 0].astype(np.float64) / 255
        for make in (phantom.pixels, phantom.without_lesion)
    )
    shown = {"as it is": before, "without its lesion": after, "difference": np.abs(before - after)}
    figure, axes = plt.subplots(3, len(SLICES), figsize=(8, 6.1), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for line, (name, images) in zip(axes, shown.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            grey = np.round(np.clip(BRIGHTER * image, 0, 1) * LEVELS) / LEVELS
            axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="none")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=10)
    for axis, value in zip(axes[0], rows.attributes, strict=True):
        axis.set_title("1.5 T" if value else "3 T", fontsize=10)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "lesion_removed.svg")
