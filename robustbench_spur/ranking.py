"""Ranks within a track and differences from the baseline, by resamplings of the same patients."""

from __future__ import annotations

import math

import numpy as np

from robustbench_spur.evaluators.metric import Metric
from robustbench_spur.manifest import Manifest
from robustbench_spur.registry import BUILT_IN
from robustbench_spur.rows import Row
from robustbench_spur.standing import REPRODUCED
from robustbench_spur.statistics import estimate, ranks, replicates_to_rank
from robustbench_spur.types import Estimate


def rank_table(rows: list[Row], manifest: Manifest) -> None:
    """Rank the rows of one split and network within each track, and give all their difference from the baseline."""
    candidates = [row for row in rows if row.status == "ranked" and row.ranking is not None]
    required = _required_seeds(candidates, manifest)
    for row in candidates:
        if not required <= set(row.seeds):
            row.status = "unranked"
            row.reason = f"{len(required & set(row.seeds))} of {len(required)} seeds{_failures(row)}"
        elif required != set(manifest.seeds) and row.standing.entry:
            row.status = "unranked"  # of a published board: whoever gives one seed could have chosen it
            row.reason = f"{len(required)} of {len(manifest.seeds)} seeds{_failures(row)}"
        elif required != set(manifest.seeds):
            row.status = "provisional"
            row.reason = f"{len(required)} of {len(manifest.seeds)} seeds{_failures(row)}"
    candidates = [row for row in candidates if row.status in ("ranked", "provisional")]
    for track in dict.fromkeys(row.first.track for row in candidates):
        _rank([row for row in candidates if row.first.track == track], manifest)
    _differences(rows, candidates, manifest)


def _required_seeds(rows: list[Row], manifest: Manifest) -> set[int]:
    """The board's seeds if any row has them all; else the largest set that a row has."""
    board = set(manifest.seeds)
    own = [set(row.seeds) & board for row in rows]
    return max(own, key=len, default=board) or board


def _failures(row: Row) -> str:
    """Why seeds of a row are missing, where they were tried."""
    tried = [
        f"seed {record.seed} {record.status.replace('_', ' ')}" for record in row.records if record.status != "done"
    ]
    return f" ({', '.join(tried)})" if tried else ""


def _rank(rows: list[Row], manifest: Manifest) -> None:
    """Give the rows of a track their ranks; with many methods their comparison takes more replicates than intervals do."""
    ranked = []
    for row in rows:
        if row.ranking is None or math.isnan(row.ranking[0]):
            row.status, row.reason = "unranked", "a declared group has no test patients"
        else:
            ranked.append((row, *row.ranking))
    needed = replicates_to_rank(len(ranked), manifest.alpha)
    spread = [row.more(needed) if row.more and len(own) < needed else own for row, _, own in ranked]
    # as many for every table of so many ranked rows, whoever else is shown
    spread = [own[: max(needed, manifest.bootstrap.replicates)] for own in spread]
    better = manifest.column(manifest.rank_by).better
    places = ranks([value for _, value, _ in ranked], np.array(spread), better, manifest.alpha) if ranked else []
    for (row, _, _), place in zip(ranked, places, strict=True):
        if place is not None:
            row.rank, row.rank_high = place


def _differences(rows: list[Row], candidates: list[Row], manifest: Manifest) -> None:
    """Give all rows with the baseline's seeds and table their paired difference from it."""
    named = [row for row in candidates if row.first.method.name == manifest.baseline and row.ranking is not None]
    baseline = min(named, key=trust, default=None)
    if baseline is None or baseline.ranking is None:
        return
    change = Metric(f"difference in {manifest.rank_by}", low=-math.inf, high=math.inf)
    for row in rows:
        if row is baseline:
            row.difference = Estimate(None, reason="the baseline itself")
        elif row.ranking is not None and _pairs(row, baseline):
            first = slice(manifest.bootstrap.replicates)  # as many as every other interval rests on
            value, spread = row.ranking[0] - baseline.ranking[0], row.ranking[1][first] - baseline.ranking[1][first]
            behind = [one.support for one in (row, baseline) if one.support is not None]
            fewest = min(behind, default=None)
            row.difference = estimate(change, value, spread, manifest.bootstrap.confidence, patients=fewest)


def trust(row: Row) -> tuple[bool, bool, bool, str]:
    """Which of several rows of the baseline's name all others are held against: nobody takes its place by a name."""
    method = row.first.method
    return row.standing.tier != REPRODUCED, method.origin != BUILT_IN, bool(method.given), row.standing.entry


def _pairs(row: Row, baseline: Row) -> bool:
    """Whether two rows are of the same seeds and patients, so that their difference can be taken replicate by replicate."""
    tables, others = ({record.identity.split["sha256"] for record in one.measured} for one in (row, baseline))
    return tables == others and set(row.seeds) == set(baseline.seeds)
