"""Cells of an entry are computed again, from its weights and by training, and compared with what it states."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robustbench_spur import manifest as manifest_module
from robustbench_spur.api import Quiet
from robustbench_spur.export import export_record
from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, SplitPin, load_manifest
from robustbench_spur.plan import Request, make_plan
from robustbench_spur.published import Submitted
from robustbench_spur.registry import Registry
from robustbench_spur.runner import carry_out
from robustbench_spur.runtime import Runtime
from robustbench_spur.submission.again import Again, Found
from robustbench_spur.submission.entry import load_entry
from robustbench_spur.submission.packing import About, pack
from robustbench_spur.submission.verifier import Verifier
from robustbench_spur.types import SpurbenchError
from tests.submission.faults import put
from tests.submission.faults_of_arrays import GOOD, tensors
from tests.submission.makers import SOURCE, SPLIT, Copy, forget, opened
from tests.submission.restating import restated

TINY = "tiny"
COLLECTED = {"pgd_worst_group_accuracy", "attribute_flip_rate", "attribute_effect", "lesion_effect"}
"""Columns that take a model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boards with one that takes seconds: images of 16 pixels, two epochs."""
    folder = tmp_path_factory.mktemp("tiny") / "boards"
    content = json.loads((manifest_module.boards_folder() / "v1" / "board.json").read_text())
    setup = content["setups"]["phantom"] | {"image_size": 16}
    setup["training"] |= {"epochs": 2, "batch_size": 16}
    pin = SplitPin.of(SPLIT, 1, opened(SPLIT).table).model_dump(mode="json")
    content |= {"board": TINY, "seeds": [0], "setups": {"phantom": setup}, "splits": [pin]}
    (folder / TINY).mkdir(parents=True)
    (folder / TINY / "board.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(autouse=True)
def small_board(folder: Path) -> Iterator[Manifest]:
    """That board's manifest, while it is installed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest_module, "boards_folder", lambda: folder)
        forget()
        yield load_manifest(TINY)
    forget()


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """An entry of a cell that was trained, with its weights. Only for copying."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest_module, "boards_folder", lambda: folder)
        forget()
        home, place = Home(folder.parent / "home"), folder.parent / "entry"
        request = Request(methods=("erm",), splits=(SPLIT,), seeds=(0,), home=home, board=TINY, device="cpu")
        (done,) = carry_out(make_plan(request), Quiet())
        plugin, runtime = Registry().find("method", "erm"), Runtime(home)
        about = About("A team", SOURCE)
        pack(
            [done.record],
            home,
            load_manifest(TINY),
            plugin,
            about,
            place,
            lambda record, path: export_record(record, runtime, path),
        )
    forget()
    return place


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Copy:
    """A copy of that entry."""
    return Copy(Path(shutil.copytree(trained, tmp_path / "entry")))


def again(manifest: Manifest, copy: Copy, how: str, tmp_path: Path) -> Found:
    """The entry's cell again, by its weights or by training."""
    assert Verifier(manifest).verify(copy.folder).of("fault") == []
    one = Submitted(copy.folder, load_entry(copy.folder))
    method = getattr(Again(manifest, Quiet(), Home(tmp_path / "home"), device="cpu"), how)
    found: Found = method(one, one.entry.cells[0])
    return found


def test_a_trained_cell_verifies(copy: Copy, small_board: Manifest) -> None:
    verdict = Verifier(small_board).verify(copy.folder)
    assert (verdict.remarks, verdict.cells) == ([], 1)


@pytest.mark.parametrize(("how", "kind"), [("from_weights", "weights"), ("by_training", "reproduced")])
def test_what_is_computed_again_agrees(copy: Copy, small_board: Manifest, tmp_path: Path, how: str, kind: str) -> None:
    attestation, remarks = again(small_board, copy, how, tmp_path)
    assert remarks == []
    assert attestation is not None
    assert (attestation.kind, attestation.split, attestation.seed) == (kind, SPLIT, 0)
    assert attestation.differences.keys() >= COLLECTED
    assert ("worst_group_accuracy" in attestation.differences) == (kind == "reproduced")
    assert max(attestation.differences.values()) < 1e-3
    assert bool(attestation.provenance) == (kind == "reproduced")


def test_weights_of_other_predictions_are_a_fault(copy: Copy, small_board: Manifest, tmp_path: Path) -> None:
    """Logits that are a little larger give the same answers."""
    restated(copy, small_board, lambda logits, labels: logits * 1.5 + 1)
    attestation, (remark,) = again(small_board, copy, "from_weights", tmp_path)
    assert attestation is None
    assert (remark.level, remark.expected) == ("fault", "those of the entry")
    assert remark.found.startswith("logits that differ by ")


def test_a_run_that_gives_other_numbers_is_a_fault(copy: Copy, small_board: Manifest, tmp_path: Path) -> None:
    """A model that is always right, where the one that was trained for two epochs is not."""
    restated(copy, small_board, lambda logits, labels: np.eye(2)[labels])
    attestation, (remark,) = again(small_board, copy, "by_training", tmp_path)
    assert attestation is None
    assert (remark.level, remark.expected) == ("fault", "at most 0.05")
    assert remark.found.startswith("worst_group_accuracy ")


@pytest.mark.parametrize("how", ["from_weights", "by_training"])
def test_what_a_model_is_said_to_see_and_does_not_is_a_fault(
    copy: Copy, small_board: Manifest, tmp_path: Path, how: str
) -> None:
    """True logits, and slices rendered otherwise that are said to turn every answer round."""

    def turned(arrays: dict[str, np.ndarray]) -> None:
        arrays["test/counterfactual_logits"] = -arrays["test/logits"]

    copy.arrays(turned)
    restated(copy, small_board, lambda logits, labels: logits)
    attestation, remarks = again(small_board, copy, how, tmp_path)
    assert attestation is None
    assert "attribute_flip_rate" in {one.found.split()[0] for one in remarks}
    assert {one.level for one in remarks} == {"fault"}


def test_what_cannot_be_computed_again_is_not_attested(
    copy: Copy, small_board: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise SpurbenchError("no attack on this model")

    monkeypatch.setattr("robustbench_spur.evaluators.pgd.PGD.collect", fails)
    attestation, (remark,) = again(small_board, copy, "from_weights", tmp_path)
    assert attestation is None
    assert remark.found.startswith("pgd_worst_group_accuracy not to be computed again")


def test_weights_of_another_network_are_told(copy: Copy, small_board: Manifest, tmp_path: Path) -> None:
    copy.write(copy.content()["cells"][0]["weights"]["file"], tensors(GOOD))
    attestation, (remark,) = again(small_board, copy, "from_weights", tmp_path)
    assert attestation is None
    assert (remark.level, remark.expected) == ("warning", "weights of the board's network for the split")


def test_a_cell_without_weights_or_predictions(copy: Copy, small_board: Manifest, tmp_path: Path) -> None:
    copy.path(copy.content()["cells"][0]["weights"]["file"]).unlink()
    shutil.rmtree(copy.path("weights"))
    copy.listing(lambda cell: cell.update(weights=None))
    assert again(small_board, copy, "from_weights", tmp_path) == (None, [])
    copy.path(f"{copy.cell}.npz").unlink()
    copy.listing(lambda cell: cell.update(predictions=None))
    copy.record(put("predictions", value=None))
    with pytest.raises(SpurbenchError, match="Expected a cell with predictions to compare with"):
        again(small_board, copy, "by_training", tmp_path)


def test_a_method_that_is_here_in_another_text_is_not_trained(
    copy: Copy, small_board: Manifest, tmp_path: Path
) -> None:
    copy.entry(put("method", "sha256", value="0" * 64))
    copy.record(put("method", "sha256", value="0" * 64))
    with pytest.raises(SpurbenchError, match=r"Expected erm v1 \(000000000000\), found v1"):
        again(small_board, copy, "by_training", tmp_path)
