"""Accuracy under corruption: numbers against hand-made cases and predictors that are known, collecting against a plain loop."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.attack.subset import balanced_subset
from robustbench_spur.corruptions import CORRUPTIONS, corrupt
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.corruptions import Corruptions
from robustbench_spur.networks import Classifier, SmallCNN
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe

WAYS = tuple(CORRUPTIONS)
SIZE = 16


def with_right(predictions: Predictions, right: NDArray[Any] | None = None, examples: int = 400) -> Predictions:
    """As if collected; by default what the clean predictions say is said under every corruption too."""
    rows = np.sort(balanced_subset(predictions, examples, 2025))
    if right is None:
        right = np.broadcast_to(predictions.correct[rows][:, None, None], (len(rows), len(WAYS), 5))
    arrays = {"corruptions_rows": rows, "corruptions_correct": np.asarray(right, np.uint8)}
    return dataclasses.replace(predictions, arrays=arrays)


def numbers_of(predictions: Predictions, counts: NDArray[np.float64] | None = None, **parameters: Any) -> Any:
    evaluator = Corruptions(Corruptions.Parameters(**parameters))
    values = evaluator.measure(predictions, once(predictions) if counts is None else counts)
    return {name: float(value[0]) for name, value in values.items()}


# Predictors that are known


def test_a_perfect_predictor_that_stays_so() -> None:
    numbers = numbers_of(with_right(reference.perfect()))
    assert {name: value for name, value in numbers.items() if value != 1} == {
        name: 0 for name in numbers if name.startswith("relative_degradation")
    }


def test_a_constant_predictor_loses_nothing() -> None:
    numbers = numbers_of(with_right(reference.constant()))
    assert numbers["mean_corrupted_accuracy"] == 0.5
    assert numbers["mean_corrupted_worst_group_accuracy"] == 0
    assert numbers["relative_degradation"] == 0
    assert numbers["relative_degradation_in:c0@v0"] == 0
    assert np.isnan(numbers["relative_degradation_in:c1@v0"])


def test_a_shortcut_only_predictor_fails_the_conflicting_groups_under_all() -> None:
    numbers = numbers_of(with_right(reference.shortcut_only()))
    for way in WAYS:
        by_group = [numbers[f"corrupted_accuracy_in:{way}:{name}"] for name in universe().names]
        assert by_group == [1, 0, 0, 1]
        assert numbers[f"corrupted_worst_group_accuracy:{way}"] == 0
        assert numbers[f"corrupted_accuracy:{way}"] == 0.5


def test_answers_at_random_are_right_as_often_as_not() -> None:
    predictions = reference.random(0, rows=4000)
    right = np.random.default_rng(0).random((4000, len(WAYS), 5)) < 0.5
    rows = np.sort(balanced_subset(predictions, 400, 2025))
    numbers = numbers_of(with_right(predictions, right[: len(rows)]))
    assert numbers["mean_corrupted_accuracy"] == pytest.approx(0.5, abs=0.02)
    assert numbers["relative_degradation"] == pytest.approx(0, abs=0.12)


# Numbers


def test_a_case_by_hand() -> None:
    """Two examples of each group; under noise the tumours of one site are lost from severity 3 on."""
    labels, attributes = np.repeat([0, 0, 1, 1], 2), np.repeat([0, 1, 0, 1], 2)
    predictions = predictions_of(labels, attributes, np.arange(8), said(labels, 2), universe())
    right = np.ones((8, len(WAYS), 5))
    right[labels + attributes == 2, 0, 2:] = 0
    predictions = with_right(predictions, right)
    numbers = numbers_of(predictions)
    assert numbers["corrupted_accuracy:rician_noise"] == pytest.approx(1 - 0.25 * 0.6)
    assert numbers["corrupted_accuracy_in:rician_noise:c1@v1"] == pytest.approx(0.4)
    assert numbers["corrupted_worst_group_accuracy:rician_noise"] == pytest.approx(0.4)
    assert numbers["corrupted_accuracy:gamma"] == 1
    assert numbers["mean_corrupted_accuracy"] == pytest.approx(1 - 0.25 * 0.6 / 7)
    assert numbers["mean_corrupted_worst_group_accuracy"] == pytest.approx(1 - 0.6 / 7)
    assert numbers["relative_degradation"] == pytest.approx(0.25 * 0.6 / 7)
    assert numbers["relative_degradation_in:c1@v1"] == pytest.approx(0.6 / 7)
    details = Corruptions().details(predictions)
    assert details["worst_group"] == "c1@v1"
    assert details["corruptions"][0]["accuracy"] == [1, 1, 1, 0.75, 0.75, 0.75]
    assert details["corruptions"][0]["group_accuracies"]["c1@v1"] == [1, 1, 1, 0, 0, 0]
    assert details["undefined"] == {}


def test_degradation_divides_by_what_was_right_without_corruption() -> None:
    """A quarter wrong to begin with, and a third of the right ones lost."""
    labels = np.zeros(12, np.int64)
    predictions = predictions_of(labels, labels, np.arange(12), said(np.arange(12) // 9, 2), universe(2, 1))
    right = np.zeros((12, len(WAYS), 5))
    right[:6] = 1
    numbers = numbers_of(with_right(predictions, right))
    assert numbers["relative_degradation"] == pytest.approx((0.75 - 0.5) / 0.75)


def test_corruption_may_improve() -> None:
    predictions = reference.shortcut_only()
    numbers = numbers_of(with_right(predictions, np.ones((40, len(WAYS), 5))))
    assert numbers["relative_degradation"] == -1
    assert Corruptions.metrics["relative_degradation"].low == -np.inf


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_resampling_is_the_same_as_repeating_patients(seed: int, drawn: list[int]) -> None:
    predictions = reference.random(seed, rows=60, patients=12)
    rng = np.random.default_rng(seed)
    counts = np.zeros((1, len(predictions.patients)))
    counts[0, : len(drawn)] = drawn[: counts.shape[1]]
    examples = 10_000  # all of them
    right = rng.random((60, len(WAYS), 5)) < 0.6
    numbers = numbers_of(with_right(predictions, right, examples), counts, examples=examples)
    weight = counts[0][predictions.patient]
    if not weight.any():
        assert np.isnan(numbers["mean_corrupted_accuracy"])
        return
    expected = np.average(right.mean(axis=(1, 2)), weights=weight)
    assert numbers["mean_corrupted_accuracy"] == pytest.approx(expected)
    for g, name in enumerate(predictions.groups.names):
        mine = weight * (predictions.group == g)
        expected = np.average(right[:, 3].mean(axis=1), weights=mine) if mine.any() else np.nan
        assert numbers[f"corrupted_accuracy_in:spike:{name}"] == pytest.approx(expected, nan_ok=True)


def test_every_number_is_of_a_stated_metric_and_has_its_patients() -> None:
    predictions = with_right(reference.random(1))
    evaluator = Corruptions()
    numbers, support = numbers_of(predictions), evaluator.support(predictions)
    for name in numbers:
        assert name in evaluator.metrics or any(name.startswith(key) for key in evaluator.metrics if key[-1] == ":")
    assert support.keys() == {name for name in numbers if not name.startswith("relative_degradation")}
    sizes = {row["group"]: row["patients"] for row in evaluator.details(predictions)["groups"]}
    assert support["corrupted_accuracy_in:spike:c1@v0"] == sizes["c1@v0"]
    worst = evaluator.details(predictions)["corruptions"][WAYS.index("spike")]["worst_group"]
    assert support["corrupted_worst_group_accuracy:spike"] == sizes[worst]


# Edges


def test_an_empty_group_leaves_the_worst_undefined_and_says_so() -> None:
    full = reference.perfect()
    predictions = with_right(reference.rearranged(full, np.flatnonzero(full.group != 2)))
    numbers, details = numbers_of(predictions), Corruptions().details(predictions)
    missing = {name for name, value in numbers.items() if np.isnan(value)}
    assert details["undefined"].keys() == missing
    assert details["undefined"]["corrupted_worst_group_accuracy:spike"] == (
        "1 of 4 declared groups have no examples: c1@v0"
    )
    assert details["undefined"]["relative_degradation_in:c1@v0"] == "no examples"
    assert numbers["mean_corrupted_accuracy"] == 1
    json.dumps(details, allow_nan=False)


def test_no_right_answer_means_nothing_to_lose() -> None:
    labels = np.zeros(8, np.int64)
    predictions = with_right(predictions_of(labels, labels, np.arange(8), said(labels + 1, 2), universe(2, 1)))
    undefined = Corruptions().details(predictions)["undefined"]
    assert undefined["relative_degradation"] == "no example is right on the clean image: nothing can be lost"
    assert undefined["relative_degradation_in:c0@v0"] == undefined["relative_degradation"]
    assert undefined["relative_degradation_in:c1@v0"] == "no examples"


@pytest.mark.parametrize(
    "predictions",
    [
        predictions_of(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), np.zeros((1, 1)), universe(1, 1)),
        reference.random(2, rows=300, patients=1),
        reference.random(3, rows=900, classes=10),
        reference.random(4, rows=200_000, patients=2000),
    ],
    ids=["one class, one row", "one patient", "ten classes", "many rows"],
)
def test_unusual_sets_have_answers(predictions: Predictions) -> None:
    predictions = with_right(predictions)
    numbers, details = numbers_of(predictions), Corruptions().details(predictions)
    assert 0 <= numbers["mean_corrupted_accuracy"] <= 1
    assert details["undefined"].keys() == {name for name, value in numbers.items() if np.isnan(value)}
    json.dumps(details, allow_nan=False)


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = with_right(reference.perfect())
    rows, right = good.arrays["corruptions_rows"], good.arrays["corruptions_correct"]
    bad = [
        ({}, "needs the arrays"),
        ({"corruptions_rows": rows, "corruptions_correct": right[:, 1:]}, "Expected whole numbers"),
        ({"corruptions_rows": rows, "corruptions_correct": right * 2}, "0 or 1 in corruptions_correct"),
        ({"corruptions_rows": rows / 1, "corruptions_correct": right}, "Expected whole numbers"),
        ({"corruptions_rows": rows[::-1], "corruptions_correct": right}, "ascending order"),
        ({"corruptions_rows": rows[1:], "corruptions_correct": right[1:]}, "collected with other settings"),
    ]
    for arrays, message in bad:
        with pytest.raises(SpurbenchError, match=message):
            numbers_of(dataclasses.replace(good, arrays=arrays))


# Collecting


def brightness(threshold: float) -> Classifier:
    """Class 1 where the mean of the image is above a threshold."""
    model = Classifier(nn.Flatten(), SIZE * SIZE, 2, [0.0], [1.0])
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[1] = 100 / SIZE**2
        model.head.bias.copy_(torch.tensor([0.0, -100 * threshold]))
    return model


def small(seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(SmallCNN(1), 128, 2, [0.5], [0.25])


def images_of(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 200, (count, 1, SIZE, SIZE)).astype(np.uint8)


def subject_of(model: Classifier, images: NDArray[np.uint8], **changes: Any) -> Subject:
    """Every image its own patient, in two classes and two values by turns."""
    was, rows = model.training, np.arange(len(images))
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(images.astype(np.float32) / 255)).double().numpy()
    model.train(was)
    predictions = predictions_of(rows % 2, rows // 2 % 2, rows, logits, universe())
    return Subject(predictions, images, lambda: model, **changes)


def test_what_is_collected_is_what_a_plain_loop_finds() -> None:
    images = images_of(0, 30)
    model = small(0).eval()
    subject = subject_of(model, images)
    arrays = Corruptions(Corruptions.Parameters(examples=20, batch_size=7, seed=3)).collect(subject)
    rows = arrays["corruptions_rows"]
    assert rows.tolist() == sorted(balanced_subset(subject.predictions, 20, 3).tolist())
    assert arrays["corruptions_correct"].dtype == np.uint8
    agree = []
    for place, row in enumerate(rows):
        for column, way in enumerate(WAYS):
            for severity in range(1, 6):
                damaged = corrupt(images[[row]], [f"id{row}"], way, severity, 3)
                with torch.no_grad():
                    guess = int(model(torch.from_numpy(damaged)).argmax())
                agree.append(arrays["corruptions_correct"][place, column, severity - 1] == (guess == row % 2))
    assert np.mean(agree) > 0.995  # but for ties in the last bit of a batch


def test_batches_and_order_change_nothing() -> None:
    images = images_of(1, 24)
    model = brightness(0.39)
    first = subject_of(model, images)
    order = np.random.default_rng(0).permutation(24)
    columns = ("ids", "labels", "attributes", "clusters", "logits")
    turned = {name: getattr(first.predictions, name)[order] for name in columns}
    second = Subject(dataclasses.replace(first.predictions, **turned), images[order], lambda: model)
    found = []
    for subject, size in ((first, 24), (second, 5)):
        arrays = Corruptions(Corruptions.Parameters(examples=16, batch_size=size)).collect(subject)
        ids = subject.predictions.ids[arrays["corruptions_rows"]]
        found.append({str(one): right.tolist() for one, right in zip(ids, arrays["corruptions_correct"], strict=True)})
    assert found[0] == found[1]


def test_noise_makes_dark_images_bright() -> None:
    """The magnitude's floor lifts the mean of a black image over a threshold that it passes from severity 2 on."""
    images = np.zeros((8, 1, SIZE, SIZE), np.uint8)
    subject = subject_of(brightness(0.05), images)
    arrays = Corruptions().collect(subject)
    dark = subject.predictions.labels[arrays["corruptions_rows"]] == 0
    noise = arrays["corruptions_correct"][:, WAYS.index("rician_noise")]
    assert (noise[dark] == [1, 0, 0, 0, 0]).all()  # 0.03 sqrt(pi / 2) = 0.038, 0.05 sqrt(pi / 2) = 0.063
    assert (noise[~dark] == [0, 1, 1, 1, 1]).all()
    assert arrays["corruptions_correct"][dark, WAYS.index("gamma")].all()


def test_flags_and_random_states_are_given_back() -> None:
    model, done = small(1).train(), []
    state, numpy_state = torch.random.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    subject = subject_of(model, images_of(2, 8), progress=lambda now, total: done.append((now, total)))
    Corruptions(Corruptions.Parameters(batch_size=3)).collect(subject)
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002
    assert done == sorted(done)
    assert done[-1] == (56, 56)


def test_what_collecting_refuses() -> None:
    images = images_of(3, 8)
    subject = subject_of(brightness(0.3), images)
    with pytest.raises(SpurbenchError, match="Expected 8 images, as many as predictions, found 7"):
        Corruptions().collect(dataclasses.replace(subject, images=images[:7]))
    with pytest.raises(SpurbenchError, match="Expected predictions of this model"):
        Corruptions().collect(dataclasses.replace(subject, load=lambda: brightness(0.9)))
    with pytest.raises(SpurbenchError, match="Expected at least one example for each of 4 groups"):
        Corruptions(Corruptions.Parameters(examples=3)).collect(subject)


def test_importing_the_evaluator_loads_neither_torch_nor_the_library() -> None:
    code = "import sys, robustbench_spur.evaluators.corruptions; print({'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
