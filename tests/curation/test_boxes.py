"""Boxes to labels, against the owners' rule written out, and against the real boxes and masks of Duke."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_spur.curation.boxes import COLUMNS, Box, as_row, flip_slices, label_slices, read_boxes, turn_box
from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import write_boxes

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
MASKS = DATA / "duke_breast_mri_slices"
REAL = DATA / "duke_breast_mri_metadata" / "Annotation_Boxes.csv"
BOX = Box(3, 9, 2, 5, 7, 11)

ends = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(sorted)
boxes = st.tuples(ends, ends, ends).map(lambda pairs: Box(*(int(end) for pair in pairs for end in pair)))


@given(boxes, st.integers(0, 12), st.booleans())
def test_labels_follow_the_owners_rule_slice_by_slice(box: Box, buffer: int, half_open: bool) -> None:
    labels = label_slices(45, box, buffer, half_open=half_open).tolist()
    for s, label in enumerate(labels, start=1):
        if box.start_slice <= s < box.end_slice or (s == box.end_slice and not half_open):
            assert label == 1
        elif s == box.end_slice:  # what the box says is there is never said to be clear, whatever the buffer
            assert label == -1
        elif s + buffer <= box.start_slice or s - buffer > box.end_slice:
            assert label == 0
        else:
            assert label == -1


def test_the_default_buffer_is_the_owners_five() -> None:
    labels = label_slices(30, Box(1, 2, 1, 2, 12, 14))
    assert np.flatnonzero(labels == 1).tolist() == [11, 12]
    assert np.flatnonzero(labels == 0).tolist() == [*range(7), *range(19, 30)]
    with pytest.raises(SpurbenchError, match="buffer of at least 0 slices, found -1"):
        label_slices(30, BOX, -1)


@given(boxes)
def test_a_turned_box_holds_the_turned_pixels_and_turning_twice_gives_it_back(box: Box) -> None:
    pixels = np.zeros((43, 41), bool)
    pixels[box.start_row - 1 : box.end_row, box.start_column - 1 : box.end_column] = True
    turned = turn_box(box, 43, 41)
    rows, columns = (np.flatnonzero(np.rot90(pixels, 2).any(axis=axis)) + 1 for axis in (1, 0))
    assert (turned.start_row, turned.end_row) == (rows[0], rows[-1])
    assert (turned.start_column, turned.end_column) == (columns[0], columns[-1])
    assert turn_box(turned, 43, 41) == box


@given(boxes)
def test_a_flipped_box_holds_the_same_slices_counted_from_the_other_end(box: Box) -> None:
    inside = label_slices(45, box, 0, half_open=False) == 1
    assert (inside[::-1] == (label_slices(45, flip_slices(box, 45), 0, half_open=False) == 1)).all()
    assert flip_slices(flip_slices(box, 45), 45) == box


def test_boxes_are_read_from_csv_and_excel_and_a_repeated_row_counts_once(tmp_path: Path) -> None:
    wanted = {"Breast_MRI_001": BOX, "Breast_MRI_002": replace(BOX, end_row=12)}
    rows = [*wanted.items(), *wanted.items()]
    assert read_boxes(write_boxes(tmp_path / "boxes.csv", rows)) == wanted
    frame = pd.DataFrame([{"note": "x", "Patient ID": name, **as_row(box)} for name, box in rows])
    frame.to_excel(tmp_path / "boxes.xlsx", index=False)
    assert read_boxes(tmp_path / "boxes.xlsx") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'Patient ID' in .*boxes.csv, found none"),
        (",".join(COLUMNS), "boxes in .*boxes.csv, found none"),
        (",".join(COLUMNS[:-1]) + "\nP,1,2,3,4,5", "column 'End Slice' in .*boxes.csv"),
        (",".join(COLUMNS) + "\nP,1,2,3,4,5", "as End Slice, found '' .row 2 of"),
        (",".join(COLUMNS) + "\nP,0,2,3,4,5,6", "at least 1 as Start Row, found '0'"),
        (",".join(COLUMNS) + "\nP,1,2,3,4,5,6.5", "as End Slice, found '6.5'"),
        (",".join(COLUMNS) + "\nP,1,2,4,3,5,6", "Start Column up to End Column, found 4 and 3"),
        (",".join(COLUMNS) + "\n,1,2,3,4,5,6", "a patient id, found none .row 2"),
        (",".join(COLUMNS) + "\nP,1,2,3,4,5,6\nP,1,2,3,4,5,7", "one box of 'P', found another in row 3"),
    ],
)
def test_what_is_no_table_of_boxes_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpurbenchError, match=message):
        read_boxes(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="no such file"):
        read_boxes(tmp_path / "none.csv")
    with pytest.raises(SpurbenchError, match="it is a folder"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, 9, 20), "ends at row 9"), ((9, 4, 20), "ends at column 5"), ((9, 5, 10), "ends at slice 11")],
)
def test_a_box_that_does_not_fit_is_refused(shape: tuple[int, int, int], message: str) -> None:
    BOX.check_within(9, 5, 11, "here")
    with pytest.raises(SpurbenchError, match=rf"{message} \(here\)"):
        BOX.check_within(*shape, "here")


PICTURES = {
    "041": ("case041_M_slice85.png", 85, 168),
    "045": ("case045_M_slice119.png", 119, 188),
    "378": ("378_slice88_M.png", 88, 156),
    "907": ("907_M_slice85.png", 85, 160),
}
"""Mask, its slice counted from the feet, and slices in all. These follow from the positions that LangDaniel/MAEMI publishes
(data/bboxes): lowest slice of the chest, highest of the box, and their spacing. In all four the positions fall as the slice
numbers rise: were it otherwise, the chest of 045 would reach 57 mm below its lowest slice."""

duke = pytest.mark.skipif(not (MASKS.is_dir() and REAL.is_file()), reason=f"no Duke slices and boxes at {DATA}")


def mask_of(patient: str) -> NDArray[np.bool_]:
    from PIL import Image

    return np.asarray(Image.open(MASKS / PICTURES[patient][0]).convert("L")) > 0


def extent(marked: NDArray[np.bool_]) -> tuple[int, ...]:
    """First and last row, first and last column, from 1."""
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) + 1 for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def inside(box: Box, marked: NDArray[np.bool_]) -> int:
    """Marked pixels within the box's rows and columns."""
    return int(marked[box.start_row - 1 : box.end_row, box.start_column - 1 : box.end_column].sum())


@duke
@pytest.mark.parametrize(("patient", "turned"), [("041", True), ("045", True), ("378", True), ("907", False)])
def test_masks_of_duke_agree_with_their_boxes_only_as_the_matrix_is_stored(patient: str, turned: bool) -> None:
    """The pictures stand upright; the matrix of the first three (512 x 512) is stored turned by 180 degrees.

    The mask is of one slice, the box of all: it has to hold the mask, and no side is further from it than 14 pixels. In any
    other position, mirrored ones included, not one pixel of the mask lies in the box.
    """
    box, mask = read_boxes(REAL)[f"Breast_MRI_{patient}"], mask_of(patient)
    lying = {"as it is": mask, "turned": mask[::-1, ::-1], "upside down": mask[::-1], "mirrored": mask[:, ::-1]}
    found = {how: inside(box, marked) for how, marked in lying.items()}
    right = "turned" if turned else "as it is"
    assert found == {how: int(mask.sum()) if how == right else 0 for how in lying}
    here = turn_box(box, *mask.shape) if turned else box
    ends = (here.start_row, here.end_row, here.start_column, here.end_column)
    assert max(abs(a - b) for a, b in zip(ends, extent(mask), strict=True)) <= 14


@duke
@pytest.mark.parametrize("patient", sorted(PICTURES))
def test_slices_of_duke_that_show_the_lesion_are_positive_once_they_are_counted_as_the_box_is(patient: str) -> None:
    """The pictures were counted from the feet, from 0 or 1; the boxes are counted from the head."""
    box, (_, number, count) = read_boxes(REAL)[f"Breast_MRI_{patient}"], PICTURES[patient]
    upwards = label_slices(count, box)[::-1]
    assert upwards[number - 1] == upwards[number] == 1
    flipped = flip_slices(box, count)
    assert flipped.start_slice < number < flipped.end_slice
    mistaken = label_slices(count, box)[number - 1]
    assert mistaken == {"041": 1, "045": 0, "378": 0, "907": 1}[patient]


@pytest.mark.skipif(not REAL.is_file(), reason=f"no Duke boxes at {REAL}")
def test_all_boxes_of_duke_are_read() -> None:
    found = read_boxes(REAL)
    assert len(found) == 922
    assert found["Breast_MRI_001"] == Box(234, 271, 308, 341, 89, 112)
    reference = pd.read_csv(REAL)
    spans = reference["End Slice"] - reference["Start Slice"]
    positives = [int((label_slices(500, box) == 1).sum()) for box in found.values()]
    assert positives == spans.tolist()  # half-open: as many as the end is beyond the start
