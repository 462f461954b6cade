"""The released splits, on folders that the tests write: rows, groups, the tie, and where the data may lie."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_spur.cell import CellData
from robustbench_spur.home import Home
from robustbench_spur.plan import open_split
from robustbench_spur.preparation import plan_images
from robustbench_spur.registry import Registry
from robustbench_spur.splitref import parse_split
from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import SpurbenchError
from tests.splits.release import LAYOUT, SIDE, TIED, file, images, png, stand_in, write_slices, write_spreadsheet


@pytest.fixture
def dataset(tmp_path: Path) -> SpurBreast:
    return stand_in(tmp_path)


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
    (tmp_path / "empty").write_bytes(b"")
    write_slices(tmp_path / "field_strength", layout, tmp_path / "empty")
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


def test_identity_is_not_said_to_predict_where_training_patients_have_both_labels(tmp_path: Path) -> None:
    layout = {**LAYOUT, "training": {**LAYOUT["training"], 1: (0, 1, 0)}}
    write_slices(tmp_path / "field_strength", layout, bytes)
    write_spreadsheet(tmp_path / SPREADSHEET, {patient: {"field": (3, 1)[tied]} for patient, tied in TIED.items()})
    notes = "\n".join(SpurBreast(path=tmp_path).table("field", None).notes)
    assert "Every patient of train" not in notes
    assert "Every patient of validation" in notes


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
        SpurBreast(path=(tmp_path / "field_strength").rename(tmp_path / "renamed")).table("field", None)
    with pytest.raises(SpurbenchError, match="--data spurbreast=PATH"):
        SpurBreast()


def test_wrong_requests_are_refused(dataset: SpurBreast) -> None:
    with pytest.raises(SpurbenchError, match=r"no rho for spurbreast/field_strength, found 0\.95"):
        dataset.table("field", 0.95)
    with pytest.raises(SpurbenchError, match="Did you mean 'menopause'"):
        dataset.table("menopuase", None)
    with pytest.raises(SpurbenchError, match="image size at least 1"):
        list(dataset.pixels("field", dataset.table("field", None).partitions["test"], 0))


def test_the_fingerprint_is_that_of_the_spreadsheet_and_is_kept(dataset: SpurBreast) -> None:
    sheet, mark = dataset.root / SPREADSHEET, dataset.fingerprint()
    assert mark == hashlib.sha256(sheet.read_bytes()).hexdigest()
    write_spreadsheet(sheet, {1: {"field": 1}})
    assert dataset.fingerprint() == mark
    assert SpurBreast(path=dataset.path).fingerprint() != mark
    sheet.unlink()
    with pytest.raises(SpurbenchError, match=f"{SPREADSHEET} in .*, found it in neither"):
        SpurBreast(path=dataset.path).fingerprint()


def made(home: Home, root: Path) -> tuple[dict[str, str], int]:
    """What the images of each partition of ``field`` are found by, and how many had to be made for that."""
    ref, places = parse_split("spurbreast/field", Registry()), {"spurbreast": root}
    plan = plan_images(ref, home, places, "v1", SIDE, ())
    assert [outcome.error for outcome in plan.make(lambda *_: None)] == [None] * 3
    stages = CellData(open_split(ref, places), SIDE).pixels
    return {name: stage.key for name, stage in stages.items()}, plan.images


def test_unpacking_another_split_makes_no_image_again(dataset: SpurBreast, home: Home) -> None:
    mark, keys = dataset.fingerprint(), made(home, dataset.root)[0]
    rng = np.random.default_rng(1)
    write_slices(dataset.root / "vertical_flip", LAYOUT, lambda: png(rng))
    assert SpurBreast(path=dataset.path).fingerprint() == mark
    assert made(home, dataset.root) == (keys, 0)


def test_a_replaced_or_renamed_image_has_its_partition_made_again(dataset: SpurBreast, home: Home) -> None:
    before, count = made(home, dataset.root)
    assert count == 25
    place = file(dataset, "test/0/1-8-21.png")
    table = dataset.table("field", None)
    Image.new("L", (SIDE, SIDE)).save(place)
    after, count = made(home, dataset.root)
    assert {name for name in before if before[name] != after[name]} == {"test"}
    assert count == len(table.partitions["test"])
    again = SpurBreast(path=dataset.path).table("field", None)
    assert again.sha256() == table.sha256(), "the split is its rows, not its images"
    assert again.partitions["test"].extra["bytes"].tolist()[0] == place.stat().st_size
    place.rename(file(dataset, "test/0/1-7-21.png"))
    last, count = made(home, dataset.root)
    assert {name for name in after if after[name] != last[name]} == {"test"}
    assert count == len(table.partitions["test"])


def test_a_link_to_nothing_is_named_as_a_fault(dataset: SpurBreast) -> None:
    place = file(dataset, "test/0/1-8-21.png")
    place.unlink()
    place.symlink_to(dataset.root / "nowhere.png")
    with pytest.raises(SpurbenchError, match=r"test/0/1-8-21\.png, found no such file"):
        dataset.table("field", None)
    (fault,) = dataset.inventory("field", None).faults["files and folders"]
    assert "test/0/1-8-21.png" in fault
