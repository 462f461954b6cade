"""Reading a drawn split: what was written comes back, damage is told, and a method can be trained on it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_spur import api
from robustbench_spur.curation.split import FILE, Drawn, Recipe, contents, draw, full_name, reader, write
from robustbench_spur.registry import Registry
from robustbench_spur.splits.curated import Curated
from robustbench_spur.types import SpurbenchError
from tests.curation.test_split import GROUPS, collection

SIDE = 16
RECIPE = Recipe(rhos=(1.0, 0.5), train_patients=4, validation_patients=2, test_patients=4, slices_per_patient=2)
Row = dict[str, str]


def picture(path: Path, value: int, *, colour: bool = False) -> None:
    """A grey image of one value, or one whose red is that value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((SIDE, SIDE), value, np.uint8)
    channels = np.stack([array, array // 2, array // 4], axis=-1)
    Image.fromarray(channels if colour else array).save(path)


def values_of(files: list[str]) -> list[int]:
    """The grey value that stands for a file."""
    return [hashlib.sha256(file.encode()).digest()[0] for file in files]


def make(root: Path, *, channels: int = 1) -> tuple[Path, Drawn]:
    """A drawn split of 16 patients in a folder, and its images in the folder beside it."""
    drawn = draw(*collection(16), GROUPS, RECIPE)
    folder, images = root / "split", root / "images"
    for table in drawn.tables.values():
        for part in table.partitions.values():
            files = part.extra["file"].tolist()
            for file, value in zip(files, values_of(files), strict=True):
                picture(images / file, value, colour=channels == 3)
    write(folder, contents(folder, drawn, images, [], {}, channels=channels))
    return folder, drawn


def changed(folder: Path, change: Callable[[list[Row]], None], *, rho: str = "1.0") -> None:
    """Change the rows of a list, and give the description the new list's hash."""
    place, described = folder / f"rows-{rho}.csv", json.loads((folder / FILE).read_bytes())
    rows = list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))
    change(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    place.write_text(text.getvalue(), encoding="utf-8", newline="")
    described["tables"][rho]["sha256"] = hashlib.sha256(place.read_bytes()).hexdigest()
    (folder / FILE).write_text(json.dumps(described), encoding="utf-8")


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    folder, drawn = make(tmp_path)
    dataset = Curated(path=folder)
    for rho, table in drawn.tables.items():
        read = dataset.table("linked", rho)
        assert read.groups == GROUPS
        assert read.notes == drawn.notes
        assert read.sha256() == table.sha256()
        assert list(read.partitions) == ["train", "validation", "test"]
        for name, part in read.partitions.items():
            assert part.extra["file"].tolist() == table.partitions[name].extra["file"].tolist()
            assert np.allclose(part.extra["position"], table.partitions[name].extra["position"], atol=1e-5)
    assert Curated(path=folder / FILE).fingerprint() == dataset.fingerprint()


def test_the_core_finds_the_reader_by_what_it_states() -> None:
    plugin = reader(Registry())
    assert plugin.name == "curated"
    assert full_name(plugin, 0.95) == "curated/linked@0.95"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [SIDE, 8])
def test_pixels_are_those_of_the_files_in_row_order(tmp_path: Path, channels: int, size: int) -> None:
    folder, _ = make(tmp_path, channels=channels)
    dataset = Curated(path=folder)
    assert dataset.channels == channels
    part = dataset.table("linked", 0.5).partitions["train"]
    images = np.concatenate(list(dataset.pixels("linked", part, size)))
    assert images.shape == (len(part), channels, size, size)
    assert images.dtype == np.uint8
    expected = values_of(part.extra["file"].tolist())
    assert images[:, 0].reshape(len(part), -1).tolist() == [[value] * size * size for value in expected]
    if channels == 3:
        assert images[:, 2, 0, 0].tolist() == [value // 4 for value in expected]
    places = dataset.files("linked", part)
    assert [place.relative_to(tmp_path / "images").as_posix() for place in places] == part.extra["file"].tolist()


def test_both_folders_can_move_together(tmp_path: Path) -> None:
    folder, drawn = make(tmp_path / "here")
    before = Curated(path=folder).fingerprint()
    (tmp_path / "here").rename(tmp_path / "th\u00e9re")
    dataset = Curated(path=tmp_path / "th\u00e9re" / "split")
    part = dataset.table("linked", 1.0).partitions["test"]
    assert dataset.fingerprint() == before
    assert sum(map(len, dataset.pixels("linked", part, SIDE))) == len(drawn.tables[1.0].partitions["test"])


def test_a_changed_image_is_noticed_and_an_absent_one_is_told_when_it_is_read(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    dataset = Curated(path=folder)
    part = dataset.table("linked", 1.0).partitions["test"]
    first = tmp_path / "images" / part.extra["file"][0]
    assert part.extra["bytes"][0] == first.stat().st_size
    first.write_bytes(first.read_bytes() + b"\0")
    changed_part = dataset.table("linked", 1.0).partitions["test"]
    assert changed_part.digest() == part.digest()
    assert changed_part.digest(with_extra=True) != part.digest(with_extra=True)
    first.unlink()
    absent = dataset.table("linked", 1.0).partitions["test"]
    assert absent.extra["bytes"][0] == -1
    with pytest.raises(SpurbenchError, match=first.name):
        list(dataset.pixels("linked", absent, SIDE))


def test_the_fingerprint_is_of_all_lists(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    before = Curated(path=folder).fingerprint()
    changed(folder, lambda rows: rows.reverse(), rho="0.5")
    assert Curated(path=folder).fingerprint() != before


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)

    def rename(rows: list[Row]) -> None:
        for row in rows:
            row["patient"] = f"J\u00f6rg, \u201c{row['patient']}\u201d"

    changed(folder, rename)
    part = Curated(path=folder).table("linked", 1.0).partitions["train"]
    assert all(name.startswith("J\u00f6rg, \u201cP0") for name in part.clusters.tolist())


# Damage


def test_a_rho_that_was_not_drawn_is_told_with_those_that_were(tmp_path: Path) -> None:
    dataset = Curated(path=make(tmp_path)[0])
    with pytest.raises(
        SpurbenchError, match=r"drawn \(@1\.0, @0\.5\), found @0\.95\. Draw the split again with --rho 0.95"
    ):
        dataset.table("linked", 0.95)
    with pytest.raises(SpurbenchError, match=r"rho from 0\.5 to 1"):
        dataset.table("linked", None)
    with pytest.raises(SpurbenchError, match="Unknown split 'other'"):
        dataset.table("other", 0.5)


def one(rows: list[Row], partition: str) -> Row:
    return next(row for row in rows if row["partition"] == partition)


def moved(rows: list[Row]) -> None:
    one(rows, "train")["partition"] = "test"


def relabelled(rows: list[Row]) -> None:
    row = one(rows, "train")
    row["label"] = str(1 - int(row["label"]))


def of_two_values(rows: list[Row]) -> None:
    row = one(rows, "test")
    row["attribute"] = str(1 - int(row["attribute"]))


def without(partition: str) -> Callable[[list[Row]], None]:
    def change(rows: list[Row]) -> None:
        rows[:] = [row for row in rows if row["partition"] != partition]

    return change


def cell(column: str, value: str) -> Callable[[list[Row]], None]:
    def change(rows: list[Row]) -> None:
        rows[1][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved, "one partition per patient, found test and train of 'P0"),
        (relabelled, "one label per patient"),
        (of_two_values, "one attribute per patient"),
        (without("test"), r"found no 'test'. \(.*rows-1.0.csv"),
        (lambda rows: rows.append(rows[0]), "Expected a new id"),
        (cell("partition", "trian"), r"found 'trian'. Did you mean 'train'.* \(line 3 of .*rows-1.0.csv"),
        (cell("label", "2"), "0 or 1 as label, found '2'"),
        (cell("attribute", ""), "0 or 1 as attribute, found ''"),
        (cell("patient", ""), "a new id and a patient"),
        (cell("position", "2"), "a position from 0 to 1, or none, found '2'"),
        (cell("position", "mid"), "found 'mid'"),
        (cell("file", "../secret.png"), "a file below the folder of images"),
        (cell("file", "/etc/passwd"), "a file below the folder of images"),
        (cell("file", "a\\b.png"), "with '/', found"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(
    tmp_path: Path, change: Callable[[list[Row]], None], message: str
) -> None:
    folder, _ = make(tmp_path)
    changed(folder, change)
    with pytest.raises(SpurbenchError, match=message):
        Curated(path=folder).table("linked", 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,file\n", "Expected the columns partition,id,.*found id,file"),
        (b"", "found none"),
        (b"partition,id,file,label,attribute,patient,position\ntrain,a\n", "7 cells, found 2"),
        ("partition\u00e9".encode("latin-1"), "in UTF-8, found .* unreadable"),
    ],
)
def test_lists_of_another_form_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    folder, _ = make(tmp_path)
    (folder / "rows-1.0.csv").write_bytes(content)
    with pytest.raises(
        SpurbenchError, match=r"Expected .*rows-1.0.csv as split.json has it \(sha256 .*Draw the split again"
    ):
        Curated(path=folder).table("linked", 1.0)
    described = json.loads((folder / FILE).read_bytes())
    described["tables"]["1.0"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / FILE).write_text(json.dumps(described))
    with pytest.raises(SpurbenchError, match=message):
        Curated(path=folder).table("linked", 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "found schema_version"),
        ({"channels": 2}, "found channels"),
        ({"classes": ["a"]}, "found classes"),
        ({"tables": {}}, "found tables"),
        ({"tables": {"1.0": {"file": "../x.csv", "sha256": "0" * 64}}}, "found tables.1.0.file"),
    ],
)
def test_descriptions_that_say_something_else_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder, _ = make(tmp_path)
    (folder / FILE).write_text(json.dumps({**json.loads((folder / FILE).read_bytes()), **change}))
    with pytest.raises(SpurbenchError, match=message):
        Curated(path=folder)


def test_a_missing_folder_list_or_description_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match="--data curated=PATH"):
        Curated()
    with pytest.raises(SpurbenchError, match=r"Expected a folder at .*found nothing"):
        Curated(path=tmp_path / "gone")
    with pytest.raises(SpurbenchError, match=r"description of a drawn split at .*split\.json, found no such file"):
        Curated(path=tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(SpurbenchError, match="found the whole: Invalid JSON"):
        Curated(path=tmp_path)
    folder, _ = make(tmp_path)
    (folder / "rows-0.5.csv").unlink()
    with pytest.raises(SpurbenchError, match=r"rows-0\.5\.csv, found no such file"):
        Curated(path=folder).fingerprint()


# All of it


def test_a_method_is_trained_on_a_drawn_split(tmp_path: Path) -> None:
    folder, drawn = make(tmp_path)
    (record,) = api.run(
        "erm",
        "curated/linked@0.5",
        settings={"epochs": 1, "batch_size": 8},
        data={"curated": folder},
        home=tmp_path / "home",
        image_size=SIDE,
        device="cpu",
        evaluators=("worst_group",),
    )
    assert record.status == "done", record.reason
    assert record.split.fingerprint == Curated(path=folder).fingerprint()
    assert drawn.tables[0.5].sha256() in record.model_dump_json()
