"""Benchmark of shortcut learning in medical imaging: does the model cheat, what stops it, and how sure are we?

The names below are the public ones. They are loaded when first used: importing the package imports neither torch nor pandas.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from robustbench_spur.api import evaluate as evaluate
    from robustbench_spur.api import leaderboard as leaderboard
    from robustbench_spur.api import run as run
    from robustbench_spur.averaging import Averaging as Averaging
    from robustbench_spur.averaging import RunningMean as RunningMean
    from robustbench_spur.evaluators.base import Evaluator as Evaluator
    from robustbench_spur.evaluators.base import EvaluatorParameters as EvaluatorParameters
    from robustbench_spur.evaluators.base import Finding as Finding
    from robustbench_spur.evaluators.base import Predictions as Predictions
    from robustbench_spur.evaluators.base import Subject as Subject
    from robustbench_spur.evaluators.metric import Metric as Metric
    from robustbench_spur.method import Batch as Batch
    from robustbench_spur.method import Method as Method
    from robustbench_spur.method import Sampling as Sampling
    from robustbench_spur.method import View as View
    from robustbench_spur.networks import Classifier as Classifier
    from robustbench_spur.parameters import Choice as Choice
    from robustbench_spur.parameters import Hyperparameters as Hyperparameters
    from robustbench_spur.parameters import LogUniform as LogUniform
    from robustbench_spur.parameters import Share as Share
    from robustbench_spur.parameters import Training as Training
    from robustbench_spur.parameters import Uniform as Uniform
    from robustbench_spur.parameters import parameter as parameter
    from robustbench_spur.splits.base import Dataset as Dataset
    from robustbench_spur.splits.base import SplitParameters as SplitParameters
    from robustbench_spur.stage import Stage as Stage
    from robustbench_spur.task import Task as Task
    from robustbench_spur.types import Groups as Groups
    from robustbench_spur.types import Partition as Partition
    from robustbench_spur.types import SplitTable as SplitTable
    from robustbench_spur.types import SpurbenchError as SpurbenchError

_PUBLIC = {
    "api": ("evaluate", "leaderboard", "run"),
    "averaging": ("Averaging", "RunningMean"),
    "evaluators.base": ("Evaluator", "EvaluatorParameters", "Finding", "Predictions", "Subject"),
    "evaluators.metric": ("Metric",),
    "method": ("Batch", "Method", "Sampling", "View"),
    "networks": ("Classifier",),
    "parameters": ("Choice", "Hyperparameters", "LogUniform", "Share", "Training", "Uniform", "parameter"),
    "splits.base": ("Dataset", "SplitParameters"),
    "stage": ("Stage",),
    "task": ("Task",),
    "types": ("Groups", "Partition", "SplitTable", "SpurbenchError"),
}
_HOME_OF = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605

# In a checkout that is not installed, methods/ and leaderboards/ lie beside this package: find them there as subpackages.
_root = _Path(__file__).resolve().parent.parent
if not (_Path(__file__).parent / "methods").exists() and (_root / "methods" / "__init__.py").is_file():
    __path__.append(str(_root))


def __getattr__(name: str) -> _Any:
    if name in _HOME_OF:
        return getattr(_import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
