"""Records are written whole, kept for ever, and refused when anybody has touched them."""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import multiprocessing
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from robustbench_spur.evaluators.base import Predictions
from robustbench_spur.provenance import LIBRARIES, provenance
from robustbench_spur.record import (
    SCHEMA_VERSION,
    PredictionsPart,
    Record,
    RecordStore,
    predictions_arrays,
    read_predictions,
)
from robustbench_spur.store import write_arrays
from robustbench_spur.types import SpurbenchError
from tests.records import GROUPS, drawn, make_identity, make_predictions, make_record, right


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records", tmp_path / "predictions")


def content_of(record: Record) -> dict[str, Any]:
    content: dict[str, Any] = record.model_dump(mode="json")
    return content


def plant(store: RecordStore, text: str | bytes) -> Path:
    """A file whose name holds the right hash, whatever it says."""
    raw = text.encode() if isinstance(text, str) else text
    path = store.records / f"plain-{hashlib.sha256(raw).hexdigest()[:24]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def refused(store: RecordStore, path: Path) -> str:
    with pytest.raises(SpurbenchError) as error:
        store.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


# Writing and reading


def test_a_record_comes_back_as_it_was_and_its_hash_is_in_its_name(store: RecordStore) -> None:
    record = make_record(
        metrics={"test": {"worst_group": {"m": {"value": 0.5, "low": None, "high": None}}}}, notes={"ü": 1}
    )
    path = store.add(record)
    assert path.name == f"plain-{hashlib.sha256(path.read_bytes()).hexdigest()[:24]}.json"
    assert store.read(path) == record
    assert list(store) == [record]
    assert json.loads(path.read_text(encoding="utf-8"))["schema_version"] == SCHEMA_VERSION


def test_an_equal_record_is_one_file_and_another_is_two(store: RecordStore) -> None:
    assert store.add(make_record()) == store.add(make_record())
    assert store.add(make_record(seed=1)) != store.add(make_record())
    assert len(list(store.records.iterdir())) == 2


def test_records_come_oldest_first(store: RecordStore) -> None:
    times = [f"2026-01-0{day}T00:00:00.000+00:00" for day in (1, 2, 3)]
    for day in (2, 0, 1):
        store.add(make_record(finished=times[day], status="failed" if day == 2 else "done"))
    store.add(make_record(seed=1, finished=times[0]))
    assert [record.finished for record in store] == [times[0], times[0], times[1], times[2]]


def test_a_home_without_records_is_empty(store: RecordStore) -> None:
    assert list(store) == []


# What makes two cells comparable


def test_the_configuration_is_all_but_the_seed() -> None:
    base = make_identity()
    others = [
        make_identity("other"),
        make_identity(method={"version": 2}),
        make_identity(method={"settings": {"eta": 0.1}}),
        make_identity(method={"sha256": "of a draft"}),
        make_identity(split={"name": "phantom/field@1.0"}),
        make_identity(split={"version": 2}),
        make_identity(split={"sha256": "another table"}),
        make_identity(network={"backbone": "resnet18"}),
        make_identity(network={"image_size": 128}),
        make_identity(network={"pretrained": True}),
        make_identity(network={"weights_sha256": "of a file"}),
        make_identity(training={"epochs": 3}),
        make_identity(selection="validation_accuracy"),
        make_identity(board="t2"),
    ]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 1 + len(others)
    assert make_identity().sha256 == base.sha256
    assert make_record(seed=0).config_hash == make_record(seed=1).config_hash


# What is refused in a file


def test_a_changed_file_is_refused(store: RecordStore) -> None:
    path = store.add(make_record())
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert refused(store, path).endswith(
        "was changed after it was written: its name does not match its content. Remove it."
    )
    with pytest.raises(SpurbenchError, match="was changed after it was written"):
        list(store)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_truncated_file_is_refused(store: RecordStore, cut: int) -> None:
    path = store.add(make_record())
    path.write_bytes(path.read_bytes()[:cut])
    assert "was changed after it was written" in refused(store, path)


@pytest.mark.parametrize("name", ["plain.json", "copy of it.json"])
def test_a_renamed_file_is_refused(store: RecordStore, name: str) -> None:
    path = store.add(make_record())
    assert "does not match its content" in refused(store, path.rename(path.with_name(name)))


def test_a_newer_schema_is_refused_even_where_nothing_else_is_understood(store: RecordStore) -> None:
    path = plant(store, json.dumps({"schema_version": SCHEMA_VERSION + 1, "novelty": 1}))
    assert refused(store, path) == (
        f"{path} has schema {SCHEMA_VERSION + 1}, this version reads up to {SCHEMA_VERSION}. Upgrade robustbench-spur."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "found no JSON: Expecting property name"),
        (b"\xff\xfe\x00", "found no JSON: "),
        ('{"schema_version": NaN}', "found no JSON: NaN is no number of JSON"),
        ("[]", "found in it: Input should be "),
        ("3", "found in it: Input should be "),
        ('{"schema_version": "one"}', "found in schema_version: Input should be a valid integer"),
        ("{}", "found in status: Field required"),
    ],
)
def test_what_is_no_record_is_refused(store: RecordStore, text: str | bytes, expected: str) -> None:
    assert expected in refused(store, plant(store, text))


def test_unknown_and_missing_fields_are_refused_and_named(store: RecordStore) -> None:
    content = content_of(make_record())
    assert "found in more: Extra inputs" in refused(store, plant(store, json.dumps({**content, "more": 1})))
    method = {**content["method"], "more": 1}
    assert "found in method.more: Extra" in refused(store, plant(store, json.dumps({**content, "method": method})))
    del content["seed"]
    assert "found in seed: Field required" in refused(store, plant(store, json.dumps(content)))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_record_holds_what_json_has_no_word_for(store: RecordStore, number: float) -> None:
    with pytest.raises(ValidationError):
        make_record(cost={"wall_seconds": number})
    path = store.add(make_record(details={"test": {"mine": {"curve": [0.5, number]}}}, history=[{"loss": number}]))
    assert store.read(path).details == {"test": {"mine": {"curve": [0.5, None]}}}
    assert store.read(path).history == [{"loss": None}]
    text = json.dumps(content_of(make_record()) | {"notes": {"loss": number}})
    assert f"{json.dumps(number)} is no number of JSON" in refused(store, plant(store, text))


def test_values_that_are_not_json_are_refused(store: RecordStore) -> None:
    with pytest.raises(SpurbenchError, match="Expected numbers, texts, lists and None in the record of plain"):
        store.add(make_record(details={"test": {"mine": {"n": np.arange(3)}}}))
    assert not list(store.records.glob("**/*"))


# Predictions


def test_predictions_come_back_as_they_were_without_the_data_set(store: RecordStore) -> None:
    told = make_predictions(drawn((0.9, 0.2, 0.5, 0.7)))
    told = Predictions(
        told.ids,
        told.labels,
        told.attributes,
        told.clusters,
        told.logits,
        GROUPS,
        {"rows": np.arange(5), "robust": np.eye(2)},
    )
    part = store.add_predictions("c" * 64, {**predictions_arrays("test", told), **predictions_arrays("train", told)})
    record = make_record(predictions=part)
    assert record.split is not None
    found = read_predictions(store.arrays(record), record.split, "test")
    for name in ("ids", "labels", "attributes", "clusters", "logits"):
        assert getattr(found, name).dtype == getattr(told, name).dtype
        assert (getattr(found, name) == getattr(told, name)).all()
    assert found.groups == GROUPS
    assert {name: array.tolist() for name, array in found.arrays.items()} == {
        "rows": [0, 1, 2, 3, 4],
        "robust": [[1, 0], [0, 1]],
    }
    with pytest.raises(SpurbenchError, match=r"Expected predictions on 'adapt' of .*, found no ids"):
        read_predictions(store.arrays(record), record.split, "adapt")


def test_predictions_are_added_and_never_replaced(store: RecordStore) -> None:
    one = predictions_arrays("test", make_predictions(right("11", "10", "01", "00")))
    two = predictions_arrays("test", make_predictions(right("11", "11", "01", "00")))
    first, second = store.add_predictions("c" * 64, one), store.add_predictions("c" * 64, two)
    before = (store.predictions / first.file).stat().st_mtime_ns
    assert store.add_predictions("c" * 64, one) == first
    assert first != second
    assert sorted(path.name for path in store.predictions.iterdir()) == sorted([first.file, second.file])
    assert store.arrays(make_record(predictions=first))["test/logits"].tolist() == one["test/logits"].tolist()
    assert before <= (store.predictions / first.file).stat().st_mtime_ns


def test_predictions_with_python_objects_are_refused_and_leave_nothing(store: RecordStore) -> None:
    with pytest.raises(TypeError, match="holds Python objects"):
        store.add_predictions("c" * 64, {"test/ids": np.array(["a", None])})
    assert not list(store.predictions.glob("**/*"))


def test_missing_and_changed_predictions_are_refused(store: RecordStore) -> None:
    part = store.add_predictions("c" * 64, predictions_arrays("test", make_predictions(right("1", "0", "1", "1"))))
    record, path = make_record(predictions=part), store.predictions / part.file
    write_arrays(path, {"test/ids": np.array(["other"])})
    with pytest.raises(
        SpurbenchError, match=f"{path} was changed after it was written. Run the cell again with --again"
    ):
        store.arrays(record)
    path.unlink()
    with pytest.raises(SpurbenchError, match=f"Expected predictions at {path}, found none. Run the cell again"):
        store.arrays(record)
    with pytest.raises(SpurbenchError, match=r"record of plain on .* has no predictions"):
        store.arrays(make_record())


@pytest.mark.parametrize("file", ["../outside.npz", "/etc/passwd", "a/b.npz", "", ".hidden"])
def test_a_record_cannot_point_out_of_the_folder_of_predictions(file: str) -> None:
    with pytest.raises(ValidationError):
        PredictionsPart(file=file, sha256="0" * 64)


# Several writers


def add_many(root: Path, who: int, count: int) -> None:
    store = RecordStore(root / "records", root / "predictions")
    for number in range(count):
        arrays = {"test/x": np.full(50, who * count + number)}
        part = store.add_predictions(f"{who:02}{number:062}", arrays)
        store.add(make_record(f"m{who}", number, predictions=part))
        store.add(make_record("shared", number))


def test_eight_processes_lose_no_record_and_nobody_reads_half_of_one(tmp_path: Path, store: RecordStore) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_many, args=(tmp_path, who, 25)) for who in range(8)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        for record in store:
            assert record.predictions is None or store.arrays(record)
    assert [worker.exitcode for worker in workers] == 8 * [0]
    found = [(record.method.name, record.seed) for record in store]
    expected = [(f"m{who}", number) for who in range(8) for number in range(25)] + [("shared", n) for n in range(25)]
    assert sorted(found) == sorted(expected)
    for record in store:
        if record.predictions is not None:
            assert store.arrays(record)["test/x"][0] == int(record.method.name[1:]) * 25 + record.seed
    assert len(list(store.records.iterdir())) == 225
    assert len(list(store.predictions.iterdir())) == 200


# Where numbers come from


def test_provenance_names_the_libraries_and_neither_place_nor_person() -> None:
    found = provenance("cpu", "float32")
    assert (found["device"], found["precision"]) == ("cpu", "float32")
    assert found["libraries"].keys() == set(LIBRARIES)
    assert found["libraries"]["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    text = json.dumps(found, allow_nan=False)
    for private in (str(Path.home()), str(Path.cwd()), platform.node()):
        assert private not in text
    assert f'"{getpass.getuser()}"' not in text
