"""What a column costs: a split is drawn from real files, a model trained, and the numbers are those of its predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from robustbench_spur.api import Quiet
from robustbench_spur.curation.damage import Damage, difference, folder_name, measure
from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.curation.images import list_images
from robustbench_spur.curation.pool import Pool, choose
from robustbench_spur.home import Home
from robustbench_spur.manifest import load_manifest
from robustbench_spur.phantom.cohort import plan_slices
from robustbench_spur.phantom.render import Slices, render
from robustbench_spur.record import RecordStore, read_predictions
from robustbench_spur.registry import Registry
from robustbench_spur.splitref import parse_split
from robustbench_spur.types import Estimate, SpurbenchError
from tests.conftest import TINY_SIZE, TINY_TRAINING

COUNT, EACH, NAME = 64, 2, "Feldst\u00e4rke (T)"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Phantom patients whose field strength agrees with the label in 26 of 32 per class."""
    root = tmp_path_factory.mktemp("pool")
    label, within = np.arange(COUNT) % 2, np.arange(COUNT) // 2
    low = np.where(within < 6, 1 - label, label)
    plan = plan_slices(5, np.arange(COUNT), label * EACH, (1 - label) * EACH)
    fields = np.where(low[plan.row] == 1, 1.5, 3.0)
    slices = Slices(plan.row, plan.z, fields, np.zeros(len(plan.row), np.bool_))
    names = [f"P\u00e4tient {number:02d}" for number in range(COUNT)]
    for number, (row, image) in enumerate(zip(plan.row.tolist(), render(5, slices, TINY_SIZE), strict=True)):
        (root / "images" / names[row]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "images" / names[row] / f"{number:03d}.png")
    field = Column(NAME, np.where(low == 1, 1.5, 3.0).astype(object), "numeric")
    rare = Column("rare", np.array(["x", "y", *"z" * (COUNT - 2)], dtype=object), "categorical")
    (root / "made.csv").write_text("of the features")
    table = FeatureTable(root / "made.csv", np.array(names, dtype=object), (field, rare), COUNT)
    there = list_images(root / "images", names)
    labels = dict(zip(names, label.tolist(), strict=True))
    return Pool(table, (root / "made.csv",), ("clear", "tumour"), labels, there)


@pytest.fixture
def ask(request_for: Ask, tmp_path: Path) -> Ask:
    """Measures a column with a tiny budget, in the test's home."""

    def ask(pool: Pool, name: str = NAME, **changes: Any) -> Damage:
        changes = {"methods": (), "splits": (), "split_settings": {}, "settings": TINY_TRAINING, **changes}
        request = request_for(**changes)
        return measure(pool, name, tmp_path / "splits", request, load_manifest(request.board), Quiet())

    return ask


# The whole way


def test_the_numbers_are_those_of_the_predictions(pool: Pool, ask: Ask, home: Home, tmp_path: Path) -> None:
    found = ask(pool, seeds=(3, 4), settings={"epochs": 6, "batch_size": 8})
    assert (found.column, found.values, found.reason) == (NAME, ("3", "1.5"), "")
    assert (found.split, found.folder) == ("curated/linked@1.0", tmp_path / "splits" / folder_name(NAME))
    assert found.patients == {"train": 32, "validation": 8, "test": 24}
    (record,) = RecordStore(home.records, home.predictions)
    assert (record.method.name, record.seed, list(record.evaluators)) == ("erm", 3, ["worst_group"])
    arrays = RecordStore(home.records, home.predictions).arrays(record)
    assert record.split is not None
    rows = {name: read_predictions(arrays, record.split, name) for name in ("validation", "test")}
    right = {name: part.logits.argmax(axis=1) == part.labels for name, part in rows.items()}
    assert found.validation.value == pytest.approx(right["validation"].mean())
    assert found.test.value == pytest.approx(right["test"].mean())
    assert found.fall.value == pytest.approx(right["validation"].mean() - right["test"].mean())
    test, names = rows["test"], record.split
    groups = {
        f"{names.classes[y]}@{names.values[a]}": right["test"][(test.labels == y) & (test.attributes == a)]
        for y in (0, 1)
        for a in (0, 1)
    }
    assert {len(group) for group in groups.values()} == {6 * EACH}
    assert found.worst.value == pytest.approx(min(group.mean() for group in groups.values()))
    assert groups[found.worst_group].mean() == pytest.approx(found.worst.value)
    assert (rows["validation"].labels == rows["validation"].attributes).all(), "tied"


def test_it_is_json_and_names_no_place(pool: Pool, ask: Ask) -> None:
    told = json.loads(json.dumps(ask(pool).as_dict(), allow_nan=False))
    assert told["folder"] == folder_name(NAME)
    assert told["values"] == ["3", "1.5"]
    assert told["fall"].keys() >= {"value", "low", "high"}
    nothing = json.loads(json.dumps(ask(pool, "rare").as_dict(), allow_nan=False))
    assert (nothing["folder"], nothing["patients"], nothing["fall"]["value"]) == (None, None, None)


def test_the_split_can_be_run_again(pool: Pool, ask: Ask) -> None:
    """It lies there as any drawn split: the patients that were chosen, the names of the levels, the tie that was asked for."""
    found = ask(replace(pool, rho=0.9), settings={"epochs": 1})
    assert found.split == "curated/linked@0.9"
    table = parse_split(found.split, Registry()).open(found.folder).table
    assert (table.groups.attribute, table.groups.values, table.groups.classes) == (NAME, ("3", "1.5"), pool.classes)
    assert [group["patients"] for group in table.counts()["train"].values()] == [11, 1, 1, 11]
    codes = choose(replace(pool, rho=0.9), NAME).codes
    for part in table.partitions.values():
        patients = part.clusters.tolist()
        assert [pool.labels[patient] for patient in patients] == part.labels.tolist()
        assert [codes[patient] for patient in patients] == part.attributes.tolist()


# No numbers


def test_a_column_without_support_has_a_reason_and_no_split(pool: Pool, ask: Ask, tmp_path: Path) -> None:
    found = ask(pool, "rare")
    assert found == Damage("rare", reason="fewer than two levels have patients of both classes")
    assert not (tmp_path / "splits").exists()
    few = replace(pool, labels=dict(list(pool.labels.items())[:20]))
    assert "a split at rho 1 needs 5 patients" in ask(few).reason


def test_a_failed_training_has_a_reason(pool: Pool, ask: Ask, tmp_path: Path) -> None:
    found = ask(pool)
    assert found.folder is not None
    with (found.folder / "rows-1.0.csv").open(encoding="utf-8", newline="") as stream:
        last = [row["file"] for row in csv.DictReader(stream) if row["partition"] == "test"][-1]
    (damaged,) = (path for _, path in pool.images.items if path.as_posix().endswith(last))
    content = damaged.read_bytes()
    try:
        damaged.write_bytes(content[:-20])
        failed = ask(pool, home=Home(tmp_path / "other"))
    finally:
        damaged.write_bytes(content)
    assert failed.reason.startswith("the training ended as failed: ")
    assert damaged.name in failed.reason
    assert (failed.split, failed.folder, failed.values) == (found.split, found.folder, found.values)
    assert failed.test == failed.fall == failed.worst == Estimate(None)


def test_another_split_in_the_folder_is_refused(pool: Pool, ask: Ask) -> None:
    ask(pool)
    with pytest.raises(SpurbenchError, match="Expected an empty folder or this split"):
        ask(replace(pool, seed=1))


def test_a_column_that_is_not_there_is_told(pool: Pool, ask: Ask) -> None:
    with pytest.raises(SpurbenchError, match="Expected a column 'ward'"):
        ask(pool, "ward")


# Names of folders


@pytest.mark.parametrize("other", ["te/ms", "TE (ms)", "te_ms", "te-ms ", "te--ms"])
def test_columns_of_like_names_have_folders_of_their_own(other: str) -> None:
    assert folder_name("te-ms") == "te-ms"
    assert folder_name(other).casefold() != "te-ms"
    assert folder_name(other) == folder_name(other)


@pytest.mark.parametrize("name", ["../../up", "a/b\\c", "x" * 300, "\u00c4 \u4e2d", "?", ".", "CON:"])
def test_any_name_makes_one_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / folder_name(name)).mkdir()
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]
    assert len(folder_name(name)) < 80


# The interval of a difference


def wilson(right: int, of: int) -> Estimate:
    interval = binomtest(right, of).proportion_ci(method="wilson")
    return Estimate(right / of, float(interval.low), float(interval.high))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_the_difference_is_that_of_published_examples(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]
) -> None:
    """R. Newcombe, Statistics in Medicine 17, 1998, table II, method 10: the same rule on Wilson's intervals."""
    found = difference(wilson(*first), wilson(*second))
    assert found.value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (found.low, found.high) == pytest.approx(expected, abs=6e-5)


def test_what_is_not_known_of_one_is_not_known_of_the_difference() -> None:
    known, alone = Estimate(0.9, 0.8, 0.95), Estimate(0.5, reason="no interval: one value")
    assert difference(known, alone) == Estimate(0.4, reason="no interval: one value")
    nothing = Estimate(None, reason="no examples")
    assert difference(known, nothing) == difference(nothing, known) == Estimate(None, reason="no examples")
