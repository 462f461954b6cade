"""The attack against a plain loop, closed forms and predictors that are known; the numbers against hand-made cases."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from robustbench_spur.evaluators import pgd
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.pgd import PGD, balanced_subset, check_ball, noise_seed, radius_label, unsaturated
from robustbench_spur.literals import read_plugins
from robustbench_spur.networks import Classifier, SmallCNN
from robustbench_spur.types import Groups, SpurbenchError
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
    weight: NDArray[Any], bias: NDArray[Any], *, mean: float = 0.0, std: float = 1.0, channels: int = 1
) -> Classifier:
    """Logits that are linear in the normalised image; weight of shape (classes, pixels)."""
    model = Classifier(nn.Flatten(), weight.shape[1], len(weight), [mean] * channels, [std] * channels)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(bias))
    return model.eval().requires_grad_(False)


def convolutional(seed: int, images: Images, *, classes: int = 2, scale: float = 1.0) -> Classifier:
    """A small network of random weights whose predicted classes are about equally frequent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(SmallCNN(images.shape[1]), 128, classes, [0.5] * images.shape[1], [0.25] * images.shape[1])
    model = model.eval().requires_grad_(False)
    with torch.no_grad():
        model.head.weight *= 20
        model.head.bias -= torch.from_numpy(logits_of(model, images)).mean(dim=0)
        model.head.weight *= scale
        model.head.bias *= scale
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


def predict(model: nn.Module, images: Images, labels: Ints, attributes: Ints | None = None) -> Predictions:
    """What the model says, with every image its own patient."""
    logits, rows = logits_of(model, images), np.arange(len(images))
    values = rows % 2 if attributes is None else attributes
    return predictions_of(labels, values, rows, logits.astype(np.float64), universe(logits.shape[1]))


def mostly_right(model: nn.Module, images: Images) -> Ints:
    """The classes that the model predicts, every fifth changed."""
    logits = logits_of(model, images)
    return (logits.argmax(axis=1) + (np.arange(len(images)) % 5 == 4)) % logits.shape[1]


def nothing(done: int, total: int) -> None:
    """Progress that nobody watches."""


def collect(model: nn.Module, images: Images, predictions: Predictions, **parameters: Any) -> Predictions:
    """The predictions with what was collected."""
    evaluator = PGD(PGD.Parameters(**parameters))
    arrays = evaluator.collect(model, images, predictions, device="cpu", progress=nothing)
    return with_arrays(predictions, arrays)


def with_arrays(predictions: Predictions, arrays: dict[str, NDArray[Any]]) -> Predictions:
    fields = (predictions.ids, predictions.labels, predictions.attributes, predictions.clusters)
    return Predictions(*fields, predictions.logits, predictions.groups, arrays)


def robust(model: nn.Module, images: Images, labels: Ints, radius: float, **parameters: Any) -> NDArray[np.bool_]:
    """Whether each image is robust, shape (n,); all images are attacked."""
    own = {"radii": (radius,), "headline_radius": radius, "examples": 100_000, **parameters}
    arrays = collect(model, images, predict(model, images, labels), **own).arrays
    assert arrays["pgd_rows"].tolist() == list(range(len(images)))
    return np.asarray(arrays["pgd_robust"][:, 0] == 1)


# Against an independent attack


def plain_pgd(
    model: nn.Module, clean: torch.Tensor, labels: Ints, radius: float, step: float, steps: int, seed: int
) -> Any:
    """Projected gradient ascent of the plain cross-entropy."""
    noise = torch.empty_like(clean).uniform_(-radius, radius, generator=torch.Generator().manual_seed(seed))
    at = (clean + noise).clamp(0, 1)
    for _ in range(steps):
        at.requires_grad_(True)
        functional.cross_entropy(model(at), torch.from_numpy(labels), reduction="sum").backward()
        assert at.grad is not None
        moved = at.detach() + step * at.grad.sign()
        at = torch.minimum(torch.maximum(moved, clean - radius), clean + radius).clamp(0, 1)
    return at.detach()


@pytest.mark.parametrize(("classes", "channels", "radius"), [(2, 1, 4 / 255), (3, 3, 2 / 255)])
def test_the_same_flags_as_a_plain_loop(classes: int, channels: int, radius: float) -> None:
    images = noise_images(classes, 90, channels=channels, size=16)
    model = convolutional(1, images, classes=classes)
    labels = mostly_right(model, images)
    found = robust(model, images, labels, radius, batch_size=32, steps=7, relative_step=2.0, seed=11)
    order = sorted(range(90), key=lambda row: hashlib.sha256(f"11:id{row}".encode()).hexdigest())
    right = logits_of(model, images).argmax(axis=1) == labels
    attacked = np.array([row for row in order if right[row]])
    assert len(attacked) == 72
    expected, decided = np.zeros(90, bool), np.ones(90, bool)
    for number, start in enumerate(range(0, len(attacked), 32)):
        rows = attacked[start : start + 32]
        seed, step = noise_seed(11, radius, number), 2.0 * radius / 7
        adversarial = plain_pgd(model, unit(images[rows]), labels[rows], radius, step, 7, seed)
        logits = model(adversarial).numpy()
        true = logits[np.arange(len(rows)), labels[rows]]
        np.put_along_axis(logits, labels[rows][:, None], -np.inf, axis=1)
        expected[rows], decided[rows] = true > logits.max(axis=1), abs(true - logits.max(axis=1)) > 1e-3
    assert 10 < expected.sum() < 60
    assert decided.sum() > 85
    assert (found == expected)[decided].all()


def worst_margin(model: Classifier, images: Images, labels: Ints, radius: float) -> NDArray[np.float64]:
    """Least margin of a linear model over the ball cut by [0, 1], over all other classes: exact, pixel by pixel."""
    pixels = images.reshape(len(images), -1) / 255
    mean, std = (float(x.flatten()[0]) for x in (model.mean, model.std))
    weight = model.head.weight.double().numpy() / std
    logits = (pixels - mean) @ weight.T + model.head.bias.double().numpy()
    down, up = np.maximum(-radius, -pixels), np.minimum(radius, 1 - pixels)
    margins = np.full(logits.shape, np.inf)
    for other in range(logits.shape[1]):
        slope = weight[labels] - weight[other]
        least = np.minimum(slope * down, slope * up).sum(axis=1)
        margins[:, other] = np.where(
            labels == other, np.inf, logits[np.arange(len(labels)), labels] - logits[:, other] + least
        )
    return np.asarray(margins.min(axis=1))


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
    weight = rng.normal(0, 1, (2, channels * SIZE * SIZE))
    pixels = images.reshape(60, -1) / 255
    bias = -np.median(pixels @ weight.T, axis=0) / std + 0.5 / std * weight.sum(axis=1)
    model = linear(scale * weight, scale * bias, mean=0.5, std=std, channels=channels)
    labels = mostly_right(model, images)
    margin = worst_margin(model, images, labels, radius)
    clear = abs(margin) > 1e-4 * scale
    assert (robust(model, images, labels, radius, batch_size=25) == (margin > 0))[clear].all()


def test_without_clipping_the_margin_falls_by_the_l1_norm() -> None:
    images = noise_images(0, 200, low=60, high=190)
    weight = np.random.default_rng(0).normal(0, 1, (2, SIZE * SIZE))
    model = linear(weight, -0.49 * weight.sum(axis=1), std=0.5, mean=0.0)
    logits = logits_of(model, images).astype(np.float64)
    labels = logits.argmax(axis=1)
    for radius in (1 / 255, 2 / 255, 8 / 255):
        left = abs(logits[:, 1] - logits[:, 0]) - radius * abs(weight[1] - weight[0]).sum() / 0.5
        expected = left > 0
        assert (robust(model, images, labels, radius) == expected)[abs(left) > 1e-4].all()
    assert 0 < expected.mean() < 1


def test_real_chest_x_rays_and_a_linear_model() -> None:
    path = DATA / "pneumoniamnist" / "pneumoniamnist.npz"
    if not path.is_file():
        pytest.skip(f"no chest X-rays at {path}")
    with np.load(path) as archive:
        images, labels = archive["test_images"][:, None], archive["test_labels"][:, 0].astype(np.int64)
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
    found = robust(model, images, labels, 6 / 255)
    assert 0 < found.sum() < 60
    assert (robust(scaled, images, labels, 6 / 255) == found).mean() > 0.98
    right = logits_of(model, images).argmax(axis=1) == labels
    clean, true = unit(images[right]), torch.from_numpy(labels[right])
    torch.manual_seed(0)
    plain = torchattacks.PGD(scaled, eps=6 / 255, alpha=1.5 / 255, steps=10)(clean, true)
    assert (scaled(plain).argmax(1) == true).float().mean() > found[right].mean() + 0.3  # the gradient has vanished


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([0.1, 1.0, 5.0]))
def test_unsaturated_has_the_gradients_sign(seed: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    model = linear(scale * rng.normal(0, 1, (classes, 16)), rng.normal(0, 1, classes)).double()
    at = torch.from_numpy(rng.random((20, 1, 4, 4))).requires_grad_(True)
    labels = torch.from_numpy(rng.integers(0, classes, 20))
    plain, shifted = (
        torch.autograd.grad(functional.cross_entropy(network(at), labels, reduction="sum"), at)[0]
        for network in (model, unsaturated(model, labels))
    )
    length = plain.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert (plain.sign() == shifted.sign())[plain.abs() > 1e-6 * length].all()
    ratio = (shifted.flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)).log()
    assert ratio.isfinite().all()


# Predictors that are known


def brightness(scale: float) -> Classifier:
    """Class 1 where the mean of the image is above 1/2."""
    weight = np.full(SIZE * SIZE, scale / SIZE**2)
    return linear(np.stack([-weight, weight]), np.array([scale / 2, -scale / 2]))


def test_constant() -> None:
    images, labels = noise_images(0, 40), np.arange(40) // 2 % 2
    model = linear(np.zeros((2, SIZE * SIZE)), np.array([0.0, 1.0]))
    predictions = collect(model, images, predict(model, images, labels))
    numbers = point(predictions)
    assert numbers["pgd_accuracy:1/255"] == numbers["pgd_accuracy:2/255"] == predictions.correct.mean() == 0.5
    assert numbers["pgd_worst_group_accuracy"] == 0
    assert numbers["pgd_group_accuracy:2/255:c1@v0"] == numbers["pgd_group_accuracy:2/255:c1@v1"] == 1


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_perfect(scale: float) -> None:
    labels = np.arange(40) // 2 % 2
    images = np.broadcast_to((60 + 140 * labels).astype(np.uint8)[:, None, None, None], (40, 1, SIZE, SIZE))
    predictions = predict(brightness(scale), images, labels)
    collected = collect(brightness(scale), images, predictions, radii=("1/255", "0.2", "0.4"), headline_radius="0.2")
    numbers = point(collected)
    assert [numbers[f"pgd_accuracy:{label}"] for label in ("1/255", "51/255", "102/255")] == [1, 1, 0]
    assert numbers["pgd_worst_group_accuracy"] == 1


def test_random() -> None:
    images, labels = noise_images(0, 400), np.random.default_rng(1).integers(0, 2, 400)
    predictions = collect(convolutional(0, images), images, predict(convolutional(0, images), images, labels))
    clean, at_one, at_two = (row["accuracy"] for row in PGD().details(predictions)["curve"])
    assert clean == pytest.approx(0.5, abs=0.08)
    assert clean >= at_one > at_two


@pytest.mark.parametrize("classes", [2, 3])
def test_robust_accuracy_falls_from_clean_to_nothing(classes: int) -> None:
    images = noise_images(classes, 60, size=16)
    model = convolutional(4, images, classes=classes)
    predictions = predict(model, images, mostly_right(model, images))
    radii = ("0.25/255", "1/255", "4/255", "0.3")
    with pytest.raises(ValueError, match=r"found '0.25/255'"):
        PGD.Parameters(radii=radii)
    collected = collect(model, images, predictions, radii=(0.25 / 255, *radii[1:]), examples=6000, steps=20)
    flags = collected.arrays["pgd_robust"] == 1
    assert (flags <= predictions.correct[:, None]).all()
    assert flags.mean(axis=0).tolist() == sorted(flags.mean(axis=0), reverse=True)
    assert flags[:, 0].sum() > 0.9 * predictions.correct.sum()
    assert flags[:, -1].sum() == 0


# The subset


def test_the_subset_is_balanced_and_does_not_depend_on_the_order() -> None:
    predictions = reference.random(0, rows=900, classes=3)
    subset = balanced_subset(predictions, 100, 5)
    assert np.bincount(predictions.group[subset]).tolist() == [16] * 6
    order = np.random.default_rng(0).permutation(900)
    fields = (predictions.ids, predictions.labels, predictions.attributes, predictions.clusters, predictions.logits)
    shuffled = Predictions(*(column[order] for column in fields), predictions.groups)
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
    fields = (predictions.ids, predictions.labels, predictions.attributes, predictions.clusters, predictions.logits)
    shuffled = Predictions(*(column[order] for column in fields), predictions.groups)
    first = collect(model, images, predictions, examples=60, batch_size=16)
    second = collect(model, images[order], shuffled, examples=60, batch_size=16)
    by_id = [
        dict(zip(p.ids[p.arrays["pgd_rows"]].tolist(), p.arrays["pgd_robust"].tolist(), strict=True))
        for p in (first, second)
    ]
    assert by_id[0] == by_id[1]
    assert first.arrays["pgd_rows"].dtype == np.int64
    assert first.arrays["pgd_robust"].dtype == np.uint8
    assert (np.diff(first.arrays["pgd_rows"]) > 0).all()


# What collecting leaves behind


@contextmanager
def _autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, _autocast])
def test_works_in_any_mode_and_repeats(mode: Any) -> None:
    images = noise_images(8, 40, size=16)
    model = convolutional(8, images)
    predictions = predict(model, images, mostly_right(model, images))
    plain = collect(model, images, predictions, radii=(2 / 255, 4 / 255), headline_radius=2 / 255).arrays
    torch.rand(7)
    with mode():
        again = collect(model, images, predictions, radii=(2 / 255, 4 / 255), headline_radius=2 / 255).arrays
    assert all((plain[name] == again[name]).all() for name in plain)
    other = collect(model, images, predictions, radii=(2 / 255, 4 / 255), headline_radius=2 / 255, seed=1).arrays
    assert 0 < plain["pgd_robust"].mean() < 1
    assert plain["pgd_rows"].tolist() == other["pgd_rows"].tolist()


def test_nothing_is_left_behind() -> None:
    images = noise_images(9, 40, size=16)
    model = convolutional(9, images)
    predictions = predict(model, images, mostly_right(model, images))
    frozen = collect(model, images, predictions).arrays
    model.train()
    model.backbone.eval()
    model.head.weight.requires_grad_(True)
    flags = [part.training for part in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    arrays = collect(model, images, predictions).arrays
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before  # type: ignore[index, union-attr]  # noqa: NPY002
    assert [part.training for part in model.modules()] == flags
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["head.weight"]
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(hasattr(part, "_forward_hooks") and part._forward_hooks for part in model.modules())
    assert (arrays["pgd_robust"] == frozen["pgd_robust"]).all()


def test_a_failure_leaves_nothing_behind_either() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = linear(np.ones((2, SIZE * SIZE)), np.zeros(2)).train().requires_grad_(True)
    predictions = predictions_of(labels, labels, labels, said(labels, 2), universe())
    with pytest.raises(SpurbenchError, match="predictions of this model"):
        collect(model, images, predictions)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_progress_counts_attacked_batches() -> None:
    labels = np.arange(40) // 2 % 2
    images = np.broadcast_to((60 + 140 * labels).astype(np.uint8)[:, None, None, None], (40, 1, SIZE, SIZE))
    truth = np.where(np.arange(40) < 10, 1 - labels, labels)
    calls: list[tuple[int, int]] = []
    evaluator = PGD(PGD.Parameters(batch_size=8))
    predictions = predict(brightness(1.0), images, truth)
    evaluator.collect(brightness(1.0), images, predictions, device="cpu", progress=lambda *call: calls.append(call))
    assert calls == [(done, 8) for done in range(1, 9)]  # 30 right ones in 4 batches, at 2 radii


def test_a_memory_map_is_read(tmp_path: Path) -> None:
    images, labels = noise_images(1, 12), np.arange(12) % 2
    np.save(tmp_path / "images.npy", images)
    model = brightness(1.0)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    from_file = collect(model, mapped, predict(model, images, labels)).arrays
    from_memory = collect(model, images, predict(model, images, labels)).arrays
    assert (from_file["pgd_robust"] == from_memory["pgd_robust"]).all()


# What cannot be attacked


def test_other_inputs_are_refused() -> None:
    images, labels = noise_images(0, 8), np.arange(8) % 2
    model = brightness(1.0)
    predictions = predict(model, images, labels)
    for bad, found in (
        (images / 255, r"found float64 of shape \(8, 1, 8, 8\)"),
        (images[:7], r"shape \(8, channels, height, width\), found uint8 of shape \(7, 1, 8, 8\)"),
        (images[:, 0], r"found uint8 of shape \(8, 8, 8\)"),
        (images.tolist(), "found list"),
    ):
        with pytest.raises(SpurbenchError, match=found):
            collect(model, bad, predictions)
    with pytest.raises(SpurbenchError, match="at least one example for each of 4 groups, found examples=3"):
        collect(model, images, predictions, examples=3)
    with pytest.raises(SpurbenchError, match=r"differ by .* on 'id\d'"):
        collect(model, images[::-1].copy(), predict(convolutional(0, images), images, labels))
    single = Predictions(
        *(predictions.ids, 0 * labels, labels, predictions.clusters),
        predictions.logits[:, :1],
        Groups(("c",), "a", ("x", "y")),
    )
    with pytest.raises(SpurbenchError, match="at least two classes"):
        collect(model, images, single)


class Root(nn.Module):
    """Features whose gradient is NaN."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (0 * images).sqrt().flatten(1)


def test_a_gradient_that_is_not_a_number_is_an_error() -> None:
    images, labels = noise_images(0, 8), np.zeros(8, np.int64)
    model = Classifier(Root(), SIZE * SIZE, 2, [0.0], [1.0]).eval()
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([1.0, 0.0]))
    with pytest.raises(SpurbenchError, match=r"512 pixels outside or NaN"):
        collect(model, images, predict(model, images, labels))


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
        ({"radii": ("wide",)}, "found 'wide'"),
        ({"headline_radius": 3 / 255}, "headline_radius among"),
        ({"radii": (2 / 255,)}, "headline_radius among"),
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


def point(predictions: Predictions, **parameters: Any) -> dict[str, float]:
    evaluator = PGD(
        PGD.Parameters(radii=radii_of(predictions), headline_radius=radii_of(predictions)[0])
        if not parameters
        else PGD.Parameters(**parameters)
    )
    return {name: float(value[0]) for name, value in evaluator.measure(predictions, once(predictions)).items()}
