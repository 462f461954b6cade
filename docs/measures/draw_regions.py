"""Write ``docs/measures/regions.svg``: slices of the phantom with a region blanked, and with nothing but it.

Run it with ``python docs/measures/draw_regions.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robustbench_spur.evaluators.blanking import blanked, region_of
from robustbench_spur.evaluators.regions import Regions
from robustbench_spur.splits.phantom import Phantom

SIZE, BRIGHTER, LEVELS = 64, 2.5, 48
"""Of the images, so bright that the noise of the air is seen; fewer grey levels make a smaller file."""


def draw(path: Path) -> None:
    """Draw the picture: a row for each field strength, a column for each form of the slice.

    Args:
        path: of the SVG file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "regions", "svg.fonttype": "none", "font.family": "sans-serif"})
    phantom, settings = Phantom(), Regions().parameters
    test = phantom.table("field", 0.95).partitions["test"]
    row = test.take(np.flatnonzero((test.labels == 1) & (test.attributes == 0))[[60]])
    masks = {name: np.concatenate(list(phantom.scene(name, "field", row, SIZE))) for name in ("lesion", "body")}
    lesion, body = (region_of(mask, settings.threshold, name) for name, mask in masks.items())
    kinds = {"3 T": phantom.pixels, "1.5 T": phantom.counterfactual}
    figure, axes = plt.subplots(2, 5, figsize=(10.5, 4.4), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for line, (name, make) in zip(axes, kinds.items(), strict=True):
        images = np.concatenate(list(make("field", row, SIZE)))
        forms = {"whole image": images, **blanked(images, lesion, body, round(settings.ring * SIZE))}
        for axis, (form, image) in zip(line, forms.items(), strict=True):
            grey = np.round(np.clip(BRIGHTER * image[0, 0] / 255, 0, 1) * LEVELS) / LEVELS
            axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="none")
            axis.set_xticks([])
            axis.set_yticks([])
            if name == "3 T":
                axis.set_title(form.replace("_", " ").replace(":", " "), fontsize=10)
        line[0].set_ylabel(name, fontsize=10)
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "regions.svg")
