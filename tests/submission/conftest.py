"""The small board, installed while a test of this folder runs, and copies of a sound entry of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_spur.manifest import Manifest, load_manifest
from tests.submission.makers import BOARD, Copy, boards, packed


@pytest.fixture(scope="session")
def small_boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the boards."""
    with boards(tmp_path_factory.mktemp("boards") / "boards") as folder:
        return folder


@pytest.fixture(scope="session")
def template(small_boards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound entry of a method with a file of its own. Only for copying."""
    with boards(small_boards):
        return packed(tmp_path_factory.mktemp("template"))


@pytest.fixture(autouse=True)
def small_board(small_boards: Path) -> Iterator[Manifest]:
    """The small board's manifest."""
    with boards(small_boards):
        yield load_manifest(BOARD)


@pytest.fixture
def copy(template: Path, tmp_path: Path) -> Copy:
    """A copy of the sound entry."""
    return Copy(Path(shutil.copytree(template, tmp_path / "entry")))
