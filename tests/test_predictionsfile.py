"""Predictions that strangers wrote: what is read, and the one message about each fault."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_spur import arraysfile, predictionscolumns
from robustbench_spur.predictionsfile import FLOOR, aligned, load_predictions
from robustbench_spur.types import SpurbenchError

ROWS = """id,patient,label,attribute,logit_0,logit_1
a,p,0,0,2,0
b,p,0,1,1.5,-1
c,q,1,0,0,3
d,r,1,1,1,0
"""
PROBS = """id,patient,label,attribute,prob_0,prob_1
a,p,0,0,0.9,0.1
b,p,0,1,1,0
c,q,1,0,0.25,0.75
"""
SOUND: dict[str, Any] = {
    "id": np.array(list("abcd")),
    "patient": np.array([7, 7, 8, 9]),
    "label": np.array([0, 0, 1, 1]),
    "attribute": np.array([0, 1, 0, 1]),
    "logits": np.array([[2, 0], [1.5, -1], [0, 3], [1, 0]]),
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a text or arrays to a file and gives its path."""

    def write(content: Any, name: str = "said.csv") -> Path:
        path = tmp_path / name
        if isinstance(content, dict):
            path = path.with_suffix(".npz")
            np.savez(path, **content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(SpurbenchError, match=message) as caught:
        load_predictions(path, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


# what is read


def test_a_table_of_logits(write: Any) -> None:
    found = load_predictions(write(ROWS))
    said = found.predictions
    assert (said.ids.tolist(), said.clusters.tolist()) == (list("abcd"), ["p", "p", "q", "r"])
    assert (said.labels.tolist(), said.attributes.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
    assert said.logits.tolist() == [[2, 0], [1.5, -1], [0, 3], [1, 0]] and said.logits.dtype == np.float32
    assert said.groups.names == ("0@0", "0@1", "1@0", "1@1") and said.groups.attribute == "attribute"
    assert found.notes == () and said.conflict == ()


@pytest.mark.parametrize(
    "text",
    [
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        "\ufeff" + ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS + "\n\n",
        ROWS.replace(",", " , "),
        ROWS.replace(",0,", ",0.0,").replace(",1,", ",1.0,"),
        "\n".join('"' + line.replace(",", '","') + '"' for line in ROWS.splitlines()),
        "\n".join(",".join(reversed(line.split(","))) for line in ROWS.splitlines()),
    ],
    ids=["semicolons", "tabs", "mark", "lines", "end", "spaces", "decimals", "quotes", "order"],
)
def test_the_same_table_written_otherwise(write: Any, text: str) -> None:
    expected, found = load_predictions(write(ROWS)).predictions, load_predictions(write(text, "other.csv")).predictions
    for name in ("ids", "labels", "attributes", "clusters", "logits"):
        assert (getattr(expected, name) == getattr(found, name)).all(), name
    assert found.groups == expected.groups


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"label": np.array([0.0, 0.0, 1.0, 1.0], np.float32)},
        {"label": np.array([False, False, True, True])},
        {"attribute": np.array(["0", "1", "0", "1"])},
        {"logits": np.asfortranarray(SOUND["logits"].astype(np.float32))},
        {"logit_0": SOUND["logits"][:, 0], "logit_1": SOUND["logits"][:, 1], "logits": None},
    ],
    ids=str,
)
def test_arrays(write: Any, change: dict[str, Any]) -> None:
    path = write({name: array for name, array in {**SOUND, **change}.items() if array is not None})
    found, expected = load_predictions(path).predictions, load_predictions(write(ROWS)).predictions
    assert (found.logits == expected.logits).all() and (found.labels == expected.labels).all()
    assert (found.attributes == expected.attributes).all() and found.clusters.tolist() == ["7", "7", "8", "9"]


def test_names_of_classes_and_values(write: Any) -> None:
    named = {
        "a,p,0,0": "a,p,clear,3T",
        "b,p,0,1": "b,p,clear,1.5T",
        "c,q,1,0": "c,q,tumour,3T",
        "d,r,1,1": "d,r,tumour,1.5T",
    }
    text = ROWS
    for code, name in named.items():
        text = text.replace(code, name)
    found = load_predictions(write(text), classes=("clear", "tumour"), attribute="field strength").predictions
    assert found.labels.tolist() == [0, 0, 1, 1] and found.attributes.tolist() == [1, 0, 1, 0]
    assert found.groups.values == ("1.5T", "3T") and found.groups.attribute == "field strength"
    declared = load_predictions(write(text), classes=("tumour", "clear"), values=("3T", "7T", "1.5T")).predictions
    assert declared.labels.tolist() == [1, 1, 0, 0] and declared.attributes.tolist() == [0, 2, 0, 2]
    assert len(declared.groups) == 6
    codes = load_predictions(write(ROWS), classes=("clear", "tumour"), values=("3T", "1.5T")).predictions
    assert codes.groups.names == ("clear@3T", "clear@1.5T", "tumour@3T", "tumour@1.5T")
    assert codes.labels.tolist() == [0, 0, 1, 1]


def test_values_are_sorted_as_numbers_and_none_is_invented(write: Any) -> None:
    text = ROWS.replace("a,p,0,0", "a,p,0,10").replace("b,p,0,1", "b,p,0,9").replace("d,r,1,1", "d,r,1,1.5")
    assert load_predictions(write(text)).predictions.groups.values == ("0", "1.5", "9", "10")


def test_probabilities_become_logits_that_give_them_back(write: Any) -> None:
    found = load_predictions(write(PROBS))
    assert found.predictions.probabilities == pytest.approx(np.array([[0.9, 0.1], [1, FLOOR], [0.25, 0.75]]), abs=1e-6)
    assert found.notes == ("1 probabilities of said.csv below 1e-12 count as 1e-12: the log of 0 is not finite.",)
    assert found.predictions.logits[1, 1] == pytest.approx(np.log(FLOOR))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_rounded_probabilities_are_taken(tmp_path_factory: Any, rows: list[list[float]]) -> None:
    """Three digits of three classes are off by 0.0015 at most."""
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    lines = [f"{i},p{i},0,0," + ",".join(f"{p:.3f}" for p in row) for i, row in enumerate(probabilities)]
    path = tmp_path_factory.mktemp("rounded") / "said.csv"
    path.write_text("\n".join(["id,patient,label,attribute,prob_0,prob_1,prob_2", *lines]))
    found = load_predictions(path).predictions.probabilities
    assert found == pytest.approx(probabilities, abs=0.003)


def test_ids_and_patients_may_be_left_out(write: Any) -> None:
    bare = "\n".join(",".join(line.split(",")[2:]) for line in ROWS.splitlines())
    found = load_predictions(write(bare))
    assert found.predictions.ids.tolist() == found.predictions.clusters.tolist() == ["0", "1", "2", "3"]
    assert found.notes == (
        "said.csv has no column 'patient': every example counts as a patient of its own. Intervals are too narrow where"
        " patients have several.",
    )


def test_many_rows_and_classes(write: Any) -> None:
    rng, n = np.random.default_rng(0), 200_000
    arrays: dict[str, Any] = {
        "patient": rng.integers(0, 5000, n),
        "label": rng.integers(0, 10, n),
        "attribute": rng.integers(0, 5, n),
        "logits": rng.normal(0, 1, (n, 10)).astype(np.float32),
    }
    found = load_predictions(write(arrays)).predictions
    assert len(found) == n and (found.logits == arrays["logits"]).all() and len(found.groups) == 50
    two = np.round(arrays["logits"][:, :2], 3)
    columns = [
        arrays["patient"].tolist(),
        (arrays["label"] % 2).tolist(),
        arrays["attribute"].tolist(),
        *two.T.tolist(),
    ]
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path = write("\n".join(["patient,label,attribute,logit_0,logit_1", *lines]), "many.csv")
    table = load_predictions(path).predictions
    assert (table.labels == found.labels % 2).all() and np.abs(table.logits - two).max() < 1e-6


# faults


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (ROWS, "", "unreadable .No columns"),
        (ROWS, ROWS.splitlines()[0], "Expected a header line and then examples"),
        ("label", "lable", r"Unknown column 'lable' in .*Did you mean 'label'"),
        ("attribute", "attribute,age", r"unreadable .Error tokenizing|Unknown column"),
        ("patient", "label", "Expected a column 'label' in .*, found it 2 times"),
        ("id,patient,label", "id,patient,age", "Unknown column 'age'"),
        ("logit_1", "logit_2", "Expected logit_0, logit_1 and so on, one per class, in .*, found logit_0, logit_2"),
        ("logit_1", "prob_1", "Expected columns logit_0, .* or prob_0, .*, found both"),
        ("logit_0,logit_1", "score_0,score_1", "found columns id, patient, label, attribute, score_0, score_1"),
        ("c,q,1,0,0,3", "c,q,1,0,0,", r"Expected finite numbers in 'logit_1', found '' \(row 4 of"),
        ("c,q,1,0,0,3", "c,q,1,0,0", r"Expected finite numbers in 'logit_1', found '' \(row 4 of"),
        ("c,q,1,0,0,3", "c,q,1,0,0,inf", r"found 'inf' \(row 4 of"),
        ("c,q,1,0,0,3", "c,q,1,0,0,1e300", r"Expected logits that float32 holds, found \[0.0, 1e\+300\] \(row 4"),
        ("c,q,1,0,0,3", 'c,q,1,0,0,"3,5"', r"found '3,5' .*Write decimals with a point"),
        ("c,q,1,0,0,3", "c,q,1,0,0,3,4", "Error tokenizing data"),
        ("c,q,1,0,0,3", '"c,q,1,0,0,3', "EOF inside string"),
        ("c,q,1,0,0,3", "", r"found '' \(row 4 of"),
        ("c,q,1,0", "a,q,1,0", r"Expected every id once, found 'a' in row 2 of .* and row 4 of"),
        ("c,q,1,0", ",q,1,0", r"Expected 'id' in every row, found '' \(row 4 of .*, and 0 more"),
        ("c,q,1,0", "c,N/A,1,0", r"Expected 'patient' in every row, found 'N/A'"),
        ("c,q,1,0", "c,q,,0", r"Expected 'label' in every row, found ''"),
        ("c,q,1,0", "c,q,1,nan", r"Expected 'attribute' in every row, found 'nan'"),
        ("c,q,1,0", "c,q,2,0", r"Expected codes 0 to 1 in 'label', found '2' \(row 4 .*Give the names .*--classes"),
        ("c,q,1,0", "c,q,0.5,0", r"Expected codes 0 to 1 in 'label', found '0.5'"),
        ("c,q,1,0", "c,q,tumour,0", r"Expected codes 0 to 1 in 'label', found 'tumour'"),
    ],
)
def test_faults_of_a_table(write: Any, old: str, new: str, message: str) -> None:
    refused(write(ROWS.replace(old, new, 1)), message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25,0.75", "0.25,0.5", r"sum to 1 \(within 0.01\), found a sum of 0.75 \(row 4 of .*, and 0 more"),
        (
            "0.25,0.75",
            "-0.25,1.25",
            r"Expected probabilities from 0 to 1, found \[-0.25, 1.25\] .*Name the columns logit_0",
        ),
        ("0.25,0.75", "25,75", "Expected probabilities from 0 to 1"),
    ],
)
def test_faults_of_probabilities(write: Any, old: str, new: str, message: str) -> None:
    refused(write(PROBS.replace(old, new)), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a", "b", "c")}, "Expected a score of each of the 3 classes in .*, found 2. Correct --classes"),
        ({"classes": ("a", "a")}, "Expected different names in --classes, found a, a"),
        ({"values": ("x",)}, r"Expected one of x, or codes 0 to 0 throughout in 'attribute', found '1' \(row 3"),
        ({"values": ("0", "x")}, r"Expected one of 0, x, or codes 0 to 1 throughout in 'attribute', found '1'"),
    ],
)
def test_faults_of_names(write: Any, options: dict[str, Any], message: str) -> None:
    refused(write(ROWS), message, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([0, 0, 1])}, r"Expected arrays of one length in .*label \(3,\)"),
        ({"label": np.array([[0, 0, 1, 1]])}, "Expected arrays of one length"),
        ({"label": np.array([0, 0, 1, np.nan])}, r"Expected 'label' in every row, found 'nan' \(entry 3 of"),
        ({"label": np.array([0, 0, 1, 1j])}, "Expected arrays of numbers or texts in .*, found 'label' of complex128"),
        ({"label": np.array([0, 0, 1, None])}, "found 'label' of object. Python objects are not read"),
        ({"logits": np.zeros((4, 1))}, "one per class, in .*, found logit_0"),
        ({"logits": np.zeros(4)}, r"Expected logits of shape \(examples, classes\) in .*, found shape \(4,\)"),
        ({"logits": np.full((4, 2), np.inf)}, r"Expected finite numbers in 'logit_0', found inf \(entry 0 .*3 more"),
        ({"logits": np.array([["a", "b"]] * 4)}, "Expected numbers in 'logit_0' of .*, found <U1"),
        ({"probs": np.full((4, 2), 0.5)}, "found both"),
        ({"lable": np.zeros(4)}, "Unknown column 'lable'"),
        ({name: array[:0] for name, array in SOUND.items()}, "Expected examples in .*, found none"),
    ],
    ids=str,
)
def test_faults_of_arrays(write: Any, change: dict[str, Any], message: str) -> None:
    refused(write({**SOUND, **change}), message)


def test_faults_of_files(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / "none.csv", "found no such file. Check the path")
    refused(tmp_path / "none.npz", "found no such file. Check the path")
    refused(write("x", "said.parquet"), r"Expected predictions in a \.csv, \.tsv or \.npz file")
    refused(write(ROWS.encode("utf-16"), "wide.csv"), "in UTF-8, found .* unreadable")
    refused(write(b"PK\x03\x04 no zip", "said.npz"), "Expected an npz file, found .* unreadable")
    monkeypatch.setattr(predictionscolumns, "MAX_CSV_BYTES", 20)
    refused(write(ROWS), "Expected a table of at most 0 MiB")


# zips that are not well meant


def zipped(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_nothing_is_unpacked_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(tmp_path / "bomb.npz", [("label.npy", bytes(4 * 2**20))])
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was opened"))
    assert bomb.stat().st_size < 2**14
    with pytest.raises(SpurbenchError, match=r"Expected at most 10000 arrays and 1 MiB in .*found 1 arrays and 4 MiB"):
        arraysfile.read_npz(bomb, max_bytes=2**20)


def test_claims_are_held_against_the_file(tmp_path: Path) -> None:
    claimed = npy(np.zeros(10, np.int64)).replace(b"(10,)", b"(9999999999,)")
    for content in (claimed, npy(np.zeros(10))[:-1], npy(np.zeros(10)) + b"x"):
        with pytest.raises(SpurbenchError, match=r"bytes of 'label' in .*it is damaged|unreadable"):
            arraysfile.read_npz(zipped(tmp_path / "claim.npz", [("label.npy", content)]))


def test_strange_members(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="found 'label' there"):
        arraysfile.read_npz(zipped(tmp_path / "a.npz", [("label", npy(np.zeros(1)))]))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(tmp_path / "b.npz", [("x.npy", npy(np.zeros(1)))] * 2)
    with pytest.raises(SpurbenchError, match=r"found 'x\.npy' twice"):
        arraysfile.read_npz(twice)
    pickled = npy(np.zeros(1)).replace(b"'<f8',", b"'|O', ")
    with pytest.raises(SpurbenchError, match="Python objects are not read"):
        arraysfile.read_npz(zipped(tmp_path / "c.npz", [("x.npy", pickled)]))
    with pytest.raises(SpurbenchError, match="unreadable"):
        arraysfile.read_npz(zipped(tmp_path / "d.npz", [("x.npy", b"no array")]))


# features beside the scores


POINTS = np.array([[1.0, 2, 3], [0.5, -1, 0], [0, 3, 1e-3], [-1, 0, 2]], np.float32)
WEIGHT, BIAS = np.array([[1.0, 0, 2], [0, 1, -1]]), np.array([0.5, 0])
SEEN: dict[str, Any] = {**SOUND, "logits": POINTS @ WEIGHT.T + BIAS, "features": POINTS}


def with_features(text: str) -> str:
    """A table with the features as columns, the last one first."""
    lines = text.splitlines()
    cells = ["feature_2,feature_0,feature_1", *(",".join(map(repr, row[[2, 0, 1]].tolist())) for row in POINTS)]
    return "\n".join(f"{line},{cell}" for line, cell in zip(lines, cells, strict=True))


@pytest.mark.parametrize(
    "content",
    [
        with_features(ROWS),
        {**SOUND, "features": POINTS},
        {**SOUND, "features": POINTS.astype(np.float64)},
        {**SOUND, **{f"feature_{number}": POINTS[:, number] for number in range(3)}},
    ],
    ids=["table", "array", "float64", "columns"],
)
def test_features(write: Any, content: Any) -> None:
    found, plain = load_predictions(write(content)), load_predictions(write(ROWS, "plain.csv"))
    assert plain.features is None and plain.part.features is None
    assert found.features is not None and found.part.features is found.features
    assert np.array_equal(found.features.points, POINTS) and found.features.points.dtype == np.float32
    assert found.features.weight is None and found.features.bias is None
    assert (found.predictions.logits == plain.predictions.logits).all()


def test_the_last_layer_beside_the_features(write: Any) -> None:
    found = load_predictions(write({**SEEN, "head_weight": WEIGHT, "head_bias": BIAS})).features
    assert found is not None and np.array_equal(found.weight, WEIGHT) and np.array_equal(found.bias, BIAS)
    unbiased = {**SEEN, "logits": POINTS @ WEIGHT.T, "head_weight": WEIGHT}
    found = load_predictions(write(unbiased)).features
    assert found is not None and np.array_equal(found.bias, [0, 0])
    said = np.exp(SEEN["logits"])
    probs = {
        **SEEN,
        "logits": None,
        "probs": said / said.sum(axis=1, keepdims=True),
        "head_weight": WEIGHT,
        "head_bias": BIAS,
    }
    found = load_predictions(write({name: array for name, array in probs.items() if array is not None})).features
    assert found is not None and np.array_equal(found.weight, WEIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": POINTS[:3]}, r"Expected arrays of one length in .*feature_0 \(3,\)"),
        ({"features": POINTS[:, 0]}, r"Expected features of shape \(examples, width\) in .*, found shape \(4,\)"),
        (
            {"features": POINTS * np.array([[1], [1], [np.nan], [1]])},
            r"finite numbers in 'feature_0', found nan \(entry 2",
        ),
        (
            {"features": POINTS.astype(np.float64) * 1e39},
            r"features that float32 holds, found 1e\+39 in 'feature_0' \(entry 0",
        ),
        ({"features": POINTS.astype(str)}, "Expected numbers in 'feature_0' of .*, found <U"),
        ({"feature_4": POINTS[:, 0]}, r"Expected feature_0, feature_1 and so on in .*, found feature_0, .*feature_4"),
        ({"feature": POINTS[:, 0]}, "Unknown column 'feature' in .* Did you mean 'feature_0'"),
        (
            {"head_weight": WEIGHT.T},
            r"Expected head_weight as finite numbers of shape \(2, 3\) in .*, found .* of shape \(3, 2",
        ),
        ({"head_weight": WEIGHT + np.inf}, r"Expected head_weight as finite numbers of shape \(2, 3\)"),
        ({"head_weight": WEIGHT, "head_bias": np.zeros(3)}, r"Expected head_bias as finite numbers of shape \(2,\)"),
        ({"head_bias": BIAS}, "Expected head_weight beside head_bias in .*, found none"),
        ({"head_weight": WEIGHT, "features": None}, "Expected features beside head_weight in .*, found none"),
        (
            {"head_weight": 2 * WEIGHT, "head_bias": BIAS},
            r"Expected features @ head_weight.T \+ head_bias to give the logits, found a difference of .* \(entry 0 of",
        ),
    ],
    ids=str,
)
def test_faults_of_features(write: Any, change: dict[str, Any], message: str) -> None:
    refused(write({name: array for name, array in {**SEEN, **change}.items() if array is not None}), message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "feature_1",
            "feature_3",
            "Expected feature_0, feature_1 and so on in .*, found feature_0, feature_2, feature_3",
        ),
        ("feature_1", "feature_0", "Expected feature_0, feature_1 and so on"),
        (",3.0,1.0,2.0", ",3.0,,2.0", r"Expected finite numbers in 'feature_0', found '' \(row 2 of"),
    ],
)
def test_faults_of_features_in_a_table(write: Any, old: str, new: str, message: str) -> None:
    text = with_features(ROWS)
    assert old in text
    refused(write(text.replace(old, new, 1)), message)


# several seeds


def test_another_order_is_put_right(write: Any, tmp_path: Path) -> None:
    first = load_predictions(write(ROWS)).predictions
    lines = ROWS.splitlines()
    turned = load_predictions(write("\n".join([lines[0], *reversed(lines[1:])]), "turned.csv"))
    assert aligned(first, turned, tmp_path).features is None
    lines = with_features(ROWS).splitlines()
    turned = load_predictions(write("\n".join([lines[0], *reversed(lines[1:])]), "turned.csv"))
    loaded = aligned(first, turned, tmp_path)
    put = loaded.predictions
    assert loaded.features is not None and np.array_equal(loaded.features.points, POINTS)
    assert (put.ids == first.ids).all() and (put.logits == first.logits).all() and (put.labels == first.labels).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a,p", "e,p", "Expected the same examples in every file, found 2 that are not in .* such as 'a'"),
        ("a,p,0,0,2,0\n", "", "found 1 that are not in"),
        ("a,p,0", "a,p,1", "Expected the same labels in every file, found others in .*, such as of 'a'"),
        ("a,p,0,0", "a,p,0,1", "Expected the same attributes in every file"),
        ("a,p", "a,x", "Expected the same patients in every file"),
    ],
)
def test_seeds_of_other_sets(write: Any, tmp_path: Path, old: str, new: str, message: str) -> None:
    first = load_predictions(write(ROWS)).predictions
    other = load_predictions(write(ROWS.replace(old, new, 1), "other.csv"))
    with pytest.raises(SpurbenchError, match=message):
        aligned(first, other, tmp_path / "other.csv")
