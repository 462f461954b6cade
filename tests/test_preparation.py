"""``spurbench data prepare``: from an archive and a spreadsheet to images that a run finds without being told where."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustbench_spur import pixels
from robustbench_spur.home import Home
from robustbench_spur.plan import make_plan
from robustbench_spur.preparation import plan_images
from robustbench_spur.registry import Registry
from robustbench_spur.splitref import parse_split
from robustbench_spur.splits.duke import SPREADSHEET
from tests.splits.release import LAYOUT, SIDE, TIED, png, write_slices, write_spreadsheet

MINE = """
from robustbench_spur.splits.base import Archive
from robustbench_spur.splits.spurbreast import SpurBreast

class Mine(SpurBreast):
    name = "mine"
    version = 1
    splits = {"field_strength": "x"}
    aliases = {"field": "field_strength"}
    tied = ()
    archives = (
        Archive("field_strength.zip", ("http://127.0.0.1:9/x",), splits=("field_strength",), unpack=True),
        Archive("SHEET", ("http://127.0.0.1:9/y",)),
    )
"""


@pytest.fixture
def mine(draft: Callable[..., Path]) -> Path:
    return draft(MINE.replace("SHEET", SPREADSHEET))


@pytest.fixture
def published(tmp_path: Path) -> list[Path]:
    """The archive and the spreadsheet, as their owners publish them."""
    source, place = tmp_path / "source", tmp_path / "published"
    place.mkdir()
    rng = np.random.default_rng(0)
    write_slices(source / "field_strength", LAYOUT, lambda: png(rng))
    with zipfile.ZipFile(place / "field_strength.zip", "w") as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, path.relative_to(source))
    sheet = write_spreadsheet(place / SPREADSHEET, {p: {"field": (3, 1)[tied]} for p, tied in TIED.items()})
    return [place / "field_strength.zip", sheet]


def test_from_archives_to_a_plan_that_renders_nothing(
    spurbench: Any, home: Home, mine: Path, published: list[Path], request_for: Any
) -> None:
    prepare = ("data", "prepare", "mine/field", "--plugin", mine, "--image-size", SIDE)
    ended = spurbench(*prepare, "--from", *published)
    assert ended.code == 0, ended.err
    assert "25 files unpacked" in ended.out
    assert "25 images ready, 25 of them made now" in ended.out
    assert "spurbench run --split mine/field_strength" in ended.out
    request = request_for(
        splits="mine/field", split_settings={}, image_size=SIDE, plugin_files=(mine,), pretrained=False
    )
    plan = make_plan(request)
    made = [stage for stage in plan.stages() if stage.kind == "pixels"]
    assert len(made) == 3
    assert all(plan.runtime.pixels.has(stage.key) for stage in made)
    again = spurbench(*prepare)
    assert again.code == 0
    assert "unpacked" not in again.out
    assert "25 images ready, 0 of them made now" in again.out


def test_a_killed_preparation_goes_on(
    home: Home, mine: Path, published: list[Path], spurbench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "NOTE_SECONDS", 0.0)
    ref = parse_split("mine/field", Registry((mine,)))
    assert (
        spurbench("data", "prepare", "mine/field", "--plugin", mine, "--from", *published, "--image-size", 8).code == 0
    )

    def kill(stage: Any, done: int, total: int) -> None:
        raise KeyboardInterrupt

    plan = plan_images(ref, home, {}, "v1", SIDE, (mine,))
    with pytest.raises(KeyboardInterrupt):
        list(plan.make(kill))
    plan = plan_images(ref, home, {}, "v1", SIDE, (mine,))
    assert [outcome.error for outcome in plan.make(lambda *_: None)] == [None] * 3
    assert plan.total == 25
    assert plan.images == 15, "the ten of the first partition had been made before the kill"


def test_a_damaged_image_is_named_and_the_rest_is_made(
    spurbench: Any, home: Home, mine: Path, published: list[Path]
) -> None:
    assert (
        spurbench("data", "prepare", "mine/field", "--plugin", mine, "--from", *published, "--image-size", 8).code == 0
    )
    broken = next((home.data / "mine" / "field_strength" / "test" / "1").iterdir())
    broken.write_bytes(broken.read_bytes()[:60])
    ended = spurbench("data", "prepare", "mine/field", "--plugin", mine, "--image-size", SIDE)
    assert ended.code == 1
    assert broken.name in ended.out
    assert "FAILED" in ended.out


def test_what_is_not_the_published_file_is_refused(spurbench: Any, home: Home, published: list[Path]) -> None:
    ended = spurbench("data", "prepare", "spurbreast/field", "--from", *published)
    assert ended.code == 2
    assert "c6c4b6bcc621" in ended.err, "the published hash"
    assert not (home.data / "spurbreast" / "field_strength").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["spurbreast/field"], "found none. Run: spurbench data download spurbreast/field_strength"),
        (["spurbreast/field", "--from", "stray.zip"], "Expected one of field_strength.zip"),
        (["phantom/field", "--from", "stray.zip"], "Expected one of no file at all for phantom"),
        (["spurbreast/field", "--from", "field_strength.zip"], "Expected a file at field_strength.zip, found none."),
        (["phantom/clean", "--image-size", "4"], "Expected an image size among"),
        (["feild"], "Did you mean 'field'"),
    ],
)
def test_bad_input(spurbench: Any, home: Home, arguments: list[str], expected: str) -> None:
    ended = spurbench("data", "prepare", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert expected in ended.err
