"""Every example in a docstring is run."""

import doctest
import importlib
from pathlib import Path

import pytest

import robustbench_spur
import robustbench_spur.methods


def modules(package: str, folder: Path) -> list[str]:
    """Names of the modules in a folder and below it."""
    paths = sorted(path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    return [".".join((package, *path.parts)).removesuffix(".__init__") for path in paths]


PACKAGE = Path(str(robustbench_spur.__file__)).parent
METHODS = Path(next(iter(robustbench_spur.methods.__path__)))
MODULES = {*modules("robustbench_spur", PACKAGE), *modules("robustbench_spur.methods", METHODS)}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 20
