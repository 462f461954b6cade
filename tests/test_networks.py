"""Networks: shapes, normalisation inside, seeded weights, and what is said about weights that do not fit."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustbench_spur.networks import Classifier, SmallCNN, build, check_backbone, load_backbone, load_classifier
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import same


def spec(channels: int = 1, **changes: Any) -> dict[str, Any]:
    plain = {"backbone": "smallcnn", "channels": channels, "seed": 0, "pretrained": False}
    return {**plain, "mean": [0.2] * channels, "std": [0.4] * channels, **changes}


@pytest.mark.parametrize("size", [8, 14, 28, 64, 224])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_shapes(size: int, channels: int) -> None:
    model = build(spec(channels), 3)
    images = torch.rand(2, channels, size, size)
    for mode in (True, False):
        model.train(mode)
        assert model(images).shape == (2, 3)
        assert model.features(images).shape == (2, SmallCNN.num_features)


def test_the_head_is_linear_in_the_features() -> None:
    model, images = build(spec(2), 4).eval(), torch.rand(3, 2, 16, 16)
    expected = model.features(images) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected)


def test_normalisation_is_inside() -> None:
    model = build(spec(3, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0]), 2).eval()
    images = torch.rand(4, 3, 20, 20)
    by_hand = np.stack(
        [(images[:, c].numpy() - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)])], axis=1
    )
    with torch.no_grad():
        expected = model.head(model.backbone(torch.from_numpy(by_hand).float()))
        np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-6)


def test_features_are_mean_and_maximum_of_the_last_maps() -> None:
    backbone = SmallCNN(1).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        maps = backbone.layers(images).numpy()
        features = backbone(images).numpy()
    assert maps.shape == (2, 64, 4, 4)
    np.testing.assert_allclose(features[:, :64], maps.reshape(2, 64, -1).mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(features[:, 64:], maps.reshape(2, 64, -1).max(axis=2))


def test_gradients_reach_every_weight() -> None:
    model = build(spec(), 2)
    torch.autograd.backward(model(torch.rand(4, 1, 16, 16)).logsumexp(1).sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


# seeds


@pytest.mark.parametrize("backbone", ["smallcnn", "resnet18"])
def test_the_seed_gives_the_weights_and_the_global_state_is_left(backbone: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = build(spec(backbone=backbone), 2).state_dict()
    torch.rand(7)
    again = build(spec(backbone=backbone), 2).state_dict()
    other = build(spec(backbone=backbone, seed=1), 2).state_dict()
    assert same(one, again) and not same(one, other)
    torch.manual_seed(5)
    assert torch.equal(before, torch.get_rng_state())
    build(spec(backbone=backbone), 2)
    assert torch.equal(before, torch.get_rng_state())


def test_accelerators_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def seeded(seed: int) -> None:
        raise AssertionError(f"an accelerator was seeded with {seed}")

    for module in (torch.cuda, torch.mps):
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, seeded, raising=False)
    build(spec(), 2)


def test_the_number_of_classes_leaves_the_backbone_alone() -> None:
    two, five = (build(spec(), classes) for classes in (2, 5))
    assert same(two.backbone.state_dict(), five.backbone.state_dict())
    assert five.head.weight.shape == (5, 128)


# timm


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a host fails the test."""

    def refuse(*given: object, **options: object) -> None:
        raise AssertionError(f"reached for the network: {given}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
def test_resnet18_of_one_channel_needs_no_download() -> None:
    model = build(spec(backbone="resnet18"), 2)
    assert isinstance(model, Classifier)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 2)
    assert model.features(torch.rand(2, 1, 32, 32)).shape == (2, 512)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "ghostnet_050"])
def test_a_network_whose_features_are_wider_than_its_maps(backbone: str) -> None:
    model = build(spec(3, backbone=backbone), 2).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, 2)


def test_known_backbones() -> None:
    for name in ("smallcnn", "resnet50", "resnet50.a1_in1k"):
        check_backbone(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet5O", "Unknown backbone 'resnet5O'. Did you mean 'resnet50'"),
        ("smallcn", "Did you mean 'smallcnn'"),
        ("", "Unknown backbone ''"),
        ("resnet50.a1_in1", "Unknown weights 'a1_in1' of the backbone 'resnet50'. Did you mean 'resnet50.a1_in1k'"),
    ],
)
def test_unknown_backbones(name: str, said: str) -> None:
    with pytest.raises(SpurbenchError) as error:
        check_backbone(name)
    assert said in str(error.value)
    assert len(str(error.value)) < 1000


# weights from files


def test_backbone_weights_from_a_file(tmp_path: Path) -> None:
    """As a bare backbone, or as a whole classifier, whose head is left out."""
    source = build(spec(seed=3), 5)
    save_file(source.backbone.state_dict(), tmp_path / "bare.safetensors")
    save_file(source.state_dict(), tmp_path / "whole.safetensors")
    for name in ("bare", "whole"):
        model = build(spec(), 2, weights=tmp_path / f"{name}.safetensors")
        assert same(model.backbone.state_dict(), source.backbone.state_dict())
        assert model.head.weight.shape == (2, 128)


def test_weights_of_another_backbone(tmp_path: Path) -> None:
    save_file(SmallCNN(3).state_dict(), tmp_path / "rgb.safetensors")
    with pytest.raises(SpurbenchError, match=r"rgb.safetensors lacks 1 of the backbone's 36 weights.*layers.0.weight"):
        load_backbone(SmallCNN(1), tmp_path / "rgb.safetensors")
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(SpurbenchError, match="lacks 36 of the backbone's 36 weights"):
        load_backbone(SmallCNN(1), tmp_path / "other.safetensors")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("text.safetensors", "none.safetensors"):
        with pytest.raises(SpurbenchError, match=f"Expected a safetensors file at .*{name}"):
            load_backbone(SmallCNN(1), tmp_path / name)


def test_all_weights_of_a_classifier() -> None:
    source, model = build(spec(seed=1), 2), build(spec(), 2)
    assert load_classifier(model, source.state_dict(), "a file") is model
    assert same(model.state_dict(), source.state_dict())


def test_weights_that_do_not_fit_a_classifier() -> None:
    model = build(spec(), 2)
    state = build(spec(), 3).state_dict()
    with pytest.raises(SpurbenchError, match=r"The weights in x do not fit the network: size mismatch for head"):
        load_classifier(model, state, "x")
    lacking = {name: value for name, value in model.state_dict().items() if name != "mean"}
    with pytest.raises(SpurbenchError, match=r'Missing key.*"mean"'):
        load_classifier(model, lacking, "x")
