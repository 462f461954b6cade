"""What a measurement says in words: a question somebody with a model asks, a verdict, and the numbers that it follows from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustbench_spur.types import Estimate

Verdict = Literal["problem", "doubt", "no sign", "unknown"]
VERDICTS: tuple[Verdict, ...] = ("problem", "doubt", "no sign", "unknown")
"""Worst first: seen and beyond chance; seen, but chance could do it; looked for and not seen; not to be told."""


@dataclass(frozen=True)
class Finding:
    """One sentence of an audit.

    Args:
        question: that it answers, such as "Does it fail some patients more than others?".
        verdict: one of :data:`VERDICTS`.
        sentence: the answer, with its numbers.
        metrics: names of the metrics that it follows from; they are shown beside it.
        limits: what it does not establish.
        advice: what to try first; empty where there is nothing to do.
    """

    question: str
    verdict: Verdict
    sentence: str
    metrics: tuple[str, ...]
    limits: str
    advice: str = ""


def in_percent(estimate: Estimate) -> str:
    """A share in per cent with its interval where it has one, else the reason why it has no value.

    >>> in_percent(Estimate(0.155, 0.12, 0.194)), in_percent(Estimate(0.5)), in_percent(Estimate(None, reason="no patient"))
    ('15.5 % (12.0 to 19.4)', '50.0 %', 'undefined: no patient')
    """
    if estimate.value is None:
        return f"undefined: {estimate.reason}"
    value = f"{100 * estimate.value:.1f} %"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def beyond(estimate: Estimate, bound: float, *, above: bool = True) -> Verdict:
    """Whether a number lies beyond a bound: a problem with its whole interval, a doubt with its value alone.

    Args:
        estimate: of the number.
        bound: that it should keep.
        above: whether larger numbers are the bad ones.

    >>> beyond(Estimate(0.3, 0.2, 0.4), 0.1), beyond(Estimate(0.3, 0.05, 0.5), 0.1), beyond(Estimate(0.05, 0.0, 0.2), 0.1)
    ('problem', 'doubt', 'no sign')
    """
    if estimate.value is None:
        return "unknown"
    sign = 1 if above else -1
    if sign * estimate.value <= sign * bound:
        return "no sign"
    end = estimate.low if above else estimate.high
    return "problem" if end is not None and sign * end > sign * bound else "doubt"
