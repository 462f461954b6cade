"""Duke's spreadsheet: codes are decoded by its own table, other shapes are refused, and the real one gives known counts."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustbench_spur.splits.duke import ATTRIBUTES, SPREADSHEET, Spreadsheet
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import SpurbenchError
from tests.splits.release import Layout, png, stand_in, write_slices

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "duke_breast_mri_metadata" / SPREADSHEET


@pytest.mark.parametrize(
    ("split", "codes", "message"),
    [
        ("field_strength", {"field": (2, 1)}, r"'Field Strength \(Tesla\)' of Breast_MRI_001 .*found '2\.8936'"),
        ("field_strength", {"field": (3, 0)}, r"Breast_MRI_003 \(training/1/1-8-3\.png\).* 1\.5, 3, found '1\.494'"),
        ("field_strength", {"field": (3, 1.5)}, r"found '1\.5 \(no known code\)'"),
        ("field_strength", {"field": (3, 7)}, r"found '7 \(no known code\)' in .*xlsx"),
        ("field_strength", {"field": (1, 3)}, "1.5T to be more frequent among the tumour slices"),
        ("field_strength", {"field": (3, 3)}, "two values of field strength in .*training, found 3T"),
        ("vertical_flip", {"vendor": (0, 1)}, "found 'MPTronic software'"),
        ("menopause", {"menopause": (0, 2)}, "found 'N/A'"),
        ("race_and_ethnicity", {"race": (0, 1)}, "found 'N/A'"),
        ("surgery_type", {"surgery": ("NP", 1)}, r"one of BCS, mastectomy, found 'NP \(no known code\)'"),
        ("surgery_type", {"surgery": (0, None)}, "found 'blank "),
        ("surgery_type", {"surgery": (0, "NA")}, "found 'NA "),
    ],
)
def test_a_value_outside_the_coding_is_refused_with_patient_and_file(
    tmp_path: Path, split: str, codes: dict[str, tuple[object, object]], message: str
) -> None:
    with pytest.raises(SpurbenchError, match=message):
        stand_in(tmp_path, split, **codes).table(split, None)


def _respell(tmp_path: Path, row: int, column: int, text: str) -> SpurBreast:
    dataset = stand_in(tmp_path)
    frame = pd.read_excel(tmp_path / SPREADSHEET, sheet_name="Data", header=None, dtype=object, keep_default_na=False)
    frame.iloc[row, column] = text
    frame.to_excel(tmp_path / SPREADSHEET, sheet_name="Data", header=False, index=False)
    return dataset


@pytest.mark.parametrize(
    ("row", "column", "text", "message"),
    [
        (1, 3, "Field Strength", r"one column 'Field Strength \(Tesla\)' in section .*xlsx, found 0"),
        (1, 2, " Field Strength\n(Tesla) ", r"one column 'Field Strength \(Tesla\)' .*xlsx, found 2"),
        (0, 1, "Demographics", "section 'MRI Technical Information' of .*xlsx, found 0"),
        (2, 3, "", "'code = meaning' above 'Field Strength .*xlsx, found ''"),
        (2, 3, "1.5 or 3", "'code = meaning' above 'Field Strength .*xlsx, found '1.5 or 3'"),
        (2, 3, "1.5=1,3=1", "xlsx, found '1.5=1,3=1'"),
        (4, 0, "Breast_MRI_001", "row 5 of .*xlsx, found 'Breast_MRI_001'"),
        (4, 0, "MRI 2", "row 5 of .*xlsx, found 'MRI 2'"),
    ],
)
def test_a_spreadsheet_of_another_shape_is_refused(
    tmp_path: Path, row: int, column: int, text: str, message: str
) -> None:
    with pytest.raises(SpurbenchError, match=message):
        _respell(tmp_path, row, column, text).table("field", None)


def test_codes_are_decoded_by_the_table_and_never_by_value(tmp_path: Path) -> None:
    """With the coding turned round, the same cells mean the other field strength: the tie must be found reversed."""
    dataset = _respell(tmp_path, 2, 3, "1.494=0,3=1,2.8936=2,1.5=3")
    with pytest.raises(SpurbenchError, match=r"1\.5T to be more frequent"):
        dataset.table("field", None)


@pytest.fixture(scope="module")
def duke() -> Spreadsheet:
    if not REAL.is_file():
        pytest.skip(f"no Duke spreadsheet at {REAL}")
    return Spreadsheet.read(REAL)


def test_dukes_own_columns_decode_to_the_known_counts(duke: Spreadsheet) -> None:
    """Counts of the public spreadsheet's codes, taken apart from the loader."""
    known = {
        "field_strength": {"1.5": 468, "3": 453, "2.8936": 1},
        "vertical_flip": {"GE MEDICAL SYSTEMS": 628, "SIEMENS": 294},
        "menopause": {"post": 499, "pre": 407, "N/A": 16},
        "race_and_ethnicity": {
            "white": 651,
            "black": 203,
            "N/A": 19,
            "hispanic": 18,
            "asian": 14,
            "multi": 9,
            "amer indian": 4,
            "native": 3,
            "hawa": 1,
        },
        "surgery_type": {"BCS": 463, "mastectomy": 416, "NP (no known code)": 36},
    }
    for split, counts in known.items():
        found = pd.Series(duke.column(ATTRIBUTES[split])).value_counts().to_dict()
        assert sum(found.values()) == 922
        assert {meaning: found[meaning] for meaning in counts} == counts


def test_orientation_by_manufacturer_agrees_with_the_image_position_of_all_patients(duke: Spreadsheet) -> None:
    """The first voxel lies posterior (y > 0, DICOM LPS) where the body is stored upside down, so breasts-down."""
    position = duke.position("MRI Technical Information", "Image Position of Patient")
    vendors = duke.column(ATTRIBUTES["vertical_flip"])
    for row in duke.cells[3:]:
        posterior = float(str(row[position]).split("X")[1]) > 0
        value = ATTRIBUTES["vertical_flip"].values[vendors[int(str(row[0])[-3:])]]
        assert value == ("breasts-down" if posterior else "breasts-up")


def test_a_stand_in_of_real_patients_is_joined_with_dukes_own_spreadsheet(tmp_path: Path, duke: Spreadsheet) -> None:
    codes = {int(str(row[0])[-3:]): row[5] for row in duke.cells[3:]}  # code 1 is 1.5 T, code 3 is 3 T
    low, high = ([patient for patient, found in codes.items() if found == code] for code in (1, 3))
    layout: Layout = {
        "training": {**dict.fromkeys(high[:4], (0, 0)), **dict.fromkeys(low[:4], (1, 1))},
        "validation": {high[4]: (0,), low[4]: (1,)},
        "test": dict.fromkeys([*high[5:8], *low[5:7]], (0, 1, 1)),
    }
    write_slices(tmp_path / "field_strength", layout, lambda: png(np.random.default_rng(0)))
    (tmp_path / SPREADSHEET).symlink_to(duke.path)
    counts = SpurBreast(path=tmp_path).table("field", None).counts()
    assert [g["examples"] for g in counts["train"].values()] == [8, 0, 0, 8]
    assert [g["examples"] for g in counts["test"].values()] == [3, 2, 6, 4]
    assert [g["patients"] for g in counts["test"].values()] == [3, 2, 3, 2]
