"""Anybody's pictures: every kind against what numpy says of it, and damage of every kind."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from robustbench_spur.pictures import picture_channels, read_picture
from robustbench_spur.types import SpurbenchError


def draw(*shape: int, high: int = 256, dtype: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def save(path: Path, array: NDArray[np.generic]) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff"])
def test_grey_is_read_as_it_is_and_repeated_for_colour(tmp_path: Path, ending: str) -> None:
    array = draw(9, 9)
    path = save(tmp_path / f"grün bild.{ending}", array)
    assert (read_picture(path, channels=1, size=9)[0] == array).all()
    assert (read_picture(path, channels=3, size=9) == np.stack([array] * 3)).all()
    assert picture_channels(path) == 1


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff"])
def test_colour_is_read_as_it_is_and_weighed_for_grey(tmp_path: Path, ending: str) -> None:
    array = draw(8, 8, 3)
    path = save(tmp_path / f"a.{ending}", array)
    assert (read_picture(path, channels=3, size=8) == array.transpose(2, 0, 1)).all()
    luma = array.astype(float) @ [0.299, 0.587, 0.114]  # ITU-R 601
    assert np.abs(read_picture(path, channels=1, size=8)[0] - luma).max() <= 1
    assert picture_channels(path) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 65535), st.sampled_from([None, 4095, 1023, 65535]))
def test_sixteen_bits_are_divided_by_a_fixed_full_scale(
    tmp_path_factory: pytest.TempPathFactory, value: int, full_scale: int | None
) -> None:
    array = np.full((4, 4), value, np.uint16)
    array[0, 0] = 1  # another content changes nothing elsewhere
    path = save(tmp_path_factory.mktemp("deep") / "a.png", array)
    expected = round(min(value / (full_scale or 65535), 1) * 255)
    assert read_picture(path, channels=1, size=4, full_scale=full_scale)[0, 1, 1] == expected


@pytest.mark.parametrize(("mode", "values"), [("1", 255), ("P", 0), ("L", 0)])
def test_other_modes(tmp_path: Path, mode: str, values: int) -> None:
    source = Image.fromarray(draw(6, 6))
    source.convert(mode).save(tmp_path / "a.png")
    expected = np.array(source.convert(mode).convert("L"))
    assert (read_picture(tmp_path / "a.png", channels=1, size=6)[0] == expected).all()
    assert values in (0, 255)


def test_an_opaque_alpha_is_dropped_and_a_transparent_one_refused(tmp_path: Path) -> None:
    colours = draw(5, 5, 3)
    opaque = np.dstack([colours, np.full((5, 5), 255, np.uint8)])
    assert (read_picture(save(tmp_path / "a.png", opaque), channels=3, size=5) == colours.transpose(2, 0, 1)).all()
    opaque[0, 0, 3] = 254
    with pytest.raises(SpurbenchError, match=r"opaque picture, found transparent pixels in .*b.png"):
        read_picture(save(tmp_path / "b.png", opaque), channels=3, size=5)


def test_any_size_becomes_a_square_by_the_antialiased_filter(tmp_path: Path) -> None:
    array = draw(40, 20)
    path = save(tmp_path / "a.png", array)
    halved = read_picture(path, channels=1, size=10)[0]
    assert halved.shape == (10, 10)
    flat = save(tmp_path / "b.png", np.full((40, 20), 77, np.uint8))
    assert (read_picture(flat, channels=1, size=16) == 77).all()
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255  # without antialiasing some columns would be picked and others lost
    grey = read_picture(save(tmp_path / "c.png", stripes), channels=1, size=16)[0, 4:-4, 4:-4]
    assert np.abs(grey.astype(int) - 127).max() <= 3


def test_jpeg(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_picture(tmp_path / "a.jpg", channels=1, size=16)[0].astype(int) - ramp).max() <= 4


@pytest.mark.parametrize("ending", ["png", "jpg", "tiff", "bmp"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str, lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient and ending in ("png", "jpg"))
    path = save(tmp_path / f"cut.{ending}", draw(64, 64))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SpurbenchError, match=rf"cut\.{ending}"):
        read_picture(path, channels=1, size=64)


@pytest.mark.parametrize("content", [b"", b"not a picture at all", b"GIF89a"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(SpurbenchError, match=r"a\.png"):
        read_picture(path, channels=1, size=8)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpurbenchError, match=r"found no such file"):
        read_picture(tmp_path / "gone.png", channels=1, size=8)


def test_a_picture_that_claims_to_be_huge_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustbench_spur import pictures

    monkeypatch.setattr(pictures, "LARGEST", 63)
    with pytest.raises(SpurbenchError, match="at most 63 pixels, found 8 x 8"):
        read_picture(save(tmp_path / "a.png", draw(8, 8)), channels=1, size=8)


def test_floats_need_a_full_scale_that_holds_them(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", np.full((4, 4), 0.5, np.float32))
    assert (read_picture(path, channels=1, size=4, full_scale=1) == 128).all()
    with pytest.raises(SpurbenchError, match="at least 0"):
        read_picture(save(tmp_path / "b.tiff", np.full((4, 4), -1, np.float32)), channels=1, size=4)
