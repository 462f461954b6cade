"""The example package, installed from a copy in a folder of its own: the commands of its README, and what they show."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import matthews_corrcoef

from robustbench_spur.home import Home
from robustbench_spur.record import RecordStore, read_predictions

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "spurbench-example"
ORIGIN = "spurbench-example 0.1.0"
METHOD, EVALUATOR = "generalised_cross_entropy", "matthews"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", ".*")
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check", "--target"]
SPURBENCH = "import sys; from robustbench_spur.cli import main; sys.exit(main())"


def commands() -> list[str]:
    """The lines of the README's one block of commands."""
    (block,) = re.findall(r"```\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(block).splitlines()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, which a build may write into."""
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("copy") / EXAMPLE.name, ignore=LEFT_OUT))


@pytest.fixture(scope="module")
def installed(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed example and nothing else, by the README's command."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    (line,) = (line for line in commands() if "pip" in line)
    python, *words = line.split()
    assert python == "python"
    finish([sys.executable, *words, *OFFLINE, str(folder)], copy)
    return folder


@pytest.fixture
def command(installed: Path, copy: Path, home: Home) -> Any:
    """Runs a line of the README where the example can be imported, and adds options."""

    def command(line: str, *more: str) -> str:
        assert line in commands()
        first, *words = line.split()
        given = {"spurbench": ["-c", SPURBENCH], "python": []}[first]
        return finish([sys.executable, *given, *words, *more], copy, PYTHONPATH=str(installed))

    return command


def finish(words: list[str], folder: Path, **environment: str) -> str:
    """Run a program to its end, which has to be a good one; gives what it printed."""
    whole = {**os.environ, **environment}
    done = subprocess.run(words, cwd=folder, env=whole, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_has_no_command_that_is_not_tested_here() -> None:
    verbs = [" ".join(line.split()[: 3 if line.startswith("python") else 2]) for line in commands()]
    assert verbs == ["python -m pip", "spurbench list", "spurbench describe", "spurbench run", "python -m pytest"]


def test_it_is_listed_with_its_origin(command: Any) -> None:
    shown = " ".join(command("spurbench list").split())
    assert shown.count(f"(from {ORIGIN})") == 2
    rows = [row for row in json.loads(command("spurbench list", "--json")) if row["origin"] != "built-in"]
    assert [(row["name"], row["kind"], row["origin"], row["status"]) for row in rows] == [
        (METHOD, "method", ORIGIN, "ok"),
        (EVALUATOR, "evaluator", ORIGIN, "ok"),
    ]


def test_it_is_described_from_its_own_files(command: Any, installed: Path) -> None:
    line = f"spurbench describe {METHOD} {EVALUATOR}"
    assert f"{METHOD} method, version 1, {ORIGIN}" in " ".join(command(line).split())
    method, evaluator = json.loads(command(line, "--json"))
    assert (method["origin"], evaluator["origin"]) == (ORIGIN, ORIGIN)
    assert Path(method["where"].rpartition(":")[0]) == installed / "spurbench_example" / f"{METHOD}.py"
    assert (method["track"], method["settings"][0]["default"]) == ("none", 0.7)
    assert list(evaluator["metrics"]) == ["mcc"]


def test_a_run_gives_a_record_with_both(command: Any, home: Home, tiny: list[str]) -> None:
    (line,) = (line for line in commands() if "spurbench run" in line)
    command(line, *tiny)
    store = RecordStore(home.records, home.predictions)
    (record,) = store
    assert (record.status, record.method.name) == ("done", METHOD)
    assert record.split is not None
    test = read_predictions(store.arrays(record), record.split, "test")
    # scikit-learn's is 0 where the coefficient is undefined
    one_class = len(set(test.predicted.tolist())) == 1
    expected = None if one_class else pytest.approx(matthews_corrcoef(test.labels, test.predicted))
    assert record.metrics["test"][EVALUATOR]["mcc"]["value"] == expected


def test_its_own_tests_pass(command: Any) -> None:
    assert "9 passed" in command("python -m pytest")
