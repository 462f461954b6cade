"""Drawing a split: who is in which partition at which rho, which slices, and what is written."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from robustbench_spur.curation.features import read_table
from robustbench_spur.curation.split import (
    FILE,
    Drawn,
    Recipe,
    Slices,
    area_under_curve,
    contents,
    draw,
    read_slices,
    tie,
    write,
)
from robustbench_spur.splits.base import RHOS
from robustbench_spur.types import Groups, Partition, SpurbenchError

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
DUKE = DATA / "duke_breast_mri_metadata"
GROUPS = Groups(("clear", "tumour"), "scanner", ("A", "B"))
COLUMNS = {"path": "file", "patient": "patient", "label": "label", "position": "position"}
SMALL = Recipe(rhos=(1.0, 0.5), train_patients=2, validation_patients=1, test_patients=2, slices_per_patient=2)


def slices_of(held: dict[str, tuple[int, int]], *, middle: bool = True) -> Slices:
    """Per patient, so many clear and so many tumour slices; the tumour is in the middle of the volume."""
    rows: list[tuple[str, str, int, float]] = []
    for patient, (clear, tumour) in held.items():
        labels = [0] * (clear // 2) + [1] * tumour + [0] * (clear - clear // 2)
        last = max(1, len(labels) - 1)
        rows += [(f"{patient}/{k:03d}.png", patient, label, k / last) for k, label in enumerate(labels)]
    files, patients, labels_, places = zip(*rows, strict=True)
    positions = np.array(places) if middle else np.full(len(rows), np.nan)
    return Slices(np.array(files), np.array(patients), np.array(labels_, np.int64), positions)


def collection(count: int, clear: int = 12, tumour: int = 6) -> tuple[Slices, dict[str, int]]:
    """``count`` patients, alternately of either value."""
    names = [f"P{number:03d}" for number in range(count)]
    return slices_of(dict.fromkeys(names, (clear, tumour))), {name: n % 2 for n, name in enumerate(names)}


def pairs(part: Partition, *, conflict: bool) -> set[tuple[str, int]]:
    """Patients with the label that they give, of the conflict or the aligned kind."""
    kept = (part.labels != part.attributes) == conflict
    return set(zip(part.clusters[kept].tolist(), part.labels[kept].tolist(), strict=True))


def patients(part: Partition, label: int) -> set[str]:
    return set(part.clusters[part.labels == label].tolist())


@st.composite
def cases(drawing: st.DrawFn) -> tuple[Slices, dict[str, int], Recipe]:
    """Collections in which most patients have slices of both labels, and recipes of about their size."""
    kinds = st.one_of(st.just((9, 5)), st.just((9, 5)), st.tuples(st.integers(0, 9), st.integers(0, 5)))
    held = drawing(st.lists(kinds, min_size=36, max_size=60))
    codes = {f"P{number}": number % 2 for number in range(len(held))}
    recipe = Recipe(
        rhos=tuple(drawing(st.lists(st.sampled_from(RHOS), min_size=1, max_size=6, unique=True))),
        seed=drawing(st.integers(0, 2**32)),
        train_patients=drawing(st.integers(1, 8)),
        validation_patients=drawing(st.integers(1, 3)),
        test_patients=4 * drawing(st.integers(1, 2)) - 2 * drawing(st.integers(0, 1)),
        adapt_patients=2 * drawing(st.integers(0, 1)),
        slices_per_patient=drawing(st.integers(1, 4)),
        match_position=drawing(st.booleans()),
    )
    held_by = {name: both if sum(both) else (1, 0) for name, both in zip(codes, held, strict=True)}
    return slices_of(held_by), codes, recipe


def attempt(slices: Slices, codes: dict[str, int], recipe: Recipe) -> Drawn | None:
    """What is drawn; None after checking that the sizes a shortage's message names do work."""
    try:
        return draw(slices, codes, GROUPS, recipe)
    except SpurbenchError as error:
        sizes = {f"{name}_patients": int(n) for name, n in re.findall(r"--(\w+)-patients (\d+)", str(error))}
        if sizes:
            assert sizes["train_patients"] < recipe.train_patients
            draw(slices, codes, GROUPS, replace(recipe, **{"adapt_patients": 0, **sizes}))  # type: ignore[arg-type]
        else:
            assert "Not even the smallest draw" in str(error)
        return None


@given(cases())
@settings(max_examples=40, deadline=None)
def test_counts_are_exact_and_nobody_is_in_two_partitions(case: tuple[Slices, dict[str, int], Recipe]) -> None:
    slices, codes, recipe = case
    drawn = attempt(slices, codes, recipe)
    if drawn is None:
        return
    owners: dict[str, str] = {}
    for rho, table in drawn.tables.items():
        for name, part in table.partitions.items():
            for patient in part.clusters.tolist():
                assert owners.setdefault(patient, name) == name
            assert set(Counter(part.clusters.tolist()).values()) == {recipe.slices_per_patient}
            assert [codes[patient] for patient in part.clusters.tolist()] == part.attributes.tolist()
        for name, count in (("train", recipe.train_patients), ("validation", recipe.validation_patients)):
            part = table.partitions[name]
            conflict = math.floor((1 - Fraction(str(rho))) * count + Fraction(1, 2))
            assert not patients(part, 0) & patients(part, 1)
            for label in (0, 1):
                assert len(patients(part, label)) == count
                assert sum(at == label for _, at in pairs(part, conflict=True)) == conflict


@given(cases())
@settings(max_examples=40, deadline=None)
def test_the_unbiased_partitions_are_balanced_and_the_same_at_every_rho(
    case: tuple[Slices, dict[str, int], Recipe],
) -> None:
    slices, codes, recipe = case
    drawn = attempt(slices, codes, recipe)
    if drawn is None:
        return
    tables = list(drawn.tables.values())
    for name, count in (("test", recipe.test_patients), ("adapt", recipe.adapt_patients)):
        assert (name in tables[0].partitions) == (count > 0)
        if not count:
            continue
        part = tables[0].partitions[name]
        assert {table.partitions[name].digest(with_extra=True) for table in tables} == {part.digest(with_extra=True)}
        for value in (0, 1):
            has = part.attributes == value
            assert len(set(part.clusters[has].tolist())) == count // 2
            assert (part.labels[has] == 0).sum() == (part.labels[has] == 1).sum()
        half = recipe.slices_per_patient // 2
        both = patients(part, 0) & patients(part, 1)
        for patient in set(part.clusters.tolist()) if recipe.slices_per_patient % 2 == 0 else set():
            assert (patient in both) == (slices.has(patient, 0, half) and slices.has(patient, 1, half))


@given(cases())
@settings(max_examples=40, deadline=None)
def test_a_lower_rho_only_adds_conflict_patients_with_the_same_slices(
    case: tuple[Slices, dict[str, int], Recipe],
) -> None:
    drawn = attempt(*case)
    if drawn is None:
        return
    for (strong, first), (weak, second) in pairwise(drawn.tables.items()):
        assert strong > weak
        for name in ("train", "validation"):
            one, other = first.partitions[name], second.partitions[name]
            assert pairs(one, conflict=True) <= pairs(other, conflict=True)
            assert pairs(other, conflict=False) <= pairs(one, conflict=False)
            for conflict, subset, whole in ((True, one, other), (False, other, one)):
                kept = subset.ids[(subset.labels != subset.attributes) == conflict]
                assert set(kept.tolist()) <= set(whole.ids.tolist())


def test_where_everybody_has_both_labels_the_patients_are_the_same_at_every_rho() -> None:
    slices, codes = collection(8)
    drawn = draw(slices, codes, GROUPS, SMALL)
    strong, weak = drawn.tables[1.0].partitions["train"], drawn.tables[0.5].partitions["train"]
    assert len(set(strong.clusters.tolist())) == 4  # of either value two for train, one for validation and one for test
    assert set(strong.clusters.tolist()) == set(weak.clusters.tolist())
    assert pairs(strong, conflict=True) == set()
    assert sorted(label for _, label in pairs(weak, conflict=True)) == [0, 1]
    turned = {patient for patient, _ in pairs(weak, conflict=True)}
    assert all(codes[patient] == 1 - label for patient, label in pairs(weak, conflict=True))
    assert pairs(weak, conflict=False) == {(p, codes[p]) for p in set(strong.clusters.tolist()) - turned}
    assert drawn.left_out == {}


def test_where_each_patient_has_one_label_two_share_a_place() -> None:
    held = {
        f"{label}{value}{n}": (4, 0) if label == 0 else (0, 4) for label in (0, 1) for value in (0, 1) for n in range(6)
    }
    codes = {name: int(name[1]) for name in held}
    recipe = replace(SMALL, test_patients=4)
    drawn = draw(slices_of(held), codes, GROUPS, recipe)
    for rho, conflict in ((1.0, 0), (0.5, 1)):
        part = drawn.tables[rho].partitions["train"]
        assert {len(patients(part, label)) for label in (0, 1)} == {2}
        assert len(pairs(part, conflict=True)) == 2 * conflict
    test = drawn.tables[1.0].partitions["test"]
    assert sorted(name[:2] for name in set(test.clusters.tolist())) == ["00", "01", "10", "11"]
    with pytest.raises(SpurbenchError, match=r"test patients in fours, since some give .* one label, found 2\."):
        draw(slices_of(held), codes, GROUPS, replace(recipe, test_patients=2))


def test_a_rho_gives_the_same_rows_whichever_others_are_drawn() -> None:
    slices, codes = collection(60)
    recipe = Recipe(train_patients=20, validation_patients=4, test_patients=8, slices_per_patient=4)
    every = draw(slices, codes, GROUPS, recipe).tables
    for rho in RHOS:
        alone = draw(slices, codes, GROUPS, replace(recipe, rhos=(rho,))).tables
        assert alone.keys() == {rho}
        assert alone[rho].sha256() == every[rho].sha256()


def test_the_order_of_the_collection_does_not_matter_and_the_seed_does() -> None:
    slices, codes = collection(20)
    recipe = replace(SMALL, train_patients=4, match_position=True)
    order = np.random.default_rng(3).permutation(len(slices.files))
    columns = (slices.files, slices.patients, slices.labels, slices.positions)
    shuffled = draw(Slices(*(column[order] for column in columns)), dict(reversed(codes.items())), GROUPS, recipe)
    first = draw(slices, codes, GROUPS, recipe)
    assert {rho: table.sha256() for rho, table in shuffled.tables.items()} == {
        rho: table.sha256() for rho, table in first.tables.items()
    }
    other = draw(slices, codes, GROUPS, replace(recipe, seed=1))
    assert other.tables[1.0].sha256() != first.tables[1.0].sha256()


def test_the_test_stays_when_training_grows() -> None:
    slices, codes = collection(40)
    small, large = (draw(slices, codes, GROUPS, replace(SMALL, train_patients=n)).tables[1.0] for n in (2, 14))
    assert small.partitions["test"].digest() == large.partitions["test"].digest()


def test_patients_that_are_not_drawn_are_counted_by_reason() -> None:
    held = {f"P{n}": (6, 4) for n in range(8)} | {"few": (1, 1), "spare": (6, 4)}
    codes = {name: n % 2 for n, name in enumerate(held)} | {"elsewhere": 0}
    drawn = draw(slices_of(held), codes, GROUPS, replace(SMALL, slices_per_patient=4))
    assert drawn.left_out == {
        "no slice in the list": 1,
        "fewer than 4 slices of either label": 1,
        "enough slices, but not needed": 1,
    }


def test_slices_are_spread_evenly() -> None:
    slices, codes = collection(8, clear=40, tumour=20)
    part = draw(slices, codes, GROUPS, replace(SMALL, slices_per_patient=4)).tables[1.0].partitions["train"]
    for patient in patients(part, 1):
        steps = np.diff(np.sort(part.extra["position"][part.clusters == patient])) * 59
        assert np.allclose(steps, 5)


# Positions


def test_matching_takes_away_what_the_position_alone_tells() -> None:
    slices, codes = collection(200, clear=80, tumour=20)
    recipe = Recipe(train_patients=60, validation_patients=15, test_patients=40)
    plain = draw(slices, codes, GROUPS, recipe)
    matched = draw(slices, codes, GROUPS, replace(recipe, match_position=True))
    for rho, table in matched.tables.items():
        for name, part in table.partitions.items():
            alone = matched.position[rho][name]
            near = -np.abs(part.extra["position"] - 0.5)
            assert alone["after"]["middle"] == pytest.approx(roc_auc_score(part.labels, near), abs=1e-4)
            assert alone["before"] == plain.position[rho][name]["before"]
            before = plain.tables[rho].partitions[name]
            assert before.ids[before.labels == 1].tolist() == part.ids[part.labels == 1].tolist()
            assert alone["before"]["middle"] > 0.99
            # the tumour fills its patient's middle fifth: the nearest clear slices lie just beside it
            assert alone["after"]["middle"] > 0.5


def wandering(count: int) -> tuple[Slices, dict[str, int]]:
    """Patients whose ten tumour slices lie at another place of the middle half each, a buffer of three on either side."""
    rng, rows = np.random.default_rng(5), []
    for number in range(count):
        first = int(rng.normal(45, 12))
        for k in range(100):
            label = 1 if first <= k < first + 10 else 0 if k < first - 3 or k >= first + 13 else -1
            rows += [(f"P{number}/{k}", f"P{number}", label, k / 99)] if label >= 0 else []
    files, names, labels, places = zip(*rows, strict=True)
    slices = Slices(np.array(files), np.array(names), np.array(labels, np.int64), np.array(places))
    return slices, {f"P{number}": number % 2 for number in range(count)}


def test_matched_positions_are_those_of_the_tumours_at_every_rho() -> None:
    slices, codes = wandering(200)
    recipe = Recipe(train_patients=60, validation_patients=15, test_patients=40, match_position=True)
    drawn = draw(slices, codes, GROUPS, recipe)
    for places in drawn.position.values():
        for name, alone in places.items():
            assert alone["before"]["middle"] > 0.75
            few = name == "validation"  # 15 patients per class: where their tumours lie is a matter of chance
            assert abs(alone["after"]["middle"] - 0.5) < (0.12 if few else 0.05)
            assert abs(alone["after"]["position"] - 0.5) < (0.12 if few else 0.07)


def test_unknown_positions_are_not_matched_and_not_measured() -> None:
    slices, codes = collection(8)
    unknown = replace(slices, positions=np.full(len(slices.files), np.nan))
    drawn = draw(unknown, codes, GROUPS, SMALL)
    assert drawn.position[1.0]["train"] == {}
    with pytest.raises(SpurbenchError, match="Expected a position of every slice"):
        draw(unknown, codes, GROUPS, replace(SMALL, match_position=True))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_area_under_the_curve_agrees_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    labels, scores = np.array(rows).T
    if len(set(labels.tolist())) < 2:
        assert math.isnan(area_under_curve(labels, scores))
    else:
        assert area_under_curve(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


# Errors


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"rhos": (0.4,)}, "rho from 0.5 to 1, found 0.4"),
        ({"rhos": ()}, "found none"),
        ({"rhos": (float("nan"),)}, "found nan"),
        ({"test_patients": 5}, "an even number as test_patients, found 5"),
        ({"adapt_patients": 1}, "an even number as adapt_patients"),
        ({"train_patients": 0}, "train_patients of at least 1, found 0"),
        ({"slices_per_patient": 0}, "slices_per_patient of at least 1"),
        ({"seed": -1}, "seed of at least 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(given_: dict[str, object], message: str) -> None:
    with pytest.raises(SpurbenchError, match=message):
        Recipe(**given_)  # type: ignore[arg-type]


def test_a_shortage_says_what_there_is_and_the_largest_draw() -> None:
    slices, codes = collection(20)
    with pytest.raises(SpurbenchError) as caught:
        draw(slices, codes, GROUPS, replace(SMALL, train_patients=12, validation_patients=2, test_patients=4))
    message = str(caught.value)
    assert "scanner = A" in message
    assert "left of 10 (with 2 slices: 10 of 'clear' and 10 of 'tumour')" in message
    # of the ten patients of a value, 7 + 1 + 2; a train of 8 would take 8 + 1 + 2
    assert "--train-patients 7 --validation-patients 1 --test-patients 4." in message


def test_patients_of_two_kinds_are_told_apart_from_a_shortage() -> None:
    slices, _ = collection(4)
    with pytest.raises(SpurbenchError, match=r"found none of 1 \(such as 'X1'; the list has 'P000'\). Check --patient"):
        draw(slices, {"X1": 0}, GROUPS, SMALL)


# The attribute


def table_of(folder: Path, text: str) -> Path:
    path = folder / "patients.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_two_most_frequent_values_are_taken_and_the_rest_counted(tmp_path: Path) -> None:
    path = table_of(tmp_path, "patient,vendor\n" + "".join(f"P{n},{v}\n" for n, v in enumerate("SSSGGX")) + "P9,\n")
    tied = tie(read_table(path, patient="patient"), "vendor")
    assert tied.values == ("S", "G")
    assert tied.codes == {"P0": 0, "P1": 0, "P2": 0, "P3": 1, "P4": 1}
    assert tied.left_out == {"no value of vendor": 1, "another value of vendor": 1}
    assert tied.how == "They are the most frequent two: S (3), G (2), X (1)."
    assert tie(read_table(path, patient="patient"), "vendor", ["G", "X"]).codes == {"P3": 0, "P4": 0, "P5": 1}


def test_numbers_are_chosen_by_value_or_cut(tmp_path: Path) -> None:
    path = table_of(tmp_path, "patient,tesla,age\nP0,1.5,40\nP1,3,50\nP2,3.0,60\nP3,1.5,70\nP4,7,80\n")
    table = read_table(path, patient="patient")
    assert tie(table, "tesla").values == ("1.5", "3")
    assert tie(table, "tesla", ["3.0", "1.5"]).codes == {"P0": 1, "P1": 0, "P2": 0, "P3": 1}
    cut = tie(table, "age", threshold=60)
    assert cut.values == ("<60", ">=60")
    assert cut.codes == {"P0": 0, "P1": 0, "P2": 1, "P3": 1, "P4": 1}
    with pytest.raises(SpurbenchError, match=r"found numbers \(40 \(1\), .*Give --threshold"):
        tie(table, "age")
    with pytest.raises(SpurbenchError, match="Leave one out"):
        tie(table, "age", ["40", "50"], 3.0)
    with pytest.raises(
        SpurbenchError, match=r"two values of 'tesla' \(1.5 \(2\), 3 \(2\), 7 \(1\)\), found '3' and '4'"
    ):
        tie(table, "tesla", ["3", "4"])


def test_an_attribute_that_varies_within_a_patient_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path, "patient,view,sex\nP0,AP,f\nP0,PA,f\nP1,AP,m\n")
    table = read_table(path, patient="patient")
    assert tie(table, "sex").codes == {"P0": 0, "P1": 1}
    with pytest.raises(SpurbenchError, match="found patients with several"):
        tie(table, "view")
    with pytest.raises(SpurbenchError, match="Expected numbers in 'sex'"):
        tie(table, "sex", threshold=1.0)
    with pytest.raises(SpurbenchError, match="at least two values of 'only', found x"):
        tie(read_table(table_of(tmp_path, "patient,only\nP0,x\nP1,x\n"), patient="patient"), "only")


# The list of images


def test_a_list_is_read_with_names_or_codes_as_labels(tmp_path: Path) -> None:
    path = tmp_path / "slices.csv"
    lines = [
        "file,patient,slice,label,position",
        "b/1.png,P1,1,tumour,0.25",
        f"{tmp_path.as_posix()}/b\u00e9.png,P2,1,0,",
    ]
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = read_slices(path, tmp_path, ("clear", "tumour"), COLUMNS)
    assert found.files.tolist() == ["b/1.png", "b\u00e9.png"]
    assert found.labels.tolist() == [1, 0]
    assert found.positions[0] == 0.25
    assert np.isnan(found.positions[1])
    names = {"path": "Image", "patient": "Patient ID", "label": "Finding", "position": "position"}
    path.write_text("Image,patient,Finding\na\\1.png,P1,1\n", encoding="utf-8")
    other = read_slices(path, tmp_path, ("clear", "tumour"), names)
    assert other.files.tolist() == ["a/1.png"]
    assert other.patients.tolist() == ["P1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,patient\nx,P\n", "Expected a column 'label' in .*slices.csv"),
        ("file,patient,label\n", "Expected images in .*slices.csv, found none"),
        ("file,patient,label\nx,P,2\n", r"as label, found '2' \(row 2 of .*slices.csv\)"),
        ("file,patient,label\nx,P,1\nx,P,1\n", r"a new file, found 'P', 'x' \(row 3"),
        ("file,patient,label\nx,,1\n", "Expected a patient and a new file"),
        ("file,patient,label\n../x,P,1\n", "Expected a file below"),
        ("file,patient,label\n/elsewhere/x,P,1\n", "Give --images FOLDER"),
        ("file,patient,label\n,P,1\n", "Expected a file below"),
        ("file,patient,label,position\nx,P,1,1.5\n", "a position from 0 to 1, found '1.5'"),
        ("file,patient,label,position\nx,P,1,mid\n", "a position from 0 to 1, found 'mid'"),
    ],
)
def test_lists_that_say_something_else_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "slices.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpurbenchError, match=message):
        read_slices(path, tmp_path, ("clear", "tumour"), COLUMNS)


def test_a_list_in_another_encoding_or_absent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slices.csv"
    with pytest.raises(SpurbenchError, match="found no such file"):
        read_slices(path, tmp_path, ("clear", "tumour"), COLUMNS)
    path.write_bytes("file,patient,label\nb\u00e9,P,1\n".encode("latin-1"))
    with pytest.raises(SpurbenchError, match="unreadable"):
        read_slices(path, tmp_path, ("clear", "tumour"), COLUMNS)


# Writing


def test_what_is_written_names_no_machine_and_is_written_once(tmp_path: Path) -> None:
    source = table_of(tmp_path, "patient,scanner\n")
    drawn = draw(*collection(8), GROUPS, SMALL)
    folder, images = tmp_path / "split", tmp_path / "images"
    files = contents(folder, drawn, images, [source], {"threshold": None})
    assert files.keys() == {FILE, "rows-1.0.csv", "rows-0.5.csv"}
    assert write(folder, files)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert str(tmp_path).encode() not in b"".join(files.values())
    described = json.loads(files[FILE])
    assert described["images"] == "../images"
    assert described["sources"] == [{"file": "patients.csv", "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}]
    listed = described["tables"]["0.5"]
    assert listed["sha256"] == hashlib.sha256(files["rows-0.5.csv"]).hexdigest()
    assert listed["split_sha256"] == drawn.tables[0.5].sha256()
    rows = list(csv.DictReader(files["rows-0.5.csv"].decode().splitlines()))
    found = Counter((row["partition"], GROUPS.names[2 * int(row["label"]) + int(row["attribute"])]) for row in rows)
    for name, groups in listed["counts"].items():
        assert {group: count["examples"] for group, count in groups.items()} == {
            group: found[name, group] for group in GROUPS.names
        }
    assert not write(folder, contents(folder, drawn, images, [source], {"threshold": None}))
    other = contents(folder, draw(*collection(8), GROUPS, replace(SMALL, seed=1)), images, [source], {})
    with pytest.raises(SpurbenchError, match=r"found another \(rows-1.0.csv differs\)"):
        write(folder, other)
    (folder / "rows-0.5.csv").unlink()
    with pytest.raises(SpurbenchError, match=r"rows-0.5.csv"):
        write(folder, files)
    with pytest.raises(SpurbenchError, match="Expected a table"):
        contents(folder, drawn, images, [tmp_path / "gone.csv"], {})


def test_a_split_that_was_not_finished_is_written_anew(tmp_path: Path) -> None:
    drawn = draw(*collection(8), GROUPS, SMALL)
    files = contents(tmp_path, drawn, tmp_path, [], {})
    (tmp_path / "rows-1.0.csv").write_text("half")
    assert write(tmp_path, files)
    assert (tmp_path / "rows-1.0.csv").read_bytes() == files["rows-1.0.csv"]


# Real data


def test_duke_has_enough_patients_for_the_sizes_of_spurbreast_at_every_rho() -> None:
    """Real attributes and real tumour boxes; volumes of 174 slices, the median, or 20 more than the box needs."""
    if not (DUKE / "Annotation_Boxes.csv").is_file():
        pytest.skip(f"no Duke tables at {DUKE}")
    table = read_table(DUKE / "Clinical_and_Other_Features.xlsx", patient="Patient ID")
    tied = tie(table, "Field Strength (Tesla)", ["3", "1.5"])
    assert tied.left_out == {"another value of Field Strength (Tesla)": 1}
    assert Counter(tied.codes.values()) == {0: 453, 1: 468}
    columns: list[tuple[str, str, int, float]] = []
    with (DUKE / "Annotation_Boxes.csv").open(encoding="utf-8") as stream:
        for box in csv.DictReader(stream):
            name, first, end = box["Patient ID"], int(box["Start Slice"]), int(box["End Slice"])
            count = max(174, end + 20)
            labels = {
                k: 1 if first <= k < end else 0
                for k in range(1, count + 1)
                if not (-5 <= k - first < 0 or 0 <= k - end < 5)
            }
            columns += [(f"{name}/{k:03d}.png", name, label, (k - 1) / (count - 1)) for k, label in labels.items()]
    files, names, codes, places = zip(*columns, strict=True)
    slices = Slices(np.array(files), np.array(names), np.array(codes, np.int64), np.array(places))
    groups = Groups(("clear", "tumour"), tied.attribute, tied.values)
    drawn = draw(slices, tied.codes, groups, Recipe(match_position=True))
    conflicts = {1.0: (0, 0), 0.99: (2, 1), 0.95: (10, 4), 0.9: (20, 8), 0.8: (40, 15), 0.5: (100, 38)}
    assert drawn.tables.keys() == conflicts.keys()
    for rho, (train, validation) in conflicts.items():
        counts = drawn.tables[rho].counts()
        for name, count, conflict in (("train", 200, train), ("validation", 75, validation)):
            assert [group["patients"] for group in counts[name].values()] == [
                count - conflict,
                conflict,
                conflict,
                count - conflict,
            ]
        assert {group["patients"] for group in counts["test"].values()} == {75}
        for alone in drawn.position[rho].values():
            assert alone["before"]["middle"] > 0.77
            assert abs(alone["after"]["middle"] - 0.5) < 0.06


def test_a_text_that_looks_like_a_number_is_named_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient,kernel\na,1.50\nb,soft\nc,1.50\nd,soft\n", encoding="utf-8")
    tied = tie(read_table(path, patient="patient"), "kernel", ["1.50", "soft"])
    assert tied.values == ("1.50", "soft") and dict(tied.codes) == {"a": 0, "b": 1, "c": 0, "d": 1}
