"""Anybody's table: every way in which it can be broken, and what is said then."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from robustbench_spur.types import SpurbenchError
from tests.splits.usertable import broken, grey_of, open_table, own, rows_of, shown, write, write_pictures


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ""}, r"a label in every row, found '' \(1 rows, the first is row 4 of .*rows\.csv"),
        ({"label": "NaN"}, r"found 'NaN'"),
        ({"attribute": ""}, r"an attribute value in every row, found '' .*row 4"),
        ({"label": "3"}, r"but not both, as a label, found '3' \(row 4 of .*rows\.csv"),
        ({"attribute": 7}, r"but not both, as an attribute value, found '7' \(row 4"),
        ({"split": "trian"}, r"found 'trian' \(row 4 of .*split_names=trian:train"),
        ({"split": "0"}, r"found '0' \(row 4"),
        ({"patient": ""}, r"a patient in 'patient', found none in 1 rows, the first is row 4 of .*--columns patient=-"),
        ({"patient": "test clear a 0"}, r"share no patient, found 'test clear a 0' in train and test.*rows\.csv"),
        ({"path": "train/clear-a-0.png"}, r"every image once, found train/clear-a-0.png in rows 2 and 4"),
        ({"path": "./test//clear-a-0.png"}, r"every image once, found test/clear-a-0.png in rows 4 and 18"),
        ({"path": ""}, r"path of an image, with '/', found ''"),
        ({"path": "a\\b.png"}, r"path of an image, with '/'"),
        ({"path": "../secret.png"}, r"below the folder of images, found '../secret.png'.*allow_outside"),
        ({"path": "/etc/passwd"}, r"below the folder of images"),
        ({"path": "C:/x.png"}, r"below the folder of images"),
        ({"path": "a\tb.png"}, r"without tabs"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        own(write(tmp_path / "rows.csv", broken(rows_of(), 2, **changes)))


def test_outside_is_allowed_where_a_toml_says_so(tmp_path: Path) -> None:
    rows = broken(rows_of(), 0, path="../elsewhere/ü.png")
    write(tmp_path / "t" / "rows.csv", rows)
    toml = tmp_path / "t" / "rows.toml"
    toml.write_text('table = "rows.csv"\nallow_outside = true\n')
    write_pictures(tmp_path / "t", rows)
    table = open_table(toml)
    part = table.table("own", None).partitions["train"]
    assert shown(table, part)[0, 0, 0, 0] == grey_of("../elsewhere/ü.png")


@pytest.mark.parametrize("column", ["path", "label", "attribute", "split"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, column: str, ending: str) -> None:
    rows = [{key: cell for key, cell in row.items() if key != column} for row in rows_of()]
    with pytest.raises(SpurbenchError, match=rf"a column '{column}' in .*rows\.{ending}, found .*patient"):
        own(write(tmp_path / f"rows.{ending}", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"path,label,attribute,split\n", "Expected rows in .*, found none"),
        (b"path,label,attribute,split\na.png,0,0\n", r"4 cells as in the header, found 3 \(row 2"),
        (b"path,label,attribute,split\na.png,0,0,train,x\n", r"4 cells as in the header, found 5 \(row 2"),
        (b"path,label,label,attribute,split\na.png,0,0,0,train\n", "'label' in .*, found it 2 times"),
        (b"path,label,attribute,split\n\xfc.png,0,0,train\n", r"UTF-8, found .* unreadable"),
        (b"path,label,attribute,split\n\na.png,0,0,train\n", r"4 cells as in the header, found none \(row 2"),
        (b'path,label,attribute,split\n"a.png,0,0,train\n', r"unreadable \(unexpected end of data"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(SpurbenchError, match=message) as caught:
        own(tmp_path / "rows.csv")
    assert str(tmp_path / "rows.csv") in str(caught.value)


def test_a_truncated_parquet_and_odd_cells_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", rows_of())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SpurbenchError, match=r"a Parquet table, found .*rows\.parquet unreadable"):
        own(path)
    pd.DataFrame(rows_of()).assign(label=[[1]] * len(rows_of())).to_parquet(path)
    with pytest.raises(SpurbenchError, match="texts or numbers in 'label'"):
        own(path)


def test_measurements_names_and_constants_are_no_attribute(tmp_path: Path) -> None:
    rows = rows_of(each=30)
    path = write(tmp_path / "rows.csv", rows, attribute=[f"{k}" for k in range(len(rows))])
    with pytest.raises(SpurbenchError, match=r"2 to 200, found 360 different.*into bins"):
        own(path)
    with pytest.raises(SpurbenchError, match="an attribute value to be one of 2 to 200, found 1 different"):
        own(write(path, rows, attribute="x"))
    with pytest.raises(SpurbenchError, match=r"as a label, found '0.5' \(row 2"):
        own(write(path, rows, label=[0.5] + [1] * (len(rows) - 1)))


def test_missing_partitions_and_damaged_tomls_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [row for row in rows_of() if row["split"] != "validation"])
    with pytest.raises(SpurbenchError, match=r"found no 'validation'.*rows\.csv"):
        own(path)
    toml = tmp_path / "rows.toml"
    for content, message in (
        ("table = ", "TOML in UTF-8"),
        ('tabel = "rows.csv"', r"rows\.toml, found t"),
        ('table = "rows.csv"\n[columns]\nlabel = 3', "columns.label"),
        ('table = "rows.csv"\n[split]\ntrian = "x"', "partitions among train, .*found 'trian'"),
        ('table = "rows.csv"\n[split]\ntrain = 0\ntest = "0"', "one meaning of split '0', found train and test"),
        ('table = "gone.csv"', r"gone\.csv, found no such file"),
    ):
        toml.write_text(content)
        with pytest.raises(SpurbenchError, match=message):
            own(toml)
    with pytest.raises(SpurbenchError, match="found a folder; name the table in it"):
        own(tmp_path)
    with pytest.raises(SpurbenchError, match="found nothing"):
        own(tmp_path / "nowhere.csv")
    with pytest.raises(SpurbenchError, match="split_names such as"):
        own(path, split_names="train")
    with pytest.raises(SpurbenchError, match=r"Expected no rho for table/own, found 0\.9"):
        open_table(path).table("own", 0.9)


@pytest.mark.parametrize("damage", ["truncated", "missing", "mode"])
def test_a_broken_image_is_named_when_it_is_read(tmp_path: Path, damage: str) -> None:
    rows = broken(rows_of(), 3, path="train/größer 漢字.png")
    write_pictures(tmp_path, rows)
    table = open_table(write(tmp_path / "rows.csv", rows))
    file, part = tmp_path / "train/größer 漢字.png", table.table("own", None).partitions["train"]
    assert shown(table, part)[3, 0, 0, 0] == grey_of("train/größer 漢字.png")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-13])
    elif damage == "missing":
        file.unlink()
    else:
        Image.new("RGBA", (8, 8), (0, 0, 0, 9)).save(file)
    with pytest.raises(SpurbenchError, match=r"größer 漢字\.png"):
        shown(table, part)


def test_the_doctor_is_told_all_faults_at_once(tmp_path: Path) -> None:
    rows = broken(broken(broken(rows_of(), 0, label=""), 1, attribute=""), 3, path="train/clear-b-0.png")
    rows = broken(rows, 5, patient=rows[-1]["patient"])
    found = open_table(write(tmp_path / "rows.csv", rows)).inventory("own", None)
    assert {what: len(told) for what, told in found.faults.items()} == {
        "labels": 1,
        "attribute": 1,
        "repeated images": 1,
    }
    train = found.rows["train"]
    assert len(train) == 6  # of 8: without the row of no label, and the repetition
    assert train.attributes.tolist().count(-1) == 1
    assert rows[-1]["patient"] in train.clusters.tolist()


def test_colour_among_grey_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    rows = rows_of()
    write_pictures(tmp_path, rows[:4])
    write_pictures(tmp_path, rows[4:], shape=(8, 8, 3))
    path = write(tmp_path / "rows.csv", rows)
    part = own(path).partitions["train"]
    with pytest.raises(SpurbenchError, match=r"first training image, found colour in .*channels=1 or 3"):
        shown(open_table(path), part)
    for channels in (1, 3):
        assert shown(open_table(path, channels=channels), part).shape == (8, channels, 8, 8)
    write_pictures(tmp_path, rows[:4], shape=(8, 8, 3))
    write_pictures(tmp_path, rows[4:])
    assert shown(open_table(path), part).shape == (8, 3, 8, 8)  # grey has nothing to lose


def test_a_wrong_folder_of_images_is_told_before_any_work(tmp_path: Path) -> None:
    rows = rows_of()
    write_pictures(tmp_path / "images", rows)
    path = write(tmp_path / "rows.csv", rows)
    with pytest.raises(SpurbenchError, match=r"clear-a-0\.png, found nothing \(row 2 .*image_root=FOLDER"):
        _ = open_table(path).channels
    assert open_table(path, image_root="images").channels == 1


def test_empty_patients_are_counted(tmp_path: Path) -> None:
    rows = broken(broken(rows_of(), 3, patient=""), 7, patient="NA")
    with pytest.raises(SpurbenchError, match=r"found none in 2 rows, the first is row 5 of .*--columns patient=-"):
        own(write(tmp_path / "rows.csv", rows))


def test_an_attribute_may_have_the_name_of_a_kind_of_fault(tmp_path: Path) -> None:
    rows = broken(broken(rows_of(), 0, label=""), 1, attribute="")
    path = write(tmp_path / "rows.csv", rows)
    toml = tmp_path / "rows.toml"
    toml.write_text('table = "rows.csv"\nattribute = "labels"\n')
    faults = open_table(toml).inventory("own", None).faults
    assert [fault.split(" in every row")[0] for fault in faults["labels"]] == [
        "Expected a label",
        "Expected an attribute value",
    ]
    assert {**faults, "labels": ()} == {"labels": ()}
    with pytest.raises(SpurbenchError, match="classes that are all different, found clear, tumour, clear"):
        own(write(path, rows_of()), classes="clear,tumour,clear")
