"""JTT: the error set, the sign and size of the upweighting, and what its identification run shares with ERM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.feeding import epoch_order
from robustbench_spur.home import Home
from robustbench_spur.method import View
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.jtt import JTT, JTTHyperparameters
from robustbench_spur.parameters import Training
from robustbench_spur.plan import Request, make_plan
from robustbench_spur.stage import Stage
from robustbench_spur.types import SpurbenchError
from tests.methods.toy import DATASET, mixed, of_groups, partition, run_of, same, silent, task_of, universe, view_of


def seen_by_jtt(labels: list[int], classes: int = 2) -> View:
    return view_of(JTT(), partition(labels, [0] * len(labels)), universe(classes))


def jtt(wrong: Any, upweight: int = 20) -> JTT:
    method = JTT(JTTHyperparameters(id_epochs=1, upweight=upweight))
    method.given = {"wrong": np.asarray(wrong, bool)}
    return method


# the error set


def test_error_set_by_hand() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [-1.0, -2.0], [0.0, 3.0], [5.0, 4.0]], np.float32)
    arrays, notes = JTT().error_set(seen_by_jtt([0, 0, 1, 1, 1]), {"logits": logits})
    assert arrays["wrong"].tolist() == [False, True, True, False, True]
    assert notes == {"error_set_size": 3, "error_set_by_class": [1, 2]}


def test_error_set_of_three_classes_counts_every_declared_class() -> None:
    logits = np.eye(3)[[0, 1, 1, 0]]
    arrays, notes = JTT().error_set(seen_by_jtt([0, 1, 0, 1], classes=3), {"logits": logits})
    assert arrays["wrong"].tolist() == [False, False, True, True]
    assert notes["error_set_by_class"] == [1, 1, 0]


def test_an_empty_error_set_says_so() -> None:
    _, notes = JTT().error_set(seen_by_jtt([0, 1]), {"logits": np.eye(2)})
    assert notes["error_set_size"] == 0
    assert "empty" in notes["warning"]


def test_after_an_empty_error_set_comes_plain_training(tmp_path: Path) -> None:
    """Repeating nothing is a permutation of the training set, the same that ERM walks through."""
    plain = run_of(ERM(), tmp_path / "erm").fit(silent)[0]
    assert same(plain, run_of(jtt(np.zeros(96)), tmp_path / "jtt").fit(silent)[0])


# the upweighting


def test_errors_are_drawn_more() -> None:
    sampling = jtt([True, False, False], upweight=7).sampling(seen_by_jtt([0, 1, 1]))
    assert sampling.weights is None and sampling.repeats is not None
    assert sampling.repeats.tolist() == [7, 1, 1]


@settings(deadline=None, max_examples=50)
@given(
    wrong=st.lists(st.booleans(), min_size=2, max_size=24),
    upweight=st.integers(1, 9),
    seed=st.integers(0, 5),
    passes=st.integers(1, 3),
)
def test_exact_counts_over_passes(wrong: list[bool], upweight: int, seed: int, passes: int) -> None:
    """Every pass draws an error exactly lambda times and any other example once, whatever the borders of epochs."""
    size = len(wrong)
    method, length = jtt(wrong, upweight), size + (upweight - 1) * sum(wrong)
    sampling = method.sampling(seen_by_jtt([0] * size))
    epochs = -(-passes * length // size)
    drawn = np.concatenate([epoch_order(size, sampling, seed, epoch) for epoch in range(epochs)])
    assert len(drawn) == epochs * size
    for number in range(passes):
        counts = np.bincount(drawn[number * length : (number + 1) * length], minlength=size)
        assert counts.tolist() == [upweight if error else 1 for error in wrong]


def test_its_second_training_takes_as_many_steps_as_erm(tmp_path: Path) -> None:
    def steps(method: ERM | JTT) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        run_of(method, tmp_path / method.name).fit(lambda done, total: found.append((done, total)))
        return found

    assert steps(jtt(np.arange(96) < 10)) == steps(ERM()) == [(done, 9) for done in range(1, 10)]


def test_the_second_training_starts_from_scratch() -> None:
    """It is given the error set and no weights; network, budget and seed are those of an ERM run."""
    method = jtt([])
    model, plain = method.fit(task_of(method)), ERM().fit(task_of(ERM()))
    assert [parent.kind for parent in model.parents] == ["pixels", "pixels", "compute"]
    for name in ("network", "training", "seed", "data"):
        assert model.spec["trajectory"][name] == plain.spec["trajectory"][name]


def test_upweighting_raises_the_accuracy_on_the_errors(tmp_path: Path) -> None:
    """The rare groups taken as the error set are learned better with lambda 20 than with lambda 1."""
    rows = mixed(96, conflict=0.2)
    wrong = rows.labels != rows.attributes
    nll = {}
    for upweight in (1, 20):
        run = run_of(jtt(wrong, upweight), tmp_path / str(upweight), rows, epochs=8, augmentations=())
        weights, _, _ = run.fit(silent)
        run.model.load_state_dict(weights)
        run.model.eval()
        with torch.no_grad():
            logits = run.model(torch.from_numpy(run.train[wrong]).float() / 255)
        nll[upweight] = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels[wrong])))
    assert nll[20] < nll[1] - 0.05


# its stages


def test_four_stages_in_the_papers_order() -> None:
    method = JTT(JTTHyperparameters(id_epochs=2))
    model = method.fit(task_of(method, training=Training(epochs=5)))
    errors = model.parents[2]
    predictions = errors.parents[0]
    identification = predictions.parents[0]
    assert [s.kind for s in (identification, predictions, errors, model)] == ["train", "outputs", "compute", "train"]
    assert (identification.spec["epochs"], model.spec["epochs"]) == (2, 5)
    assert predictions.spec["partition"] == errors.spec["on"] == "train"


def identification_of(model: Stage) -> Stage:
    return model.parents[2].parents[0].parents[0]


@pytest.mark.parametrize("selection", ["last", "validation_accuracy"])
def test_identification_is_the_erm_run_of_that_length(tmp_path: Path, selection: str) -> None:
    """The very stage under the last-epoch rule; under another rule the same trajectory, and its last epoch."""
    stages = {}
    for name, epochs in (("erm", 2), ("erm", 4), ("jtt", 4)):
        request = Request(
            methods=(name,),
            splits=("toy/tied",),
            settings={"epochs": epochs, "id_epochs": 2, "upweight": 5} if name == "jtt" else {"epochs": epochs},
            selection=selection,
            plugin_files=(DATASET,),
            device="cpu",
            home=Home(tmp_path),
        )
        (cell,) = make_plan(request).cells
        assert cell.stages is not None
        stages[name, epochs] = cell.stages.model
    identification = identification_of(stages["jtt", 4])
    assert (identification.key == stages["erm", 2].key) == (selection == "last")
    assert identification.spec["selection"] == "last"
    for erm in (stages["erm", 2], stages["erm", 4]):
        assert erm.spec["trajectory"] == identification.spec["trajectory"]
        assert [p.key for p in erm.parents] == [p.key for p in identification.parents]
    assert stages["erm", 4].key != identification.key


def test_a_schedule_with_a_horizon_shares_nothing() -> None:
    def trajectory(method: ERM | JTT, epochs: int) -> Any:
        model = method.fit(task_of(method, training=Training(epochs=epochs, schedule="cosine")))
        return (identification_of(model) if isinstance(method, JTT) else model).spec["trajectory"]

    short = JTT(JTTHyperparameters(id_epochs=2))
    assert trajectory(short, 4) == trajectory(ERM(), 2) != trajectory(ERM(), 4)


def test_lambda_leaves_the_identification_run_alone() -> None:
    models = [m.fit(task_of(m)) for m in (jtt([], 5), jtt([], 50))]
    assert identification_of(models[0]).key == identification_of(models[1]).key
    assert models[0].key != models[1].key


# settings


def test_default_identification_is_a_quarter_of_the_budget() -> None:
    lengths = [JTTHyperparameters().resolved(Training(epochs=n)).id_epochs for n in (1, 4, 12, 50)]
    assert lengths == [1, 1, 3, 13]


def test_presets_are_the_papers() -> None:
    assert JTT.presets["waterbirds"] == {"id_epochs": 60, "upweight": 100}
    assert JTT.presets["celeba"] == {"id_epochs": 1, "upweight": 50}


@pytest.mark.parametrize("wrong", [{"upweight": 0}, {"upweight": 2.5}, {"id_epochs": 0}])
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SpurbenchError, match=f"Setting {next(iter(wrong))}="):
        JTTHyperparameters.parse(wrong, "jtt")


def test_one_example_per_group() -> None:
    rows = of_groups([1, 1, 1, 1])
    arrays, _ = JTT().error_set(view_of(JTT(), rows), {"logits": np.zeros((4, 2))})
    # a tie is the first class
    assert arrays["wrong"].tolist() == [False, False, True, True]
