"""Models whose reaction to the lesion is known by construction; both levers on the phantom."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import recall_score

from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.counterfactual import Counterfactual
from robustbench_spur.evaluators.lesion_removed import LesionRemoved
from robustbench_spur.manifest import Bootstrap
from robustbench_spur.scoring import Scorer
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of
from tests.evaluators.scenery import (
    GROUPS,
    always_clear,
    collected,
    drawn_again,
    lesion_reader,
    numbers,
    said,
    scanner_reader,
    toy_subject,
)

EVALUATOR = LesionRemoved()
FEW = Bootstrap(replicates=200, seed=0, confidence=0.95)
FALL = float(expit(4 * 0.3) - expit(4 * -0.3))
"""Of the model that reads the lesion: its pixel is 1 with and 0.4 without one, its threshold 0.7, its slope 4."""
TUMOURS = GROUPS.names[2:]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_pair(seed: int, **shape: int) -> Predictions:
    first, second = (reference.random(seed + k, step=0, **shape) for k in (0, 1000))
    return dataclasses.replace(first, arrays={"lesion_removed_logits": second.logits})


def test_a_perfect_model_loses_every_tumour_in_both_groups() -> None:
    found = numbers(EVALUATOR, collected(EVALUATOR, toy_subject(lesion_reader())))
    assert list(found) == [
        f"{metric}{end}"
        for metric in ("lesion_flip_rate", "lesion_effect")
        for end in ("", *(f"_in:{t}" for t in TUMOURS))
    ]
    assert {value for name, value in found.items() if "flip_rate" in name} == {1.0}
    assert [value for name, value in found.items() if "effect" in name] == pytest.approx([FALL] * 3, abs=1e-6)


def test_a_model_that_reads_the_scanner_does_not_react() -> None:
    predictions = collected(EVALUATOR, toy_subject(scanner_reader()))
    found = numbers(EVALUATOR, predictions)
    assert {value for name, value in found.items() if "effect" in name} == {0.0}
    # at 3T it calls no slice tumour, so that none can be lost there
    assert found["lesion_flip_rate"] == found["lesion_flip_rate_in:tumour@1.5T"] == 0
    assert np.isnan(found["lesion_flip_rate_in:tumour@3T"])
    reasons = EVALUATOR.details(predictions)["undefined"]
    assert reasons == {"lesion_flip_rate_in:tumour@3T": "no example of tumour is predicted as tumour"}


def test_a_constant_model_has_no_tumour_to_lose() -> None:
    predictions = collected(EVALUATOR, toy_subject(always_clear()))
    found, details = numbers(EVALUATOR, predictions), EVALUATOR.details(predictions)
    assert np.isnan(found["lesion_flip_rate"]) and found["lesion_effect"] == 0
    assert (details["lesions"], details["found"], details["lost"]) == (6, 0, 0)


def test_a_random_model_loses_half_without_direction() -> None:
    found = numbers(EVALUATOR, random_pair(3, rows=40_000, patients=4000))
    assert found["lesion_flip_rate"] == pytest.approx(0.5, abs=0.015)
    assert found["lesion_effect"] == pytest.approx(0.0, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60))
def test_the_numbers_are_those_of_plain_references(seed: int, rows: int) -> None:
    """scikit-learn's recall of the lesions that are found, and a difference of means of the softmax."""
    predictions = random_pair(seed, rows=rows, patients=9)
    other, found = predictions.arrays["lesion_removed_logits"], numbers(EVALUATOR, predictions)
    seen = (predictions.labels == 1) & (predictions.logits.argmax(axis=1) == 1)
    if seen.any():
        kept = recall_score(predictions.labels[seen], other.argmax(axis=1)[seen])
        assert found["lesion_flip_rate"] == pytest.approx(1 - kept)
    lesion = predictions.labels == 1
    if lesion.any():
        means = [expit(z[lesion, 1].astype(float) - z[lesion, 0]).mean() for z in (predictions.logits, other)]
        assert found["lesion_effect"] == pytest.approx(means[0] - means[1])


def test_a_resampling_is_the_point_estimate_of_its_patients() -> None:
    predictions = random_pair(5, rows=60, patients=8)
    counts = resample_counts(8, 20, seed=1)
    measured = EVALUATOR.measure(predictions, counts)
    for row, drawn in enumerate(counts):
        again = numbers(EVALUATOR, drawn_again(predictions, drawn))
        for name, values in measured.items():
            assert values[row] == pytest.approx(again[name], nan_ok=True), name


def test_slices_without_a_lesion_do_not_count() -> None:
    predictions = random_pair(7, rows=50)
    logits = predictions.arrays["lesion_removed_logits"].copy()
    logits[predictions.labels == 0] *= -5
    assert numbers(EVALUATOR, dataclasses.replace(predictions, arrays={"lesion_removed_logits": logits})) == numbers(
        EVALUATOR, predictions
    )


# what may be missing


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_other_numbers_of_classes_are_undefined(classes: int) -> None:
    predictions = random_pair(2, rows=100, patients=1, classes=classes)
    found, reasons = numbers(EVALUATOR, predictions), EVALUATOR.details(predictions)["undefined"]
    assert all(np.isnan(value) for value in found.values()) and found.keys() == reasons.keys()
    assert set(reasons.values()) == {f"defined for two classes, the split has {classes}"}
    assert EVALUATOR.support(predictions) == {}


def test_no_lesions_and_an_empty_group_have_reasons() -> None:
    rows = np.zeros(3, np.int64)
    plain = predictions_of(rows, rows, np.arange(3), np.zeros((3, 2)), GROUPS)
    predictions = dataclasses.replace(plain, arrays={"lesion_removed_logits": np.zeros((3, 2), np.float32)})
    details = EVALUATOR.details(predictions)
    assert details["undefined"]["lesion_effect"] == "no example is tumour"
    assert details["reading"] == "There is no lesion to remove."
    json.dumps(details, allow_nan=False)


def test_many_rows_and_the_support() -> None:
    predictions = random_pair(1, rows=200_000, patients=3000)
    found = EVALUATOR.measure(predictions, resample_counts(3000, 50, seed=0))
    assert all(value.shape == (50,) and np.isfinite(value).all() for value in found.values())
    assert EVALUATOR.support(predictions).keys() == found.keys()


def test_what_was_not_collected_is_told() -> None:
    bare = toy_subject(lesion_reader()).predictions
    with pytest.raises(SpurbenchError, match="'lesion_removed' needs the array 'lesion_removed_logits'"):
        EVALUATOR.measure(bare, once(bare))


# what is told


def test_the_two_numbers_are_read_together() -> None:
    told = {}
    for name, model in (("scanner", scanner_reader()), ("lesion", lesion_reader())):
        subject = toy_subject(model, per_group=5)
        predictions = collected(Counterfactual(), subject)
        predictions = collected(EVALUATOR, dataclasses.replace(subject, predictions=predictions))
        estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
        told[name] = (EVALUATOR.details(predictions), EVALUATOR.findings(predictions, estimates)[0].verdict)
    assert told["scanner"][0]["attribute_effect"] == pytest.approx(FALL, abs=1e-6)
    assert (
        "falls by 0.000 on average; field strength alone moves it by +0.537 along the shortcut, more than"
        in (told["scanner"][0]["reading"])
    )
    assert "no more than the lesion does" in told["lesion"][0]["reading"]
    assert (told["scanner"][1], told["lesion"][1]) == ("doubt", "no sign")
    alone = collected(EVALUATOR, toy_subject(lesion_reader()))
    assert EVALUATOR.details(alone)["attribute_effect"] is None


def test_a_model_that_surely_ignores_the_lesion_is_a_problem_and_no_lesion_is_unknown() -> None:
    predictions = random_pair(3, rows=4000, patients=400)
    estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
    assert EVALUATOR.findings(predictions, estimates)[0].verdict == "problem"
    empty = {name: dataclasses.replace(value, value=None, reason="none") for name, value in estimates.items()}
    assert EVALUATOR.findings(predictions, empty)[0].verdict == "unknown"


# the phantom


class Brightest(torch.nn.Module):
    """Says tumour where an image is bright inside a window: a crude finder of enhancing lesions."""

    def __init__(self, at: NDArray[Any]) -> None:
        super().__init__()
        self.at = torch.from_numpy(at)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = 20 * ((images * self.at).amax((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_on_the_phantom_a_model_of_the_lesions_place_loses_its_tumours() -> None:
    """It looks where the lesion is, and nowhere else: what it says of the lesion's tissue changes, of the rest nothing."""
    small = Phantom.Parameters(
        train_patients=20, validation_patients=8, adapt_patients=8, adapt_slices=2, test_patients=12, test_slices=4
    )
    phantom, size = Phantom(small), 64
    table = phantom.table("field", 0.95)
    part = table.partitions["test"]
    images, without, lesion = (
        np.concatenate(list(make("field", part, size)))
        for make in (phantom.pixels, phantom.without_lesion, phantom.lesion_masks)
    )
    model = Brightest((lesion > 0.5).any(axis=0).astype(np.float32))
    plain = Predictions(part.ids, part.labels, part.attributes, part.clusters, said(model, images), table.groups)
    scenes = {"without_lesion": lambda: phantom.scene("without_lesion", "field", part, size)}
    predictions = collected(EVALUATOR, Subject(plain, images, lambda: model, scenes=scenes))
    assert (predictions.arrays["lesion_removed_logits"] == said(model, without)).all()
    clear = part.labels == 0
    assert (predictions.arrays["lesion_removed_logits"][clear] == plain.logits[clear]).all()
    found = numbers(EVALUATOR, predictions)
    assert found["lesion_effect"] > 0.2 and found["lesion_flip_rate"] > 0.2
