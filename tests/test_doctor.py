"""The data doctor's parts: the lenient reading, images, rows, the shift, and the rules that see no image."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from scipy.stats.contingency import association
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, mutual_info_score, roc_auc_score

from robustbench_spur.doctor import examine
from robustbench_spur.doctor.images import look
from robustbench_spur.doctor.report import Report, Rule
from robustbench_spur.doctor.rows import against_folders
from robustbench_spur.doctor.rules import rank_area, rules, shift
from robustbench_spur.splits.base import Dataset, Inventory
from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import Groups, Partition, SplitTable, SpurbenchError
from tests.splits.release import TIED, png, stand_in, write_spreadsheet

GROUPS = Groups(("dog", "cat"), "place", ("beach", "snow"))


def rows_of(
    labels: list[int], attributes: list[int], patients: list[str] | None = None, **extra: NDArray[np.generic]
) -> Partition:
    names = np.array([f"r{i}" for i in range(len(labels))], np.str_)
    owners = names if patients is None else np.array(patients, np.str_)
    return Partition(names, np.array(labels, np.int64), np.array(attributes, np.int64), owners, extra)


def drawn(seed: int, count: int) -> Partition:
    """Rows with some dependence between everything, and some attributes missing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    attributes = np.where(rng.random(count) < 0.8, labels, rng.integers(-1, 2, count))
    position = np.where(rng.random(count) < 0.9, rng.normal(labels, 1.0), np.nan)
    patients = [f"p{i}" for i in rng.integers(0, max(1, count // 3), count)]
    return rows_of(labels.tolist(), attributes.tolist(), patients, position=position)


def rule(found: tuple[Rule, ...], name: str) -> Rule:
    return next(one for one in found if one.name == name)


# The shift


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1)), min_size=1, max_size=60))
def test_the_shift_is_that_of_other_libraries(pairs: list[tuple[int, int]]) -> None:
    found = shift("train", rows_of([y for y, _ in pairs], [a for _, a in pairs]), GROUPS)
    known = [(y, a) for y, a in pairs if a >= 0]
    labels, attributes = [y for y, _ in known], [a for _, a in known]
    assert found.slices == len(known)
    if not known:
        assert (found.mutual_information, found.cramers_v, found.aligned) == (0.0, None, None)
        return
    assert found.mutual_information == pytest.approx(mutual_info_score(labels, attributes) / np.log(2), abs=1e-9)
    assert found.aligned == pytest.approx(np.mean(np.array(labels) == np.array(attributes)))
    table = confusion_matrix(labels, attributes, labels=[0, 1])
    if len(set(labels)) == len(set(attributes)) == 2:
        assert found.cramers_v == pytest.approx(association(table, method="cramer"), abs=1e-9)
    else:
        assert found.cramers_v is None


# Rules


@pytest.mark.parametrize("seed", range(5))
def test_the_attribute_rule_and_its_counts_against_a_group_by(seed: int) -> None:
    train, test = drawn(seed, 120), drawn(seed + 100, 80)
    found = rule(rules({"train": train, "test": test}, GROUPS), "attribute").scores[1]
    frame = pd.DataFrame({"y": train.labels, "a": train.attributes})
    called = frame[frame.a >= 0].groupby("a").y.agg(lambda labels: int(labels.mean() > 0.5))
    majority = int(train.labels.mean() > 0.5)
    calls = [called.get(a, majority) if a >= 0 else majority for a in test.attributes.tolist()]
    (tn, fp), (fn, tp) = confusion_matrix(test.labels, calls, labels=[0, 1])
    assert (found.tp, found.fp, found.tn, found.fn) == (tp, fp, tn, fn)
    assert found.accuracy == pytest.approx((tp + tn) / 80)
    known = test.attributes >= 0
    group = GROUPS.index(test.labels, test.attributes)
    right = np.array(calls) == test.labels
    assert found.group_balanced_accuracy == pytest.approx(
        np.mean([right[known & (group == code)].mean() for code in range(4)])
    )


def test_the_rules_by_hand() -> None:
    train = rows_of([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    test = rows_of([0, 1, 0, 1], [0, 0, 1, 1])
    found = rules({"train": train, "test": test}, GROUPS)
    majority, attribute = rule(found, "majority").scores[1], rule(found, "attribute").scores[1]
    assert (majority.tp, majority.fp, majority.tn, majority.fn) == (0, 0, 2, 2)
    assert (attribute.tp, attribute.fp, attribute.tn, attribute.fn) == (1, 1, 1, 1)
    assert attribute.group_balanced_accuracy == 0.5
    assert "dog at beach, cat at snow" in rule(found, "attribute").definition
    assert rule(found, "position").scores == rule(found, "patient").scores == ()
    assert "not made" in rule(found, "position").definition


@pytest.mark.parametrize("seed", range(5))
def test_the_position_rule_against_pandas_and_scikit_learn(seed: int) -> None:
    train, test = drawn(seed, 200), drawn(seed + 100, 90)
    found = rule(rules({"train": train, "test": test}, GROUPS), "position").scores[1]
    position = train.extra["position"]
    edges = np.nanquantile(position, np.linspace(0, 1, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    frame = pd.DataFrame({"y": train.labels, "bin": pd.cut(position, edges, right=False, labels=False)})
    share = frame.dropna().groupby("bin").y.mean()
    known = np.isfinite(test.extra["position"])
    bins = pd.cut(test.extra["position"][known], edges, right=False, labels=False)
    scores = np.array([share[code] for code in bins])
    assert found.slices == known.sum()
    assert found.accuracy == pytest.approx(np.mean((scores > 0.5) == test.labels[known]))
    assert found.auroc == pytest.approx(roc_auc_score(test.labels[known], scores))


def test_positions_may_be_texts_and_may_be_few() -> None:
    train = rows_of([0, 0, 1, 1], [0, 1, 0, 1], slice=np.array(["008", "008", "012", "late"]))
    test = rows_of([0, 1, 1], [0, 1, 0], slice=np.array(["7", "13", "early"]))
    found = rule(rules({"train": train, "test": test}, GROUPS), "position")
    assert [(one.slices, one.accuracy) for one in found.scores] == [(3, 1.0), (2, 1.0)]
    silent = rows_of([0, 1], [0, 1], slice=np.array(["a", "b"]))
    assert "no number" in rule(rules({"train": silent}, GROUPS), "position").definition


@pytest.mark.parametrize("seed", range(5))
def test_the_patient_rule_against_a_loop(seed: int) -> None:
    part = drawn(seed, 90)
    majority = int(part.labels.mean() > 0.5)
    right, said = 0, 0
    for i, (patient, label) in enumerate(zip(part.clusters, part.labels, strict=True)):
        others = [int(y) for j, y in enumerate(part.labels) if part.clusters[j] == patient and j != i]
        if others:
            said += 1
            positive = sum(others) / len(others)
            right += label == (majority if positive == 0.5 else int(positive > 0.5))
    found = rule(rules({"train": part}, GROUPS), "patient").scores[0]
    assert (found.slices, found.accuracy) == (said, pytest.approx(right / said))


def test_more_than_two_classes_have_no_positives() -> None:
    groups = Groups(("a", "b", "c"), "place", ("x", "y"))
    part = rows_of([0, 1, 2, 2], [0, 1, 0, 1], position=np.arange(4.0))
    for one in rules({"train": part}, groups):
        assert all(s.tp is s.fp is s.tn is s.fn is s.auroc is None for s in one.scores)
    assert rule(rules({"train": part}, groups), "majority").scores[0].accuracy == 0.5
    assert shift("train", part, groups).aligned is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_the_area_is_scikit_learns(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([float(s) for s, _ in pairs]), np.array([p for _, p in pairs])
    found = rank_area(scores, positive)
    if positive.all() or not positive.any():
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(positive, scores))


def test_group_balance_is_balanced_accuracy_where_one_attribute_value_holds_each_class_twice() -> None:
    part = rows_of([0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1])
    found = rule(rules({"train": part}, GROUPS), "majority").scores[0]
    assert found.group_balanced_accuracy == balanced_accuracy_score(part.labels, np.ones(6))


# Images


def test_a_file_cut_anywhere_or_with_a_flipped_byte_is_unreadable(tmp_path: Path) -> None:
    content, place = png(np.random.default_rng(0), 8), tmp_path / "a.png"
    for length in range(len(content)):
        place.write_bytes(content[:length])
        with pytest.raises(SpurbenchError, match=r"a\.png"):
            look(place)
    data = content.index(b"IDAT") + 4
    place.write_bytes(content[:data] + bytes([content[data] ^ 1]) + content[data + 1 :])
    with pytest.raises(SpurbenchError, match=r"a\.png"):
        look(place)
    place.write_bytes(content)
    assert look(place)[0] == "L 8 x 8"


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for place in (tmp_path / "text.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(SpurbenchError, match=str(place)):
            look(place)


def test_an_image_too_large_to_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(np.random.default_rng(0), 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SpurbenchError, match="too large"):
        look(tmp_path / "a.png")


def test_the_hash_is_that_of_the_pixels_alone(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    information = PngImagePlugin.PngInfo()
    information.add_text("made", "elsewhere")
    for name, image, options in (
        ("a.png", Image.fromarray(pixels), {"compress_level": 1}),
        ("b.png", Image.fromarray(pixels), {"compress_level": 9, "pnginfo": information}),
        ("c.bmp", Image.fromarray(pixels), {}),
        ("turned.png", Image.fromarray(pixels[:4].reshape(8, 4)), {}),
        ("half.png", Image.fromarray(pixels[:4]), {}),
        ("colour.png", Image.fromarray(pixels).convert("RGB"), {}),
    ):
        image.save(tmp_path / name, **options)
    found = {place.name: look(place) for place in tmp_path.iterdir()}
    assert found["a.png"] == found["b.png"] == found["c.bmp"]
    assert len({one for _, one in found.values()}) == 4


# Datasets without files


class Toy(Dataset):
    """Two classes of constant images; the subclasses of the tests break it."""

    name = "toy"
    version = 3
    summary = "toy"
    splits: ClassVar = {"plain": "nothing"}
    image_size = 4
    embedded = False
    grey: ClassVar[dict[str, int]] = {}

    def table(self, split: str, rho: float | None) -> SplitTable:
        parts = {}
        for name in ("train", "validation", "test"):
            ids = np.array([f"{name}{i}" for i in range(4)])
            codes = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
            parts[name] = Partition(ids, *codes, ids)
        return SplitTable(GROUPS, parts, ("a note",))

    def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
        for i, name in enumerate(partition.ids.tolist()):
            grey = self.grey.get(name, i + 10 * len(name))
            yield np.full((1, 1, size, size), grey, np.uint8)


def examined(kind: type[Toy], tmp_path: Path) -> Report:
    return examine(kind(path=tmp_path), "plain", None)


def test_a_table_without_faults_is_its_own_inventory(tmp_path: Path) -> None:
    dataset = Toy(path=tmp_path)
    inventory, table = dataset.inventory("plain", None), dataset.table("plain", None)
    assert {name: rows.digest() for name, rows in inventory.rows.items()} == {
        name: rows.digest() for name, rows in table.partitions.items()
    }
    assert (inventory.groups, inventory.notes, dict(inventory.faults)) == (table.groups, table.notes, {})


def test_an_error_of_the_table_is_the_one_fault(tmp_path: Path) -> None:
    class Refusing(Toy):
        def table(self, split: str, rho: float | None) -> SplitTable:
            raise SpurbenchError("Expected rows, found none (x.csv).")

    report = examined(Refusing, tmp_path)
    assert [(one.code, one.examples) for one in report.findings] == [
        ("reading", ("Expected rows, found none (x.csv).",))
    ]
    assert (report.faults, report.partitions, report.rules) == (1, (), ())
    assert len(report.not_examined) == 2


def test_images_without_files_are_compared(tmp_path: Path) -> None:
    class Repeating(Toy):
        grey: ClassVar = {"train0": 7, "train1": 7, "validation2": 8, "test0": 8}

    report = examined(Repeating, tmp_path)
    found = {one.code: one.examples for one in report.findings}
    assert found["pixels_in_two_partitions"] == ("validation/validation2 = test/test0",)
    assert found["pixels_under_two_labels"] == ("validation/validation2 = test/test0",)
    assert found["pixels_repeated"] == ("train/train0 = train/train1",)
    assert (report.images.arrays, report.images.distinct, report.images.files) == (12, 10, 0)
    assert report.notes == ("a note",)


def test_images_that_cannot_be_made_or_are_too_few_are_told(tmp_path: Path) -> None:
    class Failing(Toy):
        def pixels(self, split: str, partition: Partition, size: int) -> Iterator[NDArray[np.uint8]]:
            made = list(super().pixels(split, partition, size))
            if partition.ids[0] == "train0":
                yield made[0]
                raise SpurbenchError("Expected an image, found damage (a.npz).")
            yield from made[: 3 if partition.ids[0] == "test0" else 4]

    finding = next(one for one in examined(Failing, tmp_path).findings if one.code == "unreadable")
    assert finding.examples == ("Expected an image, found damage (a.npz).", "Expected 4 images in test, found 3.")


# Rows


def test_an_image_of_another_size_is_a_warning_where_sizes_may_differ(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    class Filed(Toy):
        def files(self, split: str, partition: Partition) -> list[Path]:
            return [tmp_path / f"{name}.png" for name in partition.ids.tolist()]

    dataset = Filed(path=tmp_path)
    for part in dataset.table("plain", None).partitions.values():
        for place in dataset.files("plain", part):
            place.write_bytes(png(rng, 9 if place.name == "test3.png" else 8))
    report = examined(Filed, tmp_path)
    assert [(one.code, one.severity) for one in report.findings] == [
        ("wrong_size", "warning"),
        ("few_patients", "warning"),
    ]
    assert report.findings[0].examples == ("test3.png (L 9 x 9)",)
    assert (report.images.root, report.images.files, report.images.kind) == (str(tmp_path), 12, "L 8 x 8")


def test_a_folder_named_as_another_class_is_told() -> None:
    rows = rows_of([0, 1, 1, 0], [0, 0, 0, 0])
    places = [Path("x/1/a.png"), Path("x/Cat/b.png"), Path("x/DOG/c.png"), Path("x/misc/d.png")]
    assert list(against_folders(rows, places, GROUPS.classes)) == [
        "1/a.png (the row says dog)",
        "DOG/c.png (the row says cat)",
    ]


def test_an_empty_group_of_the_test_is_a_fault_and_an_empty_partition_too(tmp_path: Path) -> None:
    class Thin(Toy):
        def inventory(self, split: str, rho: float | None) -> Inventory:
            table = self.table(split, rho)
            parts = dict(table.partitions)
            parts["validation"] = parts["validation"].take(np.arange(0))
            parts["test"] = parts["test"].take(np.array([0, 1, 2]))
            return Inventory(parts, table.groups)

    report = examined(Thin, tmp_path)
    found = {one.code: one for one in report.findings}
    assert found["empty_partition"].examples == ("validation",)
    assert (found["empty_test_group"].severity, found["empty_test_group"].examples) == ("fault", ("test cat@snow",))
    assert found["empty_group"].severity == "warning"
    assert found["few_patients"].examples == ("test dog@beach (1)", "test dog@snow (1)", "test cat@beach (1)")


# SpurBreast's lenient reading


def test_the_inventory_of_a_sound_folder_has_the_rows_of_its_table(tmp_path: Path) -> None:
    dataset = stand_in(tmp_path)
    inventory, table = dataset.inventory("field", None), dataset.table("field", None)
    assert inventory.groups == table.groups
    assert not any(inventory.faults.values())
    for name, part in table.partitions.items():
        rows = inventory.rows[name]
        assert [Path(text).stem for text in rows.ids.tolist()] == part.ids.tolist()
        for column in ("labels", "attributes", "clusters"):
            assert getattr(rows, column).tolist() == getattr(part, column).tolist()
        places = dataset.files("field", part)
        assert places == dataset.files("field", rows)
        assert [(place.stem, place.is_file()) for place in places] == [(one, True) for one in part.ids.tolist()]


def reasons(root: Path, split: str = "field_strength") -> str:
    return "\n".join(text for texts in SpurBreast(path=root).inventory(split, None).faults.values() for text in texts)


def test_reading_goes_on_without_the_spreadsheet_a_folder_or_the_split(tmp_path: Path) -> None:
    dataset = stand_in(tmp_path)
    (tmp_path / SPREADSHEET).unlink()
    inventory = dataset.inventory("field", None)
    assert all((rows.attributes == -1).all() for rows in inventory.rows.values())
    assert inventory.groups.values == ("3T", "1.5T")
    assert reasons(tmp_path).count("Expected") == 1
    write_spreadsheet(tmp_path / SPREADSHEET, {p: {"field": (3, 1)[tied]} for p, tied in TIED.items()})
    for place in (tmp_path / "field_strength/validation/1").iterdir():
        place.unlink()
    assert "found none. Unpack" in reasons(tmp_path)
    (tmp_path / "field_strength/validation/1").rmdir()
    (tmp_path / "field_strength/test").rename(tmp_path / "elsewhere")
    told = reasons(tmp_path)
    assert (told.count("found no such file"), told.count("\n")) == (2, 1)
    assert len(SpurBreast(path=tmp_path).inventory("field", None).rows["train"]) == 10
    assert "Expected the folder 'menopause'" in reasons(tmp_path, "menopause")


def test_training_of_one_label_or_of_one_value_is_told_not_raised(tmp_path: Path) -> None:
    stand_in(tmp_path, "race_and_ethnicity", race=(2, 1))
    codes: dict[int, dict[str, object]] = {p: {"race": (2, 1)[tied]} for p, tied in TIED.items()}
    write_spreadsheet(tmp_path / SPREADSHEET, {**codes, 24: {"race": 3}})
    assert "Breast_MRI_024 to have one of training's values (black, white), found asian" in reasons(
        tmp_path, "race_and_ethnicity"
    )
    write_spreadsheet(tmp_path / SPREADSHEET, {p: {"race": 1} for p in TIED})
    inventory = SpurBreast(path=tmp_path).inventory("race_and_ethnicity", None)
    assert len(inventory.groups.values) == 8
    assert "Expected two values" in reasons(tmp_path, "race_and_ethnicity")
    for place in (tmp_path / "race_and_ethnicity/training/1").iterdir():
        place.unlink()
    assert "found none" in reasons(tmp_path, "race_and_ethnicity")
