"""A draft method with settings to search, on toy images: a trial takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from robustbench_spur import engine, training
from robustbench_spur.api import Quiet
from robustbench_spur.home import Home
from robustbench_spur.request import Request
from robustbench_spur.tuning.results import TrialResult
from robustbench_spur.tuning.search import Search
from robustbench_spur.tuning.study import Options, Study, open_study
from tests.methods.toy import DATASET

TUNABLE = '''
"""ERM whose classes are weighted.

Source: made up.
"""
import torch
from torch.nn.functional import cross_entropy
from robustbench_spur import Choice, Hyperparameters, LogUniform, Share, Uniform, parameter
from robustbench_spur.methods.erm import ERM


class TunableHyperparameters(Hyperparameters):
    """Settings."""

    scale: float = parameter(1.0, "weight of the first class", above=0, search=LogUniform(0.01, 100.0))
    limit: int = parameter(3, "a whole number", at_least=1, search=Uniform(1, 4))
    kind: str = parameter("plain", "how", search=Choice(("plain", "flat", "broken")))
    first: int = parameter(Share(0.5, "epochs"), "epochs of the first model", at_least=1)
    fixed: float = parameter(0.5, "not searched")


class Tunable(ERM):
    """Two trainings."""

    name = "tunable"
    version = 1
    summary = "for tests"
    source = "made up"
    needs = ()
    Hyperparameters = TunableHyperparameters

    def fit(self, task):
        first = task.train(ERM(), epochs=self.hyper.first)
        return task.train(self, given=task.outputs(first, "train"))

    def loss(self, model, batch):
        weight = torch.tensor([self.hyper.scale, float(self.hyper.limit)])
        loss = cross_entropy(model(batch.images), batch.labels, weight=weight)
        return loss * float("nan") if self.hyper.kind == "broken" else loss
'''
SETTINGS = {"epochs": 4, "batch_size": 16}
PLAIN = {**SETTINGS, "kind": "plain"}
"""With which no trial diverges."""
OPTIONS = Options(trials=6, select="validation_average")


@dataclass
class Watched:
    """What happened in searches.

    Attributes:
        stages: kinds of the stages that were computed.
        epochs: trajectory and number of every epoch that was trained.
        ended: results, and whether they were there already.
    """

    stages: list[str] = field(default_factory=list)
    epochs: list[tuple[str, int]] = field(default_factory=list)
    ended: list[tuple[TrialResult, bool]] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Counts what is computed."""
    seen = Watched()
    execute, epoch = engine.execute, training.Run._epoch

    def counted(stage: Any, *rest: Any) -> Any:
        about = execute(stage, *rest)
        seen.stages.append(stage.kind)
        return about

    def trained(self: Any, number: int, *rest: Any) -> Any:
        seen.epochs.append((self.folder.name, number))
        return epoch(self, number, *rest)

    monkeypatch.setattr(engine, "execute", counted)
    monkeypatch.setattr(training.Run, "_epoch", trained)
    return seen


@pytest.fixture
def tunable(draft: Callable[..., Path]) -> Path:
    """The draft's file."""
    return draft(TUNABLE, "tunable.py")


def opened(home: Home, draft: Path, method: str, request: dict[str, Any] | None, options: dict[str, Any]) -> Study:
    asked = Request(
        methods=(method,),
        splits=("toy/tied@0.8",),
        settings=PLAIN if method == "tunable" else SETTINGS,
        evaluators=("worst_group",),
        plugin_files=(DATASET, draft),
        device="cpu",
        home=home,
    )
    return open_study(replace(asked, **(request or {})), replace(OPTIONS, **options))


def carried_out(study: Study, watcher: Any = None, watched: Watched | None = None) -> list[TrialResult]:
    told = watched or Watched()
    return Search(study, watcher or Quiet(), lambda result, there: told.ended.append((result, there))).run()


@pytest.fixture
def study_of(home: Home, tunable: Path) -> Callable[..., Study]:
    """Opens a study in an empty home: fields of the request in ``request``, those of the options by name."""

    def make(method: str = "tunable", *, request: dict[str, Any] | None = None, **options: Any) -> Study:
        return opened(home, tunable, method, request, options)

    return make


@pytest.fixture(scope="session")
def searched_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A home in which six trials ran to their ends, and the draft's file."""
    folder = tmp_path_factory.mktemp("searched")
    path = folder / "tunable.py"
    path.write_text(TUNABLE)
    carried_out(opened(Home(folder / "home"), path, "tunable", None, {"prune": False}))
    return Home(folder / "home"), path


@pytest.fixture
def searched(searched_home: tuple[Home, Path]) -> Callable[..., Study]:
    """Opens a study in the home in which the six trials are there already."""

    def make(**options: Any) -> Study:
        return opened(*searched_home, "tunable", None, {"prune": False, **options})

    return make


@pytest.fixture
def search() -> Callable[..., list[TrialResult]]:
    """Runs a study without showing anything."""
    return carried_out


@pytest.fixture
def toy(tunable: Path) -> list[str]:
    """Options of the command that make a search as small."""
    files = [word for path in (DATASET, tunable) for word in ("--plugin", str(path))]
    budget = [f"{name}={value}" for name, value in SETTINGS.items()]
    return ["--device", "cpu", "--evaluator", "worst_group", "--set", *budget, *files]
