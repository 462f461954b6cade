"""What an evaluator gets to look at: the partitions that it reads and the scenes that it requires; else it is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robustbench_spur.evaluators.base import Part, Subject
from robustbench_spur.types import Groups, SpurbenchError, conflict_groups
from tests.evaluators import reference

DRAFT = """
import numpy as np
from robustbench_spur import Evaluator, Metric

class Mine(Evaluator):
    name = "mine"
    version = 1
    metrics = {"changed": Metric("Share of pixels that a scene changes."), "size": Metric("Rows of training.", high=1e9)}
    collects = ("mine_changed", "mine_size")
    reads = ("train",)
    requires = ("SCENE",)

    def collect(self, subject):
        blocks = np.concatenate(list(subject.scene("SCENE")))
        train = subject.other("train")
        assert len(train.images) == len(train.predictions)
        assert blocks.shape == subject.images.shape
        with np.errstate(all="raise"):
            changed = (blocks != np.asarray(subject.images)).mean(axis=(1, 2, 3))
        return {"mine_changed": changed, "mine_size": np.array([len(train.predictions)])}

    def measure(self, predictions, counts):
        arrays = predictions.arrays
        return {name: np.full(len(counts), float(arrays["mine_" + name].mean())) for name in ("changed", "size")}
"""


@pytest.fixture
def record_of(request_for: Any, carry_out: Any, draft: Any) -> Any:
    def record_of(text: str, **asked: Any) -> Any:
        (record,) = carry_out(request_for(evaluators=("mine",), plugin_files=(draft(text),), **asked))
        return record

    return record_of


def test_it_reads_the_partitions_and_scenes_that_it_states(record_of: Any) -> None:
    record = record_of(DRAFT.replace("SCENE", "counterfactual"))
    assert record.status == "done", record.reason
    numbers = record.metrics["test"]["mine"]
    # the other field strength has other noise: nearly no pixel of the body stays as it is
    assert numbers["changed"]["value"] > 0.5
    train = record.split.counts["train"]
    assert numbers["size"]["value"] == sum(group["examples"] for group in train.values())


def test_where_the_data_set_offers_no_such_scene_it_is_left_out_and_the_record_says_why(record_of: Any) -> None:
    record = record_of(DRAFT.replace("SCENE", "hologram"))
    assert record.status == "done", record.reason
    assert "mine" not in record.metrics.get("test", {})
    why = record.details["test"]["mine"]["not_applicable"]
    assert why.startswith("phantom/field@0.95") and why.endswith(" has no 'hologram' that its data set could render")


def test_a_scene_or_partition_that_was_not_stated_is_out_of_reach() -> None:
    predictions = reference.perfect()
    subject = Subject(predictions, others={"train": Part(predictions)}, scenes={"body": lambda: iter([np.zeros(1)])})
    assert next(subject.scene("body")).shape == (1,)
    with pytest.raises(SpurbenchError, match=r"offers no 'boddy'\. Did you mean 'body'"):
        subject.scene("boddy")
    with pytest.raises(SpurbenchError, match="Unknown partition 'adapt'"):
        subject.other("adapt")
    with pytest.raises(SpurbenchError, match=r"predictions alone\. Give its weights"):
        _ = subject.model


def sizes(*examples: int) -> dict[str, dict[str, int]]:
    return {name: {"examples": n} for name, n in zip(reference.universe().names, examples, strict=True)}


@pytest.mark.parametrize(
    ("examples", "conflict"),
    [
        # of a class of 100 and a value of 100 out of 200, independence gives 50 to every group
        ((95, 5, 5, 95), (1, 2)),
        ((74, 26, 26, 74), ()),
        ((76, 24, 24, 76), (1, 2)),
        ((100, 0, 0, 100), (1, 2)),
        ((50, 50, 50, 50), ()),
        # a rare class is no conflict: independence gives it 10 and 10
        ((90, 90, 10, 10), ()),
        ((0, 0, 0, 0), ()),
    ],
)
def test_conflict_groups_have_fewer_than_half_of_what_independence_gives(
    examples: tuple[int, ...], conflict: tuple[int, ...]
) -> None:
    assert conflict_groups(sizes(*examples), reference.universe()) == conflict


def test_conflict_groups_are_places_in_the_partitions_own_universe() -> None:
    groups: Groups = reference.universe().only([0, 2, 3])
    assert conflict_groups(sizes(95, 5, 5, 95), groups) == (1,)
