"""From predictions to numbers with intervals. The same code scores a run, a record read again, and a user's own file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from robustbench_spur import statistics
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.manifest import Bootstrap, EvaluatorPin, Manifest
from robustbench_spur.registry import Registry
from robustbench_spur.statistics import estimate, resample
from robustbench_spur.store import Store, content_hash, file_sha256, write_arrays
from robustbench_spur.types import Estimate, SpurbenchError, nearest

Floats = NDArray[np.float64]
Patients = NDArray[np.str_] | None
STATISTICS = file_sha256(Path(statistics.__file__))
"""Hash of the code that resamples: values that were kept are of one version of it."""


def load_evaluators(registry: Registry, pins: tuple[EvaluatorPin, ...]) -> list[Evaluator]:
    """The evaluators with the settings of their pins.

    Raises:
        SpurbenchError: unknown evaluator, another version than the pin's, or settings out of range.
    """
    loaded = []
    for pin in pins:
        plugin = registry.find("evaluator", pin.name)
        evaluator_class = plugin.load()
        if plugin.version != pin.version:
            raise SpurbenchError(
                f"Expected evaluator {pin.name!r} v{pin.version} (the board's), found v{plugin.version}. Install that version."
            )
        try:
            parameters = evaluator_class.Parameters.model_validate(pin.parameters)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "all of them"
            raise SpurbenchError(
                f"Setting {name}={first['input']!r} of evaluator {pin.name!r}: {first['msg']}."
            ) from error
        loaded.append(evaluator_class(parameters))
    return loaded


def pins_of(names: Sequence[str], registry: Registry, manifest: Manifest) -> tuple[EvaluatorPin, ...]:
    """The board's pins of these evaluators; those that the board does not have with their own defaults.

    Raises:
        SpurbenchError: unknown or broken evaluator.
    """
    pins = []
    for name in dict.fromkeys(names):
        plugin = registry.find("evaluator", name)
        pinned = next((pin for pin in manifest.evaluators if pin.name == name), None)
        if pinned is None:
            parameters = plugin.load()().parameters.model_dump(mode="json")
            pinned = EvaluatorPin(name=name, version=int(plugin.version or 0), parameters=parameters)
        pins.append(pinned)
    return tuple(pins)


def metric_of(evaluator: Evaluator, name: str) -> Metric:
    """The definition of a metric; a member of a family has the family's.

    Raises:
        SpurbenchError: the evaluator has no such metric.
    """
    family = name.split(":", 1)[0] + ":"
    for key in (name, family):
        if key in evaluator.metrics:
            return evaluator.metrics[key]
    raise SpurbenchError(
        f"Evaluator {evaluator.name!r} has no metric {name!r}. {nearest(name, list(evaluator.metrics))}"
    )


def point(evaluator: Evaluator, predictions: Predictions) -> dict[str, float]:
    """Every metric on the patients themselves; NaN where undefined."""
    ones = np.ones((1, len(predictions.patients)))
    return {name: float(values[0]) for name, values in evaluator.measure(predictions, ones).items()}


def code_sha256(evaluator: Evaluator) -> str:
    """Hash of the file that defines an evaluator: a draft changes without its version; empty where there is no file."""
    path = getattr(sys.modules.get(type(evaluator).__module__), "__file__", None)
    return file_sha256(Path(path)) if path else ""


class Scorer:
    """Measures predictions with intervals, and keeps what every resampling gave, so that a table is there at once.

    Args:
        cache: where the resampled values are kept; they can be made again from the predictions. None keeps nothing.
        bootstrap: how intervals are made.
    """

    def __init__(self, cache: Store | None, bootstrap: Bootstrap) -> None:
        self.cache, self.bootstrap = cache, bootstrap

    def replicates(
        self, evaluator: Evaluator, predictions: Predictions, name: str, patients: Patients = None
    ) -> dict[str, Floats]:
        """Every metric under every resampling of the patients, each of shape (replicates,).

        Args:
            evaluator: with its settings.
            predictions: of one partition.
            name: hash of the predictions' file and the partition: what the values are kept under.
            patients: all that are resampled, sorted, where those of ``predictions`` are a part of them (a fold): a
                resampling then counts a patient alike in every part. None for those of ``predictions``.
        """
        return self._block(evaluator, predictions, name, 0, None, patients)

    def more_replicates(
        self,
        evaluator: Evaluator,
        predictions: Predictions,
        name: str,
        metric: str,
        count: int,
        patients: Patients = None,
    ) -> Floats:
        """One metric under more resamplings than intervals take, shape (count,).

        The first of them are those of :meth:`replicates`. They are drawn and kept in blocks of that number, so that a
        greater count computes what it adds.

        Args:
            evaluator: with its settings.
            predictions: of one partition.
            name: see :meth:`replicates`.
            metric: of the evaluator.
            count: number of resamplings.
            patients: see :meth:`replicates`.
        """
        blocks = range(-(-count // self.bootstrap.replicates))
        parts = [self._block(evaluator, predictions, name, k, metric if k else None, patients)[metric] for k in blocks]
        return np.concatenate(parts)[:count]

    def _block(
        self,
        evaluator: Evaluator,
        predictions: Predictions,
        name: str,
        block: int,
        metric: str | None,
        patients: Patients,
    ) -> dict[str, Floats]:
        """Values under the resamplings of a block, of all metrics or of one; from the cache where they are there."""
        if self.cache is None:
            return self._resample(evaluator, predictions, block, metric, patients)
        parameters = evaluator.parameters.model_dump(mode="json")
        code, groups, bootstrap = code_sha256(evaluator), predictions.groups, self.bootstrap.model_dump(mode="json")
        universe = [groups.names, groups.attribute]
        among = [] if patients is None else [patients.tolist()]
        key = content_hash(
            [name, evaluator.name, code, STATISTICS, parameters, universe, bootstrap, block, metric, *among]
        )
        if not self.cache.has(key):
            with self.cache.making(key) as (folder, _):
                write_arrays(folder / "arrays.npz", self._resample(evaluator, predictions, block, metric, patients))
        return self.cache.arrays(key)

    def _resample(
        self, evaluator: Evaluator, predictions: Predictions, block: int, metric: str | None, patients: Patients
    ) -> dict[str, Floats]:
        among = predictions.patients if patients is None else patients
        own = np.searchsorted(among, predictions.patients)
        values = resample(
            lambda counts: evaluator.measure(predictions, counts[:, own]),
            len(among),
            self.bootstrap.replicates,
            self.bootstrap.seed,
            first=block * self.bootstrap.replicates,
        )
        for one, array in values.items():
            if array.shape != (self.bootstrap.replicates,):
                raise SpurbenchError(
                    f"Expected {self.bootstrap.replicates} values of {one} from evaluator {evaluator.name!r}, found shape"
                    f" {array.shape}."
                )
        return values if metric is None else {metric: values[metric]}

    def score(self, evaluator: Evaluator, predictions: Predictions, name: str) -> dict[str, Estimate]:
        """Every metric with its interval.

        Args:
            evaluator: with its settings.
            predictions: of one partition, with the arrays that the evaluator collects.
            name: see :meth:`replicates`.

        Raises:
            SpurbenchError: the predictions lack an array that the evaluator collects.
        """
        missing = [array for array in evaluator.collects if array not in predictions.arrays]
        if missing:
            raise SpurbenchError(f"Evaluator {evaluator.name!r} needs {missing}, which these predictions do not have.")
        values = point(evaluator, predictions)
        spread = self.replicates(evaluator, predictions, name)
        support, confidence = evaluator.support(predictions), self.bootstrap.confidence
        reasons = evaluator.details(predictions).get("undefined", {})
        return {
            metric: estimate(
                metric_of(evaluator, metric),
                value,
                spread[metric],
                confidence,
                patients=support.get(metric),
                reason=reasons.get(metric, ""),
            )
            for metric, value in values.items()
        }


def as_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    """Estimates as JSON values."""
    return {name: value.as_dict() for name, value in estimates.items()}
