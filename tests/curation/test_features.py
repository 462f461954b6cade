"""Feature tables: every format gives the same patients, missing is missing, and a mistake is told in one message."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustbench_spur.curation.features import FeatureTable, read_table
from robustbench_spur.types import SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "duke_breast_mri_metadata" / "Clinical_and_Other_Features.xlsx"


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Fall": ["ä1", "ä2", "ä3"],
            "Feldstärke": [1.5, 3.0, 1.5],
            "vendor": ["GE", "N/A", "Siemens"],
            "dose": ["1", "x", "NC"],
            "empty": ["", "nan", "NP"],
        }
    )


def write(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "parquet", "xlsx"])
def test_all_formats_read_the_same(tmp_path: Path, suffix: str) -> None:
    table = read_table(write(frame(), tmp_path / f"t.{suffix}"), patient="Fall")
    assert table.patients.tolist() == ["ä1", "ä2", "ä3"]
    assert {column.name: (column.kind, column.values.tolist()) for column in table.columns} == {
        "Feldstärke": ("numeric", [1.5, 3.0, 1.5]),
        "vendor": ("categorical", ["GE", None, "Siemens"]),
        "dose": ("categorical", ["1", "x", None]),
        "empty": ("numeric", [None, None, None]),
    }
    assert table.find("FELDSTÄRKE").texts.tolist() == ["1.5", "3", "1.5"]
    assert table.notes == ("dose: holds numbers and texts, and is taken as categories.",)
    assert (len(table), table.rows, table.varying) == (3, 3, ())


def test_types_of_parquet_are_kept_apart(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"id": [7, 8], "flag": [True, None], "n": [1, None], "day": pd.to_datetime(["2020-01-02"] * 2)}
    )
    table["flag"] = table["flag"].astype("boolean")
    found = read_table(write(table, tmp_path / "t.parquet"), patient="id")
    assert found.patients.tolist() == ["7", "8"]
    assert [column.values.tolist()[1] for column in found.columns[:2]] == [None, None]
    assert [column.kind for column in found.columns] == ["categorical", "numeric", "categorical"]


def three_header_rows(tmp_path: Path, suffix: str) -> FeatureTable:
    rows = [
        ["Who", "MRI", "", "US", "", "", ""],
        ["ID", "Field", "Shape", "Shape", "Shape", "Menopause", "Flip"],
        ["", "1.5=0,3=1", "{0=oval, 1=round}", "{0=oval, 1=round}", "", "{0 = pre, 1 = post, 2 = N/A}", "7=0,8=1"],
        ["p1", 0, 0, 1, "a", 0, "NA"],
        ["p2", 1, 1, "NC", "b", 2, "NA"],
        ["p3", 1, "1 [0]", 0, "c", 1, "NA"],
    ]
    path, table = tmp_path / f"t.{suffix}", pd.DataFrame(rows)
    if suffix == "csv":
        table.to_csv(path, header=False, index=False)
    else:
        table.to_excel(path, header=False, index=False)
    return read_table(path, patient="ID")


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_three_header_rows_are_decoded_whatever_the_data_set(tmp_path: Path, suffix: str) -> None:
    table = three_header_rows(tmp_path, suffix)
    assert [column.name for column in table.columns] == [
        "Field",
        "MRI / Shape",
        "US / Shape",
        "US / Shape (2)",
        "Menopause",
        "Flip",
    ]
    assert table.find("field").values.tolist() == [1.5, 3.0, 3.0]
    assert table.find("MRI / Shape").values.tolist() == ["oval", "round", "1 [0] (no known code)"]
    assert table.find("US / Shape").values.tolist() == ["round", None, "oval"]
    assert table.find("Menopause").values.tolist() == ["pre", None, "post"]
    assert table.find("Flip").section == "US"
    notes = " ".join(table.notes)
    assert "MRI / Shape: cells that hold no code of its coding and keep their text: 1." in notes
    assert "Flip: nothing tells the codes" in notes


def test_find_says_which_names_there_are(tmp_path: Path) -> None:
    table = three_header_rows(tmp_path, "csv")
    with pytest.raises(SpurbenchError, match=r"found 2\. Say 'MRI / Shape' or 'US / Shape'\."):
        table.find("Shape")
    with pytest.raises(SpurbenchError, match=r"column 'Menopaus' in .*t\.csv, found none\. Did you mean 'Menopause'\?"):
        table.find("Menopaus")
    with pytest.raises(SpurbenchError, match=r"It has 6 columns: 'Field', 'MRI / Shape', .*, \.\.\.\.$"):
        table.find("qqqqqq")


def test_rows_of_one_patient_become_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,n,t,same\nb,1,,x\na,5,late,y\nb,2,first,x\nb,NA,second,\n")
    table = read_table(path, patient="id")
    assert table.patients.tolist() == ["b", "a"]
    assert [column.values.tolist() for column in table.columns] == [[1.5, 5.0], ["first", "late"], ["x", "y"]]
    assert table.varying == ("n", "t")
    assert table.notes[0].startswith("4 rows of 2 patients")


def test_missing_tokens_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,n,code\na,-999,NA\nb,-999.0,FR\nc,3,?\n")
    table = read_table(path, patient="id", missing=("-999", "?"))
    assert table.find("n").values.tolist() == [None, None, 3.0]
    assert table.find("code").values.tolist() == ["NA", "FR", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header row and patients in .*csv, found an empty file"),
        ("id,a\n", "patients in .*csv, found a header and no rows"),
        ("Id,a\np,1\n", r"one patient column 'id' in .*csv, found 0\. Did you mean 'Id'\?"),
        ("id,a,id\np,1,p\n", r"'id' in .*csv, found 2\. Rename all but one"),
        ("id,a\np,1\n ,2\n", "patient id in every row of .*csv, found none in row 3"),
        ("id,a\np,1\nq,2,3\n", "found .*csv unreadable"),
    ],
)
def test_a_mistake_in_the_table_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(SpurbenchError, match=message):
        read_table(path, patient="id")


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    for name in ("t.xlsx", "t.parquet", "t.csv"):
        with pytest.raises(SpurbenchError, match="found no such file"):
            read_table(tmp_path / name, patient="id")
        (tmp_path / name).write_bytes(b"\xff\xfe\x00PK nonsense")
        with pytest.raises(SpurbenchError, match="unreadable"):
            read_table(tmp_path / name, patient="id")
    with pytest.raises(SpurbenchError, match="Convert it"):
        read_table(tmp_path / "t.ods", patient="id")
    with pytest.raises(SpurbenchError, match="Leave the sheet out"):
        read_table(tmp_path / "t.csv", patient="id", sheet="Data")


def test_duplicated_headers_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,a,a,,a (2)\np,1,2,3,4\n")
    names = {column.name: column.values[0] for column in read_table(path, patient="id").columns}
    assert names == {"a": 1.0, "a (3)": 2.0, "column 4": 3.0, "a (2)": 4.0}


def test_a_hundred_thousand_rows_are_merged_by_patient(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), 100_000
    table = pd.DataFrame({"id": [f"p{i // 2}" for i in range(rows)], "x": rng.normal(size=rows)})
    for place in range(4):
        table[f"c{place}"] = rng.choice(["a", "b", ""], rows)
    path = write(table, tmp_path / "t.csv")
    found = read_table(path, patient="id")
    assert len(found) == rows // 2
    means = table.groupby("id", sort=False)["x"].mean().to_numpy()
    np.testing.assert_allclose(found.find("x").values.astype(float), means)


@pytest.fixture(scope="module")
def duke() -> FeatureTable:
    if not REAL.is_file():
        pytest.skip(f"no Duke spreadsheet at {REAL}")
    return read_table(REAL, patient="Patient ID")


def test_dukes_real_table(duke: FeatureTable) -> None:
    """Counts of the public spreadsheet's codes, decoded by hand from its third row."""
    assert (len(duke), len(duke.columns), duke.varying) == (922, 97, ())
    assert len({column.name for column in duke.columns}) == 97
    assert Counter(duke.find("Field Strength (Tesla)").values.tolist()) == {1.5: 468, 3.0: 453, 2.8936: 1}
    assert Counter(duke.find("Manufacturer").values.tolist()) == {"GE MEDICAL SYSTEMS": 628, "SIEMENS": 294}
    assert Counter(duke.find("Menopause (at diagnosis)").values.tolist()) == {"post": 499, "pre": 407, None: 16}
    assert Counter(duke.find("Mol Subtype").values.tolist()) == {
        "luminal-like": 595,
        "trip neg": 164,
        "ER/PR pos, HER2 pos": 104,
        "her2": 59,
    }
    assert duke.find("Race and Ethnicity").missing.sum() == 19
    assert Counter(duke.find("Flip Angle").values.tolist()) == {10.0: 875, 12.0: 44, 7.0: 2, 8.0: 1}
    assert Counter(duke.find("Tumor Location").values.tolist()) == {"right": 337, "left": 314, None: 271}


def test_dukes_repeated_names_can_be_addressed(duke: FeatureTable) -> None:
    for name in ("Shape", "Margin", "Tumor Size (cm)"):
        pair = [duke.find(f"{section} / {name}") for section in ("Mammography Characteristics", "US features")]
        assert pair[0].values.tolist() != pair[1].values.tolist()
        with pytest.raises(SpurbenchError, match="found 2"):
            duke.find(name)
    assert duke.find("Tumor Grade(N) (Nuclear)").kind == "numeric"
    assert duke.find("BIRADS DATA").missing.all()


def test_dukes_vendors_and_models_agree(duke: FeatureTable) -> None:
    pairs = set(zip(duke.find("Manufacturer Model Name").values, duke.find("Manufacturer").values, strict=True))
    siemens = {"Avanto", "Skyra", "Trio", "TrioTim"}
    assert all((model in siemens) == (vendor == "SIEMENS") for model, vendor in pairs)


def test_columns_that_differ_in_capitals_only_are_found_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,Age,age\na,1,2\n", encoding="utf-8")
    table = read_table(path, patient="id")
    assert (table.find("Age").values[0], table.find("age").values[0]) == (1.0, 2.0)
    with pytest.raises(SpurbenchError, match=r"found 2\. Say 'Age' or 'age'"):
        table.find("AGE")
