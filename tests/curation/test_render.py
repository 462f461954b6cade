"""Rendering collections of DICOM volumes: what is written, who is left out, and what is in memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from robustbench_spur.curation import labelled, windows
from robustbench_spur.curation.boxes import Box
from robustbench_spur.curation.labelled import Settings, stems
from robustbench_spur.curation.render import Outcome, render
from robustbench_spur.curation.series import Choice
from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import (
    COUNT,
    NATIVE,
    PATIENTS,
    SIZE,
    SPACING,
    Written,
    collection_boxes,
    collection_job,
    phantom,
    read_table,
    write_volume,
)


def pixels(path: Path) -> NDArray[np.int64]:
    image = Image.open(path)
    assert (image.mode, image.format) == ("L", "PNG")
    return np.asarray(image).astype(np.int64)


def rule(s: int, start: int, end: int) -> int:
    """The owners' rule: 1, 0, or -1 for what is left out."""
    if start <= s < end:
        return 1
    return 0 if s + 5 <= start or s - 5 > end else -1


# What is written


@pytest.mark.parametrize("order", ["file", "position"])
def test_slices_with_a_label_are_written_as_they_are_stored(collection: Path, tmp_path: Path, order: Any) -> None:
    """In either order, every picture is the stored slice as the owners scale it, and its label that of its file."""
    out = tmp_path / "out"
    outcome = render(collection_job(collection, out, settings=replace(NATIVE, order=order)))
    rows, written = read_table(out / "slices.csv"), 0
    for name, (number, rotated, descending) in PATIENTS.items():
        upwards, box = phantom(number, rotated=rotated).images.astype(float) * 16, collection_boxes()[name]
        by_file = {s: upwards[-s if descending else s - 1] for s in range(1, COUNT + 1)}
        labels = {s: rule(s, box.start_slice, box.end_slice) for s in by_file}
        if order == "position" and descending:
            by_file = {COUNT + 1 - s: image for s, image in by_file.items()}
            labels = {COUNT + 1 - s: label for s, label in labels.items()}
        here = [row for row in rows if row["patient"] == name]
        assert {int(row["slice"]): int(row["label"]) for row in here} == {
            s: one for s, one in labels.items() if one >= 0
        }
        for row in here:
            s = int(row["slice"])
            assert row["file"] == f"images/{int(name[-3:])}/1-{s:03d}-{int(name[-3:])}.png"
            assert (int(row["count"]), float(row["position"])) == (COUNT, round((s - 1) / (COUNT - 1), 6))
            assert (pixels(out / row["file"]) == np.floor(by_file[s] * 255 / by_file[s].max())).all()
        written += len(here)
    assert len(rows) == written == len(list((out / "images").rglob("*.png")))
    assert outcome.slices == {label: sum(int(row["label"]) == label for row in rows) for label in (0, 1)}
    assert [row["patient"] for row in rows] == sorted(row["patient"] for row in rows)


def test_flipped_labels_follow_the_lesion(collection: Path, tmp_path: Path) -> None:
    """Feet to head, a positive slice shows the lesion and a negative one does not, whichever way boxes were counted."""
    out = tmp_path / "out"
    render(collection_job(collection, out, settings=replace(NATIVE, order="position", buffer=1)))
    for name, (number, rotated, _) in PATIENTS.items():
        seen = phantom(number, rotated=rotated).lesion.any(axis=(1, 2))
        for row in read_table(out / "slices.csv"):
            if row["patient"] == name:
                assert seen[int(row["slice"]) - 1] == (row["label"] == "1")


def test_the_boxs_last_slice_is_positive_if_asked_for(collection: Path, tmp_path: Path) -> None:
    render(collection_job(collection, tmp_path / "out", settings=replace(NATIVE, closed=True, buffer=0)))
    for name, box in collection_boxes().items():
        rows = {
            int(row["slice"]): int(row["label"])
            for row in read_table(tmp_path / "out" / "slices.csv")
            if row["patient"] == name
        }
        assert rows == {s: int(box.start_slice <= s <= box.end_slice) for s in range(1, COUNT + 1)}


@pytest.mark.parametrize("window", ["slice", "volume", "percentile"])
def test_windows_are_those_of_the_slice_or_of_the_volume(collection: Path, tmp_path: Path, window: Any) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out, settings=replace(NATIVE, window=window)))
    for name in PATIENTS:
        files = sorted((collection / name / "post_1").iterdir())
        values = np.stack([dcmread(file).pixel_array for file in files]).astype(float)
        low, high = {
            "slice": (0, values.max(axis=(1, 2), keepdims=True)),
            "volume": (0, values.max()),
            "percentile": np.percentile(values, (0.5, 99.5), method="inverted_cdf"),
        }[window]
        wanted = np.floor(np.clip((values - low) / (high - low), 0, 1) * 255 + 1e-9)
        for row in read_table(out / "slices.csv"):
            if row["patient"] == name:
                assert (pixels(out / row["file"]) == wanted[int(row["slice"]) - 1]).all()
        record = json.loads((out / "patients" / f"{int(name[-3:])}.json").read_text())
        assert record["window"] == (None if window == "slice" else [float(low), float(high)])


def test_images_are_320_pixels_by_default_and_lie_as_they_are_stored(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(collection_job(collection, out, settings=Settings(), patients=frozenset(["Breast_MRI_002"])))
    upwards = phantom(2, rotated=True).images.astype(float)
    for row in read_table(out / "slices.csv"):
        large, stored = pixels(out / row["file"]).astype(float), upwards[-int(row["slice"])]
        assert large.shape == (320, 320)
        small, turned = large.reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3)), stored[::-1, ::-1]
        assert (
            np.corrcoef(small.ravel(), stored.ravel())[0, 1] > 0.95 > np.corrcoef(small.ravel(), turned.ravel())[0, 1]
        )


def test_inverted_signed_and_rescaled_values_are_read_as_they_are_meant(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-500, 2000, (COUNT, 20, 20))
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": 100}
    write_volume(tmp_path / "dicom" / "P1" / "post_1", stored, Written("P1", dtype="<i2", tags=tags))
    given = {"boxes": {"P1": Box(1, 9, 1, 9, 8, 12)}, "settings": Settings(size=20, window="volume")}
    render(collection_job(tmp_path / "dicom", tmp_path / "out", **given))
    values = stored * 2 + 100
    rows = read_table(tmp_path / "out" / "slices.csv")
    assert len(rows) == 4 + 3 + 7
    for row in rows:
        wanted = 255 - np.floor(np.clip(values[int(row["slice"]) - 1], 0, None) * 255 / values.max())
        assert (pixels(tmp_path / "out" / row["file"]) == wanted).all()


def test_the_series_that_was_chosen_is_rendered(collection: Path, tmp_path: Path) -> None:
    """The first phase is twice as bright, which only its maximum tells."""
    highest = {}
    for name, choice in {"post_1": Choice("^post_1$"), "pre": Choice("ax dyn pre"), "4": Choice(number=4)}.items():
        render(collection_job(collection, tmp_path / name, choice=choice, settings=replace(NATIVE, window="volume")))
        record = json.loads((tmp_path / name / "patients" / "1.json").read_text())
        highest[name] = record["window"][1]
        assert record["folder"] == f"Breast_MRI_001/{'post_1' if name == 'post_1' else 'pre'}"
    assert highest["pre"] == highest["4"] == 2 * highest["post_1"]
    with pytest.raises(
        SpurbenchError, match=r"one series of 'Breast_MRI_001' that matches 'T2', found 0 of 2: 5 .*; 4 ax"
    ):
        render(collection_job(collection, tmp_path / "out", choice=Choice("T2")))
    outcome = render(collection_job(collection, tmp_path / "out", choice=Choice("ax dyn")))
    assert [failure.patient for failure in outcome.failures] == sorted(PATIENTS)
    assert "found 2 of 2" in outcome.failures[0].reason


def test_the_lists_say_what_was_done_and_from_what(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = render(collection_job(collection, out))
    volumes = read_table(out / "volumes.csv")
    assert [row["patient"] for row in volumes] == sorted(PATIENTS)
    stored = {row["patient"]: (row["rotated"], row["descending"]) for row in volumes}
    assert stored == {name: (str(int(turned)), str(int(down))) for name, (_, turned, down) in PATIENTS.items()}
    assert {(row["count"], row["rows"], row["slice_spacing"]) for row in volumes} == {
        (str(COUNT), str(SIZE), f"{SPACING:g}")
    }
    described = json.loads((out / "render.json").read_text())
    assert described["options"] == collection_job(collection, out).identity
    assert (described["complete"], described["patients"], described["failures"]) == (True, 4, [])
    assert (described["positive"], described["negative"]) == (outcome.slices[1], outcome.slices[0])
    for name, digest in described["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    digests = []
    for name, box in collection_boxes().items():
        record = json.loads((out / "patients" / f"{int(name[-3:])}.json").read_text())
        together = b"".join(
            pixels(out / "images" / record["stem"] / one[0]).astype("u1").tobytes() for one in record["slices"]
        )
        assert record["pixels_sha256"] == hashlib.sha256(together).hexdigest()
        assert record["annotated"]["End Slice"] == record["box"]["End Slice"] == box.end_slice
        digests.append(bytes.fromhex(record["pixels_sha256"]))
    assert described["pixels_sha256"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert any(text.startswith("pydicom ") for text in described["libraries"])


def test_slices_that_are_not_square_are_refused_or_get_margins(tmp_path: Path) -> None:
    write_volume(tmp_path / "dicom" / "P1" / "post_1", np.full((COUNT, 20, 30), 7), Written("P1"))
    given = {"boxes": {"P1": Box(1, 9, 1, 9, 8, 12)}, "settings": Settings(size=30)}
    (failure,) = render(collection_job(tmp_path / "dicom", tmp_path / "a", **given)).failures
    assert "square slices, found 20 x 30" in failure.reason and "Give --pad" in failure.reason
    assert read_table(tmp_path / "a" / "slices.csv") == read_table(tmp_path / "a" / "volumes.csv") == []
    render(collection_job(tmp_path / "dicom", tmp_path / "b", **given | {"settings": Settings(size=30, pad=True)}))
    found = pixels(tmp_path / "b" / read_table(tmp_path / "b" / "slices.csv")[0]["file"])
    assert (found[5:25] == 255).all() and found.sum() == 255 * 600


# Who is left out


def test_patients_are_left_out_for_a_reason_that_is_told(collection: Path, tmp_path: Path) -> None:
    given = {**collection_boxes(), "Breast_MRI_900": Box(1, 2, 1, 2, 3, 4)}
    del given["Breast_MRI_013"]
    excluded, asked = frozenset(["Breast_MRI_001"]), frozenset(["Breast_MRI_001", "Breast_MRI_002"])
    outcome = render(collection_job(collection, tmp_path / "out", boxes=given, excluded=excluded, patients=asked))
    assert outcome.left_out == {"excluded": 1, "not asked for": 2, "with a box, but without series": 1}
    assert (outcome.made, outcome.failures) == (1, [])
    outcome = render(collection_job(collection, tmp_path / "out", boxes=given, excluded=excluded))
    assert outcome.left_out == {"excluded": 1, "without a box": 1, "with a box, but without series": 1}
    assert (outcome.made, outcome.present) == (1, 1)


def test_nothing_to_do_is_an_error(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpurbenchError, match=r"DICOM series of MR below .*empty, found none"):
        render(collection_job(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(SpurbenchError, match=r"to render below .*, found none: 4 without a box"):
        render(collection_job(collection, tmp_path / "out", boxes={"P": Box(1, 2, 1, 2, 1, 2)}))
    for given, what in ((collection_boxes(), "series below .*"), ({"P": Box(1, 2, 1, 2, 1, 2)}, "a box")):
        with pytest.raises(
            SpurbenchError, match=f"Expected {what} of '{'nobody' if len(given) > 1 else 'Breast_MRI_001'}'"
        ):
            asked = frozenset(["nobody" if len(given) > 1 else "Breast_MRI_001"])
            render(collection_job(collection, tmp_path / "out", boxes=given, patients=asked))
    assert not (tmp_path / "out").exists()


def test_ids_that_a_file_name_cannot_tell_apart_are_refused() -> None:
    assert stems(["a_1", "b_01", ".."]) == {"a_1": "a_1", "b_01": "b_01", "..": "__"}
    for alike in (["a-1", "a_1"], ["A/x", "a.x"]):
        with pytest.raises(SpurbenchError, match="ids that differ in a file name"):
            stems(alike)


# Memory


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """How many slices were still in memory each time that another was read."""
    counts: list[int] = []
    known: list[weakref.ref[Any]] = []
    real = labelled.read_slice

    def counted(path: Path, shape: tuple[int, int]) -> Any:
        counts.append(sum(one() is not None for one in known))
        values = real(path, shape)
        known.append(weakref.ref(values))
        return values

    for module in (labelled, windows):
        monkeypatch.setattr(module, "read_slice", counted)
    return lambda: counts


@pytest.mark.parametrize("window", ["slice", "volume", "percentile"])
def test_no_more_than_one_slice_is_kept_while_the_next_is_read(
    collection: Path, tmp_path: Path, alive: Callable[[], list[int]], window: Any
) -> None:
    render(collection_job(collection, tmp_path / "out", settings=replace(NATIVE, window=window)))
    assert len(alive()) >= 4 * (12 if window == "slice" else COUNT + 12)
    assert max(alive()) <= (0 if window == "slice" else 1)


def test_memory_grows_neither_with_the_slices_of_a_volume_nor_with_the_patients(tmp_path: Path) -> None:
    side = 96
    slice_bytes = side * side * 8

    def peak(patients: int, count: int, folder: str) -> int:
        root = tmp_path / folder
        given = {f"P{number}": Box(1, 9, 1, 9, count // 2, count // 2 + 2) for number in range(patients)}
        for name in given:
            stored = np.random.default_rng(0).integers(0, 900, (count, side, side))
            write_volume(root / "dicom" / name / "post_1", stored, Written(name))
        del stored
        tracemalloc.start()
        outcome: Outcome = render(
            collection_job(root / "dicom", root / "out", boxes=given, settings=Settings(size=side, window="percentile"))
        )
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert outcome.made == patients
        return highest

    peak(1, 12, "first")  # whatever is loaded and cached once
    base = peak(1, 12, "base")
    assert base < 12 * slice_bytes
    assert peak(1, 40, "long") - base < 2 * slice_bytes
    assert peak(4, 12, "many") - base < 2 * slice_bytes
