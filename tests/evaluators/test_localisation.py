"""Where a network looks: maps against hand computations, shares against hand-made cases, detectors that are known."""

from __future__ import annotations

import dataclasses
import json
import math
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
from scipy import ndimage
from torch import nn

from robustbench_spur import relevance, saliency
from robustbench_spur.evaluators.base import Predictions, Subject
from robustbench_spur.evaluators.localisation import MEASURES, METHODS, SHOWN, Localisation
from robustbench_spur.heads import Ensemble
from robustbench_spur.networks import Classifier, SmallCNN, build
from robustbench_spur.phantom.render import body_masks
from robustbench_spur.splits.phantom import Phantom
from robustbench_spur.types import SpurbenchError
from tests.evaluators import reference
from tests.evaluators.reference import once, predictions_of, said, universe

SIZE = 32


# Networks


class Detector(nn.Module):
    """One feature: by default the largest brightness after a small blur; else the brightness of a corner."""

    num_features = 1

    def __init__(self, *, corner: bool = False) -> None:
        super().__init__()
        self.blur = nn.Conv2d(1, 1, 3, 1, 1, bias=False)
        self.bright = nn.ReLU()
        self.corner = corner
        with torch.no_grad():
            self.blur.weight.fill_(1 / 9)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.bright(self.blur(images))
        return maps[:, :, :6, :6].mean((2, 3)) if self.corner else maps.amax((2, 3))


def classifier(backbone: nn.Module, features: int = 1, *, slope: float = 10.0, threshold: float = 0.5) -> Classifier:
    """Class 1 where the first feature is above a threshold."""
    model = Classifier(backbone, features, 2, [0.0], [1.0])
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[1, 0] = slope
        model.head.bias.copy_(torch.tensor([0.0, -slope * threshold]))
    return model.eval()


def small(seed: int, channels: int = 1, classes: int = 2) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = SmallCNN(channels)
        return Classifier(own, 128, classes, [0.3] * channels, [0.25] * channels).eval()


def randoms(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Maps


def test_the_lead_is_the_logit_over_the_largest_other() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5], [7.0, 4.0, 3.0]])
    forward = saliency.lead(lambda images: logits)
    assert forward(None, torch.tensor([1, 2])).tolist() == [1.5, -4.0]


def test_grad_cam_against_a_computation_by_hand() -> None:
    """Of the means of two maps A_k, weighted by w_k: dz/dA_k is w_k / pixels everywhere, so the map is their weighted sum."""
    image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    convolution = nn.Conv2d(1, 2, 1, bias=False)
    network = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, 0.5]).reshape(2, 1, 1, 1))
        network[4].weight.copy_(torch.tensor([[0.0, 0.0], [3.0, -2.0]]))
    layers, reason = saliency.last_maps(network, image)
    assert ([one.layer for one in layers], reason) == ([network[1]], "")
    found = saliency.grad_cam(network, layers, image, torch.tensor([1]))
    # (3 * 1 - 2 * 0.5) / 4 pixels = 0.5 of the image
    assert found[0] == pytest.approx(np.array([[0.0, 0.5], [1.0, 1.5]]))
    assert not saliency.grad_cam(network, layers, image, torch.tensor([0])).any()  # negative everywhere


def spread(coarse: torch.Tensor, size: int, step: float, first: float) -> NDArray[Any]:
    """Maps of shape (b, cells, cells) interpolated to images, cell i at pixel first + step * i."""
    at = np.stack(np.meshgrid(*[(np.arange(size) - first) / step] * 2, indexing="ij"))
    return np.stack([ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in coarse.detach().numpy()])


def test_grad_cam_against_a_plain_gradient() -> None:
    model, images, labels = small(0), randoms(0, 3, 1, 48, 48), torch.tensor([0, 1, 1])
    layers, _ = saliency.last_maps(model, images)
    assert layers == [saliency.LastMaps(model.backbone.layers, (8, 8), (0, 0))]
    maps = model.backbone.layers((images - model.mean) / model.std).detach().requires_grad_(True)
    logits = model.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1))
    sign = 2 * labels - 1
    (gradient,) = torch.autograd.grad((sign * (logits[:, 1] - logits[:, 0])).sum(), maps)
    expected = spread((gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu(), 48, 8, 0)
    assert expected.max() > 0
    assert saliency.grad_cam(model, layers, images, labels) == pytest.approx(expected, abs=1e-6)


def test_cells_that_fill_the_image_are_stretched_as_captum_does() -> None:
    coarse = randoms(1, 2, 1, 8, 8)
    expected = nn.functional.interpolate(coarse, (64, 64), mode="bilinear")[:, 0].numpy()
    weights = saliency._interpolation(64, 8, 8, 3.5)
    assert weights @ coarse[:, 0].double().numpy() @ weights.T == pytest.approx(expected, abs=1e-6)


def blurs(*layers: tuple[int, int, int]) -> nn.Sequential:
    """Convolutions that average, given by kernel, stride and padding."""
    made = [nn.Conv2d(1, 1, kernel, stride, padding, bias=False) for kernel, stride, padding in layers]
    with torch.no_grad():
        for one in made:
            one.weight.fill_(1 / one.weight.numel())
    return nn.Sequential(*made)


class PadsItself(nn.Conv2d):
    """As much as its stride needs, the odd pixel behind: TensorFlow's "same"."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total = 1 if images.shape[-1] % 2 == 0 else 2
        return super().forward(nn.functional.pad(images, [total // 2, total - total // 2] * 2))


@pytest.mark.parametrize(
    "network",
    [
        blurs((3, 2, 1), (3, 1, 1), (3, 2, 1)),
        blurs((7, 2, 3), (3, 2, 1), (3, 1, 1)),
        blurs((4, 4, 0), (2, 2, 0), (7, 1, 3)),
        blurs((3, 1, 0), (5, 3, 1)),
        nn.Sequential(blurs((3, 1, 1)), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1), blurs((3, 1, 1))),
        nn.Sequential(blurs((3, 1, 1)), nn.AvgPool2d(3, 2, ceil_mode=True), blurs((3, 1, 1))),
        nn.Sequential(PadsItself(1, 1, 3, 2, 0), blurs((3, 2, 1))),
    ],
    ids=["small", "residual", "patches", "no padding", "pooling", "pooling beyond the edge", "pads itself"],
)
def test_cells_lie_where_their_receptive_fields_do(network: nn.Sequential) -> None:
    """Of networks that average, a cell's gradient is symmetric about its centre."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1 / weight.numel())
    image = torch.zeros(1, 1, 96, 96, requires_grad=True)
    (maps,), _ = saliency.last_maps(network, image)
    cells = network(image)
    for cell in (cells.shape[-1] // 2 - 1, cells.shape[-1] // 2):
        (gradient,) = torch.autograd.grad(network(image)[0, 0, cell, cell], image)
        for axis in (0, 1):
            profile = gradient[0, 0].sum(1 - axis).double().numpy()
            centre = (profile @ np.arange(96)) / profile.sum()
            assert maps.first[axis] + maps.step[axis] * cell == pytest.approx(centre, abs=1e-4)


def test_a_bright_point_is_found_where_it_is() -> None:
    """Stretched from edge to edge, the map of such a network lies 3.5 pixels further down and right."""
    network = nn.Sequential(
        blurs((3, 2, 1), (3, 2, 1), (3, 2, 1)), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([[0.0], [1.0]]))
    apart = []
    for y, x in np.random.default_rng(0).integers(12, 52, (40, 2)):
        image = torch.zeros(1, 1, 64, 64)
        image[0, 0, y, x] = 1
        layers, _ = saliency.last_maps(network, image)
        found = saliency.grad_cam(network, layers, image, torch.tensor([1]))[0]
        apart.append(np.array(ndimage.center_of_mass(found)) - (y, x))
    assert np.mean(apart, axis=0) == pytest.approx(np.zeros(2), abs=0.3)
    assert np.abs(apart).max() < 4


def test_layers_that_say_nothing_of_their_windows_are_stretched() -> None:
    class Halves(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(images, 2)

    (maps,), _ = saliency.last_maps(nn.Sequential(Halves(), blurs((3, 1, 1))), torch.zeros(1, 1, 16, 24))
    assert (maps.step, maps.first) == ((2, 2), (0.5, 0.5))


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (4, 3)])
def test_integrated_gradients_are_complete(classes: int, channels: int) -> None:
    model, images = small(1, channels, classes), randoms(1, 4, channels, 32, 32)
    labels = torch.arange(4) % classes
    found = saliency.integrated_gradients(model, images, labels, 200)
    forward = saliency.lead(model)
    with torch.no_grad():
        expected = (forward(images, labels) - forward(torch.zeros_like(images), labels)).numpy()
    assert found.shape == (4, 32, 32)
    assert found.sum(axis=(1, 2)) == pytest.approx(expected, abs=0.02 * float(abs(expected).max()))


def test_integrated_gradients_of_a_linear_network_are_weight_times_input() -> None:
    weight, images = randoms(2, 2, 2 * 16), randoms(3, 5, 2, 4, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight)
    expected = (images.flatten(1) * (weight[1] - weight[0])).reshape(5, 2, 4, 4).sum(1).numpy()
    found = saliency.integrated_gradients(model, images, torch.ones(5, dtype=torch.long), 3)
    assert found == pytest.approx(expected, abs=1e-5)


def named(model: nn.Module, images: torch.Tensor) -> tuple[list[str], str]:
    maps, reason = saliency.last_maps(model, images)
    layers = [one.layer for one in maps]
    return [name for name, module in model.named_modules() if any(module is layer for layer in layers)], reason


@pytest.mark.parametrize(
    ("backbone", "size", "layer"),
    [
        ("smallcnn", 64, "backbone.layers"),
        ("resnet18", 64, "backbone.layer4"),
        ("resnet18", 32, "backbone.layer3"),  # layer 4 has one pixel
        ("mobilenetv3_small_050", 64, "backbone.blocks"),
        ("vit_tiny_patch16_224", 224, None),
    ],
)
def test_the_last_maps_of_known_networks(backbone: str, size: int, layer: str | None) -> None:
    network = {"backbone": backbone, "channels": 1, "seed": 0, "pretrained": False, "mean": [0.5], "std": [0.2]}
    names, reason = named(build(network, 2).eval(), randoms(0, 1, 1, size, size))
    assert names == ([layer] if layer else [])
    assert ("only convolution cuts the image into patches" in reason) == (layer is None)


def test_a_network_without_convolutions_has_no_maps() -> None:
    model = Classifier(nn.Flatten(), SIZE * SIZE, 2, [0.0], [1.0]).eval()
    assert named(model, randoms(0, 1, 1, SIZE, SIZE)) == (
        [],
        "the network has no convolution whose output is larger than one pixel",
    )


def test_an_ensemble_adds_the_maps_of_its_members() -> None:
    members, images = [small(3), small(4)], randoms(5, 3, 1, 32, 32)
    labels = torch.tensor([0, 1, 1])
    both = Ensemble(members)
    layers, reason = saliency.last_maps(both, images)
    assert ([one.layer for one in layers], reason) == ([member.backbone.layers for member in members], "")
    maps = [m.backbone.layers((images - m.mean) / m.std).detach().requires_grad_(True) for m in members]
    features = torch.cat([part for one in maps for part in (one.mean((2, 3)), one.amax((2, 3)))], dim=1)
    logits = both.head(features)
    gradients = torch.autograd.grad(((2 * labels - 1) * (logits[:, 1] - logits[:, 0])).sum(), maps)
    total = sum((g.mean((2, 3), keepdim=True) * a).sum(1) for g, a in zip(gradients, maps, strict=True))
    expected = spread(torch.relu(total), 32, 8, 0)
    assert saliency.grad_cam(both, layers, images, labels) == pytest.approx(expected, abs=1e-6)


def test_an_ensemble_of_other_grids_has_no_common_map() -> None:
    one, other = (classifier(Detector()) for _ in range(2))
    other.backbone.blur = nn.Conv2d(1, 1, 3, 2, 1)
    layers, reason = saliency.last_maps(Ensemble([one, other]), randoms(0, 1, 1, SIZE, SIZE))
    assert (layers, reason) == ([], "the last feature maps of the ensemble's members lie on different grids")


# Regions


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=60))
def test_otsu_against_trying_every_threshold(levels: list[int]) -> None:
    values = np.array(levels, np.uint8)

    def within(threshold: int) -> float:
        parts = values[values <= threshold], values[values > threshold]
        return sum(len(part) * float(part.var()) for part in parts if len(part))

    if len(set(levels)) == 1:
        assert relevance.otsu(values) == 0
    else:
        best = min(within(threshold) for threshold in range(255) if values.min() <= threshold < values.max())
        assert within(relevance.otsu(values)) == pytest.approx(best, abs=1e-6)


def test_the_body_is_the_largest_bright_piece_with_its_holes() -> None:
    image = np.full((64, 64), 8, np.uint8)
    image[16:48, 12:52] = 120
    image[26:38, 24:40] = 8  # a lung
    image[2:6, 2:6] = 120  # a label burnt in
    body = relevance.body_mask(image)
    expected = np.zeros((64, 64), bool)
    expected[16:48, 12:52] = True
    assert (body & expected).sum() / (body | expected).sum() > 0.85
    assert body[32, 32]
    assert not body[4, 4]
    assert not relevance.body_mask(np.full((64, 64), 90, np.uint8)).any()


def test_the_body_of_a_phantom_is_found() -> None:
    """Overlap with the outline that the phantom was drawn from, over both field strengths."""
    phantom = Phantom()
    rows = phantom.table("field", 0.95).partitions["test"]
    rows = rows.take(np.arange(0, len(rows), 40))
    truth = body_masks(phantom.parameters.seed, phantom._slices("field", rows), 64) > 0.5
    images = np.concatenate(list(phantom.pixels("field", rows, 64)))[:, 0]
    found = np.stack([relevance.body_mask(image) for image in images])
    overlap = (found & truth).sum(axis=(1, 2)) / (found | truth).sum(axis=(1, 2))
    assert overlap.mean() > 0.8
    assert overlap.min() > 0.5


def test_uniform_relevance_has_the_share_of_the_region() -> None:
    weights = randoms(6, 4, 9, 7).double().numpy()
    found = relevance.relevance_share(np.full((4, 9, 7), 3.0), weights)
    assert found == pytest.approx(weights.mean(axis=(1, 2)))


def test_the_pointing_game_has_a_tolerance() -> None:
    lesion = np.zeros((9, 9))
    lesion[4, 4] = 1
    for tolerance, pixels in ((0, 1), (1, 5), (2, 13), (2.9, 25)):
        assert relevance.near(lesion, tolerance).sum() == pixels
    point = np.zeros((2, 9, 9))
    point[0, 4, 6] = point[1, 4, 7] = 1
    assert relevance.pointing(point, np.stack([relevance.near(lesion, 2)] * 2)).tolist() == [1, 0]


def test_a_lesion_smaller_than_half_a_pixel_is_the_pixel_that_it_fills_most() -> None:
    lesion = np.zeros((5, 5))
    lesion[1, 1], lesion[1, 2] = 0.3, 0.2
    assert np.argwhere(relevance.near(lesion, 0)).tolist() == [[1, 1]]


def test_a_picture_shows_the_outline_and_the_relevance() -> None:
    image, lesion = np.full((50, 50), 100, np.uint8), np.zeros((50, 50), np.uint8)
    lesion[20:30, 20:30] = 255
    heat = np.zeros((50, 50), np.uint8)
    heat[0, 0] = 255
    found = relevance.beside(image, lesion, heat[None])
    assert (found.shape, found.dtype) == ((200, 400, 3), np.uint8)
    assert found[100, 100].tolist() == [100, 100, 100]
    assert found[80, 100].tolist() == found[80, 300].tolist() == [60, 230, 90]
    assert found[0, 200].tolist() == [255, 0, 0]


# Collecting


def scene(count: int, *, lesion: float = 1.0, corner: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A body with a bright square in every second slice; the lesion's mask fills ``lesion`` of its pixels."""
    images, masks = np.zeros((count, 1, SIZE, SIZE), np.uint8), np.zeros((count, 1, SIZE, SIZE), np.float32)
    images[:, :, 8:28, 6:26] = 80
    rng = np.random.default_rng(0)
    for row in range(count):
        if row % 2:
            y, x = rng.integers(11, 20, 2)
            images[row, 0, y : y + 5, x : x + 5] = 230
            masks[row, 0, y : y + 5, x : x + 5] = lesion
        if corner and row % 4 >= 2:
            images[row, 0, :6, :6] = 230
    return images, masks


def subject_of(model: nn.Module, images: NDArray[np.uint8], masks: NDArray[np.float32], **changes: Any) -> Subject:
    """Rows are clear and tumour by turns, at two sites by turns of two, two rows to a patient."""
    rows = np.arange(len(images))
    with torch.no_grad():
        logits = model(torch.from_numpy(images.astype(np.float32) / 255)).double().numpy()
    predictions = predictions_of(rows % 2, rows // 2 % 2, rows // 2, logits, universe())

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(masks), 7):
            yield masks[start : start + 7]

    return Subject(predictions, images, lambda: model, scenes={"lesion": blocks}, **changes)


def collected(subject: Subject, **parameters: Any) -> Predictions:
    arrays = Localisation(Localisation.Parameters(**parameters)).collect(subject)
    assert tuple(arrays) == Localisation.collects
    return dataclasses.replace(subject.predictions, arrays=arrays)


def numbers_of(predictions: Predictions, counts: NDArray[np.float64] | None = None) -> dict[str, float]:
    values = Localisation().measure(predictions, once(predictions) if counts is None else counts)
    return {name: float(value[0]) for name, value in values.items()}


def test_a_detector_of_lesions_looks_at_them() -> None:
    predictions = collected(subject_of(classifier(Detector()), *scene(40)))
    numbers = numbers_of(predictions)
    for method in METHODS:
        assert numbers[f"pointing_game:{method}"] == 1
        assert numbers[f"relevance_ratio:{method}"] > (5 if method == "integrated_gradients" else 1.5)
    assert numbers["relevance_in_lesion:integrated_gradients"] == pytest.approx(1)
    assert numbers["relevance_outside_body:integrated_gradients"] == pytest.approx(0, abs=1e-6)


def test_a_reader_of_the_corner_looks_outside_the_body() -> None:
    """The shortcut alone: whatever the lesion does, the reasons lie in the air."""
    predictions = collected(subject_of(classifier(Detector(corner=True)), *scene(40, corner=True)))
    numbers, details = numbers_of(predictions), Localisation().details(predictions)
    assert details["predictions"][0]["examples"] == details["predictions"][1]["examples"] == 10
    assert numbers["relevance_in_lesion:integrated_gradients"] == 0
    assert numbers["pointing_game:integrated_gradients"] == 0
    assert numbers["relevance_outside_body:integrated_gradients"] == pytest.approx(1)
    dark = details["groups"][2]["integrated_gradients"]
    assert dark == dict.fromkeys(MEASURES)  # a dark corner speaks against tumour: nothing is relevant to it
    assert details["without_relevance"]["integrated_gradients"] == 10


def test_a_constant_network_has_no_relevance_to_place() -> None:
    predictions = collected(subject_of(classifier(Detector(), slope=0.0), *scene(12)))
    undefined = Localisation().details(predictions)["undefined"]
    assert undefined.keys() == numbers_of(predictions).keys()
    assert set(undefined.values()) == {
        "the lead of the true class rises with nothing in any slice: there is no relevance to place"
    }
    assert all(math.isnan(value) for value in numbers_of(predictions).values())


def test_a_random_map_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    _, masks = scene(600)
    lesions = masks[1::2, 0]
    targets = np.stack([relevance.near(one, 2) for one in lesions])
    values = relevance.placed(rng.random(lesions.shape), lesions, targets, np.ones(lesions.shape, bool))
    assert values[:, 0].mean() / lesions.mean() == pytest.approx(1, abs=0.03)
    assert values[:, 1].mean() == pytest.approx(targets.mean(), abs=0.04)
    assert not values[:, 2].any()


def test_without_convolutions_grad_cam_is_undefined_and_says_so() -> None:
    model = classifier(nn.Flatten(), SIZE * SIZE)
    with torch.no_grad():
        model.head.weight[1] = 1.0
    predictions = collected(subject_of(model, *scene(12)))
    undefined = Localisation().details(predictions)["undefined"]
    assert undefined.keys() == {name for name in numbers_of(predictions) if name.endswith("grad_cam")}
    assert set(undefined.values()) == {"the network has no convolution whose output is larger than one pixel"}
    support = Localisation().support(predictions)
    assert [support[f"pointing_game:{method}"] for method in METHODS] == [0, 6]


def test_what_is_collected_follows_from_ids_and_not_from_batches_or_order() -> None:
    images, masks = scene(48)
    model = small(5)
    first = subject_of(model, images, masks)
    order = np.random.default_rng(1).permutation(48)
    columns = ("ids", "labels", "attributes", "clusters", "logits")
    turned = {name: getattr(first.predictions, name)[order] for name in columns}
    scenes = {"lesion": lambda: iter([masks[order]])}
    second = dataclasses.replace(
        first, predictions=dataclasses.replace(first.predictions, **turned), images=images[order], scenes=scenes
    )
    found = []
    for subject, size in ((first, 50), (second, 3)):
        arrays = collected(subject, examples_per_group=5, batch_size=size).arrays
        assert len(arrays["localisation_rows"]) == 10
        ids = subject.predictions.ids
        values = dict(zip(ids[arrays["localisation_rows"]], arrays["localisation_values"], strict=True))
        shown = dict(zip(ids[arrays["localisation_shown"]], arrays["localisation_maps"], strict=True))
        found.append((values, shown))
    assert found[0][0].keys() == found[1][0].keys()
    for name, values in found[0][0].items():
        assert values == pytest.approx(found[1][0][name], abs=1e-4)
    assert found[0][1].keys() == found[1][1].keys()
    assert len(found[0][1]) == SHOWN


def test_the_maps_that_are_kept_are_shared_by_the_groups() -> None:
    images, masks = scene(48)
    predictions = collected(subject_of(classifier(Detector()), images, masks))
    shown, maps = predictions.arrays["localisation_shown"], predictions.arrays["localisation_maps"]
    assert np.bincount(predictions.group[shown], minlength=4).tolist() == [0, 0, 4, 4]
    assert (maps.dtype, maps.shape) == (np.uint8, (8, 3, SIZE, SIZE))
    assert (maps[:, 0] == 255 * masks[shown, 0]).all()
    assert (maps.max(axis=(2, 3)) == 255).all()
    pictures = Localisation().pictures(Subject(predictions, images))
    assert len(pictures) == 8
    assert pictures[0].image.shape[1] == 3 * pictures[0].image.shape[0]
    assert (
        f"{predictions.ids[shown[0]]}, {predictions.groups.names[predictions.group[shown[0]]]}" in pictures[0].caption
    )


def test_flags_are_given_back_and_progress_is_told() -> None:
    model, told = small(6).train(), []
    subject = subject_of(model.eval(), *scene(24), progress=lambda done, total: told.append((done, total)))
    model.train()
    collected(subject, batch_size=5)
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert told == [(5, 12), (10, 12), (12, 12)]


# Numbers


def with_values(predictions: Predictions, rows: Any, values: Any, chance: Any = (0.05, 0.1, 0.4)) -> Predictions:
    """As if collected, with the same values for both methods."""
    rows, values = np.asarray(rows, np.int64), np.asarray(values, np.float32)
    arrays = {
        "localisation_rows": rows,
        "localisation_values": np.stack([values] * 2, axis=1),
        "localisation_chance": np.broadcast_to(np.asarray(chance, np.float32), (len(rows), 3)),
        "localisation_reasons": np.array(["", ""]),
    }
    return dataclasses.replace(predictions, arrays=arrays)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_resampling_is_the_same_as_repeating_patients(seed: int, drawn: list[int]) -> None:
    predictions, rng = reference.random(seed, rows=60, patients=12), np.random.default_rng(seed)
    rows = np.flatnonzero(predictions.labels == 1)
    values, chance = rng.random((len(rows), 3)), rng.uniform(0.01, 0.3, (len(rows), 3))
    values[rng.random(len(rows)) < 0.2] = np.nan
    counts = np.zeros((1, len(predictions.patients)))
    counts[0, : len(drawn)] = drawn[: counts.shape[1]]
    numbers = numbers_of(with_values(predictions, rows, values, chance), counts)
    weight = counts[0][predictions.patient[rows]] * ~np.isnan(values[:, 0])
    for column, name in enumerate(MEASURES):
        expected = np.average(np.nan_to_num(values[:, column]), weights=weight) if weight.any() else np.nan
        assert numbers[f"{name}:grad_cam"] == pytest.approx(expected, nan_ok=True, abs=1e-6)
    if weight.any():
        expected = (weight @ np.nan_to_num(values[:, 0])) / (weight @ chance[:, 0])
        assert numbers["relevance_ratio:grad_cam"] == pytest.approx(expected, rel=1e-5)


def test_groups_and_right_and_wrong_are_told_apart() -> None:
    labels, attributes = np.ones(4, int), np.array([0, 0, 1, 1])
    predictions = predictions_of(labels, attributes, np.arange(4), said(np.array([1, 0, 1, 1]), 2), universe())
    values = [(0.1, 0, 0.5), (0.3, 1, 0.1), (0.5, 1, 0.0), (np.nan, np.nan, np.nan)]
    details = Localisation().details(with_values(predictions, range(4), values))
    groups = {row["group"]: row for row in details["groups"]}
    assert groups["c1@v0"]["grad_cam"] == pytest.approx(dict(zip(MEASURES, (0.2, 0.5, 0.3), strict=True)))
    assert groups["c1@v1"]["examples"] == 2
    assert groups["c1@v1"]["grad_cam"]["relevance_in_lesion"] == 0.5
    assert groups["c0@v0"] == {"group": "c0@v0", "examples": 0, **{m: dict.fromkeys(MEASURES) for m in METHODS}}
    sides = {row["predictions"]: row for row in details["predictions"]}
    assert sides["wrong"]["grad_cam"]["relevance_in_lesion"] == pytest.approx(0.3)
    assert details["without_relevance"] == {"grad_cam": 1, "integrated_gradients": 1}
    assert details["chance"] == pytest.approx(dict(zip(MEASURES, (0.05, 0.1, 0.4), strict=True)))
    json.dumps(details, allow_nan=False)


def test_every_number_is_of_a_stated_metric_and_has_its_patients() -> None:
    predictions = with_values(reference.random(1), [3, 7], [(0.1, 0, 0), (0.2, 1, 0)])
    numbers, support = numbers_of(predictions), Localisation().support(predictions)
    assert {name.partition(":")[0] + ":" for name in numbers} == Localisation.metrics.keys()
    assert support.keys() == {name for name in numbers if not name.startswith("relevance_ratio")}
    assert set(support.values()) == {len(np.unique(predictions.patient[[3, 7]]))}


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
    rows = np.arange(len(predictions))
    values = np.random.default_rng(0).random((len(rows), 3))
    numbers = numbers_of(with_values(predictions, rows, values))
    assert numbers["pointing_game:grad_cam"] == pytest.approx(values[:, 1].mean(), abs=1e-5)
    none = with_values(predictions, [], np.zeros((0, 3)), np.zeros((0, 3)))
    details = Localisation().details(none)
    assert set(details["undefined"].values()) == {"no slice shows a lesion"}
    assert details["undefined"].keys() == numbers.keys()
    json.dumps(details, allow_nan=False)


def test_a_split_of_one_class_says_that_nothing_can_lead() -> None:
    images, masks = scene(4)
    rows = np.arange(4)
    predictions = predictions_of(0 * rows, 0 * rows, rows, np.zeros((4, 1)), universe(1, 1))
    subject = Subject(predictions, images, lambda: classifier(Detector()), scenes={"lesion": lambda: iter([masks])})
    undefined = Localisation().details(collected(subject))["undefined"]
    assert set(undefined.values()) == {"the split has one class, which leads no other"}


def test_a_partition_without_lesions_is_told() -> None:
    images, masks = scene(6)
    predictions = collected(subject_of(classifier(Detector()), images, 0 * masks))
    assert set(Localisation().details(predictions)["undefined"].values()) == {"no slice shows a lesion"}
    assert Localisation().pictures(Subject(predictions, images)) == []


def test_what_is_refused() -> None:
    images, masks = scene(8)
    good = subject_of(classifier(Detector()), images, masks)
    with pytest.raises(SpurbenchError, match="Expected 8 images, as many as predictions, found 7"):
        collected(dataclasses.replace(good, images=images[:7]))
    with pytest.raises(SpurbenchError, match="Expected predictions of this model"):
        collected(dataclasses.replace(good, load=lambda: classifier(Detector(), threshold=0.1)))
    for wrong in (masks[:7], masks[:, :, :8]):
        with pytest.raises(SpurbenchError, match="lesion masks"):
            collected(dataclasses.replace(good, scenes={"lesion": lambda wrong=wrong: iter([wrong])}))
    fine = collected(good)
    for name, array, message in (
        ("localisation_values", fine.arrays["localisation_values"][1:], "Expected collected arrays of shapes"),
        ("localisation_rows", fine.arrays["localisation_rows"][::-1], "ascending order"),
    ):
        with pytest.raises(SpurbenchError, match=message):
            numbers_of(dataclasses.replace(fine, arrays={**fine.arrays, name: array}))
    with pytest.raises(SpurbenchError, match="needs the arrays"):
        numbers_of(good.predictions)


def test_importing_the_evaluator_loads_neither_torch_nor_the_library() -> None:
    code = (
        "import sys, robustbench_spur.evaluators.localisation; print({'torch', 'captum', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_reference_of_a_distance_is_that_of_scipy() -> None:
    lesion = np.zeros((20, 20))
    lesion[5:9, 7:11] = 1
    disk = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3
    assert (relevance.near(lesion, 3) == ndimage.binary_dilation(lesion > 0, disk)).all()
