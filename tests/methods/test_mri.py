"""Changes of images by physics: each against its definition, and the methods that use them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from robustbench_spur.methods import _mri
from robustbench_spur.methods.field_augmentation import FieldAugmentation, FieldAugmentationHyperparameters
from robustbench_spur.methods.histogram_matching import PERCENTILES, HistogramMatching, Standardise
from robustbench_spur.methods.mri_randomisation import MRIRandomisation, MRIRandomisationHyperparameters
from tests.methods.toy import network


@pytest.fixture(autouse=True)
def fixed_draws() -> None:
    torch.manual_seed(0)


def pictures(count: int = 4, channels: int = 1, size: int = 48, seed: int = 0) -> torch.Tensor:
    """Smooth blobs on black."""
    rng = np.random.default_rng(seed)
    raw = gaussian_filter(rng.random((count, channels, size, size)), (0, 0, 4, 4))
    raw = (raw - raw.min()) / (raw.max() - raw.min())
    return torch.from_numpy(np.where(raw > 0.4, raw, 0.0)).float()


# the changes


def test_rician_noise_has_the_moments_of_its_distribution() -> None:
    """E[m^2] = A^2 + 2 sigma^2 (Gudbjartsson and Patz 1995), and the Rayleigh mean where there is no signal."""
    sigma = 0.05
    for amplitude in (0.0, 0.4):
        flat = torch.full((1, 1, 400, 400), amplitude)
        noisy = _mri.rician(flat, torch.tensor([sigma])).double()
        assert float((noisy**2).mean()) == pytest.approx(amplitude**2 + 2 * sigma**2, rel=0.01)
    rayleigh = _mri.rician(torch.zeros(1, 1, 400, 400), torch.tensor([sigma])).mean()
    assert float(rayleigh) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)


def test_noise_is_measured() -> None:
    smooth = 0.5 + 0.2 * torch.linspace(0, 1, 300).expand(2, 1, 300, 300)
    sigmas = torch.tensor([0.02, 0.05])
    noisy = smooth + sigmas.reshape(2, 1, 1, 1) * torch.randn(2, 1, 300, 300)
    np.testing.assert_allclose(_mri.noise_level(noisy), sigmas, rtol=0.05)


def test_smoothing_is_scipys() -> None:
    images, widths = pictures(3, channels=2), torch.tensor([0.0, 0.6, 1.0])
    smoothed = _mri.smooth(images, widths).numpy()
    np.testing.assert_allclose(smoothed[0], images[0], atol=1e-6)
    for k in (1, 2):
        expected = gaussian_filter(images[k].numpy(), (0, float(widths[k]), float(widths[k])), mode="nearest", radius=4)
        np.testing.assert_allclose(smoothed[k], expected, atol=1e-5)


def test_contrast_is_a_power() -> None:
    images = pictures(2)
    changed = _mri.contrast(images, torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(changed[0], images[0], atol=1e-5)
    np.testing.assert_allclose(changed[1], images[1] ** 2, atol=1e-5)


def test_shading_is_smooth_bounded_and_keeps_the_peak() -> None:
    flat = torch.full((5, 1, 64, 64), 0.8)
    shaded = _mri.shading(flat, torch.full((5,), 0.3)).double()
    np.testing.assert_allclose(shaded.amax((1, 2, 3)), 0.8, rtol=1e-5)
    field = torch.log(shaded / 0.8)
    assert float(field.min()) >= -0.6 - 1e-6  # from the largest factor down to the smallest one: twice the strength
    assert float((field[..., 1:] - field[..., :-1]).abs().max()) < 0.1
    assert float(field.std()) > 0.01
    np.testing.assert_allclose(_mri.shading(flat, torch.zeros(5)), flat, rtol=1e-6)


def test_half_of_the_images_are_flipped() -> None:
    images = torch.arange(4.0).expand(200, 1, 4, 4) / 4
    turned = (_mri.flipped(images, 3) != images).flatten(1).any(1)
    assert 60 < int(turned.sum()) < 140
    assert torch.equal(_mri.flipped(images, 3)[..., 0].unique(), torch.tensor([0.0, 0.75]))


# the methods


@pytest.mark.parametrize("method", [MRIRandomisation(), FieldAugmentation()])
@pytest.mark.parametrize("channels", [1, 3])
def test_varied_images_are_images(method: MRIRandomisation | FieldAugmentation, channels: int) -> None:
    images = pictures(16, channels)
    varied = method.vary(images)
    assert varied.shape == images.shape
    assert varied.isfinite().all() and varied.min() >= 0 and varied.max() <= 1
    assert (varied != images).flatten(1).any(1).any()


def test_randomisation_of_size_zero_changes_nothing() -> None:
    hyper = MRIRandomisationHyperparameters(noise=0, contrast=0, shading=0, flips=False)
    images = pictures()
    np.testing.assert_allclose(MRIRandomisation(hyper).vary(images), images, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_only_a_share_of_the_images_is_changed(share: float) -> None:
    method = FieldAugmentation(FieldAugmentationHyperparameters(share=share))
    images = pictures(1).expand(300, -1, -1, -1)
    changed = float((method.vary(images) != images).flatten(1).any(1).float().mean())
    assert changed == pytest.approx(share, abs=0.1)


def test_the_weaker_field_has_up_to_twice_the_noise() -> None:
    flat = 0.5 + 0.02 * torch.randn(60, 1, 80, 80)
    method = FieldAugmentation(FieldAugmentationHyperparameters(ratio=2.0, blur=0.0))
    ratios = _mri.noise_level(method.weaker(flat)) / _mri.noise_level(flat)
    assert 0.95 < float(ratios.min()) < 1.2
    assert 1.8 < float(ratios.max()) < 2.1


def test_the_stronger_field_has_less_noise() -> None:
    flat = 0.5 + 0.02 * torch.randn(20, 1, 80, 80)
    assert (_mri.noise_level(FieldAugmentation().stronger(flat)) <= 1.05 * _mri.noise_level(flat)).all()


# the standard histogram


def test_percentiles_of_the_foreground_come_to_the_landmarks() -> None:
    images = pictures(3, channels=2) ** 2 * 0.7
    mapped = Standardise(0.5, 0.0).eval()(images)  # before any training image: evenly spaced
    for image, result in zip(images.flatten(0, 1), mapped.flatten(0, 1), strict=True):
        inside = (image >= 0.5 * image.mean()).numpy()
        found = np.quantile(result.numpy()[inside], PERCENTILES)
        np.testing.assert_allclose(found, np.linspace(0.1, 0.9, 11), atol=0.01)


def test_standard_landmarks_are_the_mean_of_the_training_images() -> None:
    """Percentiles by numpy, the first moved to 0 and the last to 1, averaged over all images and batches."""
    standardise = Standardise(0.5, 0.0)
    images = pictures(7)
    for batch in (images[:4], images[4:]):
        standardise(batch)
    expected = []
    for image in images[:, 0].numpy():
        marks = np.quantile(image[image >= 0.5 * image.mean()], PERCENTILES)
        expected.append((marks - marks[0]) / (marks[-1] - marks[0]))
    np.testing.assert_allclose(standardise.standard, np.mean(expected, axis=0), atol=1e-5)
    before = standardise.standard.clone()
    standardise.eval()(pictures(3, seed=9))
    assert torch.equal(standardise.standard, before)


def test_two_scanners_come_to_one_image() -> None:
    """A rising change of the grey values, the same in the whole image, is undone."""
    image = (
        0.1
        + 0.8 * torch.from_numpy(gaussian_filter(np.random.default_rng(1).random((1, 1, 64, 64)), (0, 0, 1, 1))).float()
    )
    image = (image - image.min()) / (image.max() - image.min())
    gain = 0.5 * image**1.7
    assert (gain - image).abs().max() > 0.3
    apart = (Standardise(0.0, 0.0).eval()(gain) - Standardise(0.0, 0.0).eval()(image)).abs()
    # not exactly: between two percentiles the map is a straight line, and the change is not
    assert float(apart.mean()) < 0.005 and float(apart.quantile(0.99)) < 0.02


def test_order_is_kept_and_black_stays_black() -> None:
    image = pictures(1)
    mapped = Standardise(0.5, 0.0).eval()(image)
    order = image.flatten().argsort()
    assert (mapped.flatten()[order].diff() >= -1e-6).all()
    assert float(mapped[image == 0].max()) <= 0.1 + 1e-6
    assert mapped.min() >= 0 and mapped.max() <= 1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_empty_image_is_no_accident(value: float) -> None:
    image = torch.full((1, 1, 8, 8), value, requires_grad=True)
    mapped = Standardise(0.5, 0.5).eval()(image)
    mapped.sum().backward()
    assert mapped.isfinite().all() and image.grad is not None and image.grad.isfinite().all()


def test_attacks_go_through_it() -> None:
    """The slope of the map between two landmarks, by differences."""
    image = pictures(1, size=16).double().requires_grad_(True)
    standardise = Standardise(0.5, 0.0).eval()
    row, column = np.unravel_index(int(np.argsort(image.detach().numpy().ravel())[200]), (16, 16))
    (slope,) = torch.autograd.grad(standardise(image)[0, 0, row, column], image)
    step, moved = 1e-6, image.detach().clone()
    moved[0, 0, row, column] += step
    difference = (standardise(moved) - standardise(image.detach()))[0, 0, row, column] / step
    assert float(slope[0, 0, row, column]) == pytest.approx(float(difference), rel=1e-2)


def test_the_front_is_part_of_the_network() -> None:
    """Half as bright an image is the same to the network behind it, and another without it."""
    model, image = network(), pictures(2)
    HistogramMatching().prepare(model)
    model.eval()
    with torch.no_grad():
        behind = (model.features(image) - model.features(0.5 * image)).abs().max()
        model.front = None
        without = (model.features(image) - model.features(0.5 * image)).abs().max()
    assert behind < 0.05 * without
