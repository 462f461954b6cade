"""Predictions that are another's, to the bit or nearly, and those that are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.submission.likeness import SKETCHED, Said, copied, likenesses
from tests.records import drawn, make_predictions

ROWS = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=40, slices=5))
RNG = np.random.default_rng(3)
NOISE = RNG.normal(size=ROWS.logits.shape)
SPREAD = NOISE + RNG.normal(size=ROWS.logits.shape)
"""Logits without ties."""


def cell(entry: str, logits: NDArray[np.float64], split: str = "s", seed: int = 0, rows: Predictions = ROWS) -> Said:
    return Said.of(entry, split, seed, replace(rows, logits=logits.astype(np.float32)))


def one_example(logits: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The same with the logits of one example multiplied."""
    out = logits.copy()
    out[7] *= factor
    return out


@pytest.mark.parametrize(
    ("logits", "told"),
    {
        "the same": (SPREAD, "on s, seed 0, the logits of entry theirs"),
        "a factor": (7 * SPREAD, "but for noise, scale or shift"),
        "a constant by class": (SPREAD + np.array([3.0, -1.0]), "but for noise, scale or shift"),
        "a constant by example": (SPREAD + NOISE[:, :1], "but for noise, scale or shift"),
        "a recalibration": (np.sinh(SPREAD - SPREAD.mean(axis=1, keepdims=True)), "but for noise, scale or shift"),
        "a thousandth of noise": (SPREAD + 1e-3 * NOISE, "ranks correlate by 0.99999"),
        "one example that explodes": (one_example(SPREAD, 1.1), "but for noise"),
    }.values(),
)
def test_copies_are_told(logits: NDArray[np.float64], told: str) -> None:
    (found,) = likenesses([cell("theirs", SPREAD), cell("mine", logits)])
    assert (found.own.entry, found.other.entry) == ("mine", "theirs")
    assert told in found.words
    assert copied(found).expected == "predictions of its own"


@pytest.mark.parametrize(
    "other",
    [
        cell("mine", SPREAD + 0.05 * NOISE),
        cell("mine", -SPREAD),
        cell("mine", SPREAD, rows=replace(ROWS, ids=np.char.add(ROWS.ids, "x"))),
        cell("theirs", SPREAD, seed=1),
        cell("mine", np.zeros_like(SPREAD)),
    ],
    ids=["a twentieth of noise", "the opposite", "other examples", "the same entry", "constant"],
)
def test_others_are_not(other: Said) -> None:
    assert list(likenesses([cell("theirs", SPREAD), other])) == []


def test_two_models_with_one_exploding_example_in_common_are_not_alike() -> None:
    cells = [cell(name, one_example(logits, 1e6)) for name, logits in (("theirs", SPREAD), ("mine", NOISE[::-1]))]
    assert list(likenesses(cells)) == []


def test_a_copy_on_another_split_with_the_same_examples_is_told() -> None:
    """The strengths of a shortcut share their test set: predictions of a weak one as those of a strong one would pay."""
    (found,) = likenesses([cell("theirs", SPREAD, split="field@0.5"), cell("mine", SPREAD, split="field@1.0")])
    assert found.words == "on field@1.0, seed 0, the logits of entry theirs on field@0.5, seed 0"
    (own,) = likenesses([cell("mine", SPREAD, split="field@0.5"), cell("mine", SPREAD, split="field@1.0")], within=True)
    assert own.words == "on field@1.0, seed 0, the logits on field@0.5, seed 0"
    assert copied(own).expected == "a run per cell"


def test_constant_predictions_are_copies_where_they_are_equal() -> None:
    nothing = np.zeros_like(SPREAD)
    assert [one.own.entry for one in likenesses([cell("theirs", nothing), cell("mine", nothing)])] == ["mine"]
    assert list(likenesses([cell("theirs", nothing), cell("mine", nothing + 1)])) == []


def test_the_first_of_several_is_named_once_and_another_seed_is_said() -> None:
    cells = [cell("a", SPREAD, seed=2), cell("b", 2 * SPREAD), cell("c", 3 * SPREAD)]
    found = list(likenesses(cells))
    assert [(one.own.entry, one.other.entry) for one in found] == [("b", "a"), ("c", "a")]
    assert found[1].words.startswith("on s, seed 0, the logits of entry a on s, seed 2, but for noise")


def test_the_correlation_is_scipys_of_the_margins() -> None:
    """Of two classes, where centring leaves one number per example."""
    logits = SPREAD + 1e-3 * NOISE
    (found,) = likenesses([cell("theirs", SPREAD), cell("mine", logits)])
    margins = [(one[:, 1] - one[:, 0]).astype(np.float32) for one in (SPREAD, logits)]
    assert found.correlation == pytest.approx(spearmanr(*margins).statistic, abs=1e-6)


@pytest.mark.parametrize(("noise", "alike"), [(0.0, True), (1e-3, True), (0.05, False)])
def test_of_many_examples_a_sketch_is_kept(noise: float, alike: bool) -> None:
    many = make_predictions(drawn((0.9, 0.3, 0.6, 0.8), patients=500, slices=20))
    logits, other = np.random.default_rng(1).normal(size=(2, *many.logits.shape))
    cells = [cell("theirs", logits, rows=many), cell("mine", 2 * logits + noise * other, rows=many)]
    assert all(len(one.direction) == SKETCHED for one in cells)
    assert bool(list(likenesses(cells))) == alike
