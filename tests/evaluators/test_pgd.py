"""The attack against a plain loop, closed forms and predictors that are known; the numbers against hand-made cases."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from robustbench_spur.attack import check_ball, noise_seed, radius_label, unsaturated
from robustbench_spur.evaluators import pgd
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.pgd import PGD, balanced_subset
from robustbench_spur.literals import read_plugins
from robustbench_spur.networks import Classifier, SmallCNN
from robustbench_spur.statistics import resample_counts
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
Images = NDArray[np.uint8]
Ints = NDArray[np.int64]
SIZE = 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Networks, images, predictions


def linear(
    weight: NDArray[Any], bias: NDArray[Any], *, mean: float = 0, std: float = 1, channels: int = 1
) -> Classifier:
    """Logits that are linear in the normalised image; weight of shape (classes, pixels)."""
    model = Classifier(nn.Flatten(), weight.shape[1], len(weight), [mean] * channels, [std] * channels)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(bias))
    return model.eval().requires_grad_(False)


def convolutional(seed: int, images: Images, *, classes: int = 2, scale: float = 1.0) -> Classifier:
    """A small network of random weights; its logits on the images have mean 0 and a standard deviation of ``scale``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(SmallCNN(images.shape[1]), 128, classes, [0.5] * images.shape[1], [0.25] * images.shape[1])
    model = model.eval().requires_grad_(False)
    logits = logits_of(model, images).astype(np.float64)
    shrink = logits.std(axis=0)[:, None] / scale
    with torch.no_grad():
        model.head.weight.div_(torch.from_numpy(shrink))
        model.head.bias.sub_(torch.from_numpy(logits.mean(axis=0))).div_(torch.from_numpy(shrink[:, 0]))
    return model


def unit(images: Images) -> torch.Tensor:
    return (torch.from_numpy(images.copy()).float() / 255).contiguous(memory_format=torch.channels_last)


def logits_of(model: nn.Module, images: Images) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(model(unit(images)).numpy(), np.float32)


def noise_images(
    seed: int, count: int, *, channels: int = 1, size: int = SIZE, low: int = 0, high: int = 256
) -> Images:
    shape = (count, channels, size, size)
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint8)


def predict(model: nn.Module, images: Images, labels: Ints) -> Predictions:
    """What the model says, with every image its own patient and two attribute values in turn."""
    logits, rows = logits_of(model, images), np.arange(len(images))
    return predictions_of(labels, rows % 2, rows, logits.astype(np.float64), universe(logits.shape[1]))


def mostly_right(model: nn.Module, images: Images) -> Ints:
    """The classes that the model predicts, every fifth changed."""
    logits = logits_of(model, images)
    changed = np.arange(len(images)) % 5 == 4
    return np.asarray((logits.argmax(axis=1) + changed) % logits.shape[1], np.int64)


@dataclass
class Outcome:
    """An evaluator and what it collected."""

    evaluator: PGD
    predictions: Predictions

    @property
    def rows(self) -> Ints:
        return self.predictions.arrays["pgd_rows"]

    @property
    def flags(self) -> NDArray[np.uint8]:
        return self.predictions.arrays["pgd_robust"]

    @property
    def numbers(self) -> dict[str, float]:
        values = self.evaluator.measure(self.predictions, once(self.predictions))
        return {name: float(value[0]) for name, value in values.items()}


def with_arrays(predictions: Predictions, arrays: dict[str, NDArray[Any]]) -> Predictions:
    return dataclasses.replace(predictions, arrays=arrays)


def in_order(predictions: Predictions, order: Ints) -> Predictions:
    """The same rows in another order, ids and all."""
    columns = ("ids", "labels", "attributes", "clusters", "logits")
    return dataclasses.replace(predictions, **{name: getattr(predictions, name)[order] for name in columns})


def attack(model: nn.Module, images: Any, predictions: Predictions, **parameters: Any) -> Outcome:
    evaluator = PGD(PGD.Parameters(**parameters))
    arrays = evaluator.collect(Subject(predictions, images, lambda: model))
    return Outcome(evaluator, with_arrays(predictions, arrays))


def robust(model: nn.Module, images: Images, labels: Ints, radius: float, **parameters: Any) -> NDArray[np.bool_]:
    """Whether each image is robust, shape (n,); all images are attacked."""
    own = {"radii": (radius,), "headline_radius": radius, "examples": 100_000, **parameters}
    outcome = attack(model, images, predict(model, images, labels), **own)
    assert outcome.rows.tolist() == list(range(len(images)))
    return np.asarray(outcome.flags[:, 0] == 1)


# Against an independent attack


def plain_pgd(
    model: nn.Module, clean: torch.Tensor, labels: Ints, radius: float, step: float, steps: int, seed: int
) -> torch.Tensor:
    """Projected gradient ascent of the plain cross-entropy."""
    noise = torch.empty_like(clean).uniform_(-radius, radius, generator=torch.Generator().manual_seed(seed))
    at = (clean + noise).clamp(0, 1)
    for _ in range(steps):
        at.requires_grad_(True)
        loss = functional.cross_entropy(model(at), torch.from_numpy(labels), reduction="sum")
        moved = at.detach() + step * torch.autograd.grad(loss, at)[0].sign()
        at = torch.minimum(torch.maximum(moved, clean - radius), clean + radius).clamp(0, 1)
    return at.detach()


def margins(logits: NDArray[Any], labels: Ints) -> NDArray[np.float64]:
    """The true class's logit less the largest of the others, shape (n,)."""
    others = logits.astype(np.float64)
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return np.asarray(logits[np.arange(len(labels)), labels] - others.max(axis=1), np.float64)


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 3)])
def test_the_same_flags_as_a_plain_loop(classes: int, channels: int) -> None:
    images = noise_images(classes, 90, channels=channels, size=16)
    model = convolutional(1, images, classes=classes)
    labels, radius = mostly_right(model, images), 2 / 255
    found = robust(model, images, labels, radius, batch_size=32, steps=2, relative_step=0.5, seed=11)
    order = sorted(range(90), key=lambda row: hashlib.sha256(f"11:id{row}".encode()).hexdigest())
    right = logits_of(model, images).argmax(axis=1) == labels
    attacked = np.array([row for row in order if right[row]])
    assert len(attacked) == 72
    margin = np.full(90, -1.0)
    for number, start in enumerate(range(0, 72, 32)):
        rows = attacked[start : start + 32]
        seed = noise_seed(11, radius, number)
        adversarial = plain_pgd(model, unit(images[rows]), labels[rows], radius, 0.5 * radius / 2, 2, seed)
        margin[rows] = margins(model(adversarial).numpy(), labels[rows])
    clear = abs(margin) > 1e-3
    assert 10 < (margin > 0).sum() < 62
    assert clear.sum() > 85
    assert (found == (margin > 0))[clear].all()


def worst_margin(model: Classifier, images: Images, labels: Ints, radius: float) -> NDArray[np.float64]:
    """Least margin of a linear model over the ball cut by [0, 1], over all other classes: exact, pixel by pixel."""
    pixels = images.reshape(len(images), -1) / 255
    mean, std = (float(channel.flatten()[0]) for channel in (model.mean, model.std))
    weight = model.head.weight.double().numpy() / std
    logits = (pixels - mean) @ weight.T + model.head.bias.double().numpy()
    down, up = np.maximum(-radius, -pixels), np.minimum(radius, 1 - pixels)
    least = np.full(logits.shape, np.inf)
    for other in range(logits.shape[1]):
        slope = weight[labels] - weight[other]
        fall = np.minimum(slope * down, slope * up).sum(axis=1)
        margin = logits[np.arange(len(labels)), labels] - logits[:, other] + fall
        least[:, other] = np.where(labels == other, np.inf, margin)
    return np.asarray(least.min(axis=1))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.5 / 255, 1 / 255, 3 / 255, 0.1, 0.7]),
    st.sampled_from([1.0, 0.5, 0.2]),
    st.sampled_from([0.01, 1.0, 1000.0]),
    st.sampled_from([1, 3]),
)
def test_a_linear_model_of_two_classes_is_exact(
    seed: int, radius: float, std: float, scale: float, channels: int
) -> None:
    rng, images = np.random.default_rng(seed), noise_images(seed, 60, channels=channels)
    weight = scale * rng.normal(0, 1, (2, channels * SIZE * SIZE))
    bias = -np.median((images.reshape(60, -1) / 255 - 0.5) @ weight.T, axis=0) / std
    model = linear(weight, bias, mean=0.5, std=std, channels=channels)
    labels = mostly_right(model, images)
    margin = worst_margin(model, images, labels, radius)
    clear = abs(margin) > 1e-3 * scale
    assert (robust(model, images, labels, radius, batch_size=25) == (margin > 0))[clear].all()


def test_without_clipping_the_margin_falls_by_the_l1_norm() -> None:
    images = noise_images(0, 200, low=60, high=190)
    weight = np.random.default_rng(0).normal(0, 1, (2, SIZE * SIZE))
    model = linear(weight, -0.98 * weight.sum(axis=1), std=0.5)  # images have a mean of about 0.49, normalised 0.98
    logits = logits_of(model, images).astype(np.float64)
    for radius in (1 / 255, 2 / 255, 8 / 255):
        left = abs(logits[:, 1] - logits[:, 0]) - radius * abs(weight[1] - weight[0]).sum() / 0.5
        found = robust(model, images, logits.argmax(axis=1), radius)
        assert (found == (left > 0))[abs(left) > 1e-4].all()
        assert 0 < found.mean() < 1


def test_real_chest_x_rays_and_a_linear_model() -> None:
    path = DATA / "pneumoniamnist" / "pneumoniamnist_union.npz"
    if not path.is_file():
        pytest.skip(f"no chest X-rays at {path}")
    with np.load(path) as archive:
        images, labels = archive["test_images"][:, None], archive["test_labels"].reshape(-1).astype(np.int64)
    pixels = np.c_[images.reshape(len(images), -1) / 255, np.ones(len(images))]
    ridge = np.linalg.solve(pixels.T @ pixels + np.eye(pixels.shape[1]), pixels.T @ (2.0 * labels - 1))
    model = linear(np.stack([0 * ridge[:-1], ridge[:-1]]), np.array([0, ridge[-1]]))
    accuracies = [np.mean(logits_of(model, images).argmax(axis=1) == labels)]
    for radius in (1 / 255, 2 / 255, 4 / 255):
        margin = worst_margin(model, images, labels, radius)
        found = robust(model, images, labels, radius)
        assert (found == (margin > 0))[abs(margin) > 1e-5].all()
        accuracies.append(found.mean())
    assert accuracies[0] > 0.9
    assert accuracies[0] > accuracies[1] > accuracies[2] > accuracies[3]


def test_three_classes_never_fall_below_what_is_certain() -> None:
    images = noise_images(5, 150)
    weight = np.random.default_rng(5).normal(0, 1, (3, SIZE * SIZE))
    model = linear(weight, -0.5 * weight.sum(axis=1))
    labels = mostly_right(model, images)
    found, certain = robust(model, images, labels, 4 / 255), worst_margin(model, images, labels, 4 / 255) > 1e-4
    assert found[certain].all()
    assert 0 < certain.sum() <= found.sum() <= certain.sum() + 5


# Confident networks


def test_a_scaled_network_is_no_more_robust() -> None:
    images = noise_images(3, 80, size=16)
    model, scaled = convolutional(2, images), convolutional(2, images, scale=1e4)
    labels = mostly_right(model, images)
    found = robust(model, images, labels, 2 / 255)
    assert 5 < found.sum() < 55
    assert (robust(scaled, images, labels, 2 / 255) == found).mean() > 0.98
    right = logits_of(model, images).argmax(axis=1) == labels
    clean, true = unit(images[right]), torch.from_numpy(labels[right])
    with torch.random.fork_rng(devices=[]):
        plain = torchattacks.PGD(scaled, eps=2 / 255, alpha=0.5 / 255, steps=10)(clean, true)
    assert (scaled(plain).argmax(1) == true).float().mean() > found[right].mean() + 0.2  # its gradient is zero


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([0.1, 0.5, 2.0]))
def test_unsaturated_has_the_gradients_sign(seed: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    layer = nn.Linear(16, classes, bias=False, dtype=torch.float64)
    layer.weight = nn.Parameter(torch.from_numpy(scale * rng.normal(0, 1, (classes, 16))))
    model = nn.Sequential(nn.Flatten(), layer)
    at = torch.from_numpy(rng.random((20, 1, 4, 4))).requires_grad_(True)
    labels = torch.from_numpy(rng.integers(0, classes, 20))
    plain, shifted = (
        torch.autograd.grad(functional.cross_entropy(network(at), labels, reduction="sum"), at)[0]
        for network in (model, unsaturated(model, labels))
    )
    length = plain.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert (plain.sign() == shifted.sign())[plain.abs() > 1e-6 * length].all()
    share = (shifted / shifted.flatten(1).norm(dim=1)[:, None, None, None]).flatten(1)
    assert torch.allclose(share, (plain / plain.flatten(1).norm(dim=1)[:, None, None, None]).flatten(1), atol=1e-6)


# Predictors that are known


def brightness(scale: float) -> Classifier:
    """Class 1 where the mean of the image is above 1/2."""
    weight = np.full(SIZE * SIZE, scale / SIZE**2)
    return linear(np.stack([-weight, weight]), np.array([scale / 2, -scale / 2]))


def plain_images(labels: Ints) -> Images:
    """Grey 60 for class 0, 200 for class 1."""
    return np.repeat((60 + 140 * labels).astype(np.uint8), SIZE * SIZE).reshape(-1, 1, SIZE, SIZE)


def test_constant() -> None:
    images, labels = noise_images(0, 40), np.arange(40) // 2 % 2
    model = linear(np.zeros((2, SIZE * SIZE)), np.array([0.0, 1.0]))
    outcome = attack(model, images, predict(model, images, labels))
    numbers = outcome.numbers
    assert numbers["pgd_accuracy:1/255"] == numbers["pgd_accuracy:2/255"] == outcome.predictions.correct.mean() == 0.5
    assert numbers["pgd_worst_group_accuracy"] == 0
    assert numbers["pgd_group_accuracy:2/255:c1@v0"] == numbers["pgd_group_accuracy:2/255:c1@v1"] == 1


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_perfect(scale: float) -> None:
    labels = np.arange(40) // 2 % 2
    images, model = plain_images(labels), brightness(scale)
    predictions = predict(model, images, labels)
    numbers = attack(model, images, predictions, radii=("1/255", "0.2", "0.4"), headline_radius="0.2").numbers
    assert [numbers[f"pgd_accuracy:{label}"] for label in ("1/255", "51/255", "102/255")] == [1, 1, 0]
    assert numbers["pgd_worst_group_accuracy"] == 1
    assert numbers["pgd_worst_group_accuracy:102/255"] == 0


def test_random() -> None:
    images, labels = noise_images(0, 400), np.random.default_rng(1).integers(0, 2, 400)
    model = convolutional(0, images)
    outcome = attack(model, images, predict(model, images, labels))
    clean, at_one, at_two = (row["accuracy"] for row in outcome.evaluator.details(outcome.predictions)["curve"])
    assert clean == pytest.approx(0.5, abs=0.08)
    assert clean >= at_one > at_two


@pytest.mark.parametrize("classes", [2, 3])
def test_robust_accuracy_falls_from_clean_to_nothing(classes: int) -> None:
    images = noise_images(classes, 60, size=16)
    model = convolutional(4, images, classes=classes)
    predictions = predict(model, images, mostly_right(model, images))
    radii = (0.1 / 255, 1 / 255, 4 / 255, 0.3)
    flags = attack(model, images, predictions, radii=radii, examples=6000, steps=20).flags
    assert (flags <= predictions.correct[:, None]).all()
    assert flags.mean(axis=0).tolist() == sorted(flags.mean(axis=0), reverse=True)
    assert flags[:, 0].sum() > 0.8 * predictions.correct.sum()
    assert flags[:, -1].sum() == 0


# The subset


def test_the_subset_is_balanced_and_does_not_depend_on_the_order() -> None:
    predictions = reference.random(0, rows=900, classes=3)
    subset = balanced_subset(predictions, 100, 5)
    assert np.bincount(predictions.group[subset]).tolist() == [16] * 6
    shuffled = in_order(predictions, np.random.default_rng(0).permutation(900))
    assert shuffled.ids[balanced_subset(shuffled, 100, 5)].tolist() == predictions.ids[subset].tolist()
    assert set(balanced_subset(predictions, 100, 6)) != set(subset)
    assert set(subset) < set(balanced_subset(predictions, 200, 5))


def test_the_subset_by_hand() -> None:
    predictions = reference.perfect()
    keys = {row: hashlib.sha256(f"2025:id{row}".encode()).hexdigest() for row in range(40)}
    expected = {row for g in range(4) for row in sorted(range(10 * g, 10 * g + 10), key=keys.__getitem__)[:3]}
    assert set(balanced_subset(predictions, 15, 2025).tolist()) == expected


def test_a_group_with_few_examples_gives_all_and_an_empty_one_none() -> None:
    perfect = reference.perfect()
    few = reference.rearranged(perfect, np.r_[0:10, 10:12, 20:30])
    subset = np.sort(balanced_subset(few, 16, 0))
    assert np.bincount(few.group[subset], minlength=4).tolist() == [4, 2, 4, 0]
    none = reference.rearranged(perfect, np.arange(0))
    assert balanced_subset(none, 16, 0).tolist() == []


def test_flags_do_not_depend_on_the_order_of_the_rows() -> None:
    images = noise_images(7, 120, size=16)
    model = convolutional(7, images)
    predictions = predict(model, images, mostly_right(model, images))
    order = np.random.default_rng(7).permutation(120)
    first = attack(model, images, predictions, examples=60, batch_size=16)
    second = attack(model, images[order], in_order(predictions, order), examples=60, batch_size=16)
    by_id = [dict(zip(o.predictions.ids[o.rows].tolist(), o.flags.tolist(), strict=True)) for o in (first, second)]
    assert by_id[0] == by_id[1]
    assert 0 < first.flags.mean() < 1
    assert (str(first.rows.dtype), str(first.flags.dtype), first.flags.shape[1]) == ("int64", "uint8", 2)
    assert (np.diff(first.rows) > 0).all()


# What collecting leaves behind


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_works_in_any_mode_and_repeats(mode: Any) -> None:
    images = noise_images(8, 40, size=16)
    model = convolutional(8, images)
    predictions = predict(model, images, mostly_right(model, images))
    plain = attack(model, images, predictions)
    torch.rand(7)
    with mode():
        again = attack(model, images, predictions)
    assert plain.rows.tolist() == again.rows.tolist()
    assert plain.flags.tolist() == again.flags.tolist()
    assert 0 < plain.flags.mean() < 1


def test_nothing_is_left_behind() -> None:
    images = noise_images(9, 40, size=16)
    model = convolutional(9, images)
    predictions = predict(model, images, mostly_right(model, images))
    frozen = attack(model, images, predictions, batch_size=10).flags
    model.train()
    next(model.backbone.children()).get_submodule("1").eval()
    model.head.weight.requires_grad_(True)
    modes = [part.training for part in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    before, numpy_before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    flags = attack(model, images, predictions, batch_size=10).flags
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == numpy_before  # noqa: NPY002
    assert [part.training for part in model.modules()] == modes
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["head.weight"]
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (flags == frozen).all()


def test_a_failure_leaves_nothing_behind_either() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = linear(np.ones((2, SIZE * SIZE)), np.zeros(2)).train().requires_grad_(True)
    predictions = predictions_of(labels, labels, labels, said(labels, 2), universe())
    with pytest.raises(SpurbenchError, match="predictions of this model"):
        attack(model, images, predictions)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_progress_counts_attacked_batches() -> None:
    labels = np.arange(40) // 2 % 2
    images, model = plain_images(labels), brightness(1.0)
    truth = np.where(np.arange(40) < 10, 1 - labels, labels)
    calls: list[tuple[int, int]] = []
    evaluator = PGD(PGD.Parameters(batch_size=8))
    predictions = predict(model, images, truth)
    evaluator.collect(Subject(predictions, images, lambda: model, progress=lambda *call: calls.append(call)))
    assert calls == [(done, 8) for done in range(1, 9)]  # 30 right ones in 4 batches, at 2 radii


def test_a_memory_map_is_read(tmp_path: Path) -> None:
    images, labels = noise_images(1, 12), np.arange(12) % 2
    np.save(tmp_path / "images.npy", images)
    mapped, model = np.load(tmp_path / "images.npy", mmap_mode="r"), brightness(1.0)
    predictions = predict(model, images, labels)
    assert (attack(model, mapped, predictions).flags == attack(model, images, predictions).flags).all()


def test_no_examples_give_no_rows() -> None:
    images, labels = noise_images(0, 0), np.arange(0)
    outcome = attack(brightness(1.0), images, predict(brightness(1.0), images, labels))
    assert (outcome.rows.shape, outcome.flags.shape) == ((0,), (0, 2))
    assert all(math.isnan(value) for value in outcome.numbers.values())


# What cannot be attacked


def test_other_inputs_are_refused() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = brightness(1.0)
    predictions = predict(model, images, labels)
    bad: Any
    for bad, found in (
        (images / 255, r"found float64 of shape \(8, 1, 8, 8\)"),
        (images[:7], r"shape \(8, channels, height, width\), found uint8 of shape \(7, 1, 8, 8\)"),
        (images[:, 0], r"found uint8 of shape \(8, 8, 8\)"),
        (images.tolist(), "found list"),
    ):
        with pytest.raises(SpurbenchError, match=found):
            attack(model, bad, predictions)
    with pytest.raises(SpurbenchError, match="at least one example for each of 4 groups, found examples=3"):
        attack(model, images, predictions, examples=3)
    single = predictions_of(0 * labels, labels, labels, np.zeros((8, 1)), universe(1))
    with pytest.raises(SpurbenchError, match="at least two classes"):
        attack(model, images, single)


def test_predictions_of_other_images_are_refused() -> None:
    images = noise_images(0, 8, size=16)
    model = convolutional(0, images)
    predictions = predict(model, images, logits_of(model, images).argmax(axis=1))
    with pytest.raises(SpurbenchError, match=r"differ by .* on 'id\d'"):
        attack(model, images[::-1].copy(), predictions)


class Root(nn.Module):
    """Features whose gradient is NaN."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (0 * images).sqrt().flatten(1)


def test_a_gradient_that_is_not_a_number_is_an_error() -> None:
    images, labels = noise_images(0, 8), np.zeros(8, np.int64)
    model = Classifier(Root(), SIZE * SIZE, 2, [0.0], [1.0]).eval()
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([1.0, 0.0]))
    with pytest.raises(SpurbenchError, match=r"gradients .* found NaN"):
        attack(model, images, predict(model, images, labels))


def test_logits_that_are_not_numbers_are_an_error() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = linear(np.full((2, SIZE * SIZE), np.nan), np.zeros(2))
    with pytest.raises(SpurbenchError, match="finite logits"):
        attack(model, images, predictions_of(labels, labels, labels, said(labels, 2), universe()))


def test_an_attack_that_leaves_the_ball_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = plain_images(np.arange(8) % 2), np.arange(8) % 2
    monkeypatch.setattr(torchattacks, "PGD", lambda model, **settings: lambda clean, labels: clean + 0.005)
    with pytest.raises(SpurbenchError, match="512 pixels outside"):
        attack(brightness(1.0), images, predict(brightness(1.0), images, labels))


@pytest.mark.parametrize(("change", "outside"), [(0.0, 0), (0.0100005, 0), (0.0101, 4), (-0.5, 4), (math.nan, 4)])
def test_the_ball_is_checked(change: float, outside: int) -> None:
    clean = torch.full((1, 1, 2, 2), 0.4)
    if not outside:
        check_ball(clean + change, clean, 0.01)
        return
    with pytest.raises(SpurbenchError, match=f"found {outside} pixels outside"):
        check_ball(clean + change, clean, 0.01)
    with pytest.raises(SpurbenchError, match="found 1 pixels outside"):
        check_ball(torch.tensor([1.001]), torch.tensor([1.0]), 0.01)


# Settings


def test_settings() -> None:
    settled = PGD.Parameters()
    assert (settled.radii, settled.headline_radius) == ((1 / 255, 2 / 255), 1 / 255)
    assert PGD.Parameters.model_validate_json(settled.model_dump_json()) == settled
    assert PGD.Parameters(radii=["1/255", 0.01, "0.02"], headline_radius=0.02).radii == (1 / 255, 0.01, 0.02)
    assert PGD.Parameters(headline_radius=0.0078431373).headline_radius == 2 / 255
    assert PGD(settled).step_size(2 / 255) == pytest.approx(0.5 / 255)


@pytest.mark.parametrize(
    ("given_settings", "said_of_it"),
    [
        ({"radii": ()}, "above 0"),
        ({"radii": (0.0, 1 / 255)}, "above 0"),
        ({"radii": (1 / 255, 1.1)}, "at most 1"),
        ({"radii": (2 / 255, 1 / 255)}, "ascending"),
        ({"radii": (1 / 255, 1 / 255)}, "differ in four digits"),
        ({"radii": (1 / 255, 0.0123411, 0.0123412)}, "differ in four digits"),
        ({"radii": (math.nan,)}, "finite"),
        ({"radii": ("8/0",)}, "a fraction such as 1/255, found '8/0'"),
        ({"radii": ("1e999",)}, "found '1e999'"),
        ({"radii": ("0.5/255",)}, "found '0.5/255'"),
        ({"radii": ("wide",)}, "found 'wide'"),
        ({"headline_radius": 3 / 255}, r"headline_radius\n.* expected one of the radii"),
        ({"radii": (2 / 255,)}, r"1 validation error .*\nheadline_radius\n.* expected one of the radii"),
        ({"steps": 0}, "steps"),
        ({"relative_step": 0.0}, "relative_step"),
        ({"examples": 0}, "examples"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"restarts": 2}, "restarts"),
    ],
)
def test_settings_out_of_range_are_refused(given_settings: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        PGD.Parameters(**given_settings)


def test_labels_of_radii() -> None:
    radii = (0.00392156862745098, 8 / 255, 0.5 / 255, 0.01, 1.0)
    assert [radius_label(radius) for radius in radii] == ["1/255", "8/255", "0.001961", "0.01", "255/255"]


def test_listing_reads_it_without_running_it() -> None:
    source = read_plugins(Path(str(pgd.__file__)))
    assert [plugin.literals["name"] for plugin in source] == ["pgd"]
    assert source[0].literals["collects"] == PGD.collects
    assert source[0].literals["metrics"] == PGD.metrics
    defaults = {setting.name: setting.default for setting in source[0].settings}
    assert PGD.Parameters(**defaults) == PGD.Parameters()
    script = "import robustbench_spur.evaluators.pgd, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# The numbers


def eight_rows(**parameters: Any) -> Outcome:
    """Patients p0 to p3; seven of eight rows attacked, of which the fourth is wrong without attack."""
    labels, attributes = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 0, 0, 1])
    predicted, clusters = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    predictions = predictions_of(labels, attributes, clusters, said(predicted, 2), universe())
    rows = np.array([0, 1, 3, 4, 5, 6, 7])
    flags = np.array([[1, 1], [0, 0], [1, 1], [0, 0], [1, 0], [1, 0], [1, 1]], np.uint8)
    arrays: dict[str, NDArray[Any]] = {"pgd_rows": rows, "pgd_robust": flags}
    return Outcome(PGD(PGD.Parameters(examples=8, **parameters)), with_arrays(predictions, arrays))


def test_by_hand() -> None:
    assert eight_rows().numbers == pytest.approx(
        {
            "pgd_worst_group_accuracy": 1 / 2,
            "pgd_accuracy:1/255": 5 / 7,
            "pgd_worst_group_accuracy:1/255": 1 / 2,
            "pgd_group_accuracy:1/255:c0@v0": 1 / 2,
            "pgd_group_accuracy:1/255:c0@v1": 1 / 2,
            "pgd_group_accuracy:1/255:c1@v0": 1,
            "pgd_group_accuracy:1/255:c1@v1": 1,
            "pgd_accuracy:2/255": 3 / 7,
            "pgd_worst_group_accuracy:2/255": 0,
            "pgd_group_accuracy:2/255:c0@v0": 1 / 2,
            "pgd_group_accuracy:2/255:c0@v1": 1 / 2,
            "pgd_group_accuracy:2/255:c1@v0": 0,
            "pgd_group_accuracy:2/255:c1@v1": 1,
        }
    )
    assert eight_rows(headline_radius="2/255").numbers["pgd_worst_group_accuracy"] == 0


def test_under_resampling_by_hand() -> None:
    outcome = eight_rows()
    counts = np.array([[2.0, 0, 1, 1], [0, 0, 0, 3], [0, 1, 1, 0]])
    numbers = outcome.evaluator.measure(outcome.predictions, counts)
    assert numbers["pgd_accuracy:1/255"].tolist() == pytest.approx([5 / 8, 1, 2 / 3])
    assert numbers["pgd_accuracy:2/255"].tolist() == pytest.approx([3 / 8, 1 / 2, 1 / 3])
    # of group c0@v0 at 1/255 and of c1@v0 at 2/255, also where another is lower
    assert numbers["pgd_worst_group_accuracy"].tolist() == pytest.approx([1 / 2, math.nan, math.nan], nan_ok=True)
    assert numbers["pgd_worst_group_accuracy:2/255"].tolist() == [0, 0, 0]
    assert numbers["pgd_group_accuracy:1/255:c0@v1"].tolist() == pytest.approx([0, math.nan, 1 / 2], nan_ok=True)
    with pytest.raises(SpurbenchError, match=r"\(resamples, 4\)"):
        outcome.evaluator.measure(outcome.predictions, np.ones((1, 7)))


def test_patients_behind_each_number() -> None:
    outcome = eight_rows()
    behind = outcome.evaluator.support(outcome.predictions)
    assert set(behind) == set(outcome.numbers)
    assert behind["pgd_accuracy:1/255"] == 4
    by_group = [behind[f"pgd_group_accuracy:2/255:{name}"] for name in outcome.predictions.groups.names]
    assert by_group == [1, 2, 2, 1]
    assert (behind["pgd_worst_group_accuracy"], behind["pgd_worst_group_accuracy:2/255"]) == (1, 2)


def test_details_by_hand() -> None:
    outcome = eight_rows(steps=5)
    details = outcome.evaluator.details(outcome.predictions)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert (details["labels"], details["headline"], details["steps"]) == (["1/255", "2/255"], "1/255", 5)
    assert details["step_sizes"] == pytest.approx([0.5 / 255, 1 / 255])
    assert details["examples"] == 7
    assert details["groups"][1] == {"group": "c0@v1", "examples": 2, "patients": 2}
    assert (details["worst_group"], details["worst_group_patients"]) == ("c0@v0", 1)
    assert details["worst_groups"] == {"1/255": "c0@v0", "2/255": "c1@v0"}
    assert [(row["radius"], row["label"]) for row in details["curve"]] == [
        (0, "0"),
        (1 / 255, "1/255"),
        (2 / 255, "2/255"),
    ]
    assert [row["accuracy"] for row in details["curve"]] == pytest.approx([6 / 7, 5 / 7, 3 / 7])
    assert details["curve"][0]["group_accuracies"] == {"c0@v0": 1, "c0@v1": 1 / 2, "c1@v0": 1, "c1@v1": 1}
    assert details["curve"][2]["worst_group_accuracy"] == 0
    assert "5 sign steps of 2.5 / 5 of the radius" in details["definition"]
    assert details["undefined"] == {}


@pytest.mark.parametrize("kept", [range(20), range(0)])
def test_an_empty_group_leaves_the_worst_undefined_and_says_so(kept: range) -> None:
    predictions = reference.rearranged(reference.perfect(), np.array(kept, dtype=np.int64))
    rows = np.arange(len(predictions))
    arrays: dict[str, NDArray[Any]] = {"pgd_rows": rows, "pgd_robust": np.ones((len(rows), 2), np.uint8)}
    outcome = Outcome(PGD(), with_arrays(predictions, arrays))
    details, behind = outcome.evaluator.details(outcome.predictions), outcome.evaluator.support(outcome.predictions)
    assert set(details["undefined"]) == {name for name, value in outcome.numbers.items() if math.isnan(value)}
    empty = ("c1@v0", "c1@v1") if kept else predictions.groups.names
    said_of_it = f"{len(empty)} of 4 declared groups have no examples: {', '.join(empty)}"
    assert details["undefined"]["pgd_worst_group_accuracy"] == said_of_it
    assert details["undefined"]["pgd_group_accuracy:2/255:c1@v1"] == "no examples"
    assert (details["worst_group"], details["curve"][0]["worst_group"]) == (None, None)
    assert not any(name.startswith("pgd_worst") for name in behind)
    assert json.loads(json.dumps(details, allow_nan=False)) == details


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([(2, 2), (3, 2), (2, 3)]), st.integers(0, 40))
def test_resampling_is_weighting_the_rows(seed: int, shape: tuple[int, int], size: int) -> None:
    predictions = reference.random(seed, rows=size, patients=6, classes=shape[0], values=shape[1])
    rng = np.random.default_rng(seed)
    rows = np.sort(balanced_subset(predictions, 12, 2025))
    flags = (predictions.correct[rows, None] & (rng.random((len(rows), 2)) < 0.6)).astype(np.uint8)
    predictions = with_arrays(predictions, {"pgd_rows": rows, "pgd_robust": flags})
    counts = resample_counts(len(predictions.patients), 4, seed)
    numbers = PGD(PGD.Parameters(examples=12)).measure(predictions, counts)
    for column, label in enumerate(("1/255", "2/255")):
        for row, times in enumerate(counts):
            drawn = np.repeat(np.arange(len(rows)), times[predictions.patient[rows]].astype(int))
            right, group = flags[drawn, column], predictions.group[rows[drawn]]
            expected = {f"pgd_accuracy:{label}": right}
            for g, name in enumerate(predictions.groups.names):
                expected[f"pgd_group_accuracy:{label}:{name}"] = right[group == g]
            for name, values in expected.items():
                mean = values.mean() if len(values) else math.nan
                assert numbers[name][row] == pytest.approx(mean, nan_ok=True)
    assert {name.split(":")[0] for name in numbers} == {name.rstrip(":") for name in PGD.metrics}


def test_arrays_that_do_not_fit_are_refused() -> None:
    outcome = eight_rows()
    rows, flags = outcome.rows, outcome.flags
    wrong = flags.copy()
    wrong[3] = 1  # wrong without attack
    cases: list[tuple[dict[str, NDArray[Any]], str]] = [
        ({"pgd_rows": rows}, "needs the arrays"),
        ({"pgd_rows": rows, "pgd_robust": flags[:, :1]}, r"shape \(7, 2\), found int64 and \(7, 1\)"),
        ({"pgd_rows": rows.astype(float), "pgd_robust": flags}, "whole numbers in pgd_rows"),
        ({"pgd_rows": rows[::-1], "pgd_robust": flags}, "ascending"),
        ({"pgd_rows": rows + 1, "pgd_robust": flags}, "from 0 to 7"),
        ({"pgd_rows": rows[1:], "pgd_robust": flags[1:]}, r"Expected \[2, 2, 2, 1\] .* found \[1, 2, 2, 1\]"),
        ({"pgd_rows": rows, "pgd_robust": 2 * flags}, "0 or 1"),
        ({"pgd_rows": rows, "pgd_robust": wrong}, "0 where the clean image is wrong"),
    ]
    for arrays, said_of_it in cases:
        with pytest.raises(SpurbenchError, match=said_of_it):
            outcome.evaluator.measure(with_arrays(outcome.predictions, arrays), once(outcome.predictions))
