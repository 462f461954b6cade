"""Predictions that are changed together with every number that is stated of them: only a model can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robustbench_spur.manifest import Manifest
from robustbench_spur.record import read_predictions
from robustbench_spur.submission.entry import read_record
from tests.submission.makers import Arrays, Copy, stated


def restated(copy: Copy, manifest: Manifest, change: Callable[[Any, Any], Any]) -> None:
    """Change all logits of the first cell, and state the numbers that they then give.

    Args:
        copy: of an entry.
        manifest: of the board.
        change: of logits, shape (examples, classes), given the labels too.
    """
    held: Arrays = {}

    def changed(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.endswith("logits")]:
            labels = arrays[f"{name.partition('/')[0]}/labels"]
            arrays[name] = change(arrays[name], labels).astype(np.float32)
        right = (arrays["test/logits"].argmax(1) == arrays["test/labels"])[arrays["test/pgd_rows"]]
        arrays["test/pgd_robust"] = (arrays["test/pgd_robust"] & right[:, None]).astype(np.uint8)
        held.update(arrays)

    copy.arrays(changed)
    name = f"{copy.cell}.json"
    part = read_record(copy.path(name), name).split
    assert part is not None
    predictions = {one: read_predictions(held, part, one) for one in ("validation", "test")}
    numbers = stated(predictions, manifest)
    for by in numbers.values():  # an entry states what the board's columns are of
        by["validation"] = {"worst_group": by["validation"]["worst_group"]}
    copy.record(lambda content: content.update(numbers))
