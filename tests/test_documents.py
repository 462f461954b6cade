"""What the documents promise: commands that are the same everywhere, links and pictures that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from robustbench_spur.cli import make_parser
from robustbench_spur.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])


def blocks(document: Path) -> list[str]:
    """The fenced blocks of a document, without their fences."""
    return [text.strip() for text in re.findall(r"```\w*\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)]


def test_the_checks_end_with_the_tests_as_the_readme_runs_them() -> None:
    commands = [block for block in blocks(ROOT / "README.md") if block.startswith("python3 -m venv")]
    assert len(commands) == 2
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1] == commands[1]
    assert commands[0].endswith("spurbench run --method erm groupdro jtt dfr --split field")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_are_there(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_the_commands_of_the_readme_parse() -> None:
    lines = [line.split("#")[0].split() for block in blocks(ROOT / "README.md") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["spurbench"]]
    assert len(commands) > 10
    for words in commands:
        assert make_parser(words[0]).parse_args(words).verb == words[0]


def test_the_page_of_methods_is_what_their_files_state() -> None:
    """Made by ``python docs/catalogue.py``."""
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "docs" / "catalogue.py")
    assert spec is not None and spec.loader is not None
    catalogue = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(catalogue)
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == catalogue.page()


def test_every_evaluator_is_in_the_index_of_measures() -> None:
    index = (ROOT / "docs" / "measures" / "README.md").read_text(encoding="utf-8")
    names = {plugin.name for plugin in Registry().entries("evaluator")}
    assert {name for name in names if f"| `{name}` |" not in index} == set()
