"""From predictions to numbers with intervals. The same code scores a run, a record read again, and a user's own file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from robustbench_spur import statistics
from robustbench_spur.evaluators.base import Evaluator, Predictions
from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.intervals import minimum
from robustbench_spur.manifest import Bootstrap, EvaluatorPin, Manifest
from robustbench_spur.registry import Registry
from robustbench_spur.statistics import estimate, ratio, resample, strata_of
from robustbench_spur.store import Store, content_hash, file_sha256, write_arrays
from robustbench_spur.types import Estimate, SpurbenchError, nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """The patients that are resampled together.

    Args:
        patients: their names, sorted, shape (patients,).
        strata: code of the stratum of each, shape (patients,): see :func:`~robustbench_spur.statistics.strata_of`.
    """

    patients: NDArray[np.str_]
    strata: NDArray[np.int64]


Patients = Population | NDArray[np.str_] | None
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


def population(parts: Sequence[Predictions]) -> Population:
    """All patients of several predictions: of one partition, or of the folds of a protocol, which share most of theirs.

    Strata are made of the whole, so that a patient has the same one in every fold.

    Args:
        parts: at least one, of the same classes and attribute values.
    """
    if len(parts) == 1:
        patients, patient = parts[0].patients, parts[0].patient
    else:
        patients, patient = np.unique(np.concatenate([part.clusters for part in parts]), return_inverse=True)
    values, classes = len(parts[0].groups.values), len(parts[0].groups.classes)
    group = np.concatenate([part.labels * values + part.attributes for part in parts])
    return Population(patients, strata_of(patient, len(patients), group, classes * values))


def trials_of(evaluator: Evaluator, predictions: Predictions) -> dict[str, int]:
    """Number of examples behind each metric that is a share of right ones, where each is a patient of its own."""
    found = {}
    for metric, rows in evaluator.shares(predictions).items():
        examples = int(np.count_nonzero(rows))
        if examples and np.bincount(predictions.patient[rows]).max() == 1:
            found[metric] = examples
    return found


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


def point(evaluator: Evaluator, predictions: Predictions, metrics: Collection[str] | None = None) -> dict[str, float]:
    """Metrics on the patients themselves, all where None are named; NaN where undefined."""
    if metrics is None or evaluator in predictions.points:
        every = evaluator.points(predictions)
        return {name: every[name] for name in (every if metrics is None else metrics)}
    ones = np.ones((1, len(predictions.patients)))
    return {name: float(values[0]) for name, values in evaluator.measure_only(predictions, ones, metrics).items()}


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
        self,
        evaluator: Evaluator,
        predictions: Predictions,
        name: str,
        patients: Patients = None,
        metrics: Iterable[str] | None = None,
    ) -> dict[str, Floats]:
        """Metrics under every resampling of the patients, each of shape (replicates,).

        Args:
            evaluator: with its settings.
            predictions: of one partition.
            name: hash of the predictions' file and the partition: what the values are kept under.
            metrics: which; all where None.
            patients: all that are resampled, where those of ``predictions`` are a part of them (a fold): a resampling then
                counts a patient alike in every part. :func:`population` gives them with their strata; names alone, sorted,
                are one stratum, since the groups of those who are not in ``predictions`` are not known here. None for
                those of ``predictions``, in their strata.
        """
        only = None if metrics is None else tuple(sorted(metrics))
        return self._block(evaluator, predictions, name, 0, only, patients)

    def more_replicates(
        self,
        evaluator: Evaluator,
        parts: Sequence[tuple[str, Predictions]],
        metric: str,
        count: int,
        patients: Patients = None,
    ) -> Floats:
        """One metric of several predictions under more resamplings than intervals take, shape (parts, count).

        The first of them are those of :meth:`replicates`, which are kept. The others are computed each time: one metric takes
        less than finding it again.

        Args:
            evaluator: with its settings.
            parts: predictions of one partition, each with its name, see :meth:`replicates`.
            metric: of the evaluator.
            count: number of resamplings.
            patients: see :meth:`replicates`.
        """
        first = [self._block(evaluator, rows, name, 0, (metric,), patients)[metric] for name, rows in parts]
        found = np.array([one[:count] for one in first])
        if count <= self.bootstrap.replicates:
            return found
        several = [rows for _, rows in parts]
        more = self._at_once(evaluator, several, metric, count - found.shape[1], patients)
        if more is None:
            blocks = range(1, -(-count // self.bootstrap.replicates))
            each = [
                np.concatenate([self._resample(evaluator, rows, k, (metric,), patients)[metric] for k in blocks])
                for rows in several
            ]
            more = np.array(each)[:, : count - found.shape[1]]
        return np.concatenate([found, more], axis=1)

    def _at_once(
        self, evaluator: Evaluator, parts: Sequence[Predictions], metric: str, count: int, patients: Patients
    ) -> Floats | None:
        """The replicates after the first block, shape (parts, count), in one pass through the draws.

        None where the metric is no quotient of sums over patients, or the predictions are not of the same patients.
        """
        quotients = [sums for rows in parts if (sums := evaluator.quotient(rows, metric)) is not None]
        if patients is not None or len(quotients) < len(parts):
            return None
        among = population(parts[:1])
        for rows in parts[1:]:
            other = population([rows])
            if not (np.array_equal(other.patients, among.patients) and np.array_equal(other.strata, among.strata)):
                return None

        def measure(counts: Floats) -> dict[str, Floats]:
            return {str(k): ratio(*(counts @ sums).T) for k, sums in enumerate(quotients)}

        draws = self.bootstrap
        step, found = draws.replicates, []
        for start in range(step, step + count, step):
            size = min(step, step + count - start)
            part = resample(measure, len(among.patients), step, draws.seed, among.strata, first=start)
            found.append(np.array([part[str(k)][:size] for k in range(len(parts))]))
        return np.concatenate(found, axis=1)

    def _block(
        self,
        evaluator: Evaluator,
        predictions: Predictions,
        name: str,
        block: int,
        metrics: tuple[str, ...] | None,
        patients: Patients,
    ) -> dict[str, Floats]:
        """Values under the resamplings of a block, of all metrics or of some; from the cache where they are there."""
        if self.cache is None:
            return self._resample(evaluator, predictions, block, metrics, patients)
        parameters = evaluator.parameters.model_dump(mode="json")
        code, groups, bootstrap = code_sha256(evaluator), predictions.groups, self.bootstrap.model_dump(mode="json")
        universe = [groups.names, groups.attribute]
        among: list[Any] = []
        if isinstance(patients, Population):
            among = [patients.patients.tolist(), patients.strata.tolist()]
        elif patients is not None:
            among = [patients.tolist()]
        key = content_hash(
            [name, evaluator.name, code, STATISTICS, parameters, universe, bootstrap, block, metrics, *among]
        )
        if not self.cache.has(key):
            with self.cache.making(key) as (folder, _):
                write_arrays(folder / "arrays.npz", self._resample(evaluator, predictions, block, metrics, patients))
        return self.cache.arrays(key)

    def _resample(
        self,
        evaluator: Evaluator,
        predictions: Predictions,
        block: int,
        metrics: tuple[str, ...] | None,
        patients: Patients,
    ) -> dict[str, Floats]:
        if patients is None:
            patients = population([predictions])
        elif not isinstance(patients, Population):
            patients = Population(patients, np.zeros(len(patients), np.int64))
        own = np.searchsorted(patients.patients, predictions.patients)
        whole = len(own) == len(patients.patients)

        def measure(counts: Floats) -> dict[str, Floats]:
            mine = counts if whole else counts[:, own]
            if metrics is None:
                return evaluator.measure(predictions, mine)
            return evaluator.measure_only(predictions, mine, metrics)

        values = resample(
            measure,
            len(patients.patients),
            self.bootstrap.replicates,
            self.bootstrap.seed,
            patients.strata,
            first=block * self.bootstrap.replicates,
        )
        for one, array in values.items():
            if array.shape != (self.bootstrap.replicates,):
                raise SpurbenchError(
                    f"Expected {self.bootstrap.replicates} values of {one} from evaluator {evaluator.name!r}, found shape"
                    f" {array.shape}."
                )
        return values

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
        return Scored(evaluator, predictions, self.replicates(evaluator, predictions, name), self.bootstrap).estimates()


class Scored:
    """What an evaluator said of predictions, and of their resamplings, on the way to estimates.

    Args:
        evaluator: with its settings.
        predictions: of one partition.
        spread: every metric under every resampling.
        bootstrap: how intervals are made.
    """

    def __init__(
        self, evaluator: Evaluator, predictions: Predictions, spread: Mapping[str, Floats], bootstrap: Bootstrap
    ) -> None:
        self.evaluator, self.spread, self.confidence = evaluator, spread, bootstrap.confidence
        self.points, self.support = point(evaluator, predictions), evaluator.support(predictions)
        self.trials = trials_of(evaluator, predictions)
        self.reasons = evaluator.details(predictions).get("undefined", {})

    def estimates(self) -> dict[str, Estimate]:
        """Every metric with its interval."""
        return {metric: self._estimate(metric) for metric in self.points}

    def _estimate(self, metric: str) -> Estimate:
        definition, reason = metric_of(self.evaluator, metric), self.reasons.get(metric, "")
        if definition.minimum_of:
            members = [name for name in self.points if name.startswith(definition.minimum_of)]
            return minimum(
                definition,
                [self.points[name] for name in members],
                np.stack([self.spread[name] for name in members], axis=1),
                self.confidence,
                patients=[self.support.get(name) for name in members],
                trials=[self.trials.get(name) for name in members],
                reason=reason,
            )
        return estimate(
            definition,
            self.points[metric],
            self.spread[metric],
            self.confidence,
            patients=self.support.get(metric),
            trials=self.trials.get(metric),
            reason=reason,
        )


def as_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    """Estimates as JSON values."""
    return {name: value.as_dict() for name, value in estimates.items()}
