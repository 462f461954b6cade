"""Features of images: the plain ones by hand, a network's as the network gives them, a patient's as their mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from robustbench_spur.curation.frozen import BATCH, Extractor, describe, features_of, frozen, plain
from robustbench_spur.networks import Classifier, build
from robustbench_spur.types import SpurbenchError

QUANTILES, MEANS, GRAIN, DIRECTIONS, RINGS = (slice(*ends) for ends in ((0, 9), (9, 73), (73, 81), (81, 89), (89, 97)))
Floats = NDArray[np.float64]


def described(image: Any) -> Floats:
    """The features of one image of grey values."""
    pixels = np.asarray(image, np.uint8)
    found = describe(pixels[None, None])
    assert found.shape == (1, 97)
    return np.asarray(found[0], np.float64)


# The plain features


@pytest.mark.parametrize("size", [16, 17, 48])
def test_a_constant_image_has_levels_and_nothing_else(size: int) -> None:
    found = described(np.full((size, size), 51))
    np.testing.assert_allclose(found[QUANTILES], 0.2)
    np.testing.assert_allclose(found[MEANS], 0.2, rtol=1e-6)
    np.testing.assert_allclose(found[GRAIN], np.log(1e-3), atol=1e-9)
    np.testing.assert_array_equal(found[DIRECTIONS], 0)
    np.testing.assert_allclose(found[RINGS], np.log(1e-6), atol=1e-9)


def test_a_bright_pixel_is_in_one_block_and_one_quadrant_and_white_in_the_spectrum() -> None:
    image = np.zeros((16, 16))
    image[4, 5] = 255
    found = described(image)
    np.testing.assert_array_equal(found[QUANTILES], 0)
    blocks = np.zeros((8, 8))
    blocks[2, 2] = 1 / 4
    np.testing.assert_allclose(found[MEANS], blocks.ravel())
    # The Laplacian is -4 there and 1 at four neighbours, all in the upper left 7 x 7 of the inner 14 x 14.
    grain = np.full(8, np.log(1e-3))
    grain[:2] = np.log([8 / 49 + 1e-3, np.sqrt(20 / 49) + 1e-3])
    np.testing.assert_allclose(found[GRAIN], grain)
    # To its left the image grows rightwards (0), above it downwards (2), and so on: four differences of one length.
    np.testing.assert_allclose(found[DIRECTIONS], [0.25, 0, 0.25, 0, 0.25, 0, 0.25, 0])
    # Every frequency but zero has power 1; at 16 pixels the first ring holds the zero alone.
    rings = np.full(8, np.log(1 / 256 + 1e-6))
    rings[0] = np.log(1e-6)
    np.testing.assert_allclose(found[RINGS], rings)


def test_the_quadrants_are_upper_left_upper_right_lower_left_lower_right() -> None:
    for place, (row, column) in enumerate([(4, 4), (4, 11), (11, 4), (11, 11)]):
        image = np.zeros((16, 16))
        image[row, column] = 255
        assert np.flatnonzero(described(image)[GRAIN] > np.log(2e-3)).tolist() == [2 * place, 2 * place + 1]


@pytest.mark.parametrize("across", [True, False])
def test_a_grating_is_in_its_direction_and_its_ring(across: bool) -> None:
    """Period 4: frequency 0.25, so ring 4; only in x, or only in y."""
    size, wave = 32, np.tile([128, 228, 128, 28], 8)
    image = np.tile(wave, (size, 1))
    found = described(image if across else image.T)
    # Differences of inner columns: +200 at 4, 8, .. 28, -200 at 2, 6, .. 30.
    directions = np.zeros(8)
    directions[[0, 4] if across else [2, 6]] = 7 / 15, 8 / 15
    np.testing.assert_allclose(found[DIRECTIONS], directions)
    # A cosine of amplitude A has |F|^2 = (A size^2 / 2)^2 at +-0.25, of which the half plane holds one in x, two in y.
    cells = [
        (row, column)
        for row in range(size)
        for column in range(size // 2 + 1)
        if 4 <= 16 * np.hypot(min(row, size - row) / size, column / size) < 5
    ]
    power = (100 / 255 * size**2 / 2) ** 2 / size**2 * (1 if across else 2) / len(cells)
    rings = np.full(8, np.log(1e-6))
    rings[4] = np.log(power + 1e-6)
    np.testing.assert_allclose(found[RINGS], rings, atol=1e-6)


@pytest.mark.parametrize(("down", "right", "place"), [(0, 1, 0), (1, 1, 1), (1, 0, 2), (-1, -1, 5), (-1, 1, 7)])
def test_a_ramp_is_in_the_direction_in_which_it_grows(down: int, right: int, place: int) -> None:
    rows, columns = np.mgrid[:20, :20]
    found = described(100 + 2 * (down * rows + right * columns))
    assert found[DIRECTIONS][place] == pytest.approx(1)


def test_a_turned_image_differs_and_a_batch_is_its_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 24)).astype(np.uint8)
    found = describe(images)
    np.testing.assert_allclose(found, np.concatenate([describe(image[None]) for image in images]))
    assert not np.allclose(found[0], described(images[0, 0, ::-1, ::-1]))


def test_plain_features_need_some_pixels() -> None:
    assert (plain(16).channels, plain(16).size, plain().size) == (1, 16, 128)
    with pytest.raises(SpurbenchError, match="at least 16 pixels for plain features, found 15"):
        plain(15)


# A network's


def saved(path: Path, model: Classifier, *names: str) -> Path:
    """The backbone's weights, and others by name."""
    state = model.state_dict()
    save_file({name: state[name] for name in state if name.startswith("backbone.") or name in names}, path)
    return path


def network(backbone: str, channels: int, mean: list[float], std: list[float]) -> Classifier:
    spec = {"backbone": backbone, "channels": channels, "seed": 3, "pretrained": False, "mean": mean, "std": std}
    return build(spec, 2).eval()


@pytest.mark.parametrize(
    ("backbone", "channels", "expected"),
    [
        ("smallcnn", 1, ([0.5], [0.25])),
        ("smallcnn", 3, ([0.5] * 3, [0.25] * 3)),
        ("resnet18", 3, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ("resnet18", 1, ([(0.485 + 0.456 + 0.406) / 3], [(0.229 + 0.224 + 0.225) / 3])),
    ],
)
def test_frozen_features_are_those_of_the_network(
    tmp_path: Path, backbone: str, channels: int, expected: tuple[list[float], list[float]]
) -> None:
    model = network(backbone, channels, *expected)
    found = frozen(backbone, size=32, channels=channels, weights=saved(tmp_path / "w.safetensors", model))
    assert (found.name, found.channels, found.size) == (f"{backbone}, w.safetensors (32 pixels)", channels, 32)
    images = np.random.default_rng(1).integers(0, 256, (5, channels, 32, 32)).astype(np.uint8)
    with torch.no_grad():
        wanted = model.features(torch.tensor(images / 255, dtype=torch.float32))
    np.testing.assert_allclose(found.call(images), wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_the_statistics_of_a_file_come_before_others(tmp_path: Path) -> None:
    model = network("smallcnn", 1, [0.1], [0.7])
    found = frozen("smallcnn", size=16, weights=saved(tmp_path / "w.safetensors", model, "mean", "std"))
    images = np.random.default_rng(1).integers(0, 256, (2, 1, 16, 16)).astype(np.uint8)
    with torch.no_grad():
        wanted = model.features(torch.tensor(images / 255, dtype=torch.float32))
    np.testing.assert_allclose(found.call(images), wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("smallcnn", {}, "found none: features of an untrained network are no use"),
        ("smallcnn", {"weights": "good", "pretrained": True}, "from --pretrained, found both"),
        ("smallcnn", {"pretrained": True}, "'smallcnn' has no published weights"),
        ("smalcnn", {"weights": "good"}, "Did you mean 'smallcnn'"),
        ("resnet18", {"weights": "good"}, "lacks .* of the backbone's"),
        ("smallcnn", {"weights": "good", "channels": 3}, "lacks 1 of the backbone's"),
        ("smallcnn", {"weights": "damaged"}, "Expected a safetensors file"),
        ("smallcnn", {"weights": "absent"}, "found none. Check --weights"),
    ],
)
def test_wrong_weights_are_refused(tmp_path: Path, backbone: str, options: dict[str, Any], message: str) -> None:
    saved(tmp_path / "good", network("smallcnn", 1, [0.5], [0.25]))
    (tmp_path / "damaged").write_bytes(b"weights")
    if "weights" in options:
        options = {**options, "weights": tmp_path / options["weights"]}
    with pytest.raises(SpurbenchError, match=message):
        frozen(backbone, size=16, **options)


def test_a_download_that_fails_and_a_size_that_does_not_fit_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    model = network("vit_tiny_patch16_224", 1, [0.5], [0.25])
    weights = saved(tmp_path / "w.safetensors", model)
    with pytest.raises(SpurbenchError, match=r"takes no images of 50 x 50 pixels: .* Choose another --image-size"):
        frozen("vit_tiny_patch16_224", size=50, weights=weights)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(SpurbenchError, match="published weights of 'resnet18', found none: OSError: no route to host"):
        frozen("resnet18", size=32, pretrained=True)


# A patient's


def mean_and_maximum(images: NDArray[np.uint8]) -> NDArray[Any]:
    return np.stack([images.mean((1, 2, 3)), images.max((1, 2, 3))], axis=1)


EXTRACTOR = Extractor("mean and maximum", 1, 8, mean_and_maximum)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven grey images of 8 x 8 pixels."""
    rng, paths = np.random.default_rng(2), []
    for number in range(7):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(paths[-1])
    return paths


def test_features_of_a_patient_are_the_mean_over_the_images(pictures: list[Path]) -> None:
    owners = ["b", "a", "b", "b", "c", "a", "b"]
    told: list[tuple[int, int]] = []
    items = list(zip(owners, pictures, strict=True))
    found = features_of(items, EXTRACTOR, total=7, progress=lambda *pair: told.append(pair))
    pixels = np.stack([np.asarray(Image.open(path), np.float64) for path in pictures])
    each = np.stack([pixels.mean((1, 2)), pixels.max((1, 2))], axis=1)
    wanted = [each[[owner == name for owner in owners]].mean(axis=0) for name in ("b", "a", "c")]
    np.testing.assert_allclose(found.values, wanted)
    assert (found.patients, found.images, found.extractor) == (("b", "a", "c"), 7, "mean and maximum")
    assert told == [(7, 7)]


def test_never_more_than_a_batch_is_in_memory(pictures: list[Path]) -> None:
    given, done, largest, told = 0, 0, 0, list[tuple[int, int]]()

    def items() -> Iterator[tuple[str, Path]]:
        nonlocal given
        for number in range(1000):
            given += 1
            yield f"p{number % 9}", pictures[number % 7]

    def call(images: NDArray[np.uint8]) -> NDArray[Any]:
        nonlocal done, largest
        assert given - done <= BATCH
        largest, done = max(largest, len(images)), done + len(images)
        return mean_and_maximum(images)

    found = features_of(items(), Extractor("counting", 1, 8, call), progress=lambda *pair: told.append(pair))
    assert (found.images, given, done, largest) == (1000, 1000, 1000, BATCH)
    assert told[-1] == (1000, 1000)
    each = {n: mean_and_maximum(np.asarray(Image.open(path))[None, None])[0] for n, path in enumerate(pictures)}
    wanted = np.mean([each[number % 7] for number in range(1000) if number % 9 == 4], axis=0)
    np.testing.assert_allclose(found.values[4], wanted)


def test_no_image_an_unreadable_one_and_features_that_are_no_numbers_are_told(pictures: list[Path]) -> None:
    with pytest.raises(SpurbenchError, match="images to take features of, found none"):
        features_of([], EXTRACTOR)
    pictures[3].write_bytes(pictures[3].read_bytes()[:60])
    with pytest.raises(SpurbenchError, match=r"3.png truncated"):
        features_of([("a", path) for path in pictures], EXTRACTOR)
    broken = Extractor("broken", 1, 8, lambda images: np.full((len(images), 2), np.nan))
    with pytest.raises(SpurbenchError, match="Expected finite features, found others of broken"):
        features_of([("a", pictures[0])], broken)
