"""Reading the values of DICOM slices that the tests write, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless, RLELossless

from robustbench_spur.curation.dicomfile import read_slice
from robustbench_spur.curation.series import find_series
from robustbench_spur.curation.volumes import open_volume
from robustbench_spur.types import SpurbenchError
from tests.curation.dicoms import COUNT, SIZE, SMALL, opened, phantom, volume, write_patient


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("<u2", 0, 65535), ("<i2", -32768, 32767), ("u1", 0, 255), ("<u2", 0, 4095)]
)
def test_values_are_read_as_stored_with_the_rescale_applied(tmp_path: Path, dtype: str, low: int, high: int) -> None:
    values = np.linspace(low, high, 4 * 6 * 8).round().reshape(4, 6, 8)
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": -10} | ({"BitsStored": 12, "HighBit": 11} if high == 4095 else {})
    volume(tmp_path / "v", values, dtype=dtype, tags=tags)
    found = opened(tmp_path)
    assert found.shape == (6, 8)
    for file, stored in zip(found.files, values, strict=True):
        assert (read_slice(file, (6, 8)) == stored * 0.5 - 10).all()
    with pytest.raises(SpurbenchError, match="slice of 8 x 6 pixels"):
        read_slice(found.files[0], (8, 6))


def test_a_phantom_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    patient = phantom(1, rotated=True)
    write_patient(tmp_path, "P1", patient, descending=True)
    found = opened(tmp_path, "position")
    assert len(found.files) == COUNT and found.shape == (SIZE, SIZE)
    for file, image in zip(found.files, patient.images, strict=True):
        assert (read_slice(file, found.shape) == image.astype(float) * 16).all()


@pytest.mark.parametrize("share", [0.99, 0.6, 0.05, 0])
def test_a_truncated_file_is_told_by_name(tmp_path: Path, share: float) -> None:
    folder = volume(tmp_path / "v", np.ones((4, 32, 32)))
    data = (folder / "1-002.dcm").read_bytes()
    (folder / "1-002.dcm").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SpurbenchError, match=r"1-002\.dcm"):
        for file in opened(tmp_path).files:
            read_slice(file, (32, 32))


def test_a_compressed_slice_is_read_or_the_packages_that_read_it_are_named(tmp_path: Path) -> None:
    folder = volume(tmp_path / "v", SMALL)
    file = folder / "1-003.dcm"
    data = dcmread(file)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(file)
    assert (read_slice(opened(tmp_path).files[2], (6, 6)) == SMALL[2]).all()
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.save_as(file)
    with pytest.raises(SpurbenchError, match=r"found JPEG-LS.*1-003\.dcm\. Install one of: .*pyjpegls"):
        read_slice(file, (6, 6))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = volume(tmp_path / "v", tags={"RescaleSlope": "1e308", "RescaleIntercept": 0}) / "1-002.dcm"
    with pytest.raises(SpurbenchError, match=r"finite values in .*1-002\.dcm"), np.errstate(over="ignore"):
        read_slice(file, (6, 6))


def test_whatever_is_damaged_is_told_by_name_and_nothing_else_is_raised(tmp_path: Path) -> None:
    """Bytes are changed at random, most of them in the header; what can still be read is read."""
    folder = volume(tmp_path / "v", np.ones((2, 8, 8)))
    whole = (folder / "1-002.dcm").read_bytes()
    rng, told = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3).tolist():
            data[place] = int(rng.integers(256))
        (folder / "1-002.dcm").write_bytes(data)
        try:
            for series in find_series(tmp_path):
                for file in open_volume(series).files:
                    read_slice(file, (8, 8))
        except SpurbenchError as error:
            told += 1
            assert "1-002.dcm" in str(error) or "1-001.dcm" in str(error)
    assert 50 < told < 300
