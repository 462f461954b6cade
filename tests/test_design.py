"""Splits whose design has only some groups in a partition: three classes, three values, five groups of nine in the test."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur.cell import verdict
from robustbench_spur.doctor.rows import group_counts, group_findings
from robustbench_spur.doctor.rules import rules
from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.evaluators.pgd import PGD, balanced_subset
from robustbench_spur.evaluators.worst_group import WorstGroup
from robustbench_spur.manifest import Bootstrap
from robustbench_spur.method import Method
from robustbench_spur.plan import make_plan
from robustbench_spur.record import SplitPart, predictions_arrays, read_predictions
from robustbench_spur.scoring import Scorer
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError
from tests.splits.release import stand_in

WHOLE = Groups(("a", "b", "c"), "site", ("x", "y", "z"))
DESIGN = ("a@x", "a@y", "b@y", "b@z", "c@z")
CODES = (0, 1, 4, 5, 8)
RIGHT = {"a@x": "11", "a@y": "10", "b@y": "1110", "b@z": "1", "c@z": "010"}
"""Which examples of a group are right, a digit for each; the accuracies are 1, 1/2, 3/4, 1 and 1/3."""

BOOTSTRAP = Bootstrap(replicates=100, seed=0, confidence=0.95)
PREFIX = {"train": "t", "validation": "v", "test": "e"}
"""Of the ids, by partition."""


class Grouped(Method):
    """Needs every group of the training."""

    every_group_in = ("train",)


def rows_of(prefix: str, sizes: dict[str, int], designed: tuple[int, ...] | None = None) -> Partition:
    """Examples of groups by their names, each of a patient of its own."""
    pairs = [("abc".index(name[0]), "xyz".index(name[2])) for name, size in sizes.items() for _ in range(size)]
    names = np.array([f"{prefix}{i}" for i in range(len(pairs))], np.str_)
    labels, attributes = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    return Partition(names, labels, attributes, names, designed=designed)


def table_of(
    sizes: dict[str, int], designed: tuple[int, ...] | None, tested: dict[str, int] | None = None
) -> SplitTable:
    """The same groups in training and validation; in the test too unless told otherwise."""
    parts = {name: rows_of(prefix, sizes, designed) for name, prefix in PREFIX.items()}
    return SplitTable(WHOLE, parts if tested is None else {**parts, "test": rows_of("e", tested)})


def once(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def codes_of(*names: str) -> tuple[int, ...]:
    return tuple(3 * "abc".index(name[0]) + "xyz".index(name[2]) for name in names)


def predictions(right: dict[str, str], groups: Groups, arrays: dict[str, NDArray[Any]] | None = None) -> Predictions:
    rows = rows_of("e", {name: len(text) for name, text in right.items()})
    good = np.array([digit == "1" for text in right.values() for digit in text])
    said = np.where(good, rows.labels, (rows.labels + 1) % 3)
    logits = np.eye(3, dtype=np.float32)[said]
    return Predictions(rows.ids, rows.labels, rows.attributes, rows.clusters, logits, groups, arrays or {})


# The universe of a partition


def test_a_universe_has_the_designed_groups_in_their_order() -> None:
    some = WHOLE.only(reversed(CODES))
    assert (some.names, len(some), tuple(some.codes)) == (DESIGN, 5, CODES)
    labels, attributes = np.array([2, 0, 1, 0]), np.array([2, 1, 1, 0])
    assert [some.names[g] for g in some.index(labels, attributes)] == ["c@z", "a@y", "b@y", "a@x"]
    assert some.only(None) == WHOLE
    assert WHOLE.only(range(9)).names == WHOLE.names


@pytest.mark.parametrize("wrong", [(), (0, 0), (9,), (-1, 2)])
def test_a_design_of_no_group_or_of_unknown_ones_is_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(SpurbenchError, match="different indices from 0 to 8, at least one, found"):
        WHOLE.only(wrong)
    with pytest.raises(SpurbenchError, match="different indices from 0 to 8"):
        table_of(once(*DESIGN), wrong)


def test_an_example_of_a_group_that_is_not_designed_is_refused_with_its_group_and_partition() -> None:
    with pytest.raises(
        SpurbenchError, match=r"a@x, a@y, b@y, b@z, c@z only, found 2 of others, such as b@x\..*'train'"
    ):
        table_of({**once(*DESIGN), "b@x": 2}, CODES)
    with pytest.raises(SpurbenchError, match="found 3 of others, such as c@x"):
        predictions({**RIGHT, "c@x": "111"}, WHOLE.only(CODES))


def test_the_table_keeps_the_whole_universe() -> None:
    with pytest.raises(SpurbenchError, match="whole universe in a table"):
        SplitTable(WHOLE.only(CODES), table_of(once(*DESIGN), None).partitions)


def test_rows_taken_from_a_partition_keep_its_design() -> None:
    assert rows_of("t", once(*DESIGN), CODES).take(np.array([0, 1])).designed == CODES
    assert rows_of("t", once(*DESIGN)).take(np.array([0])).designed is None


def test_counts_tell_a_group_that_is_left_out_from_an_empty_one() -> None:
    table = table_of(once("a@x", "a@y", "b@y", "b@z"), CODES, once(*WHOLE.names))
    counts = table.counts()
    assert counts["train"]["c@z"] == {"examples": 0, "patients": 0}
    assert counts["train"]["c@x"] == {"examples": 0, "patients": 0, "designed": 0}
    assert [name for name, n in counts["train"].items() if "designed" not in n] == list(DESIGN)
    assert all(n == {"examples": 1, "patients": 1} for n in counts["test"].values())
    assert (table.empty_in("train"), table.empty_in("test")) == (("c@z",), ())


def test_the_hash_changes_with_the_design_alone_and_not_where_none_is_declared() -> None:
    plain, some = table_of(once(*DESIGN), None), table_of(once(*DESIGN), CODES)
    by_hand = "\n".join((*WHOLE.names, "site"))
    for name, prefix in sorted(PREFIX.items()):
        pairs = [divmod(code, 3) for code in CODES]
        rows = "".join(f"{prefix}{i}\t{y}\t{a}\t{prefix}{i}\n" for i, (y, a) in enumerate(pairs))
        by_hand += f"\n{name} {hashlib.sha256(rows.encode()).hexdigest()}"
    assert plain.sha256() == hashlib.sha256(by_hand.encode()).hexdigest()
    for name in sorted(PREFIX):
        by_hand += f"\n{name} designed {' '.join(DESIGN)}"
    assert some.sha256() == hashlib.sha256(by_hand.encode()).hexdigest()
    assert table_of(once(*DESIGN), (*CODES, 2)).sha256() not in (plain.sha256(), some.sha256())


# Numbers


def test_worst_group_and_mean_of_groups_are_over_the_designed_groups() -> None:
    told = predictions(RIGHT, WHOLE.only(CODES))
    point = {name: value[0] for name, value in WorstGroup().measure(told, np.ones((1, 12))).items()}
    assert point["worst_group_accuracy"] == pytest.approx(1 / 3)
    assert point["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 3 / 4 + 1 + 1 / 3) / 5)
    assert point["micro_accuracy"] == pytest.approx(8 / 12)
    assert [name for name in point if name.startswith("group_accuracy:")] == [f"group_accuracy:{g}" for g in DESIGN]
    details = WorstGroup().details(told)
    assert (details["worst_group"], details["worst_group_patients"], details["empty_groups"]) == ("c@z", 3, [])
    assert details["groups_with_examples"] == "5 of 5 groups have examples"
    assert [(row["group"], row["examples"]) for row in details["groups"]] == [
        *zip(DESIGN, (2, 2, 4, 1, 3), strict=True)
    ]
    assert details["confusion"] == [[3, 1, 0], [0, 4, 1], [2, 0, 1]]
    assert WorstGroup().support(told)["balanced_accuracy"] == 1
    other = WorstGroup().cross_check(told)
    assert other["torchmetrics/worst_group_accuracy"] == pytest.approx(1 / 3)
    assert other["torchmetrics/balanced_accuracy"] == pytest.approx(point["balanced_accuracy"])


def test_without_a_design_the_same_predictions_have_four_empty_groups() -> None:
    scored = Scorer(None, BOOTSTRAP).score(WorstGroup(), predictions(RIGHT, WHOLE), "")
    assert scored["worst_group_accuracy"].value is None
    assert scored["worst_group_accuracy"].reason == "4 of 9 declared groups have no examples: a@z, b@x, c@x, c@y"


def test_a_designed_group_that_lost_its_examples_leaves_the_worst_undefined_and_is_named() -> None:
    told = predictions({name: text for name, text in RIGHT.items() if name != "b@z"}, WHOLE.only(CODES))
    scored = Scorer(None, BOOTSTRAP).score(WorstGroup(), told, "")
    for metric in ("worst_group_accuracy", "balanced_accuracy"):
        assert scored[metric].value is None
        assert scored[metric].reason == "1 of 5 declared groups have no examples: b@z"
    assert scored["group_accuracy:c@z"].value == pytest.approx(1 / 3)


def test_an_attack_shares_its_examples_among_the_designed_groups() -> None:
    groups = WHOLE.only(CODES)
    rows = np.sort(balanced_subset(predictions(RIGHT, groups), 10, 0))
    assert np.bincount(predictions(RIGHT, groups).group[rows]).tolist() == [2, 2, 2, 1, 2]
    right = predictions(RIGHT, groups).correct[rows]
    arrays = {"pgd_rows": rows, "pgd_robust": np.stack([right, np.zeros(9, bool)], axis=1).astype(np.uint8)}
    told, pgd = predictions(RIGHT, groups, arrays), PGD(PGD.Parameters(examples=10))
    point = {name: value[0] for name, value in pgd.measure(told, np.ones((1, 12))).items()}
    by_group = [right[told.group[rows] == g].mean() for g in range(5)]
    assert point["pgd_worst_group_accuracy"] == pytest.approx(min(by_group))
    assert point["pgd_worst_group_accuracy:2/255"] == 0


def test_predictions_read_from_a_record_have_the_design_of_their_partition() -> None:
    table = table_of(once(*DESIGN), CODES, once(*WHOLE.names))
    fields: dict[str, Any] = {"name": "made/up", "version": 1, "sha256": "", "fingerprint": "", "pixel_means": {}}
    part = SplitPart(
        **fields, classes=WHOLE.classes, attribute="site", values=WHOLE.values, counts=table.counts(), notes=()
    )
    part = SplitPart.model_validate_json(part.model_dump_json())
    assert part.groups_in("train") == WHOLE.only(CODES)
    assert part.groups_in("test") == part.groups_in("not there") == WHOLE
    arrays = predictions_arrays("train", predictions(RIGHT, WHOLE.only(CODES)))
    assert read_predictions(arrays, part, "train").groups.names == DESIGN
    strange = predictions_arrays("train", predictions({"b@x": "1"}, WHOLE))
    with pytest.raises(SpurbenchError, match="such as b@x"):
        read_predictions(strange, part, "train")


# Verdicts


@pytest.mark.parametrize(
    ("design", "apart"),
    [
        (("a@x", "a@y", "b@y", "b@z", "c@z"), "abc"),  # a chain
        (("a@x", "b@y", "c@z"), "a b c"),  # a value for each class
        (("a@x", "a@y", "b@z"), "a b"),  # no value with two classes, though a class has two
        (("a@x", "a@y", "b@x", "b@y", "c@z"), "ab c"),
        (("a@x", "c@x", "b@y", "b@z"), "ac b"),
        (("a@x", "b@x", "c@x"), "abc"),
        (("a@x", "b@y", "c@z", "c@x", "c@y"), "abc"),  # the last class has all values
    ],
)
def test_classes_that_share_no_value_are_apart(design: tuple[str, ...], apart: str) -> None:
    assert WHOLE.only(codes_of(*design)).apart() == tuple(tuple(one) for one in apart.split())


def test_a_connected_design_is_applicable_and_what_it_leaves_out_is_not_asked_for() -> None:
    assert verdict(Grouped, table_of(once(*DESIGN), CODES)) == ""
    assert verdict(Grouped, table_of(once(*DESIGN), None)) == (
        "groups a@z and b@x and c@x and c@y have no training patients"
    )
    lacking = table_of(once(*DESIGN[:-1]), CODES, once(*WHOLE.names))
    assert verdict(Grouped, lacking) == "group c@z has no training patients"


@pytest.mark.parametrize(
    ("design", "reason"),
    [
        (("a@x", "b@y", "c@z"), "site tells a from b from c without exception in training"),
        (("a@x", "a@y", "b@z", "c@z"), "site tells a from b and c without exception in training"),
        (("a@x", "b@x", "c@x"), "all classes have one site in training: its groups are the classes"),
    ],
)
def test_a_design_in_which_weights_can_change_nothing_is_not_applicable(design: tuple[str, ...], reason: str) -> None:
    assert verdict(Grouped, table_of(once(*design), codes_of(*design))) == f"by design, {reason}"


def test_nothing_is_inferred_where_no_design_is_declared() -> None:
    """Two of three values unused, or a perfect tie: still gaps, named as they always were."""
    assert verdict(Grouped, table_of(once("a@x", "b@y", "c@z"), None)).startswith("groups a@y and a@z and b@x")
    complete = SplitTable(Groups(("a", "b"), "site", ("x",)), table_of(once("a@x", "b@x"), None).partitions)
    assert verdict(Grouped, complete) == ""


def test_the_released_field_stays_not_applicable_for_its_gaps(tmp_path: Path) -> None:
    table = stand_in(tmp_path).table("field_strength", None)
    assert all(part.designed is None for part in table.partitions.values())
    empty = [group for group, n in table.counts()["train"].items() if not n["examples"]]
    assert len(empty) == 2
    assert verdict(Grouped, table) == f"groups {' and '.join(empty)} have no training patients"


# Plans


MADE_UP = '''
"""Three classes at three places, not all everywhere."""
import numpy as np
from robustbench_spur import Dataset, Groups, Partition, SplitTable


class MadeUp(Dataset):
    """Grey images."""

    name = "madeup"
    version = 1
    summary = "a design with gaps"
    splits = {"whole": "every designed group", "lost": "validation lacks one"}
    embedded = True
    image_size = 16

    def table(self, split, rho):
        """Three images per group."""
        parts = {}
        for name in ("train", "validation", "test"):
            lost = split == "lost" and name == "validation"
            codes = np.repeat(np.array(CODES[:-1] if lost else CODES), 3)
            ids = np.array([f"{name}{n}" for n in range(len(codes))])
            parts[name] = Partition(ids, codes // 3, codes % 3, ids, designed=CODES)
        return SplitTable(Groups(("a", "b", "c"), "site", ("x", "y", "z")), parts)

    def pixels(self, split, partition, size):
        """One block."""
        yield np.full((len(partition), 1, size, size), 128, np.uint8)
'''


@pytest.mark.parametrize("design", [CODES, codes_of("a@x", "b@y", "c@z")])
def test_a_rule_that_chooses_by_groups_asks_for_the_designed_ones(
    request_for: Any, tmp_path: Path, design: tuple[int, ...]
) -> None:
    """A tied design is no reason to refuse: to choose by the groups in which training's shortcut fails is its use."""
    place = tmp_path / "madeup.py"
    place.write_text(MADE_UP.replace("CODES", str(design)), encoding="utf-8")
    changes = {"split_settings": {}, "plugin_files": (place,), "selection": "worst_of_groups"}
    (cell,) = make_plan(request_for(splits="madeup/whole", **changes)).cells
    assert (cell.reason, cell.error) == ("", None)
    with pytest.raises(SpurbenchError, match=r"every group in validation of madeup/lost .* found none of c@z\."):
        make_plan(request_for(splits="madeup/lost", **changes))


# The doctor


def test_the_doctor_asks_for_designed_groups_only() -> None:
    tested = {"a@x": 6, "a@y": 6, "b@y": 6, "b@z": 2}
    rows = {"train": rows_of("t", once("a@x", "b@z", "c@z"), CODES), "test": rows_of("e", tested, CODES)}
    counts = group_counts(rows, WHOLE)
    assert len(counts) == 18
    assert [cell.group for cell in counts if cell.designed and cell.partition == "test"] == list(DESIGN)
    assert {one.code: (one.severity, one.examples) for one in group_findings(counts)} == {
        "empty_test_group": ("fault", ("test c@z",)),
        "empty_group": ("warning", ("train a@y", "train b@y")),
        "few_patients": ("warning", ("test b@z (2)",)),
    }


def test_the_doctor_finds_slices_where_the_design_has_none() -> None:
    rows = {"test": rows_of("e", dict.fromkeys((*DESIGN, "c@x"), 5), CODES)}
    (found,) = group_findings(group_counts(rows, WHOLE))
    assert (found.severity, found.code, found.examples) == ("fault", "group_not_designed", ("test c@x (5)",))


def test_rules_are_scored_by_the_designed_groups() -> None:
    """At x and y the rule of the site says a, at z it says b: right in a@x, a@y and b@z, wrong in b@y and c@z."""
    train = rows_of("t", {"a@x": 3, "a@y": 3, "b@y": 1, "b@z": 3, "c@z": 1}, CODES)
    rows = {"train": train, "test": rows_of("e", once(*DESIGN), CODES)}
    (by_site,) = (rule for rule in rules(rows, WHOLE) if rule.name == "attribute")
    assert [score.group_balanced_accuracy for score in by_site.scores] == pytest.approx([3 / 5, 3 / 5])
    fewer = {**rows, "test": rows_of("e", once(*DESIGN[:-1]), CODES)}
    (by_site,) = (rule for rule in rules(fewer, WHOLE) if rule.name == "attribute")
    assert by_site.scores[1].group_balanced_accuracy is None
