"""The released layout, on folders that the tests write: every rule of the loader, and every way it can be broken."""

import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from robustbench_spur.splits.spurbreast import ATTRIBUTES, SPREADSHEET, Spreadsheet, SpurBreast
from robustbench_spur.types import Partition, SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "duke_breast_mri_metadata" / SPREADSHEET
SIDE = 40

# The three header rows of Duke's spreadsheet, cut to the columns that matter and some that could be mistaken for them.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("Patient Information", "Patient ID", ""),
    ("MRI Technical Information", "Days to MRI (From the Date of Diagnosis)", ""),
    ("", "Manufacturer", "GE MEDICAL SYSTEMS=0, MPTronic software=1, SIEMENS=2"),
    ("", "Field Strength (Tesla)", "1.494=0,1.5=1,2.8936=2,3=3"),
    ("", "Slice Thickness ", "0.9=0,0.95=1"),
    ("Demographics", "Date of Birth (Days)", "(Taking date of diagnosis as day 0)"),
    ("", "Menopause (at diagnosis)", "{0 = pre,\n1 = post,\n2 = N/A}"),
    (
        "",
        "Race and Ethnicity",
        "{0 = N/A\n1 = white,\n2 = black,\n3 = asian,\n4 = native,\n5 = hispanic,\n6 = multi,\n7 = hawa,"
        "    8 = amer indian}",
    ),
    ("SURGERY", "Surgery", "{0 = no,1 = yes}"),
    ("", "Definitive Surgery Type", "{0=BCS, 1=mastectomy}"),
    ("Mammography Characteristics", "Shape", "{0=oval, 1=irregular}"),
    ("US features", "Shape", "{0=oval, 1=irregular}"),
    ("Other", "Manufacturer", "SIEMENS=0, GE MEDICAL SYSTEMS=2"),
)
CODES = {"field": 3, "vendor": 2, "menopause": 6, "race": 7, "surgery": 9}
Layout = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Partition folder, patient, labels of its slices in order."""

LAYOUT: Layout = {
    "training": {1: (0, 0, 0), 2: (0, 0), 3: (1, 1, 1), 4: (1, 1)},
    "validation": {11: (0, 0), 12: (1, 1, 1)},
    "test": {21: (0, 1, 1), 22: (1, 0), 23: (0, 0, 1), 24: (1, 0)},
}
TIED = {1: 0, 2: 0, 3: 1, 4: 1, 11: 0, 12: 1, 21: 1, 22: 1, 23: 0, 24: 0}
"""Whether a patient carries the value tied to tumour; test patients carry either with both labels."""


def write_spreadsheet(path: Path, patients: Mapping[int, Mapping[str, object]]) -> Path:
    rows: list[list[object]] = [[column[i] or None for column in COLUMNS] for i in range(3)]
    for patient, codes in patients.items():
        row: list[object] = [f"Breast_MRI_{patient:03d}", 5, 0, 3, 1, -15000, 0, 1, 1, 0, "NC", None, 0]
        for name, code in codes.items():
            row[CODES[name]] = code
        rows.append(row)
    pd.DataFrame(rows).to_excel(path, sheet_name="Data", header=False, index=False)
    return path


def png(rng: np.random.Generator, side: int = SIDE) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_slices(folder: Path, layout: Layout, content: Callable[[], bytes]) -> None:
    for partition, patients in layout.items():
        for label in "01":
            (folder / partition / label).mkdir(parents=True, exist_ok=True)
        for patient, labels in patients.items():
            for number, label_of_slice in enumerate(labels, start=8):  # 8, 9, 10: not in the order of texts
                (folder / partition / str(label_of_slice) / f"1-{number}-{patient}.png").write_bytes(content())


def stand_in(root: Path, split: str = "field_strength", **codes: tuple[object, object]) -> SpurBreast:
    """A small folder in the released layout; ``codes`` holds two codes per column: of those not tied and those tied."""
    codes = codes or {"field": (3, 1)}
    rng = np.random.default_rng(0)
    write_slices(root / split, LAYOUT, lambda: png(rng))
    patients = {p: {name: pair[tied] for name, pair in codes.items()} for p, tied in TIED.items()}
    write_spreadsheet(root / SPREADSHEET, patients)
    return SpurBreast(path=root)


@pytest.fixture
def dataset(tmp_path: Path) -> SpurBreast:
    return stand_in(tmp_path)


def file(dataset: SpurBreast, name: str, split: str = "field_strength") -> Path:
    return dataset.root / split / name


def images(dataset: SpurBreast, partition: Partition, size: int) -> NDArray[np.uint8]:
    return np.concatenate(list(dataset.pixels("field", partition, size)))


def test_rows_are_sorted_by_patient_then_slice_and_joined_with_the_spreadsheet(dataset: SpurBreast) -> None:
    table = dataset.table("field_strength", None)
    assert table.groups.names == ("clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T")
    assert set(table.partitions) == {"train", "validation", "test"}
    test = table.partitions["test"]
    assert test.ids.tolist() == [
        *("1-8-21", "1-9-21", "1-10-21", "1-8-22", "1-9-22"),
        *("1-8-23", "1-9-23", "1-10-23", "1-8-24", "1-9-24"),
    ]
    assert test.labels.tolist() == [0, 1, 1, 1, 0, 0, 0, 1, 1, 0]
    assert test.attributes.tolist() == [1] * 5 + [0] * 5
    assert test.clusters.tolist() == ["Breast_MRI_021"] * 3 + ["Breast_MRI_022"] * 2 + [
        *["Breast_MRI_023"] * 3,
        *["Breast_MRI_024"] * 2,
    ]
    assert test.extra["slice"].tolist()[:3] == ["8", "9", "10"]
    assert test.extra["file"].tolist()[:2] == ["test/0/1-8-21.png", "test/1/1-9-21.png"]
    assert dataset.table("field", None).sha256() == table.sha256()


def test_counts_show_two_empty_groups_in_train_and_validation_and_none_in_test(dataset: SpurBreast) -> None:
    counts = dataset.table("field", None).counts()
    assert counts["train"] == {
        "clear@3T": {"examples": 5, "patients": 2},
        "clear@1.5T": {"examples": 0, "patients": 0},
        "tumour@3T": {"examples": 0, "patients": 0},
        "tumour@1.5T": {"examples": 5, "patients": 2},
    }
    assert [group["examples"] for group in counts["validation"].values()] == [2, 0, 0, 3]
    assert [group["examples"] for group in counts["test"].values()] == [3, 2, 2, 3]
    assert [group["patients"] for group in counts["test"].values()] == [2, 2, 2, 2]


def spread(total: int, patients: int) -> list[int]:
    return [total // patients + (i < total % patients) for i in range(patients)]


def test_the_released_counts_give_the_published_score_of_the_field_rule(tmp_path: Path) -> None:
    """Patients and slices per group as audited on the release; the files are empty, since a table opens none."""
    layout: dict[str, dict[int, tuple[int, ...]]] = {"training": {}, "validation": {}, "test": {}}
    field: dict[int, Mapping[str, object]] = {}

    def add(partition: str, patients: int, clear: int, tumour: int, code: int) -> None:
        for negative, positive in zip(spread(clear, patients), spread(tumour, patients), strict=True):
            layout[partition][len(field) + 1] = (0,) * negative + (1,) * positive
            field[len(field) + 1] = {"field": code}

    add("training", 200, 4781, 0, 3)
    add("training", 200, 0, 4781, 1)
    add("validation", 75, 1788, 0, 3)
    add("validation", 75, 0, 1788, 1)
    add("test", 71, 1684, 1394, 1)
    add("test", 79, 1710, 2000, 3)
    write_slices(tmp_path / "field_strength", layout, bytes)
    write_spreadsheet(tmp_path / SPREADSHEET, field)
    table = SpurBreast(path=tmp_path).table("field", None)
    examples = {name: [g["examples"] for g in groups.values()] for name, groups in table.counts().items()}
    assert examples == {
        "train": [4781, 0, 0, 4781],
        "validation": [1788, 0, 0, 1788],
        "test": [1710, 1684, 2000, 1394],
    }
    assert [g["patients"] for g in table.counts()["test"].values()] == [79, 71, 79, 71]
    test = table.partitions["test"]
    assert round(float((test.attributes == test.labels).mean()), 4) == 0.4573


@pytest.mark.parametrize(
    ("split", "codes", "names"),
    [
        ("vertical_flip", {"vendor": (0, 2)}, ("orientation", "breasts-down", "breasts-up")),
        ("vertical_flip", {"vendor": (2, 0)}, ("orientation", "breasts-up", "breasts-down")),
        ("menopause", {"menopause": (0, 1)}, ("menopause", "pre", "post")),
        ("menopause", {"menopause": (1, 0)}, ("menopause", "post", "pre")),
        ("race_and_ethnicity", {"race": (2, 1)}, ("race and ethnicity", "black", "white")),
        ("race_and_ethnicity", {"race": (8, 7)}, ("race and ethnicity", "american-indian", "hawaiian")),
        ("surgery_type", {"surgery": (0, 1)}, ("surgery type", "BCS", "mastectomy")),
        ("surgery_type", {"surgery": (1.0, "0")}, ("surgery type", "mastectomy", "BCS")),
    ],
)
def test_the_value_tied_to_tumour_is_inferred_gets_code_1_and_is_noted(
    tmp_path: Path, split: str, codes: dict[str, tuple[object, object]], names: tuple[str, str, str]
) -> None:
    table = stand_in(tmp_path, split, **codes).table(split, None)
    assert (table.groups.attribute, *table.groups.values) == names
    for part in table.partitions.values():
        assert part.attributes.tolist() == [TIED[int(patient[-3:])] for patient in part.clusters.tolist()]
    tie = f"inferred from the joined table: {names[0]} {names[2]}, on 100.0% of the tumour slices and 0.0% of the clear"
    assert any(tie in note for note in table.notes)
    assert any("inferred from the manufacturer" in note for note in table.notes) == (split == "vertical_flip")


def test_the_notes_say_what_a_reader_must_know(dataset: SpurBreast) -> None:
    notes = "\n".join(dataset.table("field", None).notes)
    assert "by the split's definition: field strength 1.5T" in notes
    assert "Every patient of train has slices of one label only" in notes
    assert "no annotated tumour" in notes


@pytest.mark.parametrize("split", ["baseline_high", "baseline_mid", "baseline_low"])
def test_a_baseline_has_field_strength_untied_and_merges_odd_field_strengths_with_a_note(
    tmp_path: Path, split: str
) -> None:
    table = stand_in(tmp_path, split, field=(2, 0)).table(split, None)
    assert table.groups.values == ("3T", "1.5T")
    assert table.partitions["test"].attributes.tolist() == [1] * 5 + [0] * 5
    notes = "\n".join(table.notes)
    assert "Breast_MRI_001 (2.8936)" in notes
    assert "Breast_MRI_003 (1.494)" in notes
    assert "No attribute is tied" in notes
    write_spreadsheet(tmp_path / SPREADSHEET, {patient: {"field": 3} for patient in TIED})
    assert "nearest nominal" not in "\n".join(SpurBreast(path=tmp_path).table(split, None).notes)


def test_hidden_files_and_those_of_file_browsers_are_ignored(dataset: SpurBreast) -> None:
    expected, mark = dataset.table("field", None).sha256(), dataset.fingerprint()
    for name in (".DS_Store", "training/.DS_Store", "training/0/Thumbs.db", "test/1/._1-8-21.png", "test/desktop.ini"):
        file(dataset, name).write_bytes(b"x")
    again = SpurBreast(path=dataset.path)
    assert again.table("field", None).sha256() == expected
    assert again.fingerprint() == mark


def test_names_may_be_upper_case_and_slices_no_numbers(dataset: SpurBreast) -> None:
    file(dataset, "test/0/1-8-21.png").rename(file(dataset, "test/0/1-b-21.PNG"))
    file(dataset, "test/1/1-9-21.png").rename(file(dataset, "test/1/1-a-21.png"))
    ids = dataset.table("field", None).partitions["test"].ids.tolist()
    assert ids[:3] == ["1-10-21", "1-a-21", "1-b-21"]


@pytest.mark.parametrize(
    "name",
    ["1-9.png", "1-9-x.png", "1-9-2-3.png", "notes.txt", "1-9-21.jpg", "1-9-21.png.bak", "1-9-٣.png", "1-9-2.png\n"],
)
def test_any_other_name_is_refused_and_named(dataset: SpurBreast, name: str) -> None:
    file(dataset, f"test/0/{name}").write_bytes(b"")
    with pytest.raises(SpurbenchError, match=r"<prefix>-<slice>-<patient>\.png, found") as caught:
        dataset.table("field", None)
    assert str(file(dataset, f"test/0/{name}")) in str(caught.value)


def _extra_label(dataset: SpurBreast) -> str:
    file(dataset, "training/2").mkdir()
    return "field_strength/training/2"


def _no_partition(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "validation"))
    return "field_strength/validation"


def _no_label(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "test/1"))
    return "field_strength/test/1"


def _empty_label(dataset: SpurBreast) -> str:
    for entry in file(dataset, "validation/0").iterdir():
        entry.unlink()
    return "PNG files in .*field_strength/validation/0, found none"


def _label_is_file(dataset: SpurBreast) -> str:
    shutil.rmtree(file(dataset, "test/1"))
    file(dataset, "test/1").write_bytes(b"")
    return "field_strength/test/1 unreadable"


def _both_labels(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "test/0/1-8-21.png"), file(dataset, "test/1/1-008-21.png"))
    return "test/1/1-008-21.png and test/0/1-8-21.png"


def _overlap(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "training/0/1-8-1.png"), file(dataset, "test/0/1-8-001.png"))
    return "Breast_MRI_001 in training/0/1-8-1.png and test/0/1-8-001.png"


def _unknown_patient(dataset: SpurBreast) -> str:
    shutil.copy(file(dataset, "training/0/1-8-1.png"), file(dataset, "test/0/1-8-923.png"))
    return rf"Breast_MRI_923 \(test/0/1-8-923.png\) in .*{SPREADSHEET}, found no such row"


def _no_spreadsheet(dataset: SpurBreast) -> str:
    (dataset.root / SPREADSHEET).unlink()
    return f"{SPREADSHEET} in {dataset.root} or {dataset.root.parent}, found it in neither.*10.7937/TCIA"


def _no_excel(dataset: SpurBreast) -> str:
    (dataset.root / SPREADSHEET).write_bytes(b"Patient ID,Field\n")
    return f"{SPREADSHEET} unreadable"


def _truncated_excel(dataset: SpurBreast) -> str:
    path = dataset.root / SPREADSHEET
    path.write_bytes(path.read_bytes()[:-900])
    return f"{SPREADSHEET} unreadable"


def _other_sheet(dataset: SpurBreast) -> str:
    pd.DataFrame([[1]]).to_excel(dataset.root / SPREADSHEET, sheet_name="Sheet1")
    return f"{SPREADSHEET} unreadable .*'Data' not found"


def _no_rows(dataset: SpurBreast) -> str:
    write_spreadsheet(dataset.root / SPREADSHEET, {})
    return f"header rows and then patients in .*{SPREADSHEET}, found 3 rows"


@pytest.mark.parametrize(
    "spoil",
    [
        _extra_label,
        _no_partition,
        _no_label,
        _empty_label,
        _label_is_file,
        _both_labels,
        _overlap,
        _unknown_patient,
        _no_spreadsheet,
        _no_excel,
        _truncated_excel,
        _other_sheet,
        _no_rows,
    ],
)
def test_a_spoiled_folder_is_refused_with_the_file_named(
    dataset: SpurBreast, spoil: Callable[[SpurBreast], str]
) -> None:
    expected = spoil(dataset)
    with pytest.raises(SpurbenchError, match=expected) as caught:
        dataset.table("field", None)
    assert "\n" not in str(caught.value)


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
        (2, 3, "", "coding above 'Field Strength .*xlsx, found an empty cell"),
        (2, 3, "1.5 or 3", "'code = meaning' above 'Field Strength .*xlsx, found '1.5 or 3'"),
        (2, 3, "1.5=1,3=1", "xlsx, found '3=1'"),
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


def test_a_third_race_is_refused_in_training_and_in_test(tmp_path: Path) -> None:
    for patient, message in (
        (1, "two values of race and ethnicity in .*found asian, black, white"),
        (24, "found asian"),
    ):
        root = tmp_path / str(patient)
        root.mkdir()
        dataset = stand_in(root, "race_and_ethnicity", race=(2, 1))
        codes: dict[int, Mapping[str, object]] = {p: {"race": (2, 1)[tied]} for p, tied in TIED.items()}
        write_spreadsheet(root / SPREADSHEET, {**codes, patient: {"race": 3}})
        with pytest.raises(SpurbenchError, match=message):
            dataset.table("race_and_ethnicity", None)


def test_the_path_may_be_one_split_folder_with_the_spreadsheet_in_it_or_above(dataset: SpurBreast) -> None:
    expected = dataset.table("field", None).sha256()
    inside = SpurBreast(path=dataset.root / "field_strength")
    assert inside.table("field", None).sha256() == expected
    assert inside.fingerprint() == dataset.fingerprint()
    shutil.move(dataset.root / SPREADSHEET, dataset.root / "field_strength" / SPREADSHEET)
    moved = SpurBreast(path=dataset.root / "field_strength")
    assert moved.table("field", None).sha256() == expected
    assert images(moved, moved.table("field", None).partitions["test"], SIDE).shape == (10, 1, SIDE, SIDE)
    with pytest.raises(SpurbenchError, match=r"folder 'menopause' in .*field_strength"):
        moved.table("menopause", None)


def test_paths_that_mean_nothing_are_named(tmp_path: Path, dataset: SpurBreast) -> None:
    with pytest.raises(SpurbenchError, match=r"found nothing\. Check --data spurbreast=PATH"):
        SpurBreast(path=tmp_path / "nowhere").table("field", None)
    with pytest.raises(SpurbenchError, match="found a file; unpack it"):
        SpurBreast(path=tmp_path / SPREADSHEET).fingerprint()
    with pytest.raises(SpurbenchError, match=r"folder 'surgery_type' in .*, found field_strength"):
        dataset.table("surgery_type", None)
    with pytest.raises(SpurbenchError, match=r"found test, training, validation\."):
        SpurBreast(path=(tmp_path / "field_strength").rename(tmp_path / "renamed")).fingerprint()
    with pytest.raises(SpurbenchError, match="--data spurbreast=PATH"):
        SpurBreast()


def test_wrong_requests_are_refused(dataset: SpurBreast) -> None:
    with pytest.raises(SpurbenchError, match=r"no rho for spurbreast/field_strength, found 0\.95"):
        dataset.table("field", 0.95)
    with pytest.raises(SpurbenchError, match="Did you mean 'menopause'"):
        dataset.table("menopuase", None)
    with pytest.raises(SpurbenchError, match="image size at least 1"):
        list(dataset.pixels("field", dataset.table("field", None).partitions["test"], 0))


def test_the_fingerprint_follows_names_lengths_and_the_spreadsheet_and_is_kept(dataset: SpurBreast) -> None:
    marks = [dataset.fingerprint()]
    file(dataset, "test/0/1-8-21.png").write_bytes(b"longer" * 999)
    assert dataset.fingerprint() == marks[0]
    marks.append(SpurBreast(path=dataset.path).fingerprint())
    file(dataset, "test/0/1-8-21.png").rename(file(dataset, "test/0/1-7-21.png"))
    marks.append(SpurBreast(path=dataset.path).fingerprint())
    write_spreadsheet(dataset.root / SPREADSHEET, {1: {"field": 1}})
    marks.append(SpurBreast(path=dataset.path).fingerprint())
    assert len(set(marks)) == 4


@pytest.mark.parametrize("size", [SIDE, 28, 64])
def test_pixels_equal_the_released_loaders_resize(dataset: SpurBreast, size: int) -> None:
    """The reference is torchvision's Resize on a Pillow image, which the released example transforms use."""
    resize = pytest.importorskip("torchvision.transforms").Resize([size, size])
    part = dataset.table("field", None).partitions["test"].take(np.array([7, 0, 3]))
    pixels = images(dataset, part, size)
    assert pixels.shape == (3, 1, size, size)
    for name, found in zip(part.extra["file"].tolist(), pixels[:, 0], strict=True):
        with Image.open(file(dataset, name)) as image:
            assert np.array_equal(found, np.asarray(resize(image)))


def test_pixels_come_in_blocks_and_later_files_are_not_touched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layout = {**LAYOUT, "test": {**LAYOUT["test"], 23: (0, 1) * 200}}
    write_slices(tmp_path / "field_strength", layout, lambda: png(rng))
    write_spreadsheet(tmp_path / SPREADSHEET, {patient: {"field": (3, 1)[tied]} for patient, tied in TIED.items()})
    dataset = SpurBreast(path=tmp_path)
    part = dataset.table("field", None).partitions["test"]
    last = file(dataset, part.extra["file"].tolist()[-1])
    last.write_bytes(b"broken")
    stream = dataset.pixels("field", part, SIDE)
    assert next(stream).shape == (256, 1, SIDE, SIDE)
    with pytest.raises(SpurbenchError, match=last.name):
        next(stream)


def _encode(array: NDArray[Any], mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"<html>not found</html>" * 9, "found something else"),
        (_encode(np.zeros((SIDE, SIDE, 3), np.uint8)), "found 8-bit RGB"),
        (_encode(np.zeros((SIDE, SIDE, 4), np.uint8)), "found 8-bit RGB with alpha"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "LA"), "found 8-bit greyscale with alpha"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "P"), "palette"),
        (_encode(np.zeros((SIDE, SIDE), np.uint16)), "found 16-bit greyscale"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "1"), "found 1-bit greyscale"),
        (_encode(np.zeros((48, 48), np.uint8)), "40 x 40 pixels as in the split's first image, found 48 x 48"),
        (_encode(np.zeros((48, SIDE), np.uint8)), "found 40 x 48"),
    ],
)
def test_a_png_of_another_kind_is_refused_and_named(dataset: SpurBreast, content: bytes, message: str) -> None:
    file(dataset, "test/1/1-10-23.png").write_bytes(content)
    with pytest.raises(SpurbenchError, match=message) as caught:
        images(dataset, dataset.table("field", None).partitions["test"], 32)
    assert str(file(dataset, "test/1/1-10-23.png")) in str(caught.value)


@pytest.mark.parametrize(("side", "message"), [((16, 16), "at least 32 x 32"), ((40, 48), "found 48 x 40")])
def test_the_splits_first_image_must_be_square_and_large_enough(
    dataset: SpurBreast, side: tuple[int, int], message: str
) -> None:
    file(dataset, "training/0/1-8-1.png").write_bytes(_encode(np.zeros(side, np.uint8)))
    with pytest.raises(SpurbenchError, match=message) as caught:
        images(dataset, dataset.table("field", None).partitions["test"], 32)
    assert "training/0/1-8-1.png" in str(caught.value)


def test_a_png_cut_anywhere_or_with_any_byte_changed_is_refused(dataset: SpurBreast) -> None:
    path = file(dataset, "test/0/1-8-21.png")
    whole = path.read_bytes()
    row = dataset.table("field", None).partitions["test"].take(np.array([0]))
    cuts = [whole[:end] for end in (*range(0, len(whole), 41), *range(len(whole) - 20, len(whole)))]
    places = (*range(60), *range(60, len(whole), 41), *range(len(whole) - 20, len(whole)))
    changes = [whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :] for place in places]
    for content in (*cuts, *changes):
        path.write_bytes(content)
        with pytest.raises(SpurbenchError, match=r"test/0/1-8-21\.png"):
            images(dataset, row, 32)
    path.unlink()
    with pytest.raises(SpurbenchError, match=r"test/0/1-8-21\.png, found no such file"):
        images(dataset, row, 32)


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
