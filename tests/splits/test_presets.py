"""Known collections of photographs: Waterbirds on its real metadata, the others on stand-ins with their owners' names."""

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from robustbench_spur.splits.table import Table, TableParameters
from robustbench_spur.splits.tabular.presets import PRESETS
from robustbench_spur.types import SpurbenchError
from tests.splits.owners import counts, names, paint, read, write

DATA = Path(os.environ.get("SPURBENCH_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
REAL = DATA / "waterbirds_metadata" / "metadata.csv"


def test_every_preset_is_a_split() -> None:
    assert {"own", *PRESETS} == set(Table.splits)


# Waterbirds


@pytest.fixture(scope="module")
def birds() -> list[dict[str, str]]:
    if not REAL.is_file():
        pytest.skip(f"no Waterbirds metadata at {REAL}")
    with REAL.open(newline="") as file:
        return list(csv.DictReader(file))


def test_waterbirds_real_groups(tmp_path: Path, birds: list[dict[str, str]]) -> None:
    """The training and test counts are those that the file's source states; all 11,788 rows are there."""
    shutil.copyfile(REAL, tmp_path / "metadata.csv")
    dataset, table = read("waterbirds", tmp_path)
    assert table.groups.names == ("landbird@land", "landbird@water", "waterbird@land", "waterbird@water")
    assert counts(table, "train") == [3525, 186, 54, 1030]
    assert counts(table, "test") == [2255, 2255, 642, 642]
    assert sum(len(part) for part in table.partitions.values()) == len(birds) == 11788
    assert min(counts(table, "validation")) > 0
    assert any("DFR" in note for note in table.notes)
    assert dataset.channels == 3
    assert len(dataset.fingerprint()) == 64


def test_waterbirds_images(tmp_path: Path, birds: list[dict[str, str]]) -> None:
    """Every 40th real row with its real file name, and an image written for it."""
    some = birds[::40]
    write(tmp_path / "metadata.csv", list(some[0]), [list(row.values()) for row in some])
    for row in some:
        paint(tmp_path / row["img_filename"], int(row["img_id"]) % 200, colour=True)
    dataset, table = read("waterbirds", tmp_path)
    for row in some:
        kind, place, part = names(table)[row["img_filename"]]
        assert (kind, place) == (["landbird", "waterbird"][int(row["y"])], ["land", "water"][int(row["place"])])
        assert part == ["train", "validation", "test"][int(row["split"])]
    for part in table.partitions.values():
        values = np.concatenate(list(dataset.pixels("waterbirds", part, 6)))[:, :, 3, 3]
        real = [next(int(r["img_id"]) % 200 for r in some if r["img_filename"] == key) for key in part.ids.tolist()]
        assert np.abs(values.astype(int) - np.array(real)[:, None]).max() <= 3  # JPEG


def test_waterbirds_with_other_columns_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "metadata.csv", ["img_filename", "y", "split"], [["a.jpg", 0, 0]])
    with pytest.raises(SpurbenchError, match=r"a column 'place' in .*metadata\.csv"):
        read("waterbirds", tmp_path)
    write(tmp_path / "metadata.csv", ["img_filename", "y", "place", "split"], [["a.jpg", 0, 0, 4]])
    with pytest.raises(SpurbenchError, match=r"one of 0, 1, 2 as split, found '4' \(row 2"):
        read("waterbirds", tmp_path)


# CelebA


def celebrities(root: Path, *, text: bool) -> None:
    marks = [(k, (-1, 1)[k % 2], (-1, 1)[k // 2 % 2], k // 4) for k in range(12)]
    if text:
        lines = ["12", "Blond_Hair Male Young "]
        lines += [f"{k:06d}.jpg {blond:2d} {male:2d}  1" for k, blond, male, _ in marks]
        (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        (root / "list_eval_partition.txt").write_text("".join(f"{k:06d}.jpg {part}\n" for k, _, _, part in marks))
        (root / "identity_CelebA.txt").write_text("".join(f"{k:06d}.jpg {100 + k // 2}\n" for k, *_ in marks))
    else:
        header = ["image_id", "Blond_Hair", "Male", "Young"]
        write(root / "list_attr_celeba.csv", header, [[f"{k:06d}.jpg", b, m, 1] for k, b, m, _ in marks])
        write(root / "list_eval_partition.csv", ["image_id", "partition"], [[f"{m[0]:06d}.jpg", m[3]] for m in marks])


@pytest.mark.parametrize("text", [True, False])
def test_celeba(tmp_path: Path, text: bool) -> None:
    celebrities(tmp_path, text=text)
    (tmp_path / "img_align_celeba" / "img_align_celeba").mkdir(parents=True)
    dataset, table = read("celeba", tmp_path)
    assert table.groups.classes == ("not Blond_Hair", "Blond_Hair")
    assert table.groups.values == ("not Male", "Male")
    assert names(table)["000006.jpg"] == ("not Blond_Hair", "Male", "validation")
    assert counts(table, "test") == [1, 1, 1, 1]
    part = table.partitions["train"]
    assert dataset.files("celeba", part)[0] == tmp_path / "img_align_celeba" / "img_align_celeba" / "000000.jpg"
    assert part.clusters.tolist() == (["100", "100", "101", "101"] if text else part.ids.tolist())
    assert dataset.channels == 3
    ignored = read("celeba", tmp_path, patient_column="-")[1].partitions["train"]
    assert ignored.clusters.tolist() == ignored.ids.tolist()


def test_celeba_that_is_incomplete_is_refused(tmp_path: Path) -> None:
    celebrities(tmp_path, text=True)
    attributes = tmp_path / "list_attr_celeba.txt"
    whole = attributes.read_text()
    attributes.write_text(whole[:-55])
    with pytest.raises(SpurbenchError, match=r"words per line in .*list_attr_celeba.txt"):
        read("celeba", tmp_path)
    attributes.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(SpurbenchError, match=r"the 12 images that .* announces, found 11"):
        read("celeba", tmp_path)
    attributes.write_text(whole)
    (tmp_path / "list_eval_partition.txt").write_text("000000.jpg 0\n")
    with pytest.raises(SpurbenchError, match=r"000001\.jpg in the partitions and persons too"):
        read("celeba", tmp_path)
    (tmp_path / "list_eval_partition.txt").unlink()
    with pytest.raises(SpurbenchError, match=r"list_eval_partition\.txt or list_eval_partition\.csv in .*, found none"):
        read("celeba", tmp_path)


# MetaShift


@pytest.mark.parametrize("inner", [True, False])
def test_metashift(tmp_path: Path, inner: bool) -> None:
    folder = tmp_path / "MetaShift-Cat-Dog-indoor-outdoor"
    kinds = ("train/cat/cat(indoor)", "train/dog/dog(outdoor)", "test/cat/cat(outdoor)", "test/dog/dog(indoor)")
    for number, kind in enumerate(kinds):
        for k in range(20):
            paint(folder / kind / f"{100 * number + k}.jpg", 10 * number, colour=True)
    paint(folder / "test/dog/dog(indoor)" / "0.jpg", 0, colour=True)  # one photograph of a cat and of a dog
    dataset, table = read("metashift", folder if inner else tmp_path)
    assert table.groups.names == ("dog@outdoor", "dog@indoor", "cat@outdoor", "cat@indoor")
    found = names(table)
    assert found["train/cat/cat(indoor)/3.jpg"][:2] == ("cat", "indoor")
    assert found["test/dog/dog(indoor)/0.jpg"][2] == found["train/cat/cat(indoor)/0.jpg"][2]
    sizes = {name: len(np.unique(part.clusters)) for name, part in table.partitions.items()}
    assert sizes == {"train": 52, "validation": 8, "test": 20}  # of 80: a tenth and a quarter
    assert read("metashift", tmp_path)[1].sha256() == table.sha256()
    assert read("metashift", tmp_path, seed=1)[1].sha256() != table.sha256()
    blocks = list(dataset.pixels("metashift", table.partitions["test"], 4))
    assert blocks[0].shape == (len(table.partitions["test"]), 3, 4, 4)
    paint(folder / "train/cat/cat(roof)/1.jpg", 0)
    with pytest.raises(SpurbenchError, match=r"found train/cat/cat\(roof\)/1\.jpg"):
        read("metashift", tmp_path)


# Camelyon17


def test_camelyon17(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        center, patient = number % 5, f"{20 * (number % 5) + number // 20:03d}"
        rows.append(
            [number, patient, number % 3, 32 * number, 96, number // 5 % 2, number % 50, center, number // 10 % 2]
        )
    header = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
    write(tmp_path / "metadata.csv", header, rows)
    dataset, table = read("camelyon17", tmp_path)
    assert table.groups.classes == ("normal", "tumor")
    assert table.groups.values == ("0", "1", "2", "3", "4")
    found = names(table)
    key = "patches/patient_040_node_2/patch_patient_040_node_2_x_64_y_96.png"
    assert found[key] == ("normal", "2", "test")
    assert {value for _, value, part in found.values() if part == "validation"} == {"1"}
    assert {value for _, value, part in found.values() if part == "train"} == {"0", "3", "4"}
    assert Counter(part for _, _, part in found.values()) == {"train": 12, "validation": 8, "test": 8}
    assert "Left out: 12 patches" in table.notes[-1]
    assert "040" in table.partitions["test"].clusters.tolist()
    assert dataset.channels == 3
    assert sum(count == 0 for count in counts(table, "test")) == 8


def test_a_folder_of_two_collections_must_say_its_channels(tmp_path: Path) -> None:
    for content, found in (([], "found none"), (["train.csv", "metadata.csv"], "found grey and colour ones")):
        for name in content:
            (tmp_path / name).touch()
        with pytest.raises(SpurbenchError, match=found):
            _ = Table(TableParameters(), tmp_path).channels
    assert Table(TableParameters(channels=3), tmp_path).channels == 3
