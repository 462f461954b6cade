import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustbench_spur as rs
from robustbench_spur import engine
from robustbench_spur.api import Quiet
from robustbench_spur.board import build_board
from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.plan import make_plan
from robustbench_spur.record import Record, RecordStore, read_predictions
from robustbench_spur.runner import carry_out as start
from robustbench_spur.types import SpurbenchError

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kind and title of every stage that is computed, as it is."""
    seen: list[str] = []
    execute = engine.execute

    def spy(stage: Any, runtime: Any, progress: Any) -> Any:
        seen.append(f"{stage.kind}: {stage.title}")
        return execute(stage, runtime, progress)

    monkeypatch.setattr(engine, "execute", spy)
    return seen


def logits(home: Home, record: Record) -> dict[str, Any]:
    arrays = RecordStore(home.records, home.predictions).arrays(record)
    return {name: array for name, array in arrays.items() if name.endswith("/logits")}


def identical(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def records(home: Home) -> list[Record]:
    return list(RecordStore(home.records, home.predictions))


# nothing twice


def test_a_second_run_computes_nothing(request_for: Any, carry_out: Any, executed: list[str], home: Home) -> None:
    first = carry_out(request_for(methods=("erm", "dfr")))
    count = len(executed)
    assert count > 10
    files = sorted(home.root.rglob("*"))
    assert carry_out(request_for(methods=("erm", "dfr"))) == first
    assert len(executed) == count
    assert sorted(home.root.rglob("*")) == files


def test_dfr_on_a_finished_erm_trains_nothing(request_for: Any, carry_out: Any, executed: list[str]) -> None:
    carry_out(request_for(methods="erm"))
    executed.clear()
    carry_out(request_for(methods="dfr"))
    kinds = [text.split(":")[0] for text in executed]
    assert set(kinds) == {"outputs", "compute", "head", "collect"}


def test_jtt_identifies_with_erms_checkpoints(
    request_for: Any, carry_out: Any, executed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustbench_spur.training import Run

    carry_out(request_for(methods="erm"))
    trained: list[str] = []
    epoch = Run._epoch

    def spy(run: Run, *rest: Any) -> Any:
        trained.append(run.method.name)
        return epoch(run, *rest)

    monkeypatch.setattr(Run, "_epoch", spy)
    executed.clear()
    (record,) = carry_out(request_for(methods="jtt"))
    assert "train: train erm, 1 epochs, seed 0" in executed
    assert trained == ["jtt", "jtt"]
    assert record.status == "done"


def test_splits_that_share_the_test_patients_render_them_once(
    request_for: Any, carry_out: Any, executed: list[str]
) -> None:
    carry_out(request_for(splits=("field@0.8", "field@1.0")))
    rendered = [text for text in executed if text.startswith("pixels")]
    assert len([text for text in rendered if " test," in text]) == 1
    assert len([text for text in rendered if " train," in text]) == 2


def test_again_measures_once_more_and_leaves_another_record(request_for: Any, carry_out: Any, home: Home) -> None:
    (first,) = carry_out(request_for())
    (second,) = carry_out(request_for(again=True))
    assert len(records(home)) == 2
    assert second.finished > first.finished
    assert all(stage.cached for stage in second.stages)
    assert second.predictions == first.predictions
    assert second.metrics == first.metrics
    assert carry_out(request_for()) == [second]


def test_again_after_clean_trains_again_to_the_same_predictions(
    request_for: Any, carry_out: Any, home: Home, executed: list[str]
) -> None:
    (first,) = carry_out(request_for())
    assert home.clean() > 0
    assert carry_out(request_for()) == [first]
    executed.clear()
    (second,) = carry_out(request_for(again=True))
    assert any(text.startswith("train") for text in executed)
    assert second.predictions == first.predictions


def test_one_seed_gives_identical_predictions_in_two_homes(
    finished_home: Home, request_for: Any, carry_out: Any, home: Home
) -> None:
    for ours in carry_out(request_for(methods=METHODS)):
        theirs = next(r for r in records(finished_home) if r.cell == ours.cell)
        assert identical(logits(home, ours), logits(finished_home, theirs))
        assert ours.predictions == theirs.predictions
        assert ours.metrics == theirs.metrics


def test_seeds_share_data_and_differ_in_predictions(request_for: Any, carry_out: Any, home: Home) -> None:
    one, other = carry_out(request_for(seeds=(0, 1)))
    assert one.config_hash == other.config_hash
    assert one.split == other.split
    assert not identical(logits(home, one), logits(home, other))


# failures


LOSS = """
import sys
import torch
from robustbench_spur.methods.erm import ERM

class Mine(ERM):
    name = "mine"
    version = 1
    needs = ()

    def loss(self, model, batch):
        value = super().loss(model, batch)
        return BODY
"""


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ("1 / 0", "ZeroDivisionError", "train mine, 2 epochs, seed 0: division by zero"),
        ("value * float('nan')", "DivergedError", "the training loss of mine became nan in epoch 1"),
        ("value + float('inf')", "DivergedError", "the training loss of mine became inf in epoch 1"),
        ("value + batch.attributes.sum()", "HiddenError", "mine read group labels that it did not declare"),
        ("value + batch.groups.sum()", "HiddenError", "mine read group labels that it did not declare"),
        ("value + batch.view.group_counts.sum()", "HiddenError", "mine read group labels that it did not declare"),
        ("value.detach()", "RuntimeError", "does not require grad"),
        ("sys.exit('enough')", "SystemExit", "enough"),
    ],
)
def test_a_failing_method_is_recorded_and_the_others_go_on(
    request_for: Any, carry_out: Any, draft: Any, home: Home, body: str, kind: str, reason: str
) -> None:
    path = draft(LOSS.replace("BODY", body))
    mine, erm = carry_out(request_for(methods=("mine", "erm"), plugin_files=(path,)))
    assert (mine.status, erm.status) == ("failed", "done")
    assert reason in mine.reason
    assert mine.error is not None
    assert mine.error.type == kind
    assert mine.error.traceback
    assert (mine.predictions, mine.metrics, mine.model) == (None, {}, None)
    assert [stage.kind for stage in mine.stages] == ["pixels"] * len(mine.stages)
    assert {r.status for r in records(home)} == {"failed", "done"}


@pytest.mark.parametrize("partition", ["test", "adapt"])
def test_a_method_that_asks_for_a_partition_out_of_reach_fails(
    request_for: Any, carry_out: Any, draft: Any, partition: str
) -> None:
    fit = f"\n    def fit(self, task):\n        return task.outputs(task.train(self), '{partition}')\n"
    path = draft(LOSS.replace("BODY", "value") + fit)
    mine, erm = carry_out(request_for(methods=("mine", "erm"), plugin_files=(path,)))
    assert (mine.status, erm.status) == ("failed", "done")
    assert f"mine asked for partition '{partition}', which it did not declare" in mine.reason


def test_a_failed_cell_is_tried_again(request_for: Any, carry_out: Any, draft: Any, tmp_path: Path, home: Home) -> None:
    sign = tmp_path / "repaired"
    body = f"value if __import__('os').path.exists({str(sign)!r}) else 1 / 0"
    request = request_for(methods="mine", plugin_files=(draft(LOSS.replace("BODY", body)),))
    assert [r.status for r in carry_out(request) + carry_out(request)] == ["failed", "failed"]
    sign.touch()
    (done,) = carry_out(request)
    assert done.status == "done"
    assert carry_out(request) == [done]
    assert [r.status for r in records(home)] == ["failed", "failed", "done"]


def test_a_failure_while_measuring_is_recorded(request_for: Any, carry_out: Any, draft: Any) -> None:
    path = draft(
        """
        from robustbench_spur import Evaluator

        class Mine(Evaluator):
            name = "mine"
            version = 1
            metrics = {}
            partitions = ("test",)

            def measure(self, predictions, counts):
                raise ArithmeticError("no such number")
        """
    )
    (record,) = carry_out(request_for(evaluators="mine", plugin_files=(path,)))
    assert (record.status, record.reason) == ("failed", "scoring: no such number")
    assert record.stages


@pytest.mark.parametrize("detail", ["float('nan')", "np.zeros(2)", "np.float32(1)", "object()", "{1, 2}"])
def test_details_that_are_no_json_fail_their_cell(request_for: Any, carry_out: Any, draft: Any, detail: str) -> None:
    path = draft(
        f"""
        import numpy as np
        from robustbench_spur import Evaluator

        class Mine(Evaluator):
            name = "mine"
            version = 1
            metrics = {{}}
            partitions = ("test",)

            def measure(self, predictions, counts):
                return {{}}

            def details(self, predictions):
                return {{"odd": {detail}}}
        """
    )
    (record,) = carry_out(request_for(evaluators="mine", plugin_files=(path,)))
    assert record.status == "failed"
    assert "JSON" in record.reason


def test_dependents_of_a_failed_stage_fail_with_its_error(
    request_for: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine.STAGES, "train", lambda *_: (_ for _ in ()).throw(ValueError("out of luck")))
    dfr, erm = carry_out(request_for(methods=("dfr", "erm")))
    assert dfr.reason == erm.reason == "train erm, 2 epochs, seed 0: out of luck"


def test_a_home_that_cannot_be_written_to_is_told_before_anything_is_computed(
    request_for: Any, tmp_path: Path, executed: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpurbenchError, match="Set SPURBENCH_HOME to another place"):
        list(start(make_plan(request_for(home=Home(tmp_path / "file" / "home"))), Quiet()))
    assert executed == []


# where a method is not applicable


def test_not_applicable_is_recorded_with_the_reason(request_for: Any, carry_out: Any, executed: list[str]) -> None:
    request = request_for(methods="groupdro", splits="field@1.0")
    (record,) = carry_out(request)
    assert (record.status, record.degenerate) == ("not_applicable", False)
    assert record.reason == "groups clear@1.5T and tumour@3T have no training patients"
    assert (executed, record.stages, record.predictions) == ([], [], None)
    assert record.split is not None
    assert record.split.counts["train"]["clear@1.5T"] == {"examples": 0, "patients": 0}
    assert carry_out(request) == [record]


def test_forced_it_is_degenerate_and_off_the_board(request_for: Any, carry_out: Any, home: Home) -> None:
    plain, forced = (
        carry_out(request_for(methods="groupdro", splits="field@1.0", force=force))[0] for force in (False, True)
    )
    assert (forced.status, forced.degenerate) == ("done", True)
    assert "forced where it is not applicable" in forced.off_board
    assert "forced where it is not applicable" not in plain.off_board
    for row in build_board(home, load_manifest("v1")).rows:
        assert row.rank is None


# interruptions


class Interrupting(Quiet):
    """Stands for Ctrl-C at the n-th report of progress."""

    def __init__(self, after: int) -> None:
        self.left = after

    def progress(self, stage: Any, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 3, 6, 8, 9, 12, 14, 20])
def test_an_interrupted_run_is_finished_by_the_next_to_the_same_bits(
    finished_home: Home, request_for: Any, carry_out: Any, home: Home, after: int
) -> None:
    request = request_for(methods=("dfr", "erm"))
    with pytest.raises(KeyboardInterrupt):
        carry_out(request, Interrupting(after))
    assert not [path for path in home.root.rglob(".*") if path.name != "home"]
    assert all(record.status == "done" for record in records(home))
    for ours in carry_out(request):
        theirs = next(r for r in records(finished_home) if r.cell == ours.cell)
        assert ours.predictions == theirs.predictions


@pytest.mark.parametrize("step", ["add", "add_predictions"])
def test_a_run_interrupted_while_it_writes_a_record_is_finished_by_the_next(
    request_for: Any, carry_out: Any, home: Home, monkeypatch: pytest.MonkeyPatch, executed: list[str], step: str
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RecordStore, step, interrupt)
        carry_out(request_for())
    assert records(home) == []
    executed.clear()
    (record,) = carry_out(request_for())
    assert (record.status, executed) == ("done", [])
    assert len(list(home.predictions.iterdir())) == 1


SLOW = """
import os
import time
from robustbench_spur.methods.erm import ERM

class Slow(ERM):
    name = "slow"
    version = 1
    needs = ()

    def loss(self, model, batch):
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        return super().loss(model, batch)
"""


COMMAND = "from robustbench_spur.cli import main; raise SystemExit(main())"


def until(happened: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_killed_while_training_is_finished_by_the_next_to_the_same_bits(
    request_for: Any, carry_out: Any, draft: Any, tiny: list[str], tmp_path: Path, home: Home
) -> None:
    path = draft(SLOW)
    tiny[tiny.index("epochs=2")] = "epochs=4"
    command = [sys.executable, "-c", COMMAND, "run", "--method", "slow", "--split", "field", *tiny]
    process = subprocess.Popen(
        [*command, "--plugin", str(path)],
        env={**os.environ, "SLOWLY": "0.3", "PYTHONPATH": str(CHECKOUT)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trajectories = home.root / "trajectories"
    until(lambda: list(trajectories.glob("*/epoch-0002.safetensors")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert records(home) == []
    assert not list(trajectories.glob("*/epoch-0004.safetensors"))
    request = request_for(methods="slow", plugin_files=(path,), settings={"epochs": 4, "batch_size": 16})
    (killed,) = carry_out(request)
    undisturbed_home = Home(tmp_path / "undisturbed")
    (undisturbed,) = carry_out(
        request_for(
            home=undisturbed_home,
            methods="slow",
            plugin_files=(path,),
            settings={"epochs": 4, "batch_size": 16},
        )
    )
    assert len(killed.history) == 4
    assert identical(logits(home, killed), logits(undisturbed_home, undisturbed))
    assert killed.metrics == undisturbed.metrics


# what a record holds


@pytest.fixture(scope="module")
def by_name(finished_home: Home) -> dict[tuple[str, str], Record]:
    found = records(finished_home)
    return {(r.method.name, r.split.name.split("[")[0]): r for r in found if r.split is not None}


METHODS = ("dfr", "erm", "groupdro", "jtt")


@pytest.mark.parametrize("method", METHODS)
def test_a_record_says_what_ran_and_where(by_name: dict[Any, Record], computed: Any, method: str) -> None:
    record = by_name[method, "phantom/field@0.95"]
    spec = next(cell.spec for cell in computed.cells if cell.spec.plugin.name == method)
    assert (record.status, record.reason, record.error, record.schema_version) == ("done", "", None, 1)
    assert (record.board, record.board_status) == ("v1", load_manifest("v1").status)
    assert record.identity == spec.identity
    assert record.config_hash == spec.identity.sha256
    assert record.cell == spec.key(forced=False)
    assert record.method.origin == "built-in"
    assert len(record.method.sha256) == 64
    assert record.method.given == {"epochs": 2, "batch_size": 16}
    assert record.training["epochs"] == 2
    assert record.network.backbone == "smallcnn"
    assert (record.network.image_size, record.network.pretrained) == (16, False)
    assert record.network.parameters is not None
    assert (record.selection, record.selected_epoch, record.seed) == ("last", 2, 0)
    assert record.track == {"dfr": "reweight", "groupdro": "train"}.get(method, "none")
    assert set(record.evaluators) == {pin.name for pin in load_manifest("v1").evaluators}
    assert record.started < record.finished
    assert len(record.history) == 2
    assert set(record.history[0]) >= {"epoch", "loss", "validation_accuracy", "seconds"}


@pytest.mark.parametrize("method", METHODS)
def test_a_record_names_what_is_not_the_boards(by_name: dict[Any, Record], method: str) -> None:
    off_board = " ".join(by_name[method, "phantom/field@0.95"].off_board)
    assert "phantom/field@0.95[" in off_board
    for change in ("image_size=16", "epochs=2", "batch_size=16"):
        assert change in off_board
    assert "id_epochs" not in off_board


def test_the_boards_own_cells_are_on_the_board(home: Home) -> None:
    from robustbench_spur.plan import Request
    from robustbench_spur.runner import off_board

    plan = make_plan(Request(methods=("all",), splits=("all",), device="cpu", home=home))
    assert {off_board(cell.spec, degenerate=cell.degenerate) for cell in plan.cells} == {()}


@pytest.mark.parametrize("method", METHODS)
def test_provenance_and_cost_are_there(by_name: dict[Any, Record], method: str) -> None:
    record = by_name[method, "phantom/field@0.95"]
    about = record.provenance
    for name in ("package", "python", "platform", "processor", "cpus", "device", "precision", "threads"):
        assert about[name], name
    assert all(about["libraries"][name] for name in ("torch", "timm", "torchattacks", "netcal", "numpy"))
    assert {"git_commit", "git_dirty"} <= about.keys()
    assert (about["device"], about["precision"]) == ("cpu", "float32")
    assert set(record.cost) == {"wall_seconds", "cpu_seconds", "peak_memory_bytes"}
    assert record.cost["peak_memory_bytes"] > 1e6
    total = sum(stage.cost["wall_seconds"] for stage in record.stages if stage.kind != "pixels")
    assert record.cost["wall_seconds"] == pytest.approx(total, abs=1e-3)
    assert {stage.kind for stage in record.stages} >= {"pixels", "train", "outputs", "collect"}
    assert record.model in {stage.key for stage in record.stages}


def test_provenance_names_the_commit_of_a_checkout(by_name: dict[Any, Record]) -> None:
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if head.returncode:
        pytest.skip(f"git does not answer here: {head.stderr.strip()}")
    commit = by_name["erm", "phantom/field@0.95"].provenance["git_commit"]
    assert commit is not None
    assert len(commit) == 40


def test_records_name_no_folder_and_no_user(finished_home: Home) -> None:
    private = {str(finished_home.root), tempfile.gettempdir(), str(Path.home()), str(CHECKOUT), sys.prefix}
    for path in finished_home.records.iterdir():
        text = path.read_text()
        assert not [place for place in private if place in text]


def test_a_failed_record_names_no_folder(request_for: Any, carry_out: Any, draft: Any, home: Home) -> None:
    body = f"open({str(home.root / 'secret' / 'file')!r})"
    carry_out(request_for(methods="mine", plugin_files=(draft(LOSS.replace("BODY", body)),)))
    (path,) = home.records.iterdir()
    assert "$SPURBENCH_HOME/secret/file" in json.loads(path.read_text())["reason"]
    assert str(home.root) not in path.read_text()


def test_the_split_part_is_the_table(by_name: dict[Any, Record], computed: Any) -> None:
    split = computed.cells[0].spec.split
    part = by_name["erm", "phantom/field@0.95"].split
    assert part is not None
    assert (part.sha256, part.counts) == (split.table.sha256(), split.table.counts())
    assert (part.classes, part.values) == (split.table.groups.classes, split.table.groups.values)
    images = np.concatenate(list(split.dataset.pixels("field", split.table.partitions["test"], 16)))
    means = np.array(part.pixel_means["test"])
    assert means.shape == (8, 8)
    assert np.allclose(means, images.reshape(-1, 8, 2, 8, 2).mean(axis=(0, 2, 4)), atol=0.011)
    assert set(part.pixel_means) == set(split.table.partitions)


@pytest.mark.parametrize("method", METHODS)
def test_metrics_can_be_recomputed_from_the_predictions(
    finished_home: Home, by_name: dict[Any, Record], method: str
) -> None:
    record = by_name[method, "phantom/field@0.95"]
    assert record.split is not None
    store = RecordStore(finished_home.records, finished_home.predictions)
    predictions = read_predictions(store.arrays(record), record.split, "test")
    right = predictions.logits.argmax(1) == predictions.labels
    groups = {name: right[predictions.group == g].mean() for g, name in enumerate(predictions.groups.names)}
    metrics = record.metrics["test"]["worst_group"]
    for name, accuracy in groups.items():
        assert metrics[f"group_accuracy:{name}"]["value"] == pytest.approx(accuracy)
    assert metrics["worst_group_accuracy"]["value"] == pytest.approx(min(groups.values()))
    assert metrics["micro_accuracy"]["value"] == pytest.approx(right.mean())
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(np.mean(list(groups.values())))
    robust = record.metrics["test"]["pgd"]["pgd_worst_group_accuracy"]["value"]
    assert 0 <= robust <= min(groups.values()) + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_other_libraries_agree(by_name: dict[Any, Record], method: str) -> None:
    record = by_name[method, "phantom/field@0.95"]
    libraries, compared = set(), 0
    for partition, evaluators in record.cross_checks.items():
        for evaluator, found in evaluators.items():
            for name, theirs in found.items():
                library, metric = name.split("/", 1)
                ours = record.metrics[partition][evaluator][metric]["value"]
                assert ours == theirs if None in (ours, theirs) else abs(ours - theirs) < 1e-5
                libraries.add(library)
                compared += theirs is not None
    assert libraries == {"netcal", "torchmetrics", "sklearn"}
    assert compared > 30


def test_jtt_notes_its_error_set(finished_home: Home, by_name: dict[Any, Record]) -> None:
    (notes,) = by_name["jtt", "phantom/field@0.95"].notes.values()
    assert notes["error_set_size"] == sum(notes["error_set_by_class"])
    assert 0 <= notes["error_set_size"] <= 48
    assert ("warning" in notes) == (notes["error_set_size"] == 0)


def test_dfr_notes_its_tuning_and_trains_on_adapt(by_name: dict[Any, Record]) -> None:
    record = by_name["dfr", "phantom/field@0.95"]
    (notes,) = record.notes.values()
    scores = notes["worst_group_by_strength"]
    assert scores[str(notes["strength"])] == max(scores.values())
    assert record.training_partitions == ("train", "adapt")
    assert by_name["erm", "phantom/field@0.95"].training_partitions == ("train",)


# real images

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", CHECKOUT / ".." / "shared" / "data"))
REAL = {
    "digits/colour@0.95": (DATA / "mnist", {"train_size": 400, "validation_size": 80, "adapt_per_group": 20}),
    "xray/tag@0.95": (DATA / "pneumoniamnist" / "pneumoniamnist_union.npz", {}),
}


@pytest.mark.parametrize("split", REAL)
def test_real_images_run_end_to_end(home: Home, split: str) -> None:
    path, settings = REAL[split]
    if not path.exists():
        pytest.skip(f"no data at {path}")
    records = rs.run(
        ["erm", "dfr"],
        split,
        settings={"epochs": 1},
        split_settings=settings,
        evaluators=["worst_group", "ece"],
        data={split.split("/", maxsplit=1)[0]: path},
        device="cpu",
    )
    for record in records:
        assert (record.status, record.reason) == ("done", "")
        assert record.split is not None
        assert len(record.split.fingerprint) == 64
        assert all(group["patients"] for group in record.split.counts["test"].values())
    assert not [p for p in home.records.iterdir() if str(path.resolve()) in p.read_text()]


# drafts


def test_a_draft_runs_and_runs_again_when_it_is_edited(request_for: Any, carry_out: Any, draft: Any) -> None:
    path = draft(LOSS.replace("BODY", "value"))
    request = request_for(methods="mine", plugin_files=(path,))
    (first,) = carry_out(request)
    assert (first.status, first.method.origin) == ("done", "file")
    assert carry_out(request) == [first]
    draft(LOSS.replace("BODY", "value * 2"))
    (second,) = carry_out(request)
    assert second.method.sha256 != first.method.sha256
    assert second.config_hash != first.config_hash
    assert second.metrics != first.metrics or second.predictions != first.predictions


def test_an_edited_draft_of_an_evaluator_measures_again(request_for: Any, carry_out: Any, draft: Any) -> None:
    text = """
    import numpy as np
    from robustbench_spur import Evaluator, Metric

    class Mine(Evaluator):
        name = "mine"
        version = 1
        metrics = {"constant": Metric("always the same", low=0.0, high=1.0)}
        partitions = ("test",)

        def measure(self, predictions, counts):
            return {"constant": np.full(len(counts), VALUE)}
    """
    values = []
    for value in ("0.25", "0.75"):
        path = draft(text.replace("VALUE", value))
        (record,) = carry_out(request_for(evaluators="mine", plugin_files=(path,)))
        values.append(record.metrics["test"]["mine"]["constant"]["value"])
    assert values == [0.25, 0.75]


# weights


def test_an_exported_erm_stands_in_for_dfrs_training(
    finished_home: Home, computed: Any, by_name: dict[Any, Record], request_for: Any, carry_out: Any, tmp_path: Path
) -> None:
    from robustbench_spur.export import export_weights

    path = tmp_path / "erm.safetensors"
    plan = make_plan(request_for(home=finished_home))
    export_weights(plan.cells[0], plan.runtime, path)
    own_home = Home(tmp_path / "elsewhere")
    (record,) = carry_out(request_for(home=own_home, methods="dfr", checkpoints={"erm": path}))
    theirs = by_name["dfr", "phantom/field@0.95"]
    assert record.status == "done"
    assert identical(logits(own_home, record), logits(finished_home, theirs))
    assert record.notes == theirs.notes
    assert record.config_hash != theirs.config_hash
    assert "checkpoint for erm" in record.off_board
    assert (record.history, record.selected_epoch) == ([], None)
    assert "import" in {stage.kind for stage in record.stages}
    assert "train" not in {stage.kind for stage in record.stages}


def test_training_from_given_weights_is_off_the_board(
    finished_home: Home, request_for: Any, carry_out: Any, tmp_path: Path
) -> None:
    from robustbench_spur.export import export_weights

    path = tmp_path / "start.safetensors"
    plan = make_plan(request_for(home=finished_home))
    export_weights(plan.cells[0], plan.runtime, path)
    (record,) = carry_out(request_for(weights=path))
    assert record.status == "done"
    assert record.network.weights_sha256 is not None
    assert f"initial weights {record.network.weights_sha256[:12]}" in record.off_board


# where things are written


def test_nothing_is_written_beside_the_code(request_for: Any, carry_out: Any) -> None:
    def files() -> set[Path]:
        caches = {"__pycache__", ".git", ".venv", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
        folders = (folder for folder in CHECKOUT.iterdir() if folder.name not in caches)
        found = itertools.chain.from_iterable(f.rglob("*") if f.is_dir() else [f] for f in folders)
        return {path for path in found if not caches & set(path.parts)}

    before = files()
    carry_out(request_for(methods=METHODS))
    build_board(request_for().home, load_manifest("v1"))
    assert files() == before
