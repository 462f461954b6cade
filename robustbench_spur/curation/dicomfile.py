"""One DICOM file: what its header says, and the values of its pixels. What is wrong with it is told by its name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.reading import DAMAGE, reading
from robustbench_spur.types import SpurbenchError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


@contextmanager
def _dicom(path: Path) -> Iterator[None]:
    """Turn what pydicom raises on a damaged file, which may be anything, into an error that names it."""
    from pydicom.errors import InvalidDicomError

    with reading(path, "a DICOM slice"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are odd and readable, once for every file
        try:
            yield
        except (SpurbenchError, *DAMAGE):
            raise
        except InvalidDicomError as error:
            raise ValueError("no DICOM header") from error
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def read_header(path: Path, tags: Sequence[str]) -> FileDataset:
    """Some tags of a DICOM file, without its pixels.

    Raises:
        SpurbenchError: the file is missing, damaged or no DICOM.
    """
    import pydicom

    with _dicom(path):
        head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        for tag in tags:
            head.get(tag)  # values are converted when they are asked for, and can fail then
        return head


def text(head: FileDataset, tag: str) -> str:
    r"""A tag's value as text, several with backslashes between them; "" if it has none."""
    value = head.get(tag)
    several = value is not None and not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if several else "" if value is None else str(value).strip()


def numbers(head: FileDataset, tag: str, count: int, path: Path) -> tuple[float, ...]:
    """A tag's values as finite numbers, ``count`` of them.

    Raises:
        SpurbenchError: there are more or fewer, or something else.
    """
    try:
        value = head.get(tag)
        values = () if value is None else tuple(map(float, np.atleast_1d(np.asarray(value, np.float64))))
    except (TypeError, ValueError):
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        what = "a number" if count == 1 else f"{count} numbers"
        raise SpurbenchError(f"Expected {what} as {tag} in {path}, found {text(head, tag) or 'none'}.")
    return values


def whole(head: FileDataset, tag: str, path: Path) -> int | None:
    """A tag's value as a whole number; None if it has none.

    Raises:
        SpurbenchError: it is something else.
    """
    if not text(head, tag):
        return None
    (value,) = numbers(head, tag, 1, path)
    if value != int(value):
        raise SpurbenchError(f"Expected a whole number as {tag} in {path}, found {value}.")
    return int(value)


def read_slice(path: Path, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Values of one slice in stored orientation, with RescaleSlope and RescaleIntercept applied.

    Args:
        path: of the file.
        shape: rows and columns that it must have.

    Returns:
        Shape (rows, columns), finite.

    Raises:
        SpurbenchError: the file is truncated or damaged, or compressed in a way that no installed package reads.
    """
    import pydicom

    with _dicom(path):
        data = pydicom.dcmread(path)
        _check_decoder(data, path)
        values = np.asarray(data.pixel_array, np.float64)
        slope, intercept = (data.get(tag) for tag in ("RescaleSlope", "RescaleIntercept"))
        values = values * float(1 if slope is None else slope) + float(intercept or 0)
    if values.shape != shape:
        found = " x ".join(map(str, values.shape))
        raise SpurbenchError(f"Expected a slice of {shape[0]} x {shape[1]} pixels in {path}, found {found}.")
    if not np.isfinite(values).all():
        raise SpurbenchError(f"Expected finite values in {path}, found others. Get the file again.")
    return values


def _check_decoder(data: FileDataset, path: Path) -> None:
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # documented, and not re-exported for checkers

    syntax = data.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise SpurbenchError(f"Expected pixels that can be decoded, found {syntax.name} in {path}.") from None
    if not decoder.is_available:
        packages = " or ".join(text.split(" - ")[-1].removeprefix("requires ") for text in decoder.missing_dependencies)
        raise SpurbenchError(
            f"Expected pixels that can be decoded, found {syntax.name} in {path}. Install one of: {packages}."
        )
