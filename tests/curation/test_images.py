"""Whose an image is: by folder, by name, or by a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from robustbench_spur.curation.images import list_images
from robustbench_spur.types import SpurbenchError

PATIENTS = ["P1", "P2", "P3"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def listing(root: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """A list beside the images that it names."""
    path = root / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


# Folders


@pytest.mark.parametrize(
    ("names", "how", "owners"),
    [
        (["a/P1/z.png", "a/P2/b/y.JPG", "a/P2/x.tif", "P9/w.png"], "folders", ["P1", "P2", "P2"]),
        (["P1.png", "b/P2.jpeg", "P9.bmp"], "names of files", ["P1", "P2"]),
        (["1-103-P1.png", "1-104-P1.png", "1-104-P9.png"], "names of files, after the last hyphen", ["P1", "P1"]),
        (["P1-103-1.png", "P3-1.png", "P9-1.png"], "names of files, before the first hyphen", ["P1", "P3"]),
    ],
)
def test_a_folder_tells_whose_an_image_is(tmp_path: Path, names: list[str], how: str, owners: list[str]) -> None:
    found = list_images(touch(tmp_path, *names, "readme.txt"), PATIENTS)
    assert found.how == how
    assert sorted(patient for patient, _ in found.items) == owners
    assert found.patients == {name: owners.count(name) for name in set(owners)}
    assert [path for _, path in found.items] == sorted(path for _, path in found.items)
    assert all(path.is_file() for _, path in found.items)
    assert found.unclaimed == len(names) - len(owners)


def test_the_rule_that_finds_most_holds_for_all(tmp_path: Path) -> None:
    root = touch(tmp_path, "P1-1.png", "P1-2.png", "P2-1.png", "3-P3.png", "P3/4.png")
    found = list_images(root, PATIENTS)
    assert (found.how, found.unclaimed) == ("names of files, before the first hyphen", 2)
    assert [path.name for _, path in found.items] == ["P1-1.png", "P1-2.png", "P2-1.png"]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    """Such as those that a Mac leaves on a foreign disk: they bear the name of an image and hold none."""
    found = list_images(touch(tmp_path, "P1/1.png", "P1/._1.png", ".small/P1/1.png"), PATIENTS)
    assert ([path.name for _, path in found.items], found.unclaimed) == (["1.png"], 0)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_encoded_either_way(tmp_path: Path, form: str) -> None:
    table = unicodedata.normalize("NFC", "J\u00f6rg \u4e2d")
    touch(tmp_path, f"{unicodedata.normalize(form, table)}/1.png")  # type: ignore[arg-type]
    assert [patient for patient, _ in list_images(tmp_path, [table]).items] == [table]


@pytest.mark.parametrize("names", [[], ["other.png"], ["P1.txt"]])
def test_a_folder_without_images_of_the_table_is_refused(tmp_path: Path, names: Sequence[str]) -> None:
    with pytest.raises(SpurbenchError, match=r"such as 'P1'\) in .*, found [01] of others. Give a CSV"):
        list_images(touch(tmp_path, *names), PATIENTS)


# Lists


@pytest.mark.parametrize("column", ["path", "file"])
def test_a_list_names_patient_and_file(tmp_path: Path, column: str) -> None:
    touch(tmp_path, "b/1.png", "b/2.png", "a 1.png", "\u00e9.png")
    lines = ["P1, b/2.png ,x", "P1,b\\1.png,y", ",,", "P9,a 1.png,z", ",,", "P3,\u00e9.png,"]
    found = list_images(listing(tmp_path, f"patient,{column},more", *lines, encoding="utf-8-sig"), PATIENTS)
    assert [(patient, path.relative_to(tmp_path).as_posix()) for patient, path in found.items] == [
        ("P1", "b/1.png"),
        ("P1", "b/2.png"),
        ("P3", "\u00e9.png"),
    ]
    assert (found.how, found.unclaimed, found.patients) == ("the list list.csv", 1, {"P1": 2, "P3": 1})


def test_a_list_may_lie_elsewhere(tmp_path: Path) -> None:
    there = touch(tmp_path / "images", "1.png", "2.png")
    (tmp_path / "lists").mkdir()
    path = listing(tmp_path / "lists", "path,patient", f"{there / '1.png'},P1", "../images/2.png,P2")
    assert [path for _, path in list_images(path, PATIENTS).items] == [there / "1.png", there / "2.png"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["patient,image", "P1,1.png"], "Expected a column 'path' in .*list.csv, found none"),
        (["patent,path", "P1,1.png"], "Expected a column 'patient' .* Did you mean 'patent'"),
        (["patient,path", "P1,1.png", "", "P2"], "Expected a patient and a path in line 4 of .*found '' of 'P2'"),
        (["patient,path", ",1.png"], "Expected a patient and a path in line 2"),
        (["patient,path", "P1,1.png", "P2,x/../1.png"], "Expected each path once in line 3"),
        (["patient,path", "P1,2.png"], "Expected a file that is there in line 2 of .*found '2.png' of 'P1'"),
        (["patient,path", f'P1,"{"x" * 200_000}'], r"list of them \(CSV in UTF-8\), found .* unreadable .field larger"),
        (["patient,path", "P9,1.png"], "such as 'P1'.*found 1 of others"),
    ],
)
def test_a_list_is_told_its_mistakes(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        list_images(listing(touch(tmp_path, "1.png"), *lines), PATIENTS)


def test_a_place_that_is_not_there_or_no_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"a folder of images or a list .* found no such file"):
        list_images(tmp_path / "nowhere", PATIENTS)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SpurbenchError, match="unreadable"):
        list_images(tmp_path / "1.png", PATIENTS)
