"""What a method's fit can ask for beside plain training, carried out on a tiny phantom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robustbench_spur import engine
from robustbench_spur.executor import LocalExecutor
from robustbench_spur.models import load_model
from robustbench_spur.plan import make_plan
from robustbench_spur.stage import Stage
from robustbench_spur.types import SpurbenchError

TOP = """
import copy
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from robustbench_spur import Hyperparameters, Method, Sampling, parameter
from robustbench_spur.methods.erm import ERM

class Mine(ERM):
    name = "mine"
    version = 1
    needs = NEEDS

"""


class Bench:
    """A draft method on the tiny phantom, and what became of it."""

    def __init__(self, request_for: Any, draft: Any, body: str, needs: str = "()", **changes: Any) -> None:
        indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        self.file = draft(TOP.replace("NEEDS", needs) + indented + "\n")
        self.plan = make_plan(request_for(methods="mine", plugin_files=(self.file,), **changes))
        assert self.plan.cells[0].error is None, self.plan.cells[0].error
        outcomes = list(LocalExecutor().run(self.plan.stages(), self.plan.runtime, lambda *_: None))
        self.errors = [outcome.error.message for outcome in outcomes if outcome.error is not None]

    @property
    def model(self) -> Stage:
        assert self.plan.cells[0].stages is not None
        return self.plan.cells[0].stages.model

    def arrays(self, stage: Stage) -> dict[str, Any]:
        return self.plan.runtime.artifacts.arrays(stage.key)

    def weights(self, stage: Stage) -> dict[str, torch.Tensor]:
        return load_file(self.plan.runtime.artifacts.folder(stage.key) / engine.WEIGHTS)

    def images(self, partition: str) -> torch.Tensor:
        stages = self.plan.stages()
        pixels = next(s for s in stages if s.kind == "pixels" and s.spec["partition"] == partition)
        return torch.from_numpy(np.array(engine.images_of(pixels, self.plan.runtime))).float() / 255


@pytest.fixture
def bench(request_for: Any, draft: Any) -> Any:
    return lambda body, needs="()", **changes: Bench(request_for, draft, body, needs, **changes)


def test_another_model_is_the_start_and_only_the_head_is_trained(bench: Any) -> None:
    done = bench("""
def fit(self, task):
    return task.train(self, epochs=1, start=task.train(ERM()), only_head=True)
""")
    assert not done.errors
    first, second = done.weights(done.model.parents[2]), done.weights(done.model)
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_continued_training_moves_all_weights(bench: Any) -> None:
    done = bench("""
def fit(self, task):
    return task.train(self, epochs=1, start=task.train(ERM()))
""")
    first, second = done.weights(done.model.parents[2]), done.weights(done.model)
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert {"head.weight", "backbone.layers.0.weight"} <= changed
    assert not {"mean", "std"} & changed


def test_phases_and_what_a_training_keeps(bench: Any) -> None:
    """The second phase gets the state of the first: how often each example was seen."""
    done = bench("""
def start(self, train):
    self.state = {"seen": torch.zeros(len(train), dtype=torch.int64)}

def loss(self, model, batch):
    if self.phase == "count":
        self.state["seen"] = self.state["seen"].index_add(0, batch.rows, torch.ones_like(batch.rows))
    return super().loss(model, batch)

def fit(self, task):
    first = task.train(self, phase="count", epochs=2)
    return task.train(self, given=task.compute(self.double, first, on="train"))

def double(self, train, arrays):
    return {"twice": 2 * arrays["seen"]}, {}
""")
    assert not done.errors
    compute = done.model.parents[2]
    seen = done.arrays(compute.parents[0])["seen"]
    assert seen.max() == 2 and seen.sum() == 2 * 16 * (len(seen) // 16)
    assert (done.arrays(compute)["twice"] == 2 * seen).all()
    assert not done.arrays(done.model)["seen"].any()


def test_attributes_of_joined_partitions_are_those_declared(bench: Any) -> None:
    done = bench(
        """
def start(self, train):
    self.state = {"attributes": torch.from_numpy(train.attributes.copy())}

def fit(self, task):
    return task.train(self, on=("train", "adapt"))
""",
        needs='("adapt",)',
    )
    assert not done.errors
    seen, table = done.arrays(done.model)["attributes"], done.plan.cells[0].spec.split.table
    train, adapt = table.partitions["train"], table.partitions["adapt"]
    assert (seen[: len(train)] == -1).all()
    assert (seen[len(train) :] == adapt.attributes).all()


@pytest.mark.parametrize("on", ["adapt", "selection", "test"])
def test_a_partition_that_was_not_declared_is_out_of_reach(request_for: Any, draft: Any, on: str) -> None:
    body = f"    def fit(self, task):\n        return task.train(self, on=('{on}',))\n"
    file = draft(TOP.replace("NEEDS", "()") + body)
    (cell,) = make_plan(request_for(methods="mine", plugin_files=(file,))).cells
    assert cell.error is not None and "which it did not declare" in cell.error.message


def test_networks_beside_the_model_are_trained_and_come_back(bench: Any) -> None:
    """The one beside learns, the frozen one does not, and neither is part of the model."""
    done = bench("""
def modules(self, model, train):
    frozen = torch.nn.Linear(model.width, 2).requires_grad_(False)
    return {"other": torch.nn.Linear(model.width, 2), "frozen": frozen}

def loss(self, model, batch):
    features = model.features(batch.images)
    self.state["other"] = self.beside["other"].weight.detach().clone()
    self.state["frozen"] = self.beside["frozen"].weight.detach().clone()
    return cross_entropy(self.beside["other"](features), batch.labels)

def start(self, train):
    self.state = {"first": self.beside["other"].weight.detach().clone()}
    self.state |= {"first_frozen": self.beside["frozen"].weight.detach().clone()}
""")
    assert not done.errors
    kept = done.arrays(done.model)
    assert (kept["frozen"] == kept["first_frozen"]).all()
    assert (kept["other"] != kept["first"]).any()
    assert not any("other" in name for name in done.weights(done.model))


def test_an_input_transform_stays_with_the_model(request_for: Any, draft: Any) -> None:
    top = TOP.replace(
        "class Mine", "class Halving(torch.nn.Module):\n    def forward(self, x):\n        return x / 2\n\nclass Mine"
    )
    file = draft(top.replace("NEEDS", "()") + "    def prepare(self, model):\n        model.front = Halving()\n")
    plan = make_plan(request_for(methods="mine", plugin_files=(file,)))
    outcomes = list(LocalExecutor().run(plan.stages(), plan.runtime, lambda *_: None))
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    stages = plan.cells[0].stages
    assert stages is not None
    model = load_model(stages.model, plan.runtime)
    images = torch.from_numpy(np.array(engine.images_of(stages.pixels["test"], plan.runtime))).float() / 255
    with torch.no_grad():
        expected = model.head(model.backbone((images / 2 - model.mean) / model.std))
    found = plan.runtime.artifacts.arrays(stages.outputs["test"].key)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mixture_head_through_the_engine(bench: Any) -> None:
    """Two copies of one head are that head."""
    done = bench("""
def fit(self, task):
    model = task.train(ERM())
    return task.replace_head(model, task.compute(self.twice, task.head(model), on="train"))

def twice(self, train, head):
    return {name: np.stack([array, array]) for name, array in head.items()}, {}
""")
    assert not done.errors
    model, erm = load_model(done.model, done.plan.runtime), load_model(done.model.parents[0], done.plan.runtime)
    images = done.images("test")
    with torch.no_grad():
        np.testing.assert_allclose(model(images), erm(images).log_softmax(1), atol=1e-5)


def test_the_average_of_models_and_a_task_of_another_seed(bench: Any) -> None:
    done = bench("""
def fit(self, task):
    return task.average([ERM().fit(task.derive(ERM(), seed=seed)) for seed in (0, 5)])
""")
    assert not done.errors
    members = done.model.parents
    assert [stage.spec["trajectory"]["seed"] for stage in members] == [0, 5]
    images = done.images("test")
    with torch.no_grad():
        each = [load_model(stage, done.plan.runtime)(images).softmax(1) for stage in members]
        found = load_model(done.model, done.plan.runtime)(images).exp()
    np.testing.assert_allclose(found, (each[0] + each[1]) / 2, atol=1e-6)
    assert done.plan.cells[0].spec.seed == 0


def test_the_member_of_the_cells_own_seed_is_the_other_methods_cell(bench: Any, request_for: Any) -> None:
    done = bench("""
def fit(self, task):
    return task.average([ERM().fit(task.derive(ERM())), ERM().fit(task.derive(ERM(), seed=1))])
""")
    for seed, member in enumerate(done.model.parents):
        (cell,) = make_plan(request_for(methods="erm", seeds=(seed,))).cells
        assert cell.stages is not None and cell.stages.model.key == member.key


def test_dropout_is_another_network_and_off_in_evaluation(bench: Any) -> None:
    done = bench("""
def fit(self, task):
    return ERM().fit(task.derive(ERM(), dropout=0.5))
""")
    assert not done.errors
    assert done.model.spec["trajectory"]["network"]["dropout"] == 0.5
    model, images = load_model(done.model, done.plan.runtime), done.images("test")
    assert model.dropout == 0.5
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model.features(images), model.features(images))


def test_attributions_are_gradient_times_input(bench: Any) -> None:
    done = bench("""
def fit(self, task):
    model = task.train(ERM())
    return task.train(self, given=task.attributions(model, "train"))
""")
    assert not done.errors
    stage = done.model.parents[2]
    maps = done.arrays(stage)["maps"]
    images = done.images("train")
    assert maps.shape == (len(images), 16, 16) and maps.dtype == np.float16
    assert maps.min() >= 0 and maps.max() == 1
    loaded = load_model(stage.parents[0], done.plan.runtime).double()

    def model(x: torch.Tensor) -> torch.Tensor:  # in double precision throughout, for the differences
        logits: torch.Tensor = loaded.head(loaded.backbone((x - loaded.mean) / loaded.std))
        return logits

    one = images[:1].double()
    predicted = int(model(one).argmax())
    step, expected = 1e-5, np.zeros((16, 16))
    for row in range(16):
        for column in range(16):
            up, down = one.clone(), one.clone()
            up[0, 0, row, column] += step
            down[0, 0, row, column] -= step
            slope = float((model(up) - model(down))[0, predicted]) / (2 * step)
            expected[row, column] = abs(float(one[0, 0, row, column]) * slope)
    np.testing.assert_allclose(maps[0], expected / expected.max(), atol=2e-2)


WRAPPER = """
from robustbench_spur import Hyperparameters, Method, parameter

class Settings(Hyperparameters):
    base: str = parameter("erm", "the method that is wrapped")

class Wrapper(Method):
    name = "wrapper"
    version = 1
    summary = "another method's model"
    wraps = "base"
    Hyperparameters = Settings

    def fit(self, task):
        return self.base.fit(task.derive(self.base))
"""


def test_a_wrapper_needs_what_its_base_needs(request_for: Any, draft: Any, carry_out: Any) -> None:
    file = draft(WRAPPER, "wrapper.py")
    for base, track in (("erm", "none"), ("groupdro", "train"), ("dfr", "reweight")):
        request = request_for(methods="wrapper", plugin_files=(file,), settings={"base": base, "epochs": 1})
        (cell,) = make_plan(request).cells
        assert cell.spec.track == track and not cell.reason
        (own,) = make_plan(request_for(methods=base, settings={"epochs": 1})).cells
        assert cell.stages is not None and own.stages is not None
        assert cell.stages.model.key == own.stages.model.key
    (tied,) = make_plan(
        request_for(methods="wrapper", plugin_files=(file,), settings={"base": "groupdro"}, splits="field@1.0")
    ).cells
    assert "have no training patients" in tied.reason
    (record,) = carry_out(request_for(methods="wrapper", plugin_files=(file,), settings={"base": "groupdro"}))
    assert (record.status, record.track) == ("done", "train")


@pytest.mark.parametrize(
    ("base", "message"),
    [("emr", "Unknown method 'emr'"), ("wrapper", "Expected a method of its own as base of wrapper, found 'wrapper'")],
)
def test_a_base_that_cannot_be_wrapped(request_for: Any, draft: Any, base: str, message: str) -> None:
    file = draft(WRAPPER, "wrapper.py")
    with pytest.raises(SpurbenchError, match=message):
        make_plan(request_for(methods="wrapper", plugin_files=(file,), settings={"base": base}))
