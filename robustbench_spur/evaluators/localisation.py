"""Does the model look at the lesion? Saliency inside its outline, the pointing game, and relevance outside the body.

Slices that show a lesion (its mask is not empty) are explained whether the model calls them right or wrong: of every
declared group as many, those whose hashed ids come first. Two maps of each (see :mod:`robustbench_spur.saliency`) say where
the lead of the true class comes from; their positive part is the relevance r, over pixels p, with the lesion's share m of
each pixel and the body b:

    relevance in the lesion    = sum m_p r_p / sum r_p
    relevance ratio            = mean of that / mean share of the image that the lesion fills; 1 is chance
    pointing game              = whether the largest r lies on the lesion, within a tolerance
    relevance outside the body = sum (1 - b_p) r_p / sum r_p

A slice of which nothing is relevant to the true class is left out of the four and counted. A map explains one answer and
does not prove what the model needs: read it beside the intervention that takes the lesion away.

Source: Selvaraju et al., ICCV 2017; Sundararajan, Taly and Yan, ICML 2017; Zhang et al., International Journal of Computer
Vision 126, 2018, section 4.1 (pointing game). Deviations: outlines take the place of boxes, and the tolerance is 2 pixels of
64, where Zhang et al. have 15 of about 500; of tied maxima the share that hits counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur import relevance, saliency
from robustbench_spur.attack import as_floats, attackable
from robustbench_spur.attack.subset import check_model
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Floats,
    Metric,
    Picture,
    Predictions,
    Subject,
)
from robustbench_spur.evaluators.scenes import rows_of_blocks
from robustbench_spur.evaluators.worst_group import distinct_patients
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, group_means, ratio
from robustbench_spur.types import SpurbenchError, finite

METHODS = ("grad_cam", "integrated_gradients")
MEASURES = ("relevance_in_lesion", "pointing_game", "relevance_outside_body")
"""Columns of the collected numbers, those of :func:`~robustbench_spur.relevance.placed`; those of chance are a flat map's."""
IN_LESION = 0
SHOWN = 8
"""Examples at most whose maps are kept."""


class Localisation(Evaluator):
    """Where the reasons for "tumour" lie: in the lesion, at its outline, or outside the body.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T", "1.5T"))
    >>> ids, said = np.array(list("ab")), np.array([[0, 2], [0, 2]], np.float32)
    >>> half = np.array([[[0.5, 1.0, 0.0]] * 2, [[0.1, 0.0, 0.2]] * 2])  # one map in the lesion by half, one by a tenth
    >>> arrays = {"localisation_rows": np.arange(2), "localisation_values": half}
    >>> arrays |= {"localisation_chance": np.array([[0.05, 0.1, 0.4]] * 2), "localisation_reasons": np.array(["", ""])}
    >>> predictions = Predictions(ids, np.ones(2, int), np.array([0, 1]), ids, said, groups, arrays)
    >>> numbers = Localisation().measure(predictions, np.ones((1, 2)))
    >>> [round(numbers[f"{name}:grad_cam"].item(), 3) for name in ("relevance_in_lesion", "relevance_ratio")]
    [0.3, 6.0]
    """

    name = "localisation"
    version = 1
    summary = "where the reasons lie: saliency in the lesion, the pointing game, relevance outside the body"
    source = "Zhang et al., International Journal of Computer Vision 2018; Selvaraju et al., ICCV 2017"
    partitions = ("test",)
    requires = ("lesion",)
    collects = (
        "localisation_rows",
        "localisation_values",
        "localisation_chance",
        "localisation_reasons",
        "localisation_shown",
        "localisation_maps",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "relevance_in_lesion:": Metric(
            "Of slices that show a lesion: mean share of the positive relevance to the true class that lies in the lesion."
        ),
        "relevance_ratio:": Metric(
            "Mean share of the positive relevance that lies in the lesion, divided by the mean share of the image that the "
            "lesion fills; 1 is chance.",
            high=float("inf"),
        ),
        "pointing_game:": Metric(
            "Of slices that show a lesion: share whose largest relevance lies on the lesion, within a tolerance."
        ),
        "relevance_outside_body:": Metric(
            "Of slices that show a lesion: mean share of the positive relevance that lies outside the body.",
            better="lower",
        ),
    }

    class Parameters(EvaluatorParameters):
        """Which slices are explained, and how finely."""

        examples_per_group: int = parameter(50, "slices with a lesion that are explained in each group", at_least=1)
        steps: int = parameter(16, "points of the integral of integrated gradients", at_least=1, at_most=1000)
        tolerance: float = parameter(2.0, "of the pointing game, in pixels", at_least=0)
        batch_size: int = parameter(
            50, "images explained at once; but for rounding no number depends on it", at_least=1
        )
        seed: int = parameter(2025, "of the choice of slices", at_least=0)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """Explain slices that show a lesion. See :meth:`Evaluator.collect`.

        Returns:
            ``localisation_rows``, the slices' rows in the partition, ascending, int64 of shape (m,);
            ``localisation_values``, float32 of shape (m, methods, 3), the columns of :data:`MEASURES`, NaN where nothing is
            relevant; ``localisation_chance``, the same of a map that is equal everywhere, float32 of shape (m, 3);
            ``localisation_reasons``, why a method is not defined for the network, or empty, shape (methods,);
            ``localisation_shown``, rows of at most 8 slices, int64 of shape (k,), and ``localisation_maps``, uint8 of shape
            (k, 1 + methods, height, width): the lesion, and each method's relevance, its largest 255.

        Raises:
            SpurbenchError: images or masks of another number or size, a model that did not make these predictions.
        """
        predictions, images = subject.predictions, subject.images
        if len(images) != len(predictions):
            raise SpurbenchError(f"Expected {len(predictions)} images, as many as predictions, found {len(images)}.")
        order = _order(predictions, self.parameters.seed)
        masks = _lesions(subject, order, self.parameters.examples_per_group)
        rows = np.array(sorted(masks), np.int64)
        shown = _spread(rows, predictions.group, order)
        values, chance = np.full((len(rows), len(METHODS), 3), np.nan), np.zeros((len(rows), 3))
        maps = np.zeros((len(shown), 1 + len(METHODS), *images.shape[2:]), np.uint8)
        reasons = np.zeros(len(METHODS), "U200")
        for start, part, found, why in self._explained(subject, rows):
            reasons[:] = why
            lesions = np.stack([masks[row] for row in part])
            bodies = np.stack([relevance.body_mask(grey) for grey in relevance.grey_of(images[part])])
            targets = np.stack([relevance.near(one, self.parameters.tolerance) for one in lesions])
            place = slice(start, start + len(part))
            chance[place] = np.stack([one.mean(axis=(1, 2)) for one in (lesions, targets, ~bodies)], axis=1)
            for column, one in enumerate(found):
                values[place, column] = relevance.placed(one, lesions, targets, bodies)
            for at in np.flatnonzero(np.isin(shown, part)):
                row = int(np.searchsorted(part, shown[at]))
                maps[at] = [relevance.levels_of(one[row]) for one in (lesions, *found)]
            subject.progress(start + len(part), len(rows))
        arrays = (rows, values.astype(np.float32), chance.astype(np.float32), reasons, shown, maps)
        return dict(zip(self.collects, arrays, strict=True))

    def _explained(
        self, subject: Subject, rows: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[np.int64], list[NDArray[np.float32]], tuple[str, str]]]:
        """Start of a batch, its rows, its maps by method (0 where not defined), and why a method is not defined."""
        import torch

        predictions, size, where = subject.predictions, self.parameters.batch_size, torch.device(subject.device)
        one_class = "the split has one class, which leads no other" if len(predictions.groups.classes) < 2 else ""
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            images = as_floats(subject.images, part, where)
            nothing = np.zeros((len(part), *images.shape[2:]), np.float32)
            if one_class:
                yield start, part, [nothing, nothing], (one_class, one_class)
                continue
            true = torch.from_numpy(predictions.labels[part]).to(where)
            with attackable(subject.model, where):
                check_model(subject.model, images, predictions, part)
                last, why = saliency.last_maps(subject.model, images)
                cam = nothing if why else saliency.grad_cam(subject.model, last, images, true)
                found = [cam, saliency.integrated_gradients(subject.model, images, true, self.parameters.steps)]
            yield start, part, found, (why, "")

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per way of explaining.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts = check_counts(counts, len(predictions.patients))
        out: dict[str, Floats] = {}
        rows, values, chance, _ = _collected(predictions)
        for column, method in enumerate(METHODS):
            known = _known(values[:, column])
            patient = predictions.patient[rows][known]
            together = np.zeros_like(patient)
            mean = [group_means(one, patient, together, 1, counts)[:, 0] for one in values[known, column].T]
            area = group_means(chance[known, IN_LESION], patient, together, 1, counts)[:, 0]
            out |= {f"{name}:{method}": one for name, one in zip(MEASURES, mean, strict=True)}
            out[f"relevance_ratio:{method}"] = ratio(mean[IN_LESION], area)
        return out

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients with a slice of which something is relevant."""
        rows, values, _, _ = _collected(predictions)
        out: dict[str, int] = {}
        for column, method in enumerate(METHODS):
            known = np.isin(np.arange(len(predictions)), rows[_known(values[:, column])])
            out |= {f"{name}:{method}": distinct_patients(predictions, known) for name in MEASURES}
        return out

    def pictures(self, subject: Subject) -> list[Picture]:
        """See :meth:`Evaluator.pictures`: the kept slices, each beside its maps, with the lesion's outline."""
        predictions = subject.predictions
        shown, maps = (predictions.arrays[name] for name in ("localisation_shown", "localisation_maps"))
        if not len(shown):
            return []
        slices = relevance.grey_of(subject.images[shown])
        return [
            Picture(
                f"{predictions.ids[row]}, {predictions.groups.names[predictions.group[row]]}, called "
                f"{predictions.groups.classes[predictions.predicted[row]]}: the slice, {' and '.join(METHODS)}, the lesion's "
                "outline",
                relevance.beside(image, own[0], own[1:]),
            )
            for row, image, own in zip(shown.tolist(), slices, maps, strict=True)
        ]

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """What was explained, and the means by group and by right and wrong.

        Returns:
            ``definition`` in words; ``examples`` explained, and ``without_relevance`` among them by method; ``chance``, the
            means of a map that is equal everywhere; ``groups`` and ``predictions``, a row per declared group, and for right
            and wrong ones: its name, examples, and by method the means of :data:`MEASURES` (None where there are none);
            ``undefined`` (why, by metric).
        """
        rows, values, chance, reasons = _collected(predictions)
        group, right = predictions.group[rows], predictions.correct[rows]
        parts = {name: group == g for g, name in enumerate(predictions.groups.names)}
        sides = {"right": right, "wrong": ~right}
        numbers = self.points(predictions)
        return {
            "definition": (
                "positive relevance to the lead of the true class over the largest other logit, on slices that show a lesion, "
                "right or wrong; Grad-CAM of the last feature maps; integrated gradients from black in "
                f"{self.parameters.steps} steps; pointing game within {self.parameters.tolerance:g} pixels; body: above half "
                "of Otsu's threshold after a blur, holes filled, the largest piece; slices without positive relevance are "
                "left out"
            ),
            "examples": len(rows),
            "without_relevance": {
                method: int((~_known(values[:, column])).sum()) for column, method in enumerate(METHODS)
            },
            "chance": _means(chance, np.ones(len(rows), bool)),
            "groups": [{"group": name, **_part(values, mask)} for name, mask in parts.items()],
            "predictions": [{"predictions": name, **_part(values, mask)} for name, mask in sides.items()],
            "undefined": {
                metric: _why_undefined(dict(zip(METHODS, reasons, strict=True))[metric.partition(":")[2]], len(rows))
                for metric, value in numbers.items()
                if np.isnan(value)
            },
        }


def _order(predictions: Predictions, seed: int) -> NDArray[np.int64]:
    """Place of each row in the order of the sha256 of ``seed:id``, shape (n,)."""
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in predictions.ids.tolist()]
    return np.argsort(np.argsort(np.array(keys, dtype=np.str_)))


def _lesions(subject: Subject, order: NDArray[np.int64], most: int) -> dict[int, NDArray[np.float32]]:
    """Masks of the first ``most`` rows of each group that show a lesion, by row, of shape (height, width).

    No more are held at any time, however many slices there are.
    """
    predictions, size = subject.predictions, subject.images.shape[2:]
    kept: dict[int, dict[int, NDArray[np.float32]]] = {g: {} for g in range(len(predictions.groups))}
    row = 0
    for block in rows_of_blocks(subject.scene("lesion"), (len(predictions), 1, *size), "lesion masks"):
        for mask in block[:, 0]:
            if mask.any():
                own = kept[int(predictions.group[row])]
                own[row] = np.array(mask, np.float32)
                if len(own) > most:
                    del own[max(own, key=lambda one: int(order[one]))]
            row += 1
    return {row: mask for own in kept.values() for row, mask in own.items()}


def _spread(rows: NDArray[np.int64], group: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most :data:`SHOWN` of the rows, ascending: the first of each group, the second of each, and so on."""
    ranked = rows[np.argsort(order[rows])]
    turn = np.array([np.count_nonzero(group[ranked[:at]] == group[row]) for at, row in enumerate(ranked)], np.int64)
    return np.sort(ranked[np.argsort(turn, kind="stable")][:SHOWN])


def _known(values: Floats) -> NDArray[np.bool_]:
    """Slices of which something is relevant, shape (m,), from values of shape (m, 3)."""
    return np.asarray(np.isfinite(values).all(axis=1))


def _means(values: Floats, mask: NDArray[np.bool_]) -> dict[str, float | None]:
    """Means of the columns of :data:`MEASURES` over some rows; None where there are none."""
    if not mask.any():
        return dict.fromkeys(MEASURES)
    return {name: finite(one) for name, one in zip(MEASURES, values[mask].mean(axis=0), strict=True)}


def _part(values: Floats, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Number of some slices, and their means by method."""
    by_method = {m: _means(values[:, c], mask & _known(values[:, c])) for c, m in enumerate(METHODS)}
    return {"examples": int(mask.sum()), **by_method}


def _why_undefined(reason: str, examples: int) -> str:
    if not examples:
        return "no slice shows a lesion"
    return reason or "the lead of the true class rises with nothing in any slice: there is no relevance to place"


def _collected(predictions: Predictions) -> tuple[NDArray[np.int64], Floats, Floats, list[str]]:
    """Rows, values, chance and reasons, after checking that they fit the predictions."""
    names = Localisation.collects[:4]
    missing = [name for name in names if name not in predictions.arrays]
    if missing:
        raise SpurbenchError(
            f"Evaluator 'localisation' needs the arrays {missing}, which these predictions do not have. Collect them."
        )
    rows, values, chance, reasons = (np.asarray(predictions.arrays[name]) for name in names)
    shapes = ((len(rows),), (len(rows), len(METHODS), 3), (len(rows), 3), (len(METHODS),))
    found = tuple(array.shape for array in (rows, values, chance, reasons))
    if found != shapes or rows.dtype.kind not in "iu":
        raise SpurbenchError(f"Expected collected arrays of shapes {shapes}, found {found}. Collect again.")
    if len(rows) and (rows[0] < 0 or rows[-1] >= len(predictions) or (np.diff(rows) <= 0).any()):
        raise SpurbenchError(
            f"Expected localisation_rows in ascending order, from 0 to {len(predictions) - 1} at most."
        )
    return rows, values.astype(np.float64), chance.astype(np.float64), reasons.tolist()
