"""Lists about patients, and Duke's mapping of file names."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from robustbench_spur.curation.lists import CLASSIC, ORIGINAL, read_counts, read_ids, read_mapping, read_pairs
from robustbench_spur.types import SpurbenchError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,what\nP1,a", "columns patient and series in .*, found patient, what"),
        ("patient,series\nP1,a\nP1,b", "one series per patient, found 'b' of 'P1' .line 3"),
        ("patient,series\nP1,", "found '' of 'P1'"),
        ("patient,series\n", "patients in .*found none"),
    ],
)
def test_a_list_of_series_that_contradicts_itself_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpurbenchError, match=message):
        read_pairs(path, "series")
    path.write_text("patient,series,x\nP1,a/b,1\nP1,a/b,2\nP2,c,3\n", encoding="utf-8")
    assert read_pairs(path, "series") == {"P1": "a/b", "P2": "c"}


def test_counts_and_ids_are_read(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("patient,count\nP1,170\n", encoding="utf-8")
    assert read_counts(path) == {"P1": 170}
    path.write_text("patient,count\nP1,about 170\n", encoding="utf-8")
    with pytest.raises(SpurbenchError, match="whole number of slices, found 'about 170' of 'P1'"):
        read_counts(path)
    path.write_text("P1\n\n P2 \n", encoding="utf-8-sig")
    assert read_ids(path) == {"P1", "P2"}
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(SpurbenchError, match=r"ids of patients in .*list\.csv, one per line, found none"):
        read_ids(path)


def original(patient: str, phase: str, number: int) -> str:
    return f"DICOM_Images/{patient}/{phase}/{patient}_{phase}_{number:03d}.dcm"


def mapping(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    header = ("sop_instance_UID", ORIGINAL, CLASSIC, "descriptive_path")
    cells = [header, *(("1.2", *row, "x") for row in rows)]
    if path.suffix == ".xlsx":
        pd.DataFrame(cells).to_excel(path, header=False, index=False)
        return path
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(cells)
    return path


@pytest.mark.parametrize("name", ["mapping.csv", "mapping.xlsx"])
def test_a_phase_of_dukes_mapping_says_which_series_and_how_many_slices(tmp_path: Path, name: str) -> None:
    rows = [
        (original("Breast_MRI_001", phase, n), f"Duke/Breast_MRI_001/1.5/{uid}/1-{n:02d}.dcm")
        for phase, uid in (("pre", "1.5.6"), ("post_1", "1.5.7"))
        for n in (1, 2, 3)
    ]
    rows += [
        (original("Breast_MRI_002", "post_1", 1), "Duke/BreastMRI002/2.5/2.6/1-001.dcm"),
        ("Segmentation", "Duke/s"),
    ]
    path = mapping(tmp_path / name, rows)
    found = read_mapping(path, "post_1")
    assert found.series == {
        "Breast_MRI_001": "Duke/Breast_MRI_001/1.5/1.5.7",
        "Breast_MRI_002": "Duke/BreastMRI002/2.5/2.6",
    }
    assert found.counts == {"Breast_MRI_001": 3, "Breast_MRI_002": 1}
    assert found.faults == {}
    assert read_mapping(path, "pre").counts == {"Breast_MRI_001": 3}
    with pytest.raises(SpurbenchError, match=r"phase 'T1' in .*, found post_1, pre\. Give another --phase"):
        read_mapping(path, "T1")


def test_a_mapping_that_counts_otherwise_or_names_two_series_is_a_fault_of_that_patient(tmp_path: Path) -> None:
    rows = [(original("P1", "pre", n), f"Duke/P1/1.5/1.6/1-{4 - n:03d}.dcm") for n in (1, 2, 3)]
    rows += [(original("P2", "pre", n), f"Duke/P2/2.5/2.{n}/1-{n:03d}.dcm") for n in (1, 2)]
    rows += [(original("P3", "pre", n), f"Duke/P3/3.5/3.6/1-{n:03d}.dcm") for n in (1, 2)]
    faults = read_mapping(mapping(tmp_path / "mapping.csv", rows), "pre").faults
    assert sorted(faults) == ["P1", "P2"]
    assert "in the order of the boxes, found slice 1 as Duke/P1/1.5/1.6/1-003.dcm" in faults["P1"]
    assert "one series of 'P2' in the mapping, found Duke/P2/2.5/2.1 and Duke/P2/2.5/2.2" in faults["P2"]


def test_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mapping.csv"
    path.write_text("original_path,classic_path\n", encoding="utf-8")
    with pytest.raises(SpurbenchError, match=r"column 'original_path_and_filename' in .*, found none"):
        read_mapping(path, "pre")
    path.write_text("", encoding="utf-8")
    with pytest.raises(SpurbenchError, match="found none"):
        read_mapping(path, "pre")
    for content in (b"", b"PK\x03\x04 and no more", b"text"):
        (tmp_path / "mapping.xlsx").write_bytes(content)
        with pytest.raises(SpurbenchError, match=r"found .*mapping\.xlsx unreadable"):
            read_mapping(tmp_path / "mapping.xlsx", "pre")
