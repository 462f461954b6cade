"""Shared by the tests of curation."""

from pathlib import Path

import pytest

from tests.curation.dicoms import write_collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DICOM series of several phantom patients; nobody changes it."""
    return write_collection(tmp_path_factory.mktemp("dicom"))
