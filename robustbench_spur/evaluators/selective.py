"""How well a score of confidence finds a model's errors, under any resampling of patients; and how members disagree.

Examples are accepted in the order of their confidence. After k of n, the coverage is k / n, and the (selective) risk is
the share of errors among the k. The area under the curve is the mean of the risks:

    AURC = 1/n sum over k of (errors among the first k) / k

Tied examples have no order: what is given is the expected value over a random one, so that the AURC of a constant
confidence is the error rate. Per error that is the mean of H_n - H_(r - 1) over the ranks r of its tied block, with
H_k = 1 + 1/2 + ... + 1/k, which the code sums over the errors alone. An example that a resampling draws twice is a tie.

The generalised risk counts the accepted errors among all n, and its area is a matter of two other numbers, the accuracy
a and the AUROC of failure detection: AUGRC = (1 - AUROC) a (1 - a) + (1 - a)^2 / 2.

Source: Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019, section 3
(AURC and excess AURC); Traub et al., Overcoming Common Flaws in the Evaluation of Selective Classification Systems,
NeurIPS 2024 (AUGRC); Hendrycks and Gimpel, ICLR 2017 (AUROC of failure detection); Liu et al., Energy-based
Out-of-distribution Detection, NeurIPS 2020 (energy); Depeweg et al., ICML 2018 (entropy in two parts).
Deviations: ties in expectation; the excess is over the best order's own sum, not over its integral for large n.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_spur.statistics import SUMS_BYTES, blocks, ratio, running_sums
from robustbench_spur.types import SpurbenchError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NORMALISED = 1e-4
"""Logits whose log-sum-exp is closer to 0 than this, for every example, are log probabilities: they have no energy."""
RESOLVED = 1e-12
"""Mutual information below this, in nats, is the rounding of a difference of entropies, and counts as none."""


def confidences(logits: NDArray[Any]) -> dict[str, Floats | None]:
    """Scores of confidence by name, larger for surer examples.

    The scores of probabilities are given on a scale that does not saturate: the log odds of the largest probability,
    minus the entropy, and minus the log of (1 - margin). Of two classes all three have the order of the difference of
    the logits, and are that difference.

    Args:
        logits: shape (n, classes), finite.

    Returns:
        ``max_probability``, ``entropy``, ``margin`` (of the two largest probabilities) and ``energy`` (log-sum-exp of the
        logits), each of shape (n,); ``energy`` is None where the logits are log probabilities.

    >>> found = confidences(np.array([[2.0, 0.0, 0.0], [5.0, 5.0, 0.0]]))
    >>> {name: bool(score[0] > score[1]) for name, score in found.items()}
    {'max_probability': True, 'entropy': True, 'margin': True, 'energy': False}
    """
    ascending = np.sort(logits.astype(np.float64), axis=1)
    largest, others = ascending[:, -1], ascending[:, :-1] - ascending[:, -1:]
    # log of the sum over the others of exp(z - largest z), of one class minus infinity
    below = np.logaddexp.reduce(others, axis=1) if others.shape[1] else np.full(len(others), -np.inf)
    log_sum = np.logaddexp(0.0, below)
    energy = None if _normalised(largest + log_sum) else largest + log_sum
    if others.shape[1] < 2:
        sure = -others[:, 0] if others.shape[1] else np.zeros(len(others))
        return {"max_probability": sure, "entropy": sure, "margin": sure, "energy": energy}
    share = np.exp(others - log_sum[:, None])
    entropy = (share * (log_sum[:, None] - others)).sum(axis=1) + np.exp(-log_sum) * log_sum
    beside = np.logaddexp.reduce(np.column_stack([others, others[:, -1]]), axis=1)
    return {"max_probability": -below, "entropy": -entropy, "margin": log_sum - beside, "energy": energy}


def _normalised(log_sums: Floats) -> bool:
    return bool(len(log_sums) and (np.abs(log_sums) < NORMALISED).all())


CACHE_BYTES = 1_000_000
"""Size of the arrays of some errors and all resamplings of a block, in bytes."""
NARROW = 2**31
"""Sums below this fit into 32 bits."""


def selective_risk(
    confidence: Floats, wrong: NDArray[np.bool_], patient: Ints, counts: Floats, *, detection: bool = True
) -> dict[str, Floats]:
    """Areas under the risk-coverage curves, and the AUROC of failure detection, under each resampling.

    Args:
        confidence: shape (n,), no NaN.
        wrong: whether the model errs, shape (n,).
        patient: patient of each example, shape (n,).
        counts: draws of each patient, whole numbers, shape (resamples, patients).
        detection: whether the last two are wanted; without them it is faster.

    Returns:
        Each of shape (resamples,): ``aurc`` in [0, 1]; ``e_aurc``, by how much it exceeds that of the best order, in
        [0, 1]; ``augrc`` in [0, 0.5]; ``failure_auroc``, the probability that a right example has a larger confidence than
        a wrong one, ties counted half, NaN where a resampling lacks one of them. All are NaN where it has no examples.

    Raises:
        SpurbenchError: counts that are not whole.

    >>> wrong = np.array([False, True, False, True])
    >>> found = selective_risk(np.array([4.0, 3.0, 2.0, 1.0]), wrong, np.arange(4), np.ones((1, 4)))
    >>> round(found["aurc"].item(), 4), found["failure_auroc"].item()  # (0 + 1/2 + 1/3 + 2/4) / 4
    (0.3333, 0.75)
    >>> selective_risk(np.zeros(4), wrong, np.arange(4), np.ones((1, 4)))["aurc"].item()
    0.5
    """
    order, start, end = _tied(confidence)
    errors = np.flatnonzero(wrong[order])
    owner, drawn = patient[order], _whole(counts)
    examples, mistaken = (np.bincount(whose, minlength=counts.shape[1]) for whose in (patient, patient[wrong]))
    totals, wrongs = drawn @ examples, drawn @ mistaken
    if totals.max(initial=0) < NARROW:
        drawn = drawn.astype(np.int32)  # half of the memory to go through, and sums fit
    harmonic, summed = _harmonic(int(totals.max(initial=0)))
    stretches = _stretches(start[errors], end[errors])
    risks, places = np.zeros((2, len(counts)))  # sums over errors: expected mean of risks, expected place in the order
    for part in blocks(len(counts), 4 * (len(owner) + len(errors) + 2), SUMS_BYTES):
        rows = np.ascontiguousarray(drawn[part].T)
        reached, mistakes = running_sums(rows, owner), running_sums(rows, owner[errors])
        for some in blocks(len(stretches), 32 * rows.shape[1], CACHE_BYTES):
            first, last, before_first, upto_last = stretches[some].T
            before, upto = reached[first], reached[last]
            weight, among = mistakes[upto_last] - mistakes[before_first], upto - before
            gain = np.take(summed, upto, mode="clip")  # indices are in range: this mode is the faster one
            gain -= np.take(summed, before, mode="clip")
            if mixed := np.flatnonzero(upto_last - before_first < last - first).tolist():
                gain[mixed] *= weight[mixed] / np.maximum(among[mixed], 1)
            risks[part] += gain.sum(axis=0)
            if detection:
                places[part] += np.einsum("er,er->r", weight, (before + upto) / 2)
    right, whole = totals - wrongs, totals.astype(np.float64)
    aurc = ratio(np.maximum(wrongs * harmonic[totals] - risks, 0), whole)
    best = ratio(wrongs - right * (harmonic[totals] - harmonic[right]), whole)
    found = {"aurc": aurc, "e_aurc": np.maximum(aurc - best, 0)}
    if detection:
        failure = ratio(places - wrongs**2 / 2, (wrongs * right).astype(np.float64))
        error = ratio(wrongs.astype(np.float64), whole)
        misplaced = np.where(wrongs * right > 0, (1 - failure) * error * (1 - error), 0.0)
        found |= {"augrc": misplaced + error**2 / 2, "failure_auroc": failure}
    return found


def coverage_at_risk(
    confidence: Floats, wrong: NDArray[np.bool_], patient: Ints, counts: Floats, risk: float
) -> Floats:
    """Largest share of the examples that a threshold accepts with at most a share ``risk`` of errors among them.

    A threshold never parts tied examples; one that accepts nothing has coverage 0.

    Args:
        confidence: shape (n,), no NaN.
        wrong: shape (n,).
        patient: patient of each example, shape (n,).
        counts: draws of each patient, whole numbers, shape (resamples, patients).
        risk: in [0, 1].

    Returns:
        Shape (resamples,), in [0, 1]; NaN where a resampling has no examples.

    >>> wrong = np.array([False, True, False, False])
    >>> coverage_at_risk(np.array([4.0, 3.0, 2.0, 1.0]), wrong, np.arange(4), np.ones((1, 4)), 0.3).item()
    1.0
    >>> coverage_at_risk(np.array([4.0, 3.0, 2.0, 1.0]), wrong, np.arange(4), np.ones((1, 4)), 0.2).item()
    0.25
    """
    order, start, _ = _tied(confidence)
    errors = np.flatnonzero(wrong[order])
    owner, start = patient[order], start[errors]
    # between two errors the risk falls: only thresholds just above a block with errors, and none at all, can be the best
    stops = np.append(np.unique(start), len(order))
    passed = np.searchsorted(start, stops, "left")
    drawn, out = _whole(counts), np.empty(len(counts))
    for part in blocks(len(counts), 8 * (len(owner) + len(errors) + 2) + 32 * len(stops), SUMS_BYTES):
        rows = np.ascontiguousarray(drawn[part].T)
        reached = running_sums(rows, owner)
        accepted, mistaken = reached[stops], running_sums(rows, owner[errors])[passed]
        fine = mistaken <= risk * accepted + 1e-9  # 0.29 * 100 is less than 29
        out[part] = ratio((accepted * fine).max(axis=0).astype(np.float64), reached[-1].astype(np.float64))
    return out


def risk_coverage(confidence: Floats, wrong: NDArray[np.bool_], points: int) -> list[tuple[float, float, float]]:
    """The risk-coverage curve of all examples, thinned.

    Args:
        confidence: shape (n,), no NaN.
        wrong: shape (n,).
        points: greatest number of points, at least 2.

    Returns:
        Rows of (coverage, risk, least accepted confidence), ascending in coverage, the last at coverage 1; a point lies
        where a block of tied examples ends.

    >>> risk_coverage(np.array([2.0, 1.0, 1.0]), np.array([False, True, False]), 50)[1]
    (1.0, 0.3333333333333333, 1.0)
    """
    order, _, end = _tied(confidence)
    stops = np.unique(end)
    if len(stops) > points:
        wanted = np.linspace(stops[0], stops[-1], points)
        stops = np.unique(stops[np.searchsorted(stops, wanted.round())])
    errors = np.cumsum(wrong[order])
    sure = confidence[order]
    return [(int(k) / len(order), float(errors[k - 1] / k), float(sure[k - 1])) for k in stops]


def _stretches(start: Ints, end: Ints) -> Ints:
    """Stretches of the order that hold the errors: blocks of ties, those that follow each other and hold errors alone in one.

    Over examples that are all errors the sums of risks and of places do not depend on how they are cut.

    Args:
        start: of the tied block of each error, in order, shape (errors,).
        end: of it.

    Returns:
        Rows of start and end among the examples, and start and end among the errors.

    >>> _stretches(np.array([0, 1, 2, 2, 6]), np.array([1, 2, 5, 5, 7])).tolist()
    [[0, 2, 0, 2], [2, 5, 2, 4], [6, 7, 4, 5]]
    """
    first, begun, number = np.unique(start, return_index=True, return_counts=True)
    last = end[begun]
    pure = number == last - first
    new = np.ones(len(first) + 1, bool)
    new[1:-1] = ~(pure[1:] & pure[:-1] & (last[:-1] == first[1:]))
    return np.stack([first[new[:-1]], last[new[1:]], begun[new[:-1]], (begun + number)[new[1:]]], axis=1)


def _tied(confidence: Floats) -> tuple[Ints, Ints, Ints]:
    """The order from sure to unsure, and where the tied block of each ordered example starts and ends, each (n,)."""
    order = np.argsort(-confidence, kind="stable")
    ordered = -confidence[order]
    return order, np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right")


def _whole(counts: Floats) -> Ints:
    drawn = counts.astype(np.int64)
    if (drawn != counts).any():
        raise SpurbenchError(
            "Expected whole counts, found fractions. A rank under a fraction of a draw is not defined."
        )
    return drawn


def _harmonic(largest: int) -> tuple[Floats, Floats]:
    """H_k = 1 + 1/2 + ... + 1/k, and the sum of H_0 to H_(k - 1), which is k H_k - k, for k from 0 to ``largest``."""
    k = np.arange(largest + 1, dtype=np.float64)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / k[1:])])
    return harmonic, k * harmonic - k


def entropy(probabilities: Floats) -> Floats:
    """Entropy in nats over the last axis, 0 log 0 being 0.

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.asarray(np.maximum(-(probabilities * logs).sum(axis=-1), 0))


def disagreement(members: Floats, shares: Floats | None = None) -> tuple[Floats, Floats]:
    """The uncertainty of a mean of several distributions, in two parts whose sum is the entropy of the mean.

    Args:
        members: probabilities, shape (members, n, classes).
        shares: of each member in the mean, shape (members, n), summing to 1 over members; None for equal ones.

    Returns:
        Mutual information between the class and the member (how far members disagree), and the members' mean entropy (how
        far each is unsure), each of shape (n,), in nats, 0 or more.

    >>> sure, split = disagreement(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    >>> sure.round(4).tolist(), split.tolist()
    ([0.6931], [0.0])
    """
    weights = np.full(members.shape[:2], 1 / len(members)) if shares is None else shares
    expected = np.einsum("mn,mn->n", weights, entropy(members))
    mutual = entropy(np.einsum("mn,mnk->nk", weights, members)) - expected
    return np.where(mutual < RESOLVED, 0, mutual), expected
