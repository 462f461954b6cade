"""Faults of records: of another board, cell or method, of other settings, and numbers that are not what was predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustbench_spur.submission.packing import write_json
from tests.submission.faults import ARRAYS, RECORD, Copy, Fault, put
from tests.submission.makers import SPLITS

WORST = ("metrics", "test", "worst_group", "worst_group_accuracy")


def said(*path: Any, value: Any) -> Callable[[Copy], object]:
    """A record that states something else."""
    return lambda copy: copy.record(put(*path, value=value))


def consistent(*changes: Callable[[dict[str, Any]], None]) -> Callable[[Copy], object]:
    """Records that state something else, with the configuration hash that they then have."""

    def change(content: dict[str, Any]) -> None:
        for one in changes:
            one(content)

    return lambda copy: copy.identity(change)


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change of JSON: removes what lies at a path."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def raised(by: float) -> Callable[[Copy], object]:
    """The ranking value, a little higher."""
    return lambda copy: copy.record(
        lambda one: one["metrics"]["test"]["worst_group"]["worst_group_accuracy"].update(
            value=one["metrics"]["test"]["worst_group"]["worst_group_accuracy"]["value"] + by
        )
    )


def text(change: Callable[[str], str]) -> Callable[[Copy], object]:
    """A record of other characters."""
    return lambda copy: copy.write(RECORD, change(copy.path(RECORD).read_text(encoding="utf-8")))


def epochs(content: dict[str, Any]) -> None:
    """Trained for longer, and said so everywhere but where it counts."""
    content["identity"]["training"]["epochs"] = content["training"]["epochs"] = 500


def other_split(content: dict[str, Any]) -> None:
    content["identity"]["split"]["name"] = content["split"]["name"] = SPLITS[1]


def off_the_board(copy: Copy) -> None:
    """A cell on a split that the board does not have."""
    name = "phantom/field@0.5"

    def change(content: dict[str, Any]) -> None:
        content["identity"]["split"]["name"] = content["split"]["name"] = name

    copy.listing(lambda cell: cell.update(split=name))
    copy.identity(change)


def other_table(content: dict[str, Any]) -> None:
    content["identity"]["split"]["sha256"] = content["split"]["sha256"] = "0" * 64


def failed(copy: Copy) -> None:
    """A failure that brings numbers."""
    copy.record(put("status", value="failed"))


def other_name(copy: Copy) -> None:
    copy.record(put("predictions", "file", value="other.npz"))


def swapped(copy: Copy) -> None:
    """Two cells with each other's predictions, listed as they are."""
    one, other = copy.path(ARRAYS), copy.path(ARRAYS.replace("seed0", "seed1"))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    copy.list_anew()


def listed_without_predictions(copy: Copy) -> None:
    copy.path(ARRAYS).unlink()
    copy.listing(lambda cell: cell.update(predictions=None))


def claimed(*changes: Callable[[dict[str, Any]], None]) -> Callable[[Copy], object]:
    """A cell without predictions, whose record states something that cannot be shown."""

    def damage(copy: Copy) -> None:
        listed_without_predictions(copy)
        for change in (put("predictions", value=None), *changes):
            copy.record(change)

    return damage


def as_list(copy: Copy) -> None:
    write_json(copy.path(RECORD), [copy.content(RECORD)])
    copy.list_anew()


def reverse(content: dict[str, Any]) -> None:
    one = content["metrics"]["test"]["worst_group"]["worst_group_accuracy"]
    one["low"], one["high"] = one["high"], one["low"]


SETTINGS = [
    Fault("a record cut short", text(lambda old: old[:1000]), RECORD, "found no JSON"),
    Fault("a record that is a list", as_list, RECORD, "found a list"),
    Fault("an unknown field of a record", said("more", value=1), RECORD, "found '1' in more"),
    Fault("a missing field of a record", lambda c: c.record(without("seed")), RECORD, "found nothing in seed"),
    Fault("a newer record", said("schema_version", value=2), RECORD, "expected a schema up to 1, found schema 2"),
    Fault(
        "a record of a schema long ago",
        said("schema_version", value=-(10**12)),
        RECORD,
        "found schema '-1000000000000'",
    ),
    Fault("a record's schema as text", said("schema_version", value="1"), RECORD, "expected a schema from 1 to 1"),
    Fault("a seed as text", said("seed", value="0"), RECORD, "found '0' in seed"),
    Fault("a status that is none", said("status", value="great"), RECORD, "found 'great' in status"),
    Fault(
        "a split of the board's that is shown as another",
        consistent(put("identity", "split", "family", value="phantom/field@1.0")),
        RECORD,
        "found family 'phantom/field@1.0'",
    ),
    Fault(
        "weights of its own at the beginning",
        consistent(
            put("network", "weights_sha256", value="0" * 64),
            put("identity", "network", "weights_sha256", value="0" * 64),
        ),
        RECORD,
        "found a network that begins with weights of its own",
    ),
    Fault(
        "trained on the test set",
        said("training_partitions", value=["train", "test"]),
        RECORD,
        "found a model that was trained on test",
    ),
    Fault("libraries that are a list", said("provenance", "libraries", value=["x"]), RECORD, "found libraries "),
    Fault("another seed", said("seed", value=9), RECORD, "expected seed '0', found seed '9'"),
    Fault("another split", consistent(other_split), RECORD, "found split 'phantom/field@0.8"),
    Fault("a split that is not the board's", off_the_board, RECORD, "found split 'phantom/field@0.5'"),
    Fault("a record of another board", said("board", value="v1"), RECORD, "expected board 'small', found board 'v1'"),
    Fault(
        "an identity of another board",
        consistent(put("identity", "board", value="v1")),
        RECORD,
        "identity of the board",
    ),
    Fault("a record of a draft board", said("board_status", value="draft"), RECORD, "found a record of status 'draft'"),
    Fault(
        "a record on another track", said("track", value="train"), RECORD, "expected track 'none', found track 'train'"
    ),
    Fault("another method", said("method", "name", value="erm"), RECORD, "expected method 'mine', found method 'erm'"),
    Fault("another version", said("method", "version", value=4), RECORD, "expected method version '3'"),
    Fault("another file of the method", said("method", "sha256", value="0" * 64), RECORD, "found method file '000"),
    Fault("another origin", said("method", "origin", value="built-in"), RECORD, "expected origin of the method 'file'"),
    Fault(
        "an identity of another file",
        consistent(put("identity", "method", "sha256", value="0")),
        RECORD,
        "method's file '0'",
    ),
    Fault(
        "a hash of another configuration", said("config_hash", value="0" * 64), RECORD, "found configuration hash '000"
    ),
    Fault(
        "settings beside the identity", said("method", "settings", value={"eta": 1}), RECORD, "identity of the method"
    ),
    Fault("a network beside the identity", said("network", "image_size", value=128), RECORD, "identity of the network"),
    Fault("a budget beside the identity", said("training", "epochs", value=500), RECORD, "identity of the training"),
    Fault("a selection beside the identity", said("selection", value="best"), RECORD, "identity of the selection"),
    Fault("a longer training as the board's", consistent(epochs), RECORD, "found epochs=500, the board has 12"),
    Fault("an engine to come", consistent(put("identity", "engine", value=99)), RECORD, "found engine '99'"),
    Fault(
        "an evaluator of other settings",
        said("evaluators", "ece", "parameters", value={"bins": 2}),
        RECORD,
        "other settings",
    ),
    Fault(
        "an evaluator of another version",
        said("evaluators", "ece", "version", value=9),
        RECORD,
        "found measured by ece v9",
    ),
    Fault(
        "an evaluator that is not there",
        lambda c: c.record(without("evaluators", "ece")),
        RECORD,
        "not measured by ece",
    ),
    Fault("an evaluator without version", said("evaluators", "ece", value={}), RECORD, "without \"'version'\""),
    Fault("a split without a name", consistent(without("identity", "split", "name")), RECORD, "found split 'None'"),
    Fault(
        "forced where not applicable",
        said("degenerate", value=True),
        RECORD,
        "forced where its method is not applicable",
    ),
    Fault("another table", consistent(other_table), RECORD, "found table '000"),
    Fault(
        "an account of another split", said("split", "sha256", value="0" * 64), RECORD, "another split in its account"
    ),
    Fault("a record without account of the data", said("split", value=None), RECORD, "found no account of the data"),
    Fault(
        "other classes", said("split", "classes", value=["no", "yes"]), RECORD, "found classes, attribute and values"
    ),
    Fault(
        "other counts", said("split", "counts", "test", "clear@3T", "patients", value=99), RECORD, "of test. Run on the"
    ),
    Fault(
        "counts of another partition", said("split", "counts", "more", value={}), RECORD, "found counts '{}' of more"
    ),
    Fault(
        "no counts of training",
        lambda c: c.record(without("split", "counts", "train")),
        RECORD,
        "found counts 'None' of train",
    ),
]
NUMBERS = [
    Fault("a metric a little higher", raised(1e-4), RECORD, "as worst_group_accuracy of worst_group on test"),
    Fault("a metric as text", said(*WORST, "value", value="0.5"), RECORD, "found '0.5' as worst_group_accuracy"),
    Fault("a metric that is true", said(*WORST, "value", value=True), RECORD, "found 'True' as worst_group_accuracy"),
    Fault(
        "a metric that is undefined", said(*WORST, "value", value=None), RECORD, "found 'None' as worst_group_accuracy"
    ),
    Fault(
        "a metric of NaN",
        text(lambda old: old.replace('"value":', '"value":NaN,"was":', 1)),
        RECORD,
        "NaN is no number",
    ),
    Fault(
        "a metric beyond floats",
        text(lambda old: old.replace('"value":', '"value":1e999,"was":', 1)),
        RECORD,
        "beyond all",
    ),
    Fault(
        "a metric of a thousand digits",
        said(*WORST, "value", value=10**1000),
        RECORD,
        "found a whole number of 3322 bits",
    ),
    Fault(
        "a metric without parts", said(*WORST, value=0.9), RECORD, "expected value, low, high and reason, found '0.9'"
    ),
    Fault(
        "a metric with more parts",
        said(*WORST, "rank", value=1),
        RECORD,
        "expected value, low, high and reason, found \"{'",
    ),
    Fault("a missing metric", lambda c: c.record(without(*WORST)), RECORD, "'worst_group_accuracy' on one side only"),
    Fault("an invented metric", said(*WORST[:3], "luck", value={"value": 1}), RECORD, "'luck' on one side only"),
    Fault(
        "an invented evaluator", said("metrics", "test", "luck", value={}), RECORD, "found numbers of 'luck' on 'test'"
    ),
    Fault(
        "an invented partition",
        said("metrics", "future", value={"ece": {}}),
        RECORD,
        "found numbers of 'ece' on 'future'",
    ),
    Fault(
        "an evaluator without numbers", lambda c: c.record(without("metrics", "test", "ece")), RECORD, "ece on test: "
    ),
    Fault("other details", said("details", "test", "ece", value={"bins": []}), RECORD, "found details of ece on test"),
    Fault("details that are a number", said("details", "test", "pgd", value=3), RECORD, "found details of pgd on test"),
    Fault(
        "no details", lambda c: c.record(without("details", "test", "ece")), RECORD, "found no details of ece on test"
    ),
    Fault("an interval reversed", lambda c: c.record(reverse), RECORD, "expected low <= high, or neither"),
    Fault("half an interval", said(*WORST, "low", value=None), RECORD, "found '[None, "),
    Fault("an interval of texts", said(*WORST, "low", value="0"), RECORD, "found \"['0', "),
    Fault("a reason that is a book", said(*WORST, "reason", value="x" * 1000), RECORD, "found the reason 'xxx"),
    Fault("a claim that is a list", claimed(put(*WORST, value=[1])), RECORD, "expected a number from 0 to 1"),
    Fault("a claim beyond all", claimed(put(*WORST, "value", value=7)), RECORD, "found '7' as worst_group_accuracy"),
    Fault("a failure with numbers", failed, RECORD, "found metrics of a cell that is failed"),
    Fault("predictions of another name", other_name, RECORD, "found predictions 'other.npz'"),
    Fault("predictions that are not listed", listed_without_predictions, RECORD, "expected no predictions, as"),
    Fault("each other's predictions", swapped, RECORD, "as its predictions give"),
]


FAULTS = [*SETTINGS, *NUMBERS]
