"""Heads that are not linear, and ensembles, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

from robustbench_spur.heads import Ensemble, MixtureHead, PrototypeHead, describe_head, make_head, sphere_distance
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import network

EXPERTS, CLASSES, FEATURES = 3, 4, 5
SHAPES = {
    "weight": (EXPERTS, CLASSES, FEATURES),
    "bias": (EXPERTS, CLASSES),
    "gate_weight": (EXPERTS, FEATURES),
    "gate_bias": (EXPERTS,),
    "prototypes": (EXPERTS, CLASSES, FEATURES),
    "temperature": (EXPERTS,),
}


def drawn(*names: str) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=SHAPES[name]) for name in names}


def loaded(head: torch.nn.Module, arrays: dict[str, NDArray[Any]]) -> torch.nn.Module:
    head.load_state_dict({name: torch.from_numpy(array).float() for name, array in arrays.items()})
    return head.requires_grad_(False)


@pytest.fixture
def features() -> NDArray[Any]:
    return np.random.default_rng(4).normal(size=(7, FEATURES))


def given(head: torch.nn.Module, features: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = head(torch.from_numpy(features).float()).numpy()
    return out


@pytest.mark.parametrize("gated", [False, True])
def test_a_mixture_is_the_mean_of_softmaxes(features: NDArray[Any], gated: bool) -> None:
    arrays = drawn("weight", "bias", *(("gate_weight", "gate_bias") if gated else ()))
    head = loaded(MixtureHead(EXPERTS, CLASSES, FEATURES, gated=gated), arrays)
    each = [softmax(features @ w.T + b, axis=1) for w, b in zip(arrays["weight"], arrays["bias"], strict=True)]
    shares = np.full((7, EXPERTS), 1 / EXPERTS)
    if gated:
        shares = softmax(features @ arrays["gate_weight"].T + arrays["gate_bias"], axis=1)
    expected = sum(shares[:, [k]] * each[k] for k in range(EXPERTS))
    np.testing.assert_allclose(np.exp(given(head, features)), expected, rtol=1e-5)


def test_one_expert_is_a_linear_layer(features: NDArray[Any]) -> None:
    arrays = {name: array[:1] for name, array in drawn("weight", "bias").items()}
    head = loaded(MixtureHead(1, CLASSES, FEATURES, gated=False), arrays)
    expected = log_softmax(features @ arrays["weight"][0].T + arrays["bias"][0], axis=1)
    np.testing.assert_allclose(given(head, features), expected, rtol=1e-4, atol=1e-5)


def test_prototypes_by_distances_on_the_sphere(features: NDArray[Any]) -> None:
    arrays = drawn("prototypes", "temperature")
    arrays["prototypes"] /= np.linalg.norm(arrays["prototypes"], axis=2, keepdims=True)
    head = loaded(PrototypeHead(EXPERTS, CLASSES, FEATURES), arrays)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[:, None, None] - arrays["prototypes"], axis=3)
    np.testing.assert_allclose(
        sphere_distance(torch.from_numpy(unit), torch.from_numpy(arrays["prototypes"])), distance, rtol=1e-6
    )
    logs = log_softmax(-arrays["temperature"][:, None] * distance, axis=2)
    np.testing.assert_allclose(given(head, features), logsumexp(logs, axis=1) - np.log(EXPERTS), rtol=1e-4, atol=1e-5)


def test_a_distance_of_zero_has_a_finite_slope() -> None:
    unit = torch.eye(2, requires_grad=True)
    sphere_distance(unit, torch.eye(2)[None]).sum().backward()  # type: ignore[no-untyped-call]
    assert unit.grad is not None and unit.grad.isfinite().all()


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("weight", "bias"), "mixture"),
        (("weight", "bias", "gate_weight", "gate_bias"), "gated mixture"),
        (("prototypes", "temperature"), "prototypes"),
    ],
)
def test_arrays_name_their_head(names: tuple[str, ...], kind: str) -> None:
    about = describe_head(drawn(*names), CLASSES, FEATURES)
    assert about == {"kind": kind, "experts": EXPERTS}
    loaded(make_head(about, CLASSES, FEATURES), drawn(*names))


def test_a_linear_layer_needs_no_description() -> None:
    assert describe_head({"weight": np.zeros((4, 5)), "bias": np.zeros(4)}, 4, 5) == {}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weight": np.zeros((4, 5))}, "arrays of a last layer"),
        ({"weight": np.zeros((4, 5)), "bias": np.zeros((1, 4))}, "arrays of a last layer"),
        ({"weight": np.zeros((3, 4, 6)), "bias": np.zeros((3, 4))}, r"weight of shape \(3, 4, 5\), found \(3, 4, 6\)"),
        ({"weight": np.zeros((3, 4, 5)), "bias": np.zeros((2, 4))}, r"bias of shape \(3, 4\), found \(2, 4\)"),
    ],
)
def test_arrays_that_make_no_head(arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        describe_head(arrays, CLASSES, FEATURES)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [network(seed=seed).eval().requires_grad_(False) for seed in (1, 2, 3)]
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = np.mean([softmax(member(images).numpy(), axis=1) for member in members], axis=0)
    ensemble = Ensemble(members).eval()
    np.testing.assert_allclose(np.exp(ensemble(images).numpy()), expected, rtol=1e-5)
    features = ensemble.features(images)
    assert features.shape == (6, 3 * members[0].width)
    assert torch.equal(ensemble.head(features), ensemble(images))
