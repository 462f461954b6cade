from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

from robustbench_spur import engine, pixels
from robustbench_spur.executor import LocalExecutor, Outcome, describe_error
from robustbench_spur.home import Home
from robustbench_spur.networks import SmallCNN
from robustbench_spur.plan import make_plan
from robustbench_spur.stage import Stage
from robustbench_spur.types import SpurbenchError


def silent(*_: Any) -> None:
    """A progress that shows nothing."""


def find(plan: Any, kind: str, title: str = "", **spec: Any) -> Stage:
    """The first stage of a kind with a text in its title and these values in its spec."""
    fits: Iterator[Stage] = (s for s in plan.stages() if s.kind == kind and title in s.title)
    return next(s for s in fits if all(s.spec.get(name) == value for name, value in spec.items()))


def compute(plan: Any, *stages: Stage) -> list[Outcome]:
    """Compute stages and all they need; none may fail."""
    outcomes = list(LocalExecutor().run(stages, plan.runtime, silent))
    assert [o.error for o in outcomes] == [None] * len(outcomes)
    return outcomes


def weights_of(plan: Any, stage: Stage) -> dict[str, torch.Tensor]:
    return load_file(plan.runtime.artifacts.folder(stage.key) / engine.WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(weights: dict[str, torch.Tensor], images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits, written out from the definition of the network."""
    backbone = SmallCNN(1).eval()
    backbone.load_state_dict({n.removeprefix("backbone."): v for n, v in weights.items() if n.startswith("backbone.")})
    x = (torch.from_numpy(np.array(images)).float() / 255 - weights["mean"]) / weights["std"]
    with torch.no_grad():
        features = backbone(x)
    return features.numpy(), (features @ weights["head.weight"].T + weights["head.bias"]).numpy()


# pixels


def test_pixels_are_the_datasets_images(computed: Any) -> None:
    split = computed.cells[0].spec.split
    for name, rows in split.table.partitions.items():
        stored = engine.images_of(find(computed, "pixels", partition=name), computed.runtime)
        direct = np.concatenate(list(split.dataset.pixels("field", rows, 16)))
        assert stored.dtype == np.uint8
        assert (stored == direct).all()


@settings(max_examples=30, deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(8, 19), st.integers(8, 19)),
    )
)
def test_block_means_of_any_size(images: Any) -> None:
    means = pixels.block_means(images)
    height, width = images.shape[-2:]
    assert means.shape == (len(images), 8, 8)
    for row in range(8):
        for column in range(8):
            top, bottom = row * height // 8, (row + 1) * height // 8
            left, right = column * width // 8, (column + 1) * width // 8
            block = images[:, :, top:bottom, left:right].astype(float)
            assert np.allclose(means[:, row, column], block.mean(axis=(1, 2, 3)), atol=1e-4)


@pytest.mark.parametrize("count", [3, 512, 700])
def test_channel_statistics_are_those_of_all_images(count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 2, 5, 4), np.uint8)
    mean, std = engine.channel_statistics(images)
    assert np.allclose(mean, (images / 255).mean(axis=(0, 2, 3)))
    assert np.allclose(std, (images / 255).std(axis=(0, 2, 3)))


def test_images_of_one_grey_have_a_standard_deviation_above_zero() -> None:
    assert engine.channel_statistics(np.full((2, 1, 8, 8), 7, np.uint8))[1][0] > 0


ODD = """
import numpy as np
from robustbench_spur.splits.phantom import Phantom

class Odd(Phantom):
    name = "odd"
    version = 1
    splits = {"field": "", "orientation": "", "clean": ""}
    tied = ("field", "orientation")
    embedded = True

    def pixels(self, split, partition, size):
        for block in super().pixels(split, partition, size):
            yield block if len(partition) == 1 else CHANGED
"""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("block.astype(np.float32)", r"Expected uint8 blocks of \(1, 16, 16\) from odd/clean.*, found float32"),
        ("block[..., 1:]", r"Expected uint8 blocks of \(1, 16, 16\) from odd/clean.*, found uint8 \(\d+, 1, 16, 15\)"),
        ("block[1:]", r"Expected \d+ images of odd/clean.*, found \d+"),
        ("np.concatenate([block, block])", r"Expected \d+ images of odd/clean.*, found more"),
    ],
)
def test_a_dataset_that_gives_other_images_than_it_promised(
    request_for: Any, draft: Any, changed: str, message: str
) -> None:
    plan = make_plan(request_for(splits="odd/clean", plugin_files=(draft(ODD.replace("CHANGED", changed)),)))
    stage = find(plan, "pixels")
    (outcome,) = LocalExecutor().run([stage], plan.runtime, silent)
    assert outcome.error is not None
    with pytest.raises(SpurbenchError, match=message):
        engine.execute(stage, plan.runtime, silent)
    assert not plan.runtime.pixels.has(stage.key)


# training


def test_training_keeps_weights_and_a_history(computed: Any) -> None:
    about = computed.runtime.artifacts.about(find(computed, "train", "train erm, 2").key)
    assert [entry["epoch"] for entry in about["history"]] == [1, 2]
    assert about["selected_epoch"] == 2
    assert about["parameters"] == sum(p.numel() for p in SmallCNN(1).parameters()) + 2 * (128 + 1)
    assert set(about["cost"]) == {"wall_seconds", "cpu_seconds", "peak_memory_bytes"}
    assert min(about["cost"].values()) > 0


def test_normalisation_in_the_network_is_the_training_images(computed: Any) -> None:
    train = engine.images_of(find(computed, "pixels", partition="train"), computed.runtime)
    weights = weights_of(computed, find(computed, "train", "train erm, 2"))
    assert weights["mean"].item() == pytest.approx((train / 255).mean(), rel=1e-6)
    assert weights["std"].item() == pytest.approx((train / 255).std(), rel=1e-6)


def test_a_shorter_training_comes_from_the_longer_ones_checkpoints(
    request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = (make_plan(request_for(settings={"epochs": epochs, "batch_size": 16})) for epochs in (3, 2))
    compute(long, find(long, "train"))
    monkeypatch.setattr("robustbench_spur.training.Run._epoch", lambda *_: pytest.fail("it trained"))
    compute(short, find(short, "train"))
    history = [plan.runtime.artifacts.about(find(plan, "train").key)["history"] for plan in (short, long)]
    assert history[0] == history[1][:2]
    assert not equal(weights_of(short, find(short, "train")), weights_of(long, find(long, "train")))


@pytest.mark.parametrize("method", ["erm", "groupdro", "jtt"])
def test_a_longer_training_goes_on_from_a_shorter_one_to_the_same_end(
    request_for: Any, tmp_path: Path, method: str
) -> None:
    ends = []
    for home, lengths in ((Home(tmp_path / "at once"), (3,)), (Home(tmp_path / "in two"), (1, 3))):
        for epochs in lengths:
            training = {"epochs": epochs, "batch_size": 16, **({"id_epochs": 1} if method == "jtt" else {})}
            plan = make_plan(request_for(home=home, methods=method, settings=training))
            last = find(plan, "train", f"train {method}")
            compute(plan, last)
        ends.append(weights_of(plan, last))
    assert equal(*ends)


def test_the_selection_rule_picks_the_epoch(request_for: Any) -> None:
    plans = [
        make_plan(request_for(settings={"epochs": 4, "batch_size": 8}, selection=rule))
        for rule in ("last", "validation_accuracy")
    ]
    chosen = []
    for plan in plans:
        stage = find(plan, "train")
        compute(plan, stage)
        about = plan.runtime.artifacts.about(stage.key)
        accuracies = [entry["validation_accuracy"] for entry in about["history"]]
        chosen.append(about["selected_epoch"])
    assert chosen == [4, 1 + int(np.argmax(accuracies))]


def test_seeds_differ_and_one_seed_repeats(request_for: Any, tmp_path: Path) -> None:
    def train(home: str, seed: int) -> dict[str, torch.Tensor]:
        plan = make_plan(request_for(home=Home(tmp_path / home), seeds=(seed,)))
        compute(plan, find(plan, "train"))
        return weights_of(plan, find(plan, "train"))

    first = train("one", 0)
    assert equal(first, train("two", 0))
    assert not equal(first, train("one", 1))


# predictions and features


@pytest.mark.parametrize("partition", ["train", "validation", "adapt", "test"])
def test_logits_are_the_networks_on_unaugmented_images(computed: Any, partition: str) -> None:
    weights = weights_of(computed, find(computed, "train", "train erm, 2"))
    images = engine.images_of(find(computed, "pixels", partition=partition), computed.runtime)
    stage = find(computed, "outputs", "of: train erm, 2", partition=partition, features=False)
    logits = computed.runtime.artifacts.arrays(stage.key)["logits"]
    assert logits.dtype == np.float32
    assert np.allclose(logits, by_hand(weights, images)[1], atol=1e-5)


def test_features_are_what_the_last_layer_reads(computed: Any) -> None:
    weights = weights_of(computed, find(computed, "train", "train erm, 2"))
    images = engine.images_of(find(computed, "pixels", partition="adapt"), computed.runtime)
    kept = computed.runtime.artifacts.arrays(find(computed, "outputs", partition="adapt", features=True).key)
    features, logits = by_hand(weights, images)
    assert np.allclose(kept["features"], features, atol=1e-5)
    assert np.allclose(kept["logits"], logits, atol=1e-5)


def test_a_replaced_head_changes_nothing_but_the_last_layer(computed: Any) -> None:
    head = find(computed, "head")
    before, after = weights_of(computed, head.parents[0]), weights_of(computed, head)
    new = computed.runtime.artifacts.arrays(head.parents[1].key)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert np.allclose(after["head.weight"].numpy(), new["weight"], atol=1e-6)
    assert np.allclose(after["head.bias"].numpy(), new["bias"], atol=1e-6)


def test_a_loaded_model_is_ready_for_evaluation_only(computed: Any) -> None:
    model = engine.load_model(find(computed, "train", "train erm, 2"), computed.runtime)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}


# plugins in stages

METHOD = """
import numpy as np
from robustbench_spur.methods.erm import ERM

class Mine(ERM):
    name = "mine"
    version = 1
    needs = ()

    def fit(self, task):
        model = task.train(ERM())
        found = task.compute(self.look, task.outputs(model, "train"), on="train")
        return task.replace_head(model, found)

    def look(self, view, outputs):
        return BODY
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{'weight': np.zeros((3, 128)), 'bias': np.zeros(2)}, {}", "weight of shape (2, 128), found (3, 128)"),
        ("{'weight': np.array([object()])}, {}", "array 'weight' holds Python objects"),
        ("{'weight': np.zeros((2, 128)), 'bias': np.zeros(2)}, {'a note': object()}", "not JSON serializable"),
        ("{'groups': view.groups}, {}", "mine read group labels that it did not declare"),
        ("{'attributes': view.attributes}, {}", "mine read group labels that it did not declare"),
        ("__import__('sys').exit(3)", "3"),
        ("1 / 0", "division by zero"),
    ],
)
def test_a_stage_of_a_method_that_fails(request_for: Any, draft: Any, body: str, message: str) -> None:
    plan = make_plan(request_for(methods="mine", plugin_files=(draft(METHOD.replace("BODY", body)),)))
    outcomes = list(LocalExecutor().run(plan.stages(), plan.runtime, silent))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert message in errors[0].message
    below = find(plan, "head").key
    inherited = [o.error for o in outcomes if below in {a.key for a in o.stage.ancestry()}]
    assert inherited == [errors[0]] * len(inherited)
    assert not list(plan.runtime.artifacts.root.glob("*/.*"))


EVALUATOR = """
import numpy as np
from robustbench_spur import Evaluator

class Mine(Evaluator):
    name = "mine"
    version = 1
    metrics = {}
    collects = ("brightness",)
    partitions = ("test",)

    def collect(self, subject):
        images = subject.images
        return RESULT

    def measure(self, predictions, counts):
        return {}
"""


def test_an_evaluator_collects_arrays_from_model_and_images(request_for: Any, draft: Any) -> None:
    path = draft(EVALUATOR.replace("RESULT", '{"brightness": np.array(images).mean(axis=(1, 2, 3))}'))
    plan = make_plan(request_for(evaluators="mine", plugin_files=(path,)))
    stage = find(plan, "collect")
    compute(plan, stage)
    images = engine.images_of(find(plan, "pixels", partition="test"), plan.runtime)
    assert np.allclose(plan.runtime.artifacts.arrays(stage.key)["brightness"], images.mean(axis=(1, 2, 3)))


def test_an_evaluator_that_collects_something_else(request_for: Any, draft: Any) -> None:
    plan = make_plan(request_for(evaluators="mine", plugin_files=(draft(EVALUATOR.replace("RESULT", "{}")),)))
    compute(plan, *find(plan, "collect").parents)
    with pytest.raises(SpurbenchError, match=r"'mine' promises to collect \['brightness'\], found \[\]"):
        engine.execute(find(plan, "collect"), plan.runtime, silent)


# what may go wrong around a stage


def test_data_that_change_after_planning_are_noticed(request_for: Any) -> None:
    plan = make_plan(request_for())
    stage = find(plan, "train")
    other = {**stage.spec["trajectory"], "split": {**stage.spec["trajectory"]["split"], "sha256": "0" * 64}}
    changed = replace(stage, spec={**stage.spec, "trajectory": other})
    with pytest.raises(
        SpurbenchError, match=r"with the table 000000000000, found v1 .*changed since the plan was made"
    ):
        engine.split_of(changed, plan.runtime)


def test_an_edited_dataset_is_read_again_in_the_same_process(request_for: Any, draft: Any, carry_out: Any) -> None:
    source = (
        ODD.replace("CHANGED", "block") + "\n    def table(self, split, rho):\n        return super().table(split, rho)"
    )
    path = draft(source)
    request = request_for(splits="odd/clean", plugin_files=(path,))
    (before,) = carry_out(request)
    path.write_text(source.replace("table(split, rho)", "table('field', 0.5)"))
    (after,) = carry_out(request)
    assert before.status == after.status == "done"
    assert before.split.sha256 != after.split.sha256


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_stage_leaves_no_result(request_for: Any) -> None:
    plan = make_plan(request_for())
    stage = find(plan, "pixels")
    with pytest.raises(KeyboardInterrupt):
        engine.execute(stage, plan.runtime, interrupt)
    assert not plan.runtime.pixels.has(stage.key)


SLOW = """
from pathlib import Path
import numpy as np
from robustbench_spur.splits.phantom import Phantom

class Slow(Phantom):
    # a phantom in blocks of five, which notes the first id of every block
    name = "slow"
    version = 1
    splits = {"field": "x", "orientation": "x", "clean": "x"}
    aliases = {}
    tied = ()
    rhos = ()
    default_rho = 1.0
    embedded = True

    def pixels(self, split, partition, size):
        for start in range(0, len(partition), 5):
            part = partition.take(np.arange(start, min(start + 5, len(partition))))
            with Path("LOG").open("a") as log:
                log.write(part.ids[0] + " ")
            yield np.concatenate(list(super().pixels("clean", part, size)))
"""


def test_images_go_on_where_a_killed_run_was(
    request_for: Any, draft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    path = draft(SLOW.replace("LOG", str(log)))
    plan = make_plan(request_for(splits="slow/clean", plugin_files=(path,)))
    stage = find(plan, "pixels", partition="train")
    monkeypatch.setattr(pixels, "NOTE_SECONDS", 0.0)
    log.write_text("")

    def kill(done: int, total: int) -> None:
        if done >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.execute(stage, plan.runtime, kill)
    assert len(log.read_text().split()) == 3
    about = engine.execute(stage, plan.runtime, silent)
    first = log.read_text().split()
    assert len(first) == len(set(first)) == 10, "48 slices in blocks of five, each made once"
    assert about["resumed_at"] == 15
    split = plan.cells[0].spec.split
    whole = np.concatenate(list(split.dataset.pixels("clean", split.table.partitions["train"], 16)))
    assert (engine.images_of(stage, plan.runtime) == whole).all()
    assert not (plan.runtime.pixels.root / "unfinished" / stage.key).exists()


def test_two_processes_may_make_the_same_images(request_for: Any) -> None:
    plan = make_plan(request_for())
    stage = find(plan, "pixels", partition="validation")
    nested = []

    def meanwhile(done: int, total: int) -> None:
        if not nested:
            nested.append(True)
            engine.execute(stage, plan.runtime, silent)

    engine.execute(stage, plan.runtime, meanwhile)
    split = plan.cells[0].spec.split
    whole = np.concatenate(list(split.dataset.pixels("field", split.table.partitions["validation"], 16)))
    assert (engine.images_of(stage, plan.runtime) == whole).all()


def test_a_full_disk_is_told_before_the_work(request_for: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(request_for())
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda _: type("", (), {"free": 10})())
    with pytest.raises(SpurbenchError, match=r"GB of free space for .*, found 0.0 GB"):
        engine.execute(find(plan, "pixels"), plan.runtime, silent)


def test_stages_that_are_there_are_not_computed(computed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "execute", lambda *_: pytest.fail("it computed"))
    outcomes = list(LocalExecutor().run(computed.stages(), computed.runtime, silent))
    assert all(outcome.cached for outcome in outcomes)
    assert [outcome.stage.key for outcome in outcomes] == [stage.key for stage in computed.stages()]


def test_parents_come_first(computed: Any) -> None:
    seen: set[str] = set()
    for stage in computed.stages():
        assert {parent.key for parent in stage.parents} <= seen
        seen.add(stage.key)


# weights of the user's


def test_a_checkpoint_that_does_not_fit_the_network(request_for: Any, tmp_path: Path) -> None:
    path = tmp_path / "erm.safetensors"
    save_file({"head.weight": torch.zeros(2, 7)}, path)
    plan = make_plan(request_for(checkpoints={"erm": path}))
    with pytest.raises(SpurbenchError, match=r"weights in .*erm.safetensors do not fit the network: Missing key"):
        engine.execute(find(plan, "import"), plan.runtime, silent)


def test_a_checkpoint_is_taken_as_it_is(computed: Any, request_for: Any, tmp_path: Path) -> None:
    weights = weights_of(computed, find(computed, "train", "train erm, 2"))
    path = tmp_path / "erm.safetensors"
    save_file(weights, path)
    plan = make_plan(request_for(checkpoints={"erm": path}))
    compute(plan, find(plan, "import"))
    assert equal(weights_of(plan, find(plan, "import")), weights)


def test_backbone_weights_are_the_start_of_training(
    computed: Any, request_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(computed, find(computed, "train", "train erm, 2"))
    path = tmp_path / "start.safetensors"
    save_file(weights, path)
    started: list[dict[str, torch.Tensor]] = []

    def stop(run: Any, *_: Any) -> None:
        started.append({name: value.clone() for name, value in run.model.backbone.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr("robustbench_spur.training.Run.fit", stop)
    plan = make_plan(request_for(weights=path))
    compute(plan, *find(plan, "train").parents)
    with pytest.raises(KeyboardInterrupt):
        engine.execute(find(plan, "train"), plan.runtime, silent)
    own = {n.removeprefix("backbone."): v for n, v in weights.items() if n.startswith("backbone.")}
    assert equal(started[0], own)


# errors in records


def test_an_error_is_described_without_the_folders_of_this_machine(request_for: Any, tmp_path: Path) -> None:
    data = tmp_path / "hospital" / "digits.npz"
    data.parent.mkdir()
    data.write_bytes(b"")
    plan = make_plan(request_for(data={"digits": data}))

    def fail() -> None:
        raise ValueError(f"no luck with {data}, {plan.runtime.home.root}/artifacts and {Path.home()}/.cache")

    try:
        fail()
    except ValueError as error:
        described = describe_error(error, "read", plan.runtime)
    assert described.message == "read: no luck with digits.npz, $SPURBENCH_HOME/artifacts and ~/.cache"
    assert described.type == "ValueError"
    assert "test_engine.py:" in described.traceback
    assert "in fail: raise ValueError" in described.traceback
    assert str(tmp_path) not in described.traceback
