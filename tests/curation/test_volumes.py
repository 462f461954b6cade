"""Ordering the slices of DICOM series that the tests write, and refusing what is no volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import ODD, TURNED, UPRIGHT, opened, volume


def names(found: Any) -> list[str]:
    return [file.name for file in found.files]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("orientation", [UPRIGHT, TURNED, ODD])
def test_order_by_file_and_by_position(tmp_path: Path, orientation: tuple[int, ...], descending: bool) -> None:
    """IM10 comes after IM2 by its number; upwards is upwards for every orientation, the mirrored one included."""
    heights = [1.5 * n for n in range(12)][:: -1 if descending else 1]
    files = [f"IM{n}.dcm" for n in range(1, 13)]
    how = {"orientation": orientation, "heights": heights, "names": files}
    volume(tmp_path / "v", np.ones((12, 6, 6)), **how)
    by_file, by_position = opened(tmp_path), opened(tmp_path, "position")
    assert names(by_file) == files and not by_file.flipped
    assert names(by_position) == (files[::-1] if descending else files) and by_position.flipped == descending
    assert (by_file.attributes["descending"], by_position.attributes["descending"]) == (str(int(descending)), "0")


def test_position_order_needs_no_numbers_in_names_and_follows_the_instance_number(tmp_path: Path) -> None:
    files = ["d.dcm", "a.dcm", "c.dcm", "b.dcm"]
    volume(tmp_path / "v", heights=[6, 4, 2, 0], instances=[201, 202, 203, 204], names=files)
    found = opened(tmp_path, "position")
    assert names(found) == files[::-1] and found.flipped
    with pytest.raises(
        SpurbenchError, match=r"file name with a slice number, found .*a\.dcm\. Choose --order position"
    ):
        opened(tmp_path)


def test_short_padding_of_the_classic_names_is_tolerated(tmp_path: Path) -> None:
    files = [f"1-{n:02d}.dcm" if n < 100 else f"1-{n}.dcm" for n in range(1, 103)]
    volume(tmp_path / "v", np.ones((102, 4, 4)), names=files)
    assert names(opened(tmp_path)) == files


def test_slices_that_are_missing_or_doubled_are_refused(tmp_path: Path) -> None:
    folder = volume(tmp_path / "v", np.ones((9, 4, 4)))
    assert len(opened(tmp_path, count=9).files) == 9
    with pytest.raises(SpurbenchError, match=r"Expected 10 slices in .*v, found 9"):
        opened(tmp_path, count=10)
    (folder / "1-005.dcm").rename(tmp_path / "kept.txt")
    for order in ("file", "position"):
        with pytest.raises(SpurbenchError, match=r"slices 1 to 9 in .*v, found none for 5"):
            opened(tmp_path, order)
    (tmp_path / "kept.txt").rename(folder / "1-05.dcm")
    (folder / "1-006.dcm").rename(folder / "1-005.dcm")
    with pytest.raises(SpurbenchError, match=r"one file per slice, found 1-005\.dcm and 1-05\.dcm in .*for slice 5"):
        opened(tmp_path)
    (folder / "1-005.dcm").rename(folder / "1-000.dcm")
    with pytest.raises(SpurbenchError, match="slices 1 to 9 in"):
        opened(tmp_path)


def test_a_slice_that_is_missing_before_the_files_were_numbered_shows_in_the_spacing(tmp_path: Path) -> None:
    volume(tmp_path / "v", heights=[0, 2, 6, 8])
    for order in ("file", "position"):
        with pytest.raises(SpurbenchError, match=r"slices 2 mm apart .*1-002\.dcm and 1-003\.dcm 4 mm apart"):
            opened(tmp_path, order)


@pytest.mark.parametrize("heights", [[0, 2, 0, 2], [0, 4, 2, 6], [3, 3, 3, 3]])
def test_phases_in_one_folder_and_shuffled_names_are_refused(tmp_path: Path, heights: list[float]) -> None:
    volume(tmp_path / "v", heights=heights)
    with pytest.raises(SpurbenchError, match="missing, doubled or misnamed"):
        opened(tmp_path)


def test_names_and_instance_numbers_that_contradict_each_other_leave_the_order_of_boxes_open(tmp_path: Path) -> None:
    volume(tmp_path / "v", instances=[4, 3, 2, 1])
    assert names(opened(tmp_path)) == [f"1-00{number}.dcm" for number in (1, 2, 3, 4)]
    with pytest.raises(SpurbenchError, match=r"names that follow InstanceNumber in .*v, found 1-004\.dcm first"):
        opened(tmp_path, "position")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": None}, "a number as Rows in .*, found none"),
        ({"PixelSpacing": [0.5]}, "2 numbers as PixelSpacing in .*, found 0.5"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "axial slices, found ImageOrientationPatient 0"),
        ({"ImageOrientationPatient": None}, "6 numbers as ImageOrientationPatient in .*, found none"),
        ({"ImagePositionPatient": [1, 2]}, "3 numbers as ImagePositionPatient"),
        ({"NumberOfFrames": 3}, "one slice per file, found 3 frames in .*Split it first"),
        ({"PhotometricInterpretation": "RGB"}, "grey values, found RGB"),
        ({"PhotometricInterpretation": None}, "grey values, found no photometric interpretation"),
    ],
)
def test_what_is_not_an_axial_slice_of_grey_values_is_refused(tmp_path: Path, tags: Any, message: str) -> None:
    volume(tmp_path / "v", tags=tags)
    with pytest.raises(SpurbenchError, match=message):
        opened(tmp_path)


def test_a_slice_of_somebody_else_or_of_another_series_is_refused(tmp_path: Path) -> None:
    folder, other = volume(tmp_path / "a" / "v"), volume(tmp_path / "b" / "v", patient="P2")
    (folder / "1-003.dcm").write_bytes((other / "1-003.dcm").read_bytes())
    with pytest.raises(SpurbenchError, match=r"Expected patient 'P1' in .*1-003\.dcm, as in the rest .*found 'P2'"):
        opened(tmp_path / "a")
    third = volume(tmp_path / "c" / "v", np.ones((4, 6, 7)), tags={"SeriesInstanceUID": "1.9"})
    for file in ("1-002.dcm", "1-003.dcm"):
        (folder / file).write_bytes((third / file).read_bytes())
    with pytest.raises(SpurbenchError, match=r"1-002\.dcm, .*found '1\.9'"):
        opened(tmp_path / "a")


def test_attributes_come_from_the_header_and_spacing_from_the_positions(tmp_path: Path) -> None:
    volume(tmp_path / "v", heights=[8.8, 7.7, 6.6, 5.5], orientation=TURNED)
    assert opened(tmp_path).attributes == {
        "count": "4",
        "field_strength": "1.494",
        "rows": "6",
        "columns": "6",
        "repetition_time": "5.348",
        "echo_time": "2.46",
        "flip_angle": "10",
        "slice_thickness": "2.2",
        "manufacturer": "SIEMENS",
        "model": "Avanto",
        "patient_position": "FFP",
        "scan_options": "PFP\\FS",
        "series_description": "ax dyn post_1",
        "row_spacing": "0.75",
        "column_spacing": "0.5",
        "slice_spacing": "1.1",
        "rotated": "1",
        "mirrored": "0",
        "descending": "1",
    }


@pytest.mark.parametrize(("orientation", "wanted"), [(UPRIGHT, "00"), (TURNED, "10"), (ODD, "11")])
def test_rotated_and_mirrored_follow_the_orientation(tmp_path: Path, orientation: Any, wanted: str) -> None:
    slanted = np.array(orientation) + np.array([0, 0.02, 0.1, 0, 0, 0.1])
    volume(tmp_path / "v", orientation=slanted.tolist(), tags={"ScanOptions": None, "EchoTime": None})
    attributes = opened(tmp_path).attributes
    assert attributes["rotated"] + attributes["mirrored"] == wanted
    assert (attributes["scan_options"], attributes["echo_time"]) == ("", "")
