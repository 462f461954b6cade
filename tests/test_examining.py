"""Weights and data to what evaluators say: without training and without a record, and never with weights that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from robustbench_spur.api import Quiet
from robustbench_spur.examining import Ask, Examined, examine
from robustbench_spur.export import export_weights
from robustbench_spur.fitting import fitted, read_weights
from robustbench_spur.home import Home
from robustbench_spur.plan import make_plan
from robustbench_spur.record import RecordStore
from robustbench_spur.types import SpurbenchError
from tests.conftest import TINY_SIZE, TINY_SPLIT, make_request

ARCH = "test_resnet"
"""The smallest of timm's networks with convolutions."""


class Counting(Quiet):
    """Remembers which stages were there already."""

    def __init__(self) -> None:
        self.cached: list[bool] = []

    def finished_stage(self, outcome: Any) -> None:
        self.cached.append(outcome.cached)


@pytest.fixture(scope="module")
def exported(finished_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of ERM on the tiny ``field``, as ``spurbench export`` writes them."""
    plan = make_plan(make_request(finished_home, methods="erm"))
    path = tmp_path_factory.mktemp("exported") / "erm.safetensors"
    export_weights(plan.cells[0], plan.runtime, path)
    return path


def network(classes: int = 2, channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = timm.create_model(ARCH, num_classes=classes, in_chans=channels)
    # test networks have no own weights to speak of: spread the answers
    torch.nn.init.normal_(made.get_classifier().weight, std=1.0)  # type: ignore[operator]
    return made.eval()


@pytest.fixture
def plain(tmp_path: Path) -> Callable[..., Path]:
    """Writes the state of timm's network, perhaps changed."""

    def write(change: Callable[[dict[str, Any]], dict[str, Any]] = dict, **options: Any) -> Path:
        state = {name: value.clone() for name, value in network(**options).state_dict().items()}
        path = tmp_path / "plain.safetensors"
        save_file({name: value.contiguous() for name, value in change(state).items()}, path)
        return path

    return write


@pytest.fixture
def look(home: Home) -> Callable[..., Examined]:
    """Examines weights on the tiny ``field`` in an empty home."""

    def look(weights: Path, watcher: Any = None, **changes: Any) -> Examined:
        given = {"evaluators": ("worst_group",), "split_settings": TINY_SPLIT, "device": "cpu", "image_size": TINY_SIZE}
        (found,) = examine(Ask(weights, ("field",), home=home, **{**given, **changes}), watcher or Quiet())
        return found

    return look


PLAIN = {"arch": ARCH, "mean": (0.4,), "std": (0.3,)}


# exported weights


def test_exported_weights_give_the_numbers_of_the_record(
    exported: Path, finished_home: Any, look: Any, home: Home
) -> None:
    records = RecordStore(finished_home.records, finished_home.predictions)
    record = next(one for one in records if one.method.name == "erm" and "0.95" in one.identity.split["name"])
    found = look(exported, evaluators=("board",), image_size=None)  # the size is in the file
    (row,) = found.measured.as_dicts()
    assert row["metrics"] == json.loads(json.dumps(record.metrics["test"]))
    assert row["failed"] == row["left_out"] == {}
    assert found.split == record.identity.split["name"] and found.notes == ()
    assert len(found.images) == len(found.measured.seeds[0].predictions)
    assert not home.records.exists() and not home.predictions.exists()


def test_what_is_there_is_not_made_again(exported: Path, look: Any) -> None:
    first, second, third = Counting(), Counting(), Counting()
    look(exported, first)
    look(exported, second)
    assert first.cached and not any(first.cached) and all(second.cached)
    look(exported, third, evaluators=("pgd",))
    assert third.cached.count(False) == 1  # the attack alone


def test_only_what_evaluators_read_is_predicted(exported: Path, look: Any) -> None:
    alone, beside = Counting(), Counting()
    look(exported, alone)
    found = look(exported, beside, evaluators=("worst_group", "generalisation"))
    # images, weights and predictions of the test set; then those of validation too, and the collection
    assert (len(alone.cached), beside.cached.count(False)) == (3, 3)
    assert set(found.measured.as_dicts()[0]["metrics"]) == {"worst_group", "generalisation"}


def test_evaluators_that_the_data_lack_something_for_are_left_out(exported: Path, home: Home, draft: Any) -> None:
    plugin = draft(
        """
        from robustbench_spur import Evaluator, Metric

        class Mine(Evaluator):
            name = "mine"
            version = 1
            collects = ("mine_x",)
            requires = ("another_world",)
            metrics = {"most": Metric("Whatever.")}

        class Other(Evaluator):
            name = "other"
            version = 1
            partitions = ("train",)
            metrics = {"most": Metric("Whatever.")}

        class Broken(Evaluator):
            name = "broken_one"
            version = 1
            collects = ("broken_one_x",)
            metrics = {"most": Metric("Whatever.")}

            def collect(self, subject):
                raise ValueError("out of luck")
        """
    )
    ask = Ask(
        exported,
        ("field",),
        evaluators=("mine", "other", "broken_one", "worst_group"),
        split_settings=TINY_SPLIT,
        plugin_files=(plugin,),
        device="cpu",
        home=home,
    )
    (found,) = examine(ask, Quiet())
    assert "no 'another_world' that its data set could render" in found.measured.left_out["mine"]
    assert found.measured.left_out["other"] == "is about train, not about test"
    assert "out of luck" in found.measured.failed["broken_one"]
    assert [one.evaluator.name for one in found.measured.findings] == ["worst_group"]


def test_the_folds_of_a_protocol_are_splits(exported: Path, home: Home) -> None:
    ask = Ask(
        exported,
        ("field+carve",),
        evaluators=("worst_group",),
        split_settings=TINY_SPLIT,
        device="cpu",
        home=home,
    )
    names = [one.split for one in examine(ask, Quiet())]
    assert [name.partition("+")[2].partition("[")[0] for name in names] == [f"carve.{fold}" for fold in range(5)]


# plain weights


def said_of(model: torch.nn.Module, images: Any, mean: float, std: float) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits: np.ndarray[Any, Any] = model((torch.from_numpy(np.array(images)).float() / 255 - mean) / std).numpy()
    return logits


def test_timms_weights_say_what_timms_network_says(plain: Any, look: Any) -> None:
    found = look(plain(), **PLAIN)
    expected = said_of(network(), found.images, 0.4, 0.3)
    assert found.measured.seeds[0].predictions.logits == pytest.approx(expected, abs=1e-4)
    assert expected.std() > 0.1 and found.notes == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"model.backbone.{name}": value for name, value in state.items()},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
        lambda state: {name if name.startswith("fc.") else f"backbone.{name}": value for name, value in state.items()},
        lambda state: {f"head.{name[3:]}" if name.startswith("fc.") else name: value for name, value in state.items()},
        lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
    ],
    ids=["wrapped", "twice", "counters", "partly", "head", "half"],
)
def test_the_same_weights_written_otherwise(plain: Any, look: Any, change: Any) -> None:
    found = look(plain(change), **PLAIN)
    expected = said_of(network(), found.images, 0.4, 0.3)
    logits = found.measured.seeds[0].predictions.logits
    assert logits.dtype == np.float32 and logits == pytest.approx(expected, abs=0.03)


def test_timms_normalisation_is_a_note(plain: Any, tmp_path: Path) -> None:
    """Of three channels timm knows how its networks are given images."""
    path, (note,) = fitted(
        read_weights(plain(channels=3)),
        backbone=ARCH,
        channels=3,
        classes=("a", "b"),
        normalisation=((), ()),
        place=tmp_path / "new" / "ready.safetensors",
    )
    published: Any = timm.get_pretrained_cfg(ARCH)
    assert f"mean {tuple(published.mean)} and std {tuple(published.std)}" in note
    assert load_file(path)["mean"].flatten().tolist() == pytest.approx(list(published.mean))
    assert load_file(path)["std"].flatten().tolist() == pytest.approx(list(published.std))


# what does not fit


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"arch": None}, "Expected the name of the network, and .* does not say it. Give --arch"),
        ({}, {"arch": "resnet5"}, "Unknown backbone 'resnet5'"),
        ({}, {"arch": "resnet18"}, "do not fit resnet18: it lacks .* weights, such as .*, and has .* does not have"),
        ({}, {"mean": (), "std": ()}, "Expected to know how the images were normalised .* with 1 channel"),
        ({}, {"mean": (0.1, 0.2)}, r"Expected 1 numbers each in --mean and --std, .*found \[0.1, 0.2\] and \[0.3\]"),
        ({}, {"std": (0.0,)}, "those of --std above 0"),
        ({"classes": 3}, {}, r"Expected weights for 2 classes \(clear, tumour\), found a last layer for 3 in"),
        (
            {"channels": 3},
            {},
            r"of another shape, such as 'backbone.conv1.*' \(\(\d+, 3, 3, 3\) for \(\d+, 1, 3, 3\)\)",
        ),
    ],
    ids=str,
)
def test_weights_that_do_not_fit(
    plain: Any, look: Any, home: Home, change: dict[str, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpurbenchError, match=message) as caught:
        look(plain(**change), **{**PLAIN, **options})
    assert "\n" not in str(caught.value)
    assert not (home.root / "artifacts").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {n: v for n, v in state.items() if not n.startswith("fc.")}, "Expected a last layer in"),
        (
            lambda state: {**state, "more": torch.zeros(1)},
            "has 1 that test_resnet does not have, such as 'backbone.more'",
        ),
        (lambda state: {n: v for n, v in state.items() if n != "fc.bias"}, "lacks 1 weights, such as 'head.bias'"),
    ],
    ids=["no head", "more", "no bias"],
)
def test_states_that_are_not_whole(plain: Any, look: Any, change: Any, message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        look(plain(change), **PLAIN)


def test_weights_that_give_nan(plain: Any, look: Any) -> None:
    def spoilt(state: dict[str, Any]) -> dict[str, Any]:
        state["fc.bias"] = torch.tensor([np.nan, 0.0])
        return state

    with pytest.raises(SpurbenchError, match="Expected finite logits, found"):
        look(plain(spoilt), **PLAIN)


def test_exported_weights_of_another_kind(exported: Path, look: Any, tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"holds how images are normalised. Leave out --mean and --std"):
        look(exported, mean=(0.1,), std=(0.1,))
    with pytest.raises(
        SpurbenchError, match=r"do not fit test_resnet.* Check --arch. The metadata say .* method 'erm'"
    ):
        look(exported, arch=ARCH)
    state = load_file(exported)
    other = tmp_path / "other.safetensors"
    save_file({**state, "front.x": torch.zeros(1)}, other)
    with pytest.raises(SpurbenchError, match=r"has 1 that smallcnn does not have, such as 'front\.x'"):
        look(other, arch="smallcnn")
    save_file({name: value for name, value in state.items() if "num_batches" not in name}, other)
    with pytest.raises(SpurbenchError, match="lacks 6 weights"):
        look(other, arch="smallcnn")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"Expected a safetensors file at .*, found none. Check --weights"):
        read_weights(tmp_path / "none")
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "pickled.pt")
    with pytest.raises(SpurbenchError, match="files of pickled weights are not read"):
        read_weights(tmp_path / "pickled.pt")


@pytest.mark.parametrize("identity", ["no json", "[]", '{"network": 3}', '{"method": "erm"}'])
def test_metadata_of_other_programs_are_ignored(tmp_path: Path, identity: str) -> None:
    save_file({"x": torch.zeros(2, 3)}, tmp_path / "other.safetensors", metadata={"identity": identity})
    found = read_weights(tmp_path / "other.safetensors")
    assert (found.shapes, found.network, found.method) == ({"x": (2, 3)}, {}, "")


def test_metadata_of_an_export(exported: Path) -> None:
    with safe_open(exported, framework="numpy") as archive:
        assert json.loads(archive.metadata()["identity"])["network"]["backbone"] == "smallcnn"
    found = read_weights(exported)
    assert (found.network["backbone"], found.network["image_size"], found.method) == ("smallcnn", TINY_SIZE, "erm")


# the command


def test_the_command(spurbench: Any, exported: Path, home: Home) -> None:
    settings = [f"{name}={value}" for name, value in TINY_SPLIT.items()]
    asked = ["evaluate", "--weights", exported, "--split", "field", "--device", "cpu", "--split-set", *settings]
    ended = spurbench(*asked, "--evaluator", "worst_group", "ece", "--json")
    assert ended.code == 0
    (row,) = ended.rows
    assert set(row["metrics"]) == {"worst_group", "ece"} and row["weights"] == str(exported)
    assert row["split"].startswith("phantom/field@0.95") and row["examples"] == 64
    told = spurbench(*asked, "--evaluator", "worst_group")
    assert told.code == 0 and told.out.startswith(f"{exported} on phantom/field@0.95")
    wrong = spurbench(*asked, "--arch", "resnet5", "--evaluator", "worst_group")
    assert (wrong.code, wrong.out) == (2, "") and wrong.err.startswith("spurbench: Unknown backbone 'resnet5'")
    assert wrong.err.count("\n") == 1
