"""A method's identity follows its file, the methods that it builds on, and what these import of the folder of methods."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import robustbench_spur.methods
from robustbench_spur.code import code_of
from robustbench_spur.methods.erm import ERM
from robustbench_spur.methods.jtt import JTT
from robustbench_spur.store import content_hash, file_sha256

SHARED = "STRENGTH = 1\n"
MINE = """
from robustbench_spur.methods._toy_shared import STRENGTH
from robustbench_spur.methods.erm import ERM

class Mine(ERM):
    name = "toy_mine"
    version = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second folder of methods, with one that imports a helper."""
    monkeypatch.setattr(robustbench_spur.methods, "__path__", [*robustbench_spur.methods.__path__, str(tmp_path)])
    (tmp_path / "_toy_shared.py").write_text(SHARED)
    (tmp_path / "toy_mine.py").write_text(MINE)
    importlib.invalidate_caches()
    yield tmp_path  # type: ignore[misc]
    for name in ("_toy_shared", "toy_mine"):
        sys.modules.pop(f"robustbench_spur.methods.{name}", None)


def file_of(method: type) -> Path:
    return Path(str(sys.modules[method.__module__].__file__))


def test_a_method_without_helpers_is_its_file_and_its_bases() -> None:
    assert code_of(JTT) == content_hash([file_sha256(file_of(JTT)), file_sha256(file_of(ERM))])


def test_a_helper_counts(folder: Path) -> None:
    method = importlib.import_module("robustbench_spur.methods.toy_mine").Mine
    before = code_of(method)
    (folder / "_toy_shared.py").write_text(SHARED.replace("1", "2"))
    assert code_of(method) != before
    (folder / "_toy_shared.py").write_text(SHARED)
    assert code_of(method) == before
