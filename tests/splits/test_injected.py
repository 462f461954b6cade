"""Injected shortcuts: who gets one, what it changes in an image and what it leaves, and one run through the benchmark."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from robustbench_spur import api
from robustbench_spur.cell import CellData
from robustbench_spur.home import Home
from robustbench_spur.plan import open_split
from robustbench_spur.registry import Registry
from robustbench_spur.splitref import parse_split
from robustbench_spur.splits.injected import Injected, InjectedParameters
from robustbench_spur.splits.table import Table, TableParameters
from robustbench_spur.types import Partition, SplitTable, SpurbenchError
from tests.splits.owners import paint
from tests.splits.owners import write as table_of

Pixels = NDArray[np.uint8]
SIDE = 20


def make(
    folder: Path,
    classes: Sequence[Any] = ("clear", "tumour"),
    *,
    sizes: tuple[int, int, int] = (60, 20, 20),
    patients: bool = False,
    shape: tuple[int, ...] = (SIDE, SIDE),
    parts: tuple[str, ...] = ("train", "validation", "test"),
    written: bool = True,
) -> Path:
    """A table without an attribute: so many images of each class in each partition, and their images, without pure black."""
    random = np.random.default_rng(0)
    rows = []
    for part, size in zip(parts, sizes, strict=False):
        for label in classes:
            for number in range(size):
                name = f"{part}-{label}-{number}.png"
                who = f"{part}{number // 2}" if patients else name
                rows.append({"path": name, "label": label, "split": part, "patient": who})
                if written:
                    Image.fromarray(random.integers(20, 180, shape).astype(np.uint8)).save(folder / name)
    pd.DataFrame(rows).to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def inject(path: Path, **given: Any) -> Injected:
    return Injected(InjectedParameters(**{"adapt_per_group": 5, **given}), path)


def shown(dataset: Any, split: str, part: Partition, size: int = SIDE) -> Pixels:
    return np.concatenate(list(dataset.pixels(split, part, size)))


def plain(path: Path, part: Partition, size: int = SIDE) -> Pixels:
    """The same rows as the table's own images."""
    source = Table(TableParameters(), path)
    source.needs_attribute = False
    return shown(source, "own", part, size)


def conflicts(table: SplitTable, name: str, label: int) -> set[str]:
    part = table.partitions[name]
    return set(part.ids[(part.labels == label) & (part.attributes != label % 2)].tolist())


# who gets one


@pytest.mark.parametrize("rho", [1.0, 0.99, 0.95, 0.9, 0.8, 0.5])
def test_shares_are_exact_in_train_and_validation_and_half_elsewhere(tmp_path: Path, rho: float) -> None:
    table = inject(make(tmp_path, written=False)).table("tag", rho)
    assert table.groups.names == ("clear@absent", "clear@present", "tumour@absent", "tumour@present")
    assert table.groups.attribute == "injected tag"
    for name, size in (("train", 50), ("validation", 20)):
        for label in (0, 1):
            assert len(conflicts(table, name, label)) == int((1 - rho) * size + 0.5 + 1e-9)
    counted = table.counts()
    assert [group["examples"] for group in counted["test"].values()] == [10] * 4
    assert [group["examples"] for group in counted["adapt"].values()] == [5] * 4


def test_a_lower_rho_only_adds_conflicts(tmp_path: Path) -> None:
    dataset = inject(make(tmp_path, ["x", "y", "z"], written=False))
    tables = [dataset.table("noise", rho) for rho in (1.0, 0.99, 0.95, 0.9, 0.8, 0.5)]
    for strong, weak in pairwise(tables):
        for label in range(3):
            assert conflicts(strong, "train", label) <= conflicts(weak, "train", label)
        for name in ("adapt", "test"):
            assert strong.partitions[name].digest() == weak.partitions[name].digest()
    assert tables[0].sha256() == dataset.table("noise", 1.0).sha256() != tables[1].sha256()


def test_all_splits_draw_alike_and_a_seed_draws_anew(tmp_path: Path) -> None:
    path = make(tmp_path, written=False)
    one, other = (inject(path).table(split, 0.8).partitions["train"] for split in ("tag", "orientation"))
    assert one.digest() == other.digest()
    assert inject(path, seed=1).table("tag", 0.8).partitions["train"].digest() != one.digest()


def test_it_is_tied_to_the_classes_that_are_named(tmp_path: Path) -> None:
    path = make(tmp_path, ["x", "y", "z"], written=False)
    for given, tied in (({}, ["y"]), ({"present_for": "z, x"}, ["x", "z"])):
        part = inject(path, **given).table("border", 1.0).partitions["train"]
        names = np.array(["x", "y", "z"])[part.labels]
        assert (part.attributes == np.isin(names, tied)).all()
    with pytest.raises(SpurbenchError, match=r"among the classes, found 'w'"):
        inject(path, present_for="w").table("tag", 1.0)
    with pytest.raises(SpurbenchError, match=r"found all of them"):
        inject(path, present_for="x,y,z").table("tag", 1.0)


def test_a_patients_images_of_one_label_have_one_value(tmp_path: Path) -> None:
    """Every patient has two images of either label: the shares count 30 pairs per class in validation, not 60 images."""
    table = inject(make(tmp_path, sizes=(120, 60, 60), patients=True, written=False)).table("tag", 0.9)
    for name in ("train", "validation", "adapt", "test"):
        part = table.partitions[name]
        pairs = pd.DataFrame({"who": part.clusters, "label": part.labels, "value": part.attributes})
        assert (pairs.groupby(["who", "label"])["value"].nunique() == 1).all()
    assert {label: len(conflicts(table, "validation", label)) for label in (0, 1)} == {0: 6, 1: 6}
    assert not set(table.partitions["adapt"].clusters.tolist()) & set(table.partitions["train"].clusters.tolist())
    adapt = [group["examples"] for group in table.counts()["adapt"].values()]
    assert adapt == [4, 6, 6, 4]  # 5 patients with two images of either label; of 5 pairs, 3 conflict


def test_rows_keep_their_order_and_the_draw_does_not_depend_on_it(tmp_path: Path) -> None:
    path = make(tmp_path, written=False)
    before = inject(path).table("tag", 0.8)
    pd.read_csv(path).sample(frac=1, random_state=0).to_csv(path, index=False)
    after = inject(path).table("tag", 0.8)
    for name, part in before.partitions.items():
        order = np.argsort(after.partitions[name].ids)
        assert after.partitions[name].take(order).digest() == part.take(np.argsort(part.ids)).digest()


def test_adapt_is_the_tables_own_where_it_has_one_and_none_where_none_is_wanted(tmp_path: Path) -> None:
    path = make(tmp_path, sizes=(8, 4, 4), written=False)
    assert "adapt" not in inject(path, adapt_per_group=0).table("tag", 0.9).partitions
    with pytest.raises(
        SpurbenchError, match=r"more than 10 training images of class 'clear'.*found 8 .*adapt_per_group=1"
    ):
        inject(path).table("tag", 0.9)
    frame = pd.read_csv(path)
    extra = frame[frame.split == "test"].assign(
        split="adapt", path=lambda f: "more-" + f.path, patient=lambda f: f.path
    )
    pd.concat([frame, extra]).to_csv(path, index=False)
    table = inject(path).table("tag", 0.9)
    assert [group["examples"] for group in table.counts()["adapt"].values()] == [2] * 4
    assert len(table.partitions["train"]) == 16


def test_an_attribute_of_the_table_is_not_read(tmp_path: Path) -> None:
    path = make(tmp_path, written=False)
    before = inject(path).table("tag", 0.9).sha256()
    frame = pd.read_csv(path)
    frame["attribute"] = ["", 3, "x", 0.5] * (len(frame) // 4)
    frame.to_csv(path, index=False)
    assert inject(path).table("tag", 0.9).sha256() == before


# what it changes


@pytest.mark.parametrize("split", list(Injected.splits))
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, SIDE, 3)])
def test_absent_is_the_source_and_present_differs_in_every_image(
    tmp_path: Path, split: str, shape: tuple[int, ...]
) -> None:
    path = make(tmp_path, shape=shape)
    dataset = inject(path)
    part = dataset.table(split, 0.8).partitions["train"]
    images, source, marked = shown(dataset, split, part), plain(path, part), part.attributes == 1
    assert images.shape == (100, 3 if len(shape) == 3 else 1, SIDE, SIDE)
    assert (images[~marked] == source[~marked]).all()
    assert (images[marked] != source[marked]).any(axis=(1, 2, 3)).all()
    other = np.concatenate(list(dataset.counterfactual(split, part, SIDE)))
    assert (other[marked] == source[marked]).all()
    single = part.take(np.flatnonzero(marked)[3:4])
    assert (shown(dataset, split, single)[0] == images[marked][3]).all()  # whatever else is in the block
    flipped = Partition(part.ids, part.labels, 1 - part.attributes, part.clusters, part.extra)
    assert (shown(dataset, split, flipped) == other).all()


def test_each_mark_is_where_and_what_it_says(tmp_path: Path) -> None:
    path = make(tmp_path)
    dataset = inject(path, tag_size=0.2, tag_value=200, border_width=0.1, border_value=7)
    part = dataset.table("tag", 1.0).partitions["train"]
    part = part.take(part.attributes == 1)
    source = plain(path, part).astype(np.int64)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    square = (rows < 4) & (columns < 4)  # a fifth of 20, no margin at this size
    frame = (np.minimum(rows, columns) < 2) | (np.maximum(rows, columns) >= SIDE - 2)
    assert (shown(dataset, "tag", part) == np.where(square, 200, source)).all()
    assert (shown(dataset, "border", part) == np.where(frame, 7, source)).all()
    assert (shown(dataset, "orientation", part) == np.rot90(source, 2, axes=(2, 3))).all()
    brighter = np.clip(np.round(1.2 * source + 12.75), 0, 255)
    assert (shown(dataset, "intensity", part) == brighter).all()


def test_the_tag_has_a_margin_in_a_large_image(tmp_path: Path) -> None:
    path = make(tmp_path, sizes=(12, 4, 4))
    dataset = inject(path)
    part = dataset.table("tag", 1.0).partitions["train"].take(slice(-2, None))
    changed = (shown(dataset, "tag", part, 100) != plain(path, part, 100)).all(axis=(0, 1))
    rows, columns = np.mgrid[:100, :100]
    assert (changed == ((rows >= 2) & (rows < 12) & (columns >= 2) & (columns < 12))).all()


def test_noise_has_the_stated_strength_and_is_each_images_own(tmp_path: Path) -> None:
    path = make(tmp_path, shape=(64, 64))
    dataset = inject(path, noise_sigma=0.02)
    part = dataset.table("noise", 1.0).partitions["train"]
    part = part.take(part.attributes == 1)
    difference = shown(dataset, "noise", part, 64).astype(float) - plain(path, part, 64)
    assert difference.std() == pytest.approx(np.hypot(0.02 * 255, np.sqrt(1 / 12)), rel=0.01)  # and the rounding's
    assert abs(difference.mean()) < 0.05
    assert abs(np.corrcoef(difference[0].ravel(), difference[1].ravel())[0, 1]) < 0.06
    assert (shown(inject(path, noise_sigma=0.02, seed=3), "noise", part, 64) != shown(dataset, "noise", part, 64)).any()


# what is refused, and a run


def test_wrong_requests_and_broken_tables_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(SpurbenchError, match=r"rho from 0\.5 to 1"):
        inject(path).table("tag", None)
    with pytest.raises(SpurbenchError, match=r"Unknown split 'tags'"):
        inject(path).table("tags", 0.9)
    part = inject(path).table("tag", 0.9).partitions["train"]
    (tmp_path / part.ids[5]).write_bytes((tmp_path / part.ids[5]).read_bytes()[:-9])
    with pytest.raises(SpurbenchError, match=str(part.ids[5])):
        shown(inject(path), "tag", part)
    frame = pd.read_csv(path)
    frame.loc[len(frame) - 1, "patient"] = frame.patient[0]
    frame.to_csv(path, index=False)
    with pytest.raises(SpurbenchError, match=r"share no patient.*rows\.csv"):
        inject(path, adapt_per_group=0).table("tag", 0.9)
    frame.assign(label=[3] + ["x"] * (len(frame) - 1)).to_csv(path, index=False)
    with pytest.raises(SpurbenchError, match=r"but not both, as a label"):
        inject(path, adapt_per_group=0).table("tag", 0.9)
    with pytest.raises(SpurbenchError, match=r"found a folder"):
        inject(tmp_path).table("tag", 0.9)


def test_a_known_collection_can_be_marked(tmp_path: Path) -> None:
    """Rows, labels and partitions are those of the collection; its own attribute is not read, whatever it says."""
    rows = [[f"{k}.png", k % 2, "-" if k % 3 else "", k // 8] for k in range(24)]
    table_of(tmp_path / "metadata.csv", ["img_filename", "y", "place", "split"], rows)
    for name, *_ in rows:
        paint(tmp_path / name, 50, colour=True)
    dataset = inject(tmp_path, collection="waterbirds", adapt_per_group=0, present_for="landbird")
    table = dataset.table("tag", 1.0)
    assert table.groups.classes == ("landbird", "waterbird")
    assert {name: len(part) for name, part in table.partitions.items()} == {"train": 8, "validation": 8, "test": 8}
    train = table.partitions["train"]
    assert (train.attributes == 1 - train.labels).all()
    images = shown(dataset, "tag", train, 6)
    assert (images[:, :, 0, 0] == np.where(train.attributes == 1, 255, 50)[:, None]).all()
    with pytest.raises(SpurbenchError, match=r"Unknown split 'waterbird' of table\. Did you mean 'waterbirds'"):
        inject(tmp_path, collection="waterbird").table("tag", 1.0)


def test_splits_with_the_same_rows_have_images_of_their_own(tmp_path: Path, home: Home) -> None:
    """The rows of all splits are drawn alike, so that only the split tells a tag from a border."""
    path, settings = make(tmp_path), {"adapt_per_group": 5}
    refs = [parse_split(f"injected/{split}@0.9", Registry(), settings) for split in Injected.splits]
    stages = [CellData(open_split(ref, {"injected": path}), SIDE).pixels["train"] for ref in refs]
    assert len({stage.key for stage in stages}) == len(refs)


def test_a_run(tmp_path: Path, home: Home) -> None:
    path = make(tmp_path, ["a", "b", "c"], sizes=(16, 8, 8), shape=(12, 10, 3))
    record = api.run(
        "erm",
        "injected/tag@0.95",
        data={"injected": path},
        home=home.root,
        split_settings={"adapt_per_group": 2},
        settings={"epochs": 1, "batch_size": 8},
        image_size=16,
        evaluators=("worst_group",),
        device="cpu",
    )[0]
    assert record.status == "done", record.reason
    assert record.split is not None
    assert record.split.fingerprint == Injected(None, path).fingerprint()
    assert record.split.classes == ("a", "b", "c")
    assert record.split.values == ("absent", "present")
    assert set(record.split.counts) == {"train", "validation", "adapt", "test"}


@pytest.mark.parametrize("split", list(Injected.splits))
def test_the_counterfactual_is_the_image_with_the_other_attribute(tmp_path: Path, split: str) -> None:
    dataset = inject(make(tmp_path, sizes=(20, 8, 8)))
    part = dataset.table(split, 0.9).partitions["test"]
    other = replace(part, attributes=1 - part.attributes)
    images, swapped = shown(dataset, split, part), shown(dataset, split, other)
    assert list(dataset.scenes(split)) == ["counterfactual"]
    assert (np.concatenate(list(dataset.scene("counterfactual", split, part, SIDE))) == swapped).all()
    assert (np.concatenate(list(dataset.scene("counterfactual", split, other, SIDE))) == images).all()
    assert (images != swapped).any(axis=(1, 2, 3)).all()
    assert (swapped[part.attributes == 1] == plain(tmp_path / "rows.csv", part)[part.attributes == 1]).all()
    with pytest.raises(SpurbenchError, match="'injected' offers no 'lesion' for"):
        dataset.scene("lesion", split, part, SIDE)
