"""What one number means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """What one number means.

    Args:
        definition: in words, one sentence.
        low: least possible value.
        high: greatest possible value; infinity is written ``float("inf")``.
        better: ``"higher"``, ``"lower"``, or ``"neither"``.
        interval: ``"percentile"``, or ``"basic"`` (reflected about the estimate) for a statistic that is biased upward
            by noise, whose percentile interval would miss the truth.
        minimum_of: family whose lowest member it is, such as ``"group_accuracy:"``: its interval is then that of a
            minimum (:func:`~robustbench_spur.intervals.minimum`), made from all members. Empty for all other metrics.
    """

    definition: str
    low: float = 0.0
    high: float = 1.0
    better: Literal["higher", "lower", "neither"] = "higher"
    interval: Literal["percentile", "basic"] = "percentile"
    minimum_of: str = ""
