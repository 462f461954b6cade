"""Finding and choosing DICOM series that the tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_spur.curation.series import Choice, find_series
from robustbench_spur.curation.volumes import open_volume
from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import Written, write_volume

SMALL = np.arange(4 * 6 * 6).reshape(4, 6, 6)


def volume(folder: Path, stored: NDArray[Any] = SMALL, *, patient: str = "P1", **how: Any) -> Path:
    return write_volume(folder, stored, Written(patient, **how))


# Finding


def test_series_are_found_in_the_layouts_of_tcia_and_in_any_other_tree(tmp_path: Path) -> None:
    classic = volume(tmp_path / "Duke-Breast-Cancer-MRI" / "Breast_MRI_001" / "1.2.3" / "MR_1.2.4", patient="A")
    names = [f"Breast_MRI_002_post_1_{n:03d}.dcm" for n in (1, 2, 3, 4)]
    other = volume(tmp_path / "DICOM_Images" / "Breast_MRI_002" / "post_1", patient="B", names=names)
    bare = volume(tmp_path / "any", patient="C", names=["IM1", "IM2", "IM3", "IM4"])
    for name in ("DICOMDIR", "._1-001.dcm", "LICENSE", "list.csv"):
        (bare / name).write_bytes(b"no image")
    found = {series.patient: series for series in find_series(tmp_path)}
    assert {patient: series.folder for patient, series in found.items()} == {"A": classic, "B": other, "C": bare}
    assert found["A"].names == ("ax dyn post_1", "MR_1.2.4", "1.2.4")
    assert (found["A"].number, found["A"].fault, len(found["C"].files)) == (5, "", 4)


def test_other_modalities_are_passed_over(tmp_path: Path) -> None:
    volume(tmp_path / "P1" / "seg", tags={"Modality": "SEG"})
    kept = volume(tmp_path / "P1" / "mr")
    assert [series.folder for series in find_series(tmp_path)] == [kept]


def test_no_pixel_is_read_and_one_header_of_each_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    volume(tmp_path / "a")
    volume(tmp_path / "b")
    calls = []
    real = pydicom.dcmread

    def counted(path: Path, **how: Any) -> Any:
        calls.append((path.name, how["stop_before_pixels"]))
        return real(path, **how)

    monkeypatch.setattr(pydicom, "dcmread", counted)
    assert len(list(find_series(tmp_path))) == 2
    assert calls == [("1-001.dcm", True)] * 2


def test_a_folder_of_another_patient_is_a_fault(tmp_path: Path) -> None:
    volume(tmp_path / "P2" / "post_1", patient="P1")
    (series,) = find_series(tmp_path, {"P1", "P2"})
    assert series.patient == "P2"
    assert "Expected 'P2' as PatientID, as the folder says, found 'P1' in " in series.fault
    (series,) = find_series(tmp_path, {"P1"})  # nobody says that P2 is a patient
    assert (series.patient, series.fault) == ("P1", "")


def test_a_series_without_a_readable_header_is_a_fault_of_its_folder(tmp_path: Path) -> None:
    folder = volume(tmp_path / "P1" / "post_1")
    (folder / "1-001.dcm").write_bytes(b"")
    (series,) = find_series(tmp_path, {"P1"})
    assert series.fault == ""  # the next file says whose it is; the damage is told when the volume is opened
    with pytest.raises(SpurbenchError, match=r"1-001\.dcm unreadable"):
        open_volume(series)
    for file in folder.iterdir():
        file.write_bytes(b"nothing of the kind" * 20)
    (series,) = find_series(tmp_path, {"P1"})
    assert series.patient == "P1"
    assert "post_1/1-001.dcm unreadable (no DICOM header)" in series.fault


def test_a_number_that_is_none_is_a_fault_that_ends_nothing(tmp_path: Path) -> None:
    """A SeriesNumber of 5.0 is 5; one that is no number is told with the series, and the next one goes on."""
    with pytest.warns(UserWarning, match="Invalid value for VR IS"):
        volume(tmp_path / "P1" / "a", tags={"SeriesNumber": "5.0"})
    odd = volume(tmp_path / "P1" / "b", tags={"SeriesNumber": None})
    for file in odd.iterdir():
        data = file.read_bytes()
        file.write_bytes(data.replace(b"ax dyn post_1 ", b"ax dyn post_1 \x20\x00\x11\x00IS\x04\x00five", 1))
    volume(tmp_path / "P1" / "c", tags={"SeriesNumber": None})
    first, second, third = find_series(tmp_path, {"P1"})
    assert (first.number, first.fault, third.number, third.fault) == (5, "", None, "")
    assert second.fault
    with pytest.raises(SpurbenchError, match=r"found 2 of 3: .*a\); .*c\)"):
        Choice("post_1").choose("P1", [first, second, third])
    with pytest.raises(SpurbenchError, match=r"found 0 of 1: without description \(.*b, which is damaged: Expected"):
        Choice("post_1").choose("P1", [second])


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = volume(tmp_path / "v")
    (series,) = find_series(tmp_path)
    folder.rename(tmp_path / "w")
    with pytest.raises(SpurbenchError, match=r"folder of DICOM files at .*v, found no such file"):
        _ = series.files


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"folder of DICOM series at .*nowhere, found none"):
        list(find_series(tmp_path / "nowhere"))


# Choosing


@pytest.fixture
def three(tmp_path: Path) -> list[Any]:
    volume(tmp_path / "P1" / "pre", description="ax dyn pre", tags={"SeriesNumber": 4, "SeriesInstanceUID": "1.2.4"})
    volume(tmp_path / "P1" / "post_1", description="ax dyn", tags={"SeriesNumber": 5, "SeriesInstanceUID": "1.2.5"})
    volume(tmp_path / "P1" / "MR_1.2.6", description="", tags={"SeriesNumber": 6, "SeriesInstanceUID": "1.2.6"})
    return list(find_series(tmp_path))


@pytest.mark.parametrize(
    ("choice", "folder"),
    [
        (Choice("^post_1$"), "post_1"),
        (Choice("AX DYN PRE"), "pre"),
        (Choice(r"^1\.2\.6$"), "MR_1.2.6"),
        (Choice(number=6), "MR_1.2.6"),
        (Choice(listed={"P1": "Duke-Breast-Cancer-MRI/P1//pre/1-003.dcm"}), "pre"),
        (Choice(listed={"P1": "elsewhere/post_1"}), None),
        (Choice(listed={"P1": "P1//1.2.6/1-003.dcm"}), "MR_1.2.6"),
        (Choice(listed={"P1": "P1\\post_1"}), "post_1"),
        (Choice(listed={"P1": "1.2.4"}), "pre"),
        (Choice(listed={"P2": "1.2.4"}), None),
    ],
)
def test_one_series_is_chosen_by_pattern_number_or_list(three: list[Any], choice: Choice, folder: str | None) -> None:
    if folder is None:
        with pytest.raises(SpurbenchError, match="one series of 'P1' that is listed, found 0 of 3"):
            choice.choose("P1", three)
    else:
        assert choice.choose("P1", three).folder.name == folder


def test_a_uid_that_is_listed_with_a_longer_path_is_found(three: list[Any]) -> None:
    assert Choice(listed={"P1": "elsewhere/study/1.2.5"}).choose("P1", three).folder.name == "post_1"


def test_several_series_are_listed_in_the_error(three: list[Any]) -> None:
    with pytest.raises(
        SpurbenchError, match=r"matches 'ax', found 2 of 3: 5 ax dyn \(.*post_1\); 4 ax dyn pre"
    ) as caught:
        Choice("ax").choose("P1", three)
    assert "--series-number" in str(caught.value)
    with pytest.raises(SpurbenchError, match=r"found 0 of 3: 6 without description .*; 4 ax dyn pre"):
        Choice("T2").choose("P1", three)


def test_a_choice_is_one_way_and_a_valid_pattern() -> None:
    with pytest.raises(SpurbenchError, match="one way to choose"):
        Choice("a", number=1)
    with pytest.raises(SpurbenchError, match="one way to choose"):
        Choice()
    with pytest.raises(SpurbenchError, match=r"regular expression, found '\('"):
        Choice("(")
