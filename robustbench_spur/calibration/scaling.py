"""Maps from a model's logits to better probabilities, fitted on one set of examples and applied to another.

``temperature`` divides all logits by one number; ``vector`` gives each class's logit a weight and a bias; ``platt`` gives the
logit difference of two classes a weight and a bias; ``beta`` gives log p and -log(1 - p) a weight of 0 or more, and a bias;
``isotonic`` is the best rising step function of p. The last two are fitted for class 1 of two, and otherwise for each class
against the rest, divided by the sum over the classes (equal shares where that is zero).

All but the last maximise the likelihood, which has no maximum where the examples can be separated: then, and where there is
nothing to fit to, there is a reason and no map.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4 (temperature, vector); Platt, Advances in
Large Margin Classifiers, 1999; Kull, Silva Filho and Flach, AISTATS 2017 (beta); Zadrozny and Elkan, KDD 2002 (isotonic, one
against the rest). Fitted by netcal 1.4, one-dimensional for all but the temperature of three classes or more.
Deviations: netcal clips probabilities at 2e-16, a logit difference of 36, and would find another temperature for a very
confident network. So logits that differ by more than 30 are divided by a number first, which the fits of temperature and Platt
take back exactly; isotonic needs the order alone; beta is then the beta map of the divided logits. Vector scaling is fitted by
scipy, on logits as in its source: netcal has it for three classes or more only, on log probabilities, and what it does of that
name to two classes is Platt's. Platt's is without his smoothed targets, as in netcal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.calibration.scores import log_softmax
from robustbench_spur.evaluators.base import Floats
from robustbench_spur.types import SpurbenchError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

Codes = NDArray[np.int64]

SPREAD = 30.0
"""Largest difference of two logits that netcal is given: its probabilities keep it to about 1e-3."""


@dataclass(frozen=True)
class Scaled:
    """What a map made of the examples.

    Args:
        probabilities: shape (n, classes), rows sum to 1; None where there is no map.
        parameters: of the map: the temperature; or weights, then biases; empty for a step function.
        reason: why there is no map.
    """

    probabilities: Floats | None
    parameters: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What is fitted to, and what is mapped.

    Args:
        logits: to fit to, float64 of shape (m, classes).
        labels: to fit to, shape (m,); every class is there.
        target: logits to map, float64 of shape (n, classes).
        names: of the classes.
    """

    logits: Floats
    labels: Codes
    target: Floats
    names: Sequence[str]
    divisor: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "divisor", max(1.0, float(np.ptp(self.logits, axis=1).max()) / SPREAD))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def given(self) -> Floats:
        """Probabilities of the examples to fit to, logits divided, shape (m, classes)."""
        return np.exp(log_softmax(self.logits / self.divisor))

    def wanted(self) -> Floats:
        """Probabilities of the examples to map, logits divided, shape (n, classes)."""
        return np.exp(log_softmax(self.target / self.divisor))


def scale(name: str, logits: NDArray[Any], labels: Codes, target: NDArray[Any], names: Sequence[str]) -> Scaled:
    """Fit a map on some examples, and apply it to others.

    No random number is drawn: the same examples give the same map, whatever the state of any generator.

    Args:
        name: one of :data:`MAPS`.
        logits: to fit to, shape (m, classes).
        labels: to fit to, shape (m,).
        target: logits to map, shape (n, classes).
        names: of the classes.

    Raises:
        SpurbenchError: no map has this name.
    """
    if name not in MAPS:
        raise SpurbenchError(f"Unknown scaling {name!r}. {nearest(name, list(MAPS))}")
    absent = [one for code, one in enumerate(names) if not (labels == code).any()]
    if len(names) < 2:
        return Scaled(None, reason="there is one class only")
    if absent:
        missing = f"no example of {', '.join(absent)}" if len(labels) else "no examples"
        return Scaled(None, reason=f"validation has {missing}")
    return MAPS[name](Task(logits.astype(np.float64), labels, target.astype(np.float64), names))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence: netcal prints, and calls what its own libraries deprecate."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _temperature(task: Task) -> Scaled:
    true = task.logits[np.arange(len(task.labels)), task.labels]
    if (true >= task.logits.max(axis=1)).all():
        return Scaled(None, reason="every validation example is right: the likelihood has no maximum")
    with _quiet():
        from netcal.scaling import TemperatureScaling

        given = task.given()
        fitted = TemperatureScaling().fit(given[:, 1] if task.classes == 2 else given, task.labels, tensorboard=False)
    inverse = float(fitted.weights[0]) / task.divisor
    # below a slope of 1e-6 per divided logit the optimiser only failed to reach zero
    if not inverse * task.divisor > 1e-6:
        return Scaled(None, reason="on validation the likelihood falls with confidence: no temperature above zero fits")
    return Scaled(np.exp(log_softmax(task.target * inverse)), (1 / inverse,))


def _platt(task: Task) -> Scaled:
    if task.classes != 2:
        return Scaled(None, reason=f"defined for two classes, the split has {task.classes}")
    margin = task.logits[:, 1] - task.logits[:, 0]
    positive = task.labels == 1
    if _separated(margin, positive) or _separated(-margin, positive):
        return Scaled(None, reason="one logit difference separates validation's classes: the likelihood has no maximum")
    with _quiet():
        from netcal.scaling import LogisticCalibration

        fitted = LogisticCalibration().fit(task.given()[:, 1], task.labels, tensorboard=False)
    weight, bias = float(fitted.weights[0]) / task.divisor, float(fitted.intercept[0])
    scaled = weight * (task.target[:, 1] - task.target[:, 0]) + bias
    return Scaled(np.exp(log_softmax(np.stack([np.zeros_like(scaled), scaled], axis=1))), (weight, bias))


def _vector(task: Task) -> Scaled:
    from scipy.optimize import minimize

    rows, size = np.arange(len(task.labels)), float(task.logits.std()) or 1.0
    logits = task.logits / size

    def loss(theta: Floats) -> tuple[float, Floats]:
        log_p = log_softmax(logits * theta[: task.classes] + theta[task.classes :])
        error = np.exp(log_p)
        error[rows, task.labels] -= 1
        slope = np.concatenate([(error * logits).mean(axis=0), error.mean(axis=0)])
        return float(-log_p[rows, task.labels].mean()), slope

    start = np.repeat([size, 0.0], task.classes)
    options = {"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    if found.fun * len(rows) < np.log(2):  # an example on the wrong side costs log 2 or more
        return Scaled(None, reason="weights separate validation's classes: the likelihood has no maximum")
    weights, biases = found.x[: task.classes] / size, found.x[task.classes :]
    parameters = tuple(float(value) for value in (*weights, *biases))
    return Scaled(np.exp(log_softmax(task.target * weights + biases)), parameters)


def _beta(task: Task) -> Scaled:
    with _quiet():
        from netcal.scaling import BetaCalibration

    def one(given: Floats, positive: NDArray[np.bool_], wanted: Floats) -> tuple[Floats, tuple[float, ...]]:
        with _quiet():
            fitted = BetaCalibration().fit(given, positive.astype(np.int64), tensorboard=False)
            mapped = np.asarray(fitted.transform(wanted), np.float64).reshape(len(wanted))
        sites = fitted._sites  # it has no public name for the bias of a beta map
        return mapped, tuple(float(value) for key in ("weights", "bias") for value in sites[key]["values"])

    for code in [1] if task.classes == 2 else range(task.classes):
        if _separated(task.given()[:, code], task.labels == code):
            reason = f"its probability separates {task.names[code]} on validation: the likelihood has no maximum"
            return Scaled(None, reason=reason)
    return _against_the_rest(task, one)


def _isotonic(task: Task) -> Scaled:
    with _quiet():
        from netcal.binning import IsotonicRegression

    def one(given: Floats, positive: NDArray[np.bool_], wanted: Floats) -> tuple[Floats, tuple[float, ...]]:
        with _quiet():
            fitted = IsotonicRegression().fit(given, positive.astype(np.int64))
            return np.asarray(fitted.transform(wanted), np.float64).reshape(len(wanted)), ()

    return _against_the_rest(task, one)


One = Callable[[Floats, NDArray[np.bool_], Floats], tuple[Floats, tuple[float, ...]]]


def _against_the_rest(task: Task, one: One) -> Scaled:
    """Map class 1 of two, or else each class against the rest."""
    given, wanted = task.given(), task.wanted()
    if not len(wanted):
        return Scaled(wanted)
    if task.classes == 2:
        mapped, parameters = one(given[:, 1], task.labels == 1, wanted[:, 1])
        return Scaled(np.stack([1 - mapped, mapped], axis=1), parameters)
    each = [one(given[:, k], task.labels == k, wanted[:, k]) for k in range(task.classes)]
    mapped = np.stack([column for column, _ in each], axis=1)
    total = mapped.sum(axis=1, keepdims=True)
    shares = np.divide(mapped, total, out=np.full_like(mapped, 1 / task.classes), where=total > 0)
    return Scaled(shares, tuple(value for _, parameters in each for value in parameters))


def _separated(score: Floats, positive: NDArray[np.bool_]) -> bool:
    """Whether no negative example scores above a positive one, and some below."""
    low, high = score[~positive], score[positive]
    return bool(low.max() <= high.min() and low.min() < high.max())


MAPS: dict[str, Callable[[Task], Scaled]] = {
    "temperature": _temperature,
    "vector": _vector,
    "platt": _platt,
    "beta": _beta,
    "isotonic": _isotonic,
}
"""All maps, by name."""
