"""Members of ensembles, of last layers and of random passes: what they disagree about, against scipy and closed forms."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from robustbench_spur.ensembling import ensemble, members
from robustbench_spur.evaluators import disagreement as evaluator_file
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.disagreement import KINDS, LAYERS, MODELS, NONE, PASSES, Disagreement
from robustbench_spur.evaluators.selective import disagreement
from robustbench_spur.heads import Ensemble, MixtureHead, PrototypeHead
from robustbench_spur.literals import read_plugins
from robustbench_spur.networks import Classifier
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, universe

PIXELS = 4
Images = NDArray[np.uint8]


def network(seed: int, *, classes: int = 2, dropout: float = 0.0, scale: float = 4.0) -> Classifier:
    """A linear network on four pixels."""
    rng = np.random.default_rng(seed)
    model = Classifier(nn.Flatten(), PIXELS, classes, [0.5], [0.25])
    head: Any = model.head
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(rng.normal(0, scale / PIXELS, (classes, PIXELS))))
        head.bias.copy_(torch.from_numpy(rng.normal(size=classes)))
    model.dropout = dropout
    return model.eval().requires_grad_(False)


def pictures(count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 2, 2)).astype(np.uint8)


def says(model: nn.Module, images: Images, labels: NDArray[Any] | None = None) -> Predictions:
    """What a model says; labels by chance unless given."""
    with torch.no_grad():
        logits = model(torch.from_numpy(images).float() / 255).numpy()
    rows, classes = np.arange(len(images)), logits.shape[1]
    labels = np.random.default_rng(9).integers(0, classes, len(rows)) if labels is None else labels
    return predictions_of(labels, rows % 2, rows // 3, logits.astype(np.float64), universe(classes))


def collected(model: nn.Module, images: Images, **parameters: Any) -> Predictions:
    predictions = says(model, images)
    arrays = Disagreement(Disagreement.Parameters(**parameters)).collect(Subject(predictions, images, lambda: model))
    assert tuple(arrays) == Disagreement.collects
    return dataclasses.replace(predictions, arrays=arrays)


def point(predictions: Predictions) -> dict[str, float]:
    return {name: float(value[0]) for name, value in Disagreement().measure(predictions, once(predictions)).items()}


def parts(predictions: Predictions) -> tuple[Any, Any]:
    names = ("disagreement_mutual_information", "disagreement_expected_entropy")
    mutual, expected = (pytest.approx(predictions.arrays[name], abs=2e-6) for name in names)
    return mutual, expected


# What the members are


@pytest.mark.parametrize("classes", [2, 10])
def test_an_ensemble_s_members_are_its_models(classes: int) -> None:
    images = pictures(300)
    models = [network(seed, classes=classes) for seed in range(3)]
    found = collected(Ensemble(models).eval(), images)
    apart = [says(model, images) for model in models]
    assert disagreement(members(apart)) == parts(found)
    assert found.arrays["disagreement_source"].tolist() == [MODELS, 3]
    assert ensemble(apart).logits == pytest.approx(found.logits, abs=1e-5)


def masked(kept: NDArray[Any], dropout: float) -> Classifier:
    """Last layers behind fixed masks, as MC dropout makes them."""
    model = network(5, dropout=dropout)
    head = MixtureHead(len(kept), 2, PIXELS, gated=False)
    plain: Any = model.head
    with torch.no_grad():
        head.weight.copy_(plain.weight[None] * torch.from_numpy(kept).float()[:, None] / (1 - dropout))
        head.bias.copy_(plain.bias.expand(len(kept), -1))
    model.head = head
    return model.eval().requires_grad_(False)


def test_the_last_layers_of_mc_dropout_are_members() -> None:
    images, kept = pictures(50), np.random.default_rng(1).random((6, PIXELS)) >= 0.5
    found = collected(masked(kept, 0.5), images)
    plain: Any = network(5).head
    weight, bias = plain.weight.numpy().astype(np.float64), plain.bias.numpy()
    features = (images.reshape(50, 4) / 255 - 0.5) / 0.25
    said = np.stack([scipy.special.softmax((features * mask / 0.5) @ weight.T + bias, axis=1) for mask in kept])
    assert disagreement(said) == parts(found)
    assert found.arrays["disagreement_source"].tolist() == [LAYERS, 6]
    assert said.mean(axis=0) == pytest.approx(found.probabilities, abs=1e-5)


def test_a_gate_weights_its_experts() -> None:
    images, model = pictures(40), network(2)
    head = MixtureHead(3, 2, PIXELS, gated=True)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.from_numpy(rng.normal(size=tuple(weight.shape))))
    model.head = head
    found = collected(model.eval().requires_grad_(False), images)
    arrays = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    features = (images.reshape(40, 4) / 255 - 0.5) / 0.25
    logits = np.einsum("bf,kcf->kbc", features, arrays["weight"]) + arrays["bias"][:, None]
    shares = scipy.special.softmax(features @ arrays["gate_weight"].T + arrays["gate_bias"], axis=1).T
    assert disagreement(scipy.special.softmax(logits, axis=2), shares) == parts(found)


def test_sets_of_prototypes_are_members() -> None:
    images, model = pictures(40), network(2)
    head, rng = PrototypeHead(3, 2, PIXELS), np.random.default_rng(0)
    with torch.no_grad():
        head.prototypes.copy_(nn.functional.normalize(torch.from_numpy(rng.normal(size=(3, 2, PIXELS))), dim=2))
        head.temperature.copy_(torch.tensor([1.0, 5.0, 10.0]))
    model.head = head
    found = collected(model.eval().requires_grad_(False), images)
    features = (images.reshape(40, 4) / 255 - 0.5) / 0.25
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[None, :, None] - head.prototypes.numpy()[:, None], axis=3)
    said = scipy.special.softmax(-np.array([1, 5, 10])[:, None, None] * distance, axis=2)
    assert disagreement(said) == parts(found)
    assert said.mean(axis=0) == pytest.approx(found.probabilities, abs=1e-5)


# Random passes


def test_random_passes_have_the_spread_of_their_masks() -> None:
    """All sixteen masks of four features, each with its probability, against many random passes."""
    images, model = pictures(20), network(1, dropout=0.25)
    found = collected(model, images, passes=1000)
    plain: Any = model.head
    features = (images.reshape(20, 4) / 255 - 0.5) / 0.25
    masks = np.array([[bit >> k & 1 for k in range(4)] for bit in range(16)])
    chance = (0.75**masks * 0.25 ** (1 - masks)).prod(axis=1)
    weight, bias = plain.weight.numpy().astype(np.float64), plain.bias.numpy()
    said = np.stack([scipy.special.softmax((features * mask / 0.75) @ weight.T + bias, axis=1) for mask in masks])
    mutual, expected = disagreement(said, np.tile(chance[:, None], 20))
    assert found.arrays["disagreement_mutual_information"] == pytest.approx(mutual, abs=0.03)
    assert found.arrays["disagreement_expected_entropy"] == pytest.approx(expected, abs=0.03)
    assert found.arrays["disagreement_source"].tolist() == [PASSES, 1000]
    assert (found.predicted == says(network(1), images).predicted).all(), "predictions are those without dropout"


def test_passes_repeat_and_leave_torch_as_it_was() -> None:
    images, model = pictures(600), network(1, dropout=0.25)
    before = torch.random.get_rng_state()
    first, again, other = (collected(model, images, seed=seed).arrays for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    name = "disagreement_mutual_information"
    assert (first[name] == again[name]).all()
    assert (first[name] != other[name]).any()
    twice = np.concatenate([images[:1]] * 2)
    same = collected(model, twice).arrays[name]
    assert same[0] != same[1], "every example has masks of its own"


def test_progress_and_settings() -> None:
    images, model, calls = pictures(600), network(1, dropout=0.25), []
    subject = Subject(says(model, images), images, lambda: model, progress=lambda *call: calls.append(call))
    Disagreement().collect(subject)
    assert calls == [(256, 600), (512, 600), (600, 600)]
    for parameters in ({"passes": 1}, {"seed": -1}, {"rate": 0.5}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            Disagreement.Parameters(**parameters)


# Models without members


@pytest.mark.parametrize("model", [network(0), Ensemble([network(0)]).eval(), masked(np.ones((1, 4)), 0.5)])
def test_a_single_network_has_no_members(model: nn.Module) -> None:
    predictions = says(model, pictures(12))
    arrays = Disagreement().collect(Subject(predictions, None, lambda: model))  # looks at no image
    assert arrays["disagreement_source"].tolist() == [NONE, 0]
    predictions = dataclasses.replace(predictions, arrays=arrays)
    numbers, details = point(predictions), Disagreement().details(predictions)
    assert all(math.isnan(value) for value in numbers.values())
    assert set(details["undefined"]) == set(numbers)
    assert set(details["undefined"].values()) == {
        "one network with one last layer, trained without dropout: it has no members"
    }
    assert (details["kind"], details["curve"]) == ("none", [])
    assert json.loads(json.dumps(details, allow_nan=False)) == details


# The numbers


def holding(predictions: Predictions, mutual: Any, expected: Any = None) -> Predictions:
    mutual = np.asarray(mutual, np.float32)
    arrays = {
        "disagreement_source": np.array([MODELS, 3]),
        "disagreement_mutual_information": mutual,
        "disagreement_expected_entropy": np.zeros_like(mutual) if expected is None else np.asarray(expected),
    }
    return dataclasses.replace(predictions, arrays=arrays)


def test_by_hand() -> None:
    """Four rows of four groups; the second is wrong."""
    said = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    rows = predictions_of(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.arange(4), said, universe())
    predictions = holding(rows, [0.0, 0.25, 0.5, 0.125], [0.5, 0.25, 0, 0.25])
    numbers = Disagreement().measure(predictions, np.array([[1.0, 1, 1, 1], [2, 2, 0, 0]]))
    assert {name: value.tolist() for name, value in numbers.items()} == {
        "member_mutual_information": [0.21875, 0.125],
        "member_mutual_information_at:c0@v0": [0, 0],
        "member_mutual_information_at:c0@v1": [0.25, 0.25],
        "member_mutual_information_at:c1@v0": [0.5, pytest.approx(math.nan, nan_ok=True)],
        "member_mutual_information_at:c1@v1": [0.125, pytest.approx(math.nan, nan_ok=True)],
        "member_entropy": [0.25, 0.375],
        "member_aurc": pytest.approx([(1 / 3 + 1 / 4) / 4, (1 / 3 + 2 / 4) / 4]),
        "member_failure_auroc": pytest.approx([2 / 3, 1]),
    }
    details = Disagreement().details(predictions)
    assert details["groups"][1] == {"group": "c0@v1", "examples": 1, "mutual_information": 0.25, "entropy": 0.25}
    assert details["curve"][0] == {"coverage": 0.25, "risk": 0.0, "mutual_information": 0.0}
    assert details["curve"][-1] == {"coverage": 1.0, "risk": 0.25, "mutual_information": 0.5}
    assert (details["kind"], details["members"], details["undefined"]) == (KINDS[MODELS], 3, {})
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_agreement_tells_nothing() -> None:
    """Constant and shortcut-only predictors of equal members: every example is a tie, and half are wrong."""
    for predictions in (reference.constant(0), reference.shortcut_only()):
        numbers = point(holding(predictions, np.zeros(40)))
        assert (numbers["member_mutual_information"], numbers["member_failure_auroc"]) == (0, 0.5)
        assert numbers["member_aurc"] == pytest.approx(0.5)
    perfect = holding(reference.perfect(), np.zeros(40))
    assert point(perfect)["member_aurc"] == 0
    assert Disagreement().details(perfect)["undefined"] == {"member_failure_auroc": "no example is wrong"}


def test_random_and_ten_classes_and_many_rows() -> None:
    predictions = reference.random(0, rows=200_000, patients=500, classes=10, step=0)
    numbers = point(holding(predictions, np.random.default_rng(0).random(200_000)))
    assert numbers["member_failure_auroc"] == pytest.approx(0.5, abs=0.01)
    assert numbers["member_aurc"] == pytest.approx(0.9, abs=0.01)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_resampling_is_measuring_the_repeated_rows(seed: int, rows: int) -> None:
    predictions = reference.random(seed, rows=rows, patients=6)
    mutual = np.random.default_rng(seed).integers(0, 4, rows) / 4
    held = holding(predictions, mutual)
    counts = resample_counts(len(predictions.patients), 3, seed)
    numbers = Disagreement().measure(held, counts)
    for row, times in enumerate(counts):
        drawn = np.concatenate([np.tile(np.flatnonzero(predictions.patient == p), int(n)) for p, n in enumerate(times)])
        names = np.array([f"{place}" for place in range(len(drawn))], dtype=np.str_)
        expected = point(holding(reference.rearranged(predictions, drawn, names), mutual[drawn]))
        for name, value in expected.items():
            assert numbers[name][row] == pytest.approx(value, nan_ok=True, abs=1e-12), name


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows_give_numbers_or_nan(rows: int) -> None:
    predictions = holding(reference.random(1, rows=rows, patients=1, values=3), np.zeros(rows))
    numbers, details = point(predictions), Disagreement().details(predictions)
    assert {name for name, value in numbers.items() if math.isnan(value)} == set(details["undefined"])
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_what_does_not_fit_is_refused() -> None:
    predictions = holding(reference.perfect(), np.zeros(40))
    cases: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"disagreement_source": np.array([7, 3])}, "kind and number"),
        ({"disagreement_mutual_information": np.zeros(39)}, "each of 40 examples"),
        ({"disagreement_expected_entropy": np.full(40, np.nan)}, "0 or more"),
        ({"disagreement_mutual_information": np.full(40, -0.1)}, "0 or more"),
    ]
    for changed, said_of_it in cases:
        broken = dataclasses.replace(predictions, arrays={**predictions.arrays, **changed})
        with pytest.raises(SpurbenchError, match=said_of_it):
            Disagreement().measure(broken, once(broken))
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        Disagreement().measure(reference.perfect(), once(reference.perfect()))
    model = network(1, dropout=0.25)
    with pytest.raises(SpurbenchError, match="Expected 4 images"):
        Disagreement().collect(Subject(says(model, pictures(4)), pictures(3), lambda: model))
    broken_model: Any = network(1, dropout=0.25)
    with torch.no_grad():
        broken_model.head.bias.fill_(math.nan)
    with pytest.raises(SpurbenchError, match="found NaN"):
        Disagreement().collect(Subject(says(model, pictures(4)), pictures(4), lambda: broken_model))


def test_listing_reads_it_without_running_it() -> None:
    source = read_plugins(Path(str(evaluator_file.__file__)))
    assert [plugin.literals["name"] for plugin in source] == ["disagreement"]
    assert source[0].literals["metrics"] == Disagreement.metrics
    assert source[0].literals["collects"] == Disagreement.collects
    script = "import robustbench_spur.evaluators.disagreement, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
