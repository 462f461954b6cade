"""Anybody's table: what is read of it, of whatever form."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robustbench_spur.registry import Registry
from robustbench_spur.splitref import parse_split
from robustbench_spur.types import SpurbenchError
from tests.splits.usertable import grey_of, open_table, own, rows_of, shown, write, write_pictures


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_rows_groups_and_patients_are_those_of_the_table(tmp_path: Path, ending: str) -> None:
    rows = rows_of()
    table = own(write(tmp_path / f"rows.{ending}", rows))
    assert (table.groups.classes, table.groups.attribute, table.groups.values) == (
        ("clear", "tumour"),
        "attribute",
        ("a", "b"),
    )
    for name, part in table.partitions.items():
        mine = [row for row in rows if row["split"] == name]
        assert part.ids.tolist() == part.extra["file"].tolist() == [row["path"] for row in mine]
        assert part.labels.tolist() == [int(row["label"] == "tumour") for row in mine]
        assert part.attributes.tolist() == [int(row["attribute"] == "b") for row in mine]
        assert part.clusters.tolist() == [row["patient"] for row in mine]
    assert table.notes == ()


def test_images_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = rows_of()
    write_pictures(tmp_path, rows)
    table = open_table(write(tmp_path / "rows.csv", rows))
    part = table.table("own", None).partitions["test"]
    assert table.channels == 1
    assert shown(table, part)[:, 0, 0, 0].tolist() == [grey_of(name) for name in part.ids.tolist()]
    assert table.files("own", part) == [tmp_path / name for name in part.ids.tolist()]
    assert shown(table, part.take(np.array([2])), 5).shape == (1, 1, 5, 5)


def test_more_than_a_block_of_images_comes_in_order(tmp_path: Path) -> None:
    rows = rows_of(each=70)
    write_pictures(tmp_path, [row for row in rows if row["split"] == "train"], shape=(3, 3))
    table = open_table(write(tmp_path / "rows.csv", rows))
    part = table.table("own", None).partitions["train"]
    sizes = [len(block) for block in table.pixels("own", part, 3)]
    assert sizes == [256, 24]
    assert shown(table, part, 3)[:, 0, 0, 0].tolist() == [grey_of(name) for name in part.ids.tolist()]


@pytest.mark.parametrize(("shape", "channels"), [((6, 9), 1), ((6, 9, 3), 3)])
def test_channels_are_those_of_the_first_training_image_unless_asked_for(
    tmp_path: Path, shape: tuple[int, ...], channels: int
) -> None:
    rows = rows_of()
    write_pictures(tmp_path, rows, shape=shape)
    path = write(tmp_path / "rows.csv", rows)
    part = own(path).partitions["test"]
    assert open_table(path).channels == channels
    for asked in (1, 3):
        table = open_table(path, channels=asked)
        assert table.channels == asked
        assert shown(table, part, 4).shape == (len(part), asked, 4, 4)
    with pytest.raises(SpurbenchError, match="found 2"):
        _ = open_table(path, channels=2).channels


def test_sixteen_bits_have_the_full_scale_of_the_settings_or_of_the_toml(tmp_path: Path) -> None:
    rows = rows_of()
    for row in rows:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 819, np.uint16)).save(tmp_path / row["path"])
    path = write(tmp_path / "rows.csv", rows)
    toml = tmp_path / "rows.toml"
    toml.write_text('table = "rows.csv"\nfull_scale = 4095\nchannels = 3\n')
    for place, asked, expected in ((path, {}, 3), (path, {"full_scale": 4095}, 51), (toml, {}, 51)):
        table = open_table(place, **asked)
        part = table.table("own", None).partitions["train"]
        assert (shown(table, part) == expected).all()  # 819 / 65535 and 819 / 4095 of 255
    assert open_table(toml).channels == 3


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 5), values=st.integers(2, 5), numeric=st.booleans(), data=st.data())
def test_any_number_of_classes_and_values_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, classes: int, values: int, numeric: bool, data: st.DataObject
) -> None:
    labels: list[Any] = [10 * k for k in range(classes)] if numeric else [f"ü{k}" for k in range(classes)]
    rows = data.draw(st.permutations(rows_of(labels, range(values), each=1)))
    table = own(write(tmp_path_factory.mktemp("any") / "rows.csv", rows))
    assert table.groups.classes == tuple(map(str, labels))  # 10 after 0 and before 20: sorted as numbers
    assert all(group["examples"] == 1 for part in table.counts().values() for group in part.values())
    assert len(table.groups) == classes * values


def test_the_universe_holds_what_occurs_anywhere_and_what_was_given(tmp_path: Path) -> None:
    rows = rows_of()
    rows[-1]["label"] = "benign"
    path = write(tmp_path / "rows.csv", rows)
    assert own(path).groups.classes == ("benign", "clear", "tumour")
    table = own(path, classes="tumour, clear,benign,malignant", values="b,a")
    assert table.groups.classes == ("tumour", "clear", "benign", "malignant")
    assert table.groups.values == ("b", "a")
    assert table.partitions["train"].labels[0] == 1
    assert table.counts()["train"]["malignant@a"] == {"examples": 0, "patients": 0}


def test_whole_numbers_may_have_a_decimal_point_and_attributes_others(tmp_path: Path) -> None:
    rows = rows_of(["0.0", "1"], ["1.5", "10", "3.0"])
    groups = own(write(tmp_path / "rows.csv", rows)).groups
    assert groups.classes == ("0", "1")
    assert groups.values == ("1.5", "3", "10")
    frame = pd.DataFrame(rows).astype({"label": float})
    frame.to_parquet(tmp_path / "rows.parquet")
    assert own(tmp_path / "rows.parquet").groups == groups


def test_columns_and_partitions_may_have_any_name(tmp_path: Path) -> None:
    rows = rows_of()
    names = {"path": "Datei", "label": "Befund", "attribute": "Gerät", "split": "Teil", "patient": "Patientin"}
    codes = {"train": 0, "validation": 1, "test": 2}
    other = [{names[key]: codes.get(cell, cell) for key, cell in row.items()} for row in rows]
    other.append({**other[0], "Datei": "spare.png", "Teil": 3})
    write_pictures(tmp_path / "bilder", rows)
    path = write(tmp_path / "tabellen" / "zeilen.csv", other)
    given = {f"{key}_column": name for key, name in names.items()}
    codes_text = "0:train,1:validation,2:test,3:ignore"
    table = open_table(path, **given, split_names=codes_text, image_root="../bilder")
    found, expected = table.table("own", None), own(write(tmp_path / "bilder" / "rows.csv", rows))
    assert {name: part.digest() for name, part in found.partitions.items()} == {
        name: part.digest() for name, part in expected.partitions.items()
    }
    assert found.groups.attribute == "Gerät"
    assert found.notes == ("Left out: 1 rows that the table says to ignore.",)
    assert len(shown(table, found.partitions["test"])) == len(found.partitions["test"])


def test_a_toml_says_the_same_and_settings_count_more(tmp_path: Path) -> None:
    rows = rows_of()
    codes = {"train": "0", "validation": "dev", "test": "2"}
    write(tmp_path / "rows.csv", [{**row, "split": codes[row["split"]], "who": row["patient"]} for row in rows])
    toml = tmp_path / "mine.toml"
    toml.write_text(
        'table = "rows.csv"\nattribute = "scanner"\nclasses = ["tumour", "clear"]\nname = "Mine"\nlicence = "CC0"\n'
        '[columns]\npatient = "who"\n[split]\ntrain = 0\nvalidation = ["1", "dev"]\ntest = ["2"]\n'
    )
    table = own(toml)
    assert table.groups.classes == ("tumour", "clear")
    assert table.groups.attribute == "scanner"
    assert table.notes == ("From Mine: CC0",)
    assert own(toml, classes="clear,tumour", patient_column="-").groups.classes == ("clear", "tumour")
    assert "own cluster" in own(toml, patient_column="-").notes[0]


def test_without_patients_each_image_is_its_own(tmp_path: Path) -> None:
    rows = [{key: cell for key, cell in row.items() if key != "patient"} for row in rows_of()]
    table = own(write(tmp_path / "rows.csv", rows))
    assert table.notes == ("No patient ids are given: each image is its own cluster.",)
    assert all((part.ids == part.clusters).all() for part in table.partitions.values())


def test_the_identity_depends_on_the_content_and_not_on_the_place(tmp_path: Path) -> None:
    rows = rows_of()
    one, other = write(tmp_path / "a" / "rows.csv", rows), write(tmp_path / "b" / "rows.csv", rows)
    assert open_table(one).fingerprint() == open_table(other).fingerprint()
    assert own(one).sha256() == own(other).sha256()
    rows[0]["label"] = "tumour"
    write(other, rows)
    assert open_table(one).fingerprint() != open_table(other).fingerprint()
    toml = tmp_path / "a" / "rows.toml"
    toml.write_text('table = "rows.csv"\n')
    before = open_table(toml).fingerprint()
    write(one, rows)
    assert open_table(toml).fingerprint() != before


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    count = 100_000
    number = np.arange(count)
    frame = pd.DataFrame({"path": [f"ordner/bild-{k:06d}.png" for k in number], "label": number % 3})
    frame["attribute"], frame["patient"] = number // 3 % 4, number // 10
    frame["split"] = np.array(["train", "val", "test"])[np.minimum(number // 10 % 10 // 4, 2)]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    table = own(tmp_path / "rows.csv")
    assert {name: len(part) for name, part in table.partitions.items()} == {
        "train": 40_000,
        "validation": 40_000,
        "test": 20_000,
    }
    at = table.partitions["validation"]
    first = frame[frame.split == "val"]
    assert (at.labels == first.label).all()
    assert (at.attributes == first.attribute).all()
    assert (at.ids == first.path).all()


def test_it_is_found_by_name_and_takes_settings_as_text(tmp_path: Path) -> None:
    rows = rows_of()
    write_pictures(tmp_path, rows)
    given = {"path_column": "file", "split_names": "train:train,validation:validation,test:test", "channels": "3"}
    path = write(tmp_path / "rows.csv", [{"file": row["path"], **row} for row in rows])
    ref = parse_split("table/own", Registry(), given)
    assert parse_split(ref.full, Registry()).full == ref.full
    opened = ref.open(path)
    assert opened.dataset.channels == 3
    assert len(opened.table.partitions["train"]) == 8


def test_a_changed_image_is_noticed_by_its_size(tmp_path: Path) -> None:
    rows = rows_of()
    write_pictures(tmp_path, rows)
    path = write(tmp_path / "rows.csv", rows)
    part = own(path).partitions["test"]
    first = tmp_path / rows[16]["path"]
    assert part.extra["bytes"].tolist()[0] == first.stat().st_size
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(first)
    assert own(path).partitions["test"].digest() == part.digest()
    assert own(path).partitions["test"].digest(with_extra=True) != part.digest(with_extra=True)
    first.unlink()
    assert own(path).partitions["test"].extra["bytes"].tolist()[0] == -1


def test_a_csv_may_have_semicolons_a_mark_of_its_encoding_and_empty_lines_at_its_end(tmp_path: Path) -> None:
    rows = rows_of(["klar", "tumör, fest"])
    expected = own(write(tmp_path / "rows.csv", rows)).sha256()
    pd.DataFrame(rows).to_csv(tmp_path / "other.csv", index=False, sep=";", encoding="utf-8-sig", lineterminator="\r\n")
    with (tmp_path / "other.csv").open("a") as file:
        file.write("\n\n")
    assert own(tmp_path / "other.csv").sha256() == expected
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv.gz", index=False)
    assert own(tmp_path / "rows.csv.gz").sha256() == expected


def test_a_share_of_the_validation_patients_can_make_up_adapt(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", rows_of(each=10))
    before, after = own(path), own(path, adapt_share=0.4)
    whole, rest, adapt = before.partitions["validation"], *(after.partitions[n] for n in ("validation", "adapt"))
    assert sorted([*rest.ids.tolist(), *adapt.ids.tolist()]) == sorted(whole.ids.tolist())
    assert len(set(adapt.clusters.tolist())) == 8  # of 20
    assert not set(adapt.clusters.tolist()) & set(rest.clusters.tolist())
    assert after.partitions["train"].digest() == before.partitions["train"].digest()
    assert after.notes == ("Adapt is drawn from validation by patient: 16 images.",)
    assert own(path, adapt_share=0.4, seed=1).partitions["adapt"].digest() != adapt.digest()
    rows = [{**row, "split": "adapt"} if "clear" in row["patient"] else row for row in rows_of()]
    named = own(write(tmp_path / "named.csv", rows), adapt_share=0.4)
    assert len(named.partitions["adapt"]) == 12


def test_a_group_that_is_nowhere_is_noted(tmp_path: Path) -> None:
    rows = [row for row in rows_of() if (row["label"], row["attribute"]) != ("tumour", "b")]
    table = own(write(tmp_path / "rows.csv", rows))
    assert table.groups.names == ("clear@a", "clear@b", "tumour@a", "tumour@b")
    (note,) = table.notes
    assert note.startswith("No image of any partition is of tumour@b: the worst of all groups is undefined")
    many = [row for row in rows_of(range(5), range(8), each=1) if row["label"] == row["attribute"] or row["label"] == 0]
    assert "and 18 more:" in own(write(tmp_path / "rows.csv", many)).notes[0]  # 40 groups, of which 12 are there
