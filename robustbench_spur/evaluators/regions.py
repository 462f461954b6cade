"""What is left when a region is blanked, or when there is nothing but it: what is left is the shortcut.

The data set gives masks of the lesion and of the body. The model sees every slice in four other forms:

    without lesion   the lesion filled with the mean grey of the body in a ring around it
    without body     the body filled with 0: air is left, with its noise
    only body        the air filled with 0
    only lesion      all but the lesion filled with 0; a slice that has none is black

A pixel belongs to a region where the mask reaches ``threshold``, so low that hardly a grey level of the region is left at
its edge. Accuracy is the mean over the declared groups, or the worst of them. On a test set without the tie, a model that
reads the attribute alone has an accuracy of chance, whatever is blanked. What shows it is the agreement with the shortcut:
the share of predictions that are the class tied to the example's attribute value, as a mean over the declared groups:

    agreement = 1/4 sum over groups (y, a) of the share predicted as the class tied to a

which is 0.5 for a constant and a perfect model on any set, about 0.5 for a random one, and 1 for one that reads the attribute.

Blanked images are unlike those of training. A low accuracy may come of that, and so may a model that calls nearly all of them
the same: its agreement is then 0.5 whatever it reads, and tells nothing. Scores are no way out: where all else is blanked the
faintest trace of the attribute orders them, one that never decides included.

Source: the project's own, after Maguolo and Nanni, A Critic Evaluation of Methods for COVID-19 Automatic Detection from
X-ray Images, Information Fusion 76, 2021 (the centre of radiographs, with most of the lungs, made black). Deviations: there
networks are trained on such images; here the model is as it was trained, and sees them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.attack.subset import some_of_each_group
from robustbench_spur.evaluators.base import (
    Evaluator,
    EvaluatorParameters,
    Finding,
    Floats,
    Metric,
    Predictions,
    Subject,
)
from robustbench_spur.evaluators.blanking import VIEWS, blanked, in_batches, region_of
from robustbench_spur.evaluators.finding import VERDICTS, beyond, in_percent
from robustbench_spur.evaluators.scenes import (
    BATCH,
    means_of,
    rows_of_blocks,
    said_anew,
    said_of,
    tie_of,
    two_by_two,
)
from robustbench_spur.evaluators.worst_group import ADVICE, distinct_patients, everyone
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts
from robustbench_spur.types import Estimate, SpurbenchError, finite

HEADLINE = "without:body"
NOT_LOOKED = -1
"""In place of a predicted class, where an example was not looked at."""
ONE_CLASS = 0.99
"""With this share of predictions alike, a model says nothing of the images."""
NOTABLE = 0.55
"""An agreement with the shortcut that is worth a doubt: 0.5 is none."""


class Regions(Evaluator):
    """Accuracy, and agreement with the shortcut, with a region blanked and with nothing but it."""

    name = "regions"
    version = 2
    summary = "what is left with the body or the lesion blanked, or with nothing but it: the shortcut"
    source = "Maguolo and Nanni, Information Fusion 76, 2021"
    partitions = ("test",)
    collects = ("regions_logits",)
    requires = ("lesion", "body")
    keeps = ("worst_accuracy_with_only:", "worst_accuracy_without:")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "shortcut_agreement_without_body": Metric(
            "Of two classes and two values: mean over the declared groups of the share of examples whose prediction with "
            "the body blanked is the class that training ties to their attribute value (the last value to class 1 where "
            "it ties neither); 0.5 for a constant, a random and a perfect model, 1 for one that reads the attribute "
            "in the background; undefined if a declared group has no examples.",
            better="neither",
        ),
        "shortcut_agreement_without:": Metric(
            "That agreement with the lesion, or the body, blanked.", better="neither"
        ),
        "shortcut_agreement_with_only:": Metric(
            "The same with all but the body, or the lesion, blanked.", better="neither"
        ),
        "accuracy_without:": Metric(
            "Unweighted mean of the declared groups' accuracies with the lesion, or the body, blanked; undefined if a "
            "declared group has no examples.",
            better="neither",
        ),
        "accuracy_with_only:": Metric("The same mean with all but the body, or the lesion, blanked.", better="neither"),
        "worst_accuracy_without:": Metric(
            "Lowest of the declared groups' accuracies with the lesion, or the body, blanked, undefined if a declared "
            "group has no examples; its interval is that of the group so named.",
            better="neither",
        ),
        "worst_accuracy_with_only:": Metric(
            "The same lowest accuracy with all but the body, or the lesion, blanked.", better="neither"
        ),
    }

    class Parameters(EvaluatorParameters):
        """Which slices are looked at, where a region ends, and what fills the lesion."""

        examples: int = parameter(
            2000, "slices that are looked at, as many of each group; all where there are no more", at_least=1
        )
        seed: int = parameter(2025, "of the choice of slices", at_least=0)

        threshold: float = parameter(
            0.01, "a pixel belongs to a region that fills at least this share of it", above=0, at_most=1
        )
        ring: float = parameter(
            0.05, "width of the ring whose mean grey fills the lesion, as a share of the side", above=0, at_most=1
        )

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """What the model says of the four forms of the slices. See :meth:`Evaluator.collect`.

        Returns:
            ``regions_logits``, float32 of shape (n, views, classes), the views in the order of :data:`VIEWS`; NaN of slices
            that are not looked at.

        Raises:
            SpurbenchError: masks that are no shares, or of another shape than the images; logits that are not finite.
        """
        images, classes = subject.images, len(subject.predictions.groups.classes)
        shape = (len(images), 1, *images.shape[2:])
        lesions, bodies = (
            in_batches(rows_of_blocks(subject.scene(name), shape, f"mask {name!r}"), BATCH) for name in self.requires
        )
        reach = max(1, round(self.parameters.ring * images.shape[-1]))
        black = said_of(subject.model, [np.zeros((1, *images.shape[1:]), np.uint8)], classes, subject.device)
        found, done = np.full((len(images), len(VIEWS), classes), np.nan, np.float32), 0
        chosen = some_of_each_group(subject.predictions, self.parameters.examples, self.parameters.seed)
        threshold = self.parameters.threshold
        for lesion, body in zip(lesions, bodies, strict=True):
            own = chosen[(chosen >= done) & (chosen < done + len(lesion))]
            masks = (region_of(mask, threshold, name) for mask, name in ((lesion, "lesion"), (body, "body")))
            inside, within = (mask[own - done] for mask in masks)
            forms = blanked(np.asarray(images[own]), inside, within, reach)
            for column, view in enumerate(VIEWS):
                found[own, column] = _anew(subject, own, forms[view], black)
            done += len(lesion)
            subject.progress(done, len(images))
        return {"regions_logits": found}

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per region.

        Raises:
            SpurbenchError: counts or collected logits that do not fit the predictions.
        """
        counts = check_counts(counts, len(predictions.patients))
        out: dict[str, Floats] = {}
        for view, said in self._said(predictions).items():
            by_group, worst = _accuracy(said, predictions, counts), _worst(said, predictions)
            out[f"shortcut_agreement_{view}"] = _agreement(said, predictions, counts)
            out[f"accuracy_{view}"] = by_group.mean(axis=1)
            out[f"worst_accuracy_{view}"] = np.full(len(counts), np.nan) if worst is None else by_group[:, worst]
        return {"shortcut_agreement_without_body": out[f"shortcut_agreement_{HEADLINE}"], **out}

    def support(self, predictions: Predictions) -> dict[str, int]:
        """See :meth:`Evaluator.support`: patients of the smallest group, or of the one that is named worst."""
        every = self._said(predictions)
        looked = every[HEADLINE] != NOT_LOOKED
        patients = [
            distinct_patients(predictions, looked & (predictions.group == g)) for g in range(len(predictions.groups))
        ]
        out = {"shortcut_agreement_without_body": min(patients)}
        for view, said in every.items():
            out |= dict.fromkeys((f"shortcut_agreement_{view}", f"accuracy_{view}"), min(patients))
            worst = _worst(said, predictions)
            out |= {} if worst is None else {f"worst_accuracy_{view}": patients[worst]}
        return out

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """A row per form of the image, and what chance gives.

        Returns:
            ``examples`` that were looked at, ``fills`` (what replaces each region, in words), ``chance`` (of ``accuracy`` and
            of ``shortcut_agreement``; None where that is undefined), ``tied_value`` (that goes with class 1), ``views`` (for
            the whole image and each form: accuracy, worst_group, worst_accuracy, shortcut_agreement, group_accuracies by name,
            and the share ``predicted`` as each class), ``warning``, and ``undefined`` (why, by metric).
        """
        groups, why = predictions.groups, two_by_two(predictions)
        said = self._said(predictions)
        looked = said[HEADLINE] != NOT_LOOKED
        views = {"whole image": np.where(looked, predictions.predicted, NOT_LOOKED), **said}
        lacking = [name for g, name in enumerate(groups.names) if not (predictions.group == g).any()]
        empty = f"{len(lacking)} of {len(groups)} declared groups have no examples: {', '.join(lacking)}"
        return {
            "examples": int(looked.sum()),
            "fills": {
                "without:lesion": "mean grey of the body in a ring around the lesion",
                "without:body": "0",
                "with_only:body": "0",
                "with_only:lesion": "0; a slice without a lesion is black",
            },
            "chance": {"accuracy": 1 / len(groups.classes), "shortcut_agreement": None if why else 0.5},
            "tied_value": None if why else groups.values[tie_of(predictions).value],
            "views": [_row(view, one, predictions) for view, one in views.items()],
            "warning": "Blanked images are unlike those of training: a low accuracy may come of that.",
            "undefined": {
                name: why if why and name.startswith("shortcut") else empty
                for name, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }

    def findings(self, predictions: Predictions, estimates: Mapping[str, Estimate]) -> list[Finding]:
        """Whether it answers by the attribute where the lesion is gone, or all of the body."""
        groups, names = predictions.groups, ("shortcut_agreement_without:lesion", "shortcut_agreement_without_body")
        question, (lesion, body) = f"Without the lesion, does {groups.attribute} answer?", (estimates[n] for n in names)
        if lesion.value is None or body.value is None:
            return [Finding(question, "unknown", f"Cannot be told: {lesion.reason}.", names, "That it does not.")]
        said = self._said(predictions)[HEADLINE]
        counts = np.bincount(said[said != NOT_LOOKED], minlength=len(groups.classes))
        mute = counts.max() >= ONE_CLASS * counts.sum()
        verdict = min((beyond(one, NOTABLE) for one in ((lesion,) if mute else (lesion, body))), key=VERDICTS.index)
        text = (
            f"With the lesion blanked, {in_percent(lesion)} of its predictions are the class that goes with"
            f" {groups.attribute} in training, with the body blanked {in_percent(body)}; 50 % would be chance."
        )
        if mute:
            text += f" It calls the slices without a body {groups.classes[int(counts.argmax())]}, which tells nothing."
        limits = {
            "problem": "That it does so where nothing is blanked: these images are unlike those of training.",
            "doubt": "That the agreement is more than chance.",
            "no sign": f"That it ignores {groups.attribute} where a lesion is to be seen.",
        }[verdict]
        return [Finding(question, verdict, text, names, limits, "" if verdict == "no sign" else ADVICE)]

    def _said(self, predictions: Predictions) -> dict[str, NDArray[np.int64]]:
        """The predicted class of each example in each form, or :data:`NOT_LOOKED`, shape (n,), by view."""
        if "regions_logits" not in predictions.arrays:
            raise SpurbenchError("Evaluator 'regions' needs the array 'regions_logits', which these predictions lack.")
        logits = np.asarray(predictions.arrays["regions_logits"])
        shape = (len(predictions), len(VIEWS), len(predictions.groups.classes))
        left_out = np.isnan(logits).all(axis=(1, 2)) if logits.shape == shape else None
        if left_out is None or left_out.sum() == len(logits) > 0 or not np.isfinite(logits[~left_out]).all():
            raise SpurbenchError(
                f"Expected finite regions_logits of shape {shape}, found {logits.shape} or not finite."
            )
        said = np.where(left_out[:, None], NOT_LOOKED, np.nan_to_num(logits).argmax(axis=2))
        return {view: np.asarray(said[:, column], np.int64) for column, view in enumerate(VIEWS)}


def _anew(
    subject: Subject, rows: NDArray[np.int64], forms: NDArray[np.uint8], black: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the model says of images in another form; all that are black are one, whose logits are given, shape (1, classes)."""
    left = forms.any(axis=(1, 2, 3))
    out = np.repeat(black, len(forms), axis=0)
    if left.any():
        out[left] = said_anew(subject, rows[left], forms[left])
    return out


def _accuracy(said: NDArray[np.int64], predictions: Predictions, counts: Floats) -> Floats:
    """Accuracy of predicted classes in each declared group, shape (resamples, groups)."""
    return means_of(said == predictions.labels, said != NOT_LOOKED, predictions, counts).group


def _worst(said: NDArray[np.int64], predictions: Predictions) -> int | None:
    """Index of the group with the lowest accuracy on all patients, the first of equals; None if a group is empty."""
    accuracy = _accuracy(said, predictions, everyone(predictions))[0]
    return None if np.isnan(accuracy).any() else int(accuracy.argmin())


def _agreement(said: NDArray[np.int64], predictions: Predictions, counts: Floats) -> Floats:
    """Mean over groups of the share predicted as the class tied to their value, shape (resamples,)."""
    if two_by_two(predictions):
        return np.full(len(counts), np.nan)
    tied = (predictions.attributes == tie_of(predictions).value).astype(np.int64)
    shares = means_of(said == tied, said != NOT_LOOKED, predictions, counts).group
    return np.asarray(shares.mean(axis=1))


def _row(view: str, said: NDArray[np.int64], predictions: Predictions) -> dict[str, Any]:
    """The numbers of one form of the image on all patients."""
    once, names, worst = everyone(predictions), predictions.groups.names, _worst(said, predictions)
    accuracy = _accuracy(said, predictions, once)[0]
    asked = said[said != NOT_LOOKED]
    shares = np.bincount(asked, minlength=len(predictions.groups.classes)) / max(1, len(asked))
    return {
        "view": view,
        "accuracy": finite(accuracy.mean()),
        "worst_group": None if worst is None else names[worst],
        "worst_accuracy": None if worst is None else float(accuracy[worst]),
        "shortcut_agreement": finite(_agreement(said, predictions, once)[0]),
        "group_accuracies": {name: finite(share) for name, share in zip(names, accuracy, strict=True)},
        "predicted": dict(zip(predictions.groups.classes, shares.tolist(), strict=True)),
    }
