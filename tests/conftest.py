"""Shared fixtures: a home for each test, requests so small that a matrix takes seconds, and one finished home to read."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

# A thread per processor makes networks of this size slower, many times so where other work goes on. Read before torch is.
os.environ["OMP_NUM_THREADS"] = "1"

TINY_SPLIT = {
    "train_patients": 24,
    "train_slices": 2,
    "validation_patients": 12,
    "validation_slices": 2,
    "adapt_patients": 16,
    "adapt_slices": 4,
    "test_patients": 16,
    "test_slices": 4,
}
BASIC = ("dfr", "erm", "groupdro", "jtt")
"""A method of each kind: a set of its own, one stage, group labels, two stages. They stand for all where all take long."""
TINY_TRAINING = {"epochs": 2, "batch_size": 16}
TINY_SIZE = 16


@dataclass(frozen=True)
class Ended:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON list on standard output."""
        rows = json.loads(self.out)
        assert isinstance(rows, list)
        return rows


@pytest.fixture(scope="session", autouse=True)
def nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test that names no home never writes into the user's own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPURBENCH_HOME", str(tmp_path_factory.mktemp("nobody") / "home"))
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty home, which is the default one while the test runs."""
    from robustbench_spur.home import Home

    monkeypatch.setenv("SPURBENCH_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def make_request(home: Any, **changes: Any) -> Any:
    """ERM on a phantom of a few slices; ``changes`` are fields of the request, or texts where it wants tuples of them."""
    from robustbench_spur.plan import Request

    many = ("methods", "splits", "evaluators")
    changes = {name: (value,) if name in many and isinstance(value, str) else value for name, value in changes.items()}
    request = Request(
        methods=("erm",),
        splits=("field",),
        settings=TINY_TRAINING,
        split_settings=TINY_SPLIT,
        image_size=TINY_SIZE,
        device="cpu",
        home=home,
    )
    return replace(request, **changes)


@pytest.fixture
def request_for(home: Any) -> Callable[..., Any]:
    """Makes a tiny request for the test's home."""

    def make(**changes: Any) -> Any:
        return make_request(changes.pop("home", home), **changes)

    return make


@pytest.fixture
def carry_out() -> Callable[..., list[Any]]:
    """Plans and runs a request, and gives its records in the order of the plan."""

    def carry_out(request: Any, watcher: Any = None) -> list[Any]:
        from robustbench_spur import runner
        from robustbench_spur.api import Quiet
        from robustbench_spur.plan import make_plan

        plan = make_plan(request)
        found = {one.cell.key: one.record for one in runner.carry_out(plan, watcher or Quiet())}
        return [found[cell.key] for cell in plan.cells]

    return carry_out


@pytest.fixture
def spurbench(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command in this process."""

    def run(*arguments: Any) -> Ended:
        from robustbench_spur.cli import main

        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse ends so after --help
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def tiny() -> list[str]:
    """Options of ``run`` and ``export`` that make a cell as small as those of a tiny request."""
    training = [f"{name}={value}" for name, value in TINY_TRAINING.items()]
    split = [f"{name}={value}" for name, value in TINY_SPLIT.items()]
    return ["--device", "cpu", "--image-size", str(TINY_SIZE), "--set", *training, "--split-set", *split]


@pytest.fixture
def draft(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plugin file."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / "drafts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
        return path

    return write


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A home in which the basic methods ran on the tiny ``field`` at 0.95 and at 1.0, seed 0. Only for reading."""
    from robustbench_spur import runner
    from robustbench_spur.api import Quiet
    from robustbench_spur.home import Home
    from robustbench_spur.plan import make_plan

    home = Home(tmp_path_factory.mktemp("finished") / "home")
    plan = make_plan(make_request(home, methods=BASIC, splits=("field", "field@1.0")))
    assert {one.record.status for one in runner.carry_out(plan, Quiet())} == {"done", "not_applicable"}
    return home


@pytest.fixture(scope="session")
def computed(finished_home: Any) -> Any:
    """The plan behind the finished home on ``field`` as if nothing were recorded: all its stages are there."""
    from robustbench_spur.plan import make_plan

    return make_plan(make_request(finished_home, methods=BASIC, again=True))


@pytest.fixture
def finished(finished_home: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The finished home, as the default one while the test runs."""
    monkeypatch.setenv("SPURBENCH_HOME", str(finished_home.root))
    return finished_home


@pytest.fixture
def tiny_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a board whose own splits and budget are tiny, so that its rows are ranked."""
    from robustbench_spur import manifest

    content = json.loads((manifest.boards_folder() / "v1" / "board.json").read_text())
    settings = ",".join(f"{name}={value}" for name, value in sorted(TINY_SPLIT.items()))
    content["board"], content["seeds"] = "tiny", [0, 1]
    content["setups"] = {"phantom": {**content["setups"]["phantom"], "image_size": TINY_SIZE}}
    content["setups"]["phantom"]["training"] |= TINY_TRAINING
    names = ("phantom/field@0.95", "phantom/field@1.0")
    content["splits"] = [{"name": f"{name}[{settings}]", "version": 1, "sha256": None} for name in names]
    content["splits"].append({"name": "digits/colour@0.95", "version": 1, "sha256": None})
    place = tmp_path / "boards" / "tiny"
    place.mkdir(parents=True)
    (place / "board.json").write_text(json.dumps(content))
    monkeypatch.setattr(manifest, "boards_folder", lambda: tmp_path / "boards")
    manifest.load_manifest.cache_clear()
    yield "tiny"
    manifest.load_manifest.cache_clear()
