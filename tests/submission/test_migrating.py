"""Records of an older schema are migrated on reading: one of each is stored, and a migration that is made up shows how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import record as records
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import MIGRATIONS, SCHEMA_VERSION, NewerSchemaError, Record, RecordStore
from robustbench_spur.submission import entry as entries
from robustbench_spur.submission.entry import read_record
from robustbench_spur.submission.remarks import FaultError
from robustbench_spur.submission.verifier import Verifier
from tests.submission.faults import RECORD
from tests.submission.makers import Copy

STORED = Path(__file__).parents[1] / "stored"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema to come, in which the seed of older records was called by another name."""

    def renamed(content: dict[str, Any]) -> dict[str, Any]:
        return {**{name: value for name, value in content.items() if name != "number"}, "seed": content["number"]}

    for module in (records, entries):
        monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, renamed)


def older(content: dict[str, Any]) -> dict[str, Any]:
    """A record as it was before that."""
    return {**{name: value for name, value in content.items() if name != "seed"}, "number": content["seed"]}


@pytest.mark.parametrize("schema", range(1, SCHEMA_VERSION + 1))
def test_a_stored_record_of_every_schema_is_read(schema: int) -> None:
    path = STORED / f"record-{schema}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema_version"] == schema
    for record in (Record.from_json(content), read_record(path, path.name)):
        assert (record.method.name, record.seed, record.status) == ("plain", 3, "done")
        assert record.schema_version == SCHEMA_VERSION
        assert record.metrics["test"]["worst_group"]["worst_group_accuracy"]["value"] == 0.25
        assert record.config_hash == record.identity.sha256


@pytest.mark.usefixtures("later")
def test_a_record_of_an_older_schema_is_migrated_in_a_home(tmp_path: Path) -> None:
    content = older(json.loads((STORED / "record-1.json").read_text(encoding="utf-8")))
    record = Record.from_json(content)
    assert (record.seed, record.schema_version) == (3, SCHEMA_VERSION + 1)
    assert "seed" not in content, "what was read stays as it was"
    store = RecordStore(tmp_path / "records", tmp_path / "predictions")
    assert store.read(store.add(record)) == record


@pytest.mark.usefixtures("later")
def test_a_record_of_an_older_schema_is_migrated_in_an_entry(copy: Copy, small_board: Manifest) -> None:
    for seed in (0, 1):
        name = RECORD.replace("seed0", f"seed{seed}")
        copy.write(name, json.dumps(older(copy.content(name))))
    verdict = Verifier(small_board).verify(copy.folder)
    assert (verdict.remarks, verdict.cells) == ([], 2)


@pytest.mark.usefixtures("later")
def test_an_older_record_that_is_none_of_its_day_is_a_fault(copy: Copy) -> None:
    copy.write(RECORD, json.dumps({"schema_version": SCHEMA_VERSION}))
    with pytest.raises(FaultError, match="found KeyError: \"'number'\"") as error:
        read_record(copy.path(RECORD), RECORD)
    assert error.value.remark.expected == f"a record of schema {SCHEMA_VERSION}"


def test_a_record_of_a_schema_to_come_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewerSchemaError, match=f"schema {SCHEMA_VERSION + 1}, this version reads up to"):
        Record.from_json({"schema_version": SCHEMA_VERSION + 1})
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(FaultError, match=r"Upgrade robustbench-spur\."):
        read_record(path, "record.json")
