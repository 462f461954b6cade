"""Whose a row is and how far its numbers were checked, as a reader sees it."""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_spur.board import Row
from robustbench_spur.page.addresses import web_address
from robustbench_spur.standing import TIERS, Standing


@dataclass(frozen=True)
class Credit:
    """Whose a row is.

    Args:
        tier: how far its numbers were checked; empty where nothing is said.
        meaning: of the tier.
        team: who submitted it.
        entry: its id on the published board.
        source: address of the method's source, safe to lead to; empty where there is none.
        unchecked: the source as it was given, where it is no address to lead to.
        note: what was not checked though the rest was.
    """

    tier: str
    meaning: str
    team: str
    entry: str
    source: str = ""
    unchecked: str = ""
    note: str = ""


def credit_of(row: Row) -> Credit | None:
    """Whose a row is; None for a row of one's own home, of which there is nothing to say."""
    known = row.standing
    if known in (Standing(), Standing(tier="")):
        return None
    source = web_address(known.source)
    note = (
        ""
        if known.collected
        else "What evaluators take from the model itself is left out until it has been computed again."
    )
    return Credit(
        tier=known.tier,
        meaning=TIERS.get(known.tier, ""),
        team=known.team,
        entry=known.entry,
        source=source,
        unchecked="" if source else known.source,
        note=note,
    )
