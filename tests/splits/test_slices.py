"""The released folders: every rule about names and places, and every way to break one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import SpurbenchError
from tests.splits.release import file, stand_in, write_spreadsheet


@pytest.fixture
def dataset(tmp_path: Path) -> SpurBreast:
    return stand_in(tmp_path)


def test_hidden_files_and_those_of_file_browsers_are_ignored(dataset: SpurBreast) -> None:
    expected, mark = dataset.table("field", None).sha256(), dataset.fingerprint()
    for name in (".DS_Store", "training/.DS_Store", "training/0/Thumbs.db", "test/1/._1-8-21.png", "test/desktop.ini"):
        file(dataset, name).write_bytes(b"x")
    again = SpurBreast(path=dataset.path)
    assert again.table("field", None).sha256() == expected
    assert again.fingerprint() == mark


def test_names_may_be_upper_case_and_slices_no_numbers(dataset: SpurBreast) -> None:
    file(dataset, "test/0/1-8-21.png").rename(file(dataset, "test/0/1-b-21.PNG"))
    file(dataset, "test/1/1-9-21.png").rename(file(dataset, "test/1/1-a-21.png"))
    ids = dataset.table("field", None).partitions["test"].ids.tolist()
    assert ids[:3] == ["1-10-21", "1-a-21", "1-b-21"]


@pytest.mark.parametrize(
    "name",
    ["1-9.png", "1-9-x.png", "1-9-2-3.png", "notes.txt", "1-9-21.jpg", "1-9-21.png.bak", "1-9-٣.png", "1-9-2.png\n"],
)
def test_any_other_name_is_refused_and_named(dataset: SpurBreast, name: str) -> None:
    file(dataset, f"test/0/{name}").write_bytes(b"")
    with pytest.raises(SpurbenchError, match=r"<prefix>-<slice>-<patient>\.png, found") as caught:
        dataset.table("field", None)
    assert str(file(dataset, f"test/0/{name}")) in str(caught.value)


def _extra_label(dataset: SpurBreast) -> str:
    file(dataset, "training/2").mkdir()
    return "field_strength/training/2"


def _no_partition(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "validation"))
    return "field_strength/validation"


def _no_label(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "test/1"))
    return "field_strength/test/1"


def _empty_label(dataset: SpurBreast) -> str:
    for entry in file(dataset, "validation/0").iterdir():
        entry.unlink()
    return "PNG files in .*field_strength/validation/0, found none"


def _label_is_file(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "test/1"))
    file(dataset, "test/1").write_bytes(b"")
    return "field_strength/test/1 unreadable"


def _both_labels(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "test/0/1-8-21.png"), file(dataset, "test/1/1-008-21.png"))
    return "test/1/1-008-21.png and test/0/1-8-21.png"


def _overlap(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "training/0/1-8-1.png"), file(dataset, "test/0/1-8-001.png"))
    return "Breast_MRI_001 in training/0/1-8-1.png and test/0/1-8-001.png"


def _unknown_patient(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "training/0/1-8-1.png"), file(dataset, "test/0/1-8-923.png"))
    return rf"Breast_MRI_923 \(test/0/1-8-923.png\) in .*{SPREADSHEET}, found no such row"


def _no_spreadsheet(dataset: SpurBreast) -> str:
    (dataset.root / SPREADSHEET).unlink()
    return f"{SPREADSHEET} in {dataset.root} or {dataset.root.parent}, found it in neither.*10.7937/TCIA"


def _no_excel(dataset: SpurBreast) -> str:
    (dataset.root / SPREADSHEET).write_bytes(b"Patient ID,Field\n")
    return f"{SPREADSHEET} unreadable"


def _truncated_excel(dataset: SpurBreast) -> str:
    path = dataset.root / SPREADSHEET
    path.write_bytes(path.read_bytes()[:-900])
    return f"{SPREADSHEET} unreadable"


def _other_sheet(dataset: SpurBreast) -> str:
    pd.DataFrame([[1]]).to_excel(dataset.root / SPREADSHEET, sheet_name="Sheet1")
    return f"{SPREADSHEET} unreadable .*'Data' not found"


def _no_rows(dataset: SpurBreast) -> str:
    write_spreadsheet(dataset.root / SPREADSHEET, {})
    return f"header rows and then patients in .*{SPREADSHEET}, found 3 rows"


@pytest.mark.parametrize(
    "spoil",
    [
        _extra_label,
        _no_partition,
        _no_label,
        _empty_label,
        _label_is_file,
        _both_labels,
        _overlap,
        _unknown_patient,
        _no_spreadsheet,
        _no_excel,
        _truncated_excel,
        _other_sheet,
        _no_rows,
    ],
)
def test_a_spoiled_folder_is_refused_with_the_file_named(
    dataset: SpurBreast, spoil: Callable[[SpurBreast], str]
) -> None:
    expected = spoil(dataset)
    with pytest.raises(SpurbenchError, match=expected) as caught:
        dataset.table("field", None)
    assert "\n" not in str(caught.value)
