"""The groups that a challenge has by design: declared as published, run end to end, shown, and judged."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import robustbench_spur as rs
from robustbench_spur import manifest
from robustbench_spur.board import Board, Row, build_board
from robustbench_spur.cell import verdict
from robustbench_spur.doctor.rows import group_counts, group_findings
from robustbench_spur.protocols import apply, parse_protocol
from robustbench_spur.record import RecordStore
from robustbench_spur.registry import Registry
from robustbench_spur.splits.challenges import CHALLENGES, designed, shares
from robustbench_spur.types import Partition, SplitTable
from tests.page.reading import parse, results, rows_of
from tests.splits.breeds import (
    CLASSES,
    MANY_TO_MANY,
    ONE_TO_ONE,
    cells_of,
    dataset,
    expected,
    photograph,
    write,
)

SPLIT = "spawrious/o2o_easy[limit=10]"
TRAINED = [
    "bulldog@desert",
    "bulldog@beach",
    "corgi@snow",
    "corgi@beach",
    "dachshund@jungle",
    "dachshund@beach",
    "labrador@dirt",
    "labrador@beach",
]
TESTED = ["bulldog@dirt", "corgi@jungle", "dachshund@snow", "labrador@desert"]
"""Groups of ``o2o_easy``, in index order."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten different images per folder of ``o2o_easy``; only for reading."""
    root = tmp_path_factory.mktemp("photographs")
    write(root, cells_of("o2o_easy"), 10, "isis_prompt_{prompt}_{number}.png", photograph(0))
    for seed, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(photograph(seed, 16))
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty empty files in each folder of all challenges; only for reading."""
    root = tmp_path_factory.mktemp("whole")
    write(root, cells_of(*ONE_TO_ONE, *MANY_TO_MANY), 30, "isis_prompt_{prompt}_{number}.png")
    return root


def table_of(root: Path, split: str, protocol: str = "") -> SplitTable:
    table = dataset(root, limit=30).table(split, None)
    return apply(table, parse_protocol(protocol, split)[0]) if protocol else table


def judged(name: str, table: SplitTable) -> str:
    return verdict(Registry().find("method", name).load(), table)


# Declared


@pytest.mark.parametrize("split", [*ONE_TO_ONE, *MANY_TO_MANY])
def test_the_declared_groups_are_those_of_the_published_table(whole: Path, split: str) -> None:
    table, published = table_of(whole, split), expected(split)
    trained = {f"{breed}@{location}" for environment, _, location, breed in published if environment < 2}
    tested = {f"{breed}@{location}" for environment, _, location, breed in published if environment == 2}
    assert not trained & tested
    assert (len(trained), len(tested)) == (8, 4 if split in ONE_TO_ONE else 8)
    for name, groups in (("train", trained), ("validation", trained), ("test", tested)):
        assert set(table.groups_in(name).names) == groups
    assert len(table.groups) == 24
    train, test = shares(CHALLENGES[split], 30)
    assert (len(designed(train)), len(designed(test))) == (len(trained), len(tested))
    assert f"By design 8 of the 24 groups are in training and validation, and {len(tested)} others in the" in str(
        table.notes
    )


def test_the_declaration_is_part_of_the_tables_identity(whole: Path) -> None:
    table = table_of(whole, "o2o_easy")
    bare = {
        name: Partition(part.ids, part.labels, part.attributes, part.clusters)
        for name, part in table.partitions.items()
    }
    assert SplitTable(table.groups, bare).sha256() != table.sha256()
    assert {name: part.digest() for name, part in bare.items()} == {
        name: part.digest() for name, part in table.partitions.items()
    }


# Judged


@pytest.mark.parametrize("split", ONE_TO_ONE)
def test_where_classes_share_a_location_a_method_of_groups_is_applicable(whole: Path, split: str) -> None:
    assert judged("groupdro", table_of(whole, split)) == ""


@pytest.mark.parametrize("split", MANY_TO_MANY)
def test_where_the_location_tells_the_pair_it_is_not(whole: Path, split: str) -> None:
    """Both locations of a pair have both its classes, yet no weight on the eight groups parts pair and location."""
    assert judged("groupdro", table_of(whole, split)) == (
        "by design, location tells bulldog and dachshund from corgi and labrador without exception in training"
    )
    assert judged("erm", table_of(whole, split)) == judged("jtt", table_of(whole, split)) == ""


def test_a_designed_group_that_lost_its_images_is_named(whole: Path) -> None:
    table = table_of(whole, "o2o_easy")
    rows = table.partitions["train"]
    lost = ~((rows.labels == 1) & (rows.attributes == 5))
    fewer = SplitTable(table.groups, {**table.partitions, "train": rows.take(lost)})
    assert judged("groupdro", fewer) == "group corgi@beach has no training patients"


def test_a_fold_of_the_test_in_training_makes_the_location_speak_less(whole: Path) -> None:
    """Joined, the design is what both have: every class at three locations, or at all four of the pairs."""
    for split, count in (("o2o_easy", 12), ("m2m_easy", 16)):
        joined = table_of(whole, split, "join.0")
        base = table_of(whole, split)
        both = {*base.groups_in("train").names, *base.groups_in("test").names}
        assert set(joined.groups_in("train").names) == both
        assert (len(both), judged("groupdro", joined)) == (count, "")


def test_a_test_fold_ties_each_class_to_one_location_as_adapt(whole: Path) -> None:
    assert judged("dfr", table_of(whole, "o2o_easy")) == "the split has no adapt partition"
    assert judged("dfr", table_of(whole, "o2o_easy", "carve.0")) == (
        "by design, location tells bulldog from corgi from dachshund from labrador without exception in adapt"
    )
    carved = table_of(whole, "o2o_easy", "carve.0")
    assert [list(carved.groups_in(name).names) for name in ("adapt", "selection", "test")] == [TESTED] * 3


# Examined


def test_the_doctor_finds_no_fault_in_a_sound_copy(photographs: Path, spurbench: Any, home: Any) -> None:
    command = ["data", "check", "spawrious/o2o_easy", "--data", f"spawrious={photographs}", "--split-set", "limit=10"]
    ended = spurbench(*command, "--json")
    (report,) = ended.rows
    assert (ended.code, report["faults"]) == (0, 0)
    assert {one["code"] for one in report["findings"]} <= {"empty_group"}  # of the validation, which is 16 images here
    own = {(cell["partition"], cell["group"]) for cell in report["groups"] if cell["designed"]}
    assert own == {(name, group) for name in ("train", "validation") for group in TRAINED} | {
        ("test", group) for group in TESTED
    }
    assert not [name for name in report["empty_groups"] if not name.startswith("validation ")]
    (majority,) = (rule for rule in report["rules"] if rule["name"] == "majority")
    assert majority["scores"][2]["group_balanced_accuracy"] == 0.25
    plain = spurbench(*command)
    assert (plain.code, "no fault found" in plain.out) == (0, True)
    described = spurbench("data", "describe", *command[2:])
    for out in (plain.out, described.out):
        cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if re.match(r" *\w+@", line)}
        assert sorted(cells) == sorted((*TRAINED, *TESTED))
        assert cells["bulldog@dirt"] == ["-", "-", "20", "(9)"]
        assert cells["bulldog@desert"][-1] == "-"


def test_the_doctor_names_a_designed_group_of_the_test_that_is_gone(photographs: Path) -> None:
    table = dataset(photographs, limit=10).table("o2o_easy", None)
    rows = table.partitions["test"]
    fewer = {"test": rows.take(rows.labels != 1)}
    found = [one for one in group_findings(group_counts(fewer, table.groups)) if one.severity == "fault"]
    assert [(one.code, one.examples) for one in found] == [("empty_test_group", ("test corgi@jungle",))]


# Run and shown


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a board whose only split is the stand-in's."""
    content = json.loads((manifest.boards_folder() / "v1" / "board.json").read_text())
    setup = {**content["setups"]["phantom"], "image_size": 16}
    setup["training"] = {**setup["training"], "epochs": 1, "batch_size": 16}
    content |= {"board": "dogs", "seeds": [0], "setups": {"spawrious": setup}}
    content["splits"] = [{"name": SPLIT, "version": 1, "sha256": None}]
    place = tmp_path / "boards" / "dogs"
    place.mkdir(parents=True)
    (place / "board.json").write_text(json.dumps(content))
    monkeypatch.setattr(manifest, "boards_folder", lambda: tmp_path / "boards")
    manifest.load_manifest.cache_clear()
    yield "dogs"
    manifest.load_manifest.cache_clear()


def ran(photographs: Path, home: Any, board: str) -> list[Row]:
    """The rows of ERM and GroupDRO on the stand-in."""
    for method in ("erm", "groupdro"):
        (record,) = rs.run(
            method,
            "spawrious/o2o_easy",
            board=board,
            data={"spawrious": photographs},
            split_settings={"limit": 10},
            device="cpu",
        )
        assert record.status == "done", (record.reason, record.error)
        assert record.off_board == ()
    return build_board(home, manifest.load_manifest(board)).rows


def right_of(row: Row, home: Any) -> dict[str, list[bool]]:
    """Whether the largest logit is the true class's, by group, read from the file of predictions."""
    (record,) = row.records
    arrays = RecordStore(home.records, home.predictions).arrays(record)
    found: dict[str, list[bool]] = {}
    for name, logits in zip(arrays["test/ids"].tolist(), arrays["test/logits"].tolist(), strict=True):
        _, location, breed, _ = name.split("/")
        found.setdefault(f"{breed}@{location}", []).append(CLASSES[logits.index(max(logits))] == breed)
    return found


def test_methods_run_into_ranked_rows_with_a_worst_group_and_a_page(photographs: Path, home: Any, board: str) -> None:
    rows = ran(photographs, home, board)
    assert {row.first.method.name: row.status for row in rows} == {"erm": "ranked", "groupdro": "ranked"}
    for row in rows:
        right = {group: sum(one) / len(one) for group, one in sorted(right_of(row, home).items())}
        assert list(right) == sorted(TESTED)
        by_group = row.values["group_accuracies"]
        assert {group: one["value"] for group, one in by_group.items()} == pytest.approx(right)
        assert row.values["worst_group_accuracy"].value == pytest.approx(min(right.values()))
        assert right[row.values["worst_group"]] == min(right.values())
        assert row.values["balanced_accuracy"].value == pytest.approx(sum(right.values()) / 4)
        assert row.rank == 1
        (record,) = row.records
        own = record.metrics["test"]["worst_group"]
        assert own["worst_group_accuracy"]["value"] == pytest.approx(min(right.values()))
        assert [one["group"] for one in record.details["test"]["worst_group"]["groups"]] == TESTED
        attacked = record.details["test"]["pgd"]["groups"]
        assert [(one["group"], one["examples"]) for one in attacked] == [(group, 20) for group in TESTED]
        assert row.values["pgd_worst_group_accuracy"].value is not None
    root = parse(Board(manifest.load_manifest(board), rows))
    for line in rows_of(results(root)):
        assert re.search(rf"({'|'.join(TESTED)}), 9 patients", line.children[2].text)
    lines = [[cell.text for cell in line.children] for line in root.one("table", "groups").one("tbody").all("tr")]
    assert sorted(line[0] for line in lines) == sorted((*TRAINED, *TESTED))
    assert {line[3] for line in lines if line[0] in TRAINED} == {"– none by design"}
    assert {line[3].split()[0] for line in lines if line[0] in TESTED} == {"20"}
    (chart,) = (table for table in root.all("table", "numbers") if table.all("caption")[0].text == "Accuracy by group")
    assert [head.text for head in chart.all("th") if head.attributes["scope"] == "col"] == [
        "method",
        *(f"{group}, %" for group in TESTED),
    ]
