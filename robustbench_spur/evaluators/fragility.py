"""How much of a network's fragility is the lesion, and how much of it is the shortcut's?

Where the change lies. Of examples that show a lesion and are right, PGD finds the small change that does most harm. A
network that decides by the lesion is misled at the lesion; one that decides by something else is misled there.

    share(d) = sum over pixels of m d^2 / sum of d^2        m: how much of the pixel the lesion fills, d: the change
    ratio    = mean share / mean share of the image that lesions fill;  1: as much as if the lesion were any other place

The same of the gradient at the clean image in place of the change. The change is measured in L2, from the clean image, for
all steps: in L-infinity nearly every pixel moves by the whole radius, a random start moves all of them, and either
would bring any network near 1.

Whether it transfers. For every attribute value a and class y one universal change is made that misleads examples of y at
a, and added to the examples of y at every value b.

    accuracy(a, b) = mean over classes of the share of examples of y at b that are right, with a's change and without
    gap            = mean over b and a other than b of accuracy(a, b) - accuracy(b, b)

A network that looks at the same thing at both values is misled by the same change, and the gap is about 0. For one that
reads the attribute, what misleads at a value is what the other value looks like, and adds nothing there. A change meets
patients whom it was not made on: patients are halved, and each half meets the other half's.

Source: Madry et al., ICLR 2018 (PGD); Moosavi-Dezfooli et al., CVPR 2017, and Shafahi et al., AAAI 2020 (universal
changes); the share as in the energy-based pointing game of Wang et al., Score-CAM, CVPR Workshops 2020. Deviations: the
energy of a change in place of a saliency map's sum; transfer between attribute values in place of between networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, field_validator

from robustbench_spur.attack import as_floats, attackable
from robustbench_spur.attack.ball import Ball
from robustbench_spur.attack.pursuit import pursue, slope
from robustbench_spur.attack.subset import as_number, balanced_subset, check_inputs, check_model, halves
from robustbench_spur.attack.tools import logits_of, noise_seed, seeded
from robustbench_spur.attack.universal import moved, universal
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Finding,
    Floats,
    Metric,
    Predictions,
    Subject,
)
from robustbench_spur.evaluators.fragility_report import NOT_MADE, Report
from robustbench_spur.evaluators.scenes import rows_of_blocks
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, ratio
from robustbench_spur.types import Estimate, SpurbenchError


class Fragility(Evaluator):
    """Where adversarial changes lie, and whether they transfer between attribute values."""

    name = "fragility"
    version = 1
    summary = "how much of the adversarial change lies in the lesion, and whether it transfers between attribute values"
    source = "Madry et al., ICLR 2018; Moosavi-Dezfooli et al., CVPR 2017"
    partitions = ("test",)
    requires = ("lesion",)
    collects = (
        "fragility_rows",
        "fragility_area",
        "fragility_change",
        "fragility_gradient",
        "fragility_transferred",
        "fragility_random",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "fragility_share": Metric(
            "Of right examples that show a lesion: mean share of the energy of PGD's change that lies in the lesion.",
            better="neither",
        ),
        "fragility_share_in:": Metric("The same share of one declared group's examples.", better="neither"),
        "fragility_ratio": Metric(
            "Of right examples that show a lesion: mean share of the energy of PGD's change that lies in the lesion, divided "
            "by the mean share of the image that the lesion fills; 1 is chance.",
            high=float("inf"),
            better="neither",
        ),
        "fragility_ratio_in:": Metric(
            "The same ratio of one declared group's examples.", high=float("inf"), better="neither"
        ),
        "fragility_gradient_ratio": Metric(
            "The same ratio of the squared gradient at the clean image; 1 is chance.",
            high=float("inf"),
            better="neither",
        ),
        "fragility_gradient_ratio_in:": Metric(
            "The same ratio of the gradient of one declared group's examples.", high=float("inf"), better="neither"
        ),
        "fragility_transfer:": Metric(
            "Mean over classes of the share of examples at the second attribute value that are right without and with the "
            "universal change made at the first, on other patients."
        ),
        "fragility_transfer_gap": Metric(
            "Mean accuracy under the universal changes of other attribute values minus that under those of the own value; 0: "
            "they do as much harm.",
            low=-1.0,
            better="neither",
        ),
    }

    class Parameters(EvaluatorParameters):
        """The changes, and whom they meet."""

        model_config = ConfigDict(validate_default=True)

        norm: Literal["l2", "linf"] = parameter("l2", "norm of PGD's change; of linf the ratio says little")
        radius: float = parameter(0.5, "of PGD's change, for images in [0, 1]", above=0, at_most=1000)
        steps: int = parameter(10, "steps of PGD", at_least=1, at_most=10_000)
        relative_step: float = parameter(2.5, "length of all steps together, in radii", above=0, at_most=1000)
        universal_radius: float = parameter(
            "8/255", "largest change of a pixel by a universal change", above=0, at_most=1
        )
        universal_steps: int = parameter(20, "steps of a universal change", at_least=1, at_most=10_000)
        examples: int = parameter(400, "size of the subset, shared equally by the declared groups", at_least=1)
        batch_size: int = parameter(100, "images attacked at once", at_least=1)
        seed: int = parameter(2025, "of the subset, of the halves and of the random change", at_least=0)

        @field_validator("radius", "universal_radius", mode="before")
        @classmethod
        def _as_number(cls, value: Any) -> Any:
            return as_number(value)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Attack the subset. See :meth:`Evaluator.collect`.

        The model's flags and torch's random state are given back as they were.

        Returns:
            ``fragility_rows``, the subset's rows in the partition, ascending, int64 of shape (m,); ``fragility_area``, the
            share of the image that the lesion fills, ``fragility_change`` and ``fragility_gradient``, the shares of
            energy in it, float64 of shape (m,), NaN where there is no lesion, the example is wrong, or nothing changes;
            ``fragility_transferred``, 1 where the example is right without and with the universal change of its class
            made at each value, else 0, or 2 where none could be made, uint8 of shape (m, values); ``fragility_random``,
            the same with a change of random signs, shape (m,).

        Raises:
            SpurbenchError: images or masks of another type, number or size, a model that did not make these predictions,
                gradients or logits that are NaN.
        """
        images, predictions, own = subject.images, subject.predictions, self.parameters
        check_inputs(images, predictions, self.name)
        rows = np.sort(balanced_subset(predictions, own.examples, own.seed))
        masks = _masks(subject, rows)
        area = masks.mean(axis=(1, 2, 3), dtype=np.float64) if len(rows) else np.zeros(0)
        change, gradient = (np.full(len(rows), np.nan) for _ in range(2))
        transferred = np.full((len(rows), len(predictions.groups.values)), NOT_MADE, np.uint8)
        random = np.zeros(len(rows), np.uint8)
        shown = np.flatnonzero((area > 0) & predictions.correct[rows])
        sources = self._sources(predictions, rows)
        total, done = len(shown) + len(sources), 0
        with attackable(subject.model, _device(subject)):
            for part in _batches(shown, own.batch_size):
                change[part], gradient[part] = self._shares(subject, rows[part], masks[part])
                done += len(part)
                subject.progress(done, total)
            for value, fitted, met in sources:
                transferred[met, value] = self._under(subject, rows, fitted, met)
                done += 1
                subject.progress(done, total)
            for number, half in enumerate(halves(predictions, rows, own.seed)):
                random[half] = self._under_random(subject, rows[half], number)
        where = np.where(area > 0, area, np.nan)
        return dict(zip(self.collects, (rows, where, change, gradient, transferred, random), strict=True))

    def _shares(self, subject: Subject, rows: NDArray[np.int64], masks: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Shares of the energy of PGD's change and of the gradient that lie in the lesion, each of shape (b,)."""
        own, clean, labels = self.parameters, *_batch(subject, rows)
        check_model(subject.model, clean, subject.predictions, rows)
        ball, length = Ball(own.norm, own.radius), own.relative_step * own.radius / own.steps
        found = pursue(
            subject.model, clean, labels, ball, length=length, steps=own.steps, random_start=False, drop=False
        )
        ball.check(found.images, clean)
        at = clean.detach().requires_grad_(True)
        return _share(found.images - clean, masks), _share(slope(subject.model(at), at, labels), masks)

    def _sources(
        self, predictions: Predictions, rows: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Value, positions in ``rows`` that a universal change is made on, and positions that meet it."""
        labels, attributes, right = (
            column[rows] for column in (predictions.labels, predictions.attributes, predictions.correct)
        )
        out = []
        for half in halves(predictions, rows, self.parameters.seed):
            for label in range(len(predictions.groups.classes)):
                met = np.flatnonzero(~half & (labels == label))
                for value in range(len(predictions.groups.values)):
                    fitted = np.flatnonzero(half & (labels == label) & (attributes == value) & right)
                    if len(fitted) and len(met):
                        out.append((value, fitted, met))
        return out

    def _under(
        self, subject: Subject, rows: NDArray[np.int64], fitted: NDArray[np.int64], met: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of the examples that meet it are right without and with the change made on others, shape (met,)."""
        own, (clean, labels) = self.parameters, _batch(subject, rows[fitted])
        radius = own.universal_radius
        length = own.relative_step * radius / own.universal_steps
        settings = {"radius": radius, "length": length, "steps": own.universal_steps, "batch": own.batch_size}
        change = universal(subject.model, clean, labels, **settings)
        return self._right(subject, rows[met], change)

    def _under_random(self, subject: Subject, rows: NDArray[np.int64], half: int) -> NDArray[np.bool_]:
        """Which examples are right without and with a change of random signs, the same for a half of the patients."""
        import torch

        if not len(rows):
            return np.zeros(0, np.bool_)
        radius, device = self.parameters.universal_radius, _device(subject)
        shape = (1, *subject.images.shape[1:])
        # drawn on the processor, so that it does not depend on the device
        with seeded(noise_seed(self.parameters.seed, radius, half), torch.device("cpu")):
            signs = torch.randint(0, 2, shape).float() * 2 - 1
        return self._right(subject, rows, radius * signs.to(device))

    def _right(self, subject: Subject, rows: NDArray[np.int64], change: Any) -> NDArray[np.bool_]:
        """Which examples are right without and with a change, shape (b,)."""
        right = subject.predictions.correct[rows]
        for part in _batches(np.flatnonzero(right), self.parameters.batch_size):
            clean, _ = _batch(subject, rows[part])
            said = logits_of(subject.model, moved(clean, change)).argmax(axis=1)
            right[part] = said == subject.predictions.labels[rows[part]]
        return np.asarray(right)

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`; a member ``3T:1.5T`` of the transfer is made at 3T and met at 1.5T.

        Universal changes are kept as they are under resampling.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions and the parameters.
        """
        return self._report(predictions).measure(check_counts(counts, len(predictions.patients)))

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients of the shares, and of the accuracies under universal changes."""
        return self._report(predictions).support()

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """Shares, and the accuracies under universal changes beside those without and under random signs.

        Returns:
            ``definition`` in words; ``examples`` in the subset, and ``lesions``, those of them whose energy is known;
            ``shares``, a row for all and for each declared group: group, examples, area, change, gradient (means);
            ``transfer``, a row per value b: met_at, clean, random, and ``made_at``, accuracies by value a; ``undefined``
            (why, by metric).
        """
        return self._report(predictions).details()

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether what misleads it lies in the lesion, and whether it is the same at all attribute values."""
        return self._report(predictions).findings(estimates)

    def _report(self, predictions: Predictions) -> Report:
        """The collected arrays, after checking that they fit the predictions and the parameters."""
        missing = [name for name in self.collects if name not in predictions.arrays]
        if missing:
            raise SpurbenchError(f"Evaluator 'fragility' needs the arrays {missing}, which these predictions lack.")
        arrays = {name.removeprefix("fragility_"): np.asarray(predictions.arrays[name]) for name in self.collects}
        return Report(self.parameters, predictions, arrays)


def _device(subject: Subject) -> Any:
    import torch

    return torch.device(subject.device)


def _batch(subject: Subject, rows: NDArray[np.int64]) -> tuple[Any, Any]:
    """Images and labels of some rows, as tensors on the model's device."""
    import torch

    device = _device(subject)
    return as_floats(subject.images, rows, device), torch.from_numpy(subject.predictions.labels[rows]).to(device)


def _batches(positions: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _masks(subject: Subject, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """How much of each pixel the lesion fills, of the rows, float32 of shape (m, 1, height, width); no others are kept."""
    size, start = subject.images.shape[2:], 0
    kept = [np.zeros((0, 1, *size), np.float32)]
    wanted = np.isin(np.arange(len(subject.predictions)), rows)
    for block in rows_of_blocks(subject.scene("lesion"), (len(wanted), 1, *size), "lesion masks"):
        kept.append(np.asarray(block[wanted[start : start + len(block)]], np.float32))
        start += len(block)
    return np.concatenate(kept)


def _share(change: Any, masks: NDArray[np.float32]) -> Floats:
    """Share of the energy of each change that lies in its lesion, shape (b,); NaN where there is none."""
    energy = np.square(change.detach().cpu().numpy().astype(np.float64)).sum(axis=1, keepdims=True)
    inside, total = (energy * masks).sum(axis=(1, 2, 3)), energy.sum(axis=(1, 2, 3))
    return ratio(inside, total)
