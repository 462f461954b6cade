"""Where adversarial changes lie, of networks whose gradient is known; whether they transfer, of networks made for it."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.attack import attackable
from robustbench_spur.attack.subset import halves
from robustbench_spur.attack.universal import universal
from robustbench_spur.evaluators import fragility
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.fragility import Fragility
from robustbench_spur.literals import read_plugins
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Estimate, SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe
from tests.evaluators.scenery import (
    AIR,
    CENTRE,
    GROUPS,
    SIDE,
    Looks,
    always_clear,
    balanced_rows,
    collected,
    drawn_again,
    in_blocks,
    lesion_reader,
    masks,
    numbers,
    scanner_reader,
    scene,
    subject_of,
    toy_subject,
)
from tests.evaluators.test_pgd import convolutional, linear, mostly_right, noise_images

PIXELS = SIDE * SIDE


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examine(subject: Subject, **parameters: Any) -> tuple[Fragility, Predictions]:
    evaluator = Fragility(Fragility.Parameters(**{"examples": 4000, **parameters}))
    found = collected(evaluator, subject)
    assert set(found.arrays) == set(evaluator.collects)
    return evaluator, found


# Where the change lies


def test_a_reader_of_the_lesion_is_misled_in_the_lesion() -> None:
    """Perfect: all energy lies in the one pixel of 36 that is the lesion."""
    found = numbers(*examine(toy_subject(lesion_reader())))
    for metric in ("fragility_ratio", "fragility_gradient_ratio"):
        assert found[metric] == pytest.approx(PIXELS)
        assert found[f"{metric}_in:tumour@3T"] == found[f"{metric}_in:tumour@1.5T"] == pytest.approx(PIXELS)
        assert math.isnan(found[f"{metric}_in:clear@3T"])


def test_a_reader_of_the_scanner_is_misled_elsewhere() -> None:
    """Shortcut only: none lies in the lesion; of the tumours at 3 T all are wrong, and are not attacked."""
    evaluator, predictions = examine(toy_subject(scanner_reader()))
    found = numbers(evaluator, predictions)
    assert found["fragility_ratio"] == found["fragility_gradient_ratio"] == 0
    assert math.isnan(found["fragility_ratio_in:tumour@3T"])
    reason = "no right example that shows a lesion has a gradient in this group"
    assert evaluator.details(predictions)["undefined"]["fragility_ratio_in:tumour@3T"] == reason
    assert evaluator.details(predictions)["lesions"] == 3


def test_a_constant_network_has_no_gradient() -> None:
    labels, attributes = np.ones(8, np.int64), np.arange(8) % 2
    subject = subject_of(_Tumour(), scene(labels, attributes), labels, attributes, masks(labels))
    evaluator, predictions = examine(subject)
    assert math.isnan(numbers(evaluator, predictions)["fragility_ratio"])
    reason = "no right example that shows a lesion has a gradient"
    assert evaluator.details(predictions)["undefined"]["fragility_ratio"] == reason
    assert evaluator.details(predictions)["examples"] == 8


class _Tumour(nn.Module):
    """Calls every image a tumour."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 1.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bias + 0 * images.flatten(1).sum(dim=1, keepdim=True)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.sampled_from([0.5, 500.0]))
@example(1246, 1, 0.5)  # no example of the last group shows a lesion and is right
def test_of_a_linear_network_the_shares_are_those_of_its_weights(seed: int, channels: int, scale: float) -> None:
    """Far from black and white, L2-PGD's change is along the weights, whatever the image."""
    rng = np.random.default_rng(seed)
    images = noise_images(seed, 40, channels=channels, low=100, high=150)
    weight = scale * rng.normal(0, 1, (2, channels * 64))
    model = linear(weight, -np.median((images.reshape(40, -1) / 255) @ weight.T, axis=0), channels=channels)
    labels = mostly_right(model, images)
    lesion = (rng.random((40, 1, 8, 8)) * (rng.random((40, 1, 8, 8)) < 0.3)).astype(np.float32)
    lesion[::4] = 0
    groups, attributes = universe(2), np.arange(40) % 2
    subject = subject_of(model, images, labels, attributes, {"lesion": lesion}, groups)
    evaluator, predictions = examine(subject, radius=0.05)
    energy = np.square(weight[1] - weight[0]).reshape(channels, 8, 8).sum(axis=0)
    share = (lesion[:, 0] * energy).sum(axis=(1, 2)) / energy.sum()
    known = (lesion.sum(axis=(1, 2, 3)) > 0) & predictions.correct
    for name in ("change", "gradient"):
        assert predictions.arrays[f"fragility_{name}"] == pytest.approx(
            np.where(known, share, np.nan), rel=1e-3, nan_ok=True
        )
    expected = share[known].mean() / lesion[known].mean()
    found = numbers(evaluator, predictions)
    assert found["fragility_ratio"] == pytest.approx(expected, rel=1e-3)
    one = known & (predictions.group == 2)
    within = share[one].mean() / lesion[one].mean() if one.any() else np.nan
    assert found["fragility_gradient_ratio_in:c1@v0"] == pytest.approx(within, rel=1e-3, nan_ok=not one.any())


def test_random_networks_are_near_chance_and_in_linf_all_are() -> None:
    images = noise_images(0, 200, size=16)
    model = convolutional(3, images)
    labels, attributes = mostly_right(model, images), np.arange(200) // 2 % 2
    lesion = np.zeros((200, 1, 16, 16), np.float32)
    lesion[:, :, :4, :4] = 1
    # round the edges, so that no place is likelier than another: a network's gradient is weaker at the border
    for mask, shift in zip(lesion, np.random.default_rng(0).integers(0, 16, (200, 2)), strict=True):
        mask[0] = np.roll(mask[0], shift, axis=(0, 1))
    subject = subject_of(model, images, labels, attributes, {"lesion": lesion}, universe())
    found = numbers(*examine(subject))
    assert found["fragility_ratio"] == pytest.approx(1, abs=0.1)
    assert found["fragility_gradient_ratio"] == pytest.approx(1, abs=0.1)
    # even of a network whose weights lie in one place, since nearly every pixel moves by the radius
    weight = np.random.default_rng(1).normal(0, 1, (2, 256))
    weight[:, :64] *= 20
    images, half = noise_images(1, 60, size=16, low=100, high=150), np.zeros((60, 1, 16, 16), np.float32)
    half[:, :, :4] = 1
    steep = linear(weight, -np.median((images.reshape(60, -1) / 255) @ weight.T, axis=0))
    subject = subject_of(steep, images, mostly_right(steep, images), np.arange(60) % 2, {"lesion": half}, universe())
    ratios = [
        numbers(*examine(subject, norm=norm, radius=radius))["fragility_ratio"]
        for norm, radius in (("l2", 0.05), ("linf", 0.01))
    ]
    assert ratios[0] > 3.9
    assert ratios[1] == pytest.approx(1, abs=0.02)


# Whether it transfers


class TwoReaders(nn.Module):
    """Reads the lesion's pixel at 3 T and a pixel beside it at 1.5 T, told apart by the air."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        row, column = CENTRE
        here, there = images[:, 0, row, column], images[:, 0, row, column + 1]
        score = self.slope * (torch.where(images[:, 0, AIR[0], AIR[1]] > 0.5, there, here) - 0.7)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def two_places(per_group: int = 6) -> Subject:
    """Slices whose lesion shows in both pixels."""
    labels, attributes = balanced_rows(per_group)
    images = scene(labels, attributes)
    images[:, 0, CENTRE[0], CENTRE[1] + 1] = images[:, 0, CENTRE[0], CENTRE[1]]
    return subject_of(TwoReaders(), images, labels, attributes, masks(labels))


def matrix(found: dict[str, float]) -> list[list[float]]:
    return [[found[f"fragility_transfer:{a}:{b}"] for b in GROUPS.values] for a in GROUPS.values]


def test_changes_transfer_where_the_same_thing_is_read() -> None:
    """Perfect, by the lesion's pixel: tissue 0.4 and tumour 1 are 0.3 from the threshold of 0.7."""
    for radius, accuracy in ((0.29, 1.0), (0.31, 0.0)):
        found = numbers(*examine(toy_subject(lesion_reader(), 4), universal_radius=radius))
        assert matrix(found) == [[accuracy] * 2] * 2
        assert found["fragility_transfer_gap"] == 0


def test_changes_do_not_transfer_where_each_value_has_its_own_trait() -> None:
    evaluator, predictions = examine(two_places(), universal_radius=0.31)
    assert predictions.correct.all()
    found = numbers(evaluator, predictions)
    assert matrix(found) == [[0, 1], [1, 0]]
    assert found["fragility_transfer_gap"] == 1
    rows = evaluator.details(predictions)["transfer"]
    assert [(row["met_at"], row["clean"]) for row in rows] == [("3T", 1), ("1.5T", 1)]
    assert rows[0]["made_at"] == {"3T": 0, "1.5T": 1}
    # random signs move each pixel towards the threshold or away from it: half of the classes at most
    assert all(0 < row["random"] < 1 for row in rows)


def test_shortcut_only_and_constant() -> None:
    """Of the scanner's reader one class at each value is right; a change of 0.31 turns the air to the other value."""
    evaluator, predictions = examine(toy_subject(scanner_reader(), 4), universal_radius=0.31)
    # no example of clear at 1.5T or of tumour at 3T is right: nothing to make a change on
    assert all(math.isnan(value) for row in matrix(numbers(evaluator, predictions)) for value in row)
    reason = "a class has no right examples to make the change on, or none that meet it"
    assert evaluator.details(predictions)["undefined"]["fragility_transfer_gap"] == reason
    found = numbers(*examine(toy_subject(always_clear(), 4)))
    assert all(math.isnan(value) for row in matrix(found) for value in row)


def test_a_designed_universe_counts_the_classes_that_both_values_have() -> None:
    """Of clear@3T, clear@1.5T and tumour@1.5T, tumour has no change from 3 T, and does not count in that cell."""
    labels, attributes = np.repeat([0, 0, 1], 6), np.repeat([0, 1, 1], 6)
    images = scene(labels, attributes)
    groups = GROUPS.only((0, 1, 3))
    subject = subject_of(lesion_reader(), images, labels, attributes, masks(labels), groups)
    found = numbers(*examine(subject, universal_radius=0.29))
    assert matrix(found) == [[1, 1], [1, 1]]
    found = numbers(*examine(subject, universal_radius=0.31))
    assert matrix(found) == [[0, 0], [0, 0]]


def test_nobody_meets_a_change_that_was_made_on_him() -> None:
    labels, attributes = balanced_rows(10)
    subject = subject_of(lesion_reader(), scene(labels, attributes), labels, attributes, masks(labels), slices=5)
    predictions, rows = subject.predictions, np.arange(40)
    first, second = halves(predictions, rows, 7)
    assert (first ^ second).all()
    assert not set(predictions.patient[first]) & set(predictions.patient[second])
    for group in range(4):
        assert len(set(predictions.patient[first & (predictions.group == group)])) == 1
    evaluator = Fragility()
    for value, fitted, met in evaluator._sources(predictions, rows):
        assert (predictions.attributes[fitted] == value).all()
        assert not set(predictions.patient[fitted]) & set(predictions.patient[met])
        assert set(predictions.labels[fitted]) == set(predictions.labels[met])
    single = dataclasses.replace(predictions, clusters=np.full(40, "p", np.str_))
    assert not evaluator._sources(single, rows)


def test_the_first_step_is_the_sign_of_the_mean_gradient() -> None:
    images = noise_images(2, 50, size=16)
    model = convolutional(2, images)
    clean = torch.from_numpy(images).float() / 255
    labels = model(clean).argmax(1)
    keep = labels == 1
    clean, labels = clean[keep], labels[keep]
    at = clean.clone().requires_grad_(True)
    logits = model(at)
    # of two classes the levelled gradient is half that of the lead
    lead = (logits[:, 1] - logits[:, 0]).sum()
    sign = -torch.autograd.grad(lead, at)[0].mean(dim=0, keepdim=True).sign()
    with attackable(model, torch.device("cpu")):
        found = universal(model, clean, labels, radius=0.1, length=0.02, steps=1, batch=7)
        longer = universal(model, clean, labels, radius=0.1, length=0.02, steps=10, batch=7)
    assert torch.equal(found, 0.02 * sign)
    assert float(longer.abs().max()) <= 0.1
    fooled = [int((model((clean + change).clamp(0, 1)).argmax(1) != labels).sum()) for change in (found, longer)]
    assert fooled[1] >= fooled[0] > 0


def test_a_universal_change_is_one_step_where_that_is_enough() -> None:
    clean, labels = torch.full((3, 1, SIDE, SIDE), 0.75), torch.ones(3, dtype=torch.int64)
    model = Looks(CENTRE, 0.7)
    model.slope = nn.Parameter(torch.tensor(4.0))  # type: ignore[assignment]
    with attackable(model, torch.device("cpu")):
        found = universal(model, clean, labels, radius=0.5, length=0.1, steps=20, batch=2)
    expected = torch.zeros(1, 1, SIDE, SIDE)
    expected[0, 0, CENTRE[0], CENTRE[1]] = -0.1
    assert torch.equal(found, expected)


# The numbers


def by_hand() -> tuple[Fragility, Predictions]:
    """Two patients per group of one example each; the last is wrong."""
    labels, attributes = np.repeat([0, 0, 1, 1], 2), np.repeat([0, 1, 0, 1], 2)
    logits = 40.0 * np.eye(2)[np.where(np.arange(8) == 7, 0, labels)]
    predictions = predictions_of(labels, attributes, np.arange(8), logits, GROUPS)
    nan = np.nan
    arrays: dict[str, NDArray[Any]] = {
        "rows": np.arange(8),
        "area": np.array([nan, nan, nan, nan, 0.1, 0.2, 0.1, 0.1]),
        "change": np.array([nan, nan, nan, nan, 0.5, 0.1, 0.3, nan]),
        "gradient": np.array([nan, nan, nan, nan, 0.2, nan, 0.1, nan]),
        "transferred": np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0], [1, 0], [0, 0]], np.uint8),
        "random": np.array([1, 1, 1, 1, 1, 0, 1, 0], np.uint8),
    }
    arrays = {f"fragility_{name}": values for name, values in arrays.items()}
    return Fragility(), dataclasses.replace(predictions, arrays=arrays)


def test_numbers_by_hand() -> None:
    evaluator, predictions = by_hand()
    found = numbers(evaluator, predictions)
    assert found == pytest.approx(
        {
            "fragility_share": 0.9 / 3,
            "fragility_share_in:clear@3T": math.nan,
            "fragility_share_in:clear@1.5T": math.nan,
            "fragility_share_in:tumour@3T": 0.3,
            "fragility_share_in:tumour@1.5T": 0.3,
            "fragility_ratio": 0.9 / 0.4,
            "fragility_ratio_in:clear@3T": math.nan,
            "fragility_ratio_in:clear@1.5T": math.nan,
            "fragility_ratio_in:tumour@3T": 0.6 / 0.3,
            "fragility_ratio_in:tumour@1.5T": 3,
            "fragility_gradient_ratio": 0.3 / 0.2,
            "fragility_gradient_ratio_in:clear@3T": math.nan,
            "fragility_gradient_ratio_in:clear@1.5T": math.nan,
            "fragility_gradient_ratio_in:tumour@3T": 2,
            "fragility_gradient_ratio_in:tumour@1.5T": 1,
            "fragility_transfer:3T:3T": (1 + 0) / 2,
            "fragility_transfer:3T:1.5T": (1 / 2 + 1 / 2) / 2,
            "fragility_transfer:1.5T:3T": (0 + 1 / 2) / 2,
            "fragility_transfer:1.5T:1.5T": (1 + 0) / 2,
            "fragility_transfer_gap": ((0.25 - 0.5) + (0.5 - 0.5)) / 2,
        },
        nan_ok=True,
    )
    counts = np.array([[0, 1, 1, 1, 3, 1, 1, 0]], dtype=float)
    again = {name: float(value[0]) for name, value in evaluator.measure(predictions, counts).items()}
    assert again["fragility_ratio"] == pytest.approx((3 * 0.5 + 0.1 + 0.3) / (0.3 + 0.2 + 0.1))
    assert again["fragility_transfer:1.5T:3T"] == pytest.approx((0 + 3 / 4) / 2)
    behind = evaluator.support(predictions)
    shares = {"fragility_share": 3, "fragility_share_in:tumour@3T": 2, "fragility_share_in:tumour@1.5T": 1}
    assert {name: count for name, count in behind.items() if count} == {
        **shares,
        **{f"fragility_transfer:{a}:{b}": 4 for a in GROUPS.values for b in GROUPS.values},
    }
    details = evaluator.details(predictions)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["transfer"][0]["random"] == pytest.approx((1 + 1 / 2) / 2)
    assert details["transfer"][1]["clean"] == pytest.approx((1 + 1 / 2) / 2)
    everyone = details["shares"][0]
    assert (everyone["group"], everyone["examples"]) == ("all", 2)  # of which both are known
    assert [everyone[name] for name in ("area", "change", "gradient")] == pytest.approx([0.1, 0.4, 0.15])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_resampling_is_drawing_the_patients(seed: int) -> None:
    evaluator = Fragility(Fragility.Parameters(examples=40_000))
    predictions = reference.random(seed, rows=60, patients=8)
    rng = np.random.default_rng(seed)
    right = predictions.correct
    lesion = (predictions.labels == 1) & right
    arrays: dict[str, NDArray[Any]] = {
        "rows": np.arange(60),
        **{name: np.where(lesion, rng.random(60), np.nan) for name in ("area", "change", "gradient")},
        "transferred": np.where(rng.random((60, 2)) < 0.2, 2, right[:, None] & (rng.random((60, 2)) < 0.6)),
        "random": right.astype(np.uint8),
    }
    predictions = dataclasses.replace(predictions, arrays={f"fragility_{name}": one for name, one in arrays.items()})
    counts = resample_counts(len(predictions.patients), 3, seed)
    found = evaluator.measure(predictions, counts)
    for row, times in enumerate(counts):
        again = drawn_again(predictions, times)
        again = dataclasses.replace(again, arrays={**again.arrays, "fragility_rows": np.arange(len(again))})
        expected = numbers(evaluator, again)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("per_group", [0, 1])
def test_few_patients_and_none(per_group: int) -> None:
    evaluator, predictions = examine(toy_subject(lesion_reader(), per_group))
    details, found = evaluator.details(predictions), numbers(evaluator, predictions)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert set(details["undefined"]) == {name for name, value in found.items() if math.isnan(value)}
    assert math.isnan(found["fragility_transfer_gap"])
    if not per_group:
        assert details["undefined"]["fragility_ratio"] == "no example shows a lesion"


def test_one_value_and_ten_classes() -> None:
    images = noise_images(4, 80)
    weight = np.random.default_rng(4).normal(0, 1, (10, 64))
    model = linear(weight, -0.5 * weight.sum(axis=1))
    labels = mostly_right(model, images)
    lesion = np.ones((80, 1, 8, 8), np.float32)
    subject = subject_of(model, images, labels, 0 * labels, {"lesion": lesion}, universe(10, 1))
    evaluator, predictions = examine(subject)
    found = numbers(evaluator, predictions)
    assert found["fragility_ratio"] == pytest.approx(1)
    reason = "one attribute value: there is no other to transfer to"
    assert evaluator.details(predictions)["undefined"]["fragility_transfer_gap"] == reason


def test_many_rows() -> None:
    evaluator = Fragility()
    predictions = reference.random(0, rows=200_000, patients=3000)
    rows = np.sort(fragility.balanced_subset(predictions, 400, 2025))
    ones = np.full(len(rows), 0.5)
    arrays: dict[str, NDArray[Any]] = {
        "rows": rows,
        **dict.fromkeys(("area", "change", "gradient"), ones),
        "transferred": np.repeat(predictions.correct[rows, None], 2, axis=1).astype(np.uint8),
        "random": predictions.correct[rows].astype(np.uint8),
    }
    predictions = dataclasses.replace(predictions, arrays={f"fragility_{name}": one for name, one in arrays.items()})
    found = evaluator.measure(predictions, resample_counts(3000, 200, 0))
    assert found["fragility_ratio"] == pytest.approx(np.ones(200))
    assert (found["fragility_transfer_gap"] == 0).all()


# What collecting leaves behind, and what it refuses


def test_repeats_and_gives_back_what_it_borrowed() -> None:
    images = noise_images(8, 60, size=16)
    model = convolutional(8, images)
    labels, attributes = mostly_right(model, images), np.arange(60) // 2 % 2
    lesion = np.zeros((60, 1, 16, 16), np.float32)
    lesion[:, :, 4:8, 4:8] = 1
    calls: list[tuple[int, int]] = []
    subject = subject_of(model, images, labels, attributes, {"lesion": lesion}, universe(), slices=2)
    subject = dataclasses.replace(subject, progress=lambda *call: calls.append(call))
    model.train().requires_grad_(True)
    before = torch.get_rng_state()
    evaluator = Fragility(Fragility.Parameters(batch_size=13, examples=50, universal_steps=4))
    first = evaluator.collect(subject)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    torch.manual_seed(3)
    with torch.inference_mode():
        second = evaluator.collect(subject)
    assert all(np.array_equal(first[name], second[name], equal_nan=name != "fragility_rows") for name in first)
    assert calls[-1][0] == calls[-1][1]


def test_other_inputs_are_refused() -> None:
    subject = toy_subject(lesion_reader())
    for scenes, said_of_it in (
        ({}, "offers no 'lesion'"),
        ({"lesion": in_blocks(np.ones((12, 1, 4, 4), np.float32))}, "Expected lesion masks of shape"),
        ({"lesion": in_blocks(np.ones((11, 1, SIDE, SIDE), np.float32))}, "Expected 12 rows of lesion masks, found 11"),
    ):
        with pytest.raises(SpurbenchError, match=said_of_it):
            examine(dataclasses.replace(subject, scenes=scenes))
    other = dataclasses.replace(subject, load=scanner_reader)
    with pytest.raises(SpurbenchError, match="Predict again"):
        examine(other)


def test_arrays_that_do_not_fit_are_refused() -> None:
    evaluator, predictions = by_hand()
    arrays = dict(predictions.arrays)
    wrong, share = arrays["fragility_random"].copy(), arrays["fragility_change"].copy()
    wrong[7], share[4] = 1, 1.5
    cases: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"fragility_rows": arrays["fragility_rows"]}, "needs the arrays"),
        ({**arrays, "fragility_area": arrays["fragility_area"][:3]}, r"fragility_area of shape \(8,\)"),
        ({**arrays, "fragility_change": share}, "shares from 0 to 1"),
        ({**arrays, "fragility_random": wrong}, "no 1 where the clean image is wrong"),
        ({**arrays, "fragility_rows": arrays["fragility_rows"][::-1]}, "ascending"),
    ]
    for other, said_of_it in cases:
        with pytest.raises(SpurbenchError, match=said_of_it):
            evaluator.measure(dataclasses.replace(predictions, arrays=other), once(predictions))


@pytest.mark.parametrize(
    ("ratio", "gap", "verdicts"),
    [
        ((0.4, 0.2, 0.6), (0.3, 0.2, 0.4), ["problem", "problem"]),
        ((0.9, 0.7, 1.2), (0.2, 0.05, 0.3), ["doubt", "doubt"]),
        ((5.0, 4.0, 6.0), (-0.02, -0.1, 0.1), ["no sign", "no sign"]),
        ((None, None, None), (None, None, None), ["unknown", "unknown"]),
    ],
)
def test_findings(ratio: tuple[Any, Any, Any], gap: tuple[Any, Any, Any], verdicts: list[str]) -> None:
    evaluator, predictions = by_hand()
    known = ratio[0] is not None
    reason = "" if known else "no example shows a lesion"
    share = Estimate(0.125, 0.1, 0.15) if known else Estimate(None, reason=reason)
    estimates = {
        "fragility_share": share,
        "fragility_ratio": Estimate(*ratio, reason=reason),
        "fragility_transfer_gap": Estimate(*gap, reason=reason),
    }
    place, transfer = evaluator.findings(predictions, estimates)
    assert [place.verdict, transfer.verdict] == verdicts
    assert {*place.metrics, *transfer.metrics} == set(estimates)
    if not known:
        assert reason in place.sentence
        assert reason in transfer.sentence
        return
    assert "12.5 % (10.0 to 15.0) lies in the lesion" in place.sentence
    assert f"{ratio[0]:.3g} times as much" in place.sentence
    assert f"leaves {abs(gap[0]):.3f} {'less' if gap[0] < 0 else 'more'} ({gap[1]:.3f} to" in transfer.sentence


@pytest.mark.parametrize("given_settings", [{"norm": "l1"}, {"radius": 0}, {"universal_radius": 1.5}, {"steps": 0}])
def test_settings_out_of_range_are_refused(given_settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given_settings))):
        Fragility.Parameters(**given_settings)


def test_listing_reads_it_without_running_it() -> None:
    (source,) = read_plugins(Path(str(fragility.__file__)))
    assert source.literals["metrics"] == Fragility.metrics
    assert source.literals["requires"] == ("lesion",)
    assert Fragility.Parameters(**{one.name: one.default for one in source.settings}) == Fragility.Parameters()
    script = "import robustbench_spur.evaluators.fragility, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
