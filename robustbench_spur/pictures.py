"""Reads anybody's pictures: PNG, JPEG, TIFF or BMP, grey or colour, 8 or 16 bit, any size, as 8-bit squares.

No picture is scaled by its own maximum: that would tell something of its content (in a slice, of its position). Sixteen bits
are divided by a fixed full scale instead.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import reading
from robustbench_spur.types import SpurbenchError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
GREY, COLOUR = ("1", "L", "I;16", "I;16B", "I;16L", "I", "F"), ("P", "RGB", "RGBA", "LA", "CMYK", "YCbCr")
STRIPS = ((273, 279), (324, 325))
"""TIFF tags of where strips and tiles begin, and of how long they are."""
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""How a PNG begins, and its last chunk: decoders do without it, and so would not notice a file that lost its end."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
BMP_START = b"BM"
TAIL = 1 << 16
"""Bytes at the end of a file in which its mark of the end must stand; some cameras write after it."""
LARGEST = 64 << 20
"""Pixels of the largest picture that is opened: a small file can claim to be larger than memory."""
FULL_SCALE = 65535


def picture_channels(path: Path) -> int:
    """1 for a grey picture, 3 for one in colour, from its header.

    Raises:
        SpurbenchError: no picture, or one of a kind that is not read here.
    """
    with _opened(path, path) as image:
        mode = image.mode
    return 1 if _known(mode, path) in GREY or mode == "LA" else 3


@contextmanager
def _opened(source: Path | io.BytesIO, path: Path) -> Iterator[Any]:
    """A picture whose header has been read and that is not too large; what goes wrong inside names ``path``."""
    from PIL import Image

    try:
        with reading(path, "a picture"), Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise SpurbenchError(
                    f"Expected at most {LARGEST} pixels, found {image.width} x {image.height} in {path}. Make it smaller."
                )
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, larger limit
        raise SpurbenchError(f"Expected at most {LARGEST} pixels, found more in {path}. Make it smaller.") from error


def read_picture(path: Path, *, channels: int, size: int, full_scale: int | None = None) -> NDArray[np.uint8]:
    """A picture as an 8-bit square, resampled by Pillow's antialiased bilinear filter where it has another size.

    A picture that is not square is stretched to one. Grey becomes colour by repetition, colour becomes grey by ITU-R 601
    luma. An orientation tag (EXIF) is not applied: the pixels are taken as they are stored.

    Args:
        path: of the file.
        channels: 1 or 3.
        size: height and width of the result, in pixels.
        full_scale: value of a 16-bit picture that becomes 255, such as 4095 where only 12 bits are used; larger values are
            cut off. 65535 unless given; 8-bit pictures take none, and decimals (a float TIFF) need one. Of colour with 16
            bits, Pillow gives the upper 8: another full scale is refused there.

    Returns:
        uint8, shape (channels, size, size).

    Raises:
        SpurbenchError: the file is missing, truncated, damaged, transparent, larger than :data:`LARGEST` pixels, or of a kind
            that is not read here.
    """
    from PIL import Image

    with reading(path, "a picture"):
        data = path.read_bytes()
    _check_end(data, path)
    if data.startswith(PNG_START):
        with _opened(io.BytesIO(data), path) as image:
            image.verify()  # the checksum of every chunk, which decoding alone does not look at
    with _opened(io.BytesIO(data), path) as image:
        _known(image.mode, path)
        _check_strips(image, len(data), path)
        plain = _as_8_bits(image, path, full_scale)
        wanted = plain.convert("L" if channels == 1 else "RGB")
        square = wanted if wanted.size == (size, size) else wanted.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.array(square, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _known(mode: str, path: Path) -> str:
    if mode not in (*GREY, *COLOUR):
        raise SpurbenchError(f"Expected a grey or colour picture, found mode {mode!r} in {path}. Save it as PNG.")
    return mode


def _check_end(data: bytes, path: Path) -> None:
    """Decoders can do without the end of a file, and so would not always notice that it was lost."""
    cut = (
        (data.startswith(PNG_START) and PNG_END not in data[-TAIL:])
        or (data.startswith(JPEG_START) and JPEG_END not in data[-TAIL:])
        or (data.startswith(BMP_START) and int.from_bytes(data[2:6], "little") > len(data))
    )
    if not data or cut:
        found = "truncated" if data else "empty"
        raise SpurbenchError(f"Expected a complete picture, found {path} {found}. Get the file again.")


def _check_strips(image: Any, length: int, path: Path) -> None:
    """Refuse a TIFF that ends before its last strip or tile."""
    tags = getattr(image, "tag_v2", {})
    for offsets, counts in STRIPS:
        places = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > length for offset, count in places):
            raise SpurbenchError(f"Expected a complete picture, found {path} truncated. Get the file again.")


def _as_8_bits(image: Any, path: Path, full_scale: int | None) -> Any:
    """The picture in a mode of 8 bits per channel, without transparency."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _scaled(image, path, full_scale)
    if ";16" in str(image.tile) and full_scale not in (None, FULL_SCALE):
        raise SpurbenchError(f"Expected 16 bits in grey where full_scale is {full_scale}, found colour in {path}.")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise SpurbenchError(f"Expected an opaque picture, found transparent pixels in {path}. Flatten it.")
        return with_alpha.convert("L" if image.mode in ("LA", "L") else "RGB")
    return image.convert("RGB") if image.mode == "P" else image


def _scaled(image: Any, path: Path, full_scale: int | None) -> Any:
    """A picture of more than 8 bits, divided by the full scale."""
    from PIL import Image

    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise SpurbenchError(f"Expected values of at least 0, found others in {path}. Shift them before.")
    if image.mode == "F" and full_scale is None:
        raise SpurbenchError(f"Expected whole numbers, found decimals in {path}. Set full_scale to what is white.")
    white = full_scale or FULL_SCALE
    if (image.mode == "F" and values.max() > white) or values.max() > max(white, FULL_SCALE):
        raise SpurbenchError(f"Expected values up to {white}, found {values.max():g} in {path}. Set full_scale.")
    return Image.fromarray(np.round(np.minimum(values / white, 1) * 255).astype(np.uint8))
