"""Groups, partitions and tables against plain Python; errors of what contradicts itself."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_spur.types import (
    Estimate,
    Groups,
    Partition,
    SplitTable,
    SpurbenchError,
    finite,
    nearest,
)

GROUPS = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))


def partition(prefix: str, labels: list[int], attributes: list[int], clusters: list[str], **extra: Any) -> Partition:
    return Partition(
        np.array([f"{prefix}{i}" for i in range(len(labels))], np.str_),
        np.array(labels, np.int64),
        np.array(attributes, np.int64),
        np.array([f"{prefix}{cluster}" for cluster in clusters], np.str_),
        {name: np.asarray(column) for name, column in extra.items()},
    )


def table(**changes: Partition) -> SplitTable:
    rows = {
        "train": partition("t", [0, 0, 1], [0, 0, 1], ["p", "p", "q"]),
        "validation": partition("v", [0, 1], [0, 1], ["p", "q"]),
        "test": partition("e", [0, 0, 1, 1], [0, 1, 0, 1], ["p", "p", "q", "q"]),
    }
    return SplitTable(GROUPS, {**rows, **changes})


# Groups


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9),
)
def test_a_group_is_named_after_the_pair_that_its_index_stands_for(
    classes: int, values: int, pairs: list[tuple[int, int]]
) -> None:
    groups = Groups(tuple(f"c{k}" for k in range(classes)), "site", tuple(f"v{k}" for k in range(values)))
    labels, attributes = (
        np.array(column) for column in zip(*((y % classes, a % values) for y, a in pairs), strict=True)
    )
    named = [groups.names[g] for g in groups.index(labels, attributes).tolist()]
    assert named == [f"c{y}@v{a}" for y, a in zip(labels.tolist(), attributes.tolist(), strict=True)]
    assert len(groups) == len(set(groups.names)) == classes * values


def test_group_indices_do_not_overflow_small_codes() -> None:
    many = Groups(tuple(map(str, range(200))), "site", tuple(map(str, range(200))))
    assert many.index(np.array([199], np.uint8), np.array([199], np.uint8)).tolist() == [39_999]


# Partitions


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(SpurbenchError, match=r"columns of one length.*\[2, 3\]"):
        partition("t", [0, 1], [0, 1], ["p", "q"], slice=[1, 2, 3])


def test_repeated_ids_are_refused_and_named() -> None:
    ids = np.array(["a", "b", "b"], np.str_)
    with pytest.raises(SpurbenchError, match="unique example ids, found 'b' more than once"):
        Partition(ids, np.zeros(3, np.int64), np.zeros(3, np.int64), ids)


def test_the_digest_is_the_sha256_of_tab_separated_rows() -> None:
    rows = partition("t", [0, 1], [1, 0], ["p", "q"], z=[7, 8], a=["x", "y"])
    assert rows.digest() == hashlib.sha256(b"t0\t0\t1\ttp\nt1\t1\t0\ttq\n").hexdigest()
    assert rows.digest(with_extra=True) == hashlib.sha256(b"t0\t0\t1\ttp\tx\t7\nt1\t1\t0\ttq\ty\t8\n").hexdigest()


@pytest.mark.parametrize("column", ["ids", "labels", "attributes", "clusters"])
def test_every_column_is_part_of_the_digest(column: str) -> None:
    rows = partition("t", [0, 1], [1, 0], ["p", "q"])
    columns = {name: getattr(rows, name).copy() for name in ("ids", "labels", "attributes", "clusters")}
    columns[column][0] = columns[column][1] if column != "ids" else "other"
    assert Partition(**columns).digest() != rows.digest()


def test_take_keeps_rows_together() -> None:
    rows = partition("t", [0, 1, 1], [1, 0, 1], ["p", "q", "r"], slice=[10, 20, 30])
    for chosen in (np.array([2, 0]), np.array([True, False, True])):
        order = [2, 0] if chosen.dtype == np.int64 else [0, 2]
        taken = rows.take(chosen)
        assert taken.ids.tolist() == [f"t{i}" for i in order]
        assert taken.extra["slice"].tolist() == [10 * (i + 1) for i in order]
        assert taken.labels.tolist() == [[0, 1, 1][i] for i in order]
        assert len(taken) == 2


# Tables


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
def test_the_three_partitions_have_to_be_there(missing: str) -> None:
    rows = {name: rows for name, rows in table().partitions.items() if name != missing}
    with pytest.raises(SpurbenchError, match=f"found no '{missing}'"):
        SplitTable(GROUPS, rows)


def test_another_partition_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SpurbenchError, match=r"Unknown partition 'adopt'\. Did you mean 'adapt'"):
        table(adopt=partition("x", [0], [0], ["p"]))


def test_a_patient_in_two_partitions_is_refused_and_named() -> None:
    leaked = Partition(np.array(["x"]), np.array([0]), np.array([0]), np.array(["tq"]))
    with pytest.raises(SpurbenchError, match="share no patient, found 'tq' in train and adapt"):
        table(adapt=leaked)


@pytest.mark.parametrize(("labels", "attributes", "what"), [([2], [0], "label"), ([0], [-1], "attribute")])
def test_codes_outside_the_universe_are_refused(labels: list[int], attributes: list[int], what: str) -> None:
    with pytest.raises(SpurbenchError, match=f"Expected {what} codes 0 to 1 in 'adapt'"):
        table(adapt=partition("x", labels, attributes, ["p"]))


def test_counts_list_every_declared_group_and_the_empty_ones_as_zero() -> None:
    counts = table(adapt=partition("a", [], [], [])).counts()
    assert counts["train"] == {
        "clear@3T": {"examples": 2, "patients": 1},
        "clear@1.5T": {"examples": 0, "patients": 0},
        "tumour@3T": {"examples": 0, "patients": 0},
        "tumour@1.5T": {"examples": 1, "patients": 1},
    }
    assert counts["adapt"] == {name: {"examples": 0, "patients": 0} for name in GROUPS.names}
    assert set(counts) == {"train", "validation", "adapt", "test"}


def test_identity_is_that_of_the_rows_whatever_the_order_of_partitions_and_the_extra_columns() -> None:
    plain = table()
    backwards = SplitTable(GROUPS, dict(reversed(list(plain.partitions.items()))), notes=("a note",))
    with_extra = table(validation=partition("v", [0, 1], [0, 1], ["p", "q"], slice=[1, 2]))
    assert plain.sha256() == backwards.sha256() == with_extra.sha256()
    assert table(validation=partition("v", [0, 1], [0, 1], ["p", "r"])).sha256() != plain.sha256()
    for groups in (
        Groups(GROUPS.classes, "vendor", GROUPS.values),
        Groups(GROUPS.classes, GROUPS.attribute, ("a", "b")),
    ):
        assert SplitTable(groups, plain.partitions).sha256() != plain.sha256()


# Numbers and names


def test_an_estimate_says_why_it_is_missing_and_only_then() -> None:
    assert Estimate(0.5, 0.4, 0.6).as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6}
    missing = Estimate(None, reason="no patients").as_dict()
    assert missing == {"value": None, "low": None, "high": None, "reason": "no patients"}


@given(st.floats())
def test_finite_keeps_numbers_and_drops_what_json_has_no_word_for(number: float) -> None:
    assert finite(number) == (number if math.isfinite(number) else None)
    assert type(finite(float(np.float64(1.5)))) is float


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("grupdro", ["jtt", "groupdro"], "Did you mean 'groupdro'? Known: groupdro, jtt."),
        ("xyzzy", ["jtt", "erm"], "Known: erm, jtt."),
        ("x", [], "Known: none."),
    ],
)
def test_nearest_names(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected
