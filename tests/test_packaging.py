"""The wheel, built from a copy of the checkout and installed in a folder of its own, lists and runs the same."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore

CHECKOUT = Path(__file__).resolve().parents[1]
LEAST_SETUPTOOLS = 77  # the first that knows a licence expression in pyproject.toml
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


def run(command: list[Any], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: Any, folder: Path) -> None:
    offline = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", arguments[0], *offline, *arguments[1:]], folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, which a build may write into."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not installed here")
    try:
        found = int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("setuptools is not installed here")
    if found < LEAST_SETUPTOOLS:
        pytest.skip(f"building needs setuptools {LEAST_SETUPTOOLS} or later, found {found}")
    return Path(shutil.copytree(CHECKOUT, tmp_path_factory.mktemp("copy") / "checkout", ignore=LEFT_OUT))


def build_wheel(source: Path, folder: Path) -> Path:
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source, folder=source.parent)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    pip("install", "--target", folder, wheel, folder=folder.parent)
    return folder


@pytest.fixture
def command(installed: Path, tmp_path: Path) -> Any:
    """Runs the installed command from an empty folder."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def command(*arguments: Any, home: Path = tmp_path / "home") -> str:
        script = [sys.executable, installed / "bin" / "spurbench", *arguments]
        return run(script, empty, PYTHONPATH=str(installed), SPURBENCH_HOME=str(home))

    return command


def in_checkout(folder: str, ending: str) -> set[str]:
    return {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / folder).rglob(f"*{ending}")}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    boards = {name for name in in_checkout("leaderboards", ".json") if name.endswith("/board.json")}
    moved = {f"robustbench_spur/{name}" for name in in_checkout("methods", ".py") | boards}
    own = in_checkout("robustbench_spur", ".py") | in_checkout("robustbench_spur", ".j2")
    assert own | moved | {"robustbench_spur/py.typed"} <= names
    assert any(name.endswith(".j2") for name in own)
    assert any(name.endswith("v1/board.json") for name in moved)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"robustbench_spur"}
    assert not [name for name in names if "/entries/" in name or name.endswith((".npz", ".html", ".png"))]
    assert not [name for name in names if "/tests/" in name or "/shared/" in name or name.endswith(".pyc")]


def test_the_wheel_states_licence_and_entry_point(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    texts = {name.split(".dist-info/")[-1]: name for name in archive.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= set(texts)
    metadata = archive.read(texts["METADATA"]).decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "spurbench = robustbench_spur.cli:main" in archive.read(texts["entry_points.txt"]).decode()


def test_it_lists_the_same_from_its_own_files(command: Any, installed: Path, spurbench: Any) -> None:
    listed = json.loads(command("list", "--json"))
    assert listed == spurbench("list", "--json").rows
    names = [row["name"].split("/")[0] for row in listed]
    described = json.loads(command("describe", *dict.fromkeys(names), "--json"))
    assert {Path(one["where"]).is_relative_to(installed) for one in described} == {True}


def test_every_plugin_can_be_imported(command: Any) -> None:
    rows = json.loads(command("list", "--check", "--json"))
    assert {row["status"] for row in rows} <= {"ok", "needs_data"}


def test_it_reads_the_board_and_renders_the_page(command: Any, finished_home: Home, tmp_path: Path) -> None:
    rows = json.loads(command("status", "--json"))
    assert {row["split"] for row in rows} >= {"phantom/field@0.95", "phantom/clean"}
    page = tmp_path / "page.html"
    command("leaderboard", "--html", page, home=finished_home.root)
    assert "groupdro" in page.read_text()


def test_it_runs_a_cell_to_the_same_numbers(
    command: Any, finished_home: Home, tiny: list[str], tmp_path: Path, installed: Path
) -> None:
    before = {path for path in installed.rglob("*") if "__pycache__" not in path.parts}
    command("run", "--method", "dfr", "--split", "field", *tiny)
    home = Home(tmp_path / "home")
    (ours,) = RecordStore(home.records, home.predictions)
    theirs = next(r for r in RecordStore(finished_home.records, finished_home.predictions) if r.cell == ours.cell)
    assert ours.status == "done"
    assert ours.metrics == theirs.metrics
    assert ours.predictions == theirs.predictions
    assert ours.provenance["git_commit"] is None
    assert {path for path in installed.rglob("*") if "__pycache__" not in path.parts} == before
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_source_archive_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    script = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", script, tmp_path / "sdist"], checkout)
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[-1] for name in tar.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "methods/erm.py", "leaderboards/v1/board.json"} <= names
    again = build_wheel(archive, tmp_path / "wheel")
    contents = [
        {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist() if "dist-info" not in name}
        for path in (wheel, again)
    ]
    assert contents[0] == contents[1]
