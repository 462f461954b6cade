"""Write the pictures of a board's split pages: examples of every group, and counterfactual pairs with where two models look.

    python docs/board_pictures.py leaderboards/v1 --weights ERM=erm.safetensors GroupDRO=groupdro.safetensors

The weights are of the board's network, trained on ``phantom/field`` (``spurbench export``). Pictures are made once: pixels may
differ by a grey level between machines, and the pages that show them should not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from robustbench_spur.networks import build, load_classifier
from robustbench_spur.page.addresses import slug
from robustbench_spur.registry import Registry
from robustbench_spur.saliency import grad_cam, last_maps
from robustbench_spur.splitref import OpenSplit, parse_splits

SPLITS = ("phantom/field@all", "phantom/orientation", "phantom/clean")
SIZE, COLUMNS, MARGIN, LABEL, SIDE, TIMES = 64, 6, 4, 18, 118, 2
PAIRED = "phantom/field@0.95"
Images = NDArray[np.uint8]


def bright(image: NDArray[Any]) -> Image.Image:
    """A grey slice, enlarged, a little brighter than it is."""
    lifted = np.minimum(image.astype(np.float64) * 1.3, 255).astype(np.uint8)
    return Image.fromarray(lifted).resize((TIMES * SIZE, TIMES * SIZE), Image.Resampling.BICUBIC)


def examples(split: OpenSplit) -> Image.Image:
    """A row of test slices for every group, each of another patient."""
    rows, groups = split.table.partitions["test"], split.table.groups
    group, step = groups.index(rows.labels, rows.attributes), TIMES * SIZE + MARGIN
    sheet = Image.new("L", (SIDE + COLUMNS * step - MARGIN, len(groups) * step - MARGIN), 20)
    draw = ImageDraw.Draw(sheet)
    for place, name in enumerate(groups.names):
        own = np.flatnonzero(group == place)
        _, first = np.unique(rows.clusters[own], return_index=True)
        chosen = rows.take(own[np.sort(first)[2 : 2 + COLUMNS]])
        images = np.concatenate(list(split.dataset.pixels(split.ref.split, chosen, SIZE)))
        draw.text((6, place * step + step // 2 - 8), name, fill=235)
        for column, image in enumerate(images[:, 0]):
            sheet.paste(bright(image), (SIDE + column * step, place * step))
    return sheet


def classifier(path: Path, channels: int, classes: int) -> Any:
    """A network of the board with trained weights, in eval mode."""
    network = {
        "backbone": "smallcnn",
        "channels": channels,
        "seed": 0,
        "pretrained": False,
        "mean": [0.5] * channels,
        "std": [0.5] * channels,
    }
    return load_classifier(build(network, classes), load_file(path), str(path)).eval()


def looked_at(model: Any, image: Images, label: int) -> tuple[float, Image.Image]:
    """P(class 1) of a slice, and the slice with where the model looks in red (Grad-CAM)."""
    tensor = torch.from_numpy(image[None].astype(np.float32) / 255)
    with torch.no_grad():
        share = float(torch.softmax(model(tensor), dim=1)[0, 1])
    heat = grad_cam(model, last_maps(model, tensor)[0], tensor, torch.tensor([label]))[0]
    red = heat / (heat.max() or 1)
    grey = np.minimum(image[0].astype(np.float64) * 1.3, 255)
    shown = np.stack([np.maximum(grey, 255 * red), grey * (1 - red), grey * (1 - red)], axis=2)
    return share, Image.fromarray(shown.astype(np.uint8)).resize((TIMES * SIZE,) * 2, Image.Resampling.BICUBIC)


def pairs(split: OpenSplit, models: dict[str, Any]) -> Image.Image:
    """A slice and the same at the other field strength, each with what every model says and where it looks."""
    rows, groups = split.table.partitions["test"], split.table.groups
    group, step = groups.index(rows.labels, rows.attributes), TIMES * SIZE + MARGIN
    chosen = rows.take(np.array([np.flatnonzero(group == place)[17] for place in range(len(groups))]))
    images = np.concatenate(list(split.dataset.pixels(split.ref.split, chosen, SIZE)))
    others = np.concatenate(list(split.dataset.scene("counterfactual", split.ref.split, chosen, SIZE)))
    columns = 2 * (1 + len(models))
    sheet = Image.new("RGB", (SIDE + columns * step - MARGIN, LABEL + len(groups) * (step + LABEL)), (20, 20, 20))
    draw = ImageDraw.Draw(sheet)
    heads = ["slice", *models, "re-rendered", *models]
    for column, head in enumerate(heads):
        draw.text((SIDE + column * step + 4, 4), head, fill=(235, 235, 235))
    for place, name in enumerate(groups.names):
        top, label = LABEL + place * (step + LABEL), int(chosen.labels[place])
        draw.text((6, top + step // 2 - 8), name, fill=(235, 235, 235))
        for half, image in enumerate((images[place], others[place])):
            left = SIDE + half * (1 + len(models)) * step
            sheet.paste(bright(image[0]), (left, top))
            for column, model in enumerate(models.values(), 1):
                share, picture = looked_at(model, image, label)
                sheet.paste(picture, (left + column * step, top))
                told = f"P({groups.classes[1]}) {share:.2f}"
                draw.text((left + column * step + 4, top + TIMES * SIZE + 2), told, fill=(235, 235, 235))
    return sheet


def main() -> None:
    """Write a picture for every embedded split, and the pairs of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", type=Path)
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE")
    options = parser.parse_args()
    folder, registry = options.board / "pictures", Registry()
    folder.mkdir(exist_ok=True)
    for text in SPLITS:
        for ref in parse_splits(text, registry):
            split = ref.open(None)
            examples(split).save(folder / f"{slug(ref.full)}.png", optimize=True)
            if ref.full == PAIRED and options.weights:
                files = dict(text.split("=", 1) for text in options.weights)
                models = {
                    name: classifier(Path(path), split.dataset.channels, len(split.table.groups.classes))
                    for name, path in files.items()
                }
                pairs(split, models).save(folder / f"{slug(ref.full)}.pairs.png", optimize=True)


if __name__ == "__main__":
    main()
