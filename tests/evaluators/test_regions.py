"""Images that are blanked, models whose answers are known by construction, and a run through the benchmark."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.blanking import VIEWS, blanked, grown, in_batches, region_of
from robustbench_spur.evaluators.regions import Regions
from robustbench_spur.manifest import Bootstrap
from robustbench_spur.scoring import Scorer
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of
from tests.evaluators.scenery import (
    AIR,
    GROUPS,
    Looks,
    NoiseLevel,
    always_clear,
    balanced_rows,
    collected,
    drawn_again,
    lesion_reader,
    masks,
    numbers,
    said,
    scanner_reader,
    scene,
    subject_of,
    toy_subject,
)

EVALUATOR = Regions()
FEW = Bootstrap(replicates=200, seed=0, confidence=0.95)
AGREEMENTS = ("shortcut_agreement_without_body", *(f"shortcut_agreement_{view}" for view in VIEWS))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_logits(predictions: Predictions, logits: NDArray[Any], conflict: tuple[int, ...] = ()) -> Predictions:
    return dataclasses.replace(predictions, arrays={"regions_logits": logits.astype(np.float32)}, conflict=conflict)


def random_views(seed: int, conflict: tuple[int, ...] = (), **shape: int) -> Predictions:
    """Random logits, independent ones for each form of the image."""
    parts = [reference.random(seed + 1000 * k, step=0, **shape) for k in range(5)]
    return with_logits(parts[0], np.stack([part.logits for part in parts[1:]], axis=1), conflict)


# blanking


def test_every_pixel_is_kept_or_blanked_by_its_region() -> None:
    labels, attributes = balanced_rows()
    images, where = scene(labels, attributes), masks(labels)
    lesion, body = where["lesion"] > 0, where["body"] > 0
    forms = blanked(images, lesion, body, 1)
    assert list(forms) == list(VIEWS) and all(form.dtype == np.uint8 for form in forms.values())
    assert (forms["without:body"] + forms["with_only:body"] == images).all()
    assert (forms["without:body"][body] == 0).all() and (forms["with_only:body"][~body] == 0).all()
    assert (forms["with_only:lesion"][lesion] == images[lesion]).all() and not forms["with_only:lesion"][~lesion].any()
    # the body is of one grey, so that a lesion filled with its surroundings is the slice without one
    assert (forms["without:lesion"] == scene(np.zeros_like(labels), attributes)).all()


def test_a_lesion_is_filled_with_the_ring_alone() -> None:
    """By hand: a lesion of one pixel whose eight neighbours are body; the body further off and the air do not count."""
    image = np.array([[0, 7, 90, 10, 20], [0, 7, 30, 255, 40], [0, 7, 50, 60, 70]], np.uint8)[None, None]
    lesion, body = image == 255, image > 0
    ring = [90, 10, 20, 30, 40, 50, 60, 70]
    assert blanked(image, lesion, body, 1)["without:lesion"][0, 0, 1, 3] == round(np.mean(ring))
    colours = np.concatenate([image, image // 2], axis=1)
    filled = blanked(colours, lesion, body, 1)["without:lesion"][0, :, 1, 3]
    assert filled.tolist() == [round(np.mean(ring)), round(np.mean([value // 2 for value in ring]))]


def test_without_a_ring_the_rest_of_the_body_fills_and_without_a_body_nothing() -> None:
    image = np.array([[200, 0, 0, 60]], np.uint8)[None, None]
    assert blanked(image, image == 200, image > 0, 1)["without:lesion"].ravel().tolist() == [60, 0, 0, 60]
    assert blanked(image, image == 200, image == 200, 1)["without:lesion"].ravel().tolist() == [0, 0, 0, 60]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 8), st.integers(1, 8))
def test_growing_is_scipys_maximum_filter(seed: int, reach: int, height: int, width: int) -> None:
    region = np.random.default_rng(seed).random((2, 1, height, width)) < 0.1
    expected = maximum_filter(region, size=(1, 1, 2 * reach + 1, 2 * reach + 1), mode="constant", cval=0)
    assert (grown(region, reach) == expected).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 9))
def test_batches_hold_all_rows_in_order(lengths: list[int], size: int) -> None:
    ends = np.cumsum([0, *lengths])
    blocks = [np.arange(a, b) for a, b in pairwise(ends.tolist())]
    batches = list(in_batches(blocks, size))
    assert np.array_equal(np.concatenate([np.zeros(0, int), *batches]), np.arange(ends[-1]))
    assert all(len(batch) == size for batch in batches[:-1]) and all(0 < len(batch) <= size for batch in batches)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((1, 1, 2, 2), 1.5, np.float32), "Expected shares from 0 to 1 in mask 'body', found 1.5"),
        (np.full((1, 1, 2, 2), -0.1, np.float32), "found -0.1"),
        (np.full((1, 1, 2, 2), np.nan, np.float32), "found nan"),
        (np.ones((1, 1, 2, 2), np.uint8), "as shares of type float32, found uint8"),
    ],
)
def test_what_is_no_mask_is_refused(mask: NDArray[Any], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        region_of(mask, 0.01, "body")


def test_a_region_begins_at_the_threshold() -> None:
    mask = np.array([[[[0, 0.009, 0.01, 1]]]], np.float32)
    assert region_of(mask, float(np.float32(0.01)), "body").ravel().tolist() == [False, False, True, True]


# models that are known


def test_a_model_that_reads_the_air_agrees_with_the_shortcut_until_the_air_is_blanked() -> None:
    found = numbers(EVALUATOR, collected(EVALUATOR, toy_subject(scanner_reader())))
    assert found["shortcut_agreement_without_body"] == found["shortcut_agreement_without:body"] == 1
    assert found["shortcut_agreement_without:lesion"] == 1
    assert found["shortcut_agreement_with_only:body"] == found["shortcut_agreement_with_only:lesion"] == 0.5
    assert {found[f"accuracy_{view}"] for view in VIEWS} == {0.5}  # on balanced groups the shortcut is worth nothing
    assert {found[f"worst_accuracy_{view}"] for view in VIEWS} == {0.0}


def test_a_perfect_model_needs_the_lesion_and_nothing_else() -> None:
    predictions = collected(EVALUATOR, toy_subject(lesion_reader()))
    found = numbers(EVALUATOR, predictions)
    expected = {"without:lesion": 0.5, "without:body": 0.5, "with_only:body": 1.0, "with_only:lesion": 1.0}
    assert {view: found[f"accuracy_{view}"] for view in VIEWS} == expected
    assert {view: found[f"worst_accuracy_{view}"] for view in VIEWS} == {k: 2 * v - 1 for k, v in expected.items()}
    assert {found[name] for name in AGREEMENTS} == {0.5}
    rows = {row["view"]: row for row in EVALUATOR.details(predictions)["views"]}
    assert rows["whole image"]["accuracy"] == 1 and rows["whole image"]["shortcut_agreement"] == 0.5
    assert rows["without:lesion"]["worst_group"] == "tumour@3T"
    assert rows["without:lesion"]["predicted"] == {"clear": 1.0, "tumour": 0.0}


def test_a_constant_model_is_at_chance_everywhere() -> None:
    found = numbers(EVALUATOR, collected(EVALUATOR, toy_subject(always_clear())))
    assert {value for name, value in found.items() if not name.startswith("worst")} == {0.5}


def test_a_model_that_looks_inside_the_body_is_not_fooled_by_the_air() -> None:
    """It reads a pixel of healthy tissue, darker than its threshold with the body and without: always clear."""
    found = numbers(EVALUATOR, collected(EVALUATOR, toy_subject(Looks((2, 2), 0.5))))
    assert {found[name] for name in AGREEMENTS} == {0.5}


def test_a_random_model_is_at_chance_everywhere() -> None:
    found = numbers(EVALUATOR, random_views(3, rows=40_000, patients=4000))
    assert [value for name, value in found.items()] == pytest.approx([0.5] * len(found), abs=0.02)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (95, 5, 5, 95), (1, 9, 2, 30)])
def test_agreement_is_one_half_for_perfect_and_constant_models_on_any_set(sizes: tuple[int, ...]) -> None:
    """On biased data too, where a perfect model agrees with the shortcut in most examples."""
    group = np.repeat(np.arange(4), sizes)
    plain = predictions_of(group // 2, group % 2, np.arange(len(group)), np.zeros((len(group), 2)), GROUPS)
    for predicted, expected in ((group // 2, 0.5), (np.ones_like(group), 0.5), (group % 2, 1.0), (1 - group % 2, 0.0)):
        logits = np.repeat(np.eye(2)[predicted][:, None], len(VIEWS), axis=1)
        for conflict, sign in (((1, 2), 1), ((0, 3), -1)):
            found = numbers(EVALUATOR, with_logits(plain, logits, conflict))
            assert {found[name] for name in AGREEMENTS} == {0.5 + sign * (expected - 0.5)}


class Filled(nn.Module):
    """Says tumour where the air is bright, but only if there is a body."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = 4 * (images[:, 0, AIR[0], AIR[1]] - 0.5) - 9 * (images[:, 0, 2, 2] == 0)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_a_model_that_calls_all_blanked_images_the_same_is_told_so() -> None:
    """An agreement of one half is then no acquittal; with the lesion alone blanked, the shortcut shows."""
    predictions = collected(EVALUATOR, toy_subject(Filled(), per_group=10))
    estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
    assert estimates["shortcut_agreement_without_body"].value == 0.5
    assert estimates["shortcut_agreement_without:lesion"].value == 1
    (finding,) = EVALUATOR.findings(predictions, estimates)
    assert finding.verdict == "problem" and finding.sentence.endswith("without a body clear, which tells nothing.")


# references


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_numbers_are_those_of_scikit_learn(seed: int, last: bool) -> None:
    """Its balanced accuracy with the group as the class, where a prediction is right or another group."""
    predictions = random_views(seed, (1, 2) if last else (0, 3), rows=200, patients=9)
    found, group = numbers(EVALUATOR, predictions), predictions.group
    for column, view in enumerate(VIEWS):
        given = predictions.arrays["regions_logits"][:, column].argmax(axis=1)
        tied = predictions.attributes if last else 1 - predictions.attributes
        for metric, right in (("accuracy", given == predictions.labels), ("shortcut_agreement", given == tied)):
            expected = balanced_accuracy_score(group, np.where(right, group, (group + 1) % 4))
            assert found[f"{metric}_{view}"] == pytest.approx(expected)
        worst = min((given == predictions.labels)[group == g].mean() for g in range(4))
        assert found[f"worst_accuracy_{view}"] == pytest.approx(worst)


def test_a_resampling_is_the_point_estimate_of_its_patients() -> None:
    predictions = random_views(5, (1, 2), rows=80, patients=8)
    counts = resample_counts(8, 20, seed=1)
    measured = EVALUATOR.measure(predictions, counts)
    for row, drawn in enumerate(counts):
        again = numbers(EVALUATOR, drawn_again(predictions, drawn))
        for name, values in measured.items():
            if "worst" not in name:  # the worst group stays the one that is worst on all patients
                assert values[row] == pytest.approx(again[name], nan_ok=True), name


# what may be missing


def test_an_empty_group_leaves_means_over_groups_undefined_with_a_reason() -> None:
    rows = np.array([0, 0, 1])
    plain = predictions_of(rows, np.array([0, 1, 0]), np.arange(3), np.zeros((3, 2)), GROUPS)
    predictions = with_logits(plain, np.zeros((3, 4, 2)))
    found, details = numbers(EVALUATOR, predictions), EVALUATOR.details(predictions)
    assert all(np.isnan(value) for value in found.values())
    assert details["undefined"] == dict.fromkeys(found, "1 of 4 declared groups have no examples: tumour@1.5T")
    assert details["views"][1]["group_accuracies"]["tumour@1.5T"] is None
    json.dumps(details, allow_nan=False)


@pytest.mark.parametrize(("classes", "values"), [(1, 2), (2, 1), (10, 3)])
def test_other_numbers_of_classes_and_values_have_accuracies_only(classes: int, values: int) -> None:
    predictions = random_views(2, rows=600, patients=1, classes=classes, values=values)
    found, details = numbers(EVALUATOR, predictions), EVALUATOR.details(predictions)
    assert set(details["undefined"]) == set(AGREEMENTS)
    assert details["undefined"][AGREEMENTS[0]].endswith(f"the split has {classes} and {values}")
    assert found["accuracy_without:body"] == pytest.approx(1 / classes, abs=0.1)
    assert details["chance"] == {"accuracy": 1 / classes, "shortcut_agreement": None}


def test_no_examples_at_all() -> None:
    nothing = np.zeros(0, np.int64)
    plain = predictions_of(nothing, nothing, nothing, np.zeros((0, 2)), GROUPS)
    found = EVALUATOR.measure(with_logits(plain, np.zeros((0, 4, 2))), np.ones((1, 0)))
    assert all(np.isnan(value).all() for value in found.values())


def test_many_rows_and_the_support() -> None:
    predictions = random_views(1, rows=200_000, patients=3000)
    found = EVALUATOR.measure(predictions, resample_counts(3000, 20, seed=0))
    assert all(value.shape == (20,) and np.isfinite(value).all() for value in found.values())
    assert EVALUATOR.support(predictions).keys() == found.keys()


@pytest.mark.parametrize("logits", [np.zeros((12, 2)), np.full((12, 4, 2), np.nan)])
def test_what_was_collected_otherwise_is_told(logits: NDArray[Any]) -> None:
    bare = toy_subject(lesion_reader()).predictions
    with pytest.raises(SpurbenchError, match="these predictions lack"):
        EVALUATOR.measure(bare, once(bare))
    with pytest.raises(SpurbenchError, match=r"Expected finite regions_logits of shape \(12, 4, 2\)"):
        EVALUATOR.measure(with_logits(bare, logits), once(bare))


# collecting


def test_masks_of_other_blocks_and_images_of_more_rows_than_a_batch() -> None:
    labels, attributes = balanced_rows(80)
    images, where = scene(labels, attributes), masks(labels)
    subject = subject_of(scanner_reader(), images, labels, attributes, where)
    whole = {"lesion": lambda: iter([where["lesion"]]), "body": subject.scenes["body"]}
    arrays = EVALUATOR.collect(dataclasses.replace(subject, scenes=whole))["regions_logits"]
    forms = blanked(images, where["lesion"] > 0, where["body"] > 0, 1)
    assert arrays.shape == (320, 4, 2) and arrays.dtype == np.float32
    for column, view in enumerate(VIEWS):
        assert (arrays[:, column] == said(scanner_reader(), forms[view])).all()


def test_of_many_slices_as_many_of_each_group_are_looked_at() -> None:
    labels, attributes = balanced_rows(30)
    images, where = scene(labels, attributes), masks(labels)
    subject = subject_of(scanner_reader(), images, labels, attributes, where, slices=3)
    every = EVALUATOR.collect(subject)["regions_logits"]
    few = Regions(Regions.Parameters(examples=20))
    found = few.collect(subject)["regions_logits"]
    looked = np.isfinite(found).all(axis=(1, 2))
    assert np.bincount(subject.predictions.group[looked]).tolist() == [5] * 4
    assert (found[looked] == every[looked]).all() and np.isnan(found[~looked]).all()
    assert (few.collect(subject)["regions_logits"][looked] == found[looked]).all(), "the same slices again"
    part = with_logits(subject.predictions, found)
    alone = with_logits(subject.predictions.take(np.flatnonzero(looked)), found[looked])
    details = few.details(part)
    assert few.points(part) == few.points(alone)
    assert details == few.details(alone)
    assert details["examples"] == 20
    assert few.support(part) == few.support(alone)


class Counted(nn.Module):
    """Counts the images that it is asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        return self.model(images)  # type: ignore[no-any-return]


def test_what_was_said_of_a_slice_that_is_left_as_it_is_is_not_asked_again() -> None:
    labels, attributes = balanced_rows(5)
    images, where = scene(labels, attributes), masks(labels)
    model = Counted(scanner_reader())
    subject = subject_of(model, images, labels, attributes, where)
    model.images = 0
    found = EVALUATOR.collect(subject)["regions_logits"]
    # without the lesion, and nothing but it, those that have one; without the body, and nothing but it, all; a black image
    assert model.images == 10 + 20 + 20 + 10 + 1
    assert (found[labels == 0, 0] == subject.predictions.logits[labels == 0]).all()


def test_a_mask_of_another_shape_is_refused() -> None:
    labels, attributes = balanced_rows()
    broken = {**masks(labels), "body": np.ones((12, 1, 6, 5), np.float32)}
    subject = subject_of(scanner_reader(), scene(labels, attributes), labels, attributes, broken)
    with pytest.raises(SpurbenchError, match=r"Expected mask 'body' of shape \(12, 1, 6, 6\) in all"):
        EVALUATOR.collect(subject)


# what is told


def test_findings_tell_the_reader_of_the_air_from_the_others() -> None:
    verdicts = {}
    for name, model in (("air", scanner_reader()), ("lesion", lesion_reader())):
        predictions = collected(EVALUATOR, toy_subject(model, per_group=10))
        estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
        verdicts[name] = EVALUATOR.findings(predictions, estimates)[0].verdict
    assert verdicts == {"air": "problem", "lesion": "no sign"}
    empty = {name: dataclasses.replace(value, value=None, reason="none") for name, value in estimates.items()}
    assert EVALUATOR.findings(predictions, empty)[0].verdict == "unknown"


# the phantom


def test_on_the_phantom_the_noise_of_the_air_tells_the_scanner_and_goes_with_it() -> None:
    small = Phantom.Parameters(
        train_patients=20, validation_patients=8, adapt_patients=8, adapt_slices=2, test_patients=12, test_slices=4
    )
    phantom, size = Phantom(small), 64
    part = phantom.table("field", 0.95).partitions["test"]
    images = np.concatenate(list(phantom.pixels("field", part, size)))
    where = {name: np.concatenate(list(phantom.scene(name, "field", part, size))) for name in ("lesion", "body")}
    subject = subject_of(NoiseLevel(), images, part.labels, part.attributes, where)
    found = numbers(EVALUATOR, collected(EVALUATOR, subject))
    assert found["shortcut_agreement_without_body"] == 1
    assert found["shortcut_agreement_with_only:body"] == 0.5
    assert found["accuracy_without:body"] == 0.5


def test_a_run_records_all_three(request_for: Any, carry_out: Any) -> None:
    names = ("counterfactual", "lesion_removed", "regions")
    (record,) = carry_out(request_for(evaluators=names))
    assert record.status == "done", record.reason
    metrics = record.metrics["test"]
    assert set(names) <= metrics.keys()
    assert metrics["counterfactual"]["attribute_effect"]["value"] is not None
    assert metrics["lesion_removed"]["lesion_effect"]["value"] is not None
    assert metrics["regions"]["shortcut_agreement_without_body"]["value"] is not None
    assert record.details["test"]["counterfactual"]["tied_value"] == "1.5T"
    assert record.details["test"]["lesion_removed"]["attribute_effect"] is not None
