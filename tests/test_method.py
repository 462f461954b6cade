"""The base of all methods: views, batches, sampling, and the stages that a task builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustbench_spur.method import Batch, Method, Sampling, View, track_of
from robustbench_spur.methods.erm import ERM
from robustbench_spur.parameters import Hyperparameters, Training, parameter
from robustbench_spur.stage import Stage
from robustbench_spur.task import Task
from robustbench_spur.types import HiddenError, SpurbenchError
from tests.methods.toy import batch_of, of_groups, partition, task_of, universe


class Reader(ERM):  # type: ignore[misc]
    """Declares everything."""

    name = "reader"
    needs = ("train_attributes", "validation_attributes", "adapt")


class Slow(Hyperparameters):
    """A setting that the budget has too, and one that it has not."""

    learning_rate: float = parameter(0.25, "its own", above=0)
    amount: int = parameter(2, "of something")


class Own(ERM):  # type: ignore[misc]
    """Has settings of its own."""

    name = "own"
    Hyperparameters = Slow


# tracks


@pytest.mark.parametrize(
    ("needs", "track"),
    [
        ((), "none"),
        (("validation_attributes",), "selection"),
        (("train_attributes",), "train"),
        (("adapt",), "reweight"),
        (("shortcut",), "targeted"),
        (("adapt", "train_attributes"), "reweight"),
        (("shortcut", "adapt", "validation_attributes"), "targeted"),
    ],
)
def test_track_is_that_of_the_strongest_annotation(needs: tuple[str, ...], track: str) -> None:
    assert track_of(needs) == track == track_of(needs[::-1])


# what a method sees


def view(*, sees: bool) -> View:
    rows = partition([0, 1, 2, 1], [4, 0, 3, 4], slices=2)
    return View(rows, universe(3, 5), sees, "mine", 6)


def test_a_view_of_everything() -> None:
    seen = view(sees=True)
    assert (len(seen), seen.classes) == (4, 3)
    assert seen.labels.tolist() == [0, 1, 2, 1]
    assert seen.attributes.tolist() == [4, 0, 3, 4]
    assert seen.groups.tolist() == [0 * 5 + 4, 1 * 5 + 0, 2 * 5 + 3, 1 * 5 + 4]
    assert seen.clusters.tolist() == ["p0", "p0", "p1", "p1"]
    assert seen.group_counts.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("name", ["attributes", "groups", "group_counts"])
def test_a_guarded_view(name: str) -> None:
    hidden = view(sees=False)
    assert hidden.labels.tolist() == [0, 1, 2, 1] and len(hidden.clusters) == 4
    with pytest.raises(HiddenError, match="mine read group labels that it did not declare"):
        getattr(hidden, name)


def test_a_guarded_batch() -> None:
    batch = batch_of(view(sees=False), [0, 2])
    assert batch.labels.tolist() == [0, 2] and batch.rows.tolist() == [0, 2]
    for name in ("attributes", "groups"):
        with pytest.raises(HiddenError, match="mine read group labels"):
            getattr(batch, name)


def test_groups_of_a_batch_are_those_of_the_view() -> None:
    seen = view(sees=True)
    batch = batch_of(seen, [3, 0, 2])
    assert batch.attributes.tolist() == [4, 4, 3]
    assert batch.groups.tolist() == seen.groups[[3, 0, 2]].tolist()


def test_generator_follows_from_the_seed() -> None:
    def draw(seed: int) -> tuple[int, ...]:
        return tuple(View(of_groups([1]), universe(), False, "mine", seed).generator().integers(1 << 40, size=3))

    assert draw(0) == draw(0) != draw(1)


# sampling


@given(codes=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_balanced_gives_every_code_that_occurs_the_same_share(codes: list[int]) -> None:
    weights = Sampling.balanced(np.array(codes)).weights
    assert weights is not None
    share = np.bincount(codes, weights / weights.sum())
    np.testing.assert_allclose(share[np.unique(codes)], 1 / len(set(codes)))


def test_a_sampling_is_one_thing_or_the_other() -> None:
    with pytest.raises(SpurbenchError, match="either weights or repeats"):
        Sampling()
    with pytest.raises(SpurbenchError, match="positive sum"):
        Sampling(weights=np.zeros(4))


# a method


def test_without_a_loss_there_is_a_message() -> None:
    class Empty(Method):
        name = "empty"

    with pytest.raises(SpurbenchError, match=r"Method 'empty' defines no loss\. Override loss"):
        Empty().loss(torch.nn.Identity(), batch_of(view(sees=False), [0]))  # type: ignore[arg-type]


def test_what_a_method_is_unless_it_says_otherwise() -> None:
    method = ERM()
    assert (method.needs, method.every_group_in, method.state, dict(method.given)) == ((), (), {}, {})
    assert method.sampling(view(sees=False)) is None
    method.start(view(sees=False))
    assert method.state == {}


def test_methods_share_no_state() -> None:
    one, other = ERM(), ERM()
    one.state["x"] = torch.zeros(1)
    assert other.state == {}


# stages


def key(**options: Any) -> str:
    """Key of ERM's stage in a task with these options."""
    found: str = ERM().fit(task_of(ERM(), **options)).key
    return found


def test_the_same_training_is_the_same_stage() -> None:
    assert key() == key()
    assert ERM().fit(task_of(Reader())).key == key()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"training": Training(epochs=5)},
        {"training": Training(epochs=4, learning_rate=0.1)},
        {"selection": "validation_accuracy"},
        {"identify": lambda method: {"name": method.name, "version": 2}},
    ],
)
def test_whatever_changes_the_weights_changes_the_stage(change: dict[str, Any]) -> None:
    assert key(**change) != key()


def test_titles_do_not_matter() -> None:
    assert Stage("x", {"a": 1}, (), "one").key == Stage("x", {"a": 1}, (), "other", {"place": "/"}).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Stage("x", {"a": 1}, (), ""), Stage("y", {"a": 1}, (), "")),
        (Stage("x", {"a": 1}, (), ""), Stage("x", {"a": 2}, (), "")),
        (Stage("x", {"a": 1}, (), ""), Stage("x", {"a": 1}, (Stage("x", {}, (), ""),), "")),
    ],
)
def test_kind_spec_and_parents_matter(one: Stage, other: Stage) -> None:
    assert one.key != other.key


def test_a_methods_own_budget() -> None:
    """Its settings go before the board's for its own training, and for no other method's."""
    task = task_of(Own(), training=Training(epochs=4, learning_rate=0.01))
    assert task.training.learning_rate == 0.25 and task.budget.learning_rate == 0.01
    assert task.train(Own()).spec["trajectory"]["training"]["learning_rate"] == 0.25
    assert task.train(ERM()).spec["trajectory"]["training"]["learning_rate"] == 0.01


def test_a_run_of_another_length_is_the_same_trajectory() -> None:
    task = task_of(ERM())
    short, full = task.train(ERM(), epochs=2), task.train(ERM())
    assert short.spec["trajectory"] == full.spec["trajectory"]
    assert (short.spec["epochs"], full.spec["epochs"]) == (2, 4)


def test_what_is_given_is_a_parent_and_part_of_the_trajectory() -> None:
    task = task_of(ERM())
    given = task.compute(ERM().loss, on="train")
    stage = task.train(ERM(), given=given)
    assert stage.parents[2] is given and stage.spec["trajectory"]["given"] == given.key
    assert stage.spec["trajectory"] != task.train(ERM()).spec["trajectory"]


def test_a_substitute_stands_in_for_a_full_training_only() -> None:
    other = Stage("import", {"sha256": "0" * 64}, (), "take erm from a file")
    task = task_of(Reader(), substitutes={"erm": other})
    assert task.train(ERM()) is other
    assert task.train(ERM(), epochs=2).kind == "train"
    assert task.train(ERM(), given=other).kind == "train"
    assert task.train(Reader()).kind == "train"


def test_outputs_and_head() -> None:
    task = task_of(ERM())
    model = task.train(ERM())
    plain, features = (task.outputs(model, "train", features=wanted) for wanted in (False, True))
    assert plain.key != features.key
    assert plain.parents == (model, plain.parents[1]) and plain.parents[1].spec == {"partition": "train"}
    head = task.replace_head(model, features)
    assert head.kind == "head" and head.parents == (model, features)


# what a task keeps out of reach

REACHES: list[Callable[[Task, str], Stage]] = [
    lambda task, name: task.outputs(task.train(ERM()), name),
    lambda task, name: task.compute(ERM().loss, on=name),
]


@pytest.mark.parametrize("reach", REACHES)
def test_test_data_are_out_of_reach_of_every_method(reach: Callable[[Task, str], Stage]) -> None:
    with pytest.raises(HiddenError, match=r"'test', which it did not declare\. The test partition is out of reach"):
        reach(task_of(Reader()), "test")


@pytest.mark.parametrize("reach", REACHES)
def test_adapt_is_for_those_that_declare_it(reach: Callable[[Task, str], Stage]) -> None:
    with pytest.raises(
        HiddenError, match=r"erm asked for partition 'adapt', which it did not declare\. Add adapt to needs"
    ):
        reach(task_of(ERM()), "adapt")
    assert reach(task_of(Reader()), "adapt").kind in ("outputs", "compute")
    assert reach(task_of(ERM()), "validation").kind in ("outputs", "compute")


@pytest.mark.parametrize("reach", REACHES)
def test_a_partition_that_the_split_has_not(reach: Callable[[Task, str], Stage]) -> None:
    task = task_of(Reader(), partitions=("train", "validation", "test"))
    with pytest.raises(SpurbenchError, match="The split has no partition 'adapt', which reader needs"):
        reach(task, "adapt")


def test_training_another_method_hides_no_annotations() -> None:
    """A method cannot read group labels by training one that declared them."""
    with pytest.raises(
        HiddenError, match="own trains reader, which needs adapt, train_attributes, validation_attributes"
    ):
        task_of(Own()).train(Reader())
    assert task_of(Reader()).train(Own()).kind == "train"


def test_a_batch_names_its_rows() -> None:
    batch = batch_of(view(sees=True), [1, 3])
    assert isinstance(batch, Batch)
    assert batch.labels.tolist() == [1, 1] and batch.images.shape == (2, 1, 2, 2)
