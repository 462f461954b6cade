"""SpurBreast's pixels: those of the released loader, or an error that names the file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from robustbench_spur.splits.duke import SPREADSHEET
from robustbench_spur.splits.spurbreast import SpurBreast
from robustbench_spur.types import SpurbenchError
from tests.splits.release import (
    LAYOUT,
    SIDE,
    TIED,
    file,
    images,
    png,
    stand_in,
    write_slices,
    write_spreadsheet,
)


@pytest.fixture
def dataset(tmp_path: Path) -> SpurBreast:
    return stand_in(tmp_path)


@pytest.mark.parametrize("size", [SIDE, 28, 64])
def test_pixels_equal_the_released_loaders_resize(dataset: SpurBreast, size: int) -> None:
    """The reference is torchvision's Resize on a Pillow image, which the released example transforms use."""
    resize = pytest.importorskip("torchvision.transforms").Resize([size, size])
    part = dataset.table("field", None).partitions["test"].take(np.array([7, 0, 3]))
    pixels = images(dataset, part, size)
    assert pixels.shape == (3, 1, size, size)
    for name, found in zip(part.extra["file"].tolist(), pixels[:, 0], strict=True):
        with Image.open(file(dataset, name)) as image:
            assert np.array_equal(found, np.asarray(resize(image)))


def test_pixels_come_in_blocks_and_later_files_are_not_touched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layout = {**LAYOUT, "test": {**LAYOUT["test"], 23: (0, 1) * 200}}
    write_slices(tmp_path / "field_strength", layout, lambda: png(rng))
    write_spreadsheet(tmp_path / SPREADSHEET, {patient: {"field": (3, 1)[tied]} for patient, tied in TIED.items()})
    dataset = SpurBreast(path=tmp_path)
    part = dataset.table("field", None).partitions["test"]
    last = file(dataset, part.extra["file"].tolist()[-1])
    last.write_bytes(b"broken")
    stream = dataset.pixels("field", part, SIDE)
    assert next(stream).shape == (256, 1, SIDE, SIDE)
    with pytest.raises(SpurbenchError, match=last.name):
        next(stream)


def _encode(array: NDArray[Any], mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"<html>not found</html>" * 9, "found something else"),
        (_encode(np.zeros((SIDE, SIDE, 3), np.uint8)), "found 8-bit RGB"),
        (_encode(np.zeros((SIDE, SIDE, 4), np.uint8)), "found 8-bit RGB with alpha"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "LA"), "found 8-bit greyscale with alpha"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "P"), "palette"),
        (_encode(np.zeros((SIDE, SIDE), np.uint16)), "found 16-bit greyscale"),
        (_encode(np.zeros((SIDE, SIDE), np.uint8), "1"), "found 1-bit greyscale"),
        (_encode(np.zeros((48, 48), np.uint8)), "40 x 40 pixels as in the split's first image, found 48 x 48"),
        (_encode(np.zeros((48, SIDE), np.uint8)), "found 40 x 48"),
    ],
)
def test_a_png_of_another_kind_is_refused_and_named(dataset: SpurBreast, content: bytes, message: str) -> None:
    file(dataset, "test/1/1-10-23.png").write_bytes(content)
    with pytest.raises(SpurbenchError, match=message) as caught:
        images(dataset, dataset.table("field", None).partitions["test"], 32)
    assert str(file(dataset, "test/1/1-10-23.png")) in str(caught.value)


@pytest.mark.parametrize(("side", "message"), [((16, 16), "at least 32 x 32"), ((40, 48), "found 48 x 40")])
def test_the_splits_first_image_must_be_square_and_large_enough(
    dataset: SpurBreast, side: tuple[int, int], message: str
) -> None:
    file(dataset, "training/0/1-8-1.png").write_bytes(_encode(np.zeros(side, np.uint8)))
    with pytest.raises(SpurbenchError, match=message) as caught:
        images(dataset, dataset.table("field", None).partitions["test"], 32)
    assert "training/0/1-8-1.png" in str(caught.value)


def test_a_png_cut_anywhere_or_with_any_byte_changed_is_refused(dataset: SpurBreast) -> None:
    path = file(dataset, "test/0/1-8-21.png")
    whole = path.read_bytes()
    row = dataset.table("field", None).partitions["test"].take(np.array([0]))
    cuts = [whole[:end] for end in (*range(0, len(whole), 41), *range(len(whole) - 20, len(whole)))]
    places = (*range(60), *range(60, len(whole), 41), *range(len(whole) - 20, len(whole)))
    changes = [whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :] for place in places]
    for content in (*cuts, *changes):
        path.write_bytes(content)
        with pytest.raises(SpurbenchError, match=r"test/0/1-8-21\.png"):
            images(dataset, row, 32)
    path.unlink()
    with pytest.raises(SpurbenchError, match=r"test/0/1-8-21\.png, found no such file"):
        images(dataset, row, 32)


@pytest.mark.parametrize("split", ["vertical_flip", "orientation"])
def test_the_counterfactual_of_orientation_is_the_turned_image(tmp_path: Path, split: str) -> None:
    """Numpy's rotation of the released loader's image; turned twice, it is the image."""
    dataset = stand_in(tmp_path, "vertical_flip", vendor=(0, 2))
    part = dataset.table(split, None).partitions["test"]
    plain = np.concatenate(list(dataset.pixels(split, part, 28)))
    assert list(dataset.scenes(split)) == ["counterfactual"]
    turned = np.concatenate(list(dataset.scene("counterfactual", split, part, 28)))
    assert (turned == np.rot90(plain, 2, axes=(2, 3))).all() and (turned != plain).any(axis=(1, 2, 3)).all()
    assert (np.rot90(turned, 2, axes=(2, 3)) == plain).all() and turned.flags["C_CONTIGUOUS"]
    with pytest.raises(SpurbenchError, match="'spurbreast' offers no 'lesion' for"):
        dataset.scene("lesion", split, part, 28)


def test_a_finished_image_has_no_other_field_strength(dataset: SpurBreast) -> None:
    part = dataset.table("field", None).partitions["test"]
    assert dataset.scenes("field") == dataset.scenes("baseline_high") == {}
    with pytest.raises(SpurbenchError, match="'spurbreast' offers no 'counterfactual' for field"):
        dataset.scene("counterfactual", "field", part, 28)
