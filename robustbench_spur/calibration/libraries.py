"""The same numbers by netcal and torchmetrics, for records and tests. Both are imported when called, with torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.bins import equal_mass_edges
from robustbench_spur.evaluators.base import Floats

Kind = Literal["mean", "average", "largest"]


def by_netcal(
    probability: Floats, outcome: NDArray[np.bool_], bins: int, kind: Kind, *, mass: bool = False
) -> float | None:
    """Calibration error by netcal in its one-dimensional mode: its N x K mode takes the positive class where there are two.

    Args:
        probability: of the outcome, shape (n,).
        outcome: shape (n,).
        bins: number of bins.
        kind: which mean of the gaps.
        mass: bins of equal mass.

    Returns:
        In [0, 1]; None without examples, or where tied probabilities leave a bin of equal mass without width: netcal then
        raises.
    """
    from netcal.metrics import ACE, ECE, MCE

    if not len(probability) or (mass and (np.diff(equal_mass_edges(probability, bins)) == 0).any()):
        return None
    measure = {"mean": ECE, "average": ACE, "largest": MCE}[kind](bins, equal_intervals=not mass)
    return float(measure.measure(probability, outcome.astype(np.int64)))


def by_torchmetrics(
    probability: Floats, outcome: NDArray[np.bool_], bins: int, kind: Literal["mean", "largest"]
) -> float | None:
    """Calibration error of an outcome by torchmetrics, in float32; None without examples.

    Args:
        probability: of the outcome, shape (n,).
        outcome: shape (n,).
        bins: number of bins of equal width.
        kind: which mean of the gaps.
    """
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    if not len(probability):
        return None
    norm: Literal["l1", "max"] = "l1" if kind == "mean" else "max"
    stated = torch.from_numpy(np.minimum(probability, _below_one()))
    return float(binary_calibration_error(stated, torch.from_numpy(outcome.astype(np.int64)), n_bins=bins, norm=norm))


def top_by_torchmetrics(
    probabilities: Floats, labels: NDArray[np.int64], bins: int, kind: Literal["mean", "largest"]
) -> float | None:
    """Calibration error of the top label by torchmetrics' multiclass function, in float32.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        bins: number of bins of equal width.
        kind: which mean of the gaps.

    Returns:
        In [0, 1]; None without examples, or for a single class.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    classes = probabilities.shape[1]
    if not len(labels) or classes < 2:
        return None
    norm: Literal["l1", "max"] = "l1" if kind == "mean" else "max"
    stated, true = torch.from_numpy(np.minimum(probabilities, _below_one())), torch.from_numpy(labels)
    return float(multiclass_calibration_error(stated, true, num_classes=classes, n_bins=bins, norm=norm))


def _below_one() -> float:
    """The float below 1: torchmetrics puts a probability of exactly 1 in a bin of its own (its issue 3510)."""
    return float(np.nextafter(np.float32(1), np.float32(0)))
