"""What every loader is asked: broken images, a missing column, mixed labels, a patient twice, any letters, many rows.

The files of each loader hold most of this; here is what cuts across them, and what their files do not ask.

- A truncated image, one of a wrong kind, a missing column (or array, or folder), labels of a wrong kind, and a patient (or,
  where there are none, an image) in two partitions: ``test_table_broken``, ``test_injected``, ``test_curated``, ``test_slices``
  and ``test_spurbreast_pixels``, ``test_spawrious`` (whose labels are folders), ``test_digits``, ``test_xray``.
- Names in any letters: ``test_table_broken``, ``test_curated``, ``test_spawrious``, and below.
- 100,000 rows: ``test_table``, and below.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robustbench_spur.curation.split import FILE
from robustbench_spur.splits import slices, spawrious
from robustbench_spur.splits.curated import COLUMNS, Curated
from robustbench_spur.splits.digits import Digits, DigitsParameters
from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.injected import Injected, InjectedParameters
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.splits.xray import XRay, XRayParameters
from robustbench_spur.types import Partition, SpurbenchError
from tests.splits import test_curated, test_digits, test_spawrious, test_xray
from tests.splits.release import stand_in, write_spreadsheet
from tests.splits.usertable import broken, rows_of, write, write_pictures

MANY = 100_000


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def make_transparent(path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 9)).save(path)


def make_other(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "WEBP")


DAMAGE = {"truncated": cut, "transparent": make_transparent, "another format": make_other}


def injected(path: Path, **given: Any) -> Injected:
    return Injected(InjectedParameters(**{"adapt_per_group": 0, **given}), path)


# images


@pytest.mark.parametrize("damage", DAMAGE)
def test_injected_names_a_broken_image(tmp_path: Path, damage: str) -> None:
    rows = broken(rows_of(), 2, path="train/größer 漢字.png")
    write_pictures(tmp_path, rows)
    dataset = injected(write(tmp_path / "rows.csv", rows))
    part = dataset.table("border", 1.0).partitions["train"]
    assert len(np.concatenate(list(dataset.pixels("border", part, 8)))) == len(part)
    DAMAGE[damage](tmp_path / "train/größer 漢字.png")
    with pytest.raises(SpurbenchError, match=r"größer 漢字\.png"):
        list(dataset.pixels("border", part, 8))


@pytest.mark.parametrize("damage", DAMAGE)
def test_curated_names_a_broken_image(tmp_path: Path, damage: str) -> None:
    dataset = Curated(path=test_curated.make(tmp_path)[0])
    part = dataset.table("linked", 1.0).partitions["test"]
    place = dataset.files("linked", part)[3]
    DAMAGE[damage](place)
    with pytest.raises(SpurbenchError, match=place.name):
        list(dataset.pixels("linked", part, 16))


@pytest.mark.parametrize("damage", DAMAGE)
def test_spawrious_names_a_broken_image(tmp_path: Path, damage: str) -> None:
    content, cells = test_spawrious.photograph(0), test_spawrious.cells_of("o2o_easy")
    test_spawrious.write(tmp_path / "dogs", cells, 10, "isis_prompt_{prompt}_{number}.png", content)
    dataset = test_spawrious.dataset(tmp_path / "dogs", limit=10)
    part = dataset.table("o2o_easy", None).partitions["test"]
    place = dataset.files("o2o_easy", part)[5]
    DAMAGE[damage](place)
    with pytest.raises(SpurbenchError, match=place.name):
        list(dataset.pixels("o2o_easy", part, 8))


# tables


@pytest.mark.parametrize("column", ["path", "label", "split"])
def test_injected_names_a_missing_column(tmp_path: Path, column: str) -> None:
    rows = [{key: cell for key, cell in row.items() if key != column} for row in rows_of()]
    with pytest.raises(SpurbenchError, match=rf"a column '{column}' in .*rows\.csv.*--columns {column}=NAME"):
        injected(write(tmp_path / "rows.csv", rows)).table("tag", 1.0)


def test_curated_names_a_label_in_words(tmp_path: Path) -> None:
    folder, _ = test_curated.make(tmp_path)
    test_curated.changed(folder, test_curated.cell("label", "tumour"))
    with pytest.raises(SpurbenchError, match=r"0 or 1 as label, found 'tumour' \(line 3 of .*rows-1\.0\.csv"):
        Curated(path=folder).table("linked", 1.0)


# names in any letters


@pytest.fixture
def anywhere(tmp_path: Path) -> Path:
    """A folder with a name that is not of ASCII, with spaces and brackets."""
    place = tmp_path / "Größe [1] 漢字"
    place.mkdir()
    return place


def test_injected_takes_names_in_any_letters(anywhere: Path) -> None:
    rows = [{**row, "path": f"é/{row['path']}"} for row in rows_of(["klär", "腫瘍"])]
    write_pictures(anywhere, rows)
    dataset = injected(write(anywhere / "tabelle ü.csv", rows), present_for="klär")
    table = dataset.table("noise", 1.0)
    assert table.groups.classes == ("klär", "腫瘍")
    for part in table.partitions.values():
        assert len(np.concatenate(list(dataset.pixels("noise", part, 8)))) == len(part)


def test_spurbreast_takes_names_in_any_letters(anywhere: Path) -> None:
    dataset = stand_in(anywhere)
    place = dataset.root / "field_strength" / "test" / "0"
    (place / "1-8-21.png").rename(place / "é-ß-21.png")
    part = dataset.table("field", None).partitions["test"]
    assert "é-ß-21" in part.ids.tolist()
    assert len(np.concatenate(list(dataset.pixels("field", part, 32)))) == len(part)


@pytest.mark.parametrize(
    ("make", "split"),
    [
        (
            lambda p: Digits(test_digits.SMALL, test_digits.write_npz(p / "zahlen é.npz", test_digits.synthetic())),
            "colour",
        ),
        (
            lambda p: Digits(test_digits.SMALL, test_digits.write_idx(p / "é", test_digits.synthetic(), packed=True)),
            "colour",
        ),
        (lambda p: XRay(test_xray.SMALL, test_xray.write(p / "röntgen.npz", test_xray.synthetic())), "tag"),
    ],
    ids=["npz of digits", "idx of digits", "xray"],
)
def test_archives_may_lie_anywhere(anywhere: Path, make: Callable[[Path], Any], split: str) -> None:
    dataset = make(anywhere)
    assert len(dataset.fingerprint()) == 64
    assert set(dataset.table(split, 0.9).partitions) == {"train", "validation", "adapt", "test"}


# many rows


def sizes(partitions: Any) -> dict[str, int]:
    return {name: len(part) for name, part in partitions.items()}


def test_injected_has_many_rows(tmp_path: Path) -> None:
    number = np.arange(MANY)
    frame = pd.DataFrame({"path": [f"b/{k:06d}.png" for k in number], "label": number % 4, "patient": number // 10})
    frame["split"] = np.array(["train", "val", "test"])[np.minimum(number // 10 % 10 // 4, 2)]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    part = injected(tmp_path / "rows.csv").table("intensity", 0.9).partitions["train"]
    pairs = pd.DataFrame({"who": part.clusters, "label": part.labels, "value": part.attributes})
    assert len(part) == 40_000
    assert (pairs.groupby(["who", "label"])["value"].nunique() == 1).all()
    conflicts = pairs.drop_duplicates(["who", "label"]).assign(odd=lambda f: f.value != f.label % 2)
    assert conflicts.groupby("label")["odd"].sum().tolist() == [400] * 4  # of 4,000 pairs


def test_curated_has_many_rows(tmp_path: Path) -> None:
    folder, _ = test_curated.make(tmp_path)
    number = np.arange(MANY)
    frame = pd.DataFrame({"id": [f"i{k}" for k in number], "file": [f"a/{k}.png" for k in number]})
    frame["patient"], frame["label"] = [f"P{k // 10}" for k in number], number // 10 % 2
    frame["attribute"], frame["position"] = frame["label"], ""
    frame["partition"] = np.array(["train", "validation", "test", "test"])[number // 10 % 4]
    test_curated.changed(
        folder, lambda rows: rows.__setitem__(slice(None), frame[COLUMNS].astype(str).to_dict("records"))
    )
    assert sizes(Curated(path=folder).table("linked", 1.0).partitions) == {
        "train": 25_000,
        "validation": 25_000,
        "test": 50_000,
    }
    assert json.loads((folder / FILE).read_bytes())["tables"]


def test_spurbreast_has_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five times the release, as the folders' listing would have it; the files themselves would take seconds to make."""
    patients = {"training": range(1, 301), "validation": range(301, 401), "test": range(401, 501)}

    def listing(place: Path) -> list[Path]:
        if place.name not in ("0", "1"):
            return [place / "0", place / "1"]
        both = place.parent.name == "test"
        mine = [who for who in patients[place.parent.name] if both or who % 2 == int(place.name)]
        return [
            place / f"1-{number}-{who}.png" for who in mine for number in range(both * int(place.name), 200, 1 + both)
        ]

    (tmp_path / "field_strength" / "training").mkdir(parents=True)
    monkeypatch.setattr(slices, "entries_of", listing)
    monkeypatch.setattr(slices, "size_of", lambda path, expected: 1)
    write_spreadsheet(tmp_path / SPREADSHEET, {who: {"field": (3, 1)[who % 2]} for who in range(1, 501)})
    table = SpurBreast(path=tmp_path).table("field", None)
    assert sizes(table.partitions) == {"train": 60_000, "validation": 20_000, "test": 20_000}
    assert [group["examples"] for group in table.counts()["test"].values()] == [5_000] * 4


def test_spawrious_has_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest challenge as released has 50,688; here as many are taken from folders that list 100,000."""
    test_spawrious.write(tmp_path / "dogs", test_spawrious.cells_of("m2m_easy"), 1, "{number}.png")
    monkeypatch.setattr(
        spawrious, "entries_of", lambda place: [place / f"isis_prompt_{k % 72}_{k}.png" for k in range(6_250)]
    )
    monkeypatch.setattr(spawrious, "size_of", lambda path, expected: 1)
    table = test_spawrious.dataset(tmp_path / "dogs", limit=3_168).table("m2m_easy", None)
    assert sum(sizes(table.partitions).values()) == 50_688


def test_digits_has_many_rows() -> None:
    arrays = {
        "x_train": np.zeros((MANY, 28, 28), np.uint8),
        "y_train": (np.arange(MANY) % 10).astype(np.uint8),
        "x_test": np.zeros((100, 28, 28), np.uint8),
        "y_test": (np.arange(100) % 10).astype(np.uint8),
    }
    dataset = test_digits.holding(arrays)
    dataset.parameters = DigitsParameters(train_size=90_000, validation_size=5_000, adapt_per_group=1_000)
    assert sizes(dataset.table("colour", 0.9).partitions) == {
        "train": 90_000,
        "validation": 5_000,
        "adapt": 4_000,
        "test": 100,
    }


def test_xray_has_many_rows(tmp_path: Path) -> None:
    counts = {"train": MANY - 2_000, "val": 1_000, "test": 1_000}
    arrays: dict[str, Any] = {}
    for offset, (name, count) in enumerate(counts.items()):
        images = np.zeros((count, 28, 28), np.uint8)
        codes = np.arange(count, dtype=np.uint32) + offset * MANY
        images[:, 0, :4] = codes.view(np.uint8).reshape(count, 4)  # no two are equal
        arrays |= {f"{name}_images": images, f"{name}_labels": (np.arange(count) % 2).astype(np.uint8)}
    part: dict[str, Partition] = dict(
        XRay(XRayParameters(), test_xray.write(tmp_path / "many.npz", arrays)).table("tag", 0.9).partitions
    )
    assert sizes(part) == {"train": MANY - 2_240, "validation": 1_000, "adapt": 240, "test": 1_000}
