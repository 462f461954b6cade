"""``spurbench curate render``, and the whole way from DICOM volumes to a split that a run can open."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from robustbench_spur.curation.boxes import Box, read_boxes, turn_box
from robustbench_spur.splits.curated import Curated
from tests.conftest import Ended
from tests.curation.dicoms import COUNT, TURNED, UPRIGHT, Written, phantom, write_boxes, write_patient, write_volume

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
PICTURES = DATA / "duke_breast_mri_slices"
REAL = DATA / "duke_breast_mri_metadata" / "Annotation_Boxes.csv"
NUMBERS = range(1, 9)

Command = Callable[..., Ended]


def name_of(number: int) -> str:
    return f"Breast_MRI_{number:03d}"


def strength_of(number: int) -> float:
    """Of the first four 1.5 T, of the others 3 T; every other patient is stored turned and numbered from the head."""
    return 1.5 if number <= 4 else 3.0


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients in TCIA's classic layout, with Duke's boxes and mapping beside them."""
    root = tmp_path_factory.mktemp("dicom")
    boxes, rows = [], [("sop_instance_UID", "original_path_and_filename", "classic_path")]
    for number in NUMBERS:
        name, other = name_of(number), number % 2 == 0
        patient = phantom(number, rotated=other)
        for phase, position in (("pre", 1), ("post_1", 2)):
            uid = f"1.{number}.{position}"
            tags = {"MagneticFieldStrength": strength_of(number), "SeriesInstanceUID": uid, "SeriesNumber": position}
            how = {"description": f"ax dyn {position}", "tags": tags}
            written = write_patient(root / "scratch", name, patient, descending=other, **how)
            (root / "images" / name / f"1.{number}").mkdir(parents=True, exist_ok=True)
            written.rename(root / "images" / name / f"1.{number}" / uid)
            for s in range(1, COUNT + 1):
                original = f"DICOM_Images/{name}/{phase}/{name}_{phase}_{s:03d}.dcm"
                rows.append((f"1.2.{s}", original, f"Duke-Breast-Cancer-MRI/{name}/1.{number}/{uid}/1-{s:03d}.dcm"))
        boxes.append((name, patient.box(descending=other)))
    write_boxes(root / "boxes.csv", boxes)
    with (root / "mapping.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return root


def render(spurbench: Command, dicom: Path, out: Path, *more: Any) -> Ended:
    chosen = () if {"--series", "--mapping", "--series-file", "--series-number"} & set(more) else ("--series", "dyn 2")
    return spurbench("curate", "render", dicom / "images", "--boxes", dicom / "boxes.csv", "--out", out, *chosen, *more)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


# The whole way


def test_from_dicom_volumes_to_a_split_that_a_run_opens(
    spurbench: Command, dicom: Path, tmp_path: Path, home: Any
) -> None:
    """Three commands; the loader gives the very pictures, and the attribute of each patient is what its headers say."""
    out, split = tmp_path / "slices", tmp_path / "split"
    ended = render(spurbench, dicom, out, "--mapping", dicom / "mapping.csv", "--size", 64)
    assert ended.code == 0, ended.err
    rows = {row["file"]: row for row in table(out / "slices.csv")}
    positive = sum(row["label"] == "1" for row in rows.values())
    assert ended.out.splitlines() == [
        "Series: the one of each patient that is post_1 in the mapping.",
        f"8 patients rendered, 0 there already: {positive} slices with the lesion, {len(rows) - positive} without.",
        f"Written to {out}. Next:",
        f"  spurbench curate split {out / 'volumes.csv'} --slices {out / 'slices.csv'} --attribute NAME --out FOLDER",
    ]
    given = [out / "volumes.csv", "--slices", out / "slices.csv", "--attribute", "field_strength", "--values", 3, 1.5]
    sizes = ["--train-patients", 2, "--validation-patients", 1, "--test-patients", 2, "--slices-per-patient", 2]
    ended = spurbench("curate", "split", *given, *sizes, "--rho", 1.0, 0.5, "--out", split)
    assert ended.code == 0, ended.err
    ended = spurbench("data", "check", "curated/linked@1.0", "--data", f"curated={split}")
    assert ended.code == 0, ended.out
    dataset = Curated(path=split)
    for rho in (1.0, 0.5):
        split_table = dataset.table("linked", rho)
        assert split_table.groups.values == ("3", "1.5")
        for partition in split_table.partitions.values():
            images = np.concatenate(list(dataset.pixels("linked", partition, 64)))
            assert len(images) == len(partition)
            for row, file in enumerate(partition.extra["file"].tolist()):
                assert (images[row].squeeze() == pixels(out / file)).all()
                assert int(rows[file]["label"]) == partition.labels[row]
                number = int(str(partition.clusters[row])[-3:])
                assert ("3", "1.5")[partition.attributes[row]] == f"{strength_of(number):g}"
                assert float(rows[file]["position"]) == pytest.approx(partition.extra["position"][row])


def test_orientation_is_an_attribute_that_can_be_tied(spurbench: Command, dicom: Path, tmp_path: Path) -> None:
    assert render(spurbench, dicom, tmp_path / "slices", "--size", 40, "--order", "position").code == 0
    volumes = table(tmp_path / "slices" / "volumes.csv")
    assert [(row["rotated"], row["descending"]) for row in volumes] == [("0", "0"), ("1", "0")] * 4
    given = [
        tmp_path / "slices" / "volumes.csv",
        "--slices",
        tmp_path / "slices" / "slices.csv",
        "--attribute",
        "rotated",
    ]
    sizes = ["--train-patients", 2, "--validation-patients", 1, "--test-patients", 2, "--slices-per-patient", 2]
    ended = spurbench("curate", "split", *given, *sizes, "--rho", 1.0, "--out", tmp_path / "split", "--json")
    assert ended.code == 0
    assert sorted(ended.rows[0]["values"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (["--series", "dyn 1$"], "1.{0}.1"),
        (["--series", r"^1\.\d\.2$"], "1.{0}.2"),
        (["--series-number", "1"], "1.{0}.1"),
        (["--mapping", "mapping.csv", "--phase", "pre"], "1.{0}.1"),
        (["--series-file", "list.csv"], "1.{0}.2"),
    ],
)
def test_every_way_to_choose_a_series(
    spurbench: Command, dicom: Path, tmp_path: Path, options: list[str], folder: str
) -> None:
    with (dicom / "list.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [("patient", "series"), *((name_of(n), f"{name_of(n)}/1.{n}/1.{n}.2") for n in NUMBERS)]
        )
    options = [str(dicom / option) if option.endswith(".csv") else option for option in options]
    asked = ["--patients", name_of(1), name_of(8), "--size", 16]
    ended = render(spurbench, dicom, tmp_path / "out", *options, *asked)
    assert ended.code == 0, ended.err
    assert "Left out: 6 patients not asked for." in ended.out
    for number in (1, 8):
        record = (tmp_path / "out" / "patients" / f"{number}.json").read_text()
        assert f'"folder": "{name_of(number)}/1.{number}/{folder.format(number)}"' in record


# What goes wrong


def test_a_failure_is_told_the_others_go_on_and_the_code_is_1_until_it_is_mended(
    spurbench: Command, dicom: Path, tmp_path: Path
) -> None:
    out, asked = tmp_path / "out", ["--patients", name_of(1), name_of(2), "--size", 16]
    counts = tmp_path / "counts.csv"
    counts.write_text(f"patient,count\n{name_of(2)},25\n", encoding="utf-8")
    for made, present in ((1, 0), (0, 1)):
        ended = render(spurbench, dicom, out, *asked, "--counts", counts)
        assert ended.code == 1
        assert f"{made} patients rendered, {present} there already" in ended.out
        assert f"FAILED {name_of(2)}: Expected 25 slices in {dicom / 'images' / name_of(2)}" in ended.out
        assert "1 patients failed (failures.csv). Run the same command again to retry." in ended.out
    counts.write_text(f"patient,count\n{name_of(2)},24\n", encoding="utf-8")
    ended = render(spurbench, dicom, out, *asked, "--counts", counts)
    assert (ended.code, "1 patients rendered, 1 there already" in ended.out) == (0, True)
    assert not (out / "failures.csv").exists()


def test_where_all_fail_no_next_step_is_named(spurbench: Command, dicom: Path, tmp_path: Path) -> None:
    ended = render(spurbench, dicom, tmp_path / "out", "--series", "dyn", "--patients", name_of(1))
    assert ended.code == 1
    assert "found 2 of 2: 1 ax dyn 1" in ended.out
    assert "Next" not in ended.out


def test_other_options_into_the_same_folder_are_refused(spurbench: Command, dicom: Path, tmp_path: Path) -> None:
    asked = ["--patients", name_of(1), "--size", 16]
    assert render(spurbench, dicom, tmp_path / "out", *asked).code == 0
    for more in (["--window", "volume"], ["--closed"], ["--order", "position"], ["--series", "dyn 1"], ["--buffer", 4]):
        ended = render(spurbench, dicom, tmp_path / "out", *asked, *more)
        assert (ended.code, ended.out) == (2, "")
        assert "was begun with" in ended.err and ended.err.count("\n") == 1
    mapping = ["--mapping", dicom / "mapping.csv"]
    assert render(spurbench, dicom, tmp_path / "mapped", *asked, *mapping).code == 0
    ended = render(spurbench, dicom, tmp_path / "mapped", *asked, *mapping, "--phase", "pre")
    assert (ended.code, "'is post_1 in the mapping'" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--boxes", "nowhere.csv"], "nowhere.csv, found no such file"),
        (["--window", "wide"], "invalid choice: 'wide'"),
        (["--size", "8"], "size of at least 16 pixels, found 8"),
        (["--buffer", "-1"], "buffer of at least 0 slices, found -1"),
        (["--series", "("], "regular expression, found '('"),
        (["--series", "T2"], f"one series of '{name_of(1)}' that matches 'T2', found 0 of 2: 1 ax dyn 1 ("),
        (["--series", "a", "--series-number", "1"], "not allowed with argument"),
        (["--phase", "pre"], "--mapping with --phase"),
        (["--mapping", "boxes.csv"], "column 'original_path_and_filename' in"),
        (["--mapping", "mapping.csv", "--phase", "post_9"], "phase 'post_9' in"),
        (["--series-file", "boxes.csv"], "columns patient and series in"),
        (["--counts", "boxes.csv"], "columns patient and count in"),
        (["--exclude", "nowhere"], "one id per line at nowhere, found no such file"),
        (["--patients", "nobody"], "of 'nobody', found none"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    spurbench: Command, dicom: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    more = [str(dicom / option) if (dicom / option).is_file() else option for option in more]
    ended = render(spurbench, dicom, tmp_path / "out", *more)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err and ended.err.startswith("spurbench: ") and ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_names_every_option_with_its_default(spurbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = spurbench("curate", "render", "--help").out
    for words in ("(default: ^post_1$)", "(default: post_1)", "(default: slice)", "(default: file)", "(default: 320)"):
        assert words in text
    assert "DICOM volumes to labelled slices, as SpurBreast has them" in spurbench("curate", "--help").out


# Real slices


def scaled(box: Box, rows: int, columns: int, *, margin: int) -> tuple[slice, slice]:
    """Where a box lies in a picture of 320 pixels, with some pixels around it."""
    down, across = 320 / rows, 320 / columns
    return (
        slice(int((box.start_row - 1) * down) - margin, int(np.ceil(box.end_row * down)) + margin),
        slice(int((box.start_column - 1) * across) - margin, int(np.ceil(box.end_column * across)) + margin),
    )


@pytest.mark.skipif(not (PICTURES.is_dir() and REAL.is_file()), reason=f"no Duke slices and boxes at {DATA}")
@pytest.mark.parametrize(
    ("patient", "picture", "mask", "turned"),
    [
        ("041", "case041_0001.png", "case041_M_slice85.png", True),
        ("045", "case045_0001.png", "case045_M_slice119.png", True),
        ("378", "378_slice88_0001.png", "378_slice88_M.png", True),
        ("907", "907_0001_slice85.png", "907_M_slice85.png", False),
    ],
)
def test_real_slices_are_rendered_as_duke_stores_them_with_the_lesion_in_its_box(
    spurbench: Command, tmp_path: Path, patient: str, picture: str, mask: str, turned: bool
) -> None:
    """A volume of the real picture and its mask, stored as Duke does; the box is the real one, but for its slices.

    What the command writes is compared with the published upright pictures: it must be them, turned where Duke's matrix is,
    and at 320 pixels the whole mask lies in the box, give or take the pixel that resampling spreads it over.
    """
    upright = [np.asarray(Image.open(PICTURES / name).convert("L")) for name in (picture, mask)]
    stored = [image[::-1, ::-1] if turned else image for image in upright]
    name, (rows, columns) = f"Breast_MRI_{patient}", stored[0].shape
    real = read_boxes(REAL)[name]
    box = Box(real.start_row, real.end_row, real.start_column, real.end_column, 1, 3)
    how = Written(name, TURNED if turned else UPRIGHT, heights=[6, 4, 2, 0], dtype="u1")
    write_volume(tmp_path / "dicom" / name / "post_1", np.stack([*stored, stored[0], stored[0]]), how)
    write_boxes(tmp_path / "boxes.csv", [(name, box)])
    ended = spurbench(
        "curate", "render", tmp_path / "dicom", "--boxes", tmp_path / "boxes.csv", "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    (volume,) = table(tmp_path / "out" / "volumes.csv")
    assert (volume["rotated"], volume["descending"]) == (str(int(turned)), "1")
    first, second = (pixels(tmp_path / "out" / row["file"]) for row in table(tmp_path / "out" / "slices.csv"))
    assert first.shape == second.shape == (320, 320)
    small = np.asarray(Image.fromarray(upright[0]).resize((320, 320), Image.Resampling.BOX), float)
    assert np.corrcoef(small.ravel(), (first[::-1, ::-1] if turned else first).ravel())[0, 1] > 0.98
    assert np.corrcoef(small.ravel(), (first if turned else first[::-1, ::-1]).ravel())[0, 1] < 0.8
    assert second[scaled(box, rows, columns, margin=1)].sum() == second.sum() > 0
    assert second[scaled(turn_box(box, rows, columns), rows, columns, margin=0)].sum() == 0
