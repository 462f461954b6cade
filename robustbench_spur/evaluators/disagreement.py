"""How far the members of a model disagree, and whether they disagree where the model errs.

The entropy of a mean of several predictions has two parts: the members' mean entropy, which is how unsure each of them
is, and the mutual information between class and member, which is how far they differ. What counts as members:

- an ensemble of models: each of them;
- a last layer that is a mean of several (masks of MC dropout, experts, sets of prototypes): each of these, weighted by
  the gate where there is one;
- one last layer, trained behind dropout: random passes, with a new mask of the features for every example and pass.

Any other model has no members, and all numbers are undefined. Errors are those of the predictions as they stand, which
for the first two kinds are the mean's, for the third those without dropout.

Source: Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016 (random passes); Lakshminarayanan et al., NeurIPS
2017 (ensembles); Houlsby et al., arXiv 1112.5745, 2011, and Depeweg et al., ICML 2018 (the two parts).
Deviations: features are dropped before the last layer alone, the one place where the networks here have dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.evaluators.base import Evaluator, EvaluatorParameters, Floats, Metric, Predictions, Subject
from robustbench_spur.evaluators.selective import disagreement, risk_coverage, selective_risk
from robustbench_spur.parameters import parameter
from robustbench_spur.statistics import check_counts, group_means
from robustbench_spur.types import SpurbenchError, finite

KINDS = ("none", "random passes with dropout", "last layers of one network", "models of an ensemble")
"""What the members are; the collected code is a position here."""
NONE, PASSES, LAYERS, MODELS = range(len(KINDS))
BATCH = 256
"""Images in one pass; the masks of random passes depend on it."""
POINTS = 50
"""Greatest number of points of the kept curve."""


class Disagreement(Evaluator):
    """Mutual information between class and member, and the errors it finds.

    >>> from robustbench_spur.types import Groups
    >>> groups = Groups(("clear", "tumour"), "field strength", ("3T",))
    >>> arrays = {
    ...     "disagreement_source": np.array([MODELS, 3]),
    ...     "disagreement_mutual_information": np.array([0.0, 0.5], np.float32),
    ...     "disagreement_expected_entropy": np.array([0.25, 0.25], np.float32),
    ... }
    >>> said, zero = np.array([[1, 0], [1, 0]], np.float32), np.array([0, 0])
    >>> who = np.array(["a", "b"])
    >>> numbers = Disagreement().measure(Predictions(who, np.array([0, 1]), zero, who, said, groups, arrays), np.ones((1, 2)))
    >>> numbers["member_mutual_information"].item(), numbers["member_failure_auroc"].item()
    (0.25, 1.0)
    """

    name = "disagreement"
    version = 1
    summary = "how far ensemble members or dropout passes disagree, and whether they do so where the model errs"
    source = "Gal and Ghahramani, ICML 2016; Depeweg et al., ICML 2018"
    collects = ("disagreement_source", "disagreement_mutual_information", "disagreement_expected_entropy")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "member_mutual_information": Metric(
            "Mean over examples of the mutual information between the class and the member, in nats; 0 where all members "
            "agree.",
            high=float("inf"),
            better="neither",
        ),
        "member_mutual_information_at:": Metric(
            "The same mean over the examples of one declared group.", high=float("inf"), better="neither"
        ),
        "member_entropy": Metric(
            "Mean over examples of the members' mean entropy, in nats.", high=float("inf"), better="neither"
        ),
        "member_aurc": Metric(
            "Area under the risk-coverage curve of the model's predictions, accepted in ascending order of the mutual "
            "information, tied ones in random order.",
            better="lower",
        ),
        "member_failure_auroc": Metric(
            "Probability that a wrongly classified example has a larger mutual information than a rightly classified one, "
            "ties counted half."
        ),
    }

    class Parameters(EvaluatorParameters):
        """The random passes."""

        passes: int = parameter(20, "random passes of a network with dropout", at_least=2, at_most=1000)
        seed: int = parameter(2025, "of the dropout masks", at_least=0)

    def collect(self, subject: Subject) -> dict[str, NDArray[Any]]:
        """One pass over the images, none where the model has no members. See :meth:`Evaluator.collect`.

        Returns:
            ``disagreement_source``: what the members are (a position in :data:`KINDS`) and how many, int64 of shape (2,);
            ``disagreement_mutual_information`` and ``disagreement_expected_entropy``, in nats, float32 of shape (n,), NaN
            where there are no members.

        Raises:
            SpurbenchError: a number of images other than that of the predictions, or probabilities that are NaN.
        """
        model, size = subject.model, len(subject.predictions)
        kind = kind_of(model)
        parts = np.full((2, size), np.nan)
        count = 0
        if kind != NONE:
            count = self.parameters.passes if kind == PASSES else members_in(model)
            self._fill(parts, model, kind, subject)
        return {
            "disagreement_source": np.array([kind, count], np.int64),
            "disagreement_mutual_information": parts[0].astype(np.float32),
            "disagreement_expected_entropy": parts[1].astype(np.float32),
        }

    def _fill(self, parts: Floats, model: Any, kind: int, subject: Subject) -> None:
        """Write mutual information and mean entropy of all examples, shape (2, n)."""
        import torch

        from robustbench_spur.feeding import Feed

        if len(subject.images) != parts.shape[1]:
            raise SpurbenchError(
                f"Expected {parts.shape[1]} images, as many as predictions, found {len(subject.images)}."
            )
        device = torch.device(subject.device)
        masks = torch.Generator(device).manual_seed(self.parameters.seed)
        with torch.no_grad():
            for number, images in enumerate(Feed(subject.images, device).batches(BATCH)):
                features = model.features(images)
                if kind == PASSES:
                    members, shares = random_passes(model, features, self.parameters.passes, masks), None
                else:
                    members, shares = members_of(model, features)
                start = number * BATCH
                parts[:, start : start + BATCH] = disagreement(members, shares)
                subject.progress(min(start + BATCH, parts.shape[1]), parts.shape[1])
        if np.isnan(parts).any():
            raise SpurbenchError("Expected probabilities of every member, found NaN. Check the network.")

    def measure(self, predictions: Predictions, counts: Floats) -> dict[str, Floats]:
        """See :meth:`Evaluator.measure`. Metrics are listed in :attr:`metrics`, with a member per declared group.

        Raises:
            SpurbenchError: counts or collected arrays that do not fit the predictions.
        """
        counts = check_counts(counts, len(predictions.patients))
        kind, _, mutual, expected = collected(predictions)
        names = predictions.groups.names
        if kind == NONE:
            fixed = [name for name in self.metrics if not name.endswith(":")]
            every = [*fixed, *(f"member_mutual_information_at:{name}" for name in names)]
            return {name: np.full(len(counts), np.nan) for name in every}
        patient, alike = predictions.patient, np.zeros_like(predictions.group)
        by_group = group_means(mutual, patient, predictions.group, len(names), counts)
        found = selective_risk(-mutual, ~predictions.correct, patient, counts)
        return {
            "member_mutual_information": group_means(mutual, patient, alike, 1, counts)[:, 0],
            **{f"member_mutual_information_at:{name}": by_group[:, g] for g, name in enumerate(names)},
            "member_entropy": group_means(expected, patient, alike, 1, counts)[:, 0],
            "member_aurc": found["aurc"],
            "member_failure_auroc": found["failure_auroc"],
        }

    def details(self, predictions: Predictions) -> dict[str, Any]:
        """What the members are, the curve, the two parts by group, and what is undefined and why.

        Returns:
            ``kind`` and ``members`` (their number), ``groups`` (group, examples, mutual_information and entropy, None where
            undefined), ``curve`` (rows of coverage, risk and the largest accepted mutual information), ``undefined``.
        """
        kind, count, mutual, expected = collected(predictions)
        curve = [] if kind == NONE else risk_coverage(-mutual, ~predictions.correct, POINTS)
        rows = [(name, predictions.group == g) for g, name in enumerate(predictions.groups.names)]
        return {
            "kind": KINDS[kind],
            "members": count,
            "groups": [
                {
                    "group": name,
                    "examples": int(own.sum()),
                    "mutual_information": finite(mutual[own].mean()) if own.any() else None,
                    "entropy": finite(expected[own].mean()) if own.any() else None,
                }
                for name, own in rows
            ],
            "curve": [{"coverage": one, "risk": risk, "mutual_information": 0.0 - least} for one, risk, least in curve],
            "undefined": {
                metric: _why_undefined(metric, kind, predictions)
                for metric, value in self.points(predictions).items()
                if np.isnan(value)
            },
        }


def kind_of(model: Any) -> int:
    """What the members of a model are, as a position in :data:`KINDS`.

    An ensemble is one whatever its members are, and a mean of last layers one whether or not dropout trained it.
    """
    from robustbench_spur.heads import Ensemble, MixtureHead, PrototypeHead

    if isinstance(model, Ensemble):
        return MODELS if len(model.members) > 1 else NONE
    if isinstance(getattr(model, "head", None), MixtureHead | PrototypeHead):
        return LAYERS if members_in(model) > 1 else NONE
    return PASSES if getattr(model, "dropout", 0.0) > 0 else NONE


def members_in(model: Any) -> int:
    """Number of models of an ensemble, or of last layers of a network whose last layer is a mean."""
    from robustbench_spur.heads import Ensemble, MixtureHead

    if isinstance(model, Ensemble):
        return len(model.members)
    return len(model.head.weight if isinstance(model.head, MixtureHead) else model.head.prototypes)


def members_of(model: Any, features: Any) -> tuple[Floats, Floats | None]:
    """What each member of an ensemble, or each of several last layers, says.

    Args:
        model: one of these.
        features: tensor of shape (b, width), as ``model.features`` gives them.

    Returns:
        Probabilities of shape (members, b, classes), and the shares of members in the mean, shape (members, b), or None
        where they are equal.
    """
    import torch

    from robustbench_spur.heads import Ensemble, MixtureHead, sphere_distance

    if isinstance(model, Ensemble):
        networks: list[Any] = list(model.members)
        parts = torch.split(features, [network.width for network in networks], dim=1)
        return _softmax([network.head(part) for network, part in zip(networks, parts, strict=True)]), None
    head: Any = model.head
    if not isinstance(head, MixtureHead):
        unit = torch.nn.functional.normalize(features, dim=1)
        logits = -head.temperature[:, None] * sphere_distance(unit, head.prototypes)
        return _softmax(logits.unbind(1)), None
    logits = torch.einsum("bf,kcf->bkc", features, head.weight) + head.bias
    if head.gate_weight is None:
        return _softmax(logits.unbind(1)), None
    shares = torch.nn.functional.linear(features, head.gate_weight, head.gate_bias)
    return _softmax(logits.unbind(1)), _softmax([shares])[0].T


def random_passes(model: Any, features: Any, passes: int, masks: Any) -> Floats:
    """Probabilities of the last layer behind random masks of the features, shape (passes, b, classes).

    Args:
        model: with ``head`` and ``dropout``, the share that is dropped.
        features: tensor of shape (b, width), without dropout.
        passes: number of masks of each example.
        masks: ``torch.Generator`` on the features' device.
    """
    import torch

    said = []
    for _ in range(passes):
        kept = torch.rand(features.shape, generator=masks, device=features.device) >= model.dropout
        said.append(model.head(features * kept / (1 - model.dropout)))
    return _softmax(said)


def _softmax(logits: Any) -> Floats:
    """Softmax in float64 of a sequence of tensors of shape (b, classes), as one array of shape (members, b, classes)."""
    import torch

    stacked = torch.stack(list(logits)).cpu().numpy().astype(np.float64)
    exponent = np.exp(stacked - stacked.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def collected(predictions: Predictions) -> tuple[int, int, Floats, Floats]:
    """Kind and number of the members, mutual information and mean entropy, after checking that they fit.

    Raises:
        SpurbenchError: an array is missing, or has another shape or range.
    """
    missing = [name for name in Disagreement.collects if name not in predictions.arrays]
    if missing:
        raise SpurbenchError(
            f"Evaluator 'disagreement' needs the arrays {missing}, which these predictions do not have."
        )
    source, mutual, expected = (np.asarray(predictions.arrays[name]) for name in Disagreement.collects)
    if source.shape != (2,) or not 0 <= source[0] < len(KINDS):
        raise SpurbenchError(f"Expected disagreement_source as kind and number of members, found {source.tolist()}.")
    if not mutual.shape == expected.shape == (len(predictions),):
        raise SpurbenchError(
            f"Expected a number for each of {len(predictions)} examples, found shapes {mutual.shape} and {expected.shape}."
        )
    both = np.stack([mutual, expected]).astype(np.float64)
    if source[0] != NONE and not (both >= 0).all():
        raise SpurbenchError("Expected numbers of 0 or more of every example, found others. Collect again.")
    return int(source[0]), int(source[1]), both[0], both[1]


def _why_undefined(metric: str, kind: int, predictions: Predictions) -> str:
    """The reason why a metric is NaN on all patients."""
    if kind == NONE:
        return "one network with one last layer, trained without dropout: it has no members"
    if metric != "member_failure_auroc" or not len(predictions):
        return "no examples"
    return "no example is wrong" if predictions.correct.all() else "no example is right"
