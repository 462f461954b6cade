"""Which split a column's cost is measured on: its two levels, their direction, and how much is drawn, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur.curation.collection import Slices
from robustbench_spur.curation.features import Column, FeatureTable
from robustbench_spur.curation.images import Images
from robustbench_spur.curation.pool import (
    Pool,
    UndrawableError,
    choose,
    pool_of,
    recipe_of,
    two_levels,
    worth_measuring,
)
from robustbench_spur.curation.scan import scan
from robustbench_spur.curation.split import draw
from robustbench_spur.splits.base import RHOS
from robustbench_spur.types import Groups, SpurbenchError


def column(name: str, values: Sequence[object]) -> Column:
    """Of numbers if all are."""
    numbers = all(isinstance(value, float) for value in values if value is not None)
    return Column(name, np.array(values, dtype=object), "numeric" if numbers else "categorical")


def images(counts: dict[str, int]) -> Images:
    items = tuple((name, Path(f"{name}-{k}.png")) for name, count in counts.items() for k in range(count))
    return Images(items, "made", 0)


def pool(groups: Sequence[tuple[object, int, int]], *, each: int = 2, rho: float = 1.0, varying: bool = False) -> Pool:
    """Patients by value, label and number; all have ``each`` images."""
    rows = [(value, label) for value, label, count in groups for _ in range(count)]
    names = [f"P{number:03d}" for number in range(len(rows))]
    feature = column("feature", [value for value, _ in rows])
    ids = np.array(names, dtype=object)
    table = FeatureTable(Path("made.csv"), ids, (feature,), len(rows), varying=("feature",) if varying else ())
    labels = {name: label for name, (_, label) in zip(names, rows, strict=True)}
    return Pool(table, (), ("clear", "tumour"), labels, images(dict.fromkeys(names, each)), rho=rho)


# How much is drawn


@pytest.mark.parametrize(
    ("groups", "rho", "expected"),
    [
        # 60 aligned in the rarer class, 9 conflict patients: 9 of each group for the test, of the other 51 a fifth validates.
        ([[60, 12], [9, 75]], 1.0, (36, 41, 10)),
        # A third of the aligned is the most that the test takes.
        ([[30, 40], [40, 30]], 1.0, (40, 16, 4)),
        ([[400, 100], [90, 300]], 1.0, (200, 200, 50)),
        # With 20 conflict patients, 15 for the test leave 45 aligned: train 36, validation 9, of which 4 + 1 do not follow.
        ([[60, 20], [20, 60]], 0.9, (60, 36, 9)),
        # No more than 50 of every group, however many there are.
        ([[500, 500], [500, 500]], 1.0, (200, 360, 90)),
        # Ten for training would need 17 aligned ones.
        ([[15, 5], [5, 15]], 1.0, None),
        ([[18, 5], [5, 18]], 1.0, (20, 11, 2)),
        # With 6, the 1 that 5 for the test leave does for three quarters of the 21 aligned: train 12, validation 3.
        ([[26, 6], [6, 26]], 0.9, (20, 12, 3)),
        ([[60, 4], [60, 60]], 1.0, None),
        ([[60, 6], [9, 60]], 0.8, None),
    ],
)
def test_the_largest_test_that_leaves_enough(
    groups: list[list[int]], rho: float, expected: tuple[int, int, int] | None
) -> None:
    counts = np.array(groups)
    if expected is None:
        with pytest.raises(UndrawableError):
            recipe_of(counts, rho, 3, seed=4)
        return
    found = recipe_of(counts, rho, 3, seed=4)
    assert (found.test_patients, found.train_patients, found.validation_patients) == expected
    assert (found.rhos, found.seed, found.slices_per_patient, found.adapt_patients) == ((rho,), 4, 3, 0)


def test_why_not_names_the_numbers() -> None:
    with pytest.raises(UndrawableError, match=r"at rho 1 needs 5 .* and 10 .* have 60 patients .* and 4 where"):
        recipe_of(np.array([[60, 4], [8, 70]]), 1.0, 1, seed=0)


@given(st.lists(st.integers(0, 70), min_size=4, max_size=4), st.sampled_from(RHOS), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_what_is_planned_can_be_drawn(counts: list[int], rho: float, each: int) -> None:
    made = pool([(value, label, counts[2 * k + label]) for k, value in enumerate("ab") for label in (0, 1)], each=each)
    try:
        chosen = choose(replace(made, rho=rho), "feature")
    except UndrawableError:
        return
    rows = [(patient, path) for patient, path in made.images.items]
    slices = Slices(
        np.array([path.name for _, path in rows]),
        np.array([patient for patient, _ in rows]),
        np.array([made.labels[patient] for patient, _ in rows]),
        np.full(len(rows), np.nan),
    )
    drawn = draw(slices, chosen.codes, Groups(made.classes, "feature", chosen.values), chosen.recipe)
    test = drawn.tables[rho].counts()["test"]
    assert {group["patients"] for group in test.values()} == {chosen.recipe.test_patients // 4}
    assert {group["examples"] for group in test.values()} == {chosen.recipe.test_patients // 4 * each}


# Which levels, and which way round


def test_the_first_level_goes_with_the_first_class_as_in_the_pool() -> None:
    groups = [("a", 0, 9), ("a", 1, 60), ("b", 0, 75), ("b", 1, 12)]
    found = choose(pool(groups), "feature")
    assert found.values == ("b", "a")
    assert [list(found.codes.values()).count(code) for code in (0, 1)] == [87, 69]
    assert found.codes["P000"] == 1
    assert found.recipe == recipe_of(np.array([[75, 12], [9, 60]]), 1.0, 2, seed=2025)
    flipped = [(value, 1 - label, count) for value, label, count in groups]
    assert choose(pool(flipped), "feature").values == ("a", "b")


def test_the_two_levels_are_those_that_are_in_both_classes() -> None:
    """Not the largest: c is of one class alone, and who has no value has no level."""
    groups = [("a", 0, 30), ("a", 1, 8), ("b", 0, 3), ("b", 1, 2), ("c", 0, 90), ("d", 0, 7), ("d", 1, 40)]
    found = choose(pool([*groups, (None, 0, 50), (None, 1, 50)]), "feature")
    assert found.values == ("a", "d")
    assert len(found.codes) == 30 + 8 + 7 + 40


@pytest.mark.parametrize("groups", [[("a", 0, 60), ("b", 1, 60)], [("a", 0, 60), ("a", 1, 60), (None, 1, 60)]])
def test_a_feature_that_is_the_label_or_has_one_level_cannot_be_drawn(groups: list[tuple[object, int, int]]) -> None:
    with pytest.raises(UndrawableError, match="fewer than two levels have patients of both classes"):
        choose(pool(groups), "feature")


def test_few_numbers_and_texts_that_look_like_numbers_are_levels() -> None:
    groups = [(1.5, 0, 20), (1.5, 1, 6), (3.0, 0, 6), (3.0, 1, 20)]
    assert choose(pool(groups), "feature").values == ("1.5", "3")
    texts = [("1.50", 0, 20), ("1.50", 1, 6), ("3.0", 0, 6), ("3.0", 1, 20), ("tag absent", 1, 1)]
    assert choose(pool(texts), "feature").values == ("1.50", "3")


def test_numbers_are_cut_at_the_median() -> None:
    labels = np.arange(12) % 2
    values, codes = two_levels(column("age", [float(n) for n in range(1, 13)]), labels, 5)
    assert values == ("<6.5", ">=6.5")
    assert codes.tolist() == [0] * 6 + [1] * 6
    values, codes = two_levels(column("age", [None, *map(float, range(11))]), labels, 5)
    assert (values, codes.tolist()) == (("<5", ">=5"), [-1, *[0] * 5, *[1] * 6])


def test_where_the_median_is_the_least_the_cut_is_above_it() -> None:
    values, codes = two_levels(column("dose", [*[0.0] * 7, *map(float, range(1, 6))]), np.arange(12) % 2, 5)
    assert (values, codes.tolist()) == (("<1", ">=1"), [0] * 7 + [1] * 5)


def test_patients_with_few_images_are_left_out() -> None:
    """Four fifths have three images or more; who has fewer is not drawn, and no more than eight are taken."""
    made = pool([("a", 0, 30), ("a", 1, 10), ("b", 0, 10), ("b", 1, 30)])
    names = list(made.labels)
    counts = {name: 1 if n % 10 == 0 else 3 + n % 4 for n, name in enumerate(names)}
    found = choose(replace(made, images=images(counts)), "feature")
    assert found.recipe.slices_per_patient == 3
    assert set(names) - set(found.codes) == {name for name in names if counts[name] < 3}
    many = choose(replace(made, images=images(dict.fromkeys(names, 50))), "feature")
    assert many.recipe.slices_per_patient == 8


def test_a_column_that_varies_within_patients_and_an_unknown_one_are_told() -> None:
    groups = [("a", 0, 30), ("a", 1, 10), ("b", 0, 10), ("b", 1, 30)]
    with pytest.raises(UndrawableError, match="differs between rows of one patient"):
        choose(pool(groups, varying=True), "feature")
    with pytest.raises(SpurbenchError, match="Did you mean 'feature'"):
        choose(pool(groups), "featur")


# From a scan


def scanned(label: Sequence[object]) -> tuple[FeatureTable, Images]:
    rng = np.random.default_rng(0)
    names = [f"P{number:02d}" for number in range(len(label))]
    weak = [str(n) for n in rng.integers(0, 2, len(label))]
    columns = (
        column("y", label),
        column("weak", [None if n < 9 else value for n, value in enumerate(weak)]),
        column("same", ["x"] * len(label)),
    )
    table = FeatureTable(Path("made.csv"), np.array(names, dtype=object), columns, len(label))
    return table, images({name: 2 for name in names if name != "P05"})


@pytest.mark.parametrize("label", [["tumour", "clear"], [1.0, 0.0], [True, False]])
def test_the_pool_of_a_scan_has_its_classes_in_its_order(label: list[object]) -> None:
    table, there = scanned([None, *label * 20])
    found = scan(table, "y", permutations=9, replicates=9)
    made = pool_of(table, found, there, (Path("made.csv"),), rho=0.9, seed=3, channels=3)
    assert made.classes == tuple(found.classes)
    texts = table.find("y").texts.tolist()
    expected = {f"P{n:02d}": made.classes.index(text) for n, text in enumerate(texts) if text is not None and n != 5}
    assert made.labels == expected
    assert (made.rho, made.seed, made.channels, made.bins) == (0.9, 3, 3, 5)


def test_a_label_of_three_classes_is_refused() -> None:
    table, there = scanned(["a", "b", "c"] * 10)
    with pytest.raises(SpurbenchError, match="two classes for --damage, found 3 of 'y'"):
        pool_of(table, scan(table, "y", permutations=9, replicates=9), there, ())


def test_missingness_and_constant_columns_are_not_worth_measuring() -> None:
    table, _ = scanned(["a", "b"] * 20)
    rows = scan(table, "y", permutations=9, replicates=9).rows
    assert {row.name for row in rows} == {"weak", "weak (missing)", "same"}
    assert [row.name for row in worth_measuring(rows, 5)] == ["weak"]
    assert worth_measuring(rows, 0) == []
