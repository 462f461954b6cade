"""The Spawrious challenges on a stand-in: folders of 100 empty files, and of ten small photographs where pixels matter."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import robustbench_spur as rs
from robustbench_spur.registry import Registry
from robustbench_spur.splits.challenges import CHALLENGES, shares
from robustbench_spur.splits.spawrious import RELEASED, Spawrious
from robustbench_spur.types import Partition, SplitTable, SpurbenchError
from tests.splits.breeds import (
    BREEDS,
    CLASSES,
    LOCATIONS,
    MANY_TO_MANY,
    ONE_TO_ONE,
    Cell,
    cells_of,
    dataset,
    expected,
    folder,
    photograph,
    write,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all six challenges need; only for reading."""
    root = tmp_path_factory.mktemp("whole")
    write(root, cells_of(*ONE_TO_ONE, *MANY_TO_MANY), 100, "isis_prompt_{prompt}_{number}.png")
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Ten real images per folder, for one challenge."""
    write(tmp_path / "small", cells_of("o2o_easy"), 10, "isis_prompt_{prompt}_{number}.png", photograph(0))
    return tmp_path / "small"


def cells(part: Partition) -> Iterator[Cell]:
    for file, environment in zip(part.ids.tolist(), part.extra["environment"].tolist(), strict=True):
        where, location, breed, _ = file.split("/")
        yield environment, where, location, breed


def files_of(table: SplitTable, *names: str) -> list[str]:
    return [file for name in names or table.partitions for file in table.partitions[name].ids.tolist()]


@pytest.mark.parametrize("split", [*ONE_TO_ONE, *MANY_TO_MANY])
def test_every_challenge_has_the_published_combinations(whole: Path, split: str) -> None:
    table = dataset(whole).table(split, None)
    found = Counter(cell for part in table.partitions.values() for cell in cells(part))
    assert found == expected(split)
    assert len(set(files_of(table))) == len(files_of(table)) == 1600
    assert {cell[0] for cell in cells(table.partitions["test"])} == {2}
    for part in table.partitions.values():
        assert part.ids.tolist() == sorted(part.ids.tolist())
        for cell, label, location in zip(cells(part), part.labels.tolist(), part.attributes.tolist(), strict=True):
            assert (cell[3], cell[2]) == (CLASSES[label], LOCATIONS[location])
    assert table.groups.names[:7] == (*(f"bulldog@{x}" for x in LOCATIONS), "corgi@desert")
    assert len(table.groups) == 24


def test_the_list_of_challenges_is_the_published_one() -> None:
    assert list(CHALLENGES) == list(Spawrious.splits) == [*ONE_TO_ONE, *MANY_TO_MANY]


@pytest.mark.parametrize("split", ONE_TO_ONE)
def test_the_released_folders_give_the_published_numbers(split: str) -> None:
    """97 % and 87 % of 3,168, rounded down: 3,072 and 2,756; together 92.0 %."""
    train, test = shares(CHALLENGES[split], RELEASED)
    filler = ONE_TO_ONE[split][1]
    own = {(share.environment, share.images) for share in train if share.location != filler}
    assert own == {(0, 3072), (1, 2756)}
    assert {(share.environment, share.images) for share in train if share.location == filler} == {(0, 96), (1, 412)}
    assert sum(share.images for share in train) == sum(share.images for share in test) == 25_344
    assert round((3072 + 2756) / (2 * RELEASED), 3) == 0.920


@pytest.mark.parametrize("split", MANY_TO_MANY)
def test_pairs_of_breeds_exchange_their_backgrounds_in_the_test(whole: Path, split: str) -> None:
    train, test = shares(CHALLENGES[split], RELEASED)
    assert {share.images for share in (*train, *test)} == {3168}
    assert sum(share.images for share in train) == sum(share.images for share in test) == 25_344
    table = dataset(whole).table(split, None)
    seen = {
        (cell[3] in BREEDS[:2], cell[2]) for name in ("train", "validation") for cell in cells(table.partitions[name])
    }
    tested = {(cell[3] in BREEDS[:2], cell[2]) for cell in cells(table.partitions["test"])}
    assert tested == {(not pair, location) for pair, location in seen}
    assert len(tested) == 4


def test_neither_the_listing_nor_another_archive_changes_a_row(
    whole: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dataset(whole).table("o2o_hard", None)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda place: sorted(listed(place), reverse=True))
    assert dataset(whole).table("o2o_hard", None).sha256() == before.sha256()

    def identity() -> list[str]:
        source = dataset(small, limit=10)
        parts = source.table("o2o_easy", None).partitions
        return [source.fingerprint(), *(parts[name].digest(with_extra=True) for name in sorted(parts))]

    alone = identity()
    write(small, sorted(set(cells_of("o2o_hard")) - set(cells_of("o2o_easy"))), 10, "{number}.png")
    assert identity() == alone
    (folder(small, "0/dirt/bulldog") / "isis_prompt_4_4.png").write_bytes(b"changed")
    assert identity() != alone


def test_subsets_are_seeded_spread_over_the_prompts_and_nested_in_the_limit(whole: Path) -> None:
    table = dataset(whole).table("o2o_easy", None)
    filler = [file for file in files_of(table, "train", "validation") if file.startswith("1/beach/")]
    prompts = {file.rsplit("_", 2)[1] for file in filler}
    assert len(filler) == 52
    assert len(prompts) > 13
    other = files_of(dataset(whole, seed=1).table("o2o_easy", None), "train", "validation")
    assert {file for file in other if file.startswith("1/beach/")} != set(filler)
    fewer = files_of(dataset(whole, limit=50).table("o2o_easy", None))
    assert Counter(file.split("/")[0] for file in fewer) == {"0": 400, "1": 400}
    assert {file for file in fewer if "/beach/" not in file} < set(files_of(table))


def test_prompts_are_held_out_whole_in_both_folders(whole: Path) -> None:
    table = dataset(whole).table("o2o_easy", None)
    homes: dict[tuple[str, str, int], set[str]] = {}
    for name in ("train", "validation"):
        for file in files_of(table, name):
            _, location, breed, image = file.split("/")
            prompt = int(image.split("_")[2])
            same_words = prompt - 1 if prompt % 6 == 5 else prompt  # the generator has "bright sunny day" twice
            homes.setdefault((location, breed, same_words), set()).add(name)
    assert all(len(names) == 1 for names in homes.values())
    train, validation = (Counter(cells(table.partitions[name])) for name in ("train", "validation"))
    for cell, count in expected("o2o_easy").items():
        if count >= 87:
            assert cell[0] == 2 or 0.12 < validation[cell] / (validation[cell] + train[cell]) < 0.28
    clusters = table.partitions["test"].clusters
    assert len(np.unique(clusters)) == 4 * 60  # one location per class; 72 prompts, of which 12 repeat another's words


def test_images_without_a_prompt_in_their_names_are_held_out_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, cells_of("o2o_easy"), 100, "dög {number}.jpg")
    table = dataset(tmp_path).table("o2o_easy", None)
    held = Counter(cells(table.partitions["validation"]))
    fifth = {97: 19, 87: 17, 3: 1, 13: 3}  # 19.4, 17.4, 0.6 and 2.6, rounded
    assert held == {cell: fifth[count] for cell, count in expected("o2o_easy").items() if cell[0] != 2}
    assert "1600 of 1600 images have no prompt" in table.notes[-1]
    assert np.array_equal(table.partitions["test"].clusters, table.partitions["test"].ids)
    half = dataset(tmp_path, validation_share=0.5).table("o2o_easy", None).partitions
    assert len(half["validation"]) == 4 * (49 + 44 + 2 + 7)


def test_the_folder_may_be_named_itself_and_either_way_files_are_found(small: Path) -> None:
    one, other = dataset(small, limit=10), dataset(small / "spawrious224", limit=10)
    part = one.table("o2o_easy", None).partitions["validation"]
    assert other.table("o2o_easy", None).partitions["validation"].ids.tolist() == part.ids.tolist()
    paths = other.files("o2o_easy", part)
    assert paths == [small / "spawrious224" / file for file in part.ids.tolist()]
    assert [path.stat().st_size for path in paths] == part.extra["bytes"].tolist()


def test_pixels_are_those_of_each_rows_file_in_colour(small: Path) -> None:
    source = dataset(small, limit=10)
    for seed, path in enumerate(sorted(small.rglob("*.png"))):
        path.write_bytes(photograph(seed))
    part = source.table("o2o_easy", None).partitions["test"]
    images = np.concatenate(list(source.pixels("o2o_easy", part, 24)))
    assert images.shape == (80, 3, 24, 24)
    assert images.dtype == np.uint8
    for image, path in zip(images, source.files("o2o_easy", part), strict=True):
        with Image.open(path) as opened:
            assert np.array_equal(image.transpose(1, 2, 0), np.asarray(opened))
    assert next(source.pixels("o2o_easy", part, 9)).shape == (80, 3, 9, 9)


@pytest.mark.parametrize(
    "content",
    [photograph(1)[:-300], photograph(1)[:-12], photograph(1)[:900] + b"rot" + photograph(1)[903:], b"I am text", b""],
    ids=["cut in the middle", "cut at the end", "rotten", "text", "empty"],
)
def test_a_damaged_image_is_named(small: Path, content: bytes) -> None:
    source = dataset(small, limit=10)
    (folder(small, "0/dirt/bulldog") / "isis_prompt_4_4.png").write_bytes(content)
    part = source.table("o2o_easy", None).partitions["test"]
    with pytest.raises(SpurbenchError, match=r"0/dirt/bulldog/isis_prompt_4_4\.png"):
        list(source.pixels("o2o_easy", part, 16))


def test_an_image_that_has_gone_is_named(small: Path) -> None:
    source = dataset(small, limit=10)
    part = source.table("o2o_easy", None).partitions["test"]
    (folder(small, "1/snow/dachshund") / "isis_prompt_9_9.png").unlink()
    with pytest.raises(SpurbenchError, match=r"1/snow/dachshund/isis_prompt_9_9\.png"):
        list(source.pixels("o2o_easy", part, 16))


def test_names_in_any_script_and_files_of_the_system_do_no_harm(small: Path) -> None:
    place = folder(small, "0/desert/bulldog")
    before = dataset(small, limit=10).table("o2o_easy", None).sha256()
    for name in (".DS_Store", "._isis_prompt_3_3.png", "Thumbs.db"):
        (place / name).write_bytes(b"x")
    assert dataset(small, limit=10).table("o2o_easy", None).sha256() == before
    for path in sorted(place.glob("*.png")):
        path.rename(path.with_name(path.name.replace("isis", "いぬ é")))
    source = dataset(small, limit=10)
    for part in source.table("o2o_easy", None).partitions.values():
        assert sum(len(block) for block in source.pixels("o2o_easy", part, 8)) == len(part)


def test_folders_that_are_not_as_released_are_refused(small: Path) -> None:
    place = folder(small, "1/beach/corgi")
    (place / "read me.txt").write_text("dogs")
    with pytest.raises(SpurbenchError, match=r"PNG or JPEG images in .*1/beach/corgi, found 'read me\.txt'"):
        dataset(small, limit=10).table("o2o_easy", None)
    (place / "read me.txt").rename(place / "two\nlines.png")
    with pytest.raises(SpurbenchError, match=r"found 'two\\nlines\.png'"):
        dataset(small, limit=10).table("o2o_easy", None)
    (place / "two\nlines.png").unlink()
    (place / "isis_prompt_0_0.png").unlink()
    with pytest.raises(SpurbenchError, match=r"Expected 10 images in .*1/beach/corgi, found 9\..*--split-set limit="):
        dataset(small, limit=10).table("o2o_easy", None)
    with pytest.raises(SpurbenchError, match=r"Expected 3168 images in .*0/desert/bulldog, found 10\."):
        Spawrious(path=small).table("o2o_easy", None)


def test_a_folder_that_another_challenge_does_not_need_is_missed_by_name(small: Path) -> None:
    shutil.rmtree(folder(small, "1/snow/dachshund"))
    with pytest.raises(SpurbenchError, match=r"folder .*1/snow/dachshund for spawrious/o2o_easy, found none"):
        dataset(small, limit=10).table("o2o_easy", None)
    with pytest.raises(SpurbenchError, match=r"folder .*0/mountain/bulldog for spawrious/o2o_medium, found none"):
        dataset(small, limit=10).table("o2o_medium", None)


def test_wrong_places_and_requests_are_refused(tmp_path: Path, small: Path) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(b"")
    for place, found in (("nowhere", "nothing"), ("archive.tar.gz", "a file; unpack it"), ("", "nothing")):
        with pytest.raises(SpurbenchError, match=rf"folder spawrious224 .*found {found}"):
            dataset(tmp_path / place).table("o2o_easy", None)
    with pytest.raises(SpurbenchError, match="no rho for spawrious/o2o_easy"):
        dataset(small).table("o2o_easy", 0.95)
    with pytest.raises(SpurbenchError, match="Did you mean 'o2o_easy'"):
        dataset(small).table("o2o_eazy", None)
    with pytest.raises(SpurbenchError, match=r"images of every class in validation .*found none of bulldog"):
        dataset(small, limit=10, validation_share=0.01).table("o2o_easy", None)


def test_archives_splits_and_settings_can_be_read_without_running_the_file() -> None:
    plugin = Registry().find("dataset", "spawrious")
    assert plugin.reason == ""
    assert plugin.source is not None
    assert [(one.name, one.default) for one in plugin.source.settings] == [
        ("limit", 3168),
        ("validation_share", 0.2),
        ("seed", 2025),
    ]
    assert {split for archive in plugin.literal("archives") for split in archive.splits} == set(Spawrious.splits)
    for archive in plugin.literal("archives"):
        assert archive.urls[0].endswith(f"/{archive.name}?dl=1")
        assert (archive.unpack, archive.sha256, archive.md5) == (True, None, None)


def test_a_method_runs_on_it_from_files_to_a_record(small: Path, home: Any) -> None:
    (record,) = rs.run(
        "erm",
        "spawrious/o2o_easy",
        data={"spawrious": small},
        split_settings={"limit": 10},
        evaluators=("worst_group",),
        settings={"epochs": 1, "batch_size": 16},
        image_size=16,
        device="cpu",
    )
    assert record.status == "done", record.error
    assert record.split is not None
    counts = record.split.counts["test"]
    assert len(counts) == 24
    assert {group: count["examples"] for group, count in counts.items() if count["examples"]} == {
        "bulldog@dirt": 20,
        "corgi@jungle": 20,
        "dachshund@snow": 20,
        "labrador@desert": 20,
    }
