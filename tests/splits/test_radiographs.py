"""Known collections of chest radiographs, on stand-ins with their owners' names of files and columns."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur.types import SpurbenchError
from tests.splits.owners import names, paint, read, write

FINDINGS = ["No Finding", "Pneumonia", "Support Devices"]


def chexpert(root: Path, patients: int = 40) -> list[list[Any]]:
    rows = []
    for number in range(patients):
        place = f"CheXpert-v1.0-small/train/patient{number:05d}/study1"
        sex = "Unknown" if number == 7 else ("Female", "Male")[number % 2]
        finding = ["1.0", "", "0.0", "-1.0"][number % 4]
        rows.append([f"{place}/view1_frontal.jpg", sex, 50, "Frontal", "AP", finding, "", "1.0"])
        rows.append([f"{place}/view2_lateral.jpg", sex, 50, "Lateral", "", finding, "", "1.0"])
    write(root / "train.csv", ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS], rows)
    return rows


def test_chexpert(tmp_path: Path) -> None:
    chexpert(tmp_path)
    dataset, table = read("chexpert", tmp_path)
    assert table.groups.classes == ("any finding", "No Finding")
    assert table.groups.values == ("Female", "Male")
    found = names(table)
    assert found["train/patient00004/study1/view1_frontal.jpg"][:2] == ("No Finding", "Female")
    assert found["train/patient00001/study1/view1_frontal.jpg"][:2] == ("any finding", "Male")
    assert not any("lateral" in key or "00003" in key or "00007" in key for key in found)
    assert len(found) == 30
    assert "Left out: 40 images of a lateral or unknown view." in table.notes
    assert "Left out: 10 images whose No Finding is uncertain or not known." in table.notes
    assert dataset.channels == 1
    assert dataset.files("chexpert", table.partitions["train"])[0].parts[-5:-3] == (tmp_path.name, "train")


def test_chexpert_partitions_are_seeded_and_by_patient(tmp_path: Path) -> None:
    chexpert(tmp_path)
    given = {"views": "all", "uncertain": "absent", "attribute_column": "Support Devices", "values": ""}
    write_both = tmp_path / "train.csv"
    text = write_both.read_text().replace(",1.0\n", ",0.0\n", 30).replace(",1.0\r\n", ",0.0\r\n", 30)
    write_both.write_text(text)
    _, table = read("chexpert", tmp_path, **given)
    assert table.groups.values == ("no Support Devices", "Support Devices")
    patients = {name: set(part.clusters.tolist()) for name, part in table.partitions.items()}
    assert {name: len(found) for name, found in patients.items()} == {"train": 26, "validation": 4, "test": 10}
    assert sum(len(part) for part in table.partitions.values()) == 80
    assert read("chexpert", tmp_path, **given)[1].sha256() == table.sha256()


def test_chexpert_in_another_layout_is_refused(tmp_path: Path) -> None:
    header = ["Path", "Sex", "Frontal/Lateral", "No Finding"]
    write(tmp_path / "train.csv", header, [["data/patient00001/a.jpg", "Male", "Frontal", "1.0"]])
    with pytest.raises(SpurbenchError, match=r"found 'data/patient00001/a\.jpg'"):
        read("chexpert", tmp_path)
    path = "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
    write(tmp_path / "train.csv", header, [[path, "Male", "Frontal", "2.0"]])
    with pytest.raises(SpurbenchError, match=r"1, 0, -1 or nothing in 'No Finding', found '2.0' \(row 2"):
        read("chexpert", tmp_path)
    with pytest.raises(SpurbenchError, match=r"folder of chexpert at .*, found a file"):
        read("chexpert", tmp_path / "train.csv")


def mimic(root: Path, ending: str) -> None:
    parts = ["train", "train", "validate", "test"]
    metadata, findings, split = [], [], []
    for number in range(16):
        patient, study, image = 10000000 + number, 50000000 + number, f"dicom-{number}"
        view = ["PA", "AP", "LATERAL", ""][number % 4] if number > 7 else ["PA", "AP"][number % 2]
        metadata.append([image, patient, study, view])
        findings.append([patient, study, ["1.0", "", "-1.0", "0.0"][number // 2 % 4], ""])
        split.append([image, study, patient, parts[number // 2 % 4]])
    write(
        root / f"mimic-cxr-2.0.0-metadata.csv{ending}", ["dicom_id", "subject_id", "study_id", "ViewPosition"], metadata
    )
    write(
        root / f"mimic-cxr-2.0.0-chexpert.csv{ending}",
        ["subject_id", "study_id", "No Finding", "Edema"],
        findings[:-1],
    )
    write(root / f"mimic-cxr-2.0.0-split.csv{ending}", ["dicom_id", "study_id", "subject_id", "split"], split)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mimic_cxr(tmp_path: Path, ending: str) -> None:
    mimic(tmp_path, ending)
    dataset, table = read("mimic_cxr", tmp_path, uncertain="present")
    assert table.groups.values == ("PA", "AP")
    found = names(table)
    assert found["files/p10/p10000000/s50000000/dicom-0.jpg"] == ("No Finding", "PA", "train")
    assert found["files/p10/p10000005/s50000005/dicom-5.jpg"] == ("No Finding", "AP", "validation")
    assert found["files/p10/p10000007/s50000007/dicom-7.jpg"] == ("any finding", "AP", "test")
    assert len(found) == 12  # of the last eight, half are of no frontal view
    assert dataset.channels == 1
    genders = [[10000000 + k, "MF"[k % 2], 50] for k in range(1, 16)]
    write(tmp_path / f"patients.csv{ending}", ["subject_id", "gender", "anchor_age"], genders)
    _, by_gender = read("mimic_cxr", tmp_path, uncertain="present", attribute_column="gender")
    assert by_gender.groups.values == ("F", "M")
    assert "Left out: 1 images whose gender is unknown." in by_gender.notes
    (tmp_path / f"patients.csv{ending}").unlink()
    with pytest.raises(SpurbenchError, match=r"Expected patients\.csv or patients\.csv\.gz in"):
        read("mimic_cxr", tmp_path, attribute_column="gender")


def cxr14(root: Path) -> dict[str, list[Any]]:
    rows = {
        f"{number:08d}_{scan:03d}.png": [
            ("No Finding", "Effusion|Mass", "Mass")[(number + scan) % 3],
            scan,
            number,
            "058Y",
            "MF"[number % 2],
            ("PA", "AP")[scan],
        ]
        for number in range(1, 31)
        for scan in range(2)
    }
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]
    header += ["View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", ""]
    write(root / "Data_Entry_2017.csv", header, [[key, *row, 2500, 2048, 0.1, 0.1, ""] for key, row in rows.items()])
    for name, mine in (("train_val_list.txt", range(1, 21)), ("test_list.txt", range(21, 31))):
        (root / name).write_text("".join(f"{key}\n" for key, row in rows.items() if row[2] in mine))
    return rows


def test_cxr14(tmp_path: Path) -> None:
    rows = cxr14(tmp_path)
    for number, key in enumerate(rows):
        paint(tmp_path / f"images_{number % 2 + 1:03d}" / "images" / key, number)
    dataset, table = read("cxr14", tmp_path, label_column="Effusion", validation_share=0.25)
    found = names(table)
    assert table.groups.classes == ("no Effusion", "Effusion")
    for key, row in rows.items():
        kind, sex, part = found[key]
        assert (kind, sex) == ("Effusion" if "Effusion" in row[0] else "no Effusion", row[4])
        assert (part == "test") == (row[2] > 20)
    assert Counter(part for _, _, part in found.values()) == {"train": 30, "validation": 10, "test": 20}
    part = table.partitions["test"]
    values = np.concatenate(list(dataset.pixels("cxr14", part, 6)))[:, 0, 0, 0].tolist()
    assert values == [list(rows).index(key) for key in part.ids.tolist()]
    _, views = read("cxr14", tmp_path, attribute_column="View Position")
    assert views.groups.values == ("AP", "PA")
    with pytest.raises(SpurbenchError, match=r"a finding of .*, found 'Efusion'.*Did you mean 'Effusion'"):
        read("cxr14", tmp_path, label_column="Efusion")
    (tmp_path / "test_list.txt").write_text("")
    with pytest.raises(SpurbenchError, match=r"00000021_000\.png in train_val_list\.txt or test_list\.txt"):
        read("cxr14", tmp_path)
