"""Predictions that are another's, to the bit or nearly, and those that are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur.submission.likeness import Said, likenesses, said_of
from tests.records import drawn, make_predictions

ROWS = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=12, slices=5))
RNG = np.random.default_rng(3)
NOISE = RNG.normal(size=ROWS.logits.shape)
SPREAD = NOISE + RNG.normal(size=ROWS.logits.shape)
"""Logits without ties."""


def cell(entry: str, logits: NDArray[np.float64], split: str = "s", seed: int = 0) -> Said:
    return said_of(entry, split, seed, replace(ROWS, logits=logits.astype(np.float32)))


@pytest.mark.parametrize(
    ("logits", "told"),
    {
        "the same": (SPREAD, "the logits of entry theirs on s, seed 0"),
        "a factor": (7 * SPREAD, "but for noise, scale or shift"),
        "a constant by class": (SPREAD + np.array([3.0, -1.0]), "but for noise, scale or shift"),
        "a constant by example": (SPREAD + NOISE[:, :1], "but for noise, scale or shift"),
        "a thousandth of noise": (SPREAD + 1e-3 * NOISE, "correlate by 0.999999"),
    }.values(),
)
def test_copies_are_told(logits: NDArray[np.float64], told: str) -> None:
    (found,) = likenesses([cell("theirs", SPREAD), cell("mine", logits)])
    assert (found.own.entry, found.other.entry) == ("mine", "theirs")
    assert told in found.words


@pytest.mark.parametrize(
    "other",
    [
        cell("mine", SPREAD + 0.05 * NOISE),
        cell("mine", -SPREAD),
        cell("mine", SPREAD, split="another"),
        cell("theirs", SPREAD, seed=1),
        cell("mine", np.zeros_like(SPREAD)),
    ],
    ids=["a twentieth of noise", "the opposite", "another split", "the same entry", "constant"],
)
def test_others_are_not(other: Said) -> None:
    assert list(likenesses([cell("theirs", SPREAD), other])) == []


def test_constant_predictions_are_copies_where_they_are_equal() -> None:
    nothing = np.zeros_like(SPREAD)
    assert [one.own.entry for one in likenesses([cell("theirs", nothing), cell("mine", nothing)])] == ["mine"]
    assert list(likenesses([cell("theirs", nothing), cell("mine", nothing + 1)])) == []


def test_the_first_of_several_is_named_once_and_another_seed_is_said() -> None:
    cells = [cell("a", SPREAD, seed=2), cell("b", 2 * SPREAD), cell("c", 3 * SPREAD)]
    found = list(likenesses(cells))
    assert [(one.own.entry, one.other.entry) for one in found] == [("b", "a"), ("c", "a")]
    assert "on s, seed 0 (there seed 2), but for noise" in found[1].words


def test_the_correlation_is_that_of_numpy() -> None:
    """Of two classes, where centring leaves one number per example: the correlation of the margins."""
    logits = SPREAD + 1e-4 * NOISE
    (found,) = likenesses([cell("theirs", SPREAD), cell("mine", logits)])
    margins = [(one[:, 1] - one[:, 0]).astype(np.float32) for one in (SPREAD, logits)]
    assert found.correlation == pytest.approx(np.corrcoef(*margins)[0, 1], abs=1e-6)
