"""From records to an entry: what is kept, what is left out, and that the same records give the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustbench_spur.home import Home
from robustbench_spur.manifest import Manifest, manifest_sha256
from robustbench_spur.record import Record, RecordStore
from robustbench_spur.store import file_sha256
from robustbench_spur.submission.choosing import chosen
from robustbench_spur.submission.entry import load_entry, read_record, slug
from robustbench_spur.submission.packing import pack
from robustbench_spur.submission.safely import listed
from robustbench_spur.submission.verifier import Verifier
from robustbench_spur.types import SpurbenchError
from tests.submission.faults import ARRAYS, RECORD
from tests.submission.makers import ABOUT, BOARD, SPLIT, SPLITS, fill, make_record, packed, plugin_of


def test_an_entry_lists_every_file_with_its_hash_and_size(template: Path) -> None:
    entry, there = load_entry(template), listed(template)
    assert there.keys() == {"entry.json", *(one.file for one in entry.files)}
    for one in entry.files:
        assert (one.bytes, one.sha256) == (there[one.file], file_sha256(template / one.file))
    assert (entry.board, entry.manifest_sha256) == (BOARD, manifest_sha256(BOARD))


def test_predictions_are_those_that_the_columns_are_of(template: Path) -> None:
    """The home has the training set's as well; the board's columns are of validation and test."""
    with np.load(template / ARRAYS) as archive:
        assert {name.partition("/")[0] for name in archive.files} == {"validation", "test"}
        assert {name for name in archive.files if "counterfactual" in name} == {"test/counterfactual_logits"}
    with np.load(next((template.parent / "home" / "predictions").iterdir())) as archive:
        assert any(name.startswith("train/") for name in archive.files)


def test_a_record_keeps_the_columns_numbers_and_its_predictions_name(template: Path) -> None:
    record = read_record(template / RECORD, RECORD)
    assert record.metrics.keys() == {"validation", "test"}
    assert record.predictions is not None
    assert (record.predictions.file, record.predictions.sha256) == ("seed0.npz", file_sha256(template / ARRAYS))


def test_the_same_records_give_the_same_files(tmp_path: Path, small_board: Manifest) -> None:
    first, second = (packed(tmp_path / name) for name in ("first", "second"))
    assert {n: file_sha256(first / n) for n in listed(first)} == {n: file_sha256(second / n) for n in listed(second)}
    assert load_entry(first).id == load_entry(second).id


def test_a_failure_is_packed_without_predictions(tmp_path: Path, small_board: Manifest) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    store = RecordStore(home.records, home.predictions)
    records = [make_record(small_board, plugin, SPLIT, 0, store)]
    records.append(make_record(small_board, plugin, SPLIT, 1, status="failed", reason="it broke"))
    entry = pack(records, home, small_board, plugin, ABOUT, tmp_path / "entry")
    assert [cell.predictions is None for cell in entry.cells] == [False, True]
    assert Verifier(small_board).verify(tmp_path / "entry").remarks == []


def test_weights_lie_beside_the_records(tmp_path: Path, small_board: Manifest) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    records = fill(home, small_board, plugin)
    written: list[int] = []

    def write(record: Record, path: Path) -> None:
        written.append(record.seed)
        path.write_bytes(b"weights")

    entry = pack(records, home, small_board, plugin, ABOUT, tmp_path / "entry", write)
    assert written == [0, 1]
    assert [cell.weights.file if cell.weights else "" for cell in entry.cells] == [
        f"weights/{slug(SPLIT)}/seed{seed}.safetensors" for seed in (0, 1)
    ]


def test_records_of_two_versions_are_no_entry(tmp_path: Path, small_board: Manifest) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    one, other = fill(home, small_board, plugin)
    other = other.model_copy(update={"method": other.method.model_copy(update={"version": 4})})
    with pytest.raises(SpurbenchError, match="Expected one version of mine, found v3 and v4"):
        pack([one, other], home, small_board, plugin, ABOUT, tmp_path / "entry")
    with pytest.raises(SpurbenchError, match="Expected finished cells to pack, found none"):
        pack([], home, small_board, plugin, ABOUT, tmp_path / "entry")


def test_damaged_predictions_leave_no_half_of_an_entry(tmp_path: Path, small_board: Manifest) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    records = fill(home, small_board, plugin)
    next(home.predictions.iterdir()).write_bytes(b"")
    with pytest.raises(SpurbenchError, match="was changed after it was written"):
        pack(records, home, small_board, plugin, ABOUT, tmp_path / "entry")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine.py"]


def test_the_newest_record_of_a_seed_is_chosen(tmp_path: Path, small_board: Manifest) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    store = RecordStore(home.records, home.predictions)
    for day in (3, 1, 2):
        store.add(make_record(small_board, plugin, SPLIT, 0, store, finished=f"2026-01-0{day}T00:00:00.000+00:00"))
    (record,) = chosen(home, small_board, "mine", [SPLIT], [0])
    assert record.finished.startswith("2026-01-03")


def test_a_configuration_with_all_seeds_goes_before_a_newer_one_with_some(
    tmp_path: Path, small_board: Manifest
) -> None:
    home, plugin = Home(tmp_path / "home"), plugin_of(tmp_path)
    fill(home, small_board, plugin)
    store = RecordStore(home.records, home.predictions)
    newer = make_record(small_board, plugin, SPLIT, 1, store, finished="2027-01-01T00:00:00.000+00:00")
    identity = newer.identity.model_copy(update={"numerics": {"device": "cuda"}})
    store.add(newer.model_copy(update={"identity": identity, "config_hash": identity.sha256}))
    found = chosen(home, small_board, "mine", [SPLIT], [0, 1])
    assert {record.identity.numerics["device"] for record in found} == {"cpu"}
    (alone,) = chosen(home, small_board, "mine", [SPLIT], [1])
    assert alone.identity.numerics["device"] == "cuda"


def test_splits_have_folders_of_their_own() -> None:
    assert len({slug(split) for split in SPLITS}) == len(SPLITS)
    assert all("/" not in slug(split) and not slug(split).endswith(".") for split in SPLITS)
