"""Models whose reaction to the scanner is known by construction, and the numbers against plain references."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import accuracy_score
from torch import nn

from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.counterfactual import Counterfactual
from robustbench_spur.evaluators.scenes import tie_of
from robustbench_spur.literals import read_plugins
from robustbench_spur.manifest import Bootstrap
from robustbench_spur.registry import Registry
from robustbench_spur.scoring import Scorer
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import Groups, SpurbenchError, conflict_groups
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe
from tests.evaluators.scenery import (
    GROUPS,
    NoiseLevel,
    always_clear,
    balanced_rows,
    collected,
    drawn_again,
    lesion_reader,
    numbers,
    said,
    scanner_reader,
    scene,
    subject_of,
    toy_subject,
)

EVALUATOR = Counterfactual()
FEW = Bootstrap(replicates=200, seed=0, confidence=0.95)
FOLLOWED = float(expit(4 * 0.3) - expit(4 * -0.3))
"""Change of P(tumour) of the model that reads the scanner: its pixel is 0.8 or 0.2, its threshold 0.5, its slope 4."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_other(predictions: Predictions, logits: NDArray[Any], conflict: tuple[int, ...] = ()) -> Predictions:
    arrays = {"counterfactual_logits": logits.astype(np.float32)}
    return dataclasses.replace(predictions, arrays=arrays, conflict=conflict)


def random_pair(seed: int, conflict: tuple[int, ...] = (), **shape: int) -> Predictions:
    """Random logits, and independent ones for the other attribute value."""
    first, second = (reference.random(seed + k, step=0, **shape) for k in (0, 1000))
    return with_other(first, second.logits, conflict)


# models that are known


def test_a_model_that_reads_the_scanner_flips_always_and_follows_the_shortcut() -> None:
    found = numbers(EVALUATOR, collected(EVALUATOR, toy_subject(scanner_reader())))
    assert {value for name, value in found.items() if "flip_rate" in name} == {1.0}
    effects = [value for name, value in found.items() if "effect" in name]
    assert len(effects) == 1 + 2 + 4 and effects == pytest.approx([FOLLOWED] * 7, abs=1e-6)


@pytest.mark.parametrize("model", [lesion_reader(), always_clear()])
def test_a_perfect_and_a_constant_model_do_not_react(model: nn.Module) -> None:
    assert set(numbers(EVALUATOR, collected(EVALUATOR, toy_subject(model))).values()) == {0.0}


def test_the_sign_is_that_of_the_tie_in_training() -> None:
    """Where training ties 3 T to tumour, a model that says tumour at 1.5 T goes against the shortcut."""
    predictions = collected(EVALUATOR, toy_subject(scanner_reader()))
    for tied, sign in (((95, 5, 5, 95), 1), ((5, 95, 95, 5), -1), ((50, 50, 50, 50), 1)):
        counts = {name: {"examples": n} for name, n in zip(GROUPS.names, tied, strict=True)}
        known = dataclasses.replace(predictions, conflict=conflict_groups(counts, GROUPS))
        assert numbers(EVALUATOR, known)["attribute_effect"] == pytest.approx(sign * FOLLOWED, abs=1e-6)
        assert tie_of(known).known == (tied[0] != 50)


@pytest.mark.parametrize(
    ("members", "conflict", "tie"),
    [(None, (1,), (1, True)), (None, (3,), (0, True)), ((1, 2, 3), (0,), (1, True)), (None, (0, 1), (1, False))],
)
def test_the_tie_is_found_from_one_group_and_where_some_are_left_out(
    members: tuple[int, ...] | None, conflict: tuple[int, ...], tie: tuple[int, bool]
) -> None:
    one, groups = np.array([1]), GROUPS.only(members)
    predictions = predictions_of(one, one, one, np.zeros((1, 2)), groups)
    assert tuple(tie_of(dataclasses.replace(predictions, conflict=conflict))) == tie


def test_a_random_model_flips_half_of_the_time_without_direction() -> None:
    found = numbers(EVALUATOR, random_pair(3, rows=40_000, patients=4000))
    assert found["attribute_flip_rate"] == pytest.approx(0.5, abs=0.01)
    assert found["attribute_effect"] == pytest.approx(0.0, abs=0.01)


def test_a_case_by_hand() -> None:
    """Four slices at 3T, 3T, 1.5T, 1.5T; P(tumour) as they are, and at the other field strength."""
    before, after = np.array([0.1, 0.4, 0.9, 0.3]), np.array([0.6, 0.3, 0.2, 0.7])
    logits, other = (np.log(np.column_stack([1 - p, p])) for p in (before, after))
    rows = np.array([0, 1, 0, 1])
    predictions = with_other(predictions_of(rows, np.array([0, 0, 1, 1]), np.arange(4), logits, GROUPS), other)
    found = numbers(EVALUATOR, predictions)
    # at 3T: 0.6 - 0.1 and 0.3 - 0.4; at 1.5T: 0.9 - 0.2 and 0.3 - 0.7
    effects = [0.5, -0.1, 0.7, -0.4]
    assert found["attribute_effect"] == pytest.approx(np.mean(effects), abs=1e-6)
    assert found["attribute_effect_at:3T"] == pytest.approx(0.2, abs=1e-6)
    assert found["attribute_effect_at:1.5T"] == pytest.approx(0.15, abs=1e-6)
    by_group = [found[f"attribute_effect_in:{name}"] for name in GROUPS.names]
    assert by_group == pytest.approx([0.5, 0.7, -0.1, -0.4], abs=1e-6)
    assert found["attribute_flip_rate"] == 0.75
    assert [found[f"attribute_flip_rate_in:{name}"] for name in GROUPS.names] == [1, 1, 0, 1]
    became = EVALUATOR.details(predictions)["became"]
    assert became[0] == {"value": "3T", "predicted": "clear", "examples": 2, "became": {"clear": 1, "tumour": 1}}
    assert became[3] == {"value": "1.5T", "predicted": "tumour", "examples": 1, "became": {"clear": 1, "tumour": 0}}


# references


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_the_numbers_are_those_of_plain_references(seed: int, rows: int, first: bool) -> None:
    """scikit-learn's accuracy of one prediction against the other, and a difference of means of all 2n images."""
    predictions = random_pair(seed, (0, 3) if first else (1, 2), rows=rows, patients=9)
    other, found = predictions.arrays["counterfactual_logits"], numbers(EVALUATOR, predictions)
    agreement = accuracy_score(predictions.logits.argmax(axis=1), other.argmax(axis=1))
    assert found["attribute_flip_rate"] == pytest.approx(1 - agreement)
    margin = np.concatenate([z[:, 1].astype(float) - z[:, 0] for z in (predictions.logits, other)])
    value = np.concatenate([predictions.attributes, 1 - predictions.attributes])
    slope = np.polyfit(value, expit(margin), 1)[0]  # on a 0/1 column, least squares gives the difference of means
    assert found["attribute_effect"] == pytest.approx(-slope if first else slope, abs=1e-6)


def test_a_resampling_is_the_point_estimate_of_its_patients() -> None:
    predictions = random_pair(5, (1, 2), rows=60, patients=8)
    counts = resample_counts(8, 20, seed=1)
    measured = EVALUATOR.measure(predictions, counts)
    for row, drawn in enumerate(counts):
        again = numbers(EVALUATOR, drawn_again(predictions, drawn))
        for name, values in measured.items():
            assert values[row] == pytest.approx(again[name], nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_other_way_round_is_the_same_effect(seed: int) -> None:
    """The counterfactual slices taken as the originals, with the other attribute, have the same effect and flips."""
    one = random_pair(seed, (1, 2), rows=50)
    other = dataclasses.replace(one, logits=one.arrays["counterfactual_logits"], attributes=1 - one.attributes)
    back = with_other(other, one.logits, (1, 2))
    for name in ("attribute_flip_rate", "attribute_effect"):
        assert numbers(EVALUATOR, one)[name] == pytest.approx(numbers(EVALUATOR, back)[name])


# what may be missing


def test_an_empty_group_has_nan_and_a_reason() -> None:
    labels, attributes = np.array([0, 0, 1]), np.array([0, 1, 0])
    plain = predictions_of(labels, attributes, np.arange(3), np.zeros((3, 2)), GROUPS)
    predictions = with_other(plain, np.zeros((3, 2)))
    missing = {name for name, value in numbers(EVALUATOR, predictions).items() if np.isnan(value)}
    assert missing == {"attribute_flip_rate_in:tumour@1.5T", "attribute_effect_in:tumour@1.5T"}
    details = EVALUATOR.details(predictions)
    assert details["undefined"] == dict.fromkeys(missing, "no examples")
    json.dumps(details, allow_nan=False)


@pytest.mark.parametrize(("classes", "values"), [(1, 2), (2, 1), (3, 2), (10, 10)])
def test_other_numbers_of_classes_and_values_have_flips_only(classes: int, values: int) -> None:
    predictions = random_pair(2, rows=300, patients=1, classes=classes, values=values)
    found, reasons = numbers(EVALUATOR, predictions), EVALUATOR.details(predictions)["undefined"]
    expected = float((predictions.predicted != predictions.arrays["counterfactual_logits"].argmax(axis=1)).mean())
    assert found["attribute_flip_rate"] == pytest.approx(expected)
    assert all(np.isnan(value) for name, value in found.items() if "effect" in name)
    assert (
        reasons["attribute_effect"] == f"defined for two classes and two values, the split has {classes} and {values}"
    )
    assert EVALUATOR.details(predictions)["tied_value"] is None


def test_no_examples_at_all() -> None:
    nothing = np.zeros(0, np.int64)
    predictions = with_other(predictions_of(nothing, nothing, nothing, np.zeros((0, 2)), GROUPS), np.zeros((0, 2)))
    found = EVALUATOR.measure(predictions, np.ones((1, 0)))
    assert all(np.isnan(value).all() for value in found.values())
    assert set(EVALUATOR.details(predictions)["undefined"].values()) == {"no examples"}


def test_many_rows_and_the_support() -> None:
    predictions = random_pair(1, rows=200_000, patients=3000)
    found = EVALUATOR.measure(predictions, resample_counts(3000, 50, seed=0))
    assert all(value.shape == (50,) and np.isfinite(value).all() for value in found.values())
    support = EVALUATOR.support(predictions)
    assert support.keys() == found.keys() and support["attribute_effect"] == 3000


def test_intervals_hold_the_value_and_a_certain_flip_has_an_exact_one() -> None:
    predictions = collected(EVALUATOR, toy_subject(scanner_reader(), per_group=5))
    estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
    flips = estimates["attribute_flip_rate"]
    assert flips.value == flips.high == 1.0 and flips.low == pytest.approx(0.025 ** (1 / 20))


# what is told


def test_findings_tell_the_reader_of_the_scanner_from_the_others() -> None:
    verdicts = {}
    for name, model in (("scanner", scanner_reader()), ("lesion", lesion_reader())):
        predictions = collected(EVALUATOR, toy_subject(model, per_group=5))
        estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
        (finding,) = EVALUATOR.findings(predictions, estimates)
        verdicts[name] = finding.verdict
        assert finding.question == "Does it decide by field strength?" and set(finding.metrics) <= estimates.keys()
    assert verdicts == {"scanner": "problem", "lesion": "no sign"}


def test_flips_without_a_direction_are_a_doubt_and_no_examples_unknown() -> None:
    predictions = random_pair(3, rows=4000, patients=400)
    estimates = Scorer(None, FEW).score(EVALUATOR, predictions, "x")
    assert EVALUATOR.findings(predictions, estimates)[0].verdict == "doubt"
    many = random_pair(3, rows=4000, patients=400, classes=3)
    estimates = Scorer(None, FEW).score(EVALUATOR, many, "x")
    assert EVALUATOR.findings(many, estimates)[0].verdict == "problem"
    empty = {name: dataclasses.replace(value, value=None) for name, value in estimates.items()}
    assert EVALUATOR.findings(many, empty)[0].verdict == "unknown"


# collecting


def test_the_scene_is_read_in_row_order_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    subject = dataclasses.replace(
        toy_subject(scanner_reader()), progress=lambda done, total: told.append((done, total))
    )
    arrays = EVALUATOR.collect(subject)
    labels, attributes = balanced_rows()
    assert (arrays["counterfactual_logits"] == said(scanner_reader(), scene(labels, 1 - attributes))).all()
    assert arrays["counterfactual_logits"].dtype == np.float32
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_the_model_gets_its_flags_back_and_is_asked_in_eval_mode() -> None:
    images, (labels, attributes) = scene(*balanced_rows()), balanced_rows()
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 2)).train()
    subject = subject_of(model.eval(), images, labels, attributes, {"counterfactual": images})
    model.train()
    other = EVALUATOR.collect(subject)["counterfactual_logits"]
    assert model.training and model[2].weight.requires_grad
    assert np.allclose(other, subject.predictions.logits)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda images: images[:-1], "Expected 12 rows of scene 'counterfactual', found 11"),
        (lambda images: np.concatenate([images, images]), "of shape .12, 1, 6, 6. in all, found a block"),
        (lambda images: images[..., :-1], r"found a block of shape .5, 1, 6, 5."),
    ],
)
def test_a_scene_of_another_shape_is_refused(broken: Any, message: str) -> None:
    labels, attributes = balanced_rows()
    images = scene(labels, attributes)
    subject = subject_of(scanner_reader(), images, labels, attributes, {"counterfactual": broken(images)})
    with pytest.raises(SpurbenchError, match=message):
        EVALUATOR.collect(subject)


def test_what_is_not_offered_and_what_was_not_collected_is_told() -> None:
    bare = dataclasses.replace(toy_subject(scanner_reader()), scenes={})
    with pytest.raises(SpurbenchError, match="offers no 'counterfactual'"):
        EVALUATOR.collect(bare)
    with pytest.raises(SpurbenchError, match="needs the array 'counterfactual_logits'"):
        EVALUATOR.measure(bare.predictions, once(bare.predictions))
    wrong = with_other(bare.predictions, np.zeros((3, 2)))
    with pytest.raises(SpurbenchError, match="Expected logits of shape"):
        EVALUATOR.measure(wrong, once(wrong))
    broken = with_other(bare.predictions, np.full((12, 2), np.nan))
    with pytest.raises(SpurbenchError, match="Expected finite logits"):
        EVALUATOR.measure(broken, once(broken))


# the phantom


def test_on_the_phantom_a_model_of_the_noise_level_flips_with_the_scanner() -> None:
    small = Phantom.Parameters(
        train_patients=20, validation_patients=8, adapt_patients=8, adapt_slices=2, test_patients=12, test_slices=4
    )
    phantom, size = Phantom(small), 64
    table = phantom.table("field", 1.0)
    part, groups = table.partitions["test"], table.groups
    images, other = (
        np.concatenate(list(make("field", part, size))) for make in (phantom.pixels, phantom.counterfactual)
    )
    model, conflict = NoiseLevel(), conflict_groups(table.counts()["train"], groups)
    plain = Predictions(
        part.ids, part.labels, part.attributes, part.clusters, said(model, images), groups, conflict=conflict
    )
    scenes = {"counterfactual": lambda: phantom.scene("counterfactual", "field", part, size)}
    predictions = collected(EVALUATOR, Subject(plain, images, lambda: model, scenes=scenes))
    found = numbers(EVALUATOR, predictions)
    assert (plain.predicted == part.attributes).all()
    corners = [
        [air[:, :, :6, part].mean((1, 2, 3)) for part in (slice(12), slice(-12, None))] for air in (images, other)
    ]
    noisy = [np.mean(pair, axis=0) > 12.5 for pair in corners]
    assert found["attribute_flip_rate"] == (noisy[0] != noisy[1]).mean() > 0.9
    assert found["attribute_effect"] > 0.7
    assert EVALUATOR.details(predictions)["tied_value"] == "1.5T"
    assert EVALUATOR.details(predictions)["tied_by"] == "training"


def test_it_is_read_without_being_run_and_imports_nothing_heavy() -> None:
    (source,) = [p for p in Registry().entries("evaluator") if p.name == "counterfactual"]
    assert source.path is not None
    (plugin,) = read_plugins(source.path)
    assert plugin.literals["requires"] == ("counterfactual",) and "attribute_effect_at:" in plugin.literals["metrics"]
    code = (
        "import sys; import robustbench_spur.evaluators.counterfactual, robustbench_spur.evaluators.lesion_removed,"
        " robustbench_spur.evaluators.regions; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_universe_may_lack_groups() -> None:
    """Groups that the design leaves out of the partition are in no metric."""
    groups = Groups(GROUPS.classes, GROUPS.attribute, GROUPS.values).only((0, 3))
    rows = np.array([0, 1, 1])
    predictions = with_other(predictions_of(rows, rows, np.arange(3), np.zeros((3, 2)), groups), np.zeros((3, 2)))
    found = numbers(EVALUATOR, predictions)
    assert [name for name in found if "effect_in" in name] == [f"attribute_effect_in:{name}" for name in groups.names]
    assert universe().names[0] == "c0@v0"
