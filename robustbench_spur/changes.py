"""What moved between two boards, row by row, and why."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from robustbench_spur.board import Board, Row
from robustbench_spur.cellwords import method_text, rank_text
from robustbench_spur.manifest import Manifest
from robustbench_spur.record import Record
from robustbench_spur.types import Estimate

Kind = Literal["rules", "added", "removed", "status", "tier", "rank", "value"]
LEAST = 1e-9
"""A value that differs by no more has not moved."""
TABLE = "table of the split"
SECONDS = len("2026-01-01T00:00:00")
"""As much of a time as people read."""
UNEXPLAINED = "nothing that the boards state explains it; the program that scores them may have changed"
DEEPEST = 2
"""Levels of a manifest whose fields are named one by one."""
MOST = 6
"""Fields of the rules that a reason names; a change of kind ``rules`` names them all."""


class Pair(NamedTuple):
    """A row of the old board and the same of the new one.

    Args:
        row: the new one, or the old one where there is none.
        old: None where the row was added.
        new: None where it was removed.
    """

    row: Row
    old: Row | None
    new: Row | None


@dataclass(frozen=True)
class Change:
    """One thing that moved.

    Args:
        kind: ``"rules"`` (of the board itself), a row that was ``"added"`` or ``"removed"``, or what of a row moved.
        split: in full; empty where the rules moved, as are backbone, method and team.
        backbone: of the row.
        image_size: in pixels; 0 where the rules moved.
        method: with the settings that were given for it.
        team: who submitted the row; empty for a row of a home.
        was: on the old board, as text, or a number for a value; None where there was nothing.
        now: on the new board.
        why: reasons, of which each is enough to move it; never empty.
    """

    kind: Kind
    split: str
    backbone: str
    image_size: int
    method: str
    team: str
    was: str | float | None
    now: str | float | None
    why: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "why": list(self.why)}


def changes(old: Board, new: Board, withdrawn: Mapping[str, str] | None = None) -> list[Change]:
    """What moved from one board to another: the rules first, then split by split in the order of the new board.

    A row is found again by its method with the settings given for it, its split, network, selection and team, also where
    its version, budget or records are others.

    Args:
        old: before.
        new: after.
        withdrawn: why entries no longer count on the new board, by their id.
    """
    rules = differences(old.manifest, new.manifest)
    found = []
    if rules:
        names = [f"{one.manifest.board} ({one.manifest.status})" for one in (old, new)]
        found.append(Change("rules", "", "", 0, "", "", names[0], names[1], tuple(rules)))
    pairs = matched(old.rows, new.rows)
    for table in dict.fromkeys([*new.tables, *old.tables]):
        own = [pair for pair in pairs if pair.row.table == table]
        for pair in own:
            if pair.old is None or pair.new is None:
                found.append(_come_or_gone(pair, withdrawn or {}))
            else:
                sides = pair.old, pair.new
                found += _moved(pair, sides, own, new.manifest, _of_rules(rules))
    return found


# Which row is which


def matched(old: Sequence[Row], new: Sequence[Row]) -> list[Pair]:
    """Rows of two boards side by side, in the order of the new one, then those that only the old one has.

    Equal configurations are paired first, then rows of one method, settings and team; a row without a team (of a home)
    also with one that has a team.
    """
    partner: dict[int, Row] = {}
    rest = list(old)
    for key, strict in ((_configuration, True), (_name, True), (_name, False)):
        waiting: dict[Any, list[Row]] = defaultdict(list)
        for row in rest:
            waiting[key(row)].append(row)
        for row in (row for row in new if id(row) not in partner):
            fitting = [one for one in waiting[key(row)] if _teams_fit(one, row, strict=strict)]
            same_entry = [one for one in fitting if one.standing.entry == row.standing.entry]
            if fitting:
                partner[id(row)] = (same_entry or fitting)[0]
                waiting[key(row)].remove(partner[id(row)])
        taken = {id(one) for one in partner.values()}
        rest = [row for row in rest if id(row) not in taken]
    return [*(Pair(row, partner.get(id(row)), row) for row in new), *(Pair(row, row, None) for row in rest)]


def _configuration(row: Row) -> tuple[Any, ...]:
    return row.table, row.first.identity.configuration


def _name(row: Row) -> tuple[Any, ...]:
    given = json.dumps(row.first.method.given, sort_keys=True, default=str)
    return row.table, row.first.method.name, given, row.first.selection


def _teams_fit(old: Row, new: Row, *, strict: bool) -> bool:
    teams = old.standing.team, new.standing.team
    return teams[0] == teams[1] or (not strict and "" in teams)


# What moved


def _moved(
    pair: Pair, sides: tuple[Row, Row], others: Sequence[Pair], manifest: Manifest, rules: Sequence[str]
) -> list[Change]:
    """What moved of a row that both boards have."""
    old, new = sides
    found = []
    reasons, values = [*between(old, new), *rules], _values(pair, manifest)
    moved = _differ(*values)
    if (old.status, old.reason) != (new.status, new.reason):
        found.append(_change("status", pair, (_status(old), _status(new)), reasons))
    if old.standing.tier != new.standing.tier:
        found.append(_change("tier", pair, (old.standing.tier, new.standing.tier), reasons))
    ranks = rank_text(old), rank_text(new)
    if ranks[0] != ranks[1] and "-" not in ranks:  # else the status says it
        around = _around(pair, others, manifest)
        found.append(_change("rank", pair, ranks, [*(["its value moved"] if moved else []), *reasons, *around]))
    if moved:
        found.append(_change("value", pair, values, reasons))
    return found


def _come_or_gone(pair: Pair, withdrawn: Mapping[str, str]) -> Change:
    """A row that one of the boards has."""
    row, entry = pair.row, pair.row.standing.entry
    text = f"{_status(row)}, rank {rank_text(row)}" if row.rank is not None else _status(row)
    if pair.old is None:
        last = max(record.finished for record in row.records)
        return _change(
            "added", pair, (None, text), [f"new: entry {entry}" if entry else f"records up to {last[:SECONDS]}"]
        )
    gone = "its records are not there, or count no more"
    if entry in withdrawn:
        gone = f"entry {entry} was withdrawn: {withdrawn[entry]}"
    elif entry:
        gone = f"entry {entry} is not on the new board"
    return _change("removed", pair, (text, None), [gone])


def _change(kind: Kind, pair: Pair, sides: tuple[str | float | None, str | float | None], why: Iterable[str]) -> Change:
    row = pair.row
    reasons = tuple(dict.fromkeys(why)) or (UNEXPLAINED,)
    return Change(kind, *row.table, method_text(row), row.standing.team, sides[0], sides[1], reasons)


def _status(row: Row) -> str:
    words = row.status.replace("_", " ")
    return f"{words}: {row.reason}" if row.reason else words


def _values(pair: Pair, manifest: Manifest) -> tuple[float | None, float | None]:
    """What both rows have in the column that ranks on the new board."""
    found = [row.values.get(manifest.rank_by) if row is not None else None for row in pair[1:]]
    old, new = (value.value if isinstance(value, Estimate) else None for value in found)
    return old, new


def _differ(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(old - new) > LEAST


# Why


def between(old: Row, new: Row) -> list[str]:
    """What of two rows differs beside their numbers: entry, versions, settings of the run, records."""
    first, last = old.first, new.first
    reasons = [_arrow("entry", old.standing.entry or "none", new.standing.entry or "none")]
    reasons.append(_arrow("method", f"v{first.method.version}", f"v{last.method.version}"))
    if first.method.version == last.method.version and first.method.sha256 != last.method.sha256:
        reasons.append("the method's file was changed")
    for name in dict.fromkeys([*first.evaluators, *last.evaluators]):
        versions = [
            f"v{one.evaluators[name]['version']}" if name in one.evaluators else "none" for one in (first, last)
        ]
        reasons.append(_arrow(f"evaluator {name}", *versions))
    sides = [_settings(one) for one in (first, last)]
    if first.identity.split["name"] != last.identity.split["name"]:  # two folds, whose tables are different ones
        sides = [{name: value for name, value in one.items() if name != TABLE} for one in sides]
    names = dict.fromkeys([*sides[0], *sides[1]])
    reasons += [_arrow(name, *(str(one.get(name, "none")) for one in sides)) for name in names]
    return [*filter(None, reasons), *_records(old, new)]


def _settings(record: Record) -> dict[str, Any]:
    """What else is part of a configuration, by the name that a reason calls it."""
    own = record.identity
    flat = {"engine": f"v{own.engine}", "selection": own.selection, "split": f"v{own.split.get('version', '?')}"}
    if own.split.get("sha256"):
        flat[TABLE] = str(own.split["sha256"])[:12]
    for part in (own.network, own.training, own.numerics, own.method.get("settings", {})):
        flat |= {str(name): value for name, value in part.items()}
    return flat


def _arrow(what: str, old: str, new: str) -> str:
    return "" if old == new else f"{what}: {old} to {new}"


def _records(old: Row, new: Row) -> list[str]:
    """Which seeds came, went or were run again."""
    sides = [{(one.seed, str(one.identity.split["name"])): one for one in row.records} for row in (old, new)]
    again = [sides[1][cell] for cell in sides[1] if cell in sides[0] and _id(sides[0][cell]) != _id(sides[1][cell])]
    reasons = []
    for words, cells in (("came", sides[1].keys() - sides[0].keys()), ("went", sides[0].keys() - sides[1].keys())):
        if cells:
            reasons.append(f"{_seeds(seed for seed, _ in cells)} {words}")
    if again:
        last = max(record.finished for record in again)
        reasons.append(f"another record of {_seeds(record.seed for record in again)}, finished {last[:SECONDS]}")
    return reasons


def _id(record: Record) -> tuple[str, str, str]:
    return record.cell, record.finished, record.predictions.sha256 if record.predictions else ""


def _seeds(seeds: Iterable[int]) -> str:
    own = sorted(set(seeds))
    return f"seed{'s' if len(own) > 1 else ''} {', '.join(map(str, own))}"


def _around(pair: Pair, others: Sequence[Pair], manifest: Manifest) -> list[str]:
    """What happened to the other rows of the track of a row that did not move itself."""
    track = pair.row.first.track
    own = [other for other in others if other is not pair and other.row.first.track == track]
    ranked = [tuple(row is not None and row.rank is not None for row in other[1:]) for other in own]
    joined = [method_text(o.row) for o, (before, after) in zip(own, ranked, strict=True) if after and not before]
    left = [method_text(o.row) for o, (before, after) in zip(own, ranked, strict=True) if before and not after]
    moved = [
        method_text(o.row) for o in own if o.old is not None and o.new is not None and _differ(*_values(o, manifest))
    ]
    ways = (("joined", joined), ("left", left), ("moved within", moved))
    return [f"{', '.join(names)} {words} the track" for words, names in ways if names]


# The rules


def differences(old: Manifest, new: Manifest) -> list[str]:
    """Which fields of two manifests differ: ``bootstrap.replicates``, ``columns.NAME (title)``, ``splits.NAME came``."""
    return list(_unequal(old.model_dump(mode="json"), new.model_dump(mode="json"), ""))


def _unequal(old: Any, new: Any, where: str, depth: int = 0) -> Iterator[str]:
    """Fields that differ, two levels deep; what differs below stands in brackets."""
    sides = _by_name(old), _by_name(new)
    if old == new:
        return
    if sides[0] is None or sides[1] is None:
        yield where
        return
    names = dict.fromkeys([*sides[0], *sides[1]])
    if depth == DEEPEST:
        unlike = [name for name in names if sides[0].get(name) != sides[1].get(name)]
        yield f"{where} ({', '.join(unlike)})"
        return
    for name in names:
        path = f"{where}.{name}" if where else name
        if name in sides[0] and name in sides[1]:
            yield from _unequal(sides[0][name], sides[1][name], path, depth + 1)
        else:
            yield f"{path} {'came' if name in sides[1] else 'went'}"


def _by_name(value: Any) -> Mapping[str, Any] | None:
    """A part of a manifest that can be compared field by field: a dictionary, or a list of things with a name."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return {str(one["name"]): one for one in value}
    return None


def _of_rules(rules: Sequence[str]) -> list[str]:
    """The reason that other rules are, shortened."""
    more = f" and {len(rules) - MOST} more" if len(rules) > MOST else ""
    return [f"the board's rules: {', '.join(rules[:MOST])}{more}"] if rules else []
