"""``spurbench new method``: what it writes runs, passes its own test and the project's checks; what it refuses, and why."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import newplugin
from robustbench_spur.cli import VERBS, make_parser
from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore
from robustbench_spur.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
DRAFT = {"README.md", "better_idea.py", "test_better_idea.py"}
PACKAGE = {
    "README.md",
    "pyproject.toml",
    "src/better_idea/__init__.py",
    "src/better_idea/better_idea.py",
    "tests/test_better_idea.py",
}
LONGEST = "a_name_that_is_as_long_as_a_name_can_be_"
SPELLINGS = ("x", "better_idea", "idea_2", "none", "batch", LONGEST)


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def write(name: str, out: Path, *, package: bool = False) -> Path:
    """The files of a method as the command writes them, without its looking for who has the name."""
    for place, text in newplugin.method_files(name, package=package).items():
        path = out / name / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return out / name


def finish(*words: Any, folder: Path, **environment: str) -> str:
    whole = {**os.environ, **environment}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=whole, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(readme: Path) -> list[list[str]]:
    blocks = re.findall(r"```\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture
def draft_folder(tmp_path: Path) -> Path:
    """A method that stands alone, as it is written."""
    return write("better_idea", tmp_path / "new")


# What is written


def test_a_method_in_one_folder(tmp_path: Path, spurbench: Any) -> None:
    ended = spurbench("new", "method", "better_idea", "--out", tmp_path / "a b")
    folder = tmp_path / "a b" / "better_idea"
    assert (ended.code, ended.err, written(folder)) == (0, "", DRAFT)
    assert {line.removeprefix("wrote ") for line in ended.out.splitlines() if line.startswith("wrote ")} == {
        str(folder / name) for name in DRAFT
    }
    assert f"spurbench check '{folder / 'better_idea.py'}'" in ended.out


def test_it_goes_where_the_command_is_run(tmp_path: Path, spurbench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = spurbench("new", "method", "better_idea")
    assert written(tmp_path / "better_idea") == DRAFT
    assert "spurbench check better_idea/better_idea.py" in ended.out


def test_a_package(tmp_path: Path, spurbench: Any) -> None:
    ended = spurbench("new", "method", "better_idea", "--package", "--out", tmp_path)
    assert written(tmp_path / "better_idea") == PACKAGE
    assert f"python -m pip install --editable {tmp_path / 'better_idea'}" in ended.out


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("name", SPELLINGS)
def test_no_trace_of_the_templates_own_name_is_left(name: str, package: bool) -> None:
    for place, text in newplugin.method_files(name, package=package).items():
        assert not re.search("my_idea|my-idea|MyIdea", place + text)
        assert name in place + text or place.endswith("__init__.py")


def test_the_draft_is_a_sound_plugin_with_all_that_describe_shows(draft_folder: Path) -> None:
    plugin = Registry((draft_folder / "better_idea.py",)).find("method", "better_idea")
    loaded = plugin.load()
    assert (loaded.__name__, loaded.version, loaded.needs) == ("BetterIdea", 1, ())
    assert plugin.source is not None
    (setting,) = plugin.source.settings
    assert (setting.name, setting.default, setting.range) == ("strength", 0.1, ">= 0")
    assert setting.doc
    assert setting.search is not None
    assert {"Source:", "Deviations:", "Needs:"} <= set(plugin.source.doc.split())


@pytest.mark.parametrize("name", ["none", "batch"])
def test_a_name_that_is_another_words_in_capitals(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path) / f"{name}.py"
    assert Registry((path,)).find("method", name).load().__name__ == f"{name.capitalize()}Method"


def test_it_passes_the_projects_linter(tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed here")
    for name in SPELLINGS:
        write(name, tmp_path / "drafts")
        write(name, tmp_path / "packages", package=True)
    for verb in (["check"], ["format", "--check"]):
        finish(ruff, *verb, "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path, folder=tmp_path)


# What it does


def test_it_runs_as_a_draft(tmp_path: Path, spurbench: Any, home: Home, tiny: list[str]) -> None:
    file = write("better_idea", tmp_path) / "better_idea.py"
    ended = spurbench(
        "run", "--plugin", file, "--method", "better_idea", "--split", "field", "--evaluator", "worst_group", *tiny
    )
    (record,) = RecordStore(home.records, home.predictions)
    assert (ended.code, record.status, record.method.name) == (0, "done", "better_idea")


def test_its_own_test_passes(draft_folder: Path) -> None:
    out = finish(sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", folder=draft_folder)
    assert "2 passed" in out


def test_the_package_installs_and_its_test_passes(tmp_path: Path) -> None:
    source, site = write("better_idea", tmp_path, package=True), tmp_path / "site"
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    finish(sys.executable, "-m", "pip", "install", *offline, "--target", site, source, folder=tmp_path)
    code = (
        "from robustbench_spur.registry import Registry; found = Registry().find('method', 'better_idea');"
        "print(found.origin, found.path, sep='|')"
    )
    shown = finish(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(site)).strip()
    assert shown == f"spurbench-better-idea 0.1.0|{site / 'better_idea' / 'better_idea.py'}"
    out = finish(sys.executable, "-m", "pytest", "-k", "by_hand", folder=source, PYTHONPATH=str(site))
    assert "1 passed" in out


@pytest.mark.parametrize("package", [False, True])
def test_the_commands_of_its_readme_are_there(package: bool, tmp_path: Path) -> None:
    lines = commands(write("better_idea", tmp_path, package=package) / "README.md")
    assert {line[1] for line in lines if line[0] == "spurbench"} >= {"check", "describe", "run", "leaderboard"}
    for first, *words in lines:
        if first == "spurbench":
            assert words[0] in VERBS
            assert make_parser(words[0]).parse_args(words).verb == words[0]


# What it refuses


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My_idea", "Expected a name of a to z, 0 to 9 and underscores, a letter first"),
        ("9lives", "a letter first, 40 characters at most, found '9lives'"),
        ("a/b", "found 'a/b'. Write one such as my_idea."),
        ("..", "found '..'"),
        ("", "found ''"),
        (LONGEST + "x", "40 characters at most"),
        ("lambda", "Expected a name that is no word of Python's own, found 'lambda'"),
        ("all", "which has a meaning here"),
        ("training", "which has a meaning here"),
        ("erm", f"found 'erm': a method has it, {ROOT / 'methods' / 'erm.py'}:"),
        ("ece", "an evaluator has it, "),
        ("phantom", "a dataset has it, "),
        ("field", "a split of phantom has it, "),
        ("torch", "a module of Python has it ("),
        ("random", "a module of Python has it (the standard library)"),
    ],
)
def test_a_name_that_cannot_be_one(name: str, reason: str, tmp_path: Path, spurbench: Any) -> None:
    ended = spurbench("new", "method", name, "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("spurbench: Expected ")
    assert reason in ended.err
    assert not (tmp_path / "out").exists()


def test_a_name_that_an_installed_package_has(tmp_path: Path, spurbench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write("better_idea", tmp_path, package=True)
    about = tmp_path / "site" / "acme-2.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 2.1\n")
    (about / "entry_points.txt").write_text("[robustbench_spur.methods]\nbetter_idea = better_idea.better_idea:X\n")
    monkeypatch.syspath_prepend(tmp_path / "better_idea" / "src")
    monkeypatch.syspath_prepend(tmp_path / "site")
    ended = spurbench("new", "method", "better_idea", "--out", tmp_path / "out")
    file = tmp_path / "better_idea" / "src" / "better_idea" / "better_idea.py"
    assert re.search(rf"a method has it, {file}:\d+ \(acme 2.1\)", ended.err)
    assert ended.code == 2


@pytest.mark.parametrize("name", sorted(DRAFT))
def test_a_file_that_is_there_is_left_alone(name: str, tmp_path: Path, spurbench: Any) -> None:
    mine = tmp_path / "better_idea" / name
    mine.parent.mkdir()
    mine.write_text("mine")
    ended = spurbench("new", "method", "better_idea", "--out", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert f"Expected no file at {mine}, found one" in ended.err
    assert (written(mine.parent), mine.read_text()) == ({name}, "mine")


def test_a_folder_with_other_files_is_no_hindrance(tmp_path: Path, spurbench: Any) -> None:
    (tmp_path / "better_idea").mkdir()
    (tmp_path / "better_idea" / "notes.txt").write_text("mine")
    assert spurbench("new", "method", "better_idea", "--out", tmp_path).code == 0
    assert written(tmp_path / "better_idea") == {*DRAFT, "notes.txt"}


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path, spurbench: Any) -> None:
    (tmp_path / "better_idea").mkdir()
    (tmp_path / "better_idea" / "better_idea.py").symlink_to(tmp_path / "elsewhere.py")
    assert spurbench("new", "method", "better_idea", "--out", tmp_path).code == 2
    assert not (tmp_path / "elsewhere.py").exists()


def test_a_file_in_place_of_the_folder(tmp_path: Path, spurbench: Any) -> None:
    (tmp_path / "better_idea").write_text("mine")
    ended = spurbench("new", "method", "better_idea", "--out", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert str(tmp_path / "better_idea") in ended.err
