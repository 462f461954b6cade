"""MaskTune, ExMap and DaC: what they make of heat maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from robustbench_spur.methods import dac as dac_module
from robustbench_spur.methods.dac import DaC, DaCHyperparameters, partners
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.exmap import ExMap, ExMapHyperparameters, shrink, spectral
from robustbench_spur.methods.masktune import MaskTune, MaskTuneHyperparameters
from robustbench_spur.parameters import Training
from tests.methods.toy import batch_of, linear, partition, task_of, view_of

# MaskTune


def test_masks_by_hand() -> None:
    """Mean 1/16 and standard deviation 0.242: only the one bright pixel is above mean + 2 of them."""
    maps = np.zeros((2, 4, 4), np.float16)
    maps[0, 1, 2] = 1
    maps[1] = 0.5
    method = MaskTune(MaskTuneHyperparameters(tuning_epochs=1, smoothing=0.0))
    view = view_of(method, partition([0, 1], [0, 0]))
    arrays, notes = method.masks(view, {"maps": maps})
    assert np.argwhere(~arrays["kept"]).tolist() == [[0, 1, 2]]
    assert notes["masked_share"] == pytest.approx(1 / 32)


def test_masked_pixels_are_black_and_move_with_the_image() -> None:
    method = MaskTune(MaskTuneHyperparameters(tuning_epochs=1))
    view, model = view_of(method, partition([0, 1], [0, 0])), linear(4)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    kept = np.ones((2, 4, 4), bool)
    kept[0, 0, 3] = False
    method.tensors = {"kept": torch.from_numpy(kept)}
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    batch = batch_of(view, [0, 1], images)
    object.__setattr__(batch, "move", lambda maps: maps.flip(3))
    hidden = images.clone()
    hidden[0, 0, 0, 0] = 0  # where the flip took it
    assert float(method.loss(model, batch).detach()) == pytest.approx(
        float(cross_entropy(model(hidden), batch.labels).detach())
    )


def test_masktune_starts_from_erms_own_cell() -> None:
    method = MaskTune(MaskTuneHyperparameters().resolved(Training(epochs=20)))
    model = method.fit(task_of(method))
    erm = ERM().fit(task_of(ERM()))
    assert model.spec["trajectory"]["start"] == erm.key
    assert model.spec["epochs"] == 1


# ExMap


def test_maps_are_averaged_over_blocks() -> None:
    maps = np.arange(16, dtype=np.float16).reshape(1, 4, 4)
    assert shrink(maps, 2)[0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert shrink(maps, 9).shape == (1, 4, 4)


def test_spectral_clusters_of_three_blobs() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [300, 200, 100])
    points = np.eye(3)[truth] * 5 + rng.normal(scale=0.3, size=(600, 3))
    found = spectral(points, 10, np.random.default_rng(1))
    assert len({(t, f) for t, f in zip(truth.tolist(), found.tolist(), strict=True)}) == 3
    assert found.max() == 2


def test_too_few_points_are_one_cluster() -> None:
    assert spectral(np.random.default_rng(0).random((5, 3)), 10, np.random.default_rng(0)).tolist() == [0] * 5


def test_pseudo_groups_are_clusters_within_classes() -> None:
    """Maps that light up left or right; the classes' clusters are told apart, and codes have no gap."""
    rng = np.random.default_rng(3)
    labels, side = np.repeat([0, 1], 60), np.tile([0, 1], 60)
    maps = rng.random((120, 16, 16)) * 0.05
    maps[side == 0, :, :8] += 1
    maps[side == 1, :, 8:] += 1
    method = ExMap(ExMapHyperparameters(map_size=4))
    groups = method.pseudo_groups(view_of(method, partition(labels, side)), maps.astype(np.float16))
    pairs = set(zip(labels.tolist(), side.tolist(), groups.tolist(), strict=True))
    assert len(pairs) == 4 and sorted({code for _, _, code in pairs}) == [0, 1, 2, 3]


# DaC


def test_the_object_is_the_brightest_share_of_a_map() -> None:
    maps = np.arange(16, dtype=np.float16).reshape(1, 4, 4).repeat(3, axis=0)
    method = DaC(DaCHyperparameters(object_share=0.25, low_loss=0.5, smoothing=0.0, tuning_epochs=1))
    logits = np.array([[3.0, 0], [0, 0], [0, 1.0]], np.float32)
    view = view_of(method, partition([0, 0, 1], [0, 0, 0]))
    arrays, notes = method.decompose(view, {"maps": maps}, {"logits": logits})
    assert np.flatnonzero(arrays["object"][0]).tolist() == [12, 13, 14, 15]
    assert arrays["low"].tolist() == [True, False, True] and notes["low_loss_images"] == 2
    method.given = arrays
    assert method.sampling(view).repeats is not None
    assert method.sampling(view).repeats.tolist() == [1, 0, 1]  # type: ignore[union-attr]


def test_partners_are_of_another_class() -> None:
    labels = torch.tensor([0, 1, 1, 2, 0])
    seen = {i: set() for i in range(5)}
    for seed in range(60):
        torch.manual_seed(seed)
        partner, found = partners(labels)
        assert found.tolist() == [1.0] * 5
        for i, j in enumerate(partner.tolist()):
            seen[i].add(j)
    assert seen[0] == {1, 2, 3} and seen[3] == {0, 1, 2, 4}
    assert partners(torch.tensor([1, 1]))[1].tolist() == [0.0, 0.0]


def test_loss_of_compositions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    method = DaC(DaCHyperparameters(alpha=3.0, tuning_epochs=1))
    view, model = view_of(method, partition([0, 1], [0, 0])), linear(2)
    generator = torch.Generator().manual_seed(4)
    torch.nn.init.normal_(model.head.weight, generator=generator)
    images = torch.rand(2, 1, 2, 2, generator=generator)
    cut = np.array([[[True, False], [False, False]], [[False, False], [True, True]]])
    method.tensors = {"object": torch.from_numpy(cut)}
    monkeypatch.setattr(dac_module, "partners", lambda labels: (torch.tensor([1, 0]), torch.ones(2)))
    x, mean = images.numpy()[:, 0], images.numpy()[:, 0].mean(axis=0)
    alone = np.where(cut, x, mean)
    elsewhere = np.where(cut, x, x[::-1])
    weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()

    def loss(pictures: np.ndarray) -> float:
        logits = ((pictures.reshape(2, 4) - 0.3) / 0.25) @ weight.T + bias
        chosen = logits[[0, 1], [0, 1]]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen))

    expected = loss(x) + 3.0 * (loss(alone) + loss(elsewhere))
    assert float(method.loss(model, batch_of(view, [0, 1], images)).detach()) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_class_has_no_compositions() -> None:
    method = DaC(DaCHyperparameters(alpha=3.0, tuning_epochs=1))
    view, model = view_of(method, partition([0, 0], [0, 0])), linear(2)
    method.tensors = {"object": torch.ones(2, 2, 2, dtype=torch.bool)}
    batch = batch_of(view, [0, 1], torch.rand(2, 1, 2, 2))
    # all of the image is object: alone it is the image itself
    assert float(method.loss(model, batch).detach()) == pytest.approx(
        4 * float(ERM().loss(model, batch).detach()), rel=1e-5
    )
