"""How far the numbers of a row can be trusted, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

CLAIMED, REPRODUCED = "claimed", "reproduced"
TIERS = {
    CLAIMED: "Numbers alone: nothing was recomputed. Never ranked.",
    "rescored": "Every number was recomputed from the submitted predictions.",
    REPRODUCED: "Rescored, and a run was repeated by the maintainers within the board's tolerance.",
}
"""What each tier means."""


@dataclass(frozen=True)
class Standing:
    """What is known of a row beside its numbers.

    Args:
        entry: id of the entry of a published board; empty for rows of a home.
        team: who submitted it; empty for rows of a home.
        source: address of the method's source, as the team gave it; hostile until it is escaped and checked.
        tier: one of :data:`TIERS`.
        collected: whether what evaluators took from the model (attacks, slices rendered otherwise) is the model's own: it
            cannot be recomputed from predictions, so it takes a home's own run, the weights, or a repeated run.
    """

    entry: str = ""
    team: str = ""
    source: str = ""
    tier: str = "rescored"
    collected: bool = True
