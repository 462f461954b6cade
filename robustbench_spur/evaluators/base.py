"""What an evaluator is: a pure function from predictions, under any resampling of the patients, to numbers.

One definition serves four uses: the point estimate (every patient once), the interval (2,000 resamples), the
mean over seeds and the paired comparison of two methods (the same resamples for all of them).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from robustbench_spur.evaluators.finding import Finding as Finding
from robustbench_spur.evaluators.metric import Metric as Metric
from robustbench_spur.evaluators.subject import Part as Part
from robustbench_spur.evaluators.subject import Picture as Picture
from robustbench_spur.evaluators.subject import Subject as Subject
from robustbench_spur.types import Estimate, Groups, SpurbenchError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What a model said about one partition, and what is true of it.

    Args:
        ids: example ids, shape (n,).
        labels: class codes, shape (n,).
        attributes: attribute codes, shape (n,).
        clusters: patient of each example, shape (n,).
        logits: shape (n, classes), float32.
        groups: the declared universe, of this partition: groups that its design leaves out are not in it.
        arrays: further arrays that evaluators collected from the model, by name.
        conflict: indices of the groups that training contradicts: see :func:`~robustbench_spur.types.conflict_groups`;
            empty where it has no association, or none is known.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]
    clusters: NDArray[np.str_]
    logits: NDArray[np.float32]
    groups: Groups
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    conflict: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.groups.classes))
        if self.logits.shape != expected:
            raise SpurbenchError(f"Expected logits of shape {expected} (examples, classes), found {self.logits.shape}.")
        if not np.isfinite(self.logits).all():
            row = int(np.flatnonzero(~np.isfinite(self.logits).all(axis=1))[0])
            raise SpurbenchError(
                f"Expected finite logits, found {self.logits[row].tolist()} for {str(self.ids[row])!r}."
            )
        if self.groups.members is not None:
            # refused here rather than in some evaluator: an example of a group that is not in the universe
            _ = self.group

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def probabilities(self) -> Floats:
        """Softmax of the logits in float64, shape (n, classes)."""
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        exponent = np.exp(shifted)
        return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the larger logit (the lower code where they are equal), shape (n,)."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the true one, shape (n,)."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Group index of each example, shape (n,)."""
        return self.groups.index(self.labels, self.attributes)

    def group_sizes(self) -> Iterator[tuple[str, int, int]]:
        """Name, examples and patients of every declared group, in index order."""
        for place, name in enumerate(self.groups.names):
            rows = self.group == place
            yield name, int(np.count_nonzero(rows)), len(np.unique(self.patient[rows]))

    def take(self, rows: NDArray[np.int64]) -> Predictions:
        """Some of the rows, in the order given; what evaluators collected is left behind."""
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            attributes=self.attributes[rows],
            clusters=self.clusters[rows],
            logits=self.logits[rows],
            arrays={},
        )

    @cached_property
    def points(self) -> dict[Evaluator, Mapping[str, float]]:
        """What :meth:`Evaluator.points` found of these predictions, by the evaluator; it looks here first."""
        return {}

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """The distinct patients, sorted, shape (patients,)."""
        return np.unique(self.clusters)

    @cached_property
    def patient(self) -> NDArray[np.int64]:
        """Position in :attr:`patients` of each example's patient, shape (n,)."""
        return np.searchsorted(self.patients, self.clusters)


class EvaluatorParameters(BaseModel):
    """Base of an evaluator's settings. Unknown names, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Evaluator:
    """A plugin that measures. Subclass it in one file; the literals are read without running that file.

    Attributes:
        name: unique, lower case.
        version: integer, raised whenever its numbers can change.
        summary: one line for ``list``.
        source: where the definition comes from.
        metrics: definition of every metric; a key that ends in ``:`` stands for a family, a member per group or value.
        collects: names of the arrays that :meth:`collect` adds; empty where predictions suffice.
        partitions: the partitions it is computed on.
        reads: other partitions that :meth:`collect` looks at, such as the training set for a probe.
        requires: what the data set must be able to render, by the names of :meth:`Dataset.scenes`. Where it cannot, or lacks a
            partition of ``reads``, the evaluator is left out, and the record says why.
        on_features: whether it can do without the model where the last layer's input is given beside the predictions.
        keeps: metrics that keep something of all patients under resampling, such as the edges of their bins, by name or family.
        quick: settings with which it can be tried in seconds; the conformance kit uses them.
        costly: whether it takes minutes rather than seconds: an audit then leaves it out unless it is asked for.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    metrics: ClassVar[Mapping[str, Metric]]
    collects: ClassVar[tuple[str, ...]] = ()
    partitions: ClassVar[tuple[str, ...]] = ("test",)
    reads: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    on_features: ClassVar[bool] = False
    keeps: ClassVar[tuple[str, ...]] = ()
    quick: ClassVar[Mapping[str, Any]] = {}
    costly: ClassVar[bool] = False
    Parameters: ClassVar[type[EvaluatorParameters]] = EvaluatorParameters

    def __init__(self, parameters: EvaluatorParameters | None = None) -> None:
        self.parameters: Any = parameters if parameters is not None else self.Parameters()

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Arrays that need more than the predictions (attacks, probes, ...); run once per cell and kept with them.

        Args:
            subject: the model, the images and clean predictions of the partition, and what ``reads`` and ``requires`` name.

        Returns:
            The arrays named in :attr:`collects`.
        """
        return {}

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """Every metric under every resampling.

        Args:
            predictions: of one partition.
            counts: how often each patient was drawn, shape (resamples, patients), in the order of
                ``predictions.patients``. A row of ones gives the point estimate.

        Returns:
            For each metric an array of shape (resamples,); NaN where it is undefined under that resampling.
        """
        raise NotImplementedError

    def measure_only(self, predictions: Predictions, counts: Floats, metrics: Collection[str]) -> dict[str, Floats]:
        """Some metrics under every resampling, each of shape (resamples,): what :meth:`measure` gives under their names.

        Override it where that is faster than measuring all: a board needs a few metrics of thousands of predictions, and
        ranking many methods takes tens of thousands of resamplings of one.

        Args:
            predictions: of one partition.
            counts: see :meth:`measure`.
            metrics: names, members of families in full.
        """
        every = self.measure(predictions, counts)
        return {name: every[name] for name in metrics}

    def quotient(self, predictions: Predictions, metric: str) -> Floats | None:
        """Of a metric that is a quotient of two sums over patients: what each adds to both, shape (patients, 2).

        A column that ranks should have them: the sums of many resamplings of several models are then one product of matrices.
        None for any other metric.
        """
        return None

    def points(self, predictions: Predictions) -> Mapping[str, float]:
        """Every metric on the patients themselves, NaN where undefined; measured once for the same predictions."""
        if self not in predictions.points:
            every = self.measure(predictions, np.ones((1, len(predictions.patients))))
            predictions.points[self] = {name: float(values[0]) for name, values in every.items()}
        return predictions.points[self]

    def support(self, predictions: Predictions) -> dict[str, int]:
        """Number of patients behind each metric that is a mean over patients or examples, for exact intervals at 0 and 1."""
        return {}

    def shares(self, predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
        """Of each metric that is a share of right examples: which examples, as a mask of shape (n,).

        Where each of them is a patient of its own, the metric has Wilson's interval.
        """
        return {}

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """What belongs to the numbers but has no interval: group tables, curves, definitions. JSON values only.

        The key ``undefined``, where there is one, says why each undefined metric is, by its name.
        """
        return {}

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """What the numbers say in words, for somebody with a model and doubts; shown by an audit.

        Every sentence must follow from metrics of this evaluator, which it names.

        Args:
            predictions: that were measured.
            estimates: of every metric, by name.
        """
        return []

    def pictures(self, subject: Subject) -> list[Picture]:
        """Pictures for an audit's page, of images and of the arrays that this evaluator collected; few and small."""
        return []

    def cross_check(self, predictions: Predictions) -> dict[str, float | None]:
        """The same quantities from independent libraries, to stand beside ours in the record. May import torch."""
        return {}


def check_rows(
    labels: NDArray[Any],
    attributes: NDArray[Any],
    clusters: NDArray[Any],
    ids: NDArray[Any],
    groups: Groups,
    count: int,
) -> None:
    """Check columns that come from a user before they become :class:`Predictions`.

    Raises:
        SpurbenchError: lengths differ, ids repeat, or codes are no whole numbers of the declared range.
    """
    for what, column in (("labels", labels), ("attributes", attributes), ("patients", clusters), ("ids", ids)):
        if column.shape != (count,):
            raise SpurbenchError(f"Expected {what} of shape ({count},), as many as logits, found {column.shape}.")
    if len(np.unique(ids)) != count:
        raise SpurbenchError(f"Expected unique ids, found {count - len(np.unique(ids))} repeated.")
    for what, codes, names in (("label", labels, groups.classes), ("attribute", attributes, groups.values)):
        whole = codes.dtype.kind in "iub" or (codes.dtype.kind == "f" and bool((codes == np.floor(codes)).all()))
        if not whole:
            raise SpurbenchError(f"Expected whole {what} codes, found {codes.dtype}.")
        if count and not (codes.min() >= 0 and codes.max() < len(names)):
            raise SpurbenchError(f"Expected {what} codes 0 to {len(names) - 1}, found {codes.min()} to {codes.max()}.")
